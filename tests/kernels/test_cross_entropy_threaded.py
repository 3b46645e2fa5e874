"""The threaded cross-entropy equals the textbook, with and without the largest logit taken out first."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm.kernels.cross_entropy import threaded
from tests.kernels.against_textbook import assert_equals_textbook, cut, layouts, normal

textbook = F.cross_entropy.body
IGNORED = -100
EPS = {"float64": 2e-13, "float32": 1e-5}


def problem(N, V, seed, scale=3.0, dtype="float64", ignored=0.3):
    rng = np.random.default_rng(seed)
    target = np.where(rng.random(N) < ignored, IGNORED, rng.integers(0, V, N))
    target[-1] = V - 1  # one at least counts
    return (scale * rng.normal(size=(N, V))).astype(dtype), target, rng.normal(size=N).astype(dtype)


@given(
    N=st.integers(1, 9),
    V=st.integers(1, 20),
    block=st.sampled_from([1, 25, 1 << 18]),
    threads=st.integers(1, 3),
    scale=st.sampled_from([0.0, 1.0, 10.0, 1000.0]),
    label_smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    layout=st.tuples(layouts, layouts),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 999),
)
def test_it_is_the_textbooks(N, V, block, threads, scale, label_smoothing, reduction, layout, dtype, seed):
    rng = np.random.default_rng(seed)
    _, target, _ = problem(N, V, seed)
    x = scale * normal(rng, (N, V), dtype, layout[0])
    g = normal(rng, (N,) if reduction == "none" else (), dtype, layout[1])
    with cut(threads), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", block)
        assert_equals_textbook(
            "cross_entropy",
            threaded.cross_entropy,
            (x,),
            g,
            EPS[dtype],
            lambda function, x: function(x, target, IGNORED, label_smoothing, reduction),
        )


def test_places_may_have_many_axes_or_none():
    x, target, _ = problem(12, 5, 0)
    expected = textbook(x, target, reduction="none")[0]
    loss, dx = threaded.cross_entropy(x.reshape(3, 4, 5), target.reshape(3, 4), reduction="none")
    np.testing.assert_allclose(loss, expected.reshape(3, 4), rtol=1e-14)
    assert dx(np.ones((3, 4))).shape == (3, 4, 5)
    loss, dx = threaded.cross_entropy(x[-1], np.array(4))
    assert loss.shape == () and loss == pytest.approx(expected[-1]) and dx(np.ones(())).shape == (5,)
    loss, dx = threaded.cross_entropy(x[:0], target[:0], reduction="sum")
    assert loss == 0 and dx(np.ones(())).shape == (0, 5)


@pytest.mark.parametrize("shift", [0, 26, -26, 30, -30, 80, -80, 200, -200, 1e4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_wherever_the_logits_lie_the_loss_is_as_exact(shift, smoothing):
    """Shifts on both sides of what is summed without taking the largest logit out."""
    x, target, g = problem(6, 50, 1, dtype="float32", ignored=0)
    x = np.round(x * 64) / 64 + np.float32(shift)  # adding the shift is exact
    expected, expected_dx = textbook(x.astype("float64"), target, IGNORED, smoothing, "none")
    loss, dx = threaded.cross_entropy(x, target, IGNORED, smoothing, "none")
    np.testing.assert_allclose(loss, expected, rtol=5e-7)
    np.testing.assert_allclose(dx(g), expected_dx(g.astype("float64")), rtol=0, atol=1e-6)


def test_rows_near_and_far_from_zero_stand_side_by_side(monkeypatch):
    monkeypatch.setattr(threaded, "BLOCK", 2 * 50)
    x, target, g = problem(7, 50, 3, ignored=0)
    x[[1, 4]] += 1000
    expected, expected_dx = textbook(x, target, reduction="none")
    loss, dx = threaded.cross_entropy(x, target, reduction="none")
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    np.testing.assert_allclose(dx(g), expected_dx(g), atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_that_are_ruled_out_do_as_in_the_textbook(smoothing):
    row = [-np.inf, 0.0, 1.0]
    x = np.array([row, row, [-np.inf] * 3, [-np.inf] * 3, [0.0] * 3])
    target = np.array([0, 1, 2, IGNORED, 1])
    results = []
    for body in (threaded.cross_entropy, textbook):
        loss, dx = body(x, target, label_smoothing=smoothing, reduction="none")
        results.append((loss, dx(np.ones(5))))
    for ours, expected in zip(*results, strict=True):
        assert not np.isnan(ours).any()
        np.testing.assert_allclose(ours, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e4])
def test_an_ignored_row_costs_nothing_whatever_it_holds(bad):
    x = np.array([[bad, 0.0, 1.0], [0.0, 0.0, 0.0]])
    loss, dx = threaded.cross_entropy(x, np.array([IGNORED, 1]))
    assert loss == pytest.approx(np.log(3))
    np.testing.assert_array_equal(dx(np.ones(()))[0], 0)


def test_a_logit_that_is_no_number_shows():
    x = np.array([[np.nan, 0.0, 1.0], [0.0, 0.0, 0.0]])
    loss, _ = threaded.cross_entropy(x, np.array([1, 1]), reduction="none")
    assert np.isnan(loss[0]) and loss[1] == pytest.approx(np.log(3))


def test_forward_allocates_a_block_and_not_an_array_as_large_as_the_logits():
    x, target, g = problem(512, 5000, 2, dtype="float32", ignored=0)
    peaks = []
    for body in (threaded.cross_entropy, textbook):
        body(x, target)
        tracemalloc.start()
        _, dx = body(x, target)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()
        d = dx(g[0])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        del d, dx
    assert peaks[0] < x.nbytes / 2 < x.nbytes <= peaks[2]
    assert peaks[1] < 1.1 * x.nbytes  # the gradient, and nothing kept beside it


MISTAKES = [
    ((2, 3), np.array([0, 3]), {}),
    ((2, 3), np.array([-1, 0]), {}),
    ((2, 3), np.array([0.0, 1.0]), {}),
    ((2, 3), np.array([[0, 1]]), {}),
    ((2, 3), np.array([-100, -100]), {}),
    ((2, 3), np.array([0, 1]), {"reduction": "avg"}),
    ((2, 3), np.array([0, 1]), {"label_smoothing": 2}),
    ((), np.array(0), {}),
]


@pytest.mark.parametrize("shape, target, options", MISTAKES)
def test_mistakes_are_refused_in_the_words_of_the_textbook(shape, target, options):
    x = np.zeros(shape, dtype="float32")
    with pytest.raises((ValueError, TypeError, IndexError)) as expected:
        textbook(x, target, **options)
    with pytest.raises(expected.type) as ours:
        threaded.cross_entropy(x, target, **options)
    assert str(ours.value) == str(expected.value)

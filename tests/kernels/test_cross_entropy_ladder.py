"""The blocked rung of cross-entropy equals the textbook formula, and never holds the probabilities."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm.kernels.cross_entropy import blocked

textbook = F.cross_entropy.body
IGNORED = -100


def problem(N, V, seed, scale=3.0, dtype="float64", ignored=0.3):
    rng = np.random.default_rng(seed)
    target = np.where(rng.random(N) < ignored, IGNORED, rng.integers(0, V, N))
    target[-1] = V - 1  # one at least counts
    return (scale * rng.normal(size=(N, V))).astype(dtype), target, rng.normal(size=N).astype(dtype)


@given(
    N=st.integers(1, 9),
    V=st.integers(1, 20),
    blocks=st.tuples(st.integers(1, 5), st.integers(1, 8)),
    scale=st.sampled_from([0.0, 1.0, 1000.0]),
    label_smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    seed=st.integers(0, 999),
)
def test_the_blocks_do_not_show(N, V, blocks, scale, label_smoothing, reduction, seed):
    x, target, g = problem(N, V, seed, scale)
    g = g if reduction == "none" else g[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocked, "BLOCK_N", blocks[0])
        patch.setattr(blocked, "BLOCK_V", blocks[1])
        loss, dx = blocked.cross_entropy(x, target, IGNORED, label_smoothing, reduction)
        d = dx(g)
    expected, expected_dx = textbook(x, target, IGNORED, label_smoothing, reduction)
    np.testing.assert_allclose(loss, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(d, expected_dx(g), rtol=1e-12, atol=1e-13)


def test_the_running_sum_is_corrected_when_the_maximum_grows(monkeypatch):
    """By hand: logits log 1, log 2, log 5, one class a block; the maximum grows at each block. p = 1/8, 2/8, 5/8."""
    monkeypatch.setattr(blocked, "BLOCK_V", 1)
    loss, dx = blocked.cross_entropy(np.log([[1.0, 2.0, 5.0]]), np.array([2]))
    assert loss == pytest.approx(np.log(8 / 5), rel=1e-14)
    np.testing.assert_allclose(dx(np.ones(())), [[1 / 8, 2 / 8, 5 / 8 - 1]], rtol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_that_are_ruled_out_do_as_in_the_textbook(smoothing):
    row = [-np.inf, 0.0, 1.0]
    x = np.array([row, row, [-np.inf] * 3, [-np.inf] * 3, [0.0] * 3])
    target = np.array([0, 1, 2, IGNORED, 1])
    results = []
    for body in (blocked.cross_entropy, textbook):
        loss, dx = body(x, target, label_smoothing=smoothing, reduction="none")
        results.append((loss, dx(np.ones(5))))
    for ours, expected in zip(*results, strict=True):
        assert not np.isnan(ours).any()
        np.testing.assert_allclose(ours, expected, rtol=1e-14, atol=1e-15)


def test_an_ignored_row_costs_nothing_whatever_it_holds():
    x = np.array([[np.nan, 0.0, 1.0], [0.0, 0.0, 0.0]])
    loss, dx = blocked.cross_entropy(x, np.array([IGNORED, 1]))
    assert loss == pytest.approx(np.log(3))
    np.testing.assert_array_equal(dx(np.ones(()))[0], 0)


def test_logits_of_ten_thousand_cost_no_accuracy():
    """The distances between the logits decide; a logarithm of the sum, near 10,000, would be rounded to 0.001."""
    x, target, g = problem(4, 50, 1, dtype="float32", ignored=0)
    x = np.round(x * 64) / 64  # so that adding 10,000 is exact
    near, dnear = blocked.cross_entropy(x, target, reduction="none")
    far, dfar = blocked.cross_entropy(x + np.float32(1e4), target, reduction="none")
    np.testing.assert_array_equal(far, near)
    np.testing.assert_array_equal(dfar(g), dnear(g))


def test_forward_allocates_tiles_and_not_an_array_as_large_as_the_logits():
    x, target, _ = problem(512, 5000, 2, dtype="float32")
    peaks = []
    for body in (blocked.cross_entropy, textbook):
        body(x, target)
        tracemalloc.start()
        body(x, target)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < x.nbytes / 2 < x.nbytes <= peaks[1]


MISTAKES = [
    ((2, 3), np.array([0, 3]), {}),
    ((2, 3), np.array([-1, 0]), {}),
    ((2, 3), np.array([0.0, 1.0]), {}),
    ((2, 3), np.array([[0, 1]]), {}),
    ((2, 3), np.array([-100, -100]), {}),
    ((2, 3), np.array([0, 1]), {"reduction": "avg"}),
    ((2, 3), np.array([0, 1]), {"label_smoothing": 2}),
    ((2, 3), np.array([0, 200], dtype="uint8"), {"ignore_index": 7}),
]


@pytest.mark.parametrize("shape, target, options", MISTAKES)
def test_mistakes_are_refused_in_the_words_of_the_textbook(shape, target, options):
    x = np.zeros(shape, dtype="float32")
    with pytest.raises((ValueError, TypeError, IndexError)) as expected:
        textbook(x, target, **options)
    with pytest.raises(expected.type) as ours:
        blocked.cross_entropy(x, target, **options)
    assert str(ours.value) == str(expected.value)


def test_a_target_on_a_device_is_fetched():
    class OnDevice:
        def get(self):
            return np.array([0, 2])

    right, n = blocked.check_target((2, 3), OnDevice(), IGNORED, 0.0, "mean")
    np.testing.assert_array_equal(right, [0, 2])
    assert n == 2 and right.dtype == np.int32

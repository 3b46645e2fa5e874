"""The Triton cross-entropy computes what the formula says, for every option, and stays inside its arrays."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minilm.functional as F
from minilm.kernels.cross_entropy import blocked
from minilm.kernels.cross_entropy.triton import cross_entropy
from minilm.kernels.host import counting, using_tile
from tests.kernels.guards import close, guarded
from tests.kernels.test_cross_entropy_ladder import IGNORED, MISTAKES, problem

textbook = F.cross_entropy.body


def laid_out(x, layout):
    """The numbers of x (N, V) in another order in memory, between guard bands."""
    if layout == "fortran":
        return guarded(np.asfortranarray(x))
    if layout == "padded rows":  # between the rows lies what must not be read
        wide = np.full((x.shape[0], x.shape[1] + 3), np.nan, dtype=x.dtype)
        wide[:, :-3] = x
        return guarded(wide)[:, :-3]
    return guarded(x)


@settings(max_examples=120)
@example(3, 33, "float32", 3.0, 0.1, "mean", "rows", 0)
@example(3, 97, "float16", 3.0, 0.1, "none", "padded rows", 0)
@given(
    N=st.integers(1, 5),
    V=st.sampled_from([1, 2, 31, 32, 33, 64, 97]),
    dtype=st.sampled_from(["float32", "float16"]),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    label_smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    layout=st.sampled_from(["rows", "fortran", "padded rows"]),
    seed=st.integers(0, 999),
)
def test_equals_the_formula(N, V, dtype, scale, label_smoothing, reduction, layout, seed):
    x, target, g = problem(N, V, seed, scale, dtype)
    options = target, IGNORED, label_smoothing, reduction
    g = g if reduction == "none" else np.asarray(g[0])
    exact, exact_dx = textbook(x.astype("float64"), *options)
    plain, plain_dx = textbook(x, *options)
    loss, dx = cross_entropy(laid_out(x, layout), *options)
    d = dx(guarded(g))
    assert loss.dtype == d.dtype == x.dtype
    close(np.asarray(loss), np.asarray(exact), np.asarray(plain))
    close(d, exact_dx(g.astype("float64")), plain_dx(g))
    assert not d[target == IGNORED].any()


def test_equals_the_rung_below_up_to_the_order_of_sums():
    x, target, g = problem(6, 150, 4, dtype="float32")
    loss, dx = cross_entropy(x, target, label_smoothing=0.1, reduction="none")
    below, below_dx = blocked.cross_entropy(x, target, label_smoothing=0.1, reduction="none")
    np.testing.assert_allclose(loss, below, rtol=1e-6)
    np.testing.assert_allclose(dx(g), below_dx(g), rtol=1e-6, atol=1e-7)


def test_places_of_any_shape_and_targets_of_any_integer_type():
    x, target, _ = problem(6, 40, 5, dtype="float32", ignored=0)
    expected = cross_entropy(x, target)[0]
    for dtype in ("uint8", "int32", "uint64"):
        loss, dx = cross_entropy(x.reshape(2, 3, 40), target.reshape(2, 3).astype(dtype))
        assert loss == expected
        assert dx(np.ones((), "float32")).shape == (2, 3, 40)
    assert cross_entropy(x, list(target))[0] == expected
    assert cross_entropy(x[0], target[0])[0].shape == ()
    loss, dx = cross_entropy(x[:0], target[:0], reduction="sum")
    assert loss == 0 and dx(np.ones((), "float32")).shape == (0, 40)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_that_are_ruled_out_do_as_in_the_textbook(smoothing):
    row = [-np.inf] * 40 + [0.0, 1.0]  # the first block of classes holds nothing but -inf
    x = np.array([row, row, [-np.inf] * 42, [-np.inf] * 42, [0.0] * 42], dtype="float32")
    target = np.array([0, 41, 2, IGNORED, 1])
    results = []
    for body in (cross_entropy, textbook):
        loss, dx = body(x, target, label_smoothing=smoothing, reduction="none")
        results.append((loss, dx(np.ones(5, "float32"))))
    for ours, expected in zip(*results, strict=True):
        assert not np.isnan(ours).any()
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-7)


def test_logits_of_ten_thousand_cost_no_accuracy():
    x, target, g = problem(3, 70, 6, dtype="float32", ignored=0)
    x = np.round(x * 64) / 64  # so that adding 10,000 is exact
    near, dnear = cross_entropy(x, target, reduction="none")
    far, dfar = cross_entropy(x + np.float32(1e4), target, reduction="none")
    np.testing.assert_array_equal(far, near)
    np.testing.assert_array_equal(dfar(g), dnear(g))


def test_a_nan_among_the_logits_is_not_hidden():
    x, target, _ = problem(2, 40, 7, dtype="float32", ignored=0)
    x[0, 35] = np.nan
    loss, dx = cross_entropy(x, target, reduction="none")
    d = dx(np.ones(2, "float32"))
    assert np.isnan(loss[0]) and np.isnan(d[0]).all()
    assert np.isfinite(loss[1]) and np.isfinite(d[1]).all()


def test_an_ignored_row_is_not_looked_at_whatever_it_holds():
    x, target, _ = problem(2, 40, 7, dtype="float32", ignored=0)
    x[0], target[0] = np.nan, IGNORED
    loss, dx = cross_entropy(x, target, reduction="none")
    d = dx(np.array([np.nan, 1], "float32"))
    assert loss[0] == 0 and not d[0].any() and np.isfinite(d[1]).all()


def test_the_cotangent_may_have_any_stride():
    x, target, g = problem(4, 40, 8, dtype="float32")
    dx = cross_entropy(x.reshape(2, 2, 40), target.reshape(2, 2), reduction="none")[1]
    expected = dx(g.reshape(2, 2))
    np.testing.assert_array_equal(dx(np.asfortranarray(g.reshape(2, 2))), expected)
    np.testing.assert_array_equal(dx(np.repeat(g, 3)[::3].reshape(2, 2)), expected)
    np.testing.assert_array_equal(dx(g[::-1].copy()[::-1].reshape(2, 2)), expected)
    one = dx(np.broadcast_to(np.float32(2), (2, 2)))
    np.testing.assert_array_equal(one, dx(np.full((2, 2), 2, "float32")))


def test_the_gradient_has_a_buffer_of_its_own_at_each_call():
    x, target, _ = problem(2, 40, 9, dtype="float32")
    before = x.copy()
    dx = cross_entropy(x, target)[1]
    first, second = dx(np.ones((), "float32")), dx(np.ones((), "float32"))
    assert not np.shares_memory(first, second) and not np.shares_memory(first, x)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(x, before)


def test_what_is_kept_for_the_backward_is_the_logits_and_a_few_numbers_a_row():
    x, target, _ = problem(3, 97, 10, dtype="float32")
    dx = cross_entropy(x, target)[1]
    kept = [value for value in inspect.getclosurevars(dx).nonlocals.values() if isinstance(value, np.ndarray)]
    assert sum(array.size >= x.size for array in kept) == 1
    assert all(np.shares_memory(array, x) or array.size == 3 for array in kept)


def test_bytes_that_move():
    """Forward: the logits of the rows that count, once. Backward: once again, and the gradient. Counted by running."""
    N, V = 4, 100
    x, target, _ = problem(N, V, 11, dtype="float16", ignored=0)
    target[0] = IGNORED
    with counting() as counts:
        dx = cross_entropy(x, target)[1]
    logits = 2 * (N - 1) * V
    assert (counts.loaded, counts.stored) == (logits + 2 * (N - 1) + 4 * N, 12 * N)  # one logit, x_t, is read twice
    assert counts.read == logits + 4 * N
    assert counts.exps == (N - 1) * (4 * 32 + 4)  # whole blocks of 32, and the correction of each
    with counting() as counts, using_tile("cross_entropy_backward", BLOCK_V=128):
        dx(np.ones((), "float16"))
    assert counts.read == logits + 4 * N + 8 * N + 2
    assert counts.written == counts.stored == 2 * N * V


@pytest.mark.parametrize("shape, target, options", MISTAKES)
def test_mistakes_are_refused_in_the_words_of_the_textbook(shape, target, options):
    x = np.zeros(shape, dtype="float32")
    with pytest.raises((ValueError, TypeError, IndexError)) as expected:
        textbook(x, target, **options)
    with pytest.raises(expected.type) as ours:
        cross_entropy(x, target, **options)
    assert str(ours.value) == str(expected.value)


def test_float64_is_refused_with_the_way_out():
    with pytest.raises(NotImplementedError, match="float64.*'numpy'"):
        cross_entropy(np.zeros((2, 3)), np.array([0, 1]))

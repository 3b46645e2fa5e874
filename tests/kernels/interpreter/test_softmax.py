"""Softmax in Triton: rows in registers and rows block by block, over any axis, with holes of -inf."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minilm.kernels.host import counting
from minilm.kernels.softmax.triton import log_softmax, softmax
from tests.kernels.guards import guarded
from tests.kernels.rungs import NO_SHRINKING, assert_equals_textbook, dtypes, layouts, seeds

# The interpreter's tiles hold rows of up to 24 scores in registers; longer ones go in blocks of 16.
lengths = st.sampled_from([1, 2, 3, 16, 17, 24, 25, 32, 33, 50])
kernels = {"softmax": softmax, "log_softmax": log_softmax}
names = st.sampled_from(sorted(kernels))


@settings(max_examples=30, phases=NO_SHRINKING)
@given(names, lengths, st.sampled_from([(), (1,), (5,), (2, 3)]), st.integers(-3, 2), dtypes, layouts, seeds)
@example("softmax", 33, (2, 3), 0, "float16", "gaps", 0)
@example("log_softmax", 33, (2, 3), -2, "float16", "F", 0)
def test_softmax_equals_the_textbook(name, n, others, axis, dtype, layout, seed):
    axis = max(-len(others) - 1, min(axis, len(others)))
    shape = list(others)
    shape.insert(axis % (len(others) + 1), n)
    x = 3 * np.random.default_rng(seed).normal(size=shape)
    floor = 1.0 if name == "log_softmax" else 2.0**-8
    assert_equals_textbook(name, kernels[name], lambda f, x: f(x, axis), [x], dtype, layout, seed, floor)


@pytest.mark.parametrize("n", [7, 50])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shift", [0, 700, -700])
def test_a_row_of_holes_is_0_and_has_no_gradient(n, axis, shift):
    rng = np.random.default_rng(n)
    x = (rng.normal(size=(4, n)) + shift).astype("float32")
    x[rng.random(x.shape) < 0.4] = -np.inf
    x[1], x[2, 0] = -np.inf, shift
    y, dx = softmax(guarded(x if axis else x.T), axis)
    y, d = (
        part if axis else part.T
        for part in (y, dx(guarded(np.ones_like(y) * np.arange(y.size).reshape(y.shape))))
    )
    np.testing.assert_array_equal(y[1], 0)
    np.testing.assert_array_equal(d[1], 0)
    np.testing.assert_array_equal(y[np.isinf(x)], 0)
    np.testing.assert_allclose(y.sum(1), [1, 0, 1, 1], rtol=1e-6)
    assert np.isfinite(d).all() and np.abs(d[2]).max() > 0


@pytest.mark.parametrize("n", [7, 50])
def test_the_logarithm_of_a_row_of_holes_is_minus_infinity(n):
    x = np.full((2, n), -np.inf, dtype="float32")
    x[1, -1] = 3
    y, dx = log_softmax(guarded(x))
    np.testing.assert_array_equal(y[0], -np.inf)
    np.testing.assert_array_equal(y[1], [-np.inf] * (n - 1) + [0])
    np.testing.assert_allclose(dx(np.ones_like(x)), [[1] * n, [1] * (n - 1) + [1 - n]])


def test_the_largest_score_may_come_in_the_last_block():
    x = np.zeros((1, 50), dtype="float32")
    x[0, -1], x[0, 20] = 90, 89
    y, _ = softmax(guarded(x))
    np.testing.assert_allclose(y[0, [20, 49]], [1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-6)


def test_nan_stays_in_its_row():
    x = np.zeros((2, 30), dtype="float32")
    x[0, 3] = np.nan
    y, _ = softmax(x)
    assert np.isnan(y[0]).all()
    np.testing.assert_allclose(y[1], 1 / 30)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3)])
def test_no_scores_no_launch(shape):
    x = np.ones(shape, dtype="float32")
    with counting() as counts:
        y, dx = softmax(x, 1)
        assert y.shape == dx(y).shape == shape
    assert counts.loaded == counts.stored == 0


def test_a_row_in_registers_is_read_once_and_a_long_one_twice():
    for n, times in ((24, 1), (48, 2)):
        with counting() as counts:
            softmax(np.ones((4, n), dtype="float32"))
        assert (counts.loaded, counts.stored) == (4 * 4 * n * times, 4 * 4 * n)


def test_what_is_not_covered_is_said():
    with pytest.raises(NotImplementedError, match="float64: convert it"):
        softmax(np.ones((2, 2)))
    with pytest.raises(IndexError, match="no axis 2"):
        softmax(np.ones((2, 2), dtype="float32"), 2)

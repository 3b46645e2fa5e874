"""Reductions have NumPy's values for every form of `axis`; extremes share a gradient among equals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minilm.functional as functional
from minilm import Tensor
from tests.properties.strategies import arrays, axes_of, nonempty_shapes

moderate = settings(max_examples=40)


@pytest.mark.parametrize("name", ["sum", "mean", "var", "max", "min"])
@moderate
@given(x=arrays(nonempty_shapes), data=st.data(), keepdims=st.booleans())
def test_a_reduction_gives_what_numpy_gives(name, x, data, keepdims):
    axis = data.draw(axes_of(x.ndim))
    y = getattr(functional, name)(Tensor.wrap(x), axis=axis, keepdims=keepdims)
    expected = np.asarray(getattr(np, name)(x, axis=axis, keepdims=keepdims))
    np.testing.assert_allclose(y.data, expected, rtol=1e-13, atol=1e-13, strict=True)
    method = getattr(Tensor.wrap(x), name)(axis=axis, keepdims=keepdims)
    np.testing.assert_array_equal(method.data, y.data, strict=True)


@moderate
@given(x=arrays(nonempty_shapes, -800, 800), data=st.data(), keepdims=st.booleans())
def test_logsumexp_is_the_log_of_the_sum_of_exponentials(x, data, keepdims):
    axis = data.draw(axes_of(x.ndim))
    y = functional.logsumexp(Tensor.wrap(x), axis=axis, keepdims=keepdims)
    expected = np.asarray(np.logaddexp.reduce(x, axis=axis, keepdims=keepdims))
    np.testing.assert_allclose(y.data, expected, rtol=1e-12, atol=1e-12, strict=True)


@moderate
@given(x=arrays(), data=st.data())
def test_cumsum_gives_what_numpy_gives(x, data):
    axis = data.draw(st.none() if x.ndim == 0 else st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)))
    y = functional.cumsum(Tensor.wrap(x), axis=axis)
    np.testing.assert_array_equal(y.data, np.cumsum(x, axis=axis), strict=True)


@moderate
@given(x=arrays(nonempty_shapes), data=st.data(), keepdims=st.booleans())
def test_argmax_and_argmin_give_what_numpy_gives(x, data, keepdims):
    axis = data.draw(st.none() if x.ndim == 0 else st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)))
    for name in ("argmax", "argmin"):
        y = getattr(functional, name)(Tensor.wrap(x), axis=axis, keepdims=keepdims)
        np.testing.assert_array_equal(y.data, np.asarray(getattr(np, name)(x, axis=axis, keepdims=keepdims)))
        assert not y.requires_grad and y.dtype == np.int64


@pytest.mark.parametrize("fn", [functional.max, functional.min])
def test_equal_extremes_share_the_gradient(fn):
    x = Tensor(np.array([[3.0, 1.0, 3.0, 3.0], [5.0, 5.0, 5.0, 5.0]]) * (1 if fn is functional.max else -1))
    x.requires_grad = True
    fn(x, axis=1).backward(np.array([3.0, 4.0]))
    assert x.grad.tolist() == [[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]


def test_logsumexp_of_nothing_but_minus_infinity():
    x = Tensor(np.array([[-np.inf, -np.inf], [0.0, -np.inf]]), requires_grad=True)
    y = functional.logsumexp(x, axis=1)
    y.backward(np.ones(2))
    assert y.tolist() == [-math.inf, 0.0]
    assert x.grad.tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_variance_of_too_few_elements_is_refused():
    with pytest.raises(ValueError, match=r"var: the variance of 1 elements with ddof=1 .* \[inputs: \(2, 1\) float32"):
        functional.var(Tensor([[1.0], [2.0]]), axis=1, ddof=1)


def test_sums_of_integers_and_booleans_count():
    assert Tensor(np.array([True, True, False])).sum().item() == 2
    assert Tensor(np.array([1, 2])).sum().dtype == np.int64


def test_the_mean_of_many_float16_does_not_overflow():
    assert Tensor(np.full(70000, 2.0, "float16")).mean().item() == 2.0


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"^sum: axis 2 is out of bounds"):
        Tensor([[1.0]]).sum(axis=2)

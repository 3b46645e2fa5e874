"""Elementwise operations have NumPy's values; at ties and kinks, PyTorch's gradients."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minilm.functional as functional
from minilm import Tensor
from tests.properties.strategies import arrays, broadcastable

moderate = settings(max_examples=30)


def grads(fn, *values, cotangent=None):
    leaves = [Tensor(np.asarray(v), requires_grad=True, dtype="float64") for v in values]
    y = fn(*leaves)
    y.backward(np.ones(y.shape) if cotangent is None else cotangent)
    return [x.grad.tolist() for x in leaves]


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "maximum", "minimum"])
@moderate
@given(pair=broadcastable())
def test_two_arrays_give_what_numpy_gives(name, pair):
    y = getattr(functional, name)(*map(Tensor.wrap, pair))
    np.testing.assert_array_equal(y.data, getattr(np, name)(*pair), strict=True)


@pytest.mark.parametrize("name", ["divide", "power"])
@moderate
@given(pair=broadcastable(low=0.5, high=4.0))
def test_two_positive_arrays_give_what_numpy_gives(name, pair):
    y = getattr(functional, name)(*map(Tensor.wrap, pair))
    np.testing.assert_array_equal(y.data, getattr(np, name)(*pair), strict=True)


@pytest.mark.parametrize("name", ["negative", "exp", "sin", "cos", "tanh", "abs"])
@moderate
@given(x=arrays())
def test_one_array_gives_what_numpy_gives(name, x):
    y = getattr(functional, name)(Tensor.wrap(x))
    np.testing.assert_array_equal(y.data, getattr(np, name)(x), strict=True)


@pytest.mark.parametrize("name", ["log", "sqrt"])
@moderate
@given(x=arrays(low=0.5))
def test_one_positive_array_gives_what_numpy_gives(name, x):
    y = getattr(functional, name)(Tensor.wrap(x))
    np.testing.assert_array_equal(y.data, getattr(np, name)(x), strict=True)


@moderate
@given(x=arrays(low=-700, high=700))
def test_relu_and_sigmoid(x):
    np.testing.assert_array_equal(functional.relu(Tensor.wrap(x)).data, np.maximum(x, 0), strict=True)
    expected = np.vectorize(lambda v: 1 / (1 + math.exp(-v)), otypes=[float])(x)
    np.testing.assert_allclose(functional.sigmoid(Tensor.wrap(x)).data, expected, rtol=1e-14, strict=True)


def test_sigmoid_does_not_overflow():
    y = functional.sigmoid(Tensor(np.array([-1e4, -800.0, 0.0, 800.0, 1e4])))
    assert y.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


@moderate
@given(triple=broadcastable(3))
def test_where_and_clip_give_what_numpy_gives(triple):
    condition, a, b = triple
    y = functional.where(Tensor.wrap(condition > 0), Tensor.wrap(a), Tensor.wrap(b))
    np.testing.assert_array_equal(y.data, np.where(condition > 0, a, b), strict=True)
    for low, high in ((-1.0, 1.0), (None, 0.5), (-0.5, None)):
        clipped = functional.clip(Tensor.wrap(a), low, high)
        np.testing.assert_array_equal(clipped.data, np.clip(a, low, high), strict=True)


@settings(max_examples=200)
@given(x=st.floats(-30, 30))
def test_erf_is_within_1e_15_of_the_standard_library(x):
    assert abs(functional.erf(Tensor(np.array([x]))).item() - math.erf(x)) <= 1e-15


def test_erf_on_a_grid_and_at_the_ends():
    seams = [0.46875, np.nextafter(0.46875, 1), 4.0, np.nextafter(4.0, 5), 1e-300]
    x = np.concatenate([np.linspace(-7, 7, 20001), seams])
    expected = np.array([math.erf(v) for v in x])
    assert np.abs(functional.erf(Tensor(x)).data - expected).max() <= 1e-15
    assert functional.erf(Tensor(np.array([np.inf, -np.inf]))).tolist() == [1.0, -1.0]
    assert np.isnan(functional.erf(Tensor(np.array([np.nan]))).item())
    assert math.copysign(1.0, functional.erf(Tensor(np.array([-0.0]))).item()) == -1.0


@pytest.mark.parametrize("name", "exp log sqrt tanh sigmoid relu abs clone".split())
def test_methods_are_the_functions(name):
    x = Tensor(np.array([[0.5, 2.0]]))
    assert getattr(x, name)().tolist() == getattr(functional, name)(x).tolist()


# ----- ties and kinks


@pytest.mark.parametrize("fn", [functional.maximum, functional.minimum])
def test_a_tie_shares_the_gradient_equally(fn):
    first_alone = np.array([4.0, 0.0, 0.0])
    assert grads(fn, [1.0, 2.0, 3.0], [1.0, 1.0, 5.0], cotangent=first_alone) == [[2.0, 0, 0], [2.0, 0, 0]]
    assert grads(lambda x: fn(x, x), [7.0]) == [[1.0]]


def test_abs_and_relu_have_no_slope_at_0():
    assert grads(functional.abs, [-2.0, 0.0, 3.0]) == [[-1.0, 0.0, 1.0]]
    assert grads(functional.relu, [-2.0, 0.0, 3.0]) == [[0.0, 0.0, 1.0]]


def test_clip_passes_the_gradient_on_its_bounds():
    assert grads(lambda x: functional.clip(x, -1.0, 2.0), [-1.5, -1.0, 0.0, 2.0, 2.5]) == [[0.0, 1.0, 1.0, 1.0, 0.0]]


def test_powers_of_zero():
    assert grads(lambda x: x**0, [0.0, 2.0]) == [[0.0, 0.0]]
    assert grads(lambda x: x**1, [0.0, 2.0]) == [[1.0, 1.0]]
    assert grads(lambda x: x**2, [0.0, -3.0]) == [[0.0, -6.0]]
    assert grads(functional.power, [0.0, 2.0], [2.0, 3.0]) == [[0.0, 12.0], [0.0, 8.0 * math.log(2.0)]]


def test_where_stops_what_it_does_not_choose():
    condition = np.array([True, False])
    assert grads(lambda a, b: functional.where(condition, a, b), [1.0, 2.0], [3.0, 4.0]) == [[1.0, 0.0], [0.0, 1.0]]


def test_astype_brings_the_gradient_back():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x.astype("float64")
    (y * y).sum().backward()
    assert (y.dtype, x.grad.dtype, x.grad.tolist()) == (np.float64, np.float32, [2.0, 4.0])
    assert not x.astype("int64").requires_grad


def test_bounds_that_do_not_broadcast_to_x_are_refused():
    with pytest.raises(ValueError, match=r"the bounds of clip must broadcast to x \(1,\)"):
        functional.clip(Tensor([1.0]), low=np.zeros(3))

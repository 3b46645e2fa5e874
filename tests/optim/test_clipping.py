"""Clipping: one norm over all gradients, one factor for all of them."""

import math

import numpy as np
import pytest

from minilm.errors import ConfigurationError
from minilm.optim import clip_grad_norm_, grad_norm
from minilm.optim.clipping import ROW
from minilm.random import Generator
from minilm.tensor import Tensor


def with_gradients(*gradients):
    parameters = []
    for gradient in gradients:
        gradient = np.asarray(gradient)
        parameter = Tensor(np.zeros(gradient.shape, gradient.dtype), requires_grad=True)
        parameter.grad = gradient
        parameters.append(parameter)
    return parameters


def test_the_norm_is_that_of_all_gradients_together():
    assert grad_norm(with_gradients([3.0, 0.0], [[0.0], [4.0]])) == 5.0
    assert grad_norm([Tensor(np.ones(3), requires_grad=True)]) == 0.0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", [1, ROW - 1, ROW, 3 * ROW + 17])
def test_the_norm_is_as_exact_as_the_gradients(dtype, size):
    g = Generator(size).normal((size,), dtype="float64").astype(dtype)
    exact = math.sqrt(math.fsum(float(x) ** 2 for x in g))
    (parameter,) = with_gradients(g)
    assert grad_norm([parameter]) == pytest.approx(exact, rel=1e-6 if dtype != "float64" else 1e-14)


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_squares_beyond_float32_do_not_spoil_the_norm(size):
    (parameter,) = with_gradients(np.full(4 * ROW, size, "float32"))
    assert grad_norm([parameter]) == pytest.approx(2 * math.sqrt(ROW) * size, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping_equals_its_formula(dtype):
    arrays = [Generator(k).normal((4, 5), dtype=dtype) for k in range(3)]
    parameters = with_gradients(*arrays)
    norm = math.sqrt(sum((a.astype("float64") ** 2).sum() for a in arrays))
    assert clip_grad_norm_(parameters, 0.5) == pytest.approx(norm, rel=1e-6)
    for parameter, array in zip(parameters, arrays, strict=True):
        np.testing.assert_allclose(parameter.grad.data, array * (0.5 / (norm + 1e-6)), rtol=1e-6)
    assert grad_norm(parameters) == pytest.approx(0.5, rel=1e-5)


def test_gradients_below_the_limit_keep_their_bits():
    arrays = [Generator(k).normal((4, 5), dtype="float32") for k in range(3)]
    parameters = with_gradients(*arrays)
    norm = grad_norm(parameters)
    assert clip_grad_norm_(parameters, norm * 1.001) == norm
    for parameter, array in zip(parameters, arrays, strict=True):
        np.testing.assert_array_equal(parameter.grad.data, array)


def test_gradients_are_scaled_in_place_and_a_tied_one_once():
    (parameter,) = with_gradients([3.0, 4.0])
    array = parameter.grad.data
    assert clip_grad_norm_([("wte", parameter), ("head", parameter)], 1.0) == 5.0
    assert parameter.grad.data is array
    np.testing.assert_allclose(array, [0.6, 0.8], rtol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_norm_that_is_not_finite_is_told_and_touches_nothing(bad, dtype):
    parameters = with_gradients(np.array([1.0, 2.0], dtype), np.array([bad, 3.0], dtype))
    norm = clip_grad_norm_(parameters, 1.0)
    assert math.isnan(norm) if math.isnan(bad) else norm == math.inf
    np.testing.assert_array_equal(parameters[0].grad.data, [1.0, 2.0])
    assert parameters[1].grad.data[1] == 3.0


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_must_be_positive(limit):
    with pytest.raises(ConfigurationError, match="max_norm must be positive"):
        clip_grad_norm_(with_gradients([1.0]), limit)

"""Softmax and its logarithm: against their twins, by hand, and at the edges of the number range."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from tests.functional import twins

BOTH = pytest.mark.parametrize("name", ["softmax", "log_softmax"])


@BOTH
@given(data=st.data())
def test_equals_its_twin_for_any_shape_axis_and_layout(name, data):
    shape = data.draw(twins.shapes(min_axes=1))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    assume(shape[axis])  # no scores at all: the next test
    twins.assert_equals_twin(
        lambda x: getattr(F, name)(x, axis), lambda x: getattr(twins, name)(x, axis), data.draw(twins.drawn(shape))
    )


@BOTH
def test_of_no_scores_there_are_no_weights(name):
    x = Tensor(np.zeros((2, 0, 3)), requires_grad=True)
    y = getattr(F, name)(x, axis=1)
    y.backward(np.zeros((2, 0, 3)))
    assert y.shape == x.grad.shape == (2, 0, 3)


def test_softmax_by_hand():
    """Scores log 1, log 2, log 5 have the weights 1/8, 2/8, 5/8; J = diag(y) - y yᵀ."""
    x = Tensor(np.log([1.0, 2.0, 5.0]), requires_grad=True)
    y = F.softmax(x)
    np.testing.assert_allclose(y.numpy(), [1 / 8, 2 / 8, 5 / 8], rtol=1e-15)
    y.backward(np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(x.grad.numpy(), [7 / 64, -2 / 64, -5 / 64], rtol=1e-14)


@given(st.integers(0, 2**32 - 1), st.integers(-1000, 1000))
def test_a_constant_added_to_all_scores_changes_nothing(seed, shift):
    x = np.round(twins.normals((3, 5), seed) * 1024) / 1024  # so that x + shift is exact
    np.testing.assert_array_equal(F.softmax(Tensor(x + shift)).numpy(), F.softmax(Tensor(x)).numpy())
    np.testing.assert_allclose(F.log_softmax(Tensor(x + shift)).numpy(), F.log_softmax(Tensor(x)).numpy(), rtol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_the_gradient_of_softmax_is_orthogonal_to_constants(seed):
    """What shift invariance means for the gradient: it sums to zero along the axis."""
    x = Tensor(twins.normals((4, 6), seed), requires_grad=True)
    F.softmax(x).backward(twins.normals((4, 6), seed + 1))
    assert np.abs(x.grad.numpy()).max() > 1e-3
    np.testing.assert_allclose(x.grad.numpy().sum(-1), 0, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_of_ten_thousand_neither_overflow_nor_lose_the_small_ones(dtype):
    x = Tensor(np.array([1e4, 1e4 - 1, -1e4], dtype=dtype), requires_grad=True)
    p = 1 / (1 + math.exp(-1))
    y = F.softmax(x)
    np.testing.assert_allclose(y.numpy(), [p, 1 - p, 0], rtol=1e-6)
    y.backward(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(x.grad.numpy(), [-p * (1 - p), p * (1 - p), 0], rtol=1e-5)
    log_y = F.log_softmax(x)
    np.testing.assert_allclose(log_y.numpy(), [math.log(p), math.log(1 - p), -2e4 + math.log(p)], rtol=1e-6)
    log_y.backward(np.array([0.0, 0.0, 1.0]))


def test_a_score_of_minus_infinity_has_weight_zero_and_gets_no_gradient():
    x = Tensor([0.0, -math.inf, 0.0], requires_grad=True)
    y = F.softmax(x)
    y.backward(np.array([1.0, 5.0, 0.0]))
    np.testing.assert_array_equal(y.numpy(), [0.5, 0, 0.5])
    np.testing.assert_array_equal(x.grad.numpy(), [0.25, 0, -0.25])


def test_a_row_of_minus_infinity_has_no_weights_and_gets_no_gradient():
    x = Tensor([[-math.inf, -math.inf], [0.0, 0.0]], requires_grad=True)
    y = F.softmax(x)
    y.backward(np.array([[1.0, 2.0], [1.0, 2.0]]))
    np.testing.assert_array_equal(y.numpy(), [[0, 0], [0.5, 0.5]])
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 0], [-0.25, 0.25]])


def test_the_logarithm_of_no_weight_is_minus_infinity_without_a_warning():
    x = Tensor([[-math.inf, -math.inf], [0.0, -math.inf]], requires_grad=True)
    y = F.log_softmax(x)
    np.testing.assert_array_equal(y.numpy(), [[-math.inf, -math.inf], [0, -math.inf]])
    y.backward(np.ones((2, 2)))
    assert np.isfinite(x.grad.numpy()).all()

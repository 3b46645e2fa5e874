"""Several operations in one, against the operations apart: linear with its epilogue, RMS norm of a sum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from tests.functional import twins

activations = {
    "gelu_tanh": lambda z: twins.gelu(z, "tanh"),
    "gelu": lambda z: twins.gelu(z, "none"),
    "silu": twins.silu,
    "relu": F.relu,
}


@given(twins.shapes(max_axes=2), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans(), st.data())
@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu", "silu"])
def test_linear_activation_equals_its_twin(activation, leading, n_in, n_out, with_bias, with_residual, data):
    shapes = [(*leading, n_in), (n_out, n_in), *[(n_out,)] * with_bias, *[(*leading, n_out)] * with_residual]
    inputs = [data.draw(twins.drawn(s)) for s in shapes]

    def named(x, weight, *rest):
        rest = list(rest)
        return x, weight, rest.pop(0) if with_bias else None, rest.pop(0) if with_residual else None

    def fused(*tensors):
        x, weight, bias, residual = named(*tensors)
        return F.linear_activation(x, weight, bias, activation, residual)

    def twin(*tensors):
        x, weight, bias, residual = named(*tensors)
        y = activations[activation](twins.linear(x, weight, bias))
        return y if residual is None else y + residual

    twins.assert_equals_twin(fused, twin, *inputs, few=256)


def test_relu_of_a_linear_layer_by_hand():
    """z = (3, -1): the second channel is shut, and so are its weights."""
    x, weight, bias, residual = (
        Tensor(np.array(a), requires_grad=True)
        for a in ([[1.0, 2.0]], [[1.0, 1.0], [1.0, -1.0]], [0.0, 0.0], [[5.0, 5.0]])
    )
    y = F.linear_activation(x, weight, bias, "relu", residual)
    np.testing.assert_array_equal(y.numpy(), [[8, 5]])
    y.backward(np.array([[10.0, 100.0]]))
    np.testing.assert_array_equal(x.grad.numpy(), [[10, 10]])
    np.testing.assert_array_equal(weight.grad.numpy(), [[10, 20], [0, 0]])
    np.testing.assert_array_equal(bias.grad.numpy(), [10, 0])
    np.testing.assert_array_equal(residual.grad.numpy(), [[10, 100]])


@given(twins.shapes(max_axes=2), twins.shapes(min_axes=1, max_axes=2, smallest=1), st.data())
def test_rms_norm_of_a_sum_equals_its_twin(leading, normalized, data):
    inputs = [data.draw(twins.drawn(s)) for s in ((*leading, *normalized), (*leading, *normalized), normalized)]
    axes = tuple(range(-len(normalized), 0))

    def twin(x, residual, weight):
        total = x + residual
        return F.stack([twins.rms_norm(total, axes, weight, 0.5), total])

    twins.assert_equals_twin(lambda *a: F.stack(F.add_rms_norm(*a, 0.5)), twin, *inputs, few=512)


def test_what_does_not_fit_is_named():
    x, weight = Tensor(np.zeros((2, 3))), Tensor(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"linear_activation: activation is one of 'gelu_tanh'.*got 'tanh'"):
        F.linear_activation(x, weight, None, "tanh")
    message = r"linear_activation: residual \(4,\) must have the shape of the output \(2, 4\)"
    with pytest.raises(ValueError, match=message):
        F.linear_activation(x, weight, residual=Tensor(np.zeros(4)))
    with pytest.raises(ValueError, match=r"linear_activation: x \(\.\.\., in_features\)"):
        F.linear_activation(x, Tensor(np.zeros((4, 2))))
    with pytest.raises(ValueError, match=r"add_rms_norm: x \(2, 3\) and residual \(3,\) must have one shape"):
        F.add_rms_norm(x, Tensor(np.zeros(3)), Tensor(np.zeros(3)))

"""An adapted layer: what it computes, what it trains, and that merging changes nothing but the cost."""

import numpy as np
import pytest

import minilm.functional as F
from minilm import nn
from minilm.errors import ConfigurationError
from minilm.random import Generator, using_generator
from minilm.tensor import Tensor
from minilm.testing import gradcheck


def adapted(rank=2, alpha=6.0, bias=True, dtype="float64", seed=0):
    """A layer 5 -> 4 whose adapter does something: B is no longer 0."""
    generator = Generator(seed)
    with using_generator(generator):
        layer = nn.LoRALinear(nn.Linear(5, 4, bias).astype(dtype), rank, alpha)
    layer.lora_B.data[:] = generator.normal((4, rank))
    return layer


def inputs(dtype="float64", shape=(2, 3, 5)):
    return Tensor(Generator(9).normal(shape, dtype=dtype))


def test_it_begins_as_the_layer_that_it_adapts():
    with using_generator(Generator(0)):
        linear = nn.Linear(5, 4)
        layer = nn.LoRALinear(linear, 2)
    x = inputs("float32")
    np.testing.assert_array_equal(layer(x).numpy(), linear(x).numpy())
    assert np.abs(layer.lora_A.numpy()).min() > 0 and not layer.lora_B.numpy().any()


@pytest.mark.parametrize("bias", [True, False])
def test_it_computes_equation_3(bias):
    layer, x = adapted(rank=2, alpha=6.0, bias=bias), inputs()
    W, A, B = layer.weight.numpy(), layer.lora_A.numpy(), layer.lora_B.numpy()
    expected = x.numpy() @ (W + 6.0 / 2 * B @ A).T + (layer.bias.numpy() if bias else 0)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu", "relu"])
def test_an_activation_comes_after_the_adapter(activation):
    layer, x = adapted(), inputs()
    weight = Tensor(layer.weight.data + 3.0 * layer.lora_B.data @ layer.lora_A.data)
    expected = F.linear_activation(x, weight, Tensor(layer.bias.data), activation).numpy()
    np.testing.assert_allclose(layer(x, activation).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_its_gradients_are_right():
    layer = adapted()
    x = Tensor(inputs().data, requires_grad=True)
    gradcheck(lambda *_: layer(x, "gelu"), [layer.lora_A, layer.lora_B, x])


def test_only_the_adapter_has_gradients():
    layer = adapted()
    layer(inputs()).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None
    assert layer.lora_A.grad is not None and layer.lora_B.grad is not None
    assert layer.num_parameters(only_trainable=True) == 2 * (5 + 4)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
def test_merged_equals_unmerged_to_rounding_and_back(dtype, rtol):
    layer, x = adapted(dtype=dtype), inputs(dtype)
    weight, unmerged = layer.weight.numpy().copy(), layer(x, "gelu").numpy()
    assert layer.merge().merged
    np.testing.assert_allclose(layer(x, "gelu").numpy(), unmerged, rtol=rtol, atol=rtol)
    assert np.abs(layer.weight.numpy() - weight).max() > 0.1, "the adapter did nothing, so that this test shows nothing"
    layer.merge()  # twice is once
    np.testing.assert_allclose(layer(x, "gelu").numpy(), unmerged, rtol=rtol, atol=rtol)
    assert not layer.unmerge().unmerge().merged
    np.testing.assert_allclose(layer.weight.numpy(), weight, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(layer(x, "gelu").numpy(), unmerged, rtol=rtol, atol=rtol)


def test_a_plain_layer_of_it_gives_the_same_and_can_be_trained_whole():
    layer, x = adapted(), inputs()
    expected = layer(x).numpy()
    linear = layer.as_linear()
    assert type(linear) is nn.Linear and linear.num_parameters(only_trainable=True) == 5 * 4 + 4
    np.testing.assert_allclose(linear(x).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("rank", [0, 5])
def test_a_rank_that_cannot_be_is_refused(rank):
    with pytest.raises(ConfigurationError, match="from 1 to 4"):
        nn.LoRALinear(nn.Linear(5, 4), rank)

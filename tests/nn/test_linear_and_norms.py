"""Linear, Embedding, LayerNorm, RMSNorm, Dropout: shapes, what they compute, and the errors of misuse."""

import numpy as np
import pytest

import minilm.functional as F
from minilm import Tensor, nn
from minilm.random import Generator, using_generator
from minilm.testing import gradcheck


def x_of(*shape, dtype="float32"):
    return Tensor(np.random.default_rng(0).normal(size=shape).astype(dtype))


@pytest.mark.parametrize("lead", [(), (5,), (2, 5), (2, 0, 5)])
def test_shapes_and_dtypes(lead):
    for layer in (nn.Linear(3, 4), nn.LayerNorm(3), nn.RMSNorm(3), nn.Dropout(0.5)):
        y = layer(x_of(*lead, 3))
        assert y.shape == (*lead, 4 if isinstance(layer, nn.Linear) else 3) and y.dtype == np.float32
    ids = np.zeros(lead, dtype="int64")
    assert nn.Embedding(7, 3)(ids).shape == (*lead, 3)


def test_linear_is_x_times_the_transposed_weight_plus_bias():
    layer, x = nn.Linear(3, 4), x_of(5, 3)
    expected = x.numpy() @ layer.weight.numpy().T + layer.bias.numpy()
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-6)
    plain = nn.Linear(3, 4, bias=False)
    assert plain.bias is None and [name for name, _ in plain.named_parameters()] == ["weight"]
    np.testing.assert_allclose(plain(x).numpy(), x.numpy() @ plain.weight.numpy().T, rtol=1e-6)


def test_embedding_looks_rows_up():
    layer = nn.Embedding(7, 3)
    ids = np.array([[6, 0], [0, 2]])
    np.testing.assert_array_equal(layer(ids).numpy(), layer.weight.numpy()[ids])
    np.testing.assert_array_equal(layer(Tensor(ids)).numpy(), layer.weight.numpy()[ids])


def test_layer_norm_starts_as_the_plain_normalisation():
    layer, x = nn.LayerNorm(6), x_of(4, 6)
    y = layer(x).numpy()
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(-1), 1, atol=1e-4)
    layer.weight.data[...] = 3
    layer.bias.data[...] = 1
    np.testing.assert_allclose(layer(x).numpy(), 3 * y + 1, rtol=1e-5)
    assert nn.LayerNorm(6, bias=False).bias is None


def test_rms_norm_starts_with_mean_square_1_and_has_no_bias():
    layer, x = nn.RMSNorm(6), x_of(4, 6)
    y = layer(x).numpy()
    np.testing.assert_allclose((y**2).mean(-1), 1, atol=1e-4)
    layer.weight.data[...] = 3
    np.testing.assert_allclose(layer(x).numpy(), 3 * y, rtol=1e-6)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_the_eps_of_a_norm_is_used(kind):
    x = Tensor(np.full((1, 4), 0.1) * [1, -1, 1, -1])
    small, large = kind(4).astype("float64")(x).numpy(), kind(4, eps=1.0).astype("float64")(x).numpy()
    np.testing.assert_allclose(small, np.sign(x.numpy()) * 0.1 / np.sqrt(0.01 + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(large, np.sign(x.numpy()) * 0.1 / np.sqrt(1.01), rtol=1e-12)


def test_dropout_drops_in_training_only_and_draws_from_the_current_generator():
    layer, x = nn.Dropout(0.5), Tensor(np.ones(100, dtype="float32"))
    with using_generator(Generator(1)):
        y = layer(x).numpy()
    np.testing.assert_array_equal(y, F.dropout(x, 0.5, True, generator=Generator(1)).numpy())
    assert 0 < (y == 0).sum() < 100
    np.testing.assert_array_equal(layer.eval()(x).numpy(), 1)


@pytest.mark.parametrize(
    "layer", [nn.Linear(3, 2), nn.LayerNorm(3), nn.RMSNorm(3)], ids=lambda layer: type(layer).__name__
)
def test_the_gradients_of_all_parameters_and_of_the_input(layer):
    layer.astype("float64")
    x = x_of(4, 3, dtype="float64")
    x.requires_grad = True
    assert gradcheck(lambda *_: layer(x), [x, *layer.parameters()])


def test_the_gradient_of_the_embedding_table():
    layer = nn.Embedding(4, 3).astype("float64")
    assert gradcheck(lambda _: layer(np.array([[1, 1], [3, 0]])), [layer.weight])


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: nn.Linear(3, 4)(x_of(2, 5)), ValueError, ["linear", "(2, 5)", "(4, 3)", "last axes must be equal"]),
        (lambda: nn.LayerNorm(3)(x_of(2, 5)), ValueError, ["layer_norm", "(3,)", "(2, 5)", "last axes"]),
        (lambda: nn.RMSNorm(3)(x_of(2, 5)), ValueError, ["rms_norm", "(3,)", "(2, 5)", "last axes"]),
        (lambda: nn.Embedding(4, 3)(np.array([4])), IndexError, ["embedding", "id 4", "4 entries"]),
        (lambda: nn.Embedding(4, 3)(np.array([0.5])), TypeError, ["embedding", "integers", "float64", "astype"]),
        (lambda: nn.Linear(3, 4)(x_of(2, 3, dtype="float64")), TypeError, ["linear", "float32", "float64", "astype"]),
        (lambda: nn.Dropout(1.5), ValueError, ["from 0 to 1", "1.5"]),
    ],
    ids=["linear", "layer norm", "rms norm", "id", "float ids", "dtype", "dropout"],
)
def test_a_mistake_is_named_with_operation_shapes_and_fix(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)

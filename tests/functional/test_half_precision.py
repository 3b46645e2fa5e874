"""float16 in and out; in between nothing overflows that need not, and long sums keep their digits."""

import math

import numpy as np
import pytest

import minilm.functional as F
from minilm import Tensor, use_backend
from minilm.random import Generator, using_generator
from minilm.tensor import OPERATIONS
from minilm.testing import SAMPLES
from tests.backend.standin import install

IN_FLOAT32 = ("cross_entropy", "cumsum", "gelu", "layer_norm", "log_softmax", "logsumexp", "rms_norm", "softmax", "var")


@pytest.fixture(params=["numpy", "standin"], autouse=True)
def home(request, monkeypatch):
    install(monkeypatch)
    with use_backend(request.param):
        yield request.param


def leaf(values):
    return Tensor(np.asarray(values, "float16"), requires_grad=True)


def drawn(*shape, std=1.0):
    return Generator(0).normal(shape, std=std, dtype="float64").astype("float16")


def exact(operation, x, *rest, **options):
    """The same in float64 on the same (float16) numbers: value and gradient of its sum, weighted by a fixed g."""
    x = Tensor(x, requires_grad=True, dtype="float64")
    y = operation(x, *rest, **options)
    g = Generator(1).normal(y.shape, dtype="float64").astype("float16")
    y.backward(Tensor(g, dtype="float64"))
    return y.numpy(), x.grad.numpy(), g


def assert_close(actual, expected, units=2.0):
    """Within so many units in the last place of float16, of the largest element."""
    assert actual.dtype == np.float16
    scale = max(float(np.abs(expected).max()), 2.0**-14)
    np.testing.assert_allclose(actual.astype("float64"), expected, atol=units * 2.0**-11 * scale, rtol=0)


@pytest.mark.parametrize("std", [1.0, 1000.0], ids=["moderate", "large"])
@pytest.mark.parametrize(
    "operation",
    [
        lambda x: F.layer_norm(x, 50),
        lambda x: F.rms_norm(x, 50),
        lambda x: F.softmax(x),
        lambda x: F.log_softmax(x),
        lambda x: F.logsumexp(x, axis=-1),
        lambda x: F.cross_entropy(x, np.arange(8) % 50),
        lambda x: F.gelu(x, "tanh"),
        lambda x: F.gelu(x),
        lambda x: x.mean(axis=0),
    ],
    ids=["layer_norm", "rms_norm", "softmax", "log_softmax", "logsumexp", "cross_entropy", "gelu tanh", "gelu", "mean"],
)
def test_values_and_gradients_are_those_of_exact_arithmetic_rounded(operation, std):
    x = drawn(8, 50, std=std)
    expected, expected_dx, g = exact(operation, x.get() if hasattr(x, "get") else x)
    half = leaf(x.get() if hasattr(x, "get") else x)
    y = operation(half)
    y.backward(Tensor(g))
    assert_close(y.numpy(), expected)
    assert_close(half.grad.numpy(), expected_dx)


def test_a_long_sum_keeps_counting():
    ones = leaf(np.ones((5000, 3)))
    assert ones.sum(axis=0).tolist() == [5000.0] * 3  # added one by one in float16 it stops at 2048
    assert F.cumsum(ones, axis=0).numpy()[-1].tolist() == [5000.0] * 3
    assert ones.mean().item() == 1.0


def test_gradients_of_what_is_used_often_keep_counting():
    rows = Tensor(np.ones((4096, 2), "float16"))
    weight, bias = leaf(np.ones((3, 2))), leaf(np.zeros(3))
    F.linear(rows, weight, bias).backward(np.ones((4096, 3), "float16"))
    assert bias.grad.tolist() == [4096.0] * 3 and weight.grad.tolist() == [[4096.0] * 2] * 3
    added = leaf(np.zeros(2))
    (rows + added).backward(np.ones((4096, 2), "float16"))  # undoing a broadcast
    assert added.grad.tolist() == [4096.0] * 2
    table = leaf(np.zeros((3, 2)))
    F.embedding(np.full(4096, 1), table).backward(np.ones((4096, 2), "float16"))
    assert table.grad.tolist() == [[0, 0], [4096.0, 4096.0], [0, 0]]
    x = leaf(np.zeros(3))
    x[np.full(4096, 1)].backward(np.ones(4096, "float16"))
    assert x.grad.tolist() == [0, 4096.0, 0]
    hidden = leaf(np.zeros((1, 1)))
    F.take_along_axis(hidden, np.zeros((1, 4096), "int64"), 1).backward(np.ones((1, 4096), "float16"))
    assert hidden.grad.tolist() == [[4096.0]]
    state, w_ih, w_hh = Tensor(np.zeros((512, 1), "float16")), leaf([[0.0]]), leaf([[0.0]])
    b = leaf([0.0])
    F.rnn(Tensor(np.zeros((512, 8, 1), "float16")), state, w_ih, w_hh, b)[0].backward(np.ones((512, 8, 1), "float16"))
    assert b.grad.tolist() == [4096.0]


def test_a_vocabulary_larger_than_float16_counts():
    V = 70_000  # the sum of as many ones is infinite in float16
    logits = leaf(np.zeros((2, V)))
    assert F.cross_entropy(logits, np.array([0, V - 1])).item() == pytest.approx(math.log(V), rel=1e-3)
    weights = F.softmax(logits).numpy()
    np.testing.assert_allclose(weights.astype("float64"), 1 / V, rtol=1e-2)


def test_the_mean_of_many_losses_does_not_overflow_on_the_way():
    logits = leaf(np.stack([np.zeros(20_000), np.full(20_000, 8.0)], axis=1))
    loss = F.cross_entropy(logits, np.zeros(20_000, "int64"))  # 8 each: the sum is 160,000
    assert loss.item() == 8.0 and loss.dtype == np.float16


def test_attention_over_many_keys():
    T = 3000
    query, key = leaf(np.zeros((1, 1, 1, 4))), leaf(np.zeros((1, 1, T, 4)))
    value = leaf(np.ones((1, 1, T, 1)))
    y = F.scaled_dot_product_attention(query, key, value)
    assert y.item() == pytest.approx(1.0, abs=2e-3)
    y.backward(np.ones(y.shape, "float16"))
    np.testing.assert_allclose(value.grad.numpy().astype("float64"), 1 / T, rtol=1e-2)


def test_a_loss_is_in_float32():
    from minilm.models import GPT, LSTMLM, GPTConfig, LSTMConfig

    ids = np.arange(256).reshape(64, 4) % 5
    batch = {"input_ids": ids, "labels": (ids + 1) % 5}
    with using_generator(Generator(0)):
        models = [GPT(GPTConfig(5, 4, 1, 1, 4)), LSTMLM(LSTMConfig(5, 4, 4, 1))]
    for model in models:
        loss = model.astype("float16").loss(batch)
        assert loss.dtype == np.float32
        loss.backward(np.float32(2.0**16))  # not a number of float16
        assert all(p.grad.dtype == np.float16 and np.isfinite(p.grad.numpy()).all() for p in model.parameters())


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_samples_keep_their_dtype_with_every_form_of_vjp(name):
    for sample in SAMPLES[name]:
        inputs = sample.draw(Generator(0), "float16")
        output = sample.fn(*inputs)
        outputs = output if isinstance(output, tuple) else (output,)
        assert all(y.dtype == np.float16 for y in outputs)
        for y in outputs:
            if y.requires_grad and y.size:
                y.backward(Tensor(np.ones(y.shape, "float16")), retain_graph=True)
    assert name in OPERATIONS

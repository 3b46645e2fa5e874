"""Activation checkpointing: the same numbers as without, bit for bit, for less memory."""

import tracemalloc

import numpy as np
import pytest

import minilm.functional as F
from minilm import Tensor, is_grad_enabled, no_grad
from minilm.random import Generator, current_generator, using_generator
from tests.functional import twins

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def leaves(dtype, *shapes):
    tensors = [Tensor(twins.normals(shape, seed).astype(dtype)) for seed, shape in enumerate(shapes)]
    for tensor in tensors:
        tensor.requires_grad = True
    return tensors


def outcome(compute, dtype, *shapes):
    """Outputs and gradients of compute(*leaves), a Tensor or a tuple of them, as bytes; and the generator after it."""
    tensors = leaves(dtype, *shapes)
    with using_generator(Generator(11)) as generator:
        outputs = compute(*tensors)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum((y * twins.normals(y.shape, i).astype(dtype)).sum() for i, y in enumerate(outputs))
        loss.backward()
    arrays = [*(y.numpy() for y in outputs), *(t.grad.numpy() for t in tensors)]
    return [a.tobytes() for a in arrays], [a.shape for a in arrays], generator.state_dict()


def layer(x, w):
    """Products, norms, dropout (twice), and an input that is used twice."""
    h = F.dropout(F.gelu(F.linear(x, w)), 0.4, True)
    return F.layer_norm(x + F.dropout(h, 0.2, True), x.shape[-1])


@DTYPES
def test_equals_plain_bit_for_bit_dropout_included(dtype):
    shapes = ((5, 4), (4, 4))
    assert outcome(lambda x, w: F.checkpoint(layer, x, w), dtype, *shapes) == outcome(layer, dtype, *shapes)


@DTYPES
def test_parameters_that_the_function_closes_over_get_their_gradients(dtype):
    shapes = ((5, 4), (4, 4))
    closed = outcome(lambda x, w: F.checkpoint(lambda x: layer(x, w), x, parameters=[w]), dtype, *shapes)
    assert closed == outcome(layer, dtype, *shapes)


@DTYPES
def test_several_checkpoints_one_after_the_other(dtype):
    """Each must find the generator where its own forward found it, though backward goes the other way round."""

    def chain(step):
        def compute(x, *weights):
            for w in weights:
                x = step(x, w)
            return x

        return compute

    shapes = ((5, 4), (4, 4), (4, 4), (4, 4))
    checked = outcome(chain(lambda x, w: F.checkpoint(layer, x, w)), dtype, *shapes)
    assert checked == outcome(chain(layer), dtype, *shapes)


@DTYPES
def test_several_outputs(dtype):
    def two(x, w):
        h = F.dropout(x @ w, 0.5, True)
        return h.tanh(), (h * x).sum(axis=0)

    shapes = ((5, 4), (4, 4))
    assert outcome(lambda x, w: F.checkpoint(two, x, w), dtype, *shapes) == outcome(two, dtype, *shapes)


def test_an_output_that_the_loss_does_not_use():
    def first(compute):
        return lambda x, w: compute(x, w)[1]

    def two(x, w):
        return (x @ w).exp(), x * 2 + w.sum()

    checked = outcome(first(lambda x, w: F.checkpoint(two, x, w)), "float64", (3, 4), (4, 4))
    assert checked == outcome(first(two), "float64", (3, 4), (4, 4))


@DTYPES
def test_nested(dtype):
    def nested(x, w):
        return layer(F.checkpoint(layer, layer(x, w), w), w)

    def plain(x, w):
        return layer(layer(layer(x, w), w), w)

    shapes = ((5, 4), (4, 4))
    inner = outcome(nested, dtype, *shapes)
    assert outcome(lambda x, w: F.checkpoint(nested, x, w), dtype, *shapes) == inner
    values, shapes_, generator = outcome(plain, dtype, *shapes)
    assert inner[0][0] == values[0] and inner[2] == generator
    for got, expected in zip(inner[0], values, strict=True):  # the gradient of w is summed in another order
        np.testing.assert_allclose(np.frombuffer(got, dtype), np.frombuffer(expected, dtype), rtol=2e-4, atol=1e-6)


def test_a_constant_input_and_a_frozen_parameter_get_no_gradient():
    x, w, frozen = leaves("float64", (3, 4), (4, 4), (4, 4))
    mask = Tensor(np.ones((3, 4)))
    frozen.requires_grad = False
    F.checkpoint(lambda x, m: (x @ w @ frozen) * m, x, mask, parameters=[w, frozen]).sum().backward()
    assert x.grad is not None and w.grad is not None
    assert mask.grad is None and frozen.grad is None


def test_an_input_without_influence_gets_zeros():
    x, unused = leaves("float64", (3,), (2,))
    F.checkpoint(lambda x, unused: x * 2, x, unused).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2)
    np.testing.assert_array_equal(unused.grad.numpy(), 0)


def test_the_same_tensor_twice_gets_the_sum():
    (x,) = leaves("float64", (3,))
    F.checkpoint(lambda a, b: a * b, x, x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy(), rtol=1e-15)


def test_a_parameter_that_is_named_twice_counts_once():
    """The parameters of two layers that share one, put together by hand."""
    x, w = leaves("float64", (3,), (3,))
    F.checkpoint(lambda x: x * w, x, parameters=[w, w]).sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), x.numpy())


def test_a_parameter_that_was_not_named_is_an_error_and_not_a_missing_gradient():
    x, w = leaves("float64", (3,), (3,))
    y = F.checkpoint(lambda x: x * w, x).sum()
    with pytest.raises(RuntimeError, match=r"checkpoint: .*shape \(3,\).*parameters="):
        y.backward()


def test_a_computed_tensor_among_the_parameters_is_an_error():
    """Only as an input can the gradient flow on to what it was computed from."""
    x, w = leaves("float64", (3,), (3,))
    computed = w * 2
    with pytest.raises(ValueError, match=r"checkpoint: .*pass it as an input"):
        F.checkpoint(lambda x: x * computed, x, parameters=[computed])


def test_the_forward_does_not_record_and_backward_computes_once_more():
    x, w = leaves("float64", (3, 4), (4, 4))
    recording = []

    def step(x):
        recording.append(is_grad_enabled())
        return x @ w

    y = F.checkpoint(step, x, parameters=[w]).sum()
    assert recording == [False]
    y.backward()
    assert recording == [False, True]


def test_under_no_grad_nothing_is_recorded():
    x, w = leaves("float32", (3, 4), (4, 4))
    with no_grad():
        y = F.checkpoint(layer, x, w)
    assert not y.requires_grad


def test_backward_leaves_the_current_generator_where_it_is():
    x, w = leaves("float32", (3, 4), (4, 4))
    with using_generator(Generator(1)):
        y = F.checkpoint(layer, x, w).sum()
        before = current_generator().state_dict()
        y.backward()
        assert current_generator().state_dict() == before


def kept_bytes(step):
    """What is held between forward and backward, for four steps of many activations each."""
    x, w = leaves("float32", (256, 64), (64, 64))
    tracemalloc.start()
    try:
        for _ in range(4):
            x = step(x, w)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_only_the_inputs_of_a_block_are_kept():
    """layer() keeps about eight arrays of the size of x for its backward; a checkpoint keeps its input, one."""
    plain, checked = kept_bytes(layer), kept_bytes(lambda x, w: F.checkpoint(layer, x, w))
    one = 256 * 64 * 4
    assert 4 * one <= checked <= 5 * one
    assert plain > 4 * checked

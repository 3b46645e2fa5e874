"""SwiGLU in Triton: two arrays, two halves of one, broadcast or with gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minilm import Tensor
from minilm.functional import swiglu as swiglu_operation
from minilm.kernels.host import counting
from minilm.kernels.swiglu.triton import swiglu
from minilm.tensor import OPERATIONS
from tests.kernels.guards import check_guards, guarded
from tests.kernels.rungs import NO_SHRINKING, assert_equals_textbook, assert_near, dtypes, layouts, seeds


@settings(max_examples=25, phases=NO_SHRINKING)
@given(st.sampled_from([(), (1,), (5,), (3, 17), (2, 1, 33), (2, 3, 16)]), dtypes, layouts, seeds)
@example((3, 17), "float16", "gaps", 0)
def test_swiglu_equals_the_textbook(shape, dtype, layout, seed):
    rng = np.random.default_rng(seed)
    arrays = [3 * rng.normal(size=shape), rng.normal(size=shape)]
    assert_equals_textbook("swiglu", swiglu, lambda f, *a: f(*a), arrays, dtype, layout, seed)


@pytest.mark.parametrize(
    "shape_gate, shape_value", [((2, 1), (3,)), ((4, 3), (1,)), ((3,), (2, 1, 3)), ((), (2, 3))]
)
def test_shapes_broadcast_and_the_engine_sums_the_gradients_back(shape_gate, shape_value, monkeypatch):
    from minilm import backend

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype("float32") for s in (shape_gate, shape_value)]

    def run():
        inputs = [Tensor(a, requires_grad=True) for a in arrays]
        y = swiglu_operation(*inputs)
        y.backward(np.ones(y.shape, "float32") * 0.5)
        return [y.numpy(), *(x.grad.numpy() for x in inputs)]

    textbook = run()
    monkeypatch.setitem(backend._kernels, "swiglu", swiglu)
    for ours, theirs in zip(run(), textbook, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, strict=True)


def test_the_halves_of_a_projection_are_read_where_they_lie():
    x = guarded(np.random.default_rng(0).normal(size=(3, 4, 34)).astype("float32"))
    gate, value = x[..., :17], x[..., 17:]
    with counting() as counts:
        y, vjp = swiglu(gate, value)
    assert (counts.loaded, counts.stored) == (x.nbytes, x.nbytes // 2)
    exact, exact_vjp = OPERATIONS["swiglu"].body(gate.astype("float64"), value.astype("float64"))
    assert_near(y, exact, y, 0.5)
    for ours, theirs in zip(vjp(y, (True, True)), exact_vjp, strict=True):
        assert_near(ours, theirs(y.astype("float64")), ours, 0.5)
    check_guards()


def test_large_gates_neither_overflow_nor_vanish():
    gate = np.array([-1e4, -100, 0, 100, 1e4], dtype="float32")
    y, vjp = swiglu(gate, np.ones_like(gate))
    np.testing.assert_allclose(y, [0, 0, 0, 100, 1e4], atol=1e-30)
    dgate, dvalue = vjp(np.ones_like(gate), (True, True))
    np.testing.assert_allclose(dgate, [0, 0, 0.5, 1, 1], atol=1e-30)
    np.testing.assert_allclose(dvalue, y)


def test_nothing_without_a_launch():
    x = np.ones((0, 3), dtype="float32")
    y, vjp = swiglu(x, x)
    assert y.shape == vjp(y, (True, False))[0].shape == (0, 3)


def test_what_is_not_covered_is_said():
    with pytest.raises(NotImplementedError, match="float64: convert it"):
        swiglu(np.ones(3), np.ones(3))

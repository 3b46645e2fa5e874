"""The threaded SwiGLU equals the textbook, whatever its shapes broadcast to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minilm import Tensor
from minilm.functional import swiglu
from minilm.kernels.swiglu import threaded
from minilm.tensor import OPERATIONS
from tests.kernels.against_textbook import assert_equals_textbook, cut, layouts, normal

EPS = {"float64": 1e-14, "float32": 2e-6}


@given(
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7),
    layout=st.tuples(layouts, layouts, layouts),
    block=st.sampled_from([1, 20, 1 << 18]),
    threads=st.integers(1, 3),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 999),
)
def test_it_is_the_textbooks(shape, layout, block, threads, dtype, seed):
    rng = np.random.default_rng(seed)
    gate, value, g = (3 * normal(rng, shape, dtype, kind) for kind in layout)
    with cut(threads), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", block)
        assert_equals_textbook(
            "swiglu", threaded.swiglu, (np.asarray(gate), np.asarray(value)), np.asarray(g), EPS[dtype]
        )


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4), st.integers(0, 99))
def test_what_is_broadcast_gets_its_gradient_summed(shapes, seed):
    rng = np.random.default_rng(seed)
    gate, value = (Tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes.input_shapes)
    g = rng.normal(size=shapes.result_shape)
    with cut(2):
        swiglu(gate, value).backward(g)
    y, (dgate, dvalue) = OPERATIONS["swiglu"].body(gate.data, value.data)
    for tensor, d in ((gate, dgate(g)), (value, dvalue(g))):
        d = np.broadcast_to(d, shapes.result_shape)
        ones = tuple(i for i, n in enumerate(tensor.shape) if n == 1)
        summed = d.sum(axis=tuple(range(d.ndim - tensor.ndim))).sum(axis=ones, keepdims=True)
        np.testing.assert_allclose(tensor.grad.data, summed, rtol=1e-12, atol=1e-12)


def test_the_other_side_may_be_a_number():
    gate = np.array([-1.0, 2.0], dtype="float32")
    y, vjp = threaded.swiglu(gate, 3.0)
    expected, (dgate, _) = OPERATIONS["swiglu"].body(gate, 3.0)
    assert y.dtype == "float32"
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_allclose(vjp(np.ones(2, "float32"), (True, False))[0], dgate(np.ones(2)), rtol=1e-6)


@pytest.mark.parametrize("dtype, bound", [("float64", 2e-15), ("float32", 1e-6)])
def test_a_gate_that_is_nearly_shut_keeps_its_digits_and_a_shut_one_is_zero(dtype, bound):
    gate = np.array([-1e4, -50.0, -20.0, 50.0, 1e4], dtype=dtype)
    y, vjp = threaded.swiglu(gate, np.ones_like(gate))
    with np.errstate(over="ignore"):
        exact = gate.astype("float64") / (1 + np.exp(-gate.astype("float64")))
    np.testing.assert_allclose(y, exact, rtol=bound)
    np.testing.assert_allclose(vjp(np.ones_like(gate), (True, True))[0][[0, 4]], [0, 1])

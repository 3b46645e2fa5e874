"""SwiGLU in Triton: y = gate σ(gate) value, element by element.

The textbook form makes an array for every step: σ (itself of several), gate σ, and y. Here each number is read
once, all is done in registers, and y is written: 3 N C numbers of traffic. Backward, from gate and value again:

    dgate = g value σ (1 + gate (1 - σ)),   dvalue = g gate σ

5 N C numbers in one kernel: g, gate and value read, both gradients written (or the one that is needed).

gate and value may be the two halves of one projection: rows of C neighbours with a step between rows. Other
strides work as well, slower; where leading axes do not form one axis of rows, or a shape is broadcast, a copy
may be made first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from minilm.kernels.activation.triton import sigmoid
from minilm.kernels.host import cdiv, empty, launch, module_of, pointers, strides, tile
from minilm.kernels.operands import as_rows, check_dtypes, zeros
from minilm.kernels.static_report import StaticCase


@triton.jit
def swiglu_kernel(
    gate, value, y, N, C, stride_gn, stride_gc, stride_vn, stride_vc,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program computes silu(gate) value for a block of rows."""
    blocks_c = tl.cdiv(C, BLOCK_C)
    rows = (tl.program_id(0) // blocks_c) * BLOCK_N + tl.arange(0, BLOCK_N)
    c = (tl.program_id(0) % blocks_c) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    inside = (rows < N)[:, None] & (c < C)
    n = rows.to(tl.int64)[:, None]
    gate_tile = tl.load(gate + n * stride_gn + c * stride_gc, mask=inside, other=0.0).to(tl.float32)
    value_tile = tl.load(value + n * stride_vn + c * stride_vc, mask=inside, other=0.0).to(tl.float32)
    y_tile = gate_tile * sigmoid(gate_tile) * value_tile
    tl.store(y + n * C + c, y_tile.to(y.dtype.element_ty), mask=inside)


@triton.jit
def swiglu_backward_kernel(
    g, gate, value, dgate, dvalue, N, C, stride_on, stride_oc, stride_gn, stride_gc, stride_vn, stride_vc,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program computes dgate and dvalue for a block of rows, from gate and value again."""
    blocks_c = tl.cdiv(C, BLOCK_C)
    rows = (tl.program_id(0) // blocks_c) * BLOCK_N + tl.arange(0, BLOCK_N)
    c = (tl.program_id(0) % blocks_c) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    inside = (rows < N)[:, None] & (c < C)
    n = rows.to(tl.int64)[:, None]
    g_tile = tl.load(g + n * stride_on + c * stride_oc, mask=inside, other=0.0).to(tl.float32)
    gate_tile = tl.load(gate + n * stride_gn + c * stride_gc, mask=inside, other=0.0).to(tl.float32)
    s = sigmoid(gate_tile)
    if dgate is not None:
        value_tile = tl.load(value + n * stride_vn + c * stride_vc, mask=inside, other=0.0).to(tl.float32)
        dgate_tile = g_tile * value_tile * (s * (1 + gate_tile * (1 - s)))
        tl.store(dgate + n * C + c, dgate_tile.to(dgate.dtype.element_ty), mask=inside)
    if dvalue is not None:
        tl.store(dvalue + n * C + c, (g_tile * gate_tile * s).to(dvalue.dtype.element_ty), mask=inside)


def swiglu(gate: Any, value: Any) -> tuple[Any, Any]:
    """minilm.functional.swiglu: the output and the joint vjp of gate and value, in the shape of the output."""
    arrays = [x for x in (gate, value) if hasattr(x, "ndim")]  # the other may be a number
    m, dtype = module_of(arrays[0]), arrays[0].dtype
    gate, value = m.broadcast_arrays(*(m.asarray(x, dtype=dtype) for x in (gate, value)))
    check_dtypes("swiglu", gate, value)
    shape = gate.shape
    gate, value = (as_rows(x if x.ndim else x.reshape(1)) for x in (gate, value))
    N, C = gate.shape
    y = empty((N, C), dtype, gate)
    meta = tile("swiglu") if y.size else {}
    grid = (cdiv(N, meta["BLOCK_N"]) * cdiv(C, meta["BLOCK_C"]),) if y.size else (0,)
    if y.size:
        launch(swiglu_kernel, grid, *pointers(gate, value, y), N, C, *strides(gate), *strides(value), **meta)

    def vjp(g: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        g = as_rows(g if g.ndim else g.reshape(1))
        dgate, dvalue = (empty((N, C), dtype, g) if need else None for need in needs)
        if g.size:
            steps = (*strides(g), *strides(gate), *strides(value))
            launch(swiglu_backward_kernel, grid, *pointers(g, gate, value, dgate, dvalue), N, C, *steps, **meta)
        return tuple(None if d is None else d.reshape(shape) for d in (dgate, dvalue))

    return y.reshape(shape), vjp


def static_cases() -> Iterator[StaticCase]:
    """The two halves of one projection, at the width of Llama 2 7B."""

    def run(dtype: str, N: int, C: int, backward: bool) -> None:
        x = zeros(dtype, N, 2 * C)
        _, vjp = swiglu(x[:, :C], x[:, C:])
        if backward:
            vjp(zeros(dtype, N, C), (True, True))

    shared = {"sizes": {"N": 4096, "C": 11008}, "counted": {"N": 8, "C": 1024}, "tensor_cores": False}
    yield StaticCase(
        name="SwiGLU forward",
        kernels=("swiglu_kernel",),
        run=lambda dtype, N, C: run(dtype, N, C, backward=False),
        flops=lambda N, C: 6 * N * C,
        bytes=lambda itemsize, N, C: itemsize * 3 * N * C,
        **shared,
    )
    yield StaticCase(
        name="SwiGLU backward",
        kernels=("swiglu_backward_kernel",),
        run=lambda dtype, N, C: run(dtype, N, C, backward=True),
        flops=lambda N, C: 12 * N * C,
        bytes=lambda itemsize, N, C: itemsize * 5 * N * C,
        **shared,
    )

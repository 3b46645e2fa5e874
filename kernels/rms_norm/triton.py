"""RMS norm in Triton: y = w s r with r = 1 / sqrt(mean(s²) + ε), for rows of C numbers; s = x, or s = x + residual.

As layer norm, without the mean. New here is the sum: a block of a Llama begins with s = x + residual, and s is
needed twice, by the norm and as the next residual. Apart, the sum reads 2 N C numbers and writes N C, and the
norm reads N C and writes N C; here s is normalized while it is in registers, and N C reads are saved. Backward,
with a = g w:

    ds = r (a - s r mean(a s r)) + g_s,   dw = sum over rows of g s r

g_s is the cotangent of s from further along the residual stream; the cotangents of x and of residual are both
ds.

Cost: forward reads N C (2 N C with a residual) and writes as many; backward reads s and g (and g_s) and writes
ds. r is kept, 4 bytes a row. The sum over rows is in two stages, as in layer norm.

What it does not do: rows longer than the table of tiles has a place for (8192), which would not fit into
registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import triton
import triton.language as tl

from minilm.kernels.column_sum.triton import column_sum
from minilm.kernels.host import cdiv, empty, empty_like, launch, pointers
from minilm.kernels.operands import as_rows, check_dtypes, contiguous, norm_width, row_tile, zeros
from minilm.kernels.static_report import StaticCase


@triton.jit
def rms_norm_kernel(x, residual, weight, y, s, rstd, N, C, eps, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """One program adds the residual, if any, to a block of rows and normalises them."""
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    c = tl.arange(0, BLOCK_C)
    inside = (rows < N)[:, None] & (c < C)[None, :]
    at = rows.to(tl.int64)[:, None] * C + c[None, :]
    s_tile = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if residual is not None:
        s_tile += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
        s_tile = s_tile.to(s.dtype.element_ty)  # as the backward will read it
        tl.store(s + at, s_tile, mask=inside)
        s_tile = s_tile.to(tl.float32)
    r = 1 / tl.sqrt(tl.sum(s_tile * s_tile, axis=1) / C + eps)
    y_tile = s_tile * r[:, None]
    if weight is not None:
        y_tile *= tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    tl.store(y + at, y_tile.to(y.dtype.element_ty), mask=inside)
    tl.store(rstd + rows, r, mask=rows < N)


@triton.jit
def rms_norm_backward_kernel(
    g, g_s, s, weight, rstd, ds, dweight_part, N, C, rows_per_part,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program computes dx of a block of rows, and its part of dweight."""
    part = tl.program_id(0)
    first = part * rows_per_part
    last = tl.minimum(first + rows_per_part, N)
    c = tl.arange(0, BLOCK_C)
    dweight = tl.zeros((BLOCK_R, BLOCK_C), dtype=tl.float32)
    if weight is not None:
        w = tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    for start in range(first, last, BLOCK_R):
        rows = start + tl.arange(0, BLOCK_R)
        inside = (rows < last)[:, None] & (c < C)[None, :]
        at = rows.to(tl.int64)[:, None] * C + c[None, :]
        r = tl.load(rstd + rows, mask=rows < last, other=0.0)
        s_hat = tl.load(s + at, mask=inside, other=0.0).to(tl.float32) * r[:, None]
        g_tile = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        if ds is not None:
            a = g_tile
            if weight is not None:
                a = g_tile * w
            mean_as = tl.sum(a * s_hat, axis=1) / C
            ds_tile = r[:, None] * (a - s_hat * mean_as[:, None])
            if g_s is not None:
                ds_tile += tl.load(g_s + at, mask=inside, other=0.0).to(tl.float32)
            tl.store(ds + at, ds_tile.to(ds.dtype.element_ty), mask=inside)
        if dweight_part is not None:
            dweight += g_tile * s_hat
    if dweight_part is not None:
        tl.store(dweight_part + part.to(tl.int64) * C + c, tl.sum(dweight, axis=0), mask=c < C)


def _forward(x: Any, residual: Any, weight: Any, eps: float | None) -> tuple[Any, Any, Any]:
    """y, s and r for rows x (N, C); s is x itself without a residual."""
    N, C = x.shape
    if eps is None:
        eps = 2.0**-7 if x.dtype.name == "uint16" else float(np.finfo(x.dtype).eps)  # uint16: bfloat16
    y, s, rstd = empty_like(x), x if residual is None else empty_like(x), empty((N,), "float32", x)
    if y.size:
        meta = row_tile("rms_norm", C)
        arrays = (x, residual, weight, y, None if residual is None else s, rstd)
        launch(rms_norm_kernel, (cdiv(N, meta["BLOCK_R"]),), *pointers(*arrays), N, C, float(eps), **meta)
    return y, s, rstd


def _backward(
    g: Any, g_s: Any, s: Any, weight: Any, rstd: Any, need_ds: bool, need_dweight: bool
) -> tuple[Any, Any]:
    """ds (N, C) and dweight (C,), each None where it is not needed."""
    N, C = s.shape
    meta = row_tile("rms_norm_backward", C)
    rows_per_part = max(meta.pop("ROWS_PER_PART"), cdiv(N, meta.pop("MAX_PARTS")))
    parts = cdiv(N, rows_per_part)
    ds = empty_like(s) if need_ds else None
    sums = empty((parts, C), "float32", s) if need_dweight else None
    if s.size:
        arrays = (contiguous(g), contiguous(g_s), s, weight, rstd, ds, sums)
        launch(rms_norm_backward_kernel, (parts,), *pointers(*arrays), N, C, rows_per_part, **meta)
    return ds, None if sums is None else column_sum(sums, s.dtype)


def rms_norm(x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> tuple[Any, Any]:
    """minilm.functional.rms_norm: the output and the joint vjp of x and weight."""
    check_dtypes("rms_norm", x, weight)
    C = norm_width(x, normalized_shape, weight)
    x_shape, weight_shape = x.shape, None if weight is None else weight.shape
    weight = contiguous(weight)
    y, rows, rstd = _forward(contiguous(as_rows(x, C)), None, weight, eps)

    def vjp(g: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        dx, dweight = _backward(g, None, rows, weight, rstd, *needs)
        return (
            None if dx is None else dx.reshape(x_shape),
            None if dweight is None else dweight.reshape(weight_shape),
        )

    return y.reshape(x_shape), vjp


def add_rms_norm(x: Any, residual: Any, weight: Any, eps: float | None = None) -> tuple[tuple[Any, Any], Any]:
    """minilm.functional.add_rms_norm: the outputs (y, s) and the joint vjp of x, residual and weight."""
    check_dtypes("add_rms_norm", x, residual, weight)
    if x.shape != residual.shape:
        raise ValueError(f"x {x.shape} and residual {residual.shape} must have one shape")
    shape, weight_shape = x.shape, weight.shape
    C = norm_width(x, weight_shape)
    weight = contiguous(weight)
    y, s, rstd = _forward(contiguous(as_rows(x, C)), contiguous(as_rows(residual, C)), weight, eps)

    def vjp(g: tuple[Any, Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        ds, dweight = _backward(*g, s, weight, rstd, needs[0] or needs[1], needs[2])
        ds = None if ds is None else ds.reshape(shape)
        dweight = None if dweight is None else dweight.reshape(weight_shape)
        return ds if needs[0] else None, ds if needs[1] else None, dweight

    return (y.reshape(shape), s.reshape(shape)), vjp


def static_cases() -> Iterator[StaticCase]:
    """RMS norm of a sum, at the widths of a small and of a large model."""

    def run(dtype: str, N: int, C: int, backward: bool) -> None:
        x, w = zeros(dtype, N, C), zeros(dtype, C)
        _, vjp = add_rms_norm(x, zeros(dtype, N, C), w, 1e-5)
        if backward:
            vjp((zeros(dtype, N, C), zeros(dtype, N, C)), (True, True, True))

    for C in (1024, 4096):
        shared = {"sizes": {"N": 8192, "C": C}, "counted": {"N": 32, "C": C}, "tensor_cores": False}
        yield StaticCase(
            name="RMS norm of a sum forward",
            kernels=("rms_norm_kernel",),
            run=lambda dtype, N, C: run(dtype, N, C, backward=False),
            flops=lambda N, C: 5 * N * C,
            bytes=lambda itemsize, N, C: itemsize * (4 * N * C + 1 * C) + 4 * N,
            **shared,
        )
        yield StaticCase(
            name="RMS norm of a sum backward",
            kernels=("rms_norm_backward_kernel",),
            run=lambda dtype, N, C: run(dtype, N, C, backward=True),
            flops=lambda N, C: 10 * N * C,
            bytes=lambda itemsize, N, C: itemsize * (4 * N * C + 1 * C) + 4 * N,
            **shared,
        )

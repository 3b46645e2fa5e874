"""Layer norm in Triton: y = w x̂ + b with x̂ = (x - μ) r, r = 1 / sqrt(mean((x - μ)²) + ε), for rows of C numbers.

A program holds BLOCK_R whole rows in registers: the mean, then the mean square of what is left of it, without
reading x twice. μ and r are kept, 8 bytes a row; x̂ is not, since the backward has them and x. With a = g w:

    dx = r (a - mean(a) - x̂ mean(a x̂)),   dw = sum over rows of g x̂,   db = sum over rows of g

The backward gives each program a part of the rows. It writes dx for each, and adds up g x̂ and g on the way,
each column in a register of its own; at the end it writes one row of sums, in float32. `column_sum` adds these
rows: two stages, no atomics, the same bits every time.

Cost: forward reads and writes N C numbers; backward reads x and g and writes dx, 3 N C, and a few rows of sums.
About 8 and 14 flops an element: memory traffic decides.

What it does not do: rows longer than the table of tiles has a place for (8192), which would not fit into
registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from minilm.kernels.column_sum.triton import column_sum
from minilm.kernels.host import cdiv, empty, empty_like, launch, pointers
from minilm.kernels.operands import as_rows, check_dtypes, contiguous, norm_width, row_tile, zeros
from minilm.kernels.static_report import StaticCase


@triton.jit
def layer_norm_kernel(x, weight, bias, y, mean, rstd, N, C, eps, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """One program normalises a block of rows, and keeps their mean and 1/standard deviation."""
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    c = tl.arange(0, BLOCK_C)
    inside = (rows < N)[:, None] & (c < C)[None, :]
    at = rows.to(tl.int64)[:, None] * C + c[None, :]
    x_tile = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    mu = tl.sum(x_tile, axis=1) / C
    centred = tl.where(inside, x_tile - mu[:, None], 0.0)  # beyond C it would be -μ
    r = 1 / tl.sqrt(tl.sum(centred * centred, axis=1) / C + eps)
    y_tile = centred * r[:, None]
    if weight is not None:
        y_tile *= tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    if bias is not None:
        y_tile += tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    tl.store(y + at, y_tile.to(y.dtype.element_ty), mask=inside)
    tl.store(mean + rows, mu, mask=rows < N)
    tl.store(rstd + rows, r, mask=rows < N)


@triton.jit
def layer_norm_backward_kernel(
    g, x, weight, mean, rstd, dx, dweight_part, dbias_part, N, C, rows_per_part,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program computes dx of a block of rows, and its part of dweight and dbias."""
    part = tl.program_id(0)
    first = part * rows_per_part
    last = tl.minimum(first + rows_per_part, N)
    c = tl.arange(0, BLOCK_C)
    dweight = tl.zeros((BLOCK_R, BLOCK_C), dtype=tl.float32)
    dbias = tl.zeros((BLOCK_R, BLOCK_C), dtype=tl.float32)
    if weight is not None:
        w = tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    for start in range(first, last, BLOCK_R):
        rows = start + tl.arange(0, BLOCK_R)
        inside = (rows < last)[:, None] & (c < C)[None, :]
        at = rows.to(tl.int64)[:, None] * C + c[None, :]
        mu = tl.load(mean + rows, mask=rows < last, other=0.0)
        r = tl.load(rstd + rows, mask=rows < last, other=0.0)
        x_tile = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        g_tile = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        x_hat = (x_tile - mu[:, None]) * r[:, None]  # beyond C not 0, but g is there
        if dx is not None:
            a = g_tile
            if weight is not None:
                a = g_tile * w
            mean_a = tl.sum(a, axis=1) / C
            mean_ax = tl.sum(a * x_hat, axis=1) / C
            dx_tile = r[:, None] * (a - mean_a[:, None] - x_hat * mean_ax[:, None])
            tl.store(dx + at, dx_tile.to(dx.dtype.element_ty), mask=inside)
        if dweight_part is not None:
            dweight += g_tile * x_hat
        if dbias_part is not None:
            dbias += g_tile
    at_c = part.to(tl.int64) * C + c
    if dweight_part is not None:
        tl.store(dweight_part + at_c, tl.sum(dweight, axis=0), mask=c < C)
    if dbias_part is not None:
        tl.store(dbias_part + at_c, tl.sum(dbias, axis=0), mask=c < C)


def layer_norm(
    x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> tuple[Any, Any]:
    """minilm.functional.layer_norm: the output and the joint vjp of x, weight and bias."""
    check_dtypes("layer_norm", x, weight, bias)
    C = norm_width(x, normalized_shape, weight, bias)
    rows, weight = contiguous(as_rows(x, C)), contiguous(weight)
    x_shape, parameter_shape, N = x.shape, x.shape[x.ndim - _axes(normalized_shape) :], rows.shape[0]
    y, mean, rstd = empty_like(rows), empty((N,), "float32", x), empty((N,), "float32", x)
    if y.size:
        meta = row_tile("layer_norm", C)
        arguments = (*pointers(rows, weight, contiguous(bias), y, mean, rstd), N, C, float(eps))
        launch(layer_norm_kernel, (cdiv(N, meta["BLOCK_R"]),), *arguments, **meta)

    def vjp(g: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        meta = row_tile("layer_norm_backward", C)
        rows_per_part = max(meta.pop("ROWS_PER_PART"), cdiv(N, meta.pop("MAX_PARTS")))
        parts = cdiv(N, rows_per_part)
        dx = empty_like(rows) if needs[0] else None
        sums = [empty((parts, C), "float32", rows) if need else None for need in needs[1:]]
        if rows.size:
            arrays = (contiguous(g), rows, weight, mean, rstd, dx, *sums)
            launch(layer_norm_backward_kernel, (parts,), *pointers(*arrays), N, C, rows_per_part, **meta)
        dx = None if dx is None else dx.reshape(x_shape)
        return dx, *(None if s is None else column_sum(s, rows.dtype).reshape(parameter_shape) for s in sums)

    return y.reshape(x_shape), vjp


def _axes(normalized_shape: Any) -> int:
    return 1 if isinstance(normalized_shape, int) else len(normalized_shape)


def static_cases() -> Iterator[StaticCase]:
    """Widths of a small and of a large model."""

    def run(dtype: str, N: int, C: int, backward: bool) -> None:
        _, vjp = layer_norm(zeros(dtype, N, C), C, zeros(dtype, C), zeros(dtype, C))
        if backward:
            vjp(zeros(dtype, N, C), (True, True, True))

    for C in (1024, 4096):
        shared = {"sizes": {"N": 8192, "C": C}, "counted": {"N": 32, "C": C}, "tensor_cores": False}
        yield StaticCase(
            name="layer norm forward",
            kernels=("layer_norm_kernel",),
            run=lambda dtype, N, C: run(dtype, N, C, backward=False),
            flops=lambda N, C: 8 * N * C,
            bytes=lambda itemsize, N, C: itemsize * (2 * N * C + 2 * C) + 8 * N,
            **shared,
        )
        yield StaticCase(
            name="layer norm backward",
            kernels=("layer_norm_backward_kernel",),
            run=lambda dtype, N, C: run(dtype, N, C, backward=True),
            flops=lambda N, C: 14 * N * C,
            bytes=lambda itemsize, N, C: itemsize * (3 * N * C + 2 * C) + 8 * N,
            **shared,
        )

"""Column sums in Triton: y[c] = sum_n x[n, c], for x (N, C).

New here: many programs must add into one result. Atomic additions would do it, in an order that differs from
run to run, and so with other roundings each time. Two stages fix the order:

    part[p, c] = sum_n x[n, c]           n the rows of part p: one program for each part and block of columns
    y[c]       = sum_p part[p, c]        the same kernel again, on P rows

Cost: N C elements read, 2 P C float32 written and read again (P parts, few), N C additions: all of it memory
traffic. What it does not do: sums along other axes, or of integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from minilm.kernels.host import cdiv, empty, launch, pointers, strides, tile
from minilm.kernels.operands import zeros
from minilm.kernels.static_report import StaticCase


@triton.jit
def column_sum_kernel(
    x, y, N, C, rows_per_part, stride_n, stride_c, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr
):
    """One program sums a block of columns over its share of the rows."""
    part = tl.program_id(1)
    columns = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    first = part * rows_per_part
    last = tl.minimum(first + rows_per_part, N)
    total = tl.zeros((BLOCK_N, BLOCK_C), dtype=tl.float32)  # one row of sums for each row of the tile
    for n in range(first, last, BLOCK_N):
        rows = n + tl.arange(0, BLOCK_N)
        inside = (rows < last)[:, None] & (columns < C)[None, :]
        at = rows.to(tl.int64)[:, None] * stride_n + columns[None, :] * stride_c
        total += tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    y_c = tl.sum(total, axis=0)
    tl.store(y + part.to(tl.int64) * C + columns, y_c.to(y.dtype.element_ty), mask=columns < C)


def column_sum(x: Any, dtype: Any = None) -> Any:
    """y (C,) in `dtype` (default: that of x), the sum over the rows of x (N, C), of any strides."""
    N, C = x.shape
    dtype = x.dtype if dtype is None else dtype
    y = empty((C,), dtype, x)
    if N == 0:
        y.fill(0)
        return y
    meta = tile("column_sum")
    rows_per_part = max(meta.pop("ROWS_PER_PART"), cdiv(N, meta.pop("MAX_PARTS")))
    parts = cdiv(N, rows_per_part)
    blocks = cdiv(C, meta["BLOCK_C"])
    if parts == 1:
        launch(column_sum_kernel, (blocks, 1), *pointers(x, y), N, C, N, *strides(x), **meta)
        return y
    part = empty((parts, C), "float32", x)
    launch(column_sum_kernel, (blocks, parts), *pointers(x, part), N, C, rows_per_part, *strides(x), **meta)
    launch(column_sum_kernel, (blocks, 1), *pointers(part, y), parts, C, parts, *strides(part), **meta)
    return y


def static_cases() -> Iterator[StaticCase]:
    """The bias gradient of a layer of 4096 channels."""
    yield StaticCase(
        name="column sum",
        kernels=("column_sum_kernel",),
        sizes={"N": 8192, "C": 4096},
        counted={"N": 2048, "C": 64},
        run=lambda dtype, N, C: column_sum(zeros(dtype, N, C)),
        flops=lambda N, C: N * C,
        bytes=lambda itemsize, N, C: itemsize * (N + 1) * C,
        tensor_cores=False,
    )

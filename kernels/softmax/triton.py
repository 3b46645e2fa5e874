"""Softmax in Triton: y_i = e^(x_i - top) / total over a row of n scores, and log y_i for log_softmax.

Two kernels each way. Rows that fit into registers are read once, some of them by one program:

    top = max_i x_i,   total = sum_i e^(x_i - top)

Longer rows are read block by block, and top is not known before the end. *Online*: whenever a block brings a
larger top, what was summed so far is scaled to it,

    total <- total e^(top - new) + sum over the block of e^(x_i - new),   top <- new

which after the last block is the same total. That is one pass for both numbers; a second pass writes y. It is
also the whole trick of flash attention. Backward, from y alone, with g its cotangent:

    softmax       dx_i = y_i (g_i - sum_j g_j y_j)
    log_softmax   dx_i = g_i - e^(y_i) sum_j g_j

Cost: forward reads and writes n numbers a row (long rows: reads 2 n), backward reads 2 n and writes n (long:
reads 4 n); a handful of flops for each: memory traffic decides. A row of -inf has no weights to give: top
counts as 0 and total as 1 there, and y is 0, as in the textbook form.

A softmax over another axis than the last takes steps of `inner` elements along a row; neighbouring rows are
neighbours in memory then, so one program takes many rows and goes along them online. Arrays with gaps or in
another order are copied first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from minilm.kernels.host import cdiv, empty_like, launch, pointers, tile
from minilm.kernels.operands import check_dtypes, contiguous, power_of_two, zeros
from minilm.kernels.static_report import StaticCase


@triton.jit
def row_starts(rows, n, inner):
    """Where each row begins: row r is number r % inner of the inner axis, in slice r // inner of the outer one."""
    return (rows // inner).to(tl.int64) * n * inner + rows % inner


@triton.jit
def softmax_kernel(x, y, N, n, inner, LOG: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr):
    """One program computes whole rows that fit in its block."""
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    i = tl.arange(0, BLOCK_N)
    at = row_starts(rows, n, inner)[:, None] + i.to(tl.int64)[None, :] * inner
    inside = (rows < N)[:, None] & (i < n)[None, :]
    x_tile = tl.load(x + at, mask=inside, other=float("-inf")).to(tl.float32)
    top = tl.max(x_tile, axis=1)
    top = tl.where(top == float("-inf"), 0.0, top)
    e = tl.exp(x_tile - top[:, None])
    total = tl.sum(e, axis=1)
    total = tl.where(total == 0, 1.0, total)
    if LOG:
        y_tile = x_tile - top[:, None] - tl.log(total)[:, None]
    else:
        y_tile = e / total[:, None]
    tl.store(y + at, y_tile.to(y.dtype.element_ty), mask=inside)


@triton.jit
def online_softmax_kernel(x, y, N, n, inner, LOG: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr):
    """One program goes along its rows twice: for their maximum and sum, then for the weights."""
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    first = row_starts(rows, n, inner)[:, None]
    top = tl.full((BLOCK_R,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_R,), dtype=tl.float32)
    for start in range(0, n, BLOCK_N):
        i = start + tl.arange(0, BLOCK_N)
        inside = (rows < N)[:, None] & (i < n)[None, :]
        x_tile = tl.load(x + first + i.to(tl.int64)[None, :] * inner, mask=inside, other=float("-inf")).to(
            tl.float32
        )
        new = tl.maximum(top, tl.max(x_tile, axis=1))
        shift = tl.where(new == float("-inf"), 0.0, new)
        total = total * tl.exp(top - shift) + tl.sum(tl.exp(x_tile - shift[:, None]), axis=1)
        top = new
    top = tl.where(top == float("-inf"), 0.0, top)
    total = tl.where(total == 0, 1.0, total)
    for start in range(0, n, BLOCK_N):
        i = start + tl.arange(0, BLOCK_N)
        inside = (rows < N)[:, None] & (i < n)[None, :]
        at = first + i.to(tl.int64)[None, :] * inner
        x_tile = tl.load(x + at, mask=inside, other=float("-inf")).to(tl.float32)
        if LOG:
            y_tile = x_tile - top[:, None] - tl.log(total)[:, None]
        else:
            y_tile = tl.exp(x_tile - top[:, None]) / total[:, None]
        tl.store(y + at, y_tile.to(y.dtype.element_ty), mask=inside)


@triton.jit
def softmax_backward_kernel(
    g, y, dx, N, n, inner, LOG: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr
):
    """One program computes dx of whole rows that fit in its block."""
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    i = tl.arange(0, BLOCK_N)
    at = row_starts(rows, n, inner)[:, None] + i.to(tl.int64)[None, :] * inner
    inside = (rows < N)[:, None] & (i < n)[None, :]
    g_tile = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
    y_tile = tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
    if LOG:
        dx_tile = g_tile - tl.exp(y_tile) * tl.sum(g_tile, axis=1)[:, None]
    else:
        dx_tile = y_tile * (g_tile - tl.sum(g_tile * y_tile, axis=1)[:, None])
    tl.store(dx + at, dx_tile.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def online_softmax_backward_kernel(
    g, y, dx, N, n, inner, LOG: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr
):
    """One program goes along its rows twice: for the weighted sum of g, then for dx."""
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    first = row_starts(rows, n, inner)[:, None]
    total = tl.zeros((BLOCK_R, BLOCK_N), dtype=tl.float32)
    for start in range(0, n, BLOCK_N):
        i = start + tl.arange(0, BLOCK_N)
        inside = (rows < N)[:, None] & (i < n)[None, :]
        at = first + i.to(tl.int64)[None, :] * inner
        g_tile = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        if LOG:
            total += g_tile
        else:
            total += g_tile * tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
    row_total = tl.sum(total, axis=1)[:, None]
    for start in range(0, n, BLOCK_N):
        i = start + tl.arange(0, BLOCK_N)
        inside = (rows < N)[:, None] & (i < n)[None, :]
        at = first + i.to(tl.int64)[None, :] * inner
        g_tile = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        y_tile = tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
        if LOG:
            dx_tile = g_tile - tl.exp(y_tile) * row_total
        else:
            dx_tile = y_tile * (g_tile - row_total)
        tl.store(dx + at, dx_tile.to(dx.dtype.element_ty), mask=inside)


def _run(kernels: tuple[Any, Any], arrays: tuple[Any, ...], axis: int, log: bool) -> None:
    """Launch the first kernel if a row fits into registers, else the second, over `axis` of C-ordered arrays."""
    shape = arrays[0].shape
    n, inner = shape[axis], math.prod(shape[axis + 1 :])
    N = math.prod(shape[:axis]) * inner
    if N * n == 0:
        return
    meta = tile("softmax", n=n) if inner == 1 else tile("softmax_inner")
    kernel = kernels["BLOCK_N" in meta]
    meta = {"BLOCK_N": power_of_two(n), **meta}
    launch(kernel, (cdiv(N, meta["BLOCK_R"]),), *pointers(*arrays), N, n, inner, LOG=log, **meta)


def _softmax(x: Any, axis: int, log: bool) -> tuple[Any, Any]:
    check_dtypes("log_softmax" if log else "softmax", x)
    if not -x.ndim <= axis < x.ndim:
        raise IndexError(f"x {x.shape} has no axis {axis}")
    axis %= x.ndim
    y = empty_like(x)
    _run((softmax_kernel, online_softmax_kernel), (contiguous(x), y), axis, log)

    def dx(g: Any) -> Any:
        d = empty_like(y)
        kernels = (softmax_backward_kernel, online_softmax_backward_kernel)
        _run(kernels, (contiguous(g), y, d), axis, log)
        return d

    return y, dx


def softmax(x: Any, axis: int = -1) -> tuple[Any, Any]:
    """minilm.functional.softmax: the output and the vjp of x."""
    return _softmax(x, axis, log=False)


def log_softmax(x: Any, axis: int = -1) -> tuple[Any, Any]:
    """minilm.functional.log_softmax: the output and the vjp of x."""
    return _softmax(x, axis, log=True)


def static_cases() -> Iterator[StaticCase]:
    """Rows of 1024 scores, which fit into registers, and of 50,257, which do not."""

    def run(dtype: str, N: int, n: int, backward: bool) -> None:
        y, dx = softmax(zeros(dtype, N, n))
        if backward:
            dx(zeros(dtype, N, n))

    for n, prefix in ((1024, ""), (50257, "online_")):
        shared = {"sizes": {"N": 8192, "n": n}, "counted": {"N": 2, "n": n}, "tensor_cores": False}
        yield StaticCase(
            name="softmax forward",
            kernels=(f"{prefix}softmax_kernel",),
            run=lambda dtype, N, n: run(dtype, N, n, backward=False),
            flops=lambda N, n: 5 * N * n,  # maximum, difference, exponential, sum, division
            bytes=lambda itemsize, N, n: itemsize * 2 * N * n,
            **shared,
        )
        yield StaticCase(
            name="softmax backward",
            kernels=(f"{prefix}softmax_backward_kernel",),
            run=lambda dtype, N, n: run(dtype, N, n, backward=True),
            flops=lambda N, n: 4 * N * n,
            bytes=lambda itemsize, N, n: itemsize * 3 * N * n,
            **shared,
        )

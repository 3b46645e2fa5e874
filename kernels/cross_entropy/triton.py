"""Rung 2: the tiles of `blocked` as two Triton kernels. New here: many rows at the same time, one program for each.

Forward: one program for each row. It walks over the row in blocks of BLOCK_V classes with top and total in
registers, and writes three numbers:

    loss = log total + (top - x_t) - ε mean_j(x_j - x_t),    top = max_j x_j,    total = sum_j e^(x_j - top)

Backward: one program for each row and block of classes, all independent of each other. It computes p again from the
logits and writes the finished gradient, cotangent included, into a buffer of its own (the logits stay as they are:
another operation may need them):

    p = e^(x - top) / total,    q = (1 - ε) onehot(t) + ε / V,    dx = weight (p - q)

The weight is read from memory by the kernel (g of the row, or the one g of a sum or mean), so the host never waits to
learn it. A row that is ignored costs no read at all: forward its loop has no turn, backward its loads are masked.

Cost, for N rows and logits of b bytes: forward N V b bytes (the textbook body: 8 N V b), backward 2 N V b. About 4
and 5 operations for each logit: both kernels wait for memory. Rows of 50,257 logits begin anywhere, and each logit is
an instruction of its own (LDG.E); with rows of 50,304, a multiple of 16, one instruction fetches 16 bytes
(LDG.E.128): the reason to pad a vocabulary, with logits that no target names.

What it does not do: float64 (minilm.use_backend("numpy") or ("cupy") does), and the projection that makes the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import triton
import triton.language as tl

from minilm.kernels.cross_entropy.blocked import check_target
from minilm.kernels.host import cdiv, empty, launch, module_of, pointers, strides, tile
from minilm.kernels.operands import check_dtypes, contiguous
from minilm.kernels.static_report import StaticCase


@triton.jit
def cross_entropy_forward_kernel(
    x_ptr,  # (N, V), rows stride_n apart
    right_ptr,  # (N,), the class of each row; -1: ignored
    loss_ptr,  # (N,) float32, like the two below
    top_ptr,
    total_ptr,
    stride_n,
    V,
    label_smoothing,
    SMOOTH: tl.constexpr,  # is label_smoothing other than 0?
    BLOCK_V: tl.constexpr,
):
    """The loss of one row, and its top and total. Grid (N,)."""
    row = tl.program_id(0).to(tl.int64)  # row * stride_n may pass 2^31
    x_ptr += row * stride_n
    right = tl.load(right_ptr + row)
    counts = right >= 0
    x_target = tl.load(x_ptr + right, mask=counts, other=0.0).to(tl.float32)
    reference = tl.where(x_target == float("-inf"), 0.0, x_target)

    row_top = tl.full((), float("-inf"), tl.float32)
    row_total = tl.full((), 0.0, tl.float32)
    distance = tl.full((), 0.0, tl.float32)
    stop = tl.where(counts, V, 0)
    for start in range(0, stop, BLOCK_V):
        column = start + tl.arange(0, BLOCK_V)
        x = tl.load(x_ptr + column, mask=column < V, other=float("-inf")).to(tl.float32)  # e^-inf adds nothing
        new_top = tl.maximum(row_top, tl.max(x, 0))
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)  # so far only -inf: -inf - -inf would be NaN
        row_total = row_total * tl.exp(row_top - shift) + tl.sum(tl.exp(x - shift), 0)
        row_top = new_top
        if SMOOTH:
            distance += tl.sum(tl.where(column < V, x - reference, 0.0), 0)

    top = tl.where(row_top == float("-inf"), 0.0, row_top)
    total = tl.where(row_total == 0, 1.0, row_total)  # a row of -inf: p is 0 there, as in softmax
    loss = tl.log(total) + (top - x_target)
    if SMOOTH:
        loss -= label_smoothing * (distance / V)
    tl.store(loss_ptr + row, tl.where(counts, loss, 0.0))
    tl.store(top_ptr + row, top)
    tl.store(total_ptr + row, total)


@triton.jit
def cross_entropy_backward_kernel(
    x_ptr,  # (N, V), rows stride_n apart
    right_ptr,  # (N,)
    top_ptr,  # (N,)
    total_ptr,  # (N,)
    g_ptr,  # (N,), stride_g apart: 0 where all rows share one cotangent
    d_ptr,  # (N, V), the gradient
    stride_n,
    stride_g,
    V,
    label_smoothing,
    scale,  # 1 / n for a mean
    BLOCK_V: tl.constexpr,
):
    """The gradient of BLOCK_V logits of one row. Grid (N, blocks of V)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    right = tl.load(right_ptr + row)
    counts = right >= 0
    stop = tl.where(counts, V, 0)
    x = tl.load(x_ptr + row * stride_n + column, mask=column < stop, other=float("-inf")).to(tl.float32)
    p = tl.exp(x - tl.load(top_ptr + row)) / tl.load(total_ptr + row)
    q = tl.where(column == right, 1 - label_smoothing, 0.0) + label_smoothing / V
    weight = tl.load(g_ptr + row * stride_g).to(tl.float32) * scale
    d = tl.where(counts, weight * (p - q), 0.0)
    tl.store(d_ptr + row * V + column, d.to(d_ptr.dtype.element_ty), mask=column < V)


def cross_entropy(
    logits: Any,
    target: Any,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Any, Callable[[Any], Any]]:
    """The loss and its vjp; arguments and errors as minilm.functional.cross_entropy.

    The target is checked on the host; one that lives on the device is copied there for it, which waits.
    bfloat16 logits (bits in uint16) give a float32 loss.

    Raises:
        NotImplementedError: for logits that are neither float32 nor float16 (nor bfloat16).
    """
    label_smoothing = float(label_smoothing)
    classes, n = check_target(logits.shape, target, ignore_index, label_smoothing, reduction)
    check_dtypes("cross_entropy", logits)
    shape, dtype, N, V = logits.shape, logits.dtype, classes.size, logits.shape[-1]
    x = logits.reshape(N, V)
    if V > 1 and strides(x)[1] != 1:  # the kernels take neighbouring classes side by side
        x = contiguous(x)
    right = module_of(logits).asarray(classes)
    loss, top, total = (empty(N, np.float32, like=logits) for _ in range(3))
    launch(
        cross_entropy_forward_kernel,
        N,
        *pointers(x, right, loss, top, total),
        strides(x)[0],
        V,
        label_smoothing,
        SMOOTH=label_smoothing != 0,
        **tile("cross_entropy_forward", V=V),
    )
    scale = 1 / n if reduction == "mean" else 1.0

    def dx(g: Any) -> Any:
        g = g.reshape(-1)
        d = empty((N, V), dtype, like=x)
        sizes = tile("cross_entropy_backward", V=V)
        launch(
            cross_entropy_backward_kernel,
            (N, cdiv(V, sizes["BLOCK_V"])),
            *pointers(x, right, top, total, g, d),
            strides(x)[0],
            strides(g)[0] if reduction == "none" else 0,
            V,
            label_smoothing,
            scale,
            **sizes,
        )
        return d.reshape(shape)

    returned = np.float32 if dtype.name == "uint16" else dtype
    if reduction == "none":
        return loss.astype(returned, copy=False).reshape(shape[:-1]), dx
    return (loss.sum() / (n if reduction == "mean" else 1)).astype(returned), dx


def static_cases() -> Iterator[StaticCase]:
    """Both kernels at GPT-2's vocabulary, and at that vocabulary padded to a multiple of 64."""

    def run(dtype: str, N: int, V: int, backward: bool) -> None:
        logits = np.zeros((N, V), dtype="uint16" if dtype == "bfloat16" else dtype)
        with np.errstate(all="ignore"):  # under a dry run the losses that are summed are what the memory held
            loss, dx = cross_entropy(logits, np.zeros(N, dtype="int64"))
        if backward:
            dx(np.ones((), dtype=loss.dtype))

    for V in (50257, 50304):
        yield StaticCase(
            name="cross-entropy forward",
            kernels=("cross_entropy_forward_kernel",),
            sizes={"N": 8192, "V": V},
            counted={"N": 2, "V": V},
            run=lambda dtype, N, V: run(dtype, N, V, backward=False),
            flops=lambda N, V: 4 * N * V,  # maximum, difference, exponential, sum
            bytes=lambda itemsize, N, V: itemsize * N * V + 16 * N,
            dtypes=("float32", "float16", "bfloat16"),
            tensor_cores=False,
        )
        yield StaticCase(
            name="cross-entropy backward",
            kernels=("cross_entropy_backward_kernel",),
            sizes={"N": 8192, "V": V},
            counted={"N": 2, "V": V},
            run=lambda dtype, N, V: run(dtype, N, V, backward=True),
            flops=lambda N, V: 5 * N * V,  # difference, exponential, division, difference, product
            bytes=lambda itemsize, N, V: 2 * itemsize * N * V + 12 * N,
            dtypes=("float32", "float16", "bfloat16"),
            tensor_cores=False,
        )

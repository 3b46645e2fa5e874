"""Rung 1: cross-entropy tile by tile. New here: softmax in one pass, and probabilities that are computed twice.

The textbook body stores p = softmax(x), as large as the logits (N, V): for GPT-2's 50,257 classes and 8 x 1024
places that is 1.6 GB in float32, written once and read once. Here a tile of BLOCK_N rows and BLOCK_V classes
is in the cache at a time, and what is kept from the forward pass is two numbers a row.

Forward, with the online softmax of Milakov and Gimelshein (2018, algorithm 3). After each tile, top is the largest
logit so far and total = sum_j e^(x_j - top); when the maximum grows, the old sum is corrected by one factor:

    new_top = max(top, max_j x_j)
    total   = total e^(top - new_top) + sum_j e^(x_j - new_top)
    top     = new_top

With the target q = (1 - ε) onehot(t) + ε / V (ε is label_smoothing), and log sum_j e^(x_j) = top + log total,

    loss = -sum_j q_j log p_j = log total + (top - x_t) - ε mean_j(x_j - x_t)

Differences come before sums, so logits of ten thousand cost no accuracy.

Backward, tile by tile:  p = e^(x - top) / total,  dx = weight (p - q),  weight the cotangent of the row's loss.
top and total are kept, not their combination lse = top + log total: float32 numbers near 1000 lie 6.1e-5 apart, so
at logits of that size the rounding of lse alone would change p by a factor of up to 1 + 3e-5.

Cost: forward reads the logits once (textbook: five reads and three writes of arrays of that size), backward reads
them once and writes dx once. It takes 2 N V exponentials instead of N V: arithmetic is cheaper than memory.

What it does not do: speed is not its aim (a dozen NumPy calls for each tile); the Triton rung is the fast one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

BLOCK_N = 64
BLOCK_V = 4096
"""Rows and classes in a tile: 1 MB of float32, about the L2 cache of one core."""


def cross_entropy(
    logits: np.ndarray,
    target: Any,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The loss and its vjp; arguments and errors as minilm.functional.cross_entropy."""
    label_smoothing = float(label_smoothing)
    right, n = check_target(logits.shape, target, ignore_index, label_smoothing, reduction)
    shape, dtype, V = logits.shape, logits.dtype, logits.shape[-1]
    wide = np.promote_types(dtype, np.float32)  # sums over a vocabulary are not for float16
    x = logits.reshape(right.size, V)  # (N, V)
    counts = right >= 0
    loss, top, total = (np.zeros(right.size, dtype=wide) for _ in range(3))

    for rows in _blocks(right.size, BLOCK_N):
        x_target = x[rows][np.arange(len(right[rows])), right[rows]].astype(wide)
        reference = np.where(np.isfinite(x_target), x_target, 0)
        row_top = np.full(x_target.shape, -np.inf, dtype=wide)
        row_total, distance = np.zeros_like(x_target), np.zeros_like(x_target)
        for columns in _blocks(V, BLOCK_V):
            tile = x[rows, columns].astype(wide)
            new_top = np.maximum(row_top, tile.max(1))
            shift = np.where(np.isfinite(new_top), new_top, 0)  # so far only -inf: e^(-inf - 0) = 0
            row_total = row_total * np.exp(row_top - shift) + np.exp(tile - shift[:, None]).sum(1)
            row_top = new_top
            if label_smoothing:
                distance += (tile - reference[:, None]).sum(1)
        top[rows] = np.where(np.isfinite(row_top), row_top, 0)
        total[rows] = np.where(row_total == 0, 1, row_total)  # a row of -inf: p is 0 there, as in softmax
        loss[rows] = np.log(total[rows]) + (top[rows] - x_target)
        if label_smoothing:
            loss[rows] -= label_smoothing * (distance / V)
    loss[~counts] = 0

    def dx(g: np.ndarray) -> np.ndarray:
        g = g.astype(wide)
        weight = np.broadcast_to((g / n if reduction == "mean" else g).reshape(-1), right.shape) * counts  # (N,)
        d = np.empty((right.size, V), dtype=dtype)
        for rows in _blocks(right.size, BLOCK_N):
            for columns in _blocks(V, BLOCK_V):
                p = np.exp(x[rows, columns] - top[rows, None]) / total[rows, None]
                at = np.arange(V)[columns] == right[rows, None]
                q = (1 - label_smoothing) * at + label_smoothing / V
                d[rows, columns] = weight[rows, None] * (p - q)
        d[~counts] = 0
        return d.reshape(shape)

    if reduction == "none":
        return loss.astype(dtype).reshape(shape[:-1]), dx
    return np.asarray(loss.sum() / (n if reduction == "mean" else 1), dtype=dtype), dx


def check_target(
    shape: tuple[int, ...], target: Any, ignore_index: int, label_smoothing: float, reduction: str
) -> tuple[np.ndarray, int]:
    """The classes (N,) in int32 on the host, with -1 for those that do not count, and how many count.

    On a device an index out of range reads memory that is not ours, so it is refused here, before any launch. A
    target that lives on a device is copied to the host for it, and that waits for the device: better keep it here.

    Raises:
        TypeError, ValueError, IndexError: as minilm.functional.cross_entropy.
    """
    target = np.asarray(target.get() if hasattr(target, "get") else target)
    V = shape[-1] if shape else 0
    if target.dtype.kind not in "iu":
        raise TypeError(f"targets are class indices, integers, not {target.dtype}: convert them with .astype('int64')")
    if target.shape != shape[:-1]:
        raise ValueError(
            f"logits (..., V) {shape} need a target of shape {shape[:-1]}, got {target.shape}: "
            f"the class axis is the last one"
        )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is 'mean', 'sum' or 'none', got {reduction!r}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is from 0 to 1, got {label_smoothing}")
    flat = target.reshape(-1)
    counts = flat != ignore_index
    wrong = counts & ((flat < 0) | (flat >= V))
    if wrong.any():
        i = int(wrong.argmax())
        raise IndexError(
            f"target {int(flat[i])} at flat position {i} is outside the {V} classes (0 to {V - 1}); "
            f"mark places that shall not count with {ignore_index}"
        )
    n = int(counts.sum())
    if reduction == "mean" and n == 0:
        raise ValueError(f"every target is {ignore_index} (ignored): there is nothing to average; use reduction='sum'")
    right = np.full(flat.size, -1, dtype=np.int32)
    right[counts] = flat[counts]
    return right, n


def _blocks(length: int, block: int) -> Iterator[slice]:
    for start in range(0, length, block):
        yield slice(start, min(start + block, length))

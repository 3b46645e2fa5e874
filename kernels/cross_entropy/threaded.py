"""Cross-entropy in one pass forward and one backward, rows shared out among the threads, no probabilities kept.

    loss = log s - (x_t - c),   s = sum_j e^(x_j - c),   dx_j = g (e^(x_j - c) / s - [j = t])          c any number

New against `blocked`: most logits lie near zero, and there c can be zero. So first e^x is tried as it is, which saves
the search for the largest logit and the subtraction, each as long as the exponential on rows that are short; the sum
says afterwards whether that went well. Where it did not, c is the largest logit of the row. The logarithm is
taken in float64, a number a row, so that large logits cost no digits. As in `blocked` the exponentials live in a
block; kept are s and c, and backward computes them again, into the gradient.

Cost: forward reads the logits once, backward reads them and writes the gradient; an exponential on each element each
time.

With label smoothing c is always the largest logit, since the mean of x - c is wanted too.

What it does not do: float16 (the textbook body serves).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.kernels.cross_entropy.blocked import check_target
from minilm.kernels.softmax.threaded import largest, row_sums
from minilm.kernels.threads import blocks, parallel, pieces

BLOCK = 1 << 18
"""Elements in a block (one row at least), 1 MB in float32: calls long enough that threads seldom meet between them."""

WORK = 4
"""Steps on each element, for `pieces`."""

LEAST_SUM, MOST_SUM = 1e-12, 1e12
"""Of e^x in a row: outside, some terms that matter may have left the range of float32."""


def cross_entropy(
    logits: np.ndarray,
    target: Any,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """minilm.functional.cross_entropy: the loss and its vjp."""
    label_smoothing = float(label_smoothing)
    right, n = check_target(logits.shape, target, ignore_index, label_smoothing, reduction)
    shape, dtype = logits.shape, logits.dtype
    N, V = right.size, shape[-1]
    x = np.ascontiguousarray(logits).reshape(N, V)
    total, top = np.empty(N, dtype), np.zeros(N, dtype)  # s and c of each row
    distances = np.zeros(N, dtype)  # sum of x - c, for label smoothing
    height = max(1, min(N, BLOCK // max(V, 1)))
    parts = pieces(N, V * WORK)

    def sum_up(i: int) -> None:
        scratch, ones = np.empty((height, V), dtype), np.ones(V, dtype)
        for at in blocks(parts[i], height):
            part, sums = x[at], total[at]
            e = scratch[: len(part)]
            if not label_smoothing:
                np.exp(part, out=e)
                np.matmul(e, ones, out=sums)
                if sums.min() > LEAST_SUM and sums.max() < MOST_SUM:  # false for NaN
                    continue
            top[at] = largest(part)
            np.subtract(part, top[at, None], out=e)
            if label_smoothing:
                np.sum(e, axis=1, out=distances[at])  # a product with ones may make NaN of -inf
            np.exp(e, out=e)
            sums[:] = row_sums(e, ones)

    with np.errstate(over="ignore", invalid="ignore"):  # of the try
        parallel(sum_up, len(parts))
    shifted = bool(top.any())
    counts, ignored = right >= 0, right < 0
    place = np.arange(N) * V + np.maximum(right, 0)  # of the right logits in the flat array
    distance = x.reshape(-1)[place].astype(np.float64) - top
    if label_smoothing:  # sum_j q_j x_j = (1 - ε) x_t + ε mean(x)
        distance = (1 - label_smoothing) * distance + label_smoothing / V * distances
    total[ignored], distance[ignored] = 1, 0  # whatever the logits are there
    loss = np.log(total, dtype=np.float64) - distance

    def dx(g: np.ndarray) -> np.ndarray:
        weight = np.broadcast_to((g / n if reduction == "mean" else g).reshape(-1), N) * counts
        factor = weight / total
        d = np.empty((N, V), dtype)
        parts = pieces(N, V * WORK)

        def differentiate(i: int) -> None:
            for at in blocks(parts[i], height):
                out = d[at]
                np.exp(np.subtract(x[at], top[at, None], out=out) if shifted else x[at], out=out)
                out *= factor[at, None]
                if label_smoothing:
                    out -= (weight[at] * (label_smoothing / V))[:, None]

        with np.errstate(invalid="ignore"):  # an infinite logit in an ignored row
            parallel(differentiate, len(parts))
        d.reshape(-1)[place] -= weight * (1 - label_smoothing)
        if n < N:
            d[ignored] = 0
        return d.reshape(shape)

    if reduction == "none":
        return loss.astype(dtype).reshape(shape[:-1]), dx
    return np.asarray(loss.sum() / (n if reduction == "mean" else 1), dtype=dtype), dx

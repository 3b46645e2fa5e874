"""Softmax and its logarithm along an axis, in place on blocks of rows that are shared out among our threads.

    y_j = e^(x_j - c) / s,   s = sum_j e^(x_j - c),   log y_j = (x_j - c) - log s               c the largest of the row

New against the textbook body: each step is taken on a block while the block is near, and sums over rows are left to the
BLAS, as products with a vector of ones.

Cost: forward reads x and writes y, one exponential on each element; backward reads y and g and writes dx, for the
logarithm with another exponential.

What it does not do: float16 (the textbook body serves), and another axis than the last without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.kernels.threads import blocks, parallel, pieces

BLOCK = 1 << 18
"""Elements in a block (one row at least), 1 MB in float32: calls long enough that threads seldom meet between them."""

WORK = 4
"""Steps on each element, for `pieces`."""


def largest(x: np.ndarray) -> np.ndarray:
    """The largest score of each row (n, V); 0 where that is not finite, as in a row of -inf."""
    top = x.max(1)
    top[~np.isfinite(top)] = 0
    return top


def row_sums(e: np.ndarray, ones: np.ndarray) -> np.ndarray:
    """Of the exponentials in each row; 1 for a row of -inf, so that what is divided by it stays 0."""
    total = np.matmul(e, ones)
    total[total == 0] = 1
    return total


def softmax(x: np.ndarray, axis: int = -1) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """minilm.functional.softmax: the weights and their vjp."""
    rows, back = _as_rows(x, axis)
    y = np.empty(rows.shape, rows.dtype)
    ones = np.ones(rows.shape[1], rows.dtype)

    def weights(at: slice) -> None:
        part = np.subtract(rows[at], largest(rows[at])[:, None], out=y[at])
        np.exp(part, out=part)
        part /= row_sums(part, ones)[:, None]

    if y.shape[1]:
        _each_block(weights, *y.shape)

    def dx(g: np.ndarray) -> np.ndarray:
        slopes, _ = _as_rows(g, axis)
        d = np.empty(y.shape, y.dtype)

        def differentiate(at: slice) -> None:
            mean = np.vecdot(slopes[at], y[at])
            np.subtract(slopes[at], mean[:, None], out=d[at])
            d[at] *= y[at]

        _each_block(differentiate, *y.shape)
        return back(d)

    return back(y), dx


def log_softmax(x: np.ndarray, axis: int = -1) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """minilm.functional.log_softmax: the logarithms of the weights and their vjp."""
    rows, back = _as_rows(x, axis)
    y = np.empty(rows.shape, rows.dtype)
    ones = np.ones(rows.shape[1], rows.dtype)

    def logarithms(at: slice) -> None:
        part = np.subtract(rows[at], largest(rows[at])[:, None], out=y[at])
        part -= np.log(row_sums(np.exp(part), ones))[:, None]

    if y.shape[1]:
        _each_block(logarithms, *y.shape)

    def dx(g: np.ndarray) -> np.ndarray:
        slopes, _ = _as_rows(g, axis)
        d = np.empty(y.shape, y.dtype)

        def differentiate(at: slice) -> None:
            part = np.exp(y[at], out=d[at])
            part *= np.matmul(slopes[at], ones)[:, None]
            np.subtract(slopes[at], part, out=part)

        _each_block(differentiate, *y.shape)
        return back(d)

    return back(y), dx


def _as_rows(x: np.ndarray, axis: int) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """x as (N, V) with V the length of the axis, and the way back for an array of that shape."""
    moved = np.moveaxis(x, axis, -1)
    shape = moved.shape
    return moved.reshape(math.prod(shape[:-1]), shape[-1]), lambda rows: np.moveaxis(rows.reshape(shape), -1, axis)


def _each_block(work: Callable[[slice], Any], N: int, V: int) -> None:
    """work(rows) for blocks of all N rows, on our threads."""
    height, parts = max(1, BLOCK // max(V, 1)), pieces(N, V * WORK)

    def piece(i: int) -> None:
        for at in blocks(parts[i], height):
            work(at)

    parallel(piece, len(parts))

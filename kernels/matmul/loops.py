"""Rung 0: a product of matrices one number at a time.

For y (M, N) = a (M, K) b (K, N), and backward with g the cotangent of y:

    y[m, n]   = sum_k a[m, k] b[k, n]
    da[m, k] += g[m, n] b[k, n],   db[k, n] += a[m, k] g[m, n]

Cost: 2 M N K flops forward, twice that backward. Every flop pair fetches two numbers: 2 M N K numbers in all, though
there are only M K + K N different ones. The next rung is about that difference.

What it does not do: vectors (axes of a or b fewer than two).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def one_product(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> None:
    """y (M, N) += a (M, K) b (K, N)."""
    (M, K), N = a.shape, b.shape[1]
    for m in range(M):
        for n in range(N):
            y[m, n] += sum(a[m, k] * b[k, n] for k in range(K))


def matmul(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, tuple[Callable[..., Any], ...]]:
    """y (..., M, N) = a (..., M, K) b (..., K, N) and the vjps of a and b; leading axes broadcast.

    Raises:
        NotImplementedError: for vectors.
    """
    if a.ndim < 2 or b.ndim < 2:
        raise NotImplementedError(
            "the loops rung multiplies matrices only; minilm.functional.matmul takes vectors"
        )
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])

    def of_batch(x: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
        """The matrix of x that takes part in product `index`: the only one along an axis that is broadcast."""
        index = index[len(index) - (x.ndim - 2) :]
        return x[tuple(0 if n == 1 else i for i, n in zip(index, x.shape, strict=False))]

    y = np.zeros((*batch, a.shape[-2], b.shape[-1]), dtype=a.dtype)
    for index in np.ndindex(batch):
        one_product(of_batch(a, index), of_batch(b, index), y[index])

    def da(g: np.ndarray) -> np.ndarray:
        d = np.zeros(a.shape, dtype=g.dtype)
        for index in np.ndindex(batch):
            one_product(g[index], of_batch(b, index).T, of_batch(d, index))
        return d

    def db(g: np.ndarray) -> np.ndarray:
        d = np.zeros(b.shape, dtype=g.dtype)
        for index in np.ndindex(batch):
            one_product(of_batch(a, index).T, g[index], of_batch(d, index))
        return d

    return y, (da, db)

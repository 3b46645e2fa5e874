"""Rung 1: tile by tile. What is new: a tile of a and one of b are fetched once and used for a whole tile of y.

    y[m:m+BLOCK_M, n:n+BLOCK_N] = sum over k of a[m:m+BLOCK_M, k:k+BLOCK_K] b[k:k+BLOCK_K, n:n+BLOCK_N]

A tile of y needs BLOCK_M rows of a and BLOCK_N columns of b, K numbers each, and there are M N / (BLOCK_M
BLOCK_N) tiles. So the numbers fetched into the cache, each from memory or from the next larger cache, are

    M N K (1 / BLOCK_M + 1 / BLOCK_N)      instead of the 2 M N K of rung 0, and 2 M N K flops as before

With square tiles of 128 in float16 that is 64 flops for each byte. BLOCK_K does not occur: it is only how much
of the rows is held at a time. `fetched_bytes` is this count, and the tests hold the loop below to it.

The second lesson is the *order* of the tiles. Programs that run at the same time on a GPU share its L2 cache,
so what counts is how many different rows of a and columns of b they ask for together. Taken row by row, 132
tiles that lie in one row share one strip of a and need 132 strips of b; a nearly square patch of as many tiles
needs 12 + 11. `order` walks in groups of GROUP_M rows, column by column inside a group, and `strips` counts.

What it does not do: vectors; it does not hold its sum in the cache either: NumPy decides that. A lesson, no
fast path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def order(tiles_m: int, tiles_n: int, GROUP_M: int) -> Iterator[tuple[int, int]]:
    """The tiles (pid_m, pid_n) of y in the order in which programs take them: GROUP_M rows at a time, by columns."""
    for pid in range(tiles_m * tiles_n):
        group = pid // (GROUP_M * tiles_n)
        first_m = group * GROUP_M
        rows = min(tiles_m - first_m, GROUP_M)  # the last group may be lower
        within = pid - first_m * tiles_n
        yield first_m + within % rows, within // rows


def strips(tiles_m: int, tiles_n: int, GROUP_M: int, together: int) -> int:
    """How many strips of a and b are asked for, if `together` programs at a time share what they fetch."""
    tiles = list(order(tiles_m, tiles_n, GROUP_M))
    waves = (tiles[i : i + together] for i in range(0, len(tiles), together))
    return sum(len({m for m, _ in wave}) + len({n for _, n in wave}) for wave in waves)


def fetched_bytes(M: int, N: int, K: int, BLOCK_M: int, BLOCK_N: int, itemsize: int) -> int:
    """Bytes of a and b fetched for one product, exact also where tiles stick out over the edge."""
    tiles_m, tiles_n = -(-M // BLOCK_M), -(-N // BLOCK_N)
    return (tiles_n * M + tiles_m * N) * K * itemsize


def one_product(
    a: np.ndarray, b: np.ndarray, BLOCK_M: int, BLOCK_N: int, BLOCK_K: int, GROUP_M: int
) -> np.ndarray:
    """y (M, N) = a (M, K) b (K, N); the sum is kept in float32 where the numbers are float16."""
    (M, K), N = a.shape, b.shape[1]
    y = np.empty((M, N), dtype=a.dtype)
    wide = np.promote_types(a.dtype, "float32")
    for pid_m, pid_n in order(-(-M // BLOCK_M), -(-N // BLOCK_N), GROUP_M):
        rows = slice(pid_m * BLOCK_M, (pid_m + 1) * BLOCK_M)
        columns = slice(pid_n * BLOCK_N, (pid_n + 1) * BLOCK_N)
        acc = np.zeros(y[rows, columns].shape, dtype=wide)
        for k in range(0, K, BLOCK_K):
            a_tile = a[rows, k : k + BLOCK_K]
            b_tile = b[k : k + BLOCK_K, columns]
            acc += a_tile.astype(wide) @ b_tile.astype(wide)
        y[rows, columns] = acc
    return y


def matmul(
    a: np.ndarray, b: np.ndarray, BLOCK_M: int = 64, BLOCK_N: int = 64, BLOCK_K: int = 64, GROUP_M: int = 8
) -> tuple[np.ndarray, tuple[Callable[..., Any], ...]]:
    """y (..., M, N) = a (..., M, K) b (..., K, N) and the vjps of a and b; leading axes broadcast.

    Raises:
        NotImplementedError: for vectors.
    """
    if a.ndim < 2 or b.ndim < 2:
        raise NotImplementedError(
            "the blocked rung multiplies matrices only; minilm.functional.matmul takes vectors"
        )
    sizes = (BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
        b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
        y = np.empty((*batch, a.shape[-2], b.shape[-1]), dtype=a.dtype)
        for index in np.ndindex(batch):
            y[index] = one_product(a[index], b[index], *sizes)
        return y

    def da(g: np.ndarray) -> np.ndarray:
        return summed_to(product(g, b.swapaxes(-1, -2)), a.shape)

    def db(g: np.ndarray) -> np.ndarray:
        return summed_to(product(a.swapaxes(-1, -2), g), b.shape)

    return product(a, b), (da, db)


def summed_to(d: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """d summed over the axes along which an operand of this shape was broadcast."""
    if d.shape == shape:
        return d
    extra = d.ndim - len(shape)
    ones = (extra + i for i, n in enumerate(shape) if n == 1)
    wide = np.promote_types(d.dtype, "float32")  # many matrices may add up
    return d.sum(axis=(*range(extra), *ones), keepdims=True, dtype=wide).reshape(shape).astype(d.dtype)

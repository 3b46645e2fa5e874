"""The fast CPU path: products cut over our threads, and what follows a product done by the thread that computed it.

    y = f(x Wᵀ + b) + residual

New against `blocked`: nothing is tiled by hand, since the BLAS tiles for the caches better than Python could. What is
cut is the output, into one piece for each thread, along the axis by which the threads pack the least (each packs its
own part of one factor and the whole of the other). While a piece is still in the cache the same thread adds the bias
and applies the activation to it, block by block; the textbook body goes through the whole output some fifteen times
more, on one core.

For the backward pass f'(z) is kept in the place of z (see `minilm.kernels.activation.threaded`), and dx, dW and db are
computed in one section: for a small weight a piece is some rows of everything, for a large one it is a part of dx or
of dW, handed out as threads get free.

Cost: forward 2 M N K flops; M N numbers written, or 2 M N with an activation. Backward 4 M N K flops.

What it does not do: float16 (the BLAS has no product for it; the textbook body serves).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.kernels.activation.threaded import ACTIVATIONS, BLOCK, WORK
from minilm.kernels.threads import blocks, parallel, pieces

MACS = 1 / 5
"""Steps on an element that a multiplication and addition of a product is worth, for `pieces`."""

FETCH = 2
"""Steps that a number of a factor is worth when it comes from memory: with few rows (decoding) that is all there is."""

SMALL = 1 << 16
"""Elements of a weight up to which its gradient is computed by rows, in one part for each thread: adding up the parts
is nothing, and no thread waits for what another has in its cache."""

Cut = tuple[slice, slice]
WHOLE = slice(None)


def cuts(M: int, N: int, K: int, extra: float = 0.0) -> list[Cut]:
    """(rows, columns) of the pieces of an (M, N) product of depth K; `extra` steps follow on each element.

    Cut along N each thread packs the whole (M, K) factor and its part of the (K, N) one; along M the reverse. Rows in
    one piece of memory are worth a larger factor.
    """
    if 2 * M >= N:
        return [(rows, WHOLE) for rows in pieces(M, N * (K * MACS + extra), 16)]
    return [(WHOLE, columns) for columns in pieces(N, M * (K * MACS + extra) + K * FETCH, 16)]


def product_tasks(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> list[Callable[[], object]]:
    """The pieces of out = a b, for matrices: functions to call in any order."""

    def task(rows: slice, columns: slice) -> Callable[[], object]:
        return lambda: np.matmul(a[rows], b[:, columns], out=out[rows, columns])

    return [task(*cut) for cut in cuts(len(out), out.shape[1], a.shape[1])]


def run(tasks: list[Callable[[], object]]) -> None:
    """All tasks, on our threads."""
    parallel(lambda i: tasks[i](), len(tasks))


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b of two matrices."""
    out = np.empty((a.shape[0], b.shape[1]), dtype=np.result_type(a, b))
    run(product_tasks(a, b, out))
    return out


def as_rows(x: np.ndarray) -> np.ndarray:
    """(..., n) as (N, n), also where a length is 0 and -1 would not say which N."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def check_linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> None:
    """Raise ValueError if the shapes do not fit."""
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"x (..., in_features) {x.shape} does not fit weight (out_features, in_features) {weight.shape}: "
            f"their last axes must be equal"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias {bias.shape} does not fit weight {weight.shape}: it must be ({weight.shape[0]},)")


def gradients(
    g: np.ndarray, rows: np.ndarray, weight: np.ndarray, needs: tuple[bool, ...], slope: np.ndarray | None = None
) -> tuple[np.ndarray | None, ...]:
    """dx = dz W (as rows), dW = dzᵀ x and db = the sum of dz over its rows, those that are needed; dz = g * slope."""
    if weight.size <= SMALL:
        return gradients_by_rows(g, rows, weight, needs, slope)
    if slope is None:
        dz = g
    else:
        dz = np.empty_like(slope)
        cut = pieces(len(dz), dz.shape[1])
        parallel(lambda i: np.multiply(g[cut[i]], slope[cut[i]], out=dz[cut[i]]), len(cut))
    tasks: list[Callable[[], object]] = []
    dx = dweight = dbias = None
    if needs[0]:
        dx = np.empty(rows.shape, dtype=g.dtype)
        tasks += product_tasks(dz, weight, dx)
    if needs[1]:
        dweight = np.empty(weight.shape, dtype=g.dtype)
        tasks += product_tasks(dz.T, rows, dweight)
    if needs[2]:
        dbias = np.empty(weight.shape[0], dtype=g.dtype)
        tasks.append(lambda: np.sum(dz, axis=0, out=dbias))
    run(tasks)
    return dx, dweight, dbias


def gradients_by_rows(
    g: np.ndarray, rows: np.ndarray, weight: np.ndarray, needs: tuple[bool, ...], slope: np.ndarray | None
) -> tuple[np.ndarray | None, ...]:
    """The same with one piece for each thread, which reads nothing but its own rows: a dW of each piece, then a sum."""
    (N, K), dtype = weight.shape, g.dtype
    steps = K * MACS * (needs[0] + needs[1]) + (slope is not None) + needs[2]
    cut = pieces(len(rows), N * steps, 16)
    dx = np.empty(rows.shape, dtype) if needs[0] else None
    dweight = np.empty((len(cut), N, K), dtype) if needs[1] else None
    dbias = np.empty((len(cut), N), dtype) if needs[2] else None

    def piece(i: int) -> None:
        at = cut[i]
        dz = g[at] if slope is None else g[at] * slope[at]
        if dx is not None:
            np.matmul(dz, weight, out=dx[at])
        if dweight is not None:
            np.matmul(dz.T, rows[at], out=dweight[i])
        if dbias is not None:
            np.matmul(np.ones(len(dz), dtype), dz, out=dbias[i])

    parallel(piece, len(cut))
    return dx, *(None if parts is None else sum(parts[1:], start=parts[0]) for parts in (dweight, dbias))


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> tuple[np.ndarray, Any]:
    """minilm.functional.linear: the output and the joint vjp of x, weight and bias."""
    check_linear(x, weight, bias)
    rows, shape = as_rows(x), x.shape
    y = np.empty((rows.shape[0], weight.shape[0]), dtype=x.dtype)
    pieces_of_y = cuts(len(y), y.shape[1], rows.shape[1], 1)

    def piece(i: int) -> None:
        at, columns = pieces_of_y[i]
        part = y[at, columns]
        np.matmul(rows[at], weight[columns].T, out=part)
        if bias is not None:
            part += bias[columns]

    parallel(piece, len(pieces_of_y))

    def vjp(g: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        dx, *rest = gradients(as_rows(g), rows, weight, needs)
        return None if dx is None else dx.reshape(shape), *rest

    return y.reshape(*shape[:-1], weight.shape[0]), vjp


def linear_activation(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    activation: str = "gelu_tanh",
    residual: np.ndarray | None = None,
) -> tuple[np.ndarray, Any]:
    """minilm.functional.linear_activation: the output and the joint vjp of x, weight, bias and residual."""
    check_linear(x, weight, bias)
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is one of {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
    rows, shape, y_shape = as_rows(x), x.shape, (*x.shape[:-1], weight.shape[0])
    if residual is not None and residual.shape != y_shape:
        raise ValueError(f"residual {residual.shape} must have the shape of the output {y_shape}")
    y = np.empty((rows.shape[0], weight.shape[0]), dtype=x.dtype)
    slope = np.empty_like(y)
    added = None if residual is None else residual.reshape(y.shape)
    activate = ACTIVATIONS[activation]
    pieces_of_y = cuts(len(y), y.shape[1], rows.shape[1], WORK)

    def piece(i: int) -> None:
        at, columns = pieces_of_y[i]
        part = y[at, columns]
        np.matmul(rows[at], weight[columns].T, out=part)
        height, width = part.shape
        for block in blocks(slice(0, height), max(1, BLOCK // max(width, 1))):
            if bias is not None:
                part[block] += bias[columns]
            activate(part[block], slope[at, columns][block])
            if added is not None:
                part[block] += added[at, columns][block]

    parallel(piece, len(pieces_of_y))

    def vjp(g: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        if not any(needs[:3]):
            return None, None, None, g if needs[3] else None
        dx, dweight, dbias = gradients(g.reshape(slope.shape), rows, weight, needs, slope)
        return None if dx is None else dx.reshape(shape), dweight, dbias, g if needs[3] else None

    return y.reshape(y_shape), vjp


def matmul(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
    """minilm.functional.matmul: the output and the vjps of a and b."""
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("a matrix product needs at least one axis on each side: use * for a scalar")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ValueError(
            f"the last axis of the first ({a.shape[-1]}) and the {'second-to-last' if b.ndim > 1 else 'only'} axis "
            f"of the second ({inner}) must be equal: transpose one of them?"
        )
    matrix_a = a if a.ndim > 1 else a[None, :]
    matrix_b = b if b.ndim > 1 else b[:, None]
    vector_a, vector_b, shape_a, shape_b = a.ndim == 1, b.ndim == 1, a.shape, b.shape

    def as_matrix(g: np.ndarray) -> np.ndarray:
        g = g[..., None] if vector_b else g
        return g[..., None, :] if vector_a else g

    def da(g: np.ndarray) -> np.ndarray:
        d = batched(as_matrix(g), matrix_b.swapaxes(-1, -2))
        return summed_to(d, matrix_a.shape).reshape(shape_a)

    def db(g: np.ndarray) -> np.ndarray:
        g = as_matrix(g)
        if matrix_b.ndim == 2 and matrix_a.ndim > 2 and not vector_b:  # one matrix for the batch: one product
            return product(as_rows(matrix_a).T, as_rows(g))
        d = batched(matrix_a.swapaxes(-1, -2), g)
        return summed_to(d, matrix_b.shape).reshape(shape_b)

    y = batched(matrix_a, matrix_b)
    y = y[..., 0] if vector_b else y
    return (y[..., 0] if vector_b else y[..., 0, :]) if vector_a else y, (da, db)


def batched(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b for (..., n, k) and (..., k, m), leading axes broadcast: cut along the longest axis of the output."""
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    n, k, m = *a.shape[-2:], b.shape[-1]
    if not leading or math.prod(leading) == 1:
        flat = product(a.reshape(n, k), b.reshape(k, m))
        return flat.reshape(*leading, n, m)
    out = np.empty((*leading, n, m), dtype=np.result_type(a, b))
    axis = max(range(len(leading)), key=lambda i: leading[i])
    a, b = np.broadcast_to(a, (*leading, n, k)), np.broadcast_to(b, (*leading, k, m))
    parts = pieces(leading[axis], math.prod(leading) // max(leading[axis], 1) * n * m * k * MACS)

    def piece(i: int) -> None:
        at = (*[WHOLE] * axis, parts[i])
        np.matmul(a[at], b[at], out=out[at])

    parallel(piece, len(parts))
    return out


def summed_to(d: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`d` summed over the axes along which an array of `shape` was broadcast to it."""
    if d.shape == shape:
        return d
    extra = d.ndim - len(shape)
    ones = tuple(extra + i for i, n in enumerate(shape) if n == 1 and d.shape[extra + i] != 1)
    return d.sum(axis=(*range(extra), *ones), keepdims=True).reshape(shape)

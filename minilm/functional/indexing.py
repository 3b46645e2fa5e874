"""Choosing elements: x[index], take_along_axis, and the embedding table.

With p(k) the place in x from which y_k is taken, ∂y_k/∂x_i is 1 where p(k) = i and else 0, so

    y_k = x_(p(k)),   dx_i = sum over k with p(k) = i of g_k

An element that is chosen several times gets the sum of its gradients (repeated indices add), one that is not chosen 0.

Source: NumPy for the meaning of an index; Bengio et al. 2003, "A neural probabilistic language model", for the table of
embeddings.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.backend import Array, is_array, scatter_add_rows, xp
from minilm.tensor import differentiable


def _may_repeat(index: Any) -> bool:
    """True if an index holds integer arrays or lists: only those can choose an element twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(p, list) or (is_array(p) and p.dtype.kind in "iu") for p in parts)


def add_at(shape: tuple[int, ...], index: Any, g: Array) -> Array:
    """Zeros of a shape with g added at an index, which may repeat; float16 is added up in float32."""
    m = xp(g)
    total = m.zeros(shape, dtype="float32" if g.dtype == "float16" else g.dtype)
    m.add.at(total, index, g.astype(total.dtype, copy=False))
    return total.astype(g.dtype, copy=False)


def _check_range(indices: Array, n: int, axis: int) -> None:
    """Raise IndexError unless all are from -n to n - 1. For arrays on a device: CuPy wraps them without a word."""
    if indices.size:
        low, high = int(indices.min()), int(indices.max())
        if low < -n or high >= n:
            raise IndexError(f"index {low if low < -n else high} is out of bounds for axis {axis} with size {n}")


def _checked(index: Any, x: Array) -> Any:
    """An index for `x`: on a device its integer arrays are checked, and what comes from the host is moved.

    To check an array that is on the device means to wait for it; one of NumPy is checked before it is moved.
    """
    m = xp(x)
    if m is np:
        return index
    parts = list(index) if isinstance(index, tuple) else [index]
    parts = [np.asarray(p) if isinstance(p, list) else p for p in parts]
    arrays = [is_array(p) for p in parts]
    axes = [
        0 if p is None or p is Ellipsis else p.ndim if known and p.dtype.kind == "b" else 1
        for p, known in zip(parts, arrays, strict=True)
    ]
    axis = 0
    for i, part in enumerate(parts):
        if arrays[i]:
            if part.dtype.kind in "iu":
                _check_range(part, x.shape[axis], axis)
            parts[i] = m.asarray(part)
        axis += x.ndim - sum(axes) if part is Ellipsis else axes[i]
    return tuple(parts) if isinstance(index, tuple) else parts[0]


@differentiable
def getitem(x: Array, index: Any) -> Any:
    """y = x[index];  dx[index] += g. From dx = 0, for NumPy's basic, integer-array and boolean indexing.

    Shapes: y as NumPy has it, dx as x.
    """
    index = _checked(index, x)
    y, shape = x[index], x.shape

    def dx(g: Array) -> Array:
        m = xp(g)
        if is_array(index) and index.dtype.kind in "iu" and len(shape) > 1:  # rows of a table
            rows = g.reshape(index.size, int(np.prod(shape[1:])))
            return scatter_add_rows(rows, index.reshape(-1) % shape[0], shape[0]).reshape(shape)
        if _may_repeat(index):
            return add_at(shape, index, g)
        total = m.zeros(shape, dtype=g.dtype)
        total[index] = g
        return total

    return y, dx


@differentiable
def take_along_axis(x: Array, indices: Any, axis: int) -> Any:
    """y[.., j, ..] = x[.., indices[.., j, ..], ..];  dx[.., indices[.., j, ..], ..] += g[.., j, ..].

    The place that is looked up is the one along `axis`. `indices` are integers with as many axes as x; the other axes
    broadcast against x. y has the shape of both together, dx that of x.
    """
    m, shape = xp(x), x.shape
    indices = indices if is_array(indices) else np.asarray(indices)
    if indices.dtype.kind not in "iu" or indices.ndim != x.ndim:
        raise TypeError(
            f"indices must be integers with as many axes as x ({x.ndim}), got {indices.dtype} with {indices.ndim}"
        )
    if m is not np:
        _check_range(indices, shape[axis], axis)
        indices = m.asarray(indices)

    def dx(g: Array) -> Array:
        where = [
            m.arange(n).reshape((-1,) + (1,) * (len(shape) - 1 - i)) if indices.shape[i] in (1, n) else 0
            for i, n in enumerate(shape)
        ]
        where[axis] = indices
        return add_at(shape, tuple(where), g)

    return m.take_along_axis(x, indices, axis), dx


@differentiable
def embedding(ids: Any, weight: Array) -> Any:
    """y[...] = weight[ids[...]];  dweight[v] = sum over places with ids = v of g.

    Args:
        ids: integers of any shape (...), each from 0 to V - 1. NumPy's are checked on the host and then moved to where
            the table lives; to check ids that are on a device is to wait for it.
        weight: (V, C).

    Returns:
        (..., C).

    Raises:
        IndexError: for an id outside the table, negative ones included; names it and its place.
        TypeError: if ids are not integers.
    """
    m = xp(weight)
    ids = ids if is_array(ids) else np.asarray(ids)
    V, C = weight.shape
    if ids.dtype.kind not in "iu":
        raise TypeError(f"token ids are integers, not {ids.dtype}: convert them with .astype('int64')")
    if ids.size:
        check_ids(ids, V)
    ids = m.asarray(ids)
    return weight[ids], lambda g: scatter_add_rows(g.reshape(ids.size, C), ids.reshape(-1), V)


def check_ids(ids: Array, V: int) -> None:
    """Raise IndexError, naming the first offender, unless all ids are from 0 to V - 1."""
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= V:
        m = xp(ids)
        place = tuple(int(i[0]) for i in m.nonzero((ids < 0) | (ids >= V)))
        raise IndexError(
            f"id {int(ids[place])} at {np.array(place).tolist()} is outside the table of {V} entries "
            f"(0 to {V - 1}): is this the tokenizer of this model?"
        )

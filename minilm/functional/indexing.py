"""Choosing elements: x[index], take_along_axis, and the embedding table.

An element that is chosen several times gets the sum of its gradients: repeated indices add.
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


@differentiable
def getitem(x: Array, index: Any) -> Any:
    """y = x[index], NumPy's basic, integer-array and boolean indexing;  dx = zeros with dx[index] += g."""
    y, shape = x[index], x.shape

    def dx(g: Array) -> Array:
        m = xp(g)
        if is_array(index) and index.dtype.kind in "iu" and len(shape) > 1:  # rows of a table
            rows = g.reshape(index.size, int(np.prod(shape[1:])))
            return scatter_add_rows(rows, index.reshape(-1) % shape[0], shape[0]).reshape(shape)
        total = m.zeros(shape, dtype=g.dtype)
        if _may_repeat(index):
            m.add.at(total, index, g)
        else:
            total[index] = g
        return total

    return y, dx


@differentiable
def take_along_axis(x: Array, indices: Any, axis: int) -> Any:
    """y[.., j, ..] = x[.., indices[.., j, ..], ..] along `axis`;  dx[.., indices, ..] += g.

    `indices` are integers with as many axes as x; the other axes broadcast against x.
    """
    m, shape = xp(x), x.shape
    indices = m.asarray(indices)
    if indices.dtype.kind not in "iu" or indices.ndim != x.ndim:
        raise TypeError(
            f"indices must be integers with as many axes as x ({x.ndim}), got {indices.dtype} with {indices.ndim}"
        )

    def dx(g: Array) -> Array:
        total = m.zeros(shape, dtype=g.dtype)
        where = [
            m.arange(n).reshape((-1,) + (1,) * (len(shape) - 1 - i)) if indices.shape[i] in (1, n) else 0
            for i, n in enumerate(shape)
        ]
        where[axis] = indices
        m.add.at(total, tuple(where), g)
        return total

    return m.take_along_axis(x, indices, axis), dx


@differentiable
def embedding(ids: Any, weight: Array) -> Any:
    """y[...] = weight[ids[...]];  dweight[v] = sum of g over all places where ids == v.

    Args:
        ids: integers of any shape (...), each from 0 to V - 1.
        weight: (V, C).

    Returns:
        (..., C).

    Raises:
        IndexError: for an id outside the table, negative ones included; names it and its place.
        TypeError: if ids are not integers.
    """
    m = xp(weight)
    ids = m.asarray(ids)
    V, C = weight.shape
    if ids.dtype.kind not in "iu":
        raise TypeError(f"token ids are integers, not {ids.dtype}: convert them with .astype('int64')")
    if ids.size:
        check_ids(ids, V)
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

"""The same elements in another arrangement: shapes, axes, joining and parting, padding.

Nothing is computed here: each y_k is the x_i from a place i = p(k), or a constant. So ∂y_k/∂x_i is 1 where p(k) = i and
else 0, and every vjp is the arrangement undone:

    y_k = x_(p(k)),   dx_i = sum over k with p(k) = i of g_k

The sum has one term, but in `expand`, which repeats, and none for what `split` leaves to other parts. Below stands what
p does, and what it does to the shape.

Source: NumPy's names and meanings, `expand` apart (PyTorch's: -1 keeps a length).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minilm.backend import Array, xp
from minilm.tensor import Tensor, differentiable, unbroadcast


def _given(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """f(2, 3) and f((2, 3)) mean the same."""
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], tuple | list) else values


@differentiable
def reshape(x: Array, *shape: Any) -> Any:
    """y = x in another shape of as many elements (one length may be -1);  dx = g in the shape of x."""
    old = x.shape
    return x.reshape(_given(shape)), lambda g: g.reshape(old)


@differentiable
def transpose(x: Array, *axes: Any) -> Any:
    """y = x with its axes in another order (reversed if none is given);  dx = g with the inverse order."""
    order = _given(axes)
    if not order or order[0] is None:
        order = tuple(reversed(range(x.ndim)))
    inverse = np.argsort([axis % x.ndim for axis in order]) if order else ()
    return x.transpose(order), lambda g: g.transpose(tuple(int(i) for i in inverse))


@differentiable
def swapaxes(x: Array, axis1: int, axis2: int) -> Any:
    """y = x with two axes exchanged;  dx = g with them exchanged back."""
    return x.swapaxes(axis1, axis2), lambda g: g.swapaxes(axis1, axis2)


@differentiable
def expand(x: Array, *shape: Any) -> Any:
    """y = x repeated along axes of length 1 and new leading axes (-1 keeps a length);  dx = g summed over them."""
    wanted = _given(shape)
    new = len(wanted) - x.ndim
    full = tuple(x.shape[i - new] if n == -1 and i >= new else n for i, n in enumerate(wanted))
    old = x.shape
    return xp(x).broadcast_to(x, full), lambda g: unbroadcast(g, old)


@differentiable
def squeeze(x: Array, axis: Any = None) -> Any:
    """y = x without axes of length 1 (all of them, or those named);  dx = g in the shape of x."""
    old = x.shape
    return x.squeeze(axis), lambda g: g.reshape(old)


@differentiable
def expand_dims(x: Array, axis: Any) -> Any:
    """y = x with new axes of length 1 at the places `axis` of the result;  dx = g in the shape of x."""
    old = x.shape
    return xp(x).expand_dims(x, axis), lambda g: g.reshape(old)


@differentiable
def _concatenate(*arrays: Array, axis: int = 0) -> Any:
    """y = the arrays one after the other along an axis;  each gets its part of g."""
    y = xp(*arrays).concatenate(arrays, axis=axis)
    ends = np.cumsum([a.shape[axis] for a in arrays])

    def part(i: int) -> Any:
        where = [slice(None)] * y.ndim
        where[axis] = slice(int(ends[i]) - arrays[i].shape[axis], int(ends[i]))
        return lambda g: g[tuple(where)]

    return y, tuple(part(i) for i in range(len(arrays)))


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one after the other along an existing axis; their other lengths must agree."""
    return _concatenate(*tensors, axis=axis)


@differentiable
def _stack(*arrays: Array, axis: int = 0) -> Any:
    """y = the arrays side by side along a new axis;  each gets its slice of g."""
    y = xp(*arrays).stack(arrays, axis=axis)

    def part(i: int) -> Any:
        where: list[Any] = [slice(None)] * y.ndim
        where[axis] = i
        return lambda g: g[tuple(where)]

    return y, tuple(part(i) for i in range(len(arrays)))


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors, all of one shape, side by side along a new axis."""
    return _stack(*tensors, axis=axis)


@differentiable
def split(x: Array, indices_or_sections: Any, axis: int = 0) -> Any:
    """y_1, y_2, ... = parts of x along an axis: so many equal ones, or cut at the indices;  dx = the g's joined."""
    m = xp(x)
    return tuple(m.split(x, indices_or_sections, axis=axis)), lambda g: m.concatenate(g, axis=axis)


@differentiable
def pad(x: Array, pad_width: Any, constant_values: float = 0) -> Any:
    """y = x with a border of a constant; `pad_width` in NumPy's forms: n, (before, after), or one pair per axis.

    dx = g without the border.
    """
    y = xp(x).pad(x, pad_width, constant_values=constant_values)
    before = np.broadcast_to(np.asarray(pad_width, dtype=np.int64), (x.ndim, 2))[:, 0]
    where = tuple(slice(int(b), int(b) + n) for b, n in zip(before, x.shape, strict=True))
    return y, lambda g: g[where]

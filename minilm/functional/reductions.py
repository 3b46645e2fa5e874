"""Fewer elements from many: sums, means, extremes, the log of a sum of exponentials; and the running sum.

`axis` is None (all), an int or a tuple of ints; `keepdims` keeps the reduced axes with length 1, as in NumPy.

The formulas are written for one sum, over i from 1 to n: y is one number, g its cotangent, and dx_i = g ∂y/∂x_i.
Shapes: y is as x without the axes that are reduced; g, with these axes put back as length 1, broadcasts against x, so
that every element meets the cotangent of the sum that it went into.

Source: NumPy for what is computed; the log of a sum of exponentials as in Blanchard, Higham & Higham 2021.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.backend import Array, xp
from minilm.functional.precision import in_float32
from minilm.tensor import differentiable, wide_sum


def _kept(g: Array, ndim: int, axis: Any, keepdims: bool) -> Array:
    """`g` with the reduced ones of `ndim` axes put back as length 1, so that it broadcasts against x."""
    if keepdims:
        return g
    if axis is None:
        return g.reshape((1,) * ndim)
    return xp(g).expand_dims(g, axis)


def _count(x: Array, axis: Any) -> int:
    """How many elements of `x` each result is made of."""
    if axis is None:
        return x.size
    axes = axis if isinstance(axis, tuple) else (axis,)
    return int(np.prod([x.shape[i] for i in axes]))


@differentiable
def sum(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """y = sum_i x_i;  dx_i = g. From ∂y/∂x_i = 1."""
    y = wide_sum(x, axis, keepdims) if x.dtype.kind == "f" else x.sum(axis=axis, keepdims=keepdims)
    shape = x.shape  # the vjps close over what they need, here not x itself
    return y, lambda g: xp(g).broadcast_to(_kept(g, len(shape), axis, keepdims), shape)


@differentiable
def mean(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """y = 1/n sum_i x_i;  dx_i = g / n. From ∂y/∂x_i = 1/n."""
    n, shape = _count(x, axis), x.shape
    return x.mean(axis=axis, keepdims=keepdims), lambda g: xp(g).broadcast_to(
        _kept(g, len(shape), axis, keepdims) / n, shape
    )


@differentiable
@in_float32
def var(x: Array, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """y = sum_i (x_i - mean)^2 / (n - ddof);  dx_i = 2 g (x_i - mean) / (n - ddof).

    The derivative of a square is twice what is squared. The mean's own dependence on x_i drops out, since
    sum_i (x_i - mean) = 0.
    """
    n = _count(x, axis) - ddof
    if n <= 0:
        raise ValueError(f"the variance of {n + ddof} elements with ddof={ddof} is not defined: use a smaller ddof")
    centred = x - x.mean(axis=axis, keepdims=True)
    y = (centred * centred).sum(axis=axis, keepdims=keepdims) / x.dtype.type(n)
    return y, lambda g: _kept(g, centred.ndim, axis, keepdims) * (centred * (2 / n))


def _extreme(x: Array, y: Array, axis: Any, keepdims: bool) -> Any:
    def dx(g: Array) -> Array:
        ties = (x == _kept(y, x.ndim, axis, keepdims)).astype(x.dtype)
        return _kept(g, x.ndim, axis, keepdims) * (ties / wide_sum(ties, axis, keepdims=True))

    return y, dx


@differentiable
def max(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """y = max_i x_i;  dx_i = g [x_i = y] / sum_j [x_j = y].

    y moves with the largest element alone. Equal ones share g equally: weights that sum to 1 make a subgradient.
    """
    return _extreme(x, xp(x).asarray(x.max(axis=axis, keepdims=keepdims)), axis, keepdims)


@differentiable
def min(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """y = min_i x_i;  dx_i = g [x_i = y] / sum_j [x_j = y].

    y moves with the smallest element alone; equal ones share g equally, as in `max`.
    """
    return _extreme(x, xp(x).asarray(x.min(axis=axis, keepdims=keepdims)), axis, keepdims)


@differentiable
@in_float32
def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """y = log sum_i e^(x_i);  dx_i = g e^(x_i - y).

    From ∂y/∂x_i = e^(x_i) / sum_j e^(x_j) = e^(x_i - y): the softmax of x.

    The maximum is taken out first, so that no exponential overflows. If every x_i is -inf, y is -inf and dx is 0.
    """
    m = xp(x)
    top = x.max(axis=axis, keepdims=True)
    top = m.where(m.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):  # log 0 = -inf is the right answer for a row of -inf
        y = m.log(m.exp(x - top).sum(axis=axis, keepdims=True)) + top

    def dx(g: Array) -> Array:
        safe = m.where(m.isfinite(y), y, 0)  # -inf - -inf would be NaN; e^(-inf - 0) is the 0 we want
        return _kept(g, x.ndim, axis, keepdims) * m.exp(x - safe)

    return y if keepdims else y.reshape(x.sum(axis=axis).shape), dx


@differentiable
@in_float32
def cumsum(x: Array, axis: int | None = None) -> Any:
    """y_i = x_1 + ... + x_i;  dx_i = g_i + ... + g_n.

    x_i is in y_i and all that follow: the vjp is a running sum from the other end. y and x have one shape; with axis
    None y is the running sum of the flattened array, as in NumPy.
    """
    m = xp(x)
    shape = x.shape
    y = m.cumsum(x, axis=axis, dtype=x.dtype if x.dtype.kind == "f" else None)

    def dx(g: Array) -> Array:
        along = 0 if axis is None else axis
        return m.flip(m.cumsum(m.flip(g, along), axis=along, dtype=g.dtype), along).reshape(shape)

    return y, dx

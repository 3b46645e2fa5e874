"""Scores to weights: softmax and its logarithm.

Softmax does not change when a constant is added to all scores, so the largest one is taken out first and no
exponential overflows. A row in which every score is -inf has no weights to give: softmax is 0 there, not NaN.

Shapes: y is as x, and each row along `axis` is one softmax. Source: Bridle 1990, "Probabilistic interpretation of
feedforward classification network outputs"; taking the largest one out, Blanchard, Higham & Higham 2021.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.backend import Array, xp
from minilm.functional.precision import in_float32
from minilm.tensor import differentiable, wide_sum


def shifted(x: Array, axis: int) -> Array:
    """x - max(x) along an axis; a row of -inf stays -inf."""
    m = xp(x)
    if x.shape[axis] == 0:  # no scores, no weights: but max() of nothing raises
        return x.copy()
    top = x.max(axis=axis, keepdims=True)
    return x - m.where(m.isfinite(top), top, 0)


def softmax_array(x: Array, axis: int) -> Array:
    """The weights themselves, on an array (float16 is computed in float32)."""
    if x.dtype == "float16":
        return softmax_array(x.astype("float32"), axis).astype("float16")
    y = shifted(x, axis)
    m = xp(y)
    m.exp(y, out=y)
    total = y.sum(axis=axis, keepdims=True)
    y /= m.where(total == 0, 1, total)  # a sum of 0 is a row of -inf
    return y


@differentiable
def softmax(x: Array, axis: int = -1) -> Any:
    """y_i = e^(x_i) / sum_j e^(x_j);  dx_i = y_i (g_i - sum_j g_j y_j).

    From ∂y_i/∂x_j = y_i (δ_ij - y_j): the Jacobian is symmetric, and applying it costs one weighted sum.
    """
    y = softmax_array(x, axis)

    def dx(g: Array) -> Array:
        return y * (g - wide_sum(g * y, axis, keepdims=True))

    return y, dx


@differentiable
@in_float32
def log_softmax(x: Array, axis: int = -1) -> Any:
    """y_i = x_i - log sum_j e^(x_j);  dx_i = g_i - e^(y_i) sum_j g_j.

    From ∂y_j/∂x_i = δ_ij - e^(y_i), where e^(y_i) is the softmax: the derivative of the log of the sum.
    """
    m = xp(x)
    y = shifted(x, axis)
    total = m.exp(y).sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        y -= m.where(total == 0, 0, m.log(total))
    return y, lambda g: g - m.exp(y) * g.sum(axis=axis, keepdims=True)

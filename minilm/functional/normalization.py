"""Layer norm and RMS norm, with derived backward.

Both scale a vector x of n numbers to a fixed size. Layer norm (Ba et al. 2016) takes out the mean μ first:

    x̂ = (x - μ) r,  r = 1 / sqrt(mean((x - μ)²) + ε),  y = w x̂ + b

With a = g w, the cotangent of x̂. r depends on every x_j: ∂r/∂x_j = -r² x̂_j / n, so that

    ∂x̂_i/∂x_j = r (δ_ij - 1/n - x̂_i x̂_j / n)
    dx_j = sum_i a_i ∂x̂_i/∂x_j = r (a_j - mean(a) - x̂_j mean(a x̂))
    dw = sum over rows of g x̂,   db = sum over rows of g

RMS norm (Zhang & Sennrich 2019) leaves the mean in, and mean(a) drops out of dx:

    x̂ = x r,   r = 1 / sqrt(mean(x²) + ε),   y = w x̂
    dx = r (a - x̂ mean(a x̂)),   dw = sum over rows of g x̂
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.backend import Array, xp
from minilm.functional.precision import in_float32
from minilm.tensor import differentiable


def _as_rows(x: Array, normalized_shape: Any, weight: Array, bias: Array) -> Array:
    """x as (N, n), n the product of `normalized_shape`, after checking that the shapes fit."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"normalized_shape {shape} must be the last axes of x {x.shape}")
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and parameter.shape != shape:
            raise ValueError(f"{name} {parameter.shape} must have the shape normalized_shape {shape}")
    return x.reshape(-1, int(np.prod(shape)))


def _rows_times(g: Array, weight: Array | None, shape: tuple[int, ...]) -> Array:
    g = g.reshape(shape)
    return g if weight is None else g * weight.reshape(-1)


@differentiable
@in_float32
def layer_norm(
    x: Array, normalized_shape: Any, weight: Array = None, bias: Array = None, eps: float = 1e-5
) -> Any:
    """y = weight (x - mean) / sqrt(var + eps) + bias. Over the last axes, which `normalized_shape` names.

    The module's docstring derives the vjp. y has the shape of x.

    Args:
        x: (..., *normalized_shape).
        weight, bias: of shape normalized_shape, optional.
    """
    rows = _as_rows(x, normalized_shape, weight, bias)
    m, x_shape = xp(x), x.shape
    bias_shape = () if bias is None else bias.shape
    x_hat = rows - rows.mean(-1, keepdims=True)
    r = 1 / m.sqrt((x_hat * x_hat).mean(-1, keepdims=True) + eps)
    x_hat *= r
    y = x_hat if weight is None else x_hat * weight.reshape(-1)
    if bias is not None:
        y = y + bias.reshape(-1)

    def dx(g: Array) -> Array:
        a = _rows_times(g, weight, x_hat.shape)
        d = a - a.mean(-1, keepdims=True)
        d -= x_hat * (a * x_hat).mean(-1, keepdims=True)
        d *= r
        return d.reshape(x_shape)

    def dweight(g: Array) -> Array:
        return (g.reshape(x_hat.shape) * x_hat).sum(0).reshape(weight.shape)

    def dbias(g: Array) -> Array:
        return g.reshape(x_hat.shape).sum(0).reshape(bias_shape)

    return y.reshape(x.shape), (dx, dweight, dbias)


@differentiable
def rms_norm(x: Array, normalized_shape: Any, weight: Array = None, eps: float | None = None) -> Any:
    """y = weight x / sqrt(mean(x²) + eps). Over the last axes, which `normalized_shape` names.

    The module's docstring has the vjp. y has the shape of x.

    Args:
        x: (..., *normalized_shape).
        weight: of shape normalized_shape, optional.
        eps: None means the machine epsilon of x's dtype, as in PyTorch.
    """
    eps = float(np.finfo(x.dtype).eps if eps is None else eps)  # a NumPy float64 would make float64 of y
    return _rms_norm(x, normalized_shape, weight, eps)


@in_float32
def _rms_norm(x: Array, normalized_shape: Any, weight: Array | None, eps: float) -> Any:
    rows = _as_rows(x, normalized_shape, weight, None)
    m, x_shape = xp(x), x.shape
    r = 1 / m.sqrt((rows * rows).mean(-1, keepdims=True) + eps)
    x_hat = rows * r
    y = x_hat if weight is None else x_hat * weight.reshape(-1)

    def dx(g: Array) -> Array:
        a = _rows_times(g, weight, x_hat.shape)
        return (r * (a - x_hat * (a * x_hat).mean(-1, keepdims=True))).reshape(x_shape)

    def dweight(g: Array) -> Array:
        assert weight is not None
        return (g.reshape(x_hat.shape) * x_hat).sum(0).reshape(weight.shape)

    return y.reshape(x.shape), (dx, dweight)

"""RMS norm of a sum (Zhang & Sennrich 2019): the two operations with which every block of a Llama begins, as one.

    s = x + residual,   y = weight s / sqrt(mean(s²) + eps)

The sum goes on along the residual stream and the norm into the block, so both are outputs. Backward, with g_y and g_s
their cotangents:

    ds = r (a - x̂ mean(a x̂)) + g_s,   dx = ds,   dresidual = ds,   dweight = sum over rows of g_y x̂

with a = weight g_y, r = 1 / sqrt(mean(s²) + eps) and x̂ = s r: what goes back through the norm (see normalization) and
what comes along the stream add up in s, and a sum hands its cotangent to both sides. On whole arrays this saves
nothing; a kernel writes s once and need not read it again.
"""

from __future__ import annotations

from typing import Any, cast

from minilm.backend import Array
from minilm.functional.normalization import rms_norm
from minilm.tensor import differentiable

_rms_norm = cast(Any, rms_norm).body


@differentiable
def add_rms_norm(x: Array, residual: Array, weight: Array, eps: float | None = None) -> Any:
    """s = x + residual;  y = weight s / sqrt(mean(s²) + eps). The result is (y, s), both of the shape of x.

    It is that of `rms_norm` for s; the module's docstring derives the vjp.

    Args:
        x, residual: of one shape (..., *weight.shape).
        weight: its axes are those that are normalized.
        eps: None means the machine epsilon of the dtype.
    """
    if x.shape != residual.shape:
        raise ValueError(f"x {x.shape} and residual {residual.shape} must have one shape")
    s = x + residual
    y, (dx, dweight) = _rms_norm(s, weight.shape, weight, eps)

    def vjp(g: tuple[Array, Array], needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        g_y, g_s = g
        ds = dx(g_y) + g_s if needs[0] or needs[1] else None
        return ds if needs[0] else None, ds if needs[1] else None, dweight(g_y) if needs[2] else None

    return (y, s), vjp

"""A linear layer with all that follows it on the way to the next one: bias, activation, residual, in one operation.

    z = x Wᵀ + b,   y = f(z) + r

and backward, with g the cotangent of y and f' the derivative of the activation:

    dz = g f'(z),   dx = dz W,   dW = dzᵀ x,   db = sum over rows of dz,   dr = g

That is the chain rule, from the last of the operations to the first: `linear` with the cotangent dz. On whole arrays
this saves nothing over the four operations it is made of. It is an operation of its own since a matmul kernel can do
the rest while a tile of z is still in registers, where it costs no memory traffic: its *epilogue*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from minilm.backend import Array
from minilm.functional.activations import gelu, silu
from minilm.functional.elementwise import relu
from minilm.functional.linear_algebra import linear
from minilm.tensor import differentiable

_linear, _gelu, _silu, _relu = (operation.body for operation in cast(Any, (linear, gelu, silu, relu)))

ACTIVATIONS: dict[str, Callable[[Array], Any]] = {
    "gelu_tanh": lambda z: _gelu(z, "tanh"),
    "gelu": _gelu,
    "silu": _silu,
    "relu": _relu,
}
"""From an activation's name to its (output, vjp) on arrays: GELU in its tanh and its exact form, SiLU, ReLU."""


@differentiable
def linear_activation(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    activation: str = "gelu_tanh",
    residual: Array | None = None,
) -> Any:
    """y = f(x Wᵀ + b) + residual. With f one of `ACTIVATIONS`; the module's docstring derives the vjp.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,), optional.
        activation: "gelu_tanh" (GPT-2's), "gelu" (exact, BERT's; both Hendrycks & Gimpel 2016), "silu" or "relu".
        residual: (..., out_features), as the output; optional.

    Returns:
        (..., out_features).
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is one of {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
    z, (dx, dweight, dbias) = _linear(x, weight, bias)
    y, dz = ACTIVATIONS[activation](z)
    if residual is not None:
        if residual.shape != y.shape:
            raise ValueError(f"residual {residual.shape} must have the shape of the output {y.shape}")
        y = y + residual

    def vjp(g: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        g_z = dz(g) if any(needs[:3]) else None
        parts = zip((dx, dweight, dbias), needs, strict=False)
        return (*(d(g_z) if need else None for d, need in parts), g if needs[3] else None)

    return y, vjp

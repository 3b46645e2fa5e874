"""Linear: y = x Wᵀ + b, and the activation after it where one is asked for."""

from __future__ import annotations

from collections.abc import Callable

import minilm.functional as F
from minilm.nn import initialization
from minilm.nn.module import Module
from minilm.tensor import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": lambda z: F.gelu(z, "tanh"),
    "gelu": F.gelu,
    "silu": F.silu,
    "relu": F.relu,
}
"""From an activation's name to it, for layers of other forms, which cannot take the fused operation."""


class Linear(Module):
    """(..., in_features) -> (..., out_features); weight (out_features, in_features) as in PyTorch."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = initialization.uniform_fan_in((out_features, in_features), in_features)
        self.bias = initialization.uniform_fan_in((out_features,), in_features) if bias else None

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        """f(x Wᵀ + b), with f one of `minilm.functional.ACTIVATIONS`, in one operation; without one, x Wᵀ + b."""
        if activation is None:
            return F.linear(x, self.weight, self.bias)
        return F.linear_activation(x, self.weight, self.bias, activation)

    def describe(self) -> str:
        return f"{self.in_features} -> {self.out_features}"

"""LayerNorm and RMSNorm over the last axis, with learned scale (and shift)."""

from __future__ import annotations

import minilm.functional as F
from minilm.nn import initialization
from minilm.nn.module import Module
from minilm.tensor import Tensor


class LayerNorm(Module):
    """(..., C) -> (..., C), mean 0 and variance 1 along C, scaled by weight, shifted by bias (Ba et al. 2016)."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.normalized_shape, self.eps = normalized_shape, eps
        self.weight = initialization.ones((normalized_shape,))
        self.bias = initialization.zeros((normalized_shape,)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def describe(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """(..., C) -> (..., C) with mean square 1 along C, scaled by weight (Zhang & Sennrich 2019)."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.normalized_shape, self.eps = normalized_shape, eps
        self.weight = initialization.ones((normalized_shape,))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def describe(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"

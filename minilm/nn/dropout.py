"""Dropout as a layer: active in training mode only."""

from __future__ import annotations

import minilm.functional as F
from minilm.nn.module import Module
from minilm.tensor import Tensor


class Dropout(Module):
    """Leaves out each element with probability p in training mode (Srivastava et al. 2014)."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"the probability of dropping an element is from 0 to 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def describe(self) -> str:
        return f"p={self.p}"

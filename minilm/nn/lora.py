"""LoRA: a Linear layer that stays as it is, and a small change of it that is trained (Hu et al. 2021, equation 3).

    y = x Wᵀ + b + (alpha / r) (x Aᵀ) Bᵀ          W (out, in) frozen, A (r, in), B (out, r), r much smaller than both

B starts at 0, and A as N(0, 1/in): at first y is what the layer gave before. Only A and B have gradients, r (in + out)
numbers instead of in * out; so there is no gradient of W to compute and no moments of it to keep. B A has the shape of
W, and `merge` adds it there: then the layer costs what it did before.

alpha / r instead of one number, so that a learning rate that was good for one r is about right for another (section
4.1). What is not here: dropout before A, adapters of embeddings, one adapter for each of query, key and value (their
three matrices are one here, and share A).
"""

from __future__ import annotations

import math
from typing import Self

import minilm.functional as F
from minilm.errors import ConfigurationError
from minilm.nn import initialization
from minilm.nn.linear import ACTIVATIONS, Linear
from minilm.nn.module import Module, Parameter
from minilm.tensor import Tensor, no_grad


class LoRALinear(Linear):
    """(..., in_features) -> (..., out_features): a Linear, whose weight and bias it shares, with an adapter.

    Args:
        linear: the layer; its weight and bias are frozen.
        rank: r.
        alpha: the adapter counts alpha / r times.

    Raises:
        ConfigurationError: if the rank is not from 1 to the smaller side of the weight.
    """

    def __init__(self, linear: Linear, rank: int = 8, alpha: float = 16.0) -> None:
        Module.__init__(self)  # not Linear's: the weights are there already
        smaller = min(linear.weight.shape)
        if not 1 <= rank <= smaller:
            shape = linear.weight.shape
            raise ConfigurationError(f"an adapter of a {shape} weight has a rank from 1 to {smaller}: {rank}")
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.requires_grad_(False)
        dtype = linear.weight.dtype
        A = initialization.normal((rank, self.in_features), 1 / math.sqrt(self.in_features))
        self.lora_A = Parameter(A.data, dtype=dtype)
        self.lora_B = Parameter(initialization.zeros((self.out_features, rank)).data, dtype=dtype)
        self.rank, self.alpha = rank, alpha
        self.merged = False

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        """f(x Wᵀ + b + (alpha / r) (x Aᵀ) Bᵀ), with f as in Linear."""
        if self.merged:
            return super().forward(x, activation)
        low = F.linear(x, self.lora_A) * (self.alpha / self.rank)  # (..., r)
        z = F.linear(x, self.weight, self.bias) + F.linear(low, self.lora_B)
        return z if activation is None else ACTIVATIONS[activation](z)

    def merge(self) -> Self:
        """W + (alpha / r) B A in the place of W: the same function, to rounding. Nothing is trained until `unmerge`."""
        if not self.merged:
            self._add(self.alpha / self.rank)
            self.merged = True
        return self

    def unmerge(self) -> Self:
        """Take the adapter out of W again (which comes back to rounding)."""
        if self.merged:
            self._add(-self.alpha / self.rank)
            self.merged = False
        return self

    def _add(self, factor: float) -> None:
        with no_grad():
            self.weight.add_(factor * (self.lora_B.data @ self.lora_A.data))

    def as_linear(self) -> Linear:
        """A plain Linear with the adapter in its weight, which is the one of this layer."""
        self.merge()
        linear = Linear.__new__(Linear)
        Module.__init__(linear)
        linear.in_features, linear.out_features = self.in_features, self.out_features
        linear.weight, linear.bias = self.weight, self.bias
        linear.training = self.training
        return linear.requires_grad_(True)

    def describe(self) -> str:
        return f"{super().describe()}, rank {self.rank}, alpha {self.alpha:g}{', merged' if self.merged else ''}"

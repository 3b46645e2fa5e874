"""The block that Transformers stack: attention, then a feed-forward network, each with a residual and a norm.

    post-norm (Vaswani et al. 2017):  x = norm(x + f(x))     as published; needs warm-up when deep
    pre-norm (Xiong et al. 2020):     x = x + f(norm(x))     GPT-2's and Llama's; the residual path stays clear
"""

from __future__ import annotations

from collections.abc import Callable

import minilm.functional as F
from minilm.nn.attention import CrossAttention, SelfAttention
from minilm.nn.cache import KVCache
from minilm.nn.dropout import Dropout
from minilm.nn.linear import Linear
from minilm.nn.module import Module
from minilm.nn.normalization import LayerNorm
from minilm.nn.positions import ALiBi, RotaryPositions
from minilm.tensor import Tensor


class FeedForward(Module):
    """Each position by itself: C -> hidden -> C, with a nonlinearity between; "swiglu" gates it (Shazeer 2020)."""

    def __init__(
        self, embed_dim: int, hidden_dim: int, activation: str = "gelu_tanh", bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if activation not in (*F.ACTIVATIONS, "swiglu"):
            raise ValueError(f"no activation {activation!r}: choose one of {', '.join((*F.ACTIVATIONS, 'swiglu'))}")
        self.activation = activation
        if activation == "swiglu":
            self.gate_proj = Linear(embed_dim, hidden_dim, bias)
        self.up_proj = Linear(embed_dim, hidden_dim, bias)
        self.down_proj = Linear(hidden_dim, embed_dim, bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        if self.activation == "swiglu":
            hidden = F.swiglu(self.gate_proj(x), self.up_proj(x))
        else:
            hidden = self.up_proj(x, self.activation)
        return self.dropout(self.down_proj(hidden))

    def describe(self) -> str:
        return self.activation


class TransformerBlock(Module):
    """Self-attention, optional cross-attention, feed-forward; pre- or post-norm.

    Args:
        embed_dim, num_heads, num_kv_heads, rotary, alibi: see SelfAttention.
        hidden_dim: of the feed-forward network, 4 C if None.
        norm: "pre" or "post".
        norm_layer: makes a norm from a width: LayerNorm, or RMSNorm.
        cross_attention: also attend to a memory, as a decoder that translates does.
        dropout: of attention weights and of what each part adds to the residual.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        hidden_dim: int | None = None,
        activation: str = "gelu_tanh",
        norm: str = "pre",
        norm_layer: Callable[[int], Module] = LayerNorm,
        bias: bool = True,
        dropout: float = 0.0,
        rotary: RotaryPositions | None = None,
        alibi: ALiBi | None = None,
        cross_attention: bool = False,
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f"norm is 'pre' or 'post', got {norm!r}")
        self.norm = norm
        self.norm_1 = norm_layer(embed_dim)
        self.attention = SelfAttention(embed_dim, num_heads, num_kv_heads, bias, dropout, rotary, alibi)
        if cross_attention:
            self.norm_cross = norm_layer(embed_dim)
            self.cross_attention = CrossAttention(embed_dim, num_heads, num_kv_heads, bias, dropout)
        self.norm_2 = norm_layer(embed_dim)
        self.feed_forward = FeedForward(embed_dim, hidden_dim or 4 * embed_dim, activation, bias, dropout)
        self.dropout = Dropout(dropout)

    def _residual(self, x: Tensor, norm: Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.norm == "pre":
            return x + part(norm(x))
        return norm(x + part(x))

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        cache: KVCache | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        memory_keys_and_values: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """x (B, T, C) -> (B, T, C); see SelfAttention and CrossAttention for the other arguments."""
        if "cross_attention" not in self._modules and (memory is not None or memory_keys_and_values is not None):
            raise ValueError("this block has no cross-attention to read a memory: make it with cross_attention=True")
        x = self._residual(x, self.norm_1, lambda y: self.dropout(self.attention(y, attn_mask, is_causal, cache)))
        if "cross_attention" in self._modules:
            x = self._residual(
                x,
                self.norm_cross,
                lambda y: self.dropout(self.cross_attention(y, memory, memory_mask, memory_keys_and_values)),
            )
        return self._residual(x, self.norm_2, self.feed_forward)

    def describe(self) -> str:
        return f"{self.norm}-norm"

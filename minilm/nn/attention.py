"""Multi-head attention as layers: self-attention (causal or masked, grouped heads, cache) and cross-attention.

Each head attends in its own D = C / H channels (Vaswani et al. 2017, section 3.2.2). With fewer key heads than query
heads, groups of queries share keys (Ainslie et al. 2023): a smaller cache for nearly the same quality.
"""

from __future__ import annotations

import minilm.functional as F
from minilm.nn.cache import KVCache
from minilm.nn.linear import Linear
from minilm.nn.module import Module
from minilm.nn.positions import ALiBi, RotaryPositions
from minilm.tensor import Tensor


def _head_width(embed_dim: int, num_heads: int, num_kv_heads: int) -> int:
    if embed_dim % num_heads:
        raise ValueError(f"embed_dim {embed_dim} must be a multiple of num_heads {num_heads}")
    if num_heads % num_kv_heads:
        raise ValueError(f"num_heads {num_heads} must be a multiple of num_kv_heads {num_kv_heads}")
    return embed_dim // num_heads


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, T, H D) -> (B, H, T, D)."""
    B, T, C = x.shape
    return x.reshape(B, T, num_heads, C // num_heads).swapaxes(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, H D)."""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * D)


class SelfAttention(Module):
    """Queries, keys and values from the same sequence.

    Args:
        embed_dim: C.
        num_heads: H.
        num_kv_heads: heads of keys and values, H if None; 1 is multi-query attention.
        dropout: of the attention weights, in training.
        rotary, alibi: a position module that is applied to queries and keys, or to the scores.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        rotary: RotaryPositions | None = None,
        alibi: ALiBi | None = None,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads or num_heads
        D = _head_width(embed_dim, num_heads, self.num_kv_heads)
        self.dropout = dropout
        self.rotary, self.alibi = rotary, alibi
        self.qkv_proj = Linear(embed_dim, (num_heads + 2 * self.num_kv_heads) * D, bias)  # one product for all three
        self.out_proj = Linear(embed_dim, embed_dim, bias)

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        cache: KVCache | None = None,
    ) -> Tensor:
        """x (B, T, C) -> (B, T, C).

        Args:
            attn_mask: broadcasts to (B, H, T, Tk): booleans (True takes part) or numbers that are added to the scores.
            cache: holds the keys and values of the positions before x, and takes those of x; Tk counts them all.
        """
        query, key, value = self.queries_keys_values(x, cache.length if cache is not None else 0)
        if cache is not None:
            key, value = cache.append(key, value)
        y = F.scaled_dot_product_attention(
            query,
            key,
            value,
            self.with_penalty(attn_mask, query, key),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal="lower_right" if is_causal else False,  # with a cache the last query sees the last key
            enable_gqa=self.num_kv_heads != self.num_heads,
        )
        return self.out_proj(merge_heads(y))

    def queries_keys_values(self, x: Tensor, offset: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """(B, H, T, D), and (B, Hk, T, D) twice, of x (B, T, C), turned by their positions from `offset` on."""
        H, Hk = self.num_heads, self.num_kv_heads
        D = x.shape[-1] // H
        query, key, value = self.qkv_proj(x).split([H * D, (H + Hk) * D], axis=-1)
        query, key, value = split_heads(query, H), split_heads(key, Hk), split_heads(value, Hk)
        if self.rotary is not None:
            query, key = self.rotary(query, offset), self.rotary(key, offset)
        return query, key, value

    def with_penalty(self, mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
        """The mask with ALiBi's penalty of distance, if the layer has one."""
        if self.alibi is None:
            return mask
        penalty = self.alibi(query.shape[2], key.shape[2], query.dtype.name)
        if mask is None:
            return penalty
        return F.where(mask, penalty, float("-inf")) if mask.dtype.kind == "b" else mask + penalty

    def describe(self) -> str:
        return f"{self.num_heads} heads, {self.num_kv_heads} key-value heads"


class CrossAttention(Module):
    """Queries from one sequence, keys and values from another (the encoder's output, the memory).

    Args:
        embed_dim: C of the queries and the output.
        memory_dim: channels of the memory, C if None.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        memory_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads or num_heads
        D = _head_width(embed_dim, num_heads, self.num_kv_heads)
        self.dropout = dropout
        self.q_proj = Linear(embed_dim, embed_dim, bias)
        self.kv_proj = Linear(memory_dim or embed_dim, 2 * self.num_kv_heads * D, bias)
        self.out_proj = Linear(embed_dim, embed_dim, bias)

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Hk, Tk, D) each, of a memory (B, Tk, C): compute them once when many queries come one by one."""
        key, value = self.kv_proj(memory).split(2, axis=-1)
        return split_heads(key, self.num_kv_heads), split_heads(value, self.num_kv_heads)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        attn_mask: Tensor | None = None,
        keys_and_values: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """x (B, Tq, C), memory (B, Tk, memory_dim) -> (B, Tq, C); its `keys_and_values` may come instead of it."""
        if keys_and_values is None:
            if memory is None:
                raise ValueError("cross-attention needs the memory, or its keys_and_values")
            keys_and_values = self.keys_and_values(memory)
        key, value = keys_and_values
        y = F.scaled_dot_product_attention(
            split_heads(self.q_proj(x), self.num_heads),
            key,
            value,
            attn_mask,
            dropout_p=self.dropout if self.training else 0.0,
            enable_gqa=self.num_kv_heads != self.num_heads,
        )
        return self.out_proj(merge_heads(y))

    def describe(self) -> str:
        return f"{self.num_heads} heads, {self.num_kv_heads} key-value heads"

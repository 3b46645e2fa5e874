"""Llama: a decoder-only Transformer of the second generation (Touvron et al. 2023; Llama 2 and 3, SmolLM, and others).

    x_0 = W_e[ids]                       no positions here: rotary ones turn queries and keys in every layer
    x_l = block_l(x_{l-1})               pre-norm: x + attention(norm(x)), then x + feed_forward(norm(x))
    logits = norm(x_L) W_hᵀ              the head W_h is W_e again in small models ("tied"), its own in large ones

What differs from GPT: RMSNorm without shift (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), a gated
feed-forward network, SwiGLU (Shazeer 2020), keys and values that several query heads share (Ainslie et al. 2023), and
not one bias. What is not here: rotary angles that are stretched for longer contexts (Llama 3.1's rope scaling).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import minilm.functional as F
from minilm import nn
from minilm.backend import asarray, to_numpy
from minilm.errors import ConfigurationError
from minilm.models.configuration import check_dropout, check_heads, check_sizes
from minilm.nn import initialization
from minilm.tensor import Tensor, unwrap
from minilm.text.batches import IGNORED


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama; the defaults are those of SmolLM2-135M, which is small enough for two cores."""

    vocab_size: int = 49152
    block_size: int = 8192  # T at most, with the cache
    n_layer: int = 30
    n_head: int = 9
    n_kv_head: int = 3  # heads of keys and values; n_head / n_kv_head query heads share one
    n_embd: int = 576  # C
    n_hidden: int = 1536  # of the feed-forward network; about 8/3 C, since it has three matrices and not two
    rope_theta: float = 100000.0  # 10000 in the paper; larger for longer contexts
    norm_eps: float = 1e-5
    interleaved: bool = False  # rotary pairs: 2i and 2i + 1 (llama2.c, GGUF), or i and i + D/2 (Hugging Face)
    tied: bool = True  # the head is the embedding table
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, ("vocab_size", "block_size", "n_layer", "n_head", "n_kv_head", "n_embd", "n_hidden"))
        check_heads(self, "n_embd", "n_head")
        check_heads(self, "n_head", "n_kv_head")
        if self.head_width % 2:
            raise ConfigurationError(
                f"LlamaConfig: rotary positions turn pairs of channels, so the head width n_embd / n_head must be "
                f"even, and {self.n_embd} / {self.n_head} is {self.head_width}"
            )
        for name in ("rope_theta", "norm_eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"LlamaConfig: {name} is a positive number, got {getattr(self, name)}")
        check_dropout(self)

    @property
    def head_width(self) -> int:
        """D."""
        return self.n_embd // self.n_head


class Llama(nn.Module):
    """ids (B, T) of integers -> logits (B, T, V) for the token that comes next."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        C = config.n_embd
        self.token_embedding = nn.Embedding(config.vocab_size, C)
        self.dropout = nn.Dropout(config.dropout)
        rotary = nn.RotaryPositions(config.block_size, config.head_width, config.rope_theta, config.interleaved)
        self.blocks = nn.ModuleList(
            nn.TransformerBlock(
                C,
                config.n_head,
                config.n_kv_head,
                config.n_hidden,
                activation="swiglu",
                norm="pre",
                norm_layer=lambda width: nn.RMSNorm(width, config.norm_eps),
                bias=False,
                dropout=config.dropout,
                rotary=rotary,  # one table for all layers
            )
            for _ in range(config.n_layer)
        )
        self.final_norm = nn.RMSNorm(C, config.norm_eps)
        self.head = None if config.tied else nn.Linear(C, config.vocab_size, bias=False)
        self._initialize()

    def _initialize(self) -> None:
        """Weights N(0, 0.02²), those that are added to the residual N(0, 0.02² / (2 n_layer)), as in GPT."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                residual = name.endswith(("out_proj", "down_proj"))
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if residual else 0.02
                initialization.normal_(module.weight, std)
            elif isinstance(module, nn.Embedding):
                initialization.normal_(module.weight, 0.02)

    @property
    def context_length(self) -> int:
        """The most tokens that one forward pass takes."""
        return self.config.block_size

    def forward(self, ids: Any, attention_mask: Any = None, caches: list[nn.KVCache] | None = None) -> Tensor:
        """ids (B, T) -> logits (B, T, V).

        Args:
            attention_mask: (B, T), False for padding, which no token then sees. Positions count from the start of the
                row, so padding belongs at its end.
            caches: one for each block, holding the tokens before these ids; see `decode`.

        Raises:
            ValueError: if the tokens, with those in the caches, are more than `context_length`.
            IndexError: for an id outside the vocabulary.
        """
        return self._logits(self._hidden(ids, attention_mask, caches))

    def _hidden(self, ids: Any, attention_mask: Any = None, caches: list[nn.KVCache] | None = None) -> Tensor:
        """ids (B, T) -> (B, T, C), what the head reads."""
        if ids.ndim != 2:
            raise ValueError(f"ids have the axes (B, T), got {ids.shape}: a single sequence is ids[None]")
        total = ids.shape[1] + (caches[0].length if caches else 0)
        if total > self.config.block_size:
            raise ValueError(
                f"{total} tokens are more than the context of {self.config.block_size}: pass the last "
                f"{self.config.block_size} only"
            )
        mask = None
        if attention_mask is not None:
            mask = Tensor(asarray(attention_mask, dtype=bool))[:, None, None, :]  # (B, 1, 1, T)
        x = self.dropout(self.token_embedding(ids))  # (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block(x, attn_mask=mask, is_causal=True, cache=caches[i] if caches else None)
        return self.final_norm(x)

    def _logits(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., V)."""
        return self.head(x) if self.head is not None else F.linear(x, self.token_embedding.weight)

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean negative log-likelihood, in nats, of batch["labels"] (B, T) given batch["input_ids"] (B, T).

        A label of -100 is ignored; batch["attention_mask"] (B, T) may mark padding. Where labels are few, as when the
        loss is on answers only, so are the logits: V is large, and the head the largest matrix of a small model.
        """
        x, labels = self._hidden(batch["input_ids"], batch.get("attention_mask")), to_numpy(unwrap(batch["labels"]))
        counts = labels != IGNORED
        if counts.any() and not counts.all():
            x, labels = x[counts], labels[counts]  # (N, C), (N,)
        return F.cross_entropy(F.at_least_float32(self._logits(x)), labels)

    def decode(self, ids: Any, state: list[nn.KVCache] | None = None) -> tuple[Tensor, list[nn.KVCache]]:
        """logits (B, T, V) of the next T tokens after those in `state` (None: none), and the state after them."""
        if state is None:
            state = [nn.KVCache(self.config.block_size) for _ in self.blocks]
        return self(ids, caches=state), state

    def describe(self) -> str:
        c = self.config
        return f"vocab_size={c.vocab_size}, block_size={c.block_size}, n_layer={c.n_layer}, n_head={c.n_head}"

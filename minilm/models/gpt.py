"""GPT: a decoder-only Transformer with GPT-2's architecture (Radford et al. 2019).

    x_0 = W_e[ids] + W_p[0..T-1]
    x_l = block_l(x_{l-1})          pre-norm: x + attention(norm(x)), then x + feed_forward(norm(x))
    logits = norm(x_L) W_eᵀ         the head is the embedding table again (Press & Wolf 2017)

Each position sees itself and what is to its left: one forward pass predicts the next token at T positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import minilm.functional as F
from minilm import nn
from minilm.backend import asarray
from minilm.errors import ConfigurationError
from minilm.nn import initialization
from minilm.tensor import Tensor


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT; the defaults are GPT-2 small's."""

    vocab_size: int = 50257
    block_size: int = 1024  # T at most: one learned position each
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768  # C
    dropout: float = 0.0  # 0.1 and more when the text is seen many times over, 0 when it is seen once
    bias: bool = True  # in linear layers and norms, as in GPT-2; without is a little faster and no worse

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
        wrong = [f"{name}={getattr(self, name)}" for name in sizes if getattr(self, name) < 1]
        if wrong:
            raise ConfigurationError(f"GPTConfig: sizes are at least 1, got {', '.join(wrong)}")
        if self.n_embd % self.n_head:
            raise ConfigurationError(
                f"GPTConfig: n_embd={self.n_embd} is not a multiple of n_head={self.n_head}; "
                f"each head gets n_embd / n_head"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"GPTConfig: dropout is from 0 to below 1, got {self.dropout}")


class GPT(nn.Module):
    """ids (B, T) of integers -> logits (B, T, V) for the token that comes next."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        C = config.n_embd
        self.token_embedding = nn.Embedding(config.vocab_size, C)
        self.positions = nn.LearnedPositions(config.block_size, C)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerBlock(
                C,
                config.n_head,
                activation="gelu_tanh",
                norm="pre",
                norm_layer=lambda width: nn.LayerNorm(width, bias=config.bias),
                bias=config.bias,
                dropout=config.dropout,
            )
            for _ in range(config.n_layer)
        )
        self.final_norm = nn.LayerNorm(C, bias=config.bias)
        self._initialize()

    def _initialize(self) -> None:
        """Weights N(0, 0.02²), biases 0; what is added to the residual is scaled by 1/sqrt(2 n_layer), one
        for each addition, so that the variance of x does not grow with depth (Radford et al. 2019, section 2.3).
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                residual = name.endswith(("out_proj", "down_proj"))
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if residual else 0.02
                initialization.normal_(module.weight, std)
                module.bias = initialization.zeros(module.bias.shape) if module.bias is not None else None
            elif isinstance(module, nn.Embedding):
                initialization.normal_(module.weight, 0.02)

    @property
    def context_length(self) -> int:
        """The most tokens that one forward pass takes."""
        return self.config.block_size

    def forward(
        self, ids: Any, attention_mask: Any = None, caches: list[nn.KVCache] | None = None
    ) -> Tensor:
        """ids (B, T) -> logits (B, T, V).

        Args:
            attention_mask: (B, T), False for padding, which no token then sees.
            caches: one for each block, holding the tokens before these ids; see `decode`.

        Raises:
            ValueError: if the tokens, with those in the caches, are more than `context_length`.
            IndexError: for an id outside the vocabulary.
        """
        if ids.ndim != 2:
            raise ValueError(f"ids have the axes (B, T), got {ids.shape}: a single sequence is ids[None]")
        T = ids.shape[1]
        offset = caches[0].length if caches else 0
        if offset + T > self.config.block_size:
            raise ValueError(
                f"{offset + T} tokens are more than the context of {self.config.block_size}: pass the last "
                f"{self.config.block_size} only"
            )
        mask = None
        if attention_mask is not None:
            mask = Tensor(asarray(attention_mask, dtype=bool))[:, None, None, :]  # (B, 1, 1, T)
        x = self.dropout(self.positions(self.token_embedding(ids), offset))  # (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block(x, attn_mask=mask, is_causal=True, cache=caches[i] if caches else None)
        return F.linear(self.final_norm(x), self.token_embedding.weight)  # (B, T, V)

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean negative log-likelihood, in nats, of batch["labels"] (B, T) given batch["input_ids"] (B, T).

        A label of -100 is ignored; batch["attention_mask"] (B, T) may mark padding.
        """
        logits = self(batch["input_ids"], batch.get("attention_mask"))
        return F.cross_entropy(F.at_least_float32(logits), batch["labels"])

    def decode(self, ids: Any, state: list[nn.KVCache] | None = None) -> tuple[Tensor, list[nn.KVCache]]:
        """logits (B, T, V) of the next T tokens after those in `state` (None: none), and the state after them."""
        if state is None:
            state = [nn.KVCache(self.config.block_size) for _ in self.blocks]
        return self(ids, caches=state), state

    def describe(self) -> str:
        c = self.config
        return f"vocab_size={c.vocab_size}, block_size={c.block_size}, n_layer={c.n_layer}, n_head={c.n_head}"

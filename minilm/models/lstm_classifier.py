"""Which of K classes is this text? A recurrent classifier: embedding, LSTM, one vector for the text, linear head.

    x_t = W_e[ids_t],   h_t = LSTM(x_1 ... x_t),   h'_t = LSTM'(x_T ... x_t)      forwards, and backwards
    v   = max over t of [h_t, h'_t], channel by channel (or their mean)
    logits = W v + b

The state after the last word alone would have to remember the whole text; the maximum over all states keeps of each
channel its strongest moment (Conneau et al. 2017, section 3.2). The two directions do not see each other before v, not
even with several layers (as in Peters et al. 2018). Each reads its row from its own first real token on: padding comes
after them in both directions, and is left out of v, so a text has the same logits in any batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import minilm.functional as F
from minilm import nn
from minilm.backend import asarray, to_numpy
from minilm.errors import ConfigurationError
from minilm.models.configuration import check_dropout, check_sizes
from minilm.tensor import Tensor

POOLING = ("max", "mean")


@dataclass(frozen=True)
class LSTMClassifierConfig:
    """Sizes of a recurrent classifier."""

    vocab_size: int
    n_embd: int = 128  # C: width of the embedding
    n_hidden: int = 128  # H: width of h, in each direction
    n_layer: int = 1
    bidirectional: bool = True
    pooling: str = "max"  # or "mean"
    dropout: float = 0.5  # of the embedding, between layers and before the head: small data, many words
    classes: tuple[str, ...] = ("0", "1")  # their names

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))  # JSON has no tuples
        check_sizes(self, ("vocab_size", "n_embd", "n_hidden", "n_layer"))
        check_dropout(self)
        if self.pooling not in POOLING:
            raise ConfigurationError(f"LSTMClassifierConfig: pooling is one of {', '.join(POOLING)}: {self.pooling!r}")
        if len(self.classes) < 2:
            raise ConfigurationError(f"LSTMClassifierConfig: there are at least 2 classes, got {list(self.classes)}")

    @property
    def num_labels(self) -> int:
        """K."""
        return len(self.classes)


class LSTMClassifier(nn.Module):
    """ids (B, T) -> logits (B, K)."""

    context_length = None  # any number of tokens

    def __init__(self, config: LSTMClassifierConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.token_embedding = nn.Embedding(c.vocab_size, c.n_embd)
        self.forwards = nn.LSTM(c.n_embd, c.n_hidden, c.n_layer, dropout=c.dropout, forget_bias=1.0)
        self.backwards = (
            nn.LSTM(c.n_embd, c.n_hidden, c.n_layer, dropout=c.dropout, forget_bias=1.0) if c.bidirectional else None
        )
        self.dropout = nn.Dropout(c.dropout)
        self.classifier = nn.Linear(c.n_hidden * (2 if c.bidirectional else 1), c.num_labels)

    def forward(self, ids: Any, attention_mask: Any = None, token_type_ids: Any = None) -> Tensor:
        """ids (B, T) -> logits (B, K).

        Args:
            attention_mask: (B, T), False (or 0) for padding, which stands at the end of a row.
            token_type_ids: not looked at; other classifiers take them.

        Raises:
            ValueError: if ids have other axes, or there is a row without a token.
        """
        if ids.ndim != 2 or not ids.shape[1]:
            raise ValueError(f"ids have the axes (B, T), with a token at least, got {ids.shape}")
        ids = to_numpy(ids)  # where to read from is found out on the host, as batches live there
        mask = np.ones(ids.shape, bool) if attention_mask is None else to_numpy(attention_mask).astype(bool)
        if not bool(mask.any(axis=1).all()):
            raise ValueError("a row of the batch has no token: its attention_mask is False everywhere")
        states = [self._states(self.forwards, ids)]
        if self.backwards is not None:
            place, length = np.arange(ids.shape[1]), mask.sum(axis=1)[:, None]
            turned = np.where(place < length, length - 1 - place, place)  # (B, T): the padding stays where it is
            states.append(self._states(self.backwards, np.take_along_axis(ids, turned, axis=1)))
        y = F.concatenate(states, axis=-1) if len(states) > 1 else states[0]  # (B, T, H or 2 H)
        return self.classifier(self.dropout(self._pooled(y, asarray(mask[:, :, None]))))

    def _states(self, lstm: nn.LSTM, ids: Any) -> Tensor:
        return lstm(self.dropout(self.token_embedding(ids)))[0]

    def _pooled(self, y: Tensor, mask: Any) -> Tensor:
        """(B, T, C) -> (B, C), over the real tokens, in whatever order they are."""
        if self.config.pooling == "max":
            return F.where(mask, y, float("-inf")).max(axis=1)
        return F.where(mask, y, 0.0).sum(axis=1) / asarray(mask.sum(axis=1), dtype=y.dtype)

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean negative log-likelihood of batch["labels"] (B,), integers from 0 to K - 1."""
        logits = self(batch["input_ids"], batch.get("attention_mask"))
        return F.cross_entropy(F.at_least_float32(logits), batch["labels"])

    def describe(self) -> str:
        c = self.config
        ways = "both ways" if c.bidirectional else "one way"
        return f"{ways}, {c.pooling}, vocab_size={c.vocab_size}, n_hidden={c.n_hidden}, n_layer={c.n_layer}"

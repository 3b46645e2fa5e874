"""A recurrent language model: embedding, LSTM (or GRU, or plain RNN), linear head.

    x_t = W_e[ids_t],   h_t, c_t = LSTM(x_t, h_{t-1}, c_{t-1}),   logits_t = W h_t + b

The state carries everything the model knows of the past, however long; there is no context length. Training
cuts the past at the start of each batch (truncated backpropagation through time): if a batch says that its
rows go on where the last batch's rows ended, the state is carried over, and only the gradient stops.
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
from minilm.tensor import Tensor

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
State = tuple[Tensor, ...]  # (h, c) of an LSTM, (h,) of a GRU or an RNN; each (n_layer, B, H)


@dataclass(frozen=True)
class LSTMConfig:
    """Sizes of a recurrent language model."""

    vocab_size: int
    n_embd: int = 100  # C: width of the embedding
    n_hidden: int = 100  # H: width of h (and c)
    n_layer: int = 2
    dropout: float = 0.0  # of the embedding, between layers and before the head (Zaremba et al. 2014)
    cell: str = "lstm"  # "lstm", "gru" or "rnn"

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "n_embd", "n_hidden", "n_layer")
        wrong = [f"{name}={getattr(self, name)}" for name in sizes if getattr(self, name) < 1]
        if wrong:
            raise ConfigurationError(f"LSTMConfig: sizes are at least 1, got {', '.join(wrong)}")
        if self.cell not in CELLS:
            raise ConfigurationError(f"LSTMConfig: no cell {self.cell!r}; choose one of {', '.join(CELLS)}")
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"LSTMConfig: dropout is from 0 to below 1, got {self.dropout}")


class LSTMLM(nn.Module):
    """ids (B, T) of integers -> logits (B, T, V) for the token that comes next."""

    context_length = None  # any number of tokens

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.recurrent = CELLS[config.cell](
            config.n_embd, config.n_hidden, num_layers=config.n_layer, dropout=config.dropout
        )
        self.head = nn.Linear(config.n_hidden, config.vocab_size)
        self.dropout = nn.Dropout(config.dropout)
        self._carried: State | None = None  # the state at the end of the last training batch

    def forward(self, ids: Any) -> Tensor:
        """ids (B, T) -> logits (B, T, V), from a state of zeros."""
        return self.decode(ids)[0]

    def decode(self, ids: Any, state: State | None = None) -> tuple[Tensor, State]:
        """logits (B, T, V) of the next T tokens after `state` (None: zeros), and the state after them."""
        if ids.ndim != 2:
            raise ValueError(f"ids have the axes (B, T), got {ids.shape}: a single sequence is ids[None]")
        x = self.dropout(self.token_embedding(ids))  # (B, T, C)
        if self.config.cell == "lstm":
            y, state = self.recurrent(x, state)  # (B, T, H)
        else:
            y, h = self.recurrent(x, state[0] if state else None)
            state = (h,)
        assert state is not None
        return self.head(self.dropout(y)), state

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean negative log-likelihood, in nats, of batch["labels"] (B, T) given batch["input_ids"] (B, T).

        A label of -100 is ignored. In training, rows for which batch["continues"] (B,) is True start from the
        state in which the last batch ended, the others from zeros.
        """
        continues = batch.get("continues")
        stateful = self.training and continues is not None
        logits, state = self.decode(batch["input_ids"], self._carry(continues) if stateful else None)
        if stateful:
            self._carried = tuple(s.detach() for s in state)
        return F.cross_entropy(F.at_least_float32(logits), batch["labels"])

    def _carry(self, continues: Any) -> State | None:
        """The carried state, with zeros in the rows that start afresh; None if no row continues."""
        if not np.any(continues):
            return None
        if self._carried is None:
            raise ValueError(
                "the rows of the batch continue, but there is nothing to go on from: begin with the first batch of an "
                "epoch, or give back what get_extra_state gave (Trainer.resume does)"
            )
        if self._carried[0].shape[1] != len(continues):
            raise ValueError(
                f"the batch continues {len(continues)} rows, but the last one had "
                f"{self._carried[0].shape[1]}: streams keep their batch size"
            )
        keep = asarray(np.asarray(continues)[None, :, None])  # (1, B, 1)
        return tuple(F.where(keep, s, 0.0) for s in self._carried)

    def get_extra_state(self) -> dict[str, np.ndarray]:
        """What exact resumption needs besides the parameters: the carried state."""
        return {f"state_{i}": to_numpy(s.data) for i, s in enumerate(self._carried or ())}

    def set_extra_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._carried = tuple(Tensor(asarray(state[f"state_{i}"])) for i in range(len(state))) or None

    def describe(self) -> str:
        c = self.config
        return f"{c.cell}, vocab_size={c.vocab_size}, n_hidden={c.n_hidden}, n_layer={c.n_layer}"

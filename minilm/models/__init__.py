"""Models, one file each: ngram (counting), lstm (recurrent: LSTM, GRU, RNN), gpt.

A language model maps ids (B, T) to logits (B, T, V), has `loss(batch)` for the trainer, and
`decode(ids, state)` for generating token by token. MODELS maps the name in a checkpoint's config to (model class,
config class).
"""

from __future__ import annotations

from typing import Any

from minilm.models.gpt import GPT, GPTConfig
from minilm.models.lstm import LSTMLM, LSTMConfig
from minilm.models.ngram import NGram

MODELS: dict[str, tuple[Any, Any]] = {"gpt": (GPT, GPTConfig), "lstm": (LSTMLM, LSTMConfig)}

__all__ = ["GPT", "LSTMLM", "MODELS", "GPTConfig", "LSTMConfig", "NGram"]

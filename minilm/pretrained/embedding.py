"""Sentence embeddings: one vector for a text, near to those of texts that mean the same (Reimers & Gurevych 2019).

    e = m / |m|,   m = the sum of the encoder's hidden states over the tokens that are no padding

(It is usually called mean pooling; divided by its length, the mean is the same as the sum.) The cosine of two texts is
then the scalar product of their vectors, and a search is one product of matrices.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from minilm.backend import to_numpy
from minilm.errors import ConfigurationError
from minilm.models import BERT
from minilm.nn import evaluating
from minilm.pretrained.loading import from_pretrained
from minilm.pretrained.packages import SENTENCES
from minilm.text import WordPieceTokenizer, groups_by_length

MOST_TOKENS = 256  # what all-MiniLM-L6-v2 was trained with; what is longer is cut


class SentenceEncoder:
    """A BERT and its tokenizer; `SentenceEncoder.load()` takes the installed all-MiniLM-L6-v2."""

    def __init__(self, model: BERT, tokenizer: WordPieceTokenizer, max_tokens: int = MOST_TOKENS) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.max_tokens = min(max_tokens, model.context_length)
        self.cut = 0  # how many texts were longer, so far

    @classmethod
    def load(cls, path: str | os.PathLike[str] = SENTENCES) -> SentenceEncoder:
        """From a folder, or the name of an installed model.

        Raises:
            CheckpointError: see `from_pretrained`.
            ConfigurationError: if it is no BERT with its vocabulary.
        """
        model, tokenizer = from_pretrained(path)
        if type(model) is not BERT or not isinstance(tokenizer, WordPieceTokenizer):
            raise ConfigurationError(f"{path} is no sentence encoder: that is a BERT without a head, and its vocab.txt")
        return cls(model, tokenizer)

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Texts -> (N, C) float32, each of length 1. Texts of about the same length go together."""
        tokens = [self.tokenizer.encode(text) for text in texts]
        self.cut += sum(len(row) + 2 > self.max_tokens for row in tokens)  # [CLS] and [SEP]
        ids = [self.tokenizer.pair(row, max_length=self.max_tokens).input_ids for row in tokens]
        embeddings = np.empty((len(ids), self.model.config.n_embd), dtype=np.float32)
        for chosen in groups_by_length([len(row) for row in ids], batch_size):
            embeddings[chosen] = self._embed([ids[i] for i in chosen])
        return embeddings

    def _embed(self, rows: list[Any]) -> np.ndarray:
        T = max(map(len, rows))
        mask = np.arange(T) < np.array([len(row) for row in rows])[:, None]  # (B, T)
        ids = np.full(mask.shape, self.tokenizer.pad_id, dtype=np.int64)
        ids[mask] = np.concatenate(rows)
        with evaluating(self.model.modules()):
            hidden, _ = self.model(ids, None if mask.all() else mask)
        total = np.einsum("btc,bt->bc", to_numpy(hidden.data), mask.astype(np.float32))
        return total / np.linalg.norm(total, axis=1, keepdims=True)


def nearest(query: np.ndarray, embeddings: np.ndarray, k: int) -> list[tuple[int, float]]:
    """(number, cosine) of the k rows of embeddings (N, C) that are nearest to a query (C,), the best first."""
    cosines = embeddings @ query
    best = np.argsort(-cosines, kind="stable")[:k]
    return [(int(i), float(cosines[i])) for i in best]

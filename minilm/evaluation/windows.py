"""A text longer than the context: overlapping windows, and every token scored once.

A model that sees at most T tokens is shown windows of T, each `stride` tokens further on. Of the first window all
predictions count, of every later one only the last `stride`: those are the tokens that no window before it has scored.

    tokens      x0 x1 x2 x3 x4 x5 x6 x7 x8 x9          T = 4, stride = 2
    window 0    x0 x1 x2 x3                             scores x1 x2 x3 x4
    window 1          x2 x3 x4 x5                       scores       x5 x6
    window 2                x4 x5 x6 x7                 scores             x7 x8
    window 3                      x6 x7 x8              scores                   x9

So each token but those of the first window is predicted from at least T - stride + 1 tokens, and the sum of the scores
is a probability of the whole text, nothing left out and nothing counted twice. With stride = T the windows lie side by
side: quick, but a token at the beginning of its window is predicted from little. With stride = 1 every token is
predicted from T tokens: the best the model can do, at T times the cost. The smaller the stride, the lower the
perplexity, so that two figures compare only where both settings are the same.

What this file does not do: carry the state of a recurrent model from one window to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minilm.errors import ConfigurationError, DataError
from minilm.text import BatchSource
from minilm.text.batches import IGNORED


class StridedWindows(BatchSource):
    """Batches {"input_ids": (B, T), "labels": (B, T)} in which each token of each document is a label once.

    A window does not reach from one document into the next. The first token of a document is not scored, as nothing
    predicts it, unless the tokenizer has put a mark of the beginning before it.

    Args:
        documents: rows of ids (N,), in memory or memory maps; those of fewer than 2 tokens have nothing to score.
        batch_size: B, windows at once; the last batch may be smaller.
        block_size: T, the most tokens that the model sees at once.
        stride: from one window to the next; `block_size` if None.

    Raises:
        ConfigurationError: unless 1 <= stride <= block_size.
        DataError: if no document has 2 tokens.
    """

    def __init__(self, documents: Sequence[Any], batch_size: int, block_size: int, stride: int | None = None) -> None:
        stride = block_size if stride is None else stride
        if batch_size < 1 or block_size < 1:
            raise ConfigurationError(f"batch_size={batch_size} and block_size={block_size}: both are at least 1")
        if not 1 <= stride <= block_size:
            raise ConfigurationError(
                f"stride={stride}: it is from 1 to the context of {block_size} tokens, since a longer one would leave "
                "tokens out"
            )
        self.documents = documents
        self.batch_size, self.block_size, self.stride = batch_size, block_size, stride
        lengths = np.array([len(document) for document in documents], dtype=np.int64)
        labels = np.maximum(lengths - 1, 0)
        self.tokens = int(labels.sum())
        """How many tokens are scored."""
        self.scored_documents = int((labels > 0).sum())
        """How many documents have a token to score."""
        if not self.tokens:
            raise DataError(
                f"nothing to evaluate: none of {len(documents):,} documents has 2 tokens, one to predict and one to "
                "predict it from"
            )
        windows = np.where(labels > 0, 1 + np.maximum(-(-(labels - block_size) // stride), 0), 0)
        self._ends = np.cumsum(windows)  # window w belongs to the first document whose end is above w

    def __len__(self) -> int:
        return -(-int(self._ends[-1]) // self.batch_size)

    def _batches(self, epoch: int, start: int) -> Iterator[dict[str, NDArray[Any]]]:
        total = int(self._ends[-1])
        for first in range(start * self.batch_size, total, self.batch_size):
            rows = [self._window(w) for w in range(first, min(first + self.batch_size, total))]
            T = max(len(inputs) for inputs, _ in rows)
            input_ids = np.zeros((len(rows), T), dtype=np.int64)
            labels = np.full((len(rows), T), IGNORED, dtype=np.int64)
            for b, (inputs, targets) in enumerate(rows):
                input_ids[b, : len(inputs)] = inputs
                labels[b, len(inputs) - len(targets) : len(inputs)] = targets
            yield {"input_ids": input_ids, "labels": labels}

    def _window(self, window: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The ids (t,) that window number `window` shows, and those (s,) that its last s positions are to predict."""
        document = int(np.searchsorted(self._ends, window, side="right"))
        within = window - (int(self._ends[document - 1]) if document else 0)
        begin = within * self.stride
        row = np.asarray(self.documents[document][begin : begin + self.block_size + 1], dtype=np.int64)
        seen = self.block_size - self.stride if within else 0  # predictions that the window before has made
        return row[:-1], row[1 + seen :]

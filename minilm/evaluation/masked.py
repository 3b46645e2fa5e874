"""How well a masked language model knows a text: pseudo-perplexity (Salazar et al. 2020, section 2).

Such a model gives no probability of a text, only of a hidden word when it sees all the others. So each token is hidden
once, by itself, and

    PPPL = exp(-1/N sum_t log p(x_t | all of the text but x_t))

That takes one forward pass a token, in batches. The figure compares models of one vocabulary with each other; it is no
perplexity, as the conditional probabilities do not multiply to one of the text, and so there are no bits of it either.

A text longer than the context is cut into pieces side by side, each between the marks of its beginning and end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minilm.errors import ConfigurationError, DataError
from minilm.evaluation.language_modeling import LanguageModelScore, evaluate_language_model
from minilm.nn import Module
from minilm.tensor import Tensor
from minilm.text import BatchSource
from minilm.text.batches import IGNORED


class EachTokenHidden(BatchSource):
    """Batches {"input_ids": (B, T), "labels": (B, T)}, in each row another token hidden: the only one with a label.

    Args:
        documents: rows of ids (N,), without special tokens.
        batch_size: B; the last batch of a piece of text may be smaller.
        block_size: T, the most tokens that the model sees at once, marks included.
        mask_id, cls_id, sep_id: what hides a token, and what stands before and after a piece.

    Raises:
        ConfigurationError: if block_size leaves no room between the marks.
        DataError: if no document has a token.
    """

    def __init__(
        self, documents: Sequence[Any], batch_size: int, block_size: int, mask_id: int, cls_id: int, sep_id: int
    ) -> None:
        room = block_size - 2
        if batch_size < 1 or room < 1:
            raise ConfigurationError(
                f"batch_size={batch_size}, block_size={block_size}: at least 1 row, and 3 tokens, two of them marks"
            )
        self.batch_size, self.mask_id = batch_size, mask_id
        self.pieces = [
            np.concatenate([[cls_id], np.asarray(document[begin : begin + room], dtype=np.int64), [sep_id]])
            for document in documents
            for begin in range(0, len(document), room)
        ]
        if not self.pieces:
            raise DataError(f"nothing to evaluate: none of {len(documents):,} documents has a token")
        batches = [-(-(len(piece) - 2) // batch_size) for piece in self.pieces]
        self._ends = np.cumsum(batches)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _batches(self, epoch: int, start: int) -> Iterator[dict[str, NDArray[Any]]]:
        for batch in range(start, len(self)):
            number = int(np.searchsorted(self._ends, batch, side="right"))
            piece = self.pieces[number]
            first = 1 + (batch - (int(self._ends[number - 1]) if number else 0)) * self.batch_size
            hidden = np.arange(first, min(first + self.batch_size, len(piece) - 1))
            rows = np.arange(len(hidden))
            input_ids = np.repeat(piece[None], len(hidden), axis=0)
            labels = np.full_like(input_ids, IGNORED)
            labels[rows, hidden] = piece[hidden]
            input_ids[rows, hidden] = self.mask_id
            yield {"input_ids": input_ids, "labels": labels}


def evaluate_masked_language_model(
    model: Module, batches: Iterable[Mapping[str, Any]], documents: int | None = None
) -> LanguageModelScore:
    """Score a BERTForMaskedLM on the hidden tokens of all batches; the `perplexity` of the score is the pseudo one.

    Raises:
        DataError: if there is no label to score.
    """
    return evaluate_language_model(_Words(model), batches, documents=documents)


class _Words:
    """The loss of the hidden words alone, also of a model that was trained to know the next sentence as well."""

    def __init__(self, model: Module) -> None:
        self.model, self.modules = model, model.modules

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        return self.model.loss_of_words(batch)

"""The loss of a language model on a text, and the units in which it is told.

With N tokens x_1 ... x_N, the negative log-likelihood in nats is

    NLL = -sum_i log p(x_i | x_1 ... x_(i-1))

    loss                  NLL / N                          nats per token
    perplexity            exp(NLL / N)                     of how many equally likely tokens is it as unsure?
    bits per character    NLL / (log 2 * characters)       the same for every tokenizer, so comparable
    bits per byte         NLL / (log 2 * bytes)            of the text in UTF-8: the usual unit of comparisons

(Jurafsky & Martin, Speech and Language Processing, 3rd ed., section 3.3 for perplexity; Shannon 1951 for the
entropy of a letter.) A loss or a perplexity per token compares models of one tokenizer only: longer tokens
are harder to guess, and there are fewer of them.

What this file does not do: it knows no model, only `model.loss(batch)`; BLEU and ROUGE judge generated text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minilm.backend import is_array
from minilm.errors import DataError
from minilm.nn import evaluating
from minilm.tensor import Tensor, unwrap
from minilm.text.batches import IGNORED


def perplexity(mean_nll: float) -> float:
    """exp(mean negative log-likelihood in nats per token); infinite where that exceeds the floats."""
    try:
        return math.exp(mean_nll)
    except OverflowError:
        return math.inf


def bits_per_character(total_nll: float, characters: int) -> float:
    """total_nll / (log 2 * characters), for the negative log-likelihood in nats of a whole text.

    Raises:
        DataError: if the text has no characters.
    """
    return _bits_per(total_nll, characters, "characters")


def bits_per_byte(total_nll: float, n_bytes: int) -> float:
    """total_nll / (log 2 * n_bytes): how long the text would be, compressed by the model (Shannon 1948).

    Raises:
        DataError: if the text has no bytes.
    """
    return _bits_per(total_nll, n_bytes, "bytes")


def _bits_per(total_nll: float, count: int, what: str) -> float:
    if count <= 0:
        raise DataError(f"bits per unit of a text of {count} {what} are not defined")
    return total_nll / (math.log(2) * count)


@dataclass(frozen=True)
class LanguageModelScore:
    """What a model's predictions of a text are worth.

    Attributes:
        total_nll: negative log-likelihood of all scored tokens together, in nats.
        tokens: how many were scored.
        characters, bytes: how many characters those tokens stand for, and how many bytes, where it is known.
        documents: how many texts they come from, where it is known.
    """

    total_nll: float
    tokens: int
    characters: int | None = None
    bytes: int | None = None
    documents: int | None = None

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.total_nll / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.loss)

    @property
    def bits_per_token(self) -> float:
        """The loss in bits; for a character tokenizer also the bits per character."""
        return self.loss / math.log(2)

    @property
    def bits_per_character(self) -> float | None:
        """Bits per character of the text, or None where the number of characters is not known."""
        return None if self.characters is None else bits_per_character(self.total_nll, self.characters)

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of the text, or None where the number of bytes is not known."""
        return None if self.bytes is None else bits_per_byte(self.total_nll, self.bytes)


class LanguageModel(Protocol):
    """What is asked of a model: the mean loss of a batch over its valid labels, in nats."""

    def loss(self, batch: Any) -> Any:
        """The mean negative log-likelihood of the labels that are not -100, as a scalar Tensor."""
        ...


def evaluate_language_model(
    model: LanguageModel,
    batches: Iterable[Mapping[str, Any]],
    characters: int | None = None,
    n_bytes: int | None = None,
    documents: int | None = None,
) -> LanguageModelScore:
    """Score a model on all labels of all batches, in evaluation mode and without recording.

    A batch counts by its number of labels that are not -100: a short last one does not weigh as much as a
    full one. Sums are float64, and exact (`math.fsum`). Every module of the model is afterwards in the mode
    that it was in before, also after an error.

    Args:
        model: `loss(batch)` returns the mean over the valid labels of the batch.
        batches: dicts with "labels", integers of any shape; -100 is not scored. Batches without a valid label
            are passed over.
        characters: the number of characters that the scored tokens stand for: gives bits per character.
        n_bytes: the number of bytes in UTF-8: gives bits per byte.
        documents: how many texts the batches come from: handed on.

    Raises:
        DataError: if there is no label to score.
    """
    sums: list[float] = []
    tokens = 0
    with evaluating(model.modules() if hasattr(model, "modules") else ()):  # an n-gram model has none
        for batch in batches:
            count = count_labels(batch)
            if count:
                loss = model.loss(batch)
                sums.append(count * float(loss.item() if isinstance(loss, Tensor) else loss))
                tokens += count
    if not tokens:
        raise DataError("nothing to evaluate: no batch has a label other than -100. Is the text too short?")
    return LanguageModelScore(_sum(sums), tokens, characters, n_bytes, documents)


def count_labels(batch: Mapping[str, Any]) -> int:
    """What the mean loss of a batch is a mean over: its labels other than -100; without labels, its rows."""
    if "labels" not in batch:
        return len(next(iter(batch.values())))
    labels = unwrap(batch["labels"])
    labels = labels if is_array(labels) else np.asarray(labels)  # on the host, where a batch comes from
    return int((labels != IGNORED).sum())


def _sum(numbers: list[float]) -> float:
    # fsum raises where infinities of both signs meet; a loss that is not finite is to be told instead
    return math.fsum(numbers) if all(map(math.isfinite, numbers)) else sum(numbers)

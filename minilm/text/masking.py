"""Texts to learn from without labels, as BERT does: some tokens are hidden, and have to be found again.

    a token is chosen with probability 0.15, and if it is chosen it becomes
        [MASK]              with probability 0.8
        some other token    with probability 0.1
        what it was         with probability 0.1, so that what is there cannot be trusted either

The labels are the tokens at the chosen places, and -100, which the loss leaves out, at all others. For next-sentence
prediction the second segment is, half of the time, from elsewhere.

Source: Devlin et al., "BERT", 2019, section 3.1 and appendix A.1. What differs: masks are drawn anew each epoch (Liu et
al. 2019, "RoBERTa", section 4.1), which costs nothing here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.backend import to_numpy
from minilm.errors import DataError
from minilm.random import Generator
from minilm.text.batches import IGNORED, Example

MASKED, REPLACED = 0.8, 0.1  # of the chosen; the rest stays


def mask_tokens(
    ids: ArrayLike,
    generator: Generator,
    mask_id: int,
    vocab_size: int,
    never: Collection[int] = (),
    probability: float = 0.15,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(input_ids, labels), both as ids in shape: what is shown, and what was there at the chosen places.

    Args:
        ids: integers of any shape.
        mask_id: of [MASK].
        vocab_size: V; other tokens are drawn from 0 .. V - 1, without those in `never`.
        never: ids that are not chosen: [CLS], [SEP], padding.
        probability: with which a token is chosen. At least one is, if any may be: a loss needs a label.
    """
    ids = np.asarray(ids, dtype=np.int64)
    if not 0 < probability <= 1:
        raise ValueError(f"probability={probability}: it is above 0 and at most 1")
    allowed = ~np.isin(ids, list(never))
    drawn = to_numpy(generator.uniform(ids.shape, dtype="float64"))
    chosen = allowed & (drawn < probability)
    if allowed.any() and not chosen.any():
        chosen.reshape(-1)[np.where(allowed, drawn, 2.0).argmin()] = True
    labels = np.where(chosen, ids, IGNORED)
    fate = to_numpy(generator.uniform(ids.shape, dtype="float64"))
    barred = sorted({token for token in (*never, mask_id) if 0 <= token < vocab_size})
    shown = np.where(chosen & (fate < MASKED), mask_id, ids)
    replace = chosen & (fate >= MASKED) & (fate < MASKED + REPLACED)
    if others := vocab_size - len(barred):
        token = generator.integers(0, others, int(replace.sum()))
        for one in barred:  # to the token-th of those that are left, without a list of all V
            token = token + (token >= one)
        shown[replace] = token
    return shown, labels


class MaskedExamples:
    """Examples for masked-language-model training; each epoch hides other tokens.

    Args:
        sequences: rows of ids, each with its [CLS] and [SEP]; or examples ({"input_ids": ..., "token_type_ids": ...}).
        tokenizer: a WordPieceTokenizer, or anything with mask_id, vocab_size and special_tokens.
        seed: of the masks as they are before the first epoch (in an evaluation they stay so).

    Raises:
        DataError: if there are no sequences.
    """

    def __init__(
        self, sequences: Sequence[Any], tokenizer: Any, probability: float = 0.15, seed: int = 0
    ) -> None:
        if not len(sequences):
            raise DataError("there are no sequences to learn from")
        self.sequences, self.tokenizer, self.probability, self.seed = sequences, tokenizer, probability, seed

    def at_epoch(self, generator: Generator) -> MaskedExamples:
        """The same sequences with other tokens hidden."""
        seed = int(generator.integers(0, 2**31))
        return MaskedExamples(self.sequences, self.tokenizer, self.probability, seed)

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> Example:
        sequence = self.sequences[index]
        example = dict(sequence) if isinstance(sequence, dict) else {"input_ids": sequence}
        t = self.tokenizer
        example["input_ids"], example["labels"] = mask_tokens(
            example["input_ids"],
            Generator(self.seed).spawn(f"masks of {index}"),
            t.mask_id,
            t.vocab_size,
            t.special_tokens.values(),
            self.probability,
        )
        return example


def next_sentence_examples(
    documents: Sequence[Sequence[ArrayLike]], tokenizer: Any, generator: Generator, max_length: int = 128
) -> list[dict[str, Any]]:
    """Pairs of neighbouring sentences, half of them torn apart: for next-sentence prediction.

    Args:
        documents: each a list of sentences, each the ids of one.
        tokenizer: a WordPieceTokenizer, which writes the pair.

    Returns:
        {"input_ids", "token_type_ids", "next_sentence_label"} for each sentence but the last of a document: label 0 if
        the second sentence follows the first, 1 if it is one of another document (of any, if there is just one).

    Raises:
        DataError: if no document has two sentences.
    """
    examples = []
    everywhere = [(d, s) for d, document in enumerate(documents) for s in range(len(document))]
    for d, document in enumerate(documents):
        elsewhere = [place for place in everywhere if place[0] != d] or everywhere
        for s in range(len(document) - 1):
            torn = generator.random() < 0.5
            other, place = elsewhere[int(generator.integers(0, len(elsewhere)))] if torn else (d, s + 1)
            pair = tokenizer.pair(document[s], documents[other][place], max_length)
            examples.append({**pair._asdict(), "next_sentence_label": np.int64(torn)})
    if not examples:
        raise DataError("next-sentence prediction needs documents of two sentences and more")
    return examples

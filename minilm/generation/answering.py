"""Answers that are pieces of a text: the best place to begin and to end (Devlin et al. 2019, section 4.2).

    p(s, e) = softmax(start)_s softmax(end)_e            over all tokens of the window, the question's too
    answer  = argmax p(s, e),   s <= e < s + longest,    s and e tokens of the text

A text that is longer than the window is read in overlapping pieces, and the best answer of all pieces is taken. In a
piece without the answer the model has learnt to point at [CLS], so that all other places have little probability there
and the pieces compare. The answer is what the text says, to the letter, not what its tokens would decode to.

    find_answers(model, tokenizer, [("Who wrote it?", "It was written by Ada Lovelace.")])
    [FoundAnswer(text='Ada Lovelace', begin=18, end=30, probability=0.91)]

What this file does not do: tell that the text has no answer, other than by a low probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from minilm.backend import to_numpy
from minilm.errors import ConfigurationError
from minilm.generation.sampling import log_softmax
from minilm.nn import evaluating
from minilm.text import AnswerWindow, WordPieceTokenizer, answer_windows, pad_collate
from minilm.text.questions import WINDOW

LONGEST_ANSWER = 30  # tokens, as published


@dataclass(frozen=True)
class FoundAnswer:
    """An answer: what the text says from character `begin` to before `end`, and how sure the model is of it."""

    text: str
    begin: int
    end: int
    probability: float  # of both ends, in the best piece of the text


def best_span(start: ArrayLike, end: ArrayLike, longest: int = LONGEST_ANSWER) -> tuple[int, int, float]:
    """(s, e, start_s + end_e), the greatest such sum with s <= e < s + longest, and the first of equal ones.

    Args:
        start, end: (T,), a score for each token to be the first and the last one; -inf where it cannot be.
    """
    sums = np.add.outer(np.asarray(start), np.asarray(end))  # (T, T)
    sums[~(np.tri(len(sums), k=longest - 1, dtype=bool) & np.tri(len(sums), dtype=bool).T)] = -np.inf
    s, e = divmod(int(sums.argmax()), len(sums))
    return s, e, float(sums[s, e])


def find_answers(
    model: Any,
    tokenizer: WordPieceTokenizer,
    asked: Sequence[tuple[str, str]],
    longest: int = LONGEST_ANSWER,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 16,
) -> list[FoundAnswer]:
    """The best answer to each of (question, text).

    Args:
        model: BERTForQuestionAnswering, or whatever gives two rows of logits (B, T) for ids, mask and segments.
        longest: the most tokens of an answer.
        window, stride: see `answer_windows`; by itself the window is the model's context, at most 384 tokens.

    Raises:
        DataError: for a question or a text without words.
        ConfigurationError: for a window that is larger than the model's context, or settings below their range.
    """
    most = model.context_length
    if longest < 1 or batch_size < 1:
        raise ConfigurationError(f"longest={longest} and batch_size={batch_size}: both are at least 1")
    if window is not None and window > most:
        raise ConfigurationError(f"a window of {window} tokens: this model reads at most {most} at once")
    window = min(WINDOW, most) if window is None else window
    pieces: list[tuple[int, AnswerWindow]] = []
    for number, (question, text) in enumerate(asked):
        pieces += [(number, piece) for piece in answer_windows(tokenizer, question, text, window, stride)]
    pieces.sort(key=lambda numbered: len(numbered[1].input_ids))  # little padding
    best: list[tuple[float, int, int]] = [(-np.inf, 0, 0)] * len(asked)
    with evaluating(model.modules()):
        for first in range(0, len(pieces), batch_size):
            group = pieces[first : first + batch_size]
            for (number, piece), (start, end) in zip(group, _log_probabilities(model, group), strict=True):
                no_text = piece.offsets[:, 0] < 0
                start[no_text] = end[no_text] = -np.inf
                s, e, score = best_span(start, end, longest)
                if score > best[number][0]:
                    best[number] = score, int(piece.offsets[s, 0]), int(piece.offsets[e, 1])
    found = zip(asked, best, strict=True)
    return [FoundAnswer(text[begin:end], begin, end, float(np.exp(score))) for (_, text), (score, begin, end) in found]


def _log_probabilities(model: Any, group: Sequence[tuple[int, AnswerWindow]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each piece the logarithms (T,) of the probabilities that the answer begins, and that it ends, at a token."""
    keys = ("input_ids", "token_type_ids")
    batch = pad_collate([{key: getattr(piece, key) for key in keys} for _, piece in group])
    both = model(batch["input_ids"], batch.get("attention_mask"), batch["token_type_ids"])
    rows = []
    for row, (_, piece) in enumerate(group):
        start, end = (log_softmax(to_numpy(logits.data)[row, : len(piece.input_ids)]) for logits in both)
        rows.append((start, end))
    return rows

"""A text as a model reads it: ids with the marks that the tokenizer puts around them, and a word for each id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minilm.errors import DataError
from minilm.text import Tokenizer, WordPieceTokenizer


@dataclass(frozen=True)
class Reading:
    """ids (T,) int64, and the tokens, T strings to stand in a picture: spaces are seen, nothing is empty."""

    ids: NDArray[np.int64]
    tokens: tuple[str, ...]


def read(tokenizer: Tokenizer, text: str) -> Reading:
    """Encode a text; WordPiece's goes between [CLS] and [SEP], as BERT was trained to see it.

    Raises:
        DataError: if the text has no token.
        TokenizerError: see the tokenizer's `encode`.
    """
    ids = tokenizer.encode(text)
    if not len(ids):
        raise DataError(f"the text {text!r} has no token: there is nothing to look at")
    if isinstance(tokenizer, WordPieceTokenizer):
        ids = tokenizer.pair(ids).input_ids
        return Reading(ids, tuple(tokenizer.tokens[int(i)] for i in ids))
    return Reading(ids, tuple(token_text(tokenizer, int(i)) for i in ids))


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """One token as it can be shown: line breaks as \\n, a space before a word as it is, a lone space as an open box."""
    if isinstance(tokenizer, WordPieceTokenizer):
        return tokenizer.tokens[token_id]
    text = tokenizer.decode([token_id])
    shown = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return shown if shown.strip() else "\u2423" * max(1, len(shown))

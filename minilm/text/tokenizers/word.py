"""The third rung: a token is a word or a punctuation mark.

The split is one regular expression, in the spirit of spaCy's English rules: punctuation stands alone, and the
contractions come off their words ("don't" -> do n't, "it's" -> it 's). A number keeps its inner points and
commas (3.14), and each Chinese character is a token. The vocabulary holds the most frequent words; all others
become one unknown token.

What it does not do: give the text back. Case, rare words and the spaces between words are lost; `decode` puts
one space between words, and none before closing punctuation. Combining marks are split off: put the text into
NFC first (`minilm.text.clean` does).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import TokenizerError
from minilm.text.tokenizers.base import StreamDecoder, Tokenizer, as_texts, as_token_ids, strings

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LETTER = rf"[^\W{_HAN}]"  # a letter, digit or underscore that is not a Chinese character
_WORD = re.compile(
    rf"""
    {_LETTER}+? (?= n['’]t\b )               # the do of don't
  | n['’]t\b | ['’](?:s|m|d|re|ve|ll)\b      # the n't, and the 's of it's
  | \d+ (?: [.,]\d+ )+                       # 3.14 and 1,000,000
  | {_LETTER}+                               # a word
  | [{_HAN}]                                 # one Chinese character
  | [^\w\s]                                  # one punctuation mark or symbol
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NO_SPACE_BEFORE = re.compile(r"[.,;:!?)\]}%]")
_CONTRACTION = re.compile(r"n['’]t|['’](?:s|m|d|re|ve|ll)", re.IGNORECASE)
_WHOLE_WORD = re.compile(rf"{_LETTER}+")


def split_words(text: str, lower: bool = True) -> list[str]:
    """The words and punctuation marks of a text, in order."""
    return _WORD.findall(text.lower() if lower else text)


class WordTokenizer(Tokenizer):
    """words: the vocabulary in id order, the unknown token first if there is one (unknown=None for none)."""

    type = "word"

    def __init__(self, words: Sequence[str], lower: bool = True, unknown: str | None = "<unk>") -> None:
        if not words:
            raise TokenizerError("a word tokenizer needs at least one word: was the text empty?")
        if unknown is not None and words[0] != unknown:
            raise TokenizerError(f"the first word must be the unknown token {unknown!r}, and is {words[0]!r}")
        self.words = tuple(words)
        self.lower = bool(lower)
        self.unknown = unknown
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            repeated = next(word for word, count in Counter(self.words).items() if count > 1)
            raise TokenizerError(f"a word tokenizer needs each word once, and {repeated!r} repeats")

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        lower: bool = True,
        min_count: int = 1,
        max_size: int | None = None,
        unknown: str | None = "<unk>",
    ) -> Self:
        """The words that occur at least min_count times, the most frequent first and ties in alphabetical
        order.

        max_size: the largest vocab_size, the unknown token included. unknown=None makes a tokenizer without
        an unknown token, whose `encode` raises TokenizerError for a word that it has not seen.
        """
        first = [] if unknown is None else [unknown]
        if min_count < 1:
            raise ValueError(f"min_count must be at least 1, and is {min_count}")
        if max_size is not None and max_size <= len(first):
            raise ValueError(
                f"max_size={max_size} leaves no room for words: the unknown token takes {len(first)}"
            )
        counts: Counter[str] = Counter()
        for text in as_texts(texts):
            counts.update(split_words(text, lower))
        if not counts:
            raise TokenizerError("there are no words in the text to train a word tokenizer on")
        if unknown is not None:
            del counts[unknown]
        words = [word for word, count in counts.items() if count >= min_count]
        words.sort(key=lambda word: (-counts[word], word))
        if not words:
            raise TokenizerError(f"no word occurs {min_count} times: lower min_count, or give more text")
        room = None if max_size is None else max_size - len(first)
        return cls(first + words[:room], lower, unknown)

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> NDArray[np.int64]:
        words = split_words(text, self.lower)
        missing = -1 if self.unknown is None else 0
        ids = np.fromiter((self._ids.get(word, missing) for word in words), np.int64, count=len(words))
        if self.unknown is None and (ids < 0).any():
            first = int(np.argmax(ids < 0))
            raise TokenizerError(
                f"the word {words[first]!r}, number {first} of the text, is not among the {self.vocab_size} "
                "words of "
                'this tokenizer: train a WordTokenizer with unknown="<unk>"'
            )
        return ids

    def decode(self, ids: ArrayLike) -> str:
        words = [self.words[index] for index in as_token_ids(ids, self.vocab_size)]
        spaced = [_space(before, word) + word for before, word in zip([None, *words], words, strict=False)]
        return "".join(spaced)

    def stream_decoder(self) -> StreamDecoder:
        return WordStreamDecoder(self)

    def to_dict(self) -> dict[str, Any]:
        return {"words": list(self.words), "lower": self.lower, "unknown": self.unknown}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        return cls(strings(content, "words"), content["lower"], content["unknown"])


class WordStreamDecoder(StreamDecoder):
    """Remembers the word before, which decides whether a space comes first."""

    def __init__(self, tokenizer: WordTokenizer) -> None:
        super().__init__(tokenizer)
        self._before: str | None = None

    def push(self, token_id: int) -> str:
        word = self.tokenizer.decode([token_id])
        text = _space(self._before, word) + word
        self._before = word
        return text


def _space(before: str | None, word: str) -> str:
    if before is None or _NO_SPACE_BEFORE.fullmatch(word):
        return ""
    return "" if _CONTRACTION.fullmatch(word) and _WHOLE_WORD.fullmatch(before) else " "

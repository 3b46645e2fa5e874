"""The first rung: a token is a character (a Unicode code point).

The vocabulary is the sorted set of the characters in the training text: 65 for Shakespeare. Nothing is
learned, and decode(encode(text)) == text. What it does not do: write a character that it has never seen (the
byte tokenizer writes any), or keep texts short (later rungs merge frequent pairs).
"""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import TokenizerError
from minilm.text.tokenizers.base import Tokenizer, as_texts, as_token_ids

UNKNOWN_CODE = 0xFFFD  # the replacement character, which is what an unknown character decodes to


class CharTokenizer(Tokenizer):
    """characters: each one once. unknown=True adds a token, id 0, that stands for every other character."""

    type = "char"

    def __init__(self, characters: str, unknown: bool = False) -> None:
        codes = _code_points(characters)
        if len(codes) == 0:
            raise TokenizerError("a character tokenizer needs at least one character: was the text empty?")
        if len(np.unique(codes)) != len(codes):
            raise TokenizerError("a character tokenizer needs each character once, and these repeat")
        self.characters = characters
        self.unknown = bool(unknown)
        # Two tables: id -> code point, and code point -> id, whose last entry serves all larger codes.
        self._codes = np.concatenate([[UNKNOWN_CODE], codes]).astype("<u4") if unknown else codes
        missing = 0 if unknown else -1
        self._ids = np.full(int(codes.max()) + 2, missing, dtype=np.int64)
        self._ids[codes] = np.arange(len(codes)) + int(self.unknown)

    @classmethod
    def train(cls, texts: str | Iterable[str], unknown: bool = False) -> Self:
        """All characters of the texts, sorted by code point; the texts may be an iterator larger than
        memory."""
        seen: set[str] = set()
        for text in as_texts(texts):
            seen.update(text)
        return cls("".join(sorted(seen)), unknown)

    @property
    def vocab_size(self) -> int:
        return len(self._codes)

    def encode(self, text: str) -> NDArray[np.int64]:
        # One table lookup over the whole text: a Python loop would be some fifty times slower.
        codes = _code_points(text)
        ids = self._ids[np.minimum(codes, len(self._ids) - 1)]
        if not self.unknown and (ids < 0).any():
            self._refuse(text, ids)
        return ids

    def _refuse(self, text: str, ids: NDArray[np.int64]) -> None:
        positions = np.flatnonzero(ids < 0)
        first = int(positions[0])
        line = text.count("\n", 0, first) + 1
        others = f" ({len(positions)} such places in all)" if len(positions) > 1 else ""
        raise TokenizerError(
            f"the character {text[first]!r} (U+{ord(text[first]):04X}) at position {first}, line {line}, is "
            "not "
            f"among the {len(self.characters)} characters of this tokenizer{others}. Remove it from the "
            "text, or train a CharTokenizer with unknown=True, or use a ByteTokenizer (minilm train --tokenizer byte)"
        )

    def decode(self, ids: ArrayLike) -> str:
        codes = self._codes[as_token_ids(ids, self.vocab_size)]
        return codes.tobytes().decode("utf-32-le", errors="surrogatepass")

    def to_dict(self) -> dict[str, Any]:
        return {"characters": self.characters, "unknown": self.unknown}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        characters, unknown = content["characters"], content["unknown"]
        if not isinstance(characters, str) or not isinstance(unknown, bool):
            raise TypeError('"characters" must be a string and "unknown" true or false')
        return cls(characters, unknown)


def _code_points(text: str) -> NDArray[np.uint32]:
    """The code points of the characters (T,), little-endian: UTF-32 is just that array."""
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")

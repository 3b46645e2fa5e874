"""SentencePiece's byte-pair encoding, as in Llama: each token has a score, and the best possible merge comes first.

    "Once a day"  ->  "\u2581Once\u2581a\u2581day"  ->  \u2581Once \u2581a \u2581day

Three things differ from GPT-2's. The text is not cut into words: a space is a letter, written U+2581, and one is put
before the text, so that a word is the same at the beginning as in the middle. The merges are not listed: two neighbours
merge if the vocabulary has what they make, the pair with the highest score first and the leftmost of equal ones. And
the symbols are characters; one that the vocabulary lacks becomes the tokens <0xNN> of its UTF-8 bytes ("byte
fallback"), or without those the unknown token.

A control token (<s>, </s>) is never made from text unless `allowed_special` says so (see `special`), and decodes to
nothing. A user-defined token is made wherever the text has it. A lone surrogate is an error.

Source: Kudo and Richardson, "SentencePiece", EMNLP 2018; the greedy merging is bpe_model.cc's.
What it does not do: train, put the text into a normal form first (Llama's does not either), or the unigram model of
T5 and others. U+2581 in a text comes back as a space.
"""

import heapq
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import TokenizerError
from minilm.text.tokenizers.base import StreamDecoder, Tokenizer, as_token_ids, strings
from minilm.text.tokenizers.byte import Utf8StreamDecoder, utf8
from minilm.text.tokenizers.cache import WordCache
from minilm.text.tokenizers.special import AllowedSpecial, SpecialTokens

SPACE = "\u2581"
UNKNOWN_TEXT = " \u2047 "  # what SentencePiece writes for the unknown token
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_WORD = re.compile(rf"{SPACE}*[^{SPACE}]+|{SPACE}+")  # a word with the spaces before it


class TokenType(IntEnum):
    """The numbers that SentencePiece and GGUF files use."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_TEXT = (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED)


class SentencePieceTokenizer(Tokenizer):
    """tokens: in id order, with U+2581 for a space; scores: one each; types: TokenType of each.

    add_space_prefix: put a space before the text. bos_id, eos_id: for those who need them; `encode` adds neither.
    """

    type = "sentencepiece"

    def __init__(
        self,
        tokens: Sequence[str],
        scores: Sequence[float],
        types: Sequence[int],
        add_space_prefix: bool = True,
        bos_id: int | None = 1,
        eos_id: int | None = 2,
    ) -> None:
        self.tokens, self.add_space_prefix = tuple(tokens), bool(add_space_prefix)
        self.scores = tuple(float(score) for score in scores)
        self.bos_id, self.eos_id = bos_id, eos_id
        self._check(types)
        self.types = tuple(TokenType(value) for value in types)
        by_type: dict[TokenType, dict[str, int]] = {kind: {} for kind in TokenType}
        for index, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True)):
            by_type[kind][token] = index
        self.special_tokens = by_type[TokenType.CONTROL]
        self.unknown_id = next(iter(by_type[TokenType.UNKNOWN].values()), None)
        self._special = SpecialTokens(self.special_tokens)
        self._user_defined = SpecialTokens(by_type[TokenType.USER_DEFINED])
        self._normal = by_type[TokenType.NORMAL]
        self._bytes = self._byte_ids(by_type[TokenType.BYTE])
        self._pieces = [self._piece(token, kind) for token, kind in zip(self.tokens, self.types, strict=True)]
        # If no token goes from a letter on to a space, no merge does, and each word can be encoded by itself.
        self._by_words = not any(re.search(f"[^{SPACE}]{SPACE}", token) for token in self._normal)
        self._cache = WordCache(self._encode_word)

    @classmethod
    def from_llama2c(cls, path: str | os.PathLike[str]) -> Self:
        """llama2.c's tokenizer.bin: int32 longest; then for each token float32 score, int32 length, its bytes.

        The file has no types: id 0 is the unknown token, 1 and 2 are <s> and </s>, and <0xNN> are bytes.
        """
        tokens, scores = _read_llama2c(path)
        types = [TokenType.BYTE if _BYTE.fullmatch(token) else TokenType.NORMAL for token in tokens]
        if len(tokens) < 3:
            raise TokenizerError(f"{os.fspath(path)} has {len(tokens)} tokens: is it cut short?")
        types[:3] = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
        tokens[:3] = [token.strip("\n") for token in tokens[:3]]  # the file has "\n<s>\n", for its printing
        return cls([token.replace(" ", SPACE) for token in tokens], scores, types)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, allowed_special: AllowedSpecial = ()) -> NDArray[np.int64]:
        """text -> ids (T,), without <s>. allowed_special: the control tokens that the text may hold, or "all".

        Between control tokens each text gets its space prefix.
        """
        utf8(text)  # complains about a lone surrogate, with its place in the text
        ids: list[int] = []
        for ordinary, special in self._special.split(text, allowed_special):
            if special is not None:
                ids.append(special)
            elif ordinary:
                spaced = (SPACE if self.add_space_prefix else "") + ordinary.replace(" ", SPACE)
                for part, user_defined in self._user_defined.split(spaced, "all"):
                    if user_defined is not None:
                        ids.append(user_defined)
                    else:
                        words = _WORD.findall(part) if self._by_words else [part]
                        ids.extend(chain.from_iterable(map(self._cache.__getitem__, words)))
        return np.array(self._fused(ids), dtype=np.int64)

    def decode(self, ids: ArrayLike) -> str:
        shown = [index for index in as_token_ids(ids, self.vocab_size).tolist() if self._pieces[index]]
        pieces = [self._pieces[index] for index in shown]
        if shown and self.begins_with_prefix(shown[0]):
            pieces[0] = pieces[0][1:]
        return b"".join(pieces).decode("utf-8", errors="replace")

    def stream_decoder(self) -> StreamDecoder:
        return SentencePieceStreamDecoder(self, self._pieces)

    def to_dict(self) -> dict[str, Any]:
        return {
            "tokens": list(self.tokens),
            "scores": list(self.scores),
            "types": [int(kind) for kind in self.types],
            "add_space_prefix": self.add_space_prefix,
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        scores, types = content["scores"], content["types"]
        if not all(isinstance(score, float) for score in scores) or not all(type(kind) is int for kind in types):
            raise TypeError('"scores" must be decimal numbers and "types" whole ones')
        rest = {name: content[name] for name in ("add_space_prefix", "bos_id", "eos_id")}
        return cls(strings(content, "tokens"), scores, types, **rest)

    def begins_with_prefix(self, token_id: int) -> bool:
        """True if the space at the beginning of this token, where it is the first of a text, is no part of the text."""
        return self.add_space_prefix and self.types[token_id] in _TEXT and self.tokens[token_id].startswith(SPACE)

    def _encode_word(self, word: str) -> list[int]:
        ids: list[int] = []
        for symbol in self._merged(list(word)):
            if (index := self._normal.get(symbol)) is not None:
                ids.append(index)
            elif self._bytes:
                ids.extend(self._bytes[byte] for byte in utf8(symbol))
            elif self.unknown_id is not None:
                ids.append(self.unknown_id)
            else:
                raise TokenizerError(f"this vocabulary has no token for {symbol!r}, no bytes and no unknown token")
        return ids

    def _merged(self, symbols: list[str]) -> list[str]:
        """Merge two neighbours as long as that is possible: those with the highest score, of equal ones the leftmost.

        The symbols are a linked list. A queue holds the possible merges; one whose symbols have changed since is stale.
        """
        end = len(symbols)
        after, before = list(range(1, end + 1)), list(range(-1, end - 1))
        queue: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            made = symbols[left] + symbols[right]
            if (index := self._normal.get(made)) is not None:
                heapq.heappush(queue, (-self.scores[index], left, right, made))

        for right in range(1, end):
            offer(right - 1, right)
        while queue:
            _, left, right, made = heapq.heappop(queue)
            if not symbols[left] or not symbols[right] or symbols[left] + symbols[right] != made:
                continue
            symbols[left], symbols[right] = made, ""
            after[left] = after[right]
            if before[left] >= 0:
                offer(before[left], left)
            if after[left] < end:
                before[after[left]] = left
                offer(left, after[left])
        return [symbol for symbol in symbols if symbol]

    def _fused(self, ids: list[int]) -> list[int]:
        """Several unknown tokens in a row are one."""
        if self.unknown_id is None or self.unknown_id not in ids:
            return ids
        return list(chain.from_iterable([key] if key == self.unknown_id else group for key, group in groupby(ids)))

    def _check(self, types: Sequence[int]) -> None:
        if not len(self.tokens) == len(self.scores) == len(types):
            raise TokenizerError(
                f"a SentencePiece tokenizer needs a score and a type for each token, and there are {len(self.tokens)} "
                f"tokens, {len(self.scores)} scores and {len(types)} types"
            )
        if len(set(self.tokens)) != len(self.tokens):
            repeated = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise TokenizerError(f"a SentencePiece tokenizer needs each token once, and {repeated!r} repeats")
        for index, (score, kind) in enumerate(zip(self.scores, types, strict=True)):
            if not math.isfinite(score) or kind not in set(TokenType):
                raise TokenizerError(
                    f"token {index}, {self.tokens[index]!r}, has the score {score} and the type {kind}: a score is a "
                    f"finite number, and a type one of 1 .. {len(TokenType)}"
                )
        for name, special in (("bos_id", self.bos_id), ("eos_id", self.eos_id)):
            if special is not None and not 0 <= special < len(self.tokens):
                raise TokenizerError(f"{name}={special} is outside the vocabulary of {len(self.tokens)} tokens")

    def _byte_ids(self, tokens: dict[str, int]) -> list[int]:
        """The id of the token of each byte, or none at all."""
        ids = {int(match[1], 16): index for token, index in tokens.items() if (match := _BYTE.fullmatch(token))}
        if tokens and not len(tokens) == len(ids) == 256:
            raise TokenizerError(
                f"there are {len(tokens)} byte tokens, for {len(ids)} bytes: they must be <0x00> to <0xFF>, or none"
            )
        return [ids[byte] for byte in range(256)] if ids else []

    @staticmethod
    def _piece(token: str, kind: TokenType) -> bytes:
        if kind == TokenType.BYTE:
            return bytes([int(token[3:5], 16)])
        text = {TokenType.CONTROL: "", TokenType.UNKNOWN: UNKNOWN_TEXT}.get(kind, token.replace(SPACE, " "))
        return utf8(text)


class SentencePieceStreamDecoder(Utf8StreamDecoder):
    """Takes the prefixed space off the first token that is text."""

    _begins = True

    def _piece(self, index: int) -> bytes:
        assert isinstance(self.tokenizer, SentencePieceTokenizer)
        piece = super()._piece(index)
        if self._begins and piece:
            self._begins = False
            return piece[1:] if self.tokenizer.begins_with_prefix(index) else piece
        return piece


def _read_llama2c(path: str | os.PathLike[str]) -> tuple[list[str], list[float]]:
    where = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read the vocabulary file {where}: {error}") from error
    tokens, scores, position = [], [], 4
    while position < len(data):
        try:
            score, length = struct.unpack_from("<fi", data, position)
            begin, position = position + 8, position + 8 + length
            if length < 0 or position > len(data):
                raise ValueError(f"it has {length} bytes, and {len(data) - begin} are left")
            tokens.append(data[begin:position].decode("utf-8"))
            scores.append(score)
        except (struct.error, ValueError) as error:
            raise TokenizerError(f"{where} is damaged or cut short at token {len(tokens)}: {error}") from error
    return tokens, scores

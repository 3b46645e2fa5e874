"""BERT's WordPiece: words, and where the vocabulary has no such word, the longest pieces of it, from the left.

    "Unaffable!"  ->  un ##aff ##able !        ## says: goes on without a space

First a text becomes words. Control characters go, each punctuation mark and each Chinese character is a word of its
own, and for an uncased vocabulary accents go and letters become small. All of this can be told from one character at a
time, so it is one table from a character to what is written instead, and the words are what stands between spaces.
Then each word by itself: the longest token that it begins with, then the longest that goes on from there. A word that
cannot be finished, or has more than 100 characters, is [UNK] as a whole.

    encode(text)                the ids of one text
    encode_with_offsets(text)   and where in the text each token comes from, for who has to find an answer in it
    pair(first, second)         [CLS] first [SEP] second [SEP], with token_type_ids 0 and 1

Text that looks like a special token is ordinary text unless `allowed_special` says otherwise (see `special`). A lone
surrogate is dropped, like a control character.

Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2019, section 3, and its
tokenization.py; the pieces are from Wu et al., "Google's Neural Machine Translation System", 2016, section 4.1.
What it does not do: give the text back (spaces, case and accents are lost), or train a vocabulary.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import TokenizerError
from minilm.text.tokenizers.base import StreamDecoder, Tokenizer, as_token_ids, read_vocabulary_file, strings
from minilm.text.tokenizers.cache import WordCache
from minilm.text.tokenizers.special import AllowedSpecial, SpecialTokens

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
LONGEST_WORD = 100  # characters
# Blocks of Chinese characters, as in BERT: not all of Unicode's, and no Japanese kana or Korean hangul.
_CHINESE = (
    range(0x4E00, 0xA000), range(0x3400, 0x4DC0), range(0x20000, 0x2A6E0), range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820), range(0x2B820, 0x2CEB0), range(0xF900, 0xFB00), range(0x2F800, 0x2FA20),
)  # fmt: skip


class PairInput(NamedTuple):
    """What BERT takes: ids (T,), and token_type_ids (T,), 0 up to the first [SEP] and 1 after it."""

    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]


class WordPieceTokenizer(Tokenizer):
    """tokens: in id order, the five special ones among them. lower: True for an uncased vocabulary."""

    type = "wordpiece"

    def __init__(self, tokens: Sequence[str], lower: bool = True) -> None:
        self.tokens, self.lower = tuple(tokens), bool(lower)
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            repeated = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise TokenizerError(f"a WordPiece tokenizer needs each token once, and {repeated!r} repeats")
        if lacking := [token for token in SPECIAL_TOKENS if token not in self._ids]:
            raise TokenizerError(f"a WordPiece vocabulary must have {', '.join(lacking)}: is it cut short?")
        self.special_tokens = {token: self._ids[token] for token in SPECIAL_TOKENS}
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = self.special_tokens.values()
        self._special = SpecialTokens(self.special_tokens)
        self._longest = max(map(len, self.tokens))
        self._table = _Characters(self.lower)
        self._cache = WordCache(lambda word: [index for index, _, _ in self._pieces(word)])

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], lower: bool = True) -> Self:
        """BERT's vocab.txt: one token a line, in id order."""
        lines = [line.removesuffix("\r") for line in read_vocabulary_file(path).removesuffix("\n").split("\n")]
        if "" in lines:
            raise TokenizerError(f"{os.fspath(path)}, line {lines.index('') + 1}: there is no token on this line")
        try:
            return cls(lines, lower)
        except TokenizerError as error:
            raise TokenizerError(f"{os.fspath(path)}: {error}") from error

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, allowed_special: AllowedSpecial = ()) -> NDArray[np.int64]:
        """text -> ids (T,), without [CLS] and [SEP]. allowed_special: those that the text may hold, or "all"."""
        ids: list[int] = []
        for part, special in self._special.split(text, allowed_special):
            if special is not None:
                ids.append(special)
            else:
                ids.extend(chain.from_iterable(map(self._cache.__getitem__, part.translate(self._table).split())))
        return np.array(ids, dtype=np.int64)

    def encode_with_offsets(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """text -> ids (T,), as `encode` gives, and offsets (T, 2), where each token begins and ends in the text.

        Of an answer with the tokens 3 .. 7, text[offsets[3, 0] : offsets[7, 1]] is what the text says, to the letter.
        """
        ids, offsets = [], []
        for word, origin in self._words(text):
            for index, begin, end in self._pieces(word):
                ids.append(index)
                offsets.append((origin[begin], origin[end - 1] + 1))
        return np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64).reshape(-1, 2)

    def pair(self, first: ArrayLike, second: ArrayLike | None = None, max_length: int | None = None) -> PairInput:
        """[CLS] first [SEP], or [CLS] first [SEP] second [SEP]; first and second are ids that `encode` gave.

        What is longer than max_length loses tokens at the end of the longer of the two, the second if they are equal.
        """
        first = as_token_ids(first, self.vocab_size)
        ends = 2 if second is None else 3
        second = as_token_ids([] if second is None else second, self.vocab_size)
        if max_length is not None and len(first) + len(second) + ends > max_length:
            room = max_length - ends
            if room < 0:
                raise ValueError(f"max_length={max_length} leaves no room: [CLS] and [SEP] alone are {ends} tokens")
            keep = max(room - len(second), min(len(first), (room + 1) // 2))
            first, second = first[:keep], second[: room - keep]
        separator = np.array([self.sep_id])
        one = np.concatenate([[self.cls_id], first, separator])
        two = np.concatenate([second, separator]) if ends == 3 else second
        return PairInput(np.concatenate([one, two]), np.repeat(np.arange(2), [len(one), len(two)]))

    def decode(self, ids: ArrayLike) -> str:
        """The words with one space between them; punctuation marks are words too."""
        pieces = [self.tokens[index] for index in as_token_ids(ids, self.vocab_size).tolist()]
        return "".join(_written(piece, first=not index) for index, piece in enumerate(pieces))

    def stream_decoder(self) -> StreamDecoder:
        return WordPieceStreamDecoder(self)

    def to_dict(self) -> dict[str, Any]:
        return {"tokens": list(self.tokens), "lower": self.lower}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        if not isinstance(content["lower"], bool):
            raise TypeError('"lower" must be true or false')
        return cls(strings(content, "tokens"), content["lower"])

    def _pieces(self, word: str) -> list[tuple[int, int, int]]:
        """The tokens of a word: (id, begin, end), which characters of the word each of them covers."""
        unknown = [(self.unknown_id, 0, len(word))]
        if len(word) > LONGEST_WORD:
            return unknown
        pieces, begin = [], 0
        while begin < len(word):
            prefix = CONTINUES if begin else ""
            for end in range(min(len(word), begin + self._longest), begin, -1):
                if (index := self._ids.get(prefix + word[begin:end])) is not None:
                    pieces.append((index, begin, end))
                    begin = end
                    break
            else:
                return unknown
        return pieces

    def _words(self, text: str) -> list[tuple[str, list[int]]]:
        """The words, and the position in the text that each character of a word comes from."""
        words: list[tuple[str, list[int]]] = []
        characters: list[str] = []
        origin: list[int] = []
        for position, character in enumerate(chain(text, " ")):
            for written in self._table[ord(character)]:
                if written != " ":
                    characters.append(written)
                    origin.append(position)
                elif characters:
                    words.append(("".join(characters), origin))
                    characters, origin = [], []
        return words


class WordPieceStreamDecoder(StreamDecoder):
    """Only the first token has no space before it."""

    _first = True

    def push(self, token_id: int) -> str:
        (index,) = as_token_ids([token_id], self.tokenizer.vocab_size)
        assert isinstance(self.tokenizer, WordPieceTokenizer)
        text = _written(self.tokenizer.tokens[index], self._first)
        self._first = False
        return text


def _written(piece: str, first: bool) -> str:
    if first:
        return piece
    return piece[len(CONTINUES) :] if piece.startswith(CONTINUES) else " " + piece


class _Characters(dict[int, str]):
    """{code point: what is written instead}, for str.translate; filled with the characters that occur."""

    def __init__(self, lower: bool) -> None:
        super().__init__()
        self._lower = lower

    def __missing__(self, code: int) -> str:
        written = self._written(chr(code))
        self[code] = written
        return written

    def _written(self, character: str) -> str:
        if character in "\t\n\r" or unicodedata.category(character) in ("Zs", "Zl", "Zp"):
            return " "
        if character == "\ufffd" or unicodedata.category(character).startswith("C"):
            return ""
        alone = any(ord(character) in block for block in _CHINESE)
        if self._lower:  # decomposed, an accent is a character of its own; the order matters for the Turkish I
            decomposed = unicodedata.normalize("NFD", character)
            character = "".join(c for c in decomposed if unicodedata.category(c) != "Mn").lower()
        written = "".join(f" {c} " if _is_punctuation(c) else c for c in character)
        return f" {written} " if alone else written


def _is_punctuation(character: str) -> bool:
    """Unicode's punctuation, and all of ASCII that is no letter, digit, space or control character: $ + < ^ ` too."""
    return unicodedata.category(character).startswith("P") or (character.isascii() and not character.isalnum())

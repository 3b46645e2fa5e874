r"""The fifth rung: GPT-2's byte-pair encoding. The text is cut into words first, and no merge goes across a cut.

    "I've 2 dogs"  ->  "I" "'ve" " 2" " dogs"  ->  the merges, in each word by itself

A word takes the space before it along. So "dogs", "dogs," and "dogs." share a token, and since words repeat, a cache
makes encoding quick: most words are looked up. Training counts each distinct word once, with its frequency.

Tokens are written one printable character to the byte (see `byte_characters`), in files and here.

Text that looks like a special token is ordinary text unless `allowed_special` says otherwise (see `special`).
A lone surrogate, which UTF-8 cannot write, is an error.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.2, and its encoder.py.
What it does not do: put the text into a normal form. An e with an accent as one character or as two is not the same.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Self

import numpy as np
import regex
from numpy.typing import ArrayLike, NDArray

from minilm.errors import TokenizerError
from minilm.text.tokenizers.base import StreamDecoder, Tokenizer, as_texts, as_token_ids, strings
from minilm.text.tokenizers.bpe import MergeTable, learn_merges
from minilm.text.tokenizers.byte import Utf8StreamDecoder, utf8
from minilm.text.tokenizers.byte_characters import CHARACTER_OF, CHARACTERS, as_bytes
from minilm.text.tokenizers.cache import WordCache
from minilm.text.tokenizers.gpt2_files import read_encoder, read_merges, read_ranks
from minilm.text.tokenizers.pairs import PairIndex
from minilm.text.tokenizers.special import AllowedSpecial, SpecialTokens

# The pieces of these patterns: the endings of contractions; letters, digits or other signs, each with a space before
# them; and spaces, but for the last one if a word follows, which goes with the word.
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # SmolLM2 takes each digit by itself, first, and GPT-2's pattern for what lies between: a digit takes no space
    # along, and spaces before it stay together.
    "smollm2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+",
}
END_OF_TEXT = "<|endoftext|>"


class GPT2Tokenizer(Tokenizer):
    """tokens: in id order, written as characters (see above). merges: pairs of them, in order; what a pair makes is a
    token too. special_tokens: those of the tokens that no text makes. pattern: one of PATTERNS.

    A vocabulary may lack bytes (SmolLM2's does): a text that needs one is refused.
    """

    type = "gpt2"

    def __init__(
        self,
        tokens: Sequence[str],
        merges: Sequence[tuple[str, str]],
        special_tokens: Sequence[str] = (),
        pattern: str = "gpt2",
    ) -> None:
        if pattern not in PATTERNS:
            raise TokenizerError(f"there is no pattern {pattern!r} for words: it is one of {', '.join(PATTERNS)}")
        self.tokens, self.merges, self.pattern = tuple(tokens), tuple(merges), pattern
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            repeated = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise TokenizerError(f"a GPT-2 tokenizer needs each token once, and {repeated!r} repeats")
        for name in special_tokens:
            if name not in self._ids:
                raise TokenizerError(f"the special token {name!r} is not among the tokens")
        self.special_tokens = {name: self._ids[name] for name in special_tokens}
        self._special = SpecialTokens(self.special_tokens)
        self._pieces = [self._bytes(token) for token in self.tokens]
        ordinary = {token: index for token, index in self._ids.items() if token not in self.special_tokens}
        self._id_of_byte = [ordinary.get(character, -1) for character in CHARACTER_OF]
        self._table = self._merge_table()
        self._words = regex.compile(PATTERNS[pattern])
        self._cache = WordCache(self._encode_word)

    @classmethod
    def from_files(
        cls,
        encoder: str | os.PathLike[str],
        merges: str | os.PathLike[str],
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        pattern: str = "gpt2",
    ) -> Self:
        """GPT-2's own vocabulary from its two files: encoder.json (or vocab.json) and vocab.bpe (or merges.txt)."""
        tokenizer = cls(read_encoder(encoder), read_merges(merges), special_tokens, pattern)
        made = {left + right for left, right in tokenizer.merges}
        for token in tokenizer.tokens:
            if len(token) > 1 and token not in made and token not in tokenizer.special_tokens:
                raise TokenizerError(
                    f"no merge in {os.fspath(merges)} makes the token {token!r} of {os.fspath(encoder)}: do the files "
                    "belong together, is the merges' file cut short, or should it be one of special_tokens?"
                )
        return tokenizer

    @classmethod
    def from_tiktoken(
        cls,
        path: str | os.PathLike[str],
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        pattern: str = "gpt2",
    ) -> Self:
        """The same from a .tiktoken file, which has no special tokens: these come after its tokens, in order."""
        tokens, merges = read_ranks(path)
        return cls([*tokens, *special_tokens], merges, special_tokens, pattern)

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        pattern: str = "gpt2",
    ) -> Self:
        """The bytes, then merges as in `BPETokenizer.train`, inside words; the special tokens come last.

        There are at most vocab_size tokens, and fewer if no pair occurs twice. Special tokens in the texts part them.
        """
        room = vocab_size - 256 - len(special_tokens)
        if room < 0:
            raise ValueError(
                f"vocab_size={vocab_size} is too small: the bytes and the special tokens are "
                f"{256 + len(special_tokens)} tokens"
            )
        empty = cls([*CHARACTERS, *special_tokens], [], special_tokens, pattern)
        counts: Counter[str] = Counter()
        for text in as_texts(texts):
            parts = empty._special.split(text, "all")
            counts.update(chain.from_iterable(empty._words.findall(part) for part, special in parts if special is None))
        if not counts:
            raise TokenizerError("there is no text to train a BPE tokenizer on")
        words = [utf8(word) for word in counts]
        ids = np.array(empty._id_of_byte)[np.frombuffer(b"".join(words), dtype=np.uint8)]
        index = PairIndex(ids, [len(word) for word in words], list(counts.values()))
        tokens, merges = list(CHARACTERS), []
        for left, right in learn_merges(index, room):
            merges.append((tokens[left], tokens[right]))
            tokens.append(tokens[left] + tokens[right])
        return cls([*tokens, *special_tokens], merges, special_tokens, pattern)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, allowed_special: AllowedSpecial = ()) -> NDArray[np.int64]:
        """text -> ids (T,). allowed_special: the special tokens that the text may hold as such, or "all"."""
        utf8(text)  # complains about a lone surrogate, with its place in the text
        ids: list[int] = []
        for part, special in self._special.split(text, allowed_special):
            if special is not None:
                ids.append(special)
            else:
                ids.extend(chain.from_iterable(map(self._cache.__getitem__, self._words.findall(part))))
        return np.array(ids, dtype=np.int64)

    def decode(self, ids: ArrayLike) -> str:
        pieces = [self._pieces[index] for index in as_token_ids(ids, self.vocab_size).tolist()]
        return b"".join(pieces).decode("utf-8", errors="replace")

    def stream_decoder(self) -> StreamDecoder:
        return Utf8StreamDecoder(self, self._pieces)

    def to_dict(self) -> dict[str, Any]:
        return {
            "tokens": list(self.tokens),
            "merges": [f"{left} {right}" for left, right in self.merges],
            "special_tokens": list(self.special_tokens),
            "pattern": self.pattern,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        merges = [merge.split(" ") for merge in strings(content, "merges")]
        if not all(len(merge) == 2 for merge in merges):
            raise TypeError('"merges" must be strings of two tokens with a space between')
        pairs = [(left, right) for left, right in merges]
        return cls(strings(content, "tokens"), pairs, strings(content, "special_tokens"), content["pattern"])

    def _bytes(self, token: str) -> bytes:
        return utf8(token) if token in self.special_tokens else as_bytes(token)

    def _merge_table(self) -> MergeTable:
        table = MergeTable()
        for index, (left, right) in enumerate(self.merges):
            for token in (left, right, left + right):
                if token not in self._ids or token in self.special_tokens:
                    raise TokenizerError(
                        f"merge {index} is {left!r} + {right!r}, and {token!r} is not in the vocabulary: do the merges "
                        "and the tokens belong together?"
                    )
            pair = self._ids[left], self._ids[right]
            if pair in table:
                raise TokenizerError(f"merge {index}, {left!r} + {right!r}, is there twice")
            table.add(pair, self._ids[left + right])
        return table

    def _encode_word(self, word: str) -> tuple[int, ...]:
        data = utf8(word)
        ids = [self._id_of_byte[byte] for byte in data]
        if -1 in ids:
            raise TokenizerError(
                f"this vocabulary has no token for the byte 0x{data[ids.index(-1)]:02X} of {word[:80]!r}: remove it "
                "from the text"
            )
        return tuple(self._table.apply(ids))

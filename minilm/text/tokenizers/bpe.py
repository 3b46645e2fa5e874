"""The fourth rung: byte-pair encoding. A token is a sequence of bytes that was frequent in the training text.

    aaabdaaabac     the most frequent pair is aa: call it Z
    ZabdZabac       now ab: Y
    ZYdZYac         now ZY: X
    XdXac           no pair occurs twice: done

The tokens are the 256 bytes, then one for each merge, in order. Training counts pairs; encoding makes the same merges
in the same order. So any text can be written, as with bytes, and a frequent one is short.

Source: Gage, "A New Algorithm for Data Compression", 1994; for language models Sennrich, Haddow and Birch, "Neural
Machine Translation of Rare Words with Subword Units", ACL 2016.

What it does not do: know what a word is. Tokens such as "e, and the " are made where they are frequent, and one word
gets many tokens, with this punctuation and that. The next rung cuts the text into words first.
"""

import heapq
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import TokenizerError
from minilm.text.tokenizers.base import StreamDecoder, Tokenizer, as_texts, as_token_ids
from minilm.text.tokenizers.byte import SINGLE_BYTES, Utf8StreamDecoder, utf8
from minilm.text.tokenizers.pairs import Pair, PairIndex

LONG = 2000  # symbols from which on the index of pairs is quicker than a search for each merge
MOST_BYTES = 1 << 28  # of all tokens: each merge may double the length, so a short file could ask for any memory


class BPETokenizer(Tokenizer):
    """merges: pairs of ids, in order; merge i makes the token 256 + i out of two tokens that come before it."""

    type = "bpe"

    def __init__(self, merges: Sequence[Pair]) -> None:
        self.merges = tuple((int(left), int(right)) for left, right in merges)
        _check(self.merges)
        tokens = list(SINGLE_BYTES)
        for left, right in self.merges:
            tokens.append(tokens[left] + tokens[right])
        self.tokens = tuple(tokens)
        self._table = MergeTable()
        for index, pair in enumerate(self.merges):
            self._table.add(pair, 256 + index)

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int) -> Self:
        """Merge the most frequent pair until there are vocab_size tokens, or no pair occurs twice.

        Of pairs that are equally frequent the one with the smallest ids comes first. No merge goes across texts.
        """
        if vocab_size < 256:
            raise ValueError(f"vocab_size={vocab_size} is too small: the bytes alone are 256 tokens")
        data = [utf8(text) for text in as_texts(texts)]
        symbols = np.frombuffer(b"".join(data), dtype=np.uint8)
        if not len(symbols):
            raise TokenizerError("there is no text to train a BPE tokenizer on")
        index = PairIndex(symbols, [len(item) for item in data], np.ones(len(data)))
        return cls(learn_merges(index, vocab_size - 256))

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> NDArray[np.int64]:
        return np.array(self._table.apply(list(utf8(text))), dtype=np.int64)

    def decode(self, ids: ArrayLike) -> str:
        pieces = [self.tokens[index] for index in as_token_ids(ids, self.vocab_size).tolist()]
        return b"".join(pieces).decode("utf-8", errors="replace")

    def stream_decoder(self) -> StreamDecoder:
        return Utf8StreamDecoder(self, self.tokens)

    def to_dict(self) -> dict[str, Any]:
        return {"merges": [list(pair) for pair in self.merges]}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        merges = content["merges"]
        for pair in merges:
            if not (isinstance(pair, list) and len(pair) == 2 and all(type(token) is int for token in pair)):
                raise TypeError(f'"merges" must be pairs of ids, and one is {pair!r}')
        return cls(merges)


def learn_merges(index: PairIndex, most: int) -> list[Pair]:
    """Merge the most frequent pair `most` times, or until none occurs twice; the pairs in order.

    The ids of `index` are below 256; the merges make 256, 257, ...
    """
    queue = [(-count, pair) for pair, count in index.counts.items()]
    heapq.heapify(queue)
    merges: list[Pair] = []
    while queue and len(merges) < most:
        count, pair = heapq.heappop(queue)
        now = index.counts.get(pair, 0)
        if now < 2:
            continue
        if now != -count:  # it became rarer meanwhile: back into the queue (if more frequent, it is there already)
            heapq.heappush(queue, (-now, pair))
            continue
        for changed in index.merge(pair, 256 + len(merges)):
            heapq.heappush(queue, (-index.counts[changed], changed))
        merges.append(pair)
    return merges


class MergeTable:
    """Merges in order, and how they are made."""

    def __init__(self) -> None:
        self._ranks: dict[Pair, int] = {}
        self._made: list[tuple[Pair, int]] = []

    def add(self, pair: Pair, new: int) -> None:
        """The next merge: the pair becomes the token `new`."""
        self._ranks[pair] = len(self._made)
        self._made.append((pair, new))

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._ranks

    def apply(self, ids: list[int]) -> list[int]:
        """Make the first merge that is possible, at the leftmost place, until none is possible."""
        if len(ids) >= LONG:
            return self._apply_with_index(ids)
        ids, none = list(ids), len(self._made)
        ranks = [self._ranks.get(pair, none) for pair in pairwise(ids)]  # of the merge of ids[i] and ids[i + 1]
        while ranks and (rank := min(ranks)) < none:
            at = ranks.index(rank)
            ids[at : at + 2] = [self._made[rank][1]]
            del ranks[at]
            for neighbour in range(max(0, at - 1), min(at + 1, len(ranks))):
                ranks[neighbour] = self._ranks.get((ids[neighbour], ids[neighbour + 1]), none)
        return ids

    def _apply_with_index(self, ids: list[int]) -> list[int]:
        """The same without looking at all symbols for each merge: a megabyte without a space is no trap."""
        index = PairIndex(ids, [len(ids)], [1])
        queue = [self._ranks[pair] for pair in index.counts if pair in self._ranks]
        heapq.heapify(queue)
        while queue:
            pair, new = self._made[heapq.heappop(queue)]
            if index.counts.get(pair):
                for changed in index.merge(pair, new):
                    if changed in self._ranks:
                        heapq.heappush(queue, self._ranks[changed])
        return index.symbols().tolist()


def _check(merges: tuple[Pair, ...]) -> None:
    lengths = [1] * 256
    for index, (left, right) in enumerate(merges):
        if not (0 <= left < 256 + index and 0 <= right < 256 + index):
            raise TokenizerError(
                f"merge {index} is ({left}, {right}), and may only name tokens that are there before it: "
                f"0 .. {255 + index}"
            )
        lengths.append(lengths[left] + lengths[right])
    if len(set(merges)) != len(merges):
        raise TokenizerError("a BPE tokenizer makes each merge once, and one of these repeats")
    if sum(lengths) > MOST_BYTES:
        raise TokenizerError(
            f"the tokens of these merges have {sum(lengths):,} bytes, more than {MOST_BYTES:,}: no training made them"
        )

"""Sequences of symbols in which, again and again, one pair of neighbours becomes one symbol wherever it stands.

Byte-pair encoding does nothing else, in training and in encoding. To go through the whole text for each of M merges
would cost M times its length. Here the cost of a merge is the number of places where its pair stands:

    symbols   a  a  a  b  d  a  a  a  b  a  c      one slot per symbol
    counts    (a, a): 4,  (a, b): 2, ...           how often each pair stands there
    places    (a, b): slots 2, 7                   and where: the slot of its left symbol

The slots are a linked list (next, previous). A merge writes the new symbol into the slot of the left one and takes
the slot of the right one out; only the pairs with the neighbours left and right of it change. Places are not taken
off the list when their pair is broken up: they are looked at again when the pair's turn comes.

All places of a pair are handled at once, by NumPy. Several sequences (the words of a text) lie one behind another
with a barrier between them, which is part of no pair; a sequence with weight 5 counts as five equal ones.
"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Pair = tuple[int, int]
Slots = NDArray[np.int64]
BARRIER = -1


class PairIndex:
    """counts: {pair: how often it stands in the sequences, weights included}; overlapping places all count.

    symbols: the sequences, joined (N,), ids from 0 below 2^31; lengths, weights: one for each sequence (S,).
    """

    def __init__(self, symbols: ArrayLike, lengths: ArrayLike, weights: ArrayLike) -> None:
        symbols, lengths = np.asarray(symbols, np.int64), np.asarray(lengths, np.int64)
        slots = np.arange(len(symbols)) + np.repeat(np.arange(1, len(lengths) + 1), lengths)
        size = len(symbols) + len(lengths) + 1  # a barrier before each sequence, and one at the end
        self._symbols = np.full(size, BARRIER)
        self._symbols[slots] = symbols
        self._weights = np.zeros(size, np.int64)
        self._weights[slots] = np.repeat(np.asarray(weights, np.int64), lengths)
        self._next = np.arange(1, size + 1)
        self._previous = np.arange(-1, size - 1)
        self.counts: dict[Pair, int] = {}
        self._places: dict[Pair, list[Slots]] = defaultdict(list)
        self._add(np.arange(size - 1))

    def symbols(self) -> NDArray[np.int64]:
        """What stands in the sequences now, joined."""
        return self._symbols[self._symbols != BARRIER]

    def merge(self, pair: Pair, new: int) -> list[Pair]:
        """Write `new` wherever `pair` stands, from left to right: (a, a) in a a a is the first two.

        The pairs that have become more frequent.
        """
        first = self._take(pair)
        second = self._next[first]
        # A pair is named by the slot of its left symbol. Those of two places that touch share one: count it once.
        for other, count, _ in self._pairs(np.union1d(self._previous[first], second)):
            self.counts[other] -= count
        after = self._next[second]
        self._symbols[first], self._symbols[second] = new, BARRIER
        self._next[first], self._previous[after] = after, first
        del self.counts[pair]
        return self._add(np.union1d(self._previous[first], first))

    def _add(self, slots: Slots) -> list[Pair]:
        pairs = []
        for pair, count, places in self._pairs(slots):
            self.counts[pair] = self.counts.get(pair, 0) + count
            self._places[pair].append(places)
            pairs.append(pair)
        return pairs

    def _pairs(self, slots: Slots) -> Iterator[tuple[Pair, int, Slots]]:
        """The pairs that begin in these slots: pair, count, places."""
        left, right = self._symbols[slots], self._symbols[self._next[slots]]
        real = (left != BARRIER) & (right != BARRIER)
        slots, codes = slots[real], (left << 32 | right)[real]
        if not len(slots):
            return
        order = np.argsort(codes, kind="stable")
        slots, codes = slots[order], codes[order]
        begins = np.flatnonzero(np.diff(codes, prepend=-1))
        counts = np.add.reduceat(self._weights[slots], begins).tolist()
        ends = [*begins[1:].tolist(), len(slots)]
        for code, count, begin, end in zip(codes[begins].tolist(), counts, begins.tolist(), ends, strict=True):
            yield (code >> 32, code & 0xFFFFFFFF), count, slots[begin:end]

    def _take(self, pair: Pair) -> Slots:
        """The places where the pair still stands, in order and without overlap; they leave the index."""
        places = np.unique(np.concatenate(self._places.pop(pair)))
        still = (self._symbols[places] == pair[0]) & (self._symbols[self._next[places]] == pair[1])
        places = places[still]
        if pair[0] != pair[1]:
            return places
        # In a run of places that touch, every other one: 0 1 2 3 -> 0 2.
        begins = np.flatnonzero(np.append(True, self._next[places[:-1]] != places[1:]))
        number = np.arange(len(places)) - np.repeat(begins, np.diff(begins, append=len(places)))
        return places[number % 2 == 0]

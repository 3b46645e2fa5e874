"""Batches of sequences of like lengths: hardly any padding.

    LengthBuckets    as many rows as fill a number of tokens
    LengthGroups     always the same number of rows

    lengths   3 3 3 4 4 | 5 5 5 | 7 9 | ...       rows x longest <= max_tokens

In LengthBuckets the examples are ordered by their lengths and cut; equally long ones change places from epoch to epoch,
and so do the batches. Where a cut falls depends on the lengths alone, so that every epoch has as many batches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minilm.errors import DataError
from minilm.random import Generator
from minilm.text.batches import Batch, BatchSource, Dataset, Example, pad_collate

PAIR_KEYS = ("labels", "input_ids")  # of examples that are read and written


class LengthBuckets(BatchSource):
    """Examples of like lengths together, each once an epoch.

    Args:
        dataset: examples by number; all are looked at once, for their lengths.
        max_tokens: of a batch, padding included: its rows times the longest of each of `keys`, added up. An example
            that is longer is a batch of its own.
        seed: of the order; None for batches in the order of their lengths, always the same (evaluation).
        keys: the sequences that count, the first one most: that is where there is the least padding.

    Raises:
        DataError: if there are no examples.
    """

    def __init__(
        self,
        dataset: Dataset,
        max_tokens: int,
        seed: int | None = 0,
        keys: Sequence[str] = PAIR_KEYS,
        collate: Callable[[Sequence[Example]], Batch] = pad_collate,
    ) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, and is {max_tokens}")
        if len(dataset) == 0:
            raise DataError("there are no examples to make batches of")
        self.dataset, self.max_tokens, self.seed, self.collate = dataset, max_tokens, seed, collate
        self.lengths = np.array([_lengths(dataset[i], keys) for i in range(len(dataset))])  # (N, keys)
        self._order = np.lexsort(self.lengths.T[::-1])  # lexsort goes by its last row first
        self._cuts = self._cut()

    def _cut(self) -> list[int]:
        cuts, longest = [0], np.zeros(self.lengths.shape[1], dtype=np.int64)
        for place, lengths in enumerate(self.lengths[self._order]):
            longest = np.maximum(longest, lengths)
            if place > cuts[-1] and (place + 1 - cuts[-1]) * longest.sum() > self.max_tokens:
                cuts.append(place)
                longest = lengths
        return [*cuts, len(self._order)]

    def __len__(self) -> int:
        return len(self._cuts) - 1

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        order, batches = self._order, np.arange(len(self))
        if self.seed is not None:
            generator = Generator(self.seed).spawn(f"epoch {epoch}")
            order = self._shuffled(generator)
            batches = generator.permutation(len(self))
        for batch in batches[start:]:
            chosen = order[self._cuts[batch] : self._cuts[batch + 1]]
            yield self.collate([self.dataset[int(index)] for index in chosen])

    def _shuffled(self, generator: Generator) -> NDArray[np.int64]:
        """The examples by their lengths, those of the same lengths in a new order."""
        mixed = generator.permutation(len(self._order))
        return mixed[np.lexsort(self.lengths[mixed].T[::-1])]


class LengthGroups(BatchSource):
    """Batches of batch_size examples of like lengths, in a new order each epoch.

    All examples are shuffled, and of each AT_ONCE batches' worth of them those of like lengths go together; then the
    batches are shuffled. So who is with whom changes from epoch to epoch, more than in LengthBuckets.

    Args:
        dataset: examples by number; if it has `at_epoch(generator)`, as MaskedExamples does, each epoch asks it for
            that epoch's examples, which must be as many and as long.
        seed: of the order.
        key: the sequence that counts.

    Raises:
        DataError: if there are no examples.
    """

    AT_ONCE = 50

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int = 0,
        key: str = "input_ids",
        collate: Callable[[Sequence[Example]], Batch] = pad_collate,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, and is {batch_size}")
        if len(dataset) == 0:
            raise DataError("there are no examples to make batches of")
        self.dataset, self.batch_size, self.seed, self.collate = dataset, batch_size, seed, collate
        self.lengths = np.array([len(dataset[i][key]) for i in range(len(dataset))])  # (N,)

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        generator = Generator(self.seed).spawn(f"epoch {epoch}")
        order, step = generator.permutation(len(self.lengths)), self.AT_ONCE * self.batch_size
        parts = [order[i : i + step] for i in range(0, len(order), step)]
        order = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in parts])
        batches = generator.permutation(len(self))
        at_epoch = getattr(self.dataset, "at_epoch", None)
        dataset: Dataset = self.dataset if at_epoch is None else at_epoch(generator)
        for batch in batches[start:]:
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield self.collate([dataset[int(index)] for index in chosen])


def groups_by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """The numbers 0 ... N - 1 in groups of `size`, those of like lengths together: to compute with little padding."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _lengths(example: Mapping[str, Any], keys: Sequence[str]) -> list[int]:
    return [len(example[key]) for key in keys]

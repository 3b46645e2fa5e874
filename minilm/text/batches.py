"""Batches: dicts of arrays with a leading axis B, in an order that a checkpoint can name by two integers.

    TokenWindows       examples: one long row of tokens cut into windows of T, the next tokens as labels
    pad_collate        examples of different lengths -> one batch
    ShuffledBatches    for training: any examples, in a new order each epoch
    OrderedBatches     for evaluation: any examples, in their own order
    StreamBatches      for truncated backpropagation through time: batch k + 1 goes on where batch k ended
    SequentialBatches  for evaluation: every token is a label exactly once

The last four share one interface, all that a trainer needs: `len(batches)` batches make an epoch, and
`batches.epoch(e, start=k)` yields batches k, k + 1, ... of epoch e. What it yields depends on the arguments
and the seed alone, never on what was drawn before, and no batch is made just to be skipped. So a run that
stopped after batch k of epoch e resumes exactly, and the position (e, k) is all that has to be saved.

Nothing here reads files (see `token_file`: a memory map serves as `tokens`) or runs in other threads.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import DataError
from minilm.random import Generator

Example = Mapping[str, Any]  # name -> array or number, without the batch axis
Batch = dict[str, NDArray[Any]]

IGNORED = -100  # a label that the loss leaves out (cross_entropy's ignore_index): padding, or a prompt
PADDING = {"labels": IGNORED, "attention_mask": False}  # all other keys are padded with 0


class Dataset(Protocol):
    """Examples by number. A list of dicts is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


class TokenWindows:
    """Windows of block_size tokens, each with the tokens that follow as labels: y_t = x_{t+1}.

    tokens: (N,) integers, in memory or a memory map. There are floor((N - 1) / block_size) windows, side by
    side; example i is {"input_ids": (T,) int64, "labels": (T,) int64}. Raises DataError when
    N < block_size + 1.

    Cut always at the same places, a token would always be seen after the same few. So `at_epoch` moves all
    the windows by a random offset below block_size; the last one stops at the end of the tokens, so that
    their number stays the same.
    """

    def __init__(self, tokens: ArrayLike, block_size: int, offset: int = 0) -> None:
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, and is {block_size}")
        self.tokens = _token_row(tokens)
        self.block_size = block_size
        self.offset = offset
        _need_tokens(
            len(self.tokens), block_size + 1, f"one context of block_size={block_size} and the token after"
        )

    def at_epoch(self, generator: Generator) -> "TokenWindows":
        """The same tokens, cut at other places."""
        return TokenWindows(self.tokens, self.block_size, int(generator.integers(0, self.block_size)))

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.block_size

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} windows, numbered from 0, and not number {index}")
        start = min(self.offset + index * self.block_size, len(self.tokens) - 1 - self.block_size)
        window = np.asarray(self.tokens[start : start + self.block_size + 1], dtype=np.int64)  # (T + 1,)
        return {"input_ids": window[:-1], "labels": window[1:]}


def pad_collate(examples: Sequence[Example], padding_values: Mapping[str, Any] | None = None) -> Batch:
    """One batch of the examples: each key becomes an array (B, T, ...), padded at the end to the longest.

    Labels are padded with -100, which the loss ignores, attention_mask with False and everything else with 0,
    unless padding_values says otherwise. Where the lengths of "input_ids" differ (and no example brings a
    mask of its own) the batch gets "attention_mask" (B, T) bool, True on real tokens. dtypes stay as they
    are. Raises ValueError when the examples do not have the same keys or differ on another axis than the
    first.
    """
    if not examples:
        raise ValueError("cannot make a batch of no examples")
    keys = examples[0].keys()
    for number, example in enumerate(examples):
        if example.keys() != keys:
            raise ValueError(
                f"example {number} of the batch has keys {sorted(example)}, the first {sorted(keys)}"
            )
    padding = {**PADDING, **(padding_values or {})}
    batch = {key: _stack(key, [np.asarray(e[key]) for e in examples], padding.get(key, 0)) for key in keys}
    if "input_ids" in batch and "attention_mask" not in batch:
        lengths = np.array([np.shape(example["input_ids"])[:1] or (1,) for example in examples])  # (B, 1)
        if (lengths != lengths[0]).any():
            batch["attention_mask"] = np.arange(batch["input_ids"].shape[1]) < lengths  # (B, T)
    return batch


def _stack(key: str, arrays: list[NDArray[Any]], padding: Any) -> NDArray[Any]:
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    if len({array.shape[1:] for array in arrays}) > 1 or any(array.ndim == 0 for array in arrays):
        shapes = sorted({array.shape for array in arrays})
        raise ValueError(f"cannot batch {key!r}: shapes {shapes} differ on more than the first axis")
    longest = max(len(array) for array in arrays)
    dtype = np.result_type(*arrays)
    stacked = np.full((len(arrays), longest, *arrays[0].shape[1:]), padding, dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


class BatchSource(ABC):
    """The interface that the trainer and the evaluation know."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches in an epoch, the same for every epoch."""

    @abstractmethod
    def _batches(self, epoch: int, start: int) -> Iterator[Batch]: ...

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Batches start, start + 1, ... of this epoch. Raises ValueError when there is no such batch."""
        if epoch < 0 or not 0 <= start <= len(self):
            raise ValueError(
                f"no batch {start} in epoch {epoch}: an epoch has {len(self)}, and both count from 0"
            )
        return self._batches(epoch, start)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)


class ShuffledBatches(BatchSource):
    """Examples in random order, each once an epoch; order and offsets are functions of (seed, epoch).

    dataset: examples by number; if it has `at_epoch(generator)`, as TokenWindows does, each epoch asks it for
    that epoch's examples, which must be as many. drop_last leaves out the last batch when it would be
    smaller. The order takes 8 bytes an example. Raises DataError when there is not one whole batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int = 0,
        drop_last: bool = True,
        collate: Callable[[Sequence[Example]], Batch] = pad_collate,
    ) -> None:
        _check_batch_size(batch_size)
        smallest = batch_size if drop_last else 1
        if len(dataset) < smallest:
            raise DataError(
                f"{len(dataset)} examples do not fill one batch of {batch_size}: give more text, or use a "
                "smaller batch or block size"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.collate = collate

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        generator = Generator(self.seed).spawn(f"epoch {epoch}")
        order = generator.permutation(len(self.dataset))
        at_epoch = getattr(self.dataset, "at_epoch", None)
        dataset: Dataset = self.dataset if at_epoch is None else at_epoch(generator)
        for batch in range(start, len(self)):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield self.collate([dataset[int(index)] for index in chosen])


class OrderedBatches(BatchSource):
    """Examples in order, each once; the last batch may be smaller. For evaluation."""

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        collate: Callable[[Sequence[Example]], Batch] = pad_collate,
    ) -> None:
        _check_batch_size(batch_size)
        self.dataset, self.batch_size, self.collate = dataset, batch_size, collate

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        n = len(self.dataset)
        for begin in range(start * self.batch_size, n, self.batch_size):
            yield self.collate([self.dataset[i] for i in range(begin, min(begin + self.batch_size, n))])


class StreamBatches(BatchSource):
    """B streams read side by side, T tokens at a time, for truncated backpropagation through time.

    The tokens are cut into B equal streams; row b of batch k + 1 goes on where row b of batch k ended, so
    that a recurrent model may carry its state over. Batches are {"input_ids": (B, T), "labels": (B, T),
    "continues": (B,) bool}: continues is False in the first batch of an epoch, where the state starts afresh.
    Every epoch is the same. Tokens at the end that do not fill a batch are left out: fewer than B T.
    """

    def __init__(self, tokens: ArrayLike, batch_size: int, block_size: int) -> None:
        _check_batch_size(batch_size)
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, and is {block_size}")
        self.tokens = _token_row(tokens)
        self.batch_size = batch_size
        self.block_size = block_size
        needed = batch_size * block_size + 1
        what = f"{batch_size} streams of block_size={block_size} and the token after"
        _need_tokens(len(self.tokens), needed, what)
        self._stream_length = (len(self.tokens) - 1) // batch_size

    def __len__(self) -> int:
        return self._stream_length // self.block_size

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        T = self.block_size
        for k in range(start, len(self)):
            begins = [b * self._stream_length + k * T for b in range(self.batch_size)]
            rows = np.stack([self.tokens[begin : begin + T + 1] for begin in begins]).astype(
                np.int64
            )  # (B, T + 1)
            continues = np.full(self.batch_size, k > 0)
            yield {"input_ids": rows[:, :-1], "labels": rows[:, 1:], "continues": continues}


class SequentialBatches(BatchSource):
    """All tokens in order, every one but the first as a label exactly once: what an evaluation averages over.

    Windows of T side by side; the last window is padded (input 0, label -100) and the last batch may be
    smaller. A token near the start of its window is predicted from few tokens: a model's loss is a little
    higher than with a sliding window. Raises DataError for fewer than 2 tokens.
    """

    def __init__(self, tokens: ArrayLike, batch_size: int, block_size: int) -> None:
        _check_batch_size(batch_size)
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, and is {block_size}")
        self.tokens = _token_row(tokens)
        self.batch_size = batch_size
        self.block_size = block_size
        _need_tokens(len(self.tokens), 2, "one token and the one after it")
        self._windows = -(-(len(self.tokens) - 1) // block_size)

    def __len__(self) -> int:
        return -(-self._windows // self.batch_size)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        B, T = self.batch_size, self.block_size
        for k in range(start, len(self)):
            rows = min(B, self._windows - k * B)
            piece = np.asarray(self.tokens[k * B * T : (k * B + rows) * T + 1], dtype=np.int64)
            count = len(piece) - 1  # labels in this batch
            input_ids = np.zeros(rows * T, dtype=np.int64)
            labels = np.full(rows * T, IGNORED, dtype=np.int64)
            input_ids[:count], labels[:count] = piece[:-1], piece[1:]
            yield {"input_ids": input_ids.reshape(rows, T), "labels": labels.reshape(rows, T)}


def _token_row(tokens: ArrayLike) -> NDArray[Any]:
    row = np.asanyarray(tokens)  # asanyarray leaves a memory map a memory map
    if row.ndim != 1:
        raise ValueError(f"tokens must be one row of ids, shape (N,), and have shape {row.shape}")
    if row.size and row.dtype.kind not in "iu":
        raise TypeError(
            f"tokens must be integers, and have dtype {row.dtype}: encode the text with a tokenizer"
        )
    return row


def _need_tokens(found: int, needed: int, what: str) -> None:
    if found < needed:
        raise DataError(
            f"the text is too short: it has {found} tokens, and {needed} are needed ({what}). "
            "Give more text or use a smaller block size"
        )


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, and is {batch_size}")

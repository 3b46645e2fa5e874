"""Batches: what is in them, nothing lost or seen twice, and resuming equals never having stopped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import DataError
from minilm.random import Generator
from minilm.text import (
    OrderedBatches,
    SequentialBatches,
    ShuffledBatches,
    StreamBatches,
    TokenWindows,
    pad_collate,
)


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def sources(tokens, B, T):
    """Each kind of batch source that these tokens can fill."""
    kinds = [
        lambda: ShuffledBatches(TokenWindows(tokens, T), B, seed=7),
        lambda: ShuffledBatches(TokenWindows(tokens, T), B, seed=7, drop_last=False),
        lambda: StreamBatches(tokens, B, T),
        lambda: SequentialBatches(tokens, B, T),
        lambda: OrderedBatches(TokenWindows(tokens, T), B),
    ]
    made = []
    for kind in kinds:
        try:
            made.append(kind())
        except DataError:
            continue
    return made


sizes = st.tuples(st.integers(2, 60), st.integers(1, 5), st.integers(1, 7))


# the interface of all sources


@given(sizes, st.integers(0, 3))
def test_starting_at_batch_k_equals_skipping_k_batches(size, epoch):
    n, B, T = size
    for source in sources(np.arange(n), B, T):
        whole = list(source.epoch(epoch))
        assert len(whole) == len(source) > 0
        for k in range(len(source) + 1):
            resumed = list(source.epoch(epoch, start=k))
            assert len(resumed) == len(whole) - k
            assert all(equal(a, b) for a, b in zip(resumed, whole[k:], strict=True))


@given(sizes)
def test_labels_are_the_next_tokens_as_int64(size):
    n, B, T = size
    for source in sources(np.arange(n, dtype=np.uint16), B, T):
        for batch in source:
            assert batch["input_ids"].dtype == batch["labels"].dtype == np.int64
            assert batch["input_ids"].shape == batch["labels"].shape and batch["labels"].shape[1] == T
            real = batch["labels"] != -100
            np.testing.assert_array_equal(batch["labels"][real], batch["input_ids"][real] + 1)


def test_starting_outside_the_epoch_is_refused():
    source = StreamBatches(np.arange(9), batch_size=2, block_size=2)
    for arguments in [(0, 3), (0, -1), (-1, 0)]:
        with pytest.raises(ValueError, match="an epoch has 2"):
            source.epoch(*arguments)


def test_resuming_makes_no_batch_just_to_skip_it():
    class Counting:
        calls = 0

        def __len__(self):
            return 1000

        def __getitem__(self, index):
            self.calls += 1
            return {"x": index}

    dataset = Counting()
    next(ShuffledBatches(dataset, 10).epoch(0, start=99))
    assert dataset.calls == 10


# windows and shuffling


def test_windows_lie_side_by_side():
    windows = TokenWindows(np.arange(11), block_size=3)
    assert [windows[i]["input_ids"].tolist() for i in range(len(windows))] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
    ]
    assert windows[2]["labels"].tolist() == [7, 8, 9]
    with pytest.raises(IndexError, match="3 windows"):
        windows[3]


@given(st.integers(2, 60), st.integers(1, 9), st.integers(0, 100))
def test_shifted_windows_stay_inside_and_keep_their_number(n, T, seed):
    if n < T + 1:
        return
    plain = TokenWindows(np.arange(n), T)
    shifted = plain.at_epoch(Generator(seed))
    assert len(shifted) == len(plain)
    starts = [shifted[i]["input_ids"][0] for i in range(len(shifted))]
    assert all(len(shifted[i]["labels"]) == T for i in range(len(shifted)))
    # side by side from the offset, but for the last one, which ends at the latest with the text
    assert starts[:-1] == [shifted.offset + i * T for i in range(len(starts) - 1)]
    assert starts[-1] == min(shifted.offset + (len(starts) - 1) * T, n - 1 - T)


def test_over_the_epochs_windows_start_everywhere():
    source = ShuffledBatches(TokenWindows(np.arange(101), block_size=5), 4, seed=1)
    starts = {
        int(row[0]) % 5 for epoch in range(40) for batch in source.epoch(epoch) for row in batch["input_ids"]
    }
    assert starts == set(range(5))


@given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 2))
def test_shuffled_batches_use_every_example_once(n, B, epoch):
    dataset = [{"x": i} for i in range(n)]
    source = ShuffledBatches(dataset, B, seed=3, drop_last=False)
    seen = np.concatenate([batch["x"] for batch in source.epoch(epoch)])
    assert sorted(seen) == list(range(n))
    if n >= B:
        dropping = list(ShuffledBatches(dataset, B, seed=3).epoch(epoch))
        assert [len(batch["x"]) for batch in dropping] == [B] * (n // B)
        np.testing.assert_array_equal(np.concatenate([b["x"] for b in dropping]), seen[: n // B * B])


def test_the_order_depends_on_seed_and_epoch_alone():
    dataset = [{"x": i} for i in range(50)]

    def order(seed, epoch):
        return np.concatenate([b["x"] for b in ShuffledBatches(dataset, 10, seed).epoch(epoch)]).tolist()

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(o) for o in orders}) == 9
    assert orders == [order(seed, epoch) for seed in range(3) for epoch in range(3)]


# streams


@given(sizes)
def test_each_stream_goes_on_where_it_stopped(size):
    n, B, T = size
    if n < B * T + 1:
        return
    source = StreamBatches(np.arange(n), B, T)
    batches = list(source)
    assert [batch["continues"].tolist() for batch in batches] == [[k > 0] * B for k in range(len(batches))]
    for before, after in zip(batches, batches[1:], strict=False):
        np.testing.assert_array_equal(after["input_ids"][:, 0], before["labels"][:, -1])
    labels = np.concatenate([batch["labels"].ravel() for batch in batches])
    assert len(np.unique(labels)) == len(labels)  # no token twice
    assert n - 1 - len(labels) < B * T  # and few left out


# evaluation


@given(sizes)
def test_evaluation_predicts_every_token_exactly_once(size):
    n, B, T = size
    labels = np.concatenate([batch["labels"].ravel() for batch in SequentialBatches(np.arange(n), B, T)])
    np.testing.assert_array_equal(labels[labels != -100], np.arange(1, n))
    assert (labels == -100).sum() < T


# padding


def test_padding_and_mask_of_different_lengths():
    batch = pad_collate(
        [
            {"input_ids": np.array([5, 6, 7]), "labels": np.array([6, 7, 8]), "score": 0.5},
            {"input_ids": np.array([9]), "labels": np.array([1]), "score": 1.5},
        ]
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [9, 0, 0]]
    assert batch["labels"].tolist() == [[6, 7, 8], [1, -100, -100]]
    assert batch["attention_mask"].tolist() == [[True, True, True], [True, False, False]]
    assert batch["score"].tolist() == [0.5, 1.5]


def test_equal_lengths_need_no_mask_and_an_own_mask_is_kept():
    rows = [{"input_ids": np.array([1, 2])}, {"input_ids": np.array([3, 4])}]
    assert pad_collate(rows).keys() == {"input_ids"}
    rows = [{"input_ids": np.arange(n), "attention_mask": np.arange(n) > 0} for n in (1, 3)]
    assert pad_collate(rows)["attention_mask"].tolist() == [[False] * 3, [False, True, True]]
    assert pad_collate(rows, {"input_ids": 9})["input_ids"].tolist() == [[0, 9, 9], [0, 1, 2]]


def test_padding_keeps_dtypes_and_further_axes():
    batch = pad_collate([{"x": np.ones((n, 2), np.float32)} for n in (1, 3)])
    assert batch["x"].dtype == np.float32 and batch["x"].shape == (2, 3, 2)
    assert batch["x"].sum() == 8


def test_examples_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match=r"example 1 .*\['y'\].*\['x'\]"):
        pad_collate([{"x": 1}, {"y": 1}])
    with pytest.raises(ValueError, match=r"'x'.*\(2, 2\), \(2, 3\)"):
        pad_collate([{"x": np.zeros((2, 2))}, {"x": np.zeros((2, 3))}])
    with pytest.raises(ValueError, match="no examples"):
        pad_collate([])


# bad input


def test_a_text_shorter_than_one_context_states_both_numbers():
    with pytest.raises(DataError, match="has 8 tokens, and 9 are needed"):
        TokenWindows(np.arange(8), block_size=8)
    with pytest.raises(DataError, match="has 8 tokens, and 9 are needed"):
        StreamBatches(np.arange(8), batch_size=2, block_size=4)
    with pytest.raises(DataError, match="has 1 tokens, and 2 are needed"):
        SequentialBatches([3], 1, 4)
    with pytest.raises(DataError, match="3 examples do not fill one batch of 4"):
        ShuffledBatches(TokenWindows(np.arange(10), 3), 4)


def test_wrong_shapes_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        TokenWindows(np.zeros((2, 3), np.int64), 2)
    with pytest.raises(TypeError, match="float64"):
        TokenWindows(np.zeros(9), 2)
    for make in (
        lambda: TokenWindows(np.arange(9), 0),
        lambda: StreamBatches(np.arange(9), 0, 2),
        lambda: SequentialBatches(np.arange(9), 2, 0),
        lambda: ShuffledBatches([{"x": 1}], 0),
    ):
        with pytest.raises(ValueError, match="at least 1, and is 0"):
            make()


@given(st.integers(0, 20), st.integers(1, 7), st.integers(0, 5))
def test_ordered_batches_give_each_example_once_in_order_from_any_batch(n, size, start):
    batches = OrderedBatches([{"x": np.array([i])} for i in range(n)], size)
    start = min(start, len(batches))
    found = [int(x) for batch in batches.epoch(0, start) for x in batch["x"][:, 0]]
    assert found == list(range(start * size, n))

"""Length buckets: each example once an epoch, within the tokens allowed, little padding, the same after a restart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import DataError
from minilm.random import Generator
from minilm.text import LengthBuckets, LengthGroups, MaskedExamples, ShuffledBatches
from minilm.text.buckets import PAIR_KEYS


def examples_of(lengths):
    """Example i holds i in all its places."""
    return [{"input_ids": np.full(a, i), "labels": np.full(b, i)} for i, (a, b) in enumerate(lengths)]


def members(batch):
    return batch["input_ids"][:, 0].tolist()


LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=40)


@given(lengths=LENGTHS, max_tokens=st.integers(1, 60), epoch=st.integers(0, 3), seed=st.sampled_from([None, 0, 5]))
def test_each_example_comes_once_and_no_batch_has_too_many_tokens(lengths, max_tokens, epoch, seed):
    batches = LengthBuckets(examples_of(lengths), max_tokens, seed)
    seen = list(batches.epoch(epoch))
    assert len(seen) == len(batches)
    assert sorted(i for batch in seen for i in members(batch)) == list(range(len(lengths)))
    for batch in seen:
        tokens = sum(batch[key].size for key in PAIR_KEYS)
        assert tokens <= max_tokens or len(members(batch)) == 1
        for i in members(batch):
            row = members(batch).index(i)
            assert (batch["labels"][row] != -100).sum() == lengths[i][1]


@given(lengths=LENGTHS, start=st.integers(0, 40))
def test_an_epoch_goes_on_from_any_batch_as_if_it_had_not_stopped(lengths, start):
    batches = LengthBuckets(examples_of(lengths), 20)
    start = min(start, len(batches))
    whole, rest = list(batches.epoch(2)), list(LengthBuckets(examples_of(lengths), 20).epoch(2, start))
    assert [members(b) for b in rest] == [members(b) for b in whole[start:]]


def test_labels_of_a_batch_are_equally_long_where_there_are_enough_of_them():
    lengths = [(a, b) for a in range(1, 5) for b in range(1, 5)] * 50
    batches = LengthBuckets(examples_of(lengths), 100)
    padded = sum(batch[key].size for batch in batches for key in PAIR_KEYS)
    assert padded < 1.05 * np.sum(lengths)
    mixed = ShuffledBatches(examples_of(lengths), 20)
    assert sum(batch[key].size for batch in mixed for key in PAIR_KEYS) > 1.5 * np.sum(lengths)


def test_epochs_differ_in_the_order_of_the_batches_and_in_who_is_together():
    batches = LengthBuckets(examples_of([(3, 3)] * 20 + [(5, 5)] * 20), 30)
    first, second = ([members(b) for b in batches.epoch(e)] for e in (0, 1))
    assert first != second
    assert {frozenset(b) for b in first} != {frozenset(b) for b in second}


def test_without_a_seed_the_short_ones_come_first_always():
    batches = LengthBuckets(examples_of([(4, 4), (2, 2), (3, 3), (2, 2)]), 8, seed=None)
    assert [members(b) for b in batches.epoch(0)] == [members(b) for b in batches.epoch(7)]
    assert [members(b) for b in batches] == [[1, 3], [2], [0]]


def test_what_cannot_be_batched_is_refused():
    with pytest.raises(DataError, match="no examples"):
        LengthBuckets([], 10)
    with pytest.raises(ValueError, match="max_tokens"):
        LengthBuckets(examples_of([(1, 1)]), 0)


# ----- groups of a fixed number of rows


def groups(n=230, batch_size=4, seed=0):
    lengths = Generator(2).integers(1, 40, n)
    return LengthGroups([{"input_ids": np.full(int(m), i)} for i, m in enumerate(lengths)], batch_size, seed), lengths


def test_a_group_has_as_many_rows_as_was_asked_for_and_each_example_is_in_one():
    source, lengths = groups(230, 4)
    batches = [members(batch) for batch in source.epoch(1)]
    assert len(batches) == len(source) == 58 and sorted(map(len, batches)) == [2, *[4] * 57]
    assert sorted(i for batch in batches for i in batch) == list(range(230))


def test_groups_have_little_padding_and_change_from_epoch_to_epoch():
    source, lengths = groups()
    padded = sum(batch["input_ids"].size for batch in source.epoch(0))
    assert lengths.sum() <= padded < 1.1 * lengths.sum()
    shuffled = ShuffledBatches(source.dataset, 4, drop_last=False)
    assert sum(batch["input_ids"].size for batch in shuffled.epoch(0)) > 1.4 * lengths.sum()
    first, second = ({frozenset(members(batch)) for batch in source.epoch(e)} for e in (0, 1))
    assert len(first & second) < 15
    longest = [batch["input_ids"].shape[1] for batch in source.epoch(0)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4, "long ones come at any time"


def test_groups_go_on_where_a_run_stopped():
    source, _ = groups()
    assert [members(b) for b in source.epoch(2)][5:] == [members(b) for b in groups()[0].epoch(2, 5)]
    with pytest.raises(DataError, match="no examples"):
        LengthGroups([], 4)


def test_each_epoch_of_the_groups_hides_other_words_and_a_restart_the_same_ones():
    class Marks:
        special_tokens, mask_id, vocab_size = {"[MASK]": 9}, 9, 10

    rows = [np.arange(2 + i % 5) for i in range(40)]
    source = LengthGroups(MaskedExamples(rows, Marks()), 4)
    first, second = ([batch["labels"].tolist() for batch in source.epoch(e)] for e in (0, 1))
    assert sorted(map(str, first)) != sorted(map(str, second))
    assert [batch["labels"].tolist() for batch in source.epoch(1, 3)] == second[3:]
    hidden = [{str(row) for labels in epoch for row in labels} for epoch in (first, second)]
    assert hidden[0] != hidden[1], "not only in another order"

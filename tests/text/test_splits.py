"""Splits: nothing lost, nothing in two parts, no part empty."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import DataError
from minilm.text import split_by_position, split_documents

fractions = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(lambda w: [x / sum(w) for x in w])


@given(st.text(max_size=80), fractions)
def test_parts_by_position_make_up_the_whole(text, parts):
    try:
        split = split_by_position(text, parts)
    except DataError:
        assert any(part * len(text) < 1.0001 for part in parts)  # a part of a whole item is never refused
        return
    assert "".join(split) == text and all(split) and len(split) == len(parts)


def test_the_cuts_are_where_everyone_else_cuts():
    # nanoGPT cuts tinyshakespeare at int(0.9 n)
    train, held_out = split_by_position(np.arange(1_115_394), (0.9, 0.1))
    assert len(train) == int(0.9 * 1_115_394) == 1_003_854 and held_out[0] == 1_003_854
    # 0.7 + 0.1 is a little less than 0.8 in floating point
    assert [len(part) for part in split_by_position("x" * 10, (0.7, 0.1, 0.2))] == [7, 1, 2]


def test_arrays_are_cut_without_a_copy():
    tokens = np.arange(100)
    assert all(np.shares_memory(part, tokens) for part in split_by_position(tokens))


@given(st.lists(st.text("ab", max_size=3), max_size=30), fractions, st.integers(0, 5))
def test_documents_are_dealt_out_once_and_copies_stay_together(documents, parts, seed):
    distinct = len(set(documents))
    if distinct < len(parts):
        with pytest.raises(DataError, match=f"{distinct} different documents"):
            split_documents(documents, parts, seed)
        return
    try:
        split = split_documents(documents, parts, seed)
    except DataError:
        assert distinct < 2 * len(parts)
        return
    assert sorted(sum(split, [])) == sorted(documents) and all(split)
    for i, one in enumerate(split):
        assert all(set(one).isdisjoint(other) for other in split[i + 1 :])
    for part in split:
        assert part == [text for text in documents if text in part]


def test_a_documents_part_does_not_depend_on_its_place():
    documents = [f"document {i}" for i in range(100)]
    forward, backward = split_documents(documents), split_documents(documents[::-1])
    assert [set(part) for part in forward] == [set(part) for part in backward]
    assert [len(part) for part in forward] == [80, 10, 10]
    assert split_documents(documents, seed=1) != forward == split_documents(documents)


def test_each_part_gets_a_document_when_there_are_enough():
    assert [len(part) for part in split_documents(list("abcde"))] == [3, 1, 1]


def test_too_little_text_is_refused():
    with pytest.raises(DataError, match="5 items are too few"):
        split_by_position("abcde")
    with pytest.raises(DataError, match="0 items"):
        split_by_position("")


@pytest.mark.parametrize("bad", [(), (0.5, 0.4), (1.5, -0.5), (1.0, 0.0)])
def test_fractions_must_be_positive_and_sum_to_one(bad):
    with pytest.raises(ValueError, match="sum to 1"):
        split_by_position("abc", bad)
    with pytest.raises(ValueError, match="sum to 1"):
        split_documents(["abc"], bad)

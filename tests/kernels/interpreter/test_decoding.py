"""The decoding kernels against the textbook formula, in the interpreter; and how attention comes to use them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minilm.functional as F
from minilm.kernels.attention.triton import attention
from minilm.kernels.decoding.triton import decode_attention
from minilm.kernels.host import counting, tile, using_tile
from tests.kernels.attention_cases import LAYOUTS, Case, check, laid_out
from tests.kernels.guards import close, guarded, guards

KEYS = 32  # of one program, in the interpreter


def by_formula(query, key, value, lengths=None, scale=None):
    """The textbook formula in the dtype of the arrays; the cache beyond the lengths holds zeros."""
    Tk = key.shape[2]
    lengths = np.full(len(query), Tk) if lengths is None else np.maximum(lengths, 0)
    mask = (np.arange(Tk) < lengths[:, None])[:, None, None, :]
    key, value = (np.where(mask[:, :, 0, :, None], x, x.dtype.type(0)) for x in (key, value))
    return F.scaled_dot_product_attention.body(query, key, value, mask, scale=scale, enable_gqa=True)[0]


def compare(query, key, value, lengths=None, scale=None, layout="heads first", c=4.0) -> None:
    arrays = [laid_out(x, layout, guarded) for x in (query, key, value)]
    out = decode_attention(*arrays, None if lengths is None else guarded(lengths), scale)
    oracle = by_formula(*(x.astype("float64") for x in (query, key, value)), lengths, scale)
    close(out, oracle, by_formula(query, key, value, lengths, scale), c)


@given(
    Hk=st.integers(1, 2),
    group=st.sampled_from([1, 2, 5, 17]),
    Tk=st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 64, 97]),
    D=st.sampled_from([8, 16, 33, 64, 128, 256]),
    Dv=st.sampled_from([None, 8, 33]),
    dtype=st.sampled_from(["float32", "float16"]),
    scale=st.sampled_from([None, 0.3]),
    layout=st.sampled_from(LAYOUTS),
    lengths=st.none() | st.lists(st.integers(0, 97), min_size=2, max_size=2),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_equals_the_formula(Hk, group, Tk, D, Dv, dtype, scale, layout, lengths, seed) -> None:
    query, key, value, _, _ = Case(1, Tk, D, Dv or D, Hk=Hk, group=group, dtype=dtype, seed=seed).arrays()
    if lengths is not None:
        lengths = np.minimum(np.array(lengths), Tk)
        for i, length in enumerate(lengths):
            key[i, :, length:] = value[i, :, length:] = np.nan  # what lies there is not to be read
    with guards():
        compare(query, key, value, lengths, scale, layout)


def test_lengths_of_nothing_and_beyond_the_cache() -> None:
    query, key, value, _, _ = Case(1, 40, 8, 8, B=3).arrays()
    out = decode_attention(query, key, value, np.array([0, -5, 999]))
    assert not out[:2].any()
    close(out[2:], by_formula(query[2:], key[2:], value[2:]))


def test_without_a_cache_the_output_is_0() -> None:
    query, key, value, _, _ = Case(1, 0, 8, 8).arrays()
    assert not decode_attention(query, key, value).any()


def test_scores_that_differ_widely_between_runs() -> None:
    """One run holds the only keys that count; and a run whose every score is far below the others'."""
    query, key, value, _, _ = Case(1, 4 * KEYS, 8, 8, B=1).arrays()
    for boost in (50.0, -50.0):
        scaled = key.copy()
        scaled[:, :, KEYS : 2 * KEYS] = query * boost + key[:, :, KEYS : 2 * KEYS]
        compare(query, scaled, value, c=64)  # a score of 200 is rounded 200 times as coarsely as one of 1


def test_a_sequence_gives_the_same_bits_alone_and_in_company() -> None:
    query, key, value, _, _ = Case(1, 70, 16, 16, B=3, Hk=2, dtype="float16").arrays()
    together = decode_attention(query, key, value)
    for i in range(3):
        alone = decode_attention(query[i : i + 1], key[i : i + 1], value[i : i + 1])
        np.testing.assert_array_equal(alone, together[i : i + 1])


def test_a_run_is_a_multiple_of_a_block() -> None:
    sizes = tile("decoding_split", D=64, dtype="float16")
    assert sizes["KEYS"] == KEYS and sizes["KEYS"] % sizes["BLOCK_K"] == 0
    query, key, value, _, _ = Case(1, 100, 16, 16).arrays()
    with using_tile("decoding_split", KEYS=64, BLOCK_K=16):
        compare(query, key, value)


def test_the_cache_is_read_once_for_all_heads_of_a_group() -> None:
    query, key, value, _, _ = Case(1, 96, 16, 16, B=1, Hk=2, group=4).arrays()
    with counting() as counts:
        out = decode_attention(query, key, value)
    runs, heads = 96 // KEYS, 8
    partial = heads * runs * 4 * (16 + 1)
    assert counts.programs == runs * 2 + heads
    assert counts.loaded == key.nbytes + value.nbytes + runs * query.nbytes + partial
    assert counts.written == out.nbytes + partial + 4 * heads


@pytest.mark.parametrize(
    "options, runs",
    [
        ({}, 3),
        ({"is_causal": "lower_right"}, 3),  # the one query is the last one: it sees all
        ({"is_causal": True}, None),  # it sees the first key alone
        ({"mask": "bool qk"}, None),
        ({"dropout_p": 0.5}, None),
    ],
    ids=["plain", "lower_right", "upper_left", "mask", "dropout"],
)
def test_attention_of_one_query_that_sees_every_key_is_decoding(options, runs) -> None:
    case = Case(1, 3 * KEYS, 16, 16, B=1, Hk=2, group=2, **options)
    check(attention, case, guarded)  # the backward is that of attention in any case
    query, key, value, attn_mask, _ = case.arrays()
    with counting() as counts:
        attention(query, key, value, attn_mask, **case.options)
    decoding, general = 2 * 3 + 4, 4
    assert counts.programs == (general if runs is None else decoding)


@pytest.mark.parametrize(
    "shapes, lengths, error, words",
    [
        (((1, 2, 3, 8), (1, 2, 4, 8), (1, 2, 4, 8)), None, ValueError, "one query per head.*\\(1, 2, 3, 8\\)"),
        (((1, 3, 1, 8), (1, 2, 4, 8), (1, 2, 4, 8)), None, ValueError, "multiple"),
        (((2, 2, 1, 8), (2, 2, 4, 8), (2, 2, 4, 8)), np.zeros(3, int), ValueError, "each of the 2 sequences.*\\(3,\\)"),
        (((2, 2, 1, 8), (2, 2, 4, 8), (2, 2, 4, 8)), np.zeros(2), ValueError, "integers.*float64"),
        (((1, 2, 1, 300), (1, 2, 4, 300), (1, 2, 4, 8)), None, NotImplementedError, "width up to 256"),
    ],
    ids=["queries", "heads", "lengths", "dtype of lengths", "width"],
)
def test_a_mistake_is_named(shapes, lengths, error, words) -> None:
    with pytest.raises(error, match=words):
        decode_attention(*(np.zeros(shape, "float32") for shape in shapes), lengths)

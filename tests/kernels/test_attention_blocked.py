"""The blocked rung against the textbook formula and the rung below it; its memory, and the lesson's bookkeeping."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings

from minilm.kernels.attention import blocked
from minilm.kernels.attention.blocked import attention
from minilm.kernels.attention.loops import attention as by_loops
from minilm.random import Generator
from minilm.tensor.tape import _held
from tests.kernels.attention_cases import KNOWN, Case, cases, check


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_K", 16)


@pytest.mark.parametrize("case", KNOWN.values(), ids=KNOWN)
def test_equals_the_formula(case) -> None:
    check(attention, case)


@given(cases())
@settings(max_examples=150)
def test_equals_the_formula_in_any_case(case) -> None:
    check(attention, case)


@pytest.mark.parametrize("is_causal", [False, True, "lower_right"])
@pytest.mark.parametrize("mask", [None, "bool qk", "additive qk"])
def test_equals_the_loops(is_causal, mask) -> None:
    case = Case(5, 18, 3, 2, B=1, dtype="float64", is_causal=is_causal, mask=mask)
    *inputs, g = case.arrays()
    (out, vjp), (expected, expected_vjp) = (f(*inputs, **case.options) for f in (attention, by_loops))
    np.testing.assert_allclose(out, expected, atol=1e-13)
    for ours, theirs in zip(vjp(g, case.needs), expected_vjp(g, case.needs), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, atol=1e-13)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3)])
def test_any_number_of_leading_axes(shape) -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(*shape, T, 4)) for T in (5, 20, 20))
    out, vjp = attention(query, key, value, is_causal="lower_right")
    gradients = vjp(np.ones_like(out), (True, True, True, False))
    flat = [x.reshape(-1, *x.shape[-2:]) for x in (query, key, value)]
    expected = np.stack([by_loops(*(x[i] for x in flat), is_causal="lower_right")[0] for i in range(len(flat[0]))])
    np.testing.assert_allclose(out, expected.reshape(out.shape), atol=1e-13)
    assert [d.shape for d in gradients[:3]] == [query.shape, key.shape, value.shape]


def test_a_query_that_sees_no_key_gives_0_and_gets_0() -> None:
    query, key, value, _, g = Case(20, 40, 4, 4, B=1, dtype="float64").arrays()
    mask = np.ones((20, 40), dtype=bool)
    mask[3] = False
    mask[:, 7] = False
    for attn_mask in (mask, np.where(mask, 0, -np.inf)):
        out, vjp = attention(query, key, value, attn_mask)
        dquery, dkey, dvalue, _ = vjp(g, (True, True, True, False))
        assert (out[:, :, 3] == 0).all() and (dquery[:, :, 3] == 0).all()
        assert (dkey[:, :, 7] == 0).all() and (dvalue[:, :, 7] == 0).all()
        for x in (out, dquery, dkey, dvalue):
            assert np.isfinite(x).all() and np.abs(x).max() > 0


def test_large_scores_neither_overflow_nor_vanish() -> None:
    query, key, value, _, g = Case(4, 40, 4, 4, B=1, dtype="float64").arrays()
    out, vjp = attention(query * 1e4, key, value)
    winners = (query @ key.swapaxes(-1, -2)).argmax(-1)
    np.testing.assert_allclose(out[0, 0], value[0, 0][winners[0, 0]], atol=1e-12)
    assert all(np.isfinite(d).all() for d in vjp(g, (True, True, True, False))[:3])


def test_without_keys_the_output_is_0() -> None:
    query, key, value = np.ones((2, 3, 4)), np.ones((2, 0, 4)), np.ones((2, 0, 5))
    out, vjp = attention(query, key, value)
    np.testing.assert_array_equal(out, np.zeros((2, 3, 5)))
    dquery, dkey, dvalue, _ = vjp(out, (True, True, True, False))
    assert not dquery.any() and (dkey.shape, dvalue.shape) == (key.shape, value.shape)


def test_it_drops_what_the_generators_mask_drops() -> None:
    generator = Generator(3)
    value = np.eye(21)[None]
    out, _ = attention(np.zeros((1, 9, 4)), np.zeros((1, 21, 4)), value, dropout_p=0.4, generator=generator)
    np.testing.assert_array_equal(out != 0, Generator(3).keep_mask((1, 9, 21), 0.4))
    assert generator.offset == 9 * 21


def test_only_the_output_and_lse_are_kept() -> None:
    query, key, value, _, _ = Case(200, 300, 4, 4, B=1).arrays()
    out, vjp = attention(query, key, value)
    held = {id(a.base if a.base is not None else a): a.nbytes for a in _held(vjp)}
    assert sum(held.values()) <= query.nbytes + key.nbytes + value.nbytes + out.nbytes + 4 * 200


def test_memory_grows_with_the_length_not_with_its_square() -> None:
    def peak(T: int) -> int:
        query, key, value, _, g = Case(T, T, 8, 8, B=1).arrays()
        tracemalloc.start()
        out, vjp = attention(query, key, value)
        vjp(g, (True, True, True, False))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(64)
    assert peak(1600) < 4.6 * peak(400)  # 16 for the formula


def test_half_of_the_work_is_left_out_where_attention_is_causal(monkeypatch) -> None:
    """np.exp is called on each block of scores, with five axes: it counts the elements that were computed."""
    query, key, value, _, _ = Case(128, 128, 4, 4, B=1).arrays()
    counted = []
    exp = np.exp
    monkeypatch.setattr(np, "exp", lambda x: counted.append(x.size if x.ndim == 5 else 0) or exp(x))
    attention(query, key, value)
    assert sum(counted) == 128 * 128
    counted.clear()
    attention(query, key, value, is_causal=True)
    assert sum(counted) == 16 * sum(range(16, 129, 16))


@pytest.mark.parametrize(
    "shapes, options, error, words",
    [
        (((2, 3), (4, 5), (4, 5)), {}, ValueError, "agree in D.*query \\(2, 3\\)"),
        (((2, 3), (4, 3), (5, 3)), {}, ValueError, "key and value.*value \\(5, 3\\)"),
        (((3,), (4, 3), (4, 3)), {}, ValueError, "T, D\\).*query \\(3,\\)"),
        (((1, 4, 2, 3), (1, 2, 2, 3), (1, 2, 2, 3)), {}, ValueError, "enable_gqa=True"),
        (((1, 3, 2, 3), (1, 2, 2, 3), (1, 2, 2, 3)), {"enable_gqa": True}, ValueError, "multiple"),
        (((2, 3),) * 3, {"is_causal": "left"}, ValueError, "'left'"),
        (((2, 3),) * 3, {"dropout_p": 1.5}, ValueError, "0 to 1.*1.5"),
        (((2, 3),) * 3, {"attn_mask": np.ones((5, 2, 2), dtype=bool)}, ValueError, "attn_mask \\(5, 2, 2\\)"),
        (((2, 3),) * 3, {"attn_mask": np.zeros((2, 2), "float32")}, TypeError, "float64, not float32.*astype"),
    ],
    ids=["width", "length", "axes", "heads", "multiple", "causal", "dropout", "mask shape", "mask dtype"],
)
def test_a_mistake_is_named(shapes, options, error, words) -> None:
    with pytest.raises(error, match=words):
        attention(*(np.zeros(shape) for shape in shapes), **options)

"""The threaded attention equals the textbook formula, however it is cut, and keeps to what it promises of memory."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor, no_grad
from minilm.backend import kernel_for
from minilm.kernels.attention import cutting, threaded
from minilm.kernels.attention.cutting import chunks, shares
from minilm.kernels.attention.loops import attention as by_loops
from minilm.kernels.attention.threaded import attention
from minilm.random import Generator
from tests.kernels.against_textbook import assert_equals_textbook, cut, layouts, normal
from tests.kernels.attention_cases import KNOWN, Case, cases, check

ALL = (True, True, True, False)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 8 to 16 queries and at most 256 scores: short sequences fall into several of each."""
    monkeypatch.setattr(threaded, "BLOCK", 256)
    monkeypatch.setattr(cutting, "QUERIES", (8, 16))


def as_float(case: Case, dtype: str = "float32") -> Case:
    """The case in a dtype that comes here; float16 never does."""
    return dataclasses.replace(case, dtype=dtype)


def textbook(*arrays, **options):
    return F.scaled_dot_product_attention.body(*arrays, **options)


# ----- it is the formula


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("case", KNOWN.values(), ids=KNOWN)
def test_equals_the_formula(case, count, dtype, small_blocks) -> None:
    with cut(count):
        check(attention, as_float(case, dtype))


@given(
    case=cases(),
    dtype=st.sampled_from(["float32", "float64"]),
    count=st.integers(1, 3),
    block=st.sampled_from([1, 256, 3 << 16]),
    queries=st.sampled_from([(1, 1), (8, 16), (64, 256)]),
    kept=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=150)
def test_equals_the_formula_in_any_case(case, dtype, count, block, queries, kept) -> None:
    with cut(count), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", block)
        patch.setattr(cutting, "QUERIES", queries)
        patch.setattr(threaded, "KEPT", kept)
        check(attention, as_float(case, dtype), c=16.0)  # a BLAS may add up the products of a score one by one


@given(
    leading=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    sizes=st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 5), st.integers(0, 5)),
    is_causal=st.sampled_from([False, "upper_left", "lower_right"]),
    with_mask=st.booleans(),
    layout=st.tuples(layouts, layouts, layouts, layouts, layouts),
    count=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 99),
)
def test_any_axes_lengths_and_layouts(leading, sizes, is_causal, with_mask, layout, count, dtype, seed) -> None:
    """Also empty ones; each gradient alone and all together, twice; no input is written to."""
    (Tq, Tk, D, Dv), rng = sizes, np.random.default_rng(seed)
    shapes = (*leading, Tq, D), (*leading, Tk, D), (*leading, Tk, Dv)
    inputs = [normal(rng, shape, dtype, kind) for shape, kind in zip(shapes, layout, strict=False)]
    inputs.append(normal(rng, (Tq, Tk), dtype, layout[3]) if with_mask else None)
    g = normal(rng, (*leading, Tq, Dv), dtype, layout[4])
    with cut(count), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", 64)
        patch.setattr(cutting, "QUERIES", (4, 8))
        assert_equals_textbook(
            "scaled_dot_product_attention",
            attention,
            tuple(inputs),
            g,
            rtol=1e-12 if dtype == "float64" else 3e-5,
            call=lambda function, *arrays: function(*arrays, is_causal=is_causal),
        )


@pytest.mark.parametrize("is_causal", [False, True, "lower_right"])
@pytest.mark.parametrize("mask", [None, "bool qk", "additive qk"])
def test_equals_the_loops(is_causal, mask, small_blocks) -> None:
    case = Case(9, 18, 3, 2, B=1, dtype="float64", is_causal=is_causal, mask=mask)
    *inputs, g = case.arrays()
    (out, vjp), (expected, expected_vjp) = (f(*inputs, **case.options) for f in (attention, by_loops))
    np.testing.assert_allclose(out, expected, atol=1e-13)
    for ours, theirs in zip(vjp(g, case.needs), expected_vjp(g, case.needs), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, atol=1e-13)


@pytest.mark.parametrize("shape", [(12, 4, 64, 32), (1, 2, 256, 64), (2, 1, 300, 16)], ids=str)
def test_real_sizes_with_nothing_made_small(shape) -> None:
    """The views of one projection, as self-attention passes them."""
    (B, H, T, D), rng = shape, np.random.default_rng(0)
    projected = rng.standard_normal((B, T, 3 * H * D), dtype="float32")
    arrays = [x.reshape(B, T, H, D).swapaxes(1, 2) for x in np.split(projected, 3, axis=-1)]
    assert_equals_textbook(
        "scaled_dot_product_attention",
        attention,
        (*arrays, None),
        lambda y: rng.standard_normal(y.shape, dtype="float32"),
        rtol=1e-5,
        call=lambda function, *inputs: function(*inputs, is_causal="lower_right"),
    )


@pytest.mark.parametrize("B, Hk, group", [(1, 4, 1), (5, 2, 1), (1, 2, 3)])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shift", [0, 100_000])
def test_one_query_against_a_cache(shift, count, B, Hk, group) -> None:
    """As in generation: the first 40 of 64 places are used. `shift` is added to all scores and changes nothing."""
    rng = np.random.default_rng(0)
    key, value = (rng.normal(size=(B, Hk, 64, 8))[:, :, :40] for _ in range(2))
    query = rng.normal(size=(B, 1, Hk * group, 8)).swapaxes(1, 2)
    key[..., 0], query[..., 0] = shift, 1
    with cut(count):
        assert_equals_textbook(
            "scaled_dot_product_attention",
            attention,
            (query, key, value, None),
            rtol=1e-12 * max(1, shift),
            call=lambda function, *arrays: function(*arrays, is_causal="lower_right", enable_gqa=group > 1),
        )


# ----- softmax without the maximum, and with it


@pytest.mark.parametrize("exponential", [(np.exp, 1.0), (np.exp2, np.log2(np.e))], ids=["exp", "exp2"])
@pytest.mark.parametrize("safe", [1.0, 1e20], ids=["online softmax", "plain"])
@pytest.mark.parametrize("case", ["causal, more keys", "causal, more queries", "grouped", "dropout"])
def test_both_ways_to_the_weights_are_the_formula(case, safe, exponential, small_blocks, monkeypatch) -> None:
    monkeypatch.setattr(threaded, "SAFE", safe)  # no sum is between 1 and 1
    monkeypatch.setattr(threaded, "EXP", exponential[0])
    monkeypatch.setattr(threaded, "UNIT", exponential[1])
    check(attention, as_float(KNOWN[case]))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("shift", [0, 1000, -1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_scores_neither_overflow_nor_vanish(shift, dtype, is_causal, small_blocks) -> None:
    """`shift` is added to all scores of a query: softmax stays the same, and e^s alone would be 0 or infinite."""
    query, key, value, _, g = Case(40, 40, 4, 4, B=1, dtype="float64").arrays()
    key = np.concatenate([key, np.ones((1, 1, 40, 1))], axis=-1)
    query = np.concatenate([3 * query, np.full((1, 1, 40, 1), shift)], axis=-1)
    expected, expected_vjp = textbook(query, key, value, is_causal=is_causal, scale=1.0)
    narrow = [x.astype(dtype) for x in (query, key, value)]
    out, vjp = attention(*narrow, is_causal=is_causal, scale=1.0)
    atol = 1e-11 if dtype == "float64" else 1e-3
    np.testing.assert_allclose(out, expected, atol=atol)
    for ours, theirs in zip(vjp(g.astype(dtype), ALL)[1:3], expected_vjp(g, ALL)[1:3], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol * max(1, abs(shift)))


@pytest.mark.parametrize("factor", [1.0, 1e3])
def test_what_is_hidden_may_be_infinitely_larger(factor, small_blocks) -> None:
    """Later keys have scores far beyond those that count: neither sums nor maxima may see them."""
    query, key, value, _, g = Case(40, 40, 4, 4, B=1, dtype="float64").arrays()
    query[..., 0], key[..., 0] = 1, np.linspace(0, 300 * factor, 40)
    with np.errstate(over="raise", invalid="raise", divide="raise"):  # but for what is computed again
        out, vjp = attention(query, key, value, is_causal=True, scale=1.0)
        gradients = vjp(g, ALL)[:3]
    expected, expected_vjp = textbook(query, key, value, is_causal=True, scale=1.0)
    for ours, theirs in zip((out, *gradients), (expected, *expected_vjp(g, ALL)[:3]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10 * factor)


@pytest.mark.parametrize("factor", [1.0, 100.0, 1e6])
@pytest.mark.parametrize("T", [40, 300])
def test_not_a_bit_of_the_output_depends_on_later_keys_or_on_other_queries(T, factor) -> None:
    """Also where what comes later has scores that need online softmax, or infinite ones."""
    *inputs, _, _ = Case(T, T, 8, 8, Hk=2).arrays()
    before, _ = attention(*inputs, is_causal=True)
    for middle in (1, T // 2, T - 1):
        changed = [x.copy() for x in inputs]
        for x in changed:
            x[..., middle:, :] *= -factor
        after, _ = attention(*changed, is_causal=True)
        np.testing.assert_array_equal(after[..., :middle, :], before[..., :middle, :])
        assert (after[..., middle:, :] != before[..., middle:, :]).any()


def test_a_mask_of_the_least_float_hides_like_minus_infinity_where_anything_else_is_seen() -> None:
    query, key, value, _, _ = Case(8, 8, 4, 4, B=1).arrays()
    least = np.finfo("float32").min
    seen = np.tri(8, k=-1, dtype=bool)  # the first query sees no key: for it all keys count alike
    out, _ = attention(query, key, value, np.where(seen, 0, least).astype("float32"))
    expected, _ = textbook(query, key, value, seen)
    np.testing.assert_allclose(out[..., 1:, :], expected[..., 1:, :], atol=1e-6)
    np.testing.assert_allclose(out[..., 0, :], value.mean(-2), atol=1e-6)


def test_nan_in_nan_out() -> None:
    query, key, value, _, _ = Case(8, 8, 4, 4, B=1).arrays()
    query[0, 0, 3, 0] = np.nan
    out, _ = attention(query, key, value)
    assert np.isnan(out[0, 0, 3]).all() and np.isfinite(np.delete(out, 3, axis=2)).all()


# ----- what is hidden, what is dropped


def test_a_query_that_sees_no_key_gives_0_and_gets_0(small_blocks) -> None:
    query, key, value, _, g = Case(20, 40, 4, 4, B=1, dtype="float64").arrays()
    mask = np.ones((20, 40), dtype=bool)
    mask[3] = False
    mask[:, 7] = False
    for attn_mask in (mask, np.where(mask, 0, -np.inf)):
        out, vjp = attention(query, key, value, attn_mask)
        dquery, dkey, dvalue, _ = vjp(g, ALL)
        assert (out[:, :, 3] == 0).all() and (dquery[:, :, 3] == 0).all()
        assert (dkey[:, :, 7] == 0).all() and (dvalue[:, :, 7] == 0).all()
        for x in (out, dquery, dkey, dvalue):
            assert np.isfinite(x).all() and np.abs(x).max() > 0


def test_without_keys_the_output_is_0() -> None:
    query, key, value = np.ones((2, 3, 4)), np.ones((2, 0, 4)), np.ones((2, 0, 5))
    out, vjp = attention(query, key, value)
    np.testing.assert_array_equal(out, np.zeros((2, 3, 5)))
    dquery, dkey, dvalue, _ = vjp(out, ALL)
    assert not dquery.any() and (dkey.shape, dvalue.shape) == (key.shape, value.shape)


def test_it_drops_what_the_generators_mask_drops(small_blocks) -> None:
    generator, value = Generator(3), np.eye(21)[None]
    with cut(2):
        out, _ = attention(np.zeros((1, 9, 4)), np.zeros((1, 21, 4)), value, dropout_p=0.4, generator=generator)
    np.testing.assert_array_equal(out != 0, Generator(3).keep_mask((1, 9, 21), 0.4))
    assert generator.offset == 9 * 21


def test_with_probability_1_everything_is_dropped() -> None:
    query, key, value, _, g = Case(8, 9, 4, 4).arrays()
    out, vjp = attention(query, key, value, dropout_p=1.0)
    assert not any(x.any() for x in (out, *vjp(g, ALL)[:3]))


def test_a_scale_of_0_still_has_the_gradient_of_the_mask(small_blocks) -> None:
    assert_equals_textbook(
        "scaled_dot_product_attention",
        attention,
        tuple(x for x in Case(9, 21, 4, 4, mask="additive qk", dtype="float64").arrays()[:3]) + (np.zeros((9, 21)),),
        rtol=1e-12,
        call=lambda function, *arrays: function(*arrays, scale=0.0),
    )


# ----- how the work is cut


@given(B=st.integers(1, 9), Hk=st.integers(1, 9), n=st.integers(1, 9), count=st.integers(1, 4), most=st.integers(1, 40))
def test_the_shares_are_the_whole_work_once(B, Hk, n, count, most) -> None:
    rows = [slice(i, i + 1) for i in range(n)]
    done = np.zeros((B, Hk, n), dtype=int)
    work = shares(B, Hk, rows, count)
    for heads, some in work:
        for at in chunks(heads, most):
            assert done[at].shape[0] * done[at].shape[1] <= most
            for part in some:
                done[(*at, part)] += 1
    assert (done == 1).all() and len(work) <= count


@pytest.mark.parametrize("sizes", [(4, 3, 1), (3, 4, 1), (1, 12, 4), (1, 1, 8), (3, 3, 8)], ids=str)
def test_two_threads_have_about_as_much_to_do(sizes) -> None:
    B, Hk, n = sizes
    work = shares(B, Hk, [slice(i, i + 1) for i in range(n)], 2)
    amounts = [(b.stop - b.start) * (h.stop - h.start) * len(rows) for (b, h), rows in work]
    assert len(amounts) == 2 and amounts[0] == amounts[1]


@pytest.mark.parametrize("B, Hk", [(4, 1), (1, 4), (1, 1)], ids=["batch", "heads", "queries"])
def test_the_same_bits_each_time(B, Hk, small_blocks) -> None:
    *inputs, _, g = Case(61, 61, 16, 16, B=B, Hk=Hk).arrays()
    with cut(3):
        runs = []
        for _ in range(5):
            out, vjp = attention(*inputs, is_causal=True)
            runs.append([out, *vjp(g, ALL)[:3]])
    for run in runs[1:]:
        for a, b in zip(run, runs[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_another_number_of_threads_in_the_backward_changes_nothing(small_blocks) -> None:
    *inputs, _, g = Case(61, 61, 16, 16, B=1).arrays()
    with cut(3):
        _, vjp = attention(*inputs, is_causal=True)
        expected = vjp(g, ALL)[:3]
    with cut(1):
        for a, b in zip(vjp(g, ALL), expected, strict=False):
            np.testing.assert_array_equal(a, b)


def test_half_of_the_work_is_left_out_where_attention_is_causal(monkeypatch, small_blocks) -> None:
    query, key, value, _, _ = Case(128, 128, 4, 4, B=1).arrays()
    counted = []
    exp = threaded.EXP
    monkeypatch.setattr(threaded, "EXP", lambda x, out: counted.append(x.size) or exp(x, out=out))
    attention(query, key, value)
    assert sum(counted) == 128 * 128
    counted.clear()
    attention(query, key, value, is_causal=True)
    assert sum(counted) == 16 * sum(range(16, 129, 16))


def test_joining_the_heads_copies_nothing() -> None:
    case = Case(6, 7, 4, 5, Hk=3, group=2)
    query, key, value, _, g = case.arrays()
    out, vjp = attention(query, key, value, enable_gqa=True)
    for x in (out, *vjp(g, ALL)[:3]):
        joined = x.swapaxes(1, 2).reshape(2, x.shape[2], -1)
        assert np.shares_memory(joined, x) and joined.flags.c_contiguous


# ----- memory


def held_and_peak(T: int, backward: bool) -> tuple[int, int]:
    """Bytes that are held after the forward pass, and the most in forward and backward, on one thread."""
    query, key, value, _, g = Case(T, T, 8, 8, B=1).arrays()
    tracemalloc.start()
    try:
        with cut(1):
            _kept = attention(query, key, value, is_causal=True)
            held = tracemalloc.get_traced_memory()[0]
            if backward:
                _kept[1](g, ALL)
        return held, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_with_the_length_not_with_its_square(small_blocks) -> None:
    held_and_peak(64, True)  # what is imported or cached at the first use
    (short_held, short_peak), (long_held, long_peak) = held_and_peak(500, True), held_and_peak(2000, True)
    assert long_held < 4.2 * short_held and long_peak < 4.2 * short_peak  # 16 for the formula


def test_what_is_kept_of_a_long_sequence_is_the_output_and_a_number_for_each_query(small_blocks) -> None:
    held_and_peak(64, False)
    held, _ = held_and_peak(2000, False)
    assert held < 4 * 2000 * (8 + 1) + 600 * (2000 // 16)  # float32; and Python's objects of each block


@pytest.mark.parametrize("T, kept", [(32, True), (33, False)])
def test_weights_are_kept_where_they_take_no_more_than_the_arrays(T, kept, monkeypatch) -> None:
    """Not causal: T queries and keys of 8 channels have T² weights, and query, key, value and out 4 T 8 numbers."""
    query, key, value, _, g = Case(T, T, 8, 8, B=1).arrays()
    computed = []
    exp = threaded.EXP
    monkeypatch.setattr(threaded, "EXP", lambda x, out: computed.append(x.size) or exp(x, out=out))
    _, vjp = attention(query, key, value)
    computed.clear()
    vjp(g, ALL)
    assert computed == ([] if kept else [T * T])


# ----- in the engine


def test_the_engine_uses_it_for_float32_and_float64() -> None:
    for dtype, expected in (("float32", attention), ("float64", attention), ("float16", None)):
        assert kernel_for("scaled_dot_product_attention", np.zeros(1, dtype)) is expected


@pytest.mark.parametrize("changed", ["query", "key", "value", "out", "attn_mask"])
def test_an_array_that_the_backward_needs_may_not_be_changed_in_place(changed, monkeypatch) -> None:
    monkeypatch.setattr(threaded, "KEPT", 0)  # else the mask is not needed
    tensors = {name: Tensor(np.ones((1, 2, 5, 4)), requires_grad=True) for name in ("query", "key", "value")}
    leaves = {name: tensor * 1.0 for name, tensor in tensors.items()} | {"attn_mask": Tensor(np.ones((5, 5)))}
    out = F.scaled_dot_product_attention(**leaves)
    with no_grad():
        (leaves | {"out": out})[changed].add_(1.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        out.sum().backward()


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
def test_a_mistake_is_named_as_the_textbook_names_it(shapes, options, error, words) -> None:
    arrays = [np.zeros(shape) for shape in shapes]
    for function in (attention, textbook):
        with pytest.raises(error, match=words):
            function(*arrays, **options)

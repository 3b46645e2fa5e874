"""The Triton attention kernels against the textbook formula, in the interpreter: any sizes and options, guard bands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

import minilm
import minilm.functional as F
from minilm import Tensor, backend
from minilm.kernels.attention.arguments import Options
from minilm.kernels.attention.blocked import attention as blocked
from minilm.kernels.attention.triton import attention, forward
from minilm.kernels.host import counting, using_tile
from minilm.models import GPT, GPTConfig
from minilm.random import Generator
from minilm.tensor.tape import _held
from tests.kernels.attention_cases import KNOWN, Case, by_kernel, cases, check
from tests.kernels.guards import guarded, guards

ALL = (True, True, True, False)


@pytest.mark.parametrize("case", KNOWN.values(), ids=KNOWN)
def test_equals_the_formula(case) -> None:
    check(attention, case, guarded)


@given(cases())
@settings(max_examples=40)  # a third of a second each
def test_equals_the_formula_in_any_case(case) -> None:
    with guards():
        check(attention, case, guarded)


@pytest.mark.parametrize("BLOCK_Q, BLOCK_K", [(16, 16), (64, 16), (16, 64)])
def test_the_tile_changes_nothing(BLOCK_Q, BLOCK_K) -> None:
    case = Case(50, 70, 16, 16, is_causal="lower_right", dropout_p=0.2)
    tiles = {"BLOCK_Q": BLOCK_Q, "BLOCK_K": BLOCK_K}
    with using_tile("attention_forward", **tiles), using_tile("attention_key_value", **tiles):
        with using_tile("attention_query", **tiles):
            check(attention, case, guarded)


def test_equals_the_rung_below() -> None:
    """Not by way of the formula: the same seed drops the same weights, and lse agrees after the change of units."""
    case = replace(KNOWN["everything"], dtype="float32")
    for ours, theirs in zip(by_kernel(attention, case, guarded), by_kernel(blocked, case), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    query, key, value, _, _ = case.arrays()
    _, lse = forward(query, key, value, None, Options(case.group, 0.5, None, None, 0.0))
    scores = query @ np.repeat(key, case.group, axis=1).swapaxes(-1, -2) * 0.5
    np.testing.assert_allclose(lse * np.log(2), np.log(np.exp(scores).sum(-1)), rtol=1e-5)


@pytest.mark.parametrize("kind", ["bool", "additive", "causal"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_query_that_sees_no_key_gives_0_and_gets_0(kind, dtype) -> None:
    query, key, value, _, g = Case(40, 24, 8, 8, B=1, dtype=dtype).arrays()
    mask = np.ones((40, 24), dtype=bool)
    mask[3] = mask[16:32] = mask[:, 7] = False  # one row, a whole block of rows, a key
    options = {"is_causal": "lower_right"} if kind == "causal" else {}
    if kind == "causal":
        mask = np.tri(40, 24, -16, dtype=bool)
    else:
        options["attn_mask"] = mask if kind == "bool" else np.where(mask, 0, -np.inf).astype(dtype)
    out, vjp = attention(query, key, value, **options)
    dquery, dkey, dvalue, _ = vjp(g, ALL)
    blind, unseen = ~mask.any(1), ~mask.any(0)
    assert blind.sum() >= 16
    assert (out[:, :, blind] == 0).all() and (dquery[:, :, blind] == 0).all()
    assert (dkey[:, :, unseen] == 0).all() and (dvalue[:, :, unseen] == 0).all()
    for x in (out, dquery, dkey, dvalue):
        assert np.isfinite(x).all() and np.abs(x).max() > 0
    if kind == "causal":
        _, lse = forward(query, key, value, None, Options(1, 0.3, -16, None, 0.0))
    else:
        by_head = options["attn_mask"][None, None].view("uint8" if kind == "bool" else dtype)
        _, lse = forward(query, key, value, by_head, Options(1, 0.3, None, kind, 0.0))
    np.testing.assert_array_equal(lse[0, 0] == -np.inf, blind)


@pytest.mark.parametrize("Tq, Tk", [(0, 5), (5, 0), (1, 0)])
def test_without_queries_or_keys(Tq, Tk) -> None:
    query, key, value, _, g = Case(Tq, Tk, 8, 8).arrays()
    out, vjp = attention(query, key, value, is_causal="lower_right")
    gradients = vjp(g, ALL)[:3]
    assert out.shape == query.shape and not out.any()
    for gradient, x in zip(gradients, (query, key, value), strict=True):
        assert gradient.shape == x.shape and not gradient.any()


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
@pytest.mark.parametrize("mask", ["bool", "additive"])
def test_any_number_of_leading_axes(shape, mask) -> None:
    rng = np.random.default_rng(0)
    query, key, value, g = (guarded(rng.normal(size=(*shape, T, 8)).astype("float32")) for T in (18, 20, 20, 18))
    attn_mask = rng.random((*shape[:1], *(1 for _ in shape[1:]), 18, 20)) < 0.5
    if mask == "additive":
        attn_mask = attn_mask.astype("float32")
    needs = (True, True, True, mask == "additive")
    results = [f(query, key, value, attn_mask) for f in (attention, F.scaled_dot_product_attention.body)]
    (out, vjp), (expected, expected_vjp) = results
    for ours, theirs in zip((out, *vjp(g, needs)), (expected, *expected_vjp(g, needs)), strict=True):
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, atol=3e-6, strict=True)


def test_a_cotangent_that_is_broadcast() -> None:
    """The gradient of a sum is one number with strides of 0."""
    query, key, value, _, _ = Case(20, 20, 8, 8).arrays()
    out, vjp = attention(query, key, value)
    one = np.ones((), "float32")
    for ours, theirs in zip(vjp(np.broadcast_to(one, out.shape), ALL), vjp(np.ones_like(out), ALL), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_large_scores_neither_overflow_nor_vanish() -> None:
    query, key, value, _, g = Case(20, 40, 8, 8, B=1).arrays()
    out, vjp = attention(query * 1e3, key, value)
    winners = (query @ key.swapaxes(-1, -2)).argmax(-1)
    np.testing.assert_allclose(out[0, 0], value[0, 0][winners[0, 0]], atol=1e-5)
    assert all(np.isfinite(d).all() for d in vjp(g, ALL)[:3])


# ----- dropout


@pytest.mark.parametrize("seed, before", [(3, 0), (2**62 + 5, 0), (0, 2**32 - 100), (1, 2**40)])
def test_it_drops_what_the_generators_mask_drops(seed, before) -> None:
    """Equal scores and the identity as value: the output shows the mask, element by element."""
    B, H, Tq, Tk = 2, 2, 20, 35
    query, key = np.zeros((B, H, Tq, 8), "float32"), np.zeros((B, H, Tk, 8), "float32")
    value = np.broadcast_to(np.eye(Tk, dtype="float32"), (B, H, Tk, Tk))
    generator, same = Generator(seed), Generator(seed)
    generator.offset = same.offset = before
    out, vjp = attention(query, key, value, dropout_p=0.4, generator=generator)
    keep = same.keep_mask((B, H, Tq, Tk), 0.4)
    np.testing.assert_array_equal(out != 0, keep)
    np.testing.assert_allclose(out[keep], 1 / Tk / 0.6, rtol=1e-6)
    assert generator.offset == same.offset
    # dV = dropped(weights)ᵀ dout, and dout the identity: the backward dropped the same ones
    dvalue = vjp(np.broadcast_to(np.eye(Tq, Tk, dtype="float32"), out.shape), ALL)[2]
    np.testing.assert_array_equal(dvalue[..., :Tq] != 0, keep.swapaxes(-1, -2))


def test_without_a_generator_it_is_the_current_one_that_counts() -> None:
    query, key, value, _, _ = Case(20, 20, 8, 8).arrays()
    results = []
    for function in (attention, F.scaled_dot_product_attention.body):
        minilm.manual_seed(9)
        results.append([function(query, key, value, dropout_p=0.5)[0] for _ in range(2)])
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)
    assert np.abs(results[0][0] - results[0][1]).max() > 0.1


def test_dropping_everything_gives_0_and_takes_no_random_number() -> None:
    query, key, value, _, g = Case(20, 20, 8, 8).arrays()
    generator = Generator(0)
    out, vjp = attention(query, key, value, dropout_p=1.0, generator=generator)
    assert not out.any() and not any(d.any() for d in vjp(g, ALL)[:3]) and generator.offset == 0


# ----- what it costs


def test_only_the_output_and_lse_are_kept() -> None:
    query, key, value, attn_mask, _ = Case(100, 130, 8, 8, B=1, mask="bool k", dropout_p=0.5).arrays()
    out, vjp = attention(query, key, value, attn_mask, dropout_p=0.5, generator=Generator(0))
    held = {backend.owner(a).ctypes.data: a.nbytes for a in _held(vjp)}
    assert sum(held.values()) <= sum(a.nbytes for a in (query, key, value, attn_mask, out)) + 4 * 100


def test_the_gradients_that_are_not_needed_are_not_computed() -> None:
    query, key, value, _, g = Case(20, 20, 8, 8, B=1).arrays()
    _, vjp = attention(query, key, value)

    def written(*needs: bool) -> int:
        with counting() as counts:
            gradients = vjp(g, (*needs, False))
        assert [d is not None for d in gradients] == [*needs, False]
        return counts.written

    array, delta = query.nbytes, 4 * 20
    assert written(True, False, False) == array + delta
    assert written(False, True, False) == written(False, True, True) == 2 * array + delta
    assert written(True, True, True) == 3 * array + delta


def test_bytes_and_flops_are_those_of_the_docstrings() -> None:
    case = Case(64, 96, 16, 16, Hk=1, group=2, B=1)
    query, key, value, _, g = case.arrays()
    q, k = query.nbytes, key.nbytes
    with counting() as counts:
        out, vjp = attention(query, key, value, enable_gqa=True)
    assert counts.flops == 2 * 2 * 64 * 96 * (16 + 16)
    assert counts.read == q + 2 * k and counts.written == q + 4 * 2 * 64
    with counting() as counts:
        vjp(g, ALL)
    assert counts.flops == 7 * 2 * 2 * 64 * 96 * 16
    assert counts.written == q + 2 * k + 4 * 2 * 64


def test_blocks_that_no_query_sees_are_skipped() -> None:
    """Tiles of 16 x 32 forward; 16 x 32 and 32 x 16 backward. T = 128."""
    query, key, value, _, g = Case(128, 128, 16, 16, B=1).arrays()
    with counting() as counts:
        _, vjp = attention(query, key, value, is_causal=True)
    seen = sum(-(-(row + 16) // 32) * 32 * 16 for row in range(0, 128, 16))
    assert counts.flops == 2 * 2 * 16 * seen
    with counting() as counts:
        vjp(g, ALL)
    by_keys = sum((128 - column) * 32 for column in range(0, 128, 32))
    by_queries = sum((row + 32) * 32 for row in range(0, 128, 32))
    assert counts.flops == 2 * 16 * (4 * by_keys + 3 * by_queries)


def test_the_same_bits_every_time() -> None:
    case = replace(KNOWN["grouped"], dtype="float16")
    for first, second in zip(by_kernel(attention, case), by_kernel(attention, case), strict=True):
        if first is not None:
            np.testing.assert_array_equal(first, second)


def test_merging_the_heads_of_the_output_copies_nothing() -> None:
    query, key, value, _, g = Case(20, 20, 8, 8, Hk=3).arrays()
    out, vjp = attention(query, key, value)
    for x in (out, *vjp(g, ALL)[:3]):
        assert np.shares_memory(x.swapaxes(1, 2).reshape(2, 20, 24), x)


# ----- in the engine, and what is refused


def test_a_model_learns_through_the_kernels_as_through_the_formula(monkeypatch) -> None:
    ids = np.arange(40).reshape(2, 20) % 11
    batch = {"input_ids": ids, "labels": (ids + 1) % 11}

    def gradients() -> dict[str, np.ndarray]:
        minilm.manual_seed(0)
        model = GPT(GPTConfig(11, 20, n_layer=2, n_head=2, n_embd=16, dropout=0.1)).train()
        model.loss(batch).backward()
        return {name: p.grad.numpy().copy() for name, p in model.named_parameters()}

    textbook = gradients()
    table = {"scaled_dot_product_attention": "minilm.kernels.attention.triton:attention"}
    monkeypatch.setitem(backend.BACKENDS, "kernels", replace(backend.BACKENDS["numpy"], name="kernels", kernels=table))
    monkeypatch.setattr(backend, "why_not", lambda name: None)
    with minilm.use_backend("kernels"):
        by_kernels = gradients()
    for name in textbook:
        np.testing.assert_allclose(by_kernels[name], textbook[name], atol=1e-6)


def test_a_change_of_an_input_between_forward_and_backward_is_found_out(monkeypatch) -> None:
    monkeypatch.setitem(backend._kernels, "scaled_dot_product_attention", attention)
    query, key, value = (Tensor(a, requires_grad=True) for a in Case(20, 20, 8, 8).arrays()[:3])
    doubled = key * 2
    y = F.scaled_dot_product_attention(query, doubled, value)
    with minilm.no_grad():
        doubled.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


@pytest.mark.parametrize(
    "shape, dtype, options, error, words",
    [
        ((4, 8), "float64", {}, NotImplementedError, "not float64.*use_backend\\('numpy'\\)"),
        ((4, 257), "float32", {}, NotImplementedError, "width up to 256.*\\(4, 257\\).*use_backend\\('numpy'\\)"),
        ((4, 8), "float32", {"is_causal": "left"}, ValueError, "'left'"),
        ((4, 8), "float32", {"attn_mask": np.zeros((4, 4))}, TypeError, "float32, not float64.*astype"),
    ],
    ids=["dtype", "width", "causal", "mask"],
)
def test_what_is_not_covered_is_said(shape, dtype, options, error, words) -> None:
    with pytest.raises(error, match=words):
        attention(*(np.zeros(shape, dtype) for _ in range(3)), **options)


def test_a_head_too_large_for_32_bit_offsets_is_refused() -> None:
    far = np.lib.stride_tricks.as_strided(np.zeros(8, "float16"), (1, 1, 4, 2), (0, 0, 2**31, 2))
    near = np.zeros((1, 1, 4, 2), "float16")
    with pytest.raises(NotImplementedError, match="32 bits"):
        attention(near, far, near)



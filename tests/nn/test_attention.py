"""Attention layers: head by head against the formula, causality, and decoding with a cache."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor, nn, no_grad
from minilm.nn import merge_heads, split_heads
from minilm.random import Generator, using_generator
from minilm.testing import gradcheck

C, H, D = 12, 6, 2


def x_of(*shape, seed=0, dtype="float64"):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def make(kind=nn.SelfAttention, dtype="float64", seed=1, **options):
    with using_generator(Generator(seed)):
        return kind(C, H, **options).astype(dtype)


def positions(name):
    """The keyword argument that gives a layer its positions."""
    return {
        "none": {},
        "rotary": {"rotary": nn.RotaryPositions(16, D)},
        "alibi": {"alibi": nn.ALiBi(H)},
    }[name]


POSITIONS = pytest.mark.parametrize("position", ["none", "rotary", "alibi"])
KV_HEADS = pytest.mark.parametrize("num_kv_heads", [6, 3, 1])


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def head_by_head(q, k, v, allowed):
    """Attention of q (B, Tq, H D) over k and v (B, Tk, Hk D), one head at a time; query head h reads h // (H / Hk)."""
    heads = []
    for h in range(q.shape[-1] // D):
        group = h * k.shape[-1] // q.shape[-1]
        mine, shared = slice(h * D, (h + 1) * D), slice(group * D, (group + 1) * D)
        scores = q[..., mine] @ k[..., shared].swapaxes(-1, -2) / math.sqrt(D)
        heads.append(softmax(np.where(allowed, scores, -np.inf)) @ v[..., shared])
    return np.concatenate(heads, axis=-1)


def through(layer, x):
    return x @ layer.weight.numpy().T + (0 if layer.bias is None else layer.bias.numpy())


@KV_HEADS
@pytest.mark.parametrize("is_causal, bias", [(False, True), (True, False)])
def test_self_attention_is_the_formula_head_by_head(num_kv_heads, is_causal, bias):
    layer, x = make(num_kv_heads=num_kv_heads, bias=bias), x_of(2, 5, C)
    q, k, v = np.split(through(layer.qkv_proj, x.numpy()), [C, C + num_kv_heads * D], axis=-1)
    allowed = np.tri(5, dtype=bool) if is_causal else np.ones((5, 5), dtype=bool)
    expected = through(layer.out_proj, head_by_head(q, k, v, allowed))
    np.testing.assert_allclose(layer(x, is_causal=is_causal).numpy(), expected, atol=1e-13)
    assert layer.num_parameters() == (C + bias) * (C + 2 * num_kv_heads * D) + (C + bias) * C


@KV_HEADS
def test_cross_attention_is_the_formula_head_by_head(num_kv_heads):
    layer = make(nn.CrossAttention, num_kv_heads=num_kv_heads, memory_dim=7)
    x, memory = x_of(2, 3, C), x_of(2, 5, 7, seed=1)
    mask = np.random.default_rng(3).random((2, 1, 3, 5)) < 0.7
    mask[..., 0] = True
    q = through(layer.q_proj, x.numpy())
    k, v = np.split(through(layer.kv_proj, memory.numpy()), 2, axis=-1)
    expected = through(layer.out_proj, head_by_head(q, k, v, mask[:, 0]))
    np.testing.assert_allclose(layer(x, memory, mask).numpy(), expected, atol=1e-13)
    ready = layer.keys_and_values(memory)
    assert ready[0].shape == (2, num_kv_heads, 5, D)
    np.testing.assert_array_equal(layer(x, None, mask, ready).numpy(), layer(x, memory, mask).numpy())


def test_heads_are_split_and_merged_back():
    x = x_of(2, 3, C)
    split = split_heads(x, H)
    assert split.shape == (2, H, 3, D)
    np.testing.assert_array_equal(split.numpy()[1, 4, 2], x.numpy()[1, 2, 4 * D : 5 * D])
    np.testing.assert_array_equal(merge_heads(split).numpy(), x.numpy())


# ----- causality


@POSITIONS
@KV_HEADS
def test_a_later_token_never_changes_an_earlier_output(position, num_kv_heads):
    layer = make(num_kv_heads=num_kv_heads, **positions(position))
    x = x_of(2, 6, C)
    changed = x.numpy().copy()
    changed[:, 4] += 100
    before, after = layer(x, is_causal=True).numpy(), layer(Tensor(changed), is_causal=True).numpy()
    np.testing.assert_array_equal(after[:, :4], before[:, :4])
    assert (after[:, 4:] != before[:, 4:]).all()


@POSITIONS
def test_the_gradient_of_an_output_with_respect_to_later_inputs_is_exactly_0(position):
    layer = make(num_kv_heads=3, **positions(position))
    x = x_of(1, 6, C)
    x.requires_grad = True
    layer(x, is_causal=True)[:, 3].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy()[:, 4:], 0)
    assert (np.abs(x.grad.numpy()[:, :4]).max(-1) > 0).all()


def test_without_the_causal_mask_every_output_sees_every_input():
    layer, x = make(), x_of(1, 4, C)
    x.requires_grad = True
    layer(x)[:, 0].sum().backward()
    assert (np.abs(x.grad.numpy()).max(-1) > 0).all()


# ----- positions and masks


def test_self_attention_without_positions_cannot_tell_the_order():
    layer, x = make(), x_of(1, 5, C)
    order = np.array([3, 1, 4, 0, 2])
    np.testing.assert_allclose(layer(x[:, order]).numpy(), layer(x).numpy()[:, order], atol=1e-14)
    for position in ("rotary", "alibi"):
        layer = make(**positions(position))
        assert np.abs(layer(x[:, order]).numpy() - layer(x).numpy()[:, order]).max() > 1e-3


def test_rotary_positions_turn_queries_and_keys_and_leave_values():
    layer, x = make(**positions("rotary")), x_of(1, 5, C)
    q, k, v = (split_heads(Tensor(a), H) for a in np.split(through(layer.qkv_proj, x.numpy()), 3, axis=-1))
    angles = F.rotary_angles(5, D, dtype="float32")
    q, k = (F.rotary_embedding(a, *angles) for a in (q, k))
    expected = layer.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v))).numpy()
    np.testing.assert_allclose(layer(x).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["bool", "additive", "none"])
def test_alibi_is_added_to_the_scores_together_with_a_mask(kind):
    layer, x = make(**positions("alibi")), x_of(2, 4, C)
    plain = make()  # the same weights
    allowed = np.array([[True, True, False, True]] * 2)[:, None, None, :]
    bias = np.array(layer.alibi.slopes)[:, None, None] * -np.abs(np.arange(4)[:, None] - np.arange(4))
    added = np.where(allowed, 0.5, -3.0)
    mask = {"bool": allowed, "additive": added, "none": None}[kind]
    total = {"bool": np.where(allowed, bias, -np.inf), "additive": added + bias, "none": bias}[kind]
    expected = plain(x, attn_mask=Tensor(total)).numpy()
    for form in (mask, None if mask is None else Tensor(mask)):
        np.testing.assert_allclose(layer(x, attn_mask=form).numpy(), expected, atol=1e-13)


def test_a_padding_mask_makes_the_padding_irrelevant():
    layer, x = make(), x_of(2, 5, C)
    mask = np.array([True, True, True, False, False])[None, None, None]
    changed = x.numpy().copy()
    changed[:, 3:] = 1e3
    short = layer(x[:, :3]).numpy()
    np.testing.assert_allclose(layer(Tensor(changed), attn_mask=mask).numpy()[:, :3], short, atol=1e-13)


# ----- the cache


@given(
    st.sampled_from(["none", "rotary", "alibi"]),
    st.sampled_from([6, 3, 1]),
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_in_any_pieces_with_a_cache_it_equals_the_whole(position, num_kv_heads, pieces, seed):
    T = min(sum(pieces), 16)
    layer = make(dtype="float32", num_kv_heads=num_kv_heads, **positions(position))
    x = x_of(2, T, C, seed=seed, dtype="float32")
    with no_grad():
        whole = layer(x, is_causal=True).numpy()
        cache, start, parts = nn.KVCache(T), 0, []
        for n in pieces:
            piece = x[:, start : min(start + n, T)]
            if piece.shape[1]:
                parts.append(layer(piece, is_causal=True, cache=cache).numpy())
            start += n
    assert cache.length == T
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-6)


@no_grad()
def test_a_mask_over_all_keys_goes_with_the_cache():
    """Left padding: the first key of the second sequence does not count, in no step."""
    layer, x = make(), x_of(2, 4, C)
    mask = np.array([[True] * 4, [False] + [True] * 3])[:, None, None, :]
    whole = layer(x, mask, is_causal=True).numpy()
    cache = nn.KVCache(4)
    first = layer(x[:, :3], mask[..., :3], is_causal=True, cache=cache).numpy()
    last = layer(x[:, 3:], mask, is_causal=True, cache=cache).numpy()
    np.testing.assert_allclose(np.concatenate([first, last], axis=1), whole, atol=1e-13)


# ----- training, gradients, mistakes


def test_attention_weights_drop_in_training_only():
    for layer, args in (
        (make(dropout=0.5), (x_of(2, 5, C),)),
        (make(nn.CrossAttention, dropout=0.5), (x_of(2, 5, C), x_of(2, 3, C))),
    ):
        with using_generator(Generator(1)):
            first, second = layer(*args).numpy(), layer(*args).numpy()
        with using_generator(Generator(1)):
            again = layer(*args).numpy()
        np.testing.assert_array_equal(first, again)
        assert (first != second).any()
        layer.eval()
        np.testing.assert_array_equal(layer(*args).numpy(), layer(*args).numpy())


@POSITIONS
def test_the_gradients_of_self_attention(position):
    layer = make(num_kv_heads=3, **positions(position))
    x = x_of(1, 3, C)
    x.requires_grad = True
    assert gradcheck(lambda *_: layer(x, is_causal=True), [x, *layer.parameters()])


def test_the_gradients_of_cross_attention():
    layer = make(nn.CrossAttention, num_kv_heads=2)
    x, memory = x_of(1, 2, C), x_of(1, 3, C, seed=2)
    x.requires_grad = memory.requires_grad = True
    assert gradcheck(lambda *_: layer(x, memory), [x, memory, *layer.parameters()])


@pytest.mark.parametrize("kind", [nn.SelfAttention, nn.CrossAttention])
def test_numbers_of_heads_that_do_not_divide_are_refused(kind):
    with pytest.raises(ValueError, match="embed_dim 10 must be a multiple of num_heads 4"):
        kind(10, 4)
    with pytest.raises(ValueError, match="num_heads 4 must be a multiple of num_kv_heads 3"):
        kind(8, 4, 3)


def test_cross_attention_without_a_memory_says_what_it_needs():
    with pytest.raises(ValueError, match="needs the memory, or its keys_and_values"):
        make(nn.CrossAttention)(x_of(1, 2, C))


def test_an_input_of_another_width_is_named():
    with pytest.raises(ValueError, match=r"linear: .*\(1, 2, 7\).*\(36, 12\)"):
        make()(x_of(1, 2, 7))


def test_the_repr_names_the_heads():
    assert "SelfAttention(6 heads, 3 key-value heads)" in repr(make(num_kv_heads=3))
    assert "CrossAttention(6 heads, 6 key-value heads)" in repr(make(nn.CrossAttention))

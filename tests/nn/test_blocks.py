"""Feed-forward networks and Transformer blocks: the published formulas, put together from their own parts."""

import copy
import tracemalloc

import numpy as np
import pytest

import minilm.functional as F
from minilm import Tensor, nn, no_grad
from minilm.random import Generator, using_generator
from minilm.testing import gradcheck

C = 8


def x_of(*shape, seed=0, dtype="float64"):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def make(seed=1, dtype="float64", **options):
    with using_generator(Generator(seed)):
        return nn.TransformerBlock(C, 2, **options).astype(dtype)


@pytest.mark.parametrize(
    "name, function",
    [
        ("relu", lambda h: np.maximum(h, 0)),
        ("gelu", lambda h: F.gelu(Tensor(h), "none").numpy()),
        ("gelu_tanh", lambda h: F.gelu(Tensor(h), "tanh").numpy()),
        ("silu", lambda h: h / (1 + np.exp(-h))),
    ],
)
def test_feed_forward_is_two_maps_with_a_nonlinearity_between(name, function):
    layer, x = nn.FeedForward(C, 20, name).astype("float64"), x_of(2, 3, C)
    hidden = function(x.numpy() @ layer.up_proj.weight.numpy().T + layer.up_proj.bias.numpy())
    expected = hidden @ layer.down_proj.weight.numpy().T + layer.down_proj.bias.numpy()
    np.testing.assert_allclose(layer(x).numpy(), expected, atol=1e-14)


def test_swiglu_gates_with_a_third_map():
    layer, x = nn.FeedForward(C, 20, "swiglu", bias=False).astype("float64"), x_of(2, 3, C)
    gate, up = (x.numpy() @ m.weight.numpy().T for m in (layer.gate_proj, layer.up_proj))
    expected = (gate / (1 + np.exp(-gate)) * up) @ layer.down_proj.weight.numpy().T
    np.testing.assert_allclose(layer(x).numpy(), expected, atol=1e-14)
    assert layer.num_parameters() == 3 * 20 * C


def test_the_default_nonlinearity_is_gpt_2s():
    assert nn.FeedForward(C, 20).activation == "gelu_tanh" == nn.TransformerBlock(C, 2).feed_forward.activation


@pytest.mark.parametrize("norm_layer", [nn.LayerNorm, nn.RMSNorm])
def test_a_pre_norm_block(norm_layer):
    """x + f(norm(x)), for each part."""
    block, x = make(norm="pre", norm_layer=norm_layer), x_of(2, 5, C)
    h = x + block.attention(block.norm_1(x), is_causal=True)
    expected = h + block.feed_forward(block.norm_2(h))
    np.testing.assert_array_equal(block(x, is_causal=True).numpy(), expected.numpy())
    assert isinstance(block.norm_1, norm_layer) and isinstance(block.norm_2, norm_layer)


def test_a_post_norm_block():
    """norm(x + f(x)), for each part: what comes out is normalised."""
    block, x = make(norm="post"), x_of(2, 5, C)
    h = block.norm_1(x + block.attention(x))
    expected = block.norm_2(h + block.feed_forward(h))
    np.testing.assert_array_equal(block(x).numpy(), expected.numpy())
    np.testing.assert_allclose(block(x).numpy().mean(-1), 0, atol=1e-14)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_with_cross_attention_has_three_parts(norm):
    block, x, memory = make(norm=norm, cross_attention=True), x_of(2, 3, C), x_of(2, 4, C, seed=1)
    mask = np.array([True, True, True, False])

    def residual(x, normalise, part):
        return x + part(normalise(x)) if norm == "pre" else normalise(x + part(x))

    h = residual(x, block.norm_1, lambda y: block.attention(y, is_causal=True))
    h = residual(h, block.norm_cross, lambda y: block.cross_attention(y, memory, mask))
    expected = residual(h, block.norm_2, block.feed_forward)
    y = block(x, is_causal=True, memory=memory, memory_mask=mask)
    np.testing.assert_array_equal(y.numpy(), expected.numpy())
    ready = block.cross_attention.keys_and_values(memory)
    np.testing.assert_array_equal(
        block(x, is_causal=True, memory_mask=mask, memory_keys_and_values=ready).numpy(), y.numpy()
    )


def test_a_zero_output_map_makes_a_pre_norm_block_the_identity():
    block, x = make(), x_of(2, 5, C)
    for layer in (block.attention.out_proj, block.feed_forward.down_proj):
        layer.weight.data[...] = 0
        layer.bias.data[...] = 0
    np.testing.assert_array_equal(block(x).numpy(), x.numpy())


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("position", ["none", "rotary", "alibi"])
@no_grad()
def test_token_by_token_with_a_cache_equals_the_whole(norm, position):
    options = {
        "none": {},
        "rotary": {"rotary": nn.RotaryPositions(6, C // 2)},
        "alibi": {"alibi": nn.ALiBi(2)},
    }[position]
    block, x = make(norm=norm, num_kv_heads=1, dtype="float32", **options), x_of(2, 6, C, dtype="float32")
    whole, cache = block(x, is_causal=True).numpy(), nn.KVCache(6)
    steps = [block(x[:, t : t + 1], is_causal=True, cache=cache).numpy() for t in range(6)]
    np.testing.assert_allclose(np.concatenate(steps, axis=1), whole, atol=1e-6)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_gradients_of_a_block(norm):
    block = make(norm=norm, hidden_dim=4, activation="swiglu", cross_attention=True, bias=False)
    x, memory = x_of(1, 2, C), x_of(1, 2, C, seed=2)
    x.requires_grad = memory.requires_grad = True
    assert gradcheck(lambda *_: block(x, memory=memory, is_causal=True), [x, memory, *block.parameters()])


def test_dropout_reaches_every_part_in_training_and_none_in_evaluation():
    block, x = make(dropout=0.5), x_of(2, 4, C)
    assert [m.p for m in block.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert block.attention.dropout == 0.5
    plain = make()
    np.testing.assert_array_equal(block.eval()(x).numpy(), plain(x).numpy())
    assert (block.train()(x).numpy() != plain(x).numpy()).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_checkpointed_blocks_equal_plain_ones_bit_for_bit_dropout_included(dtype):
    def gradients(blocks, checked):
        x = x_of(2, 5, C, dtype=dtype)
        x.requires_grad = True
        h = x
        with using_generator(Generator(7)) as generator:
            for block in blocks:
                run = lambda x, block=block: block(x, is_causal=True)  # noqa: E731
                h = nn.checkpoint(run, h, parameters=block.parameters()) if checked else run(h)
            h.backward(x_of(2, 5, C, seed=5, dtype=dtype))
        return [a.numpy() for a in (h, x.grad, *(p.grad for b in blocks for p in b.parameters()))], generator.offset

    blocks = [make(seed, dropout=0.3, dtype=dtype) for seed in (1, 2)]
    plain, checked = gradients(copy.deepcopy(blocks), False), gradients(blocks, True)
    assert plain[1] == checked[1] > 0
    for one, other in zip(plain[0], checked[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_checkpointed_block_keeps_its_input_alone():
    with using_generator(Generator(1)):
        block = nn.TransformerBlock(32, 4)

    def kept(checked):
        x = x_of(4, 64, 32, dtype="float32")
        x.requires_grad = True
        tracemalloc.start()
        try:
            for _ in range(3):
                x = nn.checkpoint(block, x, parameters=block.parameters()) if checked else block(x)
            return tracemalloc.get_traced_memory()[0] / x.data.nbytes
        finally:
            tracemalloc.stop()

    assert kept(True) < 4
    assert kept(False) > 40


def test_misspelled_settings_are_refused_with_the_choices():
    with pytest.raises(ValueError, match="norm is 'pre' or 'post', got 'middle'"):
        nn.TransformerBlock(C, 2, norm="middle")
    with pytest.raises(ValueError, match="no activation 'selu': choose one of gelu_tanh, gelu, silu, relu, swiglu"):
        nn.FeedForward(C, 4, "selu")


def test_the_repr_names_the_norm():
    assert repr(make(norm="post")).startswith("TransformerBlock(post-norm)")


def test_a_memory_without_cross_attention_is_refused():
    x = Tensor(np.ones((1, 2, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="cross_attention=True"):
        nn.TransformerBlock(4, 2)(x, memory=x)

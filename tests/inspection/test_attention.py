"""Attention maps are the weights that the layers used: with them, the layers' outputs can be made again."""

import math

import numpy as np
import pytest

from minilm import no_grad
from minilm.errors import ConfigurationError
from minilm.inspection import attention_maps
from minilm.nn import ALiBi, CrossAttention, KVCache, Module, SelfAttention
from minilm.tensor import Tensor
from tests.inspection.small_models import IDS, MASK, TARGET, T, small

MODELS = {
    "gpt": ((IDS,), {"blocks.attention": (3, 2, 2, T, T)}),
    "llama": ((IDS,), {"blocks.attention": (3, 2, 4, T, T)}),
    "llama, own head": ((IDS,), {"blocks.attention": (2, 2, 2, T, T)}),
    "bert": ((IDS,), {"blocks.attention": (2, 2, 2, T, T)}),
    "bert-classifier": ((IDS,), {"bert.blocks.attention": (2, 2, 2, T, T)}),
    "transformer": (
        (IDS, TARGET),
        {
            "encoder.attention": (2, 2, 2, T, T),
            "decoder.attention": (2, 2, 2, 5, 5),
            "decoder.cross_attention": (2, 2, 2, 5, T),
        },
    ),
    "seq2seq-lstm": ((IDS, TARGET), {"attention": (1, 2, 1, 5, T)}),
}


def watch(model, inputs, more):
    """What each attention layer put out, and what its out_proj was given, by name."""
    seen, removers = {}, []
    for name, module in model.named_modules():
        if isinstance(module, SelfAttention | CrossAttention):

            def look(layer, arguments, output, name=name):
                seen[name] = arguments, output.numpy()

            removers.append(module.register_forward_hook(look))
    with no_grad():
        model(*inputs, **more)
    for remove in removers:
        remove()
    return seen


def values_of(layer, arguments):
    """The values (B, H, Tk, D), each group's repeated for its query heads, by NumPy from the layer's weights."""
    cross = isinstance(layer, CrossAttention)
    x = (arguments[1] if cross else arguments[0]).numpy()
    linear = layer.kv_proj if cross else layer.qkv_proj
    projected = x @ linear.weight.numpy().T + (0 if linear.bias is None else linear.bias.numpy())
    width = layer.out_proj.weight.shape[1] // layer.num_heads * layer.num_kv_heads
    value = projected[..., -width:].reshape(*x.shape[:2], layer.num_kv_heads, -1).swapaxes(1, 2)
    return value.repeat(layer.num_heads // layer.num_kv_heads, axis=1)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_maps_are_the_weights_that_the_layers_used(kind, padded):
    model = small(kind).eval()
    inputs, shapes = MODELS[kind]
    more = {"attention_mask": MASK} if padded else {}
    maps = attention_maps(model, *inputs, **more)
    assert {where: found.shape for where, found in maps.items()} == shapes
    layers = dict(model.named_modules())
    stacks = {where: iter(found) for where, found in maps.items()}
    for name, (arguments, output) in watch(model, inputs, more).items():
        where = ".".join(part for part in name.split(".") if not part.isdigit())
        P, layer = next(stacks[where]), layers[name]
        y = (P @ values_of(layer, arguments)).swapaxes(1, 2).reshape(output.shape)
        bias = 0 if layer.out_proj.bias is None else layer.out_proj.bias.numpy()
        np.testing.assert_allclose(y @ layer.out_proj.weight.numpy().T + bias, output, rtol=1e-4, atol=1e-5)
    for where, found in maps.items():
        np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
        reads_source = where != "decoder.attention"
        if padded and reads_source:
            assert (found[:, 1, :, :, 4:] == 0).all() and (found[:, 0, :, :, 4:] > 0).any()
        if where in ("blocks.attention", "decoder.attention") and kind != "bert":
            assert (found[..., ~np.tri(found.shape[-1], dtype=bool)] == 0).all()  # nobody sees what comes later


def test_a_map_is_that_of_the_textbook():
    """softmax(Q Kᵀ / sqrt(D) + mask), written out for GPT's first layer."""
    model = small("gpt").eval()
    block = model.blocks[0]
    with no_grad():
        x = block.norm_1(model.positions(model.token_embedding(IDS))).numpy().astype(np.float64)
    q, k, _ = np.split(x @ block.attention.qkv_proj.weight.numpy().T + block.attention.qkv_proj.bias.numpy(), 3, -1)
    q, k = (a.reshape(2, T, 2, 8).swapaxes(1, 2) for a in (q, k))
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(8)
    scores[..., ~np.tri(T, dtype=bool)] = -np.inf
    P = np.exp(scores - scores.max(-1, keepdims=True))
    P /= P.sum(-1, keepdims=True)
    np.testing.assert_allclose(attention_maps(model, IDS)["blocks.attention"][0], P, rtol=1e-4, atol=1e-6)
    assert P.max() > 0.9  # the heads do choose


def test_transformer_tells_the_same_as_its_own_method():
    model = small("transformer, pre-norm")
    own = model.attention_weights(IDS, TARGET, MASK)
    np.testing.assert_allclose(attention_maps(model, IDS, TARGET, MASK)["decoder.cross_attention"], own, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_alibi_is_in_the_weights(masked):
    layer = SelfAttention(8, 2, alibi=ALiBi(2)).eval()
    x = Tensor(np.random.default_rng(0).normal(size=(2, T, 8)).astype(np.float32))
    mask = Tensor(MASK)[:, None, None, :] if masked else None
    (found,) = attention_maps(layer, x, mask)[""]
    value = values_of(layer, (x,))
    y = (found @ value).swapaxes(1, 2).reshape(2, T, 8) @ layer.out_proj.weight.numpy().T + layer.out_proj.bias.numpy()
    with no_grad():
        np.testing.assert_allclose(y, layer(x, mask).numpy(), atol=1e-5)


def test_looking_leaves_the_model_as_it_was():
    model = small("gpt")
    model.blocks[1].eval()
    attention_maps(model, IDS)
    assert [block.training for block in model.blocks] == [True, False, True]
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match="axes"):
        attention_maps(model, IDS[0])
    assert not any(module._forward_hooks for module in model.modules())


def test_a_mask_that_the_hook_cannot_see_and_caches_are_refused():
    class ByName(Module):
        def __init__(self):
            super().__init__()
            self.attention = SelfAttention(8, 2)

        def forward(self, x):
            return self.attention(x, is_causal=True)

    x = Tensor(np.random.default_rng(0).normal(size=(2, T, 8)).astype(np.float32))
    with pytest.raises(ConfigurationError, match="by name"):
        attention_maps(ByName(), x)
    model = small("gpt")
    with pytest.raises(ConfigurationError, match="leave the caches out"):
        attention_maps(model, IDS, None, [KVCache(16) for _ in model.blocks])


def test_a_model_without_attention_is_refused():
    with pytest.raises(ConfigurationError, match="LSTMLM has no attention"):
        attention_maps(small("lstm"), IDS)

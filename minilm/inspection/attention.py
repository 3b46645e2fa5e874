"""Where each head of each layer looks, for any model that is made of our attention layers.

    P = softmax(Q Kᵀ / sqrt(D) + mask)          the weights; what the layer puts out is P V, merged and projected

The layers never keep P: the fused operation does not even compute it as a whole. But with the identity in the place of
the values it puts out P I = P. So a hook on each layer makes query and key again from the layer's own input, with its
own projections, positions and mask, and asks the very operation that the layer used.

A weight says how much of a token's *value* is taken, not how much the token matters: the values of a token that much is
taken from may be nearly zero, as those of the first token often are (Kobayashi et al. 2020), and other weights can give
the same answer (Jain & Wallace 2019). minilm.plots.plot_attention draws the maps.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

import minilm.functional as F
from minilm.backend import to_numpy, xp
from minilm.errors import ConfigurationError
from minilm.nn import CrossAttention, Module, SelfAttention, evaluating, split_heads
from minilm.tensor import Tensor


def attention_maps(model: Module, *inputs: Any, **more: Any) -> dict[str, np.ndarray]:
    """Run model(*inputs, **more) once and give the attention weights of all layers.

    Returns:
        {where: (layers, B, H, Tq, Tk) float32}; the layers of one stack together, under the name of the layer without
        its number: "blocks.attention" (GPT, Llama, BERT), "encoder.attention", "decoder.attention" and
        "decoder.cross_attention" (Transformer). A row of Tk sums to 1, or to 0 where a token may see none. Of a
        Seq2SeqLSTM the one map is "attention".

    Raises:
        ConfigurationError: if the model has no attention, or hands a layer its mask by name: a hook does not see that.
    """
    found: dict[str, list[np.ndarray]] = {}
    removers = []
    for name, module in model.named_modules():
        if isinstance(module, SelfAttention | CrossAttention):
            where = re.sub(r"\.\d+(?=\.)", "", name)

            def look(layer: Any, arguments: tuple[Any, ...], output: Tensor, where: str = where) -> None:
                if isinstance(layer, SelfAttention) and len(arguments) > 3 and arguments[3] is not None:
                    raise ConfigurationError("attention maps are of a whole text at once: leave the caches out")
                _check_arguments(layer, arguments, output, where)
                weights = _self_weights if isinstance(layer, SelfAttention) else _cross_weights
                found.setdefault(where, []).append(to_numpy(weights(layer, *arguments).data))

            removers.append(module.register_forward_hook(look))
    if not removers:
        if hasattr(model, "attention_weights"):  # attention of another kind, which the model keeps itself
            return {"attention": model.attention_weights(*inputs, **more)}
        raise ConfigurationError(f"{type(model).__name__} has no attention to look at")
    try:
        with evaluating(model.modules()):
            model(*inputs, **more)
    finally:
        for remove in removers:
            remove()
    return {where: np.stack(maps) for where, maps in found.items()}


def _check_arguments(layer: Module, arguments: tuple[Any, ...], output: Tensor, where: str) -> None:
    """Was that all that the layer was given? Then it puts out the same again. (Hooks are told of positions only.)"""
    before, again = to_numpy(output.data), to_numpy(layer.forward(*arguments).data)
    if not np.allclose(again, before, rtol=1e-3, atol=1e-3 * float(np.abs(before).max(initial=0.0))):
        raise ConfigurationError(
            f"{where} was called with arguments by name, and its map would be wrong: pass the mask by position, as "
            "TransformerBlock does"
        )


def _self_weights(
    layer: SelfAttention, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, cache: None = None
) -> Tensor:
    query, key, _ = layer.queries_keys_values(x)
    return _weights(query, key, layer.with_penalty(attn_mask, query, key), is_causal)


def _cross_weights(
    layer: CrossAttention,
    x: Tensor,
    memory: Tensor | None = None,
    attn_mask: Tensor | None = None,
    keys_and_values: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    if keys_and_values is None:
        assert memory is not None  # the layer has refused it already
        keys_and_values = layer.keys_and_values(memory)
    return _weights(split_heads(layer.q_proj(x), layer.num_heads), keys_and_values[0], attn_mask, False)


def _weights(query: Tensor, key: Tensor, attn_mask: Tensor | None, is_causal: bool) -> Tensor:
    """(B, H, Tq, Tk): attention to the identity."""
    B, Hk, Tk, _ = key.shape
    m = xp(key.data)
    identity = Tensor.wrap(m.array(m.broadcast_to(m.eye(Tk, dtype=key.dtype), (B, Hk, Tk, Tk))))
    causal = "lower_right" if is_causal else False
    grouped = Hk != query.shape[1]
    return F.scaled_dot_product_attention(query, key, identity, attn_mask, is_causal=causal, enable_gqa=grouped)

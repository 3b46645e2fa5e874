"""Layers and models, small enough to check the gradient of every parameter by finite differences.

An operation's gradient may be right and a layer's still wrong: a view that is changed in place, a parameter
that is used twice, a state handed on. Whatever is random in a layer draws from the same generator each time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm import nn
from minilm.models import GPT, LSTMLM, GPTConfig, LSTMConfig
from minilm.nn import Module, initialization
from minilm.random import Generator, using_generator
from minilm.testing import Sample
from minilm.testing.samples import leaf

B, T, C, H, V = 2, 3, 4, 2, 5


def layer_samples() -> list[Sample]:
    """For each layer, calls on which its inputs and all its parameters are checked, in float64."""
    with using_generator(Generator(0).spawn("layers")):
        return [*_simple(), *_attention(), *_blocks(), *_recurrent(), *_models()]


def _sample(
    case: str,
    module: Module,
    *inputs: Any,
    call: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Sample:
    module = module.astype("float64")
    function = call or module

    def deterministic(*arguments: Any) -> Any:
        with using_generator(Generator(7)):  # so that dropout drops the same elements in every evaluation
            return function(*arguments[: len(inputs)])

    return Sample(name or type(module).__name__, case, deterministic, (*inputs, *module.parameters()))


def _simple() -> list[Sample]:
    ids = np.array([[0, 3, 3], [4, 0, 1]])
    x = leaf(B, T, C)
    adapted = nn.LoRALinear(nn.Linear(C, 3), rank=2)
    adapted.lora_B = initialization.normal((3, 2), 1.0)  # it starts as 0, and then A has no gradient
    return [
        _sample("with bias", nn.Linear(C, 3), x),
        _sample("without", nn.Linear(C, 3, bias=False), x),
        _sample("adapter alone", adapted, x),
        _sample("repeated ids", nn.Embedding(V, C), ids),
        _sample("with bias", nn.LayerNorm(C), x),
        _sample("without", nn.LayerNorm(C, bias=False), x),
        _sample("scaled", nn.RMSNorm(C), x),
        _sample("in training", nn.Dropout(0.4), x),
        _sample("two layers", nn.Sequential(nn.Linear(C, 3), nn.RMSNorm(3)), x),
        _sample("added", nn.SinusoidalPositions(T, C), x),
        _sample("added", nn.LearnedPositions(T + 1, C), x),
        _sample("turned", nn.RotaryPositions(T, C), x),
        _sample("in pairs", nn.RotaryPositions(T, C, interleaved=True), x),
        *(
            _sample(kind, nn.FeedForward(C, 6, kind), leaf(B, T, C, kind="nonzero"))
            for kind in ("gelu_tanh", "gelu", "silu", "swiglu")
        ),
    ]


def _attention() -> list[Sample]:
    x, memory = leaf(B, T, C), leaf(B, T + 1, 3)
    pointer, ids = nn.Pointer(C), np.array([[0, 3, 3, 1], [4, 0, 1, 1]])
    causal = {
        "causal": nn.SelfAttention(C, H),
        "grouped heads": nn.SelfAttention(C, H, num_kv_heads=1),
        "rotary": nn.SelfAttention(C, H, rotary=nn.RotaryPositions(T, C // H)),
        "ALiBi": nn.SelfAttention(C, H, alibi=nn.ALiBi(H)),
        "dropout": nn.SelfAttention(C, H, dropout=0.3),
    }
    return [
        *(
            _sample(case, module, x, call=lambda x, module=module: module(x, is_causal=True))
            for case, module in causal.items()
        ),
        _sample("all positions", nn.SelfAttention(C, H), x),
        _sample("wider memory", nn.CrossAttention(C, H, memory_dim=3), x, memory),
        _sample(
            "repeated tokens",
            pointer,
            leaf(B, T, V),
            x,
            leaf(B, T + 1, C),
            ids,
            call=lambda logits, x, memory, ids: pointer(logits, x, pointer.keys(memory), ids),
        ),
    ]


def _blocks() -> list[Sample]:
    x, memory = leaf(B, T, C), leaf(B, T, C)
    pre = nn.TransformerBlock(C, H, hidden_dim=6)
    post = nn.TransformerBlock(C, H, hidden_dim=6, norm="post", dropout=0.2)
    llama = nn.TransformerBlock(
        C, H, num_kv_heads=1, hidden_dim=6, activation="swiglu", norm_layer=nn.RMSNorm, bias=False
    )
    decoder = nn.TransformerBlock(C, H, hidden_dim=6, cross_attention=True)
    again = nn.TransformerBlock(C, H, hidden_dim=6)

    def recomputed(x: Any) -> Any:
        return nn.checkpoint(again, x, parameters=list(again.parameters()))

    return [
        _sample("pre-norm", pre, x, call=lambda x: pre(x, is_causal=True)),
        _sample("post-norm, dropout", post, x),
        _sample("Llama's", llama, x, call=lambda x: llama(x, is_causal=True)),
        _sample("cross-attention", decoder, x, memory, call=lambda x, m: decoder(x, is_causal=True, memory=m)),
        _sample("recomputed", again, x, call=recomputed, name="TransformerBlock (checkpoint)"),
    ]


def _recurrent() -> list[Sample]:
    x = leaf(B, T, 3)
    h, c = leaf(1, B, H), leaf(1, B, H)
    started = nn.LSTM(3, H)
    return [
        *(_sample("one layer", kind(3, H), x) for kind in (nn.RNN, nn.LSTM, nn.GRU)),
        *(
            _sample("two layers, both directions, dropout", kind(3, H, 2, dropout=0.3, bidirectional=True), x)
            for kind in (nn.RNN, nn.LSTM, nn.GRU)
        ),
        _sample("initial state", started, x, h, c, call=lambda x, h, c: started(x, (h, c))),
    ]


def _models() -> list[Sample]:
    ids, labels = np.array([[0, 3, 1], [2, 2, 4]]), np.array([[3, 1, -100], [2, 4, 0]])
    gpt = GPT(GPTConfig(vocab_size=V, block_size=T, n_layer=2, n_head=H, n_embd=C, dropout=0.1))
    models: list[tuple[str, Module]] = [("GPT", gpt)]
    for cell in ("lstm", "gru", "rnn"):
        config = LSTMConfig(vocab_size=V, n_embd=3, n_hidden=H, n_layer=2, cell=cell)
        models.append((f"LSTMLM ({cell})", LSTMLM(config)))
    return [
        sample
        for name, model in models
        for sample in (
            _sample("logits", model, ids, name=name),
            _sample(
                "loss",
                model,
                ids,
                labels,
                call=lambda i, y, model=model: model.loss({"input_ids": i, "labels": y}),
                name=name,
            ),
        )
    ]

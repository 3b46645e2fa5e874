"""Samples of the operations that networks are made of, each with every option."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import minilm.functional as functional
from minilm.functional.gru import gru
from minilm.functional.lstm import lstm
from minilm.functional.rnn import rnn
from minilm.random import Generator
from minilm.testing.samples import add_sample, leaf

Ops: Any = functional  # the operations' full signatures are not for the type checker here

# ----- activations and softmax

for approximate in ("none", "tanh"):
    add_sample("gelu", approximate, lambda x, a=approximate: Ops.gelu(x, a), leaf(2, 3))
    add_sample("gelu", f"{approximate}, layout", lambda x, a=approximate: Ops.gelu(x, a), leaf(3, 2, layout="strided"))
    add_sample("gelu", f"{approximate}, no axes", lambda x, a=approximate: Ops.gelu(x, a), leaf())

add_sample("swiglu", "same shapes", Ops.swiglu, leaf(2, 3), leaf(2, 3, layout="F"))
add_sample("swiglu", "broadcast", Ops.swiglu, leaf(2, 1), leaf(3))
add_sample("swiglu", "twice the same", lambda x: Ops.swiglu(x, x), leaf(2, 3))

for name in ("softmax", "log_softmax"):
    operation = getattr(Ops, name)
    add_sample(name, "last axis", operation, leaf(2, 3))
    add_sample(name, "axis 0", lambda x, f=operation: f(x, axis=0), leaf(3, 2, layout="F"))
    add_sample(name, "axis in the middle", lambda x, f=operation: f(x, axis=-2), leaf(2, 3, 2))
    add_sample(name, "large scores", lambda x, f=operation: f(60 * x + 700), leaf(2, 3, kind="apart"))
    add_sample(name, "no rows", operation, leaf(0, 3))
    add_sample(name, "one class", operation, leaf(3, 1))
HOLES = np.array([[True, False, True], [True, True, True]])
add_sample("softmax", "scores of -inf", lambda x, c: Ops.softmax(Ops.where(c, x, -np.inf)), leaf(2, 3), HOLES)
add_sample(
    "softmax",
    "a row of -inf",
    lambda x, c: Ops.softmax(Ops.where(c, x, -np.inf)),
    leaf(2, 3),
    HOLES & np.array([[False], [True]]),
)

# ----- losses

TARGET = np.array([[2, 0], [1, -100]])
for reduction in ("mean", "sum", "none"):
    for smoothing in (0.0, 0.1):
        add_sample(
            "cross_entropy",
            f"{reduction}, smoothing {smoothing}",
            lambda x, t, r=reduction, s=smoothing: Ops.cross_entropy(x, t, label_smoothing=s, reduction=r),
            leaf(2, 2, 3),
            TARGET,
        )
add_sample("cross_entropy", "one row", Ops.cross_entropy, leaf(4), np.array(1))
add_sample("cross_entropy", "0 is ignored", lambda x, t: Ops.cross_entropy(x, t, 0), leaf(2, 3), np.array([0, 2]))
add_sample("cross_entropy", "layout", Ops.cross_entropy, leaf(3, 4, layout="F"), np.array([0, 3, 1]))

# ----- copying

SOURCE = np.array([[2, 0, 2], [1, 1, 1]])  # tokens that come twice, three times, and never
add_sample("copy_logits", "repeated tokens", Ops.copy_logits, leaf(2, 2, 4), leaf(2, 2, 3), SOURCE)
add_sample(
    "copy_logits", "layout", Ops.copy_logits, leaf(2, 2, 3, layout="F"), leaf(2, 2, 3, layout="reversed"), SOURCE
)
add_sample("copy_logits", "large scores", lambda x, c, i: Ops.copy_logits(60 * x, 60 * c + 700, i),
           leaf(1, 2, 4, kind="apart"), leaf(1, 2, 3, kind="apart"), SOURCE[:1])  # fmt: skip
add_sample("copy_logits", "scores of -inf", lambda x, c, i, h: Ops.copy_logits(x, Ops.where(h, c, -np.inf), i),
           leaf(1, 2, 4), leaf(1, 2, 3), SOURCE[:1], HOLES)  # fmt: skip
add_sample("copy_logits", "no source", Ops.copy_logits, leaf(1, 2, 3), leaf(1, 2, 0), SOURCE[:1, :0])

# ----- normalization

add_sample("layer_norm", "last axis", lambda x: Ops.layer_norm(x, 4), leaf(2, 4))
add_sample("layer_norm", "weight and bias", lambda x, w, b: Ops.layer_norm(x, 4, w, b), leaf(2, 3, 4), leaf(4), leaf(4))
add_sample("layer_norm", "bias alone", lambda x, b: Ops.layer_norm(x, (4,), bias=b), leaf(2, 4), leaf(4))
add_sample(
    "layer_norm",
    "two axes",
    lambda x, w, b: Ops.layer_norm(x, (2, 3), w, b),
    *(leaf(2, 2, 3, layout="F"), leaf(2, 3), leaf(2, 3)),
)
add_sample("layer_norm", "one vector, large eps", lambda x, w: Ops.layer_norm(x, 3, w, eps=0.5), leaf(3), leaf(3))
add_sample("layer_norm", "no rows", lambda x, w, b: Ops.layer_norm(x, 4, w, b), leaf(0, 4), leaf(4), leaf(4))
add_sample("rms_norm", "last axis", lambda x: Ops.rms_norm(x, 4), leaf(2, 4, kind="nonzero"))
add_sample("rms_norm", "weight", lambda x, w: Ops.rms_norm(x, 4, w), leaf(2, 3, 4, kind="nonzero"), leaf(4))
add_sample("rms_norm", "two axes", lambda x, w: Ops.rms_norm(x, (2, 3), w, 0.1), leaf(2, 2, 3, layout="F"), leaf(2, 3))
add_sample("rms_norm", "no rows", lambda x, w: Ops.rms_norm(x, 4, w), leaf(0, 4), leaf(4))

# ----- operations that are several in one

for activation in ("gelu_tanh", "gelu", "silu"):
    add_sample(
        "linear_activation",
        activation,
        lambda x, w, b, f=activation: Ops.linear_activation(x, w, b, f),
        *(leaf(2, 3), leaf(4, 3), leaf(4)),
    )
add_sample(
    "linear_activation",
    "relu",  # the sums of these stay away from 0
    lambda x, w, b: Ops.linear_activation(x, w, b, "relu"),
    *(leaf(2, 1, kind="nonzero"), leaf(3, 1, kind="nonzero"), leaf(3, kind="apart") ),
)
add_sample(
    "linear_activation",
    "residual",
    lambda x, w, b, r: Ops.linear_activation(x, w, b, "silu", r),
    *(leaf(2, 2, 3, layout="F"), leaf(4, 3), leaf(4), leaf(2, 2, 4)),
)
add_sample(
    "linear_activation",
    "residual, no bias",
    lambda x, w, r: Ops.linear_activation(x, w, residual=r),
    *(leaf(3), leaf(2, 3, layout="strided"), leaf(2)),
)
add_sample("linear_activation", "no rows", Ops.linear_activation, leaf(0, 3), leaf(2, 3), leaf(2))
add_sample("add_rms_norm", "last axis", Ops.add_rms_norm, leaf(2, 3, 4), leaf(2, 3, 4, layout="F"), leaf(4))
add_sample(
    "add_rms_norm",
    "two axes, eps",
    lambda x, r, w: Ops.add_rms_norm(x, r, w, 0.1),
    *(leaf(2, 2, 3), leaf(2, 2, 3), leaf(2, 3)),
)
add_sample("add_rms_norm", "the norm alone", lambda *a: Ops.add_rms_norm(*a)[0], leaf(2, 4), leaf(2, 4), leaf(4))
add_sample("add_rms_norm", "the sum alone", lambda *a: Ops.add_rms_norm(*a)[1], leaf(2, 4), leaf(2, 4), leaf(4))
add_sample("add_rms_norm", "no rows", Ops.add_rms_norm, leaf(0, 4), leaf(0, 4), leaf(4))

# ----- dropout and positions

add_sample("dropout", "half", lambda x: Ops.dropout(x, 0.5, True, Generator(3)), leaf(3, 4))
add_sample("dropout", "a tenth, layout", lambda x: Ops.dropout(x, 0.1, True, Generator(3)), leaf(3, 4, layout="F"))
add_sample("dropout", "not in training", lambda x: Ops.dropout(x, 0.5, False), leaf(2, 3))
add_sample("dropout", "all dropped", lambda x: Ops.dropout(x, 1.0, True), leaf(2, 3))

for interleaved in (False, True):
    label = "pairs" if interleaved else "halves"

    def rotate(x: Any, interleaved: bool = interleaved) -> Any:
        """Rotary positions of x (..., T, D)."""
        cos, sin = functional.rotary_angles(x.shape[-2], x.shape[-1], dtype="float64")
        return Ops.rotary_embedding(x, cos, sin, interleaved)

    add_sample("rotary_embedding", label, rotate, leaf(2, 3, 4))
    add_sample("rotary_embedding", f"{label}, layout", rotate, leaf(3, 4, layout="reversed"))

# ----- attention

ALLOWED = np.array([[True, False, True], [True, True, True]])
SHUT = np.array([[False, False, False], [True, True, False]])


def attention(**options: Any) -> Any:
    """A function of query, key, value and perhaps a mask, with these options."""
    return lambda q, k, v, m=None: Ops.scaled_dot_product_attention(q, k, v, attn_mask=m, **options)


QKV = (leaf(2, 2, 3), leaf(2, 3, 3), leaf(2, 3, 2))
add_sample("scaled_dot_product_attention", "plain", attention(), *QKV)
add_sample("scaled_dot_product_attention", "one head", attention(), leaf(2, 3, layout="F"), leaf(3, 3), leaf(3, 2))
add_sample("scaled_dot_product_attention", "self", lambda x: attention()(x, x, x), leaf(2, 3, 2))
add_sample("scaled_dot_product_attention", "scale", attention(scale=0.3), *QKV)
add_sample("scaled_dot_product_attention", "causal, upper left", attention(is_causal=True), *QKV)
add_sample("scaled_dot_product_attention", "causal, lower right", attention(is_causal="lower_right"), *QKV)
add_sample("scaled_dot_product_attention", "a mask of booleans", attention(), *QKV, ALLOWED)
add_sample("scaled_dot_product_attention", "a query without keys", attention(), *QKV, SHUT)
add_sample("scaled_dot_product_attention", "a mask of numbers", attention(), *QKV, leaf(2, 2, 3))
add_sample("scaled_dot_product_attention", "one mask for all heads", attention(is_causal=True), *QKV, leaf(2, 3))
add_sample("scaled_dot_product_attention", "a mask broadcast along keys", attention(), *QKV, leaf(2, 1, 1))
add_sample(
    "scaled_dot_product_attention",
    "grouped queries",
    attention(enable_gqa=True, is_causal=True),
    *(leaf(1, 4, 2, 3), leaf(1, 2, 2, 3), leaf(1, 2, 2, 3), leaf(4, 2, 2)),
)
add_sample(
    "scaled_dot_product_attention",
    "dropout",
    lambda q, k, v: Ops.scaled_dot_product_attention(q, k, v, dropout_p=0.4, generator=Generator(5)),
    *QKV,
)

# ----- recurrent layers, over whole sequences

recurrent: Any
for recurrent, gates, states in ((rnn, 1, 1), (gru, 3, 1), (lstm, 4, 2)):
    name = recurrent.name
    weights = (leaf(gates * 2, 3), leaf(gates * 2, 2))
    biases = (leaf(gates * 2), leaf(gates * 2))
    start = (leaf(2, 2),) * states
    add_sample(name, "with biases", recurrent, leaf(2, 3, 3), *start, *weights, *biases)
    add_sample(name, "without biases", recurrent, leaf(2, 3, 3, layout="F"), *start, *weights)
    add_sample(name, "one step, one sequence", recurrent, leaf(1, 1, 3), *(leaf(1, 2),) * states, *weights, *biases)
    add_sample(name, "no sequence", recurrent, leaf(0, 2, 3), *(leaf(0, 2),) * states, *weights, *biases)
    backwards = partial(recurrent, reverse=True)
    add_sample(name, "from the end", backwards, leaf(2, 3, 3), *start, *weights, *biases)
    add_sample(name, "the output alone", lambda *a, f=recurrent: f(*a)[0], leaf(2, 2, 3), *start, *weights, *biases)
    add_sample(name, "a state alone", lambda *a, f=recurrent: f(*a)[-1], leaf(2, 2, 3), *start, *weights, *biases)
    add_sample(
        name,
        "the second bias alone",
        lambda *a, f=recurrent: f(*a[:-1], bias_hh=a[-1]),
        *(leaf(2, 2, 3), *start, *weights, biases[1]),
    )
add_sample(
    "rnn",
    "relu",
    partial(rnn, nonlinearity="relu"),
    *(leaf(2, 3, 3), leaf(2, 2), leaf(2, 3), leaf(2, 2), leaf(2), leaf(2)),
)

# ----- memory for time


def block(x: Any, w: Any) -> Any:
    """What is checkpointed below: products, and an input that is used twice."""
    return (x @ w).tanh() * x


add_sample("checkpoint", "inputs", lambda x, w: Ops.checkpoint(block, x, w), leaf(2, 3), leaf(3, 3))
add_sample(
    "checkpoint",
    "parameters",
    lambda x, w: Ops.checkpoint(lambda x: block(x, w), x, parameters=(w,)),
    *(leaf(2, 3), leaf(3, 3)),
)
add_sample(
    "checkpoint",
    "two outputs, dropout inside",
    lambda x: Ops.checkpoint(lambda x: (Ops.dropout(x, 0.5, True, generator=Generator(2)), x.sum(axis=0)), x),
    leaf(2, 3),
)

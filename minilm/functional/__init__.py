"""The operations. One file a family; each operation is formula, forward, vjp, on one screen.

Reading order: elementwise, reductions, shape, indexing, linear_algebra (what a NumPy user expects), comparison (no
gradient), operators (which of them stand behind `+`, `@`, `.sum()`); precision and erf, which others use; then what
networks are made of, each fused into one operation with a derived backward: activations, softmax, losses, copying,
normalization, dropout, positions, attention, rnn, lstm, gru; fused_linear and fused_norm (two or more of these in
one); checkpoint (memory for time).
"""

from minilm.functional import operators as _operators  # noqa: F401 - gives Tensor its operators
from minilm.functional.activations import gelu, silu, swiglu
from minilm.functional.attention import scaled_dot_product_attention
from minilm.functional.checkpoint import checkpoint
from minilm.functional.comparison import (
    argmax,
    argmin,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    not_equal,
)
from minilm.functional.copying import copy_logits
from minilm.functional.dropout import dropout
from minilm.functional.elementwise import (
    abs,
    add,
    astype,
    at_least_float32,
    clip,
    clone,
    cos,
    divide,
    erf,
    exp,
    log,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    relu,
    sigmoid,
    sin,
    sqrt,
    subtract,
    tanh,
    where,
)
from minilm.functional.fused_linear import ACTIVATIONS, linear_activation
from minilm.functional.fused_norm import add_rms_norm
from minilm.functional.gru import gru
from minilm.functional.indexing import embedding, getitem, take_along_axis
from minilm.functional.linear_algebra import einsum, linear, matmul
from minilm.functional.losses import cross_entropy
from minilm.functional.lstm import lstm
from minilm.functional.normalization import layer_norm, rms_norm
from minilm.functional.positions import rotary_angles, rotary_embedding
from minilm.functional.reductions import cumsum, logsumexp, max, mean, min, sum, var
from minilm.functional.rnn import rnn
from minilm.functional.shape import (
    concatenate,
    expand,
    expand_dims,
    pad,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    transpose,
)
from minilm.functional.softmax import log_softmax, softmax

__all__ = [
    "ACTIVATIONS",
    *("abs", "add", "add_rms_norm", "argmax", "argmin", "astype", "at_least_float32", "checkpoint", "clip", "clone"),
    *("concatenate", "copy_logits", "cos", "cross_entropy", "cumsum"),
    *("divide", "dropout", "einsum", "embedding", "equal", "erf", "exp", "expand", "expand_dims", "gelu", "getitem"),
    *("greater", "greater_equal", "gru", "layer_norm", "less", "less_equal", "linear", "linear_activation"),
    *("log", "log_softmax", "logsumexp", "lstm"),
    *("matmul", "max", "maximum", "mean", "min", "minimum", "multiply", "negative", "not_equal", "pad", "power"),
    *("relu", "reshape", "rms_norm", "rnn", "rotary_angles", "rotary_embedding", "scaled_dot_product_attention"),
    *("sigmoid",),
    *("silu", "sin", "softmax", "split", "sqrt", "squeeze", "stack", "subtract", "sum", "swapaxes", "swiglu"),
    *("take_along_axis", "tanh", "transpose", "var", "where"),
]

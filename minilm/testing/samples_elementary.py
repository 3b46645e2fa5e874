"""Samples of the operations that NumPy has, too: arithmetic, reductions, shapes, indexing, products.

What to look for in a sample: an axis that is broadcast, negative, a tuple; a length of one or zero; a repeated index.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minilm.functional as functional
from minilm.testing.samples import add_sample, leaf

Ops: Any = functional  # the operations' full signatures are not for the type checker here

# ----- element by element, two inputs

for name, kind, other in (
    ("add", "normal", "normal"),
    ("subtract", "normal", "normal"),
    ("multiply", "normal", "normal"),
    ("divide", "normal", "nonzero"),
    ("power", "positive", "normal"),
    ("maximum", "apart", "apart too"),
    ("minimum", "apart", "apart too"),
):
    operation = getattr(Ops, name)
    add_sample(name, "same shapes", operation, leaf(2, 3, kind=kind), leaf(2, 3, kind=other))
    add_sample(name, "column and row", operation, leaf(2, 1, kind=kind), leaf(1, 3, kind=other))
    add_sample(name, "new axes", operation, leaf(3, kind=kind), leaf(2, 2, 3, kind=other))
    add_sample(name, "no axes", operation, leaf(2, 2, kind=kind), leaf(kind=other))
    add_sample(name, "both without axes", operation, leaf(kind=kind), leaf(kind=other))
    add_sample(name, "empty", operation, leaf(0, 3, kind=kind), leaf(1, 3, kind=other))
    add_sample(name, "layouts", operation, leaf(3, 2, kind=kind, layout="F"), leaf(3, 2, kind=other, layout="reversed"))
    add_sample(name, "a number on the right", lambda a, f=operation: f(a, 1.5), leaf(2, 2, kind=kind))
    add_sample(name, "a number on the left", lambda b, f=operation: f(1.5, b), leaf(2, 2, kind=other))
    if other == kind or name == "divide":
        add_sample(name, "twice the same", lambda a, f=operation: f(a, a), leaf(2, 3, kind=other))

add_sample("power", "an integer exponent, any base", lambda a: a**3, leaf(2, 3, kind="nonzero"))
add_sample("power", "exponent 0", lambda a: a**0, leaf(2, 3))
add_sample("power", "exponent -1", lambda a: a**-1, leaf(2, 3, kind="nonzero"))
add_sample("power", "exponent 2 at base 0", lambda a: (a - a) ** 2 + a**2, leaf(2, 3))

# ----- element by element, one input

for name, kind in (
    ("negative", "normal"),
    ("exp", "normal"),
    ("log", "positive"),
    ("sqrt", "positive"),
    ("sin", "normal"),
    ("cos", "normal"),
    ("tanh", "normal"),
    ("sigmoid", "normal"),
    ("erf", "normal"),
    ("silu", "normal"),
    ("relu", "apart"),
    ("abs", "apart"),
    ("clone", "normal"),
):
    operation = getattr(Ops, name)
    add_sample(name, "a matrix", operation, leaf(2, 3, kind=kind))
    add_sample(name, "no axes", operation, leaf(kind=kind))
    add_sample(name, "size one and empty", operation, leaf(1, 0, 2, kind=kind))
    add_sample(name, "layout", operation, leaf(3, 2, kind=kind, layout="reversed"))

add_sample("erf", "all three formulas", lambda x: Ops.erf(2.5 * x), leaf(9))
add_sample("clip", "both bounds", lambda x: Ops.clip(x, -0.5, 0.5), leaf(3, 4, kind="apart"))
add_sample("clip", "below alone", lambda x: Ops.clip(x, low=0.0), leaf(3, 4, kind="apart"))
add_sample("clip", "above alone", lambda x: Ops.clip(x, high=0.0), leaf(3, 4, kind="apart"))
add_sample("clip", "no axes", lambda x: Ops.clip(x, -9.0, 9.0), leaf(kind="apart"))
add_sample("astype", "to its own dtype", lambda x: Ops.astype(x, x.dtype), leaf(2, 3))

MASK = np.array([[True, False, True], [False, False, True]])
add_sample("where", "same shapes", Ops.where, MASK, leaf(2, 3), leaf(2, 3))
add_sample("where", "all three broadcast", Ops.where, MASK[:, :1], leaf(3), leaf(2, 1))
add_sample("where", "the condition adds an axis", Ops.where, MASK, leaf(3), leaf())
add_sample("where", "a number", lambda c, a: Ops.where(c, a, 0.0), MASK, leaf(2, 3))
add_sample("where", "a number first", lambda c, b: Ops.where(c, 0.0, b), MASK, leaf(2, 3))
add_sample(
    "where",
    "driven by a comparison",
    lambda a, b: Ops.where(a > b, a, b),
    *(leaf(4, kind="apart"), leaf(4, kind="apart too")),
)

# ----- reductions

for name, kind in (
    ("sum", "normal"),
    ("mean", "normal"),
    ("var", "normal"),
    ("max", "apart"),
    ("min", "apart"),
    ("logsumexp", "normal"),
):
    operation = getattr(Ops, name)
    for label, axis, keepdims in (
        ("of all", None, False),
        ("of all, kept", None, True),
        ("axis 0", 0, False),
        ("axis -1, kept", -1, True),
        ("axes 0 and 2", (0, 2), False),
        ("axes -1 and 1, kept", (-1, 1), True),
        ("an axis of length 1", 1, False),
    ):
        shape = (3, 1, 2) if "length 1" in label else (2, 3, 2)
        if name == "var" and "length 1" in label:
            continue  # constant zero: nothing to see
        add_sample(
            name,
            label,
            lambda x, f=operation, axis=axis, keepdims=keepdims: f(x, axis=axis, keepdims=keepdims),
            leaf(*shape, kind=kind),
        )
    add_sample(name, "layout", lambda x, f=operation: f(x, axis=0), leaf(3, 2, kind=kind, layout="strided"))
    add_sample(name, "other axes empty", lambda x, f=operation: f(x, axis=1), leaf(0, 2, kind=kind))
    if name != "var":
        add_sample(name, "no axes", operation, leaf(kind=kind))

add_sample("sum", "an empty axis", lambda x: Ops.sum(x, axis=0), leaf(0, 3))
add_sample("sum", "no axis at all", lambda x: Ops.sum(x, axis=()), leaf(2, 2))
add_sample("var", "ddof 1", lambda x: Ops.var(x, axis=1, ddof=1), leaf(2, 4))
add_sample("logsumexp", "large scores", lambda x: Ops.logsumexp(700 + 60 * x, axis=1), leaf(2, 3, kind="apart"))
for axis in (None, 0, 1, -1):
    add_sample("cumsum", f"axis {axis}", lambda x, axis=axis: Ops.cumsum(x, axis=axis), leaf(3, 2, layout="F"))
add_sample("cumsum", "empty", lambda x: Ops.cumsum(x, axis=0), leaf(0, 2))

# ----- shapes

add_sample("reshape", "one length for two", lambda x: x.reshape(6), leaf(2, 3))
add_sample("reshape", "a tuple with -1", lambda x: x.reshape((3, -1, 1)), leaf(2, 3, layout="F"))
add_sample("reshape", "to no axes", lambda x: x.reshape(()), leaf(1, 1))
add_sample("reshape", "empty", lambda x: x.reshape(3, 0), leaf(0, 2))
add_sample("transpose", "reversed", lambda x: x.transpose(), leaf(2, 3, 2))
add_sample("transpose", "a cycle of three", lambda x: x.transpose(1, 2, 0), leaf(2, 3, 4))
add_sample("transpose", "negative axes", lambda x: x.transpose((-1, 0, -2)), leaf(2, 3, 4))
add_sample("transpose", "T", lambda x: x.T, leaf(2, 3, layout="strided"))
add_sample("transpose", "no axes", lambda x: x.T, leaf())
add_sample("swapaxes", "first and last", lambda x: x.swapaxes(0, -1), leaf(2, 3, 4))
add_sample("expand", "length 1 and a new axis", lambda x: x.expand(4, 2, 3), leaf(2, 1))
add_sample("expand", "-1 keeps a length", lambda x: x.expand((2, -1, 2)), leaf(3, 1))
add_sample("expand", "to nothing", lambda x: x.expand(0, 3), leaf(1, 3))
add_sample("squeeze", "all", lambda x: x.squeeze(), leaf(1, 3, 1))
add_sample("squeeze", "one axis", lambda x: x.squeeze(-1), leaf(1, 3, 1))
add_sample("squeeze", "two axes", lambda x: x.squeeze((0, 2)), leaf(1, 3, 1))
add_sample("expand_dims", "one axis", lambda x: Ops.expand_dims(x, 1), leaf(2, 3))
add_sample("expand_dims", "two axes", lambda x: Ops.expand_dims(x, (0, -1)), leaf(2, 3))
add_sample("concatenate", "axis 0", lambda *xs: Ops.concatenate(xs), leaf(2, 3), leaf(1, 3), leaf(0, 3))
add_sample("concatenate", "last axis", lambda *xs: Ops.concatenate(xs, axis=-1), leaf(2, 1), leaf(2, 3, layout="F"))
add_sample("concatenate", "the same twice", lambda x: Ops.concatenate([x, x], axis=1), leaf(2, 2))
add_sample("stack", "axis 0", lambda *xs: Ops.stack(xs), leaf(2, 3), leaf(2, 3))
add_sample("stack", "last axis", lambda *xs: Ops.stack(xs, axis=-1), leaf(2, 3), leaf(2, 3, layout="reversed"))
add_sample("stack", "no axes, the same twice", lambda x, y: Ops.stack([x, y, x]), leaf(), leaf())
add_sample("split", "equal parts", lambda x: x.split(2, axis=1), leaf(2, 4))
add_sample("split", "cuts, an empty part", lambda x: x.split([1, 1, 3]), leaf(4, 2))
add_sample("split", "one part unused", lambda x: x.split(3, axis=-1)[1], leaf(2, 3))
add_sample("pad", "one width", lambda x: Ops.pad(x, 1), leaf(2, 2))
add_sample("pad", "before and after", lambda x: Ops.pad(x, (0, 2), constant_values=3.0), leaf(2, 2))
add_sample("pad", "a pair for each axis", lambda x: Ops.pad(x, ((1, 0), (0, 2))), leaf(2, 3, layout="F"))

# ----- indexing

IDS = np.array([[0, 2, 2], [1, 0, 2]])
add_sample("getitem", "an integer", lambda x: x[1], leaf(3, 2))
add_sample("getitem", "one element", lambda x: x[1, -1], leaf(3, 2))
add_sample("getitem", "slices, backwards too", lambda x: x[::-2, 1:], leaf(5, 3))
add_sample("getitem", "ellipsis and a new axis", lambda x: x[..., None, 0], leaf(2, 3, 2))
add_sample("getitem", "repeated rows", lambda x, i: x[i], leaf(3, 2), IDS)
add_sample("getitem", "a list, negative and repeated", lambda x: x[[0, -1, 0]], leaf(3, 2))
add_sample("getitem", "repeated elements of a vector", lambda x, i: x[i], leaf(3, layout="reversed"), IDS)
add_sample("getitem", "pairs, repeated", lambda x, i, j: x[i, j], leaf(3, 3), IDS, IDS.T[:, :1].T)
add_sample("getitem", "integers beside slices", lambda x, i: x[:, i, 1:], leaf(2, 3, 3), IDS)
add_sample("getitem", "a mask", lambda x, c: x[c], leaf(2, 3), MASK)
add_sample("getitem", "nothing chosen", lambda x, i: x[i], leaf(3, 2), IDS[:, :0])
add_sample("getitem", "nothing in a slice", lambda x: x[2:2], leaf(3, 2))
add_sample("take_along_axis", "last axis, repeated", lambda x, i: Ops.take_along_axis(x, i, -1), leaf(2, 4), IDS)
add_sample("take_along_axis", "first axis", lambda x, i: Ops.take_along_axis(x, i, 0), leaf(4, 3, layout="F"), IDS)
add_sample("take_along_axis", "other axes broadcast", lambda x, i: Ops.take_along_axis(x, i, 1), leaf(3, 3), IDS[:1])
add_sample("embedding", "repeated ids", Ops.embedding, IDS, leaf(4, 2))
add_sample("embedding", "one id", Ops.embedding, np.array(1), leaf(4, 2))
add_sample("embedding", "no ids", Ops.embedding, IDS[:0], leaf(4, 2))

# ----- products

add_sample("matmul", "matrices", Ops.matmul, leaf(2, 3), leaf(3, 4, layout="F"))
add_sample("matmul", "two vectors", Ops.matmul, leaf(3), leaf(3))
add_sample("matmul", "vector and matrix", Ops.matmul, leaf(3), leaf(3, 2))
add_sample("matmul", "matrix and vector", Ops.matmul, leaf(2, 3, layout="reversed"), leaf(3))
add_sample("matmul", "batch and vector", Ops.matmul, leaf(2, 2, 3), leaf(3))
add_sample("matmul", "vector and batch", Ops.matmul, leaf(3), leaf(2, 3, 2))
add_sample("matmul", "batch and one matrix", Ops.matmul, leaf(2, 2, 3), leaf(3, 2))
add_sample("matmul", "one matrix and batch", Ops.matmul, leaf(2, 3), leaf(2, 3, 2))
add_sample("matmul", "batches broadcast", Ops.matmul, leaf(2, 1, 2, 3), leaf(3, 3, 1))
add_sample("matmul", "an empty inner axis", Ops.matmul, leaf(2, 0), leaf(0, 3))
add_sample("matmul", "an empty batch", Ops.matmul, leaf(0, 2, 3), leaf(3, 2))
add_sample("matmul", "a matrix with itself", lambda a: a @ a, leaf(3, 3))
add_sample("linear", "with bias", Ops.linear, leaf(2, 2, 3), leaf(4, 3), leaf(4))
add_sample("linear", "without bias", Ops.linear, leaf(2, 3, layout="F"), leaf(4, 3, layout="F"))
add_sample("linear", "one vector", Ops.linear, leaf(3), leaf(2, 3), leaf(2))
add_sample("linear", "bias by name", lambda x, w, b: Ops.linear(x, bias=b, weight=w), leaf(2, 3), leaf(2, 3), leaf(2))
add_sample("linear", "no rows", Ops.linear, leaf(0, 3), leaf(2, 3), leaf(2))

for label, subscripts, shapes in (
    ("matmul", "ij,jk->ik", ((2, 3), (3, 4))),
    ("attention scores", "bhqd,bhkd->bhqk", ((1, 2, 2, 3), (1, 2, 3, 3))),
    ("three operands", "ij,jk,kl->il", ((2, 2), (2, 3), (3, 2))),
    ("output implied", "ij,jk", ((2, 3), (3, 2))),
    ("letters summed alone", "ij,kl->j", ((2, 3), (2, 2))),
    ("transpose", "ijk->kij", ((2, 3, 2),)),
    ("sum of all", "ij->", ((2, 3),)),
    ("trace", "ii", ((3, 3),)),
    ("diagonal", "ii->i", ((3, 3),)),
    ("diagonal of a product", "iij,jk->ik", ((2, 2, 3), (3, 2))),
    ("ellipsis broadcast", "...ij,...jk->...ik", ((2, 1, 2, 3), (2, 3, 2))),
    ("ellipsis on one side", "...j,j->...", ((2, 2, 3), (3,))),
    ("an axis of length 1 broadcast", "ij,ij->ij", ((2, 1), (2, 3))),
    ("outer product", "i,j->ij", ((2,), (3,))),
    ("empty", "ij,jk->ik", ((2, 0), (0, 2))),
):
    add_sample("einsum", label, lambda *xs, s=subscripts: Ops.einsum(s, *xs), *(leaf(*shape) for shape in shapes))
add_sample("einsum", "the same twice", lambda x: Ops.einsum("ij,kj->ik", x, x), leaf(2, 3, layout="F"))

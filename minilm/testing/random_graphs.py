"""Whole graphs of random operations: what a test of single operations cannot see.

A vjp may be right and its graph's gradient wrong, where a tensor is used twice, where a branch ends unused, where one
of several outputs gets no gradient. `random_graph` draws such graphs; the dual test compares their backward with a
finite difference in two evaluations:

    fn, inputs = random_graph(Generator(seed), n_operations=30)
    dual_test(fn, inputs)

Each operation has one recipe: how to call it on any tensors whatever. `fit` gives a tensor the shape that the call
needs, by indexing with repeats, so that every operation can follow every other. A drawn step is kept if its values
are small and, for an operation with kinks, far from them; otherwise another is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minilm.functional as functional
from minilm.backend import to_numpy, xp
from minilm.functional.gru import gru
from minilm.functional.lstm import lstm
from minilm.functional.rnn import rnn
from minilm.random import Generator
from minilm.tensor import Tensor, no_grad

Ops: Any = functional
Step = Callable[..., Any]
Recipe = Callable[..., "Step | None"]

RECIPES: dict[str, tuple[int, Recipe]] = {}
"""By operation: how many tensors its recipe takes, and (generator, *tensors) -> a function of as many, or None."""

LARGEST = 3.0  # of any value in a graph: derivatives stay of order one
GAP = 0.01  # from a kink: a thousand steps of the finite difference


def fit(x: Any, *shape: int) -> Any:
    """The elements of x, repeated or left out, in another shape."""
    index = xp(x.data).arange(int(np.prod(shape))) % x.size
    return x.reshape(-1)[index].reshape(shape)


def recipe(n_inputs: int, *names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register (operation, generator, *tensors) -> step as the recipe of each operation named."""

    def register(make: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            operation = {"rnn": rnn, "gru": gru, "lstm": lstm}.get(name) or getattr(Ops, name)

            def bound(generator: Generator, *tensors: Any, operation: Any = operation) -> Any:
                return make(operation, generator, *tensors)

            RECIPES[name] = (n_inputs, bound)
        return make

    return register


def _some_axis(generator: Generator, x: Any) -> int:
    return int(generator.integers(-x.ndim, x.ndim)) if x.ndim else 0


def _near_zero(x: Any) -> bool:
    return bool((np.abs(to_numpy(x.data)) < GAP).any())


def _close_values(x: Any) -> bool:
    return bool((np.diff(np.sort(to_numpy(x.data).reshape(-1))) < GAP).any())


def _broadcasting(generator: Generator, a: Any, b: Any) -> Callable[[Any], Any]:
    """How to make b broadcast against a: the full shape, some axes of length one, or fewer axes."""
    shape = tuple(1 if generator.random() < 0.3 else n for n in a.shape)
    shape = shape[int(generator.integers(0, len(shape) + 1)) :]
    return lambda b: fit(b, *shape)


@recipe(1, "negative", "sin", "cos", "tanh", "sigmoid", "erf", "exp", "silu", "clone", "gelu")
def _smooth(operation: Any, generator: Generator, x: Any) -> Any:
    return operation


@recipe(1, "relu", "abs")
def _kink_at_zero(operation: Any, generator: Generator, x: Any) -> Any:
    return None if _near_zero(x) else operation


@recipe(1, "sqrt", "log")
def _positive(operation: Any, generator: Generator, x: Any) -> Any:
    return lambda x: operation(x * x + 0.5)


@recipe(1, "clip")
def _clip(operation: Any, generator: Generator, x: Any) -> Any:
    return None if _near_zero(x - 0.5) or _near_zero(x + 1) else lambda x: operation(x, -1.0, 0.5)


@recipe(1, "astype")
def _astype(operation: Any, generator: Generator, x: Any) -> Any:
    return lambda x: operation(x, x.dtype)


@recipe(2, "add", "subtract", "multiply", "swiglu")
def _binary(operation: Any, generator: Generator, a: Any, b: Any) -> Any:
    broadcast = _broadcasting(generator, a, b)
    return lambda a, b: operation(a, broadcast(b))


@recipe(2, "divide", "power")
def _positive_side(operation: Any, generator: Generator, a: Any, b: Any) -> Any:
    broadcast = _broadcasting(generator, a, b)
    if operation.name == "divide":
        return lambda a, b: operation(a, broadcast(b) ** 2 + 1.0)
    return lambda a, b: operation(a * a + 0.5, broadcast(b))


@recipe(2, "maximum", "minimum")
def _extremes(operation: Any, generator: Generator, a: Any, b: Any) -> Any:
    broadcast = _broadcasting(generator, a, b)
    return None if _near_zero(a - broadcast(b)) else lambda a, b: operation(a, broadcast(b))


@recipe(2, "where")
def _where(operation: Any, generator: Generator, a: Any, b: Any) -> Any:
    broadcast, mask = _broadcasting(generator, a, b), generator.keep_mask(a.shape, 0.5)
    return lambda a, b: operation(mask, a, broadcast(b))


@recipe(1, "sum", "mean", "var", "max", "min", "logsumexp")
def _reduction(operation: Any, generator: Generator, x: Any) -> Any:
    if operation.name in ("max", "min") and _close_values(x):
        return None
    axis = _some_axis(generator, x) if x.ndim and generator.random() < 0.7 else None
    keepdims = generator.random() < 0.5
    return lambda x: operation(x, axis=axis, keepdims=keepdims)


@recipe(1, "cumsum", "softmax", "log_softmax")
def _along_an_axis(operation: Any, generator: Generator, x: Any) -> Any:
    axis = _some_axis(generator, x)
    return (lambda x: operation(x, axis=axis)) if x.ndim else None


@recipe(1, "reshape")
def _reshape(operation: Any, generator: Generator, x: Any) -> Any:
    columns = int(generator.integers(1, 4))
    return None if x.size % columns else lambda x: operation(x, -1, columns)


@recipe(1, "transpose")
def _transpose(operation: Any, generator: Generator, x: Any) -> Any:
    order = tuple(int(i) for i in generator.permutation(x.ndim))
    return lambda x: operation(x, order)


@recipe(1, "swapaxes")
def _swapaxes(operation: Any, generator: Generator, x: Any) -> Any:
    return (lambda x: operation(x, 0, -1)) if x.ndim else None


@recipe(1, "expand")
def _expand(operation: Any, generator: Generator, x: Any) -> Any:
    return (lambda x: operation(x, 2, *x.shape)) if x.ndim < 3 else None


@recipe(1, "expand_dims")
def _expand_dims(operation: Any, generator: Generator, x: Any) -> Any:
    axis = int(generator.integers(0, x.ndim + 1))
    return (lambda x: operation(x, axis)) if x.ndim < 3 else None


@recipe(1, "squeeze")
def _squeeze(operation: Any, generator: Generator, x: Any) -> Any:
    return operation


@recipe(2, "concatenate", "stack")
def _join(operation: Any, generator: Generator, a: Any, b: Any) -> Any:
    axis = _some_axis(generator, a)
    return (lambda a, b: operation([a, fit(b, *a.shape), a], axis=axis)) if 0 < a.ndim < 3 and a.size < 30 else None


@recipe(1, "split")
def _split(operation: Any, generator: Generator, x: Any) -> Any:
    return (lambda x: operation(x, [1, 2], axis=-1)) if x.ndim and x.shape[-1] > 2 else None


@recipe(1, "pad")
def _pad(operation: Any, generator: Generator, x: Any) -> Any:
    return (lambda x: operation(x, (0, 1), constant_values=0.5)) if x.ndim and x.size < 30 else None


@recipe(1, "getitem")
def _getitem(operation: Any, generator: Generator, x: Any) -> Any:
    if not x.ndim:
        return None
    index = generator.integers(-x.shape[0], x.shape[0], (int(generator.integers(1, 4)),))
    return lambda x: operation(x, Tensor(index))


@recipe(1, "take_along_axis")
def _take_along_axis(operation: Any, generator: Generator, x: Any) -> Any:
    index = generator.integers(0, x.shape[-1], (*x.shape[:-1], 2)) if x.ndim else None
    return None if index is None else lambda x: operation(x, Tensor(index), -1)


@recipe(1, "embedding")
def _embedding(operation: Any, generator: Generator, x: Any) -> Any:
    ids = generator.integers(0, 3, (2, 2))
    return lambda x: operation(Tensor(ids), fit(x, 3, 2))


@recipe(2, "matmul")
def _matmul(operation: Any, generator: Generator, a: Any, b: Any) -> Any:
    columns = int(generator.integers(1, 4))
    return (lambda a, b: operation(a, fit(b, a.shape[-1], columns)) * 0.5) if a.ndim else None


@recipe(2, "einsum")
def _einsum(operation: Any, generator: Generator, a: Any, b: Any) -> Any:
    return (lambda a, b: operation("...i,ij->j...", a, fit(b, a.shape[-1], 2)) * 0.5) if a.ndim else None


@recipe(3, "linear")
def _linear(operation: Any, generator: Generator, x: Any, weight: Any, bias: Any) -> Any:
    return (lambda x, w, b: operation(x, fit(w, 2, x.shape[-1]), fit(b, 2)) * 0.5) if x.ndim else None


@recipe(3, "linear_activation")
def _linear_activation(operation: Any, generator: Generator, x: Any, weight: Any, residual: Any) -> Any:
    activation = ("gelu_tanh", "gelu", "silu")[int(generator.integers(0, 3))]  # no relu: its kink could be near

    def step(x: Any, weight: Any, residual: Any) -> Any:
        y = operation(x, fit(weight, 2, x.shape[-1]), None, activation, fit(residual, *x.shape[:-1], 2))
        return y * 0.5

    return step if x.ndim else None


@recipe(1, "cross_entropy")
def _cross_entropy(operation: Any, generator: Generator, x: Any) -> Any:
    target = generator.integers(0, 3, (2,))
    return lambda x: operation(fit(x, 2, 3), Tensor(target), label_smoothing=0.1, reduction="none")


@recipe(2, "copy_logits")
def _copy_logits(operation: Any, generator: Generator, logits: Any, scores: Any) -> Any:
    ids = generator.integers(0, 3, (1, 2))
    return lambda x, c: operation(fit(x, 1, 2, 3), fit(c, 1, 2, 2), Tensor(ids))


@recipe(3, "layer_norm")
def _layer_norm(operation: Any, generator: Generator, x: Any, weight: Any, bias: Any) -> Any:
    # a large eps: rows whose elements are nearly equal would make the derivatives large
    return lambda x, w, b: operation(fit(x, 2, 4), 4, fit(w, 4), fit(b, 4), eps=0.5)


@recipe(2, "rms_norm")
def _rms_norm(operation: Any, generator: Generator, x: Any, weight: Any) -> Any:
    return lambda x, w: operation(fit(x, 2, 4), 4, fit(w, 4), eps=0.5)


@recipe(3, "add_rms_norm")
def _add_rms_norm(operation: Any, generator: Generator, x: Any, residual: Any, weight: Any) -> Any:
    return lambda x, r, w: operation(fit(x, 2, 4), fit(r, 2, 4), fit(w, 4), eps=0.5)


@recipe(1, "dropout")
def _dropout(operation: Any, generator: Generator, x: Any) -> Any:
    seed = int(generator.integers(0, 1000))
    return lambda x: operation(x, 0.3, True, generator=Generator(seed))


@recipe(1, "rotary_embedding")
def _rotary_embedding(operation: Any, generator: Generator, x: Any) -> Any:
    cos, sin = functional.rotary_angles(2, 4, dtype="float64")
    interleaved = generator.random() < 0.5
    return lambda x: operation(fit(x, 2, 4), cos, sin, interleaved)


@recipe(3, "scaled_dot_product_attention")
def _attention(operation: Any, generator: Generator, query: Any, key: Any, value: Any) -> Any:
    causal = generator.random() < 0.5
    return lambda q, k, v: operation(fit(q, 2, 2, 3), fit(k, 2, 3, 3), fit(v, 2, 3, 2), is_causal=causal)


@recipe(3, "rnn", "gru", "lstm")
def _recurrent(operation: Any, generator: Generator, x: Any, state: Any, weight: Any) -> Any:
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[operation.name]
    reverse = generator.random() < 0.5

    def step(x: Any, state: Any, weight: Any) -> Any:
        states = [fit(state, 2, 2)] * (2 if gates == 4 else 1)
        weights = fit(weight, gates * 2, 3), fit(weight, gates * 2, 2)
        return operation(fit(x, 2, 2, 3), *states, *weights, reverse=reverse)

    return step


@recipe(2, "checkpoint")
def _checkpoint(operation: Any, generator: Generator, a: Any, b: Any) -> Any:
    return lambda a, b: operation(lambda a, b: functional.tanh(a) * fit(b, *a.shape), a, b)


# ----- the graph


def random_graph(generator: Generator, n_operations: int) -> tuple[Callable[..., Any], list[Tensor]]:
    """A random function and float64 leaves for it, on which its gradient can be checked.

    Operands are drawn with a preference for the latest results, so that chains get deep, and from all that came
    before, so that tensors are shared; results that are never drawn are dead branches. The outputs are the last
    result and some of the others.

    Args:
        generator: where all choices come from; the same state gives the same graph.
        n_operations: how many calls of recipes (each is one operation, and what fits its inputs to it).

    Returns:
        fn, from the leaves to a tuple of Tensors, and the leaves.
    """
    shapes: list[tuple[int, ...]] = [(), (3,), (2, 3), (2, 1, 2), (1, 4)]
    leaves = []
    for _ in range(1 + int(generator.integers(1, 4))):
        shape = shapes[int(generator.integers(0, len(shapes)))]
        leaves.append(Tensor(np.clip(to_numpy(generator.normal(shape, dtype="float64")), -2, 2), requires_grad=True))
    steps: list[tuple[Step, list[int]]] = []
    with no_grad():
        values = list(leaves)
        names = sorted(RECIPES)
        while len(steps) < n_operations:
            n_inputs, make = RECIPES[names[int(generator.integers(0, len(names)))]]
            sources = [_draw_source(generator, len(values)) for _ in range(n_inputs)]
            step = make(generator, *(values[i] for i in sources))
            if step is None:
                continue
            results = _as_list(step(*(values[i] for i in sources)))
            if all(_is_small(y) for y in results):
                steps.append((step, sources))
                values.extend(results)
    last = len(values) - 1
    chosen = sorted({last, *(int(generator.integers(0, last + 1)) for _ in range(2))})

    def fn(*inputs: Tensor) -> tuple[Tensor, ...]:
        made = list(inputs)
        for step, sources in steps:
            made.extend(_as_list(step(*(made[i] for i in sources))))
        return tuple(made[i] for i in chosen)

    return fn, leaves


def _draw_source(generator: Generator, n: int) -> int:
    """One of n values: half of the time one of the last three."""
    low = max(0, n - 3) if generator.random() < 0.5 else 0
    return int(generator.integers(low, n))


def _is_small(y: Any) -> bool:
    return 0 < y.size <= 60 and y.ndim < 5 and float(np.abs(to_numpy(y.data)).max()) < LARGEST


def _as_list(output: Any) -> list[Any]:
    return list(output) if isinstance(output, tuple) else [output]

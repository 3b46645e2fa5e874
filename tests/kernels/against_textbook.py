"""What the tests of threaded kernels share: really cut arrays, memory layouts, and the comparison with the textbook."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

import minilm.functional  # noqa: F401 - registers the operations
from minilm.kernels import threads
from minilm.tensor import OPERATIONS
from minilm.testing.samples import LAYOUTS, with_layout

layouts = st.sampled_from([*LAYOUTS, "one for all"])


@contextlib.contextmanager
def cut(count: int) -> Iterator[None]:
    """Sections on `count` threads, and no array is too small to be shared out among them."""
    before, least = threads.set_thread_count(count), threads.LEAST
    threads.LEAST = 1
    try:
        yield
    finally:
        threads.LEAST = least
        threads.set_thread_count(before)


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values in another layout; "one for all" repeats the first element, with all strides 0."""
    if layout != "one for all":
        return with_layout(array, layout)
    return np.broadcast_to(array.reshape(-1)[0] if array.size else array.dtype.type(0), array.shape)


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, layout: str = "C") -> np.ndarray:
    return laid_out(rng.normal(size=shape).astype(dtype), layout)


def gradients(vjp: Any, g: Any, needs: tuple[bool, ...]) -> list[np.ndarray | None]:
    """The gradients that are needed, from a vjp of any form."""
    if isinstance(vjp, tuple):
        return [f(g) if need else None for f, need in zip(vjp, needs, strict=True)]
    return [vjp(g)] if len(needs) == 1 else list(vjp(g, needs))


def assert_equals_textbook(
    name: str,
    kernel: Any,
    inputs: tuple[Any, ...],
    g: Any = None,
    rtol: float = 0.0,
    call: Any = lambda function, *inputs: function(*inputs),
) -> None:
    """Value and all gradients of a kernel equal those of the textbook in float64; nothing is written that was read.

    Args:
        inputs: the array parameters (None: left out), all of one dtype.
        g: the cotangent (or a function from the output to it); None: random numbers.
        rtol: how far it may be off, relative to the largest element of the result.
        call: call(function, *inputs) calls the kernel or the textbook body, with whatever it takes beside arrays.
    """
    arrays = [x for x in inputs if isinstance(x, np.ndarray)]
    dtype = arrays[0].dtype
    wide = [x.astype("float64") if isinstance(x, np.ndarray) else x for x in inputs]
    expected, expected_vjp = call(OPERATIONS[name].body, *wide)
    before = [x.copy() for x in arrays]
    y, vjp = call(kernel, *inputs)

    outputs, expected_outputs = (v if isinstance(v, tuple) else (v,) for v in (y, expected))
    for ours, right in zip(outputs, expected_outputs, strict=True):
        _close(name, ours, right, dtype, rtol)
    if g is None:
        rng = np.random.default_rng(0)
        g = tuple(rng.normal(size=np.shape(v)).astype(dtype) for v in outputs)
        g = g if isinstance(y, tuple) else g[0]
    elif callable(g):
        g = g(y)
    g_before = [v.copy() for v in (g if isinstance(g, tuple) else (g,))]
    wide_g = tuple(v.astype("float64") for v in g) if isinstance(g, tuple) else g.astype("float64")
    there = tuple(isinstance(x, np.ndarray) for x in inputs)
    alone = [tuple(i == j for j in range(len(inputs))) for i in range(len(inputs)) if there[i]]
    right = gradients(expected_vjp, wide_g, there)
    for needs in (there, there, *alone):  # twice as with retain_graph
        for d, exact, need in zip(gradients(vjp, g, needs), right, needs, strict=True):
            if need:
                _close(f"a gradient of {name}", d, exact, dtype, rtol)
            else:
                assert d is None
    for x, kept in zip([*arrays, *(g if isinstance(g, tuple) else (g,))], [*before, *g_before], strict=True):
        np.testing.assert_array_equal(x, kept, err_msg="an input was written to")


def _close(what: str, ours: Any, right: Any, dtype: Any, rtol: float) -> None:
    right = np.asarray(right)
    assert ours.dtype == dtype, f"{what} is {ours.dtype}"
    assert ours.shape == right.shape, f"{what} is {ours.shape} and should be {right.shape}"
    finite = right[np.isfinite(right)]
    atol = rtol * max(1.0, float(np.abs(finite).max(initial=0.0)))
    np.testing.assert_allclose(ours, right, rtol=0, atol=atol, err_msg=f"{what} in {dtype}")

"""How a Triton kernel is held to the rung below: the textbook body of the operation that it replaces.

`assert_equals_textbook` runs both on the same numbers, between guard bands and in any memory layout, and the
textbook body once more in float64: the oracle. Outputs and gradients must be as close to it as guards.close says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import Phase
from hypothesis import strategies as st

import minilm.functional  # noqa: F401 - registers the operations
from minilm.tensor import OPERATIONS
from tests.kernels.guards import check_guards, close, guarded

NO_SHRINKING = (
    Phase.explicit,
    Phase.reuse,
    Phase.generate,
)  # the interpreter is slow, and what is drawn is small
LAYOUTS = ("C", "F", "reversed", "gaps")
DTYPES = ("float32", "float16")
seeds = st.integers(0, 2**32 - 1)
layouts = st.sampled_from(LAYOUTS)
dtypes = st.sampled_from(DTYPES)


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The values of `array` between guard bands; with "gaps" every second element of a larger array, NaN between."""
    if layout == "C" or array.ndim == 0:
        return guarded(np.ascontiguousarray(array).reshape(array.shape))
    if layout == "F":
        return guarded(np.asfortranarray(array))
    if layout == "reversed":
        backwards = (slice(None, None, -1),) * array.ndim
        return guarded(np.ascontiguousarray(array[backwards]))[backwards]
    large = np.full([2 * n + 1 for n in array.shape], np.nan, dtype=array.dtype)
    between = (slice(1, None, 2),) * array.ndim
    large[between] = array
    return guarded(large)[between]


def assert_near(
    actual: np.ndarray, oracle: np.ndarray, plain: np.ndarray, floor: float, c: float = 8.0
) -> None:
    """guards.close, with the error relative to at least `floor` a number: what a sum that cancels has lost is no fault
    of the kernel, and one number alone may be such a sum."""
    anchor = np.full(max(oracle.size, 1), floor)  # exact in all three, so it only adds to the norm
    with_anchor = (
        np.concatenate([part.reshape(-1), anchor.astype(part.dtype)]) for part in (actual, oracle, plain)
    )
    assert actual.shape == oracle.shape, f"shape {actual.shape} where {oracle.shape} was due"
    close(*with_anchor, c=c)


def as_tuple(y: Any) -> tuple[np.ndarray, ...]:
    return y if isinstance(y, tuple) else (y,)


def gradients(vjp: Any, g: Any, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
    """What a vjp in any of its three forms gives; see minilm.tensor.Operation."""
    if isinstance(vjp, tuple):
        return tuple(f(g) if need else None for f, need in zip(vjp, needs, strict=True))
    return (vjp(g),) if len(needs) == 1 else vjp(g, needs)


def assert_equals_textbook(
    operation: str,
    kernel: Callable[..., Any],
    call: Callable[..., Any],
    arrays: list[np.ndarray | None],
    dtype: str = "float32",
    layout: str = "C",
    seed: int = 0,
    floor: float = 1.0,
) -> None:
    """`call(f, *arrays)` calls f, the kernel or the textbook body, with its options; values and gradients agree.

    Args:
        arrays: of float64, one for each array parameter of the operation, in order; None where it is left out.
        floor: a power of two, about the size of the numbers in the results; see `assert_near`.
    """
    rng = np.random.default_rng(seed)
    textbook = OPERATIONS[operation].body
    rounded = [None if a is None else a.astype(dtype) for a in arrays]
    inputs = [None if a is None else laid_out(a, layout) for a in rounded]
    with np.errstate(all="ignore"):
        y, vjp = call(kernel, *inputs)
        plain, plain_vjp = call(textbook, *rounded)
        oracle, oracle_vjp = call(textbook, *(None if a is None else a.astype("float64") for a in rounded))
        g = tuple(rng.normal(size=part.shape).astype(dtype) for part in as_tuple(oracle))
        guarded_g = tuple(laid_out(part, layout) for part in g)

        def pick(parts: tuple[np.ndarray, ...]) -> Any:
            return parts if isinstance(y, tuple) else parts[0]

        needs = tuple(a is not None for a in arrays)
        results = [*as_tuple(y), *gradients(vjp, pick(guarded_g), needs)]
        plains = [*as_tuple(plain), *gradients(plain_vjp, pick(g), needs)]
        oracles = [
            *as_tuple(oracle),
            *gradients(oracle_vjp, pick(tuple(p.astype("float64") for p in g)), needs),
        ]
        for index, (ours, theirs, exact) in enumerate(zip(results, plains, oracles, strict=True)):
            if exact is None:
                assert ours is None
                continue
            what = f"output {index}" if index < len(g) else f"gradient {index - len(g)}"
            assert ours.dtype == np.dtype(dtype), f"{what} is {ours.dtype}"
            try:
                assert_near(np.asarray(ours), np.asarray(exact), np.asarray(theirs), floor)
            except AssertionError as error:
                raise AssertionError(f"{operation}, {what}: {error}") from None
        for i in range(len(needs)) if len(needs) > 1 else ():  # each gradient alone is the one among others
            alone = gradients(vjp, pick(guarded_g), tuple(k == i and needs[k] for k in range(len(needs))))
            assert all((d is None) == (k != i or not needs[k]) for k, d in enumerate(alone))
            if needs[i]:
                np.testing.assert_array_equal(alone[i], results[len(g) + i])
    for given, kept in zip(inputs, rounded, strict=True):
        if given is not None:
            np.testing.assert_array_equal(given, kept, "the kernel changed its input")
    check_guards()

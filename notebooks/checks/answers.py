"""How a checker looks at an answer: call it, compare the result, and recognise the usual mistakes by what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from checks import NotYet

Mistake = tuple[Any, str]
"""What a wrong answer gives, and what to say to it."""


def call(function: Callable[..., Any], *inputs: Any, what: str = "") -> Any:
    """The result of a reader's function on copies of the inputs; NotYet if it fails, gives nothing or changes them."""
    name = getattr(function, "__name__", "the function")
    if function is ... or not callable(function):
        raise NotYet(f"pass the function itself, not {function!r}")
    given = [value.copy() if isinstance(value, np.ndarray) else value for value in inputs]
    try:
        result = function(*given)
    except Exception as error:
        where = what or ", ".join(shown(value) for value in inputs)
        raise NotYet(f"{name} raises {type(error).__name__}: {error} [for {where}]") from error
    if result is None or result is ...:
        raise NotYet(f"{name} returns {result!r}: fill it in, and return the result")
    for position, (before, after) in enumerate(zip(inputs, given, strict=True)):
        if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=before.dtype.kind == "f"):
            raise NotYet(f"{name} changes its argument {position} in place: the caller still needs it")
    return result


def written(answer: Any, call: str) -> Any:
    """The answer of a call (told in words); NotYet if there is none, as of a stub that was not filled in."""
    if answer is None or answer is Ellipsis:
        raise NotYet(f"{call} returned {answer!r}: write the body of the function, and end it with `return`")
    return answer


def array_of(answer: Any, shape: tuple[int, ...], call: str) -> np.ndarray:
    """The answer as an array of this shape."""
    array = np.asarray(written(answer, call))
    if array.shape != shape:
        raise NotYet(f"{call} has the shape {array.shape}; expected {shape}")
    return array


def first_difference(got: np.ndarray, expected: np.ndarray) -> str:
    """Where two arrays differ the most; NaN counts as the largest difference."""
    error = np.nan_to_num(np.abs(got - expected), nan=np.inf)
    index = np.unravel_index(np.argmax(error), expected.shape)
    at = ", ".join(map(str, index))
    return f"at [{at}] {got[index]:.6g} came out and {expected[index]:.6g} was expected"


def expect(
    got: Any, expected: Any, where: str, mistakes: Iterable[Mistake] = (), rtol: float = 1e-9, atol: float = 1e-9
) -> None:
    """NotYet unless `got` is `expected`: with the message of the mistake that gives it, if it is a known one."""
    try:
        found = np.asarray(got, dtype=np.float64)
    except (TypeError, ValueError):
        raise NotYet(f"{where}: numbers are expected, got {shown(got)}") from None
    right = np.asarray(expected, dtype=np.float64)
    rtol, atol = tolerances(got, rtol, atol)
    if same(found, right, rtol, atol):
        return
    for wrong, hint in mistakes:
        if same(found, np.asarray(wrong, dtype=np.float64), rtol, atol):
            raise NotYet(f"{where}: got {shown(found)}, expected {shown(right)}. {hint}")
    if found.shape != right.shape:
        raise NotYet(f"{where}: the result has the shape {found.shape}, expected {right.shape}")
    off = ""
    if shown(found) == shown(right):  # large arrays, or a difference behind the last digit that is shown
        off = f"; the largest difference is {np.abs(found - right).max():.2g}"
    raise NotYet(f"{where}: got {shown(found)}, expected {shown(right)}{off}")


def tolerances(got: Any, rtol: float = 1e-9, atol: float = 1e-9) -> tuple[float, float]:
    """How near a right answer comes: one in float32 has seven digits, and is right all the same."""
    return (max(rtol, 1e-5), max(atol, 1e-5)) if np.asarray(got).dtype == np.float32 else (rtol, atol)


def same(a: np.ndarray, b: np.ndarray, rtol: float = 1e-9, atol: float = 1e-9) -> bool:
    """Equal in shape, and in value up to rounding."""
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True))


def shown(value: Any) -> str:
    """A value as it stands in a message: small arrays whole, large ones by their shape."""
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return f"{value.item():.6g}"
        if value.size <= 12:
            return np.array2string(value, precision=4, separator=", ", suppress_small=True).replace("\n", "")
        return f"an array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

"""The checkers of chapter 4, How do we know?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import Mistake, call, expect, shown
from minilm.testing import planted


def check_central(central: Callable[..., Any]) -> None:
    """Exercise 4.1."""
    for f, name, x, h in ((math.exp, "exp", 1.0, 0.1), (math.sin, "sin", 0.5, 0.5), (lambda x: x**3, "x³", 2.0, 0.1)):
        right = (f(x + h) - f(x - h)) / (2 * h)
        mistakes = [
            ((f(x + h) - f(x)) / h, "That is the forward difference: its error falls with h, not with h²."),
            ((f(x) - f(x - h)) / h, "That is the backward difference: its error falls with h, not with h²."),
            (2 * right, "Twice too large: between x - h and x + h lies 2 h."),
            (right / 2, "Half of it: divide by 2 h, the distance of the two points."),
            ((f(x + h) - f(x - h)) / 2 * h, "Brackets: a / 2 * h is (a / 2) * h."),
            (-right, "The sign: f(x + h) comes first."),
            ((f(x + h / 2) - f(x - h / 2)) / h, "The points are x + h and x - h, 2 h apart."),
        ]
        expect(call(central, f, x, h, what=f"{name} at {x}, h = {h}"), right, f"{name} at {x}, h = {h}", mistakes)
    print("Right: the terms with h² cancel.")


def check_dual(both_sides: Callable[..., Any]) -> None:
    """Exercise 4.2."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(3, 5))

    def f(x: np.ndarray) -> np.ndarray:
        return np.tanh(A @ x)

    x, u, v = rng.normal(size=5), rng.normal(size=5), rng.normal(size=3)
    slope = 1 - np.tanh(A @ x) ** 2

    def vjp(v: np.ndarray) -> np.ndarray:
        return A.T @ (slope * v)

    def wrong(v: np.ndarray) -> np.ndarray:
        return 2 * vjp(v)

    h = 1e-6
    forward = float(v @ ((f(x + h * u) - f(x - h * u)) / (2 * h)))
    for given, right, what in ((vjp, forward, "a right vjp"), (wrong, 2 * forward, "a vjp that is twice too large")):
        got = call(both_sides, f, given, x, v, u, what=what)
        if not isinstance(got, tuple | list | np.ndarray) or len(got) != 2:
            raise NotYet(f"return two numbers, (<v, Ju>, <Jᵀv, u>); got {shown(got)}")
        if np.shape(got[0]) or np.shape(got[1]):
            raise NotYet("the two sides are numbers: sum the products of the elements")
        if given is wrong and np.allclose((got[1], got[0]), (forward, right), rtol=1e-5):
            raise NotYet(f"{what}: the two numbers are exchanged; <v, Ju> comes from f and stands first")
        one_sided = float(v @ ((f(x + h * u) - f(x)) / (2 * h)))
        mistakes: list[Mistake] = [
            (2 * forward, "Divide by 2 h."),
            (one_sided, "One of the two evaluations must be at x - h u."),
            (forward * 2 * h, "Divide the difference by 2 h."),
        ]
        expect(got[0], forward, f"{what}: the first number, <v, Ju>", mistakes, rtol=1e-5)
        hint = "It repeats the first: the second number comes from vjp(v), not from f."
        swapped = [(forward, hint)] if given is wrong else []
        expect(got[1], right, f"{what}: the second number, <Jᵀv, u>", swapped, rtol=1e-5)
    h = 0.01  # so large that one sees which difference it is
    central = float(v @ (f(x + h * u) - f(x - h * u))) / (2 * h)
    mistakes = [
        (float(v @ (f(x + h * u) - f(x))) / h, "That is the forward difference: its error falls with h, not with h²."),
        (float(v @ (f(x) - f(x - h * u))) / h, "That is the backward difference: its error falls with h, not with h²."),
        (forward, "The step h that was passed in is not used."),
    ]
    got = call(both_sides, f, vjp, x, v, u, h, what="h = 0.01")
    expect(got[0], central, "h = 0.01: the first number, <v, Ju>", mistakes, rtol=1e-6)
    print("Right: two evaluations of f and one of the vjp, whatever the size.")


def check_sneaky(sneaky: Callable[..., Any]) -> None:
    """Exercise 4.3."""
    rng = np.random.default_rng(0)
    e = np.exp(rng.normal(size=(3, 4)))
    y = e / e.sum(-1, keepdims=True)
    got = np.asarray(call(sneaky, y, np.ones((3, 4)), what="g all ones"))
    expect(got, np.zeros((3, 4)), "g all ones (where the right answer is 0, since the outputs sum to 1)")
    for _ in range(2):
        g = rng.normal(size=(3, 4))
        got = np.asarray(call(sneaky, y, g, what="a random g"))
        if got.shape != y.shape:
            raise NotYet(f"a random g: the result has the shape {got.shape}, expected {y.shape}")
        if np.allclose(got, y * (g - (g * y).sum(-1, keepdims=True))):
            raise NotYet("a random g: that is the right gradient; make it wrong where g is not constant")
        if not got.any():
            raise NotYet("a random g: zero fools the check, but find something that looks like a gradient")
    print("Right: wrong for nearly every cotangent, and sum() does not see it.")


def check_find(find: Callable[..., Any]) -> None:
    """Exercise 4.4."""
    suspects = ["add", "matmul", "tanh", "softmax", "getitem", "layer_norm"]
    _expect_found(_names(call(find, suspects, what="no bug planted")), [], "no bug is planted")
    for operation, corruption, position in (
        ("tanh", "scaled", 0),
        ("matmul", "one left out", 1),
        ("softmax", "zero", 0),
        ("getitem", "cotangent forgotten", 0),
    ):
        with planted(operation, corruption, position):
            got = call(find, suspects, what="one bug planted")
        _expect_found(_names(got), [operation], f"the gradient of input {position} of {operation} was {corruption}")
    print("Right: found, and nobody innocent accused.")


def _names(got: Any) -> list[str]:
    if isinstance(got, str):
        raise NotYet(f"return a list of names, {[got]!r} and not {got!r}: there may be several, or none")
    names = [getattr(item, "operation", item) for item in got]
    if not all(isinstance(name, str) for name in names):
        raise NotYet(f"return a list of names, got {shown(got)}")
    if any(hasattr(item, "operation") for item in got):
        raise NotYet("return the names, result.operation, of those results that are not ok")
    return names


def _expect_found(got: list[str], right: list[str], what: str) -> None:
    if sorted(set(got)) == right:
        return
    missed, innocent = [n for n in right if n not in got], [n for n in got if n not in right]
    if missed:
        hint = "does your check use a random cotangent (minilm.testing.check_operations does), and every input?"
        raise NotYet(f"{what}, and you found {got or 'nothing'}: {hint}")
    raise NotYet(f"{what}, and you accuse {innocent}: return only those whose result is not ok")

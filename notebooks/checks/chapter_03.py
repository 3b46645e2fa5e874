"""The checkers of chapter 3, Breaking the engine, and the small classes that its exercises use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import call, expect, shown


class Step:
    """One step of a computation: its number on the tape, and pairs (step that it was computed from, vjp)."""

    def __init__(self, number: int, inputs: Sequence[tuple[Step, Callable[..., Any]]] = ()) -> None:
        self.number, self.inputs = number, inputs


class Box:
    """An array that counts how often it was changed in place."""

    def __init__(self, data: Any) -> None:
        self.data, self.version = np.asarray(data, dtype=float), 0

    def add_(self, value: Any) -> None:
        self.data += value
        self.version += 1


def check_accumulate(accumulate: Callable[..., Any]) -> None:
    """Exercise 3.1."""
    g = np.array([1.0, 2.0])
    total = _accumulated(accumulate, None, g, "the first arrival")
    expect(total, [1.0, 2.0], "the first arrival, [1, 2]")
    if np.shares_memory(total, g):
        raise NotYet(
            "the first arrival: the sum is the array that came, not a copy. The next addition in place would change "
            "the gradient of somebody else (section 2)"
        )
    h = np.array([10.0, 10.0])
    total = _accumulated(accumulate, total, h, "the second arrival")
    hint = "The new gradient replaced the sum."
    expect(total, [11.0, 12.0], "[1, 2] and then [10, 10]", [(h, hint), ([1.0, 2.0], "The second one was not added.")])
    if np.shares_memory(total, h):
        raise NotYet("the second arrival: the sum was made in the array that came: add to total, or make a new array")
    third = _accumulated(accumulate, total, h, "the third arrival")
    expect(third, [21.0, 22.0], "[10, 10] a second time")
    view = np.arange(4.0)[::2]
    if np.shares_memory(_accumulated(accumulate, None, view, "a view"), view):
        raise NotYet("a view as the first arrival: the sum shares its memory")
    print("Right: nobody's array is changed, and none is kept.")


def _accumulated(accumulate: Callable[..., Any], total: Any, g: np.ndarray, where: str) -> Any:
    before = g.copy()
    try:
        result = accumulate(total, g)
    except Exception as error:
        raise NotYet(f"{where}: {type(error).__name__}: {error}") from error
    if result is None or result is ...:
        raise NotYet(f"{where}: accumulate returns {result!r}; it must return the new sum")
    if not np.array_equal(g, before):
        raise NotYet(f"{where}: g was changed from {shown(before)} to {shown(g)}: it belongs to somebody else")
    return result


def check_way_back(way_back: Callable[..., Any]) -> None:
    """Exercise 3.2."""
    same, g = (lambda g: g), np.array([1.0])
    x, y = Step(1), Step(2)
    a = Step(3, [(x, same), (y, same)])
    root = Step(4, [(a, same), (x, same)])
    leaves = _leaves(way_back, root, g, "(x + y) + x")
    _expect_leaf(leaves, x, 2.0, "(x + y) + x, the gradient of x", [([1.0], "One of its two uses is missing: add.")])
    hint = "An array that is shared with x was added to in place (section 2)."
    _expect_leaf(leaves, y, 1.0, "(x + y) + x, the gradient of y", [([2.0], hint)])
    if g[0] != 1.0:
        raise NotYet("(x + y) + x: the cotangent that was passed in has changed: it belongs to the caller")

    # y = x², L = 3y + tanh-like chain of y: y is reached early, and complete late
    x = Step(1)
    calls = [0]

    def counted(g: Any) -> Any:
        calls[0] += 1
        if calls[0] > 10_000:
            raise _TooMany
        return g

    y = Step(2, [(x, lambda g: counted(g) * 10.0)])
    long = Step(3, [(y, counted)])
    long = Step(4, [(long, counted)])
    root = Step(5, [(y, lambda g: counted(g) * 3.0), (long, counted)])
    where = "3y + (a longer way from y)"
    leaves = _leaves(way_back, root, np.array([1.0]), where)
    hint = "y was left before all of its gradient had arrived: take the highest number that is waiting."
    wrong = [([30.0], hint), ([10.0], hint)]
    _expect_leaf(leaves, x, 40.0, f"{where}, with y = 10 x: the gradient of x", wrong)
    if calls[0] != 5:
        raise NotYet(
            f"{where}: the gradient is right, but {calls[0]} vjps were called, and there are 5: each step once. {hint}"
        )

    calls[0] = 0
    x = step = Step(0)
    for n in range(1, 31):
        step = Step(n, [(step, counted), (step, counted)])  # 2^30 paths
    leaves = _leaves(way_back, step, np.array([1.0]), "30 doublings, with 2^30 paths")
    _expect_leaf(leaves, x, 2.0**30, "30 doublings: the gradient of x")
    if calls[0] != 60:
        raise NotYet(f"30 doublings: {calls[0]} vjps were called, and there are 60: each step once")

    x = step = Step(0)
    for n in range(1, 5001):
        step = Step(n, [(step, same)])
    _expect_leaf(_leaves(way_back, step, np.array([1.0]), "a chain of 5000 steps"), x, 1.0, "a chain of 5000 steps")
    print("Right: complete gradients, each step once, no recursion, and no array changed.")


class _TooMany(Exception):
    pass


def _leaves(way_back: Callable[..., Any], root: Step, g: np.ndarray, where: str) -> dict[Step, Any]:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(min(limit, 3000))  # Jupyter may have raised it
    try:
        leaves = way_back(root, g)
    except _TooMany:
        raise NotYet(f"{where}: more than 10,000 vjps were called, one for each path: visit each step once") from None
    except RecursionError:
        raise NotYet(f"{where}: RecursionError: a function still calls itself") from None
    except Exception as error:
        raise NotYet(f"{where}: {type(error).__name__}: {error}") from error
    finally:
        sys.setrecursionlimit(limit)
    if leaves is None or leaves is ...:
        raise NotYet(f"{where}: way_back returns {leaves!r}; it must return a dict from each leaf to its gradient")
    if not isinstance(leaves, dict):
        raise NotYet(f"{where}: return a dict from each leaf to its gradient, not {shown(leaves)}")
    inner = [step for step in leaves if step.inputs]
    if inner:
        raise NotYet(f"{where}: the dict holds a step that is no leaf (number {inner[0].number}): it has inputs")
    return leaves


def _expect_leaf(leaves: dict[Step, Any], leaf: Step, value: float, where: str, mistakes: Any = ()) -> None:
    if leaf not in leaves:
        raise NotYet(f"{where}: it is not in the dict (a leaf is a step without inputs)")
    expect(leaves[leaf], [value], where, mistakes)


def check_cycles(answers: dict[str, Any]) -> None:
    """Exercise 3.3."""
    right = {
        "first": (False, "the vjp holds x, but x knows nothing of out: no way leads back to out"),
        "second": (True, "out holds its vjp, and the vjp reads out.data, so it holds out"),
        "third": (False, "the vjp holds the array `data`, not out"),
        "fourth": (True, "out.parent is x, and x.children holds out"),
    }
    for name, (cycle, why) in right.items():
        given = answers.get(name)
        if given is None or given is ... or isinstance(given, str):
            raise NotYet(f"{name}: answer True or False")
        if bool(given) is not cycle:
            raise NotYet(f"{name}: no, it makes {'a' if cycle else 'no'} cycle. Follow the references: {why}")
    print("Right: a cycle is a way along references from an object back to itself.")


def check_guarded(multiply: Callable[..., Any]) -> None:
    """Exercise 3.4."""
    a, b, g = Box([2.0, 3.0]), Box([5.0, 7.0]), np.array([1.0, 10.0])
    a.add_(1.0)  # a change before the operation is no matter
    y, vjp = _product(multiply, a, b)
    expect(y, [15.0, 28.0], "the product of [3, 4] and [5, 7]")
    try:
        gradients = vjp(g)
    except RuntimeError as error:
        raise NotYet(
            f"nothing was changed since the operation, and the vjp raises: {error} A change *before* it is no matter: "
            f"compare with the versions at that time, not with 0"
        ) from error
    if not isinstance(gradients, tuple | list) or len(gradients) != 2:
        raise NotYet(f"the vjp returns the pair (da, db), got {shown(gradients)}")
    hint = "da and db are exchanged: da = g b, db = g a."
    expect(gradients[0], [5.0, 70.0], "da for g = [1, 10]", [([3.0, 40.0], hint), ([5.0, 7.0], "g is missing.")])
    expect(gradients[1], [3.0, 40.0], "db for g = [1, 10]", [([5.0, 70.0], hint), ([3.0, 4.0], "g is missing.")])
    for changed, name in ((0, "a"), (1, "b")):
        boxes = Box([2.0, 3.0]), Box([5.0, 7.0])
        _, vjp = _product(multiply, *boxes)
        boxes[changed].add_(1.0)
        try:
            got = vjp(g)
        except RuntimeError:
            continue
        except Exception as error:
            raise NotYet(f"{name} was changed: raise RuntimeError, not {type(error).__name__}") from error
        raise NotYet(
            f"{name} was changed after the operation, and the vjp gave {shown(got)} without a word: keep the versions "
            f"when multiply is called, and compare them when the vjp is"
        )
    print("Right: a change after the operation is refused, one before it is not.")


def _product(multiply: Callable[..., Any], a: Box, b: Box) -> Any:
    result = call(multiply, a, b, what="two boxes")
    if not isinstance(result, tuple | list) or len(result) != 2 or not callable(result[1]):
        raise NotYet(f"return two things, the product and the vjp (a function); got {shown(result)}")
    return result

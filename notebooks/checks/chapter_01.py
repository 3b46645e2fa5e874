"""The checkers of chapter 1, One scalar, one chain rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import call, expect, shown


def check_neuron_gradient(neuron_gradient: Callable[..., Any]) -> None:
    """Exercise 1.1."""
    for w, x, b, t in ((0.8, 1.5, -0.5, 1.0), (-0.3, 2.0, 0.1, -1.0)):
        y = math.tanh(w * x + b)
        ds = 2 * (y - t) * (1 - y * y)
        right = (ds * x, ds * w, ds)
        bare = 2 * (y - t)
        mistakes = [
            ((ds * w, ds * x, ds), "The derivative by w has the factor x, and the one by x the factor w."),
            ((bare * x, bare * w, bare), "The derivative of tanh is missing: 1 - y²."),
            (tuple(v / 2 for v in right), "The factor 2 of the square is missing: d is used twice in d · d."),
            (tuple(-v for v in right), "The sign: the derivative of (y - t)² is 2 (y - t)."),
            (tuple(v * (y - t) for v in (x, w, 1)), "The factor 2 and the derivative of tanh, 1 - y², are missing."),
            (
                tuple(2 * (y - t) * (1 - math.tanh(y) ** 2) * v for v in (x, w, 1)),
                "The derivative of tanh is 1 - y² with y = tanh(s) itself, not tanh(y).",
            ),
        ]
        where = f"for w={w}, x={x}, b={b}, t={t}: (dL/dw, dL/dx, dL/db)"
        got = call(neuron_gradient, w, x, b, t)
        if not isinstance(got, tuple | list | np.ndarray) or np.shape(got) != (3,):
            raise NotYet(f"return three numbers, (dL/dw, dL/dx, dL/db); got {shown(got)}")
        expect(got, right, where, mistakes)
    print("Right: one factor for each step along the path.")


def check_power(power: Callable[..., Any], Value: type) -> None:  # noqa: N803 - the reader's class
    """Exercise 1.2."""
    for base, n in ((3.0, 2), (2.0, -1), (0.5, 3.0)):
        a = Value(base)
        u = call(power, a, n, what=f"a = {base}, n = {n}")
        if not isinstance(u, Value):
            raise NotYet(f"return a Value, not {shown(u)}: the graph must know what it was computed from")
        if abs(u.data - base**n) > 1e-12:
            raise NotYet(f"{base} to the power {n} is {base**n:.6g}, and the Value holds {shown(u.data)}")
        pairs = [pair for pair in u.inputs if isinstance(pair, tuple | list) and len(pair) == 2]
        if len(pairs) != len(u.inputs) or not any(pair[0] is a for pair in pairs):
            raise NotYet("the inputs of the result do not hold a: give Value a list of the pair (a, local derivative)")
        if len(u.inputs) != 1:
            raise NotYet(f"the result has {len(u.inputs)} inputs; n is a constant, so a is the only one")
        right = n * base ** (n - 1)
        mistakes = [
            (n * base**n, "The exponent goes down by one: n a^(n-1)."),
            (base ** (n - 1), "The factor n is missing: n a^(n-1)."),
            (base**n, "That is the value itself; the local derivative is n a^(n-1)."),
            (base**n * math.log(base), "That is the derivative by n; a is the variable."),
        ]
        expect(u.inputs[0][1], right, f"local derivative of a^{n} at a = {base}", mistakes)
    print("Right: the local derivative is n a^(n-1).")


def check_order(in_order: Callable[..., Any], Value: type) -> None:  # noqa: N803
    """Exercise 1.3."""
    x = Value(0.5)
    y = x * x
    z = y.tanh()
    _check_listing(in_order, z * y + x, "x·x used twice, in tanh(y)·y + x", 5)
    deep = x
    for _ in range(5000):
        deep = deep + x
    try:
        _check_listing(in_order, deep, "5000 additions in a row", 5001)
    except NotYet as error:
        if "RecursionError" in str(error):
            raise NotYet("5000 additions in a row raise RecursionError: a function still calls itself") from None
        raise
    wide = x
    for _ in range(60):
        wide = wide * wide  # 2^60 paths
    _check_listing(in_order, wide, "60 squarings, with 2^60 paths", 61)
    print("Right: every value after its inputs, once each, and no recursion.")


def _check_listing(in_order: Callable[..., Any], root: Any, what: str, count: int) -> None:
    limit, steps = 40 * count + 1000, [0]
    counted = _Counted(limit, steps, what)
    got = counted.run(in_order, root)
    listed = list(got) if isinstance(got, Iterable) else [got]
    if not isinstance(got, Iterable) or not all(isinstance(value, type(root)) for value in listed):
        raise NotYet(f"{what}: return a list of values, got {shown(got)}")
    position: dict[int, int] = {}
    for i, value in enumerate(listed):
        if id(value) in position:
            raise NotYet(f"{what}: a value is listed twice; remember which ones you have listed")
        position[id(value)] = i
    for value in listed:
        for source, _ in value.inputs:
            if id(source) not in position:
                raise NotYet(f"{what}: a value is listed, and one that it is computed from is not")
    if listed and listed[0] is root and count > 1:
        raise NotYet(f"{what}: the root comes first: this is the order of the way back; reverse the list at the end")
    for value in listed:
        for source, _ in value.inputs:
            if position[id(source)] > position[id(value)]:
                raise NotYet(
                    f"{what}: a value is listed before one that it is computed from. Being reached is not enough: "
                    f"on the way back a value is ready only when all of its consumers are listed"
                )
    if len(listed) != count:
        raise NotYet(f"{what}: {len(listed)} values are listed, and there are {count}")


class _Counted:
    """Runs a function and stops it when it has looked at too many inputs: one walk for each path never ends."""

    def __init__(self, limit: int, steps: list[int], what: str) -> None:
        self.limit, self.steps, self.what = limit, steps, what

    def run(self, in_order: Callable[..., Any], root: Any) -> Any:
        import sys

        lines = [0]

        def trace(frame: Any, event: str, _: Any) -> Any:
            lines[0] += 1
            if lines[0] > 60 * self.limit:
                raise _TooMany
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return call(in_order, root, what=self.what)
        except (NotYet, _TooMany) as error:
            if isinstance(error, _TooMany) or isinstance(error.__cause__, _TooMany):
                raise NotYet(
                    f"{self.what}: the function does not come to an end; does it walk every path, instead of every "
                    f"value once?"
                ) from None
            raise
        finally:
            sys.settrace(before)


class _TooMany(Exception):
    pass


def check_update(update: Callable[..., Any], Value: type) -> None:  # noqa: N803
    """Exercise 1.4."""
    values = [Value(1.0), Value(-2.0)]
    values[0].grad, values[1].grad = 0.5, -4.0
    result = update(values, 0.1)
    if result is ...:
        raise NotYet("update returns ...: fill it in (it needs to return nothing)")
    got = [value.data for value in values]
    mistakes = [
        ([1.05, -2.4], "That goes up the slope: subtract rate times grad."),
        (
            [1.0, -2.0],
            "Nothing has changed: assign to value.data (not to the loop's variable), and set the grad to 0 after the "
            "step (here perhaps it was 0 before it was used).",
        ),
        ([0.5, 2.0], "The rate is missing."),
        ([0.95, -2.0], "Only the first of the two changed."),
    ]
    expect(got, [0.95, -1.6], "data 1 and -2, grads 0.5 and -4, rate 0.1", mistakes)
    left = [value.grad for value in values]
    if any(grad is None or grad != 0 for grad in left):
        raise NotYet(
            f"the grads are still {left}: the next backward() adds to what is there, so set each to 0.0 after the step"
        )
    print("Right: against the slope, and ready for the next backward().")

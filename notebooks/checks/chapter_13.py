"""Checkers of chapter 13, real weights: each says what is wrong with an answer, or that nothing is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import written


def check_problems(problems: Callable[[dict[str, Any], int], Any]) -> None:
    """Exercise 13.1: what is wrong with a header."""

    def entry(shape: list[int], begin: int, end: int) -> dict[str, Any]:
        return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}

    good = {"b": entry([2], 24, 32), "a": entry([2, 3], 0, 24)}
    good |= {"empty": entry([0, 5], 32, 32), "one": entry([], 32, 36)}
    cases = {
        "a good header": (good, 36, False),
        "an array whose bytes end after the data": ({"a": entry([2, 3], 0, 24)}, 20, True),
        "an array whose bytes begin before the data": ({"a": entry([2], -4, 4)}, 20, True),
        "an array that ends before it begins": ({"a": entry([2], 8, 0)}, 20, True),
        "two arrays in the same bytes": ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, 12, True),
        "an array inside of another": (
            {"a": entry([5], 0, 20), "b": entry([1], 4, 8), "c": entry([1], 12, 16)}, 20, True),
        "a shape that is too large for its bytes": ({"a": entry([2, 9], 0, 24)}, 24, True),
        "a shape whose size is more than 64 bits": ({"a": entry([2**32, 2**32], 0, 0)}, 0, True),
    }  # fmt: skip
    for name, (entries, length, bad) in cases.items():
        try:
            answer = written(problems(entries, length), f"problems(...) of {name}")
            if isinstance(answer, str | bool):
                raise NotYet(f"problems(...) of {name} returned {answer!r}: return a list, empty if nothing is wrong")
            found = list(answer)
        except NotYet:
            raise
        except Exception as error:
            kind = type(error).__name__
            raise NotYet(f"{name}: problems(...) raises {kind}: {error}; it should say what is wrong") from None
        if bad and not found:
            hint = " (Python's integers do not overflow, NumPy's do)" if "64" in name else ""
            raise NotYet(f"{name} is not found: problems({entries}, {length}) is empty{hint}")
        if not bad and found:
            raise NotYet(f"{name} is refused: {found}. An array without elements, and one without axes, are fine")
    print("problems is right: no lie of a header gets through")


def check_q4_0(q4_0: Callable[[bytes], Any]) -> None:
    """Exercise 13.2: four bits to weights."""
    rng = np.random.default_rng(0)
    q = rng.integers(0, 16, (3, 32)).astype(np.uint8)
    d = np.array([0.5, -0.25, 2.0], dtype="<f2")
    packed = q[:, :16] | q[:, 16:] << 4
    raw = b"".join(d[i].tobytes() + packed[i].tobytes() for i in range(3))
    got = np.asarray(written(q4_0(raw), "q4_0(54 bytes)"), dtype=np.float64)
    steps = q.astype(np.float64) - 8
    expected = (d[:, None].astype(np.float64) * steps).reshape(-1)
    if got.shape != (96,):
        raise NotYet(f"q4_0 of three blocks has the shape {got.shape}; 3 x 32 weights in a row are (96,)")
    if np.allclose(got, expected):
        print("q4_0 is right: 18 bytes, 32 weights")
        return
    D = d[:, None].astype(np.float64)
    woven = np.stack([packed & 15, packed >> 4], axis=2).reshape(3, 32).astype(np.float64) - 8
    swapped = np.concatenate([packed >> 4, packed & 15], axis=1).astype(np.float64) - 8
    wrapped = (q - np.uint8(8)).astype(np.float64)
    mistakes = {
        "8 is not subtracted": D * (steps + 8),
        "the two halves of a byte are weight j and j + 16, not neighbours": D * woven,
        "the lower half of a byte is the earlier weight": D * swapped,
        "in uint8 3 - 8 is 251: make it a signed integer first": D * wrapped,
    }
    for why, value in mistakes.items():
        if np.allclose(got, value.reshape(-1)):
            raise NotYet(f"q4_0: {why}")
    raise NotYet(f"q4_0: the first weights are {got[:4].tolist()}, expected {expected[:4].tolist()}")


def check_pool(pool: Callable[[np.ndarray, np.ndarray], Any]) -> None:
    """Exercise 13.3: the mean without padding."""
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(3, 5, 4))
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]], dtype=bool)
    got = np.asarray(written(pool(hidden.copy(), mask.copy()), "pool(hidden (3, 5, 4), mask (3, 5))"), dtype=float)
    if got.shape != (3, 4):
        raise NotYet(f"pool gives the shape {got.shape}; one vector for each sentence is (3, 4)")

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    expected = unit((hidden * mask[..., None]).sum(1))
    if np.allclose(got, expected):
        print("pool is right: padding does not count, and every vector has length 1")
        return
    why = f"row 1 is {np.round(got[1], 4).tolist()}, expected {np.round(expected[1], 4).tolist()}"
    if np.allclose(got, unit(hidden.mean(1))):
        why = "padding counts as well: the rows of the shorter sentences are wrong"
    elif np.allclose(got, unit(hidden[:, 0])):
        why = "this is the first token alone"
    elif not np.allclose(np.linalg.norm(got, axis=1), 1):
        why = f"the lengths are {np.round(np.linalg.norm(got, axis=1), 4).tolist()}, and should be 1"
    raise NotYet(f"pool: {why}")


def check_halves_from_neighbours(order_for: Callable[[int], Any]) -> None:
    """Exercise 13.4: the order of rotary pairs, by what it must do: leave the scores as they are."""
    D, T = 8, 3
    rng = np.random.default_rng(2)
    q, k = rng.normal(size=(2, D))
    angles = 10.0 ** -np.arange(D // 2)

    def turned(x: np.ndarray, t: int, pairs: list[tuple[int, int]]) -> np.ndarray:
        y = x.copy()
        for angle, (a, b) in zip(angles, pairs, strict=True):
            c, s = np.cos(t * angle), np.sin(t * angle)
            y[a], y[b] = c * x[a] - s * x[b], s * x[a] + c * x[b]
        return y

    neighbours = [(2 * i, 2 * i + 1) for i in range(D // 2)]
    halves = [(i, i + D // 2) for i in range(D // 2)]
    order = np.asarray(written(order_for(D), f"halves_from_neighbours({D})"))
    if order.shape != (D,) or sorted(order.tolist()) != list(range(D)):
        raise NotYet(f"halves_from_neighbours({D}) is {order.tolist()}: each of the rows 0 ... {D - 1} is taken once")
    if order.dtype.kind not in "iu":
        raise NotYet(f"halves_from_neighbours({D}) is {order.tolist()}: row numbers are integers, not {order.dtype}")
    for t in range(1, T):
        right = turned(q, t, neighbours) @ turned(k, 0, neighbours)
        ours = turned(q[order], t, halves) @ turned(k[order], 0, halves)
        if not np.isclose(right, ours):
            inverse = np.argsort([*range(0, D, 2), *range(1, D, 2)])
            why = "this is the way back, from halves to neighbours" if order.tolist() == inverse.tolist() else (
                f"the new rows 0 and {D // 2} must be a pair of the old ones, 0 and 1")  # fmt: skip
            raise NotYet(f"halves_from_neighbours({D}) is {order.tolist()}: the scores change: {why}")
    print("halves_from_neighbours is right: the scores are the same")

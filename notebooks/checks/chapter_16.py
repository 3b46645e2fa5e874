"""Checkers of chapter 16, flash attention: one pass, merging, blocks of queries, a loss by blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import array_of, first_difference, same, tolerances
from minilm.testing.timing import peak_memory


class _Once:
    """An iterator over scores that says so when somebody asks for more after its end, or wants its length."""

    def __init__(self, scores: list[float]) -> None:
        self.scores, self.ended = iter(scores), False

    def __iter__(self) -> Iterator[float]:
        if self.ended:
            raise NotYet("one_pass went through the scores a second time: keep top and total up to date in one loop")
        return self

    def __next__(self) -> float:
        try:
            return next(self.scores)
        except StopIteration:
            self.ended = True
            raise


def check_one_pass(one_pass: Callable[[Any], Any]) -> None:
    """Exercise 16.1: the maximum and the sum, each score looked at once."""
    hints = (
        ([1.0, 3.0, 2.0], "when a larger score comes, multiply the old total by e^(old top - new top)"),
        ([5.0, 1.0, 0.0, 4.0], "when the maximum stays, the old total stays as it is"),
        ([-4.0, -3.0, -9.0], "all scores are negative here: top starts at -inf, not at 0"),
        ([-2000.0, -2001.0], "e^(-2000) is 0 in floating point: exponents must be relative to the maximum so far"),
        ([1000.0, 1001.0, 999.0], "e^1000 overflows: exponents must be relative to the maximum so far"),
    )
    for scores, hint in hints:
        with np.errstate(all="ignore"):
            answer = one_pass(_Once(scores))
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise NotYet(f"one_pass returns the pair (top, total), and for {scores} it gave {answer!r}")
        top, total = answer
        right = max(scores), sum(np.exp(s - max(scores)) for s in scores)
        if not np.allclose([top, total], right, rtol=1e-9):
            wanted = f"({right[0]:.6g}, {right[1]:.6g})"
            raise NotYet(f"one_pass({scores}) gives ({top:.6g}, {total:.6g}), expected {wanted}: {hint}")
    many = 10_000
    held = peak_memory(lambda: one_pass(iter(range(many))))
    if held > 4 * many:
        raise NotYet(
            f"the numbers are right, but it keeps the scores: with {many:,} of them it held {held / 1e3:.0f} KB. Use "
            "each score when it comes, and keep top and total alone"
        )
    print("one_pass: right, in one pass.")


def check_merge(merge: Callable[[Any, Any], Any]) -> None:
    """Exercise 16.2: two halves of the keys."""
    rng = np.random.default_rng(2)
    scores, values = rng.normal(0, 3, 11), rng.standard_normal((11, 4))

    def part(keys: slice, shift: float = 0.0) -> tuple[float, float, np.ndarray]:
        s = scores[keys] + shift
        if not s.size:
            return -np.inf, 0.0, np.zeros(4)
        e = np.exp(s - s.max())
        return float(s.max()), float(e.sum()), e @ values[keys]

    whole = part(slice(None))
    empty = part(slice(0, 0))
    first, second = part(slice(0, 5)), part(slice(5, 11))
    cases = (
        (first, second, whole, "both halves must be brought to the same top: each by its own e^(its top - new top)"),
        (second, first, whole, "it must not matter which half comes first"),
        (whole, empty, whole, "an empty part changes nothing: e^(-inf - top) is 0"),
        (empty, whole, whole, "an empty part changes nothing: e^(-inf - top) is 0"),
        (empty, empty, empty, "two empty parts: -inf - (-inf) is not a number; return the empty triple"),
    )
    for a, b, right, hint in cases:
        given = a[2].copy(), b[2].copy()
        with np.errstate(all="ignore"):
            answer = merge((*a[:2], given[0]), (*b[:2], given[1]))
        if not (np.array_equal(given[0], a[2]) and np.array_equal(given[1], b[2])):
            raise NotYet("merge changes its argument in place: the acc that it gets; its program still needs it")
        if not isinstance(answer, tuple | list) or len(answer) != 3:
            raise NotYet(f"merge returns (top, total, acc), and this is {answer!r}")
        got = np.hstack([answer[0], answer[1], answer[2]])
        expected = np.hstack([right[0], right[1], right[2]])
        if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-9):
            naive = np.hstack([max(a[0], b[0]), a[1] + b[1], a[2] + b[2]])
            if np.allclose(got, naive, equal_nan=True):
                hint = "the totals were added as they are, but they are relative to different maxima"
            raise NotYet(
                f"merge of parts with top {a[0]:.4g} and {b[0]:.4g} gives top {got[0]:.6g} and total {got[1]:.6g}; "
                f"expected {expected[0]:.6g} and {expected[1]:.6g}: {hint}"
            )
    print("merge: right, for empty parts as well.")


def check_blocked(attention_by_queries: Callable[..., Any]) -> None:
    """Exercise 16.3: blocks of queries and of keys."""
    rng = np.random.default_rng(3)
    for Tq, Tk, BLOCK_Q, BLOCK_K in ((8, 8, 4, 4), (10, 13, 4, 5), (3, 7, 16, 16)):
        q, k, v = rng.standard_normal((Tq, 6)), rng.standard_normal((Tk, 6)), rng.standard_normal((Tk, 5))
        S = q @ k.T / np.sqrt(6)
        e = np.exp(S - S.max(1, keepdims=True))
        expected = e @ v / e.sum(1, keepdims=True)
        call = f"attention_by_queries with Tq {Tq}, Tk {Tk}, BLOCK_Q {BLOCK_Q}, BLOCK_K {BLOCK_K}"
        got = array_of(attention_by_queries(q, k, v, BLOCK_Q, BLOCK_K), expected.shape, call)
        if not same(got, expected, *tolerances(got)):
            hint = "each block of queries starts with its own top, total and acc, and is divided by total at its end"
            raw = np.exp(q @ k.T - (q @ k.T).max(1, keepdims=True))
            if np.allclose(got, raw @ v / raw.sum(1, keepdims=True)):
                hint = "the scores are not divided by sqrt(D)"
            elif not np.isfinite(got).all():
                hint = "NaN or infinity: is a block beyond the end of the keys empty, or top -inf - (-inf)?"
            elif Tq % BLOCK_Q or Tk % BLOCK_K:
                hint = "the blocks do not divide the lengths here: is the last, shorter one right?"
            raise NotYet(f"{call}: {first_difference(got, expected)}: {hint}")
    q, k, v = (rng.standard_normal((1024, 8)) for _ in range(3))
    held = peak_memory(lambda: attention_by_queries(q, k, v, 64, 64))
    if held > 1024 * 64 * 8:  # the scores of a block of queries with all keys, which do not stand alone
        raise NotYet(
            f"the numbers are right, but with 1024 queries and keys and blocks of 64 it held {held / 1e6:.1f} MB at "
            f"a time; a block of scores has {64 * 64 * 8 / 1e6:.2f} MB: compute one block of scores inside both loops"
        )
    print("attention_by_queries: right, and it never holds more than a block of scores.")


def check_cross_entropy(cross_entropy_blocked: Callable[..., Any]) -> None:
    """Exercise 16.4: the loss without all logits."""
    rng = np.random.default_rng(4)
    for N, V, BLOCK in ((6, 20, 5), (5, 23, 8)):
        h, W, target = 3 * rng.standard_normal((N, 7)), rng.standard_normal((V, 7)), rng.integers(0, V, N)
        logits = h @ W.T
        top = logits.max(1)
        lse = top + np.log(np.exp(logits - top[:, None]).sum(1))
        expected = lse - logits[np.arange(N), target]
        call = f"cross_entropy_blocked with N {N}, V {V}, BLOCK {BLOCK}"
        got = array_of(cross_entropy_blocked(h, W, target, BLOCK), (N,), call)
        if not same(got, expected, *tolerances(got)):
            hint = "loss = top + log total - the target's logit"
            if np.allclose(got, lse):
                hint = "this is the log-sum-exp alone: subtract the logit of the target"
            elif np.allclose(got, -expected):
                hint = "the sign: log-sum-exp minus the target's logit"
            elif np.allclose(got - expected, (got - expected)[0]):
                hint = "all losses are off by the same number"
            elif np.allclose(got, lse - top - logits[np.arange(N), target]):
                hint = "top is missing: the log-sum-exp is top + log total"
            raise NotYet(f"{call}: {first_difference(got, expected)}: {hint}")
    h, W = rng.standard_normal((64, 8)), rng.standard_normal((8192, 8))
    held = peak_memory(lambda: cross_entropy_blocked(h, W, rng.integers(0, 8192, 64), 256))
    if held > 64 * 8192 * 8 / 2:
        raise NotYet(
            f"the losses are right, but for 64 positions and 8192 tokens it held {held / 1e6:.1f} MB at a time; a "
            f"block of 256 has {64 * 256 * 8 / 1e6:.1f} MB: multiply with W[first : first + BLOCK] inside the loop"
        )
    print("cross_entropy_blocked: right, with one block of logits at a time.")

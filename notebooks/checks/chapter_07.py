"""Checkers of chapter 7, attention: what is wrong with an answer, or that nothing is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import array_of, first_difference


def _softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to what float32 can tell: an answer that was computed in it is right all the same."""
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6)


def check_attend(attend: Callable[..., Any]) -> None:
    """Exercise 7.1: the output of one query."""
    rng = np.random.default_rng(1)
    query, keys, values = rng.standard_normal(9), rng.standard_normal((5, 9)), rng.standard_normal((5, 3))
    dots = keys @ query
    expected = _softmax(dots / 3) @ values
    call = "attend(query (9,), keys (5, 9), values (5, 3))"
    got = array_of(attend(query.copy(), keys.copy(), values.copy()), (3,), call)
    if not _close(got, expected):
        hint = "scores are q.k / sqrt(D), weights their softmax over the keys, and the output is weights @ values"
        for wrong, why in (
            (_softmax(dots) @ values, "the scores are not divided by sqrt(D)"),
            (_softmax(dots / 9) @ values, "the scores are divided by D = 9 and not by its square root, 3"),
            (_softmax(dots / np.sqrt(5)) @ values, "the square root is that of the number of keys, 5, not of D = 9"),
            (np.exp(dots / 3) @ values, "the weights do not sum to 1: divide e^s by the sum of all e^s"),
            ((dots / 3) @ values, "the scores are used as weights: softmax is missing"),
        ):
            if _close(got, wrong):
                hint = why
        raise NotYet(f"{call}: {first_difference(got, expected)}: {hint}")
    large = array_of(attend(1e6 * query, keys, values), (3,), "attend(1e6 * query, keys, values)")
    if not np.isfinite(large).all():
        raise NotYet(
            f"attend(1e6 * query, keys, values) gives {large}: e^s overflows for large scores; subtract the largest "
            "score from all of them first, it cancels"
        )
    print("attend: right, for large scores as well.")


def check_padding_mask(padding_mask: Callable[..., Any]) -> None:
    """Exercise 7.2: which keys take part."""
    lengths, T = np.array([3, 1, 5, 0]), 5
    expected = np.arange(T) < lengths[:, None]
    call = "padding_mask([3, 1, 5, 0], 5)"
    answer = padding_mask(lengths.copy(), T)
    if getattr(answer, "shape", None) == (4, 5):
        raise NotYet(f"{call} has the shape (4, 5): add the axes of heads and queries, mask[:, None, None, :]")
    got = array_of(answer, (4, 1, 1, 5), call)
    if got.dtype != bool:
        raise NotYet(f"{call} holds {got.dtype}: numbers would be added to the scores; return booleans")
    got = got[:, 0, 0]
    for row, length in enumerate(lengths):
        if not np.array_equal(got[row], expected[row]):
            hint = "the first `length` keys take part and no others"
            if np.array_equal(got, ~expected):
                hint = "True and False are exchanged: True means that the key takes part"
            elif np.array_equal(got, np.arange(T) <= lengths[:, None]):
                hint = "one too many: the keys are 0 to length - 1, so `<` and not `<=`"
            raise NotYet(f"{call}: a sentence of length {length} got {got[row].astype(int)}, expected "
                         f"{expected[row].astype(int)}: {hint}")  # fmt: skip
    print("padding_mask: right, for an empty sentence as well.")


def check_split_heads(split: Callable[..., Any]) -> None:
    """Exercise 7.3: (B, T, C) as (B, H, T, D)."""
    x = np.arange(2 * 3 * 8.0).reshape(2, 3, 8)
    expected = x.reshape(2, 3, 4, 2).swapaxes(1, 2)
    got = array_of(split(x.copy(), 4), (2, 4, 3, 2), "split(x (2, 3, 8), 4)")
    if not np.array_equal(got, expected):
        hint = "head h of position t holds x[b, t, h D : (h + 1) D]"
        if np.array_equal(got, x.reshape(2, 4, 3, 2)):
            hint = (
                "a reshape straight to (B, H, T, D) deals out the numbers in memory order, and mixes positions: "
                "reshape to (B, T, H, D), then swapaxes(1, 2)"
            )
        elif np.array_equal(got, x.reshape(2, 3, 2, 4).transpose(0, 3, 1, 2)):
            hint = "head h got every H-th channel: it should get D channels that lie beside each other"
        raise NotYet(f"split(x, 4), x counting up from 0: head 0 of the first sequence is {got[0, 0].tolist()}, "
                     f"expected {expected[0, 0].tolist()}: {hint}")  # fmt: skip
    print("split: right.")


def check_rotary(rotate: Callable[..., Any]) -> None:
    """Exercise 7.4: pairs of channels, turned."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((6, 8))
    T, D = x.shape

    def turned(speeds: np.ndarray, sign: int = 1, first: int = 0, halves: bool = False) -> np.ndarray:
        angles = sign * (np.arange(T)[:, None] + first) * speeds
        pairs = (np.s_[:, : D // 2], np.s_[:, D // 2 :]) if halves else (np.s_[:, 0::2], np.s_[:, 1::2])
        y = np.empty_like(x)
        y[pairs[0]] = x[pairs[0]] * np.cos(angles) - x[pairs[1]] * np.sin(angles)
        y[pairs[1]] = x[pairs[0]] * np.sin(angles) + x[pairs[1]] * np.cos(angles)
        return y

    speeds = 10000.0 ** (-np.arange(0, D, 2) / D)
    expected = turned(speeds)
    overwritten = expected.copy()
    angles = np.arange(T)[:, None] * speeds
    overwritten[:, 1::2] = expected[:, 0::2] * np.sin(angles) + x[:, 1::2] * np.cos(angles)
    got = array_of(rotate(x.copy()), x.shape, "rotate(x (6, 8))")
    if not _close(got, expected):
        hint = "y1 = x1 cos - x2 sin, y2 = x1 sin + x2 cos, with the angle t 10000^(-2i/D) of pair i"
        if not np.allclose((got**2).sum(1), (x**2).sum(1)):
            hint = "a rotation keeps the length of every row, and this does not: check the signs; " + hint
        for wrong, why in (
            (turned(speeds, sign=-1), "it turns the wrong way: the minus sign belongs to y1 = x1 cos - x2 sin"),
            (turned(speeds, halves=True), "the pairs are channels i and i + D/2; here they are 2i and 2i + 1"),
            (overwritten, "y2 is made of y1 here, since x1 was written over: both need the old x1 and x2"),
            (turned(speeds, first=1), "the first row stands at position 0 and is not turned"),
            (turned(10000.0 ** (-np.arange(D // 2) / D)), "the exponent is -2i/D, not -i/D"),
        ):
            if _close(got, wrong):
                hint = why
        raise NotYet(f"rotate(x (6, 8)): {first_difference(got, expected)}: {hint}")
    print("rotate: right; the products of what it returns depend on the difference of the positions only.")


def check_gradient(causal_vjp: Callable[..., Any]) -> None:
    """Exercise 7.5: the vjp of causal attention."""
    rng = np.random.default_rng(5)
    T, D = 5, 4
    Q, K, V, dO = (rng.standard_normal(shape) for shape in ((T, D), (T, D), (T, 3), (T, 3)))

    def gradients(
        causal: bool = True, scale: float = 0.5, rows: bool = True, late: bool = False
    ) -> tuple[np.ndarray, ...]:
        S = Q @ K.T * 0.5
        P = _softmax(np.where(np.tri(T, dtype=bool), S, -np.inf) if causal else S)
        P = P * np.tri(T) if late else P
        dP = dO @ V.T
        dS = P * (dP - rows * (P * dP).sum(-1, keepdims=True))
        return scale * dS @ K, scale * dS.T @ Q, P.T @ dO

    expected = gradients()
    answer = causal_vjp(Q.copy(), K.copy(), V.copy(), dO.copy())
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        raise NotYet(f"causal_vjp returns three arrays (dQ, dK, dV), and this is {type(answer).__name__}")
    for number, (name, right) in enumerate(zip(("dQ", "dK", "dV"), expected, strict=True)):
        got = array_of(answer[number], right.shape, f"{name} of causal_vjp")
        if not _close(got, right):
            hint = "see the section on the gradient"
            for wrong, why in (
                (gradients(causal=False), "these are the gradients without the mask: mask the scores before softmax"),
                (
                    gradients(causal=False, late=True),
                    "the weights are set to 0 behind the softmax, so that a row does not sum to 1: mask the scores",
                ),
                (gradients(scale=1.0), "S = Q K^T / sqrt(D): the factor 1 / sqrt(D) is missing in dQ and dK"),
                (gradients(rows=False), "the vjp of softmax subtracts sum_k w_k dw_k in each row"),
            ):
                if _close(got, wrong[number]):
                    hint = why
            raise NotYet(f"{name} is wrong: {first_difference(got, right)}: {hint}")
    print("causal_vjp: right.")

"""Checkers of chapter 6, from n-grams to the LSTM: each says what is wrong with an answer, or that nothing is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import written


def check_bigram(bigram: Callable[[np.ndarray, int, float], Any]) -> None:
    """Exercise 6.1: counts to probabilities."""
    ids, V = np.array([0, 1, 0, 1, 2, 0, 1]), 4
    for k in (1.0, 0.1):
        call = f"bigram({ids.tolist()}, V={V}, k={k:g})"
        got = np.asarray(written(bigram(ids.copy(), V, k), call), dtype=float)
        if got.shape != (V, V):
            raise NotYet(f"{call} has the shape {got.shape}, and a row and a column for each token make ({V}, {V})")
        counts = np.zeros((V, V))
        np.add.at(counts, (ids[:-1], ids[1:]), 1)
        expected = (counts + k) / (counts + k).sum(1, keepdims=True)
        if np.allclose(got, expected):
            continue
        once = np.minimum(counts, 1)
        transposed = (counts.T + k) / (counts.T + k).sum(1, keepdims=True)
        without = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # or 0 / 0 where nothing was seen
        if np.allclose(got, (once + k) / (once + k).sum(1, keepdims=True)):
            why = "the pair 0 1 stands three times and counts once: `table[a, b] += 1` with arrays does not add twice"
        elif np.allclose(got, transposed) or np.allclose(got, expected.T):
            why = "rows and columns are exchanged: row a holds what follows a"
        elif np.allclose(np.nan_to_num(got), without):
            why = "k is not added: pairs that never stood there have probability 0"
        elif not np.allclose(got.sum(1), 1):
            sums = np.round(got.sum(1), 4).tolist()
            why = f"the rows sum to {sums}: with k added to each of V counts, the sum has k V more"
        else:
            why = f"row 0 is {np.round(got[0], 4).tolist()}, expected {np.round(expected[0], 4).tolist()}"
        raise NotYet(f"{call}: {why}")
    print("bigram is right: every pair has a probability, and every row sums to 1")


def check_lstm_step_backward(backward: Callable[..., Any]) -> None:
    """Exercise 6.2: one step back, against finite differences."""
    rng = np.random.default_rng(0)
    H = 5
    z, c_before, dh, dc = rng.normal(size=(4, H)), rng.normal(size=H), rng.normal(size=H), rng.normal(size=H)

    def forward(z: np.ndarray, c_before: np.ndarray) -> tuple[np.ndarray, ...]:
        i, f, o = (1 / (1 + np.exp(-z[n])) for n in (0, 1, 3))
        g = np.tanh(z[2])
        c = f * c_before + i * g
        return i, f, g, o, c, o * np.tanh(c)

    def loss(z: np.ndarray, c_before: np.ndarray) -> float:
        *_, c, h = forward(z, c_before)
        return float(dh @ h + dc @ c)

    i, f, g, o, c, _ = forward(z, c_before)
    call = "lstm_step_backward(i, f, g, o, c, c_before, dh, dc)"
    answer = written(backward(*(a.copy() for a in (i, f, g, o, c, c_before, dh, dc))), call)
    count = len(answer) if isinstance(answer, tuple | list | np.ndarray) and np.ndim(answer[0]) else 1
    if count != 5:
        raise NotYet(f"{call} returned {count} array(s); asked for are dz_i, dz_f, dz_g, dz_o and dc_before")
    expected, e = [], 1e-6
    for n in range(4):
        bumps = [np.zeros((4, H)) for _ in range(H)]
        for k in range(H):
            bumps[k][n, k] = e
        expected.append(np.array([(loss(z + b, c_before) - loss(z - b, c_before)) / (2 * e) for b in bumps]))
    rows = e * np.eye(H)
    expected.append(np.array([(loss(z, c_before + b) - loss(z, c_before - b)) / (2 * e) for b in rows]))
    whole = dc + dh * o * (1 - np.tanh(c) ** 2)
    for name, got, right in zip(("dz_i", "dz_f", "dz_g", "dz_o", "dc_before"), answer, expected, strict=True):
        got = np.asarray(got, dtype=float)
        if got.shape == (H,) and np.allclose(got, right, atol=1e-6):
            continue
        mistakes = {
            "dz_i": {"the derivative of the gate is missing: times i (1 - i)": whole * g,
                     "the derivative of tanh c is missing: times 1 - tanh² c": (dc + dh * o) * g * i * (1 - i),
                     "c_t is used in h_t as well: add dh o (1 - tanh² c) to dc first": dc * g * i * (1 - i)},
            "dz_f": {"the derivative of the gate is missing: times f (1 - f)": whole * c_before,
                     "the forget gate multiplies c_(t-1), not c_t": whole * c * f * (1 - f)},
            "dz_g": {"g is a tanh: times 1 - g², not g (1 - g)": whole * i * g * (1 - g)},
            "dz_o": {"h_t is o tanh c: the factor is tanh c, not c": dh * c * o * (1 - o),
                     "the output gate does not act on the cell, so dc has no part in it":
                     whole * np.tanh(c) * o * (1 - o)},
            "dc_before": {"only the forget gate stands between c_(t-1) and c_t, and here it is missing": whole,
                          "c_t is used in h_t as well: add dh o (1 - tanh² c) to dc first": dc * f},
        }[name]  # fmt: skip
        why = next((text for text, value in mistakes.items() if got.shape == (H,) and np.allclose(got, value)), "")
        first, expected_first = (np.round(np.atleast_1d(a)[:3], 4).tolist() for a in (got, right))
        at = f"{first} ..., finite differences say {expected_first} ..."
        raise NotYet(f"{name} is {at}" + (f": {why}" if why else ""))
    print("lstm_step_backward is right: all five agree with finite differences")


def check_clipped(clipped: Callable[[list[np.ndarray], float], Any]) -> None:
    """Exercise 6.3: one factor for all."""
    arrays = [np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([0.0, 4.0])]  # norm 5
    for limit in (1.0, 5.0, 10.0):
        call = f"clipped(arrays with the norms 3 and 4, together 5; limit={limit:g})"
        kept = [a.copy() for a in arrays]
        got = [np.asarray(a) for a in written(clipped(kept, limit), call)]
        if not all(np.array_equal(a, b) for a, b in zip(kept, arrays, strict=True)):
            raise NotYet(f"{call} changes the arrays that it is given: return new ones")
        if [a.shape for a in got] != [a.shape for a in arrays]:
            raise NotYet(f"{call}: the shapes are {[a.shape for a in got]}")
        factor = min(1.0, limit / 5)
        if all(np.allclose(a, factor * b) for a, b in zip(got, arrays, strict=True)):
            continue
        norms = [float(np.linalg.norm(a)) for a in got]
        if limit > 5 and max(norms) > 4:
            why = "the norm is below the limit already: leave the arrays alone, do not scale them up"
        elif math.isclose(norms[0], norms[1]):
            why = "each array is clipped by itself, which turns the direction of the gradient: one factor for all"
        else:
            why = f"the norms are now {norms[0]:.4g} and {norms[1]:.4g}; expected {3 * factor:.4g} and {4 * factor:.4g}"
        raise NotYet(f"{call}: {why}")
    try:
        zero = [np.asarray(a) for a in clipped([np.zeros(3)], 1.0)]
    except ZeroDivisionError:
        zero = [np.array(np.nan)]
    if not np.isfinite(zero[0]).all():
        raise NotYet("of gradients that are all 0 nothing finite is left: their norm is 0, do not divide by it")
    print("clipped is right: shorter, in the same direction")


def check_half_life(half_life: Callable[[float], float]) -> None:
    """Exercise 6.4: powers of the forget gate."""
    for f, expected in ((0.5, 1.0), (0.25, 0.5), (0.95, math.log(0.5) / math.log(0.95)), (1.0, math.inf)):
        call = f"half_life({f:g})"
        try:
            with np.errstate(divide="ignore"):
                got = float(written(half_life(f), call))
        except ZeroDivisionError:
            raise NotYet(f"{call} divides by log 1 = 0: nothing is forgotten, the half-life is infinite") from None
        if not (got == expected or math.isclose(got, expected, rel_tol=1e-5)):
            why = "n = log(1/2) / log f, from f^n = 1/2"
            if expected == math.inf:
                why = "log 1 = 0, do not divide by it: nothing is forgotten, and the half-life is infinite"
            elif math.isclose(got, -expected, rel_tol=1e-5):
                why = "the sign: log(1/2) and log f are both negative, so their ratio is positive"
            raise NotYet(f"{call} is {got:.4g}, expected {expected:.4g}: {why}")
    print(f"half_life is right: with f = 0.95 half is left after {math.log(0.5) / math.log(0.95):.1f} steps")

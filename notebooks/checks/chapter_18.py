"""Checkers of chapter 18, smaller, private, fair: each says what is wrong with an answer, or that nothing is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import call, expect, shown


def check_quantize_rows(quantize_rows: Callable[..., Any]) -> None:
    """Exercise 18.1: integers and scales."""
    W = np.array([[0.5, -1.0, 0.26], [-3.0, 0.2, 2.9], [0.0, 0.0, 0.0]])
    with np.errstate(all="ignore"):
        for bits in (8, 4):
            where = f"quantize_rows(W, {bits})"
            result = call(quantize_rows, W, bits)
            if not isinstance(result, tuple | list) or len(result) != 2:
                raise NotYet(f"{where}: return two things, the integers and the scales, not {shown(result)}")
            q, s = (np.asarray(part) for part in result)
            if s.shape == (3, 1):
                s = s[:, 0]
            if q.shape != W.shape:
                raise NotYet(f"{where}: the integers have the shape {q.shape}, expected that of W, {W.shape}")
            if s.shape != (3,):
                whole = "one scale for the whole matrix" if s.size == 1 else f"scales of the shape {s.shape}"
                raise NotYet(f"{where}: {whole}; each of the 3 rows has its own")
            most = 2 ** (bits - 1) - 1
            sizes = np.abs(W).max(1)
            wide = "the integers go from -(2^(bits-1) - 1) to 2^(bits-1) - 1: divide by that"
            mistakes = [
                (sizes / 2 ** (bits - 1), wide),
                (sizes / (2**bits - 1), wide),
                (W.max(1) / most, "the largest weight may be a negative one: take the largest in size, max |w|"),
                (sizes / 127, "127 is the largest integer of 8 bits: make it follow from `bits`"),
                (np.abs(W).max(0) / most, "these are the columns' scales: each row has its own"),
                (most / np.where(sizes == 0, 1, sizes), "turn it round: a step is max |w| / the largest integer wide"),
            ]
            expect(s[:2], (sizes / most)[:2], f"{where}, scales of rows 0 and 1", [(m[:2], why) for m, why in mistakes])
            zero = "the row of zeros"
            if q[2].any():
                small = np.abs(q[2].astype(float)).max() < 1000  # NaN, or what it becomes as an integer, is not
                why = "0 is rounded to 0" if small else "its scale is 0, and 0 / 0 is no number"
                raise NotYet(f"{where}: {zero} becomes {shown(q[2])}: {why}")
            if not np.isfinite(s[2]):
                raise NotYet(f"{where}: the scale of {zero} is {s[2]}")
            expected = np.round(W[:2] / (sizes[:2, None] / most))
            cut = np.trunc(W[:2] / (sizes[:2, None] / most))
            hint = "cut off is not rounded: the error is up to a whole step, and not half of one"
            expect(q[:2], expected, f"{where}, integers of rows 0 and 1", [
                (cut, hint),
                (np.floor(W[:2] / (sizes[:2, None] / most)), hint),
                (expected * sizes[:2, None] / most, "this is s q, the rounded weights: return the integers q"),
            ])  # fmt: skip
    print("quantize_rows is right: each row reaches the largest integer, and zeros stay zeros")


def check_keep(keep: Callable[..., Any]) -> None:
    """Exercise 18.2: masks of exactly the right size."""
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(6, 5))
    cases = {"30 different weights": plain, "weights of which many are equal": np.round(plain), "one axis": plain[0]}
    for name, w in cases.items():
        for sparsity in (0.0, 0.5, 0.77):
            where = f"{name}, sparsity {sparsity}"
            mask = np.asarray(call(keep, w, sparsity, what=where))
            if mask.shape != w.shape:
                raise NotYet(f"{where}: the mask has the shape {mask.shape}, expected {w.shape}")
            if mask.dtype != bool:
                raise NotYet(f"{where}: booleans are expected, not {mask.dtype}")
            count, gone = int(sparsity * w.size), int((~mask).sum())
            kept, lost = np.abs(w)[mask], np.abs(w)[~mask]
            if count == 0 and gone == w.size:
                raise NotYet(f"{where}: all {gone} go, expected none: True is for what stays (or index -1, the last?)")
            if gone == w.size - count and count != gone:
                raise NotYet(f"{where}: {gone} of {w.size} go, expected {count}: True is for what stays")
            if kept.size and lost.size and lost.max() > kept.min():
                by_value = w[mask].size and w[~mask].size and w[~mask].max() <= w[mask].min()
                hint = ": a large negative weight is large; compare |w|" if by_value else ""
                raise NotYet(f"{where}: {lost.max():.3g} goes in size, and {kept.min():.3g} stays{hint}")
            if gone != count:
                hint = ": among equal weights a threshold takes all or none" if "equal" in name else ""
                raise NotYet(f"{where}: {gone} of {w.size} go, expected floor({sparsity} * {w.size}) = {count}{hint}")
    print("keep is right: the smallest go, and exactly as many as asked for")


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def check_distillation_gradient(distillation_gradient: Callable[..., Any]) -> None:
    """Exercise 18.3: q - p, and the powers of the temperature."""
    s, z = np.array([1.0, 0.5, -1.0]), np.array([3.0, 0.0, -2.0])
    for tau in (2.0, 1.0):
        q, p = _softmax(s / tau), _softmax(z / tau)
        hot = _softmax(s) - _softmax(z)
        cold = "both are softened: divide the logits by tau before the softmax"
        mistakes = [
            (q - p, "this is tau KL's: from the softmax comes 1 / tau, from the loss tau^2"),
            ((q - p) / tau, "this is the gradient of KL alone: multiply by tau^2"),
            (tau**2 * (q - p), "the softmax of s / tau gives a factor 1 / tau"),
            (tau * (p - q), "the sign is turned: where the student gives too much, its logit must fall"),
            (tau * hot, cold),
            (tau**2 * hot, cold),
            (hot, cold),
            (tau * (q - _softmax(z)), cold),
            (tau * (_softmax(s) - p), cold),
            (tau * (q - p) / len(s), "the sum over the tokens, and not their mean"),
            ((s - z) / len(s), "this is the limit for a large tau"),
            (tau * q * (np.log(q / p) - (q * np.log(q / p)).sum()), "this is KL(q || p): the teacher's p comes first"),
        ]
        expect(call(distillation_gradient, s, z, tau), tau * (q - p), f"s = {s}, z = {z}, tau = {tau:g}",
               mistakes if tau != 1 else mistakes[3:4])  # fmt: skip
    large = call(distillation_gradient, np.array([1000.0, 0.0]), np.array([0.0, 1000.0]), 1.0)
    expect(large, [1.0, -1.0], "logits of 1000", [([np.nan, np.nan], "e^1000 overflows: take off the largest first")])
    print("distillation_gradient is right: tau (q - p)")


def check_clipped_mean(clipped_mean: Callable[..., Any]) -> None:
    """Exercise 18.4: clipped one by one, divided by the expected batch."""
    g, C, L = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [-60.0, 80.0]]), 1.0, 8
    lengths = np.linalg.norm(g, axis=1, keepdims=True)
    factors = np.minimum(1, C / np.where(lengths == 0, 1, lengths))
    expected = (g * factors).sum(0) / L
    total = g.sum(0)
    unit = (g / np.where(lengths == 0, 1, lengths)).sum(0) * C / L
    mistakes = [
        ((g * factors).sum(0) / len(g), "divide by L, the expected batch: how many were drawn is private as well"),
        ((g * factors).sum(0), "this is the sum: divide it by L"),
        (total / L * min(1, C / np.linalg.norm(total)), "the sum is clipped: clip each example's gradient, then add"),
        (total / L * min(1, C / np.linalg.norm(total / L)), "the mean is clipped: clip each example's, then add"),
        (unit, "a gradient that is shorter than C stays as it is: min(1, C / |g|)"),
        (total / L * min(1, C / np.linalg.norm(g)), "one factor for all: each row has a length of its own"),
        ((g * np.minimum(1, C / np.linalg.norm(g, axis=0))).sum(0) / L, "a row is an example: not a column's length"),
        ((g * np.minimum(1, C / np.maximum(np.abs(g).sum(1, keepdims=True), 1e-300))).sum(0) / L,
         "the length is the root of the sum of squares"),
        ((g * np.maximum(1, C / np.where(lengths == 0, 1, lengths))).sum(0) / L, "min, not max: none is made longer"),
        (np.clip(g, -C, C).sum(0) / L, "each number is cut off alone: the length of a row must be at most C"),
        (total / L, "nothing is clipped"),
        ([np.nan, np.nan], "a gradient of zeros has the length 0: C / 0 must not be used"),
    ]
    with np.errstate(all="ignore"):
        got = call(clipped_mean, g, C, L)
    close = 1e-5  # C / (length + a tiny number) is as good: it clips a little more
    expect(got, expected, f"gradients {g.tolist()}, C = {C:g}, L = {L}", mistakes, rtol=close)
    expect(call(clipped_mean, 10 * g, 2.0, 4), 2 / 4 * ((g * 10)[[0, 1, 3]] / lengths[[0, 1, 3]] / 10).sum(0),
           "gradients ten times as long, C = 2, L = 4", rtol=close)  # fmt: skip
    expect(call(clipped_mean, np.zeros((0, 2)), C, L), [0.0, 0.0], "no example was drawn")
    print("clipped_mean is right: no example moves it by more than C / L")


def _part(values: np.ndarray, n: int, difference: Callable[..., Any], found: float | None = None) -> float:
    """The part of all cuts into n and the rest whose difference is as large as `found`, or that of the first cut."""
    ways = [abs(difference(values[list(c)], np.delete(values, c))) for c in combinations(range(len(values)), n)]
    return float(np.mean(np.array(ways) >= (ways[0] if found is None else found) - 1e-12))


def check_permutation_p(permutation_p: Callable[..., Any]) -> None:
    """Exercise 18.5: all ways to cut."""
    three, four = [3.0, 2.5, 4.0], [1.0, 0.5, 1.5, 2.0]
    cases = (three, four), ([1.0, 5.0], [2.0, 3.0, 4.0]), ([1.0], [1.0, 1.0]), ([2.0, 4.0, 9.0, 1.0], [1.5])
    for first, second in cases:
        values, n = np.array([*first, *second]), len(first)
        ways = np.array([
            values[list(c)].mean() - np.delete(values, c).mean() for c in combinations(range(len(values)), n)
        ])  # fmt: skip
        found = np.mean(first) - np.mean(second)
        expected = float((np.abs(ways) >= abs(found) - 1e-12).mean())
        mistakes = [
            (float((ways >= found - 1e-12).mean()), "this is one-sided: compare sizes, |difference|"),
            (float((np.abs(ways) > abs(found) + 1e-12).mean()), "at least as large: the cut that was found counts too"),
            (1 - expected, "this is the part with a smaller difference"),
            (float((np.abs(ways) >= abs(found) - 1e-12).sum()), "this is how many: divide by the number of ways"),
            (_part(values, n, lambda a, b: a.sum() - b.sum()), "means are compared, not sums"),
            (_part(values, len(values) // 2, lambda a, b: a.mean() - b.mean(), abs(found)),
             "each cut gives the first list as many numbers as it has"),
        ]  # fmt: skip
        got = call(permutation_p, first, second)
        where = f"permutation_p({first}, {second}): there are {len(ways)} cuts to try"
        expect(got, expected, where, mistakes)
    print("permutation_p is right: every cut was tried")

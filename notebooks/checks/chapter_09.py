"""Checkers of chapter 9, a GPT: each says what is wrong with an answer, or that nothing is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import written


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def check_probabilities(probabilities: Callable[[np.ndarray, float, int], Any]) -> None:
    """Exercise 9.1: temperature and top-k."""
    z = np.array([1.0, 3.0, 0.5, 2.5, -1.0])
    for temperature, k in ((1.0, 5), (0.5, 5), (2.0, 2), (1.0, 1), (0.0, 5)):
        call = f"probabilities({z.tolist()}, temperature={temperature:g}, k={k})"
        kept = z.copy()
        with np.errstate(all="ignore"):
            got = np.asarray(written(probabilities(kept, temperature, k), call), dtype=float)
        if not np.array_equal(kept, z):
            raise NotYet(f"{call} changes the logits that it is given: work on a copy")
        if got.shape != z.shape:
            raise NotYet(f"{call} has the shape {got.shape}; the tokens that are out have probability 0, so it is (5,)")
        out = z.copy()
        out[np.argsort(-z)[k:]] = -np.inf
        expected = _softmax(out / temperature) if temperature else np.eye(5)[z.argmax()]
        if np.allclose(got, expected):
            continue
        if not np.isfinite(got).all():
            why = "temperature 0 cannot be divided by: take the largest logit" if not temperature else "not finite"
        elif not np.isclose(got.sum(), 1):
            why = f"the probabilities sum to {got.sum():.4f}: cut first, then take the softmax"
        elif temperature and np.allclose(got, _softmax(out * temperature)):
            why = "the logits are multiplied by the temperature: divide"
        elif (got > 0).sum() != (expected > 0).sum():
            why = f"{(got > 0).sum()} tokens are left, and k = {k}"
        else:
            why = f"expected {np.round(expected, 4).tolist()}"
        raise NotYet(f"{call} is {np.round(got, 4).tolist()}: {why}")
    with np.errstate(over="ignore", invalid="ignore"):
        large = np.asarray(probabilities(np.array([1000.0, 999.0]), 1.0, 2), dtype=float)
    if not np.isfinite(large).all():
        raise NotYet("for logits of 1000 the exponential overflows: take the largest one out first")
    print("probabilities is right: sharper, flatter, and cut to k")


def check_nucleus(nucleus: Callable[[np.ndarray, float], Any]) -> None:
    """Exercise 9.2: top-p."""
    p = np.array([0.05, 0.5, 0.15, 0.3])
    for limit, expected in ((0.5, [1]), (0.6, [1, 3]), (0.9, [1, 2, 3]), (1.0, [0, 1, 2, 3]), (0.0, [1])):
        call = f"nucleus({p.tolist()}, p={limit:g})"
        got = np.asarray(written(nucleus(p.copy(), limit), call))
        if got.dtype != bool or got.shape != p.shape:
            raise NotYet(f"{call} is an array of {got.dtype}, {got.shape}; asked for is a mask: bool (4,)")
        if np.flatnonzero(got).tolist() == expected:
            continue
        sets = np.flatnonzero(got).tolist()
        if not sets:
            why = "at least one token must stay"
        elif set(sets) != set(np.argsort(-p)[: len(sets)].tolist()):
            why = "the most probable tokens stay: sort by probability, and go back to the tokens' own places"
        elif p[sets].sum() < limit - 1e-9:
            why = f"these sum to {p[sets].sum():g}, less than p: the token that crosses the limit stays as well"
        elif limit == 0.5 and len(sets) == 2:
            why = "the first alone has p already: the smallest set is asked for"
        else:
            why = f"expected the tokens {expected}"
        raise NotYet(f"{call} keeps the tokens {sets}: {why}")
    print("nucleus is right: the smallest set that has p")


def check_cache_bytes(cache_bytes: Callable[[int, int, int, int, int], Any]) -> None:
    """Exercise 9.3: the size of the cache."""
    call = "cache_bytes(layers=30, kv_heads=3, width=64, tokens=2048, bytes_per_number=4)"
    got = written(cache_bytes(30, 3, 64, 2048, 4), call)
    expected = 2 * 30 * 3 * 64 * 2048 * 4
    if got != expected:
        why = {
            expected / 2: "each token leaves two vectors in every layer: a key and a value",
            expected / 4: "this is how many numbers there are: times the bytes of each",
            expected / 30: "every layer has its own cache",
            expected * 3: "the heads are counted twice: width is that of one head",
        }.get(got, "every layer keeps a key and a value, (kv_heads, width) each, of every token")
        raise NotYet(f"{call} is {got:,}, expected {expected:,}: {why}")
    print(f"cache_bytes is right: SmolLM2 keeps {expected / 1e6:.0f} MB for 2,048 tokens in float32")


def check_windows(windows: Callable[[np.ndarray, int], Any]) -> None:
    """Exercise 9.4: inputs and labels."""
    for length, T in ((13, 4), (12, 4), (9, 4), (5, 4)):
        ids = np.arange(100, 100 + length)
        call = f"windows(the {length} ids 100 ... {99 + length}, T={T})"
        try:
            inputs, labels = map(np.asarray, written(windows(ids, T), call))
        except (TypeError, ValueError) as error:
            raise NotYet(f"{call}: {error}; with N windows, N T inputs and one label more are needed") from None
        N = (length - 1) // T
        if inputs.shape != (N, T) or labels.shape != (N, T):
            many = inputs.shape == (length // T, T) and length % T == 0
            why = "the last window has no label for its last token" if many else f"{N} windows fit with their labels"
            raise NotYet(f"{call}: inputs {inputs.shape}, labels {labels.shape}; expected {(N, T)} for both: {why}")
        if not np.array_equal(inputs, ids[: N * T].reshape(N, T)):
            raise NotYet(f"{call}: the inputs are {inputs.tolist()}: cut the ids from the beginning, side by side")
        if not np.array_equal(labels, inputs + 1):
            why = "a label is the token after its input"
            if np.array_equal(labels, inputs):
                why += ": these are the inputs themselves, which a model learns to copy at once"
            raise NotYet(f"{call}: the labels are {labels.tolist()}: {why}")
    print("windows is right: every input has the token after it as its label")

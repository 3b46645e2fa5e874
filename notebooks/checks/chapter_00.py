"""The checkers of chapter 0, The documented math."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import call, expect, shown


def _softmax(s: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(s - s.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def check_perplexity(perplexity: Callable[..., Any]) -> None:
    """Exercise 0.1."""
    p = np.array([1 / 4, 1 / 8, 1 / 2, 1 / 2])
    mistakes = [
        (-np.log(p).mean(), "That is the mean negative log-likelihood: perplexity is its exponential."),
        (np.exp(np.log(p).mean()), "The sign: a text that is less probable has a larger perplexity."),
        (1 / p.prod(), "That is 1 / P(text): take the mean over the tokens, not the sum."),
        ((1 / p).mean(), "That is the arithmetic mean of 1/P; the logarithm makes it the geometric one."),
        (2 ** -np.log(p).mean(), "The logarithm is to the base e, so the power must be as well."),
        (math.e ** -np.log2(p).mean(), "The logarithm is to the base 2, so the power must be as well."),
    ]
    expect(call(perplexity, p), math.exp(-np.log(p).mean()), "for the probabilities 1/4, 1/8, 1/2, 1/2", mistakes)
    long = np.full(2000, 1 / 50)
    with np.errstate(divide="ignore", over="ignore"):
        got = call(perplexity, long, what="2000 tokens of probability 1/50")
    hint = "The product of 2000 probabilities is 0 in floating point: add logarithms instead."
    expect(got, 50.0, "for 2000 tokens of probability 1/50", [(np.inf, hint), (np.nan, hint), (1.0, hint)])
    print("Right: perplexity is the exponential of the mean negative log-likelihood.")


def check_softmax(softmax: Callable[..., Any]) -> None:
    """Exercise 0.2."""
    s = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    e = np.exp(s)
    with np.errstate(divide="ignore", invalid="ignore"):
        mistakes = [
            (e / e.sum(), "All weights together sum to 1; each row must (the last axis, with keepdims=True)."),
            (e / e.sum(axis=0, keepdims=True), "The columns sum to 1, the rows must: sum along axis -1."),
            (s / s.sum(-1, keepdims=True), "The exponential is missing: scores may be negative, weights may not."),
            (e, "Positive they are; divide by the sum of each row."),
            (s - np.log(e.sum(-1, keepdims=True)), "That is the logarithm of softmax."),
        ]
    expect(call(softmax, s), _softmax(s), "for the scores [[2, 1, 0], [0, 0, 3]]", mistakes)
    large = np.array([1000.0, 999.0, 998.0])
    hint = "e^1000 is infinite in floating point: subtract the largest score of the row first."
    with np.errstate(over="ignore", invalid="ignore"):
        got = np.asarray(call(softmax, large))
    if not np.isfinite(got).all():
        raise NotYet(f"for the scores [1000, 999, 998]: got {shown(got)}. {hint}")
    expect(got, _softmax(large), "for the scores [1000, 999, 998]")
    apart = np.array([[1000.0, 999.0], [-1000.0, -1001.0]])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        got = np.asarray(call(softmax, apart))
    if not np.isfinite(got).all():
        raise NotYet(
            f"for [[1000, 999], [-1000, -1001]]: got {shown(got)}. The largest score of the whole array was taken out: "
            f"then every exponential of the other row is 0. Take out the largest of each row."
        )
    expect(got, _softmax(apart), "for [[1000, 999], [-1000, -1001]]")
    expect(call(softmax, np.ones((2, 3, 4))), np.full((2, 3, 4), 0.25), "for ones of shape (2, 3, 4)")
    print("Right: every row is positive, sums to 1, and nothing overflows.")


def check_attention(attention: Callable[..., Any]) -> None:
    """Exercise 0.3."""
    rng = np.random.default_rng(3)
    Q, K, V = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 2))
    S = Q @ K.T
    P = _softmax(S / 2)
    mistakes = [
        (_softmax(S) @ V, "The scores are not divided by the square root of d_k."),
        (_softmax(S / 4) @ V, "The scores are divided by d_k; it must be its square root."),
        (_softmax(S * 2) @ V, "The scores are multiplied by the square root of d_k: divide."),
        (_softmax(S / math.sqrt(5)) @ V, "d_k is the width of a query, Q.shape[-1] = 4, not the number of keys."),
        (_softmax(S / math.sqrt(3)) @ V, "d_k is the width of a query, Q.shape[-1] = 4, not the number of queries."),
        (_softmax(S / 2, 0) @ V, "The weights of each key sum to 1; those of each query must: softmax over the keys."),
        ((S / 2) @ V, "The softmax is missing: the scores themselves are used as weights."),
        (np.exp(S / 2) @ V, "The weights are not divided by their sum."),
        (P, "Those are the weights: multiply them with the values, and sum over the keys."),
    ]
    mistakes += [(wrong, "This divides by V: the output is the sum of weight times value.") for wrong in (P @ (1 / V),)]
    where = "for random Q (3, 4), K (5, 4), V (5, 2)"
    got = call(attention, Q, K, V, what=where[4:])
    if isinstance(got, tuple):
        raise NotYet(f"{where}: got {len(got)} things; return the output alone")
    expect(got, P @ V, where, mistakes)
    q, k, v = np.array([[1.0], [0.0], [1.0]]), np.array([[1.0], [1.0], [0.0]]), np.array([[0.0], [1.0], [1.0]])
    expected = _softmax(q @ k.T) @ v
    expect(call(attention, q, k, v), expected, "for the example of the article as three positions of width 1")
    print("Right: a weighted sum of the values for each query.")


def check_printed_result(V: Any) -> None:
    """Exercise 0.4."""
    if V is ... or V is None:
        raise NotYet("give three numbers, for example np.array([0, 1, 1])")
    values = np.asarray(V, dtype=np.float64).reshape(-1)
    if values.shape != (3,):
        raise NotYet(f"V has three values, one for each position; got {shown(np.asarray(V))}")
    P = _softmax(np.outer([1.0, 0.0, 1.0], [1.0, 1.0, 0.0]))
    output = P @ values
    if not np.allclose(output, 1 / 3, rtol=0, atol=1e-4):  # 0.3333 is near enough
        hint = ""
        if abs(output[1] - 1 / 3) < 1e-6:
            hint = " The second output is right: its weights are equal, so the three values must sum to 1, and they do."
            hint += " The first gives keys 1 and 2 more weight than key 3: it fixes how the 1 is split between them."
        elif np.allclose(values, values[0]):
            hint = " If all values are equal, every output is that value, whatever the weights."
        raise NotYet(f"with V = {shown(values)} the outputs are {shown(output)}, and all should be 0.3333.{hint}")
    if np.allclose(values, values[0], atol=1e-6):
        raise NotYet(
            "all values are 1/3: right, since every output is a weighted mean of the values, but find one whose values "
            "are not all equal. The first two keys are equal, so they always get equal weights."
        )
    print("Right: V1 + V2 = 2/3 and V3 = 1/3 give that result, and no other V does.")

"""Checkers of chapter 8, the Transformer: each says what is wrong with an answer, or that nothing is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import call, expect

Tree = Mapping[tuple[str, ...], Mapping[str, float]]


def check_shifted_right(shifted_right: Callable[[np.ndarray, int, int], Any]) -> None:
    """Exercise 8.1: what the decoder reads."""
    labels = np.array([[5, 6, 7, 2], [8, 2, -100, -100]])
    bos, pad = 1, 0
    where = f"shifted_right({labels.tolist()}, bos=1, pad=0)"
    unpadded = np.array([[1, 5, 6, 7], [1, 8, 2, -100]])
    expect(
        call(shifted_right, labels, bos, pad, what=where),
        [[1, 5, 6, 7], [1, 8, 2, 0]],
        where,
        [
            (labels, "These are the labels: the decoder would read the token that it is asked for."),
            (np.where(labels == -100, pad, labels), "These are the labels: put bos first, and move them to the right."),
            (unpadded, "-100 is no token, and the table of embeddings has no such row: read pad there."),
            ([[6, 7, 2, 1], [2, 0, 0, 1]], "This moves to the left: the decoder would see the future."),
            ([[6, 7, 2, 5], [2, 0, 0, 8]], "This moves to the left: the decoder would see the future."),
            ([[6, 7, 2, 5], [2, -100, -100, 8]], "This moves to the left: the decoder would see the future."),
            ([[0, 5, 6, 7], [0, 8, 2, 0]], "The first thing that the decoder reads is bos."),
            ([[2, 5, 6, 7], [0, 8, 2, 0]], "np.roll brings the last label to the front: there belongs bos."),
            ([[2, 5, 6, 7], [-100, 8, 2, -100]], "np.roll brings the last label to the front: there belongs bos."),
            (
                np.concatenate([[[1], [1]], np.where(labels == -100, pad, labels)], axis=1),
                "One token too many: it is as long as the labels, and the last label is never read.",
            ),
            (
                np.concatenate([[[1], [1]], labels], axis=1),
                "One token too many: it is as long as the labels, and the last label is never read.",
            ),
        ],
    )
    print("shifted_right is right: each position reads the token before the one that it is asked for")


def check_smoothed_loss(smoothed_loss: Callable[[np.ndarray, int, float], Any]) -> None:
    """Exercise 8.2: cross-entropy with label smoothing."""
    for z, r, eps in (
        (np.array([2.0, -1.0, 0.5, 0.0]), 0, 0.0),
        (np.array([2.0, -1.0, 0.5, 0.0]), 0, 0.1),
        (np.array([2.0, -1.0, 0.5, 0.0]), 2, 0.4),
        (np.array([1000.0, 999.0, 0.0]), 1, 0.1),
    ):
        where = f"smoothed_loss({z.tolist()}, r={r}, eps={eps})"
        with np.errstate(all="ignore"):
            got = call(smoothed_loss, z, r, eps, what=where)
        V = len(z)
        log_p = z - z.max() - np.log(np.exp(z - z.max()).sum())
        expected = -(1 - eps) * log_p[r] - eps * log_p.mean()
        if np.shape(got) == () and not np.isfinite(np.asarray(got, dtype=float)):
            raise NotYet(f"{where}: got {got}. The exponential overflows: take the largest logit out first.")
        expect(
            got,
            expected,
            where,
            [
                (-expected, "The sign is wrong: a loss is minus the logarithm."),
                (-log_p[r], "This is the loss without smoothing: eps of the weight goes to all tokens alike."),
                (
                    -(1 - eps) * log_p[r] - eps * (log_p.sum() - log_p[r]) / (V - 1),
                    "Here the wrong tokens alone share eps; in the formula each of all V tokens gets eps / V.",
                ),
                (
                    -log_p[r] - eps * log_p.mean(),
                    "The weights sum to more than 1: the right token has only 1 - eps left, and its share eps / V.",
                ),
                (
                    -(1 - eps) * log_p[r] - eps * log_p.sum(),
                    "Each token gets eps / V, not eps: the weights must sum to 1.",
                ),
                (
                    -np.log((1 - eps) * np.exp(log_p[r]) + eps / V),
                    "The probabilities are smoothed here; smoothed are the labels: -sum_j q_j log p_j.",
                ),
            ],
        )
    print("smoothed_loss is right")


def check_learning_rate(learning_rate: Callable[[int, int, int], Any]) -> None:
    """Exercise 8.3: the schedule of Vaswani et al. 2017, equation 3."""
    n, C, w = np.array([1, 1000, 4000, 16000]), 512, 4000
    where = f"learning_rate(n, C=512, w=4000) for n = {n.tolist()}"
    got = [call(learning_rate, int(step), C, w, what=f"n={step}, C={C}, w={w}") for step in n]
    up, down = n * w**-1.5, n**-0.5
    expect(
        got,
        C**-0.5 * np.minimum(up, down),
        where,
        [
            (C**-0.5 * np.maximum(up, down), "The smaller of the two counts: min, not max."),
            (np.minimum(up, down), "The factor C^(-1/2) is missing: a wider model learns more slowly."),
            (C**0.5 * np.minimum(up, down), "The width comes with the exponent -1/2."),
            (
                C**-0.5 * np.minimum((n + 1) * w**-1.5, (n + 1) ** -0.5),
                "This is the rate of step n + 1: n begins at 1 here, and nothing is to be added.",
            ),
            (C**-0.5 * down, "There is no warm-up: the rate must grow while n is below w."),
            (C**-0.5 * up, "After the warm-up the rate falls as n^(-1/2)."),
            (
                C**-0.5 * np.minimum(n * w**-0.5, down),
                "The exponent of w is -3/2: only then both terms agree at n = w.",
            ),
        ],
        atol=1e-12,
    )
    print("learning_rate is right: up in a straight line, then down as one over the root")


KITTEN: Tree = {
    (): {"ein": 0.55, "eine": 0.45},
    ("ein",): {"Kätzchen": 0.36, "Katzenkind": 0.34, "Junges": 0.30},
    ("eine",): {"Katze": 0.54, "kleine": 0.46},
    ("eine", "Katze"): {"<eos>": 0.85, "hier": 0.15},
    ("eine", "kleine"): {"Katze": 0.97, "Maus": 0.03},
}
EARLY: Tree = {(): {"<eos>": 0.4, "a": 0.6}, ("a",): {"b": 0.5, "c": 0.5}}
FULL: Tree = {  # after <eos> two beginnings still go on; a beam that keeps one only drops "a y", the most probable text
    (): {"<eos>": 0.3, "a": 0.7},
    ("a",): {"x": 0.55, "y": 0.45},
    ("a", "x"): {"p": 0.5, "q": 0.5},
    ("a", "y"): {"<eos>": 1.0},
}
NARROW: Tree = {  # a beam of 2 drops "a y", the most probable text; two for each beginning keep it
    (): {"a": 0.7, "b": 0.3},
    ("a",): {"x": 0.4, "y": 0.35, "z": 0.25},
    ("a", "x"): {"p": 0.5, "q": 0.3, "r": 0.2},
    ("a", "y"): {"<eos>": 0.9, "s": 0.1},
    ("b",): {"u": 0.95, "v": 0.05},
    ("b", "u"): {"p": 0.4, "q": 0.35, "r": 0.25},
}


def _search(
    tree: Tree, k: int, alpha: float, each: bool = False, first: bool = False, end: int = 1, narrower: bool = False
) -> tuple[str, ...]:
    """The text that a beam finds; or one that keeps k of each beginning, stops at the first end, counts no <eos>, or
    becomes narrower with each text that ends.
    """
    beginnings: list[tuple[tuple[str, ...], float]] = [((), 0.0)]
    ended: list[tuple[tuple[str, ...], float]] = []
    while beginnings and not (first and ended):
        groups = [
            [((*b, t), total + np.log(p)) for t, p in tree.get(b, {"<eos>": 1.0}).items()] for b, total in beginnings
        ]
        together = groups if each else [[candidate for group in groups for candidate in group]]
        best = [c for group in together for c in sorted(group, key=lambda c: -c[1])[: k - narrower * len(ended)]]
        ended += [c for c in best if c[0][-1] == "<eos>"]
        beginnings = [c for c in best if c[0][-1] != "<eos>"]
    return max(ended, key=lambda c: c[1] / ((4 + end + len(c[0])) / 6) ** alpha)[0]


def check_search(search: Callable[[Any, int, float], Any]) -> None:
    """Exercise 8.4: beam search with the length penalty."""
    for tree, start, k, alpha in (
        (KITTEN, "the chapter's tree", 1, 0.0),
        (KITTEN, "the chapter's tree", 2, 0.0),
        (KITTEN, "the chapter's tree", 2, 0.6),
        (KITTEN, "the chapter's tree", 2, 0.14),
        (KITTEN, "the chapter's tree", 5, 0.0),
        (EARLY, "a tree where <eos> may come first", 2, 0.0),
        (FULL, f"the tree {FULL}", 2, 0.0),
        (NARROW, f"the tree {NARROW}", 2, 0.0),
    ):
        where = f"search({start}, k={k}, alpha={alpha})"
        calls = 0

        def next_tokens(beginning: Any, tree: Tree = tree) -> Mapping[str, float]:
            nonlocal calls
            calls += 1
            if calls > 500:
                raise NotYet("the search does not end: what ends in <eos> must not go on")
            if not isinstance(beginning, tuple):
                raise NotYet(f"next_tokens was asked for {beginning!r}: a beginning is a tuple of tokens")
            if "<eos>" in beginning:
                raise NotYet(f"next_tokens was asked for {beginning!r}: what ends in <eos> must not go on")
            return tree.get(beginning, {"<eos>": 1.0})

        try:
            got = call(search, next_tokens, k, alpha, what=where)
        except NotYet as problem:
            if isinstance(problem.__cause__, NotYet):
                raise NotYet(f"{where}: {problem.__cause__}") from None
            raise
        expected = _search(tree, k, alpha)
        if not isinstance(got, tuple) or not all(isinstance(token, str) for token in got):
            raise NotYet(f"{where} returned {got!r}: a tuple of tokens is asked for, such as {expected}")
        if got == expected:
            continue
        if got == expected[:-1]:
            why = "<eos> belongs to the text"
        elif k > 1 and got == _search(tree, 1, alpha):
            why = "this is what greedy search finds: at each step the k best of ALL candidates go on"
        elif got == _search(tree, k, alpha, each=True):
            why = "it keeps k continuations of each beginning: the k best of ALL candidates together go on"
        elif got == _search(tree, k, alpha, narrower=True):
            why = "each step keeps k candidates, however many texts have ended before"
        elif alpha and got == _search(tree, k, 0.0):
            why = "the length penalty is missing: divide log P by ((5 + length) / 6)^alpha before you compare"
            if got == _search(tree, k, alpha, first=True):
                why += " (or did you stop at the first text that ends? Others may still end with a better score)"
        elif alpha and got == _search(tree, k, alpha, end=0):
            why = "the length counts <eos> too"
        elif not alpha and got == _search(tree, k, 0.6):
            why = "with alpha = 0 the length must not count"
        elif k == 1 and got == _search(tree, 2, alpha):
            why = "a beam of 1 keeps one beginning: it cannot find this text"
        else:
            why = "compare with the steps that the chapter prints"
        raise NotYet(f"{where} returned {' '.join(got)}, expected {' '.join(expected)}: {why}")
    print("search is right: a beam of 1 is greedy, a wider one looks further")


def check_parameters(parameters: Callable[[int, int, int, int], Any]) -> None:
    """Exercise 8.5: the parameters of an encoder-decoder."""
    for V, C, C_h, L in ((87, 64, 128, 2), (37000, 512, 2048, 6)):
        where = f"parameters(V={V}, C={C}, C_h={C_h}, L={L})"
        attention, forward, norm = 4 * (C * C + C), 2 * C * C_h + C_h + C, 2 * C
        right = V * C + L * (3 * attention + 2 * forward + 5 * norm)
        expect(
            call(parameters, V, C, C_h, L, what=where),
            right,
            where,
            [
                (right + V * C, "The table is shared: source, target and scores use the same one."),
                (right + 2 * V * C, "The table is shared: source, target and scores use the same one."),
                (right - L * attention, "A block of the decoder has two attentions: to the target, and to the memory."),
                (right - L * norm, "A block of the decoder has three norms, one after each part."),
                (right - L * (attention + norm), "A block of the decoder has one attention and one norm more."),
                (right - L * 5 * norm, "The norms have parameters too: a scale and a shift for each channel."),
                (right - L * 5 * C, "A norm has 2 C parameters: a scale and a shift for each channel."),
                (right - 12 * L * C, "The matrices of attention have biases, C each."),
                (
                    right - 3 * L * (C * C + C),
                    "Attention has four matrices: for queries, keys and values, and the last one that mixes the heads.",
                ),
                (right - L * 2 * (C_h + C), "The feed-forward networks have biases, C_h and C."),
                (
                    right - L * (12 * C + 2 * (C_h + C)),
                    "Biases are missing: C for each matrix of attention, C_h and C in the feed-forward networks.",
                ),
                (right + 2 * norm, "No norm stands behind the last block: each part has one, behind its sum."),
                (right + norm, "No norm stands behind the last block: each part has one, behind its sum."),
                (right - V * C, "The table of embeddings is missing."),
            ],
            atol=0.5,
            rtol=0,
        )
    print("parameters is right: the paper's base model has 63 million; ours 173 thousand")

"""Checkers of chapter 12, how good is it?: each says what is wrong with an answer, or that nothing is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import shown, written


def _number(answer: Any, call: str) -> float:
    number = np.asarray(written(answer, call))
    if number.shape != () or number.dtype.kind not in "biuf":
        raise NotYet(f"{call}: one number is asked for, got {shown(answer)}")
    return float(number)


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _named(got: float, mistakes: dict[str, float], otherwise: str) -> str:
    """The mistake that leads to this number."""
    return next((why for why, value in mistakes.items() if _near(got, value)), otherwise)


def check_perplexity_of_batches(perplexity_of_batches: Callable[[list[float], list[int]], float]) -> None:
    """Exercise 12.1: a mean over tokens."""
    losses, tokens = [2.0, 3.0, 1.0], [100, 100, 10]
    call = f"perplexity_of_batches({losses}, {tokens})"
    got = _number(perplexity_of_batches(list(losses), list(tokens)), call)
    total = sum(a * n for a, n in zip(losses, tokens, strict=True))
    expected = math.exp(total / sum(tokens))
    if not _near(got, expected):
        why = _named(
            got,
            {
                "this is the mean loss: perplexity is e to the power of it": total / sum(tokens),
                "the batches count alike, but the last has 10 tokens and the others 100": math.exp(sum(losses) / 3),
                "the mean of the batches' perplexities is not the perplexity of all: take the mean of the losses first":
                    sum(n * math.exp(a) for a, n in zip(losses, tokens, strict=True)) / sum(tokens),
                "the batches count alike, and the mean must be taken before e^": sum(map(math.exp, losses)) / 3,
                "the losses are in nats: the base is e, not 2": 2 ** (total / sum(tokens)),
            },
            "the whole text's loss is the sum of loss * tokens over the batches, divided by all tokens",
        )  # fmt: skip
        raise NotYet(f"{call} is {got:.6g}, expected {expected:.6g}: {why}")
    print("perplexity_of_batches is right: every token counts once")


def _bleu(
    predictions: list[str], references: list[str], clip: bool = True, brevity: bool = True, geometric: bool = True
) -> float:
    pairs = [(p.split(), r.split()) for p, r in zip(predictions, references, strict=True)]
    log_sum = plain_sum = 0.0
    for n in (1, 2, 3, 4):
        hits = total = 0
        for p, r in pairs:
            mine, theirs = (Counter(tuple(w[i : i + n]) for i in range(len(w) - n + 1)) for w in (p, r))
            hits += sum((mine & theirs).values()) if clip else sum(k for g, k in mine.items() if g in theirs)
            total += sum(mine.values())
        if not hits:
            return 0.0
        log_sum += math.log(hits / total)
        plain_sum += hits / total
    c, r_length = sum(len(p) for p, _ in pairs), sum(len(r) for _, r in pairs)
    penalty = min(1.0, math.exp(1 - r_length / c)) if brevity else 1.0
    return 100 * penalty * (math.exp(log_sum / 4) if geometric else plain_sum / 4)


def check_corpus_bleu(corpus_bleu: Callable[[list[str], list[str]], float]) -> None:
    """Exercise 12.2: BLEU of a whole test set."""
    references = ["the cat sat on the mat all day long", "it is raining again in the north", "he laughed"]
    predictions = ["the cat sat on the the mat all day", "it is raining in the north", "he laughed"]
    call = "corpus_bleu on three sentences"
    got, expected = _number(corpus_bleu(predictions[:], references[:]), call), _bleu(predictions, references)
    if not _near(got, expected):
        one_by_one = [_bleu([p], [r]) for p, r in zip(predictions, references, strict=True)]
        why = _named(
            got,
            {
                "BLEU lies between 0 and 100 here: times 100": expected / 100,
                "an n-gram counts at most as often as it stands in the reference: clip": _bleu(
                    predictions, references, clip=False
                ),
                "the predictions are shorter than the references: the brevity penalty is missing": _bleu(
                    predictions, references, brevity=False
                ),
                "hits and totals are added up over all sentences first; this is the mean of the sentences' BLEUs": sum(
                    one_by_one
                )
                / 3,
                "the mean of the four p_n is geometric, (p_1 p_2 p_3 p_4)^(1/4); this is their sum divided by 4": _bleu(
                    predictions, references, geometric=False
                ),
            },
            "add hits and totals over all sentences for n = 1, 2, 3, 4; then the geometric mean and the penalty",
        )
        raise NotYet(f"{call} is {got:.4f}, expected {expected:.4f}: {why}")
    long = _number(corpus_bleu(["the cat sat on the mat today again"], ["the cat sat on the mat"]), call)
    if not _near(long, _bleu(["the cat sat on the mat today again"], ["the cat sat on the mat"])):
        raise NotYet(f"a prediction longer than its reference has {long:.4f}: the penalty is at most 1")
    try:
        nothing = _number(corpus_bleu(["a b c d e"], ["v w x y z"]), call)
    except (ValueError, ZeroDivisionError) as error:
        raise NotYet(f"where nothing is shared: {type(error).__name__}: {error}; return 0 if some p_n is 0") from None
    if nothing != 0:
        raise NotYet(f"where nothing is shared BLEU is 0, got {nothing}")
    print("corpus_bleu is right: clipped, added up, and punished for brevity")


def check_macro_f1(macro_f1: Callable[[np.ndarray], float]) -> None:
    """Exercise 12.3: the mean over classes."""
    C = np.array([[50, 5, 0, 0], [10, 20, 0, 0], [0, 3, 2, 0], [0, 0, 0, 0]])
    call = "macro_f1(C) with a class that nobody met"
    with np.errstate(all="ignore"):
        got = _number(macro_f1(C.copy()), call)
    diagonal, columns, rows = np.diag(C)[:3], C.sum(0)[:3], C.sum(1)[:3]
    each = 2 * diagonal / (columns + rows)
    if not _near(got, each.mean()):
        if math.isnan(got):
            why = "0 / 0 for the class that occurs nowhere: leave it out"
        else:
            why = _named(
                got,
                {
                    "the class that occurs nowhere counts as 0: leave it out": each.sum() / 4,
                    "this is the accuracy": diagonal.sum() / C.sum(),
                    "this is the mean recall": (diagonal / rows).mean(),
                    "this is the mean precision": (diagonal / columns).mean(),
                },
                "F1 of a class is 2 C_kk / (its row's sum + its column's sum); then the mean",
            )
        raise NotYet(f"{call} is {got:.6g}, expected {each.mean():.6g}: {why}")
    print("macro_f1 is right: each class counts alike")


def _lcs(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        before = row[:]
        for j, other in enumerate(b, 1):
            row[j] = before[j - 1] + 1 if word == other else max(before[j], row[j - 1])
    return row[-1]


def _run(a: Sequence[str], b: Sequence[str]) -> int:
    """The longest row that stands in both without a gap."""
    return max((n for n in range(1, len(b) + 1) for i in range(len(a)) for j in range(len(b) - n + 1)
                if a[i : i + n] == b[j : j + n]), default=0)  # fmt: skip


def check_rouge_l(rouge_l: Callable[[str, str], float]) -> None:
    """Exercise 12.4: the longest common subsequence."""
    for prediction, reference in (
        ("a b c d", "a b c d"),
        ("a x b y c", "a b c"),
        ("c b a", "a b c d"),
        ("x y", "a b c"),
        ("", "a b"),
    ):
        call = f"rouge_l({prediction!r}, {reference!r})"
        a, b = reference.split(), prediction.split()
        expected = 200 * _lcs(a, b) / (len(a) + len(b)) if b else 0.0
        try:
            got = _number(rouge_l(prediction, reference), call)
        except ZeroDivisionError:
            raise NotYet(f"{call} divides by zero: two texts that share nothing have 0") from None
        if _near(got, expected):
            continue
        shared = sum((Counter(a) & Counter(b)).values())
        why = _named(
            got,
            {
                "ROUGE-L is told from 0 to 100 here": expected / 100,
                "order matters: this counts shared words, as ROUGE-1 does": 200 * shared / (len(a) + len(b)),
                "this is the recall, L / m": 100 * _lcs(a, b) / len(a),
                "this is the precision, L / n": 100 * _lcs(a, b) / max(len(b), 1),
                "the row may have gaps: T_ij does not go back to 0 where two words differ": 200
                * _run(a, b)
                / (len(a) + len(b)),
                "these are letters: split the strings into words": 200
                * _lcs(reference, prediction)
                / (len(reference) + len(prediction)),
            },
            "2 P R / (P + R) is 2 L / (m + n), L the last entry of the table",
        )
        raise NotYet(f"{call} is {got:.4f}, expected {expected:.4f}: {why}")
    print("rouge_l is right: the longest row of words in the same order")

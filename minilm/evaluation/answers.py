r"""Answers to questions: exact match and token F1, as SQuAD defines them (Rajpurkar et al. 2016, section 6.1).

What people would call the same answer is written in several ways, so both sides are normalised first: lower case, no
punctuation (the 32 ASCII marks), no articles (a, an, the), single spaces. Then, in percent,

    EM = 100 [prediction = reference]      exact match: the two are the same string
    F1 = 100 * 2 P R / (P + R)             P the part of the prediction's words that are in the reference, R the
                                           reverse, words counted as often as they occur on both sides

Where there are several references the best of them counts, for each measure by itself; over a data set, the mean over
its questions. Where one side has no words left, F1 is 100 if the other has none either, else 0: the rule of SQuAD 2.0
(Rajpurkar et al. 2018), in which no answer is an answer; the paper of 2016 knows no such case.

What this file does not do: other languages have other articles, and some put no spaces between words.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from minilm.errors import DataError
from minilm.evaluation.figures import Figures, check_pairs

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces: "The Beatles' U.S. tour" -> "beatles us tour".

    Punctuation goes before articles are looked for, and leaves nothing in its place, as in the published script:
    "a-ha" becomes "aha", not "ha".
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, references: str | Sequence[str]) -> float:
    """100.0 if the prediction is one of the references, after normalisation; else 0.0."""
    return _best(lambda a, b: 100.0 * (normalize_answer(a) == normalize_answer(b)), prediction, references)


def token_f1(prediction: str, references: str | Sequence[str]) -> float:
    """The F1 of the words that the prediction shares with the reference, of the best reference; from 0 to 100."""
    return _best(_f1, prediction, references)


def evaluate_answers(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> Figures:
    """Mean exact match and F1, in percent, of one prediction for each question.

    Args:
        predictions: an answer each; "" for none.
        references: for each question the right answers, or the one.

    Raises:
        DataError: if there are none, the numbers differ, or a question has no reference.
    """
    check_pairs(predictions, references)
    matches, scores, words = 0.0, 0.0, 0
    for prediction, right in zip(predictions, references, strict=True):
        matches += exact_match(prediction, right)
        scores += token_f1(prediction, right)
        words += len(normalize_answer(prediction).split())
    n = len(predictions)
    return Figures({"exact_match": matches / n, "f1": scores / n}, n, words, "words of the normalised predictions")


def _best(score: Callable[[str, str], float], prediction: str, references: str | Sequence[str]) -> float:
    references = [references] if isinstance(references, str) else references
    if not references:
        raise DataError(f"the prediction {prediction!r} has no reference: a question without an answer has the one ''")
    return max(score(prediction, reference) for reference in references)


def _f1(prediction: str, reference: str) -> float:
    predicted, right = normalize_answer(prediction).split(), normalize_answer(reference).split()
    if not predicted or not right:
        return 100.0 * (predicted == right)
    shared = sum((Counter(predicted) & Counter(right)).values())
    return 200.0 * shared / (len(predicted) + len(right))  # 2 P R / (P + R) with P = s / p, R = s / r

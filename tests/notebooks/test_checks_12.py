"""The checkers of chapter 12: a right answer passes (the solutions in the chapter), each usual mistake is named."""

import math
from collections import Counter

import numpy as np
import pytest

from checks import NotYet, chapter_12


@pytest.mark.parametrize(
    "answer, mistake",
    [
        (lambda losses, tokens: math.exp(np.mean(losses)), "count alike, but the last has 10"),
        (lambda losses, tokens: np.average(losses, weights=tokens), "this is the mean loss"),
        (lambda losses, tokens: np.average(np.exp(losses), weights=tokens), "take the mean of the losses first"),
        (lambda losses, tokens: None, "write the body"),
        (lambda losses, tokens: np.exp(losses), "one number"),
    ],
)
def test_perplexity_of_batches_names(answer, mistake):
    with pytest.raises(NotYet, match=mistake):
        chapter_12.check_perplexity_of_batches(answer)


@pytest.mark.parametrize(
    "options, mistake",
    [
        ({"clip": False}, "clip"),
        ({"brevity": False}, "brevity penalty is missing"),
        ({"geometric": False}, "geometric"),
    ],
)
def test_corpus_bleu_names(options, mistake):
    with pytest.raises(NotYet, match=mistake):
        chapter_12.check_corpus_bleu(lambda p, r: chapter_12._bleu(p, r, **options))


def test_corpus_bleu_names_a_mean_over_sentences_and_a_logarithm_of_zero():
    bleu = chapter_12._bleu
    with pytest.raises(NotYet, match="added up over all sentences first"):
        chapter_12.check_corpus_bleu(lambda p, r: sum(bleu([a], [b]) for a, b in zip(p, r, strict=True)) / len(p))

    def fails_at_zero(p, r):
        return bleu(p, r) or math.log(0)

    with pytest.raises(NotYet, match="return 0 if some p_n is 0"):
        chapter_12.check_corpus_bleu(fails_at_zero)
    chapter_12.check_corpus_bleu(bleu)


@pytest.mark.parametrize(
    "answer, mistake",
    [
        (lambda C: np.mean(2 * np.diag(C) / (C.sum(0) + C.sum(1))), "leave it out"),
        (lambda C: np.mean(2 * np.diag(C) / np.maximum(C.sum(0) + C.sum(1), 1)), "counts as 0: leave it out"),
        (lambda C: np.trace(C) / C.sum(), "accuracy"),
        (lambda C: np.mean((np.diag(C) / C.sum(1))[:3]), "mean recall"),
    ],
)
def test_macro_f1_names(answer, mistake):
    with pytest.raises(NotYet, match=mistake):
        chapter_12.check_macro_f1(answer)


def test_rouge_l_names_shared_words_without_order_and_recall_alone():
    def unordered(p, r):
        a, b = r.split(), p.split()
        return 200 * sum((Counter(a) & Counter(b)).values()) / (len(a) + len(b))

    def recall(p, r):
        return 100 * chapter_12._lcs(r.split(), p.split()) / len(r.split())

    def without_gaps(p, r):
        a, b = r.split(), p.split()
        T = np.zeros((len(a) + 1, len(b) + 1))
        for i, j in np.ndindex(len(a), len(b)):
            T[i + 1, j + 1] = T[i, j] + 1 if a[i] == b[j] else 0
        return 200 * T.max() / (len(a) + len(b))

    with pytest.raises(NotYet, match="may have gaps"):
        chapter_12.check_rouge_l(without_gaps)
    with pytest.raises(NotYet, match="these are letters"):
        chapter_12.check_rouge_l(lambda p, r: 200 * chapter_12._lcs(p, r) / (len(p) + len(r)))
    with pytest.raises(NotYet, match="order matters"):
        chapter_12.check_rouge_l(unordered)
    with pytest.raises(NotYet, match="recall"):
        chapter_12.check_rouge_l(recall)

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
    ],
)
def test_perplexity_of_batches_names(answer, mistake):
    with pytest.raises(NotYet, match=mistake):
        chapter_12.check_perplexity_of_batches(answer)


@pytest.mark.parametrize(
    "options, mistake", [({"clip": False}, "clip"), ({"brevity": False}, "brevity penalty is missing")]
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

    with pytest.raises(NotYet, match="order matters"):
        chapter_12.check_rouge_l(unordered)
    with pytest.raises(NotYet, match="recall"):
        chapter_12.check_rouge_l(recall)

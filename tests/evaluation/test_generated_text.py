"""BLEU, chrF and ROUGE: against the formulas, written out here, and the packages called directly."""

import math
import sys
from collections import Counter

import pytest

from minilm.errors import DataError, MinilmError
from minilm.evaluation import evaluate_summaries, evaluate_translations

PREDICTED = ["Die Katze saß auf der Matte und schlief .", "Er kommt morgen nicht nach Hause .", "Ja ."]
RIGHT = [
    ["Die Katze saß auf der Matte .", "Auf der Matte saß die Katze und schlief ."],
    ["Er kommt morgen nicht heim ."],
    "Ja .",
]


def grams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu(predictions, references):
    """The formula of the paper, for text that is cut at spaces and predictions that share 4-grams."""
    matched, made, length, nearest = [0] * 4, [0] * 4, 0, 0
    for prediction, several in zip(predictions, references, strict=True):
        words, others = prediction.split(), [r.split() for r in ([several] if isinstance(several, str) else several)]
        length += len(words)
        nearest += min((abs(len(r) - len(words)), len(r)) for r in others)[1]
        for n in range(1, 5):
            most = Counter()
            for other in others:
                most |= grams(other, n)
            matched[n - 1] += sum((grams(words, n) & most).values())
            made[n - 1] += sum(grams(words, n).values())
    brevity = 1.0 if length > nearest else math.exp(1 - nearest / length)
    return 100 * brevity * math.exp(sum(math.log(m / t) for m, t in zip(matched, made, strict=True)) / 4)


def test_bleu_is_the_formula_over_all_sentences_together(require_package):
    require_package("sacrebleu")
    figures = evaluate_translations(PREDICTED, RIGHT, tokenize="none")
    assert figures.values["bleu"] == pytest.approx(bleu(PREDICTED, RIGHT), rel=1e-9)
    assert (figures.documents, figures.tokens) == (3, 9 + 7 + 2)
    short = ["Die Katze saß auf der Matte"]  # the brevity penalty
    assert evaluate_translations(short, [RIGHT[0][0]], "none").values["bleu"] == pytest.approx(
        100 * math.exp(1 - 7 / 6)
    )


def test_bleu_and_chrf_are_those_of_sacrebleu(require_package):
    sacrebleu = require_package("sacrebleu")
    streams = [[RIGHT[0][0], RIGHT[1][0], RIGHT[2]], [RIGHT[0][1], None, None]]
    figures = evaluate_translations(PREDICTED, RIGHT)
    assert figures.values["bleu"] == sacrebleu.corpus_bleu(PREDICTED, streams).score
    assert figures.values["chrf"] == sacrebleu.corpus_chrf(PREDICTED, streams).score
    assert "tok:13a" in figures.details["bleu_signature"] and "nrefs:var" in figures.details["bleu_signature"]


def test_a_perfect_translation_has_100(require_package):
    require_package("sacrebleu")
    perfect = evaluate_translations([r if isinstance(r, str) else r[-1] for r in RIGHT], RIGHT)
    assert perfect.values == pytest.approx({"bleu": 100, "chrf": 100})


def test_rouge_by_hand(require_package):
    """Of 7 and 6 words 6 are shared, in the same order; of 6 and 5 pairs of words, 4."""
    require_package("rouge_score")
    figures = evaluate_summaries(["The cat was found under the bed."], ["the cat was under the bed"])
    expected = {"rouge1": 100 * 12 / 13, "rouge2": 100 * 8 / 11, "rouge_l": 100 * 12 / 13}
    assert figures.values == pytest.approx(expected)
    assert (figures.documents, figures.tokens) == (1, 7)


def test_rouge_is_the_mean_of_the_best_references_of_rouge_score(require_package):
    scorer = require_package("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    predicted = ["library for parsing text files", "a game of running cats"]
    right = [["text file parser", "library that parses text"], ["the running cat game"]]
    figures = evaluate_summaries(predicted, right, stem=True)
    for name, kind in {"rouge1": "rouge1", "rouge2": "rouge2", "rouge_l": "rougeL"}.items():
        best = [
            max(scorer.score(r, p)[kind].fmeasure for r in several) for p, several in zip(predicted, right, strict=True)
        ]
        assert figures.values[name] == pytest.approx(100 * sum(best) / 2)
    assert figures.values["rouge1"] > evaluate_summaries(predicted, right).values["rouge1"], "stems match more"


@pytest.mark.parametrize(
    "function, package", [(evaluate_translations, "sacrebleu"), (evaluate_summaries, "rouge_score")]
)
def test_without_the_package_the_way_out_is_told(monkeypatch, function, package):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith(package + ".")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MinilmError, match=rf"{package.replace('_', '-')}.*pip install 'minilm\[eval\]'"):
        function(["a"], ["a"])


@pytest.mark.parametrize("function", [evaluate_translations, evaluate_summaries])
def test_what_cannot_be_scored_is_told(require_package, function):
    require_package("sacrebleu"), require_package("rouge_score")
    with pytest.raises(DataError, match="1 predictions and 2 references"):
        function(["a"], ["a", "b"])
    with pytest.raises(DataError, match="nothing to score"):
        function([], [])
    with pytest.raises(DataError, match="prediction 1 .'b'. has no reference"):
        function(["a", "b"], ["a", []])

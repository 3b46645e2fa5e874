"""Text that a model wrote, against what people wrote: BLEU and chrF for translations, ROUGE for summaries.

    BLEU = BP exp(1/4 sum_n log p_n)       p_n the part of the n-grams, n = 1 .. 4, of all predictions together that
                                           occur in a reference (Papineni et al. 2002)
    BP = min(1, e^(1 - r/c))               for predictions of c words in all, that are shorter than the references' r

    chrF       F_2 over n-grams of characters, n = 1 .. 6 (Popovic 2015): no words needed, so kinder to German endings
    ROUGE-N    F1 over n-grams of words, of each document by itself (Lin 2004)
    ROUGE-L    the same for the longest common subsequence

All are told from 0 to 100. BLEU depends on how text is cut into words, so nobody writes their own: sacrebleu (Post
2018) cuts plain text always alike, and its signature, kept among the details, says how. These packages come with the
extra `eval`.

What this file does not do: judge meaning. A good paraphrase scores low; compare systems, on the same references.
"""

from __future__ import annotations

from collections.abc import Sequence

from minilm.errors import DataError
from minilm.evaluation.figures import Figures, check_pairs, optional

References = Sequence[str | Sequence[str]]
"""For each prediction one reference, or several."""


def evaluate_translations(predictions: Sequence[str], references: References, tokenize: str = "13a") -> Figures:
    """BLEU and chrF of translations of sentences, over all of them together.

    Args:
        predictions: one translation each, as plain text with its capitals and punctuation.
        references: for each the accepted translations.
        tokenize: how BLEU cuts words: "13a", sacrebleu's own default; "zh" for Chinese, "char", "none".

    Raises:
        MinilmError: if sacrebleu is not installed.
        DataError: if there are none, the numbers differ, or one has no reference.
    """
    sacrebleu = optional("sacrebleu", "BLEU")
    streams = _streams(predictions, references)
    bleu, chrf = sacrebleu.metrics.BLEU(tokenize=tokenize), sacrebleu.metrics.CHRF()
    score = bleu.corpus_score(list(predictions), streams)
    values = {"bleu": score.score, "chrf": chrf.corpus_score(list(predictions), streams).score}
    details = {"bleu_signature": str(bleu.get_signature()), "chrf_signature": str(chrf.get_signature())}
    return Figures(values, len(predictions), score.sys_len, f"words of the predictions, {tokenize}", details)


def evaluate_summaries(predictions: Sequence[str], references: References, stem: bool = False) -> Figures:
    """ROUGE-1, ROUGE-2 and ROUGE-L (F1), the mean over the documents; of several references the best counts.

    Words are runs of ASCII letters and digits, in lower case: this is for English.

    Args:
        stem: cut the endings off the words first (Porter 1980), as some papers do: higher figures.

    Raises:
        MinilmError: if rouge-score is not installed.
        DataError: if there are none, the numbers differ, or one has no reference.
    """
    scorer = optional("rouge_score.rouge_scorer", "ROUGE")
    tokenizers = optional("rouge_score.tokenizers", "ROUGE")
    kinds = {"rouge1": "rouge1", "rouge2": "rouge2", "rougeL": "rouge_l"}
    cut = tokenizers.DefaultTokenizer(stem)
    rouge = scorer.RougeScorer([*kinds], tokenizer=cut)
    sums, words = dict.fromkeys(kinds, 0.0), 0
    for prediction, right in zip(predictions, _lists(predictions, references), strict=True):
        words += len(cut.tokenize(prediction))
        for kind, score in rouge.score_multi(right, prediction).items():
            sums[kind] += 100 * score.fmeasure
    n = len(predictions)
    return Figures(
        {name: sums[kind] / n for kind, name in kinds.items()}, n, words, "words of the predictions", {"stem": stem}
    )


def _lists(predictions: Sequence[str], references: References) -> list[list[str]]:
    """The references of each prediction, in a list."""
    check_pairs(predictions, references)
    lists = [[entry] if isinstance(entry, str) else list(entry) for entry in references]
    for number, entry in enumerate(lists):
        if not entry:
            raise DataError(f"prediction {number} ({predictions[number]!r}) has no reference to be compared with")
    return lists


def _streams(predictions: Sequence[str], references: References) -> list[list[str | None]]:
    """sacrebleu's form: stream k holds reference k of each prediction, None where there are not so many."""
    lists = _lists(predictions, references)
    most = max(map(len, lists))
    return [[entry[k] if k < len(entry) else None for entry in lists] for k in range(most)]

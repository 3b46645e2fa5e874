"""How good is a model? Whatever the task, the figure comes with the number of tokens and documents it stands on.

Reading order: figures (a number and what it stands on), language_modeling (loss, perplexity, bits per byte, a model
over batches), windows (a text longer than the context), masked (a model that sees both sides), classification
(accuracy, confusion matrix, F1), multiple_choice (which of several answers a model finds the most probable), answers
(exact match and F1 of short answers), generated_text (BLEU and chrF of translations, ROUGE of summaries).
"""

from minilm.evaluation.answers import evaluate_answers, exact_match, normalize_answer, token_f1
from minilm.evaluation.classification import accuracy, confusion_matrix, evaluate_classifier, f1
from minilm.evaluation.figures import Figures
from minilm.evaluation.generated_text import evaluate_summaries, evaluate_translations
from minilm.evaluation.language_modeling import (
    LanguageModelScore,
    bits_per_byte,
    bits_per_character,
    count_labels,
    evaluate_language_model,
    perplexity,
)
from minilm.evaluation.masked import EachTokenHidden, evaluate_masked_language_model
from minilm.evaluation.multiple_choice import calibrated, option_log_likelihoods
from minilm.evaluation.windows import StridedWindows

__all__ = [
    "EachTokenHidden",
    "Figures",
    "LanguageModelScore",
    "StridedWindows",
    "accuracy",
    "bits_per_byte",
    "bits_per_character",
    "calibrated",
    "confusion_matrix",
    "count_labels",
    "evaluate_answers",
    "evaluate_classifier",
    "evaluate_language_model",
    "evaluate_masked_language_model",
    "evaluate_summaries",
    "evaluate_translations",
    "exact_match",
    "f1",
    "normalize_answer",
    "option_log_likelihoods",
    "perplexity",
    "token_f1",
]

"""How good is a model? Perplexity and bits per character of language models, F1 of classifiers.

Reading order: language_modeling (loss, perplexity, bits per character, a model over batches), classification
(accuracy, confusion matrix, F1).
"""

from minilm.evaluation.classification import accuracy, confusion_matrix, f1
from minilm.evaluation.language_modeling import (
    LanguageModelScore,
    bits_per_byte,
    bits_per_character,
    count_labels,
    evaluate_language_model,
    perplexity,
)

__all__ = [
    "LanguageModelScore",
    "accuracy",
    "bits_per_byte",
    "bits_per_character",
    "confusion_matrix",
    "count_labels",
    "evaluate_language_model",
    "f1",
    "perplexity",
]

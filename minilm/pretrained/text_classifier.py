"""A trained classifier and its tokenizer: texts in, the probability of each class out.

    classifier = TextClassifier.load("runs/reviews")
    classifier.probabilities(["a warm , funny film", "two hours of nothing"])       # (N, K)

Published weights name their classes in config.json, as `id2label`; `write_class_names` puts ours there as well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minilm.backend import to_numpy
from minilm.errors import CheckpointError, ConfigurationError
from minilm.models import BERT, BERTForSequenceClassification, LSTMClassifier
from minilm.nn import evaluating
from minilm.pretrained.loading import from_pretrained
from minilm.pretrained.packages import SENTENCES, locate
from minilm.pretrained.safetensors_file import parse_json
from minilm.pretrained.stored import map_file
from minilm.pretrained.vocabularies import write_json
from minilm.text import Tokenizer, WordPieceTokenizer, groups_by_length, pad_collate
from minilm.training import find_checkpoint, load_model
from minilm.training.checkpoint import is_ours


class TextClassifier:
    """A BERTForSequenceClassification or an LSTMClassifier, its tokenizer, and the names of its classes.

    Attributes:
        max_tokens: the most that are read of a text, the marks of a BERT among them; None for all.
        cut: how many texts were longer, so far.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, names: Sequence[str], max_tokens: int | None = None) -> None:
        self.model, self.tokenizer, self.names = model, tokenizer, list(names)
        limits = [n for n in (max_tokens, model.context_length) if n is not None]
        self.max_tokens = min(limits) if limits else None
        self.cut = 0

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextClassifier:
        """From what `minilm finetune --task classify` wrote, or from published weights of such a model.

        Raises:
            CheckpointError: if there is no model, or it is damaged.
            ConfigurationError: if it gives no classes.
        """
        folder = locate(path)
        ours = is_ours(folder)
        model, tokenizer = load_model(folder) if ours else from_pretrained(folder)
        if not isinstance(model, BERTForSequenceClassification | LSTMClassifier):
            base = path if type(model) is BERT and not ours else SENTENCES
            raise ConfigurationError(
                f"{path} is a {type(model).__name__}, which gives no classes: train a classifier with minilm finetune "
                f"{base} --task classify --data TABLE --out runs/classes"
            )
        if tokenizer is None:
            raise CheckpointError(f"{path} comes without a tokenizer: there is no way to read a text with it")
        if isinstance(model, LSTMClassifier):
            return cls(model, tokenizer, model.config.classes)
        named = find_checkpoint(folder, best=True) if ours else folder
        return cls(model, tokenizer, read_class_names(named, model.config.num_labels))

    def encode(self, text: str) -> dict[str, Any]:
        """What the model takes of a text: input_ids (T,), and for a BERT token_type_ids; cut to max_tokens."""
        ids = self.tokenizer.encode(text)
        marks = 2 if isinstance(self.tokenizer, WordPieceTokenizer) else 0  # [CLS] and [SEP]
        self.cut += self.max_tokens is not None and len(ids) + marks > self.max_tokens
        if isinstance(self.tokenizer, WordPieceTokenizer):
            return self.tokenizer.pair(ids, max_length=self.max_tokens)._asdict()
        return {"input_ids": (ids if len(ids) else np.zeros(1, np.int64))[: self.max_tokens]}

    def probabilities(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Texts -> (N, K) float64, each row adding up to 1. Texts of about the same length go together."""
        examples = [self.encode(text) for text in texts]
        found = np.empty((len(examples), len(self.names)))
        with evaluating(self.model.modules()):
            for chosen in groups_by_length([len(example["input_ids"]) for example in examples], batch_size):
                batch = pad_collate([examples[i] for i in chosen])
                logits = self.model(batch["input_ids"], batch.get("attention_mask"), batch.get("token_type_ids"))
                found[chosen] = to_numpy(logits.data)
        found = np.exp(found - found.max(axis=1, keepdims=True, initial=-np.inf))
        return found / found.sum(axis=1, keepdims=True)


def write_class_names(folder: Path, names: Sequence[str]) -> None:
    """Name the classes of the model that `save_pretrained` wrote into a folder."""
    path = folder / "config.json"
    values = parse_json(map_file(path, 2, "a configuration").tobytes(), str(path))
    values["id2label"] = {str(number): name for number, name in enumerate(names)}
    values["label2id"] = {name: number for number, name in enumerate(names)}
    write_json(path, values)


def read_class_names(path: Path, K: int) -> list[str]:
    """The names of classes 0 to K - 1 in the config.json of a published folder; the numbers where it gives none."""
    path = (path if path.is_dir() else path.parent) / "config.json"
    values = parse_json(map_file(path, 2, "a configuration").tobytes(), str(path)).get("id2label")
    numbers = [str(number) for number in range(K)]
    if not isinstance(values, dict):
        return numbers
    if sorted(values) != sorted(numbers) or not all(isinstance(name, str) for name in values.values()):
        raise CheckpointError(f"{path}: 'id2label' should name the classes 0 to {K - 1}, and is {values!r}")
    return [values[number] for number in numbers]

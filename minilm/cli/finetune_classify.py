"""minilm finetune --task classify: which class is a text of?

The model is a BERT, which gets a head, or `lstm`: a recurrent classifier that starts from nothing, to compare with. Its
tokenizer are the words of the training part.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minilm.cli.finetune_task import LSTM, TEST_TEXTS, Options, Task, is_own_run
from minilm.errors import CheckpointError, ConfigurationError, DataError, TokenizerError
from minilm.evaluation import evaluate_classifier
from minilm.models import BERTForSequenceClassification, LSTMClassifier, LSTMClassifierConfig
from minilm.pretrained import TextClassifier, from_pretrained, locate, save_pretrained, write_class_names
from minilm.pretrained.packages import SENTENCES
from minilm.random import Generator, using_generator
from minilm.text import (
    Labelled,
    OrderedBatches,
    WordPieceTokenizer,
    WordTokenizer,
    atomic_write,
    class_names,
    read_labelled,
    split_labelled,
)
from minilm.training import HeadOnFeatures, compute_features

LONGEST = 128  # tokens of a text, if --max-length does not say otherwise
MIN_COUNT = 2  # a word that occurs once teaches nothing
HEADINGS = {"accuracy": ("accuracy", 4), "macro_f1": ("macro F1", 4)}
EVALUATED_AT_ONCE = 32


def prepare(model_path: str, data: str, options: Options) -> Task:
    """The classifier, and the texts dealt out to training and held-out part.

    Raises:
        DataError: if the data are no texts with classes, of two classes at least.
        CheckpointError, ConfigurationError: if the model cannot be read, or is no encoder.
    """
    examples = read_labelled(data, options.text_column, options.label_column, options.errors)  # type: ignore[arg-type]
    names = class_names(example.label for example in examples)
    if options.limit is not None and options.limit < len(examples):  # from all over: data are often sorted by class
        examples = [examples[i * len(examples) // options.limit] for i in range(options.limit)]
    train, held_out = split_labelled(examples, (1 - options.held_out, options.held_out))
    _check_classes(train, names, data)
    classifier = _lstm(train, names, options) if model_path == LSTM else _bert(model_path, names, options)
    rows = {part: _encoded(classifier, texts) for part, texts in (("train", train), ("held out", held_out))}
    model = classifier.model

    def evaluate() -> dict[str, float]:
        batches = sorted(rows["held out"], key=lambda row: len(row["input_ids"]))  # little padding
        return dict(evaluate_classifier(model, OrderedBatches(batches, EVALUATED_AT_ONCE), names).values)

    def save(folder: Path) -> None:
        if isinstance(model, BERTForSequenceClassification):
            save_pretrained(model, classifier.tokenizer, folder)
            write_class_names(folder, names)
        (folder / TEST_TEXTS).parent.mkdir(exist_ok=True)
        with atomic_write(folder / TEST_TEXTS) as file:
            file.write("".join(json.dumps(example._asdict()) + "\n" for example in held_out).encode())

    def on_features() -> tuple[Any, Any, Any]:
        learnt, kept = (compute_features(model, part) for part in rows.values())
        return HeadOnFeatures(model), learnt, kept

    task = Task(
        model,
        classifier.tokenizer,
        rows["train"],
        rows["held out"],
        evaluate,
        save,
        headings=HEADINGS,
        facts=[
            ("data", f"{data}: {len(train):,} texts for training, {len(held_out):,} held out"),
            ("classes", f"{len(names)}: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"),
        ],
        try_it='minilm classify {run} "some text"',
    )
    if model_path == LSTM:
        task.learning_rates, task.epochs = {"full": 2e-3}, {"full": 4}
    else:
        task.head, task.on_features = ("bert.pooler", "classifier"), on_features
    return task


def longest_text(folder: Path) -> int:
    """How many tokens of a text the run in a folder has read.

    Raises:
        CheckpointError: if its run.json is missing or damaged.
    """
    try:
        return json.loads((folder / "run.json").read_text(encoding="utf-8"))["max_length"] or LONGEST
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / 'run.json'} does not say how the run was made ({error!r})") from error


def _bert(path: str, names: list[str], options: Options) -> TextClassifier:
    wanted = f"--task classify takes an encoder, a BERT such as {SENTENCES}, or {LSTM!r}"
    if is_own_run(path):
        raise ConfigurationError(f"{wanted}: {path} is a run of another model")
    with using_generator(Generator(options.seed).spawn("head")):
        try:
            model, tokenizer = from_pretrained(path, kind=BERTForSequenceClassification, num_labels=len(names))
        except ConfigurationError as error:
            raise ConfigurationError(f"{wanted}: {path} is another model") from error
        except CheckpointError as error:
            if not locate(path).exists():
                raise CheckpointError(f"{error}; {LSTM!r} starts a recurrent classifier from nothing") from error
            if "classifier.weight is" in str(error):
                raise CheckpointError(
                    f"{error}. It was trained for other classes than these {len(names)}: start from an encoder without "
                    f"a head, such as {SENTENCES}"
                ) from error
            raise
    if not isinstance(tokenizer, WordPieceTokenizer):
        raise CheckpointError(f"{path} comes without its vocabulary, vocab.txt: there is no way to read a text with it")
    if options.max_length is not None and options.max_length > model.context_length:
        raise ConfigurationError(
            f"--max-length {options.max_length}: this model reads at most {model.context_length} tokens"
        )
    return TextClassifier(model, tokenizer, names, options.max_length or LONGEST)


def _lstm(train: list[Labelled], names: list[str], options: Options) -> TextClassifier:
    try:
        tokenizer = WordTokenizer.train((example.text for example in train), min_count=MIN_COUNT)
    except TokenizerError as error:
        raise DataError(
            f"no word stands {MIN_COUNT} times in the {len(train):,} texts of the training part: an LSTM that starts "
            f"from nothing needs more texts; {SENTENCES} has learnt from others already"
        ) from error
    with using_generator(Generator(options.seed).spawn("weights")):
        model = LSTMClassifier(LSTMClassifierConfig(tokenizer.vocab_size, classes=tuple(names)))
    return TextClassifier(model, tokenizer, names, options.max_length or LONGEST)


def _encoded(classifier: TextClassifier, examples: list[Labelled]) -> list[dict[str, Any]]:
    number = {name: index for index, name in enumerate(classifier.names)}
    return [{**classifier.encode(text), "labels": number[label]} for text, label in examples]


def _check_classes(train: list[Labelled], names: list[str], data: str) -> None:
    """A class that is never seen in training cannot be learnt."""
    seen = {example.label for example in train}
    if unseen := [name for name in names if name not in seen]:
        raise DataError(
            f"{data}: of the class {unseen[0]!r} there is no text in the training part of {len(train):,}: give more "
            "texts of it (or a larger --limit)"
        )

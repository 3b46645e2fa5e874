"""What `minilm finetune` and its tasks tell each other: Options goes in, a Task comes out.

A task is a module with one function, and a line in `minilm.cli.finetune.TASKS`:

    def prepare(model_path: str, data: str, options: Options) -> Task: ...

It reads the model and the data, and makes examples of them. What is trained of the model (the method), how (the
arguments of the trainer), resuming, the summary and the folder of the run are finetune's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minilm.training.lora import ATTENTION

LSTM = "lstm"  # in the place of a model: a classifier that starts from nothing
# What a task holds out, in the folder of the run: what `minilm eval` takes by itself.
TEST_QUESTIONS, TEST_TEXTS = Path("data", "test.json"), Path("data", "test.jsonl")


def is_own_run(path: str | Path) -> bool:
    """Whether `path` is a run without a published form: of `minilm train`, or of an LSTM."""
    folder = Path(path)
    return not (folder / "config.json").exists() and any(folder.glob("checkpoint-*/manifest.json"))


@dataclass(frozen=True)
class Options:
    """What the command line says that a task may want to know; everything is the same when a run is resumed."""

    method: str = "full"
    held_out: float = 0.1  # the part of the data that is evaluated on, never trained on
    max_length: int | None = None  # tokens of an example; None: as the task sees fit, at most the model's context
    limit: int | None = None  # use so many examples only, from all over the data, before they are split
    batch_size: int = 16
    text_column: str = "text"
    label_column: str = "label"
    errors: str = "strict"
    seed: int = 0  # of whatever the task draws, such as the weights of a head


@dataclass
class Task:
    """A model and what it is to learn.

    Attributes:
        model: a Module with loss(batch). It is changed in place: frozen, given adapters, trained, merged.
        tokenizer: goes into the checkpoints.
        train: examples by number, dicts of arrays or numbers of one example each (`input_ids`, `labels`, ...), which
            are padded together; or batches of their own (minilm.text.BatchSource).
        held_out: the same, for the loss on the held-out part while training.
        head: the names of those modules of `model` that start afresh, such as ("classifier",): every method trains
            them. Empty for a language model.
        evaluate: the figures of `model` as it is then, on the held-out part, by name: {"accuracy": 0.83, ...}.
        save: writes the model and what belongs to it into a folder that exists, so that other commands read it.
            LoRA is merged before it is called. A model without a published form writes nothing: the last checkpoint of
            the training then stays in the folder.
        headings: how the figures are called in the table, and how many digits they have: {"accuracy": ("accuracy", 4)}.
        facts: what is to be said before the training: [("data", "9,594 texts for training, 1,066 held out"), ...].
        learning_rates: for each method the learning rate if none is given; a method that is not in it is refused.
        epochs: for each method the epochs if none are given.
        lora_targets: how the names of the Linear layers end that get adapters.
        on_features: with the method "frozen", (model, train, held_out) to train instead, if what the frozen part
            gives can be computed once: a model that shares the head's parameters with `model`.
        trained: the names of the parameters that are trained, once the method is chosen: finetune fills it in.
        try_it: a command to show at the end; {run} stands for the folder.
    """

    model: Any
    tokenizer: Any
    train: Any
    held_out: Any
    evaluate: Callable[[], Mapping[str, float]]
    save: Callable[[Path], None]
    head: tuple[str, ...] = ()
    headings: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    facts: list[tuple[str, str]] = field(default_factory=list)
    learning_rates: Mapping[str, float] = field(
        default_factory=lambda: {"full": 5e-5, "lora": 5e-4, "last": 5e-5, "frozen": 1e-3}
    )
    epochs: Mapping[str, float] = field(default_factory=lambda: {"full": 3, "lora": 3, "last": 3, "frozen": 20})
    lora_targets: tuple[str, ...] = ATTENTION
    on_features: Callable[[], tuple[Any, Any, Any]] | None = None
    trained: list[str] = field(default_factory=list)
    try_it: str = ""

"""One fine-tuning in its folder: begin, resume, train, finish.

    run.json                    the settings, all that --resume needs; when it is over, the figures too
    metrics.jsonl               losses over the steps
    checkpoint-N/               while it trains
    config.json, model.safetensors, ...     what the task saved: the model, LoRA merged into it
    adapter.safetensors         with --method lora, the adapters and the head alone
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minilm.cli.finetune_task import TEST_QUESTIONS, TEST_TEXTS, Options, Task
from minilm.cli.output import count, duration, facts, say, shown, table
from minilm.errors import CheckpointError, ConfigurationError
from minilm.pretrained.saving import FILES
from minilm.random import Generator, using_generator
from minilm.text import BatchSource, atomic_write
from minilm.training import (
    ProgressBar,
    Trainer,
    TrainingArguments,
    list_checkpoints,
    merge_lora,
    prepare_method,
    read_metrics,
    save_lora,
)
from minilm.training.checkpoint import read_state
from minilm.training.finetuning import METHODS

WARMUP = 0.06  # of the steps, as BERT's kin are fine-tuned (Liu et al. 2019)
WEIGHT_DECAY = 0.01
SAVES = 6  # in a run, at least
ADAPTER = "adapter.safetensors"
FINISHED = "figures"  # the key of run.json that a run has when it is over


@dataclass(frozen=True)
class Settings:
    """All that decides what a run computes."""

    model: str
    task: str
    data: str
    method: str = "full"
    epochs: float | None = None  # None: as the task says
    lr: float | None = None
    batch_size: int = 16
    max_length: int | None = None
    limit: int | None = None
    held_out: float = 0.1
    rank: int = 8
    alpha: float = 16.0
    text_column: str = "text"
    label_column: str = "label"
    errors: str = "strict"
    seed: int = 0

    def options(self) -> Options:
        """What the task is told."""
        names = [field.name for field in dataclasses.fields(Options)]
        return Options(**{name: getattr(self, name) for name in names})

    def epochs_of(self, task: Task) -> float:
        """How often the data is gone through: as asked for, or as the task says for the method."""
        return self.epochs if self.epochs is not None else task.epochs[self.method]

    def learning_rate_of(self, task: Task) -> float:
        """The highest learning rate, in the same way."""
        return self.lr if self.lr is not None else task.learning_rates[self.method]


def prepare(settings: Settings, module: Any) -> Task:
    """The task of the settings, its model made ready for the method.

    module: the one that TASKS names.

    Raises:
        ConfigurationError: if the method is unknown, or nothing for this task, or a number is out of its range.
    """
    if settings.method not in METHODS:
        raise ConfigurationError(f"--method is one of {', '.join(METHODS)}, not {settings.method!r}")
    if not 0 < settings.held_out < 1:
        raise ConfigurationError(f"--held-out is a part of the data, between 0 and 1, not {settings.held_out:g}")
    if settings.epochs is not None and not math.isfinite(settings.epochs):
        raise ConfigurationError(f"--epochs is a number of passes over the data, not {settings.epochs:g}")
    if settings.errors not in ("strict", "replace", "ignore"):
        raise ConfigurationError(f"--errors is one of strict, replace, ignore, not {settings.errors!r}")
    task: Task = module.prepare(settings.model, settings.data, settings.options())
    if settings.method not in task.learning_rates:
        raise ConfigurationError(
            f"--method {settings.method} is nothing for {settings.model} with --task {settings.task}: choose "
            f"{' or '.join(task.learning_rates)}"
        )
    _arguments(settings, task, Path())
    with using_generator(Generator(settings.seed).spawn("adapters")):
        task.trained = prepare_method(
            task.model, settings.method, task.head, task.lora_targets, settings.rank, settings.alpha
        )
    return task


def claim(folder: Path, overwrite: bool) -> None:
    """Empty a folder for a new run.

    Raises:
        ConfigurationError: if it holds a run and `overwrite` is not set, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"--out {shown(folder)} is a file, and a run needs a folder: choose another --out")
    earlier = list_checkpoints(folder)
    if (earlier or (folder / "run.json").exists() or (folder / "config.json").exists()) and not overwrite:
        go_on = "" if _is_over(folder) else f"go on with it (--resume {shown(folder)}), "
        raise ConfigurationError(
            f"{folder} holds a model or a run already: {go_on}choose another --out, or replace it (--overwrite)"
        )
    for path in earlier:
        shutil.rmtree(path)
    # The model too: one that is left would stand for the new run where that writes none of its own (an LSTM).
    for name in ("run.json", "metrics.jsonl", ADAPTER, TEST_QUESTIONS, TEST_TEXTS, *FILES):
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def _is_over(folder: Path) -> bool:
    try:
        return FINISHED in json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return True  # at least there is nothing to go on with


def train(settings: Settings, task: Task, folder: Path, checkpoint: Path | None = None) -> dict[str, Any]:
    """Train, evaluate, save what `prepare` gave; the figures of the run, which also go into run.json.

    Raises:
        TrainingError, CheckpointError: see `Trainer.train`.
    """
    sizes = {name: p.size for name, p in task.model.named_parameters()}
    result: dict[str, Any] = {
        "parameters": sum(size for name, size in sizes.items() if ".lora_" not in name),
        "trained_parameters": sum(sizes[name] for name in task.trained),
    }
    resumed_at = 0 if checkpoint is None else int(read_state(checkpoint)["step"])  # the time is told of all steps
    _describe(settings, task, folder, result)
    say()
    began = time.perf_counter()
    trainer = _trainer(settings, task, folder)
    before = time.perf_counter() - began  # where features are computed once, that is most of the work
    # The trainer looks for values that are not finite itself, and says where they came from.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        output = trainer.train(resume_from_checkpoint=checkpoint)
    if settings.method == "lora":
        save_lora(task.model, folder / ADAPTER)
        merge_lora(task.model)
    here = output.global_step - resumed_at
    # Resumed after the last step, the training was over: then the pace of the log tells.
    training = output.metrics["train_runtime"] * output.global_step / here if here else _logged_seconds(folder)
    result |= {
        "steps": output.global_step,
        "seconds": before + training,
        "peak_memory_mb": output.metrics["peak_memory_mb"],
        **task.evaluate(),
    }
    checkpoints = list_checkpoints(folder)
    task.save(folder)
    # Without a published form the last checkpoint is the model: it is the one that the figures are of, and an earlier
    # one that did better on the held-out part, by its loss, would be taken in its place.
    for path in checkpoints if (folder / "config.json").is_file() else checkpoints[:-1]:
        shutil.rmtree(path)
    save(settings, folder, result)
    return result


def _logged_seconds(folder: Path) -> float:
    """How long all steps took, as their log tells; 0 where it tells nothing."""
    logged = [line for line in read_metrics(folder / "metrics.jsonl") if line.get("tokens_per_second")]
    return logged[-1]["tokens"] / logged[-1]["tokens_per_second"] if logged else 0.0


def _trainer(settings: Settings, task: Task, folder: Path) -> Trainer:
    model, train, held_out = task.model, task.train, task.held_out
    if settings.method == "frozen" and task.on_features is not None:
        model, train, held_out = task.on_features()
    callbacks = [ProgressBar(settings.method)]
    arguments = _arguments(settings, task, folder)
    return Trainer(model, arguments, train, held_out, tokenizer=task.tokenizer, callbacks=callbacks)


def _arguments(settings: Settings, task: Task, folder: Path) -> TrainingArguments:
    epochs = settings.epochs_of(task)
    batches = len(task.train) if isinstance(task.train, BatchSource) else len(task.train) / settings.batch_size
    steps = max(1, math.ceil(math.ceil(batches) * epochs))
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate_of(task),
        weight_decay=WEIGHT_DECAY,
        warmup_steps=int(WARMUP * steps),
        logging_steps=max(1, min(50, steps // 20)),
        eval_strategy="epoch",
        save_steps=max(1, min(500, math.ceil(steps / SAVES))),
        save_total_limit=1,
        seed=settings.seed,
        progress=False,
    )


def _describe(settings: Settings, task: Task, folder: Path, result: dict[str, Any]) -> None:
    epochs, rate = settings.epochs_of(task), settings.learning_rate_of(task)
    lora = f", rank {settings.rank}, alpha {settings.alpha:g}" if settings.method == "lora" else ""
    trained, whole = result["trained_parameters"], result["parameters"]
    times = "epoch" if epochs == 1 else "epochs"
    facts([
        *task.facts,
        ("model", f"{settings.model}, {type(task.model).__name__}: {count(whole)} parameters"),
        ("method", f"{settings.method}{lora}: {count(trained)} numbers are trained ({trained / whole:.2%})"),
        ("training", f"{epochs:g} {times} in batches of {settings.batch_size}, learning rate {rate:g}"),
        ("written to", f"{folder} (Ctrl-C stops; then: minilm finetune --resume {shown(folder)})"),
    ])  # fmt: skip


def show(settings: Settings, task: Task, result: dict[str, Any], folder: Path) -> None:
    """Print what came of a run."""
    figures = {name: heading for name, heading in task.headings.items() if name in result}
    row = [
        settings.method,
        count(result["trained_parameters"]),
        duration(result["seconds"]),
        f"{result['peak_memory_mb']:,.0f} MB",
        *(f"{result[name]:.{digits}f}" for name, (_, digits) in figures.items()),
    ]
    table(["method", "trained", "time", "memory", *(heading for heading, _ in figures.values())], [row])
    say("On the held-out part, which no step has seen.")
    say()
    rows = [("saved to", str(folder))]
    if settings.method == "lora":
        size = (folder / ADAPTER).stat().st_size
        rows.append(("adapters", f"{folder / ADAPTER}, {size / 1e6:.1f} MB"))
    facts([*rows, *([("try", task.try_it.format(run=shown(folder)))] if task.try_it else [])])


# ----- run.json


def save(settings: Settings, folder: Path, figures: dict[str, Any] | None = None) -> None:
    """Write run.json."""
    content = dataclasses.asdict(settings) | ({} if figures is None else {FINISHED: figures})
    with atomic_write(folder / "run.json") as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def load(folder: Path) -> Settings:
    """The settings in a run's folder, to go on with it.

    Raises:
        CheckpointError: if there are none, or they are damaged.
        ConfigurationError: if the run is over.
    """
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        over = content.pop(FINISHED, None)
        settings = None if "preset" in content else Settings(**content)
    except FileNotFoundError:
        raise CheckpointError(f"there is no {path}: {folder} is not the --out of a `minilm finetune`") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged, or is none of `minilm finetune` ({error})") from error
    if settings is None:
        raise CheckpointError(
            f"{folder} is a run of `minilm train`, which goes on with it: minilm train --resume {shown(folder)}"
        )
    if over is not None:
        raise ConfigurationError(f"{folder} is finished: there is nothing to go on with. Start a new run with --out")
    return settings

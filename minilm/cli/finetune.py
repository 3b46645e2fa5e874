"""minilm finetune: a trained model learns a task of its own.

TASKS names for each task the module that knows it (see finetune_task); what all tasks share is in finetune_run.
"""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

TASKS = {
    "classify": "minilm.cli.finetune_classify",
    "answer": "minilm.cli.finetune_answer",
    "instruct": "minilm.cli.finetune_instruct",
}
_Data = {"rich_help_panel": "Data"}
_Training = {"rich_help_panel": "Training (else as the task and the method need)"}


def finetune(
    model: Annotated[
        str | None,
        typer.Argument(help="A folder, a .gguf or an installed model; lstm: a new classifier.", metavar="MODEL"),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="classify, answer (questions on a text) or instruct.", metavar="NAME")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="To classify: a table, a folder with a file for each class, or a corpus. To answer: questions in the "
            "format of SQuAD. To instruct: instructions with answers, JSON lines.",
            metavar="PATH",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run and of the model.", metavar="FOLDER", show_default=False)
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="full (the default), lora, last (block and head), frozen (head).", metavar="NAME"),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder, with its settings.", metavar="FOLDER")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that is in --out.")] = False,
    text_column: Annotated[
        str | None, typer.Option(help="Column or field with the text (text).", metavar="NAME", **_Data)
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column or field with the class (label).", metavar="NAME", **_Data)
    ] = None,
    errors: Annotated[
        str | None, typer.Option(help="Bytes that are not UTF-8: strict, replace or ignore.", metavar="HOW", **_Data)
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(help="Part of the data to evaluate on (0.1).", metavar="X", **_Data)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Use so many examples only, from all over.", metavar="N", **_Data)
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=3, help="Tokens of an example; what is longer is cut.", metavar="N", **_Data)
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the training part.", metavar="X", **_Training)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples to a step (16).", metavar="N", **_Training)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=0, help="Highest learning rate.", metavar="X", **_Training)
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Of LoRA (8).", metavar="R", **_Training)] = None,
    alpha: Annotated[float | None, typer.Option(help="Of LoRA (16).", metavar="X", **_Training)] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the head, the adapters, the order, dropout.", metavar="N", **_Training)
    ] = None,
) -> None:
    """Train a model that has been trained already, on a task of its own.

    A tenth of the data is held out, and the figures are of that tenth.
    Ctrl-C saves a checkpoint and says how to go on.

    \b
    Examples:
      minilm finetune all-MiniLM-L6-v2 --task classify --data rt_polarity --out runs/reviews
      minilm finetune all-MiniLM-L6-v2 --task classify --data mine.csv --method lora --out runs/mine
      minilm finetune lstm --task classify --data mine.csv --out runs/lstm
      minilm finetune all-MiniLM-L6-v2 --task answer --data xquad.en.json --out runs/answer
      minilm finetune smollm2-135m-instruct --task instruct --data pairs.jsonl --method lora --out runs/tuned
      minilm finetune --resume runs/reviews
    """
    given: dict[str, Any] = {
        name: value
        for name, value in locals().items()
        if name not in ("out", "resume", "overwrite") and value is not None
    }
    from minilm.errors import ConfigurationError

    if task is not None and task not in TASKS:
        raise ConfigurationError(f"--task is one of {', '.join(TASKS)}, not {task!r}")
    # Only now: --help should not wait for NumPy.
    from minilm.cli import finetune_run as runs
    from minilm.cli.output import say

    if resume is not None:
        settings, folder, checkpoint = _resumed(resume, out, overwrite, given)
        prepared = runs.prepare(settings, import_module(TASKS[settings.task]))
    else:
        wanted = {"MODEL": model, "--task": task, "--data": data, "--out": out}
        missing = [name for name, value in wanted.items() if value is None]
        if missing or out is None:
            raise ConfigurationError(
                f"a new run needs {', '.join(missing)}, as in: minilm finetune all-MiniLM-L6-v2 --task classify "
                "--data rt_polarity --out runs/reviews"
            )
        settings, folder, checkpoint = runs.Settings(**given), out, None
        prepared = runs.prepare(settings, import_module(TASKS[settings.task]))
        runs.claim(folder, overwrite)
        runs.save(settings, folder)
    result = runs.train(settings, prepared, folder, checkpoint)
    say()
    runs.show(settings, prepared, result, folder)


def _resumed(path: Path, out: Path | None, overwrite: bool, given: dict[str, Any]) -> tuple[Any, Path, Path | None]:
    """The settings of the run in a folder, the folder, and the checkpoint to go on from (None: from the start)."""
    from minilm.cli import finetune_run as runs
    from minilm.cli.presets import option
    from minilm.errors import ConfigurationError
    from minilm.training import find_checkpoint, list_checkpoints

    if overwrite:
        raise ConfigurationError("--overwrite begins anew and --resume goes on: use one of them")
    folder = path.parent if path.name.startswith("checkpoint-") else path
    settings = runs.load(folder)
    if out is not None and out.resolve() != folder.resolve():
        raise ConfigurationError(f"--resume goes on in its own folder {folder}: leave --out away")
    changed = [
        f"{'MODEL' if name == 'model' else option(name)} ({getattr(settings, name)}, not {value})"
        for name, value in given.items()
        if value != getattr(settings, name)
    ]
    if changed:
        raise ConfigurationError(
            f"a run that is resumed keeps its settings, and {folder} has other ones: {', '.join(changed)}"
        )
    saved = list_checkpoints(folder)
    return settings, folder, find_checkpoint(path) if path != folder else saved[-1] if saved else None

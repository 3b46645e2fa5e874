"""What watches a training run: the JSONL log, and a live progress bar.

Callback has a method for each moment at which the trainer calls; all of them do nothing by default.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm.errors import DataError
from minilm.text import atomic_write

if TYPE_CHECKING:
    from minilm.training.trainer import Trainer


class Callback:
    """Base: override what you need. `trainer.state.step` and `trainer.total_steps` say where the run is."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first step, also when resuming."""

    def on_step_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """After each update: loss, tokens_per_second."""

    def on_log(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """Every logging_steps."""

    def on_evaluate(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """After each evaluation."""

    def on_save(self, trainer: Trainer, folder: Path) -> None:
        """After each checkpoint."""

    def on_train_end(self, trainer: Trainer) -> None:
        """After the last step, and when training stops with an error."""


class MetricsLog(Callback):
    """metrics.jsonl in the output folder: one JSON object a line, each with its "step"."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, trainer: Trainer) -> None:
        """Drop what a resumed run will write again: lines after the step it starts from."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        resumed = trainer.state.step > 0 and self.path.is_file()
        kept = [m for m in read_metrics(self.path) if m["step"] <= trainer.state.step] if resumed else []
        with atomic_write(self.path) as file:
            file.write("".join(json.dumps(m) + "\n" for m in kept).encode())

    def _append(self, metrics: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")

    def on_log(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        self._append(metrics)

    def on_evaluate(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        self._append(metrics)


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that a crash cut short is left out.

    Raises:
        DataError: if the file cannot be read, or holds anything else.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the metrics {os.fspath(path)}: {error}") from error
    metrics: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            entry["step"]
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # of a run that was killed while it wrote
                break
            what = f"line {number} is no JSON object with a step: {line[:60]!r}"
            raise DataError(f"{os.fspath(path)}, {what}") from error
        metrics.append(entry)
    return metrics


class ProgressBar(Callback):
    """A live line in the terminal: step, loss, tokens a second, time left. Plain lines where nobody watches."""

    def __init__(self, name: str = "training") -> None:
        self.name = name
        self._progress: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if not console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(
            self.name, total=trainer.total_steps, completed=trainer.state.step, text=""
        )
        self._progress.start()
        self._eval = ""

    def on_step_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        if self._progress:
            text = f"loss {metrics['loss']:.3f}{self._eval}  {metrics['tokens_per_second']:,.0f} tokens/s"
            self._progress.update(self._task, completed=trainer.state.step, text=text)

    def on_log(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        if not self._progress:
            self._print(
                f"{self.name}: step {metrics['step']:,} of {trainer.total_steps:,}, loss {metrics['loss']:.3f}, "
                f"{metrics['tokens_per_second']:,.0f} tokens/s, {_duration(metrics['seconds_left'])} left"
            )

    def on_evaluate(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        self._eval = f"  eval {metrics['eval_loss']:.3f}"
        if not self._progress:
            self._print(f"{self.name}: step {metrics['step']:,}, eval loss {metrics['eval_loss']:.3f}")

    def on_train_end(self, trainer: Trainer) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None

    @staticmethod
    def _print(line: str) -> None:
        import sys

        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

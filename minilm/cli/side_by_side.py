"""Several runs at once, each in a process of its own with its share of the cores.

The arrays of a small model are small for two threads to share, so two models that train side by side on two cores
take less time than one after the other on both. Each process trains its run and
scores the best checkpoint; what it has to tell goes through a queue to the one that shows it.

Only the first process hears Ctrl-C: it tells the others to save and stop, and waits for them.
"""

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minilm.backend import current_backend, use_backend
from minilm.cli import run as runs
from minilm.cli.data import open_data
from minilm.cli.output import shown
from minilm.cli.run import Run, Score
from minilm.cli.threads import shared_cores
from minilm.errors import MinilmError, TrainingError
from minilm.training import Callback, Interrupted, TrainOutput
from minilm.training.process import StopSignals

SCORED = ("validation", "test")
SECONDS_BETWEEN_REPORTS = 0.2


@dataclass(frozen=True)
class Learned:
    """What became of a run: how it was trained, the scores of its best checkpoint, and how long it took."""

    output: TrainOutput
    scores: dict[str, Score]
    seconds: float


def learn_side_by_side(chosen: Sequence[Run]) -> list[Learned]:
    """Train and score runs that were begun, all at once.

    Raises:
        Interrupted: after Ctrl-C; every run that had begun to train has saved a checkpoint.
        MinilmError: the first error of a run; the others are stopped.
    """
    context = multiprocessing.get_context("spawn")  # a forked NumPy may hang in its threads
    reports: Any = context.Queue()
    backend = current_backend().name
    work = [(place, run.folder, run.settings, backend, reports) for place, run in enumerate(chosen)]
    processes = [context.Process(target=_learn, args=arguments, daemon=True) for arguments in work]
    results: dict[int, Any] = {}
    stopping = StopSignals()  # noted, since an exception may come where it is lost: in a finalizer, in a callback
    with _display(chosen) as show, stopping:
        with shared_cores(len(chosen)), _deaf_to_ctrl_c():
            for process in processes:
                process.start()

        def listen() -> None:
            for place, kind, content in _messages(reports, processes, results):
                if kind == "end":
                    results[place] = content
                else:
                    show(place, kind, content)

        failed = False
        while len(results) < len(processes) and not (failed or stopping.caught):
            listen()
            failed = any(isinstance(result, Exception) for result in results.values())
        for place, process in enumerate(processes):
            if place not in results and process.is_alive():
                process.terminate()  # SIGTERM: the trainer finishes its step and saves
        while len(results) < len(processes):
            listen()
    for process in processes:
        process.join()
    if stopping.caught:
        raise Interrupted(_left_behind(chosen, processes, results))
    errors = [result for result in results.values() if isinstance(result, Exception)]  # the first one first
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(processes))]


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started here never hear Ctrl-C, not even before `_learn` begins; this one does afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _left_behind(chosen: Sequence[Run], processes: Sequence[Any], results: dict[int, Any]) -> str:
    """What became of each run after Ctrl-C, a line each; nothing of those that SIGTERM found before their training."""
    lines = [
        str(results[place]) if isinstance(results[place], Exception) else f"{run.folder} was trained and scored"
        for place, run in enumerate(chosen)
        if processes[place].exitcode != -signal.SIGTERM
    ]
    return "\n".join(lines) or "interrupted before there was anything to save"


def _messages(reports: Any, processes: Sequence[Any], results: dict[int, Any]) -> Iterator[tuple[int, str, Any]]:
    """What has been told within a moment; the end of a process that could not tell it any more."""
    dead = [place for place, process in enumerate(processes) if place not in results and not process.is_alive()]
    try:
        yield reports.get(timeout=SECONDS_BETWEEN_REPORTS)
    except queue.Empty:
        for place in dead:  # since before the wait: nothing of it is on its way
            status = processes[place].exitcode
            yield place, "end", TrainingError(f"a process of the training was ended from outside (status {status})")


def _learn(place: int, folder: Any, settings: Any, backend: str, reports: Any) -> None:
    """The work of one process; it tells (place, "step" or "log" or "end", content)."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in the terminal is for the first process
    reporter = _Reporter(lambda kind, content: reports.put((place, kind, content)))
    started, left = time.perf_counter(), "trained"
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # outside of the trainer, which has its own
        use_backend(backend)
        run = Run(folder, settings, open_data(folder / "data"))
        output = runs.train(run, callbacks=[reporter])
        left = f"scored: minilm eval {shown(folder)} does it"
        reporter.tell("log", {"text": "training is done, evaluating"})
        model, _ = runs.load(folder)
        scores = {part: runs.score(model, run.data.tokens[part], run.data.sizes[part], None) for part in SCORED}
        end: Any = Learned(output, scores, time.perf_counter() - started)
    except (MinilmError, OSError, MemoryError) as error:
        end = error
    except KeyboardInterrupt:
        end = Interrupted(f"interrupted before {folder} was {left}")
    except Exception as error:
        import traceback

        end = RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is over: nothing may come between this and the report
    reports.put((place, "end", end))


class _Reporter(Callback):
    """Tells the first process how training goes, and stops it if there is no first process any more."""

    def __init__(self, tell: Callable[[str, dict[str, Any]], None]) -> None:
        self.tell = tell
        self._last = 0.0
        self._eval = ""

    def on_step_end(self, trainer: Any, metrics: dict[str, Any]) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            raise KeyboardInterrupt
        if time.monotonic() - self._last >= SECONDS_BETWEEN_REPORTS or trainer.state.step == trainer.total_steps:
            self._last = time.monotonic()
            self.tell("step", {"step": trainer.state.step, "text": self._text(metrics)})

    def on_log(self, trainer: Any, metrics: dict[str, Any]) -> None:
        text = f"step {metrics['step']:,} of {trainer.total_steps:,}  {self._text(metrics)}"
        self.tell("log", {"step": metrics["step"], "text": text})

    def on_evaluate(self, trainer: Any, metrics: dict[str, Any]) -> None:
        self._eval = f"  eval {metrics['eval_loss']:.3f}"

    def _text(self, metrics: dict[str, Any]) -> str:
        return f"loss {metrics['loss']:.3f}{self._eval}  {metrics['tokens_per_second']:,.0f} tokens/s"


@contextmanager
def _display(chosen: Sequence[Run]) -> Iterator[Callable[[int, str, dict[str, Any]], None]]:
    """A live bar for each run on a terminal, else lines; yields the function that shows a report."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    names = [run.settings.model.upper() for run in chosen]
    console = Console(stderr=True)
    if not console.is_terminal:

        def line(place: int, kind: str, content: dict[str, Any]) -> None:
            if kind == "log":
                console.print(f"{names[place]}: {content['text']}", highlight=False, soft_wrap=True)

        yield line
        return
    text = TextColumn("{task.fields[text]}")
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), text, TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks = [progress.add_task(n, total=r.settings.steps, text="") for n, r in zip(names, chosen, strict=True)]

        def bar(place: int, kind: str, content: dict[str, Any]) -> None:
            if kind == "step":
                progress.update(tasks[place], completed=content["step"], text=content["text"])
            elif "step" not in content:
                progress.update(tasks[place], text=content["text"])

        yield bar

"""What translation.py and summarization.py share: a run trained or found, its facts, and what it writes.

No benchmark by itself.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minilm.cli import pair_presets, pair_run
from minilm.evaluation import Figures
from minilm.generation import translate
from minilm.kernels.threads import thread_count
from minilm.training import list_checkpoints
from minilm.training.callbacks import read_metrics

SEARCHES = {"greedy": (1, 0.0), "beam 4, length penalty 0.6": (4, 0.6)}
EXAMPLES = 16


def trained(settings: pair_presets.PairSettings, folder: Path) -> pair_run.PairRun:
    """The run in the folder as far as it has come, or else one that is trained now."""
    if list_checkpoints(folder):
        return pair_run.reopen(folder, pair_presets.load(folder / "run.json"))
    run = pair_run.begin(settings, folder)
    pair_run.train(run)
    (folder / "threads").write_text(f"{thread_count()}\n")
    return run


def training(run: pair_run.PairRun, model: Any) -> dict[str, Any]:
    """What to report of the training: sizes, steps, time, and the loss on the validation part."""
    loss, tokens = pair_run.score(run, model)
    lines = read_metrics(run.metrics)
    last = [line for line in lines if "tokens_per_second" in line][-1]
    threads = run.folder / "threads"
    return {
        "settings": dataclasses.asdict(run.settings),
        "parameters": model.num_parameters(),
        "training_pairs": len(run.data.pairs["train"]),
        "training_seconds": last["tokens"] / last["tokens_per_second"],  # without evaluating and saving
        "training_threads": int(threads.read_text()) if threads.is_file() else None,
        "target_tokens_per_second": last["tokens_per_second"],
        "steps": last["step"],
        "epochs": last["epoch"],
        "validation_loss": loss,
        "validation_tokens": tokens,
        "learning_curve": [[line["step"], line["eval_loss"]] for line in lines if "eval_loss" in line],
    }


def searched(
    model: Any,
    tokenizer: Any,
    right: dict[str, list[str]],
    figures: Callable[[Sequence[str], Any], Figures],
    longest: int | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The figures and the speed of each way to search, and the texts of the last one."""
    found: dict[str, Any] = {}
    for name, (beam, alpha) in SEARCHES.items():
        began = time.perf_counter()
        written = translate(model, tokenizer, list(right), beam, alpha, longest=longest)
        seconds = time.perf_counter() - began
        result = figures(written, list(right.values()))
        found[name] = {**result.values, **result.details, "seconds": seconds, "texts_per_second": len(right) / seconds}
        values = ", ".join(f"{key} {value:.1f}" for key, value in result.values.items())
        print(f"{name}: {values}; {len(right)} texts in {seconds:.1f} s", flush=True)
    return found, written


def examples(right: dict[str, list[str]], written: list[str]) -> list[dict[str, Any]]:
    """Some of the texts, always the same ones, evenly from all of them."""
    each = max(1, len(right) // EXAMPLES)
    rows = list(zip(right.items(), written, strict=True))[each // 2 :: each]
    return [{"source": source, "written": text, "references": targets} for (source, targets), text in rows]

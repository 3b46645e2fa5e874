"""What the sections of the report share: tables in Markdown, and words for numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]
"""The content of a results/SUBJECT.json."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], figures: bool = True) -> str:
    """A table in Markdown; the first column is words, the others are figures, or words too."""
    lines = [head, ["---", *["---:" if figures else "---"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def seconds_in(result: Any) -> float:
    """What the work took: what a result says itself, or else its parts together, with their training."""
    if not isinstance(result, Mapping):
        return 0.0
    if "seconds" in result:
        return float(result["seconds"])
    return float(result.get("training_seconds", 0.0)) + sum(map(seconds_in, result.values()))


def threads_of(result: Result) -> int:
    """How many threads computed: as the result says itself, or the trainings that took most of the time, or else the
    machine's facts, which may be those of a later process that only put the figures together."""
    trained = [model.get("training_threads") or 0 for model in result.get("models", {}).values()]
    return int(result.get("threads") or max(trained, default=0) or result["machine"]["threads"])


def megabytes(count: float) -> str:
    return f"{count / 2**20:,.0f} MB"


def duration(seconds: float) -> str:
    """Seconds up to two minutes, then minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

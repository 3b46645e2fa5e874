"""What a training run knows of itself: where it is, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrainerState:
    """Where a run is; all of it goes into a checkpoint."""

    step: int = 0
    epoch: int = 0  # which pass over the data,
    batch: int = 0  # and how many of its batches are used up
    tokens: int = 0  # trained on so far (numbers in input_ids)
    best_metric: float | None = None
    best_checkpoint: str | None = None
    evaluations_without_improvement: int = 0
    last_eval: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainerState:
        """The state that a checkpoint holds, among other things.

        Raises:
            ValueError: naming the field that is missing or cannot be.
        """
        state = cls(**{name: values.get(name) for name in cls.__dataclass_fields__})  # type: ignore[arg-type]
        counts = ("step", "epoch", "batch", "tokens", "evaluations_without_improvement")
        wrong = [n for n in counts if type(values.get(n)) is not int or not 0 <= values[n] < 1 << 63]
        if state.best_metric is not None and not _is_number(state.best_metric):
            wrong.append("best_metric")
        if state.best_checkpoint is not None and not re.fullmatch(r"checkpoint-\d+", str(state.best_checkpoint)):
            wrong.append("best_checkpoint")
        if not isinstance(state.last_eval, dict) or not all(map(_is_number, state.last_eval.values())):
            wrong.append("last_eval")
        if wrong:
            raise ValueError(f"{wrong[0]} is {values.get(wrong[0])!r}")
        return state


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


@dataclass(frozen=True)
class TrainOutput:
    """What `Trainer.train` returns."""

    global_step: int
    training_loss: float  # mean over the steps of this call (with fp16: those with a finite loss)
    metrics: dict[str, float]

"""What a training run knows of itself: where it is, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field


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


@dataclass(frozen=True)
class TrainOutput:
    """What `Trainer.train` returns."""

    global_step: int
    training_loss: float  # mean over the steps of this call (with fp16: those with a finite loss)
    metrics: dict[str, float]

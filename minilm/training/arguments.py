"""TrainingArguments: how to train, with the names that Hugging Face users know where the meaning is the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minilm.errors import ConfigurationError

OPTIMIZERS = ("adamw", "adam", "sgd")
STRATEGIES = ("no", "steps", "epoch")


@dataclass
class TrainingArguments:
    """Settings of a Trainer. A *step* is one update of the parameters."""

    output_dir: str | Path  # metrics.jsonl and the checkpoint-N folders are written here
    overwrite_output_dir: bool = False  # delete the checkpoints of an earlier run there
    num_train_epochs: float = 3.0
    max_steps: int = -1  # if positive, it decides instead of num_train_epochs
    per_device_train_batch_size: int = 8  # examples in a batch, where the dataset does not bring its own batches
    per_device_eval_batch_size: int = 8
    # Batches of examples with about as many input_ids each, so that there is hardly any padding. None: where their
    # lengths differ. (Hugging Face's default is False: there padding costs little, and on a CPU half of the time.)
    group_by_length: bool | None = None
    gradient_accumulation_steps: int = 1  # batches to a step; the gradient is that of one big batch

    fp16: bool = False  # compute in float16, with float32 master weights and a loss scale; see mixed_precision

    optim: str = "adamw"  # or "adam", "sgd"
    learning_rate: float = 5e-5
    weight_decay: float = 0.0  # on matrices only
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    momentum: float = 0.0  # of sgd
    max_grad_norm: float = 1.0  # 0: do not clip
    lr_scheduler_type: str = "linear"  # "linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt"
    warmup_steps: int = 0
    min_lr_ratio: float = 0.0  # where linear and cosine end, as a part of learning_rate

    logging_steps: int = 500
    eval_strategy: str = "no"  # or "steps", "epoch"
    eval_steps: int | None = None  # logging_steps if None
    save_strategy: str = "steps"  # or "no", "epoch"; the last step is always saved unless "no"
    save_steps: int = 500
    save_total_limit: int | None = None  # keep so many checkpoints; the best and the last are always kept
    load_best_model_at_end: bool = False
    metric_for_best_model: str = "eval_loss"
    greater_is_better: bool = False
    early_stopping_patience: int | None = None  # stop after so many evaluations without a better metric

    seed: int = 42  # of the data order and of dropout; weights are drawn before the Trainer exists
    progress: bool = True  # a live progress bar, where a person watches

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)
        batches = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
        for name in (*batches, "logging_steps", "save_steps"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps"):
            self._require(getattr(self, name) >= 0, name, "at least 0")
        self._require(self.max_steps > 0 or self.num_train_epochs > 0, "num_train_epochs", "positive, or max_steps is")
        self._require(self.eval_steps is None or self.eval_steps >= 1, "eval_steps", "at least 1")
        self._require(self.save_total_limit is None or self.save_total_limit >= 1, "save_total_limit", "at least 1")
        self._require(self.optim in OPTIMIZERS, "optim", f"one of {', '.join(OPTIMIZERS)}")
        for name in ("eval_strategy", "save_strategy"):
            self._require(getattr(self, name) in STRATEGIES, name, f"one of {', '.join(STRATEGIES)}")
        patience = self.early_stopping_patience
        self._require(patience is None or patience >= 1, "early_stopping_patience", "at least 1")
        if self.eval_strategy == "no" and (patience is not None or self.load_best_model_at_end):
            raise ConfigurationError(
                "early_stopping_patience and load_best_model_at_end need evaluations: "
                "set eval_strategy to 'steps' or 'epoch'"
            )
        if self.load_best_model_at_end and self.save_strategy == "no":
            raise ConfigurationError("load_best_model_at_end needs checkpoints: save_strategy must not be 'no'")
        if self.eval_steps is None:
            self.eval_steps = self.logging_steps

    def _require(self, holds: bool, name: str, what: str) -> None:
        if not holds:
            raise ConfigurationError(f"TrainingArguments: {name} must be {what}, got {getattr(self, name)!r}")

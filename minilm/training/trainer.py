"""The one trainer, for every model.

It knows `model.loss(batch)`, a mean over the batch, and dict batches; nothing else. The loop, for each step:

    draw gradient_accumulation_steps batches
    loss, backward, weighted by each batch's share of the labels: the gradient of one big batch
    clip by the norm of the gradient; read the losses and the norm; stop with a diagnosis if one is not finite; update

Batches stay on the host: each operation checks the ids it is given there and moves them. A step waits for the device
once, where the losses and the norm are read, all in one transfer. It could not wait less: whether the update is
taken hangs on them.

A run that is killed at any moment and resumed gives the same parameters, bit for bit, as one that was not: a
checkpoint holds the parameters, the optimizer's state, the generator, the position in the data and what the model
carries from batch to batch; everything else is a function of the seed. All randomness is the trainer's own generator.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from minilm.backend import to_numpy, xp
from minilm.errors import CheckpointError, ConfigurationError, TrainingError
from minilm.evaluation import count_labels, evaluate_language_model
from minilm.nn import Module
from minilm.optim import SGD, Adam, AdamW, Optimizer, clip_gradients, schedule
from minilm.random import Generator, using_generator
from minilm.tensor import Tensor
from minilm.text import BatchSource, LengthGroups, OrderedBatches, ShuffledBatches, Tokenizer, pad_collate
from minilm.training.arguments import TrainingArguments
from minilm.training.callbacks import Callback, MetricsLog, ProgressBar
from minilm.training.checkpoint import (
    find_checkpoint,
    list_checkpoints,
    load_tokenizer_of,
    load_weights,
    read_arrays,
    read_state,
    save_checkpoint,
)
from minilm.training.diagnosis import first_nonfinite
from minilm.training.mixed_precision import MixedPrecision
from minilm.training.process import StopSignals, keep_freed_memory, peak_memory
from minilm.training.state import TrainerState, TrainOutput


class Interrupted(TrainingError):
    """Ctrl-C or SIGTERM: the step was finished and saved, and the message says how to go on."""


def _values(*scalars: Any) -> list[float]:
    """The values of Tensors, arrays and floats of one element, in one transfer."""
    arrays = [s.data.reshape(()) if isinstance(s, Tensor) else s for s in scalars]
    home = xp(arrays[0])
    return to_numpy(home.stack([home.asarray(a, dtype="float64") for a in arrays])).tolist()


class Trainer:
    """Train a model, with Hugging Face's names.

    Args:
        model: a Module with `loss(batch) -> scalar Tensor`. With args.fp16 it becomes float16.
        args: the settings.
        train_dataset, eval_dataset: examples by number (`len`, `[i]` -> dict of arrays), or batches
            (`minilm.text.BatchSource`).
        data_collator: makes a batch of examples; pads by default.
        tokenizer: stored in the checkpoints, and compared when resuming.
        callbacks: see minilm.training.callbacks.
        optimizers: (optimizer, function from the step to a factor on its learning rate), instead of what args name.
    """

    def __init__(
        self,
        model: Module,
        args: TrainingArguments,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        data_collator: Callable[[Sequence[Any]], dict[str, Any]] = pad_collate,
        tokenizer: Tokenizer | None = None,
        callbacks: Sequence[Callback] = (),
        optimizers: tuple[Optimizer | None, Callable[[int], float] | None] = (None, None),
    ) -> None:
        self.model, self.args, self.tokenizer = model, args, tokenizer
        self.output_dir = Path(args.output_dir)
        self.data_collator = data_collator
        self.train_batches = None if train_dataset is None else self._batches(train_dataset, training=True)
        self.eval_batches = None if eval_dataset is None else self._batches(eval_dataset, training=False)
        if args.eval_strategy != "no" and self.eval_batches is None:
            raise ConfigurationError(f"eval_strategy={args.eval_strategy!r} needs an eval_dataset")
        self.total_steps = self._total_steps() if self.train_batches is not None else 0
        if args.fp16 and optimizers[0] is not None:
            raise ConfigurationError(
                "fp16 trains float32 copies of the weights, which an optimizer made before does not know: "
                "let args name the optimizer (optim), or leave fp16 out"
            )
        self.precision = MixedPrecision(model) if args.fp16 else None
        self.optimizer = optimizers[0] or self._make_optimizer()
        self.schedule = optimizers[1] or schedule(
            args.lr_scheduler_type, args.warmup_steps, max(self.total_steps, 1), args.min_lr_ratio
        )
        self.generator = Generator(args.seed).spawn("training")
        self.state = TrainerState()
        self.own_state: dict[str, Any] = {}  # what else a kind of trainer keeps in trainer_state.json
        log = MetricsLog(self.output_dir / "metrics.jsonl")
        self.callbacks: list[Callback] = [log, *([ProgressBar()] if args.progress else []), *callbacks]
        self._stopping = StopSignals()
        self._saved_step: int | None = None

    # --- what args mean

    def _batches(self, dataset: Any, training: bool) -> BatchSource:
        if isinstance(dataset, BatchSource):
            return dataset
        if training:
            size = self.args.per_device_train_batch_size
            if self._grouped(dataset):
                return LengthGroups(dataset, size, self.args.seed, collate=self.data_collator)
            return ShuffledBatches(dataset, size, self.args.seed, drop_last=False, collate=self.data_collator)
        return OrderedBatches(dataset, self.args.per_device_eval_batch_size, self.data_collator)

    def _grouped(self, dataset: Any) -> bool:
        """Are the batches to be of examples of like lengths?"""
        wanted = self.args.group_by_length
        if wanted is not None or hasattr(dataset, "at_epoch"):  # which gives other examples in every epoch
            return bool(wanted)
        if not len(dataset) or not hasattr(dataset[0], "keys") or not np.ndim(dataset[0].get("input_ids", 0)):
            return False
        first = len(dataset[0]["input_ids"])
        return any(len(dataset[i]["input_ids"]) != first for i in range(1, len(dataset)))

    @property
    def steps_per_epoch(self) -> int:
        assert self.train_batches is not None
        return math.ceil(len(self.train_batches) / self.args.gradient_accumulation_steps)

    def _total_steps(self) -> int:
        if self.args.max_steps > 0:
            return self.args.max_steps
        return max(1, math.ceil(self.args.num_train_epochs * self.steps_per_epoch))

    def _make_optimizer(self) -> Optimizer:
        args = self.args
        parameters = [(name, p) for name, p in (self.precision or self.model).named_parameters() if p.requires_grad]
        if args.optim == "sgd":  # PyTorch's SGD decays whatever it is given: give it the matrices apart
            matrices = [(name, p) for name, p in parameters if p.ndim >= 2]
            others = [(name, p) for name, p in parameters if p.ndim < 2]
            decayed: list[dict[str, Any]] = [{"params": matrices, "weight_decay": args.weight_decay}]
            groups = [g for g in (*decayed, {"params": others}) if g["params"]]
            return SGD(groups, args.learning_rate, args.momentum)
        betas = (args.adam_beta1, args.adam_beta2)
        if args.optim == "adam":
            return Adam(parameters, args.learning_rate, betas, args.adam_epsilon)
        return AdamW(parameters, args.learning_rate, betas, args.adam_epsilon, args.weight_decay)

    # --- training

    def train(self, resume_from_checkpoint: bool | str | Path | None = None) -> TrainOutput:
        """Train to the end, from the start or from a checkpoint.

        Args:
            resume_from_checkpoint: True for the last one in output_dir, or a folder.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM; a checkpoint was saved.
            TrainingError: if the loss or the gradient is not finite, or a checkpoint could not be written.
            CheckpointError: if the checkpoint is damaged or does not fit.
        """
        if self.train_batches is None:
            raise ConfigurationError("train() needs a train_dataset")
        if resume_from_checkpoint:
            where = self.output_dir if resume_from_checkpoint is True else resume_from_checkpoint
            self.resume(find_checkpoint(where))
        else:
            self._claim_output_dir()
        keep_freed_memory()
        with self._stopping, using_generator(self.generator):
            self._tell("on_train_begin")
            try:
                return self._loop()
            finally:
                self._tell("on_train_end")

    def _claim_output_dir(self) -> None:
        """Two runs in one folder would mix up their checkpoints."""
        earlier = list_checkpoints(self.output_dir)
        if earlier and not self.args.overwrite_output_dir:
            raise ConfigurationError(
                f"{self.output_dir} holds a run already ({earlier[-1].name}): resume it (resume_from_checkpoint=True, "
                f"--resume {self.output_dir}), choose another folder, or set overwrite_output_dir (--overwrite)"
            )
        for folder in earlier:
            shutil.rmtree(folder)

    def _loop(self) -> TrainOutput:
        args, state = self.args, self.state
        self.model.train()
        started, tokens_before, first_step = time.perf_counter(), state.tokens, state.step
        seconds_aside = 0.0  # evaluating and saving do not count as training speed
        total_loss = logged_loss = 0.0
        total_steps = logged_steps = 0
        steps = self._steps()
        while state.step < self.total_steps:
            batches, ends_epoch = next(steps)
            loss, norm = self._update(batches)
            if math.isfinite(loss):  # else float16 overflowed and the step was left out
                total_loss, total_steps = total_loss + loss, total_steps + 1
                logged_loss, logged_steps = logged_loss + loss, logged_steps + 1
            seconds = time.perf_counter() - started - seconds_aside
            speed = (state.tokens - tokens_before) / seconds
            self._tell("on_step_end", {"loss": loss, "tokens_per_second": speed})

            last = state.step == self.total_steps
            paused = time.perf_counter()
            if (state.step % args.logging_steps == 0 or last) and logged_steps:
                left = (self.total_steps - state.step) * seconds / (state.step - first_step)
                metrics = {
                    "step": state.step,
                    "epoch": round(state.epoch + state.batch / len(self.train_batches or ()), 4),
                    "loss": logged_loss / logged_steps,
                    "grad_norm": norm if math.isfinite(norm) else None,
                    "learning_rate": self.optimizer.param_groups[0]["lr"],
                    "tokens": state.tokens,
                    "tokens_per_second": speed,
                    "seconds_left": left,
                    **({"loss_scale": self.precision.scale} if self.precision else {}),
                }
                self._tell("on_log", metrics)
                logged_loss, logged_steps = 0.0, 0
            stop = False
            if self._due(args.eval_strategy, args.eval_steps or 1, ends_epoch, last):
                stop = self._evaluate_and_compare()
            due = self._due(args.save_strategy, args.save_steps, ends_epoch, last)
            if args.save_strategy != "no" and (due or stop or self._stopping.caught):
                self.save()
            seconds_aside += time.perf_counter() - paused
            if self._stopping.caught:
                raise Interrupted(self._interrupted_message())
            if stop:
                break

        seconds = time.perf_counter() - started - seconds_aside
        if args.load_best_model_at_end and state.best_checkpoint:
            self._load_weights(self.output_dir / state.best_checkpoint)
        metrics = {
            "train_runtime": seconds,
            "train_tokens_per_second": (state.tokens - tokens_before) / seconds if seconds else 0.0,
            "peak_memory_mb": peak_memory() / 2**20,
            **state.last_eval,
        }
        return TrainOutput(state.step, total_loss / max(total_steps, 1), metrics)

    def _steps(self) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """The batches of each step from where the state is, and whether the step ends an epoch."""
        assert self.train_batches is not None
        per_epoch, accumulate = len(self.train_batches), self.args.gradient_accumulation_steps
        while True:
            if self.state.batch >= per_epoch:
                self.state.epoch, self.state.batch = self.state.epoch + 1, 0
            batches = self.train_batches.epoch(self.state.epoch, self.state.batch)
            while self.state.batch < per_epoch:
                group = [next(batches) for _ in range(min(accumulate, per_epoch - self.state.batch))]
                yield group, self.state.batch + len(group) == per_epoch

    def _update(self, batches: list[dict[str, Any]]) -> tuple[float, float]:
        """One step; returns (loss, norm of the gradient before clipping)."""
        state, args, precision = self.state, self.args, self.precision
        self.optimizer.scale_lr(self.schedule(state.step))
        counts = [count_labels(batch) for batch in batches]
        shares = [count / sum(counts) for count in counts]
        losses: list[Tensor] = []
        before = []  # the generator's state, to draw the same masks again
        # In float16 overflow is how the loss scale finds its place; on the way it is no news.
        with np.errstate(over="ignore", invalid="ignore") if precision else nullcontext():
            for batch, share in zip(batches, shares, strict=True):
                before.append(self.generator.state_dict())
                batch_loss = self.model.loss(batch)
                weight = share * precision.scale if precision else share
                batch_loss.backward(xp(batch_loss.data).full(batch_loss.shape, weight, dtype=batch_loss.dtype))
                losses.append(batch_loss.detach())
            if precision:
                precision.unscale()
            parameters = [p for _, p in (precision or self.model).named_parameters()]
            norm = clip_gradients(parameters, args.max_grad_norm or None)
        *values, norm = _values(*losses, norm)
        if all(map(math.isfinite, (*values, norm))):
            self.optimizer.step()
            if precision:
                precision.succeeded()
        elif precision is None or not precision.overflowed():
            bad = next((k for k, value in enumerate(values) if not math.isfinite(value)), None)
            what = f"the norm of the gradient is {norm}" if bad is None else f"the loss is {values[bad]}"
            k = -1 if bad is None else bad
            raise self._not_finite(what, batches[k], before[k])
        self.model.zero_grad()
        self.optimizer.zero_grad()
        loss = sum(share * value for share, value in zip(shares, values, strict=True))
        state.step += 1
        state.batch += len(batches)
        state.tokens += sum(np.size(batch.get("input_ids", ())) for batch in batches)
        return loss, norm

    def _not_finite(self, what: str, batch: dict[str, Any], before: dict[str, Any]) -> TrainingError:
        replay = Generator()
        replay.load_state_dict(before)
        with using_generator(replay):  # the same elements are dropped as when it happened
            where = first_nonfinite(self.model, batch)
        saved = list_checkpoints(self.output_dir)
        return TrainingError(
            f"training stopped at step {self.state.step + 1}: {what}; {where}. "
            + (f"The last good checkpoint is {saved[-1]}. " if saved else "No checkpoint was saved before. ")
            + "A lower learning rate, more warm-up steps or a smaller max_grad_norm usually help."
        )

    # --- evaluation

    def evaluate(self) -> dict[str, float]:
        """eval_loss (the mean over all labels of the eval_dataset) and eval_labels (how many those are)."""
        if self.eval_batches is None:
            raise ConfigurationError("evaluate() needs an eval_dataset")
        score = evaluate_language_model(self.model, self.eval_batches)
        return {"eval_loss": score.loss, "eval_labels": score.tokens}

    def _evaluate_and_compare(self) -> bool:
        """Evaluate, save a checkpoint if it is the best so far; True if training should stop early."""
        args, state = self.args, self.state
        metrics = self.evaluate()
        state.last_eval = metrics
        self._tell("on_evaluate", {"step": state.step, **metrics})
        if args.metric_for_best_model not in metrics:
            raise ConfigurationError(
                f"metric_for_best_model={args.metric_for_best_model!r} is not among {', '.join(metrics)}"
            )
        value = metrics[args.metric_for_best_model]
        if not math.isfinite(value):
            batch = next(iter(self.eval_batches or ()))
            raise self._not_finite(f"{args.metric_for_best_model} is {value}", batch, self.generator.state_dict())
        better = state.best_metric is None or (
            value > state.best_metric if args.greater_is_better else value < state.best_metric
        )
        if better:
            state.best_metric, state.evaluations_without_improvement = value, 0
            if args.save_strategy != "no":
                state.best_checkpoint = f"checkpoint-{state.step}"
                self.save()
        else:
            state.evaluations_without_improvement += 1
        patience = args.early_stopping_patience
        return patience is not None and state.evaluations_without_improvement >= patience

    @staticmethod
    def _due_at(strategy: str, every: int, step: int, ends_epoch: bool) -> bool:
        return (strategy == "steps" and step % every == 0) or (strategy == "epoch" and ends_epoch)

    def _due(self, strategy: str, every: int, ends_epoch: bool, last: bool) -> bool:
        return strategy != "no" and (last or self._due_at(strategy, every, self.state.step, ends_epoch))

    # --- checkpoints

    def save(self) -> Path:
        """Write checkpoint-<step>, then delete what save_total_limit does not keep."""
        folder = self.output_dir / f"checkpoint-{self.state.step}"
        if self._saved_step == self.state.step:
            return folder
        optimizer = self.optimizer.state_dict()
        arrays = {f"optimizer.{name}": a for name, a in optimizer.pop("tensors").items()}
        arrays |= {f"model.{name}": a for name, a in self.model.get_extra_state().items()}
        state = {
            **asdict(self.state),
            "optimizer": optimizer,
            "generator": self.generator.state_dict(),
            "precision": self.precision.state_dict() if self.precision else None,
            "batches_per_epoch": len(self.train_batches or ()),
            "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self.args).items()},
            **self.own_state,
        }
        weights = self.precision.weights() if self.precision else None
        save_checkpoint(folder, self.model, self.tokenizer, arrays, state, weights)
        self._saved_step = self.state.step
        self._tell("on_save", folder)
        if self.args.save_total_limit is not None:
            kept = {self.state.best_checkpoint, folder.name}
            old = [p for p in list_checkpoints(self.output_dir) if p.name not in kept]
            for path in old[: max(0, len(old) + len(kept - {None}) - self.args.save_total_limit)]:
                shutil.rmtree(path)
        return folder

    def resume(self, folder: Path) -> None:
        """Take the model, the optimizer, the generator and the position in the data from a checkpoint.

        Raises:
            CheckpointError: if it is damaged, or made with another model, tokenizer, optimizer or amount of data.
        """
        state = read_state(folder)
        tokenizer = load_tokenizer_of(folder)
        if tokenizer is not None and self.tokenizer is not None and tokenizer != self.tokenizer:
            raise CheckpointError(
                f"the tokenizer of this run ({self.tokenizer!r}) is not the one in {folder} ({tokenizer!r}): "
                f"is --data the same text? Resume with the data of the first run, or start a new run"
            )
        batches = len(self.train_batches or ())
        if state.get("batches_per_epoch") != batches:
            raise CheckpointError(
                f"{folder} was trained with {state.get('batches_per_epoch')} batches an epoch, "
                f"and this run has {batches}: resume with the same data, batch size and block size"
            )
        if (state.get("precision") is not None) != self.args.fp16:
            was = "without" if self.args.fp16 else "with"
            raise CheckpointError(f"{folder} was trained {was} fp16: resume with the same setting, or start a new run")
        arrays = read_arrays(folder, "optimizer.safetensors")
        tensors = {n.removeprefix("optimizer."): a for n, a in arrays.items() if n.startswith("optimizer.")}
        extra = {n.removeprefix("model."): a for n, a in arrays.items() if n.startswith("model.")}
        self._load_weights(folder)
        try:
            loaded = TrainerState.from_json(state)
            if self.precision:
                self.precision.load_state_dict(state["precision"])
            self.optimizer.load_state_dict({**state["optimizer"], "tensors": tensors})
            self.generator.load_state_dict(state["generator"])
            self.model.set_extra_state(extra)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be ({error})"
            raise CheckpointError(f"{folder} cannot be resumed from: trainer_state.json {what}") from error
        self.state = loaded

    def _load_weights(self, folder: Path) -> None:
        load_weights(folder, self.model)
        if self.precision:
            self.precision.load_weights(read_arrays(folder, "model.safetensors"))

    # --- signals and callbacks

    def _tell(self, event: str, *details: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *details)

    def _interrupted_message(self) -> str:
        step = f"interrupted at step {self.state.step} of {self.total_steps}"
        if self.args.save_strategy == "no":
            return f"{step}; nothing was saved, since save_strategy is 'no'"
        folder = self.output_dir / f"checkpoint-{self.state.step}"
        return f"{step}; saved {folder}. Resume with: --resume {self.output_dir}"

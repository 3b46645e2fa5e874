"""Training that tells little of any one example: DP-SGD (Abadi et al. 2016, "Deep learning with differential privacy",
algorithm 1).

    draw each of the N examples with probability q = L / N, by itself           about L of them, perhaps none
    g_i = gradient of the loss of example i alone
    c_i = g_i min(1, C / |g_i|)                     over all parameters together: no example moves the sum by more
    g   = (sum_i c_i + N(0, (sigma C)^2)) / L       L, not how many were drawn: that number is private as well
    the optimizer takes g for the gradient          whatever it makes of g gives nothing more away

    trainer = PrivateTrainer(model, args, examples, noise_multiplier=1.1)
    trainer.train()
    trainer.epsilon(delta=1e-5)

C is args.max_grad_norm, L is args.per_device_train_batch_size, and all else is as in Trainer. What sigma a wanted
epsilon needs, `noise_for_epsilon` tells (see accountant).

Examples go through the model one by one, since nothing less gives their gradients apart; so a step takes the time of L
steps of one example, and padding is not needed. A model must not mix examples (ours do not), and what one person wrote
must be one example if it is persons that are to be protected.

What this file does not do: draw noise that is safe against an adversary. Its generator is a function of the seed, which
must stay secret, and floating-point noise has gaps (Mironov 2012). The metrics log and evaluations tell losses of the
data that no noise was added to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minilm.backend import to_numpy, xp
from minilm.errors import CheckpointError, ConfigurationError
from minilm.nn import Module
from minilm.optim import clip_grad_norm_
from minilm.random import Generator
from minilm.tensor import Tensor
from minilm.text import BatchSource
from minilm.training.accountant import epsilon_spent
from minilm.training.arguments import TrainingArguments
from minilm.training.checkpoint import read_state
from minilm.training.trainer import Trainer


class PoissonBatches(BatchSource):
    """Which examples are in each batch: {"index": (B,) int64}, in order; B is random, and may be 0.

    Each of the n examples is in each batch with probability batch_size / n, whatever else is in it: of this kind of
    sampling the accountant knows what it hides. An epoch is round(n / batch_size) batches; an example may be in several
    of them, or in none. Every batch is a function of (seed, epoch, number) alone.
    """

    def __init__(self, n: int, batch_size: int, seed: int = 0) -> None:
        if not 1 <= batch_size <= n:
            raise ConfigurationError(
                f"an expected batch of {batch_size} out of {n} examples: it is from 1 to the number of examples"
            )
        self.n, self.batch_size, self.seed = n, batch_size, seed

    @property
    def sampling_rate(self) -> float:
        """q."""
        return self.batch_size / self.n

    def __len__(self) -> int:
        return max(1, round(self.n / self.batch_size))

    def _batches(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        for number in range(start, len(self)):
            generator = Generator(self.seed).spawn(f"epoch {epoch}, batch {number}")
            uniform = to_numpy(generator.uniform(self.n, dtype="float64"))
            yield {"index": np.flatnonzero(uniform < self.sampling_rate)}


class ClippedSum:
    """The sum of the examples' gradients, each clipped before it is added.

    Args:
        parameters: those that are trained.
        clip_norm: C, over all of them together; infinite: nothing is clipped.
    """

    def __init__(self, parameters: Sequence[Tensor], clip_norm: float) -> None:
        if not clip_norm > 0:
            raise ConfigurationError(
                f"the clipping norm is {clip_norm}: DP-SGD bounds each example's gradient by a positive number "
                "(max_grad_norm)"
            )
        self.parameters, self.clip_norm = list(parameters), clip_norm
        self._sums = [xp(p.data).zeros_like(p.data) for p in self.parameters]

    def add(self) -> float:
        """Clip, add and forget the gradients that one example's `backward` left; returns their norm before.

        Where the norm is not finite they are neither added nor forgotten, for whoever looks for the reason.
        """
        norm = clip_grad_norm_(self.parameters, self.clip_norm)
        if math.isfinite(norm):
            for total, parameter in zip(self._sums, self.parameters, strict=True):
                if parameter.grad is not None:  # else the example does not depend on it
                    total += parameter.grad.data
                    parameter.grad = None
        return norm

    def release(self, noise_multiplier: float, expected: float, generator: Generator) -> None:
        """Make (sum + N(0, (sigma C)^2)) / expected the gradient of every parameter.

        Raises:
            ConfigurationError: for noise on gradients that are not bounded, which nothing could hide.
        """
        if noise_multiplier and math.isinf(self.clip_norm):
            raise ConfigurationError("noise hides gradients only if they are bounded: the clipping norm must be finite")
        for total, parameter in zip(self._sums, self.parameters, strict=True):
            if noise_multiplier:
                total += generator.normal(total.shape, std=noise_multiplier * self.clip_norm, dtype=total.dtype)
            total /= expected
            parameter.grad = Tensor.wrap(total)


class PrivateTrainer(Trainer):
    """The Trainer with private gradients; see this module's docstring.

    Args:
        model, args, train_dataset: as Trainer's. The dataset gives examples by number, not batches.
        noise_multiplier: sigma; with 0 gradients are clipped and nothing is private.
        more: Trainer's other arguments.

    Raises:
        ConfigurationError: for batches, for fp16, for gradient_accumulation_steps other than 1 (per-example gradients
            take no more memory in a large batch), and for a sigma or a clipping norm out of range.
    """

    def __init__(
        self, model: Module, args: TrainingArguments, train_dataset: Any, *, noise_multiplier: float, **more: Any
    ) -> None:
        if not 0 <= noise_multiplier < math.inf:
            raise ConfigurationError(f"noise_multiplier={noise_multiplier}: it is a number from 0 on")
        if args.fp16 or args.gradient_accumulation_steps != 1:
            raise ConfigurationError(
                "a PrivateTrainer takes neither fp16 nor gradient_accumulation_steps: the expected batch may be as "
                "large as you like, since examples go one by one"
            )
        self.noise_multiplier, self.examples = noise_multiplier, train_dataset
        super().__init__(model, args, train_dataset, **more)
        ClippedSum([], args.max_grad_norm)  # complains now, not after the first step
        if isinstance(batches := self.train_batches, PoissonBatches):
            # What all steps must have in common, so that `epsilon` is right; not C, with which the noise grows.
            sampled = {"expected_batch": batches.batch_size, "examples": batches.n}
            self.own_state = {"private": {"noise_multiplier": float(noise_multiplier), **sampled}}

    def _batches(self, dataset: Any, training: bool) -> BatchSource:
        if not training:
            return super()._batches(dataset, training)
        if isinstance(dataset, BatchSource):
            raise ConfigurationError(
                f"a PrivateTrainer draws its batches itself: give it the examples, not {type(dataset).__name__}"
            )
        return PoissonBatches(len(dataset), self.args.per_device_train_batch_size, self.args.seed)

    def epsilon(self, delta: float, accountant: str = "rdp") -> float:
        """What the steps so far have spent, those before a resumption among them; see `epsilon_spent`."""
        assert isinstance(self.train_batches, PoissonBatches)
        rate = self.train_batches.sampling_rate
        return epsilon_spent(self.state.step, rate, self.noise_multiplier, delta, accountant)

    def resume(self, folder: Path) -> None:
        """As Trainer's, from a private run with the same sigma and sampling rate.

        Raises:
            CheckpointError: from any other, whose steps would be accounted for wrongly; and as Trainer's.
        """
        was = read_state(folder).get("private")
        if not isinstance(was, dict):
            raise CheckpointError(
                f"{folder} was not trained by a PrivateTrainer, and what such steps tell of an example nothing bounds: "
                "start a new run"
            )
        for name, value in self.own_state["private"].items():
            if was.get(name) != value:
                raise CheckpointError(
                    f"{folder} was trained with {name} {was.get(name)}, and this run has {value}: epsilon is known "
                    "only for steps that are all alike. Resume with the same setting and data, or start a new run"
                )
        super().resume(folder)

    def _update(self, batches: list[dict[str, Any]]) -> tuple[float, float]:
        """One step; returns (mean loss of the examples drawn, NaN if there were none, norm of the noisy gradient)."""
        state, args = self.state, self.args
        self.optimizer.scale_lr(self.schedule(state.step))
        (drawn,) = batches
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        total = ClippedSum(parameters, args.max_grad_norm)
        losses = []
        before = self.generator.state_dict()
        for index in drawn["index"]:
            example = self.data_collator([self.examples[int(index)]])
            before["offset"] = self.generator.offset  # to draw the same masks again
            loss = self.model.loss(example)
            loss.backward()
            losses.append(float(loss.item()))
            norm = total.add()
            if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
                what = f"of example {index} the loss is {losses[-1]} and the norm of the gradient {norm}"
                raise self._not_finite(what, example, before)
            state.tokens += int(np.size(example.get("input_ids", ())))
        total.release(self.noise_multiplier, args.per_device_train_batch_size, self.generator)
        norm = clip_grad_norm_(parameters, math.inf)
        self.optimizer.step()
        self.model.zero_grad()
        self.optimizer.zero_grad()
        state.step += 1
        state.batch += 1
        return (sum(losses) / len(losses) if losses else math.nan), norm

"""The trainer: schedules, accumulation, evaluation, what it knows of a model, and what it leaves alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minilm.functional as F
from minilm import Generator, Tensor, nn
from minilm.errors import ConfigurationError
from minilm.random import current_generator, using_generator
from minilm.text import ShuffledBatches
from minilm.training import Callback, Trainer, TrainingArguments, list_checkpoints, load_model, read_metrics
from tests.training.runs import assert_same_bits, parameters, small_trainer


class Regression(nn.Module):
    """Not a language model: all that the trainer may know of it is `loss`."""

    def __init__(self) -> None:
        super().__init__()
        with using_generator(Generator(1)):
            self.linear = nn.Linear(3, 1)
        self.astype("float64")

    def loss(self, batch: dict[str, Any]) -> Tensor:
        error = self.linear(Tensor(batch["x"])).reshape(-1) - Tensor(batch["y"])
        return (error * error).mean()


RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3))
EXAMPLES = [{"x": x, "y": x @ [1.0, -2.0, 0.5]} for x in X]


def regression_trainer(out: Path, examples: Any = EXAMPLES, **settings: Any) -> Trainer:
    arguments = {"learning_rate": 0.1, "progress": False, "save_strategy": "no", "optim": "sgd", "max_grad_norm": 0.0}
    return Trainer(
        Regression(), TrainingArguments(out, **{**arguments, **settings}), train_dataset=examples, eval_dataset=EXAMPLES
    )


def test_any_model_with_a_loss_trains_on_any_examples(tmp_path: Path) -> None:
    trainer = regression_trainer(tmp_path, num_train_epochs=80.0)
    before = trainer.evaluate()["eval_loss"]
    output = trainer.train()
    assert output.global_step == 80 * 3  # 24 examples, 8 to a batch
    assert trainer.evaluate()["eval_loss"] < 1e-6 < before
    np.testing.assert_allclose(trainer.model.linear.weight.numpy(), [[1.0, -2.0, 0.5]], atol=1e-3)


@pytest.mark.parametrize(("batch", "accumulate"), [(4, 3), (6, 2), (1, 12), (5, 3)])
def test_accumulated_batches_give_the_step_of_the_big_batch(tmp_path: Path, batch: int, accumulate: int) -> None:
    # with 5 to a batch the third batch of 12 examples has only 2: a plain mean of means would be another step
    examples = EXAMPLES[:12]

    class InOrder(ShuffledBatches):
        def _batches(self, epoch: int, start: int) -> Any:
            for i in range(start, len(self)):
                yield self.collate(examples[i * self.batch_size : (i + 1) * self.batch_size])

    def after_one_step(size: int, times: int) -> dict[str, np.ndarray]:
        batches = InOrder(examples, size, drop_last=False)
        trainer = regression_trainer(tmp_path, batches, max_steps=1, gradient_accumulation_steps=times)
        trainer.train()
        return parameters(trainer.model)

    big, small = after_one_step(12, 1), after_one_step(batch, accumulate)
    for name in big:
        np.testing.assert_allclose(small[name], big[name], rtol=1e-13, atol=1e-15)


def test_accumulation_weighs_by_labels_that_count(tmp_path: Path) -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(np.linspace(-1, 1, 5))

        def loss(self, batch: dict[str, Any]) -> Tensor:
            return F.cross_entropy(self.logits.expand(*batch["labels"].shape, 5), batch["labels"])

    examples = [{"labels": np.array(v)} for v in ([0, 1, 2, -100], [3, -100, -100, -100])]

    def step(size: int, times: int) -> np.ndarray:
        arguments = TrainingArguments(
            tmp_path, max_steps=1, learning_rate=1.0, optim="sgd", max_grad_norm=0, save_strategy="no", progress=False,
            per_device_train_batch_size=size, gradient_accumulation_steps=times,
        )  # fmt: skip
        trainer = Trainer(Bag(), arguments, examples)
        trainer.train()
        return parameters(trainer.model)["logits"]

    np.testing.assert_allclose(step(1, 2), step(2, 1), rtol=1e-13)


def test_steps_epochs_and_schedules(tmp_path: Path) -> None:
    rates: list[float] = []

    class Watch(Callback):
        def on_step_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    trainer = regression_trainer(tmp_path, num_train_epochs=2.5, warmup_steps=2, learning_rate=0.1)
    trainer.callbacks.append(Watch())
    trainer.train()
    assert trainer.total_steps == len(rates) == 8  # 2.5 epochs of 3 batches
    assert max(rates) <= 0.1 and rates[-1] < rates[3] and rates[0] < 0.1


def test_metrics_are_json_lines_with_steps(tmp_path: Path) -> None:
    small_trainer(tmp_path, steps=12).train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(read_metrics(tmp_path / "metrics.jsonl"))
    trained = [m for m in lines if "loss" in m]
    assert [m["step"] for m in trained] == [2, 4, 6, 8, 10, 12]
    assert set(trained[0]) == {
        "step", "epoch", "loss", "grad_norm", "learning_rate", "tokens", "tokens_per_second", "seconds_left",
    }  # fmt: skip
    assert trained[-1]["tokens"] == 12 * 4 * 16
    assert [m["step"] for m in lines if "eval_loss" in m] == [4, 8, 12]


def test_the_best_model_is_loaded_at_the_end(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, steps=12, load_best_model_at_end=True)
    losses = iter([{"eval_loss": v} for v in (3.0, 1.0, 2.0)])
    trainer.evaluate = lambda: next(losses)
    trainer.train()
    best, _ = load_model(tmp_path / "checkpoint-8")
    assert_same_bits(parameters(trainer.model), parameters(best))
    chosen, _ = load_model(tmp_path)  # a run's folder means its best checkpoint too
    assert_same_bits(parameters(chosen), parameters(best))


def test_training_stops_early_when_nothing_improves(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, steps=100, eval_steps=2, early_stopping_patience=2)
    losses = iter([{"eval_loss": v} for v in (3.0, 2.0, 2.5, 1.9, 2.0, 2.1, 0.0)])
    trainer.evaluate = lambda: next(losses)
    assert trainer.train().global_step == 12
    assert list_checkpoints(tmp_path)[-1].name == "checkpoint-12"


def test_the_seed_decides_the_order_and_the_dropout(tmp_path: Path) -> None:
    def trained(name: str, seed: int) -> dict[str, np.ndarray]:
        trainer = small_trainer(tmp_path / name, steps=3, seed=seed)
        trainer.train()
        return parameters(trainer.model)

    one, again, other = trained("one", 1), trained("again", 1), trained("other", 2)
    assert_same_bits(one, again)
    assert any((one[name] != other[name]).any() for name in one)


def test_no_global_generator_is_touched(tmp_path: Path) -> None:
    numpy_state, python_state = vars(np.random)["get_state"], sys.modules["random"].getstate
    numpy_before, python_before = numpy_state()[1].copy(), python_state()
    ours, ours_before = current_generator(), current_generator().state_dict()
    small_trainer(tmp_path, steps=3).train()
    assert (numpy_state()[1] == numpy_before).all() and python_state() == python_before
    assert current_generator() is ours and ours.state_dict() == ours_before


def test_evaluation_neither_drops_nor_learns(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, dropout=0.5)
    before = parameters(trainer.model)
    first, second = trainer.evaluate(), trainer.evaluate()
    assert first == second and trainer.model.training
    assert_same_bits(before, parameters(trainer.model))


def test_peak_memory_and_speed_are_reported(tmp_path: Path) -> None:
    metrics = small_trainer(tmp_path, steps=2).train().metrics
    assert metrics["peak_memory_mb"] > 10 and metrics["train_tokens_per_second"] > 0 and "eval_loss" in metrics


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be at least 0"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1"),
        ({"optim": "lion"}, "optim must be one of adamw"),
        ({"eval_strategy": "sometimes"}, "eval_strategy must be one of"),
        ({"early_stopping_patience": 2}, "need evaluations"),
        ({"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "no"}, "needs checkpoints"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TrainingArguments(tmp_path, **settings)


def test_missing_datasets_are_named(tmp_path: Path) -> None:
    arguments = TrainingArguments(tmp_path, eval_strategy="steps", progress=False)
    with pytest.raises(ConfigurationError, match="needs an eval_dataset"):
        Trainer(Regression(), arguments, EXAMPLES)
    with pytest.raises(ConfigurationError, match="needs a train_dataset"):
        Trainer(Regression(), TrainingArguments(tmp_path, progress=False)).train()

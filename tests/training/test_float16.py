"""fp16: float16 models, float32 master weights, a loss scale that finds its place and can be resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import nn, no_grad, use_backend
from minilm.backend import Array
from minilm.errors import CheckpointError, ConfigurationError, TrainingError
from minilm.optim import SGD
from minilm.tensor import OPERATIONS, elementwise
from minilm.training import Callback, Trainer, find_checkpoint, load_model, read_metrics
from minilm.training.mixed_precision import MixedPrecision
from tests.backend.standin import install
from tests.training.runs import TOKENS, assert_same_bits, parameters, small_model, small_trainer


@pytest.fixture(params=["numpy", "standin"])
def home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    install(monkeypatch)
    with use_backend(request.param):
        yield request.param


class Watch(Callback):
    """The loss scale after each step."""

    def __init__(self) -> None:
        self.scales: list[float] = []

    def on_step_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        assert trainer.precision is not None
        self.scales.append(trainer.precision.scale)


def watched(trainer: Trainer) -> list[float]:
    watch = Watch()
    trainer.callbacks.append(watch)
    return watch.scales


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_a_small_model_reaches_nearly_the_loss_of_float32(home: str, tmp_path: Path, kind: str) -> None:
    settings = {"steps": 30, "dropout": 0.0, "eval_steps": 30, "save_steps": 30, "learning_rate": 1e-2}
    half, single = (small_trainer(tmp_path / str(fp16), kind, fp16=fp16, **settings) for fp16 in (True, False))
    before = single.evaluate()["eval_loss"]
    losses = [t.train().metrics["eval_loss"] for t in (half, single)]
    assert {p.dtype for p in half.model.parameters()} == {np.dtype("float16")}
    assert losses[1] < before - 0.2  # it learns
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert losses[0] != losses[1]


def test_every_gradient_and_weight_of_the_optimizer_is_float32(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, steps=2, fp16=True)
    assert {p.dtype.name for group in trainer.optimizer.param_groups for p in group["params"]} == {"float32"}
    start = trainer.precision.weights()
    assert_same_bits(start, parameters(small_model("gpt")))
    trainer.train()
    masters, weights = trainer.precision.weights(), parameters(trainer.model)
    for name, master in masters.items():
        assert master.dtype == np.float32 and (master != start[name]).any()
        assert (weights[name] == master.astype("float16")).all() and weights[name].dtype == np.float16
    assert any((masters[name] != weights[name]).any() for name in masters)


def test_updates_too_small_for_float16_add_up_in_the_masters() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(np.ones(1, "float32"))

    model = One()
    precision = MixedPrecision(model)
    optimizer = SGD(precision.named_parameters(), lr=1.0)
    for _ in range(100):
        model.weight.grad = np.full(1, 1e-5 * precision.scale, "float16")
        precision.unscale()
        optimizer.step()
        precision.succeeded()
    assert np.float16(1) - np.float16(1e-5) == 1
    assert precision.masters["weight"].item() == pytest.approx(0.999, rel=1e-5)
    assert model.weight.item() == np.float16(0.999)


@pytest.fixture
def spiked_norm() -> Any:
    """Multiplies the gradients below the last norm of a model, as long as the value it gives says so."""
    factors = [1.0]

    @elementwise
    def spiked(x: Array) -> Any:
        return x, lambda g: g * x.dtype.type(factors[0])

    def into(trainer: Trainer) -> list[float]:
        layer = trainer.model.final_norm
        plain = type(layer).forward
        layer.forward = lambda x: plain(layer, spiked(x))
        return factors

    yield into
    del OPERATIONS["spiked"]


def test_an_overflow_leaves_the_step_out_and_halves_the_scale(home: str, tmp_path: Path, spiked_norm: Any) -> None:
    trainer = small_trainer(tmp_path, steps=4, dropout=0.0, fp16=True, save_strategy="no", eval_strategy="no")
    trainer.evaluate = dict
    factors = spiked_norm(trainer)
    seen = []

    class Spike(Callback):
        def on_step_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
            seen.append(trainer.precision.weights())
            factors[0] = float("inf") if trainer.state.step == 2 else 1.0  # in step 3

    scales = watched(trainer)
    trainer.callbacks.append(Spike())
    trainer.train()
    assert scales == [2.0**16, 2.0**16, 2.0**15, 2.0**15]
    assert trainer.precision.skipped_steps == 1 and trainer.state.step == 4
    assert_same_bits(seen[1], seen[2])  # the third step was left out,
    assert any((seen[2][name] != seen[3][name]).any() for name in seen[2])  # and the fourth not
    for gradient in (p.grad for p in trainer.model.parameters()):
        assert gradient is None


def test_the_scale_finds_its_place_where_the_first_is_too_large(tmp_path: Path, spiked_norm: Any) -> None:
    trainer = small_trainer(tmp_path, steps=16, fp16=True, logging_steps=1)
    spiked_norm(trainer)[0] = 2000.0
    scales = watched(trainer)
    trainer.train()
    assert scales[0] == 2.0**15 and scales[-1] == scales[-2] < 2.0**16
    logged = [m for m in read_metrics(tmp_path / "metrics.jsonl") if "loss_scale" in m]
    assert [m["loss_scale"] for m in logged] == scales
    assert logged[0]["grad_norm"] is None and logged[-1]["grad_norm"] > 0 and logged[0]["loss"] > 0
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text


def test_the_scale_doubles_after_so_many_good_steps() -> None:
    precision = MixedPrecision(small_model("gpt"), initial_scale=8.0, growth_interval=3)
    scales = []
    for good in (True, True, True, True, True, False, True, True, True):
        precision.succeeded() if good else precision.overflowed()
        scales.append(precision.scale)
    assert scales == [8, 8, 16, 16, 16, 8, 8, 8, 16]
    mixed = MixedPrecision(small_model("gpt"))
    assert (mixed.scale, mixed.growth_interval) == (65536, 2000)


def test_the_scale_does_not_show_in_the_gradients() -> None:
    """It is a power of two: only what is subnormal in float16 at one scale, and not at the other, differs."""
    batch = {"input_ids": TOKENS[None, :16], "labels": TOKENS[None, 1:17]}
    found = []
    for scale in (2.0**10, 2.0**14):
        model = small_model("gpt", dropout=0.0)
        precision = MixedPrecision(model, scale)
        model.loss(batch).backward(np.float32(scale))
        precision.unscale()
        found.append(np.concatenate([p.grad.numpy().reshape(-1) for _, p in precision.named_parameters()]))
        assert found[-1].dtype == np.float32
    assert np.linalg.norm(found[0] - found[1]) < 1e-3 * np.linalg.norm(found[1])


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_resuming_gives_the_same_bits(home: str, tmp_path: Path, kind: str) -> None:
    def trainer(out: str) -> Trainer:
        made = small_trainer(tmp_path / out, kind, steps=9, fp16=True)
        made.precision.growth_interval = 4  # so that the count of good steps matters
        return made

    straight = trainer("straight")
    scales = watched(straight)
    straight.train()
    assert scales[-1] > scales[0]
    resumed = trainer("resumed")
    resumed.train(resume_from_checkpoint=tmp_path / "straight" / "checkpoint-3")
    assert_same_bits(straight.precision.weights(), resumed.precision.weights())
    assert_same_bits(parameters(straight.model), parameters(resumed.model))
    assert straight.precision.state_dict() == resumed.precision.state_dict() and straight.state == resumed.state


def test_a_checkpoint_holds_the_masters_and_the_scale(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, steps=3, fp16=True)
    trainer.train()
    folder = find_checkpoint(tmp_path)
    loaded, _ = load_model(folder)
    assert_same_bits(parameters(loaded), trainer.precision.weights())
    state = json.loads((folder / "trainer_state.json").read_text())
    assert state["precision"] == {"scale": 65536.0, "good_steps": 3, "skipped_steps": 0}
    for fp16 in (True, False):
        other = small_trainer(tmp_path / str(fp16), steps=3, fp16=fp16)
        other.train()
        with pytest.raises(CheckpointError, match="fp16: resume with the same setting"):
            small_trainer(tmp_path / "other", fp16=not fp16).train(resume_from_checkpoint=other.output_dir)


def test_the_best_model_is_loaded_into_both(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, steps=12, fp16=True, load_best_model_at_end=True)
    losses = iter([{"eval_loss": v} for v in (3.0, 1.0, 2.0)])
    trainer.evaluate = lambda: next(losses)
    trainer.train()
    best, _ = load_model(tmp_path / "checkpoint-8")
    assert_same_bits(trainer.precision.weights(), parameters(best))
    assert_same_bits(parameters(trainer.model), parameters(best.astype("float16")))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_nan_that_persists_at_scale_1_stops_with_the_diagnosis(home: str, tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, steps=40, fp16=True, eval_strategy="no", save_strategy="no")
    layer = trainer.model.blocks[1].feed_forward.up_proj
    plain = layer.forward
    layer.forward = lambda *inputs: plain(*inputs) * float("nan")
    scales = watched(trainer)
    start = trainer.precision.weights()
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    assert scales == [2.0**k for k in range(15, -1, -1)]
    assert "stopped at step 17: the loss is nan" in str(caught.value)
    assert "blocks.1.feed_forward.up_proj (Linear)" in str(caught.value)
    assert_same_bits(start, trainer.precision.weights())


def test_a_gradient_that_is_not_finite_at_scale_1_is_named(tmp_path: Path, spiked_norm: Any) -> None:
    trainer = small_trainer(tmp_path, steps=40, fp16=True, eval_strategy="no", save_strategy="no")
    trainer.precision.scale = 1.0
    spiked_norm(trainer)[0] = float("inf")
    with pytest.raises(TrainingError, match="the norm of the gradient is (inf|nan); the forward pass is finite"):
        trainer.train()


def test_accumulated_batches_and_frozen_parameters_work_in_float16(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, steps=3, fp16=True, gradient_accumulation_steps=3)
    frozen = small_trainer(tmp_path / "frozen", steps=3, fp16=False)
    frozen.model.token_embedding.weight.requires_grad = False
    frozen = Trainer(frozen.model, frozen.args.__class__(tmp_path / "f", fp16=True, max_steps=3, progress=False,
                     save_strategy="no"), frozen.train_batches)  # fmt: skip
    before = parameters(frozen.model)["token_embedding.weight"]
    trainer.train()
    frozen.train()
    assert trainer.state.batch == 9
    assert (parameters(frozen.model)["token_embedding.weight"] == before).all()


def test_an_optimizer_made_before_is_refused(tmp_path: Path) -> None:
    model = small_model("gpt")
    plain = small_trainer(tmp_path)
    plain.args.fp16 = True
    with pytest.raises(ConfigurationError, match="float32 copies of the weights"):
        Trainer(model, plain.args, plain.train_batches, plain.eval_batches,
                optimizers=(SGD(model.named_parameters(), 0.1), None))  # fmt: skip


def test_a_model_in_float16_generates(home: str) -> None:
    from minilm.generation import generate

    half, single = small_model("gpt").astype("float16"), small_model("gpt")
    prompt = np.arange(5)
    with no_grad():
        assert half.eval()(prompt[None]).dtype == np.float16
    assert generate(half, prompt, 8, temperature=0).shape == (8,)
    np.testing.assert_allclose(half(prompt[None]).numpy(), single.eval()(prompt[None]).numpy(), atol=2e-3)

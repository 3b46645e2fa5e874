"""DP-SGD: what each example can do is bounded, what is added has the right size, and without both it is plain SGD.

The model is a logistic regression, whose gradient is a formula: (p - y) x for the weights, p - y for the bias.
"""

import math

import numpy as np
import pytest

import minilm.functional as F
from minilm import Generator, nn, no_grad
from minilm.backend import to_numpy
from minilm.errors import CheckpointError, ConfigurationError, TrainingError
from minilm.tensor import Tensor
from minilm.text import OrderedBatches
from minilm.training import (
    Callback,
    ClippedSum,
    PoissonBatches,
    PrivateTrainer,
    Trainer,
    TrainingArguments,
    epsilon_spent,
)
from tests.training.runs import TOKENS, assert_same_bits, small_model

N, C = 40, 5


class Logistic(nn.Module):
    """x (B, C) -> one logit for class 1, over a logit of 0 for class 0."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(C, 1)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        with no_grad():
            for parameter in self.linear.parameters():
                parameter.fill_(0.1)

    def loss(self, batch):
        z = self.linear(Tensor(batch["x"]))  # (B, 1)
        return F.cross_entropy(F.concatenate([z * 0.0, z], axis=-1), batch["labels"])


def examples(scale=3.0):
    draw = np.random.default_rng(5)
    x = (scale * draw.normal(size=(N, C))).astype(np.float32)
    return [{"x": row, "labels": np.int64(row.sum() > 0)} for row in x]


def formula_gradients(data):
    """(N, C + 1): each example's gradient at the start, in float64."""
    x = np.array([e["x"] for e in data], dtype=np.float64)
    y = np.array([e["labels"] for e in data])
    p = 1 / (1 + np.exp(-(x @ np.full(C, 0.1) + 0.1)))
    return (p - y)[:, None] * np.concatenate([x, np.ones((N, 1))], axis=1)


def clipped(gradients, clip_norm):
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return gradients * np.minimum(1, clip_norm / norms)


def trainer(folder, data, sigma, kind=PrivateTrainer, model=None, **changes):
    settings = {
        "per_device_train_batch_size": N,
        "optim": "sgd",
        "learning_rate": 1.0,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "max_steps": 1,
        "save_strategy": "no",
        "progress": False,
        **changes,
    }
    more = {"noise_multiplier": sigma} if kind is PrivateTrainer else {}
    return kind(model or Logistic(), TrainingArguments(folder, **settings), data, **more)


def step(t):
    """What one step of SGD with learning rate 1 subtracts: the gradient, (C + 1,)."""
    parameters = [t.model.linear.weight, t.model.linear.bias]
    before = np.concatenate([p.numpy().ravel() for p in parameters])
    t.train()
    return before - np.concatenate([p.numpy().ravel() for p in parameters])


def test_each_example_is_clipped_by_itself_to_the_norm(tmp_path):
    data = examples()
    gradients = formula_gradients(data)
    norms = np.linalg.norm(gradients, axis=1)
    assert (norms > 2.5).sum() > 10 < (norms < 2.5).sum()  # some are clipped and some are not
    found = step(trainer(tmp_path, data, 0.0, max_grad_norm=2.5))
    np.testing.assert_allclose(found, clipped(gradients, 2.5).sum(0) / N, atol=1e-6)
    assert np.abs(found - clipped(gradients.mean(0, keepdims=True), 2.5)[0]).max() > 0.01  # the mean clipped is another


def test_no_example_moves_the_sum_by_more_than_the_norm():
    """With one example more the sum changes by that example's clipped gradient: at most C, and C where it is long."""
    model, bound = Logistic(), 0.5
    data = examples(scale=100.0)
    total = ClippedSum(list(model.linear.parameters()), bound)
    before = np.zeros(C + 1)
    for example, gradient in zip(data, formula_gradients(data), strict=True):
        model.loss({"x": example["x"][None], "labels": example["labels"][None]}).backward()
        norm = total.add()
        now = np.concatenate([to_numpy(s).ravel() for s in total._sums]).astype(np.float64)
        moved = np.linalg.norm(now - before)
        assert moved <= bound * (1 + 1e-5)
        if np.linalg.norm(gradient) > 1e-3:
            rounding = float(2 * np.finfo("float32").eps * np.linalg.norm(example["x"]))  # (p - y) x, with p near y
            assert norm == pytest.approx(np.linalg.norm(gradient), rel=1e-3, abs=rounding)
            assert moved == pytest.approx(min(norm, bound), abs=1e-4)
        before = now


def test_without_noise_and_bound_it_is_plain_sgd(tmp_path):
    data = examples()
    common = {"max_grad_norm": math.inf, "max_steps": 5, "learning_rate": 0.1}
    private = trainer(tmp_path / "a", data, 0.0, **common)
    plain = trainer(tmp_path / "b", OrderedBatches(data, N), 0.0, kind=Trainer, **{**common, "max_grad_norm": 0.0})
    private.train()
    plain.train()
    for one, other in zip(private.model.linear.parameters(), plain.model.linear.parameters(), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(plain.model.linear.weight.numpy() - 0.1).max() > 0.05


def test_the_noise_is_normal_with_deviation_sigma_c_over_l():
    """4 standard errors each way: an honest generator fails with one seed in some thousands; this one is fixed."""
    n, sigma, bound, expected = 40_000, 1.7, 0.3, 16
    weights = [nn.Parameter(np.zeros((100, 300), dtype=np.float32)), nn.Parameter(np.zeros(10_000, dtype=np.float32))]
    ClippedSum(weights, bound).release(sigma, expected, Generator(1))
    z = np.concatenate([p.grad.numpy().ravel() for p in weights]) / (sigma * bound / expected)
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.std() - 1) < 4 / math.sqrt(2 * n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)  # the fourth moment is a normal's
    assert abs(np.corrcoef(z[:20_000], z[20_000:])[0, 1]) < 4 / math.sqrt(20_000)


def test_the_sum_is_divided_by_the_expected_batch_and_not_by_the_one_drawn(tmp_path):
    data = examples()
    t = trainer(tmp_path, data, 0.0, per_device_train_batch_size=10)
    drawn = next(iter(t.train_batches))["index"]
    assert len(drawn) != 10
    np.testing.assert_allclose(step(t), clipped(formula_gradients(data), 1.0)[drawn].sum(0) / 10, atol=1e-6)


def test_an_empty_batch_still_takes_its_step_of_noise(tmp_path):
    t = trainer(tmp_path, examples(), 2.0, max_steps=50, per_device_train_batch_size=1)
    sizes = [len(batch["index"]) for epoch in range(2) for batch in t.train_batches.epoch(epoch)][:50]
    assert 0 in sizes
    moves = []

    class Watch(Callback):
        def on_step_end(self, trainer, metrics):
            moves.append(metrics["loss"])

    t.callbacks.append(Watch())
    t.train()
    assert [math.isnan(loss) for loss in moves] == [size == 0 for size in sizes]
    assert np.isfinite(t.model.linear.weight.numpy()).all()


def test_examples_are_drawn_each_by_itself_with_the_sampling_rate():
    n, size = 200, 20
    batches = PoissonBatches(n, size, seed=4)
    drawn = np.zeros((60 * len(batches), n), dtype=bool)
    for row, batch in zip(drawn, (b for epoch in range(60) for b in batches.epoch(epoch)), strict=True):
        row[batch["index"]] = True
    steps = len(drawn)
    assert steps == 600 and batches.sampling_rate == 0.1
    assert abs(drawn.mean() - 0.1) < 4 * math.sqrt(0.09 / drawn.size)
    sizes = drawn.sum(1)
    assert abs(sizes.var() / (n * 0.09) - 1) < 4 * math.sqrt(2 / steps)  # binomial, not fixed
    together = (drawn.astype(float).T @ drawn)[np.triu_indices(n, 1)] / steps  # of two, both: q²
    assert abs(together.mean() - 0.01) < 0.001
    again = [b["index"] for b in PoissonBatches(n, size, seed=4).epoch(3, start=5)]
    np.testing.assert_array_equal(again[0], np.flatnonzero(drawn[35]))


def test_a_private_run_that_was_stopped_resumes_bit_for_bit(tmp_path):
    data = [{"input_ids": TOKENS[i : i + 9 + i % 5], "labels": TOKENS[i + 1 : i + 10 + i % 5]} for i in range(12)]
    common = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "per_device_train_batch_size": 4}

    def run(folder, **changes):
        model = small_model("gpt", dropout=0.1)
        return trainer(folder, data, 1.0, model=model, optim="adamw", **{**common, "learning_rate": 1e-3, **changes})

    whole = run(tmp_path / "a")
    whole.train()
    run(tmp_path / "b", max_steps=3).train()
    half = run(tmp_path / "b")
    half.train(resume_from_checkpoint=True)
    assert_same_bits(half.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize(
    "sigma, size, was, now",
    [(2.0, 9, "noise_multiplier 1.0", "2.0"), (1.0, 10, "expected_batch 9", "10")],  # both make 4 batches an epoch
)
def test_a_run_is_not_resumed_with_other_noise_or_another_sampling_rate(tmp_path, sigma, size, was, now):
    """All steps would be accounted for as if they were of the new kind: with more noise, epsilon would be too small."""
    common = {"save_strategy": "steps", "save_steps": 2}
    trainer(tmp_path, examples(), 1.0, per_device_train_batch_size=9, max_steps=2, **common).train()
    other = trainer(tmp_path, examples(), sigma, per_device_train_batch_size=size, max_steps=4, **common)
    with pytest.raises(CheckpointError, match=f"was trained with {was}, and this run has {now}"):
        other.train(resume_from_checkpoint=True)
    assert other.state.step == 0
    same = trainer(tmp_path, examples(), 1.0, per_device_train_batch_size=9, max_steps=4, **common)
    assert same.train(resume_from_checkpoint=True).global_step == 4


def test_steps_that_were_not_private_are_not_counted_as_private(tmp_path):
    common = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2, "per_device_train_batch_size": 8}
    trainer(tmp_path, examples(), 0.0, kind=Trainer, **common).train()
    with pytest.raises(CheckpointError, match="was not trained by a PrivateTrainer"):
        trainer(tmp_path, examples(), 1.0, **common).train(resume_from_checkpoint=True)


def test_the_trainer_knows_what_it_has_spent(tmp_path, require_package):
    require_package("dp_accounting")
    t = trainer(tmp_path, examples(), 1.5, per_device_train_batch_size=4, max_steps=20)
    assert t.epsilon(1e-3) == 0
    t.train()
    assert t.epsilon(1e-3) == epsilon_spent(20, 0.1, 1.5, 1e-3) > 0


@pytest.mark.parametrize(
    "changes, sigma, message",
    [
        ({"max_grad_norm": 0.0}, 1.0, "max_grad_norm"),
        ({"gradient_accumulation_steps": 2}, 1.0, "gradient_accumulation_steps"),
        ({"fp16": True}, 1.0, "fp16"),
        ({}, -1.0, "noise_multiplier"),
        ({"per_device_train_batch_size": N + 1}, 1.0, "from 1 to the number of examples"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, changes, sigma, message):
    with pytest.raises(ConfigurationError, match=message):
        trainer(tmp_path, examples(), sigma, **changes)


def test_batches_made_elsewhere_and_noise_without_a_bound_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="draws its batches itself"):
        trainer(tmp_path, OrderedBatches(examples(), 4), 1.0)
    with pytest.raises(ConfigurationError, match="finite"):
        trainer(tmp_path, examples(), 1.0, max_grad_norm=math.inf).train()


def test_an_example_whose_loss_is_not_finite_is_named(tmp_path):
    data = examples()
    data[7]["x"] = np.full(C, np.inf, dtype=np.float32)
    with pytest.raises(TrainingError, match="example 7"), np.errstate(invalid="ignore"):
        trainer(tmp_path, data, 1.0).train()

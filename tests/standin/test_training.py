"""The trainer on device arrays: NumPy's numbers, one wait a step, ids that are checked before anything is indexed.

What crosses in one step of the trainer, and why:

- up: the arrays of the batch that the model uses (ids and labels, and for streams which rows go on), each once;
- down: one transfer, of the losses and the gradient's norm together. The update hangs on them (a step whose loss is not
  finite is not taken), so the trainer could not wait less often; clipping and the loss scale work without it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import Generator, Tensor, use_backend
from minilm.backend import asarray
from minilm.generation import generate
from minilm.generation.generate import NextToken
from minilm.nn import Embedding
from minilm.optim import SGD, Adam, AdamW, Optimizer, clip_grad_norm_, clip_gradients, grad_norm
from minilm.random import using_generator
from minilm.training import Trainer, load_model, read_metrics
from tests.backend.standin import DeviceArray, no_synchronization, watched
from tests.training.runs import TOKENS, assert_same_bits, parameters, small_model, small_trainer

KINDS = ["gpt", "lstm", "gru"]
UPLOADS = {"gpt": 2, "lstm": 3, "gru": 3}  # ids, labels; of a stream also `continues`


def losses(out: Path) -> list[float]:
    keys = ("loss", "eval_loss", "grad_norm")
    return [m[key] for m in read_metrics(out / "metrics.jsonl") for key in keys if key in m]


@pytest.mark.parametrize("kind", KINDS)
def test_training_equals_that_on_numpy(kind: str, tmp_path: Path, standin_known: None) -> None:
    settings: dict[str, Any] = {"steps": 8, "max_grad_norm": 0.5}
    host = small_trainer(tmp_path / "numpy", kind, **settings)
    host.train()
    with use_backend("standin"):
        device = small_trainer(tmp_path / "standin", kind, **settings)
        device.train()
        assert all(isinstance(p.data, DeviceArray) for p in device.model.parameters())
        found = parameters(device.model)
    for name, expected in parameters(host.model).items():
        # Adam divides by sqrt(v): where a gradient is rounding alone (a key's bias), so is its update
        np.testing.assert_allclose(found[name], expected, atol=1e-4 if "qkv_proj.bias" not in name else 0.05)
    np.testing.assert_allclose(losses(tmp_path / "standin"), losses(tmp_path / "numpy"), rtol=1e-4)
    assert len(losses(tmp_path / "numpy")) > 8


@pytest.mark.parametrize("fp16", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_waits_for_the_device_once(kind: str, fp16: bool, tmp_path: Path, device: None) -> None:
    trainer = small_trainer(tmp_path, kind, steps=5, fp16=fp16, dropout=0.2, save_strategy="no", eval_strategy="no")
    update, steps = trainer._update, []

    def watched(batches: Any) -> Any:
        with no_synchronization(transfers=1) as traffic:
            result = update(batches)
        uploads = UPLOADS[kind] - (kind != "gpt" and trainer.state.step == 1)  # the first batch of a stream has no past
        assert (traffic.transfers, traffic.uploads) == (1, uploads)
        used = sum(np.asarray(batch[name]).nbytes for batch in batches for name in ("input_ids", "labels"))
        assert used <= traffic.uploaded <= used + 64
        steps.append(traffic)
        return result

    trainer._update = watched
    trainer.train()
    assert len(steps) == 5


def test_accumulated_batches_share_the_one_wait(tmp_path: Path, device: None) -> None:
    trainer = small_trainer(tmp_path, steps=3, gradient_accumulation_steps=3, save_strategy="no", eval_strategy="no")
    batches = [next(trainer.train_batches.epoch(0, k)) for k in range(3)]
    with no_synchronization(transfers=1) as traffic:
        trainer._update(batches)
    assert (traffic.transfers, traffic.uploads) == (1, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_on_the_device_gives_the_same_bits(kind: str, tmp_path: Path, device: None) -> None:
    straight = small_trainer(tmp_path / "straight", kind, steps=6)
    straight.train()
    resumed = small_trainer(tmp_path / "resumed", kind, steps=6)
    resumed.train(resume_from_checkpoint=tmp_path / "straight" / "checkpoint-3")
    assert_same_bits(parameters(straight.model), parameters(resumed.model))


def test_a_run_begun_on_the_device_goes_on_on_the_host(tmp_path: Path, standin_known: None) -> None:
    with use_backend("standin"):
        small_trainer(tmp_path / "run", steps=3).train()
        whole = small_trainer(tmp_path / "whole", steps=6)
        whole.train()
        expected = parameters(whole.model)
    model, _ = load_model(tmp_path / "run")
    assert all(isinstance(p.data, np.ndarray) for p in model.parameters())
    host = small_trainer(tmp_path / "run", steps=6)
    host.train(resume_from_checkpoint=True)
    for name, found in parameters(host.model).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-4 if "qkv_proj.bias" not in name else 0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
def test_samples_equal_those_on_numpy(kind: str, use_cache: bool, standin_known: None) -> None:
    settings: dict[str, Any] = {"temperature": 0.8, "top_k": 20, "seed": 5, "use_cache": use_cache}
    expected = generate(small_model(kind), TOKENS[:4], 14, **settings)  # past the context of 16 too
    with use_backend("standin"):
        model = small_model(kind)
        np.testing.assert_array_equal(generate(model, TOKENS[:4], 14, **settings), expected)
        next_token = NextToken(model, use_cache)
        with no_synchronization(transfers=1) as traffic:
            row = next_token.logits(TOKENS[:4].tolist())
    assert row.shape == (model.config.vocab_size,) and (traffic.transfers, traffic.uploads) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["input_ids", "labels"])
@pytest.mark.parametrize("bad", [-1, 10_000])
def test_an_id_out_of_range_is_refused_before_the_device_sees_it(
    kind: str, name: str, bad: int, device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(kind)
    batch = {"input_ids": TOKENS[None, :8].copy(), "labels": TOKENS[None, 1:9].copy()}
    batch[name][0, 5] = bad
    indexed: list[Any] = []
    getitem = DeviceArray.__getitem__

    def watch(self: Any, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        indexed.extend(p for p in parts if isinstance(p, DeviceArray) and (p._host == bad).any())
        return getitem(self, index)

    monkeypatch.setattr(DeviceArray, "__getitem__", watch)
    with pytest.raises(IndexError, match=str(bad)), no_synchronization():
        model.loss(batch)
    assert indexed == []


def test_ids_on_the_device_are_checked_too_at_the_price_of_a_wait(device: None) -> None:
    table = Embedding(3, 2)
    with pytest.raises(IndexError, match="id 3 at"):  # CuPy would give row 0
        table(Tensor(np.array([0, 3])))
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
        table.weight[Tensor(np.array([0, 3]))]
    with pytest.raises(IndexError, match="index -4 is out of bounds for axis 0"):
        table.weight[np.array([-4])]
    assert table.weight[np.array([-1, 0]), 1].shape == (2,)
    assert table.weight[[2, 0]].shape == (2, 2) and table.weight[np.array([True, False, True])].shape == (2, 2)
    with no_synchronization():
        table.weight[..., np.array([1, 1])].sum().backward()
    assert table.weight.grad.tolist() == [[0.0, 2.0]] * 3


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_on_the_device_equals_that_on_the_host(max_norm: float, standin_known: None) -> None:
    def clipped() -> tuple[float, list[np.ndarray]]:
        generator = Generator(0)
        tensors = [Tensor(np.zeros((5, 40), "float32"), requires_grad=True) for _ in range(3)]
        for tensor in tensors:
            tensor.grad = Tensor(generator.normal((5, 40), dtype="float64"), dtype="float32")
        return clip_grad_norm_(tensors, max_norm), [t.grad.numpy() for t in tensors]

    norm, expected = clipped()
    with use_backend("standin"):
        device_norm, found = clipped()
    assert device_norm == pytest.approx(norm, rel=1e-6)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_leaves_gradients_on_the_device_alone(bad: float, device: None) -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    x.grad = np.array([bad, 3.0], "float32")
    with no_synchronization():
        norm = clip_gradients([x], 1.0)
    assert isinstance(norm, DeviceArray) and not np.isfinite(float(norm))
    np.testing.assert_array_equal(x.grad.numpy(), [bad, 3.0])
    with no_synchronization(transfers=1):
        assert not np.isfinite(grad_norm([x]))


def test_dropout_masks_are_made_on_the_device_with_the_hosts_bits(standin_known: None) -> None:
    from minilm.functional import dropout

    with using_generator(Generator(3)):
        expected = dropout(Tensor(np.ones((40, 500), "float32")), 0.3, True).numpy()
    with use_backend("standin"), using_generator(Generator(3)):
        x = Tensor(np.ones((40, 500), "float32"))
        with no_synchronization() as traffic:
            y = dropout(x, 0.3, True)
    assert traffic.uploads == 0
    np.testing.assert_array_equal(y.numpy(), expected)


def test_a_model_made_on_the_host_is_refused_on_the_device_with_the_way_out(standin_known: None) -> None:
    model = small_model("gpt")
    with use_backend("standin"), pytest.raises(TypeError, match="arrays of two homes"):
        model(TOKENS[None, :4])[0] + Tensor([1.0])
    assert isinstance(asarray([1.0]), np.ndarray)


def test_a_trainer_evaluates_with_one_wait_a_batch(tmp_path: Path, device: None) -> None:
    trainer: Trainer = small_trainer(tmp_path)
    with watched() as traffic:
        trainer.evaluate()
    assert len(traffic.waits) + traffic.transfers == len(trainer.eval_batches)


RULES: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: SGD(p, 0.1),
    "momentum": lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: Adam(p, 0.01),
    "adamw": lambda p: AdamW(p, 0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("rule", RULES)
def test_every_optimizer_steps_on_the_device_without_waiting(
    rule: str, dtype: str, standin_known: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minilm.optim.flat.BLOCK", 64)  # several blocks, gathered and cut ones
    monkeypatch.setattr("minilm.optim.flat.DEVICE_BLOCK", 64)

    def stepped() -> list[np.ndarray]:
        generator = Generator(0)
        shapes = ((5,), (7, 30), (3, 2), (1,))
        tensors = [Tensor(generator.normal(s, dtype="float64"), True, dtype) for s in shapes]
        optimizer = RULES[rule](tensors)
        for _ in range(3):
            for tensor in tensors[:3]:  # the last one never has a gradient
                tensor.grad = Tensor(generator.normal(tensor.shape, dtype="float64"), dtype=dtype)
            with no_synchronization() as traffic:
                optimizer.step()
                optimizer.scale_lr(0.5)
            assert traffic.uploads == 0
        state = optimizer.state_dict()
        RULES[rule](tensors).load_state_dict(state)
        return [*(t.numpy() for t in tensors), *state["tensors"].values()]

    expected = stepped()
    with use_backend("standin"):
        found = stepped()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5 if dtype == "float32" else 2e-3, atol=1e-6, strict=True)

"""A loss or a gradient that is not a number stops training, and the message says where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import Tensor, nn
from minilm.backend import Array
from minilm.errors import TrainingError
from minilm.tensor import elementwise, no_grad
from minilm.training import find_checkpoint, load_model
from tests.training.runs import assert_same_bits, parameters, small_trainer

pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")


def after_three_steps(out: Path) -> Any:
    small_trainer(out, steps=3).train()
    trainer = small_trainer(out, steps=9)
    trainer.resume(find_checkpoint(out))
    return trainer


def test_the_layer_where_it_first_appeared_is_named_and_the_good_checkpoint_stays(tmp_path: Path) -> None:
    trainer = after_three_steps(tmp_path)
    good = parameters(trainer.model)
    layer = trainer.model.blocks[1].feed_forward.up_proj
    plain = layer.forward
    layer.forward = lambda *inputs: plain(*inputs) * float("nan")
    with pytest.raises(TrainingError) as caught:
        trainer.train(resume_from_checkpoint=True)
    message = str(caught.value)
    assert "stopped at step 4" in message and "blocks.1.feed_forward.up_proj (Linear)" in message
    assert str(tmp_path / "checkpoint-3") in message
    kept, _ = load_model(tmp_path / "checkpoint-3")
    assert_same_bits(good, parameters(kept))
    assert_same_bits(good, parameters(trainer.model))  # the bad step was not taken


def test_a_parameter_that_is_bad_already_is_named(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path)
    with no_grad():
        trainer.model.blocks[0].norm_2.weight[3] = float("inf")
    with pytest.raises(TrainingError, match="the parameter blocks.0.norm_2.weight is not finite already"):
        trainer.train()


def test_a_loss_that_grows_beyond_all_bounds_stops(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="training stopped at step .*[Ll]ower learning rate"):
        small_trainer(tmp_path, steps=50, learning_rate=1e30, warmup_steps=0, max_grad_norm=0.0).train()


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    @elementwise
    def sting(x: Array) -> Any:
        return x, lambda g: g * float("inf")

    class Stung(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor, activation: str) -> Tensor:
            return sting(self.inner(x, activation))

    try:
        trainer = small_trainer(tmp_path)
        block = trainer.model.blocks[0]
        block.feed_forward.up_proj = Stung(block.feed_forward.up_proj)
        with pytest.raises(TrainingError) as caught:
            trainer.train()
        assert "the norm of the gradient is" in str(caught.value)
        assert "first at blocks.0.feed_forward.up_proj.inner.bias" in str(caught.value)
    finally:
        from minilm.tensor import OPERATIONS

        del OPERATIONS["sting"]


def test_dropout_is_replayed_so_the_search_sees_what_training_saw(tmp_path: Path) -> None:
    # the layer only fails for the very mask that training drew
    trainer = small_trainer(tmp_path, dropout=0.3)
    seen: list[np.ndarray] = []
    layer = trainer.model.dropout
    plain = type(layer).forward

    def forward(x: Tensor) -> Tensor:
        y = plain(layer, x)
        if not seen:
            seen.append(y.numpy().copy())
        return y * float("nan") if (y.numpy() == seen[0]).all() else y

    layer.forward = forward
    with pytest.raises(TrainingError, match=r"output of dropout \(Dropout\)"):
        trainer.train()

"""Pruning by magnitude: which weights go, and that they stay away while training goes on."""

import numpy as np
import pytest

from minilm import nn
from minilm.compression import GradualPruning, Pruning, prunable, prune
from minilm.errors import ConfigurationError
from minilm.models import GPT, GPTConfig
from minilm.random import Generator, using_generator
from minilm.text import ShuffledBatches, TokenWindows
from minilm.training import Trainer, TrainingArguments


def gpt():
    with using_generator(Generator(0)):
        return GPT(GPTConfig(11, 8, n_layer=2, n_head=2, n_embd=16))


def weights(model):
    return {name: p.data.copy() for name, p in prunable(model).items()}


def trained(model, tmp_path, callback, steps=6, **settings):
    tokens = Generator(1).integers(0, 11, 400)
    arguments = TrainingArguments(
        tmp_path, max_steps=steps, learning_rate=1e-2, save_strategy="no", progress=False, **settings
    )
    trainer = Trainer(model, arguments, ShuffledBatches(TokenWindows(tokens, 8), 4), callbacks=[callback])
    trainer.train()
    return trainer


class Pair(nn.Module):
    """Two layers, the second with weights ten times the size."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Linear(4, 2), nn.Linear(4, 2)
        self.table = nn.Embedding(3, 4)
        self.small.weight.data[...] = [[0.1, -0.2, 0.3, -0.4], [0.5, -0.6, 0.7, -0.8]]
        self.large.weight.data[...] = 10 * self.small.weight.data


def test_globally_the_small_layer_loses_all_and_per_layer_each_loses_the_same():
    model = Pair()
    assert prune(model, 0.5).sparsity == 0.5
    assert not model.small.weight.data.any() and model.large.weight.data.all()
    model = Pair()
    pruning = prune(model, 0.5, "layer")
    np.testing.assert_allclose(model.small.weight.data, [[0, 0, 0, 0], [0.5, -0.6, 0.7, -0.8]], rtol=1e-6)
    np.testing.assert_allclose(model.large.weight.data, [[0, 0, 0, 0], [5, -6, 7, -8]], rtol=1e-6)
    assert set(pruning.masks) == {"small.weight", "large.weight"}
    assert model.table.weight.data.all() and model.small.bias.data.all()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.33, 0.9, 0.999])
def test_the_smallest_go_and_exactly_so_many(scope, sparsity):
    before, model = weights(gpt()), gpt()
    pruning = prune(model, sparsity, scope)
    after = weights(model)
    groups = [list(before)] if scope == "global" else [[name] for name in before]
    for names in groups:
        size = sum(before[name].size for name in names)
        gone = np.concatenate([np.abs(before[name][after[name] == 0]) for name in names])
        kept = np.concatenate([np.abs(before[name][after[name] != 0]) for name in names])
        assert len(gone) == int(sparsity * size + 1e-9)
        assert not len(gone) or gone.max() <= kept.min()
    for name in before:
        np.testing.assert_array_equal(after[name], before[name] * pruning.masks[name])


def test_of_equal_weights_no_more_go_than_asked_for():
    model = Pair()
    model.small.weight.data[...] = 1
    model.large.weight.data[...] = 1
    assert prune(model, 0.3).sparsity == 4 / 16


def test_a_layer_can_be_left_out():
    model = Pair()
    assert set(prune(model, 0.5, skip=["small.weight"]).masks) == {"large.weight"}
    with pytest.raises(ConfigurationError, match=r"no weight of a Linear layer: table\.weight"):
        prune(model, 0.5, skip=["table.weight"])


def test_zeros_stay_while_the_others_are_trained(tmp_path):
    model = gpt()
    pruning = prune(model, 0.6)
    before = weights(model)
    trained(model, tmp_path, pruning)
    for name, after in weights(model).items():
        assert not after[~pruning.masks[name]].any()
        assert (after != before[name])[pruning.masks[name]].mean() > 0.9
    assert Pruning.of_zeros(model).sparsity == pytest.approx(pruning.sparsity, abs=1e-3)


def test_without_the_callback_they_would_not_stay(tmp_path):
    from minilm.training import Callback

    model = gpt()
    pruning = prune(model, 0.6)
    trained(model, tmp_path, Callback())
    assert any(after[~pruning.masks[name]].any() for name, after in weights(model).items())


def test_zeros_stay_in_the_float32_weights_of_float16_training(tmp_path):
    model = gpt()
    pruning = prune(model, 0.6)
    trainer = trained(model, tmp_path, pruning, fp16=True)
    for name, mask in pruning.masks.items():
        assert not trainer.precision.masters[name].data[~mask].any()
        assert trainer.precision.masters[name].data.any()


def test_gradual_pruning_follows_the_published_schedule(tmp_path):
    model = gpt()
    seen = {}

    class Watching(GradualPruning):
        def on_step_end(self, trainer, metrics):
            super().on_step_end(trainer, metrics)
            zeros = sum((p.data == 0).sum() for p in prunable(model).values())
            seen[trainer.state.step] = (zeros / sum(p.size for p in prunable(model).values()), self.sparsity)

    callback = Watching(model, 0.8, begin=2, end=8, every=2)
    trained(model, tmp_path, callback, steps=10)
    n = sum(p.size for p in prunable(model).values())
    for step, (zeros, told) in seen.items():
        pruned_at = min(max(step - step % 2, 2), 8)
        expected = 0.8 * (1 - (1 - (pruned_at - 2) / 6) ** 3)
        assert zeros == pytest.approx(expected, abs=2 / n) and told == pytest.approx(expected, abs=2 / n), step
    assert seen[1][0] == 0 and seen[10][0] == pytest.approx(0.8, abs=1 / n)


def test_what_was_pruned_once_stays_pruned_while_pruning_grows(tmp_path):
    model = gpt()
    masks = []

    class Watching(GradualPruning):
        def on_step_end(self, trainer, metrics):
            super().on_step_end(trainer, metrics)
            masks.append({name: mask.copy() for name, mask in self.masks.items()})

    trained(model, tmp_path, Watching(model, 0.9, end=6, every=1))
    for earlier, later in zip(masks, masks[1:], strict=False):
        assert all(not later[name][~earlier[name]].any() for name in earlier)


@pytest.mark.parametrize(
    "arguments, message",
    [((1.0,), "below 1"), ((-0.1,), "from 0"), ((float("nan"),), "from 0"), ((0.5, "row"), "'global' or 'layer'")],
)
def test_settings_out_of_range(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        prune(gpt(), *arguments)
    with pytest.raises(ConfigurationError, match="begin=5, end=5"):
        GradualPruning(gpt(), 0.5, begin=5, end=5)


def test_a_model_without_linear_layers():
    with pytest.raises(ConfigurationError, match="no Linear layer"):
        prune(nn.Sequential(nn.Embedding(3, 4)), 0.5)

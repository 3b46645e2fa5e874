"""Adapters on whole models: BERT, GPT and Llama learn through them, and nothing else of them changes."""

import numpy as np
import pytest

from minilm.errors import CheckpointError, ConfigurationError
from minilm.models import (
    GPT,
    BERTConfig,
    BERTForSequenceClassification,
    GPTConfig,
    Llama,
    LlamaConfig,
)
from minilm.nn import Linear, LoRALinear
from minilm.random import Generator, using_generator
from minilm.tensor import no_grad
from minilm.training import (
    Trainer,
    TrainingArguments,
    add_lora,
    load_lora,
    lora_layers,
    lora_state,
    merge_lora,
    prepare_method,
    save_lora,
)

V, C, LAYERS, RANK = 23, 16, 2, 3
KINDS = ("bert", "gpt", "llama")
HEADS = {"bert": ("classifier", "bert.pooler"), "gpt": (), "llama": ()}


def small(kind, seed=0):
    with using_generator(Generator(seed)):
        if kind == "bert":
            return BERTForSequenceClassification(BERTConfig(V, 12, LAYERS, 2, C, 24, dropout=0.0)).eval()
        if kind == "gpt":
            return GPT(GPTConfig(V, 12, LAYERS, 2, C)).eval()
        return Llama(LlamaConfig(V, 12, LAYERS, 4, 2, C, 24, tied=False)).eval()


def examples(kind, n=24):
    generator = Generator(5)
    rows = []
    for _ in range(n):
        ids = generator.integers(1, V, int(generator.integers(4, 9)))
        rows.append({"input_ids": ids, "labels": int(ids[0] % 2) if kind == "bert" else np.roll(ids, -1)})
    return rows


def outputs(model):
    with no_grad():
        return model(Generator(8).integers(1, V, (3, 7))).numpy()


def trained(kind, folder, steps=8, **settings):
    """A model that has learnt a little through adapters."""
    model = small(kind)
    with using_generator(Generator(1)):
        prepare_method(model, "lora", HEADS[kind], rank=RANK, alpha=6.0)
    train(model, kind, folder, steps, **settings)
    return model


def train(model, kind, folder, steps, resume=None, **settings):
    settings = {"learning_rate": 0.01, "save_strategy": "no", **settings}
    arguments = TrainingArguments(folder, max_steps=steps, progress=False, **settings)
    Trainer(model, arguments, examples(kind)).train(resume_from_checkpoint=resume)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_change_nothing_until_they_are_trained(kind):
    model = small(kind)
    before = outputs(model)
    names = add_lora(model, rank=RANK)
    np.testing.assert_array_equal(outputs(model), before)
    assert names == [n for i in range(LAYERS) for n in lora_layers(model) if f"blocks.{i}." in n] and len(names) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_trained_parameters_is_that_of_the_paper(kind):
    model = small(kind)
    add_lora(model, rank=RANK)
    wide = {"bert": 3 * C, "gpt": 3 * C, "llama": 2 * C}[kind]  # queries, keys and values; Llama's keys are shared
    assert model.num_parameters(only_trainable=True) == LAYERS * RANK * ((C + wide) + (C + C))


@pytest.mark.parametrize("kind", KINDS)
def test_only_adapters_and_head_are_trained(kind, tmp_path):
    before = small(kind).state_dict()
    after = trained(kind, tmp_path).state_dict()
    moved = {name for name, array in before.items() if not np.array_equal(array, after[name])}
    assert moved == {name for name in before if name.startswith(HEADS[kind] or "none")}
    assert all(array.any() for name, array in after.items() if name.endswith("lora_B"))


@pytest.mark.parametrize("kind", KINDS)
def test_merged_equals_unmerged(kind, tmp_path):
    model = trained(kind, tmp_path)
    unmerged = outputs(model)
    assert np.abs(unmerged - outputs(small(kind))).max() > 0.01, "the adapters did nothing"
    merge_lora(model)
    np.testing.assert_allclose(outputs(model), unmerged, atol=2e-6)
    assert list(model.state_dict()) == list(small(kind).state_dict()) and not lora_layers(model)
    assert all(type(m) is Linear for m in model.modules() if isinstance(m, Linear))
    assert model.num_parameters(only_trainable=True) == model.num_parameters()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_adapters_makes_the_same_model_of_the_same_base(kind, tmp_path):
    model = trained(kind, tmp_path)
    save_lora(model, tmp_path / "adapter.safetensors")
    again = load_lora(small(kind), tmp_path / "adapter.safetensors")
    np.testing.assert_array_equal(outputs(again), outputs(model))
    assert {n for n, p in again.named_parameters() if p.requires_grad} == set(lora_state(model))
    assert sum(array.size for array in lora_state(model).values()) == model.num_parameters(only_trainable=True)


def test_the_separate_head_of_a_llama_can_be_adapted():
    model = small("llama")
    add_lora(model, ("head",), rank=2)
    before = outputs(model)
    model.head.lora_B.data[:] = 1
    assert np.abs(outputs(model) - before).max() > 0.01


def test_layers_are_chosen_by_whole_names():
    model = small("gpt")
    assert add_lora(model, ("blocks.1.attention.qkv_proj", "down_proj")) == [
        "blocks.0.feed_forward.down_proj",
        "blocks.1.attention.qkv_proj",
        "blocks.1.feed_forward.down_proj",
    ]
    with pytest.raises(ConfigurationError, match=r"no Linear layer proj .*qkv_proj, out_proj"):
        add_lora(small("gpt"), ("proj",))


def test_a_layer_in_two_places_stays_one_layer():
    model = small("gpt")
    model.blocks[1].attention.out_proj = model.blocks[0].attention.out_proj
    add_lora(model, ("out_proj",))
    assert isinstance(model.blocks[0].attention.out_proj, LoRALinear)
    assert model.blocks[0].attention.out_proj is model.blocks[1].attention.out_proj


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path):
    whole = trained("bert", tmp_path / "whole", 8).state_dict()
    trained("bert", tmp_path / "parts", 8, save_strategy="steps", save_steps=4)
    with using_generator(Generator(99)):  # other adapters: those of the checkpoint take their place
        model = small("bert")
        prepare_method(model, "lora", HEADS["bert"], rank=RANK, alpha=6.0)
    train(model, "bert", tmp_path / "parts", 8, resume=tmp_path / "parts" / "checkpoint-4")
    after = model.state_dict()
    assert whole.keys() == after.keys() and all(np.array_equal(whole[name], after[name]) for name in whole)


def test_files_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "adapter.safetensors"
    with pytest.raises(CheckpointError, match="there are no adapters"):
        load_lora(small("gpt"), path)
    path.write_bytes(b"no such file" * 9)
    with pytest.raises(CheckpointError, match="no file of adapters"):
        load_lora(small("gpt"), path)
    gpt = small("gpt")
    add_lora(gpt)
    save_lora(gpt, path)
    with pytest.raises(CheckpointError, match="made for another model: blocks.0.attention.qkv_proj.lora_B is"):
        load_lora(small("llama"), path)
    with pytest.raises(CheckpointError, match=r"adapts the layer 'blocks.0.attention.qkv_proj', which .* not have"):
        load_lora(small("bert"), path)
    with pytest.raises(ConfigurationError, match="has adapters already"):
        load_lora(gpt, path)
    with pytest.raises(ConfigurationError, match="has adapters already"):
        add_lora(gpt)
    with pytest.raises(ConfigurationError, match="has no adapters"):
        merge_lora(small("gpt"))

"""A quantized model: what is replaced, what it computes, what it weighs, and that a file gives it back."""

import hashlib
import json
import tracemalloc

import numpy as np
import pytest

import minilm.functional as F
from minilm import nn
from minilm.compression import (
    QuantizedEmbedding,
    QuantizedLinear,
    load_quantized,
    quantize,
    quantized_matrices,
    save_quantized,
    size_in_bytes,
)
from minilm.errors import CheckpointError, ConfigurationError
from minilm.generation import generate
from minilm.models import GPT, LSTMLM, BERTConfig, BERTForMaskedLM, GPTConfig, Llama, LlamaConfig, LSTMConfig
from minilm.random import Generator, using_generator
from minilm.tensor import Tensor, no_grad
from minilm.text import CharTokenizer
from minilm.training import load_model
from minilm.training.checkpoint import save_checkpoint

SETTINGS = [{"bits": 8}, {"bits": 4}, {"bits": 4, "embedding_bits": 4, "offset": True}]
each_setting = pytest.mark.parametrize("settings", SETTINGS, ids=str)

MODELS = {
    "gpt": lambda: GPT(GPTConfig(50, 16, n_layer=2, n_head=2, n_embd=64)),
    "llama": lambda: Llama(LlamaConfig(50, 16, n_layer=2, n_head=4, n_kv_head=2, n_embd=64, n_hidden=96)),
    "llama, head apart": lambda: Llama(LlamaConfig(50, 16, 1, 4, 2, 64, 96, tied=False)),
    "lstm": lambda: LSTMLM(LSTMConfig(50, n_embd=64, n_hidden=64, n_layer=1)),
}
each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def built(make, seed=0):
    with using_generator(Generator(seed)):
        return make().eval()


def rounded_twin(make, quantized):
    """The float model whose weights are those of the quantized one: what it must equal."""
    twin = built(make)
    for name, matrix in quantized_matrices(quantized).items():
        layer = dict(twin.named_modules())[name]
        layer.weight.data[...] = matrix.whole()
    return twin


IDS = Generator(5).integers(0, 50, (2, 9))


@each_model
@each_setting
def test_it_computes_what_a_float_model_with_the_rounded_weights_does(make, settings):
    model = quantize(built(make), **settings)
    twin = rounded_twin(make, model)
    with no_grad():
        np.testing.assert_allclose(model(IDS).numpy(), twin(IDS).numpy(), atol=2e-5)
        assert np.abs(model(IDS).numpy() - built(make)(IDS).numpy()).max() > 1e-5, "nothing was rounded"
    np.testing.assert_array_equal(generate(model, IDS[0], 6, seed=1), generate(twin, IDS[0], 6, seed=1))


def test_every_linear_and_embedding_is_replaced_and_nothing_else():
    model = built(MODELS["gpt"])
    before = {name: type(m) for name, m in model.named_modules()}
    quantize(model)
    for name, module in model.named_modules():
        expected = {nn.Linear: QuantizedLinear, nn.Embedding: QuantizedEmbedding}.get(before[name], before[name])
        assert type(module) is expected
    assert "weight" not in " ".join(n for n, _ in model.named_parameters() if "proj" in n)
    assert not any(module.training for module in model.modules())


def test_the_bits_of_a_weight():
    """8 bits and a float32 for each row of 64; 4 bits and a float16, or two, for each 32 weights; the table apart."""
    weights = {
        name: layer.weight.data for name, layer in built(MODELS["gpt"]).named_modules() if hasattr(layer, "weight")
    }
    del weights["positions"]
    weights = {name: w for name, w in weights.items() if w.ndim == 2}
    numbers, rows = sum(w.size for w in weights.values()), sum(w.shape[0] for w in weights.values())
    model = built(MODELS["gpt"])
    others = size_in_bytes(model) - 4 * numbers
    assert size_in_bytes(model) == 4 * model.num_parameters()
    assert size_in_bytes(quantize(model)) - others == numbers + 4 * rows
    both = {"bits": 4, "embedding_bits": 4}
    assert size_in_bytes(quantize(built(MODELS["gpt"]), **both)) - others == numbers * 4.5 / 8
    assert size_in_bytes(quantize(built(MODELS["gpt"]), **both, offset=True)) - others == numbers * 5 / 8
    table = weights["token_embedding"]
    apart = (numbers - table.size) * 4.5 / 8 + table.size + 4 * len(table)
    assert size_in_bytes(quantize(built(MODELS["gpt"]), 4)) - others == apart


def test_a_shared_weight_stays_shared():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(20, 64)
            self.head = nn.Linear(64, 20, bias=False)
            self.head.weight = self.table.weight
            self.again = self.head

    model = quantize(built(Tied))
    assert model.head is model.again and model.head.matrix is model.table.matrix
    assert size_in_bytes(model) == 20 * 64 + 20 * 4


def test_a_layer_can_be_left_out():
    model = quantize(built(MODELS["gpt"]), skip=["token_embedding"])
    assert type(model.token_embedding) is nn.Embedding
    assert type(model.blocks[0].attention.qkv_proj) is QuantizedLinear
    with pytest.raises(ConfigurationError, match="no Linear or Embedding of the model: heads"):
        quantize(built(MODELS["gpt"]), skip=["heads"])


def test_layers_with_activation_and_bias():
    layer = built(lambda: nn.Linear(64, 9))
    x = Tensor(Generator(1).normal((3, 2, 64)))
    holder = built(lambda: nn.Sequential(nn.Linear(64, 9)))
    small = next(iter(quantize(holder).children()))
    rounded = Tensor(small.matrix.whole())
    for activation in (None, "gelu", "gelu_tanh", "silu", "relu"):
        with no_grad():
            expected = F.linear(x, rounded, layer.bias)
            expected = expected if activation is None else F.linear_activation(x, rounded, layer.bias, activation)
            np.testing.assert_allclose(small(x, activation).numpy(), expected.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match=r"\(2, 63\) does not fit"):
        small(Tensor(np.zeros((2, 63), dtype="float32")))


def test_a_gradient_goes_through_to_what_is_trained_beside_it():
    model = quantize(built(MODELS["gpt"]))
    twin = rounded_twin(MODELS["gpt"], model)
    for m in (model, twin):
        m.loss({"input_ids": IDS[:, :-1], "labels": IDS[:, 1:]}).backward()
    own, known = dict(model.named_parameters()), dict(twin.named_parameters())
    assert "positions.weight" in own and "blocks.0.norm_1.weight" in own
    for name in ("blocks.0.norm_1.weight", "blocks.0.attention.qkv_proj.bias"):
        np.testing.assert_allclose(own[name].grad.numpy(), known[name].grad.numpy(), atol=1e-6)


def test_a_head_tied_to_the_table_and_a_projection_are_the_same():
    table = next(iter(quantize(built(lambda: nn.Sequential(nn.Embedding(30, 64))), embedding_bits=4).children()))
    x = Tensor(Generator(2).normal((2, 3, 64)))
    np.testing.assert_allclose(table.project(x).numpy(), F.linear(x, table.weight).numpy(), atol=1e-5)
    np.testing.assert_array_equal(table(np.array([[4, 29]])).numpy()[0], table.weight.numpy()[[4, 29]])
    with pytest.raises(IndexError, match="id 30"):
        table(np.array([30]))


def test_a_model_that_reads_only_and_one_in_float64():
    config = BERTConfig(40, 12, 1, 2, 64, 64, dropout=0.0)
    model = quantize(built(lambda: BERTForMaskedLM(config)).astype("float64"))
    assert {p.dtype.name for p in model.parameters()} == {"float32"}
    assert model(IDS % 40)[0].shape == (2, 9, 40)


@pytest.mark.parametrize(
    "settings, message",
    [({"bits": 3}, "bits=3"), ({"embedding_bits": 2}, "8 or 4"), ({"bits": 8, "offset": True}, "symmetric")],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        quantize(built(MODELS["gpt"]), **settings)
    with pytest.raises(ConfigurationError, match="no Linear or Embedding left"):
        quantize(quantize(built(MODELS["gpt"])))


@each_model
@each_setting
def test_a_file_gives_the_same_model_back(tmp_path, make, settings):
    model = quantize(built(make), **settings)
    tokenizer = CharTokenizer("".join(chr(33 + i) for i in range(50)))
    save_quantized(tmp_path / "small", model, tokenizer)
    again, its_tokenizer = load_quantized(tmp_path / "small")
    assert its_tokenizer == tokenizer and size_in_bytes(again) == size_in_bytes(model)
    with no_grad():
        np.testing.assert_array_equal(again(IDS).numpy(), model(IDS).numpy())
    on_disk = (tmp_path / "small" / "model.safetensors").stat().st_size
    assert size_in_bytes(model) <= on_disk < size_in_bytes(model) + 8000


def test_a_file_of_a_model_with_a_layer_left_out(tmp_path):
    model = quantize(built(MODELS["llama"]), skip=["token_embedding", "blocks.1.feed_forward.up_proj"])
    save_quantized(tmp_path / "small", model)
    again, _ = load_quantized(tmp_path / "small")
    assert type(again.blocks[1].feed_forward.up_proj) is nn.Linear
    np.testing.assert_array_equal(again(IDS).numpy(), model(IDS).numpy())


def test_files_that_cannot_be_used_are_told(tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        load_quantized(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="not quantized"):
        save_quantized(tmp_path / "float", built(MODELS["gpt"]))
    save_checkpoint(tmp_path / "float", built(MODELS["gpt"]))
    with pytest.raises(CheckpointError, match="not quantized: read it with"):
        load_quantized(tmp_path / "float")
    save_quantized(tmp_path / "small", quantize(built(MODELS["gpt"])))
    with pytest.raises(CheckpointError, match="does not fit this model"):
        load_model(tmp_path / "small")
    with open(tmp_path / "small" / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(CheckpointError, match="was changed"):
        load_quantized(tmp_path / "small")


def rewritten(folder, name, change):
    """A file of a checkpoint changed on purpose: its manifest vouches for it."""
    path = folder / name
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["files"][name] = {"size": path.stat().st_size, "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_file_whose_integers_are_of_another_model_is_refused(tmp_path):
    save_quantized(tmp_path / "small", quantize(built(MODELS["gpt"])))
    rewritten(tmp_path / "small", "config.json", lambda content: content["config"].update(n_embd=32))
    with pytest.raises(CheckpointError, match="other sizes"):
        load_quantized(tmp_path / "small")


HUGE = {"vocab_size": 10**6, "block_size": 10**9, "n_embd": 2**14, "n_hidden": 2**18, "n_layer": 10**6}


@each_model
@pytest.mark.parametrize("key", HUGE)
def test_sizes_that_the_integers_do_not_vouch_for_take_no_memory(tmp_path, make, key):
    model = quantize(built(make), bits=4, embedding_bits=4)
    save_quantized(tmp_path / "small", model)
    rewritten(tmp_path / "small", "config.json", lambda content: content["config"].update({key: HUGE[key]}))
    if not hasattr(model.config, key):
        return
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="config.json claims .*, and model.safetensors has"):
            load_quantized(tmp_path / "small")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shared", [None, [1], 3, {"blocks.0": 3}, {"token_embedding": ["x"]}])
def test_a_list_of_shared_layers_that_is_none_is_refused(tmp_path, shared):
    save_quantized(tmp_path / "small", quantize(built(MODELS["gpt"])))
    change = {"quantized": {"shared": shared}}
    rewritten(tmp_path / "small", "trainer_state.json", lambda state: state.update(change))
    with pytest.raises(CheckpointError, match="does not describe"):
        load_quantized(tmp_path / "small")

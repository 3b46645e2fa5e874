"""Models under their published names compute what PyTorch and transformers compute, and go back as they came.

The weights follow from the names of the tensors (tiny.formula); reference.json holds what came out of PyTorch.
"""

import json
import os

import numpy as np
import pytest

from minilm import no_grad
from minilm.errors import CheckpointError, ConfigurationError
from minilm.models import (
    BERT,
    GPT,
    LSTMLM,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    GPTConfig,
    Llama,
    LSTMConfig,
)
from minilm.pretrained import from_pretrained, save_pretrained
from minilm.pretrained.safetensors_file import INDEX, WEIGHTS, open_safetensors, write_safetensors
from minilm.random import Generator, using_generator
from minilm.training import save_checkpoint
from tests.pretrained import tiny

NAMES = list(tiny.CONFIGURATIONS)
KINDS = {
    "gpt2": GPT,
    "llama": Llama,
    "llama-tied": Llama,
    "bert": BERT,
    "bert-pretraining": BERTForMaskedLM,
    "bert-masked-lm": BERTForMaskedLM,
    "bert-sequence": BERTForSequenceClassification,
    "bert-token": BERTForTokenClassification,
    "bert-question": BERTForQuestionAnswering,
}


@pytest.fixture
def shapes(reference):
    """A function from a name to the published {tensor: shape}."""
    return lambda name: {key: tuple(shape) for key, shape in reference["tiny_models"][name]["shapes"].items()}


def outputs(model):
    """All that a model puts out for the ids (and mask and segments) of tiny.py."""
    with no_grad():
        out = model(tiny.IDS) if isinstance(model, GPT | Llama) else model(tiny.IDS, tiny.MASK, tiny.SEGMENTS)
    out = out if isinstance(out, tuple) else (out,)
    return [part.numpy() for part in out if part is not None]


def rewrite(folder, change):
    """Apply `change` to the arrays of a folder, {name: array}."""
    arrays = {name: tensor.read() for name, tensor in open_safetensors(folder / WEIGHTS).items()}
    change(arrays)
    write_safetensors(folder / WEIGHTS, arrays)


@pytest.mark.parametrize("name", NAMES)
def test_it_computes_what_pytorch_computes(name, shapes, reference, tmp_path):
    model, tokenizer = from_pretrained(tiny.write_folder(tmp_path, name, shapes(name)))
    assert type(model) is KINDS[name] and not model.training and tokenizer is None
    expected = reference["tiny_models"][name]["outputs"].values()
    for ours, theirs in zip(outputs(model), map(np.array, expected), strict=True):
        assert ours.shape == theirs.shape and theirs.std() > 0.1
        real = np.isfinite(ours)  # a head for answers gives padding no chance, and PyTorch's does
        np.testing.assert_allclose(ours[real], theirs[real], atol=2e-5)
        assert real.all() or (name == "bert-question" and (real == tiny.MASK).all())


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_back_under_the_published_names_with_the_same_numbers(name, shapes, tmp_path):
    model, _ = from_pretrained(tiny.write_folder(tmp_path / "a", name, shapes(name)))
    save_pretrained(model, None, tmp_path / "b")
    written = open_safetensors(tmp_path / "b" / WEIGHTS)
    assert {key: tensor.shape for key, tensor in written.items()} == shapes(name)
    for key, tensor in written.items():
        np.testing.assert_array_equal(tensor.read(), tiny.formula(key, tensor.shape))
    again, _ = from_pretrained(tmp_path / "b")
    assert again.config == model.config
    for ours, theirs in zip(outputs(again), outputs(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    values = json.loads((tmp_path / "b" / "config.json").read_text())
    known = tiny.CONFIGURATIONS[name]
    assert {key: values[key] for key in known if key not in ("id2label", "label2id")} == {
        key: value for key, value in known.items() if key not in ("id2label", "label2id")
    }
    assert len(values.get("id2label", ())) == len(known.get("id2label", ()))


def test_interleaved_rotary_pairs_go_out_as_halves_and_compute_the_same(shapes, tmp_path):
    from dataclasses import replace

    halves, _ = from_pretrained(tiny.write_folder(tmp_path / "a", "llama", shapes("llama")))
    D, pairs = halves.config.head_width, Llama(replace(halves.config, interleaved=True)).eval()
    state = halves.state_dict()
    order = np.arange(D).reshape(2, D // 2).T.reshape(-1)  # 0, D/2, 1, D/2 + 1, ...
    for name in state:
        if "qkv_proj" in name:
            for head in range(halves.config.n_head + halves.config.n_kv_head):  # queries and keys, not the values
                rows = slice(head * D, (head + 1) * D)
                state[name][rows] = state[name][rows][order]
    pairs.load_state_dict(state)
    np.testing.assert_allclose(outputs(pairs)[0], outputs(halves)[0], atol=2e-5)
    save_pretrained(pairs, None, tmp_path / "b")
    for name, tensor in open_safetensors(tmp_path / "b" / WEIGHTS).items():
        np.testing.assert_array_equal(tensor.read(), tiny.formula(name, tensor.shape))


def test_older_spellings_prefixes_and_constants_are_understood(shapes, tmp_path):
    """As in the files of gpt2 and bert-base-uncased, which were published before names settled."""
    model, _ = from_pretrained(tiny.write_folder(tmp_path / "a", "gpt2", shapes("gpt2")))
    folder = tiny.write_folder(tmp_path / "b", "gpt2", shapes("gpt2"))

    def without_prefix(arrays):
        for name in list(arrays):
            arrays[name.removeprefix("transformer.")] = arrays.pop(name)
        arrays["h.0.attn.bias"] = np.tril(np.ones((1, 1, 12, 12), dtype=np.float32))
        arrays["lm_head.weight"] = arrays["wte.weight"]

    rewrite(folder, without_prefix)
    np.testing.assert_array_equal(outputs(from_pretrained(folder)[0])[0], outputs(model)[0])

    model, _ = from_pretrained(tiny.write_folder(tmp_path / "c", "bert-masked-lm", shapes("bert-masked-lm")))
    folder = tiny.write_folder(tmp_path / "d", "bert-masked-lm", shapes("bert-masked-lm"))

    def old_spelling(arrays):
        for name in list(arrays):
            new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            arrays[new] = arrays.pop(name)
        arrays["bert.embeddings.position_ids"] = np.arange(12)[None]
        arrays["bert.pooler.dense.weight"] = np.zeros((8, 8), dtype=np.float32)
        arrays["cls.seq_relationship.weight"] = np.zeros((2, 8), dtype=np.float32)

    rewrite(folder, old_spelling)
    np.testing.assert_array_equal(outputs(from_pretrained(folder)[0])[0], outputs(model)[0])


@pytest.mark.parametrize("dtype, digits", [("float16", 3), ("float64", 7), ("bfloat16", 2)])
def test_other_precisions_become_float32(shapes, tmp_path, dtype, digits):
    folder = tiny.write_folder(tmp_path, "llama", shapes("llama"))
    model, _ = from_pretrained(folder)
    if dtype == "bfloat16":
        upper = lambda a: (a.view(np.uint32) >> 16).astype(np.uint16)  # noqa: E731 - the upper half is bfloat16
        rewrite(folder, lambda arrays: arrays.update({k: upper(a) for k, a in arrays.items()}))
        raw = (folder / WEIGHTS).read_bytes()
        n = int.from_bytes(raw[:8], "little")
        header = raw[8 : 8 + n].replace(b'"U16"', b'"BF16"')
        (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + n :])
    else:
        rewrite(folder, lambda arrays: arrays.update({k: a.astype(dtype) for k, a in arrays.items()}))
    again, _ = from_pretrained(folder)
    for name, array in again.state_dict().items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, model.state_dict()[name], atol=2 * 10.0**-digits)


def test_a_model_in_several_files_is_the_same_model(shapes, tmp_path):
    whole, _ = from_pretrained(tiny.write_folder(tmp_path, "llama", shapes("llama")))
    names = sorted(shapes("llama"))
    homes = {name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(names)}
    for file in set(homes.values()):
        mine = {name: tiny.formula(name, shapes("llama")[name]) for name in names if homes[name] == file}
        write_safetensors(tmp_path / file, mine)
    (tmp_path / WEIGHTS).unlink()
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    np.testing.assert_array_equal(outputs(from_pretrained(tmp_path)[0])[0], outputs(whole)[0])
    for change in ({"x": "../a.safetensors"}, {names[0]: homes[names[1]]}, {"lm_tail": homes[names[0]]}, {"x": 3}):
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": {**homes, **change}}))
        with pytest.raises(CheckpointError, match="index"):
            from_pretrained(tmp_path)


# a BERT becomes what it is needed for


@pytest.mark.parametrize(
    "kind", [BERTForSequenceClassification, BERTForTokenClassification, BERTForQuestionAnswering, BERTForMaskedLM]
)
def test_a_head_that_is_not_in_the_file_starts_afresh_on_the_encoder_of_the_file(shapes, tmp_path, kind):
    folder = tiny.write_folder(tmp_path, "bert", shapes("bert"))
    encoder, _ = from_pretrained(folder)

    def made(seed):
        with using_generator(Generator(seed)):
            return from_pretrained(folder, kind=kind, num_labels=5, dropout=0.25)[0]

    model, same, other = made(1), made(1), made(2)
    assert model.config.num_labels == 5 and model.config.dropout == 0.25 and not model.training
    encoded = {f"bert.{name}": array for name, array in encoder.state_dict().items()}
    for name, array in model.state_dict().items():
        if name in encoded:
            np.testing.assert_array_equal(array, encoded[name])
        else:
            np.testing.assert_array_equal(array, same.state_dict()[name])
            assert name.endswith(("bias", "norm.weight")) or not np.array_equal(array, other.state_dict()[name])
    assert model.num_parameters() > encoder.num_parameters() - 72  # the pooler, where it is not looked at


def test_changes_that_do_not_fit_are_refused(shapes, tmp_path):
    folder = tiny.write_folder(tmp_path / "b", "bert", shapes("bert"))
    with pytest.raises(ConfigurationError, match="BERTConfig has no labels"):
        from_pretrained(folder, labels=3)
    with pytest.raises(ConfigurationError, match="cannot be made a GPT"):
        from_pretrained(folder, kind=GPT)
    with pytest.raises(CheckpointError, match="token_embedding|word_embeddings.*not"):
        from_pretrained(folder, vocab_size=20)
    gpt = tiny.write_folder(tmp_path / "g", "gpt2", shapes("gpt2"))
    for options in ({"num_labels": 2}, {"kind": BERT}):
        with pytest.raises(ConfigurationError, match="is a gpt2: .* are for a BERT"):
            from_pretrained(gpt, **options)


# what does not fit


def test_missing_unknown_and_misshapen_tensors_are_named(shapes, tmp_path):
    def damaged(name, change):
        folder = tiny.write_folder(tmp_path / "x", name, shapes(name))
        rewrite(folder, change)
        with pytest.raises(CheckpointError) as error:
            from_pretrained(folder)
        return str(error.value)

    assert "lacks tensors" in damaged("gpt2", lambda a: a.pop("transformer.ln_f.bias"))
    assert "ln_f.bias" in damaged("gpt2", lambda a: a.pop("transformer.ln_f.bias"))
    assert "does not have: extra" in damaged("llama", lambda a: a.update(extra=np.zeros(3)))
    wrong = damaged("bert", lambda a: a.update({"pooler.dense.weight": np.zeros((8, 7), np.float32)}))
    assert "pooler.dense.weight is (8, 7) and not (8, 8)" in wrong
    untied = damaged("gpt2", lambda a: a.update({"lm_head.weight": np.zeros((19, 8), np.float32)}))
    assert "lm_head.weight should hold the same numbers as wte.weight" in untied
    twice = damaged("bert", lambda a: a.update({"bert.pooler.dense.bias": np.zeros(8, np.float32)}))
    assert "'pooler.dense.bias' twice" in twice
    assert "floating-point" in damaged("bert", lambda a: a.update({"pooler.dense.bias": np.zeros(8, np.int64)}))


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("gpt2", {"activation_function": "relu"}, "'activation_function' is 'relu'"),
        ("gpt2", {"n_embd": "8"}, "'n_embd' is '8', and should be an integer"),
        ("gpt2", {"n_head": 3}, "not a multiple of n_head=3"),
        ("gpt2", {"n_layer": 10**9}, "claims 1,000,000,000 layers"),
        ("gpt2", {"n_layer": True}, "'n_layer' is True"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "'rope_scaling'"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "'rope_type' is 'llama3'"),
        ("llama", {"rope_parameters": [1]}, "'rope_parameters'"),
        ("llama", {"max_position_embeddings": 2**30}, "table of rotary positions would take .* context_length"),
        ("llama", {"rms_norm_eps": -1.0}, "'rms_norm_eps' is -1.0"),
        ("llama", {"attention_bias": True}, "'attention_bias' is True"),
        ("llama", {"vocab_size": 2**40}, "'vocab_size'"),
        ("llama", {"vocab_size": 2**30}, "embed_tokens.weight is"),
        ("llama", {"hidden_size": 2**30, "num_attention_heads": 2**26}, "embed_tokens.weight is"),
        ("bert", {"hidden_act": "gelu_new"}, "'hidden_act' is 'gelu_new'"),
        ("bert", {"position_embedding_type": "relative_key"}, "'position_embedding_type'"),
        ("bert", {"architectures": ["BertForMultipleChoice"]}, "BertForMultipleChoice.* name the class"),
        ("bert", {"architectures": [["x"]]}, "name the class"),
        ("bert", {"model_type": "t5"}, "describes a 't5': minilm knows the families"),
        ("bert", {"model_type": ["bert"]}, "minilm knows the families"),
    ],
)
def test_a_configuration_that_we_do_not_compute_is_refused_by_name(shapes, tmp_path, name, change, message):
    with pytest.raises(CheckpointError, match=message):
        from_pretrained(tiny.write_folder(tmp_path, name, shapes(name), **change))


def test_a_long_context_may_be_shortened(shapes, tmp_path):
    folder = tiny.write_folder(tmp_path, "llama", shapes("llama"), max_position_embeddings=2**30)
    model, _ = from_pretrained(folder, context_length=16)
    assert model.context_length == 16


def test_what_is_no_model_is_said_to_be_none(tmp_path):
    for path, message in (
        (tmp_path / "none", "there is no .*none; .* known by name"),
        (tmp_path, "holds no config.json"),
    ):
        with pytest.raises(CheckpointError, match=message):
            from_pretrained(path)
    for name in ("notes.txt", "model.gguf"):
        (tmp_path / name).write_text("this is a text and no model\n" * 3)
        with pytest.raises(CheckpointError, match=f"{name} is no model: that is a folder with"):
            from_pretrained(tmp_path / name)
    with pytest.raises(CheckpointError, match="adapter.safetensors: name the folder"):
        from_pretrained(tmp_path / "adapter.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="holds no model.safetensors"):
        from_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match="pickled, it may run code"):
        from_pretrained(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match="minilm.training.load_model"):
        from_pretrained(tmp_path)


def test_models_without_a_published_form_say_so(tmp_path):
    with pytest.raises(ConfigurationError, match="LSTMLM has no published form"):
        save_pretrained(LSTMLM(LSTMConfig(vocab_size=5)), None, tmp_path)
    with pytest.raises(ConfigurationError, match="bias=True"):
        save_pretrained(GPT(GPTConfig(5, 4, 1, 1, 4, bias=False)), None, tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_what_is_written_may_be_read_by_whom_the_umask_lets(shapes, tmp_path):
    """The library of the format makes private files, and a model is made to be handed on."""
    model, _ = from_pretrained(tiny.write_folder(tmp_path / "a", "gpt2", shapes("gpt2")))
    save_pretrained(model, None, tmp_path / "b")
    save_checkpoint(tmp_path / "c", model)
    (tmp_path / "plain").write_text("")
    wanted = (tmp_path / "plain").stat().st_mode
    written = [path for name in "bc" for path in (tmp_path / name).iterdir()]
    assert {path.name for path in written if path.stat().st_mode != wanted} == set() and len(written) == 7

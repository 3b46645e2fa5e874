"""Whatever is in a file, reading it gives a model or one of our errors: no crash, and no memory that is not there."""

import json
import re
import struct
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from minilm.errors import CheckpointError, MinilmError, TokenizerError
from minilm.pretrained import from_pretrained
from minilm.pretrained.gguf_file import open_gguf
from minilm.pretrained.safetensors_file import WEIGHTS, open_safetensors
from tests.pretrained import files, tiny

MOST_MEMORY = 16 << 20  # what is read here has a few kilobytes
HUGE = (2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


@contextmanager
def little_memory():
    """Fails if what happens inside takes more than MOST_MEMORY."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY, f"{peak:,} bytes"


def refused(path, raw, error=CheckpointError):
    """The message with which the file is refused; for a .safetensors the file itself is opened."""
    path.write_bytes(raw)
    with little_memory(), pytest.raises(error) as caught:
        open_safetensors(path) if path.suffix == ".safetensors" else from_pretrained(path)
    assert str(path.parent) in str(caught.value), "the message names the file"
    return str(caught.value)


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def header(**entries):
    return json.dumps(entries).encode()


# safetensors


SAFETENSORS = [
    (b"", "the shortest possible one 8"),
    (b"\x08\0\0", "cut short"),
    ((2**63).to_bytes(8, "little"), "its header claims 9,223,372,036,854,775,808 bytes"),
    ((2**64 - 1).to_bytes(8, "little") + b"{}", "its header claims"),
    ((99_999_999).to_bytes(8, "little") + b"{}", "its header claims"),
    (files.safetensors(b"not json"), "JSON cannot be read"),
    (files.safetensors(b"\xff\xfe"), "JSON cannot be read"),
    (files.safetensors(b"[" * 100_000), "JSON cannot be read"),
    (files.safetensors(b"[1]"), "JSON is a list"),
    (files.safetensors(b'{"a": 1, "a": 1}'), "the key 'a' twice"),
    (files.safetensors(json.dumps({"a": entry()})[:-1].encode() + b', "a": {}}', b"12345678"), "the key 'a' twice"),
    (files.safetensors(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "the key 'dtype' twice"),
    (files.safetensors(b'{"a": ' + b"9" * 5000 + b"}"), "JSON cannot be read"),
    (files.safetensors(header(a=3)), "does not describe the tensor 'a'"),
    (files.safetensors(header(a=entry()), b"12345678")[:-1], "claims the bytes 0 to 8, and there are 7"),
    (files.safetensors(header(a=entry(shape=[2**62], offsets=[0, 8])), b"12345678"), "needs .* bytes"),
    (files.safetensors(header(a=entry(shape=[2**33, 2**33]))), "needs .* bytes"),
    (files.safetensors(header(a=entry(shape=[-2]))), "cannot be"),
    (files.safetensors(header(a=entry(shape=[2.0]))), "cannot be"),
    (files.safetensors(header(a=entry(shape=[True, 2]))), "cannot be"),
    (files.safetensors(header(a=entry(shape=["2"]))), "cannot be"),
    (files.safetensors(header(a=entry(shape=[1] * 99 + [2]))), "cannot be"),
    (files.safetensors(header(a=entry(offsets=[-8, 0]))), "cannot be"),
    (files.safetensors(header(a=entry(offsets=[8, 0]))), "its offsets give it -8"),
    (files.safetensors(header(a=entry(offsets=[0, 8, 9]))), "does not describe"),
    (files.safetensors(header(a=entry("F33"))), "the dtype 'F33'"),
    (files.safetensors(header(a=entry(["F32"]))), "the dtype"),
    (files.safetensors(header(a=entry(), b=entry(offsets=[4, 12])), b"0" * 12), "'a' and 'b' overlap"),
    (files.safetensors(header(a=entry(), b=entry()), b"0" * 8), "'a' and 'b' overlap"),
]


@pytest.mark.parametrize("raw, message", SAFETENSORS, ids=[message for _, message in SAFETENSORS])
def test_a_safetensors_file_that_lies_is_refused(tmp_path, raw, message):
    assert re.search(message, refused(tmp_path / "a.safetensors", raw))


def test_an_honest_safetensors_file_is_read(tmp_path):
    numbers = np.array([1.5, -2.0], "<f4").tobytes()
    path = tmp_path / "a.safetensors"
    path.write_bytes(files.safetensors(header(a=entry(), b=entry(shape=[0], offsets=[8, 8])), numbers))
    tensors = open_safetensors(path)
    assert tensors["a"].read().tolist() == [1.5, -2.0] and tensors["b"].shape == (0,)


def test_empty_tensors_do_not_vouch_for_layers(tmp_path):
    names = {f"t{i}": entry(shape=[0], offsets=[0, 0]) for i in range(2000)}
    (tmp_path / WEIGHTS).write_bytes(files.safetensors(header(**names)))
    (tmp_path / "config.json").write_text(json.dumps({**tiny.LLAMA, "num_hidden_layers": 1999}))
    with pytest.raises(CheckpointError, match="claims 1,999 layers, and has 2,000 tensors"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize("value", [10**400, 1e300, 1e-320, 0, -1.0, "1", True, [1.0]])
@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta"])
def test_a_number_that_float32_does_not_have_is_refused(tmp_path, reference, key, value):
    folder = tiny.write_folder(tmp_path, "llama", reference["tiny_models"]["llama"]["shapes"], **{key: value})
    with pytest.raises(CheckpointError, match=f"'{key}' is .*, and should be a positive number"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    "shard, message",
    [
        ("../model.safetensors", "not a safetensors file beside it"),
        ("/etc/model.safetensors", "not a safetensors file beside it"),
        ("config.json", "not a safetensors file beside it"),
        ("missing.safetensors", "cannot be read"),
        ("x" * 5000 + ".safetensors", "cannot be read"),
        ("a\0.safetensors", "cannot be read"),
        ("folder.safetensors", "is not a file"),
        ("loop.safetensors", "cannot be read"),
        ("zero.safetensors", "is not a file"),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(tmp_path, reference, shard, message):
    folder = tiny.write_folder(tmp_path / "model", "gpt2", reference["tiny_models"]["gpt2"]["shapes"])
    (folder / WEIGHTS).rename(tmp_path / WEIGHTS)
    (folder / "folder.safetensors").mkdir()
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    (folder / "zero.safetensors").symlink_to("/dev/zero")
    homes = dict.fromkeys(reference["tiny_models"]["gpt2"]["shapes"], shard)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": homes}))
    with pytest.raises(CheckpointError, match=message):
        from_pretrained(folder)


# GGUF


def test_an_honest_gguf_file_is_read(tmp_path):
    (tmp_path / "a.gguf").write_bytes(files.gguf_llama())
    model, tokenizer = from_pretrained(tmp_path / "a.gguf")
    assert tokenizer.encode("ab", allowed_special=()).tolist()[-1] in (4, 5)
    expected = tiny.formula("blk.0.attn_k.weight", (16, 32))
    np.testing.assert_array_equal(model.state_dict()["blocks.0.attention.qkv_proj.weight"][32:48], expected)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_1"])
def test_gguf_files_in_all_formats_are_read(tmp_path, kind):
    (tmp_path / "a.gguf").write_bytes(files.gguf_llama(kind))
    model, _ = from_pretrained(tmp_path / "a.gguf")
    weight = model.state_dict()["blocks.0.feed_forward.gate_proj.weight"]
    assert weight.dtype == np.float32 and 0.01 < weight.std() < 1


@pytest.mark.parametrize("kind", ["F32", "Q4_1"])
def test_the_package_gguf_reads_the_same_from_our_files(tmp_path, kind, require_package):
    (tmp_path / "a.gguf").write_bytes(files.gguf_llama(kind))
    theirs = require_package("gguf").GGUFReader(tmp_path / "a.gguf")
    ours = open_gguf(tmp_path / "a.gguf")
    assert {t.name: tuple(t.shape[::-1]) for t in theirs.tensors} == {n: t.shape for n, t in ours.tensors.items()}
    for tensor in theirs.tensors:
        found = ours.tensors[tensor.name].read()
        expected = require_package("gguf").dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(found, expected.reshape(found.shape))
    for key, value in ours.facts.items():
        found = theirs.fields[key].contents()
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == found


def changed(raw, old, new):
    """The file with the only `old` in it replaced; as long as before."""
    assert raw.count(old) == 1 and len(old) == len(new)
    return raw.replace(old, new)


RAW = files.gguf_llama()


GGUF = [
    (b"GGUF", "the shortest possible one 24"),
    (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "has version 1"),
    (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "the other byte order"),
    (b"GGUF" + struct.pack("<IQQ", 3, 2**64 - 1, 0), "claims 18,446,744,073,709,551,615 tensors"),
    (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "claims 9,223,372,036,854,775,808 facts"),
    (b"GGUF" + struct.pack("<IQQQ", 3, 0, 0, 0), "'general.architecture' is missing"),
    (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**60) + b"x" * 30, "a fact's key at byte"),
    (RAW[:-40], "claims the bytes"),
    (RAW[:200], "cut short or damaged"),
    (files.gguf_llama(facts={"general.architecture": "mamba"}), "holds a 'mamba'"),
    (files.gguf_llama(facts={"llama.block_count": 0}), "'block_count' is 0"),
    (files.gguf_llama(facts={"llama.block_count": 2**31 - 1}), "claims 2,147,483,647 layers"),
    (files.gguf_llama(facts={"llama.block_count": 2}), "lacks tensors .*blk.1.attn_norm"),
    (files.gguf_llama(facts={"llama.context_length": 2**31 - 1}), "table of rotary positions"),
    (files.gguf_llama(facts={"llama.rope.scaling.type": "yarn"}), "'rope.scaling.type' is 'yarn'"),
    (files.gguf_llama(facts={"llama.embedding_length": 2**30}), "'rope.dimension_count' is 8"),
    (files.gguf_llama(facts={"llama.feed_forward_length": 2**30}), "shapes of tensors"),
    (files.gguf_llama(facts={"llama.rope.freq_base": float("nan")}), "'rope.freq_base' is nan"),
    (files.gguf_llama(facts={"llama.rope.freq_base": 3e38}), "'rope.freq_base' is 3"),
    (files.gguf({"llama.a": 1, "llama.b": 2}, {}).replace(b"llama.b", b"llama.a"), "the fact 'llama.a' is there twice"),
    (files.gguf_llama(facts={"general.alignment": 0}), "general.alignment is 0"),
    (files.gguf_llama(facts={"general.alignment": "big"}), "general.alignment is 'big'"),
    (changed(files.gguf({"x": [""] * 5}, {}), struct.pack("<Q", 5), struct.pack("<Q", 2**61)), "claims 2,305,.* 'x'"),
    (files.gguf({}, {"t": ("F32", (2**62, 2**62), b"")}), "claims the bytes"),
    (files.gguf({}, {"t": ("Q8_0", (33,), b"")}), "which Q8_0 blocks of 32 do not fill"),
    (files.gguf({}, {"t": ("F32", (1,) * 5, b"")}), "has 5 axes"),
    (changed(RAW, struct.pack("<IQIQ", 1, 32, 0, 768), struct.pack("<IQIQ", 1, 32, 0, 0)), "overlap"),
    (changed(RAW, struct.pack("<IQIQ", 1, 32, 0, 768), struct.pack("<IQIQ", 1, 32, 0, 2**63)), "claims the bytes"),
    (changed(RAW, struct.pack("<IQIQ", 1, 32, 0, 768), struct.pack("<IQIQ", 1, 32, 99, 768)), "number format 99"),
    (changed(RAW, b"output_norm.weight", b"output_norm.weighs"), "lacks tensors .*output_norm"),
    (changed(RAW, b"attn_v", b"\xff\xff\xff\xff\xff\xff"), "not UTF-8"),
]


@pytest.mark.parametrize("raw, message", GGUF, ids=[message for _, message in GGUF])
def test_a_gguf_file_that_lies_is_refused(tmp_path, raw, message):
    assert re.search(message, refused(tmp_path / "a.gguf", raw))


@pytest.mark.parametrize(
    "facts, without, message",
    [
        ({"tokenizer.ggml.model": "bert"}, (), "kind 'bert'"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2"}, (), "'qwen2'"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": np.zeros(2, "<f4")}, (), "not a str"),
        ({"tokenizer.ggml.tokens": []}, (), "is empty"),
        ({"tokenizer.ggml.token_type": np.array([1, 1], "<i4")}, (), "6 tokens and 2 types"),
        ({"tokenizer.ggml.token_type": np.array([1.5] * 6, "<f4")}, (), "types"),
        ({"tokenizer.ggml.token_type": np.array([77] * 6, "<i4")}, (), "type"),
        ({"tokenizer.ggml.scores": np.array([np.nan] * 6, "<f4")}, (), "finite"),
        ({}, ["tokenizer.ggml.scores"], "'tokenizer.ggml.scores' is missing"),
        ({"tokenizer.ggml.tokens": "abc"}, (), "is a str, not a list"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.merges": ["a b c"]}, (), "merge"),
        ({"tokenizer.ggml.eos_token_id": 77}, (), "eos_id=77"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(tmp_path, facts, without, message):
    path = tmp_path / "a.gguf"
    path.write_bytes(files.gguf_llama(facts=facts, without=without))
    with pytest.raises(MinilmError, match=message):
        from_pretrained(path)
    assert from_pretrained(path, with_tokenizer=False)[1] is None


def test_more_tokens_than_the_model_knows_are_refused(tmp_path):
    many = {
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(9)],
        "tokenizer.ggml.scores": np.zeros(9, "<f4"),
        "tokenizer.ggml.token_type": np.ones(9, "<i4"),
    }
    (tmp_path / "a.gguf").write_bytes(files.gguf_llama(facts=many))
    with pytest.raises(CheckpointError, match="has 9 tokens, and the model knows 6"):
        from_pretrained(tmp_path / "a.gguf")


# llama2.c


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_an_honest_checkpoint_of_llama2c_is_read_in_order(tmp_path, version, tied):
    (tmp_path / "a.bin").write_bytes(files.llama2c(version, tied))
    model, tokenizer = from_pretrained(tmp_path / "a.bin")
    assert tokenizer is None and model.config.tied == tied and model.config.interleaved
    state = model.state_dict()
    assert state["token_embedding.weight"].shape == (5, 8) and ("head.weight" in state) == (not tied)
    numbers = np.arange(1, len(files.llama2c(version, tied)) // 4, dtype=np.float32) / np.float32(100)
    first = "token_embedding.weight" if version == 0 else "blocks.0.norm_1.weight"
    np.testing.assert_array_equal(state[first].reshape(-1), numbers[: state[first].size])
    if not tied:
        last = (len(files.llama2c(version, tied)) - (28 if version == 0 else 256)) // 4
        np.testing.assert_array_equal(state["head.weight"].reshape(-1), numbers[last - 40 : last])


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda raw: raw[:20], "the shortest possible one 28"),
        (lambda raw: raw[:-4], "takes .* bytes, and it has"),
        (lambda raw: raw + b"\0" * 4, "takes .* bytes, and it has"),
        (lambda raw: raw.replace(struct.pack("<i", 12), struct.pack("<i", 2**31 - 1), 1), "takes .* bytes"),
        (lambda raw: raw.replace(struct.pack("<ii", 2, 2), struct.pack("<ii", 2**31 - 1, 2), 1), "cut short"),
        (lambda raw: raw.replace(struct.pack("<ii", 2, 2), struct.pack("<ii", -2, 2), 1), "sizes cannot be"),
        (lambda raw: raw.replace(struct.pack("<ii", 2, 2), struct.pack("<ii", 2, 0), 1), "sizes cannot be"),
        (lambda raw: b"24ka" + struct.pack("<i", 2) + raw[8:], "version 2"),
        (lambda raw: b"PK\x03\x04" + raw[4:], "a file of PyTorch's"),
        (lambda raw: b"\x80\x02" + raw[2:], "a file of PyTorch's"),
    ],
)
def test_a_checkpoint_of_llama2c_that_lies_is_refused(tmp_path, version, change, message):
    assert re.search(message, refused(tmp_path / "a.bin", change(files.llama2c(version))))


def test_numbers_that_are_none_are_refused(tmp_path):
    raw = bytearray(files.llama2c(0))
    raw[40:44] = struct.pack("<f", float("nan"))
    assert "tok_embeddings.weight" in refused(tmp_path / "a.bin", bytes(raw))
    raw[40:44] = struct.pack("<f", float("inf"))
    assert "infinite numbers" in refused(tmp_path / "a.bin", bytes(raw))


# whatever else may be in a file

flips = st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), min_size=1, max_size=4)
huge = st.lists(st.tuples(st.integers(0, 2**20), st.sampled_from(HUGE), st.sampled_from([4, 8])), max_size=2)
cuts = st.none() | st.integers(0, 2**20)


def damaged(raw, flips, huge, cut, reach):
    """The file with some bits turned and some huge numbers written in, within `reach` bytes, and cut short."""
    raw = bytearray(raw)
    for place, size, width in [(p, n, w) for p, n, w in huge if reach > 8]:
        place %= reach - 8
        raw[place : place + width] = (size % 2 ** (8 * width)).to_bytes(width, "little")
    for place, bits in flips:
        raw[place % reach] ^= bits
    return bytes(raw if cut is None else raw[: cut % len(raw)])


def survives(path, raw):
    """Reading the file gives a model, or an error of ours; and takes little memory."""
    path.write_bytes(raw)
    with little_memory():
        try:
            from_pretrained(path if path.name != WEIGHTS else path.parent)
        except MinilmError as error:
            assert isinstance(error, CheckpointError | TokenizerError)


fuzz = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
GGUF_HEAD = len(RAW) - sum(4 * int(np.prod(shape)) for shape in files.llama_shapes().values())


@fuzz
@given(flips, huge, cuts)
def test_a_damaged_gguf_file_does_no_harm(tmp_path, flips, huge, cut):
    survives(tmp_path / "a.gguf", damaged(RAW, flips, huge, cut, GGUF_HEAD))


@fuzz
@given(flips, huge, cuts, st.sampled_from([0, 1]))
@example(flips=[(34, 6)], huge=[], cut=None, version=1)  # a context of four million
def test_a_damaged_checkpoint_of_llama2c_does_no_harm(tmp_path, flips, huge, cut, version):
    survives(tmp_path / "a.bin", damaged(files.llama2c(version), flips, huge, cut, 60))


@fuzz
@given(flips, huge, cuts, st.sampled_from(["gpt2", "llama", "bert-sequence"]))
def test_a_damaged_safetensors_file_does_no_harm(tmp_path, reference, flips, huge, cut, name):
    shapes = reference["tiny_models"][name]["shapes"]
    raw = (tiny.write_folder(tmp_path, name, shapes) / WEIGHTS).read_bytes()
    reach = 8 + int.from_bytes(raw[:8], "little")
    survives(tmp_path / WEIGHTS, damaged(raw, flips, huge, cut, reach))


@fuzz
@given(st.data())
def test_a_damaged_configuration_does_no_harm(tmp_path, reference, data):
    name = data.draw(st.sampled_from(["gpt2", "llama", "bert-sequence"]))
    tiny.write_folder(tmp_path, name, reference["tiny_models"][name]["shapes"])
    values = json.loads((tmp_path / "config.json").read_text())
    anything = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3)
    odd = st.sampled_from([*HUGE, 0, -1, 10**30]) | anything | st.lists(anything, max_size=2)
    for key in data.draw(st.lists(st.sampled_from([*values, "head_dim", "rope_parameters"]), min_size=1, max_size=3)):
        values[key] = data.draw(odd)
    (tmp_path / "config.json").write_text(json.dumps(values))
    survives(tmp_path / WEIGHTS, (tmp_path / WEIGHTS).read_bytes())

"""A checkpoint is there as a whole or not at all; damage is found and named; what was there before stays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from minilm.errors import CheckpointError, TokenizerError, TrainingError
from minilm.training import checkpoint as module
from minilm.training import find_checkpoint, list_checkpoints, load_model, save_checkpoint
from minilm.training.checkpoint import verify
from tests.training.runs import TOKENIZER, TOKENS, assert_same_bits, parameters, small_model, small_trainer


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    small_trainer(out, steps=6).train()
    return out


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.mark.parametrize("kind", ["gpt", "lstm", "gru", "rnn"])
def test_a_model_comes_back_with_its_bits_and_its_tokenizer(tmp_path: Path, kind: str) -> None:
    model = small_model(kind).eval()
    save_checkpoint(tmp_path / "checkpoint-1", model, TOKENIZER)
    loaded, tokenizer = load_model(tmp_path)
    assert type(loaded) is type(model) and loaded.config == model.config and not loaded.training
    assert_same_bits(parameters(model), parameters(loaded))
    assert tokenizer == TOKENIZER
    ids = TOKENS[None, :10]
    np.testing.assert_array_equal(model(ids).numpy(), loaded(ids).numpy())


def test_a_run_means_its_best_or_its_last_checkpoint(run: Path) -> None:
    assert [p.name for p in list_checkpoints(run)] == ["checkpoint-3", "checkpoint-4", "checkpoint-6"]
    assert find_checkpoint(run).name == "checkpoint-6"
    best = json.loads((run / "checkpoint-6" / "trainer_state.json").read_text())["best_checkpoint"]
    assert find_checkpoint(run, best=True).name == best
    assert find_checkpoint(run / "checkpoint-3") == run / "checkpoint-3"


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "trainer_state.json", "tokenizer.json"])
def test_a_truncated_file_is_named_and_so_is_the_checkpoint_before(run: Path, name: str) -> None:
    path = run / "checkpoint-6" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"{name} has .* bytes instead of .*checkpoint-4"):
        small_trainer(run, steps=9).train(resume_from_checkpoint=True)
    small_trainer(run, steps=9).train(resume_from_checkpoint=run / "checkpoint-4")  # still good


def test_a_changed_byte_is_found(run: Path) -> None:
    path = run / "checkpoint-6" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="was changed after it was written"):
        load_model(run / "checkpoint-6")


def replace(folder: Path, name: str, content: bytes) -> None:
    """Write another file of this name, and a manifest that vouches for it."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def replace_config(folder: Path, config: str) -> None:
    replace(folder, "config.json", config.encode())


NONSENSE = ["[" * 9_999, "[]", '{"model": "gpt"}', '{"model": "gpt", "config": []}', '{"model": ["gpt"], "config": {}}']


@pytest.mark.parametrize("config", NONSENSE)
def test_a_checkpoint_whose_manifest_vouches_for_nonsense_is_refused(run: Path, config: str) -> None:
    """Whoever damages a file on purpose writes the manifest as well."""
    folder = run / "checkpoint-6"
    replace_config(folder, config)
    with pytest.raises(CheckpointError):
        load_model(folder)


@pytest.mark.parametrize("content", [b"\xff", b"", b"[" * 99_999, b'{"type": []}', b'{"type": "char", "type": "byte"}'])
def test_a_tokenizer_that_is_none_is_refused(run: Path, content: bytes) -> None:
    replace(run / "checkpoint-6", "tokenizer.json", content)
    with pytest.raises(TokenizerError, match="tokenizer.json"):
        load_model(run / "checkpoint-6")


@pytest.mark.parametrize("size", ["x", [1], None, 1e400, "9" * 5000])
def test_a_size_in_the_manifest_that_is_none_is_refused(run: Path, size: object) -> None:
    manifest = json.loads((run / "checkpoint-6" / "manifest.json").read_text())
    manifest["files"]["config.json"]["size"] = size
    (run / "checkpoint-6" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="manifest.json cannot be read"):
        load_model(run / "checkpoint-6")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", ".", "..", "/", "a/b", "nothing"])
def test_a_name_in_the_manifest_that_no_file_has_is_refused(run: Path, name: str) -> None:
    manifest = json.loads((run / "checkpoint-6" / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["config.json"]
    (run / "checkpoint-6" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="is missing"):
        load_model(run / "checkpoint-6")


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3"])
def test_numbers_that_numpy_does_not_have_are_refused(run: Path, dtype: str) -> None:
    size = 2 if dtype == "BF16" else 1
    header = json.dumps({"a": {"dtype": dtype, "shape": [4000], "data_offsets": [0, 4000 * size]}}).encode()
    replace(run / "checkpoint-6", "model.safetensors", len(header).to_bytes(8, "little") + header + bytes(4000 * size))
    with pytest.raises(CheckpointError, match="model.safetensors (cannot be read|has)"):
        load_model(run / "checkpoint-6")


STATES: list[tuple[str, object]] = [
    ("step", "x"),
    ("step", -1),
    ("step", 10**30),
    ("batch", [1]),
    ("tokens", {}),
    ("epoch", None),
    ("best_metric", [1.0]),
    ("best_metric", "x"),
    ("best_checkpoint", 3),
    ("best_checkpoint", "../checkpoint-3"),
    ("evaluations_without_improvement", True),
    ("last_eval", [1]),
    ("last_eval", {"eval_loss": "x"}),
    ("generator", None),
    ("generator", {}),
    ("generator.seed", "x"),
    ("generator.seed", 1e400),
    ("generator.offset", -1),
    ("generator.counter", [1]),
    ("generator.counter", [1, 2, 3, "x"]),
    ("generator.counter", [1, 2, 3, [4]]),
    ("generator.key", [-1, 2]),
    ("generator.key", [0.5, 2]),
    ("generator.buffer", 0),
    ("generator.buffer_pos", 10**30),
    ("generator.buffer_pos", -10_000_000),
    ("generator.buffer_pos", 5),
    ("generator.has_uint32", "x"),
    ("generator.uinteger", 2**32),
    ("optimizer", 3),
    ("optimizer.steps", 3),
    ("optimizer.steps.final_norm.bias", {}),
    ("optimizer.steps.final_norm.bias", -1),
    ("optimizer.param_groups", {}),
    ("optimizer.param_groups", [3]),
    ("optimizer.param_groups.0.lr", "x"),
    ("optimizer.param_groups.0.lr", 1e400),
    ("optimizer.param_groups.0.betas", 0.9),
    ("optimizer.param_groups.0.betas", [0.9]),
    ("optimizer.param_groups.0.weight_decay", None),
    ("optimizer.param_groups.0.params", 3),
]


@pytest.mark.parametrize("path, value", STATES, ids=str)
def test_a_state_that_cannot_be_is_not_resumed_from(run: Path, path: str, value: object) -> None:
    folder = run / "checkpoint-6"
    state = json.loads((folder / "trainer_state.json").read_text())
    holder, (*above, last) = state, path.replace("final_norm.bias", "final_norm bias").split(".")
    for key in above:
        holder = holder[int(key) if isinstance(holder, list) else key]
    holder[last.replace(" ", ".")] = value
    replace(folder, "trainer_state.json", json.dumps(state).encode())
    with pytest.raises(CheckpointError, match="checkpoint-6"):
        small_trainer(run, steps=9).resume(folder)


HUGE = {"vocab_size": 10**9, "block_size": 10**9, "n_embd": 10**6, "n_layer": 10**6}


@pytest.mark.parametrize("kind", ["gpt", "lstm", "gru", "rnn"])
@pytest.mark.parametrize("key", [*HUGE, "n_hidden"])
def test_sizes_that_the_weights_do_not_vouch_for_take_no_memory(tmp_path: Path, kind: str, key: str) -> None:
    folder = tmp_path / "checkpoint-1"
    save_checkpoint(folder, small_model(kind), TOKENIZER)
    config = json.loads((folder / "config.json").read_text())
    if key not in config["config"]:
        return
    config["config"][key] = HUGE.get(key, 10**6)
    replace_config(folder, json.dumps(config))
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="config.json claims .*, and model.safetensors has"):
        load_model(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


BERT = {"vocab_size": 9, "block_size": 4, "n_layer": 1, "n_head": 1, "n_embd": 4, "n_hidden": 4}
LIES: list[tuple[str, dict[str, object]]] = [
    ("bert", {}),  # the sizes of the published one, which nothing in the file has
    ("gpt", {}),
    ("llama", {}),
    ("transformer", {}),
    ("bert", BERT | {"n_segment": 10**8}),
    ("bert", BERT | {"block_size": 10**7}),
    ("bert-sequence-classification", BERT | {"num_labels": 10**8}),
    ("bert-token-classification", BERT | {"num_labels": 10**8}),
]


@pytest.mark.parametrize("kind, sizes", LIES, ids=str)
def test_what_a_configuration_leaves_out_or_only_some_models_have_takes_no_memory(
    tmp_path: Path, kind: str, sizes: dict[str, object]
) -> None:
    folder = tmp_path / "checkpoint-1"
    save_checkpoint(folder, small_model("gpt"), TOKENIZER)
    replace_config(folder, json.dumps({"model": kind, "config": sizes}))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="config.json claims .*, and model.safetensors has"):
            load_model(folder)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [3, [], "../checkpoint-3", "checkpoint-99", "", "/", "checkpoint-3/../checkpoint-4"])
def test_the_name_of_the_best_checkpoint_is_one_of_this_run(run: Path, name: object) -> None:
    state = run / "checkpoint-6" / "trainer_state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"best_checkpoint": name}))
    assert find_checkpoint(run, best=True) == run / "checkpoint-6"


def test_missing_files_and_a_broken_manifest_are_found(run: Path) -> None:
    (run / "checkpoint-6" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="config.json is missing"):
        verify(run / "checkpoint-6")
    (run / "checkpoint-4" / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match="manifest.json cannot be read"):
        verify(run / "checkpoint-4")
    with pytest.raises(CheckpointError, match="holds no checkpoint-N folder"):
        find_checkpoint(run.parent)
    with pytest.raises(CheckpointError, match="metrics.jsonl is a file, and"):
        find_checkpoint(run / "metrics.jsonl")


def test_a_manifest_cannot_point_outside_its_folder(run: Path) -> None:
    (run / "secret").write_text("x")
    manifest = run / "checkpoint-6" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"]["../secret"] = {"size": 1, "sha256": "0"}
    manifest.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="secret is missing"):
        verify(run / "checkpoint-6")


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    from minilm.text import CharTokenizer

    big = CharTokenizer.train([TOKENIZER.decode(np.arange(TOKENIZER.vocab_size)) + "ÄÖÜ"])
    save_checkpoint(tmp_path / "checkpoint-1", small_model("gpt"), big)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load_model(tmp_path)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tests.training.runs import small_trainer
trainer = small_trainer(Path(sys.argv[1]), steps=9)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may grow beyond this: writing fails, really
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
trainer.train(resume_from_checkpoint=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files by a POSIX call")
def test_a_disk_that_takes_no_more_leaves_the_checkpoint_before(run: Path) -> None:
    before = {p: p.read_bytes() for p in (run / "checkpoint-6").iterdir()}
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(run)], capture_output=True, text=True)
    assert "TrainingError: could not save" in done.stderr and "checkpoint-6 is still there" in done.stderr
    assert {p: p.read_bytes() for p in (run / "checkpoint-6").iterdir()} == before
    assert [p.name for p in run.iterdir() if "partial" in p.name] == []
    small_trainer(run, steps=9).train(resume_from_checkpoint=True)


def test_no_space_left_is_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", no_space)
    with pytest.raises(TrainingError, match="the disk is full"):
        save_checkpoint(tmp_path / "checkpoint-1", small_model("gpt"))
    assert list(tmp_path.iterdir()) == []


def test_the_half_of_a_killed_save_is_never_taken_for_a_checkpoint(run: Path) -> None:
    shutil.copytree(run / "checkpoint-6", run / ".checkpoint-7.partial")
    assert find_checkpoint(run).name == "checkpoint-6"


def test_old_checkpoints_go_but_the_best_and_the_last_stay(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, steps=12, save_steps=1, eval_steps=12, save_total_limit=2)
    trainer.train()
    assert [p.name for p in list_checkpoints(tmp_path)] == ["checkpoint-11", "checkpoint-12"]

    settings = {"save_steps": 1, "eval_steps": 2, "save_total_limit": 2, "overwrite_output_dir": True}
    trainer = small_trainer(tmp_path, steps=8, **settings)
    losses = iter([{"eval_loss": v} for v in (3.0, 1.0, 2.0, 2.5)])
    trainer.evaluate = lambda: next(losses)  # the best is at step 4
    trainer.train()
    assert [p.name for p in list_checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-8"]


def test_nothing_is_pickled() -> None:
    folder = Path(module.__file__).parent
    for path in folder.glob("*.py"):
        source = path.read_text()
        assert "import pickle" not in source and "allow_pickle" not in source and "eval(" not in source.replace(
            ".eval(", ""
        )

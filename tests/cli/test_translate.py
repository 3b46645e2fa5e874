"""minilm train transformer and minilm translate: from a file of pairs to translations, and kind errors on the way."""

import io
import json
import shutil

import pytest

from minilm.cli import main, pair_presets
from minilm.cli.presets import PAIR_MODELS
from minilm.errors import ConfigurationError
from minilm.text import read_pairs
from minilm.training import list_checkpoints

WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "red": "rot", "blue": "blau", "dog": "Hund"}
TINY = "--preset=tiny --n-embd=16 --n-hidden=16 --vocab-size=300 --no-plot".split()


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """A file of 343 sentences of three words, translated word by word."""
    sentences = [(a, b, c) for a in WORDS for b in WORDS for c in WORDS]
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    lines = [f"{' '.join(words)}\t{' '.join(WORDS[word] for word in words)}\n" for words in sentences]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def learnt(pairs, tmp_path_factory):
    """The folder of a transformer that has learnt them."""
    folder = tmp_path_factory.mktemp("learnt") / "run"
    options = "--preset=tiny --n-embd=32 --n-hidden=64 --steps=150 --eval-every=150 --vocab-size=300 --no-plot"
    assert main(["train", "transformer", "--data", str(pairs), "--out", str(folder), *options.split()]) == 0
    return folder


@pytest.mark.parametrize("model", PAIR_MODELS)
def test_train_resume_and_translate(minilm, pairs, tmp_path, model):
    run = tmp_path / "run"
    done = minilm("train", model, "--data", pairs, "--out", run, *TINY, "--steps", 6, "--eval-every", 3)
    assert done.status == 0, done.err
    assert "parameters" in done.out and "nats per token" in done.out and "tokens/s" in done.out
    assert f"minilm translate \"Good morning.\" --model {run}" in done.out
    assert minilm("train", "--resume", run, "--steps", 9, "--no-plot").status == 0
    assert list_checkpoints(run)[-1].name == "checkpoint-9"
    done = minilm("translate", "one red dog", "--model", run, "--beam", 2, "--max-length", 4)
    assert done.status == 0 and done.out.count("\n") == 1


def test_a_resumed_run_is_the_run_that_was_not_interrupted(minilm, pairs, tmp_path):
    def losses(run):
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines if "grad_norm" in line]

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = [*TINY, "--steps", 8, "--save-every", 4, "--eval-every", 8]
    assert minilm("train", "transformer", "--data", pairs, "--out", whole, *options).status == 0
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoint-8")
    assert minilm("train", "--resume", parts, "--no-plot").status == 0
    assert losses(parts) == losses(whole)
    weights = [(run / "checkpoint-8" / "model.safetensors").read_bytes() for run in (parts, whole)]
    assert weights[0] == weights[1]


def test_the_parts_of_a_run_have_no_source_in_common(learnt, pairs):
    parts = [read_pairs(learnt / "data" / f"{name}.tsv") for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [309, 17, 17]
    assert sorted(pair for part in parts for pair in part) == sorted(read_pairs(pairs))


def test_it_translates_sentences_that_it_has_not_seen(minilm, learnt):
    unseen = read_pairs(learnt / "data" / "test.tsv")
    right = sum(minilm("translate", s, "--model", learnt).out == t + "\n" for s, t in unseen)
    assert right >= 0.8 * len(unseen)


def test_lines_of_a_file_and_of_stdin_come_back_as_lines(minilm, learnt, tmp_path, monkeypatch):
    lines = "one two three\n\nred dog four\n"
    (tmp_path / "english.txt").write_text(lines)
    alone = [minilm("translate", line, "--model", learnt).out for line in ("one two three", "red dog four")]
    expected = alone[0] + "\n" + alone[1]
    assert minilm("translate", "--file", tmp_path / "english.txt", "--model", learnt).out == expected
    for dash in (["-"], []):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        assert minilm("translate", *dash, "--model", learnt).out == expected


def test_the_attention_map_is_drawn(minilm, learnt, tmp_path, require_package):
    require_package("matplotlib")
    picture = tmp_path / "map.png"
    assert minilm("translate", "one red dog", "--model", learnt, "--attention", picture).status == 0
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_cannot_be_translated_is_told_kindly(minilm, learnt, trained, tmp_path):
    (tmp_path / "two.txt").write_text("one\ntwo\n")
    wrong = [
        (["  ", "--model", learnt], "empty"),
        (["one", "--file", tmp_path / "two.txt", "--model", learnt], "one of them at a time"),
        (["one", "--model", tmp_path / "nowhere"], "there is no folder"),
        (["one", "--model", trained], "no model that translates"),
        (["--file", tmp_path / "missing.txt", "--model", learnt], "there is no file"),
        (["one " * 80, "--model", learnt], "at most 64"),
        (["one", "--model", learnt, "--attention", tmp_path / "no" / "map.png"], "there is no folder"),
        (["one", "--model", learnt, "--attention", tmp_path / "map.xyz"], "ends with .png, .svg, .pdf"),
        (["--file", tmp_path / "two.txt", "--model", learnt, "--attention", tmp_path / "map.png"], "one sentence"),
    ]
    for arguments, reason in wrong:
        assert reason in minilm("translate", *arguments).error
    assert "minilm translate" in minilm("sample", learnt).error


def test_what_cannot_be_trained_is_told_kindly(minilm, pairs, text, tmp_path):
    def train(*arguments):
        return minilm("train", "transformer", "--out", tmp_path / "run", *TINY, *arguments)

    assert "a source, a tab and a target" in train("--data", text).error
    assert "--lower means nothing" in train("--data", pairs, "--lower").error
    assert "not a multiple" in train("--data", pairs, "--n-head", 3).error
    assert "raise --block-size" in train("--data", pairs, "--block-size", 1).error
    assert "a new run needs --data" in train().error
    with pytest.raises(ConfigurationError, match="the presets are"):
        pair_presets.resolve("transformer", "x", "char-cpu", {})
    with pytest.raises(ConfigurationError, match="--n-head means nothing for seq2seq-lstm"):
        pair_presets.resolve("seq2seq-lstm", "x", None, {"n_head": 2})
    assert not (tmp_path / "run").exists()

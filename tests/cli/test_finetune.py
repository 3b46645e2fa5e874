"""minilm finetune and minilm classify: a small encoder learns to tell reviews apart, by every method, and is used."""

import io
import json
import re
import signal
import sys

import numpy as np
import pytest

from minilm.cli import finetune_run, main, presets
from minilm.errors import CheckpointError
from minilm.models import GPT, GPTConfig, LSTMClassifier
from minilm.pretrained import TextClassifier, from_pretrained, save_pretrained
from minilm.training import Callback, Trainer, load_lora, read_metrics
from tests.training.small_encoder import reviews, write_encoder, write_table

QUICK = ["--epochs", 12, "--lr", 0.01]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("data") / "reviews.csv", reviews(160))


@pytest.fixture(scope="module")
def trained(encoder, table, tmp_path_factory):
    """A folder that `minilm finetune` wrote."""
    folder = tmp_path_factory.mktemp("runs") / "reviews"
    run = ["finetune", encoder, "--task", "classify", "--data", table, "--out", folder, *QUICK]
    assert main(list(map(str, run))) == 0
    return folder


def figures(folder):
    return json.loads((folder / "run.json").read_text())["figures"]


# ----- finetune


def test_it_learns_and_says_what_came_of_it(minilm, trained, table):
    found = figures(trained)
    assert found["accuracy"] >= 0.9 and found["macro_f1"] >= 0.9 and found["trained_parameters"] == found["parameters"]
    assert not list(trained.glob("checkpoint-*")), "the model is in the folder itself now"
    assert sum(p.size for p in from_pretrained(trained)[0].parameters()) == found["parameters"]
    told = trained / "eval.json"
    assert minilm("eval", trained, "--data", table, "--json", told).status == 0  # mostly what it was trained on
    again = json.loads(told.read_text())
    folder = table.parent / "folder"
    folder.mkdir(exist_ok=True)
    for label in ("pos", "neg"):
        (folder / f"reviews.{label}").write_text("".join(f"{t}\n" for t, k in reviews(160) if k == label))
    assert minilm("eval", trained, "--data", folder, "--json", told).status == 0
    assert json.loads(told.read_text())["accuracy"] == again["accuracy"]
    assert again["accuracy"] >= 0.9 and again["classes"] == ["neg", "pos"] and again["documents"] == 160


@pytest.mark.parametrize("method", ["lora", "last", "frozen"])
def test_each_method_trains_less_and_says_how_much(minilm, encoder, table, tmp_path, method):
    run = ["finetune", encoder, "--task", "classify", "--data", table, "--out", tmp_path / "run", *QUICK]
    done = minilm(*run, "--method", method, "--rank", 2)
    assert done.status == 0, done.err
    found = figures(tmp_path / "run")
    C, hidden, head = 16, 24, 16 * 16 + 16 + 16 * 2 + 2
    block = 4 * (C * C + C) + C * hidden + hidden + hidden * C + C + 4 * C
    expected = {"lora": head + 2 * 2 * (C + 3 * C + C + C), "last": head + block, "frozen": head}[method]
    assert found["trained_parameters"] == expected
    assert method in done.out and f"{found['accuracy']:.4f}" in done.out and "macro F1" in done.out
    names = set(from_pretrained(tmp_path / "run")[0].state_dict())
    assert not any("lora" in name for name in names), "merged"


def test_adapters_are_saved_alone_too(minilm, encoder, table, tmp_path):
    run = ["finetune", encoder, "--task", "classify", "--data", table, "--out", tmp_path / "run", *QUICK]
    assert minilm(*run, "--method", "lora").status == 0
    merged, tokenizer = from_pretrained(tmp_path / "run")
    base, _ = from_pretrained(encoder, kind=type(merged), num_labels=2)
    ids = tokenizer.pair(tokenizer.encode("a good film")).input_ids[None]
    load_lora(base, tmp_path / "run" / "adapter.safetensors")
    np.testing.assert_allclose(base(ids).numpy(), merged(ids).numpy(), atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora", "frozen"])
def test_a_run_that_was_stopped_goes_on_to_the_same_model(minilm, encoder, table, tmp_path, method, monkeypatch):
    def run(name):
        return ["finetune", encoder, "--task", "classify", "--data", table, "--out", tmp_path / name,
                "--method", method, "--epochs", 2, "--lr", 0.01]  # fmt: skip

    assert minilm(*run("whole")).status == 0

    class Stop(Callback):
        def on_step_end(self, trainer, metrics):
            if trainer.state.step == 7:
                signal.raise_signal(signal.SIGINT)

    begin = Trainer.__init__
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "__init__", lambda *a, callbacks, **k: begin(*a, callbacks=[*callbacks, Stop()], **k))
        stopped = minilm(*run("parts"))
    assert stopped.status == 130 and "--resume" in stopped.err
    assert f"--resume {tmp_path / 'parts'}" in minilm(*run("parts")).error
    done = minilm("finetune", "--resume", tmp_path / "parts")
    assert done.status == 0, done.err
    one, other = (from_pretrained(tmp_path / name)[0].state_dict() for name in ("whole", "parts"))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert "is finished" in minilm("finetune", "--resume", tmp_path / "parts").error


def test_stopped_after_its_last_step_a_run_has_its_time_from_the_log(minilm, encoder, table, tmp_path, monkeypatch):
    run = ["finetune", encoder, "--task", "classify", "--data", table, "--out", tmp_path / "run", "--epochs", 2]

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("minilm.cli.finetune_classify.evaluate_classifier", interrupted)
        assert minilm(*run).status == 130
    assert minilm("finetune", "--resume", tmp_path / "run").status == 0
    last = [m for m in read_metrics(tmp_path / "run" / "metrics.jsonl") if "tokens_per_second" in m][-1]
    logged = last["tokens"] / last["tokens_per_second"]
    assert logged <= figures(tmp_path / "run")["seconds"] < logged + 60, "with the time of the preparations"


def test_an_lstm_starts_from_nothing(minilm, table, tmp_path):
    done = minilm("finetune", "lstm", "--task", "classify", "--data", table, "--out", tmp_path / "run", "--epochs", 6)
    assert done.status == 0, done.err
    assert figures(tmp_path / "run")["accuracy"] >= 0.8 and len(list((tmp_path / "run").glob("checkpoint-*"))) == 1
    sometimes_nothing = write_table(tmp_path / "some.csv", [*reviews(8), ("", "pos")])
    assert minilm("eval", tmp_path / "run", "--data", sometimes_nothing).status == 0
    assert minilm("classify", tmp_path / "run", "a good film").out.startswith("pos")
    other = ["finetune", "lstm", "--task", "classify", "--data", table, "--out", tmp_path / "b", "--method", "lora"]
    assert "--method lora is nothing for lstm" in minilm(*other).error


def test_a_run_in_the_place_of_another_leaves_nothing_of_it(minilm, encoder, table, tmp_path):
    """An LSTM has no published form: its checkpoint is the model, and an encoder's files beside it would hide it."""
    out = ["--task", "classify", "--data", table, "--out", tmp_path / "run", "--epochs", 1]
    assert minilm("finetune", encoder, *out, "--method", "lora").status == 0
    (tmp_path / "run" / "data" / "test.json").write_text("what a run with --task answer holds out")
    done = minilm("finetune", "lstm", *out, "--overwrite")
    assert done.status == 0, done.err
    assert type(TextClassifier.load(tmp_path / "run").model) is LSTMClassifier
    left = sorted(path.name.partition("-")[0] for path in (tmp_path / "run").iterdir())
    assert left == ["checkpoint", "data", "metrics.jsonl", "run.json"]
    assert [path.name for path in (tmp_path / "run" / "data").iterdir()] == ["test.jsonl"]


@pytest.mark.parametrize("model", ["encoder", "lstm"])
def test_eval_finds_the_figures_of_the_run_on_the_texts_that_were_held_out(minilm, encoder, table, tmp_path, model):
    """With so high a learning rate the loss on the held-out part grows: the best checkpoint is not the last one."""
    run = ["finetune", encoder if model == "encoder" else "lstm", "--task", "classify", "--out", tmp_path / "run"]
    assert minilm(*run, "--data", table, "--epochs", 5, "--lr", 0.1, "--held-out", 0.4).status == 0
    losses = [m["eval_loss"] for m in read_metrics(tmp_path / "run" / "metrics.jsonl") if "eval_loss" in m]
    assert model == "encoder" or losses[-1] > min(losses), "else there is nothing to see"
    told = tmp_path / "told.json"
    assert minilm("eval", tmp_path / "run", "--json", told).status == 0
    numbers, expected = json.loads(told.read_text()), figures(tmp_path / "run")
    assert numbers["documents"] == 64
    assert (numbers["accuracy"], numbers["macro_f1"]) == (expected["accuracy"], expected["macro_f1"])
    assert len(set((tmp_path / "run" / "data" / "test.jsonl").read_text().splitlines())) == 64
    by_class = write_table(tmp_path / "sorted.csv", sorted(reviews(160), key=lambda row: row[1]))
    assert minilm("eval", tmp_path / "run", "--data", by_class, "--limit", 10, "--json", told).status == 0
    assert [sum(row) for row in json.loads(told.read_text())["confusion"]] == [5, 5], "from all over"
    if model == "lstm":
        [checkpoint] = (tmp_path / "run").glob("checkpoint-*")
        assert minilm("eval", checkpoint, "--json", told).status == 0
    (tmp_path / "run" / "data" / "test.jsonl").unlink()
    assert "--data" in minilm("eval", tmp_path / "run").error


@pytest.mark.parametrize("model", ["encoder", "lstm"])
def test_eval_reads_as_much_of_a_text_as_the_run_did(minilm, encoder, table, tmp_path, model):
    """Of its own texts; of any others as much as the model can."""
    run = ["finetune", encoder if model == "encoder" else "lstm", "--task", "classify", "--out", tmp_path / "run"]
    assert minilm(*run, "--data", table, *QUICK, "--held-out", 0.4, "--max-length", 5).status == 0
    told, own = tmp_path / "told.json", tmp_path / "run" / "data" / "test.jsonl"
    assert minilm("eval", tmp_path / "run", "--json", told).status == 0
    numbers, expected = json.loads(told.read_text()), figures(tmp_path / "run")
    assert (numbers["accuracy"], numbers["macro_f1"]) == (expected["accuracy"], expected["macro_f1"])
    assert minilm("eval", tmp_path / "run", "--data", own, "--json", told).status == 0
    assert json.loads(told.read_text())["accuracy"] != numbers["accuracy"], "else nothing was cut"


def test_classes_keep_the_names_that_they_have_in_the_data(minilm, encoder, tmp_path):
    """Stars from 1 to 5 are not the numbers 0 to 4 that the model knows; and a part of them is enough to score it."""
    rows = [(text, {"pos": "5", "neg": "1"}[label]) for text, label in reviews(60)] + [("a film", "10"), ("it", "10")]
    table = write_table(tmp_path / "stars.csv", rows)
    run = ["finetune", encoder, "--task", "classify", "--data", table, "--out", tmp_path / "run", *QUICK]
    assert minilm(*run).status == 0
    assert minilm("classify", tmp_path / "run", "a good good film").out.startswith("5 ")
    some = write_table(tmp_path / "some.csv", rows[:8])
    assert minilm("eval", tmp_path / "run", "--data", some, "--json", tmp_path / "eval.json").status == 0
    told = json.loads((tmp_path / "eval.json").read_text())
    assert told["classes"] == ["1", "5", "10"] and told["accuracy"] > 0.8


def test_a_run_is_not_lost_by_mistake(minilm, trained, encoder, table, tmp_path):
    run = ["finetune", encoder, "--task", "classify", "--data", table, "--out", trained]
    told = minilm(*run).error
    assert "--overwrite" in told and "--resume" not in told, "it is over"
    before = (trained / "model.safetensors").read_bytes()
    assert minilm("finetune", tmp_path / "nothing", *run[2:], "--overwrite").error
    assert (trained / "model.safetensors").read_bytes() == before


def test_what_cannot_be_is_explained(minilm, encoder, trained, table, tmp_path):
    def error(*arguments, model=encoder, data=table):
        run = ["finetune", model, "--task", "classify", "--data", data, "--out", tmp_path / "x"]
        return minilm(*run, *arguments).error

    assert "a new run needs --task, --data, --out" in minilm("finetune", encoder).error
    assert "--task is one of classify" in minilm("finetune", encoder, "--task", "sing").error
    assert "--method is one of" in error("--method", "most")
    assert "no column 'stars'" in error("--label-column", "stars")
    assert "no column 'body'" in error("--text-column", "body")
    assert "between 0 and 1" in error("--held-out", 1.5)
    assert "num_train_epochs must be positive" in error("--epochs", 0)
    assert "--epochs is a number" in error("--epochs", "nan") and "--epochs is a number" in error("--epochs", "inf")
    assert "from 1 to 16" in error("--method", "lora", "--rank", 99)
    assert "reads at most 16 tokens" in error("--max-length", 17)
    assert "a seed is an int from 0" in error("--seed", 2**63)
    assert "there is no" in error(data=tmp_path / "nothing.csv")
    assert "of one class only, 'pos'" in error(data=write_table(tmp_path / "one.csv", [("a", "pos"), ("b", "pos")]))
    few = write_table(tmp_path / "few.csv", [("a film", "x"), ("the plot", "y")])
    assert "of the class" in error(data=few)
    told = error(model=tmp_path / "nothing")
    assert "there is no" in told and "'lstm'" in told
    save_pretrained(GPT(GPTConfig(300, 8, 1, 2, 8)), None, tmp_path / "gpt")
    told = error(model=tmp_path / "gpt")
    assert "takes an encoder, a BERT such as all-minilm-l6-v2, or 'lstm'" in told and "`kind`" not in told
    assert minilm("finetune", "lstm", "--task", "classify", "--data", table, "--out", tmp_path / "own").status == 0
    told = error(model=tmp_path / "own")
    assert "takes an encoder" in told and "own is a run of another model" in told and "minilm." not in told
    once = write_table(tmp_path / "once.csv", [(f"{sign}{i} {sign}x{i}", sign) for i in range(9) for sign in "ab"])
    told = error(model="lstm", data=once)
    assert "no word stands 2 times in the 17 texts" in told and "min_count" not in told
    three = write_table(tmp_path / "three.csv", [(f"a film {i}", "xyz"[i % 3]) for i in range(60)])
    assert "other classes than these 3: start from an encoder" in error(model=trained, data=three)
    assert not (tmp_path / "x").exists(), "nothing was made of a run that could not begin"
    resume = ["finetune", "--resume", trained]
    assert "is finished" in minilm(*resume).error
    assert "not the --out of" in minilm("finetune", "--resume", tmp_path).error


def test_a_run_of_another_command_is_sent_to_it(minilm, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    finetune_run.save(finetune_run.Settings("m", "classify", "d.csv"), folder)
    with pytest.raises(CheckpointError, match=f"goes on with it: minilm finetune --resume {re.escape(str(folder))}$"):
        presets.load(folder / "run.json")
    presets.save(presets.Settings(model="gpt", data="d.txt"), folder / "run.json")
    told = minilm("finetune", "--resume", folder).error
    assert f"minilm train --resume {folder}" in told and "__init__" not in told


def test_a_resumed_run_keeps_its_settings(minilm, tmp_path):
    finetune_run.save(finetune_run.Settings("m", "classify", "d.csv"), tmp_path)
    told = minilm("finetune", "--resume", tmp_path, "--lr", 1, "--method", "lora").error
    assert "--lr (None, not 1.0)" in told and "--method (full, not lora)" in told
    assert "there is no checkpoint" in minilm("finetune", "--resume", tmp_path / "checkpoint-77").error
    assert "leave --out away" in minilm("finetune", "--resume", tmp_path, "--out", tmp_path / "b").error
    (tmp_path / "run.json").write_text("{}")
    assert "is damaged" in minilm("finetune", "--resume", tmp_path).error


# ----- classify


def test_texts_are_classified(minilm, trained):
    done = minilm("classify", trained, "a very good film", "the plot was dull")
    rows = [line.split(None, 2) for line in done.out.splitlines()]
    assert [(row[0], row[2]) for row in rows] == [("pos", "a very good film"), ("neg", "the plot was dull")]
    assert all(0.5 < float(row[1]) <= 1 for row in rows)


def test_lines_of_a_file_and_of_stdin(minilm, trained, tmp_path, monkeypatch):
    path = tmp_path / "lines.txt"
    path.write_text("a fine film\n\nthe film is silly")
    done = minilm("classify", trained, "--file", path, "--json")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [(f["text"], f["label"]) for f in found] == [("a fine film", "pos"), ("the film is silly", "neg")]
    for f in found:
        assert f["probability"] == max(f["probabilities"].values()) and list(f["probabilities"]) == ["neg", "pos"]
        assert sum(f["probabilities"].values()) == pytest.approx(1)
    monkeypatch.setattr(sys, "stdin", io.StringIO(path.read_text()))
    assert [line.split()[0] for line in minilm("classify", trained).out.splitlines()] == ["pos", "neg"]


def test_what_is_longer_than_the_model_reads_is_told(minilm, trained):
    """Of 16 tokens two are [CLS] and [SEP]."""
    assert minilm("classify", trained, "a good film", "film " * 14).err == ""
    done = minilm("classify", trained, "a good film", "film " * 15)
    assert done.err == "(1 text is longer than the 16 tokens that the model reads, and was cut)\n"
    assert len(done.out.splitlines()) == 2


def test_mistakes_of_classify_are_explained(minilm, trained, encoder, tmp_path, monkeypatch):
    assert "gives no classes" in minilm("classify", encoder, "a film").error
    assert "there is no" in minilm("classify", tmp_path / "nothing", "a film").error
    assert "one of them at a time" in minilm("classify", trained, "a film", "--file", tmp_path / "f").error
    assert "there is no file" in minilm("classify", trained, "--file", tmp_path / "f").error
    assert "a text is empty" in minilm("classify", trained, "a film", " ").error
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n  \n"))
    assert "stdin holds no text" in minilm("classify", trained).error

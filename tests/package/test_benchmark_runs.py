"""What benchmarks find in a folder of theirs is not trained again: if it is whole, and what they would train."""

import dataclasses
import importlib.util
import sys

import pytest

from minilm.cli import pair_presets, pair_run
from minilm.training import Callback, list_checkpoints
from tests.package.source import ROOT

SMALL = {"steps": 6, "save_every": 2, "eval_every": 2, "n_embd": 8, "n_hidden": 8, "n_head": 2, "n_layer": 1}


@pytest.fixture
def script(monkeypatch):
    """A function from the name of a benchmark to its module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setitem(sys.modules, "harness", None)
    monkeypatch.delitem(sys.modules, "harness")  # put back as it was when the test is over

    def load(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def trained(script):
    """The function of translation.py."""
    return script("translation").trained


@pytest.fixture
def settings(tmp_path):
    """Of a run of six steps on pairs of words."""
    words = [f"{a}{b}" for a in "abcdefgh" for b in "uvwxyz"]
    (tmp_path / "pairs.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    return pair_presets.resolve("transformer", str(tmp_path / "pairs.tsv"), "tiny", SMALL)


class Stop(Callback):
    def on_step_end(self, trainer, metrics):
        if trainer.state.step == 5:
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_is_trained_to_its_end(trained, settings, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        pair_run.train(pair_run.begin(settings, tmp_path / "run"), callbacks=[Stop()])
    assert list_checkpoints(tmp_path / "run")[-1].name == "checkpoint-4"
    trained(settings, tmp_path / "run")
    assert list_checkpoints(tmp_path / "run")[-1].name == "checkpoint-6"


def test_a_whole_run_is_not_trained_again(trained, settings, tmp_path, monkeypatch):
    trained(settings, tmp_path / "run")
    monkeypatch.setattr(pair_run, "train", None)
    assert trained(dataclasses.replace(settings, data="elsewhere.tsv"), tmp_path / "run").settings == settings


def test_a_run_with_other_settings_is_refused_by_name(trained, settings, tmp_path):
    trained(settings, tmp_path / "run")
    with pytest.raises(SystemExit, match=r"run holds a run with other settings: steps \(6, not 7\)"):
        trained(dataclasses.replace(settings, steps=7), tmp_path / "run")


def test_what_masked_words_has_kept_is_not_taken_for_figures_with_other_settings(script, tmp_path, monkeypatch):
    benchmark = script("masked_words")
    benchmark.check_settings(tmp_path)
    benchmark.check_settings(tmp_path)
    monkeypatch.setattr(benchmark, "DROPOUT", 0.2)
    with pytest.raises(SystemExit, match="with other settings"):
        benchmark.check_settings(tmp_path)

"""The benchmark harness: nothing wrong is timed, contestants take turns, a result names its machine."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from tests.package.source import ROOT


@pytest.fixture
def harness(tmp_path, monkeypatch):
    """The harness, writing its results into a scratch folder."""
    spec = importlib.util.spec_from_file_location("harness", ROOT / "benchmarks" / "harness.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "harness", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "benchmarks" / "results")
    (tmp_path / "benchmarks").mkdir()
    return module


@pytest.mark.parametrize("check", [lambda: False, lambda: np.testing.assert_array_equal([1], [2])])
def test_a_wrong_result_is_never_timed(harness, check):
    calls = []
    with pytest.raises(AssertionError):
        harness.compare("wrong", {"a": lambda: calls.append("a")}, check=check)
    assert calls == []


def test_contestants_take_turns_in_an_order_that_is_reversed(harness):
    calls = []
    contestants = {name: lambda name=name: calls.append(name) for name in "ab"}
    timings = harness.measure(contestants, repeats=3, warmup=1)
    assert "".join(calls) == "abbaabba"
    assert [timing.name for timing in timings] == ["a", "b"]
    assert [len(timing.seconds) for timing in timings] == [3, 3], "a warm-up round was counted"


def test_the_median_and_the_spread_ignore_one_disturbed_round(harness):
    timing = harness.Timing("a", (1.0, 2.0, 3.0, 4.0, 100.0))
    assert (timing.median, timing.spread) == (3.0, 2.0)


def test_the_result_is_saved_with_ratios_and_the_machine(harness, monkeypatch, capsys):
    timings = [harness.Timing("ours", (2.0, 2.0)), harness.Timing("theirs", (3.0, 3.0))]
    monkeypatch.setattr(harness, "measure", lambda *_: timings)
    harness.compare("subject", {"ours": int, "theirs": int}, check=lambda: None)
    saved = json.loads((harness.RESULTS / "subject.json").read_text())
    assert [row["ratio"] for row in saved["timings"]] == [1.0, 1.5]
    assert saved["machine"]["numpy"] == np.__version__
    assert saved["machine"]["blas"]
    assert "1.50" in capsys.readouterr().out


@pytest.mark.parametrize("seconds, words", [(2.0, "2 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 us")])
def test_a_time_is_printed_with_its_unit(harness, seconds, words):
    assert harness.in_words(seconds) == words

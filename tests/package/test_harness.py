"""The benchmark harness: nothing wrong is timed, and a result names its machine."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from minilm.testing.timing import Timing
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


def test_the_result_is_saved_with_ratios_and_the_machine(harness, monkeypatch, capsys):
    timings = [Timing("ours", (2.0, 2.0)), Timing("theirs", (3.0, 3.0))]
    monkeypatch.setattr(harness, "measure", lambda *_: timings)
    harness.compare("subject", {"ours": int, "theirs": int}, check=lambda: None)
    saved = json.loads((harness.RESULTS / "subject.json").read_text())
    assert [row["ratio"] for row in saved["timings"]] == [1.0, 1.5]
    assert saved["machine"]["numpy"] == np.__version__
    assert saved["machine"]["blas"]
    assert "1.50" in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "benchmarks").glob("*.py")))
def test_every_benchmark_has_its_row_in_the_readme_and_a_main(file):
    if file == "harness.py":
        return
    assert f"]({file})" in (ROOT / "benchmarks" / "README.md").read_text()
    assert "def main(" in (ROOT / "benchmarks" / file).read_text()

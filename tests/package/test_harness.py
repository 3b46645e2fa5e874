"""The benchmark harness: nothing wrong is timed, and a result names its machine."""

import importlib.util
import json
import re
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
    source = (ROOT / "benchmarks" / file).read_text()
    assert "def main(" in source
    assert re.search(r"ArgumentParser|sys\.argv|no_options\(__doc__\)", source), "it would pass over what it is told"


def test_a_script_without_options_explains_itself_and_refuses_them(harness, monkeypatch, capsys):
    for words, status in ((["--help"], 0), (["--limit", "5"], 2)):
        monkeypatch.setattr(sys, "argv", ["depth.py", *words])
        with pytest.raises(SystemExit) as end:
            harness.no_options("What it does.")
        assert end.value.code == status
    told = capsys.readouterr()
    assert "What it does." in told.out and "--limit 5" in told.err


def load(name, harness):
    """A benchmark as a module, beside the harness."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_its_opponent_a_training_step_says_what_to_install(harness, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    step = load("training_step", harness)
    monkeypatch.setattr(step, "version_of", lambda package: None)
    monkeypatch.setattr(step, "machine", lambda: pytest.fail("it went on"))
    with pytest.raises(SystemExit, match=r"PyTorch.*pip install -e '\.\[bench\]'"):
        step.main([])


def test_a_ratio_that_got_worse_by_more_than_the_noise_is_named(harness):
    compare = load("compare", harness)
    recorded = {"rows": {"a": {"ratio": 0.9, "noise": 0.02, "memory_ratio": 0.5}, "b": {"ratio": 1.0, "noise": 0.3}}}
    same = {"rows": {"a": {"ratio": 0.98, "noise": 0.02, "memory_ratio": 0.54}, "b": {"ratio": 1.25, "noise": 0.0}}}
    assert compare.worse(recorded, recorded) == [] == compare.worse(recorded, same)
    slower = {"rows": {"a": {"ratio": 1.0, "noise": 0.0, "memory_ratio": 0.56}, "b": {"ratio": 1.31, "noise": 0.0}}}
    assert compare.worse(recorded, slower) == [
        "rows a ratio: 1.00, recorded 0.90, and up to 0.99 would be noise",
        "rows a memory_ratio: 0.56, recorded 0.50, and up to 0.55 would be noise",
        "rows b ratio: 1.31, recorded 1.00, and up to 1.30 would be noise",
    ]
    assert compare.worse(recorded, {"rows": {"a": recorded["rows"]["a"]}}) == [
        "rows b ratio: recorded 1.00, not measured now"
    ]


def test_the_harness_times_and_compares_named_contestants_in_lists(harness):
    compare = load("compare", harness)
    content = {"timings": [{"name": "ours", "ratio": 1.0}, {"name": "theirs", "ratio": 2.0}]}
    assert [where for where, *_ in compare.ratios(content)] == ["timings ours ratio", "timings theirs ratio"]


def test_a_result_takes_as_long_as_its_parts_and_their_training():
    spec = importlib.util.spec_from_file_location("sections", ROOT / "benchmarks" / "sections" / "__init__.py")
    sections = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sections)
    searches = {"a": {"seconds": 3}, "b": {"c": 1}}
    model = {"training_seconds": 100, "training_seconds_undisturbed": 90, "searches": searches}
    assert sections.seconds_in({"models": {"x": model, "y": {"seconds": 5, "rows": {"seconds": 4}}}}) == 108
    assert sections.seconds_in({"seconds": 7, "models": {"x": model}}) == 7 and sections.seconds_in({"rows": [1]}) == 0


def test_every_section_of_the_report_names_a_command_that_is_there_its_time_and_the_machine():
    report = (ROOT / "benchmarks" / "results" / "REPORT.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"^## ", report, flags=re.MULTILINE)
    assert len(sections) > 20
    for section in sections:
        title = section.partition("\n")[0]
        where = re.search(
            r"^`(?:make bench ONLY=(\w+)|python benchmarks/(\w+)\.py[^`]*)` \(\d+ (?:s|min)\); .+, \d+ cores, "
            r"\d+ threads?, load [\d.]+, Python [\d.]+, NumPy [\d.]+, \d{4}-\d\d-\d\d$",
            section,
            re.MULTILINE,
        )
        assert where, f"{title}: no line with command, time and machine"
        assert (ROOT / "benchmarks" / f"{where[1] or where[2]}.py").is_file(), title


def test_the_threads_of_a_result_are_those_that_trained():
    spec = importlib.util.spec_from_file_location("sections", ROOT / "benchmarks" / "sections" / "__init__.py")
    sections = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sections)
    machine = {"machine": {"threads": 2}}
    assert sections.threads_of(machine) == 2 and sections.threads_of({**machine, "threads": 1}) == 1
    models = {"x": {"training_threads": 1}, "y": {"training_threads": None}}
    assert sections.threads_of({**machine, "models": models}) == 1

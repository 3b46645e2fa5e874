"""What the chapters share: an answer's error that says only its message, sources as shown, figures as recorded."""

import pytest

import checks
from minilm.functional import softmax


def test_jupyter_shows_the_message_alone():
    assert checks.NotYet("for x = 2 it gives 3")._render_traceback_() == ["NotYet: for x = 2 it gives 3"]
    assert issubclass(checks.NotYet, AssertionError)


def test_the_source_of_an_operation_is_that_of_its_body(capsys):
    checks.source(softmax)
    shown = capsys.readouterr().out
    assert shown.startswith("minilm/functional/softmax.py\n\n@differentiable\ndef softmax(")
    assert "y_i (g_i - sum_j g_j y_j)" in shown


def test_the_source_of_a_method_begins_at_the_margin(capsys):
    checks.source(checks.NotYet._render_traceback_)
    assert "\ndef _render_traceback_(self)" in capsys.readouterr().out


def test_recorded_figures_are_read():
    assert checks.results("import_time")["subject"] == "import_time"


def test_missing_figures_name_the_command_that_makes_them(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="no figures of 'nothing'.*there are .*import_time"):
        checks.results("nothing")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "depth.py").touch()
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match="`make bench ONLY=depth` makes it"):
        checks.results("depth")

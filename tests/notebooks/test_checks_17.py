"""The checkers of chapter 17, in a process that interprets kernels; what the chapter says where there is no Triton."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from checks import tracing

CASES = Path(__file__).with_name("chapter_17_cases.py")


def test_the_checkers_pass_the_right_answers_and_name_the_usual_mistakes():
    if importlib.util.find_spec("triton") is None:
        pytest.skip("the package triton is not installed: pip install -e '.[triton]' (Linux)")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run([sys.executable, str(CASES)], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout[-2000:]}\n{run.stderr[-3000:]}"
    assert run.stdout.count("passed: ") == 5, run.stdout


def test_without_triton_the_chapter_says_how_to_get_it_and_to_read_on(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tracing.NoTriton, match="minilm.triton.*read on") as caught:
        tracing.need_triton()
    assert caught.value._render_traceback_() == [str(caught.value)]

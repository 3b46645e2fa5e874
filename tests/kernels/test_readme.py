"""What kernels/README.md says is so: its programs print what it shows, its files exist, its numbers come out."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from minilm.kernels import tiles
from tests.package.source import ROOT

README = ROOT / "kernels" / "README.md"
TEXT = README.read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
OUTPUTS = [
    re.sub(r"^ +", "", shown, flags=re.MULTILINE)
    for shown in re.findall(r"^ *```text\n(.*?)^ *```", TEXT, flags=re.MULTILINE | re.DOTALL)
]


def test_the_bytes_of_attention_come_out_as_shown(capsys):
    exec(PROGRAMS[0], {})
    assert capsys.readouterr().out == OUTPUTS[0]


@pytest.mark.slow
@pytest.mark.parametrize("interpret, shown", [("1", OUTPUTS[1]), (None, OUTPUTS[2])], ids=["interpreter", "compiler"])
def test_the_kernel_runs_both_ways_as_shown(interpret, shown, tmp_path, require_package):
    require_package("triton")
    program = tmp_path / "add.py"  # Triton reads the source of a kernel from its file
    program.write_text(PROGRAMS[1], encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    if interpret:
        environment["TRITON_INTERPRET"] = interpret
    result = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == shown


def test_every_file_that_it_names_exists():
    linked = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(linked) > 15
    assert [name for name in linked if not (README.parent / name).exists()] == []
    quoted = re.findall(r"`(minilm/[\w/.]+)`", TEXT)
    assert quoted and all((ROOT / name).exists() for name in quoted)


def test_every_kernel_has_its_place_in_the_ladder():
    folders = {path.parent.name for path in README.parent.glob("*/triton*.py")}
    named = set(re.findall(r"\]\((\w+)/", TEXT))
    assert folders - named == {"activation", "rotary"}  # parts of others, with nothing new for the reader
    assert tiles.TILES

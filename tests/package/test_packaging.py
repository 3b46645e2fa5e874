"""What gets installed: a wheel with the whole library and nothing else, or both folders in place (editable).

The wheel is built from the unpacked source distribution, without the network. Each kind of install goes into
a scratch virtual environment, which sees the packages of this one, but not its minilm.
"""

import json
import os
import shutil
import site
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import minilm
from tests.package.source import FOLDERS, ROOT, library_files, module_name

SOURCES = ["pyproject.toml", "setup.py", "README.md", "LICENSE", *FOLDERS]
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info")
# Any other file in these folders is data that the library reads; kernels/ also holds a page for readers.
NOT_INSTALLED = {".md"}


def run(*command, **options):
    """Run a program; what it printed, or a failure that shows it."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_sources(folder: Path) -> Path:
    """A copy of all that the package is built from, since a build leaves folders beside it."""
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=IGNORED)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def build(hook: str, source: Path, to: Path) -> Path:
    """Call one hook of the build backend (PEP 517), here the same as `python -m build` without isolation."""
    code = f"from setuptools.build_meta import {hook} as hook; print(hook({str(to)!r}))"
    return to / run(sys.executable, "-c", code, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp("build")
    archive = build("build_sdist", copy_sources(folder / "tree"), folder)
    with tarfile.open(archive) as tar:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since Python 3.11.4
        tar.extractall(folder / "unpacked", **safely)
    return build("build_wheel", next((folder / "unpacked").iterdir()), folder)


def scratch_environment(folder: Path) -> Path:
    """A virtual environment that sees the packages of this one, but not its editable installs; its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = next(scripts.glob("python*"))
    target = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # A path in a .pth file becomes an entry of sys.path, whose own .pth files are not read.
    Path(target, "packages_of_the_tests.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return python


def install(python: Path, *what) -> None:
    """pip install, with nothing but what is here already."""
    options = ["--quiet", "--ignore-installed", "--no-index", "--no-deps", "--no-build-isolation"]
    run(python, "-m", "pip", "install", *options, *what)


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, tmp_path_factory):
    """The Python of an environment with minilm installed either way, and the folder of its files."""
    folder = tmp_path_factory.mktemp(request.param)
    python = scratch_environment(folder / "venv")
    if request.param == "wheel":
        install(python, request.getfixturevalue("wheel"))
        return python, folder / "venv"
    tree = copy_sources(folder / "tree")
    install(python, "--editable", tree)
    return python, tree


def wheel_should_hold() -> set[str]:
    """The library's files by their path in the wheel."""
    expected = set()
    for folder, name in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix not in NOT_INSTALLED:
                expected.add(name.replace(".", "/") + "/" + path.relative_to(ROOT / folder).as_posix())
    return expected


def test_the_wheel_holds_every_file_of_the_library_and_no_other(wheel):
    content = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert content == wheel_should_hold()
    assert {"minilm/py.typed", "minilm/kernels/__init__.py"} <= content


def test_the_metadata_says_what_pyproject_says(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = HeaderParser().parsestr(
        archive.read(f"minilm-{minilm.__version__}.dist-info/METADATA").decode("utf-8")
    )
    assert metadata["Version"] == minilm.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    needed = [entry for entry in metadata.get_all("Requires-Dist", []) if "extra ==" not in entry]
    assert not any(entry.startswith(("torch", "cupy", "triton", "matplotlib")) for entry in needed)
    assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    scripts = archive.read(f"minilm-{minilm.__version__}.dist-info/entry_points.txt").decode("utf-8")
    assert "minilm = minilm.cli:main" in scripts


def test_torch_is_in_the_bench_extra_alone(wheel):
    metadata = zipfile.ZipFile(wheel).read(f"minilm-{minilm.__version__}.dist-info/METADATA").decode("utf-8")
    lines = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: torch")]
    assert lines and all('extra == "bench"' in line for line in lines)


def test_every_module_is_found_where_it_was_installed(installed, tmp_path):
    python, home = installed
    names = [module_name(path) for path in library_files()]
    code = (
        "import importlib.util, json, sys; "
        "print(json.dumps([importlib.util.find_spec(name).origin for name in json.loads(sys.argv[1])]))"
    )
    origins = json.loads(run(python, "-c", code, json.dumps(names), cwd=tmp_path))
    assert [
        name for name, origin in zip(names, origins, strict=True) if not Path(origin).is_relative_to(home)
    ] == []


def test_the_kernels_are_imported_under_minilm_and_claim_no_name_of_their_own(installed, tmp_path):
    python, home = installed
    code = (
        "import importlib.util, minilm; print(minilm.kernels.__name__, importlib.util.find_spec('kernels'))"
    )
    assert run(python, "-c", code, cwd=tmp_path).split() == ["minilm.kernels", "None"]


@pytest.mark.skipif(not any((ROOT / "minilm").glob("cli*")), reason="there is no command line yet")
def test_the_command_line_is_installed(installed, tmp_path):
    python, home = installed
    program = next(python.parent.glob("minilm*"))
    assert "train" in run(program, "--help", cwd=tmp_path)


def test_the_build_tools_are_asked_for_where_they_are_used():
    """A new environment of Python 3.12 holds no setuptools, which this file calls: `test` brings it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (backend,) = project["build-system"]["requires"]
    assert backend in project["project"]["optional-dependencies"]["test"]

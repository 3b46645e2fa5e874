"""`import minilm` is quick and needs little: what is loaded is looked up in a fresh process."""

import json
import subprocess
import sys

import pytest

import minilm
from tests.package.source import ROOT, library_files, module_name

ENGINE = ("errors", "backend", "random", "tensor", "functional", "testing", "nn", "optim")
OPTIONAL = {"torch", "cupy", "triton", "matplotlib"}
NAMES = {".".join(module_name(path).split(".")[:2]) for path in library_files()}
FLOORS = sorted(NAMES - {"minilm", "minilm.__main__"})
# At the top of a process the interpreter itself has some modules loaded; editable installs add their finder.
PROBE = """
import json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""


def packages_loaded_by(statement):
    """The top-level names of all modules that a fresh Python loads for `statement`."""
    code = PROBE.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_minilm_loads_nothing_outside_the_standard_library():
    assert packages_loaded_by("import minilm") - set(sys.stdlib_module_names) == {"minilm"}


@pytest.mark.parametrize("floor", [name for name in FLOORS if name.partition(".")[2] in ENGINE])
def test_the_engine_needs_numpy_alone(floor):
    numpys_own = packages_loaded_by("import numpy, numpy.random, numpy.linalg")
    assert packages_loaded_by(f"import {floor}") - set(sys.stdlib_module_names) - numpys_own == {"minilm"}


@pytest.mark.parametrize("floor", FLOORS)
def test_no_floor_loads_a_gpu_package_or_matplotlib_or_torch_by_being_imported(floor):
    assert packages_loaded_by(f"import {floor}") & OPTIONAL == set()


def test_the_probe_sees_what_a_statement_loads():
    assert "fractions" in packages_loaded_by("import fractions")


@pytest.mark.parametrize("name", [*minilm._HOMES, *(floor.partition(".")[2] for floor in FLOORS)])
def test_each_public_name_is_there_when_it_is_first_used(name):
    assert getattr(minilm, name) is not None
    assert name in dir(minilm)


def test_a_floor_is_reached_through_minilm_without_an_import_of_its_own():
    packages_loaded_by("import minilm; assert minilm.errors.MinilmError; assert minilm.kernels.__doc__")


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(AttributeError, match="no attribute 'tensors'; it has .*Tensor"):
        minilm.tensors  # noqa: B018


def test_star_import_does_not_hide_a_module_of_python():
    assert set(minilm.__all__) & (set(sys.stdlib_module_names) | {"random"}) == set()

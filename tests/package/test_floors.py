"""The library can be read from top to bottom: each floor imports only the floors above it.

The order is read from the docstring of minilm, which is where a reader finds it.
"""

import re
from pathlib import Path

import pytest

import minilm
from tests.package.source import ROOT, imports, library_files, module_name

READING_ORDER = re.findall(r"^    ([a-z]+)  +\S", minilm.__doc__ or "", flags=re.MULTILINE)
KERNELS = "kernels"
GPU_PACKAGES = {"cupy", "triton"}
# Floors that may import a package which is no dependency; torch is nobody's.
OPTIONAL = {"matplotlib": "plots"}


# What stands between an array and a kernel: where launches go, what is recorded and counted of them.
GROUND = {"host", "counting", "cupy_driver", "dry", "static_report"}


def may_touch_the_gpu(path: Path) -> bool:
    """minilm/backend, the ground of the kernels, and their Triton and CuPy rungs."""
    name = module_name(path).split(".")
    if name[1] == KERNELS:
        return (len(name) == 3 and name[2] in GROUND) or (len(name) > 3 and name[3].startswith(("triton", "cupy")))
    return name[1] == "backend"


def violations(source: str, path: Path) -> list[str]:
    """What the file at `path` (relative to the root) imports and should not, one sentence each."""
    parts = module_name(path).split(".")
    if len(parts) == 1:
        return []  # minilm/__init__.py hands all names on, lazily
    floor = {"__main__": "cli"}.get(parts[1], parts[1])  # `python -m minilm` is the command line
    found = []
    for line, name in imports(source, path):
        package, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        where = f"{path}:{line}: {name}:"
        if package == "minilm" and floor == KERNELS:
            if target != KERNELS:
                found.append(f"{where} kernels import nothing of minilm")
        elif package == "minilm" and target not in READING_ORDER:
            if target != "__version__":
                found.append(f"{where} import from the floor itself, not through minilm")
        elif package == "minilm" and target not in (floor, KERNELS):
            if READING_ORDER.index(target) > READING_ORDER.index(floor):
                found.append(f"{where} {floor} stands above {target} in the reading order")
        elif package == "torch":
            found.append(f"{where} PyTorch is not needed to use the library")
        elif package in GPU_PACKAGES and not may_touch_the_gpu(path):
            found.append(f"{where} only backend, the kernels' ground and their Triton and CuPy rungs import it")
        elif OPTIONAL.get(package, floor) != floor:
            found.append(f"{where} only {OPTIONAL[package]} imports {package}")
    return found


@pytest.mark.parametrize("path", library_files(), ids=str)
def test_each_file_imports_only_what_stands_above_it(path):
    assert violations((ROOT / path).read_text(encoding="utf-8"), path) == []


def test_every_floor_has_its_place_in_the_reading_order():
    floors = {module_name(path).split(".")[1] for path in library_files() if module_name(path) != "minilm"}
    assert floors - set(READING_ORDER) == {"__main__"}
    assert READING_ORDER[-1] == KERNELS


PLANTED = [
    ("minilm/tensor.py", "from minilm.nn import Linear"),
    ("minilm/tensor.py", "from minilm import nn"),
    ("minilm/tensor.py", "import minilm.functional.elementwise"),
    ("minilm/tensor.py", "def late():\n    from . import functional"),
    ("minilm/nn/linear.py", "from ..optim import SGD"),
    ("minilm/nn/linear.py", "from minilm import Tensor"),
    ("minilm/nn/__init__.py", "from ..models import gpt"),
    ("minilm/nn/linear.py", "import importlib\nimportlib.import_module('minilm.training')"),
    ("minilm/nn/linear.py", "import cupy"),
    ("minilm/nn/linear.py", "import torch.nn"),
    ("minilm/training/trainer.py", "import matplotlib.pyplot as plt"),
    ("kernels/attention/blocked.py", "from minilm.backend import xp"),
    ("kernels/attention/blocked.py", "from ...backend import xp"),
    ("kernels/attention/blocked.py", "import triton"),
    ("kernels/tiles.py", "import triton"),
    ("kernels/attention/__init__.py", "import cupy"),
]
ALLOWED = [
    (
        "minilm/nn/linear.py",
        "from ..tensor import Tensor\nfrom .module import Module\nimport minilm.functional",
    ),
    (
        "minilm/backend.py",
        "import cupy\nfrom importlib import import_module\nimport_module('minilm.kernels')",
    ),
    ("minilm/plots/curves.py", "import matplotlib.pyplot as plt"),
    ("minilm/cli.py", "from minilm import __version__, training"),
    ("kernels/dry.py", "import triton"),
    ("kernels/gelu/cupy.py", "import cupy"),
    ("kernels/attention/triton.py", "import triton\nfrom ..host import launch\nfrom . import blocked"),
]


@pytest.mark.parametrize("path, source", PLANTED)
def test_a_planted_import_is_caught(path, source):
    assert len(violations(source, Path(path))) == 1


@pytest.mark.parametrize("path, source", ALLOWED)
def test_an_import_in_its_place_is_let_through(path, source):
    assert violations(source, Path(path)) == []

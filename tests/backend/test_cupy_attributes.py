"""Every attribute of an array module or an array that the library uses is there in the real CuPy, which needs no GPU.

The sources are parsed, not run: `m = xp(x)` makes `m` an array module, as do a few other ways to get one, and what is
asked of it, with which named arguments, is looked up in cupy. Of an array's own attributes those names are looked up
that NumPy's arrays have, wherever they are asked for: too many rather than too few.
"""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

import minilm
from tests.backend import standin

PACKAGE = Path(minilm.__file__).parent
# What computes on arrays of either home. The others (text, command line, plots) know NumPy's alone.
FLOORS = ["backend.py", "random.py", "tensor", "functional", "nn", "optim", "models", "generation", "evaluation"]
FLOORS += ["training"]

MODULE_MAKERS = {"xp", "array_module"}  # calls whose result is an array module
MODULE_NAMES = {"home"}  # parameters and attributes that hold one


def sources():
    for floor in FLOORS:
        path = PACKAGE / floor
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


class Uses(ast.NodeVisitor):
    """Attributes asked of array modules, with the names of the arguments of calls; and of anything else."""

    def __init__(self, tree):
        self.modules = set(MODULE_NAMES)
        for node in ast.walk(tree):  # m = xp(x);  m, shape = xp(x), x.shape
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self.assigned(target, node.value)
        self.of_module: dict[str, set[str]] = {}
        self.of_others: dict[str, set[str]] = {}
        self.visit(tree)

    def assigned(self, target, value):
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, other in zip(target.elts, value.elts, strict=True):
                self.assigned(one, other)
        elif isinstance(target, ast.Name) and self.makes_module(value):
            self.modules.add(target.id)

    def makes_module(self, node):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", None)
            return name in MODULE_MAKERS
        return False

    def is_module(self, node):
        if isinstance(node, ast.Name):
            return node.id in self.modules
        return (isinstance(node, ast.Attribute) and node.attr in MODULE_NAMES) or self.makes_module(node)

    def visit_Attribute(self, node):
        uses = self.of_module if self.is_module(node.value) else self.of_others
        uses.setdefault(node.attr, set())
        self.generic_visit(node)

    def visit_Call(self, node):
        if isinstance(node.func, ast.Attribute):
            uses = self.of_module if self.is_module(node.func.value) else self.of_others
            uses.setdefault(node.func.attr, set()).update(k.arg for k in node.keywords if k.arg)
        self.generic_visit(node)


def all_uses(which):
    found: dict[str, set[str]] = {}
    for path in sources():
        for name, arguments in getattr(Uses(ast.parse(path.read_text(encoding="utf-8"))), which).items():
            found.setdefault(name, set()).update(arguments)
    return found


def test_the_search_finds_what_is_there():
    found = all_uses("of_module")
    assert {"exp", "where", "einsum", "add", "zeros", "tanh", "sqrt", "take_along_axis"} <= set(found)
    assert "axis" in found["concatenate"] and "out" in found["tanh"] and "dtype" in found["empty"]
    program = "m, n = xp(x), 3\nm.fancy(x, deep=1)\nxp(x).other(x), np.third(x), x.sum(where=x)"
    uses = Uses(ast.parse(program))
    assert uses.of_module == {"fancy": {"deep"}, "other": set()}
    assert uses.of_others == {"third": set(), "sum": {"where"}}


def test_the_stand_in_has_what_the_library_uses_and_nothing_else_is_used():
    offered = standin.FUNCTIONS | standin.HOST | {"ndarray", "__name__", "name"}
    assert set(all_uses("of_module")) <= offered


def test_every_function_that_the_library_uses_is_in_cupy_with_its_arguments(require_package):
    cupy = require_package("cupy")
    missing = []
    for name, arguments in all_uses("of_module").items():
        if name.startswith("__"):
            continue
        function = getattr(cupy, name, None)
        if function is None:
            missing.append(f"cupy.{name}")
            continue
        try:
            known = inspect.signature(function).parameters
        except (TypeError, ValueError):  # a ufunc: compiled, and its arguments are these
            assert isinstance(function, cupy.ufunc), name
            known = dict.fromkeys(("out", "dtype", "casting"))
        if not any(p is not None and p.kind is p.VAR_KEYWORD for p in known.values()):
            missing += [f"cupy.{name}({argument}=)" for argument in arguments - set(known)]
    assert missing == []


def test_every_method_that_the_library_uses_is_on_cupys_arrays(require_package):
    cupy = require_package("cupy")
    of_arrays = {name for name in all_uses("of_others") if hasattr(np.ndarray, name) and not name.startswith("__")}
    assert {"astype", "reshape", "sum", "swapaxes", "fill", "item"} <= of_arrays
    missing = of_arrays - set(dir(cupy.ndarray))
    assert missing == set()


def test_the_stand_in_offers_nothing_that_cupy_lacks(require_package):
    cupy = require_package("cupy")
    assert {name for name in standin.FUNCTIONS | standin.HOST if not hasattr(cupy, name)} == set()
    own = standin.METHODS | standin.ATTRIBUTES | standin.READS | {"fill"}
    assert own - set(dir(cupy.ndarray)) == set()
    special = {n for n in vars(standin.DeviceArray) if n.startswith("__") and hasattr(np.ndarray, n)}
    python = {"__module__", "__doc__", "__init__", "__dict__", "__weakref__"}
    python |= {"__firstlineno__", "__static_attributes__"}  # of Python 3.13
    assert special - python - set(dir(cupy.ndarray)) == set()
    assert all(isinstance(getattr(cupy, name), cupy.ufunc) for name in standin.UFUNCS)
    assert all(hasattr(getattr(cupy, name), "at") for name in standin.WITH_AT)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "argmax", "clip", "reshape", "transpose", "cumsum"])
def test_arguments_that_the_stand_in_refuses_are_refused_by_cupy(name, require_package):
    cupy = require_package("cupy")
    refused = standin.REFUSED_ARGUMENTS - {"order", "casting", "like"}  # it has them here and there; nobody needs them
    try:
        assert not refused & set(inspect.signature(getattr(cupy, name)).parameters)
    except ValueError:
        pytest.skip(f"cupy.{name} does not tell its arguments")

"""What every file of the library owes its reader, as far as a program can tell."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.package.source import ROOT, library_files, module_name

MOST_LINES = 450
# Names of numpy.random that make a generator of their own; all the others draw from the global one.
OWN_GENERATORS = {"Generator", "BitGenerator", "SeedSequence", "Philox", "PCG64", "default_rng"}
BANNER = re.compile(r"([-=#*~_])\1{9,}")
EMOJI = re.compile("[\u2600-\u27bf\u2b50-\u2b55\U0001f000-\U0001faff]")
ALL_FILES = sorted(
    [
        *library_files(),
        *(p.relative_to(ROOT) for folder in ("tests", "benchmarks") for p in (ROOT / folder).rglob("*.py")),
    ]
)


def public_definitions(tree: ast.Module):
    """The functions and classes at the top of a module whose names do not begin with an underscore."""
    for node in tree.body:
        if isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) and not node.name.startswith("_"):
            yield node


def comments(source: str) -> list[str]:
    """The comments of a file."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def global_randomness(tree: ast.Module) -> list[str]:
    """Uses of numpy's or Python's global generator."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr not in OWN_GENERATORS:
            owner = ast.unparse(node.value)
            if owner in ("np.random", "numpy.random"):
                found.append(f"{node.lineno}: {owner}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "numpy.random":
            names = [alias.name for alias in node.names if alias.name not in OWN_GENERATORS]
            found.extend(f"{node.lineno}: numpy.random.{name}" for name in names)
        elif isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names):
            found.append(f"{node.lineno}: import random")
        elif isinstance(node, ast.ImportFrom) and node.module == "random" and not node.level:
            found.append(f"{node.lineno}: from random import")
    return found


def complaints(source: str, path: Path) -> list[str]:
    """What is wrong with a file of the library, one sentence each."""
    tree = ast.parse(source)
    found = [f"{path}:{use}: the library draws from minilm.random alone" for use in global_randomness(tree)]
    if not ast.get_docstring(tree):
        found.append(f"{path}: no docstring that says what the file is for")
    if (lines := source.count("\n")) > MOST_LINES:
        found.append(f"{path}: {lines} lines are more than one idea (at most {MOST_LINES})")
    for node in public_definitions(tree):
        if not ast.get_docstring(node):
            found.append(f"{path}:{node.lineno}: {node.name} has no docstring")
    if not module_name(path).startswith("minilm.cli"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(f"{path}:{node.lineno}: a library does not print; only minilm.cli does")
    for comment in comments(source):
        if BANNER.search(comment):
            found.append(f"{path}: a banner: {comment}")
    if EMOJI.search(source):
        found.append(f"{path}: an emoji; write it as an escape if it is data")
    return found


@pytest.mark.parametrize("path", library_files(), ids=str)
def test_the_file_keeps_the_house_style(path):
    assert complaints((ROOT / path).read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("def f():\n    return 1", "f has no docstring"),
        ("class A:\n    pass", "A has no docstring"),
        ("print(1)", "does not print"),
        ("import numpy as np\nnp.random.seed(0)", "minilm.random alone"),
        ("from numpy.random import rand", "minilm.random alone"),
        ("import random", "minilm.random alone"),
        ("# ==================", "a banner"),
        ("# done \N{ROCKET}", "an emoji"),
        ("\n" * MOST_LINES, "lines are more than one idea"),
    ],
)
def test_a_planted_fault_is_caught(line, complaint):
    (found,) = complaints(f'"""A file."""\n{line}\n', Path("minilm/planted.py"))
    assert complaint in found


def test_a_file_without_a_docstring_is_caught():
    assert complaints("x = 1\n", Path("minilm/planted.py")) != []


def test_the_command_line_may_print():
    assert complaints('"""A file."""\nprint(1)\n', Path("minilm/cli/app.py")) == []


@pytest.mark.parametrize("path", ALL_FILES, ids=str)
def test_no_file_draws_from_a_global_generator(path):
    assert global_randomness(ast.parse((ROOT / path).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", [path for path in ALL_FILES if path.parts[0] == "tests"], ids=str)
def test_a_test_that_lacks_a_package_says_so_through_the_conftest(path):
    """`pytest.importorskip` would skip in CI as well, where nothing may be missing."""
    called = {
        node.attr
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert "importorskip" not in called

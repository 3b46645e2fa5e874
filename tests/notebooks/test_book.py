"""The tool that builds and checks the chapters: each thing that may rot is caught, and a rebuild changes nothing.

Tiny chapters in a folder of their own; executing one takes about two seconds, so they run once and are looked at often.
"""

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import missing
from tests.package.source import ROOT

TOOL = ROOT / "notebooks" / "book.py"
HEADER = "# ---\n# jupyter:\n#   kernelspec:\n#     display_name: Python 3\n#     name: python3\n# ---\n\n"
GOOD = (
    HEADER
    + """# %% [markdown]
# # 1 · A tiny chapter
#
# One half is 0.50, and so is $0.123$ a formula, `0.456` code and [0.789](elsewhere.md) a link.

# %% tags=["deterministic"]
print(f"{1 / 2:.2f}")

# %%
import sys
from checks import results, source
from minilm.plots.loss_curves import new_figure

figure = new_figure()
figure.subplots().plot([1, 2])
figure

# %% tags=["solution"]
sys.stdout.write("a "); sys.stdout.flush(); print("b")
"""
)
BAD = {
    "10_raises": ("1 / 0", "ZeroDivisionError: division by zero"),
    "11_warns": ("import warnings; warnings.warn('careful')", "writes to stderr"),
    "12_prints_a_path": ("from pathlib import Path\nprint(Path.home() / 'corpus.txt')", "a path of this machine"),
    "13_text_for_a_picture": (
        "from minilm.plots.loss_curves import new_figure\nnew_figure()",
        "shows a Figure as text",
    ),
    "14_network": (
        "import urllib.request\nurllib.request.urlopen('http://example.org', timeout=5)",
        "URLError",
    ),
}


@pytest.fixture(scope="module")
def book():
    """The tool as a module."""
    if any(importlib.util.find_spec(name) is None for name in ("jupytext", "nbclient", "ipykernel", "matplotlib")):
        missing("jupytext, nbclient, ipykernel or matplotlib", "pip install -e '.[notebooks,plots]'")
    specification = importlib.util.spec_from_file_location("book_of_chapters", TOOL)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def run(*arguments):
    """The tool as a program."""
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


@pytest.fixture(scope="module")
def built(book, tmp_path_factory):
    """A folder with a good chapter and its notebook."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "01_tiny.py").write_text(GOOD, encoding="utf-8")
    done = run("build", "--folder", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "01_tiny" in done.stdout
    return folder


@pytest.fixture
def chapter(built, tmp_path):
    """A copy of the good chapter's source, with its notebook beside it."""
    for path in built.iterdir():
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / "01_tiny.py"


def nbformat_of(source):
    """The notebook beside a source, as an object."""
    return importlib.import_module("nbformat").read(source.with_suffix(".ipynb"), as_version=4)


def change_notebook(source, change):
    path = source.with_suffix(".ipynb")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    change(notebook)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def test_a_notebook_holds_the_outputs_and_the_hash_of_its_source(book, built):
    notebook = json.loads((built / "01_tiny.ipynb").read_text(encoding="utf-8"))
    prose, printed, picture, solution = notebook["cells"]
    assert "".join(prose["source"]).startswith("# 1 · A tiny chapter")
    assert printed["outputs"][0]["text"] == ["0.50\n"]
    assert "image/png" in picture["outputs"][0]["data"]
    assert [output["text"] for output in solution["outputs"]] == [["a b\n"]]  # however it was flushed
    assert solution["metadata"] == {"jupyter": {"source_hidden": True}, "tags": ["solution"]}
    assert notebook["metadata"]["minilm"] == {"source": "01_tiny.py", "sha256": book.digest(built / "01_tiny.py")}
    assert [cell["id"] for cell in notebook["cells"]] == [f"cell-00{i}" for i in range(4)]
    assert "version" not in notebook["metadata"]["language_info"]


def test_a_rebuild_without_a_change_gives_the_same_bytes(book, chapter):
    before = chapter.with_suffix(".ipynb").read_bytes()
    assert book.build(chapter).problems == []
    assert chapter.with_suffix(".ipynb").read_bytes() == before


def test_the_check_passes_what_is_as_built_and_fails_a_changed_text_of_a_deterministic_cell(built, chapter):
    other = chapter.with_name("02_changed.py")
    shutil.copy(chapter, other)
    shutil.copy(chapter.with_suffix(".ipynb"), other.with_suffix(".ipynb"))
    change_notebook(other, lambda notebook: notebook["cells"][1]["outputs"][0].update(text=["0.51\n"]))
    done = run("check", "--folder", chapter.parent)
    assert done.returncode == 1
    (problem,) = [line for line in done.stderr.splitlines() if line.startswith("0")]
    assert problem == "02_changed.py:13 (cell 2): a deterministic cell prints another text"
    assert "-0.51" in done.stderr and "+0.50" in done.stderr
    assert "02_changed" in done.stdout and done.stdout.count("FAILED") == 1


def test_a_stale_notebook_is_refused(book, chapter):
    assert book.staleness(chapter) is None
    chapter.write_text(GOOD.replace("One half", "A half"), encoding="utf-8")
    assert "01_tiny.ipynb is stale" in book.staleness(chapter)
    assert "make notebooks ONLY=01" in book.staleness(chapter)


def test_a_missing_notebook_is_refused(book, chapter):
    chapter.with_suffix(".ipynb").unlink()
    assert "01_tiny.ipynb is missing" in book.staleness(chapter)


def test_a_notebook_edited_by_hand_is_refused(book, chapter):
    change_notebook(chapter, lambda notebook: notebook["cells"][0].update(source=["# Another title"]))
    assert "01_tiny.ipynb was edited by hand" in book.staleness(chapter)


def test_a_number_in_the_prose_that_no_deterministic_cell_prints_is_named(book, chapter):
    notebook = nbformat_of(chapter)
    assert book.unbacked_numbers(chapter, notebook) == []
    notebook.cells[0].source = notebook.cells[0].source.replace("0.50", "0.52")
    (problem,) = book.unbacked_numbers(chapter, notebook)
    assert "01_tiny.py:8 (cell 1): the prose says 0.52, which no deterministic cell" in problem


def test_a_number_that_only_an_untagged_cell_prints_is_not_enough(book, chapter):
    notebook = nbformat_of(chapter)
    notebook.cells[1].metadata = {}
    assert "the prose says 0.50" in book.unbacked_numbers(chapter, notebook)[0]


@pytest.mark.parametrize(
    "prose, found",
    [
        ("the loss is 1.4697.", ["1.4697"]),
        ("from 4.17 to 1.47, a third", ["4.17", "1.47"]),
        ("(0.58)", ["0.58"]),
        ("**2.50** and 1,115.394", ["2.50", "1,115.394"]),
        ("-0.25 or −0.75", ["0.25", "0.75"]),
        ("57.77%", ["57.77"]),
        ("chapter 3.1, 2.5 times, 1.2.34 a version", []),
        ("`0.123` and ``0.1`2``", []),
        ("$x = 0.123$, $$y = 0.456$$", []),
        ("$$\na = 0.123\n$$", []),
        ("# 0.123 as a heading", []),
        ("[0.123](a_0.456.md) ![1.23](b.png)", []),
        ("```\n0.123\n```", []),
        ("costs $5 and 0.123 more", ["0.123"]),
    ],
)
def test_what_counts_as_a_claim(book, prose, found):
    assert book.claims(prose) == found


def test_what_a_chapter_must_not_do_fails_the_build_and_leaves_no_notebook(book, tmp_path):
    for name, (code, _) in BAD.items():
        (tmp_path / f"{name}.py").write_text(f"{HEADER}# %%\n3\n\n# %%\n{code}\n", encoding="utf-8")
    done = run("build", "--folder", tmp_path)
    assert done.returncode == 1
    for name, (_, complaint) in BAD.items():
        (line,) = [line for line in done.stderr.splitlines() if f"{name}.py" in line and "(cell 2)" in line]
        assert complaint in line and f"{name}.py:11 (cell 2)" in line
    assert list(tmp_path.glob("*.ipynb")) == []


def test_a_budget_that_is_overrun_fails(book, tmp_path):
    done = run("build", "--folder", tmp_path, "--budget", 0)
    assert done.returncode == 1
    assert "and the budget is 0 s" in done.stderr


def test_an_unknown_chapter_is_refused_with_those_there_are(built):
    done = run("build", "--folder", built, "77")
    assert done.returncode == 1
    assert "there is no chapter '77'" in done.stderr and "there are: 01" in done.stderr

"""Every chapter has the form that a reader relies on, and its notebook is the one built from it (nothing runs here)."""

import importlib.util
import re
import sys

import pytest

from tests.conftest import missing
from tests.package.source import ROOT

FOLDER = ROOT / "notebooks"
CHAPTERS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
LINK = re.compile(r"\]\(([^()\s]+)\)")
EMOJI = re.compile("[\u2600-\u27bf\u2b50-\u2b55\U0001f000-\U0001faff]")


@pytest.fixture(scope="module")
def book():
    """notebooks/book.py as a module."""
    if any(importlib.util.find_spec(name) is None for name in ("jupytext", "nbformat")):
        missing("jupytext or nbformat", "pip install -e '.[notebooks]'")
    specification = importlib.util.spec_from_file_location("book_of_chapters_read", FOLDER / "book.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(params=CHAPTERS, ids=[path.stem for path in CHAPTERS])
def chapter(request):
    return request.param


def prose(book, path):
    return [cell.source for cell in book.read_chapter(path).cells if cell.cell_type == "markdown"]


def test_the_chapters_are_numbered_without_a_gap_and_all_in_the_table():
    assert [path.stem[:2] for path in CHAPTERS] == [f"{i:02}" for i in range(len(CHAPTERS))]
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((\d\d_\w+)\.ipynb\)", table) == [path.stem for path in CHAPTERS]


def test_the_notebook_was_built_from_the_chapter_as_it_stands(book, chapter):
    assert book.staleness(chapter) is None


def test_the_numbers_of_the_prose_are_printed_in_the_notebook(book, chapter):
    import nbformat

    notebook = nbformat.read(chapter.with_suffix(".ipynb"), as_version=4)
    assert book.unbacked_numbers(chapter, notebook) == []


def test_a_chapter_says_what_it_teaches_and_ends_with_exercises_solutions_and_further_reading(book, chapter):
    number = int(chapter.stem[:2])
    text = "\n\n".join(prose(book, chapter))
    assert text.startswith(f"# {number} · ")
    for part in ("What you will be able to do", "## Solutions", "What to read next"):
        assert part in text, part
    exercises = re.findall(rf"\*\*Exercise {number}\.(\d+)", text)
    assert exercises == [str(i) for i in range(1, len(exercises) + 1)] and 3 <= len(exercises) <= 6
    solutions = [c for c in book.read_chapter(chapter).cells if "solution" in c.metadata.get("tags", [])]
    assert len(solutions) >= len(exercises)
    assert (FOLDER / "checks" / f"chapter_{number:02}.py").exists()


def test_the_links_of_a_chapter_lead_somewhere(book, chapter):
    for text in prose(book, chapter):
        for target in LINK.findall(text):
            if not re.match(r"https?:|#", target):
                assert (FOLDER / target.partition("#")[0]).exists(), target


def test_a_chapter_names_nothing_that_only_one_machine_has_and_is_plain(book, chapter):
    text = chapter.read_text(encoding="utf-8")
    assert not re.search(r"/work/|shared/data|MINILM_TEST_DATA", text)
    for words in prose(book, chapter):
        assert not EMOJI.search(re.sub(r"`[^`]*`", "", words))  # as data, in code, they may stand
    assert not re.search(r"^\s*(from|import) \d\d_", text, re.MULTILINE)  # no chapter imports another

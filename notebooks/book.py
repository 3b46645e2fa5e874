"""Build the chapters, and check that what they say is still true.

    python notebooks/book.py build [03 04 ...]     NN_title.py -> NN_title.ipynb, executed
    python notebooks/book.py check [03 04 ...]     execute again and compare; exit status 1 if anything is wrong

The chapters are the files NN_title.py beside this one, in jupytext's percent format: people edit those. `build`
executes each in a fresh process with this folder as working directory, one thread, and no way to the network, and
writes the notebook beside it, with the hash of its source. Nothing in the notebook depends on when or how often it was
built.

`check` fails, and names chapter, cell and line, where

- the .ipynb is missing, was built from another text of the .py, or was edited by hand;
- a cell raises, writes to stderr, or prints a path of this machine;
- a cell tagged "deterministic" prints another text than the .ipynb holds;
- the prose holds a decimal number with two or more digits after the point that no deterministic cell of the chapter
  prints. Formulas ($...$), `code`, links and headings are left out: a number there is no claim about an output.

Both write a table of the time that each chapter took. What it does not do: it does not judge pictures, nor the output
of cells without the tag; look at those in the diff.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import hashlib
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
DETERMINISTIC, SOLUTION = "deterministic", "solution"
LONGEST = 25  # seconds that a chapter should take; more is marked in the table
CELL_LIMIT = 120  # seconds after which a cell is stopped

# One thread, the same order of sets and dicts everywhere, no settings of the user, nothing that only this machine
# has, and a proxy that refuses: a chapter that needs the network fails here and not at the reader's.
ENVIRONMENT = {
    **dict.fromkeys(("MINILM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "utf-8",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
TAKEN_OUT = ("MINILM_BACKEND", "MINILM_TEST_DATA", "MINILM_BENCH_RESULTS", "TRITON_INTERPRET", "no_proxy", "NO_PROXY")

# What a number in the prose may stand in without being a claim about an output.
NO_CLAIMS = (
    re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE),
    re.compile(r"(`+)[^`].*?\1", re.DOTALL),
    re.compile(r"\$\$.*?\$\$", re.DOTALL),
    re.compile(r"(?<![\\$\w])\$[^$\n]+(?:\n[^$\n]+)*\$(?!\d)"),
    re.compile(r"^#{1,6} .*$", re.MULTILINE),
    re.compile(r"!?\[[^\]]*\]\([^)]*\)"),
    re.compile(r"https?://\S+"),
    re.compile(r"<[^>\n]+>"),
)
NUMBER = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*\.\d+(?![\w]|\.\d)")


@dataclass
class Outcome:
    """What became of a chapter: the notebook as executed, what is wrong, and what it cost."""

    chapter: str
    notebook: Any = None
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0


def chapters(folder: Path, wanted: list[str]) -> list[Path]:
    """The sources of the chapters, in order: all, or those whose number (or name) is wanted."""
    found = sorted(folder.glob("[0-9][0-9]_*.py"))
    if not wanted:
        return found
    chosen = []
    for name in wanted:
        number = Path(name).stem.partition("_")[0].zfill(2)
        matching = [path for path in found if path.stem.startswith(f"{number}_")]
        if not matching:
            there = ", ".join(path.stem[:2] for path in found) or "none"
            raise SystemExit(f"error: there is no chapter {name!r} in {folder}; there are: {there}")
        chosen += matching
    return chosen


def digest(source: Path) -> str:
    """The hash that ties a notebook to its source."""
    return hashlib.sha256(source.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def read_chapter(source: Path) -> Any:
    """The notebook of a chapter, not executed. Its metadata and its cells' ids follow from the source alone."""
    import jupytext
    from nbformat.v4 import new_notebook

    cells = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent").cells
    for position, cell in enumerate(cells):
        cell.id = f"cell-{position:03d}"
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if SOLUTION in tags:
            cell.metadata["jupyter"] = {"source_hidden": True}  # folded, in JupyterLab
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py"},
        "minilm": {"source": source.name, "sha256": digest(source)},
    }
    return new_notebook(cells=cells, metadata=metadata)


def place(source: Path, notebook: Any, position: int) -> str:
    """Where a cell is, for a person: `03_title.py:120 (cell 14)`."""
    lines = source.read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines, 1) if line.startswith("# %%")]
    line = f":{starts[position]}" if len(starts) == len(notebook.cells) else ""
    return f"{source.name}{line} (cell {position + 1})"


def execute(source: Path) -> Outcome:
    """Run a chapter in a process of its own, and say what it did that a chapter must not do."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = read_chapter(source)
    metadata = copy.deepcopy(notebook.metadata)
    outcome = Outcome(source.stem, notebook)
    start, used = time.perf_counter(), os.times()
    with tempfile.TemporaryDirectory() as home:
        environment = {name: value for name, value in os.environ.items() if name not in TAKEN_OUT}
        path = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))
        environment |= ENVIRONMENT | {"IPYTHONDIR": home, "PYTHONPATH": path}
        client = NotebookClient(
            notebook,
            timeout=CELL_LIMIT,
            kernel_name="python3",
            record_timing=False,
            extra_arguments=["--Application.log_level=ERROR"],  # no advice about sockets
            resources={"metadata": {"path": str(source.parent)}},
        )
        try:
            client.execute(env=environment)
        except CellExecutionError:
            pass  # the cell holds it, see _faults; what follows would only fail for lack of it
        except (CellTimeoutError, DeadKernelError) as error:
            at = place(source, notebook, max((i for i, c in enumerate(notebook.cells) if _ran(c)), default=0))
            outcome.problems.append(f"{at}, or the one after it: {str(error).splitlines()[0]}")
    now = os.times()
    outcome.seconds = time.perf_counter() - start
    outcome.cpu = now.children_user + now.children_system - used.children_user - used.children_system
    notebook.metadata = metadata  # without what the kernel adds: its version
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _merged(cell.outputs)
            cell.metadata.pop("execution", None)
    outcome.problems += [
        f"{place(source, notebook, i)}: {fault}" for i, c in enumerate(notebook.cells) for fault in _faults(c)
    ]
    nbformat.validate(notebook)
    return outcome


def _ran(cell: Any) -> bool:
    return cell.cell_type == "code" and cell.execution_count is not None


def _merged(outputs: list[Any]) -> list[Any]:
    """The outputs, where neighbouring pieces of one stream are one: how they were cut depends on the moment."""
    merged: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def _faults(cell: Any) -> list[str]:
    """What a cell put out that it must not put out."""
    found = []
    for output in cell.get("outputs", []):
        if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
            trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(output.traceback))
            found.append(f"{output.ename}: {output.evalue}\n" + _indented(trace, last=25))
        if output.output_type == "stream" and output.name == "stderr":
            found.append(f"writes to stderr (a warning?)\n{_indented(output.text, last=10)}")
        data = output.get("data", {})
        if re.match(r"<Figure size ", data.get("text/plain", "")) and "image/png" not in data:
            found.append("shows a Figure as text: import something from `checks` first, which arranges for pictures")
    text = text_of(cell)
    found += [
        f"prints a path of this machine, {home!r}" for home in (str(ROOT), str(Path.home())) if home + os.sep in text
    ]
    return found


def _indented(text: str, last: int) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-last:])


def text_of(cell: Any) -> str:
    """The text that a cell put out: stdout and what its values look like, without those of pictures."""
    pieces = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream" and output.name == "stdout":
            pieces.append(output.text)
        elif output.output_type in ("execute_result", "display_data"):
            data = output.data
            if not any(kind.startswith("image/") for kind in data):
                pieces.append(data.get("text/markdown") or data.get("text/plain") or "")
    return "\n".join(piece.rstrip("\n") for piece in pieces)


def deterministic(notebook: Any) -> dict[int, str]:
    """The text of each cell tagged deterministic, by its position."""
    return {
        i: text_of(cell)
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and DETERMINISTIC in cell.metadata.get("tags", [])
    }


def claims(prose: str) -> list[str]:
    """The decimal numbers in Markdown with two or more digits after the point that are claims about an output."""
    for pattern in NO_CLAIMS:
        prose = pattern.sub(" ", prose)
    return [number for number in NUMBER.findall(prose) if len(number.partition(".")[2]) >= 2]


def unbacked_numbers(source: Path, notebook: Any) -> list[str]:
    """A sentence for each number of the prose that no deterministic cell prints."""
    printed = {number.replace(",", "") for text in deterministic(notebook).values() for number in NUMBER.findall(text)}
    return [
        f"{place(source, notebook, i)}: the prose says {number}, which no deterministic cell of the chapter prints"
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "markdown"
        for number in claims(cell.source)
        if number.replace(",", "") not in printed
    ]


def changed_texts(source: Path, old: Any, new: Any) -> list[str]:
    """A sentence and a diff for each deterministic cell that prints another text than it did."""
    found = []
    before = deterministic(old)
    for i, text in deterministic(new).items():
        if text != before.get(i):
            lines = difflib.unified_diff(
                (before.get(i) or "").splitlines(), text.splitlines(), "in the .ipynb", "now", lineterm="", n=0
            )
            found.append(
                f"{place(source, new, i)}: a deterministic cell prints another text\n" + _indented("\n".join(lines), 20)
            )
    return found


def staleness(source: Path) -> str | None:
    """None if the .ipynb beside `source` was built from it, else what is wrong."""
    import nbformat

    path = source.with_suffix(".ipynb")
    number = source.stem[:2]
    way_out = f"run `make notebooks ONLY={number}` and commit it"
    if not path.exists():
        return f"{path.name} is missing: {way_out}"
    notebook = nbformat.read(path, as_version=4)
    if notebook.metadata.get("minilm", {}).get("sha256") != digest(source):
        return f"{path.name} is stale, {source.name} has changed since: {way_out}"
    if [(c.cell_type, c.source) for c in notebook.cells] != [
        (c.cell_type, c.source) for c in read_chapter(source).cells
    ]:
        return f"{path.name} was edited by hand; edit {source.name}, then {way_out}"
    return None


def write(notebook: Any, path: Path) -> None:
    """Write an executed notebook, whole or not at all."""
    import nbformat

    partial = path.with_suffix(".partial")
    partial.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8")
    partial.replace(path)


def build(source: Path) -> Outcome:
    """Execute a chapter and write its notebook, unless a cell fails."""
    outcome = execute(source)
    if not outcome.problems:
        write(outcome.notebook, source.with_suffix(".ipynb"))
        outcome.problems = unbacked_numbers(source, outcome.notebook)
    return outcome


def check(source: Path) -> Outcome:
    """Execute a chapter and compare it with the notebook that stands beside it."""
    import nbformat

    outcome = execute(source)
    if not outcome.problems:
        stale = staleness(source)
        if stale is not None:
            outcome.problems.append(stale)
        else:
            old = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
            outcome.problems += changed_texts(source, old, outcome.notebook)
        outcome.problems += unbacked_numbers(source, outcome.notebook)
    return outcome


def table(outcomes: list[Outcome], wall: float) -> str:
    """A line a chapter: how long it took, how large it is."""
    lines = [f"{'chapter':<28}{'seconds':>8}{'cpu':>8}{'cells':>7}{'pictures':>10}"]
    for outcome in outcomes:
        cells = outcome.notebook.cells
        pictures = sum("data" in o and "image/png" in o.data for c in cells for o in c.get("outputs", []))
        mark = f"  more than {LONGEST} s" if outcome.cpu > LONGEST else ""
        mark = "  FAILED" + mark if outcome.problems else mark
        lines.append(
            f"{outcome.chapter:<28}{outcome.seconds:8.1f}{outcome.cpu:8.1f}{len(cells):7}{pictures:10}{mark}"
        )
    lines.append(f"{'all':<28}{wall:8.1f}{sum(o.cpu for o in outcomes):8.1f}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status is 1 if a chapter has a problem."""
    parser = argparse.ArgumentParser(description="Build the chapters, or check that what they say is still true.")
    parser.add_argument("what", choices=("build", "check"))
    parser.add_argument("chapters", nargs="*", help="numbers of chapters, such as 03 (all, if none)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the chapters are")
    parser.add_argument("--processes", type=int, default=2, help="how many chapters run at a time")
    parser.add_argument("--budget", type=float, help="seconds that all of it may take")
    parser.add_argument("--stale", action="store_true", help="build those alone whose .ipynb is stale")
    options = parser.parse_intermixed_args(arguments)
    sources = chapters(options.folder.resolve(), options.chapters)
    if options.stale:
        sources = [source for source in sources if staleness(source) is not None]
    start = time.perf_counter()
    with ProcessPoolExecutor(max(1, min(options.processes, len(sources)))) as pool:
        outcomes = list(pool.map(build if options.what == "build" else check, sources))
    wall = time.perf_counter() - start
    print(table(outcomes, wall))
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    if options.budget is not None and wall > options.budget:
        problems.append(f"the chapters took {wall:.0f} s, and the budget is {options.budget:.0f} s")
    if problems:
        print("\n" + "\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

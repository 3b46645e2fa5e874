"""What every chapter uses: the exercises' error, the source of a function, the figures of the long runs.

    from checks import results, source
    from checks.chapter_03 import check_chain_rule

    source(minilm.functional.softmax)     # shows the function's source as a block of code
    results("tinyshakespeare")            # the dict in benchmarks/results/tinyshakespeare.json

The checkers of a chapter are in checks/chapter_NN.py; each raises `NotYet`, which says what is wrong with an answer,
and prints one line when nothing is. Importing this package inside Jupyter also makes a matplotlib Figure at the end of
a cell appear as a picture (the figures of minilm.plots do not go through pyplot, which would arrange that).
"""

from __future__ import annotations

import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

__all__ = ["NotYet", "results", "source"]

ROOT = Path(__file__).resolve().parents[2]


class NotYet(AssertionError):
    """An answer to an exercise is not right yet; the message says which input shows it, and a hint.

    Jupyter shows the message alone: the lines of the checker that raised it are of no use to the reader.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"NotYet: {self}"]


def source(*things: Any) -> None:
    """Show the source of functions, classes or modules as highlighted code (outside Jupyter: print it).

    Wrapped functions, such as the operations of minilm.functional, show what was wrapped.
    """
    for thing in things:
        path = Path(inspect.getsourcefile(inspect.unwrap(thing)) or "")
        code = textwrap.dedent(inspect.getsource(inspect.unwrap(thing))).rstrip()
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        if _shell() is None:
            print(f"{name}\n\n{code}\n")
        else:
            from IPython.display import Markdown, display

            display(Markdown(f"`{name}`\n\n```python\n{code}\n```"))


def results(subject: str) -> dict[str, Any]:
    """The committed figures of a long run: the content of benchmarks/results/SUBJECT.json.

    Raises:
        FileNotFoundError: if there are none; it names the command that makes them.
    """
    path = ROOT / "benchmarks" / "results" / f"{subject}.json"
    if not path.exists():
        if (ROOT / "benchmarks" / f"{subject}.py").exists():
            way_out = f"`make bench ONLY={subject}` makes it"
        else:
            there = sorted(p.stem for p in path.parent.glob("*.json"))
            way_out = f"there are {', '.join(there)}"
        raise FileNotFoundError(f"no figures of {subject!r} (benchmarks/results/{subject}.json): {way_out}")
    return json.loads(path.read_text(encoding="utf-8"))


def _shell() -> Any:
    """The running IPython shell, or None."""
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return None
    return get_ipython()


def _show_figures(shell: Any) -> None:
    """Let a Figure at the end of a cell, or given to display(), appear as a PNG picture."""
    from IPython.core.pylabtools import select_figure_formats

    # no "Software" entry: it would name the version of matplotlib in every picture
    select_figure_formats(shell, {"png"}, bbox_inches="tight", metadata={"Software": None})


if _shell() is not None:
    _show_figures(_shell())

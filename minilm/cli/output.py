"""Tables and numbers for people. What a program should read is written as JSON (`minilm eval --json`)."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


def say(text: str = "") -> None:
    """A line on stdout, there at once: training takes minutes, and someone may watch a log file."""
    print(text, flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """A table on stdout: the first `left` columns are text, the others numbers, aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    view = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, column in enumerate(columns):
        view.add_column(column, justify="left" if place < left else "right", overflow="fold", no_wrap=place >= left)
    for row in rows:
        view.add_row(*row)
    Console(highlight=False, markup=False, emoji=False).print(view)
    sys.stdout.flush()


def facts(rows: Iterable[tuple[str, str]], width: int = 12) -> None:
    """Lines of a name and what is to be said of it, on stdout."""
    for name, value in rows:
        say(f"{name:<{width}} {value}")


def count(number: float) -> str:
    """812,345 as "0.81 M"; what is below 100,000 in full."""
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if number >= size / 10:
            return f"{number / size:.2f} {letter}"
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """0.04 s, 3.2 s, 75 s, 2 min 05 s."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s"


def cut_short(texts: int, tokens: int | None) -> str:
    """That so many texts were longer than what the model reads."""
    many = "1 text is" if texts == 1 else f"{texts:,} texts are"
    return f"({many} longer than the {tokens:,} tokens that the model reads, and was cut)"


def shown(path: Path) -> str:
    """A path as a shell takes it."""
    import shlex

    return shlex.quote(str(path))

"""An indented block of a docstring: formulas, formulas with names and remarks, a list of names, or none of these.

    block = read_block("softmax   y_i = e^(x_i) / s       s the sum over the row")
    block.rows[0].label, block.rows[0].formula, block.rows[0].remark

Two or more spaces part the cells of a line. A cell is a formula or words: words before a formula name it, words after
it are a remark, and a line of words below goes on with the remark. Formulas beside each other go below each other: a
page is narrower than an editor. A block of which less than half are formulas is none; if all of its lines have a name
and, from one column on, words about it, it is a list. Everything else (a drawing, a file's layout) keeps its lines.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field

from formulas import FUNCTIONS, GLUE, GREEK, MARK, OPERATORS, RELATIONS, marked_latex

RELATION = re.compile(rf"(?<=\s)(?:{'|'.join(map(re.escape, RELATIONS))})(?=\s)")
# A formula without a sign of equality has something of this.
MATHEMATICAL = re.compile(r"[\^²³ᵀ√ΣσφΦ∂]|\b(?:sqrt|exp|log|max|min|tanh|sigmoid|softmax)\b[ (]|\S [-+*/·] \S")
PROGRAM = re.compile(
    r"[\"`#$\\&?]|\d \d|[a-z]\d [a-z]\d [a-z]\d|[A-Za-z_]\.[a-z_]|\w_\w{3,}\(|\w\(\)|[a-z]: |, eq\.| al\. "
)
LONG = 46  # characters; a formula longer than that, with several signs of equality, is broken at each


@dataclass
class Row:
    """A line of a block: `words` alone, or a formula (in LaTeX, with MARKs) with its name and remarks."""

    label: str = ""
    formula: str = ""
    remark: str = ""
    words: str = ""
    source: str = ""


@dataclass
class Block:
    """Rows of formulas, or entries (name, words) of a list."""

    rows: list[Row] = field(default_factory=list)
    entries: list[tuple[str, str]] = field(default_factory=list)

    @property
    def only_formulas(self) -> bool:
        return not any(row.label or row.remark or row.words for row in self.rows)


def read_block(text: str) -> Block | None:
    """What a block is, or None for one that keeps its lines."""
    lines = [line.rstrip() for line in textwrap.dedent(text).strip("\n").splitlines()]
    if not lines or not all(lines):
        return None
    rows = _formulas(lines)
    if rows is not None:
        return Block(rows=rows)
    entries = _entries(lines)
    return Block(entries=entries) if entries is not None else None


def aligned(block: Block) -> str:
    """A block of formulas alone as LaTeX for display: one line for each, aligned at the first relation."""
    lines: list[str] = []
    for row in block.rows:
        pieces = row.formula.split(MARK)
        chain = all(piece.startswith("=") for piece in pieces[1:]) and r"\text{" not in row.formula
        if len(row.source) > LONG and len(pieces) > 2 and chain:
            lines += [f"{pieces[0]}&{pieces[1]}", *(f"&{piece}" for piece in pieces[2:])]
        elif len(pieces) > 1:
            lines.append(f"{pieces[0]}&{''.join(pieces[1:])}")
        else:
            lines.append(rf"&\quad {row.formula}")
    if len(lines) == 1:
        return lines[0].replace("&", "").removeprefix(r"\quad ")
    tall = any(r"\frac" in line for line in lines)
    return r"\begin{aligned}" + (r" \\[0.4em] " if tall else r" \\ ").join(lines) + r"\end{aligned}"


def cells(line: str) -> list[str]:
    """The cells of a line: parted by two spaces or more outside of brackets, or by `; ` between two equations."""
    found, depth, start, i = [], 0, 0, 0
    line = line.strip()
    while i < len(line):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(line[i], 0)
        gap = re.match(r" {2,}", line[i:]) if depth <= 0 else None
        beside = gap and not ({*line[start:i].split()[-1:], *line[i:].split()[:1]} & set(RELATIONS))
        if gap and beside:
            found.append(line[start:i])
            i = start = i + gap.end()
            depth = 0
        else:
            i += gap.end() if gap else 1
    found.append(line[start:])
    result = []
    for cell in found:
        parts = re.split(r";\s+(?![^\[(]*[\])])", cell)
        result += parts if all(RELATION.search(part) for part in parts) else [cell]
    return [re.sub(r" {2,}", " ", cell) for cell in result if cell.strip()]


def words_of(text: str) -> list[str]:
    """The words of a text that are no names of a formula."""
    named = {*FUNCTIONS, *GREEK, *OPERATORS, "sqrt", "sum"}
    return [word for word in re.findall(r"[A-Za-z]{3,}(?:_\w+)?", text) if word not in named]


def formula(cell: str, bare: bool = False) -> str | None:
    """A cell as LaTeX with MARKs, if it is a formula (`bare`: also where nothing but its place says so)."""
    text = re.sub(r"(?<!\.)[.,;:]+$", "", cell.strip())
    first = re.match(r"\w+", text)
    if not text or PROGRAM.search(text) or (first and first[0] in GLUE and first[0] != "a"):
        return None
    related = RELATION.search(text)
    left = text[: related.start()] if related else text
    if related and (len(words_of(left)) > 2 or not left.strip() or set(left.split()) & (GLUE - {"a", "of"})):
        return None
    if not related:
        plain = words_of(text)
        if GLUE & set(re.findall(r"\w+", text)) - {"a"}:
            return None
        if not bare and (not MATHEMATICAL.search(text) or len(plain) > 3):
            return None
        if bare and plain and not MATHEMATICAL.search(text):
            return None
    return marked_latex(text)


def _formulas(lines: list[str]) -> list[Row] | None:
    """The rows of a block of formulas; None if it is not one."""
    read = [[(cell, formula(cell)) for cell in cells(line)] for line in lines]
    mathematical = sum(any(latex is not None for _, latex in line) for line in read)
    related = any(RELATION.search(cell) for line in read for cell, latex in line if latex is not None)
    if not mathematical or any(len(line) > (6 if related else 4) for line in read):
        return None
    rows: list[Row] = []
    words = 0
    for line, text in zip(read, lines, strict=True):
        if len(line) > 1 and line[0][1] is None and line[1][1] is None and formula(line[1][0], bare=True):
            line[1] = (line[1][0], formula(line[1][0], bare=True))  # a name, and what it stands for
        if all(latex is None for _, latex in line):
            said = "; ".join(cell for cell, _ in line)
            if rows and text.startswith(" "):
                rows[-1].remark = f"{rows[-1].remark} {said}".strip()
            else:
                words += 1
                rows.append(Row(words=said))
            continue
        label, started = [], False
        for cell, latex in line:
            if latex is not None:
                rows.append(Row(label=" ".join(label), formula=latex, source=cell))
                label, started = [], True
            elif not started or cell.endswith(":"):
                label.append(cell)
            else:
                rows[-1].remark += ("; " if rows[-1].remark else "") + cell.removesuffix(",")
    labels = [row.label for row in rows if row.label]
    drawn = any(len(label) > 30 or re.search(r"[|\[]|\d \w?\d", label) for label in labels)
    if drawn or mathematical < words or not (related or labels or mathematical == len(lines)):
        return None
    return rows


def _entries(lines: list[str]) -> list[tuple[str, str]] | None:
    """(name, words) if all lines have words from one column on, and left of it a name or nothing; else None.

    Without lines that go on with the words above, each may have a column of its own.
    """
    gaps = [re.match(r"(\S.*?) {2,}(?=\S)", line) for line in lines]
    columns = {found.end() for found in gaps if found}
    if not columns or (len(columns) > 1 and not all(gaps)):
        return None
    entries: list[tuple[str, str]] = []
    for line, found in zip(lines, gaps, strict=True):
        column = found.end() if found else min(columns)
        name, words = line[:column].strip(), line[column:]
        if not words or words.startswith(" ") or line[column - 1] != " " or re.search(r"\S {2,}\S", words):
            return None  # more columns: a table or a drawing
        if name:
            entries.append((name, words))
        else:
            entries[-1] = (entries[-1][0], f"{entries[-1][1]} {words}")
    wordy = sum(len(re.findall(r"[A-Za-z]{3,}", words)) >= 2 for _, words in entries)
    alone = len(entries) == 1 and not re.fullmatch(r"[\w/]+", entries[0][0])
    return entries if 2 * wordy >= len(entries) and not alone else None

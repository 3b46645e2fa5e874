"""A file of the library as a page: prose beside the code that it speaks of, section by section.

    page = Annotator(table).page(Path("minilm/functional/softmax.py"))
    page.html, page.contents

A section is a definition at the top of the file (classes are cut at their methods), or a group of assignments. Its
docstring and the comments before it stand on the left, as Markdown with formulas; a comment that has a line of its own
inside a body, and the docstring of an inner function, begin a new row there. On the right stands what is left: the
code, every name linked to its definition.
"""

from __future__ import annotations

import ast
import io
import re
import textwrap
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES, Comment, Token

from prose import render
from symbols import Definition, Module, Place, SymbolTable, module_name

Address = Callable[[Place], str | None]
"""From a definition to its address, as seen from the page that is written."""


@dataclass
class Row:
    """Prose, and the lines of code (from 1, both included) beside it."""

    first: int
    last: int
    prose: list[str] = field(default_factory=list)
    name: str = ""  # what is defined here, with its class
    kind: str = ""
    hidden: set[int] = field(default_factory=set)  # lines that the prose shows instead


@dataclass
class Page:
    """A written page: its HTML, and (name, kind) of what it defines at the top, in order."""

    html: str
    contents: list[tuple[str, str]]
    summary: str


def first_sentence(docstring: str | None) -> str:
    """The first sentence of a docstring, without its final stop."""
    paragraph = (docstring or "").strip().partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[.])\s+(?=[A-Z`])", paragraph)[0].rstrip(".")


class Annotator:
    """Writes the pages of all files of a symbol table."""

    def __init__(self, table: SymbolTable, extras: Callable[[Place], str] | None = None) -> None:
        """`extras(place)` is HTML that follows the prose of a definition: its kernels, tests, chapter."""
        self.table = table
        self.extras = extras

    def page(self, path: Path, address: Address, source: str | None = None) -> Page:
        """The page of a file of the library, or of any Python file whose `source` is given."""
        if source is None:
            module = self.table.modules[module_name(path)]
        else:
            module = Module(module_name(path), path, source, ast.parse(source))
            self.table.collect(module)
            self.table.modules.setdefault(module.name, module)
        rows = balanced(rows_of(module))
        code = highlighted_lines(module.source, links_of(module, self.table, address))

        def link(dotted: str) -> str | None:
            # names in prose are those of the module, or written out from the top
            place = self.table.resolve(module.name, dotted)
            if place is None and dotted.startswith("minilm."):
                place = self.table.resolve("minilm", dotted.removeprefix("minilm."))
                place = place or (Place(dotted) if dotted in self.table.modules else None)
            return address(place) if place else None

        html = []
        named = {row.name for row in rows}
        begun: set[str] = set()
        for row in rows:
            inside = [n for n, line in module.defined.items() if n not in named and row.first <= line <= row.last]
            anchors = "".join(f'<a id="{name}"></a>' for name in inside)
            division = re.fullmatch(r"\*\*(.+)\*\*", row.prose[0]) if row.prose and row.name else None
            prose = "\n".join(render(text, link) for text in row.prose[division is not None :])
            if row.name:
                level = "h3" if "." in row.name else "h2"
                short = row.name.rpartition(".")[2] if "." in row.name else row.name
                # a property and its setter are of one name, and an id stands once in a page: so the search needs it
                identity = "" if row.name in begun else f' id="{row.name}"'
                begun.add(row.name)
                title = f"<{level}{identity}><code>{escape(short)}</code></{level}>"
                after = self.extras(Place(module.name, row.name)) if self.extras else ""
                above = f'<p class="division">{escape(division[1])}</p>\n' if division else ""
                prose = f"{above}{title}\n{prose}\n{after}"
            lines = [code[n - 1] for n in range(row.first, row.last + 1) if n not in row.hidden]
            while lines and not lines[0].strip():
                lines.pop(0)
            while lines and not lines[-1].strip():
                lines.pop()
            block = f'<div class="highlight"><pre><code>{chr(10).join(lines)}</code></pre></div>' if lines else ""
            if prose.strip() or block:
                inner = f" {row.kind or 'opening'}"
                sides = f'<div class="prose">{anchors}{prose}</div><div class="code">{block}</div>'
                html.append(f'<div class="row{inner}">{sides}</div>')
        docstring = ast.get_docstring(module.tree)
        contents = [(row.name, row.kind) for row in rows if row.name and "." not in row.name]
        return Page('<div class="annotated">\n' + "\n".join(html) + "\n</div>", contents, first_sentence(docstring))


def rows_of(module: Module) -> list[Row]:
    """The rows of a page, in the order of the file; together they hold every line of it once."""
    tree, lines = module.tree, module.source.splitlines()
    comments = whole_line_comments(module.source)
    rows = [Row(1, len(lines))]
    body = list(tree.body)
    docstring = docstring_of(tree)
    if docstring is not None:
        rows[0].prose.append(ast.get_docstring(tree) or "")
        rows[0].hidden |= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
        body = body[1:]

    def begin(line: int, name: str = "", kind: str = "") -> Row:
        """End the last row before `line`, and begin another there."""
        rows[-1].last = line - 1
        rows.append(Row(line, len(lines), name=name, kind=kind))
        return rows[-1]

    def comment_before(line: int) -> tuple[int, str | None]:
        """The first line of the comment above `line` (at its margin, if lines are empty between), and its text."""
        start = line
        while start > 1 and not lines[start - 2].strip():
            start -= 1
        if start < line and _margin(lines, start - 1) != _margin(lines, line):
            start = line
        end = start
        while start - 1 in comments:
            start -= 1
        return (start, comment_text(comments, start, end - 1)) if start < end else (line, None)

    def take_comment(row: Row, start: int, end: int, text: str | None) -> None:
        if text is not None:
            row.prose.append(text)
            row.hidden |= set(range(start, end))

    def within(nodes: Iterable[ast.stmt], prefix: str, depth: int) -> None:
        """Begin rows at the comments, methods and documented inner functions of a body."""
        for node in nodes:
            line = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            start, text = comment_before(line)
            method = isinstance(node, Definition) and prefix != "" and depth == 0
            inner = docstring_of(node) if isinstance(node, Definition) else None
            if method:
                assert isinstance(node, Definition)
                row = begin(start, f"{prefix}{node.name}", "method")
                take_comment(row, start, line, text)
            elif text is not None or inner is not None:
                row = begin(start, kind="inner")
                take_comment(row, start, line, text)
            if inner is not None and isinstance(node, Definition):
                rows[-1].prose.append(ast.get_docstring(node) or "")
                rows[-1].hidden |= set(range(inner.lineno, (inner.end_lineno or inner.lineno) + 1))
            below = [] if isinstance(node, ast.ClassDef) and method else _bodies(node)
            within([n for n in below if not is_docstring(n)], "", depth + 1)

    previous_end, grouped = 0, False
    for node in body:
        line = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        start, text = comment_before(line)
        if isinstance(node, Definition):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            row = begin(start, node.name, kind)
            take_comment(row, start, line, text)
            own = docstring_of(node)
            if own is not None:
                row.prose.append(ast.get_docstring(node) or "")
                row.hidden |= set(range(own.lineno, (own.end_lineno or own.lineno) + 1))
            inside = [n for n in node.body if not is_docstring(n)]
            within(inside, f"{node.name}." if kind == "class" else "", 0)
            grouped = False
        elif isinstance(node, ast.Import | ast.ImportFrom) or _imports_for_types(node):
            grouped = False
        elif is_docstring(node):  # the text below an assignment, which says what it is
            rows[-1].prose.append(ast.literal_eval(node.value))  # type: ignore[attr-defined]
            rows[-1].hidden |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            grouped = False
        else:
            apart = start > previous_end + 1
            names = [t for t in getattr(node, "targets", [getattr(node, "target", None)]) if isinstance(t, ast.Name)]
            if not grouped or text is not None or apart:
                row = begin(start, names[0].id if names else "", "assignment")
                take_comment(row, start, line, text)
            grouped = True
        previous_end = node.end_lineno or node.lineno
    return [row for row in rows if row.first <= row.last]


LINE = 46  # characters of prose in a line of the narrow column
RATIO = 1.4  # a line of prose is as high as so many lines of code
SLACK = 6  # lines of code by which prose may be longer


def balanced(rows: list[Row]) -> list[Row]:
    """The rows, where a definition's words are long and the code beside them short: with what follows it in the body.

    Its comments then stay in the code, where they stand anyway; a new row for them would begin below an empty space.
    """
    done: list[Row] = []
    for row in rows:
        last = done[-1] if done else None
        if last and last.name and row.kind == "inner" and not any(re.search(r"\n\n {4}|\$", p) for p in row.prose):
            code = last.last - last.first + 1 - len(last.hidden)
            if RATIO * _height(last) > code + SLACK:
                last.last = row.last
                continue
        done.append(row)
    return done


def _height(row: Row) -> int:
    """About how many lines the prose of a row takes."""
    lines = [line for text in row.prose for line in text.splitlines()]
    names = sum(bool(re.match(r" {4}[\w, ]+: ", line)) for line in lines)  # of arguments: a line of their own
    paragraphs = re.split(r"\n[ \t]*\n|\n(?= {4}\S)", "\n".join(row.prose))
    return 2 + names + sum(1 + len(" ".join(p.split())) // LINE for p in paragraphs)


def _margin(lines: list[str], number: int) -> int:
    """How far a line (from 1) is indented; -1 where there is none."""
    return len(lines[number - 1]) - len(lines[number - 1].lstrip()) if number else -1


def _imports_for_types(node: ast.stmt) -> bool:
    """True for `if TYPE_CHECKING:`, which belongs to the imports above it."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _bodies(node: ast.stmt) -> list[ast.stmt]:
    """The statements inside a compound statement, one level down, in the order of the file."""
    found: list[ast.stmt] = []
    for name in ("body", "handlers", "orelse", "finalbody"):
        for child in getattr(node, name, []):
            found += child.body if isinstance(child, ast.ExceptHandler) else [child]
    for case in getattr(node, "cases", []):
        found += case.body
    return found


def is_docstring(node: ast.stmt) -> bool:
    """True for a statement that is only a text."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def docstring_of(node: ast.AST) -> ast.stmt | None:
    """The statement that is the docstring of a module, class or function."""
    body = getattr(node, "body", [])
    return body[0] if body and is_docstring(body[0]) else None


def whole_line_comments(source: str) -> dict[int, str]:
    """The comments that have a line of their own, by line."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip() == "":
            found[token.start[0]] = token.string
    return found


def comment_text(comments: dict[int, str], first: int, last: int) -> str:
    """The words of the comments on some lines."""
    text = "\n".join(comments[line].lstrip("#").removeprefix(" ") for line in range(first, last + 1))
    return re.sub(r"^-{3,} (.*)$", r"**\1**", text, flags=re.MULTILINE)  # a heading within a file


def links_of(module: Module, table: SymbolTable, address: Address) -> dict[tuple[int, int], tuple[int, str]]:
    """Where names stand that have a page: (line, column) -> (length, address). Columns count characters."""
    lines = module.source.splitlines()
    found: dict[tuple[int, int], tuple[int, str]] = {}

    def put(line: int, byte_column: int, text: str, place: Place | None) -> None:
        target = address(place) if place is not None else None
        if target is not None:
            column = len(lines[line - 1].encode()[:byte_column].decode())
            found.setdefault((line, column), (len(text), target))

    def visit(node: ast.AST, hidden: frozenset[str], owner: str) -> None:
        if isinstance(node, ast.ClassDef):
            owner = node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            hidden = hidden | local_names(node)
        if isinstance(node, ast.Attribute):
            dotted = dotted_name(node)
            place = None
            if dotted and dotted.startswith("self.") and owner:
                place = table.resolve(module.name, f"{owner}.{dotted[5:]}")
            elif dotted and dotted.partition(".")[0] not in hidden:
                place = table.resolve(module.name, dotted)
            if node.end_lineno and node.end_col_offset is not None:
                put(node.end_lineno, node.end_col_offset - len(node.attr.encode()), node.attr, place)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in hidden:
            put(node.lineno, node.col_offset, node.id, table.resolve(module.name, node.id))
        elif isinstance(node, ast.ImportFrom) and node.module:
            last = node.module.rpartition(".")[2]
            start = node.col_offset + len("from ") + len(node.module) - len(last)
            put(node.lineno, start, last, _module_place(node.module, table))
            for alias in node.names:
                place = table.resolve(module.name, alias.asname or alias.name)
                put(alias.lineno, alias.col_offset, alias.name, place)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                last = alias.name.rpartition(".")[2]
                start = alias.col_offset + len(alias.name) - len(last)
                put(alias.lineno, start, last, _module_place(alias.name, table))
        for child in ast.iter_child_nodes(node):
            visit(child, hidden, owner)

    visit(module.tree, frozenset(), "")
    return found


def _module_place(name: str, table: SymbolTable) -> Place | None:
    return Place(name) if name in table.modules else None


def dotted_name(node: ast.expr) -> str | None:
    """`a.b.c` of an attribute of names; None if anything else stands in it."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted_name(node.value)):
        return f"{base}.{node.attr}"
    return None


def local_names(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> frozenset[str]:
    """The parameters of a function and what it assigns: these names mean something else inside."""
    arguments = node.args
    names = {a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}
    names |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None}
    imports = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            names.add(child.id)
        elif isinstance(child, Definition) and child is not node:
            names.add(child.name)
        elif isinstance(child, ast.Global):
            imports |= set(child.names)
    return frozenset(names - imports)


def highlighted_lines(source: str, links: dict[tuple[int, int], tuple[int, str]]) -> list[str]:
    """The lines of a program as HTML: coloured, and linked where `links` says so."""
    lines: list[str] = [""]
    line, column = 1, 0
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(source):
        for number, piece in enumerate(text.split("\n")):
            if number:
                lines.append("")
                line, column = line + 1, 0
            if not piece:
                continue
            lines[-1] += _span(kind, _linked(piece, line, column, links))
            column += len(piece)
    return lines


def _linked(piece: str, line: int, column: int, links: dict[tuple[int, int], tuple[int, str]]) -> str:
    """A piece of a line, with the links that begin inside it."""
    html, done = "", 0
    for start in range(len(piece)):
        length, target = links.get((line, column + start), (0, ""))
        if length and start >= done and start + length <= len(piece):
            html += escape(piece[done:start])
            html += f'<a href="{target}">{escape(piece[start : start + length])}</a>'
            done = start + length
    return html + escape(piece[done:])


def _span(kind: object, html: str) -> str:
    while kind is not Token and kind not in STANDARD_TYPES:
        kind = kind.parent  # type: ignore[attr-defined]
    name = STANDARD_TYPES.get(kind, "")  # type: ignore[call-overload]
    if name in ("", "n", "p", "w"):
        return html
    return f'<span class="{"c1" if kind in Comment else name}">{html}</span>'


def plain_page(text: str) -> str:
    """The page of a file that is no Python: its text."""
    return f'<div class="highlight"><pre><code>{escape(textwrap.dedent(text))}</code></pre></div>'

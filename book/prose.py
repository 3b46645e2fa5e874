"""Docstrings and comments as HTML: Markdown with formulas, in the conventions of this house.

    render("y = tanh(x);  dx = g (1 - y^2).")          # a formula, set apart
    render("Raises:\n    TypeError: if ...")            # a list with a heading

Three things in a docstring are not plain Markdown. An indented block holds formulas in plain characters, a list, a
program or a drawing (blocks.py tells them apart); a first line such as `y = a b;  da = g b` is a formula too; and the
parts Args, Returns, Raises are lists. $...$ and $$...$$ are LaTeX, which MathJax sets in the browser.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable
from html import escape
from itertools import groupby
from typing import Any

from blocks import Block, aligned, formula, read_block
from inline import with_formulas_set
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from formulas import MARK, latex

PARTS = ("Args", "Arguments", "Returns", "Yields", "Raises", "Attributes", "Examples", "Example", "Source", "Note")
PART = re.compile(rf"^({'|'.join(PARTS)}):(.*)$")
# "y_i = ...", "dx = ...", "y, (h, c) = ...": what stands before the sign is short and holds no word of a sentence
FORMULA = re.compile(r"^[^\s=]{1,12}(?:[ ,]+[^\s=]{1,8}){0,3} = \S")
SENTENCE = re.compile(r"\b(?:the|is|are|of a|with|which|where|that|from|for|by|and)\b")

Linker = Callable[[str], str | None]
"""From a dotted name to the address of its definition, or None."""


def formulas_html(block: Block, words: Callable[[str], str]) -> str:
    """Formulas: set apart, or with their names and remarks as a table. `words` makes HTML of a line of text."""
    if block.only_formulas:
        return f'<div class="arithmatex">\\[{escape(aligned(block))}\\]</div>\n'
    html = ['<div class="formulas"><table class="formulas">']
    named = any(row.label for row in block.rows)
    remarked = any(row.remark for row in block.rows)
    columns = 2 + named + remarked
    for row in block.rows:
        if row.words:
            html.append(f'<tr><td class="words" colspan="{columns}">{words(row.words)}</td></tr>')
            continue
        left, mark, right = row.formula.partition(MARK)
        right = right.replace(MARK, "")
        label = f"`{row.label}`" if re.fullmatch(r"\w+_\w+", row.label) else row.label
        line = [f'<th scope="row">{words(label)}</th>'] if named else []
        if mark:
            line.append(f'<td class="left">{_inline_math(left.rstrip())}</td><td>{_inline_math("{}" + right)}</td>')
        else:
            line.append(f'<td colspan="2">{_inline_math(left)}</td>')
        if remarked:
            line.append(f'<td class="remark">{words(row.remark)}</td>')
        html.append(f"<tr>{''.join(line)}</tr>")
    return "".join(html) + "</table></div>\n"


def _inline_math(tex: str) -> str:
    return f'<span class="arithmatex">\\({escape(chr(92) + "displaystyle " + tex)}\\)</span>'


def list_html(entries: list[tuple[str, str]], words: Callable[[str], str]) -> str:
    """Names with words about them; the names are those of files or functions, where there are such."""
    rows = []
    for name, said in entries:
        parts = [f"`{part}`" if re.fullmatch(r"[\w./]+", part) else part for part in name.split(", ")]
        named = ", ".join(map(words, parts))
        rows.append(f'<tr><th scope="row">{named}</th><td class="remark">{words(said)}</td></tr>')
    return f'<div class="formulas"><table class="formulas entries">{"".join(rows)}</table></div>\n'


def is_program(text: str) -> bool:
    """True if an indented block is Python rather than a formula or a table."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    signs = (ast.Attribute, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.keyword, ast.For, ast.With)
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return any(isinstance(node, signs) for node in ast.walk(tree)) or any(isinstance(text, str) for text in texts)


def is_commands(text: str) -> bool:
    """True if a block is what is typed into a terminal."""
    return all(re.match(r"(?:minilm|make|pip|head|cat)\b", line) for line in text.replace("\\\n", " ").splitlines())


def block_html(text: str, words: Callable[[str], str] | None = None) -> str:
    """An indented block: formulas, a list, a highlighted program, commands; or its lines as they are."""
    words = words or _words(_markdown(None))
    html: list[str] = []
    kept: list[str] = []  # paragraphs that keep their lines, together with the empty ones between them

    def flush() -> None:
        if kept:
            html.append(f'<div class="formula">{escape(chr(10).join(kept))}</div>\n')
            kept.clear()

    text = textwrap.dedent(text).strip("\n")
    paragraphs = [text] if is_program(text) else _paragraphs(text)
    for i in reversed(range(1, len(paragraphs))):  # the paragraphs of one program
        if is_program(paragraphs[i - 1]) and is_program(paragraphs[i]):
            paragraphs[i - 1 : i + 1] = ["\n\n".join(paragraphs[i - 1 : i + 1])]
    for paragraph in paragraphs:
        block = read_block(paragraph)
        if is_program(paragraph):
            flush()
            html.append(highlight(paragraph, PythonLexer(), HtmlFormatter(cssclass="highlight", wrapcode=True)))
        elif is_commands(paragraph):
            flush()
            html.append(f'<div class="highlight"><pre><code>{escape(paragraph)}</code></pre></div>\n')
        elif block is None:
            kept.append(("\n" if kept else "") + paragraph)
        else:
            flush()
            html.append(formulas_html(block, words) if block.rows else list_html(block.entries, words))
    flush()
    return "".join(html)


# x_t, W_hh, h_(t-1): in words, such a name looks as it does in a formula. Within what looks like a formula, and is none
# for inline.py, all is left as it is.
NAME = re.compile(
    r"(?<![\w`$.∂(/^=+*<>|\\-])(?<![=+*/<>|-] )[A-Za-z]{1,2}'?_(?:[A-Za-z0-9]|[A-Za-z][A-Za-z0-9]|\([^()\s]{1,6}\))"
    r"(?! ?[=+*/^≈<>∂|-]|[\w(\[/\\])(?! [a-zA-Z]\b(?<! a))"
)


def with_names_set(text: str) -> str:
    """Words with their names of formulas as LaTeX."""
    return NAME.sub(lambda found: f"${latex(found[0])}$", text)


def _words(md: MarkdownIt) -> Callable[[str], str]:
    """What makes HTML of the words beside a formula."""

    def words(text: str) -> str:
        pieces = re.split(r"(`+[^`]+`+)", text)
        pieces[::2] = [with_names_set(_escaped(p)) for p in pieces[::2]]
        return str(md.renderInline("".join(pieces)))

    return words


def _escaped(text: str) -> str:
    """Words in which no sign means anything to Markdown."""
    return re.sub(r"([\\*\[\]<>$])", r"\\\1", text)


def _markdown(link: Linker | None) -> MarkdownIt:
    md = MarkdownIt("commonmark", {"html": False}).enable("table").use(dollarmath_plugin, allow_digits=True)

    def code_block(tokens: Any, index: int, options: Any, env: Any) -> str:
        return block_html(tokens[index].content, words)

    def code_inline(tokens: Any, index: int, options: Any, env: Any) -> str:
        text = tokens[index].content
        address = link(text.removesuffix("()")) if link and re.fullmatch(r"[\w.]+(?:\(\))?", text) else None
        code = f"<code>{escape(text)}</code>"
        return f'<a class="name" href="{address}">{code}</a>' if address else code

    def math_inline(tokens: Any, index: int, options: Any, env: Any) -> str:
        return f'<span class="arithmatex">\\({escape(tokens[index].content)}\\)</span>'

    def math_block(tokens: Any, index: int, options: Any, env: Any) -> str:
        return f'<div class="arithmatex">\\[{escape(tokens[index].content)}\\]</div>\n'

    words = _words(md)
    rules: Any = md.renderer.rules  # type: ignore[attr-defined]
    rules["code_block"], rules["fence"], rules["code_inline"] = code_block, code_block, code_inline
    rules["math_inline"], rules["math_block"] = math_inline, math_block
    return md


def _paragraphs(text: str) -> list[str]:
    return re.split(r"\n[ \t]*\n", text)


def _shielded(text: str) -> str:
    """Text of a docstring as Markdown: stars between words and underscores are no emphasis there."""
    pieces = re.split(r"(`+[^`]+`+|\$[^$\n]+\$)", text)
    pieces[::2] = map(_products, pieces[::2])
    groups = groupby("".join(pieces).split("\n"), key=lambda line: bool(line.strip()) and not line.startswith("    "))
    return "\n".join(_named("\n".join(lines)) if words else "\n".join(lines) for words, lines in groups)


def _products(text: str) -> str:
    """Words whose stars are emphasis: one that touches a letter on both sides, or stands alone, multiplies."""
    text = re.sub(r"(?<=[\w)\]])\*(?=[\w(\[])", r"\\*", text)
    return re.sub(r"(?<!\S)\*(?=[a-z]\w*(?:[:, ]|$))(?![^*\n]*\*)", r"\\*", text)


def _named(text: str) -> str:
    """Words with their formulas and names set, but for what is code or LaTeX already."""
    for change in (with_formulas_set, with_names_set):
        pieces = re.split(r"(`+[^`]+`+|\$[^$\n]+\$)", text)
        pieces[::2] = map(change, pieces[::2])
        text = "".join(pieces)
    return text


def _part(name: str, first: str, body: list[str], md: MarkdownIt) -> str:
    """One of the parts Args, Returns, Raises, ...: a heading and what stands indented under it."""
    text = textwrap.dedent("\n".join(body)).strip("\n")
    html = [f'<p class="part">{name}</p>']
    if first.strip():
        html.append(md.render(_shielded(first.strip())))
    items = re.split(r"\n(?=\S)", text) if text else []
    named = [re.match(r"((?:\*{0,2}[\w.]+(?: \([^)]*\))?(?:, )?)+): +", item) for item in items]
    if name.startswith("Example"):
        html.append(block_html(text))
    elif items and all(named):
        html.append("<dl>")
        for item, found in zip(items, named, strict=True):
            assert found is not None
            words = textwrap.dedent("    " + item[found.end() :]) if "\n" in item else item[found.end() :]
            words = "\n".join(line.strip() for line in words.splitlines())
            html.append(f"<dt><code>{escape(found[1])}</code></dt><dd>{md.renderInline(_shielded(words))}</dd>")
        html.append("</dl>")
    elif text:
        html.append(md.render(_shielded(text)))
    return "\n".join(html)


def render(text: str, link: Linker | None = None) -> str:
    """The HTML of a docstring (its indentation taken out) or of a comment (its signs taken out)."""
    md = _markdown(link)
    lines = text.strip("\n").splitlines()
    html: list[str] = []
    plain: list[str] = []

    def flush() -> None:
        paragraphs = _paragraphs("\n".join(plain).strip("\n"))
        if not html and paragraphs and (found := leading_formula(paragraphs[0])):
            html.append(block_html(found[0], _words(md)))
            paragraphs[0] = found[1]
        rest = "\n\n".join(p for p in paragraphs if p.strip())
        if rest:
            html.append(md.render(_shielded(rest)))
        plain.clear()

    position = 0
    while position < len(lines):
        found = PART.match(lines[position])
        if not found:
            plain.append(lines[position])
            position += 1
            continue
        body = []
        following = position + 1
        first = found[2]
        while first.strip() and following < len(lines) and re.match(r"\S", lines[following]):
            first += f"\n{lines[following]}"  # a paragraph, whose first word names it
            following += 1
        while following < len(lines) and (not lines[following].strip() or lines[following].startswith(" ")):
            body.append(lines[following])
            following += 1
        flush()
        html.append(_part(found[1], first, body, md))
        position = following
    flush()
    return "\n".join(html)


def leading_formula(paragraph: str) -> tuple[str, str] | None:
    """The formula with which a docstring opens, one line for each equation, and the words after it; or None."""
    first, _, rest = paragraph.partition("\n")
    if found := re.match(r"(.*?\S\.) +(?=[A-Z])", first):  # another sentence begins in the same line
        first, rest = found[1], f"{first[found.end() :]}\n{rest}"
    if not FORMULA.match(first) or "`" in first or re.match(r"[A-Z][a-z]{2}", first):
        return None
    pieces = re.split(r";  +", first.removesuffix("."))
    if SENTENCE.search(pieces[0]) or not all(re.search(r" \+?= ", piece) for piece in pieces):
        return None
    if not all(formula(part) for piece in pieces for part in re.split(r", {2,}", piece)):
        return None
    return "\n".join(piece.strip() for piece in pieces), rest.strip("\n")


def as_markdown(docstring: str) -> str:
    """A docstring for a Markdown with HTML in it: its blocks as HTML, `<` and `*` out of harm's way."""
    first, blank, rest = docstring.partition("\n\n")
    opening = ""
    if found := leading_formula(first):
        opening = f"{block_html(found[0])}\n"
        first = found[1]
    lines: list[str] = []
    block: list[str] = []
    in_list = False

    def flush() -> None:
        """Write the indented block that has ended."""
        while block and not block[-1].strip():
            block.pop()
        if block:
            lines.extend(["", block_html("\n".join(block)).strip("\n"), ""])
            block.clear()

    for line in f"{first}{blank}{rest}".splitlines():
        if line and not line.startswith(" "):
            part = PART.match(line)
            in_list = part is not None
        if not in_list and (line.startswith("    ") or (block and not line.strip())):
            if block or not (lines and lines[-1].strip()):  # a line that goes on with a paragraph is no block
                block.append(line)
                continue
        flush()
        pieces = re.split(r"(`+[^`]+`+|\$[^$\n]+\$)", line)
        pieces[::2] = [p.replace("<", "&lt;").replace("[", "&#91;") for p in pieces[::2]]
        pieces[::2] = [p.replace("*", "\\*") if in_list else _products(p) for p in pieces[::2]]
        lines.append("".join(pieces) if in_list else _named("".join(pieces)))
    flush()
    return opening + "\n".join(lines)


def formulas_in_markdown(text: str) -> str:
    """A document with its indented blocks of formulas set; everything else, programs foremost, as it is."""

    def change(found: re.Match[str]) -> str:
        block = None if is_program(textwrap.dedent(found[0])) else read_block(found[0])
        return formulas_html(block, _words(_markdown(None))) if block and block.rows else found[0]

    pieces = re.split(r"(^(?:```|~~~)[\s\S]*?^(?:```|~~~)[ \t]*$)", text, flags=re.MULTILINE)
    pieces[::2] = [re.sub(r"(?<=\n\n)(?: {4}\S.*\n)+(?=\n)", change, piece) for piece in pieces[::2]]
    return "".join(pieces)

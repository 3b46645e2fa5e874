"""Docstrings and comments as HTML: Markdown with formulas, in the conventions of this house.

    render("y = tanh(x);  dx = g (1 - y^2).")          # a formula, set apart
    render("Raises:\n    TypeError: if ...")            # a list with a heading

Three things in a docstring are not plain Markdown. An indented block is a formula in plain characters, a table or a
program, and keeps its lines; a first line such as `y = a b;  da = g b` is a formula too; and the parts Args, Returns,
Raises are lists. $...$ and $$...$$ are LaTeX, which MathJax sets in the browser.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from formulas import display

PARTS = ("Args", "Arguments", "Returns", "Yields", "Raises", "Attributes", "Examples", "Example", "Source", "Note")
PART = re.compile(rf"^({'|'.join(PARTS)}):(.*)$")
# "y_i = ...", "dx = ...", "y, (h, c) = ...": what stands before the sign is short and holds no word of a sentence
FORMULA = re.compile(r"^[^\s=]{1,12}(?:[ ,]+[^\s=]{1,8}){0,3} = \S")
SENTENCE = re.compile(r"\b(?:the|is|are|of a|with|which|where|that|from|for|by|and)\b")

Linker = Callable[[str], str | None]
"""From a dotted name to the address of its definition, or None."""


def formula_html(text: str) -> str:
    """A formula in plain characters: set as one where it can be, else with its lines kept."""
    converted = display(text)
    if converted is not None:
        return f'<div class="arithmatex">\\[{escape(converted)}\\]</div>\n'
    return f'<div class="formula">{escape(text)}</div>\n'


def is_program(text: str) -> bool:
    """True if an indented block is Python rather than a formula or a table."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    signs = (ast.Attribute, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.keyword, ast.For, ast.With)
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return any(isinstance(node, signs) for node in ast.walk(tree)) or any(isinstance(text, str) for text in texts)


def block_html(text: str) -> str:
    """An indented block: a highlighted program, or a formula."""
    text = textwrap.dedent(text).strip("\n")
    if is_program(text):
        return highlight(text, PythonLexer(), HtmlFormatter(cssclass="highlight", wrapcode=True))
    return formula_html(text)


def _markdown(link: Linker | None) -> MarkdownIt:
    md = MarkdownIt("commonmark", {"html": False}).enable("table").use(dollarmath_plugin, allow_digits=False)

    def code_block(tokens: Any, index: int, options: Any, env: Any) -> str:
        return block_html(tokens[index].content)

    def code_inline(tokens: Any, index: int, options: Any, env: Any) -> str:
        text = tokens[index].content
        address = link(text.removesuffix("()")) if link and re.fullmatch(r"[\w.]+(?:\(\))?", text) else None
        code = f"<code>{escape(text)}</code>"
        return f'<a class="name" href="{address}">{code}</a>' if address else code

    def math_inline(tokens: Any, index: int, options: Any, env: Any) -> str:
        return f'<span class="arithmatex">\\({escape(tokens[index].content)}\\)</span>'

    def math_block(tokens: Any, index: int, options: Any, env: Any) -> str:
        return f'<div class="arithmatex">\\[{escape(tokens[index].content)}\\]</div>\n'

    rules: Any = md.renderer.rules  # type: ignore[attr-defined]
    rules["code_block"], rules["fence"], rules["code_inline"] = code_block, code_block, code_inline
    rules["math_inline"], rules["math_block"] = math_inline, math_block
    return md


def _paragraphs(text: str) -> list[str]:
    return re.split(r"\n[ \t]*\n", text)


def _shielded(text: str) -> str:
    """Text of a docstring as Markdown: stars between words and underscores are no emphasis there."""
    pieces = re.split(r"(`+[^`]+`+|\$[^$\n]+\$)", text)
    for i in range(0, len(pieces), 2):
        # a star that touches a letter on both sides, or stands alone, multiplies
        pieces[i] = re.sub(r"(?<=[\w)\]])\*(?=[\w(\[])", r"\\*", pieces[i])
        pieces[i] = re.sub(r"(?<!\S)\*(?=[a-z]\w*(?:[:, ]|$))(?![^*\n]*\*)", r"\\*", pieces[i])
    return "".join(pieces)


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
            html.append(formula_html(found[0]))
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
        while following < len(lines) and (not lines[following].strip() or lines[following].startswith(" ")):
            body.append(lines[following])
            following += 1
        flush()
        html.append(_part(found[1], found[2], body, md))
        position = following
    flush()
    return "\n".join(html)


def leading_formula(paragraph: str) -> tuple[str, str] | None:
    """The formula with which a docstring opens, one line for each equation, and the words after it; or None."""
    first, _, rest = paragraph.partition("\n")
    if not FORMULA.match(first) or "`" in first or re.match(r"[A-Z][a-z]{2}", first):
        return None
    pieces = re.split(r";  +", first)
    equations = [piece for piece in pieces if " = " in piece]
    if len(equations) < len(pieces) or any(SENTENCE.search(piece) for piece in pieces):
        return None
    return "\n".join(piece.strip() for piece in pieces).removesuffix("."), rest


def as_markdown(docstring: str) -> str:
    """A docstring for a Markdown with HTML in it: its opening formula in a fence, `<` and `*` out of harm's way."""
    first, blank, rest = docstring.partition("\n\n")
    opening = ""
    if found := leading_formula(first):
        converted = display(found[0])
        opening = f"$$\n{converted}\n$$\n\n" if converted else f"```text\n{found[0]}\n```\n\n"
        first = found[1]
    lines = []
    in_list = False
    for line in f"{first}{blank}{rest}".splitlines():
        if line and not line.startswith(" "):
            part = PART.match(line)
            in_list = part is not None and not part[1].startswith("Example")
        if in_list or not line.startswith("    "):
            pieces = re.split(r"(`+[^`]+`+|\$[^$\n]+\$)", line)
            pieces[::2] = [p.replace("<", "&lt;").replace("*", "\\*").replace("[", "&#91;") for p in pieces[::2]]
            line = "".join(pieces)
        lines.append(line)
    return opening + "\n".join(lines)

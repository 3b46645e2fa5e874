"""LaTeX as plain characters again, roughly: for the search, which shows what it finds as text.

    readable(r"y=\\frac{e^{x}}{\\sum _{j}s_{j}}")        # y = (e^x) / (Σ_js_j)

It is the way back from formulas.py, and knows what the chapters write besides.
"""

from __future__ import annotations

import re

from formulas import GREEK

SIGNS = {
    **{r"\sum": "Σ", r"\int": "∫", r"\top": "ᵀ", r"\cdot": "·", r"\times": "×", r"\le": "≤", r"\ge": "≥"},
    **{r"\to": "→", r"\gets": "←", r"\approx": "≈", r"\in": "∈", r"\mid": "|", r"\dots": "...", r"\ldots": "..."},
    **{r"\infty": "∞", r"\partial": "∂", r"\odot": "⊙", r"\circ": "∘", r"\pm": "±", r"\oplus": "⊕", r"\sqrt": "√"},
    **{r"\neq": "≠", r"\ne": "≠", r"\sim": "~", r"\quad": " ", r"\qquad": " ", r"\,": " ", r"\;": " ", r"\ ": " "},
}
GREEK_LETTERS = dict(zip(GREEK, "αβγδεθκλμπρστφψωΦΩ", strict=True))


def readable(tex: str) -> str:
    """LaTeX as plain characters."""
    tex = re.sub(r"\\(?:begin|end)\{\w+\*?\}|\\mathopen\{\}|&", "", tex)
    tex = re.sub(r"\\(?:left|right|displaystyle|[bB]igg?[lr]?)(?![a-z])", "", tex)
    tex = re.sub(r"\\\\(?:\[[\d.a-z]+\])?", "; ", tex)
    for _ in range(4):  # from the inside to the outside
        tex = re.sub(r"\\(?:text|math[a-z]+|operatorname\*?|hat|tilde|bar)\s*\{([^{}]*)\}", r"\1", tex)
        tex = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", _fraction, tex)
        tex = re.sub(r"([_^])\{([^{}]*)\}", lambda found: found[1] + _in_brackets(found[2]), tex)
        tex = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r"√(\1)", tex)
    tex = re.sub(r"(\\(?:[A-Za-z]+|.)) *(?=([A-Za-z0-9\\]?))", lambda found: _sign(found[1], found[2]), tex)
    tex = re.sub(r"\s*([=≤≥≈∈×→←~≠])\s*", r" \1 ", re.sub(r"[{}]", "", tex).replace("^ᵀ", "ᵀ"))
    return re.sub(r" (?=[_^);,])", "", " ".join(tex.split()))


def _fraction(found: re.Match[str]) -> str:
    return " / ".join(_in_brackets(part) for part in found.groups())


def _in_brackets(part: str) -> str:
    return part if re.fullmatch(r"\\?[A-Za-z0-9]+|\S", part.strip()) else f"({part.strip()})"


def _sign(command: str, following: str) -> str:
    """A command of LaTeX as a character, or its name, apart from the letter that follows."""
    name = command[1:].removeprefix("var")
    return SIGNS.get(command) or GREEK_LETTERS.get(name) or name + " " * bool(following)

"""Formulas in plain characters, as docstrings write them, as LaTeX.

    latex("y_i = e^(x_i) / sum_j e^(x_j)")        # y_{i} = e^{x_{i}} / \\sum_{j} e^{x_{j}}
    display("y = tanh x;  dx = g (1 - y^2)")      # two aligned lines

A docstring is read in an editor first, so it has no backslashes in it; on a page its formulas shall look like
formulas. What cannot be one (a quotation mark, a program, a sentence) gives None, and the page shows it as it stands.
"""

from __future__ import annotations

import re

GREEK = "alpha beta gamma delta epsilon eta theta kappa lambda mu pi rho sigma tau phi psi omega Phi Sigma Omega".split()
FUNCTIONS = "log exp sin cos tanh max min arg det".split()
OPERATORS = "softmax sigmoid silu gelu relu sign erf rowsum mean var rms_norm layer_norm clip round".split()
SYMBOLS = {
    **{"<=": r"\le ", ">=": r"\ge ", "==": "=", "!=": r"\ne ", "->": r"\to ", "...": r"\dots ", "..": r"\,..\,", "+=": r"\mathrel{+}="},
    **{"*": r"\cdot ", "·": r"\cdot ", "×": r"\times ", "@": r"\,@\,", "≈": r"\approx ", "∈": r"\in ", "−": "-", "≤": r"\le ", "≥": r"\ge "},
    **{"∂": r"\partial ", "∞": r"\infty ", "√": r"\surd ", "⊙": r"\odot ", "Σ": r"\sum ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∇": r"\nabla "},
    **{"Φ": r"\Phi ", "φ": r"\varphi ", "σ": r"\sigma ", "θ": r"\theta ", "δ": r"\delta ", "ε": r"\varepsilon ", "λ": r"\lambda ", "μ": r"\mu "},
    **{"π": r"\pi ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "ω": r"\omega ", "τ": r"\tau ", "Δ": r"\Delta ", "~": r"\sim "},
    **{"{": r"\{", "}": r"\}", "%": r"\%"},
    **{sign: sign for sign in "=+-/<>()[],:;|!'."},
}
RAISED = {"ᵀ": r"^\top", "²": "^2", "³": "^3", "⁻¹": "^{-1}", "′": "'"}
TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>\d+(?:\.\d+)?(?:e-\d+)?)|(?P<word>[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*)"
    r"|(?P<raised>ᵀ|²|³|⁻¹|′)|(?P<sub>_)|(?P<power>\^)|(?P<symbol>\.\.\.|\.\.|<=|>=|==|!=|->|\+=|[^\w\s])|(?P<other>.)"
)
# More of these in a line than that, and it is a sentence with a formula in it.
GLUE = set("the of is are with which where that from for by and in to as its it a an one each all over not has".split())
MOST_GLUE = 3


def latex(text: str) -> str | None:
    """One formula as LaTeX, or None."""
    tokens: list[tuple[str, str]] = []
    for found in TOKEN.finditer(text):
        kind = found.lastgroup or "other"
        tokens.append((kind, found[0]))
    words = [value for kind, value in tokens if kind == "word"]
    if sum(word in GLUE for word in words) > MOST_GLUE:
        return None
    try:
        result, end = _sequence(tokens, 0, "")
    except ValueError:
        return None
    return result.strip() if end == len(tokens) else None


def display(text: str) -> str | None:
    """A block of formulas as LaTeX for display: one line for each, aligned at the first sign of equality; or None."""
    lines = []
    for line in text.splitlines():
        # equations beside each other go below each other: a page is narrower than an editor
        for piece in re.split(r";\s+|,? {2,}(?=\S)", line.strip()):
            piece = piece.strip().removesuffix(";").removesuffix(",")
            converted = latex(piece.removesuffix(".") if piece.endswith(".") and not piece.endswith("..") else piece)
            if converted is None:
                return None
            if converted:
                lines.append(converted)
    if not lines or not any("=" in line for line in lines):
        return None
    if len(lines) == 1:
        return lines[0]
    aligned = [line.replace("=", "&=", 1) if "=" in line else f"&\\quad {line}" for line in lines]
    return "\\begin{aligned}" + " \\\\ ".join(aligned) + "\\end{aligned}"


def _sequence(tokens: list[tuple[str, str]], position: int, closing: str) -> tuple[str, int]:
    """Tokens up to the sign `closing` that ends a group (or to the end), and where that is."""
    html = ""
    after_word = False
    while position < len(tokens):
        kind, value = tokens[position]
        if closing and value == closing:
            return html, position
        if kind == "space":
            html += r"\quad " if len(value) > 2 else " "
            position += 1
            continue
        if kind == "word":
            piece = _word(value)
            html += (r"\ " if after_word else "") + piece
            after_word = True
            position += 1
            if value == "sqrt" and position < len(tokens) and tokens[position][1] == "(":
                inner, position = _sequence(tokens, position + 1, ")")
                html = html.removesuffix(piece) + rf"\sqrt{{{inner}}}"
                position = _closed(tokens, position)
            continue
        if kind in ("sub", "power"):
            sign = "_" if kind == "sub" else "^"
            inner, position = _script(tokens, position + 1)
            html += f"{sign}{{{inner}}}"
            continue
        if kind == "raised":
            html += RAISED[value]
        elif kind == "number":
            html += value
        elif kind == "symbol" and value in SYMBOLS:
            if value == "(":
                inner, position = _sequence(tokens, position + 1, ")")
                _closed(tokens, position)
                html += rf"({inner})"
                after_word = True
                position += 1
                continue
            if value == ")":
                raise ValueError("a bracket that nothing opened")
            html += SYMBOLS[value]
        else:
            raise ValueError(f"{value!r} stands in no formula")
        after_word = kind in ("raised", "number") or value in ("]", "'")
        position += 1
    if closing:
        raise ValueError("a bracket that is not closed")
    return html, position


def _closed(tokens: list[tuple[str, str]], position: int) -> int:
    if position >= len(tokens) or tokens[position][1] != ")":
        raise ValueError("a bracket that is not closed")
    return position + 1


def _script(tokens: list[tuple[str, str]], position: int) -> tuple[str, int]:
    """What stands raised or lowered: a group in brackets, or one token (with its sign)."""
    if position >= len(tokens):
        raise ValueError("nothing is raised or lowered")
    kind, value = tokens[position]
    if value == "(":
        inner, end = _sequence(tokens, position + 1, ")")
        return inner, _closed(tokens, end)
    if value == "-":
        inner, end = _script(tokens, position + 1)
        return f"-{inner}", end
    if kind == "word":
        return _word(value), position + 1
    if kind == "number":
        return value, position + 1
    raise ValueError(f"{value!r} cannot be raised or lowered")


def _word(word: str) -> str:
    """A name: a letter, a Greek letter, a function, a differential, or a word in upright letters."""
    if word in OPERATORS:
        return rf"\operatorname{{{_plain(word)}}}"
    base, sign, below = word.partition("_")
    if sign:
        if len(below) > 2 or "_" in below or (len(base) > 1 and len(below) > 1 and base not in ("sum", "prod", "log")):
            return rf"\mathtt{{{_plain(word)}}}"
        return f"{_word(base)}_{{{below if len(below) == 1 else _script_letters(below)}}}"
    if word in ("sum", "prod"):
        return rf"\{word}"
    if word == "eps":
        return r"\varepsilon "
    if word in GREEK or word in FUNCTIONS:
        return rf"\{word} "
    if len(word) == 1:
        return word
    if re.fullmatch(r"[THDBCKV][a-z0-9]", word):
        return f"{word[0]}_{{{word[1]}}}"  # Tq, Tk, Dv
    if re.fullmatch(r"d[A-Za-z]", word) and word != "do":
        return rf"\mathrm{{d}}{word[1]}"
    if re.fullmatch(r"[a-z]\d", word):
        return f"{word[0]}_{word[1]}"
    return rf"\mathrm{{{_plain(word)}}}"


def _script_letters(letters: str) -> str:
    return letters if letters.isdigit() or len(letters) == 2 else rf"\mathrm{{{letters}}}"


def _plain(word: str) -> str:
    return word.replace("_", r"\_")

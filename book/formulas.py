"""Formulas in plain characters, as docstrings write them, as LaTeX.

    latex("y_i = e^(x_i) / sum_j e^(x_j)")        # y_{i} = e^{x_{i}} / \\sum_{j} \\,e^{x_{j}}
    display("y = tanh x;  dx = g (1 - y^2)")      # two aligned lines

A docstring is read in an editor first, so it has no backslashes in it; on a page its formulas shall look like
formulas. What cannot be one (a quotation mark, a program, a sentence) gives None, and the page shows it as it stands.
"""

from __future__ import annotations

import re

GREEK = "alpha beta gamma delta epsilon theta kappa lambda mu pi rho sigma tau phi psi omega Phi Omega".split()
FUNCTIONS = "log exp sin cos tanh max min arg det".split()
FUNCTION = re.compile(r"\\(?:sum|prod|operatorname|log|exp|sin|cos|tanh|max|min|arg|det)(?![a-z])")
OPERATORS = "softmax sigmoid silu gelu relu sign erf rowsum mean var rms_norm layer_norm clip round".split()
SYMBOLS = {
    **{"<=": r"\le ", ">=": r"\ge ", "==": "=", "!=": r"\ne ", "->": r"\to ", "<-": r"\gets ", "+=": r"\mathrel{+{=}}"},
    **{"...": r"\dots ", "..": r"\,..\,", "*": r"\cdot ", "·": r"\cdot ", "×": r"\times ", "@": r"\,@\,", "−": "-"},
    **{"≈": r"\approx ", "∈": r"\in ", "≤": r"\le ", "≥": r"\ge ", "∘": r"\circ ", "±": r"\pm ", "~": r"\sim "},
    **{"⌈": r"\lceil ", "⌉": r"\rceil ", "{": r"\{", "}": r"\}", "%": r"\%"},
    **{sign: sign for sign in "=+-/<>()[],:;|!'."},
}
LETTERS = {
    **{"α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\varepsilon ", "θ": r"\theta "},
    **{"λ": r"\lambda ", "μ": r"\mu ", "π": r"\pi ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\varphi ", "ω": r"\omega "},
    **{"Δ": r"\Delta ", "Φ": r"\Phi ", "∂": r"\partial ", "∞": r"\infty ", "∇": r"\nabla "},
}
RAISED = {"ᵀ": r"^\top", "²": "^2", "³": "^3", "⁻¹": "^{-1}", "′": "'"}
TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>\d+(?:\.\d+)?(?:e-\d+)?)|(?P<word>[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*)"
    r"|(?P<hat>\u0302)|(?P<raised>ᵀ|²|³|⁻¹|′)|(?P<sub>_)|(?P<power>\^)|(?P<symbol>\.\.\.|\.\.|<=|>=|==|!=|->|<-|\+=|[^\sA-Za-z0-9_])|(?P<other>.)"
)
# More of these in a line than that, and it is a sentence with a formula in it.
GLUE = set("the of is are with which where that from for by and in to as its it a an one each all over not has".split())
MOST_GLUE = 3
LONGEST_REMARK = 64


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
    if re.search(r"\w_\w{3,}\(|[a-z]\.[a-z]", text):
        return None  # a program, or names of one
    lines: list[str] = []
    remarks: list[str] = []
    for line in text.splitlines():
        # equations beside each other go below each other: a page is narrower than an editor
        beside = False
        for piece in re.split(r";\s+|,? {2,}(?=[^\s=])(?!\+=)", line.strip()):
            piece = re.sub(r"(?<!\.)[.;,]$", "", re.sub(r" {2,}", " ", piece.strip()))
            converted = latex(piece)
            if beside and "=" not in piece:  # words to the right of a formula
                words = converted if re.search(r"[_^]", piece) else rf"\text{{{piece}}}"
                if len(piece) > LONGEST_REMARK or re.search(r"[`$\\{}#%&\"]", piece) or not words or remarks[-1]:
                    return None
                remarks[-1] = rf" &&\quad {words}"
            elif converted is None:
                return None
            elif converted:
                lines.append(converted)
                remarks.append("")
                beside = True
    if not lines or 2 * sum("=" in line for line in lines) < len(lines):
        return None
    rows = [line + remark for line, remark in zip(map(_aligned, lines), remarks, strict=True)]
    if len(rows) == 1 and not remarks[0]:
        return lines[0]
    return "\\begin{aligned}" + " \\\\ ".join(rows) + "\\end{aligned}"


def _aligned(line: str) -> str:
    """A line with the mark at which it is aligned: before its first sign of equality."""
    if "=" not in line:
        return f"&\\quad {line}"
    return re.sub(r"(\\mathrel\{\+\{=\}\}|=)", r"&\1", line, count=1)


def _sequence(tokens: list[tuple[str, str]], position: int, closing: str) -> tuple[str, int]:
    """Tokens up to the sign `closing` that ends a group (or to the end), and where that is."""
    result = ""
    before = ""  # what stood last, if a factor: "word" in upright letters, "factor", or "" after a sign or a function
    spaced = False
    while position < len(tokens):
        kind, value = tokens[position]
        if closing and value == closing:
            return result, position
        position += 1
        if kind == "space":
            result += r"\quad " if len(value) > 2 else " "
            spaced = True
            continue
        if kind in ("sub", "power"):
            inner, position = _script(tokens, position)
            result += f"{'_' if kind == 'sub' else '^'}{{{inner}}}"
            continue
        if kind == "raised":
            result += RAISED[value]
            continue
        if kind == "hat":  # stands over the letter before it
            result = re.sub(r"(\w)$", r"\\hat{\1}", result)
            continue
        if kind == "word":
            if value == "sqrt" and position < len(tokens) and tokens[position][1] == "(":
                inner, position = _sequence(tokens, position + 1, ")")
                piece, now, position = rf"\sqrt{{{inner}}}", "factor", _closed(tokens, position)
            elif value == "sum" and position + 1 < len(tokens) and tokens[position + 1][1] in ("of", "over", "in"):
                piece, now = r"\mathrm{sum}", "word"
            else:
                piece = _word(value)
                now = "word" if piece.startswith(r"\mathrm{") and not piece.startswith(r"\mathrm{d}") else "factor"
                now = "" if FUNCTION.match(piece) else now
        elif kind == "number":
            piece, now = value, "factor"
        elif value in LETTERS:
            piece, now = LETTERS[value], "factor"
        elif kind == "symbol" and value == "(":
            inner, position = _sequence(tokens, position, ")")
            piece, now, position = rf"({inner})", "factor", _closed(tokens, position)
        elif kind == "symbol" and value in SYMBOLS and value != ")":
            result += SYMBOLS[value]
            before, spaced = "factor" if value in ("]", "'", "|") else "", False
            continue
        else:
            raise ValueError(f"{value!r} stands in no formula")
        if before and spaced:
            result += r"\ " if "word" in (before, now) else r"\,"
        result += piece
        before, spaced = now, False
    if closing:
        raise ValueError("a bracket that is not closed")
    return result, position


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
    if value == "{":
        inner, end = _sequence(tokens, position + 1, "}")
        return inner, end + 1
    if value in LETTERS:
        return LETTERS[value], position + 1
    if value == "-":
        inner, end = _script(tokens, position + 1)
        return f"-{inner}", end
    if kind == "word":
        return value if len(value) == 2 else _word(value), position + 1
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

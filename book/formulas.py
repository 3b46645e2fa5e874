"""A formula in plain characters, as docstrings write it, as LaTeX.

    latex("y_i = e^(x_i) / sum_j e^(x_j)")        # y_{i} = \\frac{e^{x_{i}}}{\\sum_{j} e^{x_{j}}}
    latex("a sentence that is no formula")        # None

A docstring is read in an editor first, so it has no backslashes in it; on a page its formulas shall look like
formulas. What cannot be one (a quotation mark, a program, a sentence) gives None. blocks.py has what stands around
formulas: several lines of them, their names, and remarks.

The notation. Side by side is a product. `a b / c d` with spaces around the stroke is a fraction of the two products,
`1/n` is none. `x_ij`, `x_(t-1)`, `x^2` and `e^(-x)` lower and raise; `a ^ b` with spaces is the exclusive or. `sum over
rows of x` is a sum with `rows` below it, and so are `mean over` and `max over`. Greek letters may be written out.
"""

from __future__ import annotations

import re

GREEK = "alpha beta gamma delta epsilon theta kappa lambda mu pi rho sigma tau phi psi omega Phi Omega".split()
FUNCTIONS = "log exp sin cos tanh max min arg det".split()
FUNCTION = re.compile(r"\\(?:sum|prod|operatorname|log|exp|sin|cos|tanh|max|min|arg|det)(?![a-z])")
OPERATORS = (
    "softmax sigmoid silu gelu relu sign erf rowsum rowmax mean var std rms_norm layer_norm clip round argmax argmin "
    "onehot"
).split()
OVER = ("sum", "mean", "max", "min", "prod")  # these may be taken "over" something
SYMBOLS = {
    **{"<=": r"\le ", ">=": r"\ge ", "==": "=", "!=": r"\ne ", "->": r"\to ", "<-": r"\gets ", "+=": r"\mathrel{+{=}}"},
    **{"...": r"\dots ", "..": r"\,..\,", "*": r"\cdot ", "·": r"\cdot ", "×": r"\times ", "@": r"\,@\,", "−": "-"},
    **{"≈": r"\approx ", "∈": r"\in ", "≤": r"\le ", "≥": r"\ge ", "∘": r"\circ ", "±": r"\pm ", "~": r"\sim "},
    **{"⌈": r"\lceil ", "⌉": r"\rceil ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "{": r"\{", "}": r"\}", "%": r"\%"},
    **{sign: sign for sign in "=+-/<>()[],:;|!'."},
}
RELATIONS = ("=", "==", "<=", ">=", "≤", "≥", "<", ">", "≈", "∈", "~", "+=", "<-", "!=")
JOINED = ("'", "|", "!", "[", "]", "{", "}", "⌈", "⌉", "⌊", "⌋")  # part of a product; other signs end one
LETTERS = {
    **{"α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\varepsilon ", "θ": r"\theta "},
    **{"λ": r"\lambda ", "μ": r"\mu ", "π": r"\pi ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\varphi ", "ω": r"\omega "},
    **{"Δ": r"\Delta ", "Φ": r"\Phi ", "∂": r"\partial ", "∞": r"\infty ", "∇": r"\nabla "},
    **{"Σ": r"\sum ", "∫": r"\int "},
}
RAISED = {"ᵀ": r"^\top", "²": "^2", "³": "^3", "⁻¹": "^{-1}", "′": "'"}
TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>\d+(?:\.\d+)?(?:e-\d+)?)|(?P<word>[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*)"
    r"|(?P<hat>\u0302)|(?P<raised>ᵀ|²|³|⁻¹|′)|(?P<sub>_)|(?P<power>\^)|(?P<root>√)"
    r"|(?P<symbol>\.\.\.|\.\.|<=|>=|==|!=|->|<-|\+=|[^\sA-Za-z0-9_])|(?P<other>.)"
)
# Words of sentences. More of these in a formula than that, and it is a sentence with a formula in it.
GLUE = set("the of is are with which where that from for by and in to as its it a an one each all over not has".split())
GLUE |= {"if", "else", "or"}
MOST_GLUE = 3
SHORT = 12  # characters of an argument: in exp(x / T) the stroke stays on its line
MARK = "\ue000"
"""Stands before each sign of equality (or another relation) outside of brackets: where a formula may be aligned."""


def latex(text: str) -> str | None:
    """One formula as LaTeX, or None."""
    marked = marked_latex(text)
    return None if marked is None else marked.replace(MARK, "")


def marked_latex(text: str) -> str | None:
    """`latex` with a MARK before each relation."""
    tokens = [(found.lastgroup or "other", found[0]) for found in TOKEN.finditer(text.strip())]
    words = [value for kind, value in tokens if kind == "word"]
    if sum(word in GLUE and word != "a" for word in words) > MOST_GLUE + 2 * words.count("over"):
        return None
    parser = _Parser(tokens)
    try:
        result = parser.sequence("", marked=True)
    except ValueError:
        return None
    return result.replace(r" }\text{ ", " ").strip() if parser.position == len(tokens) else None


class _Group(str):
    """A group in round brackets that has not been raised or lowered: as a part of a fraction it needs none."""

    inner: str


class _Parser:
    """Goes through the tokens of a formula once, from left to right."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.position = 0
        self.small = 0  # inside of something raised or lowered, where a fraction stays on its line

    def value(self, ahead: int = 0) -> str:
        """The text of a token, "" after the last one."""
        there = self.position + ahead
        return self.tokens[there][1] if 0 <= there < len(self.tokens) else ""

    def kind(self, ahead: int = 0) -> str:
        """The kind of a token, "" after the last one."""
        there = self.position + ahead
        return self.tokens[there][0] if 0 <= there < len(self.tokens) else ""

    def sequence(self, closing: str, marked: bool = False) -> str:
        """Tokens up to the sign `closing` that ends a group (or to the end)."""
        parts: list[str] = []
        start = 0  # where the product that is being written begins among the parts
        stroke: int | None = None  # and where what stands below its stroke of a fraction does
        before = ""  # what stood last: "word" in upright letters, "factor", or "" after a sign or a function
        spaced = False

        def end_product() -> None:
            nonlocal start, stroke
            if stroke is not None:
                above, below = (_without_brackets(p) for p in (parts[start:stroke], parts[stroke:]))
                parts[start:] = [rf"\frac{{{above}}}{{{below}}}"]
                if not below:
                    raise ValueError("nothing below the stroke")
            start, stroke = len(parts), None

        def put_sign(text: str) -> None:
            nonlocal start
            end_product()
            parts.append(text)
            start = len(parts)

        while self.position < len(self.tokens):
            kind, value = self.kind(), self.value()
            if closing and value == closing:
                end_product()
                return "".join(parts)
            wide = bool(spaced or not parts) and self.kind(1) in ("space", "")  # a sign with spaces around it
            self.position += 1
            if kind == "space":
                if len(value) > 2:
                    put_sign(r"\quad ")
                spaced = True
                continue
            if kind == "power" and wide and spaced:
                put_sign(r"\oplus ")
                before, spaced = "", False
                continue
            if kind in ("sub", "power"):
                inner = self.script()
                parts.append(str(parts.pop() if parts else "") + f"{'_' if kind == 'sub' else '^'}{{{inner}}}")
                before = before or "factor" if kind == "sub" and value == "_" and before else before
                continue
            if kind == "raised":
                parts.append(str(parts.pop() if parts else "") + RAISED[value])
                continue
            if kind == "hat":  # stands over the letter before it
                if parts:
                    parts[-1] = re.sub(r"(\w)$", r"\\hat{\1}", parts[-1])
                continue
            if kind == "root":
                piece, now = self.root(), "factor"
            elif kind == "word" and value in OVER and (below := self.over()) is not None:
                operator = rf"\{value}" if value in ("sum", "prod", "max", "min") else rf"\operatorname*{{{value}}}"
                piece, now = rf"{operator}_{{{below}}} ", ""
            elif kind == "word" and value == "sqrt":
                piece, now = self.root(), "factor"
            elif kind == "word" and value in GLUE and len(value) > 1:
                if value == "in" and self.value(1) in ("{", "[") and spaced:
                    put_sign(r"\in ")
                else:
                    put_sign(rf"\text{{{' ' if parts else ''}{value} }}")
                before, spaced = "", False
                continue
            elif kind == "word":
                piece = self.word(value)
                now = "word" if piece.startswith(r"\mathrm{") and not piece.startswith(r"\mathrm{d}") else "factor"
                now = "" if FUNCTION.match(piece) else now
            elif kind == "number":
                piece, now = _number(value), "factor"
            elif value in LETTERS:
                piece, now = LETTERS[value], "" if value in "∂Σ∫" else "factor"
            elif kind == "symbol" and value == "(":
                argument = bool(parts) and not spaced and self.kind(-2) == "word" and 0 < self.closes() <= SHORT
                self.small += argument
                inner = self.sequence(")")
                self.small -= argument
                self.close(")")
                piece, now = _bracketed("(", inner, ")"), "factor"
            elif kind == "symbol" and value == "/" and wide and spaced and not self.small and start < len(parts):
                if stroke is not None:  # a / b / c
                    first = start
                    end_product()
                    start = first
                stroke = len(parts)
                before, spaced = "", False
                continue
            elif kind == "symbol" and value == "|" and wide and spaced and parts:
                put_sign(r"\mid ")
                before, spaced = "", False
                continue
            elif value == "[" and self.closes("]"):
                inner = self.sequence("]")
                self.close("]")
                piece, now = f"[{inner}]", "factor"
            elif kind == "symbol" and value in JOINED:
                if value in "'!]" or (value == "|" and not (spaced or before == "")):
                    parts.append(SYMBOLS[value])
                else:
                    parts.append((r"\," if before and spaced else "") + SYMBOLS[value])
                before, spaced = "factor" if value in ("]", "'", "|", "⌉", "⌋") else "", False
                if value == "|" and not (self.kind() in ("space", "") or self.value() in ")],"):
                    before = ""  # the bar that opens
                continue
            elif kind == "symbol" and value in SYMBOLS and value != ")":
                sign = SYMBOLS[value]
                if value == "/" or (value in "*·" and stroke is None):  # a stroke within a line
                    parts.append(sign)
                else:
                    put_sign((MARK if marked and value in RELATIONS else "") + sign)
                before, spaced = "", False
                continue
            else:
                raise ValueError(f"{value!r} stands in no formula")
            if now == "word" and stroke is not None and len(parts) > stroke and isinstance(parts[-1], _Group):
                end_product()  # a / (b) and words
            if before and spaced:
                parts.append(r"\ " if "word" in (before, now) else r"\,")
            parts.append(piece)
            before, spaced = now, False
        if closing:
            raise ValueError("a bracket that is not closed")
        end_product()
        return "".join(parts)

    def close(self, sign: str) -> None:
        """Step over the sign that closes a group."""
        if self.value() != sign:
            raise ValueError("a bracket that is not closed")
        self.position += 1

    def closes(self, closing: str = ")") -> int:
        """How many characters there are up to the bracket that closes this group; 0 if another one does, or none."""
        depth, characters = 1, 0
        for _, value in self.tokens[self.position :]:
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(value, 0)
            if depth == 0:
                return characters if value == closing else 0
            characters += len(value)
        return 0

    def root(self) -> str:
        """What stands after `sqrt` or √: a group, or one factor."""
        if self.kind() == "space":
            self.position += 1
        if self.value() == "(":
            self.position += 1
            inner = self.sequence(")")
            self.close(")")
            return rf"\sqrt{{{inner}}}"
        return rf"\sqrt{{{self.script()}}}"

    def over(self) -> str | None:
        """What a sum is taken over, where the words `over ... of` follow; else None, and nothing is read."""
        if [self.value(i) for i in (0, 1, 2)] != [" ", "over", " "]:
            return None
        here = self.position
        end = next((i for i in range(3, 20) if self.value(i) == "of" and self.value(i + 1) == " "), None)
        if end is None:
            return None
        inside = self.tokens[here + 3 : here + end - 1]
        if any(kind not in ("word", "number", "space") and value not in (*"()=.", "..") for kind, value in inside):
            return None
        self.position = here + end + 2
        words = "".join(value for _, value in inside)
        if any(len(value) == 1 or "_" in value for kind, value in inside if kind == "word"):
            return _Parser(inside).sequence("")
        return rf"\text{{{words}}}"

    def script(self) -> str:
        """What stands raised or lowered: a group in brackets, or one token (with its sign)."""
        kind, value = self.kind(), self.value()
        if not kind:
            raise ValueError("nothing is raised or lowered")
        self.position += 1
        if value in ("(", "{"):
            closing = {"(": ")", "{": "}"}[value]
            self.small += 1
            inner = self.sequence(closing)
            self.small -= 1
            self.close(closing)
            return inner
        if value in LETTERS:
            return LETTERS[value]
        if value in ("-", "<"):
            return f"{value}{self.script()}"
        if kind == "word":
            return value if len(value) == 2 else self.word(value)
        if kind == "number":
            return value
        raise ValueError(f"{value!r} cannot be raised or lowered")

    def word(self, word: str) -> str:
        """A name: a letter, a Greek letter, a function, a differential, or a word in upright letters."""
        if word in OPERATORS:
            return rf"\operatorname{{{_plain(word)}}}"
        base, sign, below = word.partition("_")
        if sign:
            if len(below) > 2 or "_" in below:
                return rf"\mathtt{{{_plain(word)}}}"
            return f"{self.word(base)}_{{{below}}}"
        if word in ("sum", "prod"):
            # without an index and with words behind it, it is a word as well
            return rf"\mathrm{{{word}}}" if self.value(1) in ("of", "over", "in") else rf"\{word} "
        if word == "log2":
            return r"\log_2 "
        if word == "eps":
            return r"\varepsilon "
        if word in GREEK or word in FUNCTIONS:
            return rf"\{word} "
        if len(word) == 1:
            return word
        if found := re.fullmatch(r"([a-z])(\d)", word):
            return f"{found[1]}_{found[2]}"
        if re.fullmatch(r"[THDBCKV][a-z0-9]", word):
            return f"{word[0]}_{{{word[1]}}}"  # Tq, Tk, Dv
        if re.fullmatch(r"d[A-Za-z]", word) and word != "do":
            return rf"\mathrm{{d}}{word[1]}"
        if re.fullmatch(r"[a-z]hat", word):
            return rf"\hat{{{word[0]}}}"
        return rf"\mathrm{{{_plain(word)}}}"


def _bracketed(opening: str, inner: str, closing: str) -> _Group:
    """A group, its brackets as high as what stands in them."""
    if re.search(r"\\frac|\\sum|\\sqrt", inner):
        group = _Group(rf"\mathopen{{}}\left{opening}{inner}\right{closing}")
    else:
        group = _Group(f"{opening}{inner}{closing}")
    group.inner = inner
    return group


def _without_brackets(parts: list[str]) -> str:
    """What stands above or below the stroke of a fraction."""
    parts = [p for p in parts if p.strip(r" \,")] if len(parts) <= 2 else parts
    if len(parts) == 1 and isinstance(parts[0], _Group):
        return parts[0].inner
    return "".join(parts).strip().removeprefix(r"\,")


def _number(text: str) -> str:
    """A number; 1e-6 as a power of ten."""
    digits, sign, power = text.partition("e")
    if not sign:
        return digits
    return f"10^{{{int(power)}}}" if digits == "1" else rf"{digits}\cdot 10^{{{int(power)}}}"


def _plain(word: str) -> str:
    return word.replace("_", r"\_")

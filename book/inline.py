"""Formulas that stand in a sentence: From ∂y_i/∂x_j = y_i (δ_ij - y_j): the Jacobian is symmetric.

    with_formulas_set("so that e^y = x holds")        # so that $e^{y}=x$ holds

A formula is a run of words that could each be a part of one, with a sign in it that sentences do not have. What goes
on in words ("dW = sum over the steps") is left as it was written, and so is what is in doubt: a formula in plain
characters can be read, half of one set and half not is worse.
"""

from __future__ import annotations

import re

from formulas import FUNCTIONS, GREEK, OPERATORS, latex

NAMES = {*FUNCTIONS, *OPERATORS, *GREEK, "sum", "sqrt", "eps", "lse"}
SIGN = re.compile(r"(?<![<>!=:])=(?!=)|\^|∂|≈|ᵀ|Σ|≤|≥|√|²|³|\bsum_")
"""What makes a formula of a run of words."""
OPEN_END = re.compile(r"(?:^|[ (])(?:[-=+/·*<>≤≥≈]|\+=|->|(?:sum|prod|max|min|mean|log|exp|std|argmax)(?:_\w+)?)$")
"""What comes next belongs to it."""
GOING_ON = re.compile(r"\[|\.\.|\.$|\w+\(")
"""This belongs to what came before."""
OPEN_START = re.compile(r"[-=+/·*<>≤≥≈]")
NOT_MATH = re.compile(r"[`$\"#?!\\&:;~{}¤]|\w\.|\.\w|__|'\w|[<>]\w|\w>|\w=|=\w|[A-Z]{3}|\^-?\d+[A-Za-z|]")
NUMBER = re.compile(r"\d+\.\d+")
BREAK = re.compile(r"\n[ \t]*(?:[-*+]|\d+\.) ")


def with_formulas_set(text: str) -> str:
    """Words with their formulas as LaTeX between dollars."""
    parts = re.split(r"(\s+)", text)  # words, and what is between them
    done: list[str] = []
    run: list[str] = []
    in_words = False  # from "dW = sum" on, up to the next stop

    def end() -> None:
        done.extend(run if in_words else _set(run))
        run.clear()

    for i, part in enumerate(parts):
        if i % 2:
            if BREAK.match(part + (parts[i + 1] if i + 1 < len(parts) else "") + " "):
                end()
            (run if run else done).append(part)
            continue
        word = part.rstrip(".,;:")
        if not _may_belong(word):
            in_words |= bool(run) and bool(OPEN_END.search("".join(run).rstrip()) or GOING_ON.match(part))
            end()
            done.append(part)
            in_words &= part[-1:] not in ".,;:"
            continue
        run.append(part)
        inside = "".join(run)
        if part[-1] in ".;:" or (part[-1] == "," and inside.count("(") == inside.count(")")):
            end()
            in_words = False
    end()
    return "".join(done)


def _may_belong(word: str) -> bool:
    """Could it be a part of a formula?"""
    if not word or NOT_MATH.search(NUMBER.sub("1", word)):
        return False
    names = re.findall(r"[A-Za-z]+", re.sub(r"_(?:\w+|\([^)]*\))", "", word))
    return all(name in NAMES or re.fullmatch(r"[A-Za-z]|d[A-Za-z]", name) for name in names)


def _set(run: list[str]) -> list[str]:
    """A run, its formula set if it is one."""
    first, last = 0, len(run)
    while first < last and (run[first].isspace() or run[first] in ("a", "A", "I")):
        first += 1
    while last > first and (run[last - 1].isspace() or run[last - 1] in ("a", "A", "I")):
        last -= 1
    whole = "".join(run[first:last])
    core = whole.rstrip(".,;:")
    if len(core) < 3 or not SIGN.search(core) or OPEN_START.match(core) or OPEN_END.search(core):
        return run
    if not _balanced(core) or "   " in core:
        return run
    tex = latex(" ".join(core.split()))
    if tex is None:
        return run
    return [*run[:first], f"${tex}${whole[len(core) :]}", *run[last:]]


def _balanced(text: str) -> bool:
    """True if every bracket and bar has its other half, the opening one first."""
    text = re.sub(r" \| |[^][()|]", "", text)  # p(a | b): a bar that stands alone
    while shorter := re.sub(r"\(\)|\[\]|\|\|", "", text):
        if shorter == text:
            return False
        text = shorter
    return True

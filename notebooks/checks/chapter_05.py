"""Checkers of chapter 5, from text to numbers: each says what is wrong with an answer, or that nothing is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from checks import NotYet
from checks.answers import shown, written

MERGES = [(97, 97), (256, 98), (257, 257), (99, 258)]
"""aa, aab, aabaab, caabaab."""


def check_utf8_length(utf8_length: Callable[[int], int]) -> None:
    """Exercise 5.1: bytes of a character."""
    for code_point in (65, 0, 127, 128, 233, 2047, 2048, 8364, 65535, 65536, 128008, 0x10FFFF):
        expected = 1 if code_point < 128 else 2 if code_point < 2048 else 3 if code_point < 65536 else 4
        got = written(utf8_length(code_point), f"utf8_length({code_point})")
        if got != expected:
            edge = code_point in (127, 128, 2047, 2048, 65535, 65536)
            why = (
                "the last code point of a row of the table belongs to that row: is a < a <= ?"
                if edge and abs(got - expected) == 1
                else "look into which row of the table the code point falls"
            )
            raise NotYet(f"utf8_length({code_point}) is {got}; U+{code_point:04X} takes {expected} bytes: {why}")
    print("utf8_length is right: it knows the bytes of every character")


def check_count_pairs(count_pairs: Callable[[list[list[int]]], Any]) -> None:
    """Exercise 5.2: pairs within texts."""
    cases: list[list[list[int]]] = [[[1, 2, 1, 2]], [[1, 2], [3, 4]], [[5, 5, 5]], [[7]], [[], [1, 2]]]
    for texts in cases:
        expected: Counter[tuple[int, int]] = Counter()
        for ids in texts:
            expected.update(zip(ids, ids[1:], strict=False))
        call = f"count_pairs_in_texts({texts})"
        answer = written(count_pairs([list(t) for t in texts]), call)
        if not isinstance(answer, Mapping):
            raise NotYet(f"{call}: return a dict from each pair to its count, not {shown(answer)}")
        got = {pair: n for pair, n in answer.items() if n}
        if got == dict(expected):
            continue
        across = {(a[-1], b[0]) for a, b in zip(texts, texts[1:], strict=False) if a and b}
        if across & set(got) - set(expected):
            pair = next(iter(across & set(got) - set(expected)))
            why = f"the pair {pair} reaches from one text into the next"
        elif texts == [[5, 5, 5]]:
            why = "in 5 5 5 the pair (5, 5) stands at two places that share the middle 5; counting takes both"
        else:
            why = f"expected {dict(expected)}"
        raise NotYet(f"{call} is {got}: {why}")
    print("count_pairs_in_texts is right: every pair, and none across two texts")


def check_expand(expand: Callable[[int, Sequence[tuple[int, int]]], bytes]) -> None:
    """Exercise 5.3: what a token stands for."""
    expected = {97: b"a", 256: b"aa", 257: b"aab", 258: b"aabaab", 259: b"caabaab"}
    for token, text in expected.items():
        call = f"expand({token}, {MERGES})"
        try:
            got = written(expand(token, MERGES), call)
        except RecursionError:
            raise NotYet(f"{call} never ends: a token below 256 is a byte, token 256 is merge number 0") from None
        except IndexError:
            raise NotYet(f"{call} looks for a merge that is not there: token 256 is merge number 0") from None
        except ValueError as error:
            why = "a part of a merge may itself be a merge, and then stands for several bytes"
            raise NotYet(f"{call} raises ValueError ({error}): {why}") from None
        if isinstance(got, list | tuple):
            raise NotYet(f"{call} is {got!r}: return bytes, not a {type(got).__name__}: bytes({got!r})")
        if token == 97 and got == bytes(97):
            raise NotYet(f"{call}: bytes(97) is 97 zeros; the byte with the value 97 is bytes([97])")
        if isinstance(got, str):
            raise NotYet(f"{call} is the string {got!r}: a token stands for bytes, which need not be whole characters")
        if got != text:
            turned = " (the two parts are in the wrong order)" if bytes(got) == text[::-1] and got != text else ""
            raise NotYet(f"{call} is {got!r}, and the token stands for {text!r}{turned}")
    print("expand is right: it finds the bytes of every token")


def check_cut_word(cut_word: Callable[[str, set[str]], list[str]]) -> None:
    """Exercise 5.4: WordPiece."""
    vocabulary = {"un", "una", "##aff", "##able", "##ff", "##a", "a", "cat", "##s", "able"}
    for word, expected in {
        "cats": ["cat", "##s"],
        "a": ["a"],
        "unaffable": ["una", "##ff", "##able"],
        "able": ["able"],
        "catx": ["[UNK]"],
        "xcat": ["[UNK]"],
    }.items():
        call = f"cut_word({word!r}, {sorted(vocabulary)})"
        got = list(written(cut_word(word, set(vocabulary)), call))
        if got == expected:
            continue
        if expected == ["[UNK]"]:
            why = "if any part of the word cannot be found, the whole word is [UNK]"
        elif "able" in got and word != "able" or got and not any(p.startswith("##") for p in got[1:]) and len(got) > 1:
            why = "a piece that goes on begins with ##"
        elif word == "cats" and got == ["[UNK]"]:
            why = "after the first piece a piece is looked up with ## before it"
        elif got[:1] == ["un"]:
            why = '"una" is longer than "un", and WordPiece takes the longest piece, even if a shorter one cuts better'
        else:
            why = "take the longest piece that fits, from the left"
        raise NotYet(f"cut_word({word!r}) is {got}, expected {expected}: {why}")
    print("cut_word is right: it cuts as BERT does")

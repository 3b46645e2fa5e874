"""The checkers of chapter 5: a right answer passes (the solutions in the chapter), each usual mistake is named."""

from collections import Counter
from itertools import chain

import pytest

from checks import NotYet, chapter_05


def test_utf8_length_names_the_edges_of_the_rows():
    with pytest.raises(NotYet, match=r"utf8_length\(127\) is 2.*< a <="):
        chapter_05.check_utf8_length(lambda c: 1 if c < 127 else 2 if c < 2047 else 3 if c < 65535 else 4)
    with pytest.raises(NotYet, match="write the body"):
        chapter_05.check_utf8_length(lambda c: ...)


def test_count_pairs_names_a_pair_across_two_texts_and_places_that_overlap():
    def joined(texts):
        ids = list(chain(*texts))
        return Counter(zip(ids, ids[1:], strict=False))

    def without_overlap(texts):
        total = Counter()
        for ids in texts:
            i = 0
            while i + 1 < len(ids):
                total[ids[i], ids[i + 1]] += 1
                i += 2 if ids[i] == ids[i + 1] else 1
        return total

    with pytest.raises(NotYet, match=r"\(2, 3\) reaches from one text into the next"):
        chapter_05.check_count_pairs(joined)
    with pytest.raises(NotYet, match="share the middle 5"):
        chapter_05.check_count_pairs(without_overlap)
    with pytest.raises(NotYet, match="return a dict"):
        chapter_05.check_count_pairs(lambda texts: [pair for ids in texts for pair in zip(ids, ids[1:], strict=False)])


def test_expand_names_an_endless_recursion_a_shift_and_strings():
    def endless(token, merges):
        left, right = merges[token % len(merges)]
        return endless(left, merges) + endless(right, merges)

    def shifted(token, merges):
        return bytes([token]) if token < 256 else b"".join(shifted(part, merges) for part in merges[token - 255])

    def text(token, merges):
        return chr(token) if token < 256 else "".join(text(part, merges) for part in merges[token - 256])

    def one_level(token, merges):
        return bytes([token]) if token < 256 else bytes(merges[token - 256])

    with pytest.raises(NotYet, match="a part of a merge may itself be a merge"):
        chapter_05.check_expand(one_level)
    with pytest.raises(NotYet, match=r"bytes\(97\) is 97 zeros"):
        chapter_05.check_expand(lambda token, merges: bytes(token))
    with pytest.raises(NotYet, match="return bytes, not a list"):
        chapter_05.check_expand(lambda token, merges: [token])
    with pytest.raises(NotYet, match="never ends"):
        chapter_05.check_expand(endless)
    with pytest.raises(NotYet, match="token 256 is merge number 0|stands for"):
        chapter_05.check_expand(shifted)
    with pytest.raises(NotYet, match="stands for bytes"):
        chapter_05.check_expand(text)


def test_cut_word_names_the_missing_marks_and_the_shorter_piece():
    def cut(word, vocabulary, mark="##", longest=True):
        pieces, start = [], 0
        while start < len(word):
            ends = range(len(word), start, -1) if longest else range(start + 1, len(word) + 1)
            for end in ends:
                piece = (mark if start else "") + word[start:end]
                if piece in vocabulary:
                    break
            else:
                return pieces if mark == "rest" else ["[UNK]"]
            pieces.append(piece)
            start = end
        return pieces

    chapter_05.check_cut_word(cut)
    with pytest.raises(NotYet, match="looked up with ## before it"):
        chapter_05.check_cut_word(lambda w, v: cut(w, v, mark=""))
    with pytest.raises(NotYet, match='"una" is longer'):
        chapter_05.check_cut_word(lambda w, v: cut(w, v - {"una"}))
    with pytest.raises(NotYet, match="whole word is"):
        chapter_05.check_cut_word(lambda w, v: cut(w, v) if cut(w, v) != ["[UNK]"] else [w[:3], "[UNK]"])

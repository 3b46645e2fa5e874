"""Byte-pair encoding: the published example, training against the plain algorithm, encoding against the plain one."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from minilm.errors import TokenizerError
from minilm.text import BPETokenizer
from minilm.text.tokenizers import bpe
from minilm.text.tokenizers.pairs import PairIndex
from tests.text.hard_texts import HARD_TEXTS, texts

# Few letters, so that pairs repeat, overlap (aaa) and touch (abab).
repetitive = st.text("aab", max_size=40)


def replaced(ids, pair, new):
    """The ids with `new` for each pair, from left to right."""
    out, position = [], 0
    while position < len(ids):
        if tuple(ids[position : position + 2]) == pair:
            out.append(new)
            position += 2
        else:
            out.append(ids[position])
            position += 1
    return out


def plain_training(data, merges):
    """Count all pairs anew for each merge: the definition, and quadratic. data: lists of ids."""
    learnt = []
    while len(learnt) < merges:
        counts = Counter(pair for ids in data for pair in pairwise(ids))
        pair, count = min(counts.items(), key=lambda item: (-item[1], item[0]), default=(None, 0))
        if count < 2:
            break
        data = [replaced(ids, pair, 256 + len(learnt)) for ids in data]
        learnt.append(pair)
    return tuple(learnt)


def plain_encoding(data, merges):
    """Make every merge, in order."""
    for index, pair in enumerate(merges):
        data = replaced(data, pair, 256 + index)
    return data


def test_the_published_example_aaabdaaabac_becomes_XdXac():
    tokenizer = BPETokenizer.train("aaabdaaabac", 1000)
    Z, Y, X = 256, 257, 258
    a, b, c, d = b"abcd"
    assert tokenizer.merges == ((a, a), (a, b), (Z, Y)), "and then it stops: no pair occurs twice"
    assert tokenizer.encode("aaabdaaabac").tolist() == [X, d, X, a, c]
    assert tokenizer.tokens[256:] == (b"aa", b"ab", b"aaab") and tokenizer.vocab_size == 259
    assert tokenizer.decode([X, d, X, a, c]) == "aaabdaaabac"


@example(["aaaa"], 9)
@example(["aaaaa", "aaaaa"], 9)
@example(["ababab"], 9)
@example(["", "ab", "ab", ""], 9)
@given(st.lists(repetitive, max_size=4), st.integers(0, 12))
def test_training_gives_the_merges_of_the_plain_algorithm(documents, merges):
    if not any(documents):
        with pytest.raises(TokenizerError, match="no text"):
            BPETokenizer.train(documents, 300)
        return
    expected = plain_training([list(text.encode()) for text in documents], merges)
    assert BPETokenizer.train(documents, 256 + merges).merges == expected


@given(repetitive, st.integers(0, 12), repetitive)
def test_encoding_makes_the_merges_in_order(training_text, merges, text):
    tokenizer = BPETokenizer.train([training_text, "ab"], 256 + merges)
    assert tokenizer.encode(text).tolist() == plain_encoding(list(text.encode()), tokenizer.merges)


@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
def test_long_and_short_texts_are_encoded_alike(text, monkeypatch):
    tokenizer = BPETokenizer.train(HARD_TEXTS.values(), 700)
    results = []
    for limit in (0, 10**9):
        monkeypatch.setattr(bpe, "LONG", limit)
        results.append(tokenizer.encode(text[:3000]).tolist())
    assert results[0] == results[1]


@example([("cdabab", 1)], [256, 256, 257, 258])
@given(st.lists(st.tuples(repetitive, st.integers(1, 3)), max_size=4), st.lists(st.integers(256, 258), max_size=8))
def test_the_index_counts_what_a_count_from_scratch_counts_after_each_merge(weighted, made):
    """Also where two merges make the same symbol."""
    sequences = [list(text.encode()) for text, _ in weighted]
    weights = [weight for _, weight in weighted]
    index = PairIndex([i for ids in sequences for i in ids], [len(ids) for ids in sequences], weights)
    for new in made:
        counts = Counter()
        for ids, weight in zip(sequences, weights, strict=True):
            for pair in pairwise(ids):
                counts[pair] += weight
        assert {pair: count for pair, count in index.counts.items() if count} == dict(counts)
        assert index.symbols().tolist() == [i for ids in sequences for i in ids]
        if not counts:
            break
        pair = max(sorted(counts), key=counts.__getitem__)
        assume(new not in pair)
        index.merge(pair, new)
        sequences = [replaced(ids, pair, new) for ids in sequences]


@given(texts)
def test_any_text_comes_back(text):
    tokenizer = BPETokenizer.train(HARD_TEXTS["contractions"] + HARD_TEXTS["Khmer"], 300)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_lone_surrogate_is_named_with_its_place():
    with pytest.raises(TokenizerError, match="position 1 is a lone surrogate"):
        BPETokenizer([]).encode("a\ud800")
    with pytest.raises(TokenizerError, match="position 1 is a lone surrogate"):
        BPETokenizer.train("a\ud800", 300)


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(ValueError, match="vocab_size=255"):
        BPETokenizer.train("ab", 255)
    assert BPETokenizer.train("ab", 256).vocab_size == 256


def test_a_megabyte_is_trained_on_and_encoded(test_data):
    text = (test_data("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")
    tokenizer = BPETokenizer.train(text, 400)
    assert tokenizer.tokens[256:259] == (b"e ", b"th", b"t ")
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    np.testing.assert_array_equal(ids[:2000], plain_encoding(list(text[:8000].encode()), tokenizer.merges)[:2000])

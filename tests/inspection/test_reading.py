"""A text as it is read: the ids that the model gets, with a string for each that can be seen."""

import pytest

from minilm.errors import DataError
from minilm.inspection import read
from minilm.text import ByteTokenizer, CharTokenizer, WordPieceTokenizer


def test_each_id_has_a_string_and_spaces_are_seen():
    reading = read(CharTokenizer.train(["a b\nc"]), "a b\nc")
    assert reading.tokens == ("a", "\u2423", "b", "\\n", "c")
    assert len(reading.ids) == 5
    assert len(read(ByteTokenizer(), "\u00e9").tokens) == 2  # two bytes, two strings


def test_wordpiece_stands_between_its_marks():
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##able"])
    reading = read(tokenizer, "unable")
    assert reading.tokens == ("[CLS]", "un", "##able", "[SEP]") and reading.ids.tolist() == [2, 5, 6, 3]


def test_a_text_without_tokens_is_refused():
    with pytest.raises(DataError, match="no token"):
        read(CharTokenizer.train(["ab"]), "")

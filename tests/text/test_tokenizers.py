"""The tokenizers: round trips, the interface that all share, and errors that name the place."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minilm.errors import TokenizerError
from minilm.text import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    GPT2Tokenizer,
    SentencePieceTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    check_token_ids,
    load_tokenizer,
    split_words,
)

SHAKESPEARE = (
    "ROMEO:\nBut, soft! what light through yonder window breaks?\nIt is the east, and Juliet is the sun.\n"
)
SENTENCE_PIECES = (
    ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "t", "he", "\u2581t", "\u2581the"],
    [0.0] * 259 + [-5.0, -6.0, -2.0, -3.0, -4.0],
    [2, 3, 3] + [6] * 256 + [1] * 5,
)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def examples():
    return [
        CharTokenizer.train(SHAKESPEARE),
        CharTokenizer.train(SHAKESPEARE, unknown=True),
        ByteTokenizer(),
        WordTokenizer.train(SHAKESPEARE),
        WordTokenizer.train(SHAKESPEARE, lower=False, unknown=None),
        BPETokenizer.train(SHAKESPEARE, 270),
        GPT2Tokenizer.train(SHAKESPEARE, 270),
        GPT2Tokenizer.train(SHAKESPEARE, 270, special_tokens=["<a>", "<b c>"], pattern="smollm2"),
        WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##eo", "r", "##om", ":"]),
        SentencePieceTokenizer(*SENTENCE_PIECES),
        SentencePieceTokenizer(*SENTENCE_PIECES, add_space_prefix=False, eos_id=None),
    ]


# every tokenizer


@pytest.mark.parametrize("tokenizer", examples(), ids=repr)
def test_encode_gives_int64_ids_inside_the_vocabulary(tokenizer):
    ids = tokenizer.encode(SHAKESPEARE)
    assert ids.dtype == np.int64 and ids.ndim == 1 and len(ids) > 0
    assert 0 <= ids.min() and ids.max() < tokenizer.vocab_size


@pytest.mark.parametrize("tokenizer", examples(), ids=repr)
def test_the_empty_text_has_no_tokens(tokenizer):
    assert tokenizer.encode("").shape == (0,) and tokenizer.encode("").dtype == np.int64
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("tokenizer", examples(), ids=repr)
def test_a_saved_tokenizer_comes_back_equal(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    loaded = load_tokenizer(path)
    assert type(loaded) is type(tokenizer) and loaded == tokenizer
    assert loaded.fingerprint() == tokenizer.fingerprint()
    np.testing.assert_array_equal(loaded.encode(SHAKESPEARE), tokenizer.encode(SHAKESPEARE))
    assert type(tokenizer).load(path) == tokenizer
    assert json.loads(path.read_text())["type"] == tokenizer.type


def test_different_tokenizers_have_different_fingerprints():
    prints = {tokenizer.fingerprint() for tokenizer in examples()}
    assert len(prints) == len(examples())
    assert all(len(fingerprint) == 64 for fingerprint in prints)


@pytest.mark.parametrize("tokenizer", examples(), ids=repr)
@pytest.mark.parametrize("bad", [-1, 100_000])
def test_decoding_an_id_outside_the_vocabulary_names_it_and_its_position(tokenizer, bad):
    with pytest.raises(
        TokenizerError, match=rf"token id {bad} at position 2 .* 0 .. {tokenizer.vocab_size - 1}"
    ):
        tokenizer.decode([1, 2, bad, 1])
    with pytest.raises(TokenizerError, match=str(bad)):
        tokenizer.stream_decoder().push(bad)


@pytest.mark.parametrize("tokenizer", examples(), ids=repr)
def test_decoding_token_by_token_gives_the_same_text(tokenizer):
    ids = np.random.default_rng(0).integers(0, tokenizer.vocab_size, 500)
    stream = tokenizer.stream_decoder()
    assert "".join([stream.push(token) for token in ids] + [stream.flush()]) == tokenizer.decode(ids)


def test_decode_takes_one_row_of_ids():
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        ByteTokenizer().decode([[1, 2]])
    with pytest.raises(TypeError, match="float64"):
        ByteTokenizer().decode([1.5])


# characters


@given(any_text)
def test_characters_come_back_exactly(text):
    tokenizer = CharTokenizer.train([text, "a"])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(set(text) | {"a"})


@given(st.text(), st.text(min_size=1))
def test_with_an_unknown_token_only_new_characters_change(text, training_text):
    tokenizer = CharTokenizer.train(training_text, unknown=True)
    expected = "".join(c if c in training_text else "\ufffd" for c in text)
    assert tokenizer.decode(tokenizer.encode(text)) == expected


def test_ids_follow_the_sorted_characters():
    tokenizer = CharTokenizer.train(["ba", "c\n"])
    assert tokenizer.encode("abc\n").tolist() == [1, 2, 3, 0]
    assert CharTokenizer.train("ba", unknown=True).encode("abz").tolist() == [1, 2, 0]


@pytest.mark.parametrize("foreign", ["#", "é", "\U0001f600"])
def test_an_unknown_character_is_named_with_its_place_and_the_way_out(foreign):
    tokenizer = CharTokenizer.train("abc\n")
    with pytest.raises(TokenizerError) as caught:
        tokenizer.encode(f"ab\nc{foreign}{foreign}")
    message = str(caught.value)
    assert repr(foreign) in message and "position 4, line 2" in message and "2 such places" in message
    assert "unknown=True" in message and "ByteTokenizer" in message


def test_lone_surrogates_survive_the_character_tokenizer_and_its_file(tmp_path):
    tokenizer = CharTokenizer.train("a\ud800")
    tokenizer.save(tmp_path / "t.json")
    assert load_tokenizer(tmp_path / "t.json").decode(tokenizer.encode("\ud800a")) == "\ud800a"


def test_no_text_makes_no_tokenizer():
    for train in (CharTokenizer.train, WordTokenizer.train):
        with pytest.raises(TokenizerError, match=r"empty|no words"):
            train([])


def test_tinyshakespeare_has_65_characters_and_comes_back(test_data):
    text = (test_data("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert tokenizer.vocab_size == 65 and len(ids) == 1_115_394
    assert tokenizer.decode(ids) == text
    assert ids[:10].tolist() == [sorted(set(text)).index(c) for c in text[:10]]


# bytes


@given(any_text)
def test_bytes_come_back_exactly_for_any_text(text):
    tokenizer = ByteTokenizer()
    assert tokenizer.encode(text).tolist() == list(text.encode("utf-8"))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.binary(max_size=40))
def test_a_byte_stream_decodes_as_the_whole_does_even_when_it_is_not_utf8(data):
    tokenizer = ByteTokenizer()
    stream = tokenizer.stream_decoder()
    assert "".join([stream.push(byte) for byte in data] + [stream.flush()]) == tokenizer.decode(list(data))


def test_a_byte_stream_never_shows_part_of_a_character():
    stream = ByteTokenizer().stream_decoder()
    assert [stream.push(byte) for byte in "é€".encode()] == ["", "é", "", "", "€"]
    assert stream.push(0xE2) == "" and stream.flush() == "\ufffd"


def test_a_lone_surrogate_has_no_bytes():
    with pytest.raises(TokenizerError, match="position 1 is a lone surrogate"):
        ByteTokenizer().encode("a\ud800")


# words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3.14, isn't it?", ["it", "'s", "3.14", ",", "is", "n't", "it", "?"]),
        ("I can’t pay $1,000.", ["i", "ca", "n’t", "pay", "$", "1,000", "."]),
        ("well-known (so-called)", ["well", "-", "known", "(", "so", "-", "called", ")"]),
        ("我爱 NumPy。", ["我", "爱", "numpy", "。"]),
        ("naïve Æsir", ["naïve", "æsir"]),
    ],
)
def test_words_and_punctuation_are_split(text, words):
    assert split_words(text) == words


def test_the_vocabulary_is_by_frequency_then_alphabet():
    tokenizer = WordTokenizer.train(["b a c a", "A d b B b"], max_size=4)
    assert tokenizer.words == ("<unk>", "b", "a", "c")
    assert WordTokenizer.train("b a c a b", min_count=2).words == ("<unk>", "a", "b")
    assert WordTokenizer.train("b a A", lower=False, unknown=None).words == ("A", "a", "b")


def test_rare_words_become_the_unknown_token():
    tokenizer = WordTokenizer.train("to be or not to be")
    assert tokenizer.encode("To question be").tolist() == [2, 0, 1]
    assert tokenizer.decode([2, 0, 1]) == "to <unk> be"


def test_without_an_unknown_token_a_new_word_is_refused():
    tokenizer = WordTokenizer.train("to be", unknown=None)
    with pytest.raises(TokenizerError, match="'question', number 1 .*unknown="):
        tokenizer.encode("to question")


def test_decoded_words_read_as_a_sentence():
    text = "it's so, isn't it? yes (i know)."
    tokenizer = WordTokenizer.train(text)
    assert tokenizer.decode(tokenizer.encode(text)) == "it's so, isn't it? yes ( i know)."


@example("n't n't don't 't 's's")
@given(st.text("ab n't's.,!?'’( 12\n我é", max_size=30))
def test_decoded_words_encode_to_the_same_ids(text):
    tokenizer = WordTokenizer.train([text, "a"])
    ids = tokenizer.encode(text)
    np.testing.assert_array_equal(tokenizer.encode(tokenizer.decode(ids)), ids)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"max_size": 1}, "max_size=1"), ({"min_count": 0}, "min_count")]
)
def test_impossible_vocabulary_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WordTokenizer.train("a b", **arguments)
    with pytest.raises(TokenizerError, match="no word occurs 2 times"):
        WordTokenizer.train("a b", min_count=2)


# files and ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "not JSON"),
        ("[1, 2]", "must be one of bpe, byte, char"),
        ('{"type": "bpe9", "version": 1}', "'bpe9'"),
        ('{"type": "byte", "version": 99}', "version 99"),
        ('{"type": "char", "version": 1}', "damaged.*characters"),
        ('{"type": "word", "version": 1, "words": [1], "lower": true, "unknown": null}', "list of strings"),
        ('{"type": "char", "version": 1, "characters": "aa", "unknown": false}', "repeat"),
        ("[" * 100_000, "not JSON"),
        ('{"type": "char", "version": ' + "9" * 5000 + "}", "not JSON"),
        ('{"type": "byte", "type": "char", "version": 1}', "the key 'type' twice"),
        ('{"type": ["char"], "version": 1}', r"its \"type\" is \['char'\]"),
        ('{"type": {}, "version": 1}', r"its \"type\" is \{\}"),
        ('{"type": "bpe", "version": 1, "merges": [[97, 300]]}', r"merge 0 is \(97, 300\)"),
        ('{"type": "bpe", "version": 1, "merges": [[97, 97.0]]}', "damaged.*pairs of ids"),
        ('{"type": "bpe", "version": 1, "merges": [[97, 97], [97, 97]]}', "repeats"),
        (json.dumps({"type": "bpe", "version": 1, "merges": [[255 + n, 255 + n] for n in range(1, 40)]}), "merge 0"),
        (json.dumps({"type": "bpe", "version": 1, "merges": [[254 + n, 255 + n] for n in range(99)]}), "bytes, more"),
    ],
)
def test_a_bad_tokenizer_file_is_refused_with_its_name(content, message, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(path)


def test_a_missing_or_wrong_tokenizer_file_is_refused(tmp_path):
    with pytest.raises(TokenizerError, match=r"absent\.json"):
        load_tokenizer(tmp_path / "absent.json")
    ByteTokenizer().save(tmp_path / "t.json")
    with pytest.raises(TokenizerError, match="'byte' tokenizer, not a 'char'"):
        CharTokenizer.load(tmp_path / "t.json")
    with pytest.raises(TokenizerError, match="not saved"):
        ByteTokenizer().save(tmp_path / "no" / "folder.json")


def test_check_token_ids_names_the_first_bad_id():
    check_token_ids(np.array([[0, 4], [2, 3]], dtype=np.uint16), 5)
    check_token_ids([], 5)
    with pytest.raises(TokenizerError, match=r"token id 5 at position \(1, 0\) .* 0 .. 4"):
        check_token_ids(np.array([[0, 4], [5, 7]]), 5)
    with pytest.raises(TokenizerError, match="token id -1 at position 1 "):
        check_token_ids([0, -1], 5)
    with pytest.raises(TokenizerError, match="token id 5 at position 0 "):
        check_token_ids([5], 5)
    with pytest.raises(TypeError, match="bool"):
        check_token_ids([True], 5)

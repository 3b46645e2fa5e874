"""BERT's WordPiece: the published example, the same ids and offsets as tokenizers, pairs, and damaged vocabularies."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minilm.errors import TokenizerError
from minilm.text import WordPieceTokenizer
from minilm.text.tokenizers.wordpiece import SPECIAL_TOKENS
from tests.text.hard_texts import HARD_TEXTS, OLD_CHARACTERS, texts

FILES = {"uncased": "bert_vocab/bert_base_uncased_vocab.txt", "cased": "bert_vocab/bert_base_cased_vocab.txt"}
PUBLISHED = [*"[UNK] [CLS] [SEP] want ##want ##ed wa un runn ##ing ,".split(), "[PAD]", "[MASK]"]


def tokens(tokenizer, text):
    return [tokenizer.tokens[index] for index in tokenizer.encode(text)]


@pytest.fixture(scope="module", params=FILES)
def both(request, test_data, require_package):
    """BERT's tokenizer, cased or not: ours, and that of tokenizers made of the same file."""
    tokenizers = require_package("tokenizers")
    path, lower = test_data(FILES[request.param]), request.param == "uncased"
    model = tokenizers.models.WordPiece.from_file(str(path), unk_token="[UNK]", max_input_chars_per_word=100)
    theirs = tokenizers.Tokenizer(model)
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower, strip_accents=lower)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    theirs.decoder = tokenizers.decoders.WordPiece(cleanup=False)
    return WordPieceTokenizer.from_file(path, lower), theirs


def same_ids_and_offsets(ours, theirs, text):
    ids, offsets = ours.encode_with_offsets(text)
    expected = theirs.encode(text)
    assert ids.tolist() == expected.ids
    assert [tuple(pair) for pair in offsets.tolist()] == expected.offsets
    assert ours.encode(text).tolist() == expected.ids
    assert ours.decode(ids) == theirs.decode(expected.ids, skip_special_tokens=False)


# against the published example and the reference


def test_the_published_example():
    """From the test of Google's BERT (tokenization_test.py): the vocabulary, the text and what it becomes."""
    tokenizer = WordPieceTokenizer(PUBLISHED)
    assert tokens(tokenizer, "UNwant\u00e9d,running") == ["un", "##want", "##ed", ",", "runn", "##ing"]
    assert tokens(tokenizer, "unwantedX running") == ["[UNK]", "runn", "##ing"]


def test_the_sizes_and_special_ids_of_the_published_vocabularies(both):
    ours, _ = both
    assert ours.vocab_size == (30_522 if ours.lower else 28_996)
    assert (ours.pad_id, ours.unknown_id, ours.cls_id, ours.sep_id, ours.mask_id) == (0, 100, 101, 102, 103)
    if ours.lower:
        assert ours.encode("Hello, world!").tolist() == [7592, 1010, 2088, 999]


@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
def test_hard_texts_get_the_ids_and_offsets_of_tokenizers(text, both):
    same_ids_and_offsets(*both, text)


@example("a\u0300\u0316b")
@given(texts)
def test_any_text_gets_the_ids_and_offsets_of_tokenizers(both, text):
    same_ids_and_offsets(*both, text)


def test_every_character_is_handled_as_in_tokenizers(both):
    """Each one inside a word, so that what goes, what stands alone and what is changed all show."""
    ours, theirs = both
    text = " ".join(f"a{character}b" for character in OLD_CHARACTERS)
    ids = ours.encode(text).tolist()
    assert len(ids) > 50_000 and ids == theirs.encode(text).ids


def test_a_text_gets_the_ids_of_tokenizers(both, test_data):
    text = (test_data("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")[:100_000]
    same_ids_and_offsets(*both, text)


# words


def test_uncased_drops_case_and_accents_and_cased_keeps_them(test_data):
    uncased = WordPieceTokenizer.from_file(test_data(FILES["uncased"]))
    cased = WordPieceTokenizer.from_file(test_data(FILES["cased"]), lower=False)
    assert uncased.encode("R\u00e9sum\u00e9").tolist() == uncased.encode("resume").tolist()
    assert cased.encode("R\u00e9sum\u00e9").tolist() != cased.encode("resume").tolist()


def test_each_chinese_character_stands_alone_and_japanese_kana_do_not(both):
    ours, _ = both
    assert [word for word, _ in ours._words("a\u4e2d\u6587b \u304b\u306a")][:4] == ["a", "\u4e2d", "\u6587", "b"]
    assert ours._words("\u304b\u306a")[0][0] == "\u304b\u306a"


def test_a_word_of_more_than_100_characters_is_unknown():
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, "x", "##x"])
    assert tokenizer.encode("x" * 100).tolist() == [5] + [6] * 99
    assert tokenizer.encode("x" * 101 + " x").tolist() == [tokenizer.unknown_id, 5]
    ids, offsets = tokenizer.encode_with_offsets("x" * 101 + " x")
    assert offsets.tolist() == [[0, 101], [102, 103]] and ids.tolist() == [tokenizer.unknown_id, 5]


def test_a_lone_surrogate_is_dropped():
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, "ab"])
    assert tokens(tokenizer, "a\ud800b") == ["ab"]


def test_the_longest_piece_comes_first():
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "ab", "##b", "##c", "##bc", "##bcd"])
    assert tokens(tokenizer, "abc") == ["ab", "##c"]
    assert tokens(tokenizer, "abcd") == ["[UNK]"], "a ##bcd would do, but ab is longer than a"


@given(texts)
def test_decoded_words_encode_to_the_same_ids(both, text):
    ours, _ = both
    ids = ours.encode(text)
    if ours.unknown_id not in ids:
        np.testing.assert_array_equal(ours.encode(ours.decode(ids)), ids)


# offsets


def test_offsets_lead_back_to_the_text():
    tokenizer = WordPieceTokenizer(PUBLISHED)
    text = " \x00UNwant\u00e9d\u0301 , running"
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert [text[begin:end] for begin, end in offsets] == ["UN", "want", "\u00e9d", ",", "runn", "ing"]
    assert ids.tolist() == tokenizer.encode(text).tolist()
    empty_ids, empty = tokenizer.encode_with_offsets(" ")
    assert empty_ids.shape == (0,) and empty.shape == (0, 2)


# special tokens and pairs


def test_text_that_looks_like_a_special_token_is_ordinary_text():
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, "[", "]", "mask", "a"])
    assert tokens(tokenizer, "a [MASK]") == ["a", "[", "mask", "]"]
    assert tokenizer.encode("a [MASK]", allowed_special=["[MASK]"]).tolist() == [8, tokenizer.mask_id]
    with pytest.raises(TokenizerError, match="'<s>' is not a special token"):
        tokenizer.encode("a", allowed_special=["<s>"])


def test_pairs_are_put_together_as_in_tokenizers(both, require_package):
    ours, theirs = both
    processors = require_package("tokenizers").processors
    theirs.post_processor = processors.BertProcessing(("[SEP]", ours.sep_id), ("[CLS]", ours.cls_id))
    try:
        for first, second in [("Who wrote it?", "She did, in 1999."), ("one", ""), ("", "two"), ("alone", None)]:
            expected = theirs.encode(first, second) if second is not None else theirs.encode(first)
            pair = ours.pair(ours.encode(first), None if second is None else ours.encode(second))
            assert pair.input_ids.tolist() == expected.ids
            assert pair.token_type_ids.tolist() == expected.type_ids
            assert pair.input_ids.dtype == pair.token_type_ids.dtype == np.int64
    finally:
        theirs.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])


def truncated_one_by_one(first, second, room):
    """Google's BERT takes one token off the end of the longer, again and again; of the second if they are equal."""
    first, second = list(first), list(second)
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return first, second


@given(st.integers(0, 12), st.integers(0, 12), st.integers(3, 30))
def test_the_longer_of_a_pair_is_cut_first(m, n, most):
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "b"])
    first, second = truncated_one_by_one([5] * m, [6] * n, most - 3)
    pair = tokenizer.pair([5] * m, [6] * n, most)
    assert pair.input_ids.tolist() == [2, *first, 3, *second, 3]
    assert pair.token_type_ids.tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert tokenizer.pair([5] * m, max_length=most).input_ids.tolist() == [2, *([5] * m)[: most - 2], 3]


def test_a_pair_without_room_is_refused():
    tokenizer = WordPieceTokenizer(PUBLISHED)
    with pytest.raises(ValueError, match="max_length=2 leaves no room"):
        tokenizer.pair([1], [1], 2)
    with pytest.raises(TokenizerError, match="token id 99"):
        tokenizer.pair([99])


# damaged vocabularies


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"there is no vocabulary file .*vocab\.txt"),
        (b"[PAD]\n\xff", "not UTF-8"),
        (b"", "line 1: there is no token"),
        (b"[PAD]\n[UNK]\n[CLS]\n", r"vocab\.txt: .* must have \[SEP\], \[MASK\]: is it cut short"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n", r"vocab\.txt: .* 'a' repeats"),
        (b"[PAD]\n[UNK]\n\n[CLS]\n[SEP]\n[MASK]\n", "line 3: there is no token"),
    ],
)
def test_damaged_vocabularies_are_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        WordPieceTokenizer.from_file(tmp_path / "vocab.txt")


def test_line_ends_of_windows_do_no_harm(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(PUBLISHED).encode())
    assert WordPieceTokenizer.from_file(tmp_path / "vocab.txt") == WordPieceTokenizer(PUBLISHED)

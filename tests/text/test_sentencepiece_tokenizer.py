"""SentencePiece's byte-pair encoding: the same ids and texts as sentencepiece and tokenizers, and damaged files."""

import struct

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from minilm.errors import TokenizerError
from minilm.text import SentencePieceTokenizer, TokenType
from tests.text.hard_texts import HARD_TEXTS, texts
from tests.text.sentencepiece_model import model_proto

SPACE = "\u2581"
SPECIALS = (["<unk>", "<s>", "</s>"], [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL])
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def tokenizer_of(pieces, byte_fallback=True, user_defined=(), **options):
    """pieces: {token: score}."""
    bytes_ = BYTES if byte_fallback else []
    types = [*SPECIALS[1], *[TokenType.BYTE] * len(bytes_)]
    types += [TokenType.USER_DEFINED if piece in user_defined else TokenType.NORMAL for piece in pieces]
    scores = [0.0] * (3 + len(bytes_)) + list(pieces.values())
    return SentencePieceTokenizer([*SPECIALS[0], *bytes_, *pieces], scores, types, **options)


def tokens(tokenizer, text, **options):
    return [tokenizer.tokens[index] for index in tokenizer.encode(text, **options)]


@pytest.fixture(scope="module")
def stories(test_data):
    return SentencePieceTokenizer.from_llama2c(test_data("stories260k/tok512.bin"))


@pytest.fixture(scope="module")
def reference(require_package):
    """A function that makes the processor of sentencepiece for one of our tokenizers."""
    package = require_package("sentencepiece")
    return lambda tokenizer: package.SentencePieceProcessor(model_proto=model_proto(tokenizer))


@pytest.fixture(scope="module")
def stories_reference(stories, reference):
    return reference(stories)


# against the references


def test_the_vocabulary_of_llama2c_is_read(stories):
    assert stories.vocab_size == 512 and (stories.bos_id, stories.eos_id, stories.unknown_id) == (1, 2, 0)
    assert stories.tokens[:3] == ("<unk>", "<s>", "</s>") and stories.special_tokens == {"<s>": 1, "</s>": 2}
    assert tokens(stories, "Once upon a time")[0] == SPACE + "Once"
    assert stories.encode("Once upon a time, there was a little girl named Lily.").tolist()[:4] == [403, 407, 261, 378]


@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
def test_hard_texts_get_the_ids_of_sentencepiece(text, stories, stories_reference):
    ids = stories.encode(text).tolist()
    assert ids == stories_reference.encode(text)
    assert stories.decode(ids) == stories_reference.decode(ids) == text.replace(SPACE, " ")


@given(texts)
def test_any_text_gets_the_ids_of_sentencepiece_and_comes_back(stories, stories_reference, text):
    ids = stories.encode(text).tolist()
    assert ids == stories_reference.encode(text)
    assert stories.decode(ids) == text.replace(SPACE, " ")


@given(st.lists(st.one_of(st.integers(0, 511), st.sampled_from([0, 1, 2, 35, 259, 261, 410])), max_size=8))
def test_any_ids_decode_as_in_sentencepiece(stories, stories_reference, ids):
    expected = stories_reference.decode(ids) if ids else ""
    assume("\ufffd" not in expected)  # bytes that are no UTF-8: it writes one mark for each, and Python one for several
    assert stories.decode(ids) == expected


def test_a_megabyte_gets_the_ids_of_sentencepiece(stories, stories_reference, test_data):
    text = (test_data("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")
    ids = stories.encode(text)
    assert ids.tolist() == stories_reference.encode(text)
    assert stories.decode(ids) == text


pieces = st.dictionaries(
    st.text("ab" + SPACE + "\u00e9", min_size=1, max_size=4), st.integers(-6, 0).map(float), min_size=1, max_size=20
)


@example({"a": 0.0, "b" + SPACE: 0.0, SPACE: 0.0, "b": 0.0, SPACE + "a": -1.0}, True, False, True, "ab a b")
@example({"a": 0.0, "aa": 0.0, "aaa": 0.0}, True, False, False, "aaaaaaa")
@example({SPACE + "a": 0.0, SPACE: 0.0, "b": 0.0}, True, True, True, "a b")
@given(pieces, st.booleans(), st.booleans(), st.booleans(), st.text("ab \u00e9c", max_size=14))
def test_any_vocabulary_encodes_as_in_sentencepiece(reference, pieces, byte_fallback, user_defined, prefix, text):
    tokenizer = tokenizer_of(
        pieces, byte_fallback, user_defined=list(pieces)[:1] if user_defined else (), add_space_prefix=prefix
    )
    theirs = reference(tokenizer)
    ids = tokenizer.encode(text).tolist()
    assert ids == theirs.encode(text)
    if byte_fallback:
        assert tokenizer.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
def test_hard_texts_get_the_ids_of_tokenizers(text, stories, require_package):
    """There, a model of this kind is a BPE whose merges are all that the vocabulary can make, by score."""
    tokenizers = require_package("tokenizers")
    vocabulary = {token: index for index, token in enumerate(stories.tokens)}
    normal = [token for token, kind in zip(stories.tokens, stories.types, strict=True) if kind == TokenType.NORMAL]
    merges = [
        (stories.scores[vocabulary[token]], token[:cut], token[cut:])
        for token in normal
        for cut in range(1, len(token))
        if token[:cut] in normal and token[cut:] in normal
    ]
    merges.sort(key=lambda merge: -merge[0])
    theirs = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocabulary, [merge[1:] for merge in merges], byte_fallback=True, unk_token="<unk>")
    )
    theirs.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend(SPACE), tokenizers.normalizers.Replace(" ", SPACE)]
    )
    assert stories.encode(text).tolist() == theirs.encode(text).ids


# the rules, one by one


def test_the_highest_score_merges_first_and_the_leftmost_of_equals():
    tokenizer = tokenizer_of({"a": 0.0, "b": 0.0, "ab": -2.0, "ba": -1.0, SPACE: 0.0})
    assert tokens(tokenizer, "aba") == [SPACE, "a", "ba"]
    equal = tokenizer_of({"a": 0.0, "aa": -1.0, SPACE: 0.0})
    assert tokens(equal, "aaa") == [SPACE, "aa", "a"]


def test_a_character_that_the_vocabulary_lacks_becomes_its_bytes_or_the_unknown_token():
    assert tokens(tokenizer_of({SPACE: 0.0}), "\u00e9") == [SPACE, "<0xC3>", "<0xA9>"]
    unknown = tokenizer_of({SPACE: 0.0}, byte_fallback=False)
    assert tokens(unknown, "\u00e9\u00e8 x") == [SPACE, "<unk>", SPACE, "<unk>"]
    assert unknown.decode(unknown.encode("x")) == " \u2047 "
    nothing = SentencePieceTokenizer([SPACE], [0.0], [1], bos_id=None, eos_id=None)
    with pytest.raises(TokenizerError, match="no token for 'x'"):
        nothing.encode("x")


def test_the_space_prefix_makes_a_word_the_same_everywhere_and_is_taken_off_again():
    tokenizer = tokenizer_of({SPACE: 0.0, "a": 0.0, SPACE + "a": -1.0})
    assert tokens(tokenizer, "a a") == [SPACE + "a"] * 2 and tokenizer.decode(tokenizer.encode("a a")) == "a a"
    assert tokenizer.decode([tokenizer.bos_id, *tokenizer.encode(" a")]) == " a"
    bare = tokenizer_of({SPACE: 0.0, "a": 0.0, SPACE + "a": -1.0}, add_space_prefix=False)
    assert tokens(bare, "a a") == ["a", SPACE + "a"] and bare.decode(bare.encode(" a")) == " a"


def test_control_tokens_come_from_no_text_unless_allowed(stories):
    assert not {1, 2} & set(stories.encode("<s>a</s>").tolist())
    assert stories.decode(stories.encode("<s>a</s>")) == "<s>a</s>"
    ids = stories.encode("<s>a</s>", allowed_special="all").tolist()
    assert ids == [1, *stories.encode("a").tolist(), 2]
    assert stories.decode(ids) == "a", "control tokens are not shown"
    with pytest.raises(TokenizerError, match="'<x>' is not a special token"):
        stories.encode("a", allowed_special=["<x>"])


def test_a_word_without_end_takes_no_time_without_end(stories, stories_reference):
    text = "ab" * 10_000 + "h" * 20_000
    assert stories.encode(text).tolist() == stories_reference.encode(text)


def test_a_lone_surrogate_is_named_with_its_place(stories):
    with pytest.raises(TokenizerError, match="position 2 is a lone surrogate"):
        stories.encode("a \ud83d")


def test_the_published_story_comes_back(stories, test_data):
    text = test_data("stories260k/expected_greedy_200.txt").read_text(encoding="utf-8")
    assert stories.decode(stories.encode(text)) == text


# what does not fit together


@pytest.mark.parametrize(
    ("tokens", "scores", "types", "options", "message"),
    [
        (["a", "b"], [0.0], [1, 1], {}, "2 tokens, 1 scores and 2 types"),
        (["a", "b", "a"], [0.0] * 3, [1, 1, 1], {}, "'a' repeats"),
        (["a", "b", "c"], [0.0, float("nan"), 0.0], [1, 1, 1], {}, "token 1, 'b', has the score nan"),
        (["a", "b", "c"], [0.0] * 3, [1, 7, 1], {}, "token 1, 'b', .* the type 7"),
        (["a", "b", "c"], [0.0] * 3, [1, 1, 6], {}, "1 byte tokens, for 0 bytes"),
        (["a", "b", "<0x41>"], [0.0] * 3, [1, 1, 6], {}, "1 byte tokens, for 1 bytes"),
        (["a", "b", "c"], [0.0] * 3, [1, 1, 1], {"eos_id": 3}, "eos_id=3 is outside"),
        (["a", "b", "\ud800"], [0.0] * 3, [1, 1, 1], {}, "lone surrogate"),
    ],
)
def test_tokens_scores_and_types_that_do_not_fit_are_refused(tokens, scores, types, options, message):
    with pytest.raises(TokenizerError, match=message):
        SentencePieceTokenizer(tokens, scores, types, **options)


def entry(token, score=0.0, length=None):
    return struct.pack("<fi", score, len(token) if length is None else length) + token


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 tokens: is it cut short"),
        (b"\x05\0\0\0" + entry(b"<unk>"), "1 tokens: is it cut short"),
        (b"\x05\0\0\0" + entry(b"<unk>")[:6], "cut short at token 0"),
        (b"\x05\0\0\0" + entry(b"a") + entry(b"bcd")[:-1], "token 1: it has 3 bytes, and 2 are left"),
        (b"\x05\0\0\0" + entry(b"a") + entry(b"b", length=2**31 - 1), "token 1: it has 2147483647 bytes"),
        (b"\x05\0\0\0" + entry(b"a") + entry(b"b", length=-1), "token 1: it has -1 bytes"),
        (b"\x05\0\0\0" + entry(b"a") + entry(b"\xff"), "token 1: 'utf-8'"),
        (b"\x05\0\0\0" + b"".join(map(entry, [b"a", b"b", b"c", b"d", b"d"])), "'d' repeats"),
        (None, "cannot read the vocabulary file .*tokenizer.bin"),
    ],
)
def test_damaged_files_are_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "tokenizer.bin").write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        SentencePieceTokenizer.from_llama2c(tmp_path / "tokenizer.bin")


def test_each_place_where_the_published_file_is_cut_is_noticed_or_leaves_whole_tokens(test_data, tmp_path):
    data = test_data("stories260k/tok512.bin").read_bytes()
    whole = SentencePieceTokenizer.from_llama2c(test_data("stories260k/tok512.bin")).tokens
    for length in range(0, len(data), 97):
        (tmp_path / "t.bin").write_bytes(data[:length])
        try:
            tokens = SentencePieceTokenizer.from_llama2c(tmp_path / "t.bin").tokens
        except TokenizerError:
            continue
        assert tokens == whole[: len(tokens)]

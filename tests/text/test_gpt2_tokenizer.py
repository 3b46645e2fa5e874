"""GPT-2's byte-pair encoding: the same ids as tiktoken and tokenizers, the same merges, and files that are damaged."""

import base64
import json
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minilm.errors import TokenizerError
from minilm.text import GPT2Tokenizer
from minilm.text.tokenizers import cache as word_cache
from minilm.text.tokenizers.byte_characters import BYTE_OF, CHARACTERS, as_bytes, as_characters
from minilm.text.tokenizers.gpt2 import END_OF_TEXT, PATTERNS
from tests.text.hard_texts import HARD_TEXTS, texts

SPACE = "\u0120"  # how the space is written


@pytest.fixture(scope="module")
def gpt2(test_data):
    folder = test_data("gpt2_bpe")
    return GPT2Tokenizer.from_files(folder / "encoder.json", folder / "vocab.bpe")


@pytest.fixture(scope="module")
def tiktoken(test_data, require_package):
    """GPT-2's encoding in tiktoken, made of the ranks' file; its pattern is written as OpenAI's encoder.py does."""
    lines = (test_data("gpt2_bpe") / "gpt2.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return require_package("tiktoken").Encoding(
        "gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: 50256}
    )


@pytest.fixture(scope="module")
def reference(test_data, require_package):
    """GPT-2's encoding in tokenizers, made of its two files; with digits apart for SmolLM2."""
    tokenizers = require_package("tokenizers")
    folder = test_data("gpt2_bpe")

    @cache
    def make(pattern):
        model = tokenizers.models.BPE.from_file(str(folder / "encoder.json"), str(folder / "vocab.bpe"))
        tokenizer = tokenizers.Tokenizer(model)
        steps = [tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
        if pattern == "smollm2":
            steps.insert(0, tokenizers.pre_tokenizers.Digits(individual_digits=True))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
        return tokenizer

    return make


@pytest.fixture(scope="module")
def shakespeare(test_data):
    return (test_data("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")


# GPT-2's own vocabulary


def test_the_known_ids(gpt2):
    assert gpt2.vocab_size == 50257
    assert gpt2.encode("Hello world").tolist() == [15496, 995]
    assert gpt2.encode("!").tolist() == [0] and gpt2.encode(" ").tolist() == [220]
    assert gpt2.tokens[256] == SPACE + "t", "the first merge"


def test_both_kinds_of_files_make_the_same_tokenizer(gpt2, test_data):
    other = GPT2Tokenizer.from_tiktoken(test_data("gpt2_bpe") / "gpt2.tiktoken")
    assert other.merges == gpt2.merges and other == gpt2


@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
def test_hard_texts_get_the_ids_of_tiktoken_and_tokenizers(text, gpt2, tiktoken, reference):
    ids = gpt2.encode(text).tolist()
    assert ids == tiktoken.encode_ordinary(text)
    assert ids == reference("gpt2").encode(text).ids
    assert gpt2.decode(ids) == text


@given(texts)
def test_any_text_gets_the_ids_of_tiktoken_and_tokenizers(gpt2, tiktoken, reference, text):
    ids = gpt2.encode(text).tolist()
    assert ids == tiktoken.encode_ordinary(text)
    assert ids == reference("gpt2").encode(text).ids
    assert gpt2.decode(ids) == text


@given(st.lists(st.integers(0, 50256), max_size=12))
def test_any_ids_decode_as_in_tiktoken_also_where_they_are_no_utf8(gpt2, tiktoken, ids):
    assert gpt2.decode(ids) == tiktoken.decode(ids)
    stream = gpt2.stream_decoder()
    assert "".join([stream.push(index) for index in ids] + [stream.flush()]) == gpt2.decode(ids)


def test_a_megabyte_gets_the_ids_of_tiktoken(gpt2, tiktoken, shakespeare):
    ids = gpt2.encode(shakespeare)
    assert ids.dtype == np.int64 and len(ids) == 338_025
    assert ids.tolist() == tiktoken.encode_ordinary(shakespeare)


def test_a_word_without_end_takes_no_time_without_end(gpt2, tiktoken):
    text = "ab" * 20_000 + "a" * 30_000
    assert gpt2.encode(text).tolist() == tiktoken.encode_ordinary(text)


# SmolLM2's pattern


@pytest.fixture(scope="module")
def smollm2(gpt2):
    """Its pattern, on GPT-2's vocabulary."""
    return GPT2Tokenizer(gpt2.tokens, gpt2.merges, list(gpt2.special_tokens), "smollm2")


@example("abc  5")
@example("  12  x")
@example("a'5'd 6 \n 7")
@given(st.one_of(texts, st.text(" 1\u0663\u00bd\u216ba'd\n.", max_size=20)))
def test_digits_apart_gives_the_ids_of_two_steps_in_tokenizers(smollm2, reference, text):
    ids = smollm2.encode(text).tolist()
    assert ids == reference("smollm2").encode(text).ids
    assert smollm2.decode(ids) == text


@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
def test_hard_texts_with_digits_apart_get_the_ids_of_tokenizers(text, smollm2, reference):
    assert smollm2.encode(text).tolist() == reference("smollm2").encode(text).ids


def test_digits_apart_changes_digits(gpt2, smollm2):
    text = "in 2024, b2"
    assert [gpt2.tokens[index] for index in gpt2.encode(text)] == ["in", SPACE + "2024", ",", SPACE + "b", "2"]
    assert [gpt2.tokens[index] for index in smollm2.encode(text)] == ["in", SPACE, *"2024,", SPACE + "b", "2"]
    assert smollm2 != gpt2
    with pytest.raises(TokenizerError, match="'gpt5'.*gpt2, smollm2"):
        GPT2Tokenizer(gpt2.tokens, gpt2.merges, pattern="gpt5")


# special tokens


def test_text_that_looks_like_a_special_token_is_ordinary_text(gpt2, tiktoken):
    text = f"one{END_OF_TEXT}two"
    assert 50256 not in gpt2.encode(text)
    assert gpt2.encode(text).tolist() == tiktoken.encode_ordinary(text)
    assert gpt2.decode(gpt2.encode(text)) == text


@pytest.mark.parametrize("allowed", ["all", [END_OF_TEXT], {END_OF_TEXT}])
def test_allowed_special_tokens_are_made(gpt2, tiktoken, allowed):
    text = f"{END_OF_TEXT}one{END_OF_TEXT}{END_OF_TEXT} two<|endoftext"
    ids = gpt2.encode(text, allowed_special=allowed).tolist()
    assert ids.count(50256) == 3
    assert ids == tiktoken.encode(text, allowed_special="all")
    assert gpt2.decode(ids) == text
    assert gpt2.encode("", allowed_special=allowed).shape == (0,)


def test_only_special_tokens_can_be_allowed(gpt2):
    with pytest.raises(TokenizerError, match=r"'<s>' is not a special token.*<\|endoftext\|>"):
        gpt2.encode("a", allowed_special=["<s>"])
    with pytest.raises(TypeError, match="a list of tokens, not the string"):
        gpt2.encode("a", allowed_special=END_OF_TEXT)


def test_where_two_special_tokens_could_begin_it_is_the_longest():
    tokenizer = GPT2Tokenizer.train("ab", 300, special_tokens=["<a>", "<a><b>"])
    assert tokenizer.encode("<a><b><a>", allowed_special="all").tolist() == [257, 256]
    assert tokenizer.encode("<a><b>", allowed_special=["<a>"]).tolist()[:2] == [256, tokenizer.encode("<")[0]]


# training


@pytest.mark.parametrize("pattern", PATTERNS)
def test_training_gives_the_tokens_and_merges_of_tokenizers(pattern, shakespeare, require_package):
    tokenizers = require_package("tokenizers")
    text = shakespeare[:300_000] + "".join(HARD_TEXTS.values()) * 3
    ours = GPT2Tokenizer.train(text, 1200, pattern=pattern)
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    steps = [tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if pattern == "smollm2":
        steps.insert(0, tokenizers.pre_tokenizers.Digits(individual_digits=True))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1199,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    # Special tokens part the text: what looks like one is left out on both sides.
    theirs.train_from_iterator(text.split(END_OF_TEXT), trainer)
    vocabulary = theirs.get_vocab()
    assert ours.tokens == (*sorted(vocabulary, key=vocabulary.__getitem__), END_OF_TEXT)
    assert [list(pair) for pair in ours.merges] == json.loads(theirs.to_str())["model"]["merges"]


def test_no_merge_crosses_a_cut_between_words():
    tokenizer = GPT2Tokenizer.train("the cat. the cat. the cat. the cat.", 400, special_tokens=())
    longer = [token for token in tokenizer.tokens if len(token) > 1]
    assert SPACE + "the" in longer and SPACE + "cat" in longer
    assert all(SPACE not in token[1:] and "." not in token for token in longer)


def test_training_knows_texts_one_by_one_and_special_tokens():
    whole = GPT2Tokenizer.train(f"ab ab{END_OF_TEXT}ab", 300)
    assert whole == GPT2Tokenizer.train(iter(["ab ab", "ab"]), 300)
    assert whole.tokens[-1] == END_OF_TEXT and whole.special_tokens == {END_OF_TEXT: whole.vocab_size - 1}
    with pytest.raises(ValueError, match="vocab_size=256 is too small.*257"):
        GPT2Tokenizer.train("ab", 256)
    with pytest.raises(TokenizerError, match="no text"):
        GPT2Tokenizer.train([], 300)


@given(st.text("ab c1'", max_size=30), texts)
def test_a_trained_tokenizer_writes_any_text(training_text, text):
    tokenizer = GPT2Tokenizer.train([training_text, "a"], 280)
    assert tokenizer.decode(tokenizer.encode(text)) == text


# bytes as characters


def test_bytes_are_written_as_printable_characters():
    assert sorted(BYTE_OF.values()) == list(range(256)) and len(CHARACTERS) == 256
    assert all(character.isprintable() and not character.isspace() for character in CHARACTERS)
    assert as_characters(b" the\n") == SPACE + "the\u010a"
    assert as_bytes(as_characters(bytes(range(256)))) == bytes(range(256))
    with pytest.raises(TokenizerError, match="'a b' has the character ' '"):
        as_bytes("a b")


# what cannot be encoded, and what cannot be


def test_a_lone_surrogate_is_named_with_its_place(gpt2):
    with pytest.raises(TokenizerError, match="position 3 is a lone surrogate"):
        gpt2.encode("a b\udc00c")


def test_a_byte_that_the_vocabulary_lacks_is_named():
    tokenizer = GPT2Tokenizer([c for c in CHARACTERS if BYTE_OF[c] != 4], [])
    assert tokenizer.decode(tokenizer.encode("abc")) == "abc"
    with pytest.raises(TokenizerError, match=r"byte 0x04 of .*x04"):
        tokenizer.encode("a\x04")


def test_a_special_token_of_one_character_stands_for_no_byte():
    tokenizer = GPT2Tokenizer(CHARACTERS, [], special_tokens=["!"])
    assert tokenizer.encode("!", allowed_special="all").tolist() == [0]
    with pytest.raises(TokenizerError, match="byte 0x21"):
        tokenizer.encode("!")


@pytest.mark.parametrize(
    ("tokens", "merges", "special", "message"),
    [
        (["a", "b", "a"], [], [], "'a' repeats"),
        (["a", "b"], [("a", "b")], [], "merge 0 is 'a' . 'b', and 'ab' is not in the vocabulary"),
        (["a", "ba"], [("b", "a")], [], "'b' is not in the vocabulary"),
        (["a", "b", "ab"], [("a", "b"), ("a", "b")], [], "merge 1, .* is there twice"),
        (["a", "b", "ab"], [("a", "b")], ["ab"], "'ab' is not in the vocabulary"),
        (["a"], [], ["<s>"], "special token '<s>' is not among"),
        (["a", "a b"], [], [], "stands for no byte"),
        (["a", ""], [], [""], "at least one character"),
    ],
)
def test_tokens_and_merges_that_do_not_fit_are_refused(tokens, merges, special, message):
    with pytest.raises(TokenizerError, match=message):
        GPT2Tokenizer(tokens, merges, special)


def test_the_cache_is_bounded_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(word_cache, "MOST_WORDS", 5)
    tokenizer = GPT2Tokenizer.train("to be or not to be", 270)
    text = " ".join(f"word{n}" for n in range(40)) + "x" * 1000
    first = tokenizer.encode(text)
    assert 0 < len(tokenizer._cache) <= 5 and max(map(len, tokenizer._cache)) <= word_cache.LONGEST_WORD
    np.testing.assert_array_equal(tokenizer.encode(text), first)
    assert tokenizer.decode(first) == text


# damaged files

GOOD_ENCODER = json.dumps({"a": 0, "b": 1, "ab": 2, END_OF_TEXT: 3})
GOOD_MERGES = "#version: 0.2\na b\n"


@pytest.mark.parametrize(
    ("encoder", "merges", "message"),
    [
        (GOOD_ENCODER[:-9], GOOD_MERGES, "encoder.json is not JSON, or is cut short"),
        ("[1]", GOOD_MERGES, "one JSON object"),
        ("[" * 100_000, GOOD_MERGES, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", GOOD_MERGES, "encoder.json is not JSON"),
        ("{}", GOOD_MERGES, "one JSON object"),
        ('{"a": "0"}', GOOD_MERGES, "one JSON object"),
        ('{"a": 0, "a": 1}', GOOD_MERGES, "'a' twice"),
        ('{"a": 0, "b": 0}', GOOD_MERGES, "gives the id 0 to 'a' and to 'b'"),
        ('{"a": 0, "b": 2}', GOOD_MERGES, "0 .. 1, and 1 is missing"),
        (b'{"\xff": 0}', GOOD_MERGES, "encoder.json is not a vocabulary file: it is not UTF-8"),
        (None, GOOD_MERGES, "there is no vocabulary file .*encoder.json"),
        (GOOD_ENCODER, None, "there is no vocabulary file .*vocab.bpe"),
        (GOOD_ENCODER, "#version: 0.2\na b\na", "vocab.bpe, line 3: 'a' is not a merge"),
        (GOOD_ENCODER, "#version: 0.2\na b c\n", "line 2: 'a b c' is not a merge"),
        (GOOD_ENCODER, "#version: 0.2\n\na b\n", "line 2: '' is not a merge"),
        (GOOD_ENCODER, "#version: 0.2\n", "has no merges"),
        (GOOD_ENCODER, "a b\nb a\n", "merge 1 is 'b' . 'a', and 'ba' is not in the vocabulary"),
        (GOOD_ENCODER, "a c\n", "'c' is not in the vocabulary"),
        ('{"a": 0, "b": 1, "ab": 2, "ba": 3, "<|endoftext|>": 4}', GOOD_MERGES, "no merge in .* makes the token 'ba'"),
        ('{"a": 0, "b": 1, "ab": 2}', GOOD_MERGES, r"special token '<\|endoftext\|>' is not among"),
        (GOOD_ENCODER, b"a \xc4", "vocab.bpe is not a vocabulary file: it is not UTF-8"),
    ],
)
def test_damaged_vocabularies_are_refused(encoder, merges, message, tmp_path):
    for name, content in (("encoder.json", encoder), ("vocab.bpe", merges)):
        if content is not None:
            (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(TokenizerError, match=message):
        GPT2Tokenizer.from_files(tmp_path / "encoder.json", tmp_path / "vocab.bpe")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"YQ== 0\nYg== 1\nYWI= 2\nYWJh", "line 4: 'YWJh' is not a token"),
        (b"YQ== 0\n!? 1\n", "line 2: '!. 1' is not a token"),
        (b"YQ== 0\nYg== x\n", "line 2"),
        (b"YQ== 0\nYQ== 1\n", "line 2: the token b'a' with rank 1 is there twice"),
        (b"YQ== 0\nYg== 2\n", "line 2: the token b'b' with rank 2 must have rank 1"),
        (b"YQ== 0\n 1\n", "line 2: the token b'' with rank 1 is empty"),
        (b"YQ== 0\nYg== 1\nYWJh 2\n", "b'aba' .rank 2. is not made of two tokens"),
        (b"YQ== 0\nYWI= 1\n", "b'ab' .rank 1. is not made of two tokens"),
        (b"", "has no tokens"),
        (b"\xff", "not UTF-8"),
        (None, "there is no vocabulary file"),
    ],
)
def test_damaged_ranks_are_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "x.tiktoken").write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        GPT2Tokenizer.from_tiktoken(tmp_path / "x.tiktoken")


def test_line_ends_of_windows_do_no_harm(tmp_path):
    (tmp_path / "e.json").write_text(GOOD_ENCODER)
    (tmp_path / "m.bpe").write_bytes(GOOD_MERGES.replace("\n", "\r\n").encode())
    assert GPT2Tokenizer.from_files(tmp_path / "e.json", tmp_path / "m.bpe").encode("abba").tolist() == [2, 1, 0]
    (tmp_path / "x.tiktoken").write_bytes(b"YQ== 0\r\nYg== 1\r\nYWI= 2\r\n")
    assert GPT2Tokenizer.from_tiktoken(tmp_path / "x.tiktoken").encode("abba").tolist() == [2, 1, 0]

"""Tokenizers come and go in published files, and the library tokenizers reads ours."""

import json

import pytest

from minilm.errors import TokenizerError
from minilm.pretrained.vocabularies import OURS, tokenizer_of_folder, write_tokenizer
from minilm.text import ByteTokenizer, CharTokenizer, GPT2Tokenizer, SentencePieceTokenizer, WordPieceTokenizer

TEXT = "I've 12 dogs; they're 345 days old.\n\n  Übermut — 東京!  "
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "c"]


def trained(pattern):
    return GPT2Tokenizer.train([TEXT * 3], 300, ["<|endoftext|>", "<|im_end|>"], pattern)


@pytest.mark.parametrize("pattern", ["gpt2", "smollm2"])
def test_byte_level_vocabularies_are_read_by_the_library_tokenizers_and_come_back(tmp_path, pattern, require_package):
    ours = trained(pattern)
    write_tokenizer(ours, tmp_path, "llama")
    theirs = require_package("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(TEXT).ids == ours.encode(TEXT).tolist()
    ends = TEXT + "<|im_end|>" + TEXT
    assert theirs.encode(ends).ids == ours.encode(ends, allowed_special="all").tolist()
    assert theirs.decode(ours.encode(TEXT).tolist()) == TEXT
    assert tokenizer_of_folder(tmp_path, "llama") == ours


def test_llamas_vocabulary_is_read_by_the_library_tokenizers_and_comes_back(tmp_path, test_data, require_package):
    ours = SentencePieceTokenizer.from_llama2c(test_data("stories260k/tok512.bin"))
    write_tokenizer(ours, tmp_path, "llama")
    assert tokenizer_of_folder(tmp_path, "llama") == ours
    theirs = require_package("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    (tmp_path / OURS).unlink()
    again = tokenizer_of_folder(tmp_path, "llama")
    assert (again.types, again.bos_id, again.eos_id) == (ours.types, 1, 2)
    story = test_data("stories260k/expected_greedy_200.txt").read_text()
    for text in (story, TEXT, "a", " two  spaces ", "\N{PILE OF POO}"):
        ids = ours.encode(text).tolist()
        assert again.encode(text).tolist() == ids
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=True) == again.decode(ids) == text


@pytest.mark.parametrize("scheme, prefix", [("first", True), ("never", False)])
def test_the_other_way_of_writing_spaces_is_understood(tmp_path, test_data, scheme, prefix):
    write_tokenizer(SentencePieceTokenizer.from_llama2c(test_data("stories260k/tok512.bin")), tmp_path, "llama")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["normalizer"] = None
    content["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False}
    content["model"]["merges"] = [merge.split(" ") for merge in content["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / OURS).unlink()
    tokenizer = tokenizer_of_folder(tmp_path, "llama")
    assert tokenizer.add_space_prefix == prefix and tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_berts_vocabulary_comes_back_as_vocab_txt(tmp_path):
    for lower in (True, False):
        ours = WordPieceTokenizer(WORDS, lower)
        write_tokenizer(ours, tmp_path, "bert")
        assert (tmp_path / "vocab.txt").read_text() == "\n".join(WORDS) + "\n"
        assert tokenizer_of_folder(tmp_path, "bert") == ours
    (tmp_path / "tokenizer_config.json").unlink()
    assert tokenizer_of_folder(tmp_path, "bert").lower, "as bert-base-uncased, where nothing is said"


def test_gpt2s_own_files_are_read(test_data, tmp_path):
    for theirs, name in (("encoder.json", "vocab.json"), ("vocab.bpe", "merges.txt")):
        (tmp_path / name).write_bytes(test_data(f"gpt2_bpe/{theirs}").read_bytes())
    tokenizer = tokenizer_of_folder(tmp_path, "gpt2")
    assert tokenizer.vocab_size == 50257 and tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    with pytest.raises(TokenizerError, match="vocab.json of a llama"):
        tokenizer_of_folder(tmp_path, "llama")


def test_tokenizers_without_a_published_form_are_kept_as_ours(tmp_path):
    for tokenizer in (CharTokenizer("abc"), ByteTokenizer()):
        write_tokenizer(tokenizer, tmp_path, "gpt2")
        assert tokenizer_of_folder(tmp_path, "gpt2") == tokenizer
    assert tokenizer_of_folder(tmp_path / "empty", "bert") is None


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"model": {"type": "Unigram"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": [], "pretokenizers": 3}},
        {"pre_tokenizer": {"pretokenizers": [[{}]]}},
        {"normalizer": {"type": "NFC"}},
        {"added_tokens": [{"content": "x"}]},
        {"added_tokens": [3]},
        {"added_tokens": [{"content": "far", "id": 10**9}]},
        {"added_tokens": [{"content": ["x"], "id": 0}]},
        {"vocab": []},
        {"vocab": {"a": "b"}},
        {"vocab": {"a": -1}},
        {"merges": None},
        {"merges": [3]},
        {"merges": ["a b c"]},
        {"merges": [["a", 3]]},
        {"merges": ["zz yy"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("spaces", [False, True])
def test_a_tokenizer_json_that_cannot_be_is_refused(tmp_path, change, spaces):
    small = SentencePieceTokenizer(["<unk>", "<s>", "</s>", "a", "b", "ab"], [0.0] * 6, [2, 3, 3, 1, 1, 1])
    write_tokenizer(small if spaces else trained("gpt2"), tmp_path, "gpt2")
    (tmp_path / OURS).unlink(missing_ok=True)
    assert tokenizer_of_folder(tmp_path, "gpt2").vocab_size == (6 if spaces else 300)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    (key,) = change
    if spaces and change[key] is None and key == "pre_tokenizer":
        return  # so it is here
    (content["model"] if key in ("vocab", "merges") else content).update(change)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(TokenizerError):
        tokenizer_of_folder(tmp_path, "gpt2")

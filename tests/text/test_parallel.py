"""Parallel text: pairs from files, parts without a common source, references, and ids with their special tokens."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import DataError
from minilm.text import (
    ByteTokenizer,
    Pair,
    PairTokenizer,
    encode_pairs,
    families,
    pad_collate,
    read_pairs,
    references,
    source_key,
    split_pairs,
)

PAIRS = [Pair("Go.", "Geh."), Pair("Hi!", "Hallo!"), Pair("Go!", "Geh!"), Pair("Hi!", "Gruß!"), Pair("Hi!", "Hallo!")]


def test_a_line_is_a_source_a_tab_and_a_target(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("Go.\tGeh.\tCC-BY\n\nWhat\u202fnow ?\tUnd \u00a0jetzt?\n", encoding="utf-8")
    assert read_pairs(path) == [("Go.", "Geh."), ("What now ?", "Und jetzt?")]
    for text, reason in (("Go. Geh.\n", "line 1"), ("Go.\tGeh.\n\tHallo\n", "line 2"), ("\n\n", "no pairs")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=reason):
            read_pairs(path)
    with pytest.raises(DataError, match="there is no file"):
        read_pairs(tmp_path / "missing.tsv")


SOURCES = st.lists(st.text("abcAB .!", min_size=1, max_size=4), min_size=30, max_size=60)


@given(SOURCES, st.integers(0, 3))
def test_no_source_of_a_part_is_in_another_not_even_with_other_capitals_or_punctuation(sources, seed):
    pairs = [Pair(source, str(i)) for i, source in enumerate(sources)]
    if len({source_key(source) for source in sources}) < 3:
        return
    parts = split_pairs(pairs, seed=seed)
    assert sorted(pair for part in parts for pair in part) == sorted(pairs)
    keys = [{source_key(pair.source) for pair in part} for part in parts]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert all(keys)


def test_sources_that_differ_in_capitals_or_signs_are_the_same_and_others_are_not():
    same = {source_key(text) for text in ("Go on!", "go on.", "Go  on", "GO ON")}
    assert len(same) == 1 and source_key("Go off!") not in same
    assert source_key("?!") != source_key("...")  # nothing but signs: they are what there is


def test_the_parts_follow_from_the_sources_and_the_seed_alone():
    pairs = [Pair(f"sentence {i}", "x") for i in range(400)]
    parts = split_pairs(pairs)
    assert [len(part) for part in parts] == [360, 20, 20]
    again = split_pairs(pairs[::-1])
    assert [set(part) for part in again] == [set(part) for part in parts]
    assert set(split_pairs(pairs, seed=1)[2]) != set(parts[2])
    with pytest.raises(DataError, match="2 pairs with 1 different sources cannot be dealt out to 3 parts"):
        split_pairs([Pair("Go!", "Geh!"), Pair("Go.", "Los.")])


def test_pairs_are_two_columns_of_a_table(tmp_path):
    rows = [{"body": "Read  me,\nall of me.", "title": "Me", "id": "1"}, {"body": " ", "title": "Nobody", "id": "2"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write('id,title,body\n1,Me,"Read  me,\nall of me."\n2,Nobody,\n')
    for name in ("a.jsonl", "a.csv.gz"):
        assert read_pairs(tmp_path / name, "body", "title") == [("Read me, all of me.", "Me")]
        with pytest.raises(DataError, match="no (field|column) 'source'.*--source-column"):
            read_pairs(tmp_path / name)
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[1]) + "\n" + json.dumps({"body": "x", "title": ""}) + "\n")
    with pytest.raises(DataError, match="holds no pairs"):
        read_pairs(tmp_path / "a.jsonl", "body", "title")


SENTENCES = [f"This is the sentence with the number {number}, and it is quite long." for number in range(12)]


def test_documents_that_share_a_sentence_are_a_family_and_so_are_those_linked_by_others():
    a, b, c, d, e = SENTENCES[:5]
    more = "See http://x.org for more."
    texts = [f"{a} {b}", f"{b.upper()} {more}", f"{more} {c}", f"{c} {d}", "Short.", e]
    found = families(texts)
    names = [found[text] for text in texts]
    assert names[0] == names[1] and names[2] == names[3], "linked by b, and by c"
    assert len(set(names)) == 4, "a short sentence links nothing"
    assert len(set(families([f"{a} {b}", f"{c} {d}", f"{d} {a}"]).values())) == 1, "two families become one"


@given(st.lists(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=2), min_size=8, max_size=14), st.randoms())
def test_no_long_sentence_of_a_part_is_in_another(documents, chance):
    pairs = [Pair(" ".join(document), str(number)) for number, document in enumerate(documents)]
    key = families(pair.source for pair in pairs)
    if len(set(key.values())) < 3:
        return
    parts = split_pairs(pairs, key=key)
    found = [{sentence for pair in part for sentence in SENTENCES if sentence in pair.source} for part in parts]
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]
    mixed = chance.sample(pairs, len(pairs))
    again = split_pairs(mixed, key=families(pair.source for pair in mixed))
    assert [set(part) for part in again] == [set(part) for part in parts], "the order changes nothing"


def test_all_targets_of_a_source_are_its_references():
    assert references(PAIRS) == {"Go.": ["Geh."], "Hi!": ["Hallo!", "Gruß!"], "Go!": ["Geh!"]}


def test_special_tokens_stand_behind_those_of_the_tokenizer():
    tokenizer = PairTokenizer(ByteTokenizer())
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (256, 257, 258, 259)
    assert tokenizer.encode("Hi").tolist() == [ord(" "), ord("H"), ord("i"), 258]
    assert tokenizer.decode([257, 32, 72, 105, 258, 66, 256]) == "Hi"
    assert tokenizer.pieces([257, 72, 258, 256]) == ["<bos>", "H", "<eos>", "<pad>"]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), max_size=20))
def test_a_text_in_normal_form_comes_back(text):
    import unicodedata

    tokenizer = PairTokenizer(ByteTokenizer())
    expected = unicodedata.normalize("NFC", " ".join(text.split())).replace("\u2019", "'").strip()
    assert tokenizer.decode(tokenizer.encode(text)) == expected


def test_pairs_become_examples_that_a_batch_pads_and_too_long_ones_are_left_out():
    tokenizer = PairTokenizer(ByteTokenizer())
    examples = encode_pairs([Pair("a", "bc"), Pair("abc", "d"), Pair("much too long", "x")], tokenizer, longest=5)
    assert len(examples) == 2
    batch = pad_collate(examples)
    np.testing.assert_array_equal(batch["attention_mask"].sum(1), [3, 5])
    np.testing.assert_array_equal(batch["labels"], [[32, 98, 99, 258], [32, 100, 258, -100]])


def test_a_source_that_is_too_long_may_be_cut_and_still_ends_in_eos():
    tokenizer = PairTokenizer(ByteTokenizer())
    pairs = [Pair("abc", "d"), Pair("much too long", "x"), Pair("a", "as long")]
    examples = encode_pairs(pairs, tokenizer, longest=5, cut_sources=True)
    assert [e["input_ids"].tolist() for e in examples] == [[*b" abc", 258], [*b" muc", 258]]


@pytest.mark.filterwarnings("error")
def test_the_corpus_has_pairs_and_its_test_part_no_sentence_of_the_training_part(test_data, monkeypatch):
    test_data("tatoeba_en_de/deu.txt")
    monkeypatch.setenv("MINILM_CACHE", str(test_data("tatoeba_en_de").parent))
    pairs = read_pairs("tatoeba_en_de")
    assert len(pairs) == 50_001 and pairs[0] == ("Go.", "Geh.")
    train, validation, test = split_pairs(pairs)
    assert [len(train), len(validation), len(test)] == [44_939, 2_528, 2_534]
    assert not {p.source for p in train} & {p.source for p in test}

"""Texts with classes from tables, folders and corpora, split always alike; and what is none is told."""

import csv

import pytest

from minilm.errors import DataError
from minilm.text import class_names, read_labelled, split_labelled


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_two_columns_of_a_table(tmp_path):
    with open(tmp_path / "t.csv", "w", newline="") as file:
        rows = [("id", "review", "verdict"), (1, "so, so\ngood", "pos"), (2, "dull", " neg "), (3, " ", "neg")]
        csv.writer(file).writerows(rows)
    found = read_labelled(tmp_path / "t.csv", "review", "verdict")
    assert found == [("so, so good", "pos"), ("dull", "neg")]
    write(tmp_path / "t.jsonl", '{"text": "a", "label": "1"}\n{"text": "b", "label": "0"}\n')
    assert read_labelled(tmp_path / "t.jsonl") == [("a", "1"), ("b", "0")]
    write(tmp_path / "n.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": -1}\n')
    assert read_labelled(tmp_path / "n.jsonl") == [("a", "1"), ("b", "-1")]
    write(tmp_path / "t.tsv", "label\ttext\nx\tone\ny\ttwo\n")
    assert read_labelled(tmp_path / "t.tsv") == [("one", "x"), ("two", "y")]


@pytest.mark.parametrize("names", [("r.neg", "r.pos"), ("neg.txt", "pos.txt")])
def test_a_folder_with_a_file_for_each_class(tmp_path, names):
    for name, lines in zip(names, ("bad\ndull\n", "good\n\n  \n"), strict=True):
        write(tmp_path / name, lines)
    if names[0] == "r.neg":
        write(tmp_path / "README.txt", "not a class")
    assert read_labelled(tmp_path) == [("bad", "neg"), ("dull", "neg"), ("good", "pos")]


def test_a_folder_with_a_folder_for_each_class(tmp_path):
    write(tmp_path / "pos" / "1.txt", "good\nfilm")
    write(tmp_path / "neg" / "1.txt", "bad")
    write(tmp_path / "neg" / "2.txt", "dull")
    assert read_labelled(tmp_path) == [("bad", "neg"), ("dull", "neg"), ("good film", "pos")]


def test_rt_polarity_and_its_held_out_tenth(test_data):
    found = read_labelled(test_data("rt_polarity/rt-polarity.pos").parent)
    assert len(found) == 10662 and sum(label == "pos" for _, label in found) == 5331
    train, held_out = split_labelled(found, (0.9, 0.1))
    assert (len(train), len(held_out)) == (9596, 1066)
    assert not {text for text, _ in train} & {text for text, _ in held_out}
    assert (train, held_out) == split_labelled(found, (0.9, 0.1))
    assert 0.45 < sum(label == "pos" for _, label in held_out) / 1066 < 0.55


def test_the_split_follows_from_the_texts_alone():
    texts = [(f"text {i // 2}", str(i % 2)) for i in range(200)]  # each text twice, with two classes
    examples = read_like(texts)
    train, held_out = split_labelled(examples, (0.9, 0.1))
    assert len(train) + len(held_out) == 200 and len(held_out) == 20
    again = split_labelled(examples[::-1], (0.9, 0.1))
    assert sorted(again[1]) == sorted(held_out) and not {t for t, _ in train} & {t for t, _ in held_out}


def read_like(pairs):
    from minilm.text import Labelled

    return [Labelled(*pair) for pair in pairs]


def test_numbers_are_in_the_order_of_their_values():
    assert class_names(["10", "9", "1", "10"]) == ["1", "9", "10"]
    assert class_names(["1", "-1"]) == ["-1", "1"]
    assert class_names(["b", "10", "a"]) == ["10", "a", "b"]


def test_what_has_no_classes_is_explained(tmp_path):
    def message(path, *columns):
        with pytest.raises(DataError) as caught:
            read_labelled(path, *columns)
        return str(caught.value)

    table = write(tmp_path / "t.csv", "text,label\ngood,pos\nfine,pos\n")
    assert "of two classes or more, and here are of one class only, 'pos'" in message(table)
    assert "no column 'body'" in message(table, "body")
    told = message(table, "text", "stars")
    assert "no column 'stars'" in told and "'text', 'label'" in told and "--label-column" in told
    lines = write(tmp_path / "l.jsonl", '{"text": "a", "kind": "x"}\n{"text": "b", "label": true}\n')
    told = message(lines)
    assert "no field 'label'" in told and "--label-column" in told and "--text-column" not in told
    lines.write_text('{"text": "b", "label": true}\n')
    assert "is True, not text (--label-column)" in message(lines)
    lines.write_text('{"text": 3, "label": "x"}\n')
    assert "is 3, not text (--text-column)" in message(lines)
    assert "1 of 2 texts have no class" in message(write(tmp_path / "e.csv", "text,label\ngood,pos\nbad,\n"))
    many = write(tmp_path / "m.csv", "text,label\n" + "".join(f"t,{i}\n" for i in range(1500)))
    assert "1,500 different classes" in message(many) and "right column" in message(many)
    assert "there is no" in message(tmp_path / "nothing.csv") and "rt_polarity" in message(tmp_path / "nothing")
    assert "is no table of texts and their classes" in message(write(tmp_path / "plain.txt", "text"))
    folder = write(tmp_path / "folder" / "t.csv", "text,label\na,b\n").parent
    told = message(folder)
    assert "no file for each class" in told and f"name it: {folder / 't.csv'}" in told

"""Labels are the next token where the model is to learn it, and -100 everywhere else, token by token."""

import json

import pytest

from minilm.errors import ConfigurationError, DataError
from minilm.text import (
    InstructionExamples,
    labelled_example,
    pad_collate,
    read_conversations,
    split_conversations,
)

# <user> Is it good ? <model> | Yes . <end> | \n <user> Why ? <model> | Because <end> | \n
PARTS = [([1, 20, 21, 22, 23, 2], False), ([30, 31], True), ([3], True), ([9, 1, 24, 23, 2], False), ([32, 3], True)]
INPUTS = [1, 20, 21, 22, 23, 2, 30, 31, 3, 9, 1, 24, 23, 2, 32]
LABELS = [-100] * 5 + [30, 31, 3] + [-100] * 5 + [32, 3]


def test_the_labels_of_a_worked_example_token_by_token():
    example = labelled_example([*PARTS, ([9], False)])
    assert example["input_ids"].tolist() == [*INPUTS, 3]
    assert example["labels"].tolist() == [*LABELS, -100], "nothing is learned after the end of the last answer"
    assert example["input_ids"].dtype == example["labels"].dtype == "int64"


def test_each_label_is_the_token_that_comes_next():
    example = labelled_example(PARTS)
    learned = example["labels"] != -100
    assert (example["labels"][:-1][learned[:-1]] == example["input_ids"][1:][learned[:-1]]).all()
    question_end = INPUTS.index(2)
    assert example["labels"][question_end] == 30, "the last token of the question predicts the first of the answer"
    assert example["labels"][INPUTS.index(31)] == 3, "the last word predicts the end"


def test_with_everything_all_tokens_but_the_first_are_learned():
    example = labelled_example(PARTS, everything=True)
    assert example["labels"].tolist() == [*INPUTS[1:], 3]


def test_an_answer_that_is_the_first_token_is_not_predicted():
    assert labelled_example([([7, 8], True)])["labels"].tolist() == [8]


# examples

TALKS = [
    [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "x"}],
    [{"role": "user", "content": "abcdefgh"}, {"role": "assistant", "content": "xyz"}],
    [{"role": "user", "content": "a" * 40}, {"role": "assistant", "content": "x"}],
]


def write(talk):
    """Bytes, and 0 after an answer."""
    return [
        (list(m["content"].encode()) + [0] * (m["role"] == "assistant"), m["role"] == "assistant") for m in talk
    ]


def test_long_examples_are_cut_at_their_end_and_counted():
    examples = InstructionExamples(TALKS, write, max_length=10)
    assert (len(examples), examples.truncated, examples.left_out, examples.kept) == (2, 1, 1, [0, 1])
    assert examples[1]["input_ids"].tolist() == list(b"abcdefghxy")
    assert examples[1]["labels"].tolist() == [-100] * 7 + list(b"xyz")
    assert examples.cut() == (
        "1 of 2 examples are cut at 10 tokens; 1 are left out: their answers begin after 10 tokens"
    )
    whole = InstructionExamples(TALKS, write, max_length=100)
    assert (len(whole), whole.truncated, whole.left_out, whole.cut()) == (3, 0, 0, "")
    assert whole.tokens() == (3 + 11 + 41, 2 + 4 + 2)


def test_the_same_examples_are_there_whether_everything_is_learned_or_not():
    examples = InstructionExamples(TALKS, write, max_length=10, everything=True)
    assert examples.kept == [0, 1] and examples.tokens() == (13, 13)


def test_a_padded_batch_learns_nothing_from_the_padding():
    batch = pad_collate([InstructionExamples(TALKS, write, max_length=50)[i] for i in (0, 1)])
    assert batch["labels"][0].tolist() == [-100, ord("x"), 0] + [-100] * 8
    assert batch["attention_mask"][0].tolist() == [True] * 3 + [False] * 8


def test_examples_without_an_answer_are_an_error():
    with pytest.raises(DataError, match="no example is left: in none of 3 conversations"):
        InstructionExamples(TALKS, write, max_length=1)


# reading


def lines(tmp_path, *records):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records))
    return path


def test_both_forms_of_a_line_are_read(tmp_path):
    path = lines(
        tmp_path,
        {"instruction": "Hello?", "answer": "Hi!", "number": 7},
        "",
        {"messages": [{"role": "system", "content": "Be kind."}, *TALKS[0]]},
        {"system": "Be brief.", "instruction": "Why?", "answer": "So."},
    )
    first, second, third = read_conversations(path)
    assert first == [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi!"}]
    assert second == [{"role": "system", "content": "Be kind."}, *TALKS[0]]
    assert [m["role"] for m in third] == ["system", "user", "assistant"] and third[0]["content"] == "Be brief."


@pytest.mark.parametrize(
    "line, what",
    [
        ("[1]", "it is list"),
        ("{", "Expecting"),
        ("[" * 100_000, "recursion"),
        ({"instruction": "x"}, "no 'answer'"),
        ({"instruction": "x", "answer": 7}, "not 7"),
        ({"instruction": "x", "answer": ""}, "no answer in it"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no answer in it"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "not 'bot'"),
        ({"messages": "x"}, "string indices"),
        ({"messages": 7}, "not iterable"),
    ],
)
def test_a_line_that_is_no_conversation_is_named(tmp_path, line, what):
    good = {"instruction": "x", "answer": "y"}
    with pytest.raises(DataError, match=f"line 2: not .*{what}"):
        read_conversations(lines(tmp_path, good, line))


def test_an_empty_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="is empty"):
        read_conversations(lines(tmp_path, "", ""))


# splitting


def test_no_question_is_on_both_sides():
    talks = [
        [{"role": "user", "content": f"q{i % 20}"}, {"role": "assistant", "content": f"a{i}"}] for i in range(40)
    ]
    train, held_out = split_conversations(talks, 0.25)
    asked = [{talk[0]["content"] for talk in part} for part in (train, held_out)]
    assert not asked[0] & asked[1] and (len(asked[0]), len(asked[1])) == (15, 5)
    assert sorted(map(str, train + held_out)) == sorted(map(str, talks))
    assert split_conversations(talks, 0.25) == (train, held_out)
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        split_conversations(talks, 1.0)
    with pytest.raises(DataError, match="2 conversations that all ask the same: at least two different questions"):
        split_conversations([talks[0], talks[20]], 0.25)

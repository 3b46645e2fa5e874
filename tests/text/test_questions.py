"""Questions on texts: what a file says is checked, nothing leaks between the parts, and every answer has its tokens."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import ConfigurationError, DataError
from minilm.text import (
    Question,
    Span,
    WordPieceTokenizer,
    answer_examples,
    answer_places,
    answer_windows,
    pad_collate,
    read_questions,
    split_questions,
    write_questions,
)

SPECIAL = "[PAD] [UNK] [CLS] [SEP] [MASK]"
WORDS = f"{SPECIAL} who when wrote it the was a in ada love ##lace ##s 18 ##43 . , ? ( ) red".split()
TEXT = "It was (in 1843), the red, red, Lovelaces Ada Lovelace wrote it.  In 1843s it was red."


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer(WORDS)


def asked(context, text, begin, question="who wrote it?", title="one"):
    assert context[begin : begin + len(text)] == text
    return Question("q", title, context, question, (Span(text, begin),))


# ----- files


def squad(path, **changes):
    """A file of one question, with some of its fields changed."""
    entry = {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 4}]} | changes
    content = {"data": [{"title": "t", "paragraphs": [{"context": "Yes Ada wrote.", "qas": [entry]}]}]}
    path.write_text(json.dumps(content))
    return path


def test_a_file_is_read_and_written(tmp_path):
    questions = read_questions(squad(tmp_path / "one.json"))
    assert questions == [Question("1", "t", "Yes Ada wrote.", "Who?", (Span("Ada", 4),))]
    two = (Span("Ada", 3), Span("so", 0))
    more = [*questions, questions[0]._replace(title="u", context="so Ada \u00e9", answers=two)]
    more += [questions[0]._replace(id="2", question="Did she?", answers=(Span("Yes", 0),))]
    write_questions(tmp_path / "two.json", more)
    again = read_questions(tmp_path / "two.json")
    assert sorted(again) == sorted(more) and len(again) == 3
    paragraphs = json.loads((tmp_path / "two.json").read_text())["data"][0]["paragraphs"]
    assert len(paragraphs) == 1 and len(paragraphs[0]["qas"]) == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"answers": [{"text": "Ada", "answer_start": 5}]}, "not at character 5 of its paragraph: there stands 'da '"),
        ({"answers": [{"text": "Ada", "answer_start": -3}]}, "a number from 0"),
        ({"answers": [{"text": "Ada", "answer_start": "4"}]}, "a number from 0"),
        ({"answers": [{"text": "Ada", "answer_start": 10**30}]}, "is not at character"),
        ({"answers": [{"text": "", "answer_start": 4}]}, "is not at character"),
        ({"answers": []}, "'Who\\?' has no answer"),
        ({"answers": "Ada"}, 'a list "answers"'),
        ({"answers": [4]}, 'a text "text" where there is 4'),
        ({"question": None}, 'a text "question"'),
    ],
)
def test_what_is_wrong_in_a_file_is_told(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read_questions(squad(tmp_path / "wrong.json", **changes))


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"data": []}', '{"data": {}}', "[" * 100_000, '{"data": [3]}'])
def test_what_is_no_such_file_is_told(tmp_path, content):
    (tmp_path / "wrong.json").write_text(content)
    with pytest.raises(DataError, match="SQuAD|no questions"):
        read_questions(tmp_path / "wrong.json")
    with pytest.raises(DataError, match="no file"):
        read_questions(tmp_path / "nowhere.json")


# ----- parts


def many(articles=20, paragraphs=3, questions=2):
    return [
        Question(f"{a} {p} {q}", f"title {a}", f"Paragraph {p} of article {a}.", f"{q}?", (Span("P", 0),))
        for a in range(articles)
        for p in range(paragraphs)
        for q in range(questions)
    ]


@pytest.mark.parametrize("by, of", [("article", lambda q: q.title), ("paragraph", lambda q: q.context)])
def test_no_article_and_no_paragraph_is_on_both_sides(by, of):
    questions = many()
    train, test = split_questions(questions, by=by)
    assert sorted(train + test) == sorted(questions) and len(test) == 2 * 9
    assert not {of(q) for q in train} & {of(q) for q in test}
    assert (train, test) == split_questions(questions, by=by) != split_questions(questions, seed=1, by=by)
    assert [q for q in questions if q in test] == test, "they keep their order"
    turned = split_questions(questions[::-1], by=by)
    assert sorted(turned[1]) == sorted(test), "the part does not depend on the place in the file"


def test_a_paragraph_in_two_articles_is_in_one_part():
    questions = many(30, 1, 1)
    copies = [q._replace(title=f"copy {q.title}", context=f"  {q.context.upper()}!") for q in questions]
    train, test = split_questions([*questions, *copies])
    assert len(train) + len(test) == 60
    assert not {q.context.strip(" !").lower() for q in train} & {q.context.strip(" !").lower() for q in test}


def test_too_few_articles_cannot_be_split():
    with pytest.raises(DataError, match="1 different"):
        split_questions(many(1))
    assert len(split_questions(many(1), by="paragraph")[1]) == 2
    with pytest.raises(ValueError, match="by 'line'"):
        split_questions(many(), by="line")


# ----- windows


def test_a_short_text_is_one_window(tokenizer):
    (window,) = answer_windows(tokenizer, "Who wrote it?", "Ada Lovelace, in 1843.")
    tokens = [WORDS[i] for i in window.input_ids]
    assert tokens == "[CLS] who wrote it ? [SEP] ada love ##lace , in 18 ##43 . [SEP]".split()
    assert window.token_type_ids.tolist() == [0] * 6 + [1] * 9
    assert (window.offsets[:6] == -1).all() and (window.offsets[-1] == -1).all()
    assert window.offsets[6:-1].tolist() == [[0, 3], [4, 8], [8, 12], [12, 13], [14, 16], [17, 19], [19, 21], [21, 22]]


@given(st.integers(1, 60), st.integers(9, 40), st.integers(1, 30))
def test_windows_overlap_and_hold_every_token(words, size, stride):
    tokenizer = WordPieceTokenizer(WORDS)
    text = " ".join(WORDS[5 + i % 14].strip("#") for i in range(words))
    ids, offsets = tokenizer.encode_with_offsets(text)
    room = size - 3 - 3
    if stride > room:
        with pytest.raises(ConfigurationError, match=f"holds {room} tokens"):
            answer_windows(tokenizer, "who wrote it", text, size, stride)
        return
    windows = answer_windows(tokenizer, "who wrote it", text, size, stride)
    pieces = [window.input_ids[5:-1].tolist() for window in windows]
    assert pieces == [ids[k * stride : k * stride + room].tolist() for k in range(len(pieces))]
    assert len(pieces) == 1 + max(0, -(-(len(ids) - room) // stride)), "no more than are needed"
    assert (len(pieces) - 1) * stride + len(pieces[-1]) == len(ids)
    for k, window in enumerate(windows):
        assert len(window.input_ids) <= size
        assert window.offsets[5:-1].tolist() == offsets[k * stride : k * stride + room].tolist()


def test_a_long_question_leaves_room_for_the_text(tokenizer):
    windows = answer_windows(tokenizer, "who " * 100, "ada " * 50, 20)
    assert [len(window.input_ids) for window in windows[:-1]] == [20] * (len(windows) - 1)
    assert (windows[0].token_type_ids == 1).sum() == 1 + 9
    assert (answer_windows(tokenizer, "who " * 100, "ada")[0].token_type_ids == 0).sum() == 66


def test_what_cannot_be_read_is_told(tokenizer):
    for question, text, reason in (("\u200b", "ada", "no words"), ("who", " \n", "no text to look")):
        with pytest.raises(DataError, match=reason):
            answer_windows(tokenizer, question, text)
    with pytest.raises(ConfigurationError, match="8 or more"):
        answer_windows(tokenizer, "who", "ada", 7)
    for stride in (0, 400):
        with pytest.raises(ConfigurationError, match="stride"):
            answer_windows(tokenizer, "who", "ada", stride=stride)


# ----- answers


@pytest.mark.parametrize(
    "answer, begin, tokens",
    [
        ("Ada Lovelace", TEXT.index("Ada"), "ada love ##lace"),
        ("(in 1843)", TEXT.index("("), "( in 18 ##43 )"),
        ("in 1843", TEXT.index("in 1843"), "in 18 ##43"),  # not the brackets that it touches
        ("1843", TEXT.index("1843s"), "18 ##43"),  # within a word, but of whole tokens
        ("Lovelace", TEXT.index("Lovelaces"), "love ##lace"),
        ("843", TEXT.index("843"), "18 ##43"),  # begins within a token
        ("red, red", TEXT.index("red, red"), "red , red"),
        (" wrote it.  ", TEXT.index(" wrote it."), "wrote it ."),
        ("It", 0, "it"),
        (TEXT, 0, None),
    ],
)
def test_the_tokens_of_an_answer_are_what_it_says(tokenizer, answer, begin, tokens):
    (example,) = answer_examples(tokenizer, [asked(TEXT, answer, begin)])
    chosen = example["input_ids"][example["start_positions"] : example["end_positions"] + 1]
    if tokens is None:
        assert len(chosen) == len(tokenizer.encode(TEXT))
    else:
        assert [WORDS[i] for i in chosen] == tokens.split()


@given(st.integers(0, 40), st.integers(1, 6), st.integers(9, 30), st.integers(1, 5))
def test_in_every_window_the_answer_or_cls(first, count, size, stride):
    """Against the characters: a window that shows the whole answer points at it, any other one at [CLS]."""
    tokenizer = WordPieceTokenizer(WORDS)
    words = [f"red{'s' * (i % 3)}" if i % 2 else "ada" for i in range(46)]
    text = " ".join(words)
    begin = len(" ".join(words[:first])) + (first > 0)
    answer = " ".join(words[first : first + count])
    question = asked(text, answer, begin, "who")
    windows = answer_windows(tokenizer, "who", text, size, min(stride, size - 4))
    examples = answer_examples(tokenizer, [question], size, min(stride, size - 4))
    found = 0
    for window, example in zip(windows, examples, strict=True):
        start, end = example["start_positions"], example["end_positions"]
        shown = window.offsets[3:-1]
        if shown[0, 0] <= begin and begin + len(answer) <= shown[-1, 1]:
            assert text[window.offsets[start, 0] : window.offsets[end, 1]] == answer
            found += 1
        else:
            assert (start, end) == (0, 0)
        assert answer_places(window, begin, begin + len(answer)) == (start, end)
    assert found or len(tokenizer.encode(answer)) > size - 4 - min(stride, size - 4)


def test_spaces_around_an_answer_are_no_part_of_it(tokenizer):
    for text, answer in (("  ada wrote it", "  ada"), ("it was ada \n", "ada \n")):
        (example,) = answer_examples(tokenizer, [asked(text, answer, text.index(answer))])
        assert example["start_positions"] == example["end_positions"] > 0


def test_the_first_of_several_answers_is_learnt(tokenizer):
    question = asked(TEXT, "red", TEXT.index("red"))
    several = question._replace(answers=(Span("Ada", TEXT.index("Ada")), *question.answers))
    (example,) = answer_examples(tokenizer, [several])
    assert WORDS[example["input_ids"][example["start_positions"]]] == "ada"


def test_examples_are_padded_to_the_longest(tokenizer):
    questions = [asked(TEXT, "Ada", TEXT.index("Ada")), asked("Ada.", "Ada", 0)]
    batch = pad_collate(answer_examples(tokenizer, questions))
    lengths = batch["attention_mask"].sum(axis=1)
    assert lengths[0] == batch["input_ids"].shape[1] > lengths[1]
    assert batch["start_positions"].shape == batch["end_positions"].shape == (2,)


def test_every_answer_of_a_real_data_set_has_its_tokens(test_data):
    from minilm.evaluation import evaluate_answers

    questions = read_questions(test_data("xquad/xquad.en.json"))
    tokenizer = WordPieceTokenizer.from_file(test_data("bert_vocab/bert_base_uncased_vocab.txt"))
    assert len(questions) == 1190 and len({q.title for q in questions}) == 48
    train, test = split_questions(questions)
    assert (len(train), len(test)) == (1001, 189)
    said = []
    for question in questions:
        best = ""
        for window in answer_windows(tokenizer, question.question, question.context):
            text, begin = question.answers[0]
            start, end = answer_places(window, begin, begin + len(text))
            if start:
                best = question.context[window.offsets[start, 0] : window.offsets[end, 1]]
        said.append(best)
    figures = evaluate_answers(said, [q.answers[0].text for q in questions]).values
    assert figures["exact_match"] > 99 and figures["f1"] > 99.5, "all but those that end within a word"

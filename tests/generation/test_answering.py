"""Answers found in texts: the best pair of places by brute force, in the text alone, over all windows of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minilm.backend import asarray
from minilm.errors import ConfigurationError, DataError
from minilm.generation import best_span, find_answers
from minilm.models import BERTConfig, BERTForQuestionAnswering
from minilm.random import Generator, using_generator
from minilm.tensor import Tensor, no_grad
from minilm.text import WordPieceTokenizer

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] who wrote it the was in ada love ##lace red blue . ?".split()
ID = {word: number for number, word in enumerate(WORDS)}


class Reader:
    """Points at tokens by their ids: `start` and `end` give the logits of some; [CLS] has 0, all others -9."""

    context_length = 64
    training = False

    def __init__(self, start, end):
        self.tables = [np.full(len(WORDS), -9.0, dtype=np.float32) for _ in range(2)]
        for table, logits in zip(self.tables, (start, end), strict=True):
            table[ID["[CLS]"]] = 0
            for word, logit in logits.items():
                table[ID[word]] = logit
        self.shapes = []

    def modules(self):
        return [self]

    def __call__(self, ids, mask, segments):
        self.shapes.append(ids.shape)
        mask = np.ones(ids.shape, bool) if mask is None else mask
        return tuple(Tensor(np.where(mask, table[ids], -np.inf).astype(np.float32)) for table in self.tables)


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer(WORDS)


scores = st.integers(1, 7).flatmap(lambda n: arrays(float, (2, n), elements=st.sampled_from([-np.inf, -1, 0, 2, 3.5])))


@given(scores, st.integers(1, 8))
def test_the_best_span_is_that_of_a_loop(pair, longest):
    start, end = pair
    T = len(start)
    every = {(s, e): start[s] + end[e] for s in range(T) for e in range(s, min(T, s + longest))}
    s, e, score = best_span(start, end, longest)
    assert score == max(every.values())
    if np.isfinite(score):
        assert (s, e) == min(place for place, value in every.items() if value == score)


def test_the_answer_is_what_the_text_says(tokenizer):
    model = Reader({"love": 5}, {"##lace": 5})
    text = "The red  one: it was Ada LOVELACE (blue)."
    (found,) = find_answers(model, tokenizer, [("Who wrote it?", text)])
    assert found.text == "LOVELACE" == text[found.begin : found.end]
    ids = tokenizer.pair(tokenizer.encode("Who wrote it?"), tokenizer.encode(text)).input_ids
    softmax = [np.exp(table[ids].astype(np.float64)) for table in model.tables]
    start, end = (p / p.sum() for p in softmax)
    place = ids.tolist().index(ID["love"])
    assert found.probability == pytest.approx(start[place] * end[place + 1])


def test_the_question_and_the_marks_are_no_answers(tokenizer):
    model = Reader({"who": 9, "[SEP]": 9, "[CLS]": 9, "red": 1}, {"?": 9, "[SEP]": 9, "red": 1})
    (found,) = find_answers(model, tokenizer, [("who wrote it?", "it was red")])
    assert found.text == "red" and found.probability < 1e-3


def test_an_answer_does_not_end_before_it_begins_and_is_not_too_long(tokenizer):
    model = Reader({"red": 5, "ada": 3}, {"ada": 5, "blue": 4})
    text = "ada was the red " + "it " * 10 + "blue"
    assert find_answers(model, tokenizer, [("who", text)])[0].text == text[12:]
    assert find_answers(model, tokenizer, [("who", text)], longest=12)[0].text == text[12:]
    assert find_answers(model, tokenizer, [("who", text)], longest=11)[0].text == "ada"


def test_the_best_window_of_a_long_text_has_the_answer(tokenizer):
    """In the midst of "the", and only once: whichever window it is in, the answer is the same."""
    model = Reader({"ada": 5}, {"##lace": 5})
    for place in range(0, 120, 7):
        words = ["the"] * 120
        words[place] = "Ada Lovelace"
        text = " ".join(words)
        (found,) = find_answers(model, tokenizer, [("who wrote it?", text)], window=24, stride=6)
        assert (found.text, found.begin) == ("Ada Lovelace", 4 * place) and found.probability > 0.9
    assert max(T for _, T in model.shapes) <= 24


def test_windows_compare_by_probability_and_not_by_logit(tokenizer):
    """"red" scores 8, in a window where [CLS] does 20; "blue" 5, where nothing else does: blue is surer."""

    class Unsure(Reader):
        def __call__(self, ids, mask, segments):
            both = super().__call__(ids, mask, segments)
            has_red = (ids == ID["red"]).any(axis=1)
            for logits in both:
                logits.data[asarray(has_red), 0] = 20
            return both

    model = Unsure({"red": 8, "blue": 5}, {"red": 8, "blue": 5})
    text = "red " + "the " * 40 + "blue"
    assert find_answers(model, tokenizer, [("who", text)], window=16)[0].text == "blue"


def test_many_questions_come_back_in_their_order(tokenizer):
    model = Reader({"red": 5, "blue": 5, "ada": 5}, {"red": 5, "blue": 5, "ada": 5})
    asked = [("who", "the " * n + word) for n, word in ((30, "Red"), (2, "blue"), (50, "ADA"), (0, "blue"), (9, "red"))]
    found = find_answers(model, tokenizer, asked, batch_size=2)
    assert [answer.text for answer in found] == ["Red", "blue", "ADA", "blue", "red"]
    assert found == [find_answers(model, tokenizer, [one])[0] for one in asked]
    assert find_answers(model, tokenizer, []) == []


def test_a_bert_answers_alone_as_in_company(tokenizer):
    with using_generator(Generator(5)):
        model = BERTForQuestionAnswering(BERTConfig(len(WORDS), 32, 1, 2, 16, 16))
    for parameter in model.parameters():
        parameter.data *= 8
    asked = [("who wrote it?", "ada lovelace was red. blue it was."), ("who", "red ada blue"), ("it?", "the " * 60)]
    together = find_answers(model, tokenizer, asked)
    for one, found in zip(asked, together, strict=True):
        (alone,) = find_answers(model, tokenizer, [one])
        assert (alone.text, alone.begin, alone.end) == (found.text, found.begin, found.end)
        assert alone.probability == pytest.approx(found.probability, rel=1e-4)
    assert model.training, "it is in the mode that it was in"
    ids, segments = tokenizer.pair(tokenizer.encode("who"), tokenizer.encode("red ada blue"))
    with no_grad():
        start, end = (logits.numpy()[0].astype(np.float64) for logits in model.eval()(ids[None], None, segments[None]))
    start, end = (np.exp(logits) / np.exp(logits).sum() for logits in (start, end))
    every = {(s, e): start[s] * end[e] for s in (3, 4, 5) for e in range(s, 6)}
    (s, e), most = max(every.items(), key=lambda item: item[1])
    assert together[1].text == " ".join("red ada blue".split()[s - 3 : e - 2])
    assert together[1].probability == pytest.approx(most, rel=1e-4)


def test_settings_that_make_no_sense_are_explained(tokenizer):
    model = Reader({}, {})
    with pytest.raises(ConfigurationError, match="at most 64 at once"):
        find_answers(model, tokenizer, [("who", "red")], window=65)
    with pytest.raises(ConfigurationError, match="longest=0"):
        find_answers(model, tokenizer, [("who", "red")], longest=0)
    with pytest.raises(DataError, match="no text"):
        find_answers(model, tokenizer, [("who", " ")])

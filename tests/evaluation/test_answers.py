"""Exact match and F1 of answers, against examples worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import DataError
from minilm.evaluation import evaluate_answers, exact_match, normalize_answer, token_f1


@pytest.mark.parametrize(
    "text, normalized",
    [
        ("The Beatles' U.S. tour", "beatles us tour"),
        ("  a   cat,  the dog\tand\nan owl. ", "cat dog and owl"),
        ("theatre, another, banana", "theatre another banana"),  # articles are words
        ("a-ha", "aha"),  # the hyphen goes first, and leaves no word "a" behind
        ("A", ""),
        ("24–10", "24–10"),  # an en dash is no ASCII punctuation: the published script leaves it too
        ("$1.5 million", "15 million"),
        ("Zürich", "zürich"),
    ],
)
def test_normalisation_in_the_order_of_the_published_script(text, normalized):
    assert normalize_answer(text) == normalized
    assert normalize_answer(normalized) == normalized


def test_exact_match_is_after_normalisation():
    assert exact_match("Denver Broncos.", ["The Denver Broncos", "Broncos"]) == 100
    assert exact_match("Denver", ["Denver Broncos"]) == 0
    assert exact_match("the", "") == 100 and exact_match("", "Denver") == 0


def test_f1_by_hand():
    # prediction: levi's stadium in santa clara (5 words); reference: levi's stadium (2): shared 2
    assert token_f1("Levi's Stadium in Santa Clara", "Levi's Stadium") == pytest.approx(100 * 2 * 0.4 * 1 / 1.4)
    # words count as often as both sides have them: of "no no no" and "no no yes" two are shared
    assert token_f1("no no no", "no no yes") == pytest.approx(100 * 2 / 3)
    assert token_f1("the one", "one") == 100
    assert token_f1("red", "blue") == 0


def test_without_words_f1_asks_whether_both_have_none():
    assert token_f1("", "") == token_f1("the", "an") == 100
    assert token_f1("", "something") == token_f1("something", "") == 0


def test_the_best_reference_counts_for_each_measure_by_itself():
    references = ["early in the morning of 3 May", "3 May"]
    assert exact_match("3 May", references) == 100
    # early in morning of 3 may: 6 words, 2 of the prediction's 3 shared: 4/9; 3 may: 2 of 3 and of 2: 4/5
    assert token_f1("on 3 May", references) == pytest.approx(80)


def test_the_mean_over_questions_and_what_it_stands_on():
    figures = evaluate_answers(["Paris", "in 1976", ""], [["Paris", "Paris, France"], "1976", ["never"]])
    assert figures.values["exact_match"] == pytest.approx(100 / 3)
    assert figures.values["f1"] == pytest.approx((100 + 200 / 3 + 0) / 3)
    assert (figures.documents, figures.tokens) == (3, 3)
    assert figures.as_dict()["documents"] == 3


words = st.lists(st.sampled_from("the a red Red, blue. 7 .".split()), max_size=6).map(" ".join)


@given(words, words)
def test_the_bounds_and_the_symmetry_of_f1(a, b):
    assert 0 <= token_f1(a, b) <= 100
    assert token_f1(a, b) == token_f1(b, a)
    assert exact_match(a, b) <= token_f1(a, b)
    assert exact_match(a, a) == token_f1(a, a) == 100


def test_what_cannot_be_scored_is_told():
    with pytest.raises(DataError, match="2 predictions and 1 references"):
        evaluate_answers(["a", "b"], ["a"])
    with pytest.raises(DataError, match="nothing to score"):
        evaluate_answers([], [])
    with pytest.raises(DataError, match="no reference"):
        evaluate_answers(["a"], [[]])


def test_the_answers_of_a_real_data_set_are_right_answers(test_data):
    import json

    data = json.loads(test_data("xquad/xquad.en.json").read_text(encoding="utf-8"))["data"]
    right = [
        [answer["text"] for answer in question["answers"]]
        for article in data
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    figures = evaluate_answers([answers[0] for answers in right], right)
    assert figures.values == {"exact_match": 100, "f1": 100} and figures.documents == 1190

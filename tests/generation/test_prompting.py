"""A few-shot prompt is written as its form says, and its examples are balanced, drawn by the seed alone."""

from collections import Counter

import pytest

from minilm.errors import ConfigurationError, DataError
from minilm.generation import FewShotPrompt, balanced_examples
from minilm.random import Generator

FORM = FewShotPrompt("Review: {text}\nSentiment:")
EXAMPLES = [(f"good {i}", "positive") for i in range(9)] + [(f"bad {i}", "negative") for i in range(7)]


def test_the_examples_come_before_the_question_with_their_answers():
    shots = [("a {text} of old", "positive"), ("dull", "negative")]
    assert FORM.write("fine .", shots) == (
        "Review: a {text} of old\nSentiment: positive\n\n"
        "Review: dull\nSentiment: negative\n\n"
        "Review: fine .\nSentiment:"
    )
    assert FORM.write("fine .") == "Review: fine .\nSentiment:"
    assert FORM.option("positive") == " positive"


@pytest.mark.parametrize("form", ["Review:", "Review: {text}\nSentiment: "])
def test_a_form_that_cannot_serve_is_refused(form):
    with pytest.raises(ConfigurationError, match="form"):
        FewShotPrompt(form)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 8])
def test_each_answer_is_shown_as_often_as_the_others_or_once_more(number):
    chosen = balanced_examples(EXAMPLES, number, Generator(3))
    assert len(set(chosen)) == number and set(chosen) <= set(EXAMPLES)
    counts = Counter(answer for _, answer in chosen)
    assert max(counts.values(), default=0) - min(counts["positive"], counts["negative"]) == number % 2


def test_the_seed_alone_says_which_examples_and_in_which_order():
    assert balanced_examples(EXAMPLES, 4, Generator(1)) == balanced_examples(EXAMPLES, 4, Generator(1))
    drawn = {tuple(answer for _, answer in balanced_examples(EXAMPLES, 4, Generator(seed))) for seed in range(20)}
    assert len(drawn) > 3, "the answers do not always come in the same order"
    first = {balanced_examples(EXAMPLES, 1, Generator(seed))[0][1] for seed in range(20)}
    assert first == {"positive", "negative"}, "a single example is not always of the same answer"


def test_too_few_examples_are_an_error():
    with pytest.raises(DataError, match="8 examples of 'negative' are wanted, and there are 7"):
        balanced_examples(EXAMPLES, 16, Generator(0))
    with pytest.raises(DataError, match="none at all"):
        balanced_examples([], 2, Generator(0))

"""The checkers of chapter 0: a right answer passes, and each usual mistake is named."""

import math

import numpy as np
import pytest

from checks import NotYet
from checks.chapter_00 import check_attention, check_perplexity, check_printed_result, check_softmax


def softmax(s, axis=-1):
    e = np.exp(s - s.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def attention(Q, K, V):
    return softmax(Q @ K.T / math.sqrt(Q.shape[-1])) @ V


def raw_softmax(s):
    with np.errstate(all="ignore"):
        return np.exp(s) / np.exp(s).sum(-1, keepdims=True)


RIGHT = [
    (check_perplexity, lambda p: np.exp(-np.mean(np.log(p)))),
    (check_softmax, softmax),
    (check_softmax, lambda s: softmax(s.astype("float32"))),
    (check_attention, attention),
    (check_attention, lambda Q, K, V: attention(Q, K, V).astype("float32")),
    (check_printed_result, np.array([0.0, 2 / 3, 1 / 3])),
    (check_printed_result, [[1.0], [-1 / 3], [1 / 3]]),
    (check_printed_result, (0.0, 0.6667, 0.3333)),
]
WRONG = [
    (check_perplexity, lambda p: ..., "fill it in"),
    (check_perplexity, lambda p: -np.log(p).mean(), "perplexity is its exponential"),
    (check_perplexity, lambda p: np.exp(np.log(p).mean()), "The sign"),
    (check_perplexity, lambda p: np.prod(1 / p) ** (1 / len(p)), "add logarithms"),
    (check_perplexity, lambda p: 2 ** -np.log(p).mean(), "base e"),
    (check_softmax, lambda s: np.exp(s) / np.exp(s).sum(), "each row must"),
    (check_softmax, lambda s: softmax(s, 0), "columns sum to 1"),
    (check_softmax, raw_softmax, "subtract the largest score"),
    (check_softmax, lambda s: raw_softmax(s - s.max()), "largest of each row"),
    (check_attention, lambda Q, K, V: softmax(Q @ K.T) @ V, "not divided by the square root"),
    (check_attention, lambda Q, K, V: softmax(Q @ K.T / Q.shape[-1]) @ V, "must be its square root"),
    (check_attention, lambda Q, K, V: softmax(Q @ K.T / math.sqrt(len(K))) @ V, "not the number of keys"),
    (check_attention, lambda Q, K, V: softmax(Q @ K.T / math.sqrt(Q.shape[-1]), 0) @ V, "those of each query must"),
    (check_attention, lambda Q, K, V: softmax(Q @ K.T / math.sqrt(Q.shape[-1])) @ (1 / V), "divides by V"),
    (check_attention, lambda Q, K, V: softmax(Q @ K.T / math.sqrt(Q.shape[-1])) / V, "could not be broadcast"),
    (check_attention, lambda Q, K, V: (attention(Q, K, V), Q @ K.T), "return the output alone"),
    (check_printed_result, [0.0, 1.0, 1.0], "0.5777, 0.6667, 0.5777"),
    (check_printed_result, [1 / 3] * 3, "not all equal"),
    (check_printed_result, [0.0, 0.0, 1.0], "the three values must sum to 1"),
    (check_printed_result, [1.0, 2.0], "three values"),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_a_right_answer_passes(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize("check, answer, message", WRONG)
def test_a_mistake_is_named(check, answer, message):
    with pytest.raises(NotYet, match=message), np.errstate(divide="ignore"):
        check(answer)

"""The checkers of chapter 10: a right answer passes (the solutions in the chapter), each usual mistake is named."""

import numpy as np
import pytest

from checks import NotYet, chapter_10


def test_widest_lstm_names_one_too_many_and_one_too_few():
    def count(V, C, H):
        return V * C + 4 * H * (C + H + 2) + V * (H + 1)

    def widest(V, C, most):
        return max((H for H in range(1, 500) if count(V, C, H) <= most), default=0)

    chapter_10.check_widest_lstm(widest)
    with pytest.raises(NotYet, match="too many"):
        chapter_10.check_widest_lstm(lambda *sizes: widest(*sizes) + 1)
    with pytest.raises(NotYet, match=r"empty.*widest_lstm\(2, 8, 10\)"):
        chapter_10.check_widest_lstm(lambda V, C, most: max(H for H in range(1, 500) if count(V, C, H) <= most))
    with pytest.raises(NotYet, match="fits as well"):
        chapter_10.check_widest_lstm(lambda *sizes: max(widest(*sizes) - 1, 0))


def recall(rng, B, pairs, keys, values, repeat=False, first=False, wrong=False):
    k = rng.integers(0, keys, (B, pairs)) if repeat else np.stack([rng.permutation(keys)[:pairs] for _ in range(B)])
    v = keys + rng.integers(0, values, (B, pairs))
    at = np.zeros(B, int) if first else rng.integers(0, pairs, B)
    ids = np.concatenate([np.stack([k, v], 2).reshape(B, -1), k[np.arange(B), at][:, None]], 1)
    labels = np.full_like(ids, -100)
    labels[:, -1] = v[np.arange(B), 0 if wrong else at]
    return {"input_ids": ids, "labels": labels}


@pytest.mark.parametrize(
    "mistake, message",
    [
        ({"repeat": True}, "occurs twice"),
        ({"first": True}, "draw one at random"),
        ({"wrong": True}, "not the value of the key"),
    ],
)
def test_recall_batch_names(mistake, message):
    chapter_10.check_recall_batch(recall)
    with pytest.raises(NotYet, match=message):
        chapter_10.check_recall_batch(lambda *sizes: recall(*sizes, **mistake))


def test_recall_batch_says_that_a_batch_is_a_dict():
    for answer in (lambda *sizes: tuple(recall(*sizes).values()), lambda *sizes: {"ids": 0}):
        with pytest.raises(NotYet, match="a batch is a dict"):
            chapter_10.check_recall_batch(answer)


@pytest.mark.parametrize(
    "weights, message",
    [
        ((1, 1, 0, -0.5), "with h = 1 and x = 1.*a one flips"),
        ((1, 0, -1, -0.5), "a zero leaves the state"),
        ((1, 1), "four numbers"),
    ],
)
def test_parity_weights_names_the_row_of_the_table_that_fails(weights, message):
    with pytest.raises(NotYet, match=message):
        chapter_10.check_parity_weights(lambda: weights)

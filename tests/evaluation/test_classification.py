"""Scores of a classifier, against counts by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import DataError
from minilm.evaluation import accuracy, confusion_matrix, evaluate_classifier, f1
from minilm.nn import Module
from minilm.tensor import Tensor, is_grad_enabled

# 10 animals: the truth, and what they were taken for (0 cat, 1 dog, 2 hen)
TRUE = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
TAKEN = np.array([0, 0, 1, 2, 1, 1, 0, 2, 2, 2])


def test_a_known_example():
    assert accuracy(TAKEN, TRUE) == 0.7
    np.testing.assert_array_equal(confusion_matrix(TAKEN, TRUE), [[2, 1, 1], [1, 2, 0], [0, 0, 3]])
    # cat: precision 2/3, recall 2/4; dog: 2/3, 2/3; hen: 3/4, 3/3
    each = [2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2), 2 / 3, 2 * (3 / 4) / (3 / 4 + 1)]
    np.testing.assert_allclose(f1(TAKEN, TRUE, average=None), each, rtol=1e-14)
    assert f1(TAKEN, TRUE) == pytest.approx(sum(each) / 3, rel=1e-14)


pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)


@given(pairs)
def test_the_scores_equal_counts_one_by_one(pairs):
    taken, true = np.array(pairs).T
    C = confusion_matrix(taken, true, n_classes=5)
    scores = []
    for i in range(5):
        for j in range(5):
            assert C[i, j] == sum(pair == (j, i) for pair in pairs)
        hits = sum(a == b == i for a, b in pairs)
        false_positives = sum(a == i != b for a, b in pairs)
        misses = sum(b == i != a for a, b in pairs)
        if hits + false_positives + misses:
            scores.append(2 * hits / (2 * hits + false_positives + misses))
    assert accuracy(taken, true) == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert f1(taken, true, n_classes=5) == pytest.approx(np.mean(scores))


def test_a_class_nobody_met_is_left_out_of_the_mean():
    assert f1([0, 0], [0, 0], n_classes=3) == 1.0
    np.testing.assert_array_equal(f1([0, 0], [0, 0], n_classes=3, average=None), [1.0, np.nan, np.nan])


def test_always_the_largest_class_flatters_accuracy_but_not_f1():
    true = np.r_[np.zeros(90, int), np.ones(10, int)]
    assert accuracy(np.zeros(100, int), true) == 0.9
    assert f1(np.zeros(100, int), true) == pytest.approx(0.5 * 180 / 190)


def test_ignored_targets_do_not_count():
    taken, true = np.array([[0, 1], [1, 0]]), np.array([[0, -100], [0, -100]])
    assert accuracy(taken, true) == 0.5
    np.testing.assert_array_equal(confusion_matrix(taken, true), [[1, 1], [0, 0]])
    assert accuracy(taken, [[0, 9], [0, 9]], ignore_index=9) == 0.5


def test_tensors_and_lists_serve_and_small_integers_do_not_overflow():
    assert accuracy(Tensor(TAKEN), TRUE.tolist()) == 0.7
    C = confusion_matrix(np.array([99], "uint8"), np.array([98], "uint8"), n_classes=100)
    assert C[98, 99] == 1 == C.sum()


@pytest.mark.parametrize("score", [accuracy, confusion_matrix, f1])
def test_what_cannot_be_scored_is_refused(score):
    with pytest.raises(ValueError, match=r"predictions \(2, 3\) and targets \(2,\)"):
        score(np.zeros((2, 3), int), np.zeros(2, int))
    with pytest.raises(ValueError, match="argmax"):
        score(np.zeros(2), np.zeros(2, int))
    for nothing in ([], [-100]):
        with pytest.raises(DataError, match="nothing to score"):
            score(np.zeros(len(nothing), int), np.array(nothing, int))


def test_a_class_out_of_range_is_named():
    with pytest.raises(ValueError, match="0 to 1; found 2"):
        confusion_matrix([2], [0], n_classes=2)
    with pytest.raises(ValueError, match="found -1"):
        confusion_matrix([-1], [0], n_classes=2)
    with pytest.raises(ValueError, match="'weighted'"):
        f1([0], [0], average="weighted")


class Scripted(Module):
    """Takes its first token for the class; three classes."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, ids, attention_mask=None):
        self.seen.append((self.training, is_grad_enabled(), attention_mask is not None))
        return Tensor(np.eye(3)[ids[:, 0] % 3])


def test_a_model_is_scored_over_all_batches():
    """The ten animals, in batches of 4, 4 and 2 that are padded to different lengths."""
    model, batches = Scripted(), []
    for k in (0, 4, 8):
        taken = TAKEN[k : k + 4]
        batches.append(
            {
                "input_ids": np.stack([taken, taken], axis=1),
                "attention_mask": np.array([[True, False]] * len(taken)),
                "labels": TRUE[k : k + 4],
                "anything": None,
            }
        )
    figures = evaluate_classifier(model, batches, names=["cat", "dog", "hen"])
    assert figures.values == pytest.approx({"accuracy": 0.7, "macro_f1": f1(TAKEN, TRUE)})
    assert figures.details == {"classes": ["cat", "dog", "hen"], "confusion": [[2, 1, 1], [1, 2, 0], [0, 0, 3]]}
    assert (figures.documents, figures.tokens) == (10, 10), "padding is no token"
    assert model.seen == [(False, False, True)] * 3 and model.training


def test_classes_of_tokens_are_scored_where_they_have_a_label():
    def per_token(ids):
        return Tensor(np.eye(2)[ids])

    batch = {"input_ids": np.array([[0, 1, 1], [1, 0, 0]]), "labels": np.array([[0, 1, 0], [1, -100, -100]])}
    figures = evaluate_classifier(per_token, [batch])
    assert figures.values["accuracy"] == 0.75
    assert (figures.documents, figures.tokens) == (2, 6)


def test_a_label_that_the_model_does_not_know_is_told():
    with pytest.raises(DataError, match="knows 3 classes, 0 to 2, and the data have the label 3"):
        evaluate_classifier(Scripted(), [{"input_ids": np.array([[0]]), "labels": np.array([3])}])
    with pytest.raises(DataError, match="no example"):
        evaluate_classifier(Scripted(), [])

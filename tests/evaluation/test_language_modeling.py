"""Scores of a language model: the formulas, and that the cut into batches does not show."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import DataError
from minilm.evaluation import (
    bits_per_byte,
    bits_per_character,
    count_labels,
    evaluate_language_model,
    perplexity,
)
from minilm.functional.reductions import mean
from minilm.nn import Module
from minilm.tensor import Tensor, is_grad_enabled


class TableModel(Module):
    """A unigram model: -log p of each token from a table."""

    def __init__(self, nll):
        super().__init__()
        self.nll = np.asarray(nll, dtype="float64")
        self.seen = []

    def loss(self, batch):
        self.seen.append((self.training, is_grad_enabled()))
        labels = batch["labels"]
        return Tensor(self.nll[labels[labels != -100]].mean())


def test_perplexity_of_a_uniform_guess_is_the_number_of_choices():
    assert perplexity(math.log(65)) == pytest.approx(65, rel=1e-14)
    assert perplexity(0.0) == 1.0
    assert perplexity(1e4) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_a_uniform_guess_of_a_byte_costs_eight_bits():
    assert bits_per_byte(1000 * math.log(256), 1000) == pytest.approx(8, rel=1e-14)
    assert bits_per_character(1000 * math.log(2), 500) == pytest.approx(2, rel=1e-14)
    for function in (bits_per_byte, bits_per_character):
        with pytest.raises(DataError, match="0 "):
            function(1.0, 0)


@given(
    labels=st.lists(st.sampled_from([-100, 0, 1, 2, 3]), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40)),
)
def test_the_cut_into_batches_does_not_show(labels, cuts):
    nll = [0.1, 1.7, 2.3, 40.0]
    scored = [nll[label] for label in labels if label != -100]
    parts = np.split(np.array(labels), sorted(min(cut, len(labels)) for cut in cuts))
    batches = [{"labels": part} for part in parts]
    if not scored:
        with pytest.raises(DataError, match="nothing to evaluate"):
            evaluate_language_model(TableModel(nll), batches)
        return
    score = evaluate_language_model(TableModel(nll), batches, characters=3 * len(scored))
    assert score.tokens == len(scored)
    assert score.total_nll == pytest.approx(math.fsum(scored), rel=1e-13)
    assert score.loss == pytest.approx(math.fsum(scored) / len(scored), rel=1e-13)
    assert score.perplexity == pytest.approx(math.exp(score.loss))
    assert score.bits_per_token == pytest.approx(score.loss / math.log(2))
    assert score.bits_per_character == pytest.approx(score.bits_per_token / 3)


def test_without_the_number_of_characters_there_are_no_bits_per_character():
    assert (
        evaluate_language_model(TableModel([1.0]), [{"labels": np.zeros(2, int)}]).bits_per_character is None
    )


def test_labels_may_be_tensors_or_lists():
    class One:
        def loss(self, batch):
            return 1.0

    for labels in (Tensor([[1, -100]]), [[1, -100]]):
        assert evaluate_language_model(One(), [{"labels": labels}]).tokens == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_told(bad):
    score = evaluate_language_model(TableModel([1.0, bad]), [{"labels": np.array([k])} for k in (0, 1, 0)])
    assert not math.isfinite(score.loss)


def test_the_model_is_in_evaluation_mode_and_nothing_is_recorded():
    model = TableModel([1.0])
    evaluate_language_model(model, [{"labels": np.zeros(2, int)}])
    assert model.seen == [(False, False)]
    assert model.training and is_grad_enabled()


def test_a_real_tensor_loss_serves():
    class Mean:
        def loss(self, batch):
            return mean(Tensor(np.array([1.0, 3.0]), requires_grad=True))

    assert evaluate_language_model(Mean(), [{"labels": np.array([0, 1])}]).loss == 2.0


def test_a_batch_counts_by_its_labels_or_else_by_its_rows():
    assert (
        count_labels({"input_ids": np.zeros((2, 3)), "labels": np.array([[1, -100, 2], [3, 0, -100]])}) == 4
    )
    assert count_labels({"x": np.zeros((5, 3))}) == 5

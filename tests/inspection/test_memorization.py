"""Exposure: the bits that a rank is worth; and a model that has seen a secret often gives it away."""

import math

import numpy as np
import pytest

from minilm import Generator
from minilm.errors import DataError
from minilm.inspection import exposure, log_likelihoods
from minilm.models import LSTMLM, LSTMConfig
from minilm.random import using_generator
from minilm.training import Trainer, TrainingArguments


def test_exposure_is_the_logarithm_of_how_far_up_the_rank_is():
    likelihoods = np.array([-5.0, -1.0, -9.0, -3.0, -2.0, -7.0, -8.0, -6.0])
    assert exposure(likelihoods, 1) == 3.0  # the first of 8
    assert exposure(likelihoods, 4) == 2.0
    assert exposure(likelihoods, 2) == 0.0  # the last
    assert exposure(np.zeros(8), 5) == 0.0  # a tie is no news


def test_without_the_secret_in_the_data_it_is_log2_e_on_average():
    ranks = [exposure(np.random.default_rng(seed).normal(size=1000), 0) for seed in range(2000)]
    assert np.mean(ranks) == pytest.approx(math.log2(math.e), abs=0.15)


def test_a_secret_that_was_seen_often_is_exposed(tmp_path):
    draw, codes = np.random.default_rng(0), np.arange(1000)
    texts = np.stack([codes // 100, codes // 10 % 10, codes % 10], axis=1) + 1  # ids 1 .. 10 after a 0
    rows = np.concatenate([np.zeros((1000, 1), dtype=int), texts], axis=1)
    with using_generator(Generator(1)):
        model = LSTMLM(LSTMConfig(11, 8, 16, 1))
    before = exposure(log_likelihoods(model, rows), 429)
    shown = np.concatenate([np.repeat(rows[429:430], 60, axis=0), rows[draw.integers(0, 1000, 60)]])
    data = [{"input_ids": row[:-1], "labels": row[1:]} for row in shown]
    args = TrainingArguments(tmp_path, max_steps=40, learning_rate=0.02, save_strategy="no", progress=False)
    Trainer(model, args, data).train()
    assert exposure(log_likelihoods(model, rows), 429) == math.log2(1000) > before + 3


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="no canary 8"):
        exposure(np.zeros(8), 8)
    with pytest.raises(DataError, match="candidate 2 is NaN"):
        exposure([0.0, 1.0, np.nan], 0)

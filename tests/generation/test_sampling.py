"""Choosing a token: the formulas on numbers one can check by hand, and the distribution of many draws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minilm.errors import ConfigurationError, MinilmError, TrainingError
from minilm.generation import (
    SamplingSettings,
    apply_repetition_penalty,
    apply_temperature,
    sample,
    top_k_filter,
    top_p_filter,
)
from minilm.generation.sampling import softmax
from minilm.random import Generator

INF = math.inf
# Halves and few of them, so that equal logits occur.
rows = hnp.arrays(np.float64, st.integers(1, 9), elements=st.integers(-6, 6).map(lambda n: n / 2))
PROBABILITIES = [0.4, 0.3, 0.2, 0.1]
LOGITS = np.log(PROBABILITIES)


class Fixed:
    """A generator whose next numbers are known."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def random(self):
        return self.numbers.pop(0)


def kept(filtered):
    return np.flatnonzero(filtered > -INF).tolist()


# the draw


# 99.9 % quantile of chi-square with V - 1 = 7 degrees of freedom
CHI_SQUARE_7 = 24.32


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_are_distributed_as_softmax_of_logits_over_temperature(temperature):
    logits = np.array([0.3, -1.2, 1.7, 0.0, 0.9, -0.4, 1.1, -2.0])
    p = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    n, generator = 20_000, Generator(3)
    drawn = np.bincount([sample(logits, generator, temperature) for _ in range(n)], minlength=8)
    assert ((drawn - n * p) ** 2 / (n * p)).sum() < CHI_SQUARE_7


def test_the_id_is_the_first_whose_cumulative_probability_exceeds_the_number_drawn():
    # cumulative: 0.4, 0.7, 0.9, 1
    numbers = [0.0, 0.39, 0.41, 0.69, 0.71, 0.89, 0.91, 1 - 2**-53]
    assert [sample(LOGITS, Fixed(u)) for u in numbers] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
def test_a_token_of_probability_zero_is_never_drawn(u):
    assert sample([-INF, 1.0, -INF], Fixed(u)) == 1
    assert sample([-INF, 1.0, -INF], Fixed(u), top_k=3, top_p=0.9) == 1
    assert sample([-2000.0, 1.0, -2000.0], Fixed(u)) == 1  # exp(-2001) is 0 in float64


def test_a_token_costs_one_number_and_a_greedy_one_none():
    used, counted = Generator(0), Generator(0)
    for _ in range(5):
        sample(LOGITS, used, temperature=0.7, top_k=3, top_p=0.9)
        counted.random()
    sample(LOGITS, used, temperature=0)
    assert used.random() == counted.random()


# temperature


def test_temperature_divides_the_logits():
    for temperature in (0.25, 1.0, 3.0):
        expected = np.array(PROBABILITIES) ** (1 / temperature)
        computed = softmax(apply_temperature(LOGITS, temperature))
        np.testing.assert_allclose(computed, expected / expected.sum(), rtol=1e-12)


@given(rows, st.integers(0, 2**31))
def test_temperature_zero_is_the_largest_logit_and_at_ties_the_lowest_id(logits, seed):
    largest = [i for i, x in enumerate(logits) if x == max(logits)]
    assert sample(logits, Generator(seed), temperature=0) == largest[0]
    assert sample(logits, Generator(seed), temperature=0, top_k=1, top_p=0.1) == largest[0]


@given(rows)
def test_temperature_zero_is_the_limit_of_low_temperatures(logits):
    zero = softmax(apply_temperature(logits, 0))
    for temperature in (1e-3, 1e-12, 1e-300, 5e-324):
        np.testing.assert_allclose(softmax(apply_temperature(logits, temperature)), zero, atol=1e-12)


def test_huge_logits_do_not_overflow():
    assert sample(np.array([3e38, 1e38], "float32"), Fixed(0.99)) == 0
    np.testing.assert_allclose(softmax(apply_temperature([1e300, 1e300, -1e300], 1e-3)), [0.5, 0.5, 0])


# top-k and top-p


@given(rows, st.integers(1, 12))
def test_top_k_keeps_the_k_largest_and_of_equal_ones_the_lower_ids(logits, k):
    expected = sorted(sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:k])
    filtered = top_k_filter(logits, k)
    assert kept(filtered) == expected
    np.testing.assert_array_equal(filtered[expected], logits[expected])


@given(rows, st.integers(0, 2**31))
def test_top_k_of_one_is_greedy(logits, seed):
    assert sample(logits, Generator(seed), top_k=1) == sample(logits, Generator(seed), temperature=0)


@pytest.mark.parametrize(
    "p, expected",
    [(0.01, [0]), (0.39, [0]), (0.41, [0, 1]), (0.69, [0, 1]), (0.71, [0, 1, 2]), (0.91, [0, 1, 2, 3])],
)
def test_top_p_on_probabilities_of_4_3_2_and_1_tenths(p, expected):
    assert kept(top_p_filter(LOGITS, p)) == expected
    backwards = top_p_filter(LOGITS[::-1], p)
    assert kept(backwards) == sorted(3 - i for i in expected)
    np.testing.assert_array_equal(backwards[kept(backwards)], LOGITS[::-1][kept(backwards)])


@given(rows, st.floats(0.001, 0.999))
def test_top_p_keeps_the_smallest_set_that_has_the_mass(logits, p):
    probability = [math.exp(x) for x in logits]
    probability = [e / math.fsum(probability) for e in probability]
    chosen = kept(top_p_filter(logits, p))
    ranked = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    assert sorted(ranked[: len(chosen)]) == chosen and chosen
    assert math.fsum(probability[i] for i in chosen) >= p - 1e-12
    assert math.fsum(probability[i] for i in ranked[: len(chosen) - 1]) < p + 1e-12


def test_settings_that_are_off_keep_every_token():
    logits = np.array([0.0, -700.0, 50.0])  # exp(-750) would vanish in a sum
    for filtered in (top_k_filter(logits, None), top_p_filter(logits, None), top_p_filter(logits, 1.0)):
        np.testing.assert_array_equal(filtered, logits)
    np.testing.assert_array_equal(top_k_filter(logits, 3), logits)


def test_top_p_counts_from_what_top_k_left():
    # of {0, 1} the first has 4/7 > 1/2; were top-p first, both would stay
    assert sample(LOGITS, Fixed(0.999), top_k=2, top_p=0.5) == 0
    assert sample(LOGITS, Fixed(0.999), top_k=2) == 1


def test_top_p_counts_from_what_temperature_made():
    # at 1/2 the probabilities are 16, 9, 4 and 1 thirtieths
    assert sample(LOGITS, Fixed(0.999), temperature=0.5, top_p=0.5) == 0
    assert sample(LOGITS, Fixed(0.999), top_p=0.5) == 1


# repetition penalty


def test_the_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_negative():
    logits = [2.0, -2.0, 0.0, 5.0, -5.0]
    expected = [2.0 / 1.25, -2.0 * 1.25, 0.0, 5.0, -5.0]
    np.testing.assert_array_equal(apply_repetition_penalty(logits, [2, 0, 1], 1.25), expected)


def test_a_token_is_penalized_once_however_often_it_occurred():
    logits = [2.0, -2.0]
    once, often = (apply_repetition_penalty(logits, ids, 2.0) for ids in ([0, 1], [0, 1, 0, 1, 1]))
    np.testing.assert_array_equal(once, often)


def test_the_penalty_comes_before_the_temperature_and_the_filters():
    settings = SamplingSettings(temperature=0, repetition_penalty=3.0)
    assert settings.choose([3.0, 2.0], [0], Generator(0)) == 1
    settings = SamplingSettings(top_k=1, repetition_penalty=3.0)
    assert settings.choose([3.0, 2.0], [0], Generator(0)) == 1


def test_no_penalty_and_no_tokens_change_nothing():
    np.testing.assert_array_equal(apply_repetition_penalty(LOGITS, [0, 1], 1.0), LOGITS)
    np.testing.assert_array_equal(apply_repetition_penalty(LOGITS, [], 2.0), LOGITS)


# what all share


def test_the_logits_given_are_not_changed():
    logits = LOGITS.copy()
    apply_repetition_penalty(logits, [0, 1], 2.0)
    top_k_filter(logits, 1), top_p_filter(logits, 0.1), apply_temperature(logits, 0.5)
    SamplingSettings(0.5, 2, 0.5, 2.0).choose(logits, [0, 1], Generator(0))
    np.testing.assert_array_equal(logits, LOGITS)


def test_all_is_computed_in_float64():
    logits = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    for row in (
        apply_repetition_penalty(logits, [0], 1.5),
        apply_temperature(logits, 0.7),
        top_k_filter(logits, 2),
        top_p_filter(logits, 0.5),
    ):
        assert row.dtype == np.float64


@pytest.mark.parametrize(
    "setting, values",
    [
        ("temperature", [-0.1, -INF, INF, math.nan]),
        ("top_k", [0, -3]),
        ("top_p", [0.0, -0.5, 1.01, math.nan]),
        ("repetition_penalty", [0.0, -1.0, INF, math.nan]),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(setting, values):
    functions = {
        "temperature": [apply_temperature, lambda x, t: sample(x, Generator(0), t)],
        "top_k": [top_k_filter, lambda x, k: sample(x, Generator(0), top_k=k)],
        "top_p": [top_p_filter, lambda x, p: sample(x, Generator(0), top_p=p)],
        "repetition_penalty": [lambda x, penalty: apply_repetition_penalty(x, [0], penalty)],
    }
    for value in values:
        with pytest.raises(ConfigurationError, match=f"{setting}={value}: "):
            SamplingSettings(**{setting: value})
        for function in functions[setting]:
            with pytest.raises(ConfigurationError, match=f"{setting}={value}: "):
                function(LOGITS, value)


@pytest.mark.parametrize("logits", [[0.0, math.nan], [0.0, INF], [-INF, -INF]])
def test_logits_without_a_distribution_are_refused(logits):
    for settings in (SamplingSettings(), SamplingSettings(temperature=0), SamplingSettings(0.5, 1, 0.5, 2.0)):
        with pytest.raises(TrainingError, match="earlier checkpoint") as caught:
            settings.choose(logits, [0], Generator(0))
        assert isinstance(caught.value, MinilmError)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_logits_are_one_row(shape):
    with pytest.raises(ValueError, match=r"a row \(V,\)"):
        sample(np.zeros(shape), Generator(0))

"""Schedules at their corners: the first step, the end of the warm-up, the middle, the end, and after it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import ConfigurationError
from minilm.optim import noam, schedule

ALL = ["constant", "linear", "cosine", "inverse_sqrt"]


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_warm_up_is_linear_and_the_first_step_is_not_wasted(name):
    factor = schedule(name, warmup_steps=4, total_steps=20)
    assert [factor(s) for s in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(
    "name, warmup, minimum, points",
    [
        ("constant", 0, 0.0, {0: 1, 50: 1, 10**9: 1}),
        ("linear", 0, 0.0, {0: 1, 25: 0.75, 50: 0.5, 99: 0.01, 100: 0, 1000: 0}),
        ("linear", 20, 0.0, {20: 1, 60: 0.5, 100: 0}),
        ("linear", 0, 0.1, {0: 1, 50: 0.55, 100: 0.1, 1000: 0.1}),
        ("cosine", 0, 0.0, {0: 1, 25: (2 + math.sqrt(2)) / 4, 50: 0.5, 100: 0, 1000: 0}),
        ("cosine", 20, 0.1, {20: 1, 60: 0.55, 100: 0.1, 1000: 0.1}),
        ("cosine", 100, 0.1, {99: 100 / 101, 100: 0.1}),  # warm-up to the end
    ],
)
def test_the_corner_points(name, warmup, minimum, points):
    factor = schedule(name, warmup, total_steps=100, min_ratio=minimum)
    assert {s: factor(s) for s in points} == pytest.approx(points)


def test_noam_is_equation_3_of_vaswani_2017():
    rate = noam(d_model=512, warmup_steps=4000)
    for n in (1, 100, 3999, 4000, 4001, 100_000):
        assert rate(n - 1) == pytest.approx(512**-0.5 * min(n**-0.5, n * 4000**-1.5), rel=1e-12)


def test_inverse_sqrt_has_the_shape_of_noam_and_its_peak_at_one():
    rate, factor = noam(64, 10), schedule("inverse_sqrt", 10)
    assert factor(9) == 1.0 == max(factor(s) for s in range(100))
    assert all(rate(s) / rate(9) == pytest.approx(factor(s)) for s in range(100))


@pytest.mark.parametrize("alias, name", [("constant_with_warmup", "constant"), ("noam", "inverse_sqrt")])
def test_names_known_elsewhere_are_understood(alias, name):
    one, other = schedule(alias, 5), schedule(name, 5)
    assert [one(s) for s in range(20)] == [other(s) for s in range(20)]


@given(
    st.sampled_from(ALL),
    st.integers(1, 50),
    st.integers(0, 50),
    st.floats(0, 1),
    st.lists(st.integers(0, 200)),
)
def test_a_factor_depends_on_the_step_alone_and_lies_between_its_bounds(name, warmup, rest, minimum, steps):
    factor = schedule(name, warmup, warmup + rest, minimum)
    for s in steps:
        value = factor(s)
        assert value == schedule(name, warmup, warmup + rest, minimum)(s)
        assert 0 <= value <= 1
        if s >= warmup and name in ("linear", "cosine"):
            assert value >= minimum
            assert factor(s + 1) <= value


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("cosin", 0, 10), "no schedule 'cosin': choose one of constant, linear, cosine"),
        (("cosine",), "needs total_steps"),
        (("linear", 0, 0), "needs total_steps"),
        (("cosine", 11, 10), "got 10 with 11 warm-up steps"),
        (("constant", -1), "warmup_steps"),
        (("cosine", 0, 10, 1.5), "min_ratio"),
        (("inverse_sqrt", 0), "at least one warm-up step"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        schedule(*arguments)
    with pytest.raises(ConfigurationError, match="d_model=0"):
        noam(0, 5)


@pytest.mark.parametrize("name", ALL)
def test_a_step_before_the_first_is_refused(name):
    with pytest.raises(ValueError, match="no step -1"):
        schedule(name, 1, 10)(-1)

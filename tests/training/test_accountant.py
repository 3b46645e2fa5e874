"""Epsilon: the published worked figure, an accountant of our own beside the package, and the way back to the noise."""

import math
import sys

import numpy as np
import pytest

from minilm.errors import ConfigurationError, MinilmError
from minilm.training import epsilon_spent, noise_for_epsilon

# Abadi et al. 2016, section 3.2 and figure 2: with these the moments accountant gives 1.26, and strong composition,
# which was the best known before, 9.34.
PUBLISHED = {"steps": 10_000, "sampling_rate": 0.01, "noise_multiplier": 4.0, "delta": 1e-5}


def renyi_divergence(order, q, sigma):
    """Of one step, at an integer order, in nats (Mironov, Talwar & Zhang 2019, section 3.3): a sum of binomials."""
    k = np.arange(order + 1)
    log_binomial = [math.lgamma(order + 1) - math.lgamma(i + 1) - math.lgamma(order - i + 1) for i in k]
    terms = log_binomial + k * math.log(q) + (order - k) * math.log1p(-q) + (k * k - k) / (2 * sigma**2)
    return np.logaddexp.reduce(terms) / (order - 1)


def own_epsilons(steps, sampling_rate, noise_multiplier, delta):
    """By the tail bound of Abadi et al. 2016 (theorem 2.2), and by Canonne, Kamath & Steinke 2020 (proposition 12)."""
    orders = np.arange(2, 65)
    spent = steps * np.array([renyi_divergence(int(a), sampling_rate, noise_multiplier) for a in orders])
    first = spent + math.log(1 / delta) / (orders - 1)
    second = spent + np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    return first.min(), second.min()


@pytest.fixture(autouse=True)
def dp_accounting(require_package):
    return require_package("dp_accounting")


def test_epsilon_is_that_of_the_published_setting():
    moments_accountant, better_bound = own_epsilons(**PUBLISHED)
    assert round(moments_accountant, 2) == 1.26
    assert epsilon_spent(**PUBLISHED) == pytest.approx(better_bound, rel=1e-3)  # orders between the integers too
    tight = epsilon_spent(**PUBLISHED, accountant="pld")
    assert 0.85 * better_bound < tight < epsilon_spent(**PUBLISHED)


def test_without_sampling_one_step_is_the_gaussian_mechanism():
    """Its delta is known exactly (Balle & Wang 2018, theorem 8), with Phi the normal distribution function."""
    sigma, delta = 2.0, 1e-3

    def phi(x):
        return 0.5 * math.erfc(-x / math.sqrt(2))

    low, high = 0.0, 10.0
    while high - low > 1e-9:
        e = (low + high) / 2
        exact = phi(0.5 / sigma - e * sigma) - math.exp(e) * phi(-0.5 / sigma - e * sigma)
        low, high = (e, high) if exact > delta else (low, e)
    assert epsilon_spent(1, 1.0, sigma, delta, "pld") == pytest.approx(high, rel=1e-3)
    assert high < epsilon_spent(1, 1.0, sigma, delta) < 1.3 * high


@pytest.mark.parametrize("epsilon, accountant", [(2.0, "rdp"), (0.5, "pld")])
def test_the_noise_for_an_epsilon_spends_no_more_and_hardly_less(epsilon, accountant):
    setting = (300, 0.02)
    noise = noise_for_epsilon(epsilon, *setting, 1e-5, accountant, tolerance=0.01)
    assert 0.95 * epsilon < epsilon_spent(*setting, noise, 1e-5, accountant) <= epsilon
    assert epsilon_spent(*setting, 0.98 * noise, 1e-5, accountant) > epsilon


def test_no_noise_spends_everything_and_no_step_nothing():
    assert epsilon_spent(10, 0.1, 0.0, 1e-5) == math.inf
    assert epsilon_spent(0, 0.1, 1.0, 1e-5) == 0
    assert noise_for_epsilon(math.inf, 10, 0.1, 1e-5) == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": -1}, "steps"),
        ({"sampling_rate": 0.0}, "batch size / the examples"),
        ({"sampling_rate": 1.5}, "sampling_rate"),
        ({"delta": 0.0}, "delta"),
        ({"noise_multiplier": -1.0}, "noise_multiplier"),
        ({"accountant": "moments"}, "one of rdp, pld"),
    ],
)
def test_numbers_out_of_range_are_refused(change, message):
    with pytest.raises(ConfigurationError, match=message):
        epsilon_spent(**{**PUBLISHED, **change})


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(MinilmError, match=r"pip install 'minilm\[privacy\]'"):
        epsilon_spent(**PUBLISHED)

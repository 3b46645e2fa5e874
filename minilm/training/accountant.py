"""What DP-SGD has given away: epsilon, as the package dp-accounting counts it (extra `privacy`).

A training algorithm M is (epsilon, delta)-differentially private if, for any two data sets that differ in one example
and any set S of models,

    P(M(one) ∈ S) <= e^epsilon P(M(other) ∈ S) + delta

(Dwork et al. 2006): who sees the model learns little of whether an example was there, whatever else they know. With
delta far below 1 / N, epsilon about 1 is a strong promise, 8 a weak one, and above 10 it says little in theory.

Here M is `steps` times: draw each example with probability q, by itself, add their clipped gradients, add Gaussian
noise of sigma times the bound. Two ways to add up what each step gives away, both upper bounds for the same M:

    rdp    Renyi divergences of all orders (Mironov 2017; Mironov, Talwar & Zhang 2019), the heir of the moments
           accountant of Abadi et al. 2016; quick
    pld    the distribution of the privacy loss itself (Koskela et al. 2020); tighter, slower

What the figure does not cover: what is chosen by looking at the data (learning rate, number of steps, which run to
keep), the losses that a log prints, and a seed that somebody knows: noise that can be drawn again hides nothing. How
many examples there are is taken to be public.
"""

from __future__ import annotations

import math
from importlib import import_module
from types import ModuleType

from minilm.errors import ConfigurationError, MinilmError

ACCOUNTANTS = ("rdp", "pld")
LARGEST_NOISE = 2.0**20


def epsilon_spent(
    steps: int, sampling_rate: float, noise_multiplier: float, delta: float, accountant: str = "rdp"
) -> float:
    """The epsilon of `steps` steps of DP-SGD; infinite without noise.

    Args:
        sampling_rate: q, the probability with which an example is in a batch: expected batch size / examples.
        noise_multiplier: sigma; the standard deviation of the noise is sigma times the clipping norm.
        delta: usually below 1 / examples.
        accountant: "rdp" or "pld".

    Raises:
        MinilmError: if dp-accounting is not installed.
        ConfigurationError: for a number out of its range.
    """
    _check(steps, sampling_rate, delta, accountant)
    if not noise_multiplier >= 0:
        raise ConfigurationError(f"noise_multiplier={noise_multiplier}: it is at least 0")
    package = _package()
    if steps == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    step = package.PoissonSampledDpEvent(sampling_rate, package.GaussianDpEvent(noise_multiplier))
    if accountant == "rdp":
        counted = package.rdp.RdpAccountant()
    else:
        counted = package.pld.PLDAccountant()
    return float(counted.compose(package.SelfComposedDpEvent(step, steps)).get_epsilon(delta))


def noise_for_epsilon(
    epsilon: float, steps: int, sampling_rate: float, delta: float, accountant: str = "rdp", tolerance: float = 1e-3
) -> float:
    """The least noise multiplier, to a relative `tolerance`, with which `steps` steps spend no more than `epsilon`.

    Never too small: the upper end of the last bracket of a bisection. 0 for an infinite epsilon. Arguments and errors
    as those of `epsilon_spent`; ConfigurationError too if no noise is enough, for an epsilon that is too small.
    """
    if not epsilon > 0:
        raise ConfigurationError(f"epsilon={epsilon}: it is a positive number")
    _check(steps, sampling_rate, delta, accountant)
    if math.isinf(epsilon):
        return 0.0

    def enough(noise: float) -> bool:
        return epsilon_spent(steps, sampling_rate, noise, delta, accountant) <= epsilon

    # counting takes long where there is little noise: come from above, in small steps; rdp bounds what pld finds
    high = 1.0 if accountant == "rdp" else noise_for_epsilon(epsilon, steps, sampling_rate, delta, "rdp", 0.1)
    low = high / 1.25
    while not enough(high):
        low, high = high, high * 2
        if high > LARGEST_NOISE:
            raise ConfigurationError(
                f"no noise multiplier up to {LARGEST_NOISE:,.0f} gives epsilon={epsilon} with delta={delta}: ask for "
                "less, with a larger epsilon, fewer steps or smaller batches"
            )
    while enough(low) and low > tolerance:
        low, high = low / 1.25, low
    while high - low > tolerance * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(steps: int, sampling_rate: float, delta: float, accountant: str) -> None:
    if accountant not in ACCOUNTANTS:
        raise ConfigurationError(f"accountant={accountant!r}: it is one of {', '.join(ACCOUNTANTS)}")
    if steps < 0:
        raise ConfigurationError(f"steps={steps}: it is at least 0")
    if not 0 < sampling_rate <= 1:
        raise ConfigurationError(
            f"sampling_rate={sampling_rate}: it is above 0 and at most 1, the expected batch size / the examples"
        )
    if not 0 < delta < 1:
        raise ConfigurationError(f"delta={delta}: it is between 0 and 1, usually below 1 / the number of examples")


def _package() -> ModuleType:
    try:
        return import_module("dp_accounting")
    except ModuleNotFoundError as error:
        if error.name != "dp_accounting":
            raise  # it is there, and lacks something itself
        raise MinilmError(
            "counting epsilon needs the package dp-accounting, which is not installed: pip install 'minilm[privacy]'"
        ) from error

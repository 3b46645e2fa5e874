"""The activations of a block: value and slope against the textbook, and the fitted tail against the error function."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minilm.functional.fused_linear import ACTIVATIONS as TEXTBOOK
from minilm.kernels.activation import threaded


def applied(name, z):
    y, slope = z.copy(), np.empty_like(z)
    threaded.ACTIVATIONS[name](y, slope)
    return y, slope


def tail(u):
    """Φ(-u) by the C library, within some 1e-16 of itself."""
    return np.array([math.erfc(x / math.sqrt(2)) / 2 for x in u])


def test_every_activation_of_the_textbook_is_here_in_its_order():
    assert list(threaded.ACTIVATIONS) == list(TEXTBOOK)


@pytest.mark.parametrize("name", TEXTBOOK)
@pytest.mark.parametrize("dtype, atol", [("float64", 1e-14), ("float32", 4e-6)])
def test_value_and_slope_are_those_of_the_textbook(name, dtype, atol):
    z = np.linspace(-15, 15, 30_001).astype(dtype)
    y, slope = applied(name, z)
    expected, vjp = TEXTBOOK[name](z.astype("float64"))
    assert y.dtype == slope.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=0, atol=atol)
    np.testing.assert_allclose(slope, vjp(np.ones(z.shape)), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype, bound", [("float64", 4e-14), ("float32", 4e-6)])
def test_the_exact_gelu_keeps_its_digits_where_it_nearly_vanishes(dtype, bound):
    """z Φ(z) at z = -10 is 8e-23; what is lost is the rounding of z² in e^(-z²/2), some 50 eps."""
    z = np.linspace(-10, -1e-3, 9999).astype(dtype)
    y, _ = applied("gelu", z)
    exact = z.astype("float64") * tail(-z.astype("float64"))
    np.testing.assert_allclose(y, exact, rtol=bound)
    near = z > -5
    np.testing.assert_allclose(y[near], exact[near], rtol=bound / 3)


@pytest.mark.parametrize("dtype, bound", [("float64", 6e-16), ("float32", 3e-7)])
def test_the_slope_of_the_exact_gelu_is_exact_to_the_last_digits(dtype, bound):
    z = np.linspace(-12, 12, 9999).astype(dtype)
    _, slope = applied("gelu", z)
    wide = z.astype("float64")
    exact = tail(-wide) + wide * np.exp(-wide * wide / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(slope, exact, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype, bound", [("float64", 5e-16), ("float32", 2e-7)])
def test_the_distribution_function_is_exact_to_the_last_digits(dtype, bound):
    """From y = z Φ(z), for positive z, where y / z divides out to Φ."""
    z = np.linspace(1e-2, 8, 9999).astype(dtype)
    y, _ = applied("gelu", z)
    cdf = y.astype("float64") / z
    np.testing.assert_allclose(cdf, 1 - tail(z.astype("float64")), rtol=0, atol=bound)


def test_the_exact_gelu_far_out_and_of_what_is_no_number():
    z = np.array([-np.inf, -1e30, -40.0, 0.0, 40.0, 1e30, np.inf, np.nan], dtype="float32")
    y, slope = applied("gelu", z)
    np.testing.assert_allclose(y, [0, 0, 0, 0, 40, 1e30, np.inf, np.nan], rtol=1e-7, atol=1e-30)
    np.testing.assert_allclose(slope, [0, 0, 0, 0.5, 1, 1, 1, np.nan], atol=1e-7)

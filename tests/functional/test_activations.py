"""GELU (both forms), SiLU, SwiGLU: against their twins, against values computed elsewhere, and far out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from tests.functional import twins

FORMS = pytest.mark.parametrize("approximate", ["none", "tanh"])


@FORMS
@given(data=st.data())
def test_gelu_equals_its_twin(approximate, data):
    x = data.draw(twins.drawn(data.draw(twins.shapes())))
    twins.assert_equals_twin(lambda x: F.gelu(x, approximate), lambda x: twins.gelu(x, approximate), x)


@given(st.data())
def test_silu_equals_its_twin(data):
    twins.assert_equals_twin(F.silu, twins.silu, data.draw(twins.drawn(data.draw(twins.shapes()))))


@given(st.data())
def test_swiglu_equals_its_twin_and_broadcasts(data):
    shape = data.draw(twins.shapes())
    smaller = tuple(data.draw(st.sampled_from([1, n])) for n in shape)[data.draw(st.integers(0, len(shape))) :]
    pair = data.draw(st.permutations([shape, smaller]))
    twins.assert_equals_twin(F.swiglu, twins.swiglu, *(data.draw(twins.drawn(s)) for s in pair))


def test_gelu_against_the_normal_distribution_of_the_standard_library():
    """x Φ(x) with Φ(x) = (1 + erf(x / √2)) / 2 from `math.erf`, and the slope Φ(x) + x φ(x)."""
    points = np.linspace(-6, 6, 97)
    x = Tensor(points, requires_grad=True)
    y = F.gelu(x)
    y.backward(np.ones_like(points))
    cdf = np.array([math.erfc(-p / math.sqrt(2)) / 2 for p in points])
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(y.numpy(), points * cdf, atol=3e-15)
    np.testing.assert_allclose(x.grad.numpy(), cdf + points * density, atol=3e-15)


def test_the_tanh_form_is_close_to_the_exact_one_but_is_another_function():
    """The two differ by less than 5e-4 everywhere; a swapped option would show."""
    x = Tensor(np.linspace(-5, 5, 1001))
    difference = np.abs(F.gelu(x).numpy() - F.gelu(x, "tanh").numpy()).max()
    assert 4e-4 < difference < 5e-4


def test_values_at_one():
    """Φ(1) = 0.8413447460685429, σ(1) = 0.7310585786300049; the tanh form by its formula."""
    one = Tensor(np.array(1.0))
    assert F.gelu(one).item() == pytest.approx(0.8413447460685429, abs=1e-15)
    u = math.sqrt(2 / math.pi) * 1.044715
    assert F.gelu(one, "tanh").item() == pytest.approx((1 + math.tanh(u)) / 2, abs=1e-15)
    assert F.silu(one).item() == pytest.approx(0.7310585786300049, abs=1e-15)
    assert F.swiglu(one, Tensor(np.array(3.0))).item() == pytest.approx(3 * 0.7310585786300049, abs=1e-15)


@pytest.mark.parametrize("function", [F.gelu, lambda x: F.gelu(x, "tanh"), F.silu, lambda x: F.swiglu(x, 1.0)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_out_they_are_the_identity_or_zero(function, dtype):
    x = Tensor(np.array([1e4, -1e4], dtype=dtype), requires_grad=True)
    y = function(x)
    y.backward(np.ones(2))
    np.testing.assert_array_equal(y.numpy(), [1e4, 0])
    np.testing.assert_array_equal(x.grad.numpy(), [1, 0])


def test_an_unknown_form_of_gelu_is_refused():
    with pytest.raises(ValueError, match=r"gelu: approximate is 'none' \(exact\) or 'tanh', got 'fast'"):
        F.gelu(Tensor([1.0]), "fast")

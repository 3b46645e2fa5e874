"""Dropout: its mask, its scale, and that the gradient passes where the value did."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from minilm.random import Generator, using_generator
from tests.functional import twins


@given(st.data(), st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 2**63 - 1))
def test_equals_its_twin(data, p, seed):
    twins.assert_equals_twin(
        lambda x: F.dropout(x, p, True, generator=Generator(seed)),
        lambda x: twins.dropout(x, p, seed),
        data.draw(twins.drawn(data.draw(twins.shapes()))),
    )


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_share_p_is_dropped_and_the_mean_stays(p):
    y = F.dropout(Tensor(np.ones(100_000)), p, True, generator=Generator(1)).numpy()
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - p)], rtol=1e-15)
    assert np.mean(y == 0) == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 100_000))  # four standard deviations
    assert y.mean() == pytest.approx(1, abs=0.02)


def test_the_gradient_uses_the_mask_of_the_forward():
    x = Tensor(np.ones((20, 20), dtype="float32"), requires_grad=True)
    y = F.dropout(x, 0.3, True, generator=Generator(1))
    y.backward(np.ones((20, 20)))
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())


def test_the_layout_in_memory_does_not_change_which_elements_drop():
    x = twins.normals((5, 7), 1)
    rows, columns = (
        F.dropout(Tensor.wrap(a), 0.5, True, generator=Generator(2)).numpy() for a in (x, np.asfortranarray(x))
    )
    np.testing.assert_array_equal(rows, columns)


def test_without_a_generator_the_current_one_draws():
    x = Tensor(np.ones(50))
    with using_generator(Generator(3)):
        first, second = F.dropout(x, 0.5, True).numpy(), F.dropout(x, 0.5, True).numpy()
    np.testing.assert_array_equal(first, F.dropout(x, 0.5, True, generator=Generator(3)).numpy())
    assert (first != second).any()


@pytest.mark.parametrize("p, training", [(0.5, False), (0.0, True)])
def test_outside_training_or_with_p_0_nothing_happens_and_nothing_is_drawn(p, training):
    generator = Generator(4)
    x = Tensor(twins.normals((3, 4), 1), requires_grad=True)
    y = F.dropout(x, p, training, generator=generator)
    y.backward(twins.normals((3, 4), 2))
    np.testing.assert_array_equal(y.numpy(), x.numpy())
    np.testing.assert_array_equal(x.grad.numpy(), twins.normals((3, 4), 2))
    assert generator.offset == 0


def test_with_p_1_everything_is_dropped():
    x = Tensor(np.ones(5), requires_grad=True)
    y = F.dropout(x, 1.0, True)
    y.backward(np.ones(5))
    np.testing.assert_array_equal(y.numpy(), 0)
    np.testing.assert_array_equal(x.grad.numpy(), 0)


def test_a_p_of_numpys_float64_leaves_float32_alone():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = F.dropout(x, np.float64(0.5), True)
    y.backward(np.ones(2))
    assert y.dtype == x.grad.dtype == np.float32


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_p_that_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="dropout: the probability of dropping an element is from 0 to 1"):
        F.dropout(Tensor([1.0]), p, True)

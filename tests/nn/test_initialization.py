"""Where weights start: the published distributions, and the generator that they come from."""

import math

import numpy as np
import pytest

from minilm import nn
from minilm.nn import initialization
from minilm.random import Generator, current_generator, manual_seed, using_generator

N = 200_000


def assert_uniform(values, bound):
    """Mean, standard deviation and extremes of U(-bound, bound); tolerances of five standard deviations."""
    n = values.size
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > bound * (1 - 20 / n)
    assert values.mean() == pytest.approx(0, abs=5 * bound / math.sqrt(3 * n))
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=5 * math.sqrt(0.2 / n))


def assert_normal(values, std):
    """Mean, standard deviation and fourth moment of N(0, std²)."""
    n = values.size
    assert values.mean() == pytest.approx(0, abs=5 * std / math.sqrt(n))
    assert values.std() == pytest.approx(std, rel=5 / math.sqrt(2 * n))
    assert ((values / std) ** 4).mean() == pytest.approx(3, abs=5 * math.sqrt(96 / n))


@pytest.fixture(autouse=True)
def seeded():
    with using_generator(Generator(1)):
        yield


def test_linear_starts_uniform_within_one_over_the_root_of_the_inputs():
    layer = nn.Linear(400, 500)
    assert_uniform(layer.weight.numpy(), 1 / 20)
    assert_uniform(nn.Linear(1, N // 10).bias.numpy(), 1.0)
    assert np.abs(layer.bias.numpy()).max() <= 1 / 20


def test_embedding_starts_standard_normal():
    assert_normal(nn.Embedding(500, 400).weight.numpy(), 1.0)


def test_learned_positions_start_with_gpt_2s_deviation():
    assert_normal(nn.LearnedPositions(500, 400).weight.numpy(), 0.02)


def test_norms_start_as_the_identity_scale():
    norm = nn.LayerNorm(5)
    np.testing.assert_array_equal(norm.weight.numpy(), 1)
    np.testing.assert_array_equal(norm.bias.numpy(), 0)
    np.testing.assert_array_equal(nn.RMSNorm(5).weight.numpy(), 1)


def test_xavier_uniform_is_glorots_bound():
    assert_uniform(initialization.xavier_uniform((300, 700)).numpy(), math.sqrt(6 / 1000))


def test_everything_starts_as_a_float32_parameter():
    made = [
        *(initialization.uniform_fan_in((2, 3), 3), initialization.normal((2, 3), 1.0)),
        *(initialization.xavier_uniform((2, 3)), initialization.zeros((2, 3)), initialization.ones((2, 3))),
    ]
    for parameter in made:
        assert isinstance(parameter, nn.Parameter) and parameter.requires_grad
        assert parameter.dtype == np.float32 and parameter.shape == (2, 3)


def weights(seed):
    with using_generator(Generator(seed)):
        block = nn.TransformerBlock(8, 2, cross_attention=True)
    return np.concatenate([array.reshape(-1) for array in block.state_dict().values()])


def test_a_seed_means_the_same_weights():
    np.testing.assert_array_equal(weights(3), weights(3))
    assert (weights(3) != weights(4)).mean() > 0.9


def test_two_layers_of_one_generator_differ():
    assert (nn.Linear(3, 3).weight.numpy() != nn.Linear(3, 3).weight.numpy()).all()


def test_only_the_generator_in_force_matters_and_only_it_moves():
    expected = weights(3)
    outer = current_generator()
    before = outer.state_dict()
    nn.Linear(2, 2)  # draws from the outer generator
    assert outer.state_dict() != before
    before = outer.state_dict()
    np.testing.assert_array_equal(weights(3), expected)
    assert outer.state_dict() == before


def test_manual_seed_sets_the_default_generator():
    with using_generator(current_generator()):  # put back whatever was in force
        manual_seed(5)
        first = nn.Linear(3, 3).weight.numpy()
        manual_seed(5)
        np.testing.assert_array_equal(nn.Linear(3, 3).weight.numpy(), first)
    with using_generator(Generator(5)):
        np.testing.assert_array_equal(nn.Linear(3, 3).weight.numpy(), first)

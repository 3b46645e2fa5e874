"""Sinusoidal, learned, rotary and ALiBi positions: the published numbers, and offsets for decoding."""

import math

import numpy as np
import pytest

import minilm.functional as F
from minilm import Tensor, nn
from minilm.testing import gradcheck

WITH_A_TABLE = pytest.mark.parametrize(
    "layer",
    [nn.SinusoidalPositions(8, 4), nn.LearnedPositions(8, 4), nn.RotaryPositions(8, 4)],
    ids=["sinusoidal", "learned", "rotary"],
)


def x_of(*shape):
    return Tensor(np.random.default_rng(0).normal(size=shape).astype("float32"))


def test_sinusoidal_positions_are_the_papers_formula():
    """PE[t, 2i] = sin(t / 10000^(2i/C)), PE[t, 2i+1] = cos(the same), written out as loops."""
    T, C = 50, 6
    expected = np.zeros((T, C))
    for t in range(T):
        for i in range(C // 2):
            angle = t / 10000 ** (2 * i / C)
            expected[t, 2 * i], expected[t, 2 * i + 1] = math.sin(angle), math.cos(angle)
    y = nn.SinusoidalPositions(T, C)(Tensor(np.zeros((T, C), dtype="float32")))
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-7)


def test_sinusoidal_positions_have_no_parameters_and_are_not_saved():
    layer = nn.SinusoidalPositions(8, 4)
    assert layer.num_parameters() == 0 and layer.state_dict() == {}


def test_learned_positions_add_their_rows_and_train_only_those_used():
    layer, x = nn.LearnedPositions(8, 4), x_of(2, 3, 4)
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy() + layer.weight.numpy()[:3])
    layer(x, offset=5).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), np.repeat([0, 2], [5, 3])[:, None] * np.ones((8, 4)))


@WITH_A_TABLE
def test_an_offset_continues_where_the_first_part_ended(layer):
    x = x_of(2, 8, 4)
    whole = layer(x).numpy()
    np.testing.assert_array_equal(layer(x[:, :3]).numpy(), whole[:, :3])
    np.testing.assert_array_equal(layer(x[:, 3:], offset=3).numpy(), whole[:, 3:])


@WITH_A_TABLE
def test_positions_beyond_the_table_are_an_error_and_not_a_shorter_slice(layer):
    with pytest.raises(ValueError, match=r"positions 0 to 8 do not fit in a table of 8.*larger context"):
        layer(x_of(1, 9, 4))
    with pytest.raises(ValueError, match="positions 6 to 8 do not fit"):
        layer(x_of(1, 3, 4), offset=6)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_positions_turn_by_the_angles_of_their_theta(interleaved):
    x = x_of(2, 3, 5, 6)
    layer = nn.RotaryPositions(9, 6, theta=500.0, interleaved=interleaved)
    cos, sin = F.rotary_angles(9, 6, theta=500.0)
    expected = F.rotary_embedding(x, cos[2:7], sin[2:7], interleaved).numpy()
    np.testing.assert_array_equal(layer(x, offset=2).numpy(), expected)
    assert layer.state_dict() == {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_tables_of_rotary_positions_grow_with_what_is_asked_for(dtype):
    layer = nn.RotaryPositions(10**6, 4).astype(dtype)
    angles, x = F.rotary_angles(3000, 4), Tensor(np.ones((5, 4), dtype))
    for offset in (0, 1500, 2995, 7):
        expected = F.rotary_embedding(x, *(table[offset : offset + 5] for table in angles))
        np.testing.assert_array_equal(layer(x, offset).numpy(), expected.numpy())
        assert layer.cos.dtype == dtype and len(layer.cos) <= 2 * 3000


def test_an_odd_width_has_no_pairs():
    for make in (nn.SinusoidalPositions, nn.RotaryPositions):
        with pytest.raises(ValueError, match=r"even, got 5"):
            make(8, 5)


def test_the_slopes_of_alibi_for_8_heads_are_the_papers():
    """1/2, 1/4, ..., 1/256 (Press et al. 2022, section 3)."""
    assert nn.ALiBi(8).slopes == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_the_slopes_of_alibi_for_16_and_12_heads():
    """16 heads: 2^-0.5, 2^-1, ...; 12: those of 8, then every other one of 16, as in the authors' code."""
    assert nn.ALiBi(16).slopes == pytest.approx([2 ** (-h / 2) for h in range(1, 17)], rel=1e-15)
    twelve = [2**-h for h in range(1, 9)] + [2 ** -(h / 2) for h in (1, 3, 5, 7)]
    assert nn.ALiBi(12).slopes == pytest.approx(twelve, rel=1e-15)
    assert nn.ALiBi(1).slopes == [1 / 256]


def test_the_penalty_of_alibi_by_hand():
    """Figure 3 of the paper: -m (i - j) at and below the diagonal."""
    bias = nn.ALiBi(8)(3, 3)
    assert bias.shape == (8, 3, 3) and bias.dtype == np.float32
    np.testing.assert_array_equal(np.tril(bias.numpy()[0]), [[0, 0, 0], [-0.5, 0, 0], [-1, -0.5, 0]])
    np.testing.assert_array_equal(np.tril(bias.numpy()[7]), np.tril(bias.numpy()[0]) / 128)


def test_the_last_query_of_alibi_stands_at_the_last_key():
    alibi = nn.ALiBi(4)
    np.testing.assert_array_equal(alibi(2, 5).numpy(), alibi(5, 5).numpy()[:, 3:])
    assert alibi(2, 5, "float64").dtype == np.float64


def test_the_gradients_of_learned_positions():
    layer = nn.LearnedPositions(5, 2).astype("float64")
    x = Tensor(np.random.default_rng(0).normal(size=(2, 3, 2)), requires_grad=True)
    assert gradcheck(lambda *_: layer(x, offset=1), [x, layer.weight])

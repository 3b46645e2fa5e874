"""Rotary positions: against their twin (the rotation matrices), by hand, and by what they are for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from tests.functional import twins

LAYOUTS = pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "pairs"])


@LAYOUTS
@given(data=st.data())
def test_equals_its_twin(interleaved, data):
    T, half = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 3))
    cos, sin = F.rotary_angles(T, 2 * half, dtype="float64")
    twins.assert_equals_twin(
        lambda x: F.rotary_embedding(x, cos, sin, interleaved),
        lambda x: twins.rotary_embedding(x, cos, sin, interleaved),
        data.draw(twins.drawn((*data.draw(twins.shapes(max_axes=2)), T, 2 * half))),
    )


def test_the_angles_are_those_of_the_paper():
    """t θ^(-2i/D), θ = 10000: for D = 4 the two pairs turn by t and by t / 100."""
    cos, sin = F.rotary_angles(3, 4, dtype="float64")
    np.testing.assert_allclose(cos, [[math.cos(t), math.cos(t / 100)] for t in range(3)], rtol=1e-15)
    np.testing.assert_allclose(sin, [[math.sin(t), math.sin(t / 100)] for t in range(3)], rtol=1e-15)
    np.testing.assert_allclose(F.rotary_angles(2, 4, theta=1e6)[1][1], [math.sin(1), math.sin(1e-3)], rtol=1e-6)


def test_a_quarter_turn_by_hand():
    """(1, 0) turns to (0, 1): as pairs channels 0, 1 and 2, 3 turn, as halves channels 0, 2 and 1, 3."""
    x, cos, sin = Tensor(np.array([[1.0, 2.0, 3.0, 4.0]])), np.zeros((1, 2)), np.ones((1, 2))
    np.testing.assert_array_equal(F.rotary_embedding(x, cos, sin, interleaved=True).numpy(), [[-2, 1, -4, 3]])
    np.testing.assert_array_equal(F.rotary_embedding(x, cos, sin).numpy(), [[-3, -4, 1, 2]])


@LAYOUTS
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(0, 200))
def test_scores_depend_on_the_relative_position_only(interleaved, seed, shift):
    """<R_(t+c) q, R_(s+c) k> is the same for every c."""
    T, D = 6, 8
    q, k = twins.normals((D,), seed), twins.normals((D,), seed + 1)
    cos, sin = F.rotary_angles(T + shift, D, dtype="float64")

    def scores(first):
        angles = cos[first : first + T], sin[first : first + T]
        turned = [F.rotary_embedding(Tensor(np.tile(x, (T, 1))), *angles, interleaved).numpy() for x in (q, k)]
        return turned[0] @ turned[1].T

    np.testing.assert_allclose(scores(shift), scores(0), atol=1e-11)
    assert np.ptp(scores(0)) > 1e-3  # and it does depend on that
    np.testing.assert_allclose(np.diag(scores(0)), q @ k, atol=1e-12)


@LAYOUTS
def test_a_rotation_keeps_lengths_and_position_0_stays_where_it_is(interleaved):
    x = twins.normals((2, 5, 6), 1)
    y = F.rotary_embedding(Tensor(x), *F.rotary_angles(5, 6, dtype="float64"), interleaved).numpy()
    np.testing.assert_allclose((y**2).sum(-1), (x**2).sum(-1), rtol=1e-13)
    np.testing.assert_array_equal(y[:, 0], x[:, 0])


def test_the_two_layouts_are_one_another_with_the_channels_rearranged():
    x, angles = twins.normals((3, 6), 1), F.rotary_angles(3, 6, dtype="float64")
    order = [0, 2, 4, 1, 3, 5]  # the firsts of all pairs, then the seconds
    pairs = F.rotary_embedding(Tensor(x), *angles, interleaved=True).numpy()
    halves = F.rotary_embedding(Tensor(x[:, order]), *angles).numpy()
    np.testing.assert_array_equal(pairs[:, order], halves)


def test_float64_angles_leave_a_float32_input_float32():
    y = F.rotary_embedding(Tensor(np.ones((3, 4), dtype="float32")), *F.rotary_angles(3, 4, dtype="float64"))
    assert y.dtype == np.float32


def test_mistakes_are_named():
    cos, sin = F.rotary_angles(3, 4)
    with pytest.raises(ValueError, match="head width must be even, got 5"):
        F.rotary_angles(3, 5)
    with pytest.raises(ValueError, match=r"rotary_embedding: x \(..., T, D\) \(3, 6\) with an even D.*\(3, 2\)"):
        F.rotary_embedding(Tensor(np.zeros((3, 6))), cos, sin)
    with pytest.raises(ValueError, match=r"rotary_embedding: .*\(3, 2\) and \(2, 2\)"):
        F.rotary_embedding(Tensor(np.zeros((3, 4))), cos, sin[:2])
    with pytest.raises(ValueError, match=r"rotary_embedding: .*\(5, 4\)"):
        F.rotary_embedding(Tensor(np.zeros((5, 4))), cos, sin)

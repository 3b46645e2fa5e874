"""Rotary positions in Triton: both layouts of the pairs, any strides, backward as the rotation back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minilm.functional import rotary_angles
from minilm.kernels.rotary.triton import rotary_embedding
from tests.kernels.guards import guarded
from tests.kernels.rungs import NO_SHRINKING, assert_equals_textbook, dtypes, layouts, seeds

few = settings(max_examples=25, phases=NO_SHRINKING)


@few
@given(
    st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 3), (2, 2, 1, 3)]),
    *(st.sampled_from([1, 3, 4, 5, 9]), st.sampled_from([2, 4, 6, 16, 34])),
    *(st.booleans(), dtypes, layouts, seeds),
)
@example((2, 3), 9, 34, True, "float16", "gaps", 0)
@example((2, 3), 9, 34, False, "float16", "F", 0)
def test_rotation_equals_the_textbook(leading, T, D, interleaved, dtype, layout, seed):
    x = np.random.default_rng(seed).normal(size=(*leading, T, D))
    cos, sin = (a.astype(dtype).astype("float64") for a in rotary_angles(T, D, dtype="float64"))
    call = lambda f, x: f(x, cos.astype(x.dtype), sin.astype(x.dtype), interleaved)  # noqa: E731
    assert_equals_textbook("rotary_embedding", rotary_embedding, call, [x], dtype, layout, seed)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("shape", [(2, 1, 5, 4), (1, 3, 1, 4), (5, 4), (1, 4)])
def test_angles_broadcast(shape, interleaved):
    """Each sequence, or each head, may have positions of its own."""
    angles = np.random.default_rng(0).normal(size=shape)
    x = np.random.default_rng(1).normal(size=(2, 3, 5, 8))
    call = lambda f, x: f(x, np.cos(angles), np.sin(angles), interleaved)  # noqa: E731
    assert_equals_textbook("rotary_embedding", rotary_embedding, call, [x])


@pytest.mark.parametrize("interleaved", [False, True])
def test_heads_are_turned_where_they_lie(interleaved):
    """(B, T, H, D) seen as (B, H, T, D), and the gradient turns back: vjp(y) is x again."""
    x = guarded(np.random.default_rng(0).normal(size=(2, 5, 3, 8)).astype("float32")).swapaxes(1, 2)
    y, vjp = rotary_embedding(x, *rotary_angles(5, 8), interleaved)
    np.testing.assert_allclose((y**2).sum(-1), (x**2).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(vjp(y), x, atol=1e-6)
    assert np.abs(y[:, :, 1:] - x[:, :, 1:]).max() > 0.1


def test_nothing_is_turned_without_a_launch():
    x = np.ones((0, 3, 4), dtype="float32")
    y, vjp = rotary_embedding(x, *rotary_angles(3, 4))
    assert y.shape == vjp(y).shape == x.shape


def test_what_is_not_covered_is_said():
    x = np.ones((2, 3, 4), dtype="float32")
    with pytest.raises(ValueError, match="D/2 channels"):
        rotary_embedding(x, *rotary_angles(3, 8))
    with pytest.raises(NotImplementedError, match="float64: convert it"):
        rotary_embedding(x.astype("float64"), *rotary_angles(3, 4))

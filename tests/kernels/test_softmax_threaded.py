"""The threaded softmax and its logarithm equal the textbook, along any axis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.kernels.softmax import threaded
from minilm.tensor import OPERATIONS
from tests.kernels.against_textbook import assert_equals_textbook, cut, layouts, normal

EPS = {"float64": 1e-14, "float32": 2e-6}
BOTH = pytest.mark.parametrize("name", ["softmax", "log_softmax"])


@BOTH
@given(
    shape=st.lists(st.integers(0, 7), min_size=1, max_size=3).map(tuple),
    axis=st.integers(-3, 2),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    layout=st.tuples(layouts, layouts),
    block=st.sampled_from([1, 20, 1 << 18]),
    threads=st.integers(1, 3),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 999),
)
def test_it_is_the_textbooks(name, shape, axis, scale, layout, block, threads, dtype, seed):
    rng = np.random.default_rng(seed)
    x, g = (normal(rng, shape, dtype, kind) for kind in layout)
    axis = axis % len(shape) if axis >= 0 else -(-axis % len(shape) or len(shape))
    with cut(threads), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", block)
        assert_equals_textbook(
            name,
            getattr(threaded, name),
            (x * np.array(scale, dtype),),
            g,
            EPS[dtype],
            lambda function, x: function(x, axis),
        )


@BOTH
@pytest.mark.parametrize("threads", [1, 2])
def test_scores_of_minus_infinity_do_as_in_the_textbook(name, threads):
    inf = np.inf
    x = np.array([[-inf, 0.0, 1.0], [-inf, -inf, -inf], [1e4, -1e4, 1e4 - 1], [0.0, 0.0, -inf], [1e30, 2e30, -1e30]])
    g = np.array([[1.0, -2.0, 0.5]] * len(x))
    with cut(threads):
        y, dx = getattr(threaded, name)(x)
        expected, expected_dx = OPERATIONS[name].body(x)
        np.testing.assert_allclose(y, expected, rtol=1e-14)
        np.testing.assert_allclose(dx(g), expected_dx(g), rtol=1e-13, atol=1e-15)


@BOTH
def test_an_axis_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        getattr(threaded, name)(np.zeros((2, 3)), 2)

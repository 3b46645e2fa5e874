"""The threaded RMS norm, alone and of a sum, equals the textbook, however its rows are cut."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.kernels.rms_norm import threaded
from tests.kernels.against_textbook import assert_equals_textbook, cut, layouts, normal

EPS = {"float64": 1e-12, "float32": 3e-5}
cases = {
    "leading": st.lists(st.integers(0, 5), max_size=2).map(tuple),
    "normalized": st.lists(st.integers(1, 6), min_size=1, max_size=2).map(tuple),
    "layout": st.tuples(layouts, layouts),
    "block": st.sampled_from([1, 8, 1 << 18]),
    "threads": st.integers(1, 3),
    "dtype": st.sampled_from(["float64", "float32"]),
    "seed": st.integers(0, 999),
}


@given(with_weight=st.booleans(), **cases)
def test_rms_norm_is_the_textbooks(leading, normalized, with_weight, layout, block, threads, dtype, seed):
    rng = np.random.default_rng(seed)
    x = normal(rng, (*leading, *normalized), dtype, layout[0])
    weight = normal(rng, normalized, dtype) if with_weight else None
    with cut(threads), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", block)
        assert_equals_textbook(
            "rms_norm",
            threaded.rms_norm,
            (x, weight),
            normal(rng, x.shape, dtype, layout[1]),
            EPS[dtype],
            lambda function, x, weight: function(x, normalized, weight, 0.1),
        )


@given(**cases)
def test_add_rms_norm_is_the_textbooks(leading, normalized, layout, block, threads, dtype, seed):
    rng = np.random.default_rng(seed)
    x, residual = (normal(rng, (*leading, *normalized), dtype, kind) for kind in layout)
    weight = normal(rng, normalized, dtype, layout[0])
    g = tuple(normal(rng, x.shape, dtype, kind) for kind in layout)
    with cut(threads), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", block)
        assert_equals_textbook(
            "add_rms_norm",
            threaded.add_rms_norm,
            (x, residual, weight),
            g,
            EPS[dtype],
            lambda function, *arrays: function(*arrays, 0.1),
        )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_default_eps_is_the_dtypes_own(dtype):
    x = np.full((1, 4), 1e-4, dtype)
    y, _ = threaded.rms_norm(x, 4)
    np.testing.assert_allclose(y, 1 / np.sqrt(1 + np.finfo(dtype).eps / 1e-8), rtol=1e-6)


def test_what_is_kept_for_backward_is_the_input_and_not_an_array_as_large():
    x = np.random.default_rng(3).normal(size=(4096, 256)).astype("float32")
    tracemalloc.start()
    y, vjp = threaded.rms_norm(x, 256)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert y.nbytes <= kept < 1.1 * y.nbytes


def test_what_does_not_fit_is_named():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"x \(2, 3\) and residual \(3,\) must have one shape"):
        threaded.add_rms_norm(x, np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"normalized_shape \(4,\) must be the last axes of x \(2, 3\)"):
        threaded.rms_norm(x, 4)
    with pytest.raises(ValueError, match=r"weight \(2,\) must have the shape normalized_shape \(3,\)"):
        threaded.rms_norm(x, 3, np.zeros(2))

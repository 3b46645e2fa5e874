"""The threaded layer norm equals the textbook, however its rows are cut and wherever their mean lies."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.kernels.layer_norm import threaded
from minilm.tensor import OPERATIONS
from tests.kernels.against_textbook import assert_equals_textbook, cut, layouts, normal

EPS = {"float64": 1e-12, "float32": 3e-5}
dtypes = st.sampled_from(["float64", "float32"])


@given(
    leading=st.lists(st.integers(0, 5), max_size=2).map(tuple),
    normalized=st.lists(st.integers(1, 6), min_size=1, max_size=2).map(tuple),
    with_weight=st.booleans(),
    with_bias=st.booleans(),
    layout=st.tuples(layouts, layouts),
    block=st.sampled_from([1, 8, 1 << 18]),
    threads=st.integers(1, 3),
    dtype=dtypes,
    seed=st.integers(0, 999),
)
def test_it_is_the_textbooks(leading, normalized, with_weight, with_bias, layout, block, threads, dtype, seed):
    rng = np.random.default_rng(seed)
    x = normal(rng, (*leading, *normalized), dtype, layout[0])
    weight, bias = (normal(rng, normalized, dtype) if there else None for there in (with_weight, with_bias))
    g = normal(rng, x.shape, dtype, layout[1])
    with cut(threads), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", block)
        assert_equals_textbook(
            "layer_norm",
            threaded.layer_norm,
            (x, weight, bias),
            g,
            EPS[dtype],
            lambda function, x, weight, bias: function(x, normalized, weight, bias, 0.1),
        )


textbook = OPERATIONS["layer_norm"].body


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shift", [0.0, 0.9, 1.1, 30.0, 3000.0])
def test_a_mean_far_from_zero_costs_no_more_than_its_own_rounding(shift, dtype):
    """The mean square less the square of the mean would lose (mean / deviation)² eps: 1 at 3000 in float32."""
    eps = np.finfo(dtype).eps
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(64, 96)) + shift).astype(dtype)
    weight, bias, g = (normal(rng, shape, dtype) for shape in ((96,), (96,), x.shape))
    y, vjp = threaded.layer_norm(x, 96, weight, bias)
    expected, vjps = textbook(
        *(v.astype("longdouble") if isinstance(v, np.ndarray) else v for v in (x, 96, weight, bias))
    )
    np.testing.assert_allclose(y, expected, rtol=0, atol=(16 + 8 * shift) * eps)
    dx, dweight, _ = vjp(g, (True, True, True))
    np.testing.assert_allclose(dx, vjps[0](g), rtol=0, atol=(32 + 8 * shift) * eps)
    np.testing.assert_allclose(dweight, vjps[1](g), rtol=0, atol=(128 + 300 * shift) * eps)


def test_one_row_far_from_zero_leaves_the_others_as_they_are():
    x = np.random.default_rng(2).normal(size=(8, 50)).astype("float32")
    plain, _ = threaded.layer_norm(x, 50)
    x[3] += 1000
    y, _ = threaded.layer_norm(x, 50)
    np.testing.assert_allclose(np.delete(y, 3, 0), np.delete(plain, 3, 0), atol=1e-6)
    np.testing.assert_allclose(y[3], plain[3], atol=1e-3)


def test_a_row_that_is_no_number_spoils_itself_alone():
    x = np.random.default_rng(2).normal(size=(8, 50)).astype("float32")
    plain, _ = threaded.layer_norm(x, 50)
    x[3, 7] = np.nan
    y, vjp = threaded.layer_norm(x, 50)
    np.testing.assert_allclose(np.delete(y, 3, 0), np.delete(plain, 3, 0), atol=1e-6)
    assert np.isnan(y[3]).all()
    dx, _, dbias = vjp(np.ones_like(x), (True, True, True))
    assert np.isnan(dx[3]).all() and np.isfinite(np.delete(dx, 3, 0)).all()
    np.testing.assert_array_equal(dbias, 8)


def test_equal_numbers_have_no_spread():
    for value in (0.0, 3.0):
        y, vjp = threaded.layer_norm(np.full((2, 4), value), 4)
        np.testing.assert_array_equal(y, 0)
        dx, *_ = vjp(np.eye(2, 4), (True, False, False))
        np.testing.assert_allclose(dx.sum(-1), 0, atol=1e-13)


def test_what_is_kept_for_backward_is_the_input_and_not_an_array_as_large():
    x = np.random.default_rng(3).normal(size=(4096, 256)).astype("float32")
    tracemalloc.start()
    y, vjp = threaded.layer_norm(x, 256)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert y.nbytes <= kept < 1.1 * y.nbytes


@pytest.mark.parametrize("threads", [2, 3])
def test_the_same_numbers_each_time(threads):
    rng = np.random.default_rng(4)
    x, weight, bias, g = (normal(rng, shape, "float32") for shape in ((50, 33), (33,), (33,), (50, 33)))

    def run():
        y, vjp = threaded.layer_norm(x, 33, weight, bias)
        return y, *vjp(g, (True, True, True))

    with cut(threads):
        first = run()
        for _ in range(5):
            for again, one in zip(run(), first, strict=True):
                np.testing.assert_array_equal(again, one)

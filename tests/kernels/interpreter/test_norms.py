"""Layer norm and RMS norm in Triton, and RMS norm of a sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minilm.kernels.host import counting, using_tile
from minilm.kernels.layer_norm.triton import layer_norm
from minilm.kernels.rms_norm.triton import add_rms_norm, rms_norm
from tests.kernels.rungs import NO_SHRINKING, assert_equals_textbook, dtypes, layouts, seeds

few = settings(max_examples=15, phases=NO_SHRINKING)
rows = st.sampled_from([(), (1,), (2,), (7,), (3, 5), (31,)])
widths = st.sampled_from([(1,), (2,), (3,), (16,), (17,), (33,), (3, 5)])
epsilons = st.sampled_from([1e-5, 0.1])


def numbers(shape, seed):
    """Rows of width 1 are constant, and 1 / sqrt(0 + eps) large: numbers far from 0 keep the derivative of size one."""
    return np.random.default_rng(seed).normal(size=shape)


@few
@given(rows, widths, st.booleans(), st.booleans(), epsilons, dtypes, layouts, seeds)
@example((31,), (33,), True, True, 1e-5, "float16", "F", 1)
def test_layer_norm_equals_the_textbook(leading, shape, with_weight, with_bias, eps, dtype, layout, seed):
    x = numbers((*leading, *shape), seed)
    w = numbers(shape, seed + 1) + 1 if with_weight else None
    b = numbers(shape, seed + 2) if with_bias else None
    eps = max(eps, 0.1) if np.prod(shape) < 3 else eps  # two numbers may be nearly equal
    assert_equals_textbook(
        "layer_norm", layer_norm, lambda f, x, w, b: f(x, shape, w, b, eps), [x, w, b], dtype, layout, seed
    )


@few
@given(rows, widths, st.booleans(), st.sampled_from([None, 0.1]), dtypes, layouts, seeds)
@example((31,), (33,), True, None, "float16", "gaps", 1)
def test_rms_norm_equals_the_textbook(leading, shape, with_weight, eps, dtype, layout, seed):
    x = numbers((*leading, *shape), seed)
    x = np.sign(x) * (np.abs(x) + 0.5)
    w = numbers(shape, seed + 1) + 1 if with_weight else None
    assert_equals_textbook(
        "rms_norm", rms_norm, lambda f, x, w: f(x, shape, w, eps), [x, w], dtype, layout, seed
    )


@few
@given(rows, widths, st.sampled_from([None, 0.1]), dtypes, layouts, seeds)
@example((31,), (33,), None, "float16", "gaps", 1)
def test_rms_norm_of_a_sum_equals_the_textbook(leading, shape, eps, dtype, layout, seed):
    x, residual = numbers((*leading, *shape), seed), numbers((*leading, *shape), seed + 3)
    x = np.sign(x) * (np.abs(x) + 0.5)
    residual = np.sign(x) * np.abs(residual)
    w = numbers(shape, seed + 1) + 1
    assert_equals_textbook(
        "add_rms_norm", add_rms_norm, lambda f, *a: f(*a, eps), [x, residual, w], dtype, layout, seed
    )


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_the_parameters_gradients_do_not_depend_on_the_number_of_parts(parts):
    x, w, b = numbers((23, 5), 0), numbers((5,), 1), numbers((5,), 2)
    with using_tile("layer_norm_backward", BLOCK_R=2, ROWS_PER_PART=1, MAX_PARTS=parts):
        assert_equals_textbook("layer_norm", layer_norm, lambda f, *a: f(a[0], 5, *a[1:]), [x, w, b])
    with using_tile("rms_norm_backward", BLOCK_R=2, ROWS_PER_PART=1, MAX_PARTS=parts):
        assert_equals_textbook("rms_norm", rms_norm, lambda f, x, w: f(x, 5, w), [x, w])


def test_a_large_mean_does_not_spoil_the_variance():
    """The mean square of what is left of the mean, not the mean square less the square of the mean."""
    x = (1000 + numbers((3, 20), 0)).astype("float32")
    y, _ = layer_norm(x, 20)
    np.testing.assert_allclose(y.std(1), 1, rtol=1e-4)


def test_a_constant_row_is_0_and_finite_in_its_gradient():
    x = np.zeros((1, 4), dtype="float32")
    for norm in (layer_norm, rms_norm):
        y, vjp = norm(x, 4, eps=1e-5)
        dx, *_ = vjp(
            np.array([[1, 0, 0, 0]], dtype="float32"), (True, *[False] * (2 if norm is layer_norm else 1))
        )
        np.testing.assert_array_equal(y, 0)
        assert np.isfinite(dx).all()


def test_no_rows_no_launch_and_parameters_without_gradient():
    x, w = np.ones((0, 4), dtype="float32"), np.ones(4, dtype="float32")
    with counting() as counts:
        y, vjp = layer_norm(x, 4, w, w)
        dx, dw, db = vjp(y, (True, True, True))
        (y2, s), vjp = add_rms_norm(x, x, w)
        dx2, dresidual, dw2 = vjp((y2, s), (True, True, True))
    assert counts.loaded == counts.stored == 0
    assert y.shape == dx.shape == y2.shape == s.shape == dx2.shape == dresidual.shape == (0, 4)
    for d in (dw, db, dw2):
        np.testing.assert_array_equal(d, np.zeros(4))


def test_the_sum_is_not_read_again():
    x = np.ones((8, 16), dtype="float32")
    with counting() as counts:
        add_rms_norm(x, x, x[0], 1e-5)
    r, programs = 8 * 4, 2  # each program reads the weight
    assert (counts.loaded, counts.stored) == (2 * x.nbytes + programs * 16 * 4, 2 * x.nbytes + r)


def test_what_is_not_covered_is_said():
    with pytest.raises(NotImplementedError, match="layer_norm: rows of 8193 numbers do not fit into registers"):
        layer_norm(np.ones((1, 8193), dtype="float32"), 8193)
    with pytest.raises(ValueError, match="must be the last axes"):
        rms_norm(np.ones((2, 3), dtype="float32"), 2)
    with pytest.raises(ValueError, match="must have one shape"):
        add_rms_norm(
            np.ones((2, 3), dtype="float32"), np.ones((3,), dtype="float32"), np.ones(3, dtype="float32")
        )

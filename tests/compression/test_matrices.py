"""Matrices of 8- and 4-bit integers: how they round, and that products are those of the rounded matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.compression import Int4Matrix, Int8Matrix
from minilm.compression import matrices as module
from minilm.errors import CheckpointError
from minilm.random import Generator

FORMS = {
    "8 bits": Int8Matrix,
    "4 bits": Int4Matrix,
    "4 bits with offset": lambda weight: Int4Matrix(weight, offset=True),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def drawn(*shape, seed=0, std=0.02):
    return Generator(seed).normal(shape, std=std)


def test_8_bits_by_hand():
    matrix = Int8Matrix(np.array([[1.27, -0.5, 0.004], [0, 0, 0], [-2.54, 1.0, 0.01]], dtype="float32"))
    np.testing.assert_array_equal(matrix.integers, [[127, -50, 0], [0, 0, 0], [-127, 50, 0]])
    np.testing.assert_allclose(matrix.scale, [0.01, 0, 0.02], rtol=1e-6)
    np.testing.assert_allclose(matrix.floats(slice(None))[0], [1.27, -0.5, 0], rtol=1e-6)
    assert matrix.nbytes == 9 + 3 * 4


def test_4_bits_by_hand():
    """-8 ... 7 steps of 1/8 without an offset; 0 ... 15 steps from 3 upwards with one: both are exact here."""
    steps = np.tile(np.arange(-8, 8), 4)[None] / 8
    matrix = Int4Matrix(steps.astype("float32"))
    np.testing.assert_array_equal(matrix.floats(slice(None)), steps)
    np.testing.assert_array_equal(matrix.scale, [[0.125, 0.125]])
    assert matrix.nbytes == 32 + 2 * 2
    away = 3 + np.tile(np.arange(16), 4)[None] / 4
    matrix = Int4Matrix(away.astype("float32"), offset=True)
    np.testing.assert_array_equal(matrix.floats(slice(None)), away)
    assert matrix.nbytes == 32 + 2 * 4
    assert np.abs(Int4Matrix(away.astype("float32")).floats(slice(None)) - away).max() > 0.1


def test_the_largest_weight_may_be_positive_or_negative():
    """q = 0 stands for the largest size, whichever its sign: the scale is negative where that is positive."""
    for sign in (1, -1):
        weight = np.zeros((1, 64), dtype="float32")
        weight[0, 5] = sign * 8
        np.testing.assert_array_equal(Int4Matrix(weight).floats(slice(None)), weight)


@given(st.integers(1, 5), st.integers(1, 150), st.integers(0, 99))
def test_no_weight_is_off_by_more_than_half_a_step(rows, columns, seed):
    weight = drawn(rows, columns, seed=seed)
    eight = Int8Matrix(weight)
    error = np.abs(eight.floats(slice(None)) - weight)
    assert (error <= eight.scale[:, None] * 0.5001).all()


@each_form
@pytest.mark.parametrize("columns", [1, 31, 32, 63, 64, 65, 200])
@pytest.mark.parametrize("rows", [1, 3, 70])
def test_a_product_is_that_of_the_rounded_matrix(monkeypatch, form, rows, columns):
    monkeypatch.setattr(module, "PIECE", 20 * columns)  # several pieces, the last one smaller
    weight = drawn(rows, columns)
    matrix = form(weight)
    rounded = matrix.floats(slice(None))
    assert rounded.shape == weight.shape == matrix.shape
    for N in (1, module.FEW, module.FEW + 1, 9):
        x = drawn(N, columns, seed=1, std=1.0)
        y = matrix.product(x)
        assert y.dtype == np.float32 and y.shape == (N, rows)
        exact = x.astype("float64") @ rounded.T.astype("float64")
        np.testing.assert_allclose(y, exact, atol=1e-5)
    monkeypatch.setattr(module, "PIECE", 1)
    np.testing.assert_array_equal(form(weight).floats(slice(None)), rounded)


@each_form
def test_chosen_rows_are_those_of_the_whole(form):
    matrix = form(drawn(11, 70))
    whole, chosen = matrix.whole(), np.array([3, 3, 0, 10])
    np.testing.assert_array_equal(matrix.floats(slice(None)), whole)
    np.testing.assert_array_equal(matrix.floats(chosen), whole[chosen])
    np.testing.assert_array_equal(matrix.floats(slice(2, 5)), whole[2:5])
    np.testing.assert_array_equal(matrix.floats(slice(2, 5), out=np.empty((3, 70), "float32")), whole[2:5])


def test_the_more_bits_the_smaller_the_error():
    weight = drawn(64, 256)
    errors = [np.square(form(weight).floats(slice(None)) - weight).mean() for form in FORMS.values()]
    assert errors[0] * 20 < errors[2] < errors[1] < 0.1**2 * 0.02**2 * 2


@pytest.mark.parametrize("offset", [False, True])
def test_the_search_for_a_span_pays(monkeypatch, offset):
    """By some 6 % of the squared error, for weights of a normal distribution."""
    weight = drawn(64, 256)
    searched = np.square(Int4Matrix(weight, offset).floats(slice(None)) - weight).sum()
    monkeypatch.setattr(module, "SPANS", (1.0,))
    assert searched < 0.955 * np.square(Int4Matrix(weight, offset).floats(slice(None)) - weight).sum()


def test_an_outlier_spoils_its_block_and_no_other():
    weight = drawn(1, 128)
    weight[0, 70] = 5.0
    error = np.abs(Int4Matrix(weight).floats(slice(None)) - weight)[0]
    assert error[64:96].max() > 0.01 and np.delete(error, np.s_[64:96]).max() < 0.008


@each_form
def test_a_matrix_comes_back_from_its_arrays(form):
    matrix = form(drawn(7, 70))
    again = type(matrix).from_arrays(matrix.arrays(), 70)
    np.testing.assert_array_equal(again.floats(slice(None)), matrix.floats(slice(None)))
    assert again.shape == matrix.shape and again.nbytes == matrix.nbytes
    for name, array in matrix.arrays().items():
        with pytest.raises(CheckpointError, match="other sizes"):
            type(matrix).from_arrays({**matrix.arrays(), name: array[:, :-1] if array.ndim > 1 else array[:-1]}, 70)
        with pytest.raises(CheckpointError, match="float64"):
            type(matrix).from_arrays({**matrix.arrays(), name: array.astype("float64")}, 70)
    with pytest.raises(CheckpointError):
        type(matrix).from_arrays(matrix.arrays(), 300)


@each_form
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(form, bad):
    weight = drawn(2, 64)
    weight[1, 3] = bad
    with pytest.raises(ValueError, match="not all finite"):
        form(weight)
    with pytest.raises(ValueError, match="a matrix of floats"):
        form(np.zeros((2, 3, 4), dtype="float32"))


def test_weights_too_large_for_a_float16_scale_are_refused():
    with pytest.raises(ValueError, match="too large for a scale in float16"):
        Int4Matrix(np.full((1, 64), -1e7, dtype="float32"))

"""The threaded products equal the textbook bodies, however they are cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional  # noqa: F401 - registers the operations
from minilm.kernels import threads
from minilm.kernels.activation.threaded import ACTIVATIONS
from minilm.kernels.matmul import threaded
from minilm.tensor import OPERATIONS

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


@pytest.fixture(autouse=True, params=[(count, small) for count in (1, 2, 3) for small in (threaded.SMALL, 0)])
def small_pieces(request, monkeypatch):
    """Even the smallest arrays are cut, over 1, 2 and 3 threads; a weight of any size counts as small, and as large."""
    count, small = request.param
    monkeypatch.setattr(threads, "LEAST", 1)
    monkeypatch.setattr(threaded, "SMALL", small)
    before = threads.set_thread_count(count)
    yield
    threads.set_thread_count(before)


def layout(array, kind):
    """The same numbers in another memory layout."""
    if kind == "fortran":
        return np.asfortranarray(array)
    if kind == "strided":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), dtype=array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    return array


def gradients(vjp, g, count):
    """All gradients, of a tuple of vjps or of a joint one."""
    if isinstance(vjp, tuple):
        return [f(g) for f in vjp]
    return list(vjp(g, (True,) * count))


def compare(name, function, arrays, *rest, dtype="float64", g_layout="c", parameters=None):
    """Output and gradients of the threaded function and of the textbook body; the threaded vjp twice."""
    y, vjp = function(*arrays, *rest)
    expected, textbook = OPERATIONS[name].body(*arrays, *rest)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(y, expected, **close)
    assert y.dtype == expected.dtype
    g = layout(np.random.default_rng(1).standard_normal(expected.shape).astype(dtype), g_layout)
    kept = g.copy()
    for _ in range(2):  # retain_graph
        count = parameters or len(arrays)
        for d, e in zip(gradients(vjp, g, count), gradients(textbook, g, count), strict=True):
            if e is None:
                continue
            np.testing.assert_allclose(d, e, **close)
            assert d.dtype == dtype and d.shape == e.shape
    assert (g == kept).all()


def numbers(*shape, dtype="float64"):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


sizes = st.integers(0, 70)


@given(rows=sizes, n=st.integers(1, 70), k=st.integers(1, 40), kind=st.sampled_from(["c", "fortran", "strided"]))
def test_linear_equals_the_textbook(rows, n, k, kind):
    x, weight = layout(numbers(rows, k), kind), layout(numbers(n, k), kind)
    compare("linear", threaded.linear, (x, weight, numbers(n)), g_layout=kind if rows else "c")


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5), (40, 5), (0, 5)])
def test_linear_takes_any_leading_axes(shape):
    compare("linear", threaded.linear, (numbers(*shape, dtype="float32"), numbers(33, 5, dtype="float32"),
                                        numbers(33, dtype="float32")), dtype="float32")  # fmt: skip


def test_linear_computes_only_what_is_needed():
    _, vjp = threaded.linear(numbers(20, 5), numbers(7, 5))
    dx, dweight, dbias = vjp(numbers(20, 7), (False, True, False))
    assert dx is None and dbias is None and dweight.shape == (7, 5)


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(
    rows=st.integers(0, 60),
    n=st.integers(1, 60),
    with_residual=st.booleans(),
    dtype=st.sampled_from(sorted(TOLERANCE)),
)
def test_linear_activation_equals_the_textbook(name, rows, n, with_residual, dtype):
    arrays = [numbers(rows, 9, dtype=dtype), numbers(n, 9, dtype=dtype), numbers(n, dtype=dtype)]
    residual = numbers(rows, n, dtype=dtype) if with_residual else None
    y, vjp = threaded.linear_activation(*arrays, name, residual)
    expected, textbook = OPERATIONS["linear_activation"].body(*arrays, name, residual)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(y, expected, **close)
    g = numbers(rows, n, dtype=dtype)
    needs = (True, True, True, with_residual)
    for _ in range(2):
        for d, e in zip(vjp(g, needs), textbook(g, needs), strict=True):
            assert (d is None) == (e is None)
            if d is not None:
                np.testing.assert_allclose(d, e, **close)
                assert d.dtype == dtype


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_stay_finite_far_out(name):
    z = np.array([-1e4, -100.0, -20.0, 20.0, 100.0, 1e4], dtype=np.float32)
    slope = np.empty_like(z)
    ACTIVATIONS[name](z, slope)
    np.testing.assert_allclose(z, [0, 0, 0, 20, 100, 1e4], atol=1e-5)
    np.testing.assert_allclose(slope, [0, 0, 0, 1, 1, 1], atol=1e-5)


@pytest.mark.parametrize("big", [1, 40_000])
def test_an_activation_that_spans_several_blocks_is_the_same(big):
    x, weight = numbers(big, 1), numbers(3, 1)
    residual = numbers(big, 3)
    arrays = (x, weight, numbers(3))
    compare("linear_activation", threaded.linear_activation, arrays, "gelu_tanh", residual, parameters=4)


SHAPES = [
    ((4, 5), (5, 6)),
    ((5,), (5, 6)),
    ((4, 5), (5,)),
    ((5,), (5,)),
    ((3, 4, 5), (5, 6)),
    ((3, 4, 5), (5,)),
    ((5,), (3, 5, 6)),
    ((3, 4, 5), (3, 5, 6)),
    ((2, 1, 4, 5), (3, 5, 6)),
    ((1, 7, 4, 5), (2, 1, 5, 6)),
    ((0, 4, 5), (5, 6)),
    ((2, 4, 0), (2, 0, 3)),
    ((1, 4, 5), (1, 5, 6)),
    ((40, 20), (20, 30)),
]


@pytest.mark.parametrize("a, b", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
def test_matmul_equals_the_textbook(a, b, dtype):
    compare("matmul", threaded.matmul, (numbers(*a, dtype=dtype), numbers(*b, dtype=dtype)), dtype=dtype)


def test_matmul_of_transposed_views():
    a, b = numbers(3, 5, 4).swapaxes(1, 2), numbers(3, 6, 5).swapaxes(1, 2)
    compare("matmul", threaded.matmul, (a, b))

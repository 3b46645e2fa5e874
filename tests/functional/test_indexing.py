"""Indexing has NumPy's values; the gradient counts how often each element was chosen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minilm.functional as functional
from minilm import Tensor
from minilm.backend import scatter_add_rows
from tests.properties.strategies import arrays, cotangent_like

moderate = settings(max_examples=50)


def check_against_add_at(x, index):
    """The value is x[index]; the gradient is what `np.add.at` makes of the cotangent."""
    leaf = Tensor.wrap(x)
    leaf.requires_grad = True
    y = leaf[index]
    expected = np.asarray(x[index])
    np.testing.assert_array_equal(y.data, expected, strict=True)
    g = cotangent_like(expected)
    y.backward(g)
    total = np.zeros(x.shape)
    np.add.at(total, index, g)
    np.testing.assert_allclose(leaf.grad.data, total, rtol=1e-12, atol=1e-12)


@moderate
@given(x=arrays(), data=st.data())
def test_basic_indexing(x, data):
    check_against_add_at(x, data.draw(hnp.basic_indices(x.shape, allow_newaxis=True, allow_ellipsis=True)))


@moderate
@given(x=arrays(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)), data=st.data())
def test_integer_array_indexing_with_repeats(x, data):
    shape = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
    check_against_add_at(x, data.draw(hnp.integer_array_indices(x.shape, result_shape=shape)))
    check_against_add_at(x, data.draw(hnp.arrays("int64", shape, elements=st.integers(-x.shape[0], x.shape[0] - 1))))


@moderate
@given(x=arrays(), data=st.data())
def test_boolean_indexing(x, data):
    check_against_add_at(x, data.draw(hnp.arrays(bool, x.shape)))


@pytest.mark.parametrize(
    "index",
    [[0, 0, 2], [[0, 1], [2, 2]], (slice(None), [0, 0, 1]), ([0, 0], [1, 1]), (0, [1, 1]), (None, [2, 2], ...), True],
    ids=str,
)
def test_lists_and_mixed_indices(index):
    x = np.arange(9.0).reshape(3, 3)
    check_against_add_at(x, index)


def test_tensors_as_indices():
    x = Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    rows, columns = Tensor(np.array([0, 0])), Tensor(np.array([1, 1]))
    x[rows, columns].sum().backward()
    assert x.grad.tolist() == [[0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
    assert x[Tensor(np.array([True, False, True]))].shape == (2, 2)


def test_iteration_is_indexing():
    x = Tensor(np.arange(4.0).reshape(2, 2), requires_grad=True)
    first, second = x
    (first * second).sum().backward()
    assert x.grad.tolist() == [[2.0, 3.0], [0.0, 1.0]]


@moderate
@given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
def test_take_along_axis_gives_what_numpy_gives(data, shape):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = data.draw(arrays(shape))
    wanted = list(shape)
    wanted[axis] = data.draw(st.integers(0, 4))
    for i in range(len(shape)):  # the other axes may broadcast
        if i != axis % len(shape) and data.draw(st.booleans()):
            wanted[i] = 1
    n = shape[axis]
    indices = data.draw(hnp.arrays("int64", tuple(wanted), elements=st.integers(-n, n - 1)))
    leaf = Tensor.wrap(x)
    leaf.requires_grad = True
    y = functional.take_along_axis(leaf, indices, axis)
    np.testing.assert_array_equal(y.data, np.take_along_axis(x, indices, axis), strict=True)
    g = cotangent_like(y.data)
    y.backward(g)
    total = np.zeros(x.shape)
    everywhere = np.broadcast_to(indices, y.shape)
    for place in np.ndindex(y.shape):
        target = list(place)
        target[axis] = everywhere[place]
        total[tuple(target)] += g[place]
    np.testing.assert_allclose(leaf.grad.data, total, rtol=1e-12, atol=1e-12)


@moderate
@given(
    ids=st.lists(st.integers(0, 4), max_size=20),
    C=st.integers(0, 3),
)
def test_scatter_add_rows_is_add_at(ids, C):
    ids = np.array(ids, dtype="int64")
    rows = cotangent_like(np.zeros((len(ids), C)))
    expected = np.zeros((5, C))
    np.add.at(expected, ids, rows)
    np.testing.assert_allclose(scatter_add_rows(rows, ids, 5), expected, rtol=1e-12, atol=1e-12)


def test_scatter_add_rows_has_the_same_bits_every_time():
    rng = np.random.default_rng(0)
    rows, ids = rng.normal(size=(500, 3)).astype("float32"), rng.integers(0, 7, 500)
    assert scatter_add_rows(rows, ids, 7).tobytes() == scatter_add_rows(rows, ids, 7).tobytes()


@pytest.mark.parametrize("bad, place", [(4, [0, 1]), (-1, [0, 1])])
def test_an_id_outside_the_table_is_named_with_its_place(bad, place):
    table = Tensor(np.zeros((4, 2), "float32"))
    message = rf"embedding: id {bad} at \[0, 1\] is outside the table of 4 entries \(0 to 3\)"
    with pytest.raises(IndexError, match=message):
        functional.embedding(np.array([[0, bad]]), table)


def test_ids_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match="token ids are integers, not float64"):
        functional.embedding(np.array([0.0]), Tensor(np.zeros((4, 2))))


def test_an_index_out_of_bounds_names_the_operation_and_the_shape():
    with pytest.raises(IndexError, match=r"^getitem: index 5 is out of bounds.*\(3,\) float32"):
        Tensor([1.0, 2.0, 3.0])[5]

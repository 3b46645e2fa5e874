"""Operations that rearrange have NumPy's values, and the round trip through a vjp puts every element back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minilm.functional as functional
from minilm import Tensor
from tests.properties.strategies import arrays, nonempty_shapes

moderate = settings(max_examples=40)


@moderate
@given(x=arrays(), data=st.data())
def test_transposes_give_what_numpy_gives(x, data):
    order = tuple(data.draw(st.permutations(range(x.ndim))))
    np.testing.assert_array_equal(functional.transpose(Tensor.wrap(x), order).data, x.transpose(order), strict=True)
    np.testing.assert_array_equal(functional.transpose(Tensor.wrap(x), *order).data, x.transpose(*order), strict=True)
    np.testing.assert_array_equal(Tensor.wrap(x).T.data, x.T, strict=True)
    if x.ndim:
        a, b = (data.draw(st.integers(-x.ndim, x.ndim - 1)) for _ in range(2))
        np.testing.assert_array_equal(Tensor.wrap(x).swapaxes(a, b).data, x.swapaxes(a, b), strict=True)


@moderate
@given(x=arrays(), data=st.data())
def test_reshapes_give_what_numpy_gives(x, data):
    divisors = [n for n in range(1, max(x.size, 1) + 1) if x.size % n == 0]
    n = data.draw(st.sampled_from(divisors))
    for shape in ((n, -1), (-1, n), (x.size,)):
        np.testing.assert_array_equal(Tensor.wrap(x).reshape(shape).data, x.reshape(shape), strict=True)
        np.testing.assert_array_equal(Tensor.wrap(x).reshape(*shape).data, x.reshape(shape), strict=True)


@moderate
@given(x=arrays(nonempty_shapes), axis=st.integers(0, 3))
def test_axes_of_length_one_come_and_go(x, axis):
    axis = min(axis, x.ndim)
    wide = functional.expand_dims(Tensor.wrap(x), axis)
    np.testing.assert_array_equal(wide.data, np.expand_dims(x, axis), strict=True)
    np.testing.assert_array_equal(wide.squeeze(axis).data, x, strict=True)
    np.testing.assert_array_equal(wide.squeeze().data, np.squeeze(x), strict=True)


@moderate
@given(x=arrays(nonempty_shapes), n=st.integers(0, 3))
def test_expand_is_broadcast_to(x, n):
    y = Tensor.wrap(x).expand(n, *(-1,) * x.ndim)
    np.testing.assert_array_equal(y.data, np.broadcast_to(x, (n, *x.shape)), strict=True)


@moderate
@given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
def test_joins_and_splits_give_what_numpy_gives(data, shape):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    parts = [data.draw(arrays((*shape[: axis % len(shape)], n, *shape[axis % len(shape) + 1 :]))) for n in lengths]
    joined = functional.concatenate([Tensor.wrap(p) for p in parts], axis=axis)
    np.testing.assert_array_equal(joined.data, np.concatenate(parts, axis=axis), strict=True)
    cuts = [int(c) for c in np.cumsum(lengths)[:-1]]
    for part, again in zip(parts, joined.split(cuts, axis=axis), strict=True):
        np.testing.assert_array_equal(again.data, part, strict=True)
    same = [data.draw(arrays(shape)) for _ in range(2)]
    for axis in range(-len(shape) - 1, len(shape) + 1):
        stacked = functional.stack([Tensor.wrap(p) for p in same], axis=axis)
        np.testing.assert_array_equal(stacked.data, np.stack(same, axis=axis), strict=True)


@pytest.mark.parametrize("width", [1, (1, 2), ((1, 2),), ((0, 1), (2, 0)), [[1, 0], [0, 0]]], ids=str)
def test_pad_gives_what_numpy_gives(width):
    x = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    y = functional.pad(x, width, constant_values=7.0)
    np.testing.assert_array_equal(y.data, np.pad(x.data, width, constant_values=7.0), strict=True)
    y.backward(np.where(y.data == 7.0, 100.0, y.data))
    assert x.grad.tolist() == x.tolist()


@moderate
@given(x=arrays(), data=st.data())
def test_the_vjp_of_a_rearrangement_puts_every_element_back(x, data):
    """Of a bijection the transpose is the inverse: the cotangent y comes back as x."""
    order = tuple(data.draw(st.permutations(range(x.ndim))))
    for fn in (lambda t: t.transpose(order), lambda t: t.reshape(-1), lambda t: functional.expand_dims(t, 0)):
        leaf = Tensor.wrap(x)
        leaf.requires_grad = True
        y = fn(leaf)
        y.backward(y.data)
        np.testing.assert_array_equal(leaf.grad.data, x, strict=True)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: x.reshape(4), r"^reshape: cannot reshape .*\(2, 3\)"),
        (lambda x: x.split(2, axis=1), r"^split: .*equal division"),
        (lambda x: x.squeeze(0), r"^squeeze: .*\(2, 3\) float32"),
        (lambda x: x.expand(4, 3), r"^expand: .*\(2, 3\) float32"),
        (lambda x: functional.stack([x, x[0]]), r"^stack: .*same shape.*\(2, 3\) float32, \(3,\) float32"),
    ],
)
def test_what_does_not_fit_is_refused_with_name_and_shape(call, message):
    with pytest.raises(ValueError, match=message):
        call(Tensor(np.zeros((2, 3), "float32")))

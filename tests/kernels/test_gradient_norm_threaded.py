"""The norm of all gradients and their scaling on several threads: exact, in place, the same on any number of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minilm import Tensor
from minilm.kernels.gradient_norm import threaded
from minilm.kernels.gradient_norm.threaded import ROW, scale, squared_norm
from minilm.optim import clip_grad_norm_, grad_norm
from tests.kernels.against_textbook import cut, layouts, normal

shapes = st.lists(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9), max_size=6)


def drawn(shapes, layout, dtype, seed):
    rng = np.random.default_rng(seed)
    return [np.asarray(normal(rng, shape, dtype, layout)) for shape in shapes]


def exact(arrays):
    return math.fsum(float(x) ** 2 for array in arrays for x in array.reshape(-1))


@given(shapes, layouts, st.sampled_from(["float32", "float64"]), st.sampled_from([1, 7, 64]), st.integers(1, 3))
def test_the_norm_is_that_of_all_elements(shapes, layout, dtype, stretch, threads):
    arrays = drawn(shapes, layout, dtype, 0)
    with cut(threads), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "STRETCH", stretch)
        patch.setattr(threaded, "ROW", 3)
        assert squared_norm(arrays) == pytest.approx(exact(arrays), rel=1e-6 if dtype == "float32" else 1e-14, abs=0)


@given(shapes, st.sampled_from(["C", "F", "strided", "reversed"]), st.sampled_from([1, 7, 64]), st.integers(1, 3))
def test_every_element_is_scaled_once_and_in_place(shapes, layout, stretch, threads):
    arrays = drawn(shapes, layout, "float32", 1)
    expected = [array * np.float32(0.3) for array in arrays]
    with cut(threads), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "STRETCH", stretch)
        scale(arrays, 0.3)
    for array, right in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, right)


def test_the_norm_does_not_depend_on_the_number_of_threads():
    arrays = drawn([(700, 1000), (33,), (ROW + 1,), (300, 1001)], "C", "float32", 2)
    norms = []
    for threads in (1, 2, 3):
        with cut(threads):
            norms += [squared_norm(arrays) for _ in range(3)]
    assert len(set(norms)) == 1


@pytest.mark.parametrize("size", [1e30, 1e-21, 1e-30, 1e-44])
def test_squares_beyond_float32_do_not_spoil_the_norm(size):
    value = float(np.float32(size))
    arrays = [np.full(3 * ROW, size, "float32"), np.full(ROW, size, "float32")]
    assert squared_norm(arrays) == pytest.approx(4 * ROW * value**2, rel=1e-6, abs=0)


def test_nothing_and_zeros_have_the_norm_zero():
    assert squared_norm([]) == 0 == squared_norm([np.zeros(5, "float32"), np.zeros((0, 3))])
    scale([], 0.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_shows(bad):
    total = squared_norm([np.ones(5), np.array([1.0, bad])])
    assert math.isnan(total) if math.isnan(bad) else total == math.inf


def test_clipping_uses_it_unless_a_gradient_is_not_for_it(monkeypatch):
    asked = []
    plain = threaded._stretches
    monkeypatch.setattr(threaded, "_stretches", lambda arrays: asked.append(len(arrays)) or plain(arrays))

    def parameters(*dtypes):
        made = [Tensor(np.zeros(2, dtype), requires_grad=True) for dtype in dtypes]
        for parameter in made:
            parameter.grad = np.array([3.0, 4.0], parameter.dtype)
        return made

    both = parameters("float32", "float64")
    assert clip_grad_norm_(both, 1.0) == pytest.approx(math.sqrt(50))
    assert asked == [2, 2]
    for parameter in both:
        np.testing.assert_allclose(parameter.grad.data, np.array([3, 4]) / math.sqrt(50), rtol=1e-5)
    assert grad_norm(parameters("float32", "float16")) == pytest.approx(math.sqrt(50))
    assert asked == [2, 2]


def test_a_gradient_that_clipping_changed_is_out_of_date_for_an_older_graph():
    parameter = Tensor(np.ones(2), requires_grad=True)
    gradient = Tensor(np.array([3.0, 4.0]))
    parameter.grad = gradient
    x = Tensor(np.ones(2), requires_grad=True)
    y = (x * parameter.grad).sum()
    clip_grad_norm_([parameter], 1.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()

"""Layer norm and RMS norm: against their twins, by hand, and by what they must not see."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from tests.functional import twins


@st.composite
def cases(draw):
    """(shape of x, normalized_shape, its axes, eps)."""
    normalized = draw(twins.shapes(min_axes=1, max_axes=2, smallest=1))
    shape = (*draw(twins.shapes(max_axes=2)), *normalized)
    # an eps this large keeps float32 well conditioned when all elements are close; the default has a test below
    return shape, normalized, tuple(range(-len(normalized), 0)), draw(st.sampled_from([0.01, 0.5]))


@given(cases(), st.booleans(), st.booleans(), st.data())
def test_layer_norm_equals_its_twin(case, with_weight, with_bias, data):
    shape, normalized, axes, eps = case
    inputs = [data.draw(twins.drawn(s)) for s in (shape, *[normalized] * (with_weight + with_bias))]

    def named(x, *rest):
        rest = list(rest)
        return x, rest.pop(0) if with_weight else None, rest.pop(0) if with_bias else None

    def fused(*tensors):
        x, weight, bias = named(*tensors)
        return F.layer_norm(x, normalized, weight, bias, eps)

    def twin(*tensors):
        x, weight, bias = named(*tensors)
        return twins.layer_norm(x, axes, weight, bias, eps)

    twins.assert_equals_twin(fused, twin, *inputs, few=512)


@given(cases(), st.booleans(), st.data())
def test_rms_norm_equals_its_twin(case, with_weight, data):
    shape, normalized, axes, eps = case
    inputs = [data.draw(twins.drawn(s)) for s in (shape, *[normalized] * with_weight)]
    twins.assert_equals_twin(
        lambda x, weight=None: F.rms_norm(x, normalized, weight, eps),
        lambda x, weight=None: twins.rms_norm(x, axes, weight, eps),
        *inputs,
        few=512,
    )


def test_the_default_eps_of_layer_norm_is_1e_5_and_of_rms_norm_the_dtypes_own():
    """As in PyTorch; numbers this small show which eps was added."""
    x = twins.Drawn(np.array([[1e-3, -2e-3, 4e-3]], dtype="float32").astype("float64"))
    for dtype in ("float32", "float64"):
        layer = F.layer_norm(x.tensor(dtype), 3).numpy()
        expected = twins.layer_norm(x.tensor("float64"), (-1,), None, None, 1e-5).numpy()
        np.testing.assert_allclose(layer, expected, rtol=1e-5)
        eps = float(np.finfo(dtype).eps)
        tiny = twins.Drawn(x.values / 10)
        rms = F.rms_norm(tiny.tensor(dtype), 3).numpy()
        np.testing.assert_allclose(rms, twins.rms_norm(tiny.tensor("float64"), (-1,), None, eps).numpy(), rtol=1e-5)


def test_layer_norm_by_hand():
    """1, 3 has mean 2 and variance 1 (1/n, not 1/(n-1))."""
    x, weight, bias = (Tensor(np.array(row)) for row in ([1.0, 3.0], [10.0, 10.0], [0.0, 1.0]))
    y = F.layer_norm(x, 2, weight, bias, eps=0.0)
    np.testing.assert_allclose(y.numpy(), [-10, 11], rtol=1e-15)


def test_rms_norm_by_hand():
    """3, 4 has the mean square 12.5; the mean stays in."""
    y = F.rms_norm(Tensor(np.array([3.0, 4.0])), 2, eps=0.0)
    np.testing.assert_allclose(y.numpy(), np.array([3, 4]) / np.sqrt(12.5), rtol=1e-15)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 100), st.floats(-10, 10))
def test_layer_norm_sees_neither_scale_nor_shift_and_rms_norm_not_the_scale(seed, scale, shift):
    x = twins.normals((3, 8), seed)
    plain = F.layer_norm(Tensor(x), 8, eps=0.0).numpy()
    np.testing.assert_allclose(F.layer_norm(Tensor(x * scale + shift), 8, eps=0.0).numpy(), plain, atol=1e-11)
    np.testing.assert_allclose(
        F.rms_norm(Tensor(x * scale), 8, eps=0.0).numpy(), F.rms_norm(Tensor(x), 8, eps=0.0).numpy(), atol=1e-12
    )


@given(st.integers(0, 2**32 - 1))
def test_the_output_has_mean_0_and_mean_square_1_and_the_gradient_is_orthogonal_to_both(seed):
    """Invariance to shift and scale again, in the gradient: sum dx = 0 and sum dx x = 0."""
    for name, eps in (("layer_norm", 1e-12), ("rms_norm", 1e-12)):
        x = Tensor(twins.normals((2, 16), seed), requires_grad=True)
        y = getattr(F, name)(x, 16, eps=eps)
        np.testing.assert_allclose((y.numpy() ** 2).mean(-1), 1, rtol=1e-9)
        y.backward(twins.normals((2, 16), seed + 1))
        dx = x.grad.numpy()
        assert np.abs(dx).max() > 1e-3
        np.testing.assert_allclose((dx * x.numpy()).sum(-1), 0, atol=1e-9)
        if name == "layer_norm":
            np.testing.assert_allclose(y.numpy().mean(-1), 0, atol=1e-13)
            np.testing.assert_allclose(dx.sum(-1), 0, atol=1e-12)


def test_a_constant_row_is_zero_and_finite_in_its_gradient():
    for name in ("layer_norm", "rms_norm"):
        x = Tensor(np.zeros((1, 4), dtype="float32"), requires_grad=True)
        y = getattr(F, name)(x, 4)
        y.backward(np.array([[1.0, 0.0, 0.0, 0.0]]))
        np.testing.assert_array_equal(y.numpy(), 0)
        assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_an_eps_of_numpys_float64_leaves_float32_alone(name):
    y = getattr(F, name)(Tensor([[1.0, 2.0]]), 2, eps=np.float64(1e-5))
    assert y.dtype == np.float32


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_shapes_that_do_not_fit_are_named(name):
    operation, x = getattr(F, name), Tensor(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=rf"{name}: normalized_shape \(4,\) must be the last axes of x \(2, 3\)"):
        operation(x, 4)
    with pytest.raises(ValueError, match=rf"{name}: normalized_shape \(2, 2, 3\)"):
        operation(x, (2, 2, 3))
    with pytest.raises(ValueError, match=rf"{name}: weight \(2,\) must have the shape normalized_shape \(3,\)"):
        operation(x, 3, Tensor(np.zeros(2)))

"""Cross-entropy: against its twin, by hand, and where it must refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from tests.functional import twins

IGNORED = -100


@given(st.data())
def test_equals_its_twin_for_all_options(data):
    places = data.draw(twins.shapes(max_axes=2))
    V = data.draw(st.integers(1, 5))
    seed = data.draw(st.integers(0, 2**32 - 1))
    smoothing = data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    reduction = data.draw(st.sampled_from(["mean", "sum", "none"]))
    ignore_index = data.draw(st.sampled_from([IGNORED, -1, 0]))
    generator = np.random.default_rng(seed)
    target = generator.integers(0, V, places)
    target = np.where(generator.random(places) < 0.3, ignore_index, target)
    if reduction == "mean" and not (target != ignore_index).any():
        return  # nothing to average: its own test
    twins.assert_equals_twin(
        lambda x: F.cross_entropy(x, target, ignore_index, smoothing, reduction),
        lambda x: twins.cross_entropy(x, target, ignore_index, smoothing, reduction),
        data.draw(twins.drawn((*places, V))),
    )


def test_by_hand():
    """Logits log 1, log 2, log 5: p = 1/8, 2/8, 5/8."""
    x = Tensor(np.log([[1.0, 2.0, 5.0]]), requires_grad=True)
    loss = F.cross_entropy(x, np.array([2]))
    assert loss.item() == pytest.approx(math.log(8 / 5), rel=1e-14)
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy(), [[1 / 8, 2 / 8, 5 / 8 - 1]], rtol=1e-14)


def test_smoothing_by_hand():
    """epsilon = 0.3 over 3 classes: the target is (0.1, 0.1, 0.8)."""
    loss = F.cross_entropy(Tensor(np.log([[1.0, 2.0, 5.0]])), np.array([2]), label_smoothing=0.3)
    expected = -(0.1 * math.log(1 / 8) + 0.1 * math.log(2 / 8) + 0.8 * math.log(5 / 8))
    assert loss.item() == pytest.approx(expected, rel=1e-14)


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes():
    loss = F.cross_entropy(Tensor(np.full((2, 3, 65), 7.0)), np.zeros((2, 3), dtype="int64"))
    assert loss.item() == pytest.approx(math.log(65), rel=1e-14)


def test_the_mean_counts_only_the_places_that_are_not_ignored():
    x = twins.normals((4, 3), 1)
    target = np.array([0, IGNORED, 2, IGNORED])
    kept = F.cross_entropy(Tensor(x[[0, 2]]), target[[0, 2]]).item()
    logits = Tensor(x, requires_grad=True)
    loss = F.cross_entropy(logits, target)
    loss.backward()
    assert loss.item() == pytest.approx(kept, rel=1e-14)
    assert np.abs(logits.grad.numpy()[[0, 2]]).min() > 0
    np.testing.assert_array_equal(logits.grad.numpy()[[1, 3]], 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_of_ten_thousand(dtype):
    x = Tensor(np.array([[1e4, -1e4], [1e4, -1e4]], dtype=dtype), requires_grad=True)
    loss = F.cross_entropy(x, np.array([0, 1]), reduction="none")
    loss.backward(np.ones(2))
    np.testing.assert_array_equal(loss.numpy(), [0, 2e4])
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 0], [1, -1]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_class_that_is_ruled_out_costs_infinity_and_never_nan(smoothing):
    x = Tensor([[-math.inf, 0.0, 0.0]], requires_grad=True)
    assert F.cross_entropy(x, np.array([0]), label_smoothing=smoothing).item() == math.inf
    plain = F.cross_entropy(x, np.array([1]))
    plain.backward()
    assert plain.item() == pytest.approx(math.log(2))
    np.testing.assert_allclose(x.grad.numpy(), [[0, -0.5, 0.5]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("row", [[-math.inf, 0.0, 1.0], [-math.inf] * 3], ids=["one class", "every class"])
def test_an_ignored_place_costs_nothing_even_where_logits_are_minus_infinity(row, smoothing):
    x = Tensor([row, [0.0, 0.0, 0.0]], requires_grad=True)
    loss = F.cross_entropy(x, np.array([IGNORED, 1]), label_smoothing=smoothing)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3))
    np.testing.assert_array_equal(x.grad.numpy()[0], 0)
    assert np.isfinite(x.grad.numpy()).all()


def test_a_target_may_be_a_tensor_and_of_any_integer_type():
    x = Tensor(twins.normals((2, 3), 2))
    expected = F.cross_entropy(x, np.array([0, 2])).item()
    for target in (Tensor([0, 2]), np.array([0, 2], dtype="uint8"), np.array([0, 2], dtype="int32")):
        assert F.cross_entropy(x, target).item() == expected


LOGITS = Tensor(np.zeros((2, 3), dtype="float32"))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: F.cross_entropy(LOGITS, np.array([0, 3])), IndexError, ["target 3", "position 1", "3 classes"]),
        (lambda: F.cross_entropy(LOGITS, np.array([-1, 0])), IndexError, ["target -1", "position 0", "-100"]),
        (lambda: F.cross_entropy(LOGITS, np.array([0.0, 1.0])), TypeError, ["integers", "float64", "astype"]),
        (lambda: F.cross_entropy(LOGITS, np.array([[0, 1]])), ValueError, ["(2, 3)", "(1, 2)", "the last one"]),
        (lambda: F.cross_entropy(LOGITS, np.array([-100, -100])), ValueError, ["nothing to average", "sum"]),
        (lambda: F.cross_entropy(LOGITS, np.array([0, 1]), reduction="avg"), ValueError, ["'avg'", "'mean'"]),
        (lambda: F.cross_entropy(LOGITS, np.array([0, 1]), label_smoothing=2), ValueError, ["from 0 to 1", "2"]),
    ],
    ids=["class too large", "negative class", "floats", "shape", "all ignored", "reduction", "smoothing"],
)
def test_a_mistake_is_named_with_the_operation_and_the_way_out(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in ["cross_entropy", *words]:
        assert word in str(caught.value)

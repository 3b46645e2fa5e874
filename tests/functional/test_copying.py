"""copy_logits: against its twin, as one softmax over the vocabulary and the source, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from tests.functional import twins


@given(st.data(), *(st.integers(1, n) for n in (2, 3, 4, 4)), st.integers(0, 2**32 - 1))
def test_it_equals_its_twin(data, B, T, V, S, seed):
    ids = np.random.default_rng(seed).integers(0, V, (B, S))
    twins.assert_equals_twin(
        lambda logits, scores: F.copy_logits(logits, scores, ids),
        lambda logits, scores: twins.copy_logits(logits, scores, ids),
        data.draw(twins.drawn((B, T, V))),
        data.draw(twins.drawn((B, T, S))),
    )


def test_the_probabilities_are_those_of_one_softmax_over_vocabulary_and_source():
    """Equation 4 of Gu et al. 2016: what a token has in both modes is added."""
    logits, scores, ids = twins.normals((1, 2, 5), 1), twins.normals((1, 2, 3), 2), np.array([[4, 1, 4]])
    both = F.softmax(Tensor(np.concatenate([logits, scores], axis=-1))).numpy()
    expected = both[..., :5].copy()
    for i, token in enumerate(ids[0]):
        expected[..., token] += both[..., 5 + i]
    copied = F.softmax(F.copy_logits(Tensor(logits), Tensor(scores), ids)).numpy()
    np.testing.assert_allclose(copied, expected, rtol=1e-12)


def test_tokens_that_the_source_has_not_keep_their_logits_to_the_last_bit():
    logits, scores = twins.normals((1, 2, 5), 1), twins.normals((1, 2, 3), 2)
    y = F.copy_logits(Tensor(logits), Tensor(scores), np.array([[4, 1, 4]])).numpy()
    np.testing.assert_array_equal(y[..., [0, 2, 3]], logits[..., [0, 2, 3]])
    assert (y[..., [1, 4]] > logits[..., [1, 4]]).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint64"])
def test_ids_may_be_integers_of_any_kind(dtype):
    logits, scores, ids = twins.normals((1, 2, 300), 1), twins.normals((1, 2, 3), 2), np.array([[4, 1, 250]])
    expected = F.copy_logits(Tensor(logits), Tensor(scores), ids).numpy()
    np.testing.assert_array_equal(F.copy_logits(Tensor(logits), Tensor(scores), ids.astype(dtype)).numpy(), expected)


@pytest.mark.parametrize("scores", [[-np.inf] * 3, [800.0, -800.0, 0.0], [-800.0, -801.0, -802.0]])
@pytest.mark.parametrize("first", [0.0, 900.0, -np.inf])
def test_nothing_overflows_and_nothing_is_divided_by_zero(scores, first):
    """A padded place, scores that exponentials cannot hold, a token that the vocabulary forbids."""
    logits = Tensor([[[first, 1.0, 2.0, 3.0]]], requires_grad=True, dtype="float64")
    scores = Tensor([[scores]], requires_grad=True, dtype="float64")
    y = F.copy_logits(logits, scores, np.array([[0, 0, 2]]))
    expected = logits.numpy()[0, 0].copy()
    for place, token in enumerate([0, 0, 2]):
        expected[token] = np.logaddexp(expected[token], scores.numpy()[0, 0, place])
    np.testing.assert_allclose(y.numpy()[0, 0], expected, rtol=1e-12)
    y.backward(np.ones((1, 1, 4)))
    total = logits.grad.numpy()[0, 0, 0] + scores.grad.numpy()[0, 0, :2].sum()
    assert total == pytest.approx(0.0 if np.isneginf(y.numpy()[0, 0, 0]) else 1.0)  # the parts of token 0
    assert np.isfinite(logits.grad.numpy()).all() and np.isfinite(scores.grad.numpy()).all()


@pytest.mark.parametrize(
    "shapes, error, words",
    [
        (((2, 5), (2, 3), (3,)), ValueError, r"logits \(B, T, V\) \(2, 5\)"),
        (((1, 2, 5), (1, 1, 3), (1, 3)), ValueError, r"scores \(B, T, S\) \(1, 1, 3\)"),
        (((1, 2, 5), (1, 2, 3), (1, 4)), ValueError, r"ids \(B, S\) \(1, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, error, words):
    logits, scores, ids = shapes
    with pytest.raises(error, match=f"copy_logits: .*{words}"):
        F.copy_logits(Tensor(np.zeros(logits)), Tensor(np.zeros(scores)), np.zeros(ids, dtype="int64"))


def test_ids_outside_the_vocabulary_or_no_integers_are_refused():
    logits, scores = Tensor(np.zeros((1, 1, 4))), Tensor(np.zeros((1, 1, 2)))
    with pytest.raises(IndexError, match=r"copy_logits: id 4 at \[0, 1\] is outside the table of 4 entries"):
        F.copy_logits(logits, scores, np.array([[0, 4]]))
    with pytest.raises(TypeError, match="copy_logits: token ids are integers, not float64"):
        F.copy_logits(logits, scores, np.zeros((1, 2)))

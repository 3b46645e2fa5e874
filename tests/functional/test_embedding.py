"""The embedding table and the linear map: against their twins, repeated ids, and ids that are not there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from tests.functional import twins


@given(st.data(), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_embedding_equals_its_twin(data, V, C, seed):
    ids = np.random.default_rng(seed).integers(0, V, data.draw(twins.shapes()))
    twins.assert_equals_twin(
        lambda weight: F.embedding(ids, weight),
        lambda weight: twins.embedding(ids, weight),
        data.draw(twins.drawn((V, C))),
    )


@given(st.data(), st.booleans())
def test_linear_equals_its_twin(data, with_bias):
    n_in, n_out = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    shape = (*data.draw(twins.shapes(max_axes=2)), n_in)
    inputs = [data.draw(twins.drawn(s)) for s in (shape, (n_out, n_in), *[(n_out,)] * with_bias)]
    twins.assert_equals_twin(
        lambda x, w, b=None: F.linear(x, w, b), lambda x, w, b=None: twins.linear(x, w, b), *inputs
    )


def test_a_repeated_id_gets_the_sum_of_its_gradients():
    weight = Tensor(np.zeros((4, 2)), requires_grad=True)
    F.embedding(np.array([[1, 3], [1, 1]]), weight).backward(np.arange(8.0).reshape(2, 2, 2))
    np.testing.assert_array_equal(weight.grad.numpy(), [[0, 0], [0 + 4 + 6, 1 + 5 + 7], [0, 0], [2, 3]])


def test_ids_may_be_a_tensor_a_list_or_of_any_integer_type():
    weight = Tensor(twins.normals((4, 2), 1))
    expected = weight.numpy()[[3, 0]]
    for ids in (Tensor([3, 0]), [3, 0], np.array([3, 0], dtype="uint8"), np.array([3, 0], dtype="int32")):
        np.testing.assert_array_equal(F.embedding(ids, weight).numpy(), expected)


@pytest.mark.parametrize("wrong", [-1, 4, 1000])
def test_an_id_outside_the_table_is_named_with_its_place(wrong):
    """Negative ids too: NumPy would count them from the end, in silence."""
    with pytest.raises(IndexError) as caught:
        F.embedding(np.array([[0, 1], [2, wrong]]), Tensor(np.zeros((4, 2))))
    for words in ("embedding", f"id {wrong} at [1, 1]", "4 entries", "0 to 3", "tokenizer"):
        assert words in str(caught.value)


def test_ids_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match=r"embedding: token ids are integers, not float64.*astype"):
        F.embedding(np.array([0.0]), Tensor(np.zeros((4, 2))))


@pytest.mark.parametrize(
    "shapes, words",
    [
        (((2, 3), (4, 5), (4,)), ["x (..., in_features) (2, 3)", "(4, 5)", "last axes must be equal"]),
        (((2, 3), (4, 3), (3,)), ["bias (3,)", "(4, 3)", "it must be (4,)"]),
        (((2, 3), (3,), (3,)), ["(out_features, in_features) (3,)"]),
    ],
)
def test_shapes_that_do_not_fit_a_linear_map_are_named(shapes, words):
    with pytest.raises(ValueError) as caught:
        F.linear(*(Tensor(np.zeros(s)) for s in shapes))
    for word in ("linear", *words):
        assert word in str(caught.value)

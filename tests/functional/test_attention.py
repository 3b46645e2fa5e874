"""Scaled dot-product attention: against its twin, against loops, and the worked example that two articles print."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from minilm.random import Generator
from tests.functional import twins

attention = F.scaled_dot_product_attention


@st.composite
def cases(draw):
    """Inputs of query, key, value (and mask), and the options."""
    batch = draw(twins.shapes(max_axes=1, smallest=1))
    heads, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    Tq, Tk, D, Dv = (draw(st.integers(1, 4)) for _ in range(4))
    with_heads = draw(st.booleans())
    if with_heads:
        lead, lead_query = (*batch, heads), (*batch, heads * group)
    else:
        lead, lead_query, group = batch, batch, 1
    inputs = [draw(twins.drawn(s)) for s in ((*lead_query, Tq, D), (*lead, Tk, D), (*lead, Tk, Dv))]
    full = (*lead_query, Tq, Tk)
    mask_shape = tuple(draw(st.sampled_from([1, n])) for n in full)[draw(st.integers(0, len(full))) :]
    kind = draw(st.sampled_from(["none", "bool", "additive"]))
    mask = None
    if kind == "bool":
        mask = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random(mask_shape) < 0.6
    elif kind == "additive":
        inputs.append(draw(twins.drawn(mask_shape)))
    options = {
        "is_causal": draw(st.sampled_from([False, True, "upper_left", "lower_right"])),
        "scale": draw(st.sampled_from([None, 0.3, 1.0])),
        "dropout_p": draw(st.sampled_from([0.0, 0.0, 0.5])),
    }
    return inputs, mask, options, group > 1


@given(cases(), st.integers(0, 1000))
@settings(max_examples=300)  # many options
def test_equals_its_twin_for_all_options(case, seed):
    inputs, mask, options, enable_gqa = case

    def fused(query, key, value, additive=None):
        chosen = mask if additive is None else additive
        return attention(
            query, key, value, chosen, enable_gqa=enable_gqa, generator=Generator(seed), **options
        )

    def twin(query, key, value, additive=None):
        return twins.attention(query, key, value, mask if additive is None else additive, seed=seed, **options)

    twins.assert_equals_twin(fused, twin, *inputs)


# ----- published and hand-computed examples


def test_the_articles_example_read_as_one_query_and_one_key_gives_the_value():
    """Q = [1,0,1], K = [1,1,0], V = [0,1,1]: the softmax over a single score is 1."""
    Q, K, V = (Tensor(np.array([row], dtype="float64")) for row in ([1, 0, 1], [1, 1, 0], [0, 1, 1]))
    np.testing.assert_array_equal(attention(Q, K, V).numpy(), [[0, 1, 1]])


def test_the_articles_example_read_as_three_positions_of_width_one():
    """Scores [[1,1,0],[0,0,0],[1,1,0]]; only the second query weighs the three keys equally."""
    Q, K, V = (Tensor(np.array(row, dtype="float64")[:, None]) for row in ([1, 0, 1], [1, 1, 0], [0, 1, 1]))
    expected = (math.e + 1) / (2 * math.e + 1)
    y = attention(Q, K, V).numpy()[:, 0]
    np.testing.assert_allclose(y, [expected, 2 / 3, expected], rtol=1e-15)
    np.testing.assert_allclose(y, [0.5777, 0.6667, 0.5777], atol=5e-5)


def test_the_gradients_by_hand_for_one_query_and_two_keys():
    """q = 1, k = (0, log 3), v = (0, 1), D = 1: p = (1/4, 3/4), y = 3/4.

    dP = (0, 1), so dS = p (dP - 3/4) = (-3/16, 3/16); dq = dS k = 3/16 log 3, dk = dS q, dv = p.
    """
    q, k, v = (
        Tensor(np.array(rows), requires_grad=True) for rows in ([[1.0]], [[0.0], [math.log(3)]], [[0.0], [1.0]])
    )
    y = attention(q, k, v)
    y.backward()
    assert y.item() == pytest.approx(3 / 4, rel=1e-15)
    np.testing.assert_allclose(q.grad.numpy(), [[3 / 16 * math.log(3)]], rtol=1e-14)
    np.testing.assert_allclose(k.grad.numpy(), [[-3 / 16], [3 / 16]], rtol=1e-14)
    np.testing.assert_allclose(v.grad.numpy(), [[1 / 4], [3 / 4]], rtol=1e-14)


# ----- masks


def by_loops(query, key, value, may_see):
    """Attention of (T, D) arrays, one query and one key at a time; may_see(i, j) says which keys count."""
    out = np.zeros((len(query), value.shape[1]))
    for i, q in enumerate(query):
        seen = [j for j in range(len(key)) if may_see(i, j)]
        weights = [math.exp(sum(a * b for a, b in zip(q, key[j], strict=True)) / math.sqrt(len(q))) for j in seen]
        for j, w in zip(seen, weights, strict=True):
            out[i] += w / sum(weights) * value[j]
    return out


@pytest.mark.parametrize("Tq, Tk", [(3, 3), (2, 5), (5, 2), (1, 4), (4, 1)])
@pytest.mark.parametrize(
    "is_causal, first",
    [
        (True, lambda Tq, Tk: 0),
        ("upper_left", lambda Tq, Tk: 0),  # query 0 sees key 0 alone
        ("lower_right", lambda Tq, Tk: Tk - Tq),  # the last query sees the last key
    ],
    ids=["True", "upper_left", "lower_right"],
)
def test_the_causal_alignments_against_loops(Tq, Tk, is_causal, first):
    query, key, value = twins.normals((Tq, 3), 1), twins.normals((Tk, 3), 2), twins.normals((Tk, 2), 3)
    expected = by_loops(query, key, value, lambda i, j: j <= i + first(Tq, Tk))
    y = attention(Tensor(query), Tensor(key), Tensor(value), is_causal=is_causal)
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-14)


def test_a_boolean_mask_and_the_causal_one_both_apply():
    query, key, value = twins.normals((4, 3), 1), twins.normals((4, 3), 2), twins.normals((4, 2), 3)
    mask = np.array([[True, True, False, True]] * 4)
    y = attention(Tensor(query), Tensor(key), Tensor(value), mask, is_causal=True)
    np.testing.assert_allclose(y.numpy(), by_loops(query, key, value, lambda i, j: j <= i and j != 2), atol=1e-14)


def test_an_additive_mask_gets_a_gradient_summed_over_what_it_was_broadcast_along():
    q, k, v = (Tensor(twins.normals((2, 3, 4), seed)) for seed in range(3))
    narrow = Tensor(twins.normals((3, 1), 4), requires_grad=True)
    wide = Tensor(np.broadcast_to(narrow.numpy(), (2, 3, 3)), requires_grad=True)
    g = twins.normals((2, 3, 4), 5)
    attention(q, k, v, wide).backward(g)
    attention(q, k, v, narrow).backward(g)
    np.testing.assert_allclose(narrow.grad.numpy(), wide.grad.numpy().sum(0).sum(-1, keepdims=True), atol=1e-15)
    np.testing.assert_allclose(wide.grad.numpy().sum(-1), 0, atol=1e-15)  # a constant along the keys changes nothing
    assert np.abs(wide.grad.numpy()).max() > 1e-3


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_query_that_may_see_no_key_gives_0_and_gets_and_gives_no_gradient(kind, dtype):
    q, k, v = (Tensor(twins.normals((3, 4), seed).astype(dtype), requires_grad=True) for seed in range(3))
    allowed = np.array([[True, False, True], [False, False, False], [True, False, True]])
    mask = allowed if kind == "bool" else Tensor(np.where(allowed, 0, -np.inf).astype(dtype), requires_grad=True)
    y = attention(q, k, v, mask)
    y.backward(twins.normals((3, 4), 9).astype(dtype))
    np.testing.assert_array_equal(y.numpy()[1], 0)
    np.testing.assert_array_equal(q.grad.numpy()[1], 0)
    np.testing.assert_array_equal(k.grad.numpy()[1], 0)  # key 1 is seen by none
    np.testing.assert_array_equal(v.grad.numpy()[1], 0)
    for x in (q, k, v):
        assert np.isfinite(x.grad.numpy()).all() and np.abs(x.grad.numpy()[0]).max() > 0
    if kind == "additive":
        np.testing.assert_array_equal(mask.grad.numpy()[~allowed], 0)


def test_queries_before_the_first_key_give_0_when_there_are_more_queries_than_keys():
    q, k, v = (Tensor(twins.normals((T, 2), T)) for T in (4, 2, 2))
    y = attention(q, k, v, is_causal="lower_right").numpy()
    np.testing.assert_array_equal(y[:2], 0)
    np.testing.assert_array_equal(y[2], v.numpy()[0])


def test_without_any_key_the_output_is_0():
    q, k, v = (Tensor(np.ones(shape), requires_grad=True) for shape in ((2, 3, 4), (2, 0, 4), (2, 0, 5)))
    y = attention(q, k, v)
    y.backward(np.ones((2, 3, 5)))
    np.testing.assert_array_equal(y.numpy(), np.zeros((2, 3, 5)))
    np.testing.assert_array_equal(q.grad.numpy(), 0)
    assert k.grad.shape == (2, 0, 4) and v.grad.shape == (2, 0, 5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_of_ten_thousand_pick_one_key(dtype):
    q, k, v = (
        Tensor(np.array(rows, dtype=dtype), requires_grad=True)
        for rows in ([[100.0], [-100.0]], [[100.0], [-100.0]], [[1.0], [2.0]])
    )
    y = attention(q, k, v)
    y.backward(np.array([[1.0], [1.0]]))
    np.testing.assert_array_equal(y.numpy(), [[1], [2]])
    for x, expected in ((q, 0), (k, 0), (v, 1)):
        np.testing.assert_array_equal(x.grad.numpy(), expected)


# ----- grouped queries, dropout


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1000))
def test_grouped_queries_equal_repeated_keys(Hk, group, seed):
    """Query head h reads key head h // group; the gradient of a shared key is the sum over its group."""
    q = twins.normals((2, Hk * group, 3, 4), seed)
    k, v = twins.normals((2, Hk, 5, 4), seed + 1), twins.normals((2, Hk, 5, 2), seed + 2)
    g = twins.normals((2, Hk * group, 3, 2), seed + 3)
    shared = [Tensor(a, requires_grad=True) for a in (q, k, v)]
    repeated = [Tensor(a, requires_grad=True) for a in (q, k.repeat(group, axis=1), v.repeat(group, axis=1))]
    y, expected = attention(*shared, enable_gqa=True), attention(*repeated)
    y.backward(g)
    expected.backward(g)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), atol=1e-14)
    np.testing.assert_allclose(shared[0].grad.numpy(), repeated[0].grad.numpy(), atol=1e-14)
    for few, many in zip(shared[1:], repeated[1:], strict=True):
        summed = many.grad.numpy().reshape(2, Hk, group, *few.shape[2:]).sum(2)
        np.testing.assert_allclose(few.grad.numpy(), summed, atol=1e-13)


def test_dropout_drops_whole_weights_and_the_same_ones_in_the_gradient():
    """With the identity as value the output shows the weights: 0 or twice what they are without dropout."""
    q, k = Tensor(twins.normals((5, 3), 1)), Tensor(twins.normals((6, 3), 2))
    v = Tensor(np.eye(6), requires_grad=True)
    weights = attention(q, k, v).numpy()
    y = attention(q, k, v, dropout_p=0.5, generator=Generator(3))
    dropped = y.numpy() == 0
    assert 0.2 < dropped.mean() < 0.8
    np.testing.assert_allclose(y.numpy(), np.where(dropped, 0, 2 * weights), rtol=1e-15)
    y.backward(np.eye(5, 6))  # dV = Pᵀ dO: column i of the gradient is row i of the dropped weights
    np.testing.assert_array_equal(v.grad.numpy()[:, :5], y.numpy().T[:, :5])


def test_the_same_generator_state_drops_the_same_weights():
    q, k, v = (Tensor(twins.normals((4, 3), seed)) for seed in range(3))
    generator = Generator(5)
    state = generator.state_dict()
    first, second = (attention(q, k, v, dropout_p=0.5, generator=generator).numpy() for _ in range(2))
    generator.load_state_dict(state)
    again = attention(q, k, v, dropout_p=0.5, generator=generator).numpy()
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()


def test_dropping_everything_gives_0():
    q, k, v = (Tensor(twins.normals((4, 3), seed), requires_grad=True) for seed in range(3))
    y = attention(q, k, v, dropout_p=1.0)
    y.backward(np.ones((4, 3)))
    for array in (y, q.grad, k.grad, v.grad):
        np.testing.assert_array_equal(array.numpy(), 0)


# ----- dtypes and mistakes


def test_options_that_are_numpys_float64_leave_float32_alone():
    q, k, v = (Tensor(twins.normals((4, 3), seed).astype("float32"), requires_grad=True) for seed in range(3))
    y = attention(q, k, v, scale=np.float64(0.5), dropout_p=np.float64(0.5), generator=Generator(1))
    y.backward(np.ones((4, 3)))
    assert {y.dtype, q.grad.dtype, k.grad.dtype, v.grad.dtype} == {np.dtype("float32")}


def tensors(*shapes_):
    return [Tensor(np.zeros(shape, dtype="float32")) for shape in shapes_]


@pytest.mark.parametrize(
    "shapes_, options, error, words",
    [
        (((2, 3), (4, 5), (4, 5)), {}, ValueError, ["agree in D", "query (2, 3)", "key (4, 5)"]),
        (((2, 3), (4, 3), (5, 3)), {}, ValueError, ["key and value", "value (5, 3)"]),
        (((3,), (4, 3), (4, 3)), {}, ValueError, ["(..., T, D)", "query (3,)"]),
        (((1, 4, 2, 3), (1, 2, 2, 3), (1, 2, 2, 3)), {}, ValueError, ["enable_gqa=True", "(1, 4, 2, 3)"]),
        (((1, 3, 2, 3), (1, 2, 2, 3), (1, 2, 2, 3)), {"enable_gqa": True}, ValueError, ["multiple", "(1, 3, 2, 3)"]),
        (((2, 3),) * 3, {"is_causal": "left"}, ValueError, ["'left'", "lower_right"]),
        (((2, 3),) * 3, {"dropout_p": 1.5}, ValueError, ["0 to 1", "1.5"]),
        (((2, 3),) * 3, {"attn_mask": np.ones((5, 2, 2), dtype=bool)}, ValueError, ["attn_mask (5, 2, 2)", "(2, 2)"]),
        (((2, 3),) * 3, {"attn_mask": np.zeros((2, 2))}, TypeError, ["float64", "float32", "astype"]),
    ],
    ids=["width", "length", "axes", "heads", "multiple", "causal", "dropout", "mask shape", "mask dtype"],
)
def test_a_mistake_is_named_with_the_operation_and_the_way_out(shapes_, options, error, words):
    with pytest.raises(error) as caught:
        attention(*tensors(*shapes_), **options)
    for word in ["scaled_dot_product_attention", *words]:
        assert word in str(caught.value)


def test_a_mask_of_one_boolean_stays_a_boolean():
    """NumPy's scalars adapt to the dtype of the others in arithmetic; here False must not become 0.0."""
    q, k, v = tensors((2, 3), (4, 3), (4, 3))
    np.testing.assert_array_equal(attention(q + 1, k, v + 1, np.False_).numpy(), np.zeros((2, 3)))
    np.testing.assert_array_equal(attention(q + 1, k, v + 1, np.True_).numpy(), np.ones((2, 3)))


def test_an_integer_mask_is_refused_since_it_could_mean_either():
    q = Tensor(np.ones((1, 2, 4), dtype=np.float32))
    with pytest.raises(TypeError, match="bool or, as the scores, float32, not int64"):
        F.scaled_dot_product_attention(q, q, q, np.ones((2, 2), dtype=np.int64))

"""The LSTM through the Triton cell computes what the textbook body says, forward and backward."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import triton
import triton.language as tl
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minilm.functional as F
from minilm.kernels.host import counting, empty_like, launch, pointers, using_tile
from minilm.kernels.lstm_cell import triton as lstm_cell
from minilm.kernels.lstm_cell.triton import cell_backward, cell_forward, lstm
from tests.kernels.guards import close, guarded

textbook = F.lstm.body
ALL = (True,) * 7


def problem(B, T, C, H, seed, dtype="float32", biases=(True, True), scale=0.5):
    rng = np.random.default_rng(seed)
    shapes = [(B, T, C), (B, H), (B, H), (4 * H, C), (4 * H, H), (4 * H,), (4 * H,)]
    arrays = [(scale * rng.normal(size=shape)).astype(dtype) for shape in shapes]
    arrays[5:] = [array if present else None for array, present in zip(arrays[5:], biases, strict=True)]
    cotangents = tuple(rng.normal(size=shape).astype(dtype) for shape in ((B, T, H), (B, H), (B, H)))
    return arrays, cotangents


def wide(arrays):
    return [None if array is None else array.astype("float64") for array in arrays]


def assert_gradients_are_near(ours, exact_vjp, plain_vjp, cotangents, needs):
    """As `close`, but measured against the sizes of what dy, dh and dc contribute, each by itself: a gradient is
    their sum, and where they cancel it has no digits in any float32 arithmetic."""
    cotangents64 = wide(cotangents)
    alone = [
        exact_vjp(tuple(g if k == one else np.zeros_like(g) for k, g in enumerate(cotangents64)), needs)
        for one in range(3)
    ]
    oracles, plains = exact_vjp(tuple(cotangents64), needs), plain_vjp(cotangents, needs)
    for k, (gradient, oracle, plain) in enumerate(zip(ours, oracles, plains, strict=True)):
        assert (gradient is not None) is needs[k]
        if needs[k]:
            assert gradient.dtype == plain.dtype and gradient.shape == oracle.shape
            size = sum(np.linalg.norm(part[k]) for part in alone)
            allowed = max(16 * np.finfo(gradient.dtype).eps * size, 2 * np.linalg.norm(plain - oracle))
            assert np.linalg.norm(gradient - oracle) <= allowed


@settings(max_examples=50)
@example(2, 3, 4, 17, "float32", False, (True, True), 0.5, 0)
@example(2, 2, 3, 33, "float16", True, (True, False), 0.5, 0)
@given(
    B=st.integers(1, 3),
    T=st.integers(1, 4),
    C=st.integers(1, 5),
    H=st.sampled_from([1, 2, 15, 16, 17, 33]),
    dtype=st.sampled_from(["float32", "float16"]),
    reverse=st.booleans(),
    biases=st.tuples(st.booleans(), st.booleans()),
    scale=st.sampled_from([0.05, 0.3, 0.6]),
    seed=st.integers(0, 999),
)
def test_equals_the_formula(B, T, C, H, dtype, reverse, biases, scale, seed):
    arrays, cotangents = problem(B, T, C, H, seed, dtype, biases, scale)
    exact, exact_vjp = textbook(*wide(arrays), reverse=reverse)
    plain, plain_vjp = textbook(*arrays, reverse=reverse)
    outputs, vjp = lstm(*[None if array is None else guarded(array) for array in arrays], reverse=reverse)
    for ours, oracle, same in zip(outputs, exact, plain, strict=True):
        assert ours.dtype == dtype
        close(ours, oracle, same, c=8)
    needs = tuple(array is not None for array in arrays)
    gradients = vjp(tuple(guarded(g) for g in cotangents), needs)
    assert_gradients_are_near(gradients, exact_vjp, plain_vjp, cotangents, needs)


@pytest.mark.parametrize("seed", range(4))
def test_saturated_gates_are_as_exact_as_1_minus_a_rounded_gate_can_be(seed):
    """Near 1 the factor 1 - gate has few digits, so errors are compared with the largest gradient, not with each."""
    arrays, cotangents = problem(3, 3, 4, 17, seed, scale=3.0)
    exact, exact_vjp = textbook(*wide(arrays))
    outputs, vjp = lstm(*arrays)
    for ours, oracle in zip((*outputs, *vjp(cotangents, ALL)), (*exact, *exact_vjp(tuple(wide(cotangents)), ALL)),
                            strict=True):  # fmt: skip
        np.testing.assert_allclose(ours, oracle, rtol=0, atol=2e-5 * max(1, np.abs(oracle).max()))


def test_only_what_is_needed_is_computed():
    arrays, cotangents = problem(2, 2, 3, 4, 1)
    _, vjp = lstm(*arrays)
    every = vjp(cotangents, ALL)
    for needs in itertools.islice(itertools.product([False, True], repeat=7), 0, None, 9):
        for one, gradient, needed in zip(vjp(cotangents, needs), every, needs, strict=True):
            if needed:
                np.testing.assert_array_equal(one, gradient)
            else:
                assert one is None


def test_the_vjp_may_be_called_twice_and_leaves_its_cotangents_alone():
    arrays, cotangents = problem(2, 3, 3, 5, 2)
    _, vjp = lstm(*arrays)
    before = [g.copy() for g in cotangents]
    first, second = vjp(cotangents, ALL), vjp(cotangents, ALL)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    for g, copy in zip(cotangents, before, strict=True):
        np.testing.assert_array_equal(g, copy)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_memory_layout_does_not_matter(reverse):
    arrays, cotangents = problem(2, 3, 4, 6, 3)
    outputs, vjp = lstm(*arrays, reverse=reverse)
    expected = vjp(cotangents, ALL)
    fortran = [np.asfortranarray(array) for array in arrays]
    doubled = [np.repeat(array, 2, axis=0)[::2] for array in fortran[:3]]
    again, other_vjp = lstm(*doubled, *fortran[3:], reverse=reverse)
    broadcast = np.broadcast_to(np.float32(1), cotangents[0].shape)
    gradients = other_vjp(tuple(np.asfortranarray(g) for g in cotangents), ALL)
    for ours, theirs in zip((*again, *gradients), (*outputs, *expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    ones = np.ones_like(cotangents[0])
    results = (v((g, *cotangents[1:]), ALL) for v, g in ((vjp, ones), (other_vjp, broadcast)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_an_empty_batch():
    arrays, cotangents = problem(0, 2, 3, 4, 4)
    outputs, vjp = lstm(*arrays)
    assert [y.shape for y in outputs] == [(0, 2, 4), (0, 4), (0, 4)]
    gradients = vjp(cotangents, ALL)
    assert [d.shape for d in gradients] == [array.shape for array in arrays]
    assert not any(d.any() for d in gradients)


# one step


def step(B, H, seed, dtype="float32", scale=1.0):
    """z (B, 4, H), product, c, and the cotangents dy, dh, dc of one step."""
    rng = np.random.default_rng(seed)
    z, product = ((scale * rng.normal(size=(B, 4, H))).astype(dtype) for _ in range(2))
    c, dy, dh, dc = (rng.normal(size=(B, H)).astype(kind) for kind in ("float32", dtype, dtype, "float32"))
    return z, product, c, dy, dh, dc


@pytest.mark.parametrize("H", [1, 16, 37])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_step_back_is_the_derivative_of_a_step_forward(H, dtype):
    """Central differences in float64 of the equations in the module's docstring, in a random direction."""
    z, product, c, dy, dh, dc = step(3, H, 5, dtype)
    gates, new_c, new_h = guarded(z), guarded(c), guarded(dy)
    cell_forward(gates, guarded(product), None, guarded(c), new_c, new_h)
    dz, back = guarded(z), guarded(dc)
    cell_backward(gates, guarded(c), new_c, guarded(dy), guarded(dh), back, dz)

    def states(z, c):
        s = 1 / (1 + np.exp(-z))
        new_c = s[:, 1] * c + s[:, 0] * np.tanh(z[:, 2])
        return np.stack([s[:, 3] * np.tanh(new_c), new_c])

    rng = np.random.default_rng(6)
    total, wide_c = z.astype("float64") + product, c.astype("float64")
    to_z, to_c = rng.normal(size=z.shape), rng.normal(size=c.shape)
    ahead, behind = (states(total + e * to_z, wide_c + e * to_c) for e in (1e-5, -1e-5))
    tolerance = 3e-6 if dtype == "float32" else 5e-3
    np.testing.assert_allclose([new_h, new_c], states(total, wide_c), rtol=0, atol=tolerance)
    slope = (ahead - behind) / 2e-5
    expected = ((dy.astype("float64") + dh) * slope[0] + dc * slope[1]).sum()
    found = (dz.astype("float64") * to_z).sum() + (back.astype("float64") * to_c).sum()
    assert found == pytest.approx(expected, abs=tolerance * 10)


def test_gates_far_in_saturation_are_0_and_1_and_never_nan():
    B, H = 2, 20
    c = np.linspace(-2, 2, B * H, dtype="float32").reshape(B, H)
    for size in (200.0, 6e4, np.inf):
        z = np.empty((B, 4, H), "float32")
        z[:, 0], z[:, 1], z[:, 2], z[:, 3] = -size, size, -size, size
        new_c, new_h = empty_like(c), empty_like(c)
        cell_forward(z, np.zeros_like(z), None, c, new_c, new_h)
        np.testing.assert_array_equal(z, np.broadcast_to(np.array([0, 1, -1, 1])[:, None], z.shape))
        np.testing.assert_array_equal(new_c, c)
        np.testing.assert_allclose(new_h, np.tanh(c), rtol=3e-7)


@triton.jit
def curves_kernel(z_ptr, sigmoid_ptr, tanh_ptr, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    z = tl.load(z_ptr + i, i < n)
    tl.store(sigmoid_ptr + i, lstm_cell.sigmoid(z), i < n)
    tl.store(tanh_ptr + i, lstm_cell.tanh(z), i < n)


def test_the_two_curves_are_right_to_a_few_roundings_everywhere():
    """Relative to each value: near 0 too, where 1 - e^-2z alone would lose all digits."""
    sizes = np.geomspace(1e-8, 80, 1000)
    z = np.concatenate([-sizes, [0], sizes, [0.625, -0.625]]).astype("float32")
    s, t = empty_like(z), empty_like(z)
    launch(curves_kernel, 1, *pointers(z, s, t), z.size, BLOCK=2048)
    exact = z.astype("float64")
    np.testing.assert_allclose(s, 1 / (1 + np.exp(-exact)), rtol=4e-7)
    np.testing.assert_allclose(t, np.tanh(exact), rtol=4e-7)


@pytest.mark.parametrize("itemsize, dtype", [(4, "float32"), (2, "float16")])
def test_bytes_that_move(itemsize, dtype):
    """As the module's docstring says: B H (13 b + 8) forward, B H (10 b + 16) backward."""
    B, H = 3, 20
    z, product, c, dy, dh, dc = step(B, H, 7, dtype)
    new_c, new_h, dz = empty_like(c), empty_like(dy), empty_like(z)
    with counting() as forward:
        cell_forward(z, product, None, c, new_c, new_h)
    with counting() as backward:
        cell_backward(z, c, new_c, dy, dh, dc, dz)
    assert forward.moved == forward.loaded + forward.stored == B * H * (13 * itemsize + 8)
    assert backward.moved == backward.loaded + backward.stored == B * H * (10 * itemsize + 16)


def test_any_block_gives_the_same_bits():
    arrays, cotangents = problem(2, 2, 3, 37, 8)
    results = []
    for block in (8, 64):
        with using_tile("lstm_cell", BLOCK_H=block):
            outputs, vjp = lstm(*arrays)
            results.append((*outputs, *vjp(cotangents, ALL)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


# what is refused


def misfit(index, shape):
    arrays, _ = problem(2, 3, 4, 5, 9)
    arrays[index] = np.zeros(shape, dtype="float32")
    return arrays


MISTAKES = [
    misfit(0, (2, 4)),
    misfit(0, (2, 0, 4)),
    misfit(4, (20, 6)),
    misfit(3, (20, 3)),
    misfit(1, (2, 6)),
    misfit(2, (3, 5)),
    misfit(5, (5,)),
    [array.astype("int64") for array in problem(2, 3, 4, 5, 9)[0]],
]


@pytest.mark.parametrize("arrays", MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_are_refused_in_the_words_of_the_textbook(arrays):
    with pytest.raises((ValueError, TypeError)) as expected:
        textbook(*arrays)
    with pytest.raises(expected.type) as ours:
        lstm(*arrays)
    assert str(ours.value) == str(expected.value)


def test_float64_is_refused_with_the_way_out():
    with pytest.raises(NotImplementedError, match="float64.*'numpy'"):
        lstm(*wide(problem(2, 3, 4, 5, 9)[0]))

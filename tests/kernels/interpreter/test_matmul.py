"""Products in Triton: any shape and layout, every epilogue, and gradients by the same kernel."""

from __future__ import annotations

import numpy as np
import pytest
import triton
import triton.language as tl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minilm.kernels.column_sum.triton import column_sum
from minilm.kernels.host import counting, launch, pointers, using_tile
from minilm.kernels.matmul import blocked
from minilm.kernels.matmul.triton import linear, linear_activation, matmul, product, tile_of_program
from tests.kernels.guards import close, guarded
from tests.kernels.rungs import (
    NO_SHRINKING,
    assert_equals_textbook,
    assert_near,
    dtypes,
    laid_out,
    layouts,
    seeds,
)

lengths = st.sampled_from([1, 2, 15, 16, 17, 33])
few = settings(max_examples=12, phases=NO_SHRINKING)


@pytest.fixture(autouse=True)
def small_tiles():
    with using_tile("matmul", BLOCK_M=16, BLOCK_N=16, BLOCK_K=16, GROUP_M=2):
        yield


@few
@given(lengths, lengths, lengths, dtypes, layouts, layouts, seeds)
@example(33, 49, 37, "float32", "F", "C", 0)
def test_a_product_and_its_gradients_equal_the_textbook(M, N, K, dtype, layout_a, layout_b, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(M, K)), rng.normal(size=(K, N))
    assert_equals_textbook("matmul", matmul, lambda f, a, b: f(a, b), [a, b], dtype, layout_a, seed)
    assert_equals_textbook("matmul", matmul, lambda f, a, b: f(a, b.T), [a, b.T], dtype, layout_b, seed)


@pytest.mark.parametrize(
    "shape_a, shape_b",
    [
        ((5,), (5,)),
        ((5,), (5, 3)),
        ((3, 5), (5,)),
        ((5,), (2, 5, 3)),
        ((2, 3, 5), (5,)),
        ((2, 3, 5), (2, 5, 4)),
        ((2, 3, 5), (5, 4)),
        ((3, 5), (2, 5, 4)),
        ((2, 1, 3, 5), (4, 5, 2)),
        ((2, 2, 3, 17), (2, 1, 17, 2)),
        ((2, 1, 2, 3, 5), (2, 3, 1, 5, 2)),
        ((2, 1, 2, 1, 3, 5), (1, 3, 1, 2, 5, 2)),
        ((1, 1, 1), (1, 1)),
    ],
)
def test_vectors_and_batches_broadcast(shape_a, shape_b):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape_a), rng.normal(size=shape_b)]
    assert_equals_textbook("matmul", matmul, lambda f, a, b: f(a, b), arrays, "float32", "gaps")


def test_heads_are_multiplied_where_they_lie():
    """(B, T, H, D) seen as (B, H, T, D): two axes of the batch with steps of their own, and no copy."""
    rng = np.random.default_rng(0)
    q, k = (guarded(rng.normal(size=(2, 5, 3, 8)).astype("float32")).swapaxes(1, 2) for _ in range(2))
    y, _ = matmul(q, k.swapaxes(-1, -2))
    close(y, q.astype("float64") @ k.astype("float64").swapaxes(-1, -2))


@pytest.mark.parametrize(
    "shape_a, shape_b", [((0, 3), (3, 2)), ((2, 3), (3, 0)), ((2, 0), (0, 3)), ((0, 2, 3), (3, 2))]
)
def test_nothing_is_multiplied_without_a_launch_and_a_sum_of_nothing_is_0(shape_a, shape_b):
    a, b = np.ones(shape_a, "float32"), np.ones(shape_b, "float32")
    y, (da, db) = matmul(a, b)
    np.testing.assert_array_equal(y, a @ b)
    g = np.ones_like(y)
    assert da(g).shape == a.shape and db(g).shape == b.shape
    assert not da(g).any() and not db(g).any()


@few
@given(st.sampled_from([(1,), (3,), (2, 9), (17,)]), lengths, lengths, st.booleans(), dtypes, layouts, seeds)
def test_linear_equals_the_textbook(leading, n_in, n_out, with_bias, dtype, layout, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(*leading, n_in)), rng.normal(size=(n_out, n_in))
    b = rng.normal(size=(n_out,)) if with_bias else None
    assert_equals_textbook("linear", linear, lambda f, *a: f(*a), [x, w, b], dtype, layout, seed)


@few
@given(
    st.sampled_from(["gelu_tanh", "gelu", "silu", "relu"]),
    st.sampled_from([(1,), (2, 9), (17,)]),
    *(lengths, lengths, st.booleans(), st.booleans(), dtypes, layouts, seeds),
)
@example("gelu_tanh", (2, 9), 17, 33, True, True, "float16", "F", 0)
def test_the_epilogue_equals_the_textbook(
    f, leading, n_in, n_out, with_bias, with_residual, dtype, layout, seed
):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(*leading, n_in)), rng.normal(size=(n_out, n_in))
    b = rng.normal(size=(n_out,)) if with_bias else None
    r = 3 * rng.normal(size=(*leading, n_out)) if with_residual else None
    if f == "relu":  # z far from the kink: rounding must not decide its sign
        x, w, b = np.abs(x) + 0.5, np.abs(w) + 0.5, None if b is None else np.abs(b)
        w[::2] *= -1
        b = None if b is None else b * np.sign(w[:, 0])
    assert_equals_textbook(
        "linear_activation",
        linear_activation,
        lambda op, x, w, b, r: op(x, w, b, f, r),
        [x, w, b, r],
        dtype,
        layout,
        seed,
    )


@pytest.mark.parametrize("f", ["gelu_tanh", "gelu", "silu", "relu"])
def test_activations_are_finite_far_from_0(f):
    x = guarded(np.array([[-1e4, -200, -20, -5, 0, 5, 20, 200, 1e4]], dtype="float32").T)
    y, vjp = linear_activation(x, np.ones((1, 1), "float32"), None, f)
    np.testing.assert_allclose(y[-2:], x[-2:], rtol=1e-6)
    np.testing.assert_allclose(y[:2], 0, atol=1e-30)
    dx, *_ = vjp(np.ones_like(y), (True, False, False, False))
    np.testing.assert_allclose(dx[[0, 1, -2, -1], 0], [0, 0, 1, 1], atol=1e-6)


@settings(max_examples=12, phases=NO_SHRINKING)
@given(st.sampled_from([1, 2, 5, 6, 14, 15, 16, 40]), lengths, dtypes, layouts, seeds)
def test_columns_are_summed_whatever_the_number_of_parts(N, C, dtype, layout, seed):
    x = np.random.default_rng(seed).normal(size=(N, C))
    given_x = laid_out(x.astype(dtype), layout)
    assert_near(column_sum(given_x), given_x.astype("float64").sum(0), given_x.sum(0), 1.0)
    np.testing.assert_array_equal(column_sum(given_x), column_sum(given_x))


@triton.jit
def order_kernel(m, n, tiles_m, tiles_n, GROUP_M: tl.constexpr):
    pid = tl.program_id(0)
    pid_m, pid_n = tile_of_program(pid, tiles_m, tiles_n, GROUP_M)
    tl.store(m + pid, pid_m)
    tl.store(n + pid, pid_n)


@pytest.mark.parametrize("tiles_m, tiles_n, GROUP_M", [(1, 1, 8), (5, 3, 2), (3, 5, 8), (4, 4, 1), (7, 2, 3)])
def test_programs_take_the_tiles_in_the_order_of_the_rung_below(tiles_m, tiles_n, GROUP_M):
    m, n = (np.full(tiles_m * tiles_n, -1, dtype="int32") for _ in range(2))
    launch(order_kernel, (m.size,), *pointers(m, n), tiles_m, tiles_n, GROUP_M=GROUP_M)
    assert list(zip(m.tolist(), n.tolist(), strict=True)) == list(blocked.order(tiles_m, tiles_n, GROUP_M))


def test_what_the_kernel_loads_is_what_the_rung_below_counts():
    M, N, K = 33, 40, 50
    a, b = np.ones((M, K), "float32"), np.ones((K, N), "float32")
    with counting() as counts:
        product(a, b)
    assert counts.loaded == blocked.fetched_bytes(M, N, K, 16, 16, 4)
    assert counts.stored == M * N * 4


def test_what_is_not_covered_is_said():
    x = np.ones((2, 3))
    with pytest.raises(NotImplementedError, match="float64: convert it, or use the 'numpy'"):
        matmul(x, x.T)
    with pytest.raises(ValueError, match="inner axes"):
        matmul(x.astype("float32"), x.astype("float32"))
    with pytest.raises(ValueError, match="activation is one of"):
        linear_activation(x.astype("float32"), x.astype("float32"), None, "tanh")

"""Products by loops and by tiles: each rung equals the one below, and moves the bytes that it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.kernels.matmul import blocked, loops
from minilm.tensor import OPERATIONS

lengths = st.integers(0, 5)
BATCHES = [((), ()), ((2,), (2,)), ((2,), ()), ((), (2,)), ((2, 1), (3,)), ((1,), (2, 3))]


@settings(max_examples=40)
@given(lengths, lengths, lengths, st.sampled_from(BATCHES), st.integers(0, 99))
def test_each_rung_equals_the_one_below(M, N, K, batches, seed):
    """The textbook, then loops, then blocks of 2, 3 and 2: values and both gradients."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(*batches[0], M, K)), rng.normal(size=(*batches[1], K, N))
    y, vjps = OPERATIONS["matmul"].body(a, b)
    g = rng.normal(size=y.shape)
    expected = [y, *(d(g) for d in vjps)]
    for rung in (loops.matmul, lambda a, b: blocked.matmul(a, b, BLOCK_M=2, BLOCK_N=3, BLOCK_K=2, GROUP_M=2)):
        y, vjps = rung(a, b)
        for ours, below in zip([y, *(d(g) for d in vjps)], expected, strict=True):
            np.testing.assert_allclose(ours, below, atol=1e-12, strict=True)


def test_blocks_sum_float16_in_float32():
    """4096 ones: in float16 the sum stops growing at 2048, where 1 is less than the last bit."""
    a = np.ones((1, 4096), dtype="float16")
    y, _ = blocked.matmul(a, a.T)
    assert y.dtype == np.float16 and y[0, 0] == 4096


class Counted:
    """A matrix that counts the bytes of the tiles taken from it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.bytes = array, array.shape, array.dtype, 0

    def __getitem__(self, index):
        self.bytes += self.array[index].nbytes
        return self.array[index]


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(1, 9), st.integers(1, 9))
def test_the_bytes_fetched_are_those_of_the_formula_whatever_block_k_is(M, N, K, BLOCK_M, BLOCK_N):
    for BLOCK_K in (1, 7):
        a, b = Counted(np.ones((M, K))), Counted(np.ones((K, N)))
        blocked.one_product(a, b, BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M=4)
        assert a.bytes + b.bytes == blocked.fetched_bytes(M, N, K, BLOCK_M, BLOCK_N, itemsize=8)


def test_square_tiles_of_128_in_float16_do_64_flops_a_byte():
    n = 4096
    assert 2 * n**3 / blocked.fetched_bytes(n, n, n, 128, 128, 2) == 64
    assert blocked.fetched_bytes(n, n, n, 1, 1, 2) == 2 * n**3 * 2  # rung 0


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
def test_the_order_visits_every_tile_once_and_starts_in_a_group(tiles_m, tiles_n, GROUP_M):
    tiles = list(blocked.order(tiles_m, tiles_n, GROUP_M))
    assert sorted(tiles) == [(m, n) for m in range(tiles_m) for n in range(tiles_n)]
    height = min(GROUP_M, tiles_m)
    assert tiles[:height] == [(m, 0) for m in range(height)]


def test_a_square_patch_of_tiles_needs_fewer_strips_than_a_row_of_them():
    """132 programs at a time, one on each SM of an H100, over 64 x 64 tiles."""
    by_rows = blocked.strips(64, 64, 1, 132)
    grouped = blocked.strips(64, 64, 8, 132)
    assert blocked.strips(132, 132, 1, 132) == 132 * (1 + 132)
    assert grouped < 0.5 * by_rows


def test_what_these_rungs_lack_is_said():
    for rung in (loops.matmul, blocked.matmul):
        with pytest.raises(NotImplementedError, match="minilm.functional.matmul takes vectors"):
            rung(np.ones(3), np.ones((3, 2)))

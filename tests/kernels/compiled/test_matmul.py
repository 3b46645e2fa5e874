"""The product kernel as machine code: tensor cores, no spills, the grid; for each way its operands can lie."""

from __future__ import annotations

import pytest

from minilm.kernels.dry import ARCHITECTURES
from minilm.kernels.host import cdiv, dry
from minilm.kernels.matmul.triton import linear, linear_activation, matmul
from minilm.kernels.operands import zeros

ARCHS = ["sm_80", "sm_90"]
each = pytest.mark.parametrize("arch", ARCHS)


def products(launches, n):
    """The n launches of the product kernel; none spills, and all fit."""
    for launch in launches:
        assert launch.spills == launch.stack == 0, f"{launch.name}: {launch.spills} spills"
        assert launch.blocks_per_sm >= 1
        assert launch.shared <= ARCHITECTURES[launch.arch].shared_per_block
    found = [launch for launch in launches if launch.name == "matmul_kernel"]
    assert len(found) == n
    return found


def uses_tensor_cores(launch):
    """On Hopper those of four warps together (HGMMA): the older instructions reach half of its rate."""
    return launch.hgmma > 0 if launch.arch == 90 else launch.hmma > 0


def layer(M, N, K, dtype):
    y, (dx, dweight, dbias) = linear(zeros(dtype, M, K), zeros(dtype, N, K), zeros(dtype, N))
    g = zeros(dtype, M, N)
    dx(g), dweight(g), dbias(g)


@each
@pytest.mark.parametrize(
    "dtype, M, N, K",
    [
        ("float16", 2048, 1024, 512),
        ("bfloat16", 2048, 1024, 512),
        ("bfloat16", 16, 1024, 512),
        ("float16", 1024, 64, 512),
    ],
)
def test_a_layer_and_its_gradients_run_on_tensor_cores(arch, dtype, M, N, K):
    with dry(arch) as launches:
        layer(M, N, K, dtype)
    for launch, (m, n) in zip(products(launches, 3), [(M, N), (M, K), (N, K)], strict=True):
        assert uses_tensor_cores(launch) and launch.ffma == 0
        tile = launch.constants
        assert launch.grid == (cdiv(m, tile["BLOCK_M"]) * cdiv(n, tile["BLOCK_N"]), 1, 1)


@each
def test_odd_widths_have_a_tile_of_their_own_that_spills_nothing(arch):
    """Nothing can be loaded 16 bytes at a time: each number has an address of its own, and those are registers."""
    with dry(arch) as launches:
        layer(101, 77, 99, "bfloat16")
    assert all(uses_tensor_cores(launch) for launch in products(launches, 3))


@each
@pytest.mark.parametrize(
    "activation, M, N, K",
    [
        *((f, 1024, 1024, 512) for f in ("gelu_tanh", "gelu", "silu", "relu")),
        ("gelu", 101, 99, 77),
        ("gelu", 16, 1024, 512),
    ],
)
def test_the_epilogue_does_not_spill(arch, activation, M, N, K):
    dtype = "bfloat16"
    with dry(arch) as launches:
        arrays = zeros(dtype, M, K), zeros(dtype, N, K), zeros(dtype, N)
        _, vjp = linear_activation(*arrays, activation, zeros(dtype, M, N))
        vjp(zeros(dtype, M, N), (False, False, True, False))
    (forward,) = products(launches, 1)
    assert uses_tensor_cores(forward)
    assert [launch.name for launch in launches[1:]] == ["activation_backward_kernel", "column_sum_kernel"]


@each
def test_a_batch_of_heads_is_one_launch(arch):
    dtype, (B, H, T, D) = "bfloat16", (4, 8, 256, 64)
    query, key = (zeros(dtype, B, T, H, D).swapaxes(1, 2) for _ in range(2))
    with dry(arch) as launches:
        y, (da, db) = matmul(query, key.swapaxes(-1, -2))
        da(y), db(y)
    for launch, (m, n) in zip(products(launches, 3), [(T, T), (T, D), (D, T)], strict=True):
        tile = launch.constants
        assert launch.grid[0] == B * H * cdiv(m, tile["BLOCK_M"]) * cdiv(n, tile["BLOCK_N"])
        assert uses_tensor_cores(launch)


@each
def test_float32_is_exact_and_so_without_tensor_cores(arch):
    with dry(arch) as launches:
        layer(1024, 1024, 512, "float32")
    for launch in products(launches, 3):
        assert launch.hmma == launch.hgmma == 0 and launch.ffma > 0


def test_the_tiles_of_odd_operands_are_chosen_by_address_and_width():
    """The same sizes, one number further on in memory: no 16-byte loads."""
    x = zeros("float16", 1024 * 512 + 8)
    weight = zeros("float16", 1024, 512)
    with dry("sm_90") as launches:
        for start in (0, 1, 8):
            linear(x[start : start + 1024 * 512].reshape(1024, 512), weight)
    tiles = [launch.constants["BLOCK_N"] for launch in products(launches, 3)]
    assert tiles[0] == tiles[2] > tiles[1]

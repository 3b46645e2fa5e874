"""The dry driver records what a GPU would have been given, and reads the machine code right."""

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import triton
import triton.language as tl

from minilm.kernels import host
from minilm.kernels.dry import ARCHITECTURES, RESERVED_SHARED, blocks_per_sm
from minilm.kernels.host import Ptr, architecture, cdiv, counting, dry, empty_like, interpreting, launch, pointers, tile


@triton.jit
def scale_kernel(x, y, n, factor, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    tl.store(y + i, tl.load(x + i, mask=inside) * factor, mask=inside)


@triton.jit
def product_kernel(a, b, c, K, BLOCK: tl.constexpr, BLOCK_K: tl.constexpr):
    m, k = tl.arange(0, BLOCK), tl.arange(0, BLOCK_K)
    out = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, K, BLOCK_K):
        left = tl.load(a + m[:, None] * K + start + k[None, :])
        right = tl.load(b + (start + k)[:, None] * BLOCK + m[None, :])
        out = tl.dot(left, right, out, input_precision="ieee")
    tl.store(c + m[:, None] * BLOCK + m[None, :], out)


def product(arch, dtype, BLOCK=128, BLOCK_K=64, **options):
    a = np.empty((BLOCK, 1024), dtype)
    with dry(arch) as launches:
        c = np.empty((BLOCK, BLOCK), "float32")
        launch(product_kernel, 1, *pointers(a, a, c), 1024, BLOCK=BLOCK, BLOCK_K=BLOCK_K, **options)
    return launches[0]


def test_this_process_compiles():
    assert not interpreting()
    with pytest.raises(RuntimeError, match="start the process with TRITON_INTERPRET=1"), counting():
        pass


def test_a_launch_is_recorded_with_grid_types_and_alignment():
    x = np.zeros(1000, "float32")
    with dry("sm_90") as launches:
        y = empty_like(x)
        launch(scale_kernel, cdiv(1000, 256), *pointers(x, y), 1000, 2.0, BLOCK=256, num_warps=8)
        launch(scale_kernel, (1, 2, 3), *pointers(x[1:], y), 16, 2.0, BLOCK=256)
        launch(scale_kernel, 0, *pointers(x, y), 16, 2.0, BLOCK=256)
    first, second = launches
    assert (first.name, first.arch, first.grid, first.num_warps) == ("scale_kernel", 90, (4, 1, 1), 8)
    assert first.threads == 256 and second.threads == 128 and second.grid == (1, 2, 3)
    assert first.signature == {"x": "*fp32", "y": "*fp32", "n": "i32", "factor": "fp32", "BLOCK": "constexpr"}
    assert first.constants == {"BLOCK": 256}
    by_16 = [["tt.divisibility", 16]]
    assert first.attributes["x"] == by_16 == second.attributes["y"] == second.attributes["n"]
    assert second.attributes["x"] == first.attributes["n"] == []


def test_nothing_runs():
    x, y = np.ones(64, "float32"), np.zeros(64, "float32")
    with dry(80):
        launch(scale_kernel, 1, *pointers(x, y), 64, 2.0, BLOCK=64)
    assert not y.any()


def test_an_int_of_one_becomes_a_constant():
    x = np.ones(64, "float32")
    with dry(80) as launches:
        launch(scale_kernel, 1, *pointers(x, x), np.int32(1), 2.0, BLOCK=64)
    assert launches[0].constants == {"n": 1, "BLOCK": 64}


def test_an_array_of_uint16_is_bfloat16():
    x = np.empty(64, "uint16")
    with dry(80) as launches:
        launch(scale_kernel, 1, *pointers(x, x), 64, 2.0, BLOCK=64)
        launch(scale_kernel, 1, Ptr(x, "float16"), Ptr(x, "float16"), 64, 2.0, BLOCK=64)
    assert [one.signature["x"] for one in launches] == ["*bf16", "*fp16"]


@pytest.mark.parametrize("arch, name", [(80, "hmma"), (90, "hgmma")])
def test_tensor_core_instructions_are_told_apart(arch, name):
    half, single = product(arch, "float16", num_warps=4, num_stages=2), product(arch, "float32", 64, 32, num_stages=2)
    assert getattr(half, name) > 0 and half.hmma * half.hgmma == 0 and half.ffma == 0
    assert half.spills == half.stack == 0 and 0 < half.registers <= 255 and half.shared >= 2 * 2 * 128 * 64
    assert single.hmma == single.hgmma == 0 and single.ffma > 0  # "ieee" keeps out of the tensor cores
    assert half.blocks_per_sm == blocks_per_sm(arch, half.registers, 4, half.shared) > 0


def test_small_tiles_fall_back_from_the_instruction_of_hopper():
    launch = product(90, "float16", 32, 32)
    assert launch.hgmma == 0 and launch.hmma > 0


def test_spills_are_seen():
    greedy = product(80, "float16", 256, 64, num_warps=4, num_stages=2)  # 256 x 256 / 128 accumulators a thread
    assert greedy.spills > 100 and greedy.stack > 0 and greedy.registers == 255


def test_too_much_shared_memory_is_an_error_as_on_the_gpu():
    from triton.runtime.errors import OutOfResources

    for arch, limit in ((80, 166912), (90, 232448)):
        with pytest.raises(OutOfResources, match=rf"Hardware limit: {limit}"):
            product(arch, "float16", 128, 128, num_warps=8, num_stages=6)


def test_the_architecture_is_known_within_the_block_and_the_driver_is_restored_after_it(monkeypatch):
    table = {"k": {"sm_80": [({}, {"B": 8})], "sm_90": [({}, {"B": 9})]}}
    monkeypatch.setattr(host, "TILES", table)
    before = triton.runtime.driver._active
    with dry("sm_80"):
        assert architecture() == "sm_80" and tile("k") == {"B": 8}
        with dry(90):
            assert architecture() == "sm_90" and tile("k") == {"B": 9}
        assert architecture() == "sm_80"
    with pytest.raises(ZeroDivisionError), dry(80):
        raise ZeroDivisionError
    assert triton.runtime.driver._active is before


def test_each_block_has_its_own_list_although_the_kernel_is_compiled_once():
    x = np.ones(64, "float32")
    lists = []
    for arch in (80, 90, 80):
        with dry(arch) as launches:
            launch(scale_kernel, 1, *pointers(x, x), 64, 2.0, BLOCK=64)
        lists.append(launches)
    assert [[one.arch for one in launches] for launches in lists] == [[80], [90], [80]]
    assert lists[0][0].cubin == lists[2][0].cubin != lists[1][0].cubin


def test_an_unknown_architecture_lists_the_known_ones():
    with pytest.raises(ValueError, match="'sm_75': choose one of sm_80, sm_86, sm_89, sm_90"), dry("sm_75"):
        pass


def test_without_a_driver_a_launch_says_what_to_do(monkeypatch):
    monkeypatch.setattr(triton.runtime.driver, "_default", None)
    monkeypatch.setattr(triton.runtime.driver, "_active", None)
    monkeypatch.setattr(triton.runtime.driver.__class__, "default", property(lambda self: _nothing_active()))
    x = np.ones(64, "float32")
    with pytest.raises(RuntimeError, match="nothing to run on: .*TRITON_INTERPRET=1"):
        launch(scale_kernel, 1, *pointers(x, x), 64, 2.0, BLOCK=64)


def _nothing_active():
    raise RuntimeError("0 active drivers ([]). There should only be one.")


def test_numpy_arrays_are_not_for_a_gpu(monkeypatch):
    monkeypatch.setattr(host, "_driver", lambda: object())
    monkeypatch.setattr(host, "architecture", lambda: "sm_90")
    x = np.ones(64, "float32")
    with pytest.raises(TypeError, match=r"argument 0 of scale_kernel is a numpy array, .* on the GPU \(sm_90\)"):
        launch(scale_kernel, 1, *pointers(x, x), 64, 2.0, BLOCK=64)


OCCUPANCY = """
#include <string.h>
#include <limits.h>
#include "cuda_occupancy.h"
int blocks(int arch, int warps_per_sm, int per_block, int per_sm, int reserved, int registers, int warps, int shared) {
  cudaOccDeviceProp p; cudaOccFuncAttributes f; cudaOccDeviceState s; cudaOccResult r;
  memset(&p, 0, sizeof p); memset(&f, 0, sizeof f); memset(&s, 0, sizeof s);
  p.computeMajor = arch / 10; p.computeMinor = arch % 10;
  p.maxThreadsPerBlock = 1024; p.maxThreadsPerMultiprocessor = 32 * warps_per_sm;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536; p.warpSize = 32;
  p.sharedMemPerBlock = 49152; p.sharedMemPerBlockOptin = per_block; p.sharedMemPerMultiprocessor = per_sm;
  p.reservedSharedMemPerBlock = reserved; p.numSms = 100;
  f.maxThreadsPerBlock = 1024; f.numRegs = registers; f.numBlockBarriers = 1;
  f.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN; f.maxDynamicSharedSizeBytes = per_block;
  s.carveoutConfig = 100; s.cacheConfig = CACHE_PREFER_SHARED;
  if (cudaOccMaxActiveBlocksPerMultiprocessor(&r, &p, &f, &s, 32 * warps, shared)) return -1;
  return r.activeBlocksPerMultiprocessor;
}
"""


# Threads and blocks of an SM, KB of shared memory of an SM and of a block: the CUDA programming guide, appendix
# "Compute Capabilities". Typed in here a second time on purpose.
GUIDE = {80: (2048, 32, 164, 163), 86: (1536, 16, 100, 99), 89: (1536, 24, 100, 99), 90: (2048, 32, 228, 227)}


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_blocks_per_sm_are_those_of_nvidias_own_calculator(arch, tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("missing: a C compiler, to build NVIDIA's cuda_occupancy.h")
    include = Path(triton.__file__).parent / "backends" / "nvidia" / "include"
    (tmp_path / "occupancy.c").write_text(OCCUPANCY)
    command = [compiler, "-shared", "-fPIC", f"-I{include}", "-o", "occupancy.so", "occupancy.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    oracle = ctypes.CDLL(str(tmp_path / "occupancy.so")).blocks
    threads, blocks, per_sm, per_block = GUIDE[arch]
    registers = (16, 32, 40, 64, 72, 80, 96, 104, 128, 168, 200, 232, 255)
    shared = (0, 1, 1000, 8192, 16000, 32768, 49152, 65536, 98304, per_block << 10)
    for r, w, s in itertools.product(registers, (1, 2, 4, 8, 16), shared):
        if s <= per_block << 10:
            expected = oracle(arch, threads // 32, per_block << 10, per_sm << 10, RESERVED_SHARED, r, w, s)
            assert blocks_per_sm(arch, r, w, s) == min(expected, blocks), (r, w, s)
    assert ARCHITECTURES[arch].shared_per_block == per_block << 10

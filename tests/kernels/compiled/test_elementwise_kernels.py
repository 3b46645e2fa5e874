"""Softmax, norms, rotary positions, SwiGLU and column sums as machine code: no spills, wide loads, many threads."""

from __future__ import annotations

import re
import subprocess
import tempfile

import pytest

from minilm.kernels import dry as dry_driver
from minilm.kernels.column_sum import triton as column_sum_module
from minilm.kernels.host import dry
from minilm.kernels.layer_norm import triton as layer_norm_module
from minilm.kernels.layer_norm.triton import layer_norm
from minilm.kernels.operands import zeros
from minilm.kernels.rms_norm import triton as rms_norm_module
from minilm.kernels.rms_norm.triton import add_rms_norm, rms_norm
from minilm.kernels.rotary import triton as rotary_module
from minilm.kernels.rotary.triton import rotary_embedding
from minilm.kernels.softmax import triton as softmax_module
from minilm.kernels.softmax.triton import log_softmax, softmax
from minilm.kernels.swiglu import triton as swiglu_module

MODULES = (column_sum_module, softmax_module, layer_norm_module, rms_norm_module, rotary_module, swiglu_module)
CASES = [case for module in MODULES for case in module.static_cases()]
each = pytest.mark.parametrize("arch", ["sm_80", "sm_90"])


def instructions(launch, pattern):
    """How many instructions of the machine code match, such as r"LDG\\.E\\.128": a load of 16 bytes a thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(launch.cubin)
        file.flush()
        command = [str(dry_driver._TOOLS / "cuobjdump"), "-sass", file.name]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return len(re.findall(rf"\b{pattern}\b", code))


WIDE = r"LDG\.E[.\w]*\.(64|128)"
ATOMIC = r"(ATOM|RED|ATOMG)\b[.\w]*"


def assert_no_spills(launches):
    assert launches
    for launch in launches:
        assert launch.spills == launch.stack == 0, f"{launch.name} {launch.constants}: {launch.spills} spills"
        assert launch.blocks_per_sm >= 1


@each
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {list(case.sizes.values())}")
def test_no_spills_wide_loads_no_atomics(case, arch):
    for dtype in case.dtypes:
        with dry(arch) as launches:
            case.run(dtype, **case.sizes)
        assert_no_spills(launches)
        found = [launch for launch in launches if launch.name in case.kernels]
        assert {launch.name for launch in found} == set(case.kernels)
        for launch in found:
            # All of them wait for memory, so many threads have to be on their way at the same time.
            assert launch.blocks_per_sm * launch.threads >= 512
            if dtype == case.dtypes[0]:
                assert instructions(launch, ATOMIC) == 0
                odd = case.sizes.get("n", 0) % 16 != 0
                assert (instructions(launch, WIDE) == 0) == odd


@each
@pytest.mark.parametrize("C", [100, 400, 8192])
def test_norms_of_any_width_spill_nothing(arch, C):
    dtype = "bfloat16"
    x, w = zeros(dtype, 300, C), zeros(dtype, C)
    with dry(arch) as launches:
        _, vjp = layer_norm(x, C, w, w)
        vjp(x, (True, True, True))
        (_, _), vjp = add_rms_norm(x, x, w)
        vjp((x, x), (True, True, True))
        _, vjp = rms_norm(x, C)
        vjp(x, (True, False))
    assert_no_spills(launches)


@each
@pytest.mark.parametrize(
    "function, n", [(softmax, 1), (log_softmax, 16384), (log_softmax, 16385)]
)
def test_softmax_of_any_length_spills_nothing(arch, n, function):
    x = zeros("float16", 300, n)
    with dry(arch) as launches:
        y, dx = function(x)
        dx(y)
    assert_no_spills(launches)
    assert all(launch.name.startswith("online_") == (n > 16384) for launch in launches)


@each
def test_softmax_over_an_inner_axis_reads_neighbours_together(arch):
    x = zeros("float16", 8, 100, 64)
    with dry(arch) as launches:
        y, dx = softmax(x, 1)
        dx(y)
    assert_no_spills(launches)
    assert all(instructions(launch, WIDE) > 0 for launch in launches)


@each
@pytest.mark.parametrize("D", [6])
@pytest.mark.parametrize("interleaved", [False, True])
def test_rotation_of_any_width_spills_nothing(arch, D, interleaved):
    x, angles = zeros("bfloat16", 2, 4, 100, D), zeros("float32", 100, D // 2)
    with dry(arch) as launches:
        y, vjp = rotary_embedding(x, angles, angles, interleaved)
        vjp(y)
    assert_no_spills(launches)
    assert [launch.constants["INVERSE"] for launch in launches] == [False, True]

"""The way of a launch on a GPU, without one: Triton's own launcher calls into a libcuda that writes down its arguments.

Real are Triton's host path, its launcher in C and the argument list; stubs are libcuda (libcuda.c) and cupy
(stub_launch.py). What stays for tests marked `gpu` is the GPU.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import triton

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What stub_launch.py told, and the lines that its libcuda wrote."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("missing: a C compiler, which Triton's launcher needs on a GPU machine too")
    folder = tmp_path_factory.mktemp("stub")
    library, log = folder / "libcuda.so.1", folder / "log"
    include = Path(triton.__file__).parent / "backends" / "nvidia" / "include"
    command = [compiler, "-shared", "-fPIC", f"-I{include}", "-Wl,-soname,libcuda.so.1", "-o", library]
    subprocess.run([*command, HERE / "libcuda.c"], check=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "STUB_LIBCUDA": str(library),
        "STUB_LOG": str(log),
        "STUB_SIZES": "8 8 4 4",
        "TRITON_LIBCUDA_PATH": str(folder),
        "TRITON_CACHE_DIR": str(folder / "cache"),
    }
    command = [sys.executable, HERE / "stub_launch.py"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [line.split() for line in log.read_text().splitlines()]
    return json.loads(result.stdout), [line[1] for line in lines if line[0] == "load"], [
        [int(word) for word in line[1:]] for line in lines if line[0] == "launch"
    ]


def test_grid_block_stream_and_arguments_arrive(ran):
    told, _, launches = ran
    first, again, shifted, shared = launches  # and none for the empty grid
    two = 0x40000000  # 2.0 in float32
    assert first == [4, 1, 1, 64, 0, 0, told["x"], told["y"], 1008, two]
    assert shifted[6:] == [told["x"] + 4, told["y"], 1007, two]
    assert shared[:4] == [1, 1, 5, 128] and shared[4] >= 2 * 128 * 128


def test_a_launch_is_in_cupys_current_stream(ran):
    _, _, launches = ran
    assert [line[5] for line in launches] == [0, 4711, 4711, 4711]
    assert launches[1][6:] == launches[0][6:]


def test_a_kernel_is_compiled_and_loaded_once_for_each_specialization(ran):
    told, loads, _ = ran
    assert loads == ["scale_kernel", "scale_kernel", "shared_kernel"]
    assert told["arch"] == [90] and len(told["specialized"]) == 2
    assert sorted(told["loads"]) == [False, True]  # 128-bit loads where the pointer is divisible by 16


def test_the_device_and_its_capability_are_cupys(ran):
    told, _, _ = ran
    assert told["architecture"] == "sm_90" and told["other architecture"] == "sm_80"
    assert told["again"] and told["home"] == "cupy"


def test_an_array_of_the_host_is_refused(ran):
    told, _, _ = ran
    assert "argument 0 of scale_kernel is a numpy array, and the kernel runs on the GPU" in told["refused"]


def test_what_the_driver_uses_exists_in_cupy(require_package):
    cupy = require_package("cupy")
    runtime = cupy.cuda.runtime
    for function in (runtime.getDevice, runtime.setDevice, cupy.cuda.get_current_stream, cupy.empty):
        assert callable(function)
    assert hasattr(cupy.cuda.Device, "compute_capability") and hasattr(cupy.cuda.MemoryPointer, "ptr")
    assert cupy.cuda.Stream.null.ptr == 0
    assert {"data", "dtype", "shape", "strides", "itemsize", "fill"} <= set(dir(cupy.ndarray))
    assert cupy.ndarray.__module__.partition(".")[0] == "cupy"

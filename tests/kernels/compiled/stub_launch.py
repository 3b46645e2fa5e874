"""Launches kernels through the CuPy driver, on the stub of libcuda and a stub of cupy; prints what it launched with.

Run by test_cupy_driver.py in a process of its own: which libcuda a process has cannot be changed later.
"""

import ctypes
import json
import os
import sys
from types import ModuleType, SimpleNamespace

import numpy as np

ctypes.CDLL(os.environ["STUB_LIBCUDA"], mode=ctypes.RTLD_GLOBAL)  # Triton asks for libcuda.so.1 by name: this one


class ndarray:  # noqa: N801 - cupy's name
    """Host memory that gives itself out as CuPy's."""

    def __init__(self, host):
        self._host = host
        self.data = SimpleNamespace(ptr=host.ctypes.data)

    shape, dtype, size, itemsize, strides = (
        property(lambda self, name=name: getattr(self._host, name))
        for name in ("shape", "dtype", "size", "itemsize", "strides")
    )

    def __getitem__(self, index):
        return ndarray(self._host[index])


ndarray.__module__ = "cupy"
state = SimpleNamespace(device=0, stream=0)
cupy = ModuleType("cupy")
cupy.ndarray = ndarray
cupy.empty = lambda shape, dtype: ndarray(np.empty(shape, dtype))
cupy.cuda = SimpleNamespace(
    runtime=SimpleNamespace(getDevice=lambda: state.device, setDevice=lambda d: setattr(state, "device", d)),
    get_current_stream=lambda: SimpleNamespace(ptr=state.stream),
    Device=lambda d: SimpleNamespace(compute_capability={0: "90", 1: "80"}[d]),
)
sys.modules["cupy"] = cupy

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from minilm.kernels.host import activate, architecture, cdiv, empty, empty_like, launch, pointers  # noqa: E402


@triton.jit
def scale_kernel(x, y, n, factor, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    tl.store(y + i, tl.load(x + i, mask=inside) * factor, mask=inside)


@triton.jit
def shared_kernel(x, y, BLOCK: tl.constexpr):
    m, n = tl.arange(0, BLOCK), tl.arange(0, BLOCK)
    a = tl.load(x + m[:, None] * BLOCK + n[None, :])
    tl.store(y + m[:, None] * BLOCK + n[None, :], tl.dot(a, a).to(tl.float16))


activate()
driver = triton.runtime.driver.active
activate()
told = {"again": driver is triton.runtime.driver.active, "architecture": architecture()}

x = cupy.empty(1024, "float32")
y = empty_like(x)
told |= {"x": x.data.ptr, "y": y.data.ptr, "home": type(empty((2, 3), "float16", like=x)).__module__}
grid = cdiv(1008, 256)
launch(scale_kernel, grid, *pointers(x, y), 1008, 2.0, BLOCK=256, num_warps=2)
state.stream = 4711
launch(scale_kernel, grid, *pointers(x, y), 1008, 2.0, BLOCK=256, num_warps=2)  # compiled already
launch(scale_kernel, grid, *pointers(x[1:], y), 1007, 2.0, BLOCK=256, num_warps=2)  # not divisible by 16
launch(scale_kernel, (2, 0), *pointers(x, y), 1008, 2.0, BLOCK=256)
half = cupy.empty((128, 128), "float16")
launch(shared_kernel, (1, 1, 5), *pointers(half, half), BLOCK=128)

cache = scale_kernel.device_caches[0][0]
told["specialized"] = sorted(str(kernel.src.attrs) for kernel in cache.values())
told["loads"] = ["ld.global.v4" in kernel.asm["ptx"] for kernel in cache.values()]
told["arch"] = sorted({kernel.metadata.target.arch for kernel in cache.values()})
state.device = 1
told["other architecture"] = architecture()

host = np.ones(4, "float32")
try:
    launch(scale_kernel, 1, *pointers(host, host), 4, 2.0, BLOCK=256)
except TypeError as error:
    told["refused"] = str(error)
print(json.dumps(told))

"""Launches on a GPU: Triton's CUDA driver, with CuPy answering the four questions it would ask PyTorch.

    which device, which stream, what can the device do, and: make that device the current one

Triton 3.8 and newer can do without PyTorch, but launch on the default stream, whatever stream CuPy's work is in;
and switch to PyTorch's as soon as anybody imports it. Here a kernel always takes its place in CuPy's current
stream, behind the array operations that came before it and ahead of those that come after. It also makes temporary
arrays safe: CuPy hands their memory on within the same stream only.
"""

from __future__ import annotations

from typing import Any

import cupy
import triton
from triton.backends.nvidia.driver import CudaDriver, CudaLauncher, CudaUtils


class CuPyDriver(CudaDriver):
    """What Triton asks for when it compiles and launches, on CuPy's current device and stream."""

    def __init__(self) -> None:  # not CudaDriver's: up to Triton 3.7 that one imports PyTorch
        self.utils = CudaUtils()  # compiles a little C once: needs a C compiler, Python's headers and libcuda
        self.launcher_cls = CudaLauncher

    @classmethod
    def activate(cls) -> None:
        """Make this driver the one of the process; again does nothing."""
        if not isinstance(triton.runtime.driver._active, cls):
            triton.runtime.driver.set_active(cls())

    def get_current_device(self) -> int:
        return cupy.cuda.runtime.getDevice()

    def set_current_device(self, device: int) -> None:
        cupy.cuda.runtime.setDevice(device)

    def get_current_stream(self, device: int | None = None) -> int:
        return cupy.cuda.get_current_stream().ptr

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        capability = cupy.cuda.Device(device).compute_capability  # "80", "90", "120"
        return int(capability[:-1]), int(capability[-1])

    def get_benchmarker(self) -> Any:
        raise NotImplementedError("@triton.autotune is not used here: tiles stand in kernels/tiles.py")

"""A driver that compiles a launch and records it instead of making it: the machine code of a kernel, without a GPU.

    with dry("sm_90") as launches:
        launch(kernel, (4, 2), *pointers(x, y), n, BLOCK=128, num_warps=4)
    launches[0].registers, launches[0].spills, launches[0].shared, launches[0].grid

A launch goes the whole way that it goes on a GPU: specialization of the arguments (their types, which of them are
divisible by 16), compilation to a cubin, the limit of shared memory, the list of arguments. Then the cubin is
taken apart with the tools that Triton ships, and nothing runs. No GPU, no libcuda, no C compiler.
"""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
import tempfile
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget

from minilm.kernels.counting import interpreting


@dataclass(frozen=True)
class Architecture:
    """What an SM has to share out among the blocks that live on it at the same time; shared memory in bytes.

    From NVIDIA's CUDA C++ Programming Guide, appendix "Compute Capabilities", table "Technical Specifications per
    Compute Capability". `sms` is the number of SMs of the GPU named beside it, from NVIDIA's data sheets.
    """

    shared_per_block: int
    shared_per_sm: int
    warps_per_sm: int
    blocks_per_sm: int
    sms: int
    registers_per_sm: int = 65536


RESERVED_SHARED = 1024  # bytes of each block that the system keeps for itself, from compute capability 8.0 on


ARCHITECTURES = {
    80: Architecture(163 << 10, 164 << 10, warps_per_sm=64, blocks_per_sm=32, sms=108),  # A100
    86: Architecture(99 << 10, 100 << 10, warps_per_sm=48, blocks_per_sm=16, sms=84),  # A40
    89: Architecture(99 << 10, 100 << 10, warps_per_sm=48, blocks_per_sm=24, sms=142),  # L40
    90: Architecture(227 << 10, 228 << 10, warps_per_sm=64, blocks_per_sm=32, sms=132),  # H100 SXM
}


def blocks_per_sm(arch: int, registers: int, num_warps: int, shared: int) -> int:
    """How many blocks of `registers` a thread, `num_warps` warps and `shared` bytes live on one SM at once.

    The rule of NVIDIA's cuda_occupancy.h: an SM is four partitions, each with a quarter of the registers; registers
    are handed out to warps in units of 256, shared memory to blocks in units of 128 bytes.
    """
    limit = ARCHITECTURES[arch]
    registers_per_warp = -(-registers * 32 // 256) * 256
    warps = 4 * (limit.registers_per_sm // 4 // registers_per_warp)
    shared_per_block = -(-(shared + RESERVED_SHARED) // 128) * 128
    return min(
        limit.blocks_per_sm,
        limit.warps_per_sm // num_warps,
        warps // num_warps,
        limit.shared_per_sm // shared_per_block,
    )


@dataclass(frozen=True)
class Launch:
    """One recorded launch: what was asked for, and what the compiler made of it."""

    name: str
    arch: int
    grid: tuple[int, int, int]
    num_warps: int
    num_stages: int
    registers: int  # per thread
    stack: int  # bytes per thread
    spills: int  # LDL and STL instructions: traffic to the thread's local memory, which lies in HBM
    shared: int  # bytes per block
    hmma: int  # tensor-core instructions of a warp (sm_80)
    hgmma: int  # tensor-core instructions of four warps (sm_90)
    ffma: int  # float32 multiply-adds outside the tensor cores
    signature: dict[str, str]  # argument -> type
    attributes: dict[Any, Any]  # argument position -> what it was specialized for
    constants: dict[str, Any]
    cubin: bytes

    @property
    def threads(self) -> int:
        return 32 * self.num_warps

    @property
    def blocks_per_sm(self) -> int:
        """How many blocks fit on an SM at once: the least of what threads, registers and shared memory allow."""
        return blocks_per_sm(self.arch, self.registers, self.num_warps, self.shared)


_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@functools.lru_cache(maxsize=1024)
def inspect(cubin: bytes) -> dict[str, int]:
    """Registers, stack and instructions of interest of a cubin."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)

        def cuobjdump(option: str) -> str:
            command = [str(_TOOLS / "cuobjdump"), option, str(file)]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        usage = re.search(r"REG:(\d+) STACK:(\d+)", cuobjdump("--dump-resource-usage"))
        code = cuobjdump("-sass")
    assert usage is not None, "cuobjdump names no registers"

    def count(instruction: str) -> int:
        return len(re.findall(rf"\b{instruction}\b", code))

    return {
        "registers": int(usage[1]),
        "stack": int(usage[2]),
        "spills": count("LDL") + count("STL"),
        "hmma": count("HMMA"),
        "hgmma": count("HGMMA"),
        "ffma": count("FFMA"),
    }


class DryDriver:
    """Answers what Triton asks of a driver; the architecture doubles as the device's number.

    Triton keeps what it compiled and looked up by device, so two architectures in one process never mix.
    """

    def __init__(self, arch: int, launches: list[Launch]) -> None:
        self.arch, self.launches = arch, launches
        limit = ARCHITECTURES[arch]
        properties = {
            "max_shared_mem": limit.shared_per_block,
            "max_num_regs": limit.registers_per_sm,
            "multiprocessor_count": limit.sms,
            "warpSize": 32,
        }
        self.utils = types.SimpleNamespace(
            get_device_properties=lambda device: properties,
            load_binary=lambda name, cubin, shared, device: (None, (name, cubin), 0, 0, 1024),
            unload_module=lambda module: None,
        )

    def get_current_device(self) -> int:
        return self.arch

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return divmod(self.arch, 10)

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        """What Triton calls once per compiled kernel; the returned function is called once per launch."""
        names = list(source.signature)

        def record(x: int, y: int, z: int, stream: int, function: tuple[str, bytes], *rest: Any) -> None:
            name, cubin = function
            active = triton.runtime.driver.active  # not self: Triton keeps this function longer than the block
            active.launches.append(
                Launch(
                    name=name,
                    arch=self.arch,
                    grid=(x, y, z),
                    num_warps=metadata.num_warps,
                    num_stages=metadata.num_stages,
                    shared=metadata.shared,
                    signature=dict(source.signature),
                    attributes={names[k[0]]: v for k, v in source.attrs.items()},
                    constants={names[k[0]]: v for k, v in source.constants.items()},
                    cubin=cubin,
                    **inspect(cubin),
                )
            )

        return record


def architecture_number(arch: str | int) -> int:
    """90 of "sm_90" or 90; a ValueError for one that is not in ARCHITECTURES."""
    number = int(str(arch).removeprefix("sm_"))
    if number not in ARCHITECTURES:
        known = ", ".join(f"sm_{n}" for n in ARCHITECTURES)
        raise ValueError(f"dry() does not know the architecture {arch!r}: choose one of {known}")
    return number


@contextlib.contextmanager
def dry(arch: str | int) -> Iterator[list[Launch]]:
    """Within the block launches are compiled for `arch` ("sm_80" or 80) and recorded in the list that it gives.

    Raises:
        ValueError: for an architecture whose limits are not in ARCHITECTURES.
        RuntimeError: in a process that interprets kernels (TRITON_INTERPRET=1).
    """
    if interpreting():
        raise RuntimeError("dry() compiles kernels, and TRITON_INTERPRET=1 makes this process interpret them")
    launches: list[Launch] = []
    config = triton.runtime.driver
    previous = config._active
    config.set_active(DryDriver(architecture_number(arch), launches))
    try:
        yield launches
    finally:
        config._active = previous

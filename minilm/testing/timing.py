"""How long does it take, how much memory, and on which machine was that: what every benchmark here shares.

    timings = measure({"ours": lambda: ours(x), "theirs": lambda: theirs(x)}, repeats=20, warmup=3)
    timings[0].median, timings[0].spread
    peak_memory(lambda: ours(x))
    machine()

The contestants take turns, in an order that is reversed each round, so that a machine that slows down slows all of
them alike. The median and the interquartile range are not moved by a few rounds that something disturbed.

A timer is a function from a call to seconds: `seconds_on_host` for NumPy, `CudaTimer` for CuPy, whose calls return
before the GPU is done.

What it does not do: it does not judge. An absolute time is never a test, and says nothing without its machine.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Timer = Callable[[Callable[[], Any]], float]
"""From a call without arguments to the seconds that it took."""

# ----- which machine


def cpu_model() -> str:
    """The name of the processor, as far as the system tells."""
    with contextlib.suppress(OSError):  # /proc is Linux's
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def blas() -> list[str]:
    """The BLAS libraries that NumPy has loaded, each with its kernels and its number of threads."""
    return [
        f"{pool['internal_api']} {pool['version']}, {pool.get('architecture')}, {pool['num_threads']} threads"
        for pool in import_module("threadpoolctl").threadpool_info()
        if pool["user_api"] == "blas"
    ]


def machine(module: ModuleType = np) -> dict[str, Any]:
    """What a reader has to know of the machine to compare a figure with their own; `module` is where arrays live."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": usable,
        "threads": import_module("minilm.kernels.threads").thread_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas(),
    }
    return facts if module is np else facts | gpu(module)


def gpu(module: ModuleType) -> dict[str, Any]:
    """The GPU that CuPy computes on, and the software between it and us. CUDA's versions: 12040 is 12.4."""
    runtime = module.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    name = properties["name"]
    return {
        "gpu": name.decode() if isinstance(name, bytes) else name,
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "sms": properties["multiProcessorCount"],
        "gpu_memory": properties["totalGlobalMem"],
        "cuda_driver": runtime.driverGetVersion(),
        "cuda_runtime": runtime.runtimeGetVersion(),
        "cupy": module.__version__,
        "triton": version_of("triton"),
    }


def version_of(package: str) -> str | None:
    """The version of an installed package; None if it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# ----- how long


@dataclass(frozen=True)
class Timing:
    """The seconds that one contestant took, round by round."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the rounds: what a disturbance of a few rounds does not move."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """The interquartile range: the width of the middle half of the rounds."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float(high - low)


def seconds_on_host(call: Callable[[], Any]) -> float:
    """Seconds from before the call until it returns."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class CudaTimer:
    """Seconds on the GPU between two events around a call, in CuPy's current stream.

    Before each of them 256 MB are written: no call finds its inputs in the L2 cache because the round before left
    them there, and the GPU is still busy while the host prepares the launch, which is not to be part of the time.
    """

    FLUSHED = 1 << 28

    def __init__(self, module: ModuleType) -> None:
        self.cuda = module.cuda
        self._flushed = module.zeros(self.FLUSHED, dtype="uint8")

    def __call__(self, call: Callable[[], Any]) -> float:
        start, stop = self.cuda.Event(), self.cuda.Event()
        self._flushed.fill(0)
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return self.cuda.get_elapsed_time(start, stop) / 1e3  # it tells milliseconds


def timer_of(module: ModuleType) -> Timer:
    """The timer for work on arrays of this module."""
    return seconds_on_host if module is np else CudaTimer(module)


def measure(
    contestants: Mapping[str, Callable[[], Any]], repeats: int, warmup: int, timer: Timer = seconds_on_host
) -> list[Timing]:
    """Time the contestants in turns, after `warmup` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for round_ in range(-warmup, repeats):
        for name in order:
            elapsed = timer(contestants[name])
            if round_ >= 0:
                seconds[name].append(elapsed)
        order.reverse()
    return [Timing(name, tuple(rounds)) for name, rounds in seconds.items()]


def in_words(seconds: float) -> str:
    """A time with three digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


# ----- how much memory


def peak_memory(call: Callable[[], Any], module: ModuleType = np) -> int:
    """Bytes that a call holds at its worst moment, beyond what was held before it.

    For NumPy they are counted by tracemalloc, to which NumPy reports its arrays; for CuPy it is what the memory pool
    had to ask of the device, starting with an empty one.
    """
    if module is not np:
        pool = module.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        call()
        return pool.total_bytes() - before
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not traced:
            tracemalloc.stop()


def free_memory() -> int | None:
    """Bytes that this process can still get: of the machine, or of the control group that it is in. None: unknown."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    for limit, used, cache in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with contextlib.suppress(OSError, KeyError, ValueError):  # "max" is no number: no limit
            most, now = int((group / limit).read_text()), int((group / used).read_text())
            pages = dict(line.split() for line in (group / cache).read_text().splitlines())
            free = min(free, most - now + int(pages["inactive_file"]))  # cached files give way
    return max(free, 0)


@contextlib.contextmanager
def within_free_memory() -> Iterator[None]:
    """Within the block NumPy raises MemoryError for what does not fit into nine tenths of the free memory.

    Linux promises more memory than there is, and ends a process that takes it at its word. Where the system does not
    tell what is free, nothing is limited.
    """
    free = free_memory()
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ModuleNotFoundError, OSError):  # Windows, macOS
        free = None
    if free is None:
        yield
        return
    limit = pages * resource.getpagesize() + 9 * free // 10
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    for other in (soft, hard):
        limit = limit if other == resource.RLIM_INFINITY else min(limit, other)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# ----- what the machine can do at most


def ceilings(module: ModuleType, timer: Timer, size: int = 1024, bytes_copied: int = 1 << 27) -> dict[str, float]:
    """The two roofs of a roofline, measured: flop/s of a float32 product of `size`, and byte/s of a copy.

    The copy counts what it reads and what it writes; its array is larger than any cache. The best of the rounds is
    taken, not the median: a ceiling is what the machine can do.
    """
    a = module.ones((size, size), dtype="float32")
    source = module.ones(bytes_copied // 4, dtype="float32")
    target = module.empty_like(source)

    def copy() -> None:
        target[...] = source

    calls = {"product": lambda: a @ a, "copy": copy}
    best = {timing.name: min(timing.seconds) for timing in measure(calls, 7, 2, timer)}
    return {"flop_per_s": 2 * size**3 / best["product"], "byte_per_s": 2 * source.nbytes / best["copy"]}

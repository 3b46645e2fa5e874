"""What the operating system does to a run, and tells of it: signals to stop, freed memory, the peak of memory."""

from __future__ import annotations

import ctypes
import platform
import signal
import sys
import threading
from typing import Any


class StopSignals:
    """Within the block Ctrl-C and SIGTERM are only noted, in `caught`: the step can be finished and saved.

    A second one stops at once, with KeyboardInterrupt. Only the main thread can catch signals; in others nothing
    changes.
    """

    def __init__(self) -> None:
        self.caught = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        self.caught = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._catch)

    def _catch(self, number: int, frame: Any) -> None:
        if self.caught:
            raise KeyboardInterrupt
        self.caught = True

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of mallopt, in glibc's malloc.h


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next allocation instead of giving it back to the system.

    A training step frees all its arrays and the next one allocates them again. By default glibc asks the system for
    each large array and gives it back when it is freed, and the system hands out fresh pages, cleared and mapped one
    by one as they are touched: up to a third of a step's time. With no such mappings (M_MMAP_MAX = 0) and no trimming
    arrays come from one heap that only grows. The process keeps what it had at its peak; the peak itself stays about
    the same.

    Returns:
        whether it was done: elsewhere than in glibc (macOS, Windows, musl) allocators differ, and nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes (0 where the system does not tell)."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

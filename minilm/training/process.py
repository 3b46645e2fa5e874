"""What the operating system does to a run, and tells of it: signals to stop, and memory."""

from __future__ import annotations

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


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes (0 where the system does not tell)."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

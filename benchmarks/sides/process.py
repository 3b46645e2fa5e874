"""One side in a process of its own, which does steps when it is asked to and tells how long they took.

A process each, since two libraries in one would share an allocator (so that the peak of memory could not be told
apart) and fight with their threads. They take turns: while one computes, the other waits for a message.
"""

from __future__ import annotations

import importlib
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sides.works import WORKS


def _memory(field: str) -> int:
    """VmRSS (what the process holds) or VmHWM (the most that it ever held) in bytes; Linux."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[field].split()[0])


def _serve(connection: Connection, module: str, work: str, threads: int) -> None:
    """The process: answer each (method, argument) with (result, seconds); None ends it."""
    side_module = importlib.import_module(module)
    after_imports = _memory("VmRSS")
    side = side_module.Side(WORKS[work], threads)
    connection.send("ready")
    while (message := connection.recv()) is not None:
        method, argument = message
        if method == "peak":
            connection.send((_memory("VmHWM") - after_imports, 0.0))
            continue
        start = time.perf_counter()
        result = getattr(side, method)(*argument)
        connection.send((result, time.perf_counter() - start))


class SideProcess:
    """A side that runs elsewhere: `step()` and `sample(n)` give the result and the seconds that it took there."""

    def __init__(self, module: str, work: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, module, work, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.connection.recv()

    def _ask(self, method: str, *argument: Any) -> tuple[Any, float]:
        self.connection.send((method, argument))
        return self.connection.recv()

    def step(self) -> tuple[float, float]:
        """(loss, seconds) of one training step."""
        return self._ask("step")

    def sample(self, count: int) -> tuple[list[int], float]:
        """(tokens, seconds) of writing `count` tokens."""
        return self._ask("sample", count)

    def peak_memory(self) -> int:
        """The most bytes that the process held so far, beyond those that it held when its imports were done."""
        return self._ask("peak")[0]

    def close(self) -> None:
        self.connection.send(None)
        self.process.join()

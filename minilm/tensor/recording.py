"""Recording on and off: `no_grad`, `enable_grad`. Each thread has its own switch."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec

P = ParamSpec("P")


class Recording(threading.local):
    """`on` while operations are recorded in this thread."""

    on = True


recording = Recording()


def is_grad_enabled() -> bool:
    """True where operations are recorded (in this thread)."""
    return recording.on


class _SetRecording:
    """Context manager and decorator that sets whether operations are recorded."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self.previous: list[bool] = []

    def __enter__(self) -> None:
        self.previous.append(recording.on)
        recording.on = self.on

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        recording.on = self.previous.pop()

    def __call__(self, function: Callable[P, Any]) -> Callable[P, Any]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
            with _SetRecording(self.on):
                return function(*args, **kwargs)

        return wrapped


def no_grad() -> _SetRecording:
    """Nothing is recorded in the block (or in the decorated function): `with no_grad(): ...`."""
    return _SetRecording(False)


def enable_grad() -> _SetRecording:
    """Record again inside a `no_grad` block."""
    return _SetRecording(True)

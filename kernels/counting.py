"""Bytes and flops of a kernel, counted while Triton's interpreter runs it: exact, and the same on every machine.

    with counting() as counts:
        launch(kernel, grid, ...)
    counts.flops / counts.moved        # arithmetic intensity, flops per byte

Two ways to count bytes, and the gap between them is the lesson. `loaded` and `stored` count each access of each
program, so a key that eight programs read counts eight times: what flows between the SMs and the cache. `read` and
`written` count each element of memory once in a launch: what has to cross HBM at least, if the cache holds the rest.
Lanes that a mask switches off count for nothing, in both.

Flops are those of `tl.dot` as it is executed, 2 M N K each, padding and masked halves included; `exps` are the
elements that went through `exp` or `exp2`. Elementwise arithmetic is not counted.

It replaces methods of the interpreter's builder, whose names are those of Triton 3.6 to 3.9, for as long as the
block lasts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import triton.language
from triton.runtime import interpreter


def interpreting() -> bool:
    """True if kernels of this process run in Triton's interpreter.

    That is settled when triton is imported: its own functions (`tl.zeros`, `tl.cdiv`) are compiled or interpreted
    from then on, whatever TRITON_INTERPRET says later.
    """
    return isinstance(triton.language.zeros, interpreter.InterpretedFunction)


class _Addresses:
    """Which elements of memory a launch accessed, by their size in bytes."""

    def __init__(self) -> None:
        self.known: dict[int, list[np.ndarray]] = {}
        self.waiting = self.before = 0

    def next_launch(self) -> None:
        self.before = self.bytes()
        self.known.clear()

    def add(self, size: int, addresses: np.ndarray) -> None:
        self.known.setdefault(size, []).append(addresses)
        self.waiting += len(addresses)
        if self.waiting > 1 << 20:  # sorted now and then, not at each access
            self.bytes()

    def bytes(self) -> int:
        for size, parts in self.known.items():
            addresses = np.sort(np.concatenate(parts))
            first = np.ones(len(addresses), bool)
            np.not_equal(addresses[1:], addresses[:-1], out=first[1:])
            self.known[size] = [addresses[first]]
        self.waiting = 0
        return self.before + sum(size * len(parts[0]) for size, parts in self.known.items())


class Counts:
    """What the launches of a `counting()` block did so far. Bytes, flops and elements; all are integers."""

    def __init__(self) -> None:
        self.loaded = self.stored = 0
        self.flops = self.exps = self.programs = 0
        self._touched = {"read": _Addresses(), "written": _Addresses()}

    @property
    def read(self) -> int:
        """Bytes of the elements that were loaded, each once in a launch."""
        return self._touched["read"].bytes()

    @property
    def written(self) -> int:
        """Bytes of the elements that were stored, each once in a launch."""
        return self._touched["written"].bytes()

    @property
    def moved(self) -> int:
        """Bytes that have to cross HBM at least: `read` and `written`."""
        return self.read + self.written

    def _access(self, how: str, pointers: Any, mask: Any) -> int:
        """Note the accesses of one instruction, and return how many bytes they move."""
        size = max(pointers.get_element_ty().primitive_bitwidth // 8, 1)
        addresses, on = np.broadcast_arrays(pointers.data, mask.data)
        addresses = addresses[on]
        self._touched[how].add(size, addresses)
        return size * len(addresses)

    def as_dict(self) -> dict[str, int]:
        names = ("loaded", "stored", "read", "written", "moved", "flops", "exps", "programs")
        return {name: int(getattr(self, name)) for name in names}


@contextlib.contextmanager
def counting(*kernels: str) -> Iterator[Counts]:
    """Count what kernels do within the block: those named, or all.

    Raises:
        RuntimeError: in a process that does not interpret kernels, where there is nothing to count by.
    """
    if not interpreting():
        raise RuntimeError("counting() counts in Triton's interpreter: start the process with TRITON_INTERPRET=1")
    builder, counts = interpreter.interpreter_builder, Counts()
    run = interpreter.GridExecutor.__call__
    counted = not kernels

    def run_noted(executor: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal counted
        counted = not kernels or executor.fn.__name__ in kernels
        for addresses in counts._touched.values():
            addresses.next_launch()
        return run(executor, *args, **kwargs)

    def before(name: str, note: Callable[..., None]) -> Callable[..., Any]:
        method = getattr(builder, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            if counted:
                note(*args, **kwargs)
            return method(*args, **kwargs)

        return noted

    def load(pointers: Any, mask: Any, *rest: Any, **named: Any) -> None:
        counts.loaded += counts._access("read", pointers, mask)

    def store(pointers: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> None:
        counts.stored += counts._access("written", pointers, mask)

    def update(operation: Any, pointers: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> None:
        counts.loaded += counts._access("read", pointers, mask)
        counts.stored += counts._access("written", pointers, mask)

    def dot(a: Any, b: Any, *rest: Any, **named: Any) -> None:
        *batch, M, K = a.data.shape
        counts.flops += 2 * int(np.prod(batch, dtype=np.int64)) * M * K * b.data.shape[-1]

    def exp(argument: Any) -> None:
        counts.exps += argument.data.size

    def program(*index: int) -> None:
        counts.programs += 1

    # An unmasked load or store goes through the masked one, so that each is seen once.
    notes: dict[str, Callable[..., None]] = {
        "create_masked_load": load,
        "create_masked_store": store,
        "create_atomic_rmw": update,
        "create_dot": dot,
        "create_exp": exp,
        "create_exp2": exp,
        "set_grid_idx": program,
    }
    replaced = {name: before(name, note) for name, note in notes.items()}
    previous = {name: vars(builder)[name] for name in notes if name in vars(builder)}  # of an outer block
    vars(builder).update(replaced)
    interpreter.GridExecutor.__call__ = run_noted
    try:
        yield counts
    finally:
        interpreter.GridExecutor.__call__ = run
        for name in replaced:
            del vars(builder)[name]
        vars(builder).update(previous)

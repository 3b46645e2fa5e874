"""Many parameters as one long sequence, updated block by block: the optimizer's one pass.

An update rule such as Adam's is a dozen elementwise steps. Taken one parameter at a time, each step reads and
writes whole matrices, so the big ones travel between memory and core a dozen times, and fifty biases of 128
numbers cost six hundred calls. Here the parameters stand in a row:

    position    0        128      256             8448                      57600
                | bias   | bias   | embedding     | matrix                  | ...
    blocks      [--- gathered ---][-------------- ][-----------][-----------]

- What the rule keeps (momentum, moments) lives in flat arrays, one number for each position.
- A *block* is a stretch of the row that fits in the cache with all that the rule needs; all steps of the rule
  run on one block before the next one is touched, in place, on scratch memory that is reused.
- A large parameter is cut into blocks, each a view of its own memory. Small neighbours are gathered into one
  block and written back.

Where the backend has a kernel for the rule, it gets the whole row at once (`FlatSequence.apply_at_once`) and cuts it in
its own way: for the threads of a CPU, or for the programs of a device.

The arrays of the parameters stay where they are (layers, views and closures hold on to them).
What this file does not do: it knows no rule (`sgd`, `adam`) and no hyperparameter (`optimizer`).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minilm.backend import Array, xp
from minilm.tensor import Tensor

BLOCK = 1 << 16
"""Elements in a block. Five float32 arrays of this length are 1.25 MB: about the L2 cache of one core. A
block below 16k elements loses more to the cost of a NumPy call than the cache gives back."""

DEVICE_BLOCK = 1 << 24
"""The same on a device, where a call costs more and no cache holds a block."""

GATHER_BELOW = 1 << 13
"""Parameters with fewer elements share a block: copying them costs less than a dozen calls for each."""


@dataclass(slots=True)
class Slot:
    """A parameter and its place in the row."""

    name: str
    parameter: Tensor
    group: int  # index into param_groups
    decays: bool  # does the group's weight decay apply?
    start: int = 0
    step: int = 0  # how many updates it has had: it counts those with a gradient only

    @property
    def stop(self) -> int:
        return self.start + self.parameter.size


Rule = Callable[..., None]
"""rule(p, g, work, *buffers): 1-D arrays of one length and dtype (work: two such rows). Writes p and the
buffers in place, must not write g."""


def state_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of a parameter's state and arithmetic: its own, but at least float32.

    In float16, 0.001 g^2 underflows to 0 for every |g| below 0.005, so a second moment would stay 0.
    """
    return np.promote_types(dtype, np.float32)


class FlatSequence:
    """The row of all parameters of one state dtype in one home, with the flat state of the update rule.

    Args:
        slots: the parameters; the constructor orders them and sets their places.
        buffers: names of the state arrays, zero at the start.
    """

    def __init__(self, slots: Sequence[Slot], buffers: Sequence[str]) -> None:
        # Neighbours should share what a block must have in common (group, decay), the small ones foremost.
        self.slots = sorted(slots, key=lambda s: (s.group, s.decays, s.parameter.size >= GATHER_BELOW))
        position = 0
        for slot in self.slots:
            slot.start = position
            position = slot.stop
        first = self.slots[0].parameter
        self.home = xp(*(slot.parameter.data for slot in self.slots))
        self.dtype = state_dtype(first.dtype)
        self.buffers = {name: self.home.zeros(position, dtype=self.dtype) for name in buffers}
        self.block = min(BLOCK if self.home is np else DEVICE_BLOCK, max(position, 1))
        self._at_once: tuple[Any, Callable[..., None]] | None = None  # a kernel, and what it prepared for this row

    @functools.cached_property
    def scratch(self) -> Array:
        """Rows of gathered values and of gathered gradients, and two for the rule."""
        return self.home.empty((4, self.block), dtype=self.dtype)

    def state(self, slot: Slot, buffer: str) -> Array:
        """The part of a state array that belongs to a parameter, in the parameter's shape: a view."""
        return self.buffers[buffer][slot.start : slot.stop].reshape(slot.parameter.shape)

    def runs(self) -> Iterator[list[Slot]]:
        """Stretches of neighbours that take the same step: all have a gradient, a group, a decay, a count."""

        def same(slot: Slot) -> tuple[bool, int, bool, int]:
            return slot.parameter.grad is not None, slot.group, slot.decays, slot.step

        for key, run in itertools.groupby(self.slots, key=same):
            if key[0]:
                yield list(run)

    def blocks(self, run: Sequence[Slot]) -> Iterator[list[tuple[Slot, int, int]]]:
        """Cut a run into blocks: lists of (slot, from, to), where the bounds count within the parameter."""
        shared: list[tuple[Slot, int, int]] = []
        filled = 0
        for slot in run:
            size = slot.parameter.size
            small = size < min(GATHER_BELOW, self.block)
            if shared and (not small or filled + size > self.block):
                yield shared
                shared, filled = [], 0
            if small:
                shared.append((slot, 0, size))
                filled += size
                continue
            length = math.ceil(size / math.ceil(size / self.block))  # even pieces, none of them a crumb
            for start in range(0, size, length):
                yield [(slot, start, min(start + length, size))]
        if shared:
            yield shared

    def apply(self, run: Sequence[Slot], rule: Rule) -> None:
        """Let the rule write every parameter of a run, and its state, block by block."""
        values = {slot.name: slot.parameter.data.reshape(-1) for slot in run}
        gradients = {slot.name: _gradient(slot).reshape(-1) for slot in run}
        for block in self.blocks(run):
            first, last = block[0], block[-1]
            start, stop = first[0].start + first[1], last[0].start + last[2]
            rows = self.scratch[:, : stop - start]
            state = [buffer[start:stop] for buffer in self.buffers.values()]
            p_parts = [values[slot.name][a:b] for slot, a, b in block]
            g_parts = [gradients[slot.name][a:b] for slot, a, b in block]
            if len(block) == 1 and p_parts[0].dtype == self.dtype:
                rule(p_parts[0], g_parts[0], rows[2:], *state)
                continue
            p = self.home.concatenate(p_parts, out=rows[0])
            g = self.home.concatenate(g_parts, out=rows[1])
            rule(p, g, rows[2:], *state)
            position = 0
            for part in p_parts:
                part[...] = p[position : position + part.size]
                position += part.size
        for slot in run:
            data = slot.parameter.data
            if not data.flags.c_contiguous:  # then reshape made a copy
                data[...] = values[slot.name].reshape(data.shape)
            slot.parameter.mark_changed()  # a graph recorded before this step is out of date

    def apply_at_once(self, kernel: Callable[..., Any], updates: Sequence[tuple[Sequence[Slot], Any]]) -> None:
        """Let a kernel write all parameters of several runs, and their state, in one call.

        Args:
            kernel: kernel(starts, sizes, *buffers) returns update(parameters, gradients, settings), whose arguments
                have an element for each slot of the row; where the gradient is None, it does nothing. It is asked
                once and may keep on the device what it knows of the row.
            updates: the runs, each with the settings that are to reach `update`.
        """
        if self._at_once is None or self._at_once[0] is not kernel:
            starts, sizes = [slot.start for slot in self.slots], [slot.parameter.size for slot in self.slots]
            self._at_once = kernel, kernel(starts, sizes, *self.buffers.values())
        chosen = {id(slot): settings for run, settings in updates for slot in run}
        self._at_once[1](
            [slot.parameter.data for slot in self.slots],
            [_gradient(slot) if id(slot) in chosen else None for slot in self.slots],
            [chosen.get(id(slot)) for slot in self.slots],
        )
        for run, _ in updates:
            for slot in run:
                slot.parameter.mark_changed()


def _gradient(slot: Slot) -> Any:
    gradient = slot.parameter.grad
    assert gradient is not None
    return gradient.data

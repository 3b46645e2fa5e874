"""AdamW over all parameters at once: their row is cut into blocks, and whichever thread is free takes the next one.

For every element, with g its gradient at its step t (minilm.optim.adam has the derivation and the sources):

    m = b1 m + (1 - b1) g                                       c = sqrt(1 - b2^t)
    v = b2 v + (1 - b2) g²
    p = p (1 - lr decay) - (lr c / (1 - b1^t)) m / (sqrt(v) + eps c)

The operations and their order are those of `minilm.optim.adam.adamw_update`, and so are the bits of the result. New is
where the row is cut: anywhere. The moments of neighbours lie side by side, so most steps run over a block as a whole,

    parameters     | bias | bias | matrix                 | matrix        | ...
    m, v, scratch  [        block         ][         block          ][  ...

and only those that read a gradient or write a parameter go through its stretches one by one. Nothing is copied
together, and a call is long enough that two threads seldom meet between two of them.

Cost: 4 numbers read and 3 written for each element, and scratch of a block for each thread. 13 steps, of which the
square root takes a quarter.

What it does not do: gradient clipping.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minilm.kernels.threads import parallel, pieces

BLOCK = 1 << 18
"""Elements in a block: a step on them takes some 40 microseconds."""

WORK = 13
"""Steps on each element, for `pieces`."""

Settings = tuple[int, float, tuple[float, float], float, float]
"""Of one parameter: step (from 1), lr, betas, eps, weight_decay."""


class Stretch(NamedTuple):
    """Elements `there` of a parameter, which are elements `here` of a block."""

    slot: int
    there: slice
    here: slice


class Block(NamedTuple):
    """Elements `at` of the moments, all of which take the step of these settings."""

    at: slice
    settings: Settings
    stretches: list[Stretch]


def adamw(starts: Sequence[int], sizes: Sequence[int], m: np.ndarray, v: np.ndarray) -> Callable[..., None]:
    """Prepare the step for parameters of these sizes, whose moments begin at `starts`, ascending, in the 1-D m and v.

    Returns:
        update(parameters, gradients, settings): one step, in place. All three are sequences with an element for each
        parameter; where the gradient is None, nothing happens (the settings are not looked at). A gradient has the
        shape of its parameter. Parameters of another dtype than m and v are computed in that of m and v.
    """

    def update(
        parameters: Sequence[np.ndarray], gradients: Sequence[np.ndarray | None], settings: Sequence[Settings | None]
    ) -> None:
        values = [parameter.reshape(-1) for parameter in parameters]  # a copy where it is not in C order
        slopes = [None if gradient is None else gradient.reshape(-1) for gradient in gradients]
        moving = [slot for slot, slope in enumerate(slopes) if slope is not None and sizes[slot]]
        runs = _runs(moving, starts, sizes, settings)
        tasks = [block for run in runs for block in _blocks(run, starts, sizes, settings)]

        def step(i: int) -> None:
            _step(tasks[i], values, slopes, m, v)

        if len(pieces(sum(sizes[slot] for slot in moving), WORK)) > 1:
            parallel(step, len(tasks))
        else:
            for i in range(len(tasks)):
                step(i)
        for slot in moving:
            if not parameters[slot].flags.c_contiguous:
                parameters[slot][...] = values[slot].reshape(parameters[slot].shape)

    return update


def _runs(
    moving: Sequence[int], starts: Sequence[int], sizes: Sequence[int], settings: Sequence[Any]
) -> list[list[int]]:
    """Neighbours that take the same step."""
    runs: list[list[int]] = []
    for slot in moving:
        last = runs[-1][-1] if runs else slot
        if runs and starts[last] + sizes[last] == starts[slot] and settings[last] == settings[slot]:
            runs[-1].append(slot)
        else:
            runs.append([slot])
    return runs


def _blocks(run: list[int], starts: Sequence[int], sizes: Sequence[int], settings: Sequence[Any]) -> list[Block]:
    """A run cut into even blocks, and those into the stretches of its parameters."""
    first, last = starts[run[0]], starts[run[-1]] + sizes[run[-1]]
    length = math.ceil((last - first) / math.ceil((last - first) / BLOCK))
    slots = {starts[slot]: slot for slot in run}
    cut: list[Block] = []
    slot = run[0]
    for begin, end in itertools.pairwise(sorted({*range(first, last, length), *slots, last})):
        slot = slots.get(begin, slot)
        if (begin - first) % length == 0:
            cut.append(Block(slice(begin, min(begin + length, last)), settings[slot], []))
        at, _, stretches = cut[-1]
        there, here = (slice(begin - origin, end - origin) for origin in (starts[slot], at.start))
        stretches.append(Stretch(slot, there, here))
    return cut


def _step(
    block: Block, values: Sequence[np.ndarray], slopes: Sequence[np.ndarray | None], m: np.ndarray, v: np.ndarray
) -> None:
    """All of the rule for one block."""
    step, lr, (b1, b2), eps, weight_decay = block.settings
    correction = math.sqrt(1 - b2**step)
    m, v = m[block.at], v[block.at]
    change = np.empty_like(m)

    m *= b1
    for slot, there, here in block.stretches:
        np.multiply(slopes[slot][there], 1 - b1, out=change[here], dtype=m.dtype)  # type: ignore[index]
    m += change

    for slot, there, here in block.stretches:
        g = slopes[slot][there]  # type: ignore[index]
        np.multiply(g, g, out=change[here], dtype=m.dtype)
    change *= 1 - b2
    v *= b2
    v += change

    np.sqrt(v, out=change)
    change += eps * correction
    np.divide(m, change, out=change)
    change *= lr * correction / (1 - b1**step)
    for slot, there, here in block.stretches:
        p = values[slot][there]
        wide = p.astype(m.dtype, copy=False)
        if weight_decay:
            wide *= 1 - lr * weight_decay
        wide -= change[here]
        if wide is not p:
            p[...] = wide

"""The norm of all gradients together, and one factor for all of them: each in one section of our threads.

    |g|² = sum over all arrays of sum over their elements of g²

New against `minilm.optim.clipping`, which goes from array to array on one core: the arrays are cut into stretches of
about equal length (many small arrays to one), and the threads take them one after another.

As there, the squares are added up in the array's own dtype over ROW elements only, and the sums of the rows in
float64. A stretch always has the same rows and the stretches are added in their order, so the norm does not depend on
the number of threads.

Cost: the norm reads every element once, the factor reads and writes it: the time that memory takes.

What it does not do: float16 (the clipping by array serves).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from minilm.kernels.threads import parallel, pieces

ROW = 8192
"""Elements whose squares are added up in their own dtype: so few that float32 loses only its last digit."""

STRETCH = 64 * ROW
"""Elements that a thread takes at once; some 50 microseconds."""

WORK = 1.5
"""Steps on each element, for `pieces`."""


def squared_norm(arrays: Sequence[np.ndarray]) -> float:
    """|g|² over all elements of all arrays, in float64."""
    parts = _stretches(arrays)
    sums = [0.0] * len(parts)

    def add_up(i: int) -> None:
        sums[i] = sum(_square(flat) for flat in parts[i])

    with np.errstate(over="ignore", invalid="ignore"):  # the result says it
        _run(add_up, parts)
    total = sum(sums)
    if 1e-20 < total < math.inf:
        return total
    # Some squares left the range of float32, or were so small that they lost digits; or all is zero, or not finite.
    return sum(float(wide @ wide) for part in parts for flat in part for wide in [flat.astype(np.float64)])


def scale(arrays: Sequence[np.ndarray], factor: float) -> None:
    """Multiply every element of all arrays, in place."""
    parts = _stretches([array for array in arrays if array.flags.c_contiguous])

    def multiply(i: int) -> None:
        for flat in parts[i]:
            flat *= factor

    _run(multiply, parts)
    for array in arrays:
        if not array.flags.c_contiguous:  # flat it would be a copy
            array *= factor


def _stretches(arrays: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """The arrays, flat, cut or put together to stretches of at most STRETCH elements."""
    parts: list[list[np.ndarray]] = []
    filled = STRETCH
    for array in arrays:
        flat = array.reshape(-1)
        for start in range(0, flat.size, STRETCH):
            piece = flat[start : start + STRETCH]
            if filled + piece.size > STRETCH:
                parts.append([])
                filled = 0
            parts[-1].append(piece)
            filled += piece.size
    return parts


def _run(work: Callable[[int], None], parts: list[list[np.ndarray]]) -> None:
    """work(0), ..., work(len(parts) - 1), on several threads if that is worth while."""

    def all_of_it(_: int) -> None:
        for i in range(len(parts)):
            work(i)

    if len(pieces(sum(flat.size for part in parts for flat in part), WORK)) > 1:
        parallel(work, len(parts))
    else:
        parallel(all_of_it, 1)


def _square(flat: np.ndarray) -> float:
    """|g|² of a stretch: dot products of rows, and of the rest."""
    whole = flat.size // ROW * ROW
    total = 0.0
    if whole:
        rows = flat[:whole].reshape(-1, ROW)
        total = float(np.vecdot(rows, rows).sum(dtype=np.float64))
    if whole < flat.size:
        rest = flat[whole:]
        total += float(rest @ rest)
    return total

"""Checkers of chapter 17, Triton: two kernels, which run in the interpreter, and two functions.

Each array of a kernel lies between bands of NaN, and what it writes holds a mark before: an access beyond the end and
an element that was forgotten both show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from checks import NotYet

BAND = 64
MARK = -7777.0  # what an output holds before; no right answer is that


def _between_bands(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A copy of the array with NaN before and behind it, and the whole of the memory."""
    memory = np.full(array.size + 2 * BAND, np.nan, dtype="float32")
    inside = memory[BAND : BAND + array.size].reshape(array.shape)
    inside[...] = array
    return inside, memory


def _written_outside(memory: np.ndarray) -> bool:
    return not np.isnan(np.concatenate([memory[:BAND], memory[-BAND:]])).all()


def _run(
    kernel: Any, grid: int, arrays: tuple[np.ndarray, ...], numbers: tuple[Any, ...], BLOCK: int, **read: np.ndarray
) -> list[str]:
    """Run it; the names of those of `read` (whole memories, with their bands) of which it read a band."""
    from checks.tracing import tracing
    from minilm.kernels.host import launch, pointers

    if not hasattr(kernel, "fn"):
        raise NotYet(f"{getattr(kernel, '__name__', kernel)!r} is not a Triton kernel: put @triton.jit above it")
    try:
        with tracing(**read) as events:
            launch(kernel, grid, *pointers(*arrays), *numbers, BLOCK=BLOCK)
    except Exception as error:  # whatever a reader's kernel raises: the last cause says what
        cause = error.__cause__ or error
        raise NotYet(f"the kernel stopped with {type(cause).__name__}: {cause}") from None
    loads = [event for event in events if event.how == "load"]
    return sorted({e.name for e in loads if e.rows[0] < BAND or e.rows[1] > read[e.name].size - BAND})


def _untouched(out: np.ndarray) -> None:
    if (out == MARK).all():
        raise NotYet("nothing was written to out: compute the addresses, tl.load, and tl.store at the end")


def check_axpy(axpy_kernel: Any) -> None:
    """Exercise 17.1: out = a x + y."""
    rng = np.random.default_rng(1)
    for n, BLOCK in ((16, 16), (64, 16), (37, 16)):
        (x, x_memory), (y, y_memory) = (_between_bands(rng.standard_normal(n)) for _ in range(2))
        out, memory = _between_bands(np.full(n, MARK))
        too_far = _run(axpy_kernel, -(-n // BLOCK), (x, y, out), (2.5, n), BLOCK, x=x_memory, y=y_memory)
        _untouched(out)
        call = f"with n = {n} and BLOCK = {BLOCK}"
        if _written_outside(memory):
            raise NotYet(f"{call} the kernel wrote beyond the end of out: tl.store needs mask=i < n")
        expected = 2.5 * x + y
        if not np.allclose(out, expected, rtol=1e-5):
            bad = np.nonzero(~np.isclose(out, expected, rtol=1e-5))[0]
            i = int(bad[0])
            hint = "out = a x + y"
            if out[i] == MARK:
                hint = "it was not written: program pid owns the elements pid * BLOCK + tl.arange(0, BLOCK)"
            elif np.isclose(out[i], x[i] + y[i]):
                hint = "a is missing"
            raise NotYet(f"{call} element {i} is {out[i]:.6g}, expected {expected[i]:.6g}: {hint}")
        if too_far:
            raise NotYet(f"{call} the kernel reads beyond the end of {too_far[0]}: tl.load needs "
                         "mask=i < n too, for what stands there is somebody else's or no memory at all")  # fmt: skip
    print("axpy_kernel: right, and it stays inside its arrays.")


def check_row_softmax(softmax_kernel: Any) -> None:
    """Exercise 17.2: softmax of rows, a program each."""
    rng = np.random.default_rng(2)
    cases = ((3, 16, 16, 0.0), (5, 11, 16, 0.0), (4, 11, 16, -50.0), (2, 16, 16, 500.0))
    for rows, C, BLOCK, shift in cases:
        x, x_memory = _between_bands(rng.standard_normal((rows, C)) + shift)
        out, memory = _between_bands(np.full((rows, C), MARK))
        too_far = _run(softmax_kernel, rows, (x, out), (C,), BLOCK, x=x_memory)
        _untouched(out)
        call = f"with {rows} rows of C = {C}, BLOCK = {BLOCK}" + (f", all scores near {shift:g}" if shift else "")
        if _written_outside(memory):
            raise NotYet(f"{call} the kernel wrote beyond the end of out: tl.store needs mask=columns < C")
        e = np.exp(x.astype("float64") - x.max(1, keepdims=True))
        expected = e / e.sum(1, keepdims=True)
        if not np.allclose(out, expected, rtol=1e-4, atol=1e-7):
            i = int(np.nonzero(~np.isclose(out, expected, rtol=1e-4, atol=1e-7).all(1))[0][0])
            hint = "e^(x - max) / its sum, in each row; row i begins at i * C"
            if (out[i] == MARK).any():
                hint = "some of it was not written: row i begins at i * C, and has C columns"
            elif C < BLOCK and out[i].sum() < 0.999:
                hint = "the columns beyond C take part in the sum: load them with other=-inf, whose exponential is 0"
            elif not np.isfinite(out[i]).all():
                hint = "e^x overflows, or NaN was loaded beyond C: subtract the row's maximum, and use other=-inf"
            raise NotYet(f"{call} row {i} sums to {out[i].sum():.6g}, and its first weight is {out[i, 0]:.6g} where "
                         f"{expected[i, 0]:.6g} was expected: {hint}")  # fmt: skip
        if too_far:
            raise NotYet(f"{call} the kernel reads beyond the end of x: tl.load needs mask=columns < C "
                         "too, for what stands there is somebody else's or no memory at all")  # fmt: skip
    print("softmax_kernel: right, for rows that do not fill the block and for large scores.")


def check_keys_of_program(keys_of_program: Callable[..., Any]) -> None:
    """Exercise 17.3: which blocks of keys a causal program sees."""
    sizes = (16, 16, 64, 64), (16, 32, 64, 64), (32, 16, 50, 50), (16, 16, 32, 96), (16, 16, 48, 16)
    for BLOCK_Q, BLOCK_K, Tq, Tk in sizes:
        for block in range(-(-Tq // BLOCK_Q)):
            sees = np.tri(Tq, Tk, Tk - Tq, dtype=bool)[block * BLOCK_Q : (block + 1) * BLOCK_Q].any(0)
            expected = [first for first in range(0, Tk, BLOCK_K) if sees[first : first + BLOCK_K].any()]
            answer = keys_of_program(block, BLOCK_Q, BLOCK_K, Tq, Tk)
            if not isinstance(answer, list | tuple | range | np.ndarray):
                raise NotYet(f"keys_of_program returned {answer!r}: return a list of numbers")
            answer = list(answer)
            if answer != expected:
                hint = "its last query i is min((block + 1) BLOCK_Q, Tq) - 1, and sees the keys up to i + Tk - Tq"
                if answer == list(range(0, Tk, BLOCK_K)):
                    hint = "these are all blocks of keys: a causal program stops early"
                elif len(answer) == len(expected) + 1:
                    hint = "one block too many: no query of this program sees a key of the last one"
                elif answer == expected[: len(answer)]:
                    hint = "too few: the last query of the program sees more; with a cache it stands at i + Tk - Tq"
                call = f"keys_of_program({block}, {BLOCK_Q}, {BLOCK_K}, {Tq}, {Tk})"
                raise NotYet(f"{call} gives {answer}, expected {expected}: {hint}")
    print("keys_of_program: right.")


def check_blocks(blocks_on_sm: Callable[..., Any]) -> None:
    """Exercise 17.4: how many blocks live on an SM."""
    from minilm.kernels.dry import blocks_per_sm

    cases = (
        (24, 4, 0, "64 warps at most: 64 // warps blocks"),
        (40, 4, 0, "registers: a warp of 32 threads takes 32 x registers, rounded up to 256; 65,536 are there"),
        (33, 4, 0, "registers: 33 x 32 = 1056, rounded up to 1280 for a warp, and 4 warps"),
        (225, 4, 65536, "registers: 225 x 32 = 7200, rounded up to 7424 for a warp, and 4 warps"),
        (64, 4, 65536, "shared memory: 228 x 1024 bytes, and each block takes its own and 1024 more"),
        (64, 4, 58112, "shared memory: 228 x 1024 bytes, and each block takes its own and 1024 more"),
        (16, 1, 0, "not more than 32 blocks, however small they are"),
        (128, 8, 75776, "shared memory: 228 x 1024 bytes, and each block takes its own and 1024 more"),
    )
    for registers, warps, shared, hint in cases:
        right = blocks_per_sm(90, registers, warps, shared)
        got = blocks_on_sm(registers, warps, shared)
        if got != right:
            raise NotYet(f"blocks_on_sm({registers}, {warps}, {shared}) gives {got!r}, expected {right}: {hint}")
    print("blocks_on_sm: right.")

"""What the checkers of chapter 17 say to right and wrong answers; in a process with TRITON_INTERPRET=1.

test_checks_17.py starts it. Each function here is a case; one that fails raises.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from checks import NotYet, chapter_17  # noqa: E402
from checks.tracing import need_triton, tracing  # noqa: E402

need_triton()

import numpy as np  # noqa: E402
import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from minilm.kernels.host import launch, pointers  # noqa: E402


def refused(check, answer, message):
    try:
        check(answer)
    except NotYet as error:
        assert re.search(message, str(error)), f"said: {error}\nwanted: {message}"
    else:
        raise AssertionError(f"{check.__name__} took a wrong answer, which should be: {message}")


@triton.jit
def axpy(x, y, out, a, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, a * tl.load(x + i, mask=i < n) + tl.load(y + i, mask=i < n), mask=i < n)


@triton.jit
def axpy_without_mask(x, y, out, a, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, a * tl.load(x + i, mask=i < n, other=0.0) + tl.load(y + i, mask=i < n, other=0.0))


@triton.jit
def axpy_that_reads_too_much(x, y, out, a, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, a * tl.load(x + i) + tl.load(y + i), mask=i < n)


@triton.jit
def axpy_without_program(x, y, out, a, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, a * tl.load(x + i, mask=i < n) + tl.load(y + i, mask=i < n), mask=i < n)


@triton.jit
def axpy_without_a(x, y, out, a, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n) + tl.load(y + i, mask=i < n), mask=i < n)


@triton.jit
def nothing(x, y, out, a, n, BLOCK: tl.constexpr):
    pass


def axpy_is_checked_for_masks_programs_and_the_factor():
    check = chapter_17.check_axpy
    check(axpy)
    refused(check, axpy_without_mask, "beyond the end")
    refused(check, axpy_that_reads_too_much, "reads beyond the end of x.*tl.load needs")
    refused(check, axpy_without_program, "was not written")
    refused(check, axpy_without_a, "a is missing")
    refused(check, nothing, "nothing was written")
    refused(check, lambda: None, "@triton.jit")


@triton.jit
def softmax(x, out, C, BLOCK: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, BLOCK)
    s = tl.load(x + row * C + columns, mask=columns < C, other=-float("inf"))
    e = tl.exp(s - tl.max(s, 0))
    tl.store(out + row * C + columns, e / tl.sum(e, 0), mask=columns < C)


@triton.jit
def softmax_with_zeros(x, out, C, BLOCK: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, BLOCK)
    s = tl.load(x + row * C + columns, mask=columns < C, other=0.0)
    e = tl.exp(s - tl.max(s, 0))
    tl.store(out + row * C + columns, e / tl.sum(e, 0), mask=columns < C)


@triton.jit
def softmax_that_reads_too_much(x, out, C, BLOCK: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, BLOCK)
    s = tl.where(columns < C, tl.load(x + row * C + columns), -float("inf"))
    e = tl.exp(s - tl.max(s, 0))
    tl.store(out + row * C + columns, e / tl.sum(e, 0), mask=columns < C)


@triton.jit
def softmax_of_rows_of_BLOCK(x, out, C, BLOCK: tl.constexpr):
    at, columns = tl.program_id(0) * BLOCK, tl.arange(0, BLOCK)
    s = tl.load(x + at + columns, mask=columns < C, other=-float("inf"))
    e = tl.exp(s - tl.max(s, 0))
    tl.store(out + at + columns, e / tl.sum(e, 0), mask=columns < C)


@triton.jit
def softmax_that_overflows(x, out, C, BLOCK: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, BLOCK)
    s = tl.load(x + row * C + columns, mask=columns < C, other=-float("inf"))
    e = tl.exp(tl.minimum(s, 60.0) if C < BLOCK else s)
    tl.store(out + row * C + columns, e / tl.sum(e, 0), mask=columns < C)


def softmax_is_checked_for_the_columns_beyond_the_edge_and_for_overflow():
    check = chapter_17.check_row_softmax
    check(softmax)
    refused(check, softmax_with_zeros, "other=-inf")
    refused(check, softmax_that_reads_too_much, "reads beyond the end of x")
    refused(check, softmax_of_rows_of_BLOCK, "row i begins at i \\* C")
    refused(check, softmax_that_overflows, "subtract the row's maximum")


def keys_are_checked_for_stopping_early_and_for_the_offset():
    check = chapter_17.check_keys_of_program

    def keys(block, BLOCK_Q, BLOCK_K, Tq, Tk, offset=True):
        last = min((block + 1) * BLOCK_Q, Tq) - 1
        return list(range(0, max(min(Tk, last + (Tk - Tq if offset else 0) + 1), 0), BLOCK_K))

    check(keys)
    check(lambda *sizes: np.array(keys(*sizes), int))
    refused(check, lambda b, Q, K, Tq, Tk: list(range(0, Tk, K)), "stops early")
    refused(check, lambda *sizes: keys(*sizes, offset=False), "i \\+ Tk - Tq")
    refused(check, lambda *sizes: None, "return a list")


def blocks_are_checked_for_each_limit():
    check = chapter_17.check_blocks

    def blocks(registers, warps, shared, warps_limit=True, shared_limit=True, reserved=1024, unit=256):
        limits = [32, 65536 // (-(-registers * 32 // unit) * unit) // warps]
        limits += [64 // warps] if warps_limit else []
        limits += [228 * 1024 // max(shared + reserved, 1)] if shared_limit else []
        return min(limits)

    check(blocks)
    refused(check, lambda *a: blocks(*a, shared_limit=False), "shared memory")
    refused(check, lambda *a: blocks(*a, warps_limit=False), "64 warps")
    refused(check, lambda *a: blocks(*a, reserved=0), "1024 more")
    refused(check, lambda *a: blocks(*a, unit=1), "rounded up")


def tracing_lists_each_access_by_program_and_leaves_masked_elements_out():
    x, y, out = np.zeros(6, "float32"), np.zeros(6, "float32"), np.zeros(6, "float32")
    with tracing(x=x, out=out) as events:
        launch(axpy, 2, *pointers(x, y, out), 1.0, 6, BLOCK=4)
    assert [(e.program[0], e.how, e.name, e.rows) for e in events] == [
        (0, "load", "x", (0, 4)),
        (0, "store", "out", (0, 4)),
        (1, "load", "x", (4, 6)),
        (1, "store", "out", (4, 6)),
    ]
    launch(axpy, 2, *pointers(x, y, out), 1.0, 6, BLOCK=4)
    assert len(events) == 4, "after the block nothing is listed"


CASES = [
    axpy_is_checked_for_masks_programs_and_the_factor,
    softmax_is_checked_for_the_columns_beyond_the_edge_and_for_overflow,
    keys_are_checked_for_stopping_early_and_for_the_offset,
    blocks_are_checked_for_each_limit,
    tracing_lists_each_access_by_program_and_leaves_masked_elements_out,
]

if __name__ == "__main__":
    for case in CASES:
        case()
        print("passed:", case.__name__)

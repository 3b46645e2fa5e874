"""AdamW over all parameters in one launch. New here: a kernel that looks up what to work on in a table of addresses.

For every element, with g its gradient at its step t (minilm.optim.adam has the derivation and the sources):

    m = b1 m + (1 - b1) g                                       c = sqrt(1 - b2^t)
    v = b2 v + (1 - b2) g^2
    p = p (1 - lr decay) - (lr c / (1 - b1^t)) m / (sqrt(v) + eps c)

A model has a hundred parameters, most of them small. A launch for each, of a few microseconds, would cost more than the
arithmetic. So all parameters are cut into blocks of BLOCK elements, and one grid has a program for each block:

    block_slot, block_first    the parameter ("slot") of a block, and its first element there    made once
    start, size                where the moments of a slot begin in the flat arrays m and v      made once
    address                    of the parameters and of their gradients                          sent when it changes
    numbers                    b1, lr c / (1 - b1^t), ... of each slot                           sent at each step

A slot has its own numbers, so groups, decay for matrices only and different ages take no further launch. A gradient
that is missing has the address 0, and the programs of its parameter do nothing. The corrections are computed on the
host in float64, as the NumPy rule does.

Cost: for float32, 16 bytes read and 12 written for each element, about 12 operations: a third of an operation a byte.
The step takes the time that memory takes. No atomics and no order of sums: the same bits each time.

What it does not do: parameters of two dtypes in one launch (one for each), and gradient clipping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import triton
import triton.language as tl

from minilm.kernels.host import Ptr, cdiv, launch, module_of, pointers, tile
from minilm.kernels.operands import contiguous
from minilm.kernels.static_report import StaticCase

NUMBERS = 7
"""Numbers of a slot: b1, 1 - b1, b2, 1 - b2, eps c, lr c / (1 - b1^t), 1 - lr decay."""


@triton.jit
def adamw_kernel(
    address_ptr,  # (2, S) int64: where the parameters and their gradients are
    start_ptr,  # (S,) int64: where the moments of a slot begin in m and v
    size_ptr,  # (S,) int64
    numbers_ptr,  # (S, 7) of the dtype of m and v
    block_slot_ptr,  # (blocks,) int32
    block_first_ptr,  # (blocks,) int64
    m_ptr,
    v_ptr,
    typed_ptr,  # any of the parameters: an address does not say what is there
    S,
    ALIGNED: tl.constexpr,  # are all addresses multiples of 16 bytes, and all starts of 16 elements?
    BLOCK: tl.constexpr,
):
    """One step for BLOCK elements of one parameter. Grid (blocks of all parameters,)."""
    block = tl.program_id(0)
    slot = tl.load(block_slot_ptr + block)
    p_address = tl.load(address_ptr + slot)
    g_address = tl.load(address_ptr + S + slot)
    size = tl.where(g_address == 0, 0, tl.load(size_ptr + slot))
    start = tl.load(start_ptr + slot)
    first = tl.load(block_first_ptr + block)
    p_ptr = p_address.to(typed_ptr.dtype)
    g_ptr = g_address.to(typed_ptr.dtype)
    if ALIGNED:  # what Triton reads off an argument by itself, it has to be told of a loaded one
        p_ptr, g_ptr = tl.multiple_of(p_ptr, 16), tl.multiple_of(g_ptr, 16)
        start, size = tl.multiple_of(start, 16), tl.multiple_of(size, 16)
    first = tl.multiple_of(first, BLOCK)

    numbers_ptr += slot * 7
    b1, one_minus_b1 = tl.load(numbers_ptr), tl.load(numbers_ptr + 1)
    b2, one_minus_b2 = tl.load(numbers_ptr + 2), tl.load(numbers_ptr + 3)
    eps, rate, keep = tl.load(numbers_ptr + 4), tl.load(numbers_ptr + 5), tl.load(numbers_ptr + 6)

    element = first + tl.arange(0, BLOCK)
    inside = element < size
    m_ptr += start + element
    v_ptr += start + element
    g = tl.load(g_ptr + element, inside).to(m_ptr.dtype.element_ty)
    p = tl.load(p_ptr + element, inside).to(m_ptr.dtype.element_ty)
    m = b1 * tl.load(m_ptr, inside) + one_minus_b1 * g
    v = b2 * tl.load(v_ptr, inside) + one_minus_b2 * (g * g)
    p = p * keep - rate * (m / (tl.sqrt(v) + eps))
    tl.store(m_ptr, m, inside)
    tl.store(v_ptr, v, inside)
    tl.store(p_ptr + element, p.to(typed_ptr.dtype.element_ty), inside)


Settings = tuple[int, float, tuple[float, float], float, float]
"""Of one parameter: step (from 1), lr, betas, eps, weight_decay."""


def adamw(starts: Sequence[int], sizes: Sequence[int], m: Any, v: Any) -> Callable[..., None]:
    """Prepare the launch for parameters of these sizes, whose moments begin at `starts` in the 1-D arrays m and v.

    Returns:
        update(parameters, gradients, settings): one step, in place. All three are sequences with an element for each
        parameter; where the gradient is None, nothing happens (the settings are not looked at). A gradient has the
        shape and dtype of its parameter. Parameters of one dtype take one launch.
    """
    home, S = module_of(m), len(sizes)
    block = tile("adamw")["BLOCK"]
    count = [cdiv(size, block) for size in sizes]
    block_slot = home.asarray(np.repeat(np.arange(S, dtype=np.int32), count))
    firsts = [np.arange(n, dtype=np.int64) * block for n in count]
    block_first = home.asarray(np.concatenate([np.zeros(0, dtype=np.int64), *firsts]))
    start, size = (home.asarray(np.array(numbers, dtype=np.int64)) for numbers in (starts, sizes))
    sent: dict[str, tuple[np.ndarray, Any]] = {}  # by dtype: the addresses of the last step, on both sides

    def update(
        parameters: Sequence[Any], gradients: Sequence[Any | None], settings: Sequence[Settings | None]
    ) -> None:
        # Copies of what is not in C order live until the launch has been made, and parameters are copied back.
        values = [contiguous(parameter) for parameter in parameters]
        slopes = [None if gradient is None else contiguous(gradient) for gradient in gradients]
        rows = np.zeros((S, NUMBERS))
        for slot, chosen in enumerate(settings):
            if slopes[slot] is not None and chosen is not None:
                rows[slot] = _numbers(*chosen)
        numbers = home.asarray(rows.astype(m.dtype))
        for dtype in sorted({value.dtype.name for value in values}):
            address = np.zeros((2, S), dtype=np.int64)
            for slot, (value, slope) in enumerate(zip(values, slopes, strict=True)):
                if slope is not None and value.dtype.name == dtype:
                    address[:, slot] = Ptr(value).data_ptr(), Ptr(slope).data_ptr()
            if dtype not in sent or not np.array_equal(sent[dtype][0], address):
                sent[dtype] = address, home.asarray(address.copy())
            typed = next(value for value in values if value.dtype.name == dtype)
            launch(
                adamw_kernel,
                len(block_slot),
                *pointers(sent[dtype][1], start, size, numbers, block_slot, block_first, m, v, typed),
                S,
                ALIGNED=not (address % 16).any() and not any(at % 16 for at in (*starts, *sizes)),
                **tile("adamw"),
            )
        for parameter, value in zip(parameters, values, strict=True):
            if value is not parameter:
                parameter[...] = value

    return update


def _numbers(
    step: int, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> tuple[float, ...]:
    """What the rule needs of a slot's settings, with the bias corrections moved into the numbers."""
    b1, b2 = betas
    c = math.sqrt(1 - b2**step)
    return b1, 1 - b1, b2, 1 - b2, eps * c, lr * c / (1 - b1**step), 1 - lr * weight_decay


def static_cases() -> Iterator[StaticCase]:
    """The parameters of a layer of width C: four matrices (C, 3C), (C, C), (C, 4C), (4C, C), and eight vectors."""

    def shapes(C: int) -> list[tuple[int, ...]]:
        return [(3 * C, C), (C, C), (4 * C, C), (C, 4 * C), (3 * C,), (C,), (4 * C,), (C,), *[(C,)] * 4]

    def run(dtype: str, C: int) -> None:
        kind = "uint16" if dtype == "bfloat16" else dtype
        values, gradients = ([np.zeros(shape, dtype=kind) for shape in shapes(C)] for _ in range(2))
        sizes = [value.size for value in values]
        starts = [sum(sizes[:slot]) for slot in range(len(sizes))]
        m, v = (np.zeros(sum(sizes), dtype="float32") for _ in range(2))
        settings = [(1, 1e-3, (0.9, 0.999), 1e-8, 0.1)] * len(sizes)
        adamw(starts, sizes, m, v)(values, gradients, settings)

    yield StaticCase(
        name="AdamW",
        kernels=("adamw_kernel",),
        sizes={"C": 1024},
        counted={"C": 64},
        run=run,
        flops=lambda C: 12 * (12 * C * C + 13 * C),
        bytes=lambda itemsize, C: (3 * itemsize + 16) * (12 * C * C + 13 * C),
        dtypes=("float32", "float16", "bfloat16"),
        tensor_cores=False,
    )

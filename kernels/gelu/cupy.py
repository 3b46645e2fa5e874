"""GELU as two kernels of CuPy's own making. New here: a line of C instead of a chain of array operations.

    forward   y = x Φ(x)
    backward  dx = g (Φ(x) + x φ(x)),   Φ and φ as in minilm.functional.activations

The textbook body is a chain of array operations, and on a device each of them is a kernel that reads its operands from
memory and writes its result there. `cupy.ElementwiseKernel` makes one kernel of the whole formula: it is handed the
line that computes one element, and writes the loop, the indices and the launch around it.

Cost, for N elements in the tanh form: the textbook body launches 8 kernels forward and 10 backward, this file one each;
they read N and write N elements forward, read 2 N and write N backward, which is the least there is. Some twenty flops
an element: all of it waits for memory. Kept for the backward is x alone; Φ is computed again, cheaper than read.

float16 is computed in float. What this file does not do: fuse GELU with the product before it, whose result would then
never see memory (minilm.kernels.matmul does that).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import cupy

FORWARD = {
    "none": "y = (wide)0.5 * x_ * (1 + erf(x_ * (wide)0.7071067811865476));",  # 1/sqrt(2)
    "tanh": """
        const wide u = (wide)0.7978845608028654 * x_ * (1 + (wide)0.044715 * x_ * x_);  /* sqrt(2/pi) */
        y = (wide)0.5 * x_ * (1 + tanh(u));
    """,
}
BACKWARD = {
    "none": """
        const wide cdf = (wide)0.5 * (1 + erf(x_ * (wide)0.7071067811865476));
        const wide density = (wide)0.3989422804014327 * exp((wide)-0.5 * x_ * x_);  /* 1/sqrt(2 pi) */
        dx = g_ * (cdf + x_ * density);
    """,
    "tanh": """
        const wide t = tanh((wide)0.7978845608028654 * x_ * (1 + (wide)0.044715 * x_ * x_));
        const wide slope = (wide)0.7978845608028654 * (1 + (wide)0.134145 * x_ * x_);  /* du/dx */
        dx = (wide)0.5 * g_ * (1 + t + x_ * (1 - t * t) * slope);
    """,
}
WIDE_X = "const wide x_ = x;"
WIDE_X_G = "const wide x_ = x, g_ = g;"


@functools.cache
def _kernels(approximate: str, dtype: str) -> tuple[Any, Any]:
    wide = f"typedef {'double' if dtype == 'float64' else 'float'} wide;"
    forward = cupy.ElementwiseKernel(
        "T x", "T y", WIDE_X + FORWARD[approximate], f"gelu_{approximate}_forward", preamble=wide
    )
    backward = cupy.ElementwiseKernel(
        "T x, T g", "T dx", WIDE_X_G + BACKWARD[approximate], f"gelu_{approximate}_backward", preamble=wide
    )
    return forward, backward


def gelu(x: Any, approximate: str = "none") -> tuple[Any, Callable[[Any], Any]]:
    """(y, vjp) for `minilm.functional.gelu`; x of any shape, float16, float32 or float64, in CuPy's memory."""
    if approximate not in FORWARD:
        raise ValueError(f"approximate is 'none' (exact) or 'tanh', got {approximate!r}")
    forward, backward = _kernels(approximate, x.dtype.name)
    return forward(x), lambda g: backward(x, g)

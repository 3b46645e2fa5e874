"""SwiGLU in blocks on our own threads: y = gate σ(gate) value, element by element.

New against the textbook body: the steps are in place, on blocks, and shared out; the textbook makes an array for each
of a dozen. Kept for the backward pass are gate, value and s = σ(gate), from which

    dvalue = g (gate s),   dgate = g value (s + gate s (1 - s))

Cost: 6 steps forward, the exponential the longest of them, and 8 backward; forward reads two arrays and writes two,
backward reads four and writes two.

What it does not do: float16 (the textbook body serves).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm.kernels.threads import blocks, parallel, pieces

BLOCK = 1 << 18
"""Elements in a block: calls long enough that two threads seldom meet between them."""

WORK = 6
"""Steps on each element, for `pieces`."""


def swiglu(gate: np.ndarray, value: Any) -> tuple[np.ndarray, Any]:
    """minilm.functional.swiglu: the output and the joint vjp of gate and value, in the shape of the output."""
    dtype = gate.dtype
    gate, value = np.broadcast_arrays(gate, np.asarray(value, dtype=dtype))
    shape = gate.shape
    C = shape[-1] if shape else 1
    N = math.prod(shape[:-1])
    gate, value = gate.reshape(N, C), value.reshape(N, C)
    s, y = np.empty((N, C), dtype), np.empty((N, C), dtype)
    height, parts = max(1, BLOCK // max(C, 1)), pieces(N, C * WORK)

    def forward(i: int) -> None:
        for at in blocks(parts[i], height):
            part, out = s[at], y[at]
            np.negative(gate[at], out=part)
            np.exp(part, out=part)
            part += 1
            np.divide(1, part, out=part)
            np.multiply(gate[at], part, out=out)
            out *= value[at]

    with np.errstate(over="ignore"):  # 1 / infinity is the right sigmoid
        parallel(forward, len(parts))

    def vjp(g: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        g = g.reshape(N, C)
        dgate, dvalue = (np.empty((N, C), dtype) if need else None for need in needs)

        def backward(i: int) -> None:
            for at in blocks(parts[i], height):
                silu = np.multiply(gate[at], s[at])
                if dgate is not None:
                    slope = np.subtract(1, s[at], out=dgate[at])
                    slope *= silu
                    slope += s[at]
                    slope *= value[at]
                    slope *= g[at]
                if dvalue is not None:
                    np.multiply(g[at], silu, out=dvalue[at])

        parallel(backward, len(parts))
        return tuple(None if d is None else d.reshape(shape) for d in (dgate, dvalue))

    return y.reshape(shape), vjp

"""Activations in Triton: functions of a tile in float32, without a kernel or a launch of their own.

    gelu_tanh    y = z (1 + tanh u) / 2 = z sigmoid(2 u),   u = sqrt(2/pi) (z + 0.044715 z^3)
    gelu         y = z (1 + erf(z / sqrt 2)) / 2
    silu         y = z sigmoid(z)
    relu         y = max(z, 0)

ACTIVATION is known when the kernel is compiled, so only the branch that is taken is in the machine code. Cost:
some ten to thirty flops an element, and no memory traffic.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x), by the side on which e^-|x| cannot overflow."""
    e = tl.exp(-tl.abs(x))  # cannot overflow
    return tl.where(x >= 0, 1.0, e) / (1 + e)


@triton.jit
def activated(z, ACTIVATION: tl.constexpr):
    """f(z); "none" is z itself."""
    if ACTIVATION == "gelu_tanh":
        y = z * sigmoid(1.5957691216057308 * z * (1 + 0.044715 * z * z))  # 2 sqrt(2/pi)
    elif ACTIVATION == "gelu":
        y = 0.5 * z * (1 + tl.erf(z * 0.7071067811865476))
    elif ACTIVATION == "silu":
        y = z * sigmoid(z)
    elif ACTIVATION == "relu":
        y = tl.where(z < 0, 0.0, z)
    else:
        y = z
    return y


@triton.jit
def derivative(z, ACTIVATION: tl.constexpr):
    """f'(z)."""
    if ACTIVATION == "gelu_tanh":
        s = sigmoid(1.5957691216057308 * z * (1 + 0.044715 * z * z))
        d = s + z * s * (1 - s) * (1.5957691216057308 * (1 + 0.134145 * z * z))
    elif ACTIVATION == "gelu":
        density = 0.3989422804014327 * tl.exp(-0.5 * z * z)
        d = 0.5 * (1 + tl.erf(z * 0.7071067811865476)) + z * density
    elif ACTIVATION == "silu":
        s = sigmoid(z)
        d = s * (1 + z * (1 - s))
    elif ACTIVATION == "relu":
        d = tl.where(z > 0, 1.0, 0.0)
    return d

"""Activations on a block of an array that is in the cache: the value in place, and the slope for the backward pass.

    gelu_tanh    y = z h,   h = (1 + tanh u) / 2,   u = c z + c k z³
                 y' = h + 2 u' z h (1 - h),   u' = c + 3 c k z²
    gelu         y = z Φ(z),   y' = Φ(z) + z φ(z),   φ(z) = e^(-z²/2) / sqrt(2π)
    silu         y = z h,   h = (1 + tanh(z / 2)) / 2,   y' = h + z h (1 - h)
    relu         y = max(z, 0),   y' = [z > 0]

with c = sqrt(2 / pi), k = 0.044715, y' the slope and Φ the normal distribution function. What is new here: the slope is
computed while the value is, from what both share, and kept instead of z. Backward is then one multiplication.

NumPy has no error function, so Φ comes from its tail, with u = |z| (a fitted ratio of polynomials; see `TAIL`):

    q = Φ(-u) = e^(-u²/2) A(u) / B(u),   y = max(z, 0) - u q,   y' = 1/2 ± (1/2 - q + u φ(u))      ± the sign of z

This way the exponential serves Φ and φ, and nothing cancels where z is negative and y nearly 0.

Cost: some fifteen steps on each element (gelu: 35, and 55 in float64), in a few scratch blocks that stay in the cache;
one array read and two written.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

BLOCK = 1 << 17
"""Elements in a block. Half as many would fit the L2 cache better, but between two calls of NumPy a thread needs
Python's lock, and short calls of two threads wait for it more than they compute."""

WORK = 20
"""Steps on each element, for `minilm.kernels.threads.pieces`; a hyperbolic tangent is worth five."""


TAIL: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "f": (
        (0.5, 0.4324202998, 0.1789105371, 0.03918228451, 0.003902563827),
        (1.0, 1.662725452, 1.184480618, 0.4580579395, 0.09822410913, 0.00978209935),
    ),
    "d": (
        (
            0.5, 0.678039631499630211, 0.456986312384850614, 0.19343708550126468, 0.0555445292851693711,
            0.0110236207916706358, 0.00147686508433890202, 0.000122692319589746466, 4.89148680098113942e-6,
        ),
        (
            1.0, 2.1539638238021373, 2.13258710430895698, 1.27741210446916859, 0.511894395503617666,
            0.142906758850127221, 0.0279396711753867464, 0.00371421266085906123, 0.000307544042826621141,
            0.0000122611390654804648,
        ),
    ),
}  # fmt: skip
"""For float32 and float64: the coefficients of A and B, from the lowest power up, with A(u) / B(u) = e^(u²/2) Φ(-u).

Fitted for 0 <= u <= FURTHEST in 60 digits at Chebyshev's points: the least squares of (A - B f) / (B f), linear in the
coefficients when the B in the denominator is the one of the round before, weighted from round to round by the error
(Lawson's rule) until all its peaks are equal. The relative error is 4e-9, and 7e-17. All coefficients are positive:
nothing cancels."""

FURTHEST = 12.0
"""A larger |z| counts as 12 in the tail: Φ(-12) is 2e-33, and smaller numbers would leave the range of float32."""


def _polynomial(coefficients: tuple[float, ...], u: np.ndarray) -> np.ndarray:
    """Horner's scheme, in one new block."""
    y = u * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        y += c
        y *= u
    y += coefficients[0]
    return y


def _times_gate(z: np.ndarray, h: np.ndarray, inner: np.ndarray | None, slope: np.ndarray) -> None:
    """z becomes z h, and slope h + inner z h (1 - h) (inner: None is 1)."""
    z *= h
    np.subtract(1, h, out=slope)
    slope *= z
    if inner is not None:
        slope *= inner
    slope += h


def gelu_tanh(z: np.ndarray, slope: np.ndarray) -> None:
    """GPT-2's GELU: z becomes y, slope dy/dz."""
    c, k = math.sqrt(2 / math.pi), 0.044715
    h = z * z
    inner = h * (6 * c * k)
    inner += 2 * c  # 2 u'
    h *= c * k
    h += c
    h *= z  # u
    np.tanh(h, out=h)
    h *= 0.5
    h += 0.5
    _times_gate(z, h, inner, slope)


def gelu(z: np.ndarray, slope: np.ndarray) -> None:
    """The exact GELU, BERT's: z becomes y, slope dy/dz."""
    u = z.clip(-FURTHEST, FURTHEST)  # four times as fast as np.minimum with a number
    np.abs(u, out=u)
    above, below = TAIL[z.dtype.char]
    q = _polynomial(above, u)
    q /= _polynomial(below, u)
    e = u * u
    e *= -0.5
    np.exp(e, out=e)
    q *= e
    e *= 1 / math.sqrt(2 * math.pi)
    e *= u  # u φ(u)
    e -= q
    e += 0.5
    np.copysign(e, z, out=slope)
    slope += 0.5
    q *= u
    z.clip(0, math.inf, out=z)
    z -= q


def silu(z: np.ndarray, slope: np.ndarray) -> None:
    """z becomes y, slope dy/dz."""
    h = z * 0.5
    np.tanh(h, out=h)
    h *= 0.5
    h += 0.5
    _times_gate(z, h, None, slope)


def relu(z: np.ndarray, slope: np.ndarray) -> None:
    """z becomes y, slope dy/dz."""
    np.greater(z, 0, out=slope, casting="unsafe")
    z.clip(0, math.inf, out=z)


ACTIVATIONS: dict[str, Callable[[np.ndarray, np.ndarray], None]] = {
    "gelu_tanh": gelu_tanh,
    "gelu": gelu,
    "silu": silu,
    "relu": relu,
}
"""From an activation's name to its function of a block."""

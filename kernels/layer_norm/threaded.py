"""Layer norm on rows of C numbers, in as few passes as NumPy allows: outer products and sums are left to the BLAS.

    x̂ = (x - μ) r,  r = 1 / sqrt(mean((x - μ)²) + ε),  y = w x̂ + b

New against the textbook body: x̂ is never made. A pass over an array takes about as long whatever it computes, and a
product of an (N, 2) and a (2, C) matrix is one pass, which writes the sum of two outer products. So y takes four,

    y = (r wᵀ) ∘ x + [-μ r, 1] [w; b]                                 ∘ is element by element, 1 a column of ones

and kept for the backward pass are x itself and a few numbers a row. There, sums over a row (of a = g w) and over
all rows are products of a matrix and a vector:

    A = g w,   D = (g ∘ x) w,   e = r (r D - μ r A) / C               r A / C = mean(a) r,   e = mean(a x̂) r
    dx = (r wᵀ) ∘ g - (r e) ∘ x - (r A / C - μ r e)
    dw = rᵀ (g ∘ x) - (μ r)ᵀ g,   db = 1ᵀ g

The variance is mean(x²) - μ² where that costs less than a bit, that is where no |μ| is above the deviation; else it is
that of x - μ.

Cost: forward reads x and writes y, N C numbers each, 8 flops on each element; backward reads x and g and writes dx, 14
flops. Each in one section: the threads share out the rows, and each adds up its own part of dw and db. Handing over
pays only for large arrays, as a thread that finds Python's lock taken between two short calls of NumPy goes to sleep.

What it does not do: float16 (the textbook body serves).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm.kernels.threads import blocks, parallel, pieces

BLOCK = 1 << 18
"""Elements in a block: calls long enough that two threads seldom meet between them, and 1 MB of scratch in float32."""

WORK_FORWARD, WORK_BACKWARD = 1, 2
"""Steps on each element, for `pieces`: fewer than there are, since these calls are short."""


def as_rows(x: np.ndarray, normalized_shape: Any, **parameters: np.ndarray | None) -> np.ndarray:
    """x as (N, C), C the product of `normalized_shape`, after checking that the shapes fit."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"normalized_shape {shape} must be the last axes of x {x.shape}")
    for name, parameter in parameters.items():
        if parameter is not None and parameter.shape != shape:
            raise ValueError(f"{name} {parameter.shape} must have the shape normalized_shape {shape}")
    return x.reshape(math.prod(x.shape[: x.ndim - len(shape)]), math.prod(shape))


def layer_norm(
    x: np.ndarray,
    normalized_shape: Any,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> tuple[np.ndarray, Any]:
    """minilm.functional.layer_norm: the output and the joint vjp of x, weight and bias."""
    rows = as_rows(x, normalized_shape, weight=weight, bias=bias)
    (N, C), dtype, shape = rows.shape, rows.dtype, x.shape
    weight_shape, bias_shape = ((C,) if p is None else p.shape for p in (weight, bias))
    factors = np.zeros((3, C), dtype)  # w, w, b
    factors[:2] = 1 if weight is None else weight.reshape(-1)
    if bias is not None:
        factors[2] = bias.reshape(-1)
    columns = np.zeros((4, N), dtype)  # r, 0, -μ r, 1. The zeros: NumPy gives the BLAS no product of depth 1.
    columns[3] = 1
    y = np.empty((N, C), dtype)
    average = np.full(C, 1 / max(C, 1), dtype)
    height = max(1, BLOCK // max(C, 1))

    def normalize(piece: slice) -> None:
        for at in blocks(piece, height):
            part, out, (r, _, minus_mean_r, _) = rows[at], y[at], columns[:, at]
            mean = np.matmul(part, average)
            np.vecdot(part, part, out=r)
            r *= 1 / max(C, 1)
            square = mean * mean
            r -= square
            if not (square <= r).all():
                centred = part - mean[:, None]
                np.vecdot(centred, centred, out=r)
                r *= 1 / max(C, 1)
            r += eps
            np.sqrt(r, out=r)
            np.reciprocal(r, out=r)
            np.multiply(mean, r, out=minus_mean_r)
            np.negative(minus_mean_r, out=minus_mean_r)
            np.matmul(columns[:2, at].T, factors[:2], out=out)
            out *= part
            out += np.matmul(columns[2:, at].T, factors[1:])

    parts = pieces(N, C * WORK_FORWARD)
    parallel(lambda i: normalize(parts[i]), len(parts))

    def vjp(g: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        g = g.reshape(N, C)
        dx = np.empty((N, C), dtype) if needs[0] else None
        parts = pieces(N, C * WORK_BACKWARD)
        sums = np.zeros((len(parts), 2, C), dtype)  # dweight and dbias of each piece

        def differentiate(i: int) -> None:
            for at in blocks(parts[i], height):
                g_part, part, (r, _, minus_mean_r, _) = g[at], rows[at], columns[:, at]
                product = g_part * part
                if needs[1] or needs[2]:
                    sums[i] += np.matmul(columns[2:, at], g_part)
                    sums[i, 0] += np.matmul(r, product)
                if dx is None:
                    continue
                w, r_over_C = factors[0], r * (1 / C)
                q, e = np.matmul(g_part, w), np.matmul(product, w)
                e *= r
                e += minus_mean_r * q
                e *= r_over_C
                q *= r_over_C
                q += minus_mean_r * e
                e *= r
                d = np.matmul(columns[:2, at].T, factors[:2], out=dx[at])
                d *= g_part
                np.multiply(part, e[:, None], out=product)
                d -= product
                d -= q[:, None]

        parallel(differentiate, len(parts))
        dweight, dbias = sums[0]
        for more in sums[1:]:
            dweight += more[0]
            dbias += more[1]
        return (
            None if dx is None else dx.reshape(shape),
            dweight.reshape(weight_shape) if needs[1] else None,
            dbias.reshape(bias_shape) if needs[2] else None,
        )

    return y.reshape(shape), vjp

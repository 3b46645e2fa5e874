"""RMS norm of rows of C numbers, in as few passes as NumPy allows: layer norm (see there) without the mean.

    y = w s r,  r = 1 / sqrt(mean(s²) + ε);  s = x, or s = x + residual

    y = (r wᵀ) ∘ s                                                       ∘ is element by element
    ds = (r wᵀ) ∘ g - (r³ D / C) ∘ s + g_s,   D = (g ∘ s) w,   dw = rᵀ (g ∘ s)

New against the textbook body: s r is never made, products of two vectors and sums over rows are left to the BLAS, and
kept are s and one number a row. g_s is the cotangent of s from further along the residual stream.

Cost: forward reads s and writes y, 4 flops on each element; backward reads s and g (and g_s) and writes ds, 9 flops.

What it does not do: float16 (the textbook body serves).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.kernels.layer_norm.threaded import BLOCK, WORK_BACKWARD, WORK_FORWARD, as_rows
from minilm.kernels.threads import blocks, parallel, pieces


def rms_norm(
    x: np.ndarray, normalized_shape: Any, weight: np.ndarray | None = None, eps: float | None = None
) -> tuple[np.ndarray, Any]:
    """minilm.functional.rms_norm: the output and the joint vjp of x and weight."""
    rows = as_rows(x, normalized_shape, weight=weight)
    y, backward = _rms_norm(rows, None, weight, eps)
    shape = x.shape

    def vjp(g: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        dx, dweight = backward(g, None, *needs)
        return None if dx is None else dx.reshape(shape), dweight

    return y.reshape(shape), vjp


def add_rms_norm(
    x: np.ndarray, residual: np.ndarray, weight: np.ndarray, eps: float | None = None
) -> tuple[tuple[np.ndarray, np.ndarray], Any]:
    """minilm.functional.add_rms_norm: (y, s), and the joint vjp of x, residual and weight."""
    if x.shape != residual.shape:
        raise ValueError(f"x {x.shape} and residual {residual.shape} must have one shape")
    rows = as_rows(x, weight.shape, weight=weight)
    s = np.empty(rows.shape, rows.dtype)
    y, backward = _rms_norm(s, (rows, residual.reshape(rows.shape)), weight, eps)
    shape = x.shape

    def vjp(g: tuple[np.ndarray, np.ndarray], needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        ds, dweight = backward(*g, needs[0] or needs[1], needs[2])
        ds = None if ds is None else ds.reshape(shape)
        return ds if needs[0] else None, ds if needs[1] else None, dweight

    return (y.reshape(shape), s.reshape(shape)), vjp


def _rms_norm(
    s: np.ndarray, terms: tuple[np.ndarray, np.ndarray] | None, weight: np.ndarray | None, eps: float | None
) -> tuple[np.ndarray, Any]:
    """The output and the backward pass for rows s (N, C), which are written first where `terms` are to be added."""
    (N, C), dtype = s.shape, s.dtype
    eps = float(np.finfo(dtype).eps if eps is None else eps)
    factors = np.ones((2, C), dtype)  # w, and whatever the zeros are multiplied by
    factors[0] = 1 if weight is None else weight.reshape(-1)
    weight_shape = None if weight is None else weight.shape
    columns = np.zeros((2, N), dtype)  # r, 0: NumPy gives the BLAS no product of depth 1
    y = np.empty((N, C), dtype)
    height = max(1, BLOCK // max(C, 1))

    def normalize(piece: slice) -> None:
        for at in blocks(piece, height):
            part, out, r = s[at], y[at], columns[0, at]
            if terms is not None:
                np.add(terms[0][at], terms[1][at], out=part)
            np.vecdot(part, part, out=r)
            r *= 1 / max(C, 1)
            r += eps
            np.sqrt(r, out=r)
            np.reciprocal(r, out=r)
            np.matmul(columns[:, at].T, factors, out=out)
            out *= part

    parts = pieces(N, C * WORK_FORWARD)
    parallel(lambda i: normalize(parts[i]), len(parts))

    def backward(
        g: np.ndarray, g_s: np.ndarray | None, need_s: bool, need_weight: bool
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        g, g_s = g.reshape(N, C), None if g_s is None else g_s.reshape(N, C)
        ds = np.empty((N, C), dtype) if need_s else None
        parts = pieces(N, C * WORK_BACKWARD)
        sums = np.zeros((len(parts), C), dtype)  # dweight of each piece

        def differentiate(i: int) -> None:
            for at in blocks(parts[i], height):
                g_part, part, r = g[at], s[at], columns[0, at]
                product = g_part * part
                if need_weight:
                    sums[i] += np.matmul(r, product)
                if ds is None:
                    continue
                e = np.matmul(product, factors[0])
                e *= 1 / C
                e *= r
                e *= r
                e *= r
                d = np.matmul(columns[:, at].T, factors, out=ds[at])
                d *= g_part
                np.multiply(part, e[:, None], out=product)
                d -= product
                if g_s is not None:
                    d += g_s[at]

        parallel(differentiate, len(parts))
        if weight_shape is None or not need_weight:
            return ds, None
        dweight = sums[0]
        for more in sums[1:]:
            dweight += more
        return ds, dweight.reshape(weight_shape)

    return y, backward

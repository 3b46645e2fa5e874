"""The fast CPU path of the GRU: a thread takes its rows through all steps.

    r, z = s(a_r), s(a_z)    q = W_hn h_(t-1) + b_hn    n = tanh(W_in x_t + b_in + r * q)    h_t = n + z * (h_(t-1) - n)

with s(a) = (1 + tanh(a / 2)) / 2, a_r and a_z as in minilm.functional.gru, which derives the backward:

    da_n = dh * (1 - z) (1 - n^2)          dq   = da_n * r
    da_r = dq * q (1 - r)                  da_z = dh * (h_(t-1) - n) z (1 - z)
    dh   = dh * z + W_hhᵀ (da_r, da_z, dq)

New here is `minilm.kernels.rnn.sequence` alone. What a step keeps stands as r, z, q, n. Going back, W_hh sees
(da_r, da_z, dq) and W_ih sees (da_r, da_z, da_n): two arrays, each of them one matrix for the products over all steps.

Cost, beside the products: for each hidden unit, row and step 4 numbers kept and the output, about 20
operations forward; 6 numbers written and about 25 operations backward.

What it does not do: float16 (the textbook body does).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minilm.kernels.rnn.sequence import Sequence, StepProduct, check_recurrent


def gru(
    x: np.ndarray,
    h0: np.ndarray,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray | None = None,
    bias_hh: np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[tuple[np.ndarray, ...], Any]:
    """(output, h_T) and their joint vjp; arguments and errors as minilm.functional.gru."""
    check_recurrent(3, x, {"h0": h0}, weight_ih, weight_hh, bias_ih, bias_hh)
    layer = Sequence(3, x, h0, weight_ih, weight_hh, reverse)
    T, B, _, H = layer.sizes
    h = layer.h
    kept = [np.empty((T, 4, at.stop - at.start, H), dtype=x.dtype) for at in layer.cut]

    def forward(k: int, at: slice, projected: Iterator[np.ndarray], product: StepProduct) -> None:
        bias = np.zeros_like(kept[k][0])  # of r, z, q, n
        if bias_ih is not None:
            bias[[0, 1, 3]] += bias_ih.reshape(3, 1, H)
        if bias_hh is not None:
            bias[:3] += bias_hh.reshape(3, 1, H)
        for s, x_t, h_before, h_t in zip(kept[k], projected, h[:-1, at], h[1:, at], strict=True):
            r, z, q, n = s
            np.add(product(h_before), bias[:3], out=s[:3])
            s[:2] += x_t[:2]
            s[:2] *= 0.5
            np.tanh(s[:2], out=s[:2])
            s[:2] *= 0.5
            s[:2] += 0.5
            np.multiply(r, q, out=n)
            n += x_t[2]
            n += bias[3]
            np.tanh(n, out=n)
            np.subtract(h_before, n, out=h_t)
            h_t *= z
            h_t += n

    output = layer.forward(forward)

    def vjp(cotangents: tuple[np.ndarray, ...], needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        dy, dh_T = cotangents
        da, da_hh = np.empty((T, B, 3, H), dtype=x.dtype), np.empty((T, B, 3, H), dtype=x.dtype)
        dh0 = dh_T.copy()

        def backward(k: int, at: slice, dy: Iterator[np.ndarray], product: StepProduct) -> None:
            dh = dh0[at]
            d, update = np.empty_like(kept[k][0]), np.empty_like(dh)
            dr, dz, dq, dn = d
            for s, h_before, dy_t, da_t, da_hh_t in zip(
                kept[k][::-1],
                h[-2::-1, at],
                dy,
                da[::-1, at].swapaxes(1, 2),
                da_hh[::-1, at].swapaxes(1, 2),
                strict=True,
            ):
                r, z, q, n = s
                dh += dy_t
                np.subtract(1, s[:2], out=d[:2])
                np.multiply(n, n, out=dn)
                np.subtract(1, dn, out=dn)
                dn *= dz
                dn *= dh
                np.multiply(dn, r, out=dq)
                dr *= dq
                dr *= q
                np.subtract(h_before, n, out=update)
                dz *= update
                dh *= z
                dz *= dh
                da_hh_t[...] = d[:3]
                da_t[:2] = d[:2]
                da_t[2] = dn
                for part in product(da_hh_t):
                    dh += part

        layer.backward(backward, dy)
        dx, *rest = layer.gradients(da, da_hh, (needs[0], *needs[2:]))
        return dx, dh0 if needs[1] else None, *rest

    return (output, h[T].copy()), vjp

"""The fast CPU path of the LSTM: a thread takes its rows through all steps, with as few calls of NumPy as it can.

    i, f, o = s(z_i), s(z_f), s(z_o)    g = tanh(z_g)    c_t = f * c_(t-1) + i * g    h_t = o * tanh(c_t)

with s(z) = (1 + tanh(z / 2)) / 2; minilm.functional.lstm derives the backward,

    dz_f = dc * f (1 - f) c_(t-1)      dz_g = dc * i (1 - g^2)
    dz_i = dc * i (1 - i) g            dc  += dh * o (1 - tanh(c_t)^2)
    dz_o = dh * o (1 - o) tanh(c_t)

New here, on top of `minilm.kernels.rnn.sequence`, is the order in memory. Each call of NumPy has a fixed price, and
begins and ends with Python's lock, for which other threads wait: the fewer, the better. What a step keeps stands as

    f   i   o   c_(t-1)   g   tanh(c_t)

which puts side by side what one call can multiply: (f, i) by (c_(t-1), g) are the two terms of c_t; going back,
(f, i, o) (1 - (f, i, o)) by (c_(t-1), g, tanh c_t) are the factors on the left above, and 1 - (g, tanh c_t)^2 by (i, o)
those on the right. Every operand is one block of memory: NumPy would copy anything else through a buffer.

Cost, beside the products: for each hidden unit, row and step 6 numbers kept and the output, about 30
operations forward; 4 numbers written and about 30 operations backward.

What it does not do: float16 (the textbook body does).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minilm.kernels.rnn.sequence import Sequence, StepProduct, check_recurrent, summed


def lstm(
    x: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray | None = None,
    bias_hh: np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[tuple[np.ndarray, ...], Any]:
    """(output, h_T, c_T) and their joint vjp; arguments and errors as minilm.functional.lstm."""
    check_recurrent(4, x, {"h0": h0, "c0": c0}, weight_ih, weight_hh, bias_ih, bias_hh)
    layer = Sequence(4, x, h0, weight_ih, weight_hh, reverse)
    T, B, _, H = layer.sizes
    h, c_T = layer.h, np.empty_like(layer.h[0])
    kept = [np.empty((T + 1, 6, at.stop - at.start, H), dtype=x.dtype) for at in layer.cut]

    def forward(k: int, at: slice, projected: Iterator[np.ndarray], product: StepProduct) -> None:
        steps = kept[k]
        z, bias, scale = np.empty((3, *steps[0, :4].shape), dtype=x.dtype)
        terms = np.empty_like(steps[0, :2])
        bias[...] = summed(4, bias_ih, bias_hh)
        scale[...] = 0.5
        scale[2] = 1
        steps[0, 3] = c0[at]
        for s, c_t, x_t, h_before, h_t in zip(steps[:-1], steps[1:, 3], projected, h[:-1, at], h[1:, at], strict=True):
            f, i, o, _, g, tanh_c = s
            np.add(x_t, product(h_before), out=z)
            z += bias
            z *= scale
            for argument, gate in zip(z, (i, f, g, o), strict=True):
                np.tanh(argument, out=gate)
            s[:3] *= 0.5
            s[:3] += 0.5
            np.multiply(s[:2], s[3:5], out=terms)
            np.add(terms[0], terms[1], out=c_t)
            np.tanh(c_t, out=tanh_c)
            np.multiply(o, tanh_c, out=h_t)
        c_T[at] = steps[T, 3]

    output = layer.forward(forward)

    def vjp(cotangents: tuple[np.ndarray, ...], needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        dy, dh_T, dc_T = cotangents
        dz = np.empty((T, B, 4, H), dtype=x.dtype)
        dh0, dc0 = dh_T.copy(), dc_T.copy()

        def backward(k: int, at: slice, dy: Iterator[np.ndarray], product: StepProduct) -> None:
            steps, dh, dc = kept[k], dh0[at], dc0[at]
            d = np.empty_like(steps[0, :5])
            df, di, do, dg, dc_dh = d
            order = d[:4].reshape(2, 2, *dh.shape)[:, ::-1]  # i, f, g, o
            for s, dy_t, dz_t in zip(steps[-2::-1], dy, dz[::-1, at].swapaxes(1, 2), strict=True):
                np.subtract(1, s[:3], out=d[:3])
                d[:3] *= s[:3]
                d[:3] *= s[3:]
                np.multiply(s[4:], s[4:], out=d[3:])
                np.subtract(1, d[3:], out=d[3:])
                d[3:] *= s[1:3]
                dh += dy_t
                dc_dh *= dh
                dc += dc_dh
                d[:2] *= dc
                do *= dh
                dg *= dc
                dz_t.reshape(order.shape)[...] = order
                p, q, r, u = product(dz_t)
                np.add(p, q, out=dh)
                dh += r
                dh += u
                dc *= s[0]

        layer.backward(backward, dy)
        dx, *rest = layer.gradients(dz, dz, (needs[0], *needs[3:]))
        return dx, dh0 if needs[1] else None, dc0 if needs[2] else None, *rest

    return (output, h[T].copy(), c_T), vjp

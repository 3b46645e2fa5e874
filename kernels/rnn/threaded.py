"""The fast CPU path of Elman's recurrent layer: a thread takes its rows through all steps.

    z_t = W_ih x_t + b_ih + W_hh h_(t-1) + b_hh,    h_t = phi(z_t),    phi = tanh or relu
    dz_t = phi'(z_t) dh,    dh = W_hhᵀ dz_t         phi'(z_t) = 1 - h_t^2 for tanh, [h_t > 0] for relu

New here is `minilm.kernels.rnn.sequence` alone; minilm.functional.rnn derives the backward.

Cost, beside the products: for each hidden unit, row and step the output, which is all that is kept; 1 number written
backward; about 5 operations in each direction.

What it does not do: float16 (the textbook body does).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minilm.kernels.rnn.sequence import Sequence, StepProduct, check_recurrent


def rnn(
    x: np.ndarray,
    h0: np.ndarray,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray | None = None,
    bias_hh: np.ndarray | None = None,
    nonlinearity: str = "tanh",
    reverse: bool = False,
) -> tuple[tuple[np.ndarray, ...], Any]:
    """(output, h_T) and their joint vjp; arguments and errors as minilm.functional.rnn."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
    check_recurrent(1, x, {"h0": h0}, weight_ih, weight_hh, bias_ih, bias_hh)
    layer = Sequence(1, x, h0, weight_ih, weight_hh, reverse)
    T, B, _, H = layer.sizes
    h = layer.h

    def forward(k: int, at: slice, projected: Iterator[np.ndarray], product: StepProduct) -> None:
        z, bias = np.empty_like(h[0, at]), np.zeros_like(h[0, at])
        for part in (bias_ih, bias_hh):
            if part is not None:
                bias += part
        for x_t, h_before, h_t in zip(projected, h[:-1, at], h[1:, at], strict=True):
            np.add(x_t[0], product(h_before)[0], out=z)
            z += bias
            if nonlinearity == "tanh":
                np.tanh(z, out=h_t)
            else:
                z.clip(0, None, out=h_t)

    output = layer.forward(forward)

    def vjp(cotangents: tuple[np.ndarray, ...], needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        dy, dh_T = cotangents
        dz = np.empty((T, B, 1, H), dtype=x.dtype)
        dh0 = dh_T.copy()

        def backward(k: int, at: slice, dy: Iterator[np.ndarray], product: StepProduct) -> None:
            dh = dh0[at]
            for h_t, dy_t, dz_t in zip(h[:0:-1, at], dy, dz[::-1, at, 0], strict=True):
                if nonlinearity == "tanh":
                    np.multiply(h_t, h_t, out=dz_t)
                    np.subtract(1, dz_t, out=dz_t)
                else:
                    np.greater(h_t, 0, out=dz_t, casting="unsafe")
                dh += dy_t
                dz_t *= dh
                dh[...] = product(dz_t)[0]

        layer.backward(backward, dy)
        dx, *rest = layer.gradients(dz, dz, (needs[0], *needs[2:]))
        return dx, dh0 if needs[1] else None, *rest

    return (output, h[T].copy()), vjp

"""The gated recurrent unit over a whole sequence: backpropagation through time in one operation.

Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
Translation", in PyTorch's (and cuDNN's) form, where the reset gate acts after the product W_hn h, not before
it; gates in the order r, z, n. With s the logistic function and * element by element,

    r = s(W_ir x_t + b_ir + W_hr h_(t-1) + b_hr)
    z = s(W_iz x_t + b_iz + W_hz h_(t-1) + b_hz)
    q = W_hn h_(t-1) + b_hn
    n = tanh(W_in x_t + b_in + r * q)
    h_t = (1 - z) * n + z * h_(t-1)

Backward, from the last step to the first, with dy_t the cotangent of output t and dh what flows back from
later steps (at t = T: the cotangent of h_T). Write a_r, a_z, a_n for the arguments of s, s and tanh:

    dh  += dy_t
    da_n = dh * (1 - z) (1 - n^2)          dq   = da_n * r
    da_r = dq * q (1 - r)                  da_z = dh * (h_(t-1) - n) z (1 - z)
    dh   = dh * z + W_hhᵀ (da_r, da_z, dq)

W_hh and b_hh see (da_r, da_z, dq), W_ih and b_ih see (da_r, da_z, da_n). Every one of the four is dh times a
factor that the forward pass has fixed: the factors of all steps are computed at once, and the loop only
multiplies. Layouts, and what follows for x and the parameters, are in rnn.py. Kept for the vjp are r, z, n, q
and h.
"""

from __future__ import annotations

from typing import Any

from minilm.backend import Array, xp
from minilm.functional.rnn import (
    batch_major,
    check_recurrent,
    input_gradient,
    parameter_gradients,
    project,
    recurrent_weight,
    step_product,
    time_major,
)
from minilm.tensor import differentiable


@differentiable
def gru(
    x: Array,
    h0: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    reverse: bool = False,
) -> Any:
    """One GRU layer in one direction; the module's docstring has the equations and derives the vjp.

    Args:
        x: (B, T, C), with T at least 1.
        h0: (B, H).
        weight_ih, weight_hh: (3*H, C) and (3*H, H), gates in the order r, z, n.
        bias_ih, bias_hh: (3*H,), or None. They are not interchangeable: r acts on b_hn.
        reverse: read the sequence from its end; output t is still the state after reading x at t.

    Returns:
        output (B, T, H), the state after every step, and h_T (B, H), the state after the last step read.

    Raises:
        ValueError: if shapes do not fit or T is 0.
        TypeError: if the arrays are not all of one floating dtype.
    """
    check_recurrent(3, x, {"h0": h0}, weight_ih, weight_hh, bias_ih, bias_hh)
    m = xp(x)
    inputs = m.ascontiguousarray(time_major(x, reverse))
    T, B, _ = inputs.shape
    H = weight_hh.shape[1]
    gates = project(3, inputs, weight_ih, bias_ih)  # (T, B, 3, H): arguments first, overwritten step by step
    q = m.empty((T, B, H), dtype=x.dtype)
    h = m.empty((T + 1, B, H), dtype=x.dtype)
    h[0] = h0
    weight = recurrent_weight(3, weight_hh, T)
    bias = 0 if bias_hh is None else bias_hh.reshape(3, 1, H)
    r, z, n = (gates[:, :, k] for k in range(3))
    for t in range(T):
        recurrent = step_product(h[t], weight)  # (3, B, H)
        recurrent += bias
        rz = gates[t, :, :2]
        rz += recurrent[:2].swapaxes(0, 1)
        rz *= 0.5  # s(a) = 1/2 + 1/2 tanh(a/2) does not overflow
        m.tanh(rz, out=rz)
        rz *= 0.5
        rz += 0.5
        q[t] = recurrent[2]
        n[t] += r[t] * q[t]
        m.tanh(n[t], out=n[t])
        m.subtract(h[t], n[t], out=h[t + 1])  # h_t = n + z * (h_(t-1) - n)
        h[t + 1] *= z[t]
        h[t + 1] += n[t]

    def vjp(cotangents: tuple[Array, Array], needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        dy, dh_T = cotangents
        dy = time_major(dy, reverse)
        # of a_r, a_z, q, a_n: first the factors that the forward pass has fixed, of all steps; in the loop dh
        d = m.empty((T, B, 4, H), dtype=h.dtype)
        d[:, :, 3] = (1 - z) * (1 - n * n)
        d[:, :, 2] = d[:, :, 3] * r
        d[:, :, 1] = (h[:-1] - n) * z * (1 - z)
        d[:, :, 0] = d[:, :, 2] * q * (1 - r)
        weight = weight_hh.reshape(3, H, H)
        dh = dh_T.copy()
        for t in reversed(range(T)):
            dh += dy[t]
            d[t] *= dh[:, None]
            dh *= z[t]
            dh += step_product(d[t, :, :3].swapaxes(0, 1), weight).sum(0)
        dweight_hh, dbias_hh = parameter_gradients(d[:, :, :3], h[:-1], needs[3], needs[5])
        d[:, :, 2] = d[:, :, 3]  # W_ih and b_ih see da_n in the place of dq
        dx = input_gradient(d[:, :, :3], weight_ih, reverse) if needs[0] else None
        dweight_ih, dbias_ih = parameter_gradients(d[:, :, :3], inputs, needs[2], needs[4])
        return dx, dh if needs[1] else None, dweight_ih, dweight_hh, dbias_ih, dbias_hh

    return (batch_major(h[1:], reverse), h[T].copy()), vjp

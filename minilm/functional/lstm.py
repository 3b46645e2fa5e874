"""The long short-term memory over a whole sequence: backpropagation through time in one operation.

Hochreiter and Schmidhuber (1997), "Long Short-Term Memory", with the forget gate of Gers, Schmidhuber and
Cummins (2000); gates in PyTorch's order i, f, g, o. With s the logistic function and * element by element,

    z_t = W_ih x_t + b_ih + W_hh h_(t-1) + b_hh      four blocks of H: z_i, z_f, z_g, z_o
    i = s(z_i)    f = s(z_f)    g = tanh(z_g)    o = s(z_o)
    c_t = f * c_(t-1) + i * g
    h_t = o * tanh(c_t)

Backward, from the last step to the first, with dy_t the cotangent of output t and dh, dc what flows back from
later steps (at t = T: the cotangents of h_T and c_T):

    dh  += dy_t
    dc  += dh * o (1 - tanh(c_t)^2)
    dz_i = dc * g i (1 - i)          dz_g = dc * i (1 - g^2)
    dz_f = dc * c_(t-1) f (1 - f)    dz_o = dh * tanh(c_t) o (1 - o)
    dh   = W_hhᵀ dz_t                dc   = dc * f

Each dz is dc or dh times a factor that the forward pass has fixed. The factors of all steps are computed at
once, in the array that becomes dz; the loop only multiplies. What dz gives for x and the parameters is in
rnn.py, as are the layouts. Kept for the vjp are the gates, c and h; tanh(c) is computed again, for less than
a hundredth of the time.
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
def lstm(
    x: Array,
    h0: Array,
    c0: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    reverse: bool = False,
) -> Any:
    """One LSTM layer in one direction; the module's docstring has the equations and derives the vjp.

    Args:
        x: (B, T, C), with T at least 1.
        h0, c0: (B, H), the hidden state and the cell before the first step.
        weight_ih, weight_hh: (4*H, C) and (4*H, H), gates in the order i, f, g, o.
        bias_ih, bias_hh: (4*H,), or None.
        reverse: read the sequence from its end; output t is still the state after reading x at t.

    Returns:
        output (B, T, H), the hidden state after every step; h_T and c_T (B, H), after the last step read.

    Raises:
        ValueError: if shapes do not fit or T is 0.
        TypeError: if the arrays are not all of one floating dtype.
    """
    check_recurrent(4, x, {"h0": h0, "c0": c0}, weight_ih, weight_hh, bias_ih, bias_hh)
    m = xp(x)
    inputs = m.ascontiguousarray(time_major(x, reverse))
    T, B, _ = inputs.shape
    H = weight_hh.shape[1]
    gates = project(4, inputs, weight_ih, bias_ih, bias_hh)  # (T, B, 4, H): z first, overwritten step by step
    h, c = m.empty((T + 1, B, H), dtype=x.dtype), m.empty((T + 1, B, H), dtype=x.dtype)
    h[0], c[0] = h0, c0
    weight = recurrent_weight(4, weight_hh, T)
    # s(z) = 1/2 + 1/2 tanh(z/2): one tanh serves all four gates, and nothing overflows
    scale = m.full((4, 1), 0.5, dtype=x.dtype)
    scale[2] = 1
    shift = 1 - scale
    i, f, g, o = (gates[:, :, k] for k in range(4))
    for t in range(T):
        z = gates[t]
        z += step_product(h[t], weight).swapaxes(0, 1)
        z *= scale
        m.tanh(z, out=z)
        z *= scale
        z += shift
        m.multiply(f[t], c[t], out=c[t + 1])
        c[t + 1] += i[t] * g[t]
        m.tanh(c[t + 1], out=h[t + 1])
        h[t + 1] *= o[t]

    def vjp(cotangents: tuple[Array, ...], needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        dy, dh_T, dc_T = cotangents
        dy = time_major(dy, reverse)
        tanh_c = m.tanh(c[1:])
        # first the factors that the forward pass has fixed, of all steps; in the loop dc and dh
        dz = 1 - gates
        dz *= gates
        dz[:, :, 0] *= g
        dz[:, :, 1] *= c[:-1]
        dz[:, :, 2] = i * (1 - g * g)
        dz[:, :, 3] *= tanh_c
        dc_dh = o * (1 - tanh_c * tanh_c)
        weight = weight_hh.reshape(4, H, H)
        dh, dc = dh_T.copy(), dc_T.copy()
        for t in reversed(range(T)):
            dh += dy[t]
            dc += dh * dc_dh[t]
            dz[t, :, :3] *= dc[:, None]
            dz[t, :, 3] *= dh
            dh = step_product(dz[t].swapaxes(0, 1), weight).sum(0)
            dc *= f[t]
        dx = input_gradient(dz, weight_ih, reverse) if needs[0] else None
        dweight_ih, dbias_ih = parameter_gradients(dz, inputs, needs[3], needs[5])
        dweight_hh, dbias_hh = parameter_gradients(dz, h[:-1], needs[4], needs[6])
        states = (dh if needs[1] else None, dc if needs[2] else None)
        return dx, *states, dweight_ih, dweight_hh, dbias_ih, dbias_hh

    return (batch_major(h[1:], reverse), h[T].copy(), c[T].copy()), vjp

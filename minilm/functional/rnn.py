"""The recurrent layer of Elman (1990) over a whole sequence, and what the LSTM and the GRU share with it.

    z_t = W_ih x_t + b_ih + W_hh h_(t-1) + b_hh,    h_t = phi(z_t),    phi = tanh or relu.

Backpropagation through time (Werbos 1990). Let dy_t be the cotangent of the output at step t, and dh what
flows back from the steps after it (at t = T: the cotangent of h_T). Going back from the last step,

    dh  += dy_t                      h_t is an output, and the input of step t + 1
    dz_t = phi'(z_t) dh              phi'(z_t) = 1 - h_t^2 for tanh, [h_t > 0] for relu
    dh   = W_hhᵀ dz_t                on to step t - 1; after the first step this is dh0

([h_t > 0] is 1 or 0; h_t is enough for both.) And the rest needs no order, each one product over all steps:

    dW_ih = sum_t dz_t x_tᵀ,   dW_hh = sum_t dz_t h_(t-1)ᵀ,   db = sum_t dz_t,   dx_t = W_ihᵀ dz_t

The same split makes the forward pass fast. W_ih x_t does not wait for the step before, so it is one product
for all steps; only W_hh h_(t-1) stands in the loop. Arrays are time-major, so that a step is one block of
memory, and the G gates of the LSTM and the GRU have an axis of their own, (T, B, G, H): read as (T*B, G*H),
these are the rows of the products over all steps.

What this file does not do: several layers or both directions at once (`minilm.nn.recurrent` stacks these),
and sequences of different lengths in one batch.
"""

from __future__ import annotations

from typing import Any

from minilm.backend import Array, xp
from minilm.tensor import differentiable, wide_sum


@differentiable
def rnn(
    x: Array,
    h0: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    nonlinearity: str = "tanh",
    reverse: bool = False,
) -> Any:
    """h_t = phi(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh). For t = 1..T; the module's docstring derives the vjp.

    Args:
        x: (B, T, C), with T at least 1.
        h0: (B, H).
        weight_ih, weight_hh: (H, C) and (H, H).
        bias_ih, bias_hh: (H,), or None.
        nonlinearity: "tanh" or "relu".
        reverse: read the sequence from its end; output t is still the state after reading x at t.

    Returns:
        output (B, T, H), the state after every step, and h_T (B, H), the state after the last step read.

    Raises:
        ValueError: if shapes do not fit or T is 0.
        TypeError: if the arrays are not all of one floating dtype.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
    check_recurrent(1, x, {"h0": h0}, weight_ih, weight_hh, bias_ih, bias_hh)
    m = xp(x)
    inputs = m.ascontiguousarray(time_major(x, reverse))
    T, B, _ = inputs.shape
    H = weight_hh.shape[1]
    z = project(1, inputs, weight_ih, bias_ih, bias_hh)[:, :, 0]
    h = m.empty((T + 1, B, H), dtype=x.dtype)
    h[0] = h0
    weight = recurrent_weight(1, weight_hh, T)
    for t in range(T):
        z[t] += step_product(h[t], weight)[0]
        if nonlinearity == "tanh":
            m.tanh(z[t], out=h[t + 1])
        else:
            m.maximum(z[t], 0, out=h[t + 1])

    def vjp(cotangents: tuple[Array, Array], needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        dy, dh_T = cotangents
        dy = time_major(dy, reverse)
        # phi' first; the loop multiplies it by dh
        dz = 1 - h[1:] * h[1:] if nonlinearity == "tanh" else (h[1:] > 0).astype(h.dtype)
        weight = weight_hh[None]
        dh = dh_T.copy()
        for t in reversed(range(T)):
            dh += dy[t]
            dz[t] *= dh
            dh = step_product(dz[t], weight)[0]
        dz = dz[:, :, None]
        dx = input_gradient(dz, weight_ih, reverse) if needs[0] else None
        dweight_ih, dbias_ih = parameter_gradients(dz, inputs, needs[2], needs[4])
        dweight_hh, dbias_hh = parameter_gradients(dz, h[:-1], needs[3], needs[5])
        return dx, dh if needs[1] else None, dweight_ih, dweight_hh, dbias_ih, dbias_hh

    return (batch_major(h[1:], reverse), h[T].copy()), vjp


# ----- what all three recurrent operations share; G is the number of gates


def check_recurrent(
    gates: int,
    x: Array,
    states: dict[str, Array],
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
) -> None:
    """Raise unless x (B, T, C) is floating and all fits: weights (G*H, C) and (G*H, H), states (B, H)."""
    if x.ndim != 3:
        raise ValueError(f"x has the axes (B, T, C), got the shape {x.shape}: a single sequence is x[None]")
    if x.shape[1] == 0:
        raise ValueError(f"x {x.shape} has no time step: T must be at least 1, there is no state to return")
    if weight_hh.ndim != 2 or weight_hh.shape[0] != gates * weight_hh.shape[1]:
        factor = f"{gates}*" if gates > 1 else ""
        raise ValueError(f"weight_hh has the shape ({factor}H, H), got {weight_hh.shape}")
    B, _, C = x.shape
    rows, H = weight_hh.shape
    expected: list[tuple[str, Array | None, tuple[int, ...]]] = [
        ("weight_ih", weight_ih, (rows, C)),
        ("weight_hh", weight_hh, (rows, H)),
        ("bias_ih", bias_ih, (rows,)),
        ("bias_hh", bias_hh, (rows,)),
        *((name, state, (B, H)) for name, state in states.items()),
    ]
    for name, array, shape in expected:
        if array is not None and array.shape != shape:
            raise ValueError(
                f"{name} must have the shape {shape}, to go with x (B, T, C) {x.shape} and weight_hh "
                f"{weight_hh.shape}; got {array.shape}"
            )
    if x.dtype.kind != "f":
        raise TypeError(f"x must be floating, not {x.dtype}: convert it with .astype('float32')")


def time_major(x: Array, reverse: bool) -> Array:
    """A view of (B, T, C) as (T, B, C), in the order in which the steps are read."""
    return x.swapaxes(0, 1)[::-1] if reverse else x.swapaxes(0, 1)


def batch_major(y: Array, reverse: bool) -> Array:
    """A view of (T, B, C) as (B, T, C): the inverse of `time_major`."""
    return y[::-1].swapaxes(0, 1) if reverse else y.swapaxes(0, 1)


def project(gates: int, inputs: Array, weight: Array, *biases: Array | None) -> Array:
    """W x_t + biases for all steps: inputs (T, B, C), weight (G*H, C), biases (G*H,) -> (T, B, G, H)."""
    T, B, C = inputs.shape
    rows = inputs.reshape(T * B, C) @ weight.T
    present = [bias for bias in biases if bias is not None]
    if present:
        rows += sum(present)
    return rows.reshape(T, B, gates, weight.shape[0] // gates)


def recurrent_weight(gates: int, weight_hh: Array, T: int) -> Array:
    """A (G*H, H) weight as (G, H, H), each gate transposed, for `step_product` with h (B, H)."""
    H = weight_hh.shape[1]
    transposed = weight_hh.reshape(gates, H, H).swapaxes(1, 2)
    # Rows in order make each product up to three times as fast; the copy pays for itself after a step or two.
    return xp(transposed).ascontiguousarray(transposed) if T > 2 else transposed


def step_product(rows: Array, weight: Array) -> Array:
    """rows @ weight for one step: (B, H) or (G, B, H) with (G, H, H) -> (G, B, H).

    These products are small, and OpenBLAS (with AVX-512) does those of up to 10^6 multiplications without
    copying the matrices into another layout first, in half the time: G products beat one, and a big batch is
    cut into blocks.
    """
    B, H = rows.shape[-2:]
    blocks = 1
    if B * H * H > 1_000_000:
        most = 1_000_000 // (H * H)
        blocks = next((n for n in range(2, B // 8 + 1) if B % n == 0 and B // n <= most), 1)
    if blocks == 1:
        return rows @ weight
    cut = rows.reshape(*rows.shape[:-2], blocks, B // blocks, H)
    return (cut @ weight[:, None]).reshape(len(weight), B, H)


def parameter_gradients(
    dz: Array, inputs: Array, need_weight: bool, need_bias: bool
) -> tuple[Array | None, Array | None]:
    """dW = sum of dz_t x_tᵀ and db = sum of dz_t for z_t = W x_t + b; dz (T, B, G, H), inputs (T, B, C)."""
    T, B, G, H = dz.shape
    rows = dz.reshape(T * B, G * H)
    return (
        rows.T @ inputs.reshape(T * B, inputs.shape[2]) if need_weight else None,
        wide_sum(rows, 0) if need_bias else None,
    )


def input_gradient(dz: Array, weight: Array, reverse: bool) -> Array:
    """dx_t = Wᵀ dz_t for z_t = W x_t + b; dz (T, B, G, H), weight (G*H, C) -> (B, T, C)."""
    T, B, G, H = dz.shape
    return batch_major((dz.reshape(T * B, G * H) @ weight).reshape(T, B, weight.shape[1]), reverse)

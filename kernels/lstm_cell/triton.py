"""The LSTM with its cell as one Triton kernel. New here: fusing what stands between two matrix products.

With s the logistic function and * element by element, a step of the textbook body is one product and then

    z_t = W_ih x_t + b + W_hh h_(t-1)                  four blocks of H: z_i, z_f, z_g, z_o;  b = b_ih + b_hh
    i = s(z_i)    f = s(z_f)    g = tanh(z_g)    o = s(z_o)
    c_t = f * c_(t-1) + i * g
    h_t = o * tanh(c_t)

which as array operations (ten of them in the textbook body) is a launch and a trip to memory for each. The forward
kernel reads W_ih x_t, the product and c_(t-1) once, and writes the gates (over W_ih x_t), c_t and h_t. Going back, with
dy the cotangent of output t, and dh and dc what flows back from later steps,

    dh  += dy                        dc  += dh * o (1 - tanh(c_t)^2)
    dz_i = dc * g i (1 - i)          dz_g = dc * i (1 - g^2)
    dz_f = dc * c_(t-1) f (1 - f)    dz_o = dh * tanh(c_t) o (1 - o)
    dc   = dc * f

is the backward kernel, and dh = W_hhᵀ dz_t follows as a product. The products are the array module's: W_ih x_t and all
gradients of parameters over all steps at once, W_hh h_(t-1) step by step, because the recurrence has to wait.

Cost, a step, for elements of b bytes: forward B H (13 b + 8) bytes, 8 b + 4 of them read, backward B H (10 b + 16),
6 b + 12 of them read. The cells c and dc are float32 whatever b is, because they are sums over all steps. About 60 and
40 operations an element: both wait for memory, and for small B and H for the launch itself.

What this file does not do: float64 (minilm.use_backend("numpy") or ("cupy") does), and a loop over time inside one
kernel: blocks of a grid cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import triton
import triton.language as tl

from minilm.kernels.activation.triton import sigmoid
from minilm.kernels.host import cdiv, empty, launch, pointers, strides, tile
from minilm.kernels.operands import check_dtypes, contiguous
from minilm.kernels.static_report import StaticCase


@triton.jit
def tanh(z):
    """(1 - e^-2|z|) / (1 + e^-2|z|) with the sign of z; near 0, where that cancels, a polynomial (Cephes, tanhf)."""
    e = tl.exp(-2 * tl.abs(z))
    far = (1 - e) / (1 + e)
    square = z * z
    near = -5.70498872745e-3 * square + 2.06390887954e-2
    near = near * square - 5.37397155531e-2
    near = near * square + 1.33314422036e-1
    near = near * square - 3.33332819422e-1
    return tl.where(tl.abs(z) < 0.625, z + z * square * near, tl.where(z < 0, -far, far))


@triton.jit
def lstm_cell_forward_kernel(
    gates_ptr,  # (B, 4, H): W_ih x_t, to be overwritten by i, f, g, o
    product_ptr,  # (B, 4, H): W_hh h_(t-1)
    bias_ptr,  # (4, H), or None
    c_ptr,  # (B, H) float32: c_(t-1)
    new_c_ptr,  # (B, H) float32: c_t
    new_h_ptr,  # (B, H): h_t
    H,
    BLOCK_H: tl.constexpr,
):
    """One step for one row of the batch and BLOCK_H hidden units. Grid (B, blocks of H)."""
    b = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    inside = k < H
    gates_ptr += b * 4 * H
    product_ptr += b * 4 * H
    z_i = tl.load(gates_ptr + k, inside).to(tl.float32) + tl.load(product_ptr + k, inside).to(tl.float32)
    z_f = tl.load(gates_ptr + k + H, inside).to(tl.float32) + tl.load(product_ptr + k + H, inside).to(tl.float32)
    z_g = tl.load(gates_ptr + k + 2 * H, inside).to(tl.float32)
    z_g += tl.load(product_ptr + k + 2 * H, inside).to(tl.float32)
    z_o = tl.load(gates_ptr + k + 3 * H, inside).to(tl.float32)
    z_o += tl.load(product_ptr + k + 3 * H, inside).to(tl.float32)
    if bias_ptr is not None:
        z_i += tl.load(bias_ptr + k, inside).to(tl.float32)
        z_f += tl.load(bias_ptr + k + H, inside).to(tl.float32)
        z_g += tl.load(bias_ptr + k + 2 * H, inside).to(tl.float32)
        z_o += tl.load(bias_ptr + k + 3 * H, inside).to(tl.float32)
    i, f, g, o = sigmoid(z_i), sigmoid(z_f), tanh(z_g), sigmoid(z_o)
    c = f * tl.load(c_ptr + b * H + k, inside) + i * g
    h = o * tanh(c)
    tl.store(gates_ptr + k, i.to(gates_ptr.dtype.element_ty), inside)
    tl.store(gates_ptr + k + H, f.to(gates_ptr.dtype.element_ty), inside)
    tl.store(gates_ptr + k + 2 * H, g.to(gates_ptr.dtype.element_ty), inside)
    tl.store(gates_ptr + k + 3 * H, o.to(gates_ptr.dtype.element_ty), inside)
    tl.store(new_c_ptr + b * H + k, c, inside)
    tl.store(new_h_ptr + b * H + k, h.to(new_h_ptr.dtype.element_ty), inside)


@triton.jit
def lstm_cell_backward_kernel(
    gates_ptr,  # (B, 4, H): i, f, g, o
    c_ptr,  # (B, H) float32: c_(t-1)
    new_c_ptr,  # (B, H) float32: c_t
    dy_ptr,  # (B, H), rows stride_b apart
    dh_ptr,  # (B, H), from the steps after this one
    dc_ptr,  # (B, H) float32, the same; to be overwritten by what goes on to step t - 1
    dz_ptr,  # (B, 4, H)
    stride_b,
    H,
    BLOCK_H: tl.constexpr,
):
    """One step back for one row of the batch and BLOCK_H hidden units. Grid (B, blocks of H)."""
    b = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    inside = k < H
    gates_ptr += b * 4 * H
    dz_ptr += b * 4 * H
    i = tl.load(gates_ptr + k, inside).to(tl.float32)
    f = tl.load(gates_ptr + k + H, inside).to(tl.float32)
    g = tl.load(gates_ptr + k + 2 * H, inside).to(tl.float32)
    o = tl.load(gates_ptr + k + 3 * H, inside).to(tl.float32)
    tanh_c = tanh(tl.load(new_c_ptr + b * H + k, inside))
    dh = tl.load(dh_ptr + b * H + k, inside).to(tl.float32) + tl.load(dy_ptr + b * stride_b + k, inside).to(tl.float32)
    dc = tl.load(dc_ptr + b * H + k, inside) + dh * o * (1 - tanh_c * tanh_c)
    dz_i = dc * g * i * (1 - i)
    dz_f = dc * tl.load(c_ptr + b * H + k, inside) * f * (1 - f)
    dz_g = dc * i * (1 - g * g)
    dz_o = dh * tanh_c * o * (1 - o)
    tl.store(dz_ptr + k, dz_i.to(dz_ptr.dtype.element_ty), inside)
    tl.store(dz_ptr + k + H, dz_f.to(dz_ptr.dtype.element_ty), inside)
    tl.store(dz_ptr + k + 2 * H, dz_g.to(dz_ptr.dtype.element_ty), inside)
    tl.store(dz_ptr + k + 3 * H, dz_o.to(dz_ptr.dtype.element_ty), inside)
    tl.store(dc_ptr + b * H + k, dc * f, inside)


def cell_forward(gates: Any, product: Any, bias: Any | None, c: Any, new_c: Any, new_h: Any) -> None:
    """One step: fills new_c and new_h, and turns `gates` from W_ih x_t into i, f, g, o. Shapes as in the kernel."""
    B, H = new_h.shape
    sizes = tile("lstm_cell", H=H)
    grid = (B, cdiv(H, sizes["BLOCK_H"]))
    launch(lstm_cell_forward_kernel, grid, *pointers(gates, product, bias, c, new_c, new_h), H, **sizes)


def cell_backward(gates: Any, c: Any, new_c: Any, dy: Any, dh: Any, dc: Any, dz: Any) -> None:
    """One step back: fills dz and turns `dc` into that of the step before. Shapes as in the kernel."""
    B, H = dh.shape
    sizes = tile("lstm_cell", H=H)
    grid = (B, cdiv(H, sizes["BLOCK_H"]))
    arrays = pointers(gates, c, new_c, dy, dh, dc, dz)
    launch(lstm_cell_backward_kernel, grid, *arrays, strides(dy)[0], H, **sizes)


def lstm(
    x: Any,
    h0: Any,
    c0: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any | None = None,
    bias_hh: Any | None = None,
    reverse: bool = False,
) -> tuple[tuple[Any, Any, Any], Callable[..., tuple[Any | None, ...]]]:
    """(output, h_T, c_T) and their vjp; arguments and errors as minilm.functional.lstm.

    Raises:
        NotImplementedError: if x is neither float32 nor float16.
    """
    _check(x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh)
    (B, T, C), H = x.shape, weight_hh.shape[1]
    inputs = contiguous(_time_major(x, reverse))  # (T, B, C)
    gates = (inputs.reshape(T * B, C) @ weight_ih.T).reshape(T, B, 4, H)
    present = [bias for bias in (bias_ih, bias_hh) if bias is not None]
    bias = contiguous(sum(present[1:], start=present[0])) if present else None
    h = empty((T + 1, B, H), x.dtype, like=x)
    c = empty((T + 1, B, H), np.float32, like=x)
    h[0], c[0] = h0, c0
    for t in range(T):
        cell_forward(gates[t], contiguous(h[t] @ weight_hh.T), bias, c[t], c[t + 1], h[t + 1])

    def vjp(cotangents: tuple[Any, ...], needs: tuple[bool, ...]) -> tuple[Any | None, ...]:
        dy, dh, dc_T = cotangents
        if H > 1 and strides(dy)[2] != 1:
            dy = contiguous(dy)
        dy = _time_major(dy, reverse)
        dh = contiguous(dh)
        dc = empty((B, H), np.float32, like=x)
        dc[...] = dc_T
        dz = empty((T, B, 4, H), x.dtype, like=x)
        for t in reversed(range(T)):
            cell_backward(gates[t], c[t], c[t + 1], dy[t], dh, dc, dz[t])
            dh = contiguous(dz[t].reshape(B, 4 * H) @ weight_hh)
        rows = dz.reshape(T * B, 4 * H)
        dx = (rows @ weight_ih).reshape(T, B, C) if needs[0] else None
        dbias = rows.sum(0, dtype=np.float32).astype(x.dtype) if needs[5] or needs[6] else None
        return (
            None if dx is None else _batch_major(dx, reverse),
            dh if needs[1] else None,
            dc.astype(x.dtype, copy=False) if needs[2] else None,
            rows.T @ inputs.reshape(T * B, C) if needs[3] else None,
            rows.T @ h[:-1].reshape(T * B, H) if needs[4] else None,
            dbias if needs[5] else None,
            dbias if needs[6] else None,
        )

    return (_batch_major(h[1:], reverse), h[T].copy(), c[T].astype(x.dtype)), vjp


def _time_major(x: Any, reverse: bool) -> Any:
    """A view of (B, T, C) as (T, B, C), in the order in which the steps are read."""
    return x.swapaxes(0, 1)[::-1] if reverse else x.swapaxes(0, 1)


def _batch_major(y: Any, reverse: bool) -> Any:
    """A view of (T, B, C) as (B, T, C): the inverse of `_time_major`."""
    return y[::-1].swapaxes(0, 1) if reverse else y.swapaxes(0, 1)


def _check(
    x: Any, h0: Any, c0: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any | None, bias_hh: Any | None
) -> None:
    """Raise unless x (B, T, C) is floating and all fits: weights (4*H, C) and (4*H, H), states (B, H)."""
    if x.ndim != 3:
        raise ValueError(f"x has the axes (B, T, C), got the shape {x.shape}: a single sequence is x[None]")
    if x.shape[1] == 0:
        raise ValueError(f"x {x.shape} has no time step: T must be at least 1, there is no state to return")
    if weight_hh.ndim != 2 or weight_hh.shape[0] != 4 * weight_hh.shape[1]:
        raise ValueError(f"weight_hh has the shape (4*H, H), got {weight_hh.shape}")
    B, _, C = x.shape
    rows, H = weight_hh.shape
    for name, array, shape in (
        ("weight_ih", weight_ih, (rows, C)),
        ("bias_ih", bias_ih, (rows,)),
        ("bias_hh", bias_hh, (rows,)),
        ("h0", h0, (B, H)),
        ("c0", c0, (B, H)),
    ):
        if array is not None and array.shape != shape:
            raise ValueError(
                f"{name} must have the shape {shape}, to go with x (B, T, C) {x.shape} and weight_hh "
                f"{weight_hh.shape}; got {array.shape}"
            )
    if x.dtype.kind != "f":
        raise TypeError(f"x must be floating, not {x.dtype}: convert it with .astype('float32')")
    check_dtypes("lstm", x)


def static_cases() -> Iterator[StaticCase]:
    """One step forward and one step back."""

    def arrays(dtype: str, B: int, H: int) -> tuple[Any, ...]:
        kind = "uint16" if dtype == "bfloat16" else dtype
        wide, narrow = np.zeros((4, B, H), dtype="float32"), np.zeros((11, B, H), dtype=kind)
        return wide, narrow, narrow[:4].reshape(B, 4, H), narrow[4:8].reshape(B, 4, H)

    def forward(dtype: str, B: int, H: int) -> None:
        wide, narrow, gates, product = arrays(dtype, B, H)
        bias = np.zeros((4, H), dtype=narrow.dtype)
        cell_forward(gates, product, bias, wide[0], wide[1], narrow[8])

    def backward(dtype: str, B: int, H: int) -> None:
        wide, narrow, gates, dz = arrays(dtype, B, H)
        cell_backward(gates, wide[0], wide[1], narrow[8], narrow[9], wide[2], dz)

    for H in (512, 1000):
        yield StaticCase(
            name="LSTM cell forward",
            kernels=("lstm_cell_forward_kernel",),
            sizes={"B": 256, "H": H},
            counted={"B": 2, "H": H},
            run=forward,
            flops=lambda B, H: 60 * B * H,
            bytes=lambda itemsize, B, H: itemsize * (13 * B * H + 4 * H) + 8 * B * H,
            dtypes=("float32", "float16", "bfloat16"),
            tensor_cores=False,
        )
        yield StaticCase(
            name="LSTM cell backward",
            kernels=("lstm_cell_backward_kernel",),
            sizes={"B": 256, "H": H},
            counted={"B": 2, "H": H},
            run=backward,
            flops=lambda B, H: 40 * B * H,
            bytes=lambda itemsize, B, H: itemsize * 10 * B * H + 16 * B * H,
            dtypes=("float32", "float16", "bfloat16"),
            tensor_cores=False,
        )

"""Rotary positions in Triton: y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin, for each pair of channels of x (..., T, D).

What is worth seeing here is memory. The pairs are channels i and i + D/2 (halves) or 2i and 2i + 1
(interleaved). Halves are two loads of D/2 neighbours. Interleaved pairs would be two loads of every second
number, each of which fetches what the other one needs as well; so the row is loaded once, as it lies, and taken
apart in registers (`tl.split`), and put together again (`tl.interleave`) before it is stored.

The transpose of a rotation is the rotation back, so the backward is the same kernel with -sin (INVERSE).

Cost: reads and writes each number of x once, and cos and sin (T, D/2) once, if the cache keeps them for all
heads; 3 flops a number. x comes with its strides, so that the heads of a (B, T, H D) projection need no copy;
with more than four axes it may be copied. What it does not do: angles of their own; cos and sin are given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from minilm.kernels.host import cdiv, empty_like, launch, module_of, pointers, strides, tile
from minilm.kernels.operands import check_dtypes, power_of_two, zeros
from minilm.kernels.static_report import StaticCase


@triton.jit
def rotary_kernel(
    x, y, cos, sin, H, T, HALF,
    stride_xb, stride_xh, stride_xt, stride_xd,
    stride_yb, stride_yh, stride_yt, stride_yd,
    stride_cb, stride_ch, stride_ct, stride_cd,
    INTERLEAVED: tl.constexpr, INVERSE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_HALF: tl.constexpr,
):  # fmt: skip
    """One program turns the pairs of a block of rows; BACKWARD turns them back."""
    blocks_t = tl.cdiv(T, BLOCK_T)
    head = tl.program_id(0) // blocks_t
    t = (tl.program_id(0) % blocks_t) * BLOCK_T + tl.arange(0, BLOCK_T)
    b = (head // H).to(tl.int64)
    h = (head % H).to(tl.int64)
    t_wide = t.to(tl.int64)[:, None]
    i = tl.arange(0, BLOCK_HALF)
    inside = (t < T)[:, None] & (i < HALF)[None, :]
    at_c = b * stride_cb + h * stride_ch + t_wide * stride_ct + i[None, :] * stride_cd
    c = tl.load(cos + at_c, mask=inside, other=0.0).to(tl.float32)
    s = tl.load(sin + at_c, mask=inside, other=0.0).to(tl.float32)
    if INVERSE:
        s = -s
    rows_x = x + b * stride_xb + h * stride_xh + t_wide * stride_xt
    rows_y = y + b * stride_yb + h * stride_yh + t_wide * stride_yt
    if INTERLEAVED:
        d = tl.arange(0, 2 * BLOCK_HALF)
        whole = (t < T)[:, None] & (d < 2 * HALF)[None, :]
        x_tile = tl.load(rows_x + d[None, :] * stride_xd, mask=whole, other=0.0).to(tl.float32)
        x1, x2 = tl.split(tl.reshape(x_tile, (BLOCK_T, BLOCK_HALF, 2)))
        y_tile = tl.interleave(x1 * c - x2 * s, x2 * c + x1 * s)
        tl.store(rows_y + d[None, :] * stride_yd, y_tile.to(y.dtype.element_ty), mask=whole)
    else:
        x1 = tl.load(rows_x + i[None, :] * stride_xd, mask=inside, other=0.0).to(tl.float32)
        x2 = tl.load(rows_x + (i + HALF)[None, :] * stride_xd, mask=inside, other=0.0).to(tl.float32)
        y1 = (x1 * c - x2 * s).to(y.dtype.element_ty)
        y2 = (x2 * c + x1 * s).to(y.dtype.element_ty)
        tl.store(rows_y + i[None, :] * stride_yd, y1, mask=inside)
        tl.store(rows_y + (i + HALF)[None, :] * stride_yd, y2, mask=inside)


def _four_axes(array: Any) -> Any:
    """(..., T, D) as (B, H, T, D)."""
    if array.ndim < 4:
        return array.reshape((1,) * (4 - array.ndim) + array.shape)
    outer = 1
    for n in array.shape[:-3]:
        outer *= n
    return array.reshape(outer, *array.shape[-3:])


def _rotate(x: Any, cos: Any, sin: Any, interleaved: bool, inverse: bool) -> Any:
    y = empty_like(x)
    if y.size == 0:
        return y
    x4, y4, cos4, sin4 = (_four_axes(array) for array in (x, y, cos, sin))
    B, H, T, D = x4.shape
    if strides(cos4) != strides(sin4):
        cos4, sin4 = cos4.copy(order="C"), sin4.copy(order="C")
    meta = {"BLOCK_HALF": power_of_two(D // 2), **tile("rotary", D=D)}
    launch(
        rotary_kernel,
        (B * H * cdiv(T, meta["BLOCK_T"]),),
        *(*pointers(x4, y4, cos4, sin4), H, T, D // 2),
        *(*strides(x4), *strides(y4), *strides(cos4)),
        INTERLEAVED=interleaved,
        INVERSE=inverse,
        **meta,
    )
    return y


def rotary_embedding(x: Any, cos: Any, sin: Any, interleaved: bool = False) -> tuple[Any, Any]:
    """minilm.functional.rotary_embedding: the output and the vjp of x."""
    m = module_of(x)
    cos, sin = m.asarray(cos), m.asarray(sin)
    if cos.dtype.name == "float64":  # kept as they come otherwise: wider than x is better, not worse
        cos, sin = cos.astype("float32"), sin.astype("float32")
    check_dtypes("rotary_embedding", x, cos, sin)
    if x.ndim < 2 or x.shape[-1] % 2 or cos.shape[-1] != x.shape[-1] // 2 or cos.shape != sin.shape:
        raise ValueError(
            f"x (..., T, D) {x.shape} with an even D needs cos and sin of D/2 channels each, "
            f"got {cos.shape} and {sin.shape}"
        )
    full = (*x.shape[:-1], x.shape[-1] // 2)
    cos, sin = m.broadcast_to(cos, full), m.broadcast_to(sin, full)  # steps of 0: no copy
    interleaved = bool(interleaved)
    return _rotate(x, cos, sin, interleaved, False), lambda g: _rotate(g, cos, sin, interleaved, True)


def static_cases() -> Iterator[StaticCase]:
    """Both layouts of the pairs, on heads that lie side by side in memory."""

    def run(dtype: str, B: int, H: int, T: int, D: int, interleaved: bool) -> None:
        cos, sin = zeros("float32", T, D // 2), zeros("float32", T, D // 2)
        rotary_embedding(zeros(dtype, B, T, H, D).swapaxes(1, 2), cos, sin, interleaved)

    for interleaved in (False, True):
        yield StaticCase(
            name="rotary, pairs" if interleaved else "rotary, halves",
            kernels=("rotary_kernel",),
            sizes={"B": 8, "H": 16, "T": 1024, "D": 64},
            counted={"B": 1, "H": 2, "T": 64, "D": 64},
            run=lambda dtype, B, H, T, D, interleaved=interleaved: run(dtype, B, H, T, D, interleaved),
            flops=lambda B, H, T, D: 3 * B * H * T * D,
            bytes=lambda itemsize, B, H, T, D: itemsize * 2 * B * H * T * D + 4 * T * D,
            tensor_cores=False,
        )

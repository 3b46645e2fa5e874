"""The Triton rungs as one operation: the host function that launches the forward and the backward kernels.

    forward     triton_forward       out and lse, nothing else is kept; or, for one query that sees every key, the
                                     kernels of minilm.kernels.decoding, which spread the keys over the whole GPU
    backward    triton_backward      delta, then dK and dV, then dQ: only those that are needed

Arrays go in with the strides they have: a projection (B, T, H D) seen as (B, H, T, D) is not copied, and the output and
the gradients are made in that same order of memory, so that to merge the heads again is free.

What it does not do: float64, and heads wider than 256 (the tiles would not fit on the chip). It says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minilm.kernels.attention.arguments import DTYPES, Options, check, covered, generator_or_current, padded, sum_to
from minilm.kernels.attention.triton_backward import (
    attention_delta_kernel,
    attention_key_value_kernel,
    attention_query_kernel,
)
from minilm.kernels.attention.triton_forward import attention_forward_kernel
from minilm.kernels.decoding.triton import decode
from minilm.kernels.host import cdiv, empty, launch, pointers, strides, tile
from minilm.kernels.static_report import StaticCase


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool | str = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    generator: Any = None,
) -> tuple[Any, Callable[..., tuple[Any, ...]]]:
    """The output (..., Hq, Tq, Dv) and its vjp; arguments and errors as minilm.functional.scaled_dot_product_attention.

    float32, float16, or bfloat16 as an array of uint16; scores and sums are float32 in all of them. Dropout uses
    the numbers that `generator.keep_mask` would give, and makes them again in the backward. The gradient of an
    additive mask, and nothing else, takes memory for all scores.

    Raises:
        NotImplementedError: for other dtypes and for heads wider than 256.
    """
    options = check(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    covered(query, key, value)
    output_shape = (*query.shape[:-1], value.shape[-1])
    shapes = query.shape, key.shape, value.shape
    q, k, v = (_four_axes(array) for array in (query, key, value))
    mask = _mask_by_head(attn_mask, (*query.shape[:-1], key.shape[-2]))
    seed, counter = 0, 0
    if 0 < options.dropout_p < 1:
        seed, counter = generator_or_current(generator).reserve(q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2])

    if q.shape[2] == 1 and mask is None and not options.dropout_p and options.offset in (None, k.shape[2] - 1):
        out, lse = decode(q, k, v, options.scale)
    else:
        out, lse = forward(q, k, v, mask, options, seed, counter)

    def vjp(g: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        if needs[3] and DTYPES[attn_mask.dtype.name] == "bfloat16":
            raise NotImplementedError("no array module sums the gradient of a bfloat16 mask: use float32 or float16")
        dout = g.reshape(out.shape)
        *gradients, dscores = backward(q, k, v, mask, out, lse, dout, options, seed, counter, needs)
        dmask = None
        if dscores is not None:
            dmask = sum_to(dscores.reshape(*output_shape[:-1], k.shape[2]), attn_mask.shape).astype(attn_mask.dtype)
        return *(d if d is None else d.reshape(s) for d, s in zip(gradients, shapes, strict=True)), dmask

    return out.reshape(output_shape), vjp


def forward(q: Any, k: Any, v: Any, mask: Any, options: Options, seed: int = 0, counter: int = 0) -> tuple[Any, Any]:
    """out (B, Hq, Tq, Dv), and lse (B, Hq, Tq) in units of log2; inputs (B, H, T, D), mask (B, Hq, Tq, Tk)."""
    B, Hq, Tq, D = q.shape
    Dv = v.shape[-1]
    out = _empty_heads(B, Hq, Tq, Dv, like=q)
    lse = empty((B, Hq, Tq), "float32", like=q)
    sizes = _tile("attention_forward", q, v, options)
    launch(
        attention_forward_kernel,
        (cdiv(Tq, sizes["BLOCK_Q"]), Hq, B),
        *pointers(q, k, v, mask, out, lse),
        *(*strides(q), *strides(k), *strides(v), *_mask_strides(mask), *strides(out)[:3]),
        *_numbers(q, k, options, seed, counter),
        **_constants(D, Dv, options),
        **sizes,
    )
    return out, lse


def backward(
    q: Any, k: Any, v: Any, mask: Any, out: Any, lse: Any, dout: Any,
    options: Options, seed: int, counter: int, needs: tuple[bool, ...],
) -> tuple[Any, ...]:  # fmt: skip
    """(dQ, dK, dV, dscores), each None if `needs` does not ask for it; dscores is float32 (B, Hq, Tq, Tk)."""
    (B, Hq, Tq, D), (Hk, Tk), Dv = q.shape, k.shape[1:3], v.shape[-1]
    delta = empty((B, Hq, Tq), "float32", like=q)
    sizes = _tile("attention_delta", q, v, options)
    launch(
        attention_delta_kernel,
        (cdiv(Tq, sizes["BLOCK_Q"]), Hq, B),
        *pointers(out, dout, delta),
        *(*strides(out)[:3], *strides(dout), Tq),
        **{"Dv": Dv, "BLOCK_DV": padded(Dv)},
        **sizes,
    )
    inputs = pointers(q, k, v, mask, dout, lse, delta)
    steps = (*strides(q), *strides(k), *strides(v), *_mask_strides(mask), *strides(dout))
    numbers, constants = _numbers(q, k, options, seed, counter), _constants(D, Dv, options)
    dq = dk = dv = dscores = None
    if needs[1] or needs[2]:
        dk, dv = _empty_heads(B, Hk, Tk, D, like=q), _empty_heads(B, Hk, Tk, Dv, like=q)
        sizes = _tile("attention_key_value", q, v, options)
        grid = (cdiv(Tk, sizes["BLOCK_K"]), Hk, B)
        outputs, steps_out = pointers(dk, dv), (*strides(dk)[:3], *strides(dv)[:3])
        args = (*inputs, *outputs, *steps, *steps_out, *numbers)
        launch(attention_key_value_kernel, grid, *args, **constants, **sizes)
    if needs[0] or needs[3]:
        dq = _empty_heads(B, Hq, Tq, D, like=q)
        if needs[3]:
            dscores = empty((B, Hq, Tq, Tk), "float32", like=q)
            dscores.fill(0)  # blocks that no query sees are skipped
        sizes = _tile("attention_query", q, v, options)
        grid = (cdiv(Tq, sizes["BLOCK_Q"]), Hq, B)
        args = (*inputs, *pointers(dq, dscores), *steps, *strides(dq)[:3], *numbers)
        launch(attention_query_kernel, grid, *args, **constants, **sizes)
    return (
        dq if needs[0] else None,
        dk if needs[1] else None,
        dv if needs[2] else None,
        dscores,
    )


def _four_axes(array: Any) -> Any:
    """(..., H, T, D) as (B, H, T, D), a view where the strides allow it."""
    return array.reshape(math.prod(array.shape[:-3]), *((1, *array.shape)[-3:]))


def _mask_by_head(attn_mask: Any, full: tuple[int, ...]) -> Any:
    """The mask with four axes, each of full length or 1; booleans as bytes."""
    if attn_mask is None:
        return None
    mask = attn_mask.view("uint8") if attn_mask.dtype.kind == "b" else attn_mask
    mask = mask.reshape((1,) * (len(full) - mask.ndim) + mask.shape)
    if any(n != 1 for n in mask.shape[:-3]):
        for axis, n in enumerate(full[:-3]):  # a copy only where there are two such axes and one is broadcast
            mask = mask if mask.shape[axis] == n else mask.repeat(n, axis)
    return _four_axes(mask)


def _mask_strides(mask: Any) -> tuple[int, ...]:
    """A stride of 0 repeats the same element: that is all there is to broadcasting."""
    if mask is None:
        return 0, 0, 0, 0
    return tuple(0 if n == 1 else step for n, step in zip(mask.shape, strides(mask), strict=True))


def _empty_heads(B: int, H: int, T: int, D: int, like: Any) -> Any:
    """(B, H, T, D) in the memory order of (B, T, H, D), which is a projection's."""
    return empty((B, T, H, D), like.dtype, like).swapaxes(1, 2)


def _tile(kernel: str, q: Any, v: Any, options: Options) -> dict[str, int]:
    widths = q.shape[-1], v.shape[-1]
    width = max(padded(D) for D in widths)
    plain = options.mask is None and options.dropout_p == 0 and widths == (width, width)
    grouped = int(options.group > 1)
    return tile(kernel, D=width, masked=int(not plain), grouped=grouped, dtype=DTYPES[q.dtype.name])


def _numbers(q: Any, k: Any, options: Options, seed: int, counter: int) -> tuple[int | float, ...]:
    offset = 0 if options.offset is None else options.offset
    dropout = (options.dropout_p, options.keep_scale, seed, counter)
    return options.group, q.shape[2], k.shape[2], offset, options.scale, *dropout


def _constants(D: int, Dv: int, options: Options) -> dict[str, Any]:
    return {
        **{"D": D, "Dv": Dv, "BLOCK_D": padded(D), "BLOCK_DV": padded(Dv)},
        **{"CAUSAL": options.offset is not None, "MASK": options.mask, "DROPOUT": options.dropout_p > 0},
    }


def static_cases() -> Iterator[StaticCase]:
    """Forward and backward, all keys and causal, at the two head widths that the tiles are made for."""

    def run(dtype: str, B: int, H: int, T: int, D: int, causal: bool, learn: bool) -> None:
        kind = "uint16" if dtype == "bfloat16" else dtype
        q, k, v, g = (np.zeros((B, T, H, D), kind).swapaxes(1, 2) for _ in range(4))
        _, vjp = attention(q, k, v, is_causal=causal)
        if learn:
            vjp(g, (True, True, True, False))

    def products(n: int, causal: bool, B: int, H: int, T: int, D: int) -> int:
        """The flops of n products with a (T, T) matrix, of which causal attention needs the lower half."""
        return n * 2 * B * H * D * (T * (T + 1) // 2 if causal else T * T)

    for D in (64, 128):
        for causal in (False, True):
            how = {
                "sizes": {"B": 8, "H": 16, "T": 4096, "D": D},
                "counted": {"B": 1, "H": 1, "T": 512, "D": D},
            }
            yield StaticCase(
                name="attention forward" + ", causal" * causal,
                kernels=("attention_forward_kernel",),
                run=lambda dtype, causal=causal, **sizes: run(dtype, causal=causal, learn=False, **sizes),
                flops=lambda causal=causal, **sizes: products(2, causal, **sizes),
                bytes=lambda itemsize, B, H, T, D: B * H * T * (4 * D * itemsize + 4),  # Q, K, V, out; lse
                **how,
            )
            yield StaticCase(
                name="attention backward" + ", causal" * causal,
                kernels=("attention_delta_kernel", "attention_key_value_kernel", "attention_query_kernel"),
                run=lambda dtype, causal=causal, **sizes: run(dtype, causal=causal, learn=True, **sizes),
                flops=lambda causal=causal, **sizes: products(5, causal, **sizes),
                bytes=lambda itemsize, B, H, T, D: B * H * T * (8 * D * itemsize + 4),  # with out, dout and gradients
                **how,
            )

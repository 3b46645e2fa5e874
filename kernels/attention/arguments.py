"""What the arguments of attention mean, for the rungs above `loops`: shapes checked, options turned into numbers.

The textbook operation (minilm/functional/attention.py) does the same for itself: kernels import nothing of minilm,
and a kernel that takes the place of the textbook body gets its arguments unchecked.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

DTYPES = {"float16": "float16", "float32": "float32", "uint16": "bfloat16"}
"""What the Triton rungs compute in: the dtype of the array, and Triton's name for it."""

MAX_D = 256


@dataclass(frozen=True)
class Options:
    """The options of one call, as numbers."""

    group: int  # query heads that share a key head
    scale: float
    offset: int | None  # causal: query i sees the keys j <= i + offset; None: all of them
    mask: str | None  # "bool" or "additive"
    dropout_p: float

    @property
    def keep_scale(self) -> float:
        """What dropout multiplies the weights with that it keeps."""
        return 0.0 if self.dropout_p == 1 else 1 / (1 - self.dropout_p)


def check(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    dropout_p: float,
    is_causal: bool | str,
    scale: float | None,
    enable_gqa: bool,
) -> Options:
    """The options of a call whose arrays fit each other.

    Raises:
        ValueError, TypeError: as minilm.functional.scaled_dot_product_attention.
    """
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    if query.ndim < 2 or not query.ndim == key.ndim == value.ndim:
        raise ValueError(f"query, key and value are (..., T, D) with as many axes each; got {shapes}")
    if query.shape[-1] != key.shape[-1] or key.shape[:-1] != value.shape[:-1]:
        raise ValueError(f"query and key must agree in D, key and value in all but their width; got {shapes}")
    if not query.dtype == key.dtype == value.dtype:
        raise TypeError(f"query, key and value are {query.dtype}, {key.dtype} and {value.dtype}: use .astype")
    group = 1
    if query.shape[:-2] != key.shape[:-2]:
        Hq, Hk = (query.shape[-3], key.shape[-3]) if query.ndim > 2 else (1, 1)
        if query.shape[:-3] != key.shape[:-3] or Hk == 0 or Hq % Hk or not enable_gqa:
            raise ValueError(
                f"query and key must agree in all leading axes; with enable_gqa=True the query may have a multiple "
                f"of the key's heads (axis -3); got {shapes}, enable_gqa={enable_gqa}"
            )
        group = Hq // Hk
    (Tq, D), Tk = query.shape[-2:], key.shape[-2]

    offsets = {False: None, True: 0, "upper_left": 0, "lower_right": Tk - Tq}
    if is_causal not in offsets:
        raise ValueError(f"is_causal is False, True, 'upper_left' or 'lower_right', got {is_causal!r}")
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"the probability of dropping an element is from 0 to 1, got {dropout_p}")

    mask = None
    if attn_mask is not None:
        full = (*query.shape[:-1], Tk)
        if np.broadcast_shapes(attn_mask.shape, full) != full:
            raise ValueError(f"attn_mask {attn_mask.shape} must broadcast to (..., Tq, Tk) {full}")
        mask = "bool" if attn_mask.dtype.kind == "b" else "additive"
        if mask == "additive" and attn_mask.dtype != query.dtype:
            raise TypeError(f"attn_mask is bool or, as the scores, {query.dtype}, not {attn_mask.dtype}: use .astype")

    scale = 1 / math.sqrt(D) if scale is None else float(scale)
    return Options(group, scale, offsets[is_causal], mask, float(dropout_p))


def covered(query: Any, key: Any, value: Any) -> None:
    """Raise NotImplementedError where the attention kernels do not cover the case; say which setting does."""
    if query.dtype.name not in DTYPES:
        raise NotImplementedError(
            f"the Triton attention kernels compute in float16, bfloat16 and float32, not {query.dtype}: convert with "
            f".astype('float32'), or use_backend('numpy') or ('cupy'), which compute in {query.dtype}"
        )
    if max(query.shape[-1], value.shape[-1]) > MAX_D:
        raise NotImplementedError(
            f"the Triton attention kernels take heads of width up to {MAX_D}, got query {query.shape}, value "
            f"{value.shape}: use more heads, or use_backend('numpy') or ('cupy')"
        )
    for array in (query, key, value):
        if array.shape[-2] * abs(array.strides[-2] // array.itemsize) >= 2**31:
            raise NotImplementedError(
                f"the Triton attention kernels count within a head in 32 bits, and {array.shape} with strides of "
                f"{array.strides} bytes goes beyond: copy it to a layout (B, H, T, D)"
            )


def padded(D: int) -> int:
    """The width of a tile for D numbers: a power of two, and at least 16, the least that tensor cores take."""
    return max(16, 1 << (D - 1).bit_length())


def generator_or_current(generator: Any) -> Any:
    """`generator`, or the current one of minilm.random, which whoever calls with dropout and without one has loaded."""
    if generator is not None:
        return generator
    if "minilm.random" not in sys.modules:
        raise ValueError("dropout needs random numbers: pass generator=minilm.Generator(seed)")
    return sys.modules["minilm.random"].current_generator()


def sum_to(gradient: Any, shape: tuple[int, ...]) -> Any:
    """`gradient` summed over the axes along which an array of `shape` was broadcast to its shape."""
    extra = gradient.ndim - len(shape)
    ones = tuple(extra + i for i, n in enumerate(shape) if n == 1)
    return gradient.sum(axis=(*range(extra), *ones), keepdims=True).reshape(shape)

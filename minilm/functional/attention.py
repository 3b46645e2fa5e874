"""Scaled dot-product attention (Vaswani et al. 2017, equation 1), the textbook formula in one operation.

    S = Q Kᵀ / sqrt(D) + mask,   P = softmax(S) along the keys,   O = P V

The backward, with dO the cotangent of O:

    dV = Pᵀ dO,   dP = dO Vᵀ,   dS = P (dP - rowsum(dP P)),   dQ = dS K / sqrt(D),   dK = dSᵀ Q / sqrt(D)

The first two and the last two are the vjps of products, the third that of softmax, row by row (products of dP and P are
element by element); a mask of numbers gets dS. With dropout the mask multiplies P in O and dV, and dP.  Shapes: Q (...,
Hq, Tq, D), K (..., Hk, Tk, D), V (..., Hk, Tk, Dv), S and P (..., Hq, Tq, Tk), O (..., Hq, Tq, Dv). S and P are
computed and kept whole: this is the formula, and the oracle of the kernels that never store them
(minilm.kernels.attention).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm.backend import Array, MaskArray, xp
from minilm.functional.dropout import check_probability, dropout_factors
from minilm.functional.softmax import softmax_array
from minilm.random import Generator
from minilm.tensor import differentiable, unbroadcast, wide_sum


def causal_offset(is_causal: bool | str, Tq: int, Tk: int) -> int | None:
    """The o for which query i sees the keys j <= i + o; None if it sees all.

    "upper_left" (True): o = 0, PyTorch's meaning. "lower_right": o = Tk - Tq, the last query sees the last key, as
    decoding with a cache needs.
    """
    if is_causal is False:
        return None
    if is_causal is True or is_causal == "upper_left":
        return 0
    if is_causal == "lower_right":
        return Tk - Tq
    raise ValueError(f"is_causal is False, True, 'upper_left' or 'lower_right', got {is_causal!r}")


def _check(query: Array, key: Array, value: Array, enable_gqa: bool) -> int:
    """Raise ValueError if the shapes do not fit; else how many query heads share a key head."""
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    if min(query.ndim, key.ndim, value.ndim) < 2 or not query.ndim == key.ndim == value.ndim:
        raise ValueError(f"query, key and value are (..., T, D) with as many axes each; got {shapes}")
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2] or key.shape[:-2] != value.shape[:-2]:
        raise ValueError(
            f"query and key must agree in D, key and value in all but their width; got {shapes}"
        )
    if query.shape[:-2] == key.shape[:-2]:
        return 1
    Hq, Hk = (query.shape[-3], key.shape[-3]) if query.ndim > 2 else (1, 1)
    if query.shape[:-3] != key.shape[:-3] or Hk == 0 or Hq % Hk or not enable_gqa:
        raise ValueError(
            f"query and key must agree in all leading axes; with enable_gqa=True the query may have a multiple "
            f"of the key's heads (axis -3); got {shapes}, enable_gqa={enable_gqa}"
        )
    return Hq // Hk


@differentiable
def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: MaskArray = None,
    dropout_p: float = 0.0,
    is_causal: bool | str = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    generator: Generator | None = None,
) -> Any:
    """y = softmax(query keyᵀ scale + mask) value. A query that may see no key gets 0.

    The module's docstring derives the vjp.

    Args:
        query: (..., Hq, Tq, D).
        key: (..., Hk, Tk, D).
        value: (..., Hk, Tk, Dv).
        attn_mask: broadcasts to (..., Hq, Tq, Tk): booleans (True takes part) or numbers that are added to the scores
            (and get a gradient). With `is_causal` both apply.
        dropout_p: probability with which a weight is dropped (always applied: pass 0 outside training).
        is_causal: False, True or "upper_left", or "lower_right"; see `causal_offset`.
        scale: of the scores, 1/sqrt(D) if None.
        enable_gqa: grouped queries (Ainslie et al. 2023): Hq is a multiple of Hk, and query head h reads key head
            h // (Hq / Hk).

    Returns:
        (..., Hq, Tq, Dv).
    """
    m = xp(query)
    group = _check(query, key, value, enable_gqa)
    check_probability(dropout_p)
    (Tq, D), Tk = query.shape[-2:], key.shape[-2]
    scale = 1 / math.sqrt(D) if scale is None else float(scale)
    full = (*query.shape[:-1], Tk)  # (..., Hq, Tq, Tk)
    # heads that share keys become further queries of one head: (..., Hk, group * Tq, .)
    merged = (*key.shape[:-2], group * Tq)

    q = query.reshape(*merged, D) * scale
    query_shape, mask_shape = query.shape, () if attn_mask is None else attn_mask.shape
    scores = (q @ key.swapaxes(-1, -2)).reshape(full)
    if attn_mask is not None:
        if np.broadcast_shapes(attn_mask.shape, full) != full:
            raise ValueError(f"attn_mask {attn_mask.shape} must broadcast to (..., Tq, Tk) {full}")
        if attn_mask.dtype.kind == "b":
            scores = m.where(attn_mask, scores, -math.inf)
        elif attn_mask.dtype == scores.dtype:
            scores += attn_mask
        else:
            raise TypeError(f"attn_mask is bool or, as the scores, {scores.dtype}, not {attn_mask.dtype}: use .astype")
    offset = causal_offset(is_causal, Tq, Tk)
    if offset is not None:
        scores += m.where(m.tri(Tq, Tk, offset, dtype=bool), 0, -math.inf).astype(scores.dtype)
    weights = softmax_array(scores, -1)  # P
    factors = dropout_factors(full, dropout_p, weights, generator) if dropout_p else None
    dropped = (weights if factors is None else weights * factors).reshape(*merged, Tk)
    out = (dropped @ value).reshape(*full[:-1], value.shape[-1])

    def vjp(g: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        g = g.reshape(*merged, value.shape[-1])
        dvalue = dropped.swapaxes(-1, -2) @ g if needs[2] else None
        if not (needs[0] or needs[1] or needs[3]):
            return None, None, dvalue, None
        d = (g @ value.swapaxes(-1, -2)).reshape(full)  # dP
        if factors is not None:
            d *= factors
        d -= wide_sum(d * weights, -1, keepdims=True)
        d *= weights  # dS
        dmask = xp(d).array(unbroadcast(d, mask_shape)) if needs[3] else None  # a copy: d is worked on below
        d = d.reshape(*merged, Tk)
        dquery = ((d @ key) * scale).reshape(query_shape) if needs[0] else None
        dkey = d.swapaxes(-1, -2) @ q if needs[1] else None
        return dquery, dkey, dvalue, dmask

    return out, vjp

"""Rung 0: attention one number at a time. Nothing is vectorised, so nothing is hidden.

For one head, query i, keys j and channels d:

    score_j = scale sum_d query[i, d] key[j, d]        for the keys that i may see
    weight_j = exp(score_j) / sum_j exp(score_j)
    out[i, d] = sum_j weight_j value[j, d]

and backward, with g[i, d] the cotangent of out[i, d]:

    dweight_j = sum_d g[i, d] value[j, d]
    dscore_j = weight_j (dweight_j - sum_k weight_k dweight_k)      the vjp of softmax
    dvalue[j, d] += weight_j g[i, d]
    dquery[i, d] += scale dscore_j key[j, d],   dkey[j, d] += scale dscore_j query[i, d]

Cost: 2 Tq Tk (D + Dv) flops forward and 2.5 times that backward, each number fetched by itself: this is the slowest
rung by far, some microseconds a term. It keeps Tq Tk weights for the backward, as the formula does.

What it does not do: dropout and grouped heads. It says so, and where they are done.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    attn_mask: np.ndarray | None = None,
    dropout_p: float = 0.0,
    is_causal: bool | str = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    generator: Any = None,
) -> tuple[np.ndarray, Callable[..., tuple[np.ndarray | None, ...]]]:
    """The output (..., Tq, Dv) and its vjp; arguments as minilm.functional.scaled_dot_product_attention.

    Raises:
        NotImplementedError: for dropout and for grouped heads.
    """
    if dropout_p or enable_gqa:
        raise NotImplementedError(
            "the loops rung has no dropout and no grouped heads; the textbook formula in minilm.functional has both"
        )
    (Tq, D), (Tk, Dv) = query.shape[-2:], value.shape[-2:]
    scale = 1 / math.sqrt(D) if scale is None else scale
    offset = {False: Tk, True: 0, "upper_left": 0, "lower_right": Tk - Tq}[is_causal]
    mask = None if attn_mask is None else np.broadcast_to(attn_mask, (*query.shape[:-1], Tk))

    out = np.zeros((*query.shape[:-1], Dv), dtype=query.dtype)
    weights = np.zeros((*query.shape[:-1], Tk), dtype=query.dtype)
    for head in np.ndindex(query.shape[:-2]):
        for i in range(Tq):
            scores = {}  # of the keys that query i may see
            for j in range(min(i + offset + 1, Tk)):
                score = scale * sum(query[*head, i, d] * key[*head, j, d] for d in range(D))
                if mask is not None and mask.dtype == bool:
                    score = score if mask[*head, i, j] else -math.inf
                elif mask is not None:
                    score += mask[*head, i, j]
                if score > -math.inf:
                    scores[j] = score
            top = max(scores.values(), default=0.0)  # exp(score - top) cannot overflow
            total = sum(math.exp(score - top) for score in scores.values())
            for j, score in scores.items():
                weights[*head, i, j] = math.exp(score - top) / total
                for d in range(Dv):
                    out[*head, i, d] += weights[*head, i, j] * value[*head, j, d]

    def vjp(g: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        dquery, dkey, dvalue = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
        dscores = np.zeros_like(weights)
        for head in np.ndindex(query.shape[:-2]):
            for i in range(Tq):
                seen = [j for j in range(Tk) if weights[*head, i, j] != 0]
                dweight = {j: sum(g[*head, i, d] * value[*head, j, d] for d in range(Dv)) for j in seen}
                mean = sum(weights[*head, i, j] * dweight[j] for j in seen)
                for j in seen:
                    dscores[*head, i, j] = dscore = weights[*head, i, j] * (dweight[j] - mean)
                    for d in range(Dv):
                        dvalue[*head, j, d] += weights[*head, i, j] * g[*head, i, d]
                    for d in range(D):
                        dquery[*head, i, d] += scale * dscore * key[*head, j, d]
                        dkey[*head, j, d] += scale * dscore * query[*head, i, d]
        dmask = None
        if needs[3] and attn_mask is not None:  # summed over the axes along which it was broadcast
            dmask = np.zeros_like(attn_mask)
            padded = dmask.reshape((1,) * (dscores.ndim - dmask.ndim) + dmask.shape)
            axes = tuple(i for i, n in enumerate(padded.shape) if n == 1)
            padded += dscores.sum(axis=axes, keepdims=True)
        return dquery, dkey, dvalue, dmask

    return out, vjp

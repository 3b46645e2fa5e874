"""Rung 1: attention by blocks of keys, in plain NumPy. New here: softmax in one pass, and a backward that recomputes.

*Online softmax* (Milakov and Gimelshein 2018; FlashAttention, Dao et al. 2022, section 3.1). Softmax needs the largest
score before it can add up exponentials, so it seems to need all scores at once. It does not. For the scores seen so
far let  top = max_j s_j,  total = sum_j e^(s_j - top)  and  out = sum_j e^(s_j - top) value_j.  A new block raises
the maximum to top'. Each old term e^(s_j - top) should have been e^(s_j - top'), which is e^(top - top') times what
was added, the same factor for all of them:

    total' = total e^(top - top') + sum over the block of e^(s_j - top')          and out' in the same way.

After the last block, out / total is softmax(s) value, and  lse = top + log total  is log sum_j e^(s_j).

*The backward* keeps out and lse, not the weights: any block of them is one exponential away, weight_j = e^(s_j - lse).
The vjp of softmax, dscore_j = weight_j (dweight_j - sum_k weight_k dweight_k), has a sum over all keys in it. With
dweight_k = dout · value_k it is known before the first block:

    delta = sum_k weight_k (dout · value_k) = dout · sum_k weight_k value_k = dout · out.

Dropout does not change that: it multiplies weight_k by a factor in `out` and dweight_k by the same factor.

Cost, a head: 2 Tq Tk (D + Dv) flops forward as the formula; backward 2.5 times that, since the scores are computed
again (the formula: twice). Memory: the blocks of the scores are (Tq, BLOCK_K), so what is kept and what is worked on
grow with T, not with T². Each block is read and written while it is in the cache if Tq BLOCK_K numbers fit there; the
next rung cuts the queries as well. Where attention is causal, queries that see no key of a block are left out: half of
the work.

What it does not do: threads, or anything else for speed. Nor does it make dropout's random numbers block by block: it
holds the mask, one byte for each weight, and the next rung does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minilm.kernels.attention.arguments import check, generator_or_current, sum_to

BLOCK_K = 64


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
    """The output (..., Hq, Tq, Dv) and its vjp; arguments and errors as minilm.functional.scaled_dot_product_attention.

    float16 is computed in float32, as the GPU rungs do it.
    """
    options = check(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    (Tq, D), (Tk, Dv), dtype = query.shape[-2:], value.shape[-2:], query.dtype
    full = (*query.shape[:-1], Tk)
    # (..., Hk, group, T, D): query heads that share keys get an axis of their own, along which keys broadcast
    heads = (*key.shape[:-2], options.group)
    q, k, v = query.reshape(*heads, Tq, D), key[..., None, :, :], value[..., None, :, :]
    mask = None if attn_mask is None else np.broadcast_to(attn_mask, full).reshape(*heads, Tq, Tk)
    keep = None
    if options.dropout_p == 1:
        keep = np.broadcast_to(False, (*heads, Tq, Tk))
    elif options.dropout_p:
        keep = generator_or_current(generator).keep_mask(full, options.dropout_p).reshape(*heads, Tq, Tk)
    wide = np.promote_types(dtype, np.float32)
    scale, offset = options.scale, options.offset

    def blocks() -> Iterator[tuple[slice, slice]]:
        """Rows and columns of the scores, a block of keys at a time: the queries that see any of them."""
        for start in range(0, Tk, BLOCK_K):
            first = 0 if offset is None else min(max(start - offset, 0), Tq)
            if first < Tq:
                yield slice(first, Tq), slice(start, min(start + BLOCK_K, Tk))

    def block_of_scores(rows: slice, columns: slice) -> np.ndarray:
        """scale Q Kᵀ + mask, (..., Hk, group, rows, columns)."""
        scores = (q[..., rows, :].astype(wide) @ k[..., columns, :].swapaxes(-1, -2).astype(wide)) * scale
        if mask is not None and mask.dtype.kind == "b":
            scores = np.where(mask[..., rows, columns], scores, -np.inf)
        elif mask is not None:
            scores += mask[..., rows, columns]
        if offset is not None:
            i, j = np.arange(Tq)[rows, None], np.arange(Tk)[columns]
            scores = np.where(j <= i + offset, scores, -np.inf)
        return scores

    def dropped(weights: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        if keep is None:
            return weights
        return weights * (keep[..., rows, columns] * weights.dtype.type(options.keep_scale))

    top = np.full((*heads, Tq), -np.inf, dtype=wide)
    total = np.zeros((*heads, Tq), dtype=wide)
    acc = np.zeros((*heads, Tq, Dv), dtype=wide)  # out, before the division by total
    for rows, columns in blocks():
        scores = block_of_scores(rows, columns)
        new_top = np.maximum(top[..., rows], scores.max(-1))
        shift = np.where(new_top == -np.inf, 0, new_top)  # no key seen yet: -inf - (-inf) would be NaN
        weights = np.exp(scores - shift[..., None])
        rescale = np.exp(top[..., rows] - shift)
        total[..., rows] = total[..., rows] * rescale + weights.sum(-1)  # before dropout
        acc[..., rows, :] *= rescale[..., None]
        acc[..., rows, :] += dropped(weights, rows, columns) @ v[..., columns, :].astype(wide)
        top[..., rows] = new_top
    total = np.where(total == 0, 1, total)  # a query that sees no key: out is 0, and lse is top, -inf
    out = (acc / total[..., None]).astype(dtype)
    lse = top + np.log(total)
    del top, total, acc

    def vjp(g: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        dout = g.reshape(out.shape)
        delta = (dout.astype(wide) * out).sum(-1)
        # +inf where a query saw no key: its weights are e^(s - inf) = 0
        finite_lse = np.where(lse == -np.inf, np.inf, lse)
        dq = np.zeros(q.shape, dtype=wide)
        dk, dv = np.zeros((*heads[:-1], Tk, D), dtype=wide), np.zeros((*heads[:-1], Tk, Dv), dtype=wide)
        dscores_all = np.zeros((*heads, Tq, Tk), dtype=wide) if needs[3] else None
        for rows, columns in blocks():
            do, v_block = dout[..., rows, :].astype(wide), v[..., columns, :].astype(wide)
            weights = np.exp(block_of_scores(rows, columns) - finite_lse[..., rows, None])
            dweights = dropped(do @ v_block.swapaxes(-1, -2), rows, columns)
            dscores = weights * (dweights - delta[..., rows, None])
            # each key's gradient is complete after its block; the heads of a group share it
            dv[..., columns, :] = (dropped(weights, rows, columns).swapaxes(-1, -2) @ do).sum(-3)
            dk[..., columns, :] = (dscores.swapaxes(-1, -2) @ q[..., rows, :].astype(wide)).sum(-3) * scale
            dq[..., rows, :] += dscores @ k[..., columns, :].astype(wide) * scale
            if dscores_all is not None:
                dscores_all[..., rows, columns] = dscores
        dmask = None
        if dscores_all is not None:  # as large as the weights: a mask that is learned costs that
            dmask = sum_to(dscores_all.reshape(full), attn_mask.shape).astype(dtype)  # type: ignore[union-attr]
        gradients = (dq.reshape(query.shape), dk, dv)
        return *(d.astype(dtype) if need else None for d, need in zip(gradients, needs, strict=False)), dmask

    return out.reshape(*full[:-1], Dv), vjp

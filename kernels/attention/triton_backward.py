"""Rung 3: the recomputing backward as GPU kernels. New here: two passes over the scores, so that nobody adds twice.

The weights are computed again from lse, and with delta = rowsum(dout out) (derived on the blocked rung)

    weights = 2^(scores - lse),   dweights = dropped(dout Vᵀ),   dscores = weights (dweights - delta)
    dV = dropped(weights)ᵀ dout,  dK = scale dscoresᵀ Q,         dQ = scale dscores K

dK and dV are sums over the queries, dQ is a sum over the keys. One pass over the scores would have many programs add
into the same dQ, with atomics and in any order; so there are two kernels, one that owns BLOCK_K keys and lets the
queries pass by, and one that owns BLOCK_Q queries and lets the keys pass by. Each gradient is written once, by one
program, in a fixed order: the same bits every time.

Cost, a head: the scores and dweights are computed twice, so 7 products of 2 Tq Tk D flops are executed where 5 are
needed (3.5 and 2.5 times the forward's). Read: Q, K, V, dout, lse, delta; written: dQ, dK, dV, delta.
"""

from __future__ import annotations

import triton
import triton.language as tl

from minilm.kernels.attention.triton_forward import LOG2E, kept, load_rows, masked


@triton.jit
def attention_delta_kernel(
    out, dout, delta, out_b, out_h, out_t, dout_b, dout_h, dout_t, dout_d, Tq,
    Dv: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """delta_i = sum_d dout_id out_id. Grid (blocks of queries, Hq, B)."""
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    o = load_rows(out + batch * out_b + head * out_h, rows, out_t, 1, Tq, Dv, BLOCK_DV)
    do = load_rows(dout + batch * dout_b + head * dout_h, rows, dout_t, dout_d, Tq, Dv, BLOCK_DV)
    sums = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    tl.store(delta + (batch * tl.num_programs(1) + head) * Tq + rows, sums, mask=rows < Tq)


@triton.jit
def load_lse(lse, rows, Tq):
    """lse, but +inf, which makes every weight 0, for rows that saw no key (-inf) and rows beyond Tq."""
    values = tl.load(lse + rows, mask=rows < Tq, other=float("inf"))
    return tl.where(values == -float("inf"), float("inf"), values)


@triton.jit
def _gather_key_value(
    dk, dv, k, v, query, dout, lse, delta, attn_mask, query_t, query_d, dout_t, dout_d, mask_q, mask_k,
    columns, start, stop, Tq, Tk, offset, scale, dropout_p, keep_scale, seed, counter,
    D: tl.constexpr, Dv: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_Q: tl.constexpr,
    MASKED: tl.constexpr, CAUSAL: tl.constexpr, MASK: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """Let the queries from start to stop pass by; returns the new dk and dv. Scores are (BLOCK_K, BLOCK_Q) here."""
    for first in range(start, stop, BLOCK_Q):
        rows = first + tl.arange(0, BLOCK_Q)
        q = load_rows(query, rows, query_t, query_d, Tq, D, BLOCK_D)
        scores = tl.dot(k, tl.trans(q), input_precision="ieee") * (scale * LOG2E)
        if MASKED:
            scores = masked(
                scores, attn_mask, mask_q, mask_k, rows[None, :], columns[:, None], Tq, Tk, offset, CAUSAL, MASK
            )
        weights = tl.exp2(scores - load_lse(lse, rows, Tq)[None, :])
        do = load_rows(dout, rows, dout_t, dout_d, Tq, Dv, BLOCK_DV)
        dweights = tl.dot(v, tl.trans(do), input_precision="ieee")
        dropped = weights
        if DROPOUT:
            keep = kept(rows[None, :], columns[:, None], seed, counter, Tk, dropout_p)
            dropped = tl.where(keep, weights * keep_scale, 0.0)
            dweights = tl.where(keep, dweights * keep_scale, 0.0)
        dv = tl.dot(dropped.to(do.dtype), do, dv, input_precision="ieee")
        dscores = weights * (dweights - tl.load(delta + rows, mask=rows < Tq, other=0.0)[None, :])
        dk = tl.dot(dscores.to(q.dtype), q, dk, input_precision="ieee")
    return dk, dv


@triton.jit(do_not_specialize=["dropout_p", "seed", "counter", "offset"])
def attention_key_value_kernel(
    query, key, value, attn_mask, dout, lse, delta, dkey, dvalue,
    query_b, query_h, query_t, query_d, key_b, key_h, key_t, key_d, value_b, value_h, value_t, value_d,
    mask_b, mask_h, mask_q, mask_k, dout_b, dout_h, dout_t, dout_d,
    dkey_b, dkey_h, dkey_t, dvalue_b, dvalue_h, dvalue_t,
    group, Tq, Tk, offset, scale, dropout_p, keep_scale, seed, counter,
    D: tl.constexpr, Dv: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    CAUSAL: tl.constexpr, MASK: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """dK and dV. Grid (blocks of keys, Hk, B); a program goes through all query heads that share its key head."""
    block, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    columns = block * BLOCK_K + tl.arange(0, BLOCK_K)
    k = load_rows(key + batch * key_b + head * key_h, columns, key_t, key_d, Tk, D, BLOCK_D)
    v = load_rows(value + batch * value_b + head * value_h, columns, value_t, value_d, Tk, Dv, BLOCK_DV)
    dk = tl.zeros((BLOCK_K, BLOCK_D), tl.float32)
    dv = tl.zeros((BLOCK_K, BLOCK_DV), tl.float32)

    start, full = 0, 0  # the first query that sees a key of the block, and the first that sees them all
    if CAUSAL:
        start = tl.minimum(tl.maximum(block * BLOCK_K - offset, 0), Tq) // BLOCK_Q * BLOCK_Q
        full = tl.minimum(tl.maximum((block + 1) * BLOCK_K - 1 - offset, 0), Tq)
        full = tl.cdiv(full, BLOCK_Q) * BLOCK_Q
    if (block + 1) * BLOCK_K > Tk:
        full = tl.cdiv(Tq, BLOCK_Q) * BLOCK_Q
    if MASK is not None:
        full = Tq

    for member in range(group):
        query_head = head * group + member
        index = batch * tl.num_programs(1) * group + query_head
        query_at = query + batch * query_b + query_head * query_h
        dout_at = dout + batch * dout_b + query_head * dout_h
        mask_at = attn_mask
        if MASK is not None:
            mask_at = attn_mask + batch * mask_b + query_head * mask_h
        dk, dv = _gather_key_value(
            dk, dv, k, v, query_at, dout_at, lse + index * Tq, delta + index * Tq, mask_at,
            query_t, query_d, dout_t, dout_d, mask_q, mask_k,
            columns, start, full, Tq, Tk, offset, scale, dropout_p, keep_scale, seed, counter + index * Tq * Tk,
            D, Dv, BLOCK_D, BLOCK_DV, BLOCK_Q, True, CAUSAL, MASK, DROPOUT,
        )  # fmt: skip
        if MASK is None:
            dk, dv = _gather_key_value(
                dk, dv, k, v, query_at, dout_at, lse + index * Tq, delta + index * Tq, mask_at,
                query_t, query_d, dout_t, dout_d, mask_q, mask_k,
                columns, full, Tq, Tq, Tk, offset, scale, dropout_p, keep_scale, seed, counter + index * Tq * Tk,
                D, Dv, BLOCK_D, BLOCK_DV, BLOCK_Q, False, CAUSAL, MASK, DROPOUT,
            )  # fmt: skip

    d, dv_d = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    inside = columns[:, None] < Tk
    dkey += batch * dkey_b + head * dkey_h
    dvalue += batch * dvalue_b + head * dvalue_h
    dk = (dk * scale).to(dkey.dtype.element_ty)
    tl.store(dkey + columns[:, None] * dkey_t + d[None, :], dk, mask=inside & (d[None, :] < D))
    dv = dv.to(dvalue.dtype.element_ty)
    tl.store(dvalue + columns[:, None] * dvalue_t + dv_d[None, :], dv, mask=inside & (dv_d[None, :] < Dv))


@triton.jit
def _gather_query(
    dq, q, do, lse, delta, key, value, attn_mask, dmask, key_t, key_d, value_t, value_d, mask_q, mask_k,
    rows, start, stop, Tq, Tk, offset, scale, dropout_p, keep_scale, seed, counter,
    D: tl.constexpr, Dv: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_K: tl.constexpr,
    MASKED: tl.constexpr, CAUSAL: tl.constexpr, MASK: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """Let the keys from start to stop pass by; returns the new dq."""
    for first in range(start, stop, BLOCK_K):
        columns = first + tl.arange(0, BLOCK_K)
        k = load_rows(key, columns, key_t, key_d, Tk, D, BLOCK_D)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2E)  # (BLOCK_Q, BLOCK_K)
        if MASKED:
            scores = masked(
                scores, attn_mask, mask_q, mask_k, rows[:, None], columns[None, :], Tq, Tk, offset, CAUSAL, MASK
            )
        weights = tl.exp2(scores - lse[:, None])
        v = load_rows(value, columns, value_t, value_d, Tk, Dv, BLOCK_DV)
        dweights = tl.dot(do, tl.trans(v), input_precision="ieee")
        if DROPOUT:
            keep = kept(rows[:, None], columns[None, :], seed, counter, Tk, dropout_p)
            dweights = tl.where(keep, dweights * keep_scale, 0.0)
        dscores = weights * (dweights - delta[:, None])
        if dmask is not None:
            inside = (rows[:, None] < Tq) & (columns[None, :] < Tk)
            tl.store(dmask + rows[:, None].to(tl.int64) * Tk + columns[None, :], dscores, mask=inside)
        dq = tl.dot(dscores.to(k.dtype), k, dq, input_precision="ieee")
    return dq


@triton.jit(do_not_specialize=["dropout_p", "seed", "counter", "offset"])
def attention_query_kernel(
    query, key, value, attn_mask, dout, lse, delta, dquery, dmask,
    query_b, query_h, query_t, query_d, key_b, key_h, key_t, key_d, value_b, value_h, value_t, value_d,
    mask_b, mask_h, mask_q, mask_k, dout_b, dout_h, dout_t, dout_d, dquery_b, dquery_h, dquery_t,
    group, Tq, Tk, offset, scale, dropout_p, keep_scale, seed, counter,
    D: tl.constexpr, Dv: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    CAUSAL: tl.constexpr, MASK: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """dQ, and dmask (B, Hq, Tq, Tk) unless it is None. Grid (blocks of queries, Hq, B)."""
    block, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    if CAUSAL:
        block = tl.num_programs(0) - 1 - block
    key += batch * key_b + head // group * key_h
    value += batch * value_b + head // group * value_h
    index = batch * tl.num_programs(1) + head
    counter += index * Tq * Tk
    if MASK is not None:
        attn_mask += batch * mask_b + head * mask_h
    if dmask is not None:
        dmask += index * Tq * Tk

    rows = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
    q = load_rows(query + batch * query_b + head * query_h, rows, query_t, query_d, Tq, D, BLOCK_D)
    do = load_rows(dout + batch * dout_b + head * dout_h, rows, dout_t, dout_d, Tq, Dv, BLOCK_DV)
    lse = load_lse(lse + index * Tq, rows, Tq)
    delta = tl.load(delta + index * Tq + rows, mask=rows < Tq, other=0.0)
    dq = tl.zeros((BLOCK_Q, BLOCK_D), tl.float32)

    stop, full = Tk, Tk  # as in the forward kernel
    if CAUSAL:
        stop = tl.maximum(tl.minimum(Tk, (block + 1) * BLOCK_Q + offset), 0)
        full = tl.maximum(tl.minimum(Tk, block * BLOCK_Q + offset + 1), 0)
    full = 0 if MASK is not None else full // BLOCK_K * BLOCK_K
    if MASK is None:
        dq = _gather_query(
            dq, q, do, lse, delta, key, value, attn_mask, dmask, key_t, key_d, value_t, value_d, mask_q, mask_k,
            rows, 0, full, Tq, Tk, offset, scale, dropout_p, keep_scale, seed, counter,
            D, Dv, BLOCK_D, BLOCK_DV, BLOCK_K, False, CAUSAL, MASK, DROPOUT,
        )  # fmt: skip
    dq = _gather_query(
        dq, q, do, lse, delta, key, value, attn_mask, dmask, key_t, key_d, value_t, value_d, mask_q, mask_k,
        rows, full, stop, Tq, Tk, offset, scale, dropout_p, keep_scale, seed, counter,
        D, Dv, BLOCK_D, BLOCK_DV, BLOCK_K, True, CAUSAL, MASK, DROPOUT,
    )  # fmt: skip

    d = tl.arange(0, BLOCK_D)
    dq = (dq * scale).to(dquery.dtype.element_ty)
    at = dquery + batch * dquery_b + head * dquery_h + rows[:, None] * dquery_t + d[None, :]
    tl.store(at, dq, mask=(rows[:, None] < Tq) & (d[None, :] < D))

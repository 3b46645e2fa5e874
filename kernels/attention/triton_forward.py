"""Rung 2: the blocked loop as a GPU kernel. New here: who does what.

One program owns BLOCK_Q queries of one head. It holds them, their running maximum and total and their output in
registers, and lets the keys and values pass by in blocks of BLOCK_K, through shared memory:

    scores  = scale Q Kᵀ + mask,   top' = max(top, rowmax scores),   weights = 2^(scores - top')
    total   = total 2^(top - top') + rowsum weights
    out     = out 2^(top - top') + dropped(weights) V

and at the end

    out     = out / total,   lse = top + log2 total

The GPU has an instruction for 2^x and none for e^x, so scores, top and lse are in units of log2 here: log2(e) goes into
the scale. Blocks in which nothing is masked take a loop without masks; blocks that no query sees are skipped.

Cost, a head: 2 Tq Tk (D + Dv) flops, when causal about half. Q is read and out and lse are written once; K and V are
read once for each block of queries, Tq / BLOCK_Q times, mostly out of the L2 cache. Scores and weights never leave
the chip.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_rows(pointer, rows, stride_t, stride_d, T, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows of a matrix (T, D) as a tile (len(rows), BLOCK_D), 0 beyond the edges of the matrix."""
    d = tl.arange(0, BLOCK_D)
    inside = rows[:, None] < T
    if D != BLOCK_D:
        inside = inside & (d[None, :] < D)
    return tl.load(pointer + rows[:, None] * stride_t + d[None, :] * stride_d, mask=inside, other=0.0)


@triton.jit
def masked(
    scores, attn_mask, mask_q, mask_k, rows, columns, Tq, Tk, offset, CAUSAL: tl.constexpr, MASK: tl.constexpr
):
    """The scores (in units of log2) with every mask applied: -inf where a query may not see a key.

    rows and columns broadcast to the scores: (R, 1) and (1, C), or (1, R) and (C, 1) for transposed scores.
    """
    seen = (rows < Tq) & (columns < Tk)
    if CAUSAL:
        seen = seen & (columns <= rows + offset)
    if MASK is not None:
        # int64: one head's mask may have more than 2^31 elements
        at = rows.to(tl.int64) * mask_q + columns.to(tl.int64) * mask_k
        mask = tl.load(attn_mask + at, mask=seen, other=0)
        if MASK == "bool":
            seen = seen & (mask != 0)
        else:
            scores += mask.to(tl.float32) * LOG2E
    return tl.where(seen, scores, -float("inf"))


@triton.jit
def kept(rows, columns, seed, counter, Tk, dropout_p):
    """Which weights dropout keeps. `counter` is the number of the head's element (0, 0) in the stream of masks.

    Element (i, j) has the counter of its place in C order, so minilm.random.Generator.keep_mask gives the same.
    """
    return tl.rand(seed, counter + rows.to(tl.int64) * Tk + columns) >= dropout_p


@triton.jit
def attend(
    q, top, total, out, key, value, attn_mask, key_t, key_d, value_t, value_d, mask_q, mask_k,
    rows, start, stop, Tq, Tk, offset, scale, dropout_p, seed, counter,
    D: tl.constexpr, Dv: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_K: tl.constexpr,
    MASKED: tl.constexpr, CAUSAL: tl.constexpr, MASK: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """Let the keys from start to stop pass by; returns the new top, total and out."""
    for first in range(start, stop, BLOCK_K):
        columns = first + tl.arange(0, BLOCK_K)
        k = load_rows(key, columns, key_t, key_d, Tk, D, BLOCK_D)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2E)  # (BLOCK_Q, BLOCK_K)
        if MASKED:
            scores = masked(
                scores, attn_mask, mask_q, mask_k, rows[:, None], columns[None, :], Tq, Tk, offset, CAUSAL, MASK
            )
        new_top = tl.maximum(top, tl.max(scores, 1))
        # a row that has seen no key yet: -inf - (-inf) would be NaN
        shift = tl.where(new_top == -float("inf"), 0.0, new_top) if MASKED else new_top
        weights = tl.exp2(scores - shift[:, None])
        rescale = tl.exp2(top - shift)
        total = total * rescale + tl.sum(weights, 1)  # before dropout: it acts on weights that sum to 1
        if DROPOUT:
            keep = kept(rows[:, None], columns[None, :], seed, counter, Tk, dropout_p)
            weights = tl.where(keep, weights, 0.0)
        v = load_rows(value, columns, value_t, value_d, Tk, Dv, BLOCK_DV)
        out = tl.dot(weights.to(v.dtype), v, out * rescale[:, None], input_precision="ieee")
        top = new_top
    return top, total, out


@triton.jit(do_not_specialize=["dropout_p", "seed", "counter", "offset"])
def attention_forward_kernel(
    query, key, value, attn_mask, out, lse,
    query_b, query_h, query_t, query_d, key_b, key_h, key_t, key_d, value_b, value_h, value_t, value_d,
    mask_b, mask_h, mask_q, mask_k, out_b, out_h, out_t,
    group, Tq, Tk, offset, scale, dropout_p, keep_scale, seed, counter,
    D: tl.constexpr, Dv: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    CAUSAL: tl.constexpr, MASK: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """Grid (blocks of queries, Hq, B). Names like query_t are strides, in elements."""
    block, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    if CAUSAL:  # the last queries see the most keys: the longest programs start first
        block = tl.num_programs(0) - 1 - block
    query += batch * query_b + head * query_h
    key += batch * key_b + head // group * key_h
    value += batch * value_b + head // group * value_h
    out += batch * out_b + head * out_h
    index = batch * tl.num_programs(1) + head
    lse += index * Tq
    counter += index * Tq * Tk
    if MASK is not None:
        attn_mask += batch * mask_b + head * mask_h

    rows = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
    q = load_rows(query, rows, query_t, query_d, Tq, D, BLOCK_D)
    top = tl.full((BLOCK_Q,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    acc = tl.zeros((BLOCK_Q, BLOCK_DV), tl.float32)

    stop, full = Tk, Tk  # keys that some query sees, and keys that all queries of the block see
    if CAUSAL:
        stop = tl.maximum(tl.minimum(Tk, (block + 1) * BLOCK_Q + offset), 0)
        full = tl.maximum(tl.minimum(Tk, block * BLOCK_Q + offset + 1), 0)
    full = 0 if MASK is not None else full // BLOCK_K * BLOCK_K
    if MASK is None:
        top, total, acc = attend(
            q, top, total, acc, key, value, attn_mask, key_t, key_d, value_t, value_d, mask_q, mask_k,
            rows, 0, full, Tq, Tk, offset, scale, dropout_p, seed, counter,
            D, Dv, BLOCK_D, BLOCK_DV, BLOCK_K, False, CAUSAL, MASK, DROPOUT,
        )  # fmt: skip
    top, total, acc = attend(
        q, top, total, acc, key, value, attn_mask, key_t, key_d, value_t, value_d, mask_q, mask_k,
        rows, full, stop, Tq, Tk, offset, scale, dropout_p, seed, counter,
        D, Dv, BLOCK_D, BLOCK_DV, BLOCK_K, True, CAUSAL, MASK, DROPOUT,
    )  # fmt: skip

    total = tl.where(total == 0, 1.0, total)  # a row whose keys are all masked: out is 0, and lse is top, -inf
    acc = acc / total[:, None]
    if DROPOUT:
        acc *= keep_scale
    d = tl.arange(0, BLOCK_DV)
    inside = (rows[:, None] < Tq) & (d[None, :] < Dv)
    tl.store(out + rows[:, None] * out_t + d[None, :], acc.to(out.dtype.element_ty), mask=inside)
    tl.store(lse + rows, top + tl.log2(total), mask=rows < Tq)

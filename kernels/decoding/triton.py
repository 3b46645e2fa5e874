"""Decoding: one query per head against Tk cached keys. New here: the keys are divided, not the queries.

The forward kernel of attention gives each block of queries a program. With one query that is one program a head: a few
SMs would read the whole cache while the others stand idle. So the keys are split into runs of KEYS, one program each

    out_s, lse_s = attention to the keys of run s alone                 (softmax over these keys)

and a second kernel combines the runs. The weights of run s have to be e^(lse_s - lse) times smaller in the whole:

    lse = log sum_s e^(lse_s),     out = sum_s e^(lse_s - lse) out_s

which is the online softmax once more, over runs instead of keys. The query heads that share a key head are the rows of
one tile, so the cache is read once for all of them.

A run has the same length whatever else is in the batch: a sequence gives the same bits alone and in company.

Cost, a key head: reads Tk (D + Dv) numbers, once; 2 group Tk (D + Dv) flops. That is group flops a byte in float16,
far below what a GPU can do with a byte: decoding goes as fast as the cache can be read.

What it does not do: masks other than lengths, dropout, gradients (the general kernels' backward serves them).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import triton
import triton.language as tl

from minilm.kernels.attention.arguments import DTYPES, check, covered, padded
from minilm.kernels.attention.triton_forward import attend, load_rows
from minilm.kernels.host import cdiv, empty, launch, pointers, strides, tile
from minilm.kernels.static_report import StaticCase


@triton.jit
def decoding_split_kernel(
    query, key, value, lengths, part_out, part_lse,
    query_b, query_h, query_d, key_b, key_h, key_t, key_d, value_b, value_h, value_t, value_d, group, Tk, scale,
    D: tl.constexpr, Dv: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_G: tl.constexpr,
    BLOCK_K: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """out and lse of each run of keys. Grid (runs, Hk, B)."""
    run, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    length = Tk
    if lengths is not None:
        length = tl.minimum(tl.load(lengths + batch).to(tl.int32), Tk)
    rows = tl.arange(0, BLOCK_G)  # the query heads that share this key head
    q = load_rows(query + batch * query_b + head * group * query_h, rows, query_h, query_d, group, D, BLOCK_D)
    top = tl.full((BLOCK_G,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_G,), tl.float32)
    acc = tl.zeros((BLOCK_G, BLOCK_DV), tl.float32)

    key += batch * key_b + head * key_h
    value += batch * value_b + head * value_h
    start, stop = run * KEYS, tl.minimum((run + 1) * KEYS, length)
    full = tl.maximum(start, stop // BLOCK_K * BLOCK_K)  # KEYS is a multiple of BLOCK_K
    top, total, acc = attend(
        q, top, total, acc, key, value, None, key_t, key_d, value_t, value_d, 0, 0,
        rows, start, full, group, length, 0, scale, 0.0, 0, 0,
        D, Dv, BLOCK_D, BLOCK_DV, BLOCK_K, False, False, None, False,
    )  # fmt: skip
    top, total, acc = attend(
        q, top, total, acc, key, value, None, key_t, key_d, value_t, value_d, 0, 0,
        rows, full, stop, group, length, 0, scale, 0.0, 0, 0,
        D, Dv, BLOCK_D, BLOCK_DV, BLOCK_K, True, False, None, False,
    )  # fmt: skip

    total = tl.where(total == 0, 1.0, total)
    at = ((batch * tl.num_programs(1) + head) * group + rows) * tl.num_programs(0) + run
    d = tl.arange(0, BLOCK_DV)
    inside = (rows[:, None] < group) & (d[None, :] < Dv)
    tl.store(part_out + at[:, None] * Dv + d[None, :], acc / total[:, None], mask=inside)
    tl.store(part_lse + at, top + tl.log2(total), mask=rows < group)


@triton.jit
def decoding_combine_kernel(
    part_out, part_lse, out, lse, runs, Dv: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_S: tl.constexpr
):
    """out and lse of all keys, from those of the runs. Grid (B Hq,)."""
    index = tl.program_id(0).to(tl.int64)
    part_out += index * runs * Dv
    part_lse += index * runs
    top = tl.full((1,), -float("inf"), tl.float32)
    total = tl.zeros((1,), tl.float32)
    acc = tl.zeros((BLOCK_DV,), tl.float32)
    for first in range(0, runs, BLOCK_S):
        s = first + tl.arange(0, BLOCK_S)
        scores = tl.load(part_lse + s, mask=s < runs, other=-float("inf"))
        new_top = tl.maximum(top, tl.max(scores, 0))
        shift = tl.where(new_top == -float("inf"), 0.0, new_top)
        weights = tl.exp2(scores - shift)
        rescale = tl.exp2(top - shift)
        total = total * rescale + tl.sum(weights, 0)
        part = load_rows(part_out, s, Dv, 1, runs, Dv, BLOCK_DV)
        acc = acc * rescale + tl.sum(weights[:, None] * part, 0)
        top = new_top
    total = tl.where(total == 0, 1.0, total)
    d = tl.arange(0, BLOCK_DV)
    tl.store(out + index * Dv + d, (acc / total).to(out.dtype.element_ty), mask=d < Dv)
    tl.store(lse + index + tl.arange(0, 1), top + tl.log2(total))


def decode(q: Any, k: Any, v: Any, scale: float, lengths: Any = None) -> tuple[Any, Any]:
    """out (B, Hq, 1, Dv) and lse (B, Hq, 1) in units of log2, of q (B, Hq, 1, D) and the cache k, v (B, Hk, Tk, .)."""
    (B, Hq, _, D), (Hk, Tk), Dv = q.shape, k.shape[1:3], v.shape[-1]
    group = Hq // Hk if Hk else 1
    width = max(padded(D), padded(Dv))
    sizes = tile("decoding_split", D=width, dtype=DTYPES[q.dtype.name])
    runs = cdiv(Tk, sizes["KEYS"])
    part_out, part_lse = empty((B, Hq, runs, Dv), "float32", like=q), empty((B, Hq, runs), "float32", like=q)
    query_b, query_h, _, query_d = strides(q)
    launch(
        decoding_split_kernel,
        (runs, Hk, B),
        *pointers(q, k, v, lengths, part_out, part_lse),
        *(query_b, query_h, query_d, *strides(k), *strides(v), group, Tk, scale),
        **{"D": D, "Dv": Dv, "BLOCK_D": padded(D), "BLOCK_DV": padded(Dv), "BLOCK_G": padded(group)},
        **sizes,
    )
    out, lse = empty((B, Hq, 1, Dv), q.dtype, like=q), empty((B, Hq, 1), "float32", like=q)
    launch(
        decoding_combine_kernel,
        (B * Hq,),
        *pointers(part_out, part_lse, out, lse),
        runs,
        **{"Dv": Dv, "BLOCK_DV": padded(Dv)},
        **tile("decoding_combine", D=width),
    )
    return out, lse


def decode_attention(query: Any, key: Any, value: Any, lengths: Any = None, scale: float | None = None) -> Any:
    """Attention of one query per head to a cache, without a gradient.

    Args:
        query: (B, Hq, 1, D).
        key: (B, Hk, Tk, D), Hq a multiple of Hk; with value any strides, so a cache may be larger than its Tk.
        value: (B, Hk, Tk, Dv).
        lengths: integers (B,), how many of the Tk keys each sequence of the batch has; all of them if None.
        scale: of the scores, 1/sqrt(D) if None.

    Returns:
        (B, Hq, 1, Dv); 0 for a sequence of length 0.

    Raises:
        ValueError, TypeError: if the arrays do not fit each other.
        NotImplementedError: for a dtype other than float16, bfloat16 (as uint16) and float32, or a width over 256.
    """
    if query.ndim != 4 or query.shape[2] != 1:
        raise ValueError(f"decoding takes one query per head, (B, Hq, 1, D), got {query.shape}")
    options = check(query, key, value, None, 0.0, False, scale, True)
    covered(query, key, value)
    if lengths is not None and (lengths.shape != query.shape[:1] or lengths.dtype.kind not in "iu"):
        raise ValueError(
            f"lengths are integers, one for each of the {query.shape[0]} sequences; got {lengths.shape} {lengths.dtype}"
        )
    return decode(query, key, value, options.scale, lengths)[0]


def static_cases() -> Iterator[StaticCase]:
    """One sequence of 16384 keys, 32 query heads on 8 key heads."""

    def run(dtype: str, B: int, Hq: int, Hk: int, T: int, D: int) -> None:
        dtype = "uint16" if dtype == "bfloat16" else dtype
        key, value = (np.zeros((B, Hk, T, D), dtype) for _ in range(2))
        decode_attention(np.zeros((B, Hq, 1, D), dtype), key, value)

    for D in (64, 128):
        yield StaticCase(
            name="decoding",
            kernels=("decoding_split_kernel", "decoding_combine_kernel"),
            sizes={"B": 1, "Hq": 32, "Hk": 8, "T": 16384, "D": D},
            counted={"B": 1, "Hq": 4, "Hk": 1, "T": 2048, "D": D},
            run=run,
            flops=lambda B, Hq, Hk, T, D: 4 * B * Hq * T * D,
            bytes=lambda itemsize, B, Hq, Hk, T, D: 2 * B * (Hk * T + Hq) * D * itemsize,
        )

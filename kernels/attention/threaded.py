"""The fast CPU path of attention: blocks of scores that stay in the cache, several heads at a time, on our threads.

New against `blocked`:

- *A block is turned*: a row for each key, a column for each query. The BLAS multiplies (keys, D) (D, queries) half as
  fast again as (queries, D) (keys, D)ᵀ, whose second factor it has to turn itself, for each block anew; to turn the
  queries once costs little. And what belongs to a query, as the sum of its weights, lies along the rows, which NumPy
  broadcasts fastest; the sum itself is a product with a row of ones.
- *Softmax without the maximum.* In e^(s - top) / Σ e^(s - top) top cancels: it only keeps e^s within the range of a
  float. Scores of a usual size are in range without it, and two passes over the block fall away. The sums tell: a
  query whose sum is not between 1/SAFE and SAFE is computed again by online softmax, as in `blocked`. It alone: what
  a query puts out must not depend, not in its last bit, on another, nor on a key that it may not see.
- *The weights are not divided by their sums.* With E = e^s and r = 1 / Σ E, a number for each query,

      out = r Eᵀ V,    dV = E (r dO),    dS = E (V (r dO)ᵀ - r delta),    delta = dO · out

  so r multiplies rows of D numbers, and never one of Tk.
- *Short sequences keep E* for the backward, where it takes no more memory than query, key, value and out; long ones
  compute it again, block by block, so that memory is linear in the length.
- *One call for several heads*, as many as fill a block: where sequences are short the calls would cost more than the
  work. Each thread owns a share of the batch or of the heads, and so their dK and dV. If neither can be shared out
  evenly the queries are; each share then has a dK and a dV of its own, and they are added in the end.

Cost: 2 Tq Tk (D + Dv) flops a head forward, backward 2.5 times that (twice, where E was kept). Where attention is
causal, a block ends at the last key that one of its queries sees.

What it does not do: leave out blocks that a mask hides, nor make dropout's random numbers block by block (as
`blocked`, it holds one byte for each weight). The gradient of a mask takes as much memory as all weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.kernels.attention.arguments import Options, check, generator_or_current, sum_to
from minilm.kernels.attention.cutting import Heads, chunks, queries_of_a_block, shares
from minilm.kernels.decoding.threaded import decode
from minilm.kernels.threads import blocks, parallel, pieces

BLOCK = 3 << 16
"""Scores of a block: 768 kB in float32. Smaller ones cost more calls, larger ones leave the L2 cache for nothing."""

KEPT = 1.0
"""E is kept where it takes at most so many times the memory of query, key, value and out."""

SAFE = 1e20
"""Sums of e^s from 1/SAFE to SAFE need no maximum. Float32 reaches 3e38: the rest is for what they are multiplied with,
gradients above all."""

MACS, READ, EACH = 1 / 5, 2.5, 10
"""Steps of 0.1 ns, for `pieces`: of a multiplication in a product, of a number of a key or value that comes from
memory, of whatever else is done to a score."""


def exponential() -> tuple[np.ufunc, float]:
    """(f, c) with e^x = f(c x): exp2 where NumPy has vector instructions for it, there it takes half of exp's time.

    But forty times as long for -inf and what is near it, so where such scores are expected np.exp is the better one.
    """
    try:
        from numpy.lib.introspect import opt_func_info  # since NumPy 2.1

        target = opt_func_info(func_name="^exp2$")["exp2"]["ff"]["current"]
    except (ImportError, KeyError):
        return np.exp, 1.0
    return (np.exp, 1.0) if target.startswith("baseline") else (np.exp2, math.log2(math.e))


EXP, UNIT = exponential()

# ----- arrays: x (b, h, group, n, D) for n queries of each head of a group, blocks (b, h, keys, group n)


@functools.lru_cache(maxsize=16)
def tile(n: int, later: float, dtype: np.dtype) -> np.ndarray:
    """(n, n): `later` where the row (a key) is greater than the column (a query), inf elsewhere."""
    return np.where(np.tri(n, k=-1, dtype=bool), later, np.inf).astype(dtype)


def with_rows_in_memory(x: np.ndarray) -> np.ndarray:
    """`x`, copied unless its rows have no gaps and do not overlap: what the BLAS reads."""
    row, number = x.strides[-2:]
    fits = number == x.itemsize and row % number == 0 and row >= x.shape[-1] * number
    return x if fits else np.ascontiguousarray(x)


def turned(x: np.ndarray, factor: float) -> np.ndarray:
    """factor x, as (b, h, D, group n)."""
    b, h, group, n, D = x.shape
    return np.multiply(x.transpose(0, 1, 4, 2, 3), factor, order="C").reshape(b, h, D, group * n)


def merged(x: np.ndarray) -> np.ndarray:
    """x as (b, h, group n, D)."""
    b, h, group, n, D = x.shape
    return x.reshape(b, h, group * n, D)


def as_factor(r: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A number for each query, (b, h, group n), as what x can be multiplied with."""
    return r.reshape(*x.shape[:-1], 1)


def part_of(mask: np.ndarray, at: Heads, rows: slice, keys: slice) -> np.ndarray:
    """Of a mask (B, Hk, group, Tq, Tk) what belongs to a block, as (b, h, keys, group, n)."""
    return mask[at][..., rows, keys].transpose(0, 1, 4, 2, 3)


def heads_inside(B: int, T: int, *heads: int, dtype: np.dtype) -> np.ndarray:
    """An empty (B, *heads[:-1], T, heads[-1]), in memory (B, T, *heads): to join the heads copies nothing."""
    last = len(heads) + 1
    return np.empty((B, T, *heads), dtype=dtype).transpose(0, *range(2, last), 1, last)


class Attention:
    """One call: what is computed from, how it is cut, and what the backward needs."""

    # slots: what the engine has to find, to see whether it was changed in place, the vjp below holds itself
    __slots__ = (
        *("q", "k", "v", "out", "bias", "hidden", "keep", "keep_scale", "offset", "scale", "dtype", "group"),
        *("BQ", "BK", "work", "heads_at_a_time", "room", "keeps_weights", "ones", "saved"),
    )

    def __init__(
        self, query: np.ndarray, key: np.ndarray, value: np.ndarray, attn_mask: Any, options: Options, generator: Any
    ) -> None:
        (Tq, D), (Tk, Dv), group = query.shape[-2:], value.shape[-2:], options.group
        B, Hk = math.prod(key.shape[:-3]), key.shape[-3] if key.ndim > 2 else 1
        full, split = (*query.shape[:-1], Tk), (B, Hk, group, Tq, Tk)
        self.dtype, self.group, self.scale, self.keep_scale = query.dtype, group, options.scale, options.keep_scale
        self.q = with_rows_in_memory(query).reshape(B, Hk, group, Tq, D)
        self.k = with_rows_in_memory(key).reshape(B, Hk, Tk, D)
        self.v = with_rows_in_memory(value).reshape(B, Hk, Tk, Dv)
        self.out = heads_inside(B, Tq, Hk, group, Dv, dtype=self.dtype)

        self.bias = self.hidden = self.keep = None
        if options.mask == "additive":
            self.bias = np.broadcast_to(attn_mask, full).reshape(split)
        elif options.mask == "bool":
            self.hidden = np.broadcast_to(~attn_mask, full).reshape(split)
        if options.dropout_p == 1:
            self.keep = np.broadcast_to(False, split)
        elif options.dropout_p:
            self.keep = generator_or_current(generator).keep_mask(full, options.dropout_p, query).reshape(split)
        # None as well where the first query sees all keys
        self.offset = None if options.offset is None or options.offset >= Tk - 1 else options.offset
        self._cut(B, Hk, Tq, Tk, D + Dv)
        self.saved: dict[tuple[int, int, int], tuple[Any, ...]] = {}  # of the blocks of queries: r, top, E

    def _cut(self, B: int, Hk: int, Tq: int, Tk: int, widths: int) -> None:
        group, causal = self.group, self.offset is not None
        self.BQ = BQ = queries_of_a_block(Tq, causal)
        self.BK = BK = max(1, min(Tk, BLOCK // (group * BQ)))
        rows = list(blocks(slice(0, Tq), BQ))
        steps = Tk * widths * READ + group * Tq * Tk * (widths * MACS + EACH) * (0.5 if causal else 1.0)
        self.work = shares(B, Hk, rows, len(pieces(B * Hk * len(rows), steps / max(1, len(rows)))))
        self.heads_at_a_time = max(1, BLOCK // (group * BQ * BK))
        most_heads = max(((b.stop - b.start) * (h.stop - h.start) for (b, h), _ in self.work), default=0)
        self.room = min(self.heads_at_a_time, most_heads) * group * BQ * BK
        self.keeps_weights = Tk <= BK and group * Tq * Tk <= KEPT * (group * Tq + Tk) * widths
        self.ones = np.ones(BK, dtype=self.dtype)

    def seen_by(self, rows: slice) -> int:
        """How many keys, from the first on, the queries of a block see."""
        Tk = self.k.shape[2]
        return Tk if self.offset is None else max(0, min(Tk, rows.stop + self.offset))

    def block(self, room: np.ndarray | None, at: Heads, rows: slice, keys: slice) -> np.ndarray:
        """An empty block, in `room` or in memory of its own."""
        b, h = (part.stop - part.start for part in at)
        shape = (b, h, keys.stop - keys.start, self.group * (rows.stop - rows.start))
        return np.empty(shape, self.dtype) if room is None else room[: math.prod(shape)].reshape(shape)

    def by_query(self, block: np.ndarray) -> np.ndarray:
        """A block as (b, h, keys, group, n), to go with a part of a mask."""
        *shape, columns = block.shape
        return block.reshape(*shape, self.group, columns // self.group)

    def scores(
        self, at: Heads, rows: slice, keys: slice, queries: np.ndarray, room: np.ndarray | None, safely: bool
    ) -> np.ndarray:
        """K (scale Q)ᵀ + mask, in `room` or in memory of its own; later keys are hidden here only if `safely`."""
        block = self.block(room, at, rows, keys)
        np.matmul(self.k[at][:, :, keys], queries, out=block)
        if self.bias is not None:
            by_query = self.by_query(block)
            by_query += part_of(self.bias, at, rows, keys)
        if self.hidden is not None:
            np.copyto(self.by_query(block), -np.inf, where=part_of(self.hidden, at, rows, keys))
        if safely:
            self.hide_later_keys(block, rows, keys, -np.inf)
        return block

    def weigh(self, block: np.ndarray, rows: slice, keys: slice, top: np.ndarray | None) -> None:
        """Scores become E, in place: e^(s - top) (`safely`), or without top e^s, and then 0 for later keys."""
        if top is None:
            EXP(block, out=block)
            self.hide_later_keys(block, rows, keys, 0.0)
        else:
            block -= top
            np.exp(block, out=block)

    def hide_later_keys(self, block: np.ndarray, rows: slice, keys: slice, value: float) -> None:
        """What a query may not see becomes `value`, less than which nothing in the block is, also where it is inf."""
        if self.offset is None:
            return
        last = rows.start + self.offset  # key that the first query sees; each further query sees one more
        start = max(keys.start, last + 1)
        if start < keys.stop:
            part = self.by_query(block[:, :, start - keys.start :])
            most = tile(self.BQ, value, self.dtype)[start - last : keys.stop - last, : rows.stop - rows.start]
            np.minimum(part, most[:, None], out=part)

    def dropped(self, block: np.ndarray, at: Heads, rows: slice, keys: slice) -> np.ndarray:
        """The block without what dropout drops; keep_scale comes later."""
        if self.keep is None:
            return block
        return (self.by_query(block) * part_of(self.keep, at, rows, keys)).reshape(block.shape)

    def forward(self, i: int) -> None:
        """out, of one share of the work."""
        heads, all_rows = self.work[i]
        room = None if self.keeps_weights else np.empty(self.room, dtype=self.dtype)
        masked = self.bias is not None or self.hidden is not None
        for at in chunks(heads, self.heads_at_a_time):
            for rows in all_rows:
                out = self.out[at][:, :, :, rows]
                if self.seen_by(rows) == 0:
                    out[...] = 0
                    continue
                total, acc, top, weights = self.attend(at, rows, room, safely=masked)
                if not masked and not (total.min() > 1 / SAFE and total.max() < SAFE):
                    usual = (total > 1 / SAFE) & (total < SAFE)
                    kept, kept_acc, kept_weights = total, acc, weights
                    total, acc, top, weights = self.attend(at, rows, room, safely=True)
                    np.copyto(total, kept, where=usual)
                    np.copyto(acc, kept_acc, where=usual[..., None])
                    np.copyto(top, 0, where=usual[:, :, None])
                    if self.keeps_weights:
                        np.copyto(weights, kept_weights, where=usual[:, :, None])
                if top is not None:
                    total[total == 0] = 1  # a query that sees no key: its weights are 0
                r = np.reciprocal(total)
                np.multiply(acc.reshape(out.shape), as_factor(r * self.keep_scale, out), out=out)
                self.saved[at[0].start, at[1].start, rows.start] = r, top, weights if self.keeps_weights else None

    def attend(self, at: Heads, rows: slice, room: np.ndarray | None, safely: bool) -> tuple[Any, ...]:
        """For some queries ΣE, Eᵀ V, the maxima that were taken out (if `safely`), and the last block of E."""
        queries = turned(self.q[at][:, :, :, rows], self.scale * (1.0 if safely else UNIT))
        total = acc = top = weights = None
        for keys in blocks(slice(0, self.seen_by(rows)), self.BK):
            weights = self.scores(at, rows, keys, queries, room, safely)
            if safely:
                raised = np.maximum(weights.max(-2, keepdims=True), np.finfo(self.dtype).min if top is None else top)
                if total is not None:
                    shrink = np.exp(top - raised)
                    total *= shrink[:, :, 0]
                    acc *= shrink.swapaxes(-1, -2)
                top = raised
            self.weigh(weights, rows, keys, top)
            part = np.matmul(self.ones[: keys.stop - keys.start], weights)
            product = np.matmul(self.dropped(weights, at, rows, keys).swapaxes(-1, -2), self.v[at][:, :, keys])
            if total is None:
                total, acc = part, product
            else:
                total += part
                acc += product
        return total, acc, top, weights


class Backward:
    """The gradients of one call."""

    def __init__(self, call: Attention, g: np.ndarray, needs: tuple[bool, ...]) -> None:
        (B, Hk, group, Tq, D), (Tk, Dv), dtype = call.q.shape, call.v.shape[2:], call.dtype
        self.call, self.needs = call, needs
        self.dout = with_rows_in_memory(g.reshape(call.out.shape))
        # where the shares differ in their queries only, each has its own dk and dv
        parts = len(call.work) if len(call.work) > 1 and call.work[0][0] == call.work[1][0] else 1
        self.dq = heads_inside(B, Tq, Hk, group, D, dtype=dtype)
        self.dk = [heads_inside(B, Tk, Hk, D, dtype=dtype) for _ in range(parts)]
        self.dv = [heads_inside(B, Tk, Hk, Dv, dtype=dtype) for _ in range(parts)]
        self.dscores = np.zeros((B, Hk, group, Tq, Tk), dtype=dtype) if needs[3] else None
        # the scale is put into dS while it is made, unless the mask needs dS without
        self.early: float = 1.0 if needs[3] else call.scale
        self.late: float = call.scale if needs[3] else 1.0
        with np.errstate(over="ignore", invalid="ignore"):  # of scores that are hidden afterwards
            parallel(self.share, len(call.work))
        for gradient, needed in ((self.dk, needs[1]), (self.dv, needs[2])):
            for part in gradient[1:] if needed else ():
                gradient[0] += part
        if self.late != 1 and needs[1]:
            self.dk[0] *= self.late

    def share(self, i: int) -> None:
        call = self.call
        heads, all_rows = call.work[i]
        rooms = np.empty((1 if call.keeps_weights else 2, call.room), dtype=call.dtype)
        for at in chunks(heads, call.heads_at_a_time):
            dk, dv = self.dk[i % len(self.dk)][at], self.dv[i % len(self.dv)][at]
            if len(all_rows) == 1:
                self.rows(at, all_rows[0], rooms, dk, dv, fresh=True)
                continue
            sum_k, sum_v = np.zeros(dk.shape, dk.dtype), np.zeros(dv.shape, dv.dtype)
            for rows in reversed(all_rows):  # the last ones first: they see the most keys
                self.rows(at, rows, rooms, sum_k, sum_v, fresh=rows is all_rows[-1])
            dk[...], dv[...] = sum_k, sum_v

    def rows(self, at: Heads, rows: slice, rooms: np.ndarray, dk: np.ndarray, dv: np.ndarray, fresh: bool) -> None:
        """dq of some queries, and what they add to dk and dv; `fresh`: these are empty so far."""
        call, seen, dq = self.call, self.call.seen_by(rows), self.dq[at][:, :, :, rows]
        if fresh:
            dk[:, :, seen:] = dv[:, :, seen:] = 0
        if seen == 0:
            dq[...] = 0
            return
        (needs_q, needs_k, needs_v, needs_mask), add = self.needs, np.matmul if fresh else add_product
        r, top, kept = call.saved[at[0].start, at[1].start, rows.start]
        q, dout = call.q[at][:, :, :, rows], self.dout[at][:, :, :, rows]
        delta = np.vecdot(dout, call.out[at][:, :, :, rows]).reshape(r.shape) * r * self.early
        dout = np.multiply(dout, as_factor(r * call.keep_scale, dout), order="C")
        queries, q = turned(q, call.scale * (UNIT if top is None else 1.0)) if kept is None else q, merged(q)
        dout_turned, dout = turned(dout, self.early), merged(dout)
        one_product = seen <= call.BK and call.group == 1 and self.late == 1
        acc = dq[:, :, 0] if one_product else np.zeros(q.shape, q.dtype)
        for keys in blocks(slice(0, seen), call.BK):
            weights = kept
            if weights is None:
                weights = call.scores(at, rows, keys, queries, rooms[0], safely=top is not None)
                call.weigh(weights, rows, keys, top)
            if needs_v:
                add(call.dropped(weights, at, rows, keys), dout, out=dv[:, :, keys])
            if not (needs_q or needs_k or needs_mask):
                continue
            d = call.block(rooms[-1], at, rows, keys)
            np.matmul(call.v[at][:, :, keys], dout_turned, out=d)
            d = call.dropped(d, at, rows, keys)
            d -= delta[:, :, None]
            d *= weights
            if self.dscores is not None:
                self.dscores[at][..., rows, keys] = call.by_query(d).transpose(0, 1, 3, 4, 2)
            if needs_k:
                add(d, q, out=dk[:, :, keys])
            if needs_q:
                (np.matmul if one_product else add_product)(d.swapaxes(-1, -2), call.k[at][:, :, keys], out=acc)
        if not one_product:
            np.multiply(acc.reshape(dq.shape), self.late, out=dq)


def add_product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out += a b."""
    out += np.matmul(a, b)


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

    Output and gradients lie in memory as (..., T, H, D).
    """
    options = check(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    Tq, Tk = query.shape[-2], key.shape[-2]

    def forward() -> Attention:
        call = Attention(query, key, value, attn_mask, options, generator)
        with np.errstate(over="ignore", invalid="ignore"):  # of scores too large: they are computed again
            parallel(call.forward, len(call.work))
        if call.keeps_weights:
            call.bias = call.hidden = None
        return call

    call, mask_shape = None, () if attn_mask is None else attn_mask.shape
    if Tq == 1 and Tk and options.offset in (None, Tk - 1) and attn_mask is None and not options.dropout_p:
        B, Hk = math.prod(key.shape[:-3]), key.shape[-3] if key.ndim > 2 else 1
        k, v = (with_rows_in_memory(x).reshape(B, Hk, Tk, x.shape[-1]) for x in (key, value))
        out = decode(query.reshape(B, Hk, options.group, query.shape[-1]), k, v, options.scale)
    else:
        call = forward()
        out = call.out
        if call.bias is None:
            attn_mask = None  # the backward does without: it may be changed in place, or freed
    out = out.reshape(*query.shape[:-1], value.shape[-1])

    def vjp(g: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        nonlocal call
        call = call or forward()
        done = Backward(call, g, needs)
        shapes = query.shape, key.shape, value.shape
        gradients = (d.reshape(shape) for d, shape in zip((done.dq, done.dk[0], done.dv[0]), shapes, strict=True))
        dmask = None
        if done.dscores is not None:
            dmask = sum_to(done.dscores.reshape(*out.shape[:-1], Tk), mask_shape)
        return *(d if need else None for d, need in zip(gradients, needs, strict=False)), dmask

    return out, vjp

"""How the work of attention is cut on a CPU: a share for each thread, chunks of heads, blocks of queries.

Heads are two slices, of the batch and of the key heads. A thread that owns heads owns their dK and dV as well: nobody
else adds to them. Where neither axis can be shared out evenly all threads work on the same heads, on every second (or
third, ...) block of queries; of causal attention each then has about as many blocks that see few keys as that see many.
"""

from __future__ import annotations

from minilm.kernels.threads import blocks

QUERIES = 64, 256
"""Of a block: where attention is causal between these, since of the square on the diagonal one half is for nothing."""

Heads = tuple[slice, slice]


def queries_of_a_block(Tq: int, causal: bool) -> int:
    """The length of a block of queries."""
    fewest, most = QUERIES
    return max(1, min(Tq, max(fewest, min(most, Tq // 8)) if causal else most))


def shares(B: int, Hk: int, rows: list[slice], count: int) -> list[tuple[Heads, list[slice]]]:
    """The work in at most `count` parts of about one size: heads, and blocks of queries, of each."""

    def cut(n: int) -> list[slice]:
        return list(blocks(slice(0, n), max(1, -(-n // count))))

    def even(n: int) -> bool:
        return -(-n // count) * count <= 1.125 * n

    every_batch, every_head = slice(0, B), slice(0, Hk)
    too_few_blocks = len(rows) < count
    if even(B) or (too_few_blocks and not even(Hk) and B >= Hk):
        return [((part, every_head), rows) for part in cut(B)]
    if even(Hk) or too_few_blocks:
        return [((every_batch, part), rows) for part in cut(Hk)]
    return [((every_batch, every_head), rows[i::count]) for i in range(count)]


def chunks(heads: Heads, most: int) -> list[Heads]:
    """`heads`, at most so many at a time: several of the batch with all heads, or some heads of one."""
    batch, head = heads
    width = max(1, head.stop - head.start)
    return [(b, h) for b in blocks(batch, max(1, most // width)) for h in blocks(head, min(most, width))]

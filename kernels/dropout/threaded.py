"""Which elements dropout keeps: bit for bit what the plain generator says, for half the work, and on all cores.

A round of Philox4x32 (Salmon et al. 2011, section 3.3) turns four words of 32 bits into four others,

    p = c0 M0,  q = c2 M1                           32 x 32 -> 64 bits
    c0 = high(q) ^ c1 ^ k0        c1 = low(q)
    c2 = high(p) ^ c3 ^ k1        c3 = low(p)

and tl.rand takes the first word w after ten rounds, as a signed number, folds it to 0 ... 2^31 - 1 (w or -1 - w), and
scales it to u in [0, 1). An element is kept if u >= p. New against `minilm.random.counter_uniform`:

- *Work in place.* All of a block's words stay in the cache, in buffers that are used again and again.
- *What is known is left out.* A counter is (i, 0, 0, 0): until the third round some words are the same for all
  elements. After the last one a single word is wanted.
- *No u.* It grows with the folded word, so there is a least folded word t that is kept. Dropped are 0 <= w < t and
  -t <= w < 0, which is one comparison without a sign: w + t < 2 t, modulo 2^32.
- *Threads.* Element i is a function of its counter alone, so each thread makes its own part.

Cost: some eighty steps on each element, all integers, and one byte written.

What it does not do: the four words of a counter could serve four elements; tl.rand does not, and every backend must
drop the same elements.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator

import numpy as np

from minilm.kernels.threads import blocks, parallel, pieces

BLOCK = 1 << 14
"""Elements in a block: five buffers of 128 kB."""

WORK = 100
"""Steps on each element, for `pieces`."""

M0, M1 = 0xD2511F53, 0xCD9E8D57
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
SCALE = np.float32(4.6566127342e-10)
"""From a folded word to [0, 1), as Triton does it; the last bit of it matters."""


def keep_mask(seed: int, offset: int, n: int, p: float) -> np.ndarray:
    """bool (n,): element i is False, dropped, with probability p; it has the counter offset + i.

    The same as `counter_uniform(seed, offset, n) >= float32(p)`.
    """
    least = _least_kept(np.float32(p))
    if least == 0:
        return np.ones(n, dtype=bool)
    if least == 1 << 31:
        return np.zeros(n, dtype=bool)
    keys = list(_keys(seed))
    keep = np.empty(n, dtype=bool)
    parts = pieces(n, WORK)

    def part(number: int) -> None:
        buffers = np.empty((5, BLOCK), dtype=np.uint64)
        for at in blocks(parts[number], BLOCK):
            word = _first_word(offset + at.start, at.stop - at.start, keys, buffers)
            shifted = word.astype(np.uint32)
            shifted += np.uint32(least)
            np.greater_equal(shifted, np.uint32(2 * least), out=keep[at])

    parallel(part, len(parts))
    return keep


@functools.lru_cache(maxsize=64)
def _least_kept(p: np.float32) -> int:
    """The least folded word whose u is at least p; 2^31 if there is none."""
    return bisect.bisect_left(range(1 << 31), p, key=lambda word: np.float32(word) * SCALE)


def _keys(seed: int) -> Iterator[tuple[int, int]]:
    """The keys of the ten rounds: a Weyl sequence, stepping by the golden ratio and by sqrt(3) - 1."""
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(10):
        yield k0, k1
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF


def _first_word(start: int, n: int, keys: list[tuple[int, int]], buffers: np.ndarray) -> np.ndarray:
    """Word 0 of the counters start ... start + n - 1, as uint64 (n,), in one of the buffers."""
    c0, c1, c2, c3, p = buffers[:, :n]
    i = np.arange(start, start + n, dtype=np.uint64)

    # Round 1 of (low(i), high(i), 0, 0): q is 0. The new c1 is 0, the new c0 high(i) ^ k0.
    k0, k1 = keys[0]
    np.bitwise_and(i, LOW, out=p)
    p *= np.uint64(M0)
    np.right_shift(p, HALF, out=c2)
    c2 ^= np.uint64(k1)
    np.bitwise_and(p, LOW, out=c3)
    np.right_shift(i, HALF, out=c0)
    c0 ^= np.uint64(k0)

    # Round 2, with c1 = 0. Most blocks lie between two multiples of 2^32: one c0 for all, and so one p.
    k0, k1 = keys[1]
    first = c0[:1] if (start >> 32) == (start + n - 1) >> 32 else c0
    product = first * np.uint64(M0)
    c2 *= np.uint64(M1)
    np.bitwise_and(c2, LOW, out=c1)
    np.right_shift(c2, HALF, out=c0)
    c0 ^= np.uint64(k0)
    np.bitwise_xor(c3, (product >> HALF) ^ np.uint64(k1), out=c2)
    c3[...] = product & LOW

    for k0, k1 in keys[2:9]:
        np.multiply(c0, np.uint64(M0), out=p)
        c2 *= np.uint64(M1)  # q
        np.right_shift(c2, HALF, out=c0)
        c0 ^= c1
        c0 ^= np.uint64(k0)
        np.bitwise_and(c2, LOW, out=c1)
        np.right_shift(p, HALF, out=c2)
        c2 ^= c3
        c2 ^= np.uint64(k1)
        np.bitwise_and(p, LOW, out=c3)

    # Round 10: of c0 alone.
    c2 *= np.uint64(M1)
    c2 >>= HALF
    c2 ^= c1
    c2 ^= np.uint64(keys[9][0])
    return c2

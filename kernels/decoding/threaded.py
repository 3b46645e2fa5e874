"""One query for each head against a cache of keys, on a CPU: few calls, and the heads shared out where that pays.

    out = softmax(scale q Kᵀ) V

There is nothing to cut into blocks: the scores of a head are one row. What it costs is to fetch the keys and values,
each read once, from memory; for a short cache the calls, of which there are eight.

New against the textbook body: one BLAS thread for these small products (two of them wait for each other longer than the
product takes), and with a long cache a share of the heads for each of our threads. No gradient: see
minilm.kernels.attention.threaded.
"""

from __future__ import annotations

import numpy as np

from minilm.kernels.threads import parallel, pieces

READ = 2.5
"""Steps of 0.1 ns that it takes to fetch a number from memory, for `pieces`."""


def decode(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    """out (B, Hk, group, Dv), of q (B, Hk, group, D) and the cache k (B, Hk, Tk, D), v (B, Hk, Tk, Dv); Tk is not 0."""
    (B, Hk, Tk, D), (group, Dv) = k.shape, (q.shape[2], v.shape[-1])
    out = np.empty((B, Hk, group, Dv), dtype=q.dtype)
    axis = 0 if B > Hk else 1  # the one that is shared out
    parts = pieces(k.shape[axis], B * Hk / max(1, k.shape[axis]) * Tk * (D + Dv) * READ)

    def share(i: int) -> None:
        at = (parts[i],) if axis == 0 else (slice(None), parts[i])
        weights = np.matmul(q[at] * scale, k[at].swapaxes(-1, -2))
        weights -= np.maximum.reduce(weights, axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        total = np.add.reduce(weights, axis=-1, keepdims=True)
        np.divide(np.matmul(weights, v[at]), total, out=out[at])

    parallel(share, len(parts))
    return out

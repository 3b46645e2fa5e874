"""Where a token stands: four ways to tell a Transformer, which by itself sees a set and not a sequence.

Sinusoidal and learned positions are added to the embeddings; rotary positions turn queries and keys; ALiBi adds a
penalty to the scores. `offset` is the position of the first token, for decoding with a cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minilm.functional as F
from minilm.backend import asarray, current_backend
from minilm.nn import initialization
from minilm.nn.module import Module
from minilm.tensor import Tensor


def _check_length(offset: int, T: int, max_length: int) -> None:
    if offset + T > max_length:
        raise ValueError(
            f"positions {offset} to {offset + T - 1} do not fit in a table of {max_length}: "
            f"shorten the sequence, or build the model with a larger context"
        )


class SinusoidalPositions(Module):
    """x + PE (Vaswani et al. 2017, section 3.5): PE[t, 2i] = sin(t / 10000^(2i/C)), PE[t, 2i+1] = cos(the same)."""

    def __init__(self, max_length: int, embedding_dim: int) -> None:
        super().__init__()
        if embedding_dim % 2:
            raise ValueError(f"sinusoidal positions come in pairs of channels: C must be even, got {embedding_dim}")
        self.max_length = max_length
        cos, sin = F.rotary_angles(max_length, embedding_dim)  # the same angles, t 10000^(-2i/C)
        table = np.stack([sin, cos], axis=-1).reshape(max_length, embedding_dim)
        self.register_buffer("table", Tensor(asarray(table)))

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x (..., T, C) -> (..., T, C)."""
        _check_length(offset, x.shape[-2], self.max_length)
        return x + self.table[offset : offset + x.shape[-2]]


class LearnedPositions(Module):
    """x + a trained table (GPT-2, BERT); the rows start as N(0, 0.02²)."""

    def __init__(self, max_length: int, embedding_dim: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.weight = initialization.normal((max_length, embedding_dim), 0.02)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x (..., T, C) -> (..., T, C)."""
        _check_length(offset, x.shape[-2], self.max_length)
        return x + self.weight[offset : offset + x.shape[-2]]


class RotaryPositions(Module):
    """Turns queries and keys by angles that grow with the position (Su et al. 2021); see functional.positions.

    The tables of cosines and sines grow as later positions are asked for: a model may name a context of a million.
    """

    FIRST = 1024  # positions in the tables at the beginning

    def __init__(self, max_length: int, head_dim: int, theta: float = 10000.0, interleaved: bool = False) -> None:
        super().__init__()
        self.max_length, self.head_dim, self.theta, self.interleaved = max_length, head_dim, theta, interleaved
        self._tabulate(min(max_length, self.FIRST))

    def _tabulate(self, length: int, dtype: Any = None) -> None:
        for name, table in zip(("cos", "sin"), F.rotary_angles(length, self.head_dim, self.theta), strict=True):
            self.register_buffer(name, Tensor(asarray(table), dtype=dtype))

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x (..., T, D) -> (..., T, D)."""
        T, known = x.shape[-2], len(self.cos)
        _check_length(offset, T, self.max_length)
        if offset + T > known:
            self._tabulate(min(self.max_length, max(offset + T, 2 * known)), self.cos.dtype)
        return F.rotary_embedding(x, self.cos[offset : offset + T], self.sin[offset : offset + T], self.interleaved)


class ALiBi(Module):
    """A penalty on distance, added to the scores (Press et al. 2022): -m_h (i - j) for query i and key j.

    The slopes are the paper's, m_h = 2^(-8h/H), h = 1..H, for H a power of two; for other H, those of the next
    smaller power and then every other one of the next larger, as in the authors' code.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        power = 2 ** int(np.log2(num_heads))
        slopes = [2 ** (-8 * h / power) for h in range(1, power + 1)]
        slopes += [2 ** (-8 * h / (2 * power)) for h in range(1, 2 * power + 1, 2)][: num_heads - power]
        self.slopes = slopes
        self._last: tuple[Any, Tensor | None] = (None, None)  # in training always the same: moved to a device once

    def forward(self, Tq: int, Tk: int, dtype: str = "float32") -> Tensor:
        """The additive mask (H, Tq, Tk); the last query stands at the last key's position."""
        wanted = (Tq, Tk, dtype, current_backend().module)
        known, table = self._last
        if table is None or known != wanted:
            distance = np.arange(Tk - Tq, Tk)[:, None] - np.arange(Tk)[None, :]
            table = Tensor((-np.array(self.slopes)[:, None, None] * np.abs(distance)).astype(dtype))
            self._last = wanted, table
        return table

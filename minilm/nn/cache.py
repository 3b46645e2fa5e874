"""KVCache: the keys and values of the tokens that a decoder has seen, so that each is computed once."""

from __future__ import annotations

from typing import Any

from minilm.backend import xp
from minilm.tensor import Tensor, is_grad_enabled


class KVCache:
    """Keys and values of one attention layer, in buffers made at the first use.

    Args:
        capacity: the most positions that it can hold.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self.key: Tensor | None = None  # (B, Hk, capacity, D)
        self.value: Tensor | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add key and value (B, Hk, T, D) of the next T positions; returns those of all positions so far.

        Raises:
            ValueError: if they do not fit: another batch, or more positions than the capacity.
            RuntimeError: while gradients are recorded, since writing into the buffers is not differentiable.
        """
        if is_grad_enabled():
            raise RuntimeError("a KVCache is for generating: use it under `with no_grad():`")
        B, Hk, T, D = key.shape
        sizes = (B, Hk, D, value.shape[-1])
        if self.key is None or self.value is None:
            m = xp(key.data)
            self.key = Tensor.wrap(m.empty((B, Hk, self.capacity, D), dtype=key.dtype))
            self.value = Tensor.wrap(m.empty((B, Hk, self.capacity, value.shape[-1]), dtype=value.dtype))
        made = (*self.key.shape[:2], self.key.shape[-1], self.value.shape[-1])
        if made != sizes:
            raise ValueError(f"the cache was made for (B, Hk, D, Dv) = {made}, got {sizes}: use a new cache")
        stop = self.length + T
        if stop > self.capacity:
            raise ValueError(
                f"the cache holds {self.capacity} positions; {self.length} are used and {T} more do not fit"
            )
        self.key[:, :, self.length : stop] = key
        self.value[:, :, self.length : stop] = value
        self.length = stop
        return self.key[:, :, :stop], self.value[:, :, :stop]

    def select(self, rows: Any, capacity: int | None = None) -> KVCache:
        """A new cache with these rows of the batch, in this order; a row may come several times (beam search).

        capacity: of the new cache; that of this one if None.
        """
        chosen = KVCache(self.capacity if capacity is None else capacity)
        if self.key is not None and self.value is not None:
            used = self.key[rows, :, : self.length], self.value[rows, :, : self.length]
            chosen.append(*used)
        return chosen

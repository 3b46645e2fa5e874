"""What both sides do: the shapes of a model and its batch, and the settings of a training step.

The shapes are those of small models that people train on a laptop, and of GPT-2 small. Tokens are random: a step costs
the same whatever they say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Work:
    """A model and its batch. `kind` is "gpt", "lstm" or "sampling" (a GPT that writes one sequence)."""

    kind: str
    vocab_size: int
    n_layer: int
    width: int  # channels of a GPT, hidden units of an LSTM
    length: int  # tokens of a row: T
    batch: int  # rows: B
    n_head: int = 1
    prompt: int = 0  # sampling: tokens before the first that is written

    @property
    def words(self) -> str:
        """The shape in words, for tables."""
        heads = f", {self.n_head} heads" if self.kind != "lstm" else ""
        return (
            f"{self.n_layer} layers{heads}, width {self.width}, length {self.length}, batch {self.batch}, "
            f"vocabulary {self.vocab_size:,}"
        )

    @property
    def matmul_flops(self) -> float:
        """Floating-point operations of the matrix products of one step (for sampling: of one token).

        A product of (n, k) and (k, m) is 2 n k m; backward takes two such products for each. Of causal attention the
        half that is not masked counts.
        """
        C, T, rows = self.width, self.length, self.batch * self.length
        if self.kind == "lstm":
            weights = self.n_layer * 8 * C * C + C * self.vocab_size
            return 6.0 * rows * weights
        weights = self.n_layer * 12 * C * C + C * self.vocab_size
        if self.kind == "sampling":
            return 2.0 * weights
        attention = self.n_layer * rows * 2 * T * C / 2  # Q Kᵀ and P V: T C multiplications each, half of them masked
        return 6.0 * (rows * weights + attention)


WORKS = {
    "gpt 4x128": Work("gpt", 65, 4, 128, 64, 12, n_head=4),
    "gpt 6x384": Work("gpt", 65, 6, 384, 256, 4, n_head=6),
    "gpt 4x256": Work("gpt", 4096, 4, 256, 128, 16, n_head=8),
    "lstm 2x256": Work("lstm", 65, 2, 256, 64, 32),
    "gpt-2 small": Work("gpt", 50257, 12, 768, 256, 1, n_head=12),
    "sampling, gpt-2 small": Work("sampling", 50257, 12, 768, 1024, 1, n_head=12, prompt=32),
}

LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY, MAX_NORM = 1e-3, (0.9, 0.99), 1e-8, 0.1, 1.0


def batches(work: Work) -> Iterator[dict[str, np.ndarray]]:
    """Batches without end, the same on both sides."""
    rng = np.random.default_rng(0)
    while True:
        tokens = rng.integers(0, work.vocab_size, (work.batch, work.length + 1))
        yield {"input_ids": tokens[:, :-1], "labels": tokens[:, 1:]}


def initial_weights(work: Work, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, slice, np.ndarray]]:
    """Values for every parameter, by name and rows, the same on both sides: gains 1, biases 0, weights normal.

    Some rows at a time: values for a whole table at once would show in the peak of memory.
    """
    std = 0.02 if work.kind != "lstm" else work.width**-0.5
    for index, name in enumerate(sorted(shapes)):
        rows, *rest = shapes[name]
        rng = np.random.default_rng(index)
        for start in range(0, rows, 1000):
            part = slice(start, min(start + 1000, rows))
            shape = (part.stop - part.start, *rest)
            if rest:
                yield name, part, std * rng.standard_normal(shape, dtype=np.float32)
            else:
                yield name, part, np.full(shape, "norm" in name and name.endswith("weight"), dtype=np.float32)

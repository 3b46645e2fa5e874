"""Embedding: a table of vectors, looked up by token id."""

from __future__ import annotations

from typing import Any

import minilm.functional as F
from minilm.nn import initialization
from minilm.nn.module import Module
from minilm.tensor import Tensor


class Embedding(Module):
    """ids (...) of integers -> (..., embedding_dim); the weights start as N(0, 1), as in PyTorch."""

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = initialization.normal((num_embeddings, embedding_dim), 1.0)

    def forward(self, ids: Any) -> Tensor:
        return F.embedding(ids, self.weight)

    def describe(self) -> str:
        return f"{self.num_embeddings} x {self.embedding_dim}"

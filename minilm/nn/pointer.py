"""The pointer: a decoder that may copy a token of its source instead of naming one of the vocabulary.

    c_i = (W_q x) · (W_k h_i + W_p h_(i-1)) / sqrt(C)        how well place i of the source would come next

The scores join the logits of the vocabulary in one softmax (functional.copy_logits), as in CopyNet (Gu et al. 2016).
h_i is the encoder's memory of place i, and that of the place before it lets a copy go on: where the token stands that
was written last, the next one follows. CopyNet has its "selective read" for that (section 3.3); names of several tokens
fall to pieces without it.

Summaries need a pointer: half of their words stand in the text, rare and new ones among them.
"""

from __future__ import annotations

import math
from typing import Any

import minilm.functional as F
from minilm.nn.linear import Linear
from minilm.nn.module import Module
from minilm.tensor import Tensor


class Pointer(Module):
    """logits (B, T, V) of what to write, and where to look -> logits (B, T, V) of what to write or to copy.

    Args:
        embed_dim: C of the decoder's output and of the memory.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.q_proj = Linear(embed_dim, embed_dim, bias=False)
        self.k_proj = Linear(embed_dim, embed_dim, bias=False)
        self.previous_proj = Linear(embed_dim, embed_dim, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """(B, S, C) of a memory (B, S, C); compute them once for a source."""
        before = F.pad(self.previous_proj(memory[:, :-1]), ((0, 0), (1, 0), (0, 0)))  # the first place has none
        return self.k_proj(memory) + before

    def forward(self, logits: Tensor, x: Tensor, keys: Tensor, ids: Any, mask: Tensor | None = None) -> Tensor:
        """Add the source's tokens to the logits.

        Args:
            x: (B, T, C), from which the logits were made.
            keys: (B, S, C), see `keys`.
            ids: (B, S), the source's tokens.
            mask: (B, S), False where a token is not to be copied, such as padding.
        """
        scores = self.q_proj(x) @ keys.swapaxes(-1, -2) / math.sqrt(x.shape[-1])  # (B, T, S)
        if mask is not None:
            scores = F.where(mask[:, None], scores, float("-inf"))
        return F.copy_logits(logits, scores, ids)

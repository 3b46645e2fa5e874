"""PyTorch's side: the same models from PyTorch's own parts, eager, as its users write them.

Attention is torch.nn.functional.scaled_dot_product_attention, the recurrence torch.nn.LSTM, the optimizer the fused
AdamW. The modules have minilm's names, so that both sides start from the same weights.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sides.works import BETAS, EPS, LEARNING_RATE, MAX_NORM, WEIGHT_DECAY, Work, batches, initial_weights


class Attention(nn.Module):
    def __init__(self, width: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, cache: list[Tensor] | None, offset: int) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            for part in self.qkv_proj(x).split(C, dim=-1)
        )
        if cache is not None:
            cache[0][:, :, offset : offset + T] = k
            cache[1][:, :, offset : offset + T] = v
            k, v = cache[0][:, :, : offset + T], cache[1][:, :, : offset + T]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        return self.out_proj(y.transpose(1, 2).reshape(B, T, C))


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(width, 4 * width)
        self.down_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width: int, n_head: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, n_head)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Tensor, cache: list[Tensor] | None, offset: int) -> Tensor:
        x = x + self.attention(self.norm_1(x), cache, offset)
        return x + self.feed_forward(self.norm_2(x))


class GPT(nn.Module):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(work.vocab_size, work.width)
        self.positions = nn.Embedding(work.length, work.width)
        self.blocks = nn.ModuleList(Block(work.width, work.n_head) for _ in range(work.n_layer))
        self.final_norm = nn.LayerNorm(work.width)

    def forward(self, ids: Tensor, caches: list[list[Tensor]] | None = None, offset: int = 0) -> Tensor:
        x = self.token_embedding(ids) + self.positions.weight[offset : offset + ids.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, caches[i] if caches else None, offset)
        return F.linear(self.final_norm(x), self.token_embedding.weight)


class LSTM(nn.Module):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(work.vocab_size, work.width)
        self.recurrent = nn.LSTM(work.width, work.width, work.n_layer, batch_first=True)
        self.head = nn.Linear(work.width, work.vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.recurrent(self.token_embedding(ids))[0])


class Side:
    """A model, its optimizer and its batches."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work = work
        torch.set_num_threads(threads)
        self.model = LSTM(work) if work.kind == "lstm" else GPT(work)
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, rows, value in initial_weights(work, {name: tuple(p.shape) for name, p in parameters.items()}):
                parameters[name][rows] = torch.from_numpy(value)
        if work.kind != "sampling":
            matrices = [p for p in self.model.parameters() if p.ndim > 1]
            vectors = [p for p in self.model.parameters() if p.ndim == 1]
            groups: list[dict[str, Any]] = [
                {"params": matrices, "weight_decay": WEIGHT_DECAY},
                {"params": vectors, "weight_decay": 0.0},
            ]
            self.optimizer = torch.optim.AdamW(groups, LEARNING_RATE, BETAS, EPS, fused=True)
            self.batches = batches(work)

    def step(self) -> float:
        """Forward, backward, clip, update; the loss before the update."""
        batch = {name: torch.from_numpy(ids) for name, ids in next(self.batches).items()}
        logits = self.model(batch["input_ids"])
        loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), batch["labels"].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    @torch.inference_mode()
    def sample(self, count: int) -> list[int]:
        """The `count` likeliest tokens after the prompt, one at a time, each from the cached keys and values."""
        work = self.work
        shape = (1, work.n_head, work.length, work.width // work.n_head)
        caches = [[torch.empty(shape), torch.empty(shape)] for _ in range(work.n_layer)]
        ids, offset = torch.arange(work.prompt)[None], 0
        written: list[int] = []
        for _ in range(count):
            logits = self.model(ids, caches, offset)
            offset += ids.shape[1]
            written.append(int(logits[0, -1].argmax()))
            ids = torch.tensor([[written[-1]]])
        return written

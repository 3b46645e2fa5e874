"""minilm's side: the library as its trainer and its sampler use it, with nothing left out and nothing special."""

from __future__ import annotations

import numpy as np

from minilm.kernels.threads import set_thread_count
from minilm.models import GPT, LSTMLM, GPTConfig, LSTMConfig
from minilm.nn import Module, evaluating
from minilm.optim import AdamW, clip_grad_norm_
from minilm.tensor import no_grad
from minilm.training.process import keep_freed_memory
from sides.works import BETAS, EPS, LEARNING_RATE, MAX_NORM, WEIGHT_DECAY, Work, batches, initial_weights


def _model(work: Work) -> Module:
    if work.kind == "lstm":
        return LSTMLM(LSTMConfig(work.vocab_size, work.width, work.width, work.n_layer))
    return GPT(GPTConfig(work.vocab_size, work.length, work.n_layer, work.n_head, work.width))


class Side:
    """A model, its optimizer and its batches."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work = work
        set_thread_count(threads)
        keep_freed_memory()
        self.model = _model(work)
        parameters = dict(self.model.named_parameters())
        with no_grad():
            for name, rows, value in initial_weights(work, {name: p.shape for name, p in parameters.items()}):
                parameters[name][rows] = value
        if work.kind != "sampling":
            self.optimizer = AdamW(self.model.named_parameters(), LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY)
            self.batches = batches(work)

    def step(self) -> float:
        """Forward, backward, clip, update; the loss before the update."""
        loss = self.model.loss(next(self.batches))
        loss.backward()
        clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        self.model.zero_grad()
        return loss.item()

    def sample(self, count: int) -> list[int]:
        """The `count` likeliest tokens after the prompt, one at a time, each from the cached keys and values."""
        ids = np.arange(self.work.prompt)[None]
        written: list[int] = []
        state = None
        with evaluating(self.model.modules()):
            for _ in range(count):
                logits, state = self.model.decode(ids, state)
                written.append(int(logits.data[0, -1].argmax()))
                ids = np.array([[written[-1]]])
        return written

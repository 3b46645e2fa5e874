"""A training step as `minilm train` takes it: model, batches and optimizer of a preset of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from threadpoolctl import threadpool_limits

from minilm.cli.presets import resolve
from minilm.cli.run import build_model, training_batches
from minilm.optim import AdamW, clip_grad_norm_
from minilm.training.process import keep_freed_memory


class PresetStep:
    """The model, the batches and the optimizer of `minilm train MODEL --preset PRESET`, on some tokens."""

    def __init__(self, model: str, preset: str, tokens: Any, vocab_size: int) -> None:
        keep_freed_memory()
        threadpool_limits(1, user_api="blas")  # as the command line has it: our own threads do the rest
        s = self.settings = resolve(model, "shakespeare", preset, {})
        self.model = build_model(s, vocab_size)
        self.source = training_batches(s, tokens)
        self.optimizer = AdamW(self.model.named_parameters(), s.lr, (0.9, s.adam_beta2), weight_decay=s.weight_decay)

    @property
    def words(self) -> str:
        """The shape in words, for tables."""
        s = self.settings
        width = s.n_embd if s.model == "gpt" else s.n_hidden
        return f"{s.preset} {s.model}: {s.n_layer} layers, width {width}, batch {s.batch_size} x {s.block_size}"

    def batches(self) -> Iterator[Any]:
        """Batches without end."""
        epoch = 0
        while True:
            yield from self.source.epoch(epoch)
            epoch += 1

    def update(self, batch: Any) -> float:
        """Forward, backward, clip, AdamW; the loss before the update."""
        loss = self.model.loss(batch)
        loss.backward()
        clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.model.zero_grad()
        return loss.item()

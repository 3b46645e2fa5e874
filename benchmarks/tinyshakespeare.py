"""The main job, measured: a character GPT and an LSTM of the same size on tinyshakespeare, 2,000 steps each.

    make bench ONLY=tinyshakespeare

Split as nanoGPT does: the first nine tenths train, the last tenth validates, all of it. The GPT has 4 layers, 4 heads,
128 channels, context 64, batch 12 (nanoGPT's settings for a laptop, whose published loss is 1.88); the LSTM has as many
parameters and sees as many tokens. The text is a download (minilm.text.CORPORA) that MINILM_CACHE keeps.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import minilm
from harness import elapsed, machine, save
from minilm.evaluation import evaluate_language_model
from minilm.models import GPT, LSTMLM, GPTConfig, LSTMConfig
from minilm.nn import Module
from minilm.text import (
    BatchSource,
    CharTokenizer,
    SequentialBatches,
    ShuffledBatches,
    StreamBatches,
    TokenWindows,
    load_corpus,
    split_by_position,
)
from minilm.training import Callback, Trainer, TrainingArguments
from minilm.training.process import peak_memory

BATCH, BLOCK = 12, 64


class StepTimes(Callback):
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_begin(self, trainer: Trainer) -> None:
        self.last = time.perf_counter()

    def on_step_end(self, trainer: Trainer, metrics: dict) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


def run(name: str, model: Module, train: BatchSource, validation: BatchSource, steps: int) -> dict:
    """Train and evaluate one model; what to report."""
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            Path(folder),
            max_steps=steps,
            learning_rate=2e-3,
            lr_scheduler_type="cosine",
            warmup_steps=100,
            min_lr_ratio=0.1,
            weight_decay=0.1,
            adam_beta2=0.99,
            logging_steps=200,
            save_strategy="no",
        )
        began = time.perf_counter()
        Trainer(model, arguments, train, callbacks=[times]).train()
        trained = time.perf_counter() - began
    score = evaluate_language_model(model, validation)
    quartiles = statistics.quantiles(times.seconds, n=4)
    result = {
        "parameters": model.num_parameters(),
        "steps": steps,
        "tokens": steps * BATCH * BLOCK,
        "validation_loss": score.loss,
        "validation_tokens": score.tokens,
        "training_seconds": trained,
        "step_ms_median": 1e3 * quartiles[1],
        "step_ms_interquartile_range": 1e3 * (quartiles[2] - quartiles[0]),
        "peak_memory_mb": peak_memory() / 2**20,  # of the process so far
    }
    print(f"{name}: " + ", ".join(f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v:,}" for k, v in result.items()))
    return result


def main(steps: int) -> None:
    text = load_corpus("tinyshakespeare")[0]
    tokenizer = CharTokenizer.train([text])
    train, validation = split_by_position(tokenizer.encode(text), (0.9, 0.1))
    V = tokenizer.vocab_size
    facts = machine()
    print(facts)
    minilm.manual_seed(1337)
    gpt = GPT(GPTConfig(V, BLOCK, n_layer=4, n_head=4, n_embd=128))
    lstm = LSTMLM(LSTMConfig(V, n_embd=128, n_hidden=235, n_layer=2))
    results = {
        "gpt": run(
            "gpt",
            gpt,
            ShuffledBatches(TokenWindows(train, BLOCK), BATCH, seed=1337),
            SequentialBatches(validation, 64, BLOCK),
            steps,
        ),
        "lstm": run(
            "lstm", lstm, StreamBatches(train, BATCH, BLOCK), SequentialBatches(validation, 16, 512), steps
        ),
    }
    save("tinyshakespeare", {"seconds": elapsed(), **results}, facts)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)

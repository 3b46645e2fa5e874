"""A small training run that the tests of this folder start, in the process or as a program of its own.

    python -m tests.training.runs OUT MODEL STEPS [--resume]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import minilm
from minilm.models import GPT, LSTMLM, GPTConfig, LSTMConfig
from minilm.nn import Module
from minilm.random import using_generator
from minilm.text import CharTokenizer, SequentialBatches, ShuffledBatches, StreamBatches, TokenWindows
from minilm.training import Trainer, TrainingArguments

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. " * 40
TOKENIZER = CharTokenizer.train([TEXT])
TOKENS = TOKENIZER.encode(TEXT)
BATCH, BLOCK = 4, 16


def small_model(kind: str, dropout: float = 0.1) -> Module:
    """A model of a few thousand parameters, always the same."""
    V = TOKENIZER.vocab_size
    with using_generator(minilm.Generator(7)):
        if kind == "gpt":
            return GPT(GPTConfig(V, BLOCK, n_layer=2, n_head=2, n_embd=16, dropout=dropout))
        return LSTMLM(LSTMConfig(V, n_embd=12, n_hidden=16, n_layer=2, dropout=dropout, cell=kind))


def small_trainer(out: Path, kind: str = "gpt", steps: int = 12, dropout: float = 0.1, **settings: Any) -> Trainer:
    """A trainer that saves every third step and evaluates every fourth."""
    arguments: dict[str, Any] = {
        "max_steps": steps,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 2,
        "weight_decay": 0.1,
        "logging_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_steps": 3,
        "progress": False,
    }
    train = (
        ShuffledBatches(TokenWindows(TOKENS[:900], BLOCK), BATCH, seed=3)
        if kind == "gpt"
        else StreamBatches(TOKENS[:900], BATCH, BLOCK)
    )
    return Trainer(
        small_model(kind, dropout),
        TrainingArguments(out, **{**arguments, **settings}),
        train,
        SequentialBatches(TOKENS[900:1300], BATCH, BLOCK),
        tokenizer=TOKENIZER,
    )


def parameters(model: Module) -> dict[str, np.ndarray]:
    return model.state_dict()


def assert_same_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert one[name].tobytes() == other[name].tobytes(), f"{name} differs"


if __name__ == "__main__":
    out, kind, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    # 1 step in 60 of what a checkpoint costs is training here: a kill at random mostly hits a save
    trainer = small_trainer(out, kind, steps, save_steps=2)
    trainer.train(resume_from_checkpoint="--resume" in sys.argv)

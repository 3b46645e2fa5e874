"""Are tokenizing and batching ever the bottleneck? Their time beside the training step that they feed.

    make bench ONLY=data_loading

Tokenizers: how many tokens a second they make of tinyshakespeare, and how long that takes for the tokens of one step:
what a step would lose if its text were tokenized while it waits (in truth that is done once, before training). The ids
must be right: decoded, they are the text again, or its words.

Batches: what one costs at the shapes of the presets of the command line, drawn along as the trainer does, beside the
step of the preset. What stands in the last column should never be more than 2 %.

The text is read from the folder MINILM_TEST_DATA, if that is set; else it is a download (minilm.text.CORPORA) that
MINILM_CACHE keeps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness import elapsed, machine, no_options, save
from minilm.testing.timing import in_words, measure
from minilm.text import (
    BatchSource,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    load_corpus,
)
from minilm.text.tokenizers.word import split_words
from sides.presets import PresetStep

PRESETS = (("gpt", "char-cpu"), ("lstm", "char-cpu"), ("gpt", "tiny"), ("lstm", "tiny"))


def tinyshakespeare() -> str:
    """1.1 million characters."""
    folder = os.environ.get("MINILM_TEST_DATA")
    path = Path(folder or "", "tinyshakespeare", "input.txt")
    return path.read_text(encoding="utf-8") if folder and path.exists() else load_corpus("tinyshakespeare")[0]


def tokenizers(text: str) -> dict[str, tuple[Tokenizer, Callable[[str], Any]]]:
    """Each with what decoding must give back of the text."""
    return {
        "char": (CharTokenizer.train(text), lambda text: text),
        "byte": (ByteTokenizer(), lambda text: text),
        "word": (WordTokenizer.train(text), split_words),
    }


def check_tokenizers(text: str, made: dict[str, tuple[Tokenizer, Callable[[str], Any]]]) -> None:
    """Decoded, the ids are the text again, or its words."""
    for name, (tokenizer, kept) in made.items():
        assert kept(tokenizer.decode(tokenizer.encode(text))) == kept(text), f"{name}: decoding gives another text"


def check_batches(source: BatchSource) -> None:
    """The label of each token is the token after it."""
    for batch in source.epoch(0):
        np.testing.assert_array_equal(batch["input_ids"][:, 1:], batch["labels"][:, :-1])


def draw(source: BatchSource) -> None:
    """A whole epoch, the order of its examples included."""
    for _ in source.epoch(1):
        pass


def batch_row(model: str, preset: str, tokens: Any, vocab_size: int) -> dict[str, Any]:
    """What a batch costs, and the step that it is for."""
    step = PresetStep(model, preset, tokens, vocab_size)
    check_batches(step.source)
    batches = step.batches()
    steps = measure({"step": lambda: step.update(next(batches))}, repeats=40, warmup=10)[0]
    epochs = measure({"epoch": lambda: draw(step.source)}, repeats=7, warmup=1)[0]
    each = epochs.median / len(step.source)
    return {
        "work": step.words,
        "source": type(step.source).__name__,
        "tokens": step.settings.batch_size * step.settings.block_size,
        "batches_per_s": 1 / each,
        "batch_s": each,
        "batch_spread_s": epochs.spread / len(step.source),
        "step_s": steps.median,
        "share": each / steps.median,
    }


def main() -> None:
    """Check, time, print and save."""
    text = tinyshakespeare()
    made = tokenizers(text)
    check_tokenizers(text, made)
    facts = machine()
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}; tinyshakespeare, {len(text):,} characters")

    tokens, vocab_size = made["char"][0].encode(text), made["char"][0].vocab_size
    batches = {f"{model}, {preset}": batch_row(model, preset, tokens, vocab_size) for model, preset in PRESETS}
    for row in batches.values():
        print(
            f"  {row['work']:58} {row['source']:16} {row['batches_per_s']:8,.0f} batches/s, "
            f"{in_words(row['batch_s'])} each, {row['share']:.2%} of a step of {in_words(row['step_s'])}"
        )

    fed = batches["gpt, char-cpu"]
    timings = measure({name: lambda t=t: t.encode(text) for name, (t, _) in made.items()}, repeats=10, warmup=2)
    rows = {}
    for timing in timings:
        tokenizer = made[timing.name][0]
        count = len(tokenizer.encode(text))
        row = rows[timing.name] = {
            "vocab_size": tokenizer.vocab_size,
            "tokens": count,
            "tokens_per_s": count / timing.median,
            "encode_s": timing.median,
            "encode_spread_s": timing.spread,
            "share": timing.median / count * fed["tokens"] / fed["step_s"],
        }
        print(
            f"  {timing.name}: {row['tokens']:>9,} tokens of {row['vocab_size']:,} in {in_words(timing.median)} "
            f"({row['tokens_per_s'] / 1e6:.1f} million/s); for the step of char-cpu gpt {row['share']:.2%} of it"
        )
    result = {"text": "tinyshakespeare", "batches": batches, "tokenizers": rows}
    save("data_loading", {"seconds": elapsed(), **result}, facts)


if __name__ == "__main__":
    no_options(__doc__)
    main()

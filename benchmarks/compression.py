"""Smaller models: what do quantization, pruning and distillation cost, and what do they bring?

    make bench ONLY=compression                                       all three, about 20 minutes on one core
    python benchmarks/compression.py quantization --work FOLDER       one; what was trained is kept in FOLDER

The models are a character GPT trained here on tinyshakespeare (4 layers, 128 channels, 2,000 steps: the GPT of
tinyshakespeare.py), and SmolLM2-135M-Instruct (`make pretrained`). Each part saves results/compression_PART.json.

    quantization    size, perplexity and tokens/s with the weights in float32, 8 bits, and 4 bits in several ways
    pruning         perplexity over the part of the weights that is zero: at once, per layer, trained on, gradually
    distillation    a small student of the character GPT, against the same student trained on the text alone; 3 seeds

SmolLM2's file holds 4-bit weights with offsets already (its table of embeddings: 8 bits). What is called float32 here
is what they stand for. So that 4 bits with offsets lose nothing is no news; 8 bits, and 4 bits without offsets, are.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness import machine, save
from minilm.compression import (
    DistillationModel,
    GradualPruning,
    Pruning,
    prune,
    quantize,
    size_in_bytes,
)
from minilm.errors import CheckpointError
from minilm.evaluation import StridedWindows, evaluate_language_model
from minilm.generation import generate_tokens
from minilm.models import GPT, GPTConfig
from minilm.nn import Module
from minilm.random import Generator, using_generator
from minilm.testing.timing import measure
from minilm.text import CharTokenizer, ShuffledBatches, TokenWindows, load_corpus, split_by_position
from minilm.training import Callback, Trainer, TrainingArguments, load_model, save_checkpoint

BATCH, BLOCK = 12, 64
LEVELS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
SCORED = 32_768  # tokens of the validation part that pruned models are scored on
FINE_TUNING = 150  # steps
STUDENT = {"n_layer": 2, "n_head": 2, "n_embd": 64}
STUDENT_STEPS, SEEDS = 800, (1, 2, 3)
WAYS: dict[str, tuple[int, tuple[float, float] | None]] = {  # steps, and temperature and alpha of a distillation
    "alone": (STUDENT_STEPS, None),
    "alone, three times the steps": (3 * STUDENT_STEPS, None),  # about the time that distilling takes
    "temperature 1, alpha 1": (STUDENT_STEPS, (1.0, 1.0)),
    "temperature 2, alpha 0.5": (STUDENT_STEPS, (2.0, 0.5)),
}

FORMS: dict[str, dict[str, Any] | None] = {
    "float32": None,
    "8 bits": {"bits": 8},
    "4 bits with offset, embeddings 8": {"bits": 4, "offset": True},
    "4 bits, embeddings 8": {"bits": 4},
    "4 bits with offset, all": {"bits": 4, "offset": True, "embedding_bits": 4},
    "4 bits, all": {"bits": 4, "embedding_bits": 4},
}


def say(line: str) -> None:
    print(line, flush=True)


# ----- the character GPT


def text() -> tuple[CharTokenizer, Any, Any]:
    """The tokenizer, and the ids for training and validation: the first nine tenths and the last, as nanoGPT."""
    whole = load_corpus("tinyshakespeare")[0]
    tokenizer = CharTokenizer.train([whole])
    train, validation = split_by_position(tokenizer.encode(whole), (0.9, 0.1))
    return tokenizer, train, validation


def train(
    model: Module, tokens: Any, steps: int, seed: int, lr: float = 2e-3, callbacks: tuple[Callback, ...] = ()
) -> float:
    """Train a model; returns the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            learning_rate=lr,
            lr_scheduler_type="cosine",
            warmup_steps=min(100, steps // 10),
            min_lr_ratio=0.1,
            weight_decay=0.1,
            adam_beta2=0.99,
            logging_steps=max(1, steps // 4),
            save_strategy="no",
            seed=seed,
            progress=False,
        )
        batches = ShuffledBatches(TokenWindows(tokens, BLOCK), BATCH, seed=seed)
        began = time.perf_counter()
        Trainer(model, arguments, batches, callbacks=callbacks).train()
        return time.perf_counter() - began


def gpt(vocab_size: int, seed: int, **sizes: int) -> GPT:
    """A GPT with weights of this seed."""
    with using_generator(Generator(seed).spawn("weights")):
        return GPT(GPTConfig(vocab_size, BLOCK, **sizes))


def base(work: Path) -> Module:
    """The trained GPT, from the work folder if it is there."""
    folder = work / "base"
    if not folder.exists():
        tokenizer, tokens, _ = text()
        model = gpt(tokenizer.vocab_size, 1337, n_layer=4, n_head=4, n_embd=128)
        seconds = train(model, tokens, 2000, 1337)
        save_checkpoint(folder, model, tokenizer, state={"seconds": seconds})
        say(f"base: trained in {seconds:.0f} s")
    return load_model(folder)[0]


def loss(model: Module, tokens_scored: Any, block: int = BLOCK, stride: int | None = None) -> float:
    """Nats per token over all tokens."""
    at_once = max(1, min(8192, (1 << 26) // model.config.vocab_size) // block)
    return evaluate_language_model(model, StridedWindows([tokens_scored], at_once, block, stride)).loss


# ----- quantization


def decoding(model: Module, prompt: Any, tokens: int) -> Callable[[], None]:
    """A call that writes `tokens` tokens after a prompt, the most probable ones."""
    from minilm.generation import SamplingSettings

    def write() -> None:
        for _ in generate_tokens(model, prompt, tokens, SamplingSettings(temperature=0)):
            pass

    return write


def forms_of(load: Callable[[], Module], prompt: Any, tokens: int, rounds: int, **scored: Any) -> dict[str, Any]:
    """Each form of a model: its size, the seconds that quantizing took, its loss, and how fast it writes."""
    rows, models = {}, {}
    for name, settings in FORMS.items():
        model = load()
        began = time.perf_counter()
        if settings is not None:
            quantize(model, **settings)
        seconds = time.perf_counter() - began
        rows[name] = {"bytes": size_in_bytes(model), "seconds_to_quantize": seconds, "loss": loss(model, **scored)}
        rows[name]["perplexity"] = math.exp(rows[name]["loss"])
        say(f"  {name}: {rows[name]['bytes'] / 1e6:.1f} MB, perplexity {rows[name]['perplexity']:.3f}")
        models[name] = model
    # the same prompt with fewer tokens is taken off, so that what is left is writing and not reading
    calls = {name: decoding(model, prompt, 1 + tokens) for name, model in models.items()}
    calls |= {f"{name}: reading": decoding(model, prompt, 1) for name, model in models.items()}
    timed = {timing.name: timing.median for timing in measure(calls, rounds, 1)}
    for name, row in rows.items():
        row["tokens_per_second"] = tokens / (timed[name] - timed[f"{name}: reading"])
        say(f"  {name}: {row['tokens_per_second']:.1f} tokens/s")
    return rows


def quantization(work: Path) -> dict[str, Any]:
    """Both models in all forms."""
    tokenizer, _, validation = text()
    say("character GPT")
    base(work)
    result: dict[str, Any] = {
        "character GPT": {
            "parameters": base(work).num_parameters(),
            "scored": f"{len(validation) - 1:,} tokens: the last tenth of tinyshakespeare, windows of {BLOCK}",
            "forms": forms_of(lambda: base(work), validation[:16], 40, 15, tokens_scored=validation),
        }
    }
    from minilm.pretrained import from_pretrained

    name = "SmolLM2-135M-Instruct"
    try:
        model, its_tokenizer = from_pretrained(name, context_length=1024)
    except CheckpointError as error:
        say(f"left out: {error}")
        return result
    say(name)
    ids = np.asarray(its_tokenizer.encode(tokenizer.decode(validation)))[:2048]
    result[name] = {
        "parameters": model.num_parameters(),
        "scored": f"{len(ids) - 1:,} tokens: the beginning of the last tenth of tinyshakespeare, windows of 512, "
        "256 from one to the next",
        "forms": forms_of(
            lambda: from_pretrained(name, context_length=1024)[0], ids[:16], 16, 5,
            tokens_scored=ids, block=512, stride=256,
        ),
    }  # fmt: skip
    return result


# ----- pruning


def pruning(work: Path) -> dict[str, Any]:
    """Perplexity of the character GPT over the sparsity of its Linear layers."""
    _, tokens, validation = text()
    validation = validation[:SCORED]

    def scored(model: Module) -> float:
        return math.exp(loss(model, validation))

    rows: dict[str, Any] = {"0": {"untouched": scored(base(work))}}
    again = base(work)
    seconds = train(again, tokens, FINE_TUNING, 7, lr=5e-4)
    rows["0"]["global, trained on"] = scored(again)
    for level in LEVELS:
        row = {}
        for scope in ("global", "layer"):
            model = base(work)
            kept: Pruning = prune(model, level, scope)
            row[scope] = scored(model)
            if scope == "global":
                train(model, tokens, FINE_TUNING, 7, lr=5e-4, callbacks=(kept,))
                row["global, trained on"] = scored(model)
        model = base(work)
        gradual = GradualPruning(model, level, end=int(0.7 * FINE_TUNING), every=5)
        train(model, tokens, FINE_TUNING, 7, lr=5e-4, callbacks=(gradual,))
        row["gradually"] = scored(model)
        row["sparsity"] = gradual.sparsity
        rows[str(level)] = row
        say(f"  {level:.0%}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()))
    return {
        "scored": f"{len(validation) - 1:,} tokens of the last tenth of tinyshakespeare",
        "steps_of_training_on": FINE_TUNING,
        "seconds_of_training_on": seconds,
        "perplexity": rows,
    }


# ----- distillation


def distillation(work: Path) -> dict[str, Any]:
    """A student that learns from the teacher, against one that learns from the text."""
    tokenizer, tokens, validation = text()
    teacher = base(work)
    V = tokenizer.vocab_size
    ways: dict[str, Any] = {}
    for way, (steps, settings) in WAYS.items():
        runs = []
        for seed in SEEDS:
            student = gpt(V, seed, **STUDENT)
            model = student if settings is None else DistillationModel(student, teacher, *settings)
            seconds = train(model, tokens, steps, seed)
            runs.append({"seed": seed, "loss": loss(student, validation), "seconds": seconds})
            say(f"  {way}, seed {seed}: loss {runs[-1]['loss']:.4f}, {seconds:.0f} s")
        losses = [run["loss"] for run in runs]
        ways[way] = {"steps": steps, "runs": runs, "mean_loss": statistics.mean(losses)}
        ways[way]["spread"] = max(losses) - min(losses)
    return {
        "teacher": {"parameters": teacher.num_parameters(), "loss": loss(teacher, validation)},
        "student": {"parameters": gpt(V, 1, **STUDENT).num_parameters(), **STUDENT},
        "scored": f"{len(validation) - 1:,} tokens: the last tenth of tinyshakespeare",
        "ways": ways,
    }


PARTS = {"quantization": quantization, "pruning": pruning, "distillation": distillation}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    told = f"some of {', '.join(PARTS)}; all, if none is named"
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[], metavar="PART", help=told)
    parser.add_argument("--work", type=Path, help="keep what is trained here, and use what is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        for part in options.parts or PARTS:
            say(part)
            facts, began = machine(), time.perf_counter()
            base(work)
            result = PARTS[part](work)
            path = save(
                f"compression_{part}",
                {
                    "command": f"python benchmarks/compression.py {part}",
                    "seconds": time.perf_counter() - began,
                    **result,
                },
                facts,
            )
            say(f"  -> {path}")


if __name__ == "__main__":
    sys.exit(main())

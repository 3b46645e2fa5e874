"""DP-SGD: what does privacy cost, and what does it bring?

    make pretrained
    python benchmarks/privacy.py                    about six minutes on one core
    python benchmarks/privacy.py canary             this part; the other in results/privacy.json stays as it is
    python benchmarks/privacy.py --tenth            a tenth of the steps, to see that it works (nothing is saved)

    cost      a classifier of film reviews (Pang & Lee 2005): one linear layer on the frozen embeddings of
              all-MiniLM-L6-v2, which was trained on public text; its held-out loss and accuracy for epsilon from 0.1 to
              infinity (each example clipped, no noise), and by plain SGD, three seeds each
    canary    an LSTM of characters that learns 1,000 names and one secret among them, by the Trainer and with epsilon 8
              and 2: the secret's exposure (Carlini et al. 2019), and the held-out loss in nats per character

An example is a sentence, or a name; delta is 1e-5; epsilon is counted by the privacy loss distribution (pld). Learning
rate, steps and clipping norm are the same for every epsilon. Those of the first part were chosen on 1,500 sentences of
the training part, those of the second so that plain training learns the secret by heart: these choices are not in the
epsilon. Which tenth is held out follows from the texts.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import minilm.functional as F
from harness import RESULTS, machine, save
from minilm import nn
from minilm.evaluation import evaluate_language_model
from minilm.inspection import exposure, log_likelihoods
from minilm.kernels.threads import thread_count
from minilm.models import LSTMLM, LSTMConfig
from minilm.plots.privacy_curve import plot_privacy
from minilm.pretrained import SentenceEncoder
from minilm.random import Generator, using_generator
from minilm.tensor import Tensor, no_grad
from minilm.text import CharTokenizer, OrderedBatches, ShuffledBatches, load_corpus, split_documents
from minilm.training import PrivateTrainer, Trainer, TrainingArguments, epsilon_spent, noise_for_epsilon

PARTS = ("cost", "canary")
DELTA, SEEDS = 1e-5, (1, 2, 3)
SENTENCES = 5_000  # for training: encoding them takes a quarter of the time here
EPSILONS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)
COST = {"max_steps": 150, "per_device_train_batch_size": 200, "learning_rate": 2.0, "max_grad_norm": 1.0}
CANARY = {"max_steps": 320, "per_device_train_batch_size": 64, "learning_rate": 1e-2, "max_grad_norm": 1.0}
NAMES, LETTERS, PREFIX = 1_000, "abcdefghijklmnopqrstuvwxyz", "qxz"  # the secret: the prefix and three letters


def say(line: str) -> None:
    print(line, flush=True)


def arguments(folder: str, seed: int, tenth: bool, **settings: Any) -> TrainingArguments:
    """What all runs share."""
    if tenth:
        settings["max_steps"] //= 10
    common = {"lr_scheduler_type": "constant", "save_strategy": "no", "progress": False, "seed": seed}
    return TrainingArguments(folder, **common, **settings)


def noises(epsilons: Any, settings: dict[str, Any], n: int) -> dict[float, float]:
    """The noise multiplier for each epsilon."""
    steps, rate = settings["max_steps"], settings["per_device_train_batch_size"] / n
    return {e: noise_for_epsilon(e, steps, rate, DELTA, "pld") for e in epsilons}


def spread(values: list[float]) -> dict[str, Any]:
    """Of the seeds: the mean, and all of them."""
    return {"mean": sum(values) / len(values), "seeds": values}


# ----- what it costs


class Head(nn.Module):
    """{"x": features (B, C)} -> logits (B, 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2)
        with no_grad():
            self.linear.weight.zero_()
            self.linear.bias.zero_()

    def forward(self, x: Any) -> Tensor:
        return self.linear(Tensor(x))

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch["x"]), batch["labels"])


def reviews(work: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Examples {"x": features (C,), "labels": 0 or 1} for training, and those of the held-out tenth."""
    texts = load_corpus("rt_polarity")
    label = {text: int(i < len(texts) // 2) for i, text in enumerate(texts)}  # the positive half comes first
    train_texts, held_out_texts = split_documents(texts, (0.9, 0.1), seed=0)
    parts = [train_texts[i] for i in Generator(0).permutation(len(train_texts))[:SENTENCES]], held_out_texts
    stored = work / "features.npz"
    if not stored.exists():
        began = time.perf_counter()
        encoder = SentenceEncoder.load()
        np.savez(stored, *(encoder.encode(part) for part in parts))
        say(f"features of {sum(map(len, parts)):,} sentences: {time.perf_counter() - began:.0f} s")
    with np.load(stored) as arrays:
        features = [arrays[name] for name in arrays.files]
    train, held_out = (
        [{"x": x, "labels": np.int64(label[t])} for x, t in zip(rows, part, strict=True)]
        for rows, part in zip(features, parts, strict=True)
    )
    return train, held_out


def cost(work: Path, tenth: bool) -> dict[str, Any]:
    """Held-out loss and accuracy for each epsilon."""
    train, held_out = reviews(work)
    sigma = noises(EPSILONS, COST, len(train))
    ways: dict[str, tuple[float | None, float]] = {f"{e:g}": (e, sigma[e]) for e in EPSILONS}
    rows = {}
    x, y = np.stack([e["x"] for e in held_out]), np.array([e["labels"] for e in held_out])
    for name, (epsilon, noise) in {**ways, "plain": (None, 0.0)}.items():
        losses, right, began = [], [], time.perf_counter()
        for seed in SEEDS:
            model = Head(x.shape[1])
            with tempfile.TemporaryDirectory() as folder:
                settings = {**COST, "optim": "sgd"}
                if epsilon is None:
                    args = arguments(folder, seed, tenth, **{**settings, "max_grad_norm": 0.0})
                    Trainer(model, args, train).train()
                else:
                    args = arguments(folder, seed, tenth, **settings)
                    PrivateTrainer(model, args, train, noise_multiplier=noise).train()
            score = evaluate_language_model(model, OrderedBatches(held_out, 256))
            losses.append(score.loss)
            with no_grad():
                right.append(float((model(x).numpy().argmax(-1) == y).mean()))
        rows[name] = {
            "epsilon": None if epsilon is None or math.isinf(epsilon) else epsilon,
            "noise_multiplier": noise,
            "loss": spread(losses),
            "accuracy": spread(right),
            "seconds": (time.perf_counter() - began) / len(SEEDS),
        }
        say(f"epsilon {name}: sigma {noise:.3f}, loss {np.mean(losses):.4f}, accuracy {np.mean(right):.4f}")
    # as a check of the last: what rdp would have called these runs
    steps, rate = COST["max_steps"], COST["per_device_train_batch_size"] / len(train)
    for e in EPSILONS[:-1]:
        rows[f"{e:g}"]["epsilon_by_rdp"] = epsilon_spent(int(steps), rate, sigma[e], DELTA)
    return {
        "settings": {**COST, "optim": "sgd"},
        "training_examples": len(train),
        "held_out_examples": len(held_out),
        "loss_of_guessing": math.log(2),
        "rows": rows,
    }


# ----- what it brings


def name_examples(tokenizer: CharTokenizer, names: list[str]) -> list[dict[str, Any]]:
    """A name with a line break before and after, as ids and the ids that follow."""
    rows = [tokenizer.encode(f"\n{name}\n") for name in names]
    return [{"input_ids": row[:-1], "labels": row[1:]} for row in rows]


def canary(tenth: bool) -> dict[str, Any]:
    """Exposure of a secret, and the loss on other names, with and without privacy."""
    whole, held_out = split_documents(load_corpus("names"), (0.9, 0.1), seed=0)
    tokenizer = CharTokenizer.train(["\n" + LETTERS])
    names = [whole[i] for i in Generator(0).permutation(len(whole))[: NAMES]]
    candidates = [PREFIX + a + b + c for a in LETTERS for b in LETTERS for c in LETTERS]
    evaluation = OrderedBatches(name_examples(tokenizer, held_out[:500]), 100)
    sigma = noises((8.0, 2.0), CANARY, NAMES + 1)
    ways: dict[str, float | None] = {"plain": None, "8": sigma[8.0], "2": sigma[2.0], "never seen": None}
    rows = {}
    for way, noise in ways.items():
        exposures, losses, began = [], [], time.perf_counter()
        for seed in SEEDS:
            secret = int(Generator(seed).spawn("secret").integers(0, len(candidates)))
            told = [] if way == "never seen" else [candidates[secret]]
            examples = name_examples(tokenizer, [*names, *told])
            with using_generator(Generator(seed).spawn("weights")):
                model = LSTMLM(LSTMConfig(tokenizer.vocab_size, n_embd=16, n_hidden=64, n_layer=1))
            with tempfile.TemporaryDirectory() as folder:
                args = arguments(folder, seed, tenth, **{**CANARY, "optim": "adamw"})
                if noise is None:
                    batches = ShuffledBatches(examples, args.per_device_train_batch_size, seed, drop_last=False)
                    Trainer(model, args, batches).train()
                else:
                    PrivateTrainer(model, args, examples, noise_multiplier=noise).train()
            likelihoods = log_likelihoods(model, [tokenizer.encode(f"\n{c}\n") for c in candidates])
            exposures.append(exposure(likelihoods, secret))
            losses.append(evaluate_language_model(model, evaluation).loss)
        rows[way] = {
            "epsilon": None if noise is None else float(way),
            "noise_multiplier": noise,
            "exposure_bits": spread(exposures),
            "loss": spread(losses),
            "seconds": (time.perf_counter() - began) / len(SEEDS),
        }
        say(f"canary, {way}: exposure {np.round(exposures, 1)} bits, loss {np.mean(losses):.3f}")
    return {
        "settings": {**CANARY, "optim": "adamw"},
        "training_names": NAMES,
        "times_the_secret_is_in_them": 1,
        "secrets_of_the_form": len(candidates),
        "most_exposure_bits": math.log2(len(candidates)),
        "loss_of_guessing": math.log(len(LETTERS) + 1),
        "rows": rows,
    }


def main() -> None:
    """Train, score, save results/privacy.json and results/privacy.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--work", type=Path, help="a folder to keep the features in")
    parser.add_argument("--tenth", action="store_true", help="a tenth of the steps; saves nothing")
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}: {', '.join(PARTS)}")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        for name in options.parts:
            facts, began, processor = machine(), time.perf_counter(), time.process_time()
            part = cost(work, options.tenth) if name == "cost" else canary(options.tenth)
            found[name] = {
                **part,
                "command": f"python benchmarks/privacy.py {name}",
                "threads": thread_count(),
                "seconds": time.perf_counter() - began,
                "processor_seconds": time.process_time() - processor,
            }
            say(f"{name}: {found[name]['seconds']:.0f} s")
    path = RESULTS / "privacy.json"
    known = json.loads(path.read_text()) if path.exists() and not options.tenth else {}
    parts = {name: part for name in PARTS if (part := found.get(name, known.get(name)))}
    result = {"command": "python benchmarks/privacy.py", "delta": DELTA, "accountant": "pld", **parts}
    if "cost" in parts:
        picture = Path(tempfile.gettempdir(), "privacy_tenth.png") if options.tenth else RESULTS / "privacy.png"
        say(f"  -> {plot_privacy(result, picture)}")
    if not options.tenth:
        say(f"  -> {save('privacy', result, facts)}")


if __name__ == "__main__":
    main()

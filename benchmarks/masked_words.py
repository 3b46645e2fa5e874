"""BERT's own lesson: learn from texts without labels by restoring hidden words, and then a task with labels.

    python benchmarks/masked_words.py                   all of it: about half an hour on one core
    python benchmarks/masked_words.py --work FOLDER     keeps checkpoints there, and goes on from them when run again
    python benchmarks/masked_words.py --steps 20        so many steps of each training, to see that it works; saves
                                                        nothing

A BERT of four layers (Devlin et al. 2019) starts from nothing and reads film reviews, 10,662 sentences (Pang and Lee
2005); which tenth is held out follows from the texts, and is the one of finetuning.py.

    pre-training    on the training part without its labels: hidden words, 80/10/10, drawn anew each epoch. How many
                    does it restore on the held-out tenth, and what do baselines restore that need no network?
    fine-tuning     good or bad? The same architecture and steps from the pre-trained weights and from nothing, with all
                    labels and with 500 of them; from nothing also with the learning rate that is best for that

The learning rates of the fine-tuning are chosen on a tenth of the training part, which is then used for training; the
held-out tenth decides nothing. There is no next-sentence prediction: the corpus has single sentences, without the ones
that follow them.

The tokens are those of BERT's uncased vocabulary (the corpus bert_vocab) that are frequent enough in the training part;
WordPiece writes other words with shorter ones. All 30,522 would be four fifths of the weights of a model this small.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import machine, save
from minilm.kernels.threads import thread_count
from minilm.models import BERT, BERTConfig, BERTForMaskedLM, BERTForSequenceClassification
from minilm.nn import Module, evaluating
from minilm.random import Generator, using_generator
from minilm.tensor import no_grad
from minilm.text import (
    Labelled,
    MaskedExamples,
    OrderedBatches,
    WordPieceTokenizer,
    find_corpus,
    read_labelled,
    split_labelled,
)
from minilm.training import Trainer, TrainingArguments, list_checkpoints, read_metrics

DATA, LEAST = "rt_polarity", 5  # a token of BERT's is one of ours if it occurs so often
LONGEST = 64  # tokens of a sentence, [CLS] and [SEP] among them; six sentences in a thousand are longer
MODEL = {"block_size": LONGEST, "n_layer": 4, "n_head": 4, "n_embd": 128, "n_hidden": 512}
LARGER = 4.0  # weights N(0, 0.02²) are for 768 channels: with 128 all scores would begin near zero (chapter 11)
PRETRAINING = {"max_steps": 4400, "per_device_train_batch_size": 32, "learning_rate": 1e-3, "warmup_steps": 400}
DROPOUT = 0.1  # in the fine-tuning; in the pre-training no epoch hides what another hid
FINETUNING = {
    "500": {"max_steps": 315, "per_device_train_batch_size": 16, "warmup_steps": 30},  # ten epochs
    "all": {"max_steps": 900, "per_device_train_batch_size": 32, "warmup_steps": 60},  # three
}
SEEDS = {"500": (1, 2, 3), "all": (1,)}  # of what is drawn: 500 labels, the head, the order, dropout
RATES, TRIED = (3e-4, 1e-3), 315  # learning rates, and for how many steps each is tried
STARTS = ("pre-trained", "from nothing")
DRAWINGS = 4  # of hidden words on the held-out tenth
EXAMPLES, CHOICES = 8, 5


def say(line: str) -> None:
    print(line, flush=True)


# ----- the data


def vocabulary(texts: Sequence[str]) -> WordPieceTokenizer:
    """BERT's tokens that the texts have LEAST times or more; letters and marks stay: they can write any word."""
    path = next(path for path in find_corpus("bert_vocab") if "uncased" in path.name)
    whole = WordPieceTokenizer.from_file(path)
    counts = np.bincount(np.concatenate([whole.encode(text) for text in texts]), minlength=whole.vocab_size)

    def stays(token: str, count: int) -> bool:
        letter = token.removeprefix("##")
        return count >= LEAST or token in whole.special_tokens or (len(letter) == 1 and letter.isascii())

    return WordPieceTokenizer([t for t, count in zip(whole.tokens, counts, strict=True) if stays(t, int(count))])


def encoded(tokenizer: WordPieceTokenizer, part: Sequence[Labelled]) -> list[dict[str, Any]]:
    """[CLS] sentence [SEP], and 1 for a good review; the short ones first, for batches with little padding."""
    rows = [
        {
            "input_ids": tokenizer.pair(tokenizer.encode(example.text), max_length=LONGEST).input_ids,
            "labels": np.int64(example.label == "pos"),
        }
        for example in part
    ]
    return sorted(rows, key=lambda row: len(row["input_ids"]))


def without_labels(rows: Sequence[dict[str, Any]]) -> list[Any]:
    return [row["input_ids"] for row in rows]


# ----- hidden words


def larger(model: Module) -> None:
    """Multiply the matrices as they were drawn by LARGER."""
    with no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(LARGER)


def fresh(vocab_size: int) -> BERTForMaskedLM:
    """The model before its pre-training."""
    with using_generator(Generator(0).spawn("weights")):
        config = BERTConfig(vocab_size, dropout=0.0, **MODEL)
        model = BERTForMaskedLM(config, BERT(config, pooling=False))
    larger(model)
    return model


def batches_of(rows: Sequence[Any], tokenizer: WordPieceTokenizer, drawing: int) -> OrderedBatches:
    """Rows with words hidden, always the same."""
    return OrderedBatches(MaskedExamples(rows, tokenizer, seed=drawing), 64)


def pretrain(tokenizer: WordPieceTokenizer, train: list[Any], held_out: list[Any], folder: Path, steps: int) -> Any:
    """The model after its pre-training, and the figures of it."""
    arguments = TrainingArguments(
        folder,
        weight_decay=0.01,
        adam_beta2=0.98,
        group_by_length=True,
        logging_steps=max(1, steps // 36),
        eval_strategy="steps",
        eval_steps=max(1, steps // 6),
        save_steps=max(1, steps // 6),
        save_total_limit=1,
        **{**PRETRAINING, "max_steps": steps, "warmup_steps": min(PRETRAINING["warmup_steps"], steps // 4)},
    )
    model = fresh(tokenizer.vocab_size)
    examples = MaskedExamples(train, tokenizer)
    trainer = Trainer(model, arguments, examples, batches_of(held_out, tokenizer, 0), tokenizer=tokenizer)
    output = trainer.train(resume_from_checkpoint=bool(list_checkpoints(folder)))
    metrics = read_metrics(folder / "metrics.jsonl")
    speed = [m["tokens_per_second"] for m in metrics if "tokens_per_second" in m][-1]
    return model, {
        "parameters": model.num_parameters(),
        "steps": output.global_step,
        "epochs": trainer.state.epoch + trainer.state.batch / trainer.steps_per_epoch,
        "seconds": trainer.state.tokens / speed,  # of all steps, also if it was resumed; without evaluating
        "peak_memory_mb": output.metrics["peak_memory_mb"],
        "losses": [{k: m[k] for k in ("step", "loss", "eval_loss") if k in m} for m in metrics],
    }


def restored(model: BERTForMaskedLM, rows: list[Any], tokenizer: WordPieceTokenizer) -> dict[str, float]:
    """Loss and accuracy on the hidden words, by what is shown in their place."""
    losses, ranks, fates = [], [], []
    with evaluating(model.modules()):
        for drawing in range(DRAWINGS):
            for batch in batches_of(rows, tokenizer, drawing):
                ids, labels = batch["input_ids"], batch["labels"]
                places = labels != -100
                logits = model(ids, batch.get("attention_mask"))[0].numpy()[places].astype("float64")  # (N, V)
                right = labels[places]
                logits -= logits.max(axis=1, keepdims=True)
                true = logits[np.arange(len(right)), right]
                losses.append(np.log(np.exp(logits).sum(axis=1)) - true)
                ranks.append((logits > true[:, None]).sum(axis=1))
                fates.append(np.where(ids[places] == tokenizer.mask_id, 0, np.where(ids[places] == right, 2, 1)))
    loss, rank, fate = (np.concatenate(parts) for parts in (losses, ranks, fates))
    masked = fate == 0
    return {
        "places": len(loss),
        "places_masked": int(masked.sum()),
        "loss": float(loss.mean()),  # what is trained
        "loss_masked": float(loss[masked].mean()),
        "accuracy_masked": float((rank[masked] == 0).mean()),
        "among_five_masked": float((rank[masked] < CHOICES).mean()),
        "accuracy_replaced": float((rank[fate == 1] == 0).mean()),
        "accuracy_kept": float((rank[fate == 2] == 0).mean()),
    }


def baselines(train: list[Any], held_out: list[Any], tokenizer: WordPieceTokenizer) -> dict[str, dict[str, float]]:
    """What counting gives at the same [MASK]s, seeing what the model sees: a hidden neighbour is hidden here too."""
    every = np.concatenate([row[1:-1] for row in train])
    counts = np.bincount(every, minlength=tokenizer.vocab_size).astype("float64") + 1  # none is impossible
    counts[list(tokenizer.special_tokens.values())] = 0
    log_p = np.log(np.maximum(counts, 1e-300) / counts.sum())
    most = int(counts.argmax())
    after: dict[Any, Counter[int]] = {}
    between: dict[Any, Counter[int]] = {}
    for row in map(np.ndarray.tolist, train):
        for left, token, right in zip(row, row[1:], row[2:], strict=False):
            after.setdefault(left, Counter())[token] += 1
            between.setdefault((left, right), Counter())[token] += 1
    best_after = {key: found.most_common(1)[0][0] for key, found in after.items()}
    best_between = {key: found.most_common(1)[0][0] for key, found in between.items()}
    right_ones, losses = [], []
    for drawing in range(DRAWINGS):
        for example in map(MaskedExamples(held_out, tokenizer, seed=drawing).__getitem__, range(len(held_out))):
            ids, labels = example["input_ids"].tolist(), example["labels"].tolist()
            for t, (token, label) in enumerate(zip(ids, labels, strict=True)):
                if label != -100 and token == tokenizer.mask_id:
                    after_left = best_after.get(ids[t - 1], most)
                    guesses = most, after_left, best_between.get((ids[t - 1], ids[t + 1]), after_left)
                    right_ones.append([guess == label for guess in guesses])
                    losses.append(-log_p[label])
    always, left, both = np.mean(right_ones, axis=0).tolist()
    return {
        "always the most frequent token": {"accuracy_masked": always, "loss_masked": float(np.mean(losses))},
        "the most frequent one after its left neighbour": {"accuracy_masked": left},
        "the most frequent one between both neighbours": {"accuracy_masked": both},
    }


def examples_of(model: BERTForMaskedLM, rows: list[Any], tokenizer: WordPieceTokenizer) -> list[dict[str, Any]]:
    """Held-out sentences, drawn without looking, a word of each hidden; what the model finds most probable there."""
    generator, found = Generator(11), []
    short = [row for row in rows if 10 <= len(row) <= 18]
    for index in generator.permutation(len(short)):
        if len(found) == EXAMPLES:
            break
        row = short[int(index)]
        t = int(generator.integers(1, len(row) - 1))
        pieces = [tokenizer.tokens[row[place]] for place in (t, t + 1)]
        if not pieces[0].isalpha() or pieces[1].startswith("##"):  # a mark, or a piece of a word
            continue
        shown = row.copy()
        shown[t] = tokenizer.mask_id
        with evaluating(model.modules()):
            logits = model(shown[None])[0].numpy()[0, t].astype("float64")
        p = np.exp(logits - logits.max())
        p /= p.sum()
        choices = [{"word": tokenizer.tokens[i], "probability": float(p[i])} for i in np.argsort(-p)[:CHOICES]]
        found.append({"shown": tokenizer.decode(shown[1:-1]), "right": pieces[0], "choices": choices})
    return found


# ----- fine-tuning


@dataclasses.dataclass(frozen=True)
class Tuning:
    """One fine-tuning: how much of `train`, how, and from what."""

    amount: str
    start: str
    rate: float
    seed: int
    steps: int

    def run(self, encoder: dict[str, Any], train: list[Any], test: list[Any], vocab_size: int) -> dict[str, Any]:
        """Which answers on the test sentences are right?"""
        generator = Generator(self.seed)
        if self.amount != "all":
            train = [train[i] for i in generator.spawn("labels").permutation(len(train))[: int(self.amount)]]
        with using_generator(generator.spawn("weights")):
            model = BERTForSequenceClassification(BERTConfig(vocab_size, dropout=DROPOUT, **MODEL))
        larger(model.bert)
        if self.start == STARTS[0]:  # all but the layers that the pre-training did not know
            model.load_state_dict({**model.state_dict(), **{f"bert.{name}": w for name, w in encoder.items()}})
        settings = {**FINETUNING[self.amount], "max_steps": self.steps}
        settings["warmup_steps"] = min(settings["warmup_steps"], self.steps // 4)
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                learning_rate=self.rate,
                weight_decay=0.01,
                seed=self.seed,
                save_strategy="no",
                progress=False,
                **settings,
            )
            output = Trainer(model, arguments, train).train()
        right: list[bool] = []
        with evaluating(model.modules()):
            for batch in OrderedBatches(test, 64):
                logits = model(batch["input_ids"], batch.get("attention_mask")).numpy()
                right += (logits.argmax(axis=1) == batch["labels"]).tolist()
        seconds = output.metrics["train_runtime"]
        say(f"{self}: training loss {output.training_loss:.3f}, accuracy {np.mean(right):.4f}, {seconds:.0f} s")
        return {"training_loss": output.training_loss, "seconds": seconds, "right": list(map(int, right))}


def scored(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean accuracy of the seeds, with the error that comes from the sentences and, of several, from the seeds."""
    right = np.array([run["right"] for run in runs], dtype="float64")  # (seeds, sentences)
    return {
        "accuracy": float(right.mean()),
        "standard_error": standard_error(right),
        "seeds": right.mean(axis=1).tolist(),
        "training_loss": float(np.mean([run["training_loss"] for run in runs])),
        "seconds": sum(run["seconds"] for run in runs),
    }


def standard_error(values: np.ndarray) -> float:
    """Of the mean over all of (seeds, sentences)."""
    seeds, sentences = values.shape
    variance = values.mean(axis=0).var() / sentences
    return float((variance + (values.mean(axis=1).var(ddof=1) / seeds if seeds > 1 else 0.0)) ** 0.5)


def compared(amount: str, steps: int | None, run: Callable[[Tuning, str], dict[str, Any]]) -> dict[str, Any]:
    """Both starts with the learning rate that is best for the pre-trained one, and the other with its own as well."""
    whole = steps or FINETUNING[amount]["max_steps"]
    tried = {
        f"{rate:g}": {
            start: scored([run(Tuning(amount, start, rate, 0, min(whole, TRIED)), "validation")])
            for start in STARTS
        }
        for rate in RATES
    }
    best = {start: max(RATES, key=lambda rate, s=start: tried[f"{rate:g}"][s]["accuracy"]) for start in STARTS}
    contestants = {start: (start, best[STARTS[0]]) for start in STARTS}
    if best[STARTS[1]] != best[STARTS[0]]:
        contestants[f"{STARTS[1]}, at its own rate"] = STARTS[1], best[STARTS[1]]
    rows: dict[str, Any] = {}
    for name, (start, rate) in contestants.items():
        runs = [run(Tuning(amount, start, rate, seed, whole), "held_out") for seed in SEEDS[amount]]
        rows[name] = {"learning_rate": rate, **scored(runs)}
        right = np.array([found["right"] for found in runs])
        if start == STARTS[0]:
            ours = right
        else:
            rows[name]["behind"] = float((ours - right).mean())
            rows[name]["standard_error_behind"] = standard_error(ours - right)
    return {
        "steps": whole,
        "batch_size": FINETUNING[amount]["per_device_train_batch_size"],
        "starts": rows,
        "tried_on_validation": tried,
    }


def kept(path: Path, compute: Callable[[], Any]) -> Any:
    """What is in the file, or else what `compute` gives, which is then put there."""
    if not path.is_file():
        path.write_text(json.dumps(compute()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def check_settings(work: Path) -> None:
    """Refuse a folder with figures of other settings: they would not be computed again."""
    data = {"data": DATA, "least": LEAST, "longest": LONGEST, "drawings": DRAWINGS}
    trained = {"model": MODEL, "larger": LARGER, "pre-training": PRETRAINING, "dropout": DROPOUT}
    tuned = {"fine-tuning": FINETUNING, "seeds": SEEDS, "rates": RATES, "tried": TRIED}
    settings = json.loads(json.dumps({**data, **trained, **tuned}))
    if kept(work / "settings.json", lambda: settings) != settings:
        raise SystemExit(f"{work} holds figures that were found with other settings: use another folder, or empty it")


def main() -> None:
    """Pre-train, fine-tune, print and save results/masked_words.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="of each training; nothing is saved")
    parser.add_argument("--work", type=Path, help="folder of the checkpoints; a temporary one if it is not given")
    options = parser.parse_args()
    if options.steps is not None and options.steps < 1:
        parser.error(f"--steps is a number from 1 on, not {options.steps}")
    facts = machine()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work = work / f"{options.steps}_steps" if options.steps else work
        work.mkdir(parents=True, exist_ok=True)
        result = measured(work, options.steps)
    if options.steps is None:
        say(f"  -> {save('masked_words', result, facts)}")


def measured(work: Path, steps: int | None) -> dict[str, Any]:
    """All figures; what the folder has already is not computed again."""
    check_settings(work)
    began, read = time.perf_counter(), read_labelled(DATA)
    train_part, held_out_part = split_labelled(read, (0.9, 0.1))
    tokenizer = vocabulary([example.text for example in train_part])
    train, held_out = (encoded(tokenizer, part) for part in (train_part, held_out_part))
    texts, unseen = without_labels(train), without_labels(held_out)
    tokens = sum(len(row) - 2 for row in texts)  # without [CLS] and [SEP]
    say(f"{len(train):,} sentences, {tokens:,} tokens of {tokenizer.vocab_size:,}; {len(unseen):,} held out")

    counted = baselines(texts, unseen, tokenizer)
    before = kept(work / "before.json", lambda: restored(fresh(tokenizer.vocab_size), unseen, tokenizer))
    model, training = pretrain(tokenizer, texts, unseen, work / "pretraining", steps or PRETRAINING["max_steps"])
    after = kept(work / "after.json", lambda: restored(model, unseen, tokenizer))
    words = {**counted, "BERT before training": before, "BERT after it": after}
    for name, found in words.items():
        say(f"{name:48}" + "".join(f"  {key} {value:.4g}" for key, value in found.items()))
    shown = examples_of(model, unseen, tokenizer)
    for example in shown:
        choices = ", ".join(f"{c['word']} {c['probability']:.2f}" for c in example["choices"])
        say(f"{example['shown']}   {example['right']}: {choices}")

    learnt, validation = (encoded(tokenizer, part) for part in split_labelled(train_part, (0.9, 0.1), seed=1))
    parts = {"validation": (learnt, validation), "held_out": (train, held_out)}
    encoder = model.bert.state_dict()

    def run(tuning: Tuning, scored_on: str) -> Any:
        name = "_".join([scored_on, *(str(value).replace(" ", "-") for value in dataclasses.astuple(tuning))])
        return kept(work / f"{name}.json", lambda: tuning.run(encoder, *parts[scored_on], tokenizer.vocab_size))

    tuned = {amount: compared(amount, steps, run) for amount in FINETUNING}
    for amount, found in tuned.items():
        starts = ", ".join(f"{s} {f['accuracy']:.4f} ± {f['standard_error']:.4f}" for s, f in found["starts"].items())
        say(f"{amount} labels: {starts}")
    spent = training["seconds"] + sum(
        found["seconds"]
        for amount in tuned.values()
        for starts in (amount["starts"], *amount["tried_on_validation"].values())
        for found in starts.values()
    )
    return {
        "command": "python benchmarks/masked_words.py",
        "threads": thread_count(),
        "seconds": spent,  # of all trainings, also of those that were there
        "seconds_here": time.perf_counter() - began,
        "sentences": {"training": len(train), "validation": len(validation), "held_out": len(held_out)},
        "tokens": {"training": tokens, "vocabulary": tokenizer.vocab_size},
        "model": {**MODEL, "drawn_larger": LARGER},
        "settings": {"pre-training": PRETRAINING, "fine-tuning": FINETUNING, "dropout": DROPOUT, "tried_steps": TRIED},
        "pretraining": training,
        "words": words,
        "examples": shown,
        "labels": tuned,
    }


if __name__ == "__main__":
    main()

"""One training run of a model that reads a text and writes another, in its folder: begin, resume, train.

    run.json                                   the settings: all that --resume needs
    data/train.tsv, validation.tsv, test.tsv   the pairs, a line each; no source of one part is in another
    data/tokenizer.json                        trained on the training part, for both sides
    checkpoint-N/, metrics.jsonl, loss.png     as in `run`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minilm.cli import pair_presets, presets
from minilm.cli.output import count, facts, shown
from minilm.cli.pair_presets import PairSettings
from minilm.cli.run import take_over
from minilm.errors import CheckpointError, DataError, TokenizerError
from minilm.evaluation import evaluate_language_model
from minilm.models import Seq2SeqLSTM, Seq2SeqLSTMConfig, Transformer, TransformerConfig
from minilm.nn import Module
from minilm.random import Generator, using_generator
from minilm.text import (
    GPT2Tokenizer,
    LengthBuckets,
    Pair,
    PairTokenizer,
    Tokenizer,
    atomic_write,
    encode_pairs,
    families,
    load_tokenizer,
    read_pairs,
    split_pairs,
)
from minilm.training import Callback, ProgressBar, Trainer, TrainingArguments, TrainOutput, load_model

PARTS = ("train", "validation", "test")
DOCUMENT_PARTS = (0.8, 0.1, 0.1)  # of documents that are kept apart by their sentences
KEPT_CHECKPOINTS = 2
EVALUATED_AT_ONCE = 8000  # tokens


@dataclass(frozen=True)
class PairData:
    """The parts, and the tokenizer of both sides."""

    tokenizer: PairTokenizer
    pairs: dict[str, list[Pair]]


@dataclass(frozen=True)
class PairRun:
    """A folder with its settings and data."""

    folder: Path
    settings: PairSettings
    data: PairData

    @property
    def metrics(self) -> Path:
        """The losses over the steps."""
        return self.folder / "metrics.jsonl"


def begin(settings: PairSettings, folder: Path, overwrite: bool = False) -> PairRun:
    """Take a folder for a new run and write its data and run.json.

    Raises:
        ConfigurationError: if the folder holds a run and `overwrite` is not set, or a size is wrong.
        DataError: if --data cannot be used.
    """

    def fill(partial: Path) -> None:
        prepare(settings, partial)
        run = PairRun(folder, settings, open_data(partial))
        batches(run, "train")
        build_model(settings, run.data.tokenizer)
        arguments(run)

    take_over(folder, overwrite, fill)
    presets.save(settings, folder / "run.json")
    return PairRun(folder, settings, open_data(folder / "data"))


def reopen(folder: Path, settings: PairSettings) -> PairRun:
    """A run that was begun, to go on with; its data are read again from --data if its own are gone."""
    try:
        data = open_data(folder / "data")
    except (DataError, TokenizerError):
        prepare(settings, folder / "data")
        data = open_data(folder / "data")
    return PairRun(folder, settings, data)


# ----- data


def prepare(settings: PairSettings, folder: Path) -> None:
    """Read --data, deal out its pairs, train the tokenizer, and write all that into `folder`.

    Raises:
        DataError: if there are no such pairs, or too few to be split.
    """
    pairs = read_pairs(settings.data, settings.source_column, settings.target_column)
    if settings.keep_apart == "sentences":
        parts = split_pairs(pairs, DOCUMENT_PARTS, key=families(pair.source for pair in pairs))
    else:
        parts = split_pairs(pairs)
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in zip(PARTS, parts, strict=True):
        with atomic_write(folder / f"{name}.tsv") as file:
            file.write("".join(f"{pair.source}\t{pair.target}\n" for pair in part).encode())
    train_tokenizer(parts[0], settings.vocab_size).save(folder / "tokenizer.json")


def train_tokenizer(pairs: list[Pair], vocab_size: int) -> Tokenizer:
    """BPE in words (GPT-2's), of the texts of both sides; a space stands before each, as PairTokenizer writes them."""
    return GPT2Tokenizer.train((f" {text}" for pair in pairs for text in pair), vocab_size, special_tokens=())


def open_data(folder: Path) -> PairData:
    """What `prepare` wrote.

    Raises:
        DataError, TokenizerError: if it is missing or damaged.
    """
    tokenizer = PairTokenizer(load_tokenizer(folder / "tokenizer.json"))
    return PairData(tokenizer, {name: read_pairs(folder / f"{name}.tsv") for name in PARTS})


# ----- model and training


def build_model(settings: PairSettings, tokenizer: PairTokenizer) -> Module:
    """The model of the settings, its weights drawn from their seed."""
    s, t = settings, tokenizer
    common: dict[str, Any] = {
        "vocab_size": t.vocab_size,
        "n_embd": s.n_embd,
        "n_hidden": s.n_hidden,
        "dropout": s.dropout,
        "label_smoothing": s.label_smoothing,
        "pad_id": t.pad_id,
        "bos_id": t.bos_id,
        "eos_id": t.eos_id,
    }
    with using_generator(Generator(s.seed).spawn("weights")):
        model: Module
        if s.model == "transformer":
            sizes: dict[str, Any] = {"block_size": s.block_size, "n_layer": s.n_layer, "n_head": s.n_head}
            model = Transformer(TransformerConfig(norm=s.norm, copy=s.copy, **sizes, **common))
        else:
            model = Seq2SeqLSTM(Seq2SeqLSTMConfig(**common))
    return model if s.dtype == "float16" else model.astype(s.dtype)


def arguments(run: PairRun) -> TrainingArguments:
    """The settings in the words of the trainer."""
    s = run.settings
    return TrainingArguments(
        output_dir=run.folder,
        max_steps=s.steps,
        gradient_accumulation_steps=s.grad_accum,
        learning_rate=s.lr,
        weight_decay=s.weight_decay,
        adam_beta2=s.adam_beta2,
        max_grad_norm=s.clip,
        lr_scheduler_type="cosine",
        warmup_steps=s.warmup,
        min_lr_ratio=s.min_lr_ratio,
        logging_steps=max(1, min(50, s.steps // 40)),
        eval_strategy="steps",
        eval_steps=s.eval_every,
        save_steps=s.save_every,
        save_total_limit=KEPT_CHECKPOINTS,
        early_stopping_patience=s.early_stopping,
        seed=s.seed,
        fp16=s.dtype == "float16",
        progress=False,
    )


def train(
    run: PairRun, checkpoint: Path | None = None, callbacks: Sequence[Callback] | None = None
) -> TrainOutput:
    """Train to the last step, from the beginning or from a checkpoint; without callbacks there is a progress bar.

    Raises:
        TrainingError, CheckpointError: see `Trainer.train`.
    """
    trainer = Trainer(
        build_model(run.settings, run.data.tokenizer),
        arguments(run),
        batches(run, "train"),
        batches(run, "validation"),
        tokenizer=run.data.tokenizer.tokenizer,
        callbacks=[ProgressBar(run.settings.model)] if callbacks is None else callbacks,
    )
    # The trainer looks for values that are not finite itself, and says where they came from.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return trainer.train(resume_from_checkpoint=checkpoint)


def batches(run: PairRun, part: str) -> LengthBuckets:
    """Batches of one part: shuffled for training, else always the same.

    Raises:
        DataError: if all of its pairs are longer than block_size.
    """
    s = run.settings
    examples = encode_pairs(run.data.pairs[part], run.data.tokenizer, s.block_size, s.cut_sources)
    if not examples:
        raise DataError(f"all pairs of the {part} part have more than {s.block_size} tokens: raise --block-size")
    if part == "train":
        return LengthBuckets(examples, s.batch_size, s.seed)
    return LengthBuckets(examples, EVALUATED_AT_ONCE, seed=None)


TRANSLATES = "translates", "minilm train transformer --data tatoeba_en_de --out runs/translate"
SUMMARIZES = "summarizes", "minilm train transformer --data documents.jsonl --preset summarize --out runs/summarize"


def load(path: Path, wanted: tuple[str, str] = TRANSLATES) -> tuple[Any, PairTokenizer]:
    """The model of a run's folder (its best checkpoint) or of a checkpoint, and its tokenizer.

    wanted: what the model shall do, and the command that trains one that does, to be told where there is none.

    Raises:
        CheckpointError: if there is none, or it does not read one text and write another.
    """
    model, tokenizer = load_model(path)
    if tokenizer is None or not isinstance(model, Transformer | Seq2SeqLSTM):
        raise CheckpointError(f"{path} holds no model that {wanted[0]}: train one with {wanted[1]}")
    return model, PairTokenizer(tokenizer)


def longest_source(path: Path, model: Any) -> int | None:
    """How many tokens of a source the model of a run's folder or checkpoint has learnt to read; None if any number."""
    file = pair_presets.run_file(path)
    return model.context_length if file is None else pair_presets.load(file).block_size


def score(run: PairRun, model: Any) -> tuple[float, int]:
    """The loss of a model on the validation part in nats per token, and how many tokens there are."""
    result = evaluate_language_model(model, batches(run, "validation"))
    return result.loss, result.tokens


def describe(run: PairRun, steps_done: int = 0) -> None:
    """Print what is going to be trained, on what, and where it is written."""
    s, n = run.settings, {name: len(part) for name, part in run.data.pairs.items()}
    model = build_model(s, run.data.tokenizer)
    epochs = s.steps * s.grad_accum / len(batches(run, "train"))
    again = f" from step {steps_done:,}" if steps_done else ""
    tokens = f"{s.batch_size * s.grad_accum:,} tokens"
    facts([
        ("data", f"{s.data}: {n['train']:,} pairs for training, {n['validation']:,} validation, {n['test']:,} test"),
        ("tokenizer", f"BPE for both sides, {run.data.tokenizer.tokenizer.vocab_size:,} tokens"),
        ("model", f"{s.model}, {model.describe()}: {count(model.num_parameters())} parameters"),
        ("training", f"{s.steps:,} steps{again} of at most {tokens}: {epochs:.3g} times the pairs"),
        ("evaluation", f"every {s.eval_every:,} steps on the validation part"),
        ("written to", f"{run.folder} (Ctrl-C stops; then: minilm train --resume {shown(run.folder)})"),
    ])  # fmt: skip


def example(run: PairRun) -> str:
    """A command that uses the model."""
    if run.settings.cut_sources:
        return f"minilm summarize --file FILE --model {shown(run.folder)}"
    return f'minilm translate "Good morning." --model {shown(run.folder)}'

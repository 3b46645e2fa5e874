"""One training run in its folder: begin, resume, train, score.

    run.json            the settings: all that --resume needs
    data/               the tokens (see data)
    checkpoint-N/       the best, the last and the one before
    metrics.jsonl       losses over the steps
    loss.png            the same as a picture

A folder is taken over by a new run only when its data are read and its model is built: a mistake on the
command line costs nothing that was there.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minilm.cli import presets
from minilm.cli.data import Sizes, TextData, open_data, prepare
from minilm.cli.output import count, duration, facts, say, shown, table
from minilm.cli.presets import Settings
from minilm.errors import CheckpointError, ConfigurationError, DataError, TokenizerError
from minilm.evaluation import LanguageModelScore, bits_per_byte, evaluate_language_model
from minilm.models import GPT, LSTMLM, GPTConfig, LSTMConfig
from minilm.nn import Module
from minilm.random import Generator, using_generator
from minilm.text import BatchSource, SequentialBatches, ShuffledBatches, StreamBatches, TokenWindows
from minilm.training import Callback, ProgressBar, Trainer, TrainingArguments, TrainOutput, list_checkpoints, load_model

KEPT_CHECKPOINTS = 3
# A recurrent model starts each window of an evaluation from a state of zeros: the longer, the less is lost.
LONG_WINDOW = 512
TOKENS_AT_ONCE = 8192  # in a batch of an evaluation


@dataclass(frozen=True)
class Run:
    """A folder with its settings and data."""

    folder: Path
    settings: Settings
    data: TextData

    @property
    def metrics(self) -> Path:
        """The losses over the steps."""
        return self.folder / "metrics.jsonl"


def begin(settings: Settings, folder: Path, overwrite: bool = False, data: Path | None = None) -> Run:
    """Take a folder for a new run and write its data and run.json.

    data: the data/ folder of another run of the same settings, to copy instead of reading --data again.

    Raises:
        ConfigurationError: if the folder holds a run and `overwrite` is not set, or a size is wrong.
        DataError: if --data cannot be used.
    """

    def fill(partial: Path) -> None:
        if data is None:
            prepare(settings, partial)
        else:
            shutil.copytree(data, partial)
        _check(settings, open_data(partial))

    take_over(folder, overwrite, fill)
    presets.save(settings, folder / "run.json")
    return Run(folder, settings, open_data(folder / "data"))


def take_over(folder: Path, overwrite: bool, fill: Callable[[Path], None]) -> None:
    """Empty a folder for a new run, once `fill` has written what goes into its data/.

    Raises:
        ConfigurationError: if the folder holds a run and `overwrite` is not set.
    """
    earlier = list_checkpoints(folder)
    if earlier and not overwrite:
        raise ConfigurationError(
            f"{folder} holds a run already ({earlier[-1].name}): go on with it (--resume {shown(folder)}), "
            "choose another --out, or replace it (--overwrite)"
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"--out {shown(folder)} is a file, and a run needs a folder: choose another --out")
    partial = folder / ".data.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        fill(partial)
        for path in (*earlier, folder / "data"):
            if path.exists():
                shutil.rmtree(path)
        partial.rename(folder / "data")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()  # nothing came of it; a folder with anything in it stays
    (folder / "metrics.jsonl").unlink(missing_ok=True)


def reopen(folder: Path, settings: Settings) -> Run:
    """A run that was begun, to go on with; its data are read again from --data if the token files are gone."""
    try:
        data = open_data(folder / "data")
    except (DataError, TokenizerError):
        prepare(settings, folder / "data")
        data = open_data(folder / "data")
    return Run(folder, settings, data)


def build_model(settings: Settings, vocab_size: int) -> Module:
    """The model of the settings, its weights drawn from their seed."""
    s = settings
    with using_generator(Generator(s.seed).spawn("weights")):
        model: Module
        if s.model == "gpt":
            model = GPT(GPTConfig(vocab_size, s.block_size, s.n_layer, s.n_head, s.n_embd, s.dropout))
        else:
            model = LSTMLM(LSTMConfig(vocab_size, s.n_embd, s.n_hidden, s.n_layer, s.dropout, s.model))
    # float16 is the trainer's matter: it keeps the weights in float32 and the model computes with rounded ones
    return model if s.dtype == "float16" else model.astype(s.dtype)


def training_batches(settings: Settings, tokens: Any) -> BatchSource:
    """Shuffled windows for a GPT; for a recurrent model streams, along which it carries its state."""
    s = settings
    try:
        if s.model == "gpt":
            return ShuffledBatches(TokenWindows(tokens, s.block_size), s.batch_size, s.seed)
        return StreamBatches(tokens, s.batch_size, s.block_size)
    except DataError as error:
        raise DataError(f"the training part (80 % of {s.data}): {error}") from error


def _check(settings: Settings, data: TextData) -> None:
    training_batches(settings, data.tokens["train"])
    build_model(settings, data.tokenizer.vocab_size)
    arguments(settings, Path("unused"))


def arguments(settings: Settings, folder: Path) -> TrainingArguments:
    """The settings in the words of the trainer."""
    s = settings
    return TrainingArguments(
        output_dir=folder,
        max_steps=s.steps,
        per_device_train_batch_size=s.batch_size,
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
        progress=False,  # the bar is one of our callbacks: it bears the model's name
    )


def train(run: Run, checkpoint: Path | None = None, callbacks: Sequence[Callback] | None = None) -> TrainOutput:
    """Train to the last step, from the beginning or from a checkpoint.

    The best and the last checkpoint are then in the run's folder. Without callbacks there is a progress bar.

    Raises:
        TrainingError, CheckpointError: see `Trainer.train`.
    """
    s, data = run.settings, run.data
    trainer = Trainer(
        build_model(s, data.tokenizer.vocab_size),
        arguments(s, run.folder),
        training_batches(s, data.tokens["train"]),
        EvenSample(evaluation_batches(s.model, s.block_size, data.tokens["validation"]), s.eval_tokens),
        tokenizer=data.tokenizer,
        callbacks=[ProgressBar(s.model.upper())] if callbacks is None else callbacks,
    )
    # The trainer looks for values that are not finite itself, and says where they came from.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return trainer.train(resume_from_checkpoint=checkpoint)


class EvenSample(BatchSource):
    """About `tokens` tokens of another source: the same batches each time, at even distances."""

    def __init__(self, source: SequentialBatches, tokens: int) -> None:
        n = max(1, min(len(source), round(tokens / (source.batch_size * source.block_size))))
        self.source = source
        self.chosen = [i * len(source) // n for i in range(n)]

    def __len__(self) -> int:
        return len(self.chosen)

    def _batches(self, epoch: int, start: int) -> Iterator[Any]:
        for index in self.chosen[start:]:
            yield next(self.source.epoch(0, index))


def evaluation_batches(model: str, block_size: int, tokens: Any) -> SequentialBatches:
    """All tokens in order: windows of the context for a GPT, long ones for a recurrent model."""
    T = block_size if model == "gpt" else LONG_WINDOW
    T = min(T, max(1, len(tokens) - 1))
    return SequentialBatches(tokens, max(1, TOKENS_AT_ONCE // T), T)


@dataclass(frozen=True)
class Score:
    """A model's predictions of a text: what `minilm eval` tells. Bits are of the text, not of the tokens."""

    tokens: int
    loss: float
    perplexity: float
    bits_per_character: float
    bits_per_byte: float

    @classmethod
    def of(cls, total_nll: float, tokens: int, sizes: Sizes) -> "Score":
        """From the loss of all `tokens` of a text together: all but its first, which nothing predicts."""
        share = tokens / sizes.tokens
        plain = LanguageModelScore(total_nll, tokens, max(1, round(sizes.characters * share)))
        bits = plain.bits_per_character
        assert bits is not None
        in_bytes = bits_per_byte(total_nll, max(1, round(sizes.bytes * share)))
        return cls(tokens, plain.loss, plain.perplexity, bits, in_bytes)


def score(model: Any, tokens: Any, sizes: Sizes, what: str | None = "evaluating") -> Score:
    """Score a model on all tokens (N,) of a text; with a progress bar under the name `what`, unless None."""
    name, block = ("gpt", model.context_length) if model.context_length else ("lstm", LONG_WINDOW)
    batches = evaluation_batches(name, block, tokens)
    result = evaluate_language_model(model, batches if what is None else _watched(batches, what))
    return Score.of(result.total_nll, result.tokens, sizes)


def _watched(batches: BatchSource, what: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(
        batches, what, total=len(batches), console=console, transient=True, disable=not console.is_terminal
    )


def load(path: Path) -> tuple[Any, Any]:
    """The model of a run's folder (its best checkpoint) or of a checkpoint, and its tokenizer.

    Raises:
        CheckpointError: if there is none, or it has no tokenizer.
    """
    model, tokenizer = load_model(path)
    if tokenizer is None:
        raise CheckpointError(f"{path} has no tokenizer: it was not made by `minilm train`")
    return model, tokenizer


def score_table(rows: Sequence[tuple[str, Score]], tokenizer: str, title: str = "") -> None:
    """Print scores, one line each; bits per byte where the tokens are bytes, per character otherwise."""
    by_byte = tokenizer == "byte"
    columns = [title, "loss", "perplexity", "bits/byte" if by_byte else "bits/character", "tokens scored"]

    def numbers(s: Score) -> tuple[str, ...]:
        bits = s.bits_per_byte if by_byte else s.bits_per_character
        return f"{s.loss:.4f}", f"{s.perplexity:.3f}", f"{bits:.4f}", f"{s.tokens:,}"

    table(columns, [(name, *numbers(s)) for name, s in rows])
    if tokenizer in ("word", "wordpiece"):
        say("A word tokenizer drops spaces, case and rare words: its bits are not those of the whole text.")


def describe(run: Run, steps_done: int = 0, with_data: bool = True) -> None:
    """Print what is going to be trained, on what, and where it is written."""
    s, data = run.settings, run.data
    model = build_model(s, data.tokenizer.vocab_size)
    layers = f"{s.n_layer} layer{'s' if s.n_layer > 1 else ''}"
    width = f"{s.n_hidden} units"
    if s.model == "gpt":
        width = f"{s.n_head} heads, {s.n_embd} channels, context {s.block_size}"
    tokens = s.steps * s.batch_size * s.block_size * s.grad_accum
    size = {name: part.tokens for name, part in data.sizes.items()}
    whole = s.eval_tokens >= size["validation"]
    sample = "all of the validation part" if whole else f"about {s.eval_tokens:,} tokens, at the end on all"
    passes = tokens / size["train"]
    times = f"{passes:,.0f} times" if passes >= 100 else f"{passes:.3g} times"
    again = f" from step {steps_done:,}" if steps_done else ""
    if with_data:
        facts([
            ("data", data.source),
            ("", f"{size['train']:,} tokens for training, {size['validation']:,} validation, {size['test']:,} test"),
            ("tokenizer", f"{s.tokenizer}, {data.tokenizer.vocab_size:,} tokens"),
        ])  # fmt: skip
    facts([
        ("model", f"{s.model.upper()}, {layers}, {width}: {count(model.num_parameters())} parameters"),
        ("training", f"{s.steps:,} steps{again}, {s.batch_size * s.grad_accum} x {s.block_size} tokens each: "
                     f"{count(tokens)} tokens, {times} the text"),
        ("evaluation", f"every {s.eval_every:,} steps on {sample}"),
        ("written to", f"{run.folder} (Ctrl-C stops; then: minilm train --resume {shown(run.folder)})"),
    ])  # fmt: skip


def speed(output: TrainOutput) -> str:
    """How fast it went and what it took, in words."""
    m = output.metrics
    return (
        f"{m['train_tokens_per_second']:,.0f} tokens/s, {duration(m['train_runtime'])} of training, "
        f"peak memory {m['peak_memory_mb']:,.0f} MB"
    )

"""The settings of a run whose model reads a text and writes another, and their presets; see presets."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm.cli.presets import PAIR_MODELS, choose, option, shortened
from minilm.errors import CheckpointError, ConfigurationError

DEFAULT_PRESET = "translate"
KEPT_APART = ("sources", "sentences")


@dataclass(frozen=True)
class PairSettings:
    """All that decides what a run computes. The names are those of the options of `minilm train`."""

    model: str
    data: str
    preset: str = DEFAULT_PRESET
    source_column: str = "source"  # of a table
    target_column: str = "target"
    keep_apart: str = "sources"  # what no two parts have in common: sources, or sentences of them
    cut_sources: bool = False  # those longer than block_size; else such pairs are left out
    vocab_size: int = 4000  # of the tokenizer

    n_layer: int = 3  # of the encoder, and of the decoder
    n_head: int = 4  # transformer
    n_embd: int = 192
    n_hidden: int = 768  # of the feed-forward networks; of the recurrent layers
    dropout: float = 0.1
    label_smoothing: float = 0.1
    norm: str = "post"  # transformer
    copy: bool = False  # transformer: tokens of the source may be copied
    block_size: int = 64  # tokens of the longest text
    dtype: str = "float32"

    steps: int = 2400
    batch_size: int = 2000  # tokens of a batch, source and target together
    grad_accum: int = 1
    lr: float = 1e-3
    min_lr_ratio: float = 0.0  # where the cosine ends
    warmup: int = 300
    weight_decay: float = 0.01
    adam_beta2: float = 0.98  # the paper's
    clip: float = 1.0
    eval_every: int = 300
    save_every: int = 300
    early_stopping: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        choose("model", self.model, PAIR_MODELS)
        choose("--dtype", self.dtype, ("float32", "float64", "float16"))
        choose("keep_apart", self.keep_apart, KEPT_APART)
        if self.warmup >= self.steps:
            raise ConfigurationError(f"--warmup {self.warmup} leaves nothing of --steps {self.steps}: it must be less")


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "translate": {
        "transformer": {},
        "seq2seq-lstm": {"n_embd": 192, "n_hidden": 304, "lr": 2e-3},
    },
    "summarize": {
        "all": {
            "keep_apart": "sentences",
            "cut_sources": True,
            "block_size": 128,
            "batch_size": 4000,
            "dropout": 0.2,
            "lr": 2e-3,
        },
        "transformer": {"n_layer": 2, "norm": "pre", "copy": True},
        "seq2seq-lstm": {"n_hidden": 304},
    },
    "tiny": {
        "all": {
            "vocab_size": 400,
            "steps": 200,
            "batch_size": 1000,
            "warmup": 20,
            "eval_every": 100,
            "save_every": 100,
            "lr": 3e-3,
            "dropout": 0.0,
        },
        "transformer": {"n_layer": 1, "n_head": 2, "n_embd": 32, "n_hidden": 64},
        "seq2seq-lstm": {"n_embd": 32, "n_hidden": 32},
    },
}
DESCRIPTIONS = {
    "translate": "4 M parameters, 2,400 steps: less than half an hour on two cores",
    "summarize": "3 M parameters, for documents, of which it reads the beginning and copies: half an hour",
    "tiny": "0.03 M parameters, 200 steps: seconds, to try things out",
}
USELESS = {
    "text_column": "pairs have two, --source-column and --target-column",
    "errors": "pairs are UTF-8",
    "clean": "pairs are taken as they are",
    "lower": "pairs are taken as they are",
    "tokenizer": "pairs are encoded by BPE, with one vocabulary for both sides",
    "min_count": "pairs are encoded by BPE, with one vocabulary for both sides",
    "max_words": "pairs are encoded by BPE, with one vocabulary for both sides",
}

ONLY_TRANSFORMER = {
    "n_head": "only transformer has heads",
    "n_layer": "it has one layer on each side",
    "norm": "it has none",
}


def resolve(model: str, data: str, preset: str | None, given: dict[str, Any]) -> PairSettings:
    """The settings of a new run: `given` on the command line, else the preset's, else the defaults.

    Raises:
        ConfigurationError: for an unknown preset, or an option that the model has no use for.
    """
    preset = preset or DEFAULT_PRESET
    if preset not in PRESETS:
        known = "".join(f"\n  {name:<12}{DESCRIPTIONS[name]}" for name in PRESETS)
        raise ConfigurationError(f"there is no preset {preset!r} for {model}; the presets are{known}")
    useless = USELESS if model == "transformer" else {**USELESS, **ONLY_TRANSFORMER}
    for name, why in useless.items():
        if name in given:
            raise ConfigurationError(f"{option(name)} means nothing for {model}: {why}")
    chosen = PRESETS[preset]
    settings = PairSettings(model=model, data=data, preset=preset, **{**chosen.get("all", {}), **chosen[model]})
    return dataclasses.replace(settings, **shortened(settings, given), **given)


def is_pair_run(folder: Path) -> bool:
    """Whether run.json in this folder, or beside this checkpoint, is of a model of pairs."""
    path = run_file(folder)
    try:
        return path is not None and json.loads(path.read_text(encoding="utf-8")).get("model") in PAIR_MODELS
    except (OSError, ValueError, AttributeError):
        return False


def run_file(path: Path) -> Path | None:
    """run.json of a run's folder, or of the run that a checkpoint lies in; None if there is none."""
    return next((file for file in (path / "run.json", path.parent / "run.json") if file.is_file()), None)


def load(path: Path) -> PairSettings:
    """Read run.json.

    Raises:
        CheckpointError: if it is damaged.
    """
    try:
        return PairSettings(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged or was written by another version ({error})") from error

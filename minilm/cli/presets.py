"""The settings of a training run, and presets: sets of them under one name.

A setting is looked for on the command line, then in the preset, then in the defaults of `Settings`. What came
out is written to run.json, from which `--resume` reads it: a preset that changes later changes no old run.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm.cli.output import shown
from minilm.errors import CheckpointError, ConfigurationError

MODELS = ("gpt", "lstm", "gru", "rnn")
PAIR_MODELS = ("transformer", "seq2seq-lstm")  # which read a text and write another: see pair_presets
TOKENIZERS = ("char", "byte", "word", "bpe")
DTYPES = ("float32", "float64", "float16")
DEFAULT_PRESET = "char-cpu"


@dataclass(frozen=True)
class Settings:
    """All that decides what a run computes. The names are those of the options."""

    model: str
    data: str
    preset: str = DEFAULT_PRESET

    text_column: str = "text"
    errors: str = "strict"
    clean: bool = False
    lower: bool = False
    tokenizer: str = "char"
    min_count: int = 1  # of a word, to be a token
    max_words: int | None = None
    vocab_size: int = 1024  # bpe

    n_layer: int = 4
    n_head: int = 4  # gpt
    n_embd: int = 128
    n_hidden: int = 128  # lstm, gru, rnn
    dropout: float = 0.0
    block_size: int = 64
    dtype: str = "float32"

    steps: int = 2000
    batch_size: int = 12
    grad_accum: int = 1
    lr: float = 1e-3
    min_lr_ratio: float = 0.1  # where the cosine ends
    warmup: int = 100
    weight_decay: float = 0.1
    adam_beta2: float = 0.99  # more than PyTorch's memory of 1000 steps would be, for batches so small
    clip: float = 1.0
    eval_every: int = 250
    eval_tokens: int = 32768  # while training; at the end the whole validation part is used
    save_every: int = 250
    early_stopping: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        choose("model", self.model, MODELS)
        if not self.tokenizer.endswith(".json"):
            choose("--tokenizer", self.tokenizer, (*TOKENIZERS, "the path of a tokenizer's .json"))
        choose("--errors", self.errors, ("strict", "replace", "ignore"))
        choose("--dtype", self.dtype, DTYPES)
        if self.warmup >= self.steps:
            raise ConfigurationError(f"--warmup {self.warmup} leaves nothing of --steps {self.steps}: it must be less")


# Karpathy's nanoGPT trains such a GPT on a CPU in a few minutes ("baby" settings for Shakespeare's characters).
# The recurrent models have as many parameters as the GPT: 0.80 M, give or take the vocabulary.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "char-cpu": {
        "gpt": {"n_layer": 4, "n_head": 4, "n_embd": 128, "lr": 2e-3},
        "lstm": {"n_layer": 2, "n_embd": 220, "n_hidden": 220, "lr": 3e-3},
        "gru": {"n_layer": 2, "n_embd": 252, "n_hidden": 252, "lr": 3e-3},
        "rnn": {"n_layer": 2, "n_embd": 430, "n_hidden": 430, "lr": 1e-3},
    },
    "tiny": {
        "all": {
            "steps": 200,
            "batch_size": 8,
            "block_size": 32,
            "warmup": 10,
            "eval_every": 100,
            "save_every": 100,
            "eval_tokens": 8192,
            "lr": 3e-3,
        },
        "gpt": {"n_layer": 2, "n_head": 2, "n_embd": 32},
        "lstm": {"n_layer": 1, "n_embd": 32, "n_hidden": 64},
        "gru": {"n_layer": 1, "n_embd": 32, "n_hidden": 72},
        "rnn": {"n_layer": 1, "n_embd": 32, "n_hidden": 128},
    },
    "char-large": {
        "all": {
            "steps": 5000,
            "batch_size": 64,
            "block_size": 256,
            "dropout": 0.2,
            "lr": 1e-3,
            "eval_tokens": 262144,
        },
        "gpt": {"n_layer": 6, "n_head": 6, "n_embd": 384},
        "lstm": {"n_layer": 2, "n_embd": 800, "n_hidden": 800},
        "gru": {"n_layer": 2, "n_embd": 920, "n_hidden": 920},
        "rnn": {"n_layer": 2, "n_embd": 1600, "n_hidden": 1600},
    },
}
DESCRIPTIONS = {
    "char-cpu": "0.8 M parameters, 2,000 steps: minutes on a laptop",
    "tiny": "0.03 M parameters, 200 steps: seconds, to try things out",
    "char-large": "10 M parameters, 5,000 steps: hours on a CPU",
}


def resolve(model: str, data: str, preset: str | None, given: dict[str, Any]) -> Settings:
    """The settings of a new run: `given` on the command line, else the preset's, else the defaults.

    Raises:
        ConfigurationError: for an unknown model or preset, or an option that the model has no use for.
    """
    choose("model", model, (*MODELS, *PAIR_MODELS))
    preset = preset or DEFAULT_PRESET
    if preset not in PRESETS:
        known = "".join(f"\n  {name:<12}{DESCRIPTIONS[name]}" for name in PRESETS)
        raise ConfigurationError(f"there is no preset {preset!r}; the presets are{known}")
    useless = dict.fromkeys(("source_column", "target_column"), "it learns from one text: --text-column")
    useless |= {"n_hidden": "it has --n-embd"} if model == "gpt" else {"n_head": "only gpt has"}
    for name, why in useless.items():
        if name in given:
            raise ConfigurationError(f"{option(name)} means nothing for {model}: {why}")
    chosen = PRESETS[preset]
    settings = Settings(model=model, data=data, preset=preset, **{**chosen.get("all", {}), **chosen[model]})
    if "vocab_size" in given and given.get("tokenizer", settings.tokenizer) != "bpe":
        raise ConfigurationError("--vocab-size is for --tokenizer bpe, which learns so many tokens")
    return dataclasses.replace(settings, **shortened(settings, given), **given)


def shortened(settings: Any, given: dict[str, Any]) -> dict[str, Any]:
    """For a number of steps given on the command line, less than the preset's: what has to become shorter too."""
    steps = given.get("steps", settings.steps)
    if steps >= settings.steps:
        return {}
    eval_every = given.get("eval_every", min(settings.eval_every, max(1, steps // 8)))
    shorter = {
        "warmup": min(settings.warmup, steps // 10),
        "eval_every": eval_every,
        "save_every": min(settings.save_every, eval_every),
    }
    return {name: value for name, value in shorter.items() if name not in given}


def save(settings: Any, path: Path) -> None:
    """Write run.json."""
    from minilm.text import atomic_write

    with atomic_write(path) as file:
        file.write((json.dumps(dataclasses.asdict(settings), indent=1) + "\n").encode())


def load(path: Path) -> Settings:
    """Read run.json.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        settings = None if "task" in content else Settings(**content)
    except FileNotFoundError:
        raise CheckpointError(f"there is no {path}: {path.parent} is not the --out of a `minilm train`") from None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged or was written by another version ({error}): it cannot be resumed; "
            "`minilm eval` and `minilm sample` do not need it"
        ) from error
    if settings is None:
        raise CheckpointError(
            f"{path.parent} is a run of `minilm finetune`, which goes on with it: "
            f"minilm finetune --resume {shown(path.parent)}"
        )
    return settings


def option(name: str) -> str:
    """The option of a setting: n_layer -> --n-layer."""
    return "--" + name.replace("_", "-")


def choose(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ConfigurationError unless `value` is one of the choices."""
    if value not in choices:
        raise ConfigurationError(f"{what} is one of {', '.join(choices)}, not {value!r}")

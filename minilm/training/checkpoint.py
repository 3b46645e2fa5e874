"""Checkpoints: folders that are there as a whole or not at all, and that cannot lie.

    checkpoint-500/
        model.safetensors        parameters, by name
        optimizer.safetensors    moments, and arrays that the model carries from batch to batch
        config.json              which model, and its sizes
        tokenizer.json           if there is one
        trainer_state.json       step, data position, generators, the optimizer's numbers, the best so far
        manifest.json            size and SHA-256 of each of these; written last

A checkpoint is written beside its place and renamed into it, so a crash leaves no half of one under its name; every
file is compared with the manifest before it is used. Nothing is pickled: loading a checkpoint runs no code of it.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minilm.errors import CheckpointError, TrainingError
from minilm.models import MODELS
from minilm.nn import Module
from minilm.text import Tokenizer, load_tokenizer
from minilm.text.files import usual_mode
from minilm.text.strict_json import parse_json

FORMAT = 1
LARGEST_TABLE = 1 << 26  # numbers of a table of positions that is not in the file
_NAME = re.compile(r"checkpoint-(\d+)")
_FILE = re.compile(r"\w[\w.-]{,99}")


# ----- writing


def save_checkpoint(
    folder: Path,
    model: Module,
    tokenizer: Tokenizer | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    state: Mapping[str, Any] | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a checkpoint to `folder`, which appears whole or not at all.

    Args:
        arrays, state: what resuming needs besides the parameters: arrays, and what JSON can hold.
        weights: the parameters by name, where the model holds them in lower precision; by default the model's own.

    Raises:
        TrainingError: if the disk is full or cannot be written; what was there before still is.
    """
    partial = folder.parent / f".{folder.name}.partial"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed while saving
        partial.mkdir()
        _save_arrays(partial / "model.safetensors", model.state_dict() if weights is None else weights)
        _save_arrays(partial / "optimizer.safetensors", arrays or {})
        _save_json(partial / "config.json", model_config(model))
        _save_json(partial / "trainer_state.json", dict(state or {}))
        if tokenizer is not None:
            (partial / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        files = {p.name: {"size": p.stat().st_size, "sha256": _sha256(p)} for p in sorted(partial.iterdir())}
        _save_json(partial / "manifest.json", {"format": FORMAT, "files": files})
        for path in (*partial.iterdir(), partial):
            _flush(path)
        replaced = folder.parent / f".{folder.name}.replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        if folder.exists():  # the same step again, after resuming from an earlier one
            os.rename(folder, replaced)
        os.rename(partial, folder)
        _flush(folder.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        kept = list_checkpoints(folder.parent)
        what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        raise TrainingError(
            f"could not save {folder}: {what}. "
            + (f"The checkpoint {kept[-1]} is still there: make room and resume from it." if kept else "")
        ) from error


def _save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}, path)
        os.chmod(path, usual_mode())
    except SafetensorError as error:  # it wraps what the operating system said, without its number
        full = "os error 28" in str(error) or "No space" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


def _save_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _flush(path: Path) -> None:
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_config(model: Module) -> dict[str, Any]:
    """What `load_model` needs to build the model again: its name in MODELS and its sizes."""
    for name, (kind, _) in MODELS.items():
        if type(model) is kind:
            return {"model": name, "config": dataclasses.asdict(model.config)}
    return {"model": None, "class": type(model).__name__}


# ----- finding


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders in a run's folder, by step."""
    if not run.is_dir():
        return []
    found = [(int(m[1]), p) for p in run.iterdir() if (m := _NAME.fullmatch(p.name)) and p.is_dir()]
    return [path for _, path in sorted(found)]


def is_ours(path: Path) -> bool:
    """Whether a folder is a checkpoint or a run of this library, and not published weights.

    A run may hold its model in published form as well; then it is read as published weights are.
    """
    return path.is_dir() and ((path / "manifest.json").is_file() or not (path / "config.json").is_file())


def find_checkpoint(path: str | os.PathLike[str], best: bool = False) -> Path:
    """The checkpoint that `path` means: itself, or the last one (or the best) of a run's folder.

    Raises:
        CheckpointError: if there is none.
    """
    path = Path(path)
    if (path / "manifest.json").is_file() or _NAME.fullmatch(path.name):
        if not path.is_dir():
            raise CheckpointError(f"there is no checkpoint {path}")
        return path
    if path.is_file():
        raise CheckpointError(f"{path} is a file, and what `minilm train` makes is a folder: name that")
    if not path.is_dir():
        raise CheckpointError(f"there is no folder {path}: train a model with --out {path} first")
    found = list_checkpoints(path)
    if not found:
        raise CheckpointError(f"{path} holds no checkpoint-N folder: is it the --out of a training run?")
    if best:
        name = _read_json(found[-1], "trainer_state.json").get("best_checkpoint")
        if isinstance(name, str) and _NAME.fullmatch(name) and (path / name).is_dir():
            return path / name
    return found[-1]


# ----- reading


def verify(folder: Path) -> None:
    """Compare every file of a checkpoint with its manifest.

    Raises:
        CheckpointError: if a file is missing, truncated or changed; names it and the checkpoint before this one.
    """
    try:
        manifest = parse_json((folder / "manifest.json").read_text(encoding="utf-8"))
        files = {name: (int(entry["size"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(_damaged(folder, f"its manifest.json cannot be read ({error})")) from error
    if version != FORMAT:
        raise CheckpointError(f"{folder} has format {version}, and this minilm reads format {FORMAT}")
    for name, (size, digest) in files.items():
        path = folder / name
        if not _FILE.fullmatch(name) or not path.is_file():
            raise CheckpointError(_damaged(folder, f"{name} is missing"))
        if path.stat().st_size != size:
            raise CheckpointError(_damaged(folder, f"{name} has {path.stat().st_size:,} bytes instead of {size:,}"))
        if _sha256(path) != digest:
            raise CheckpointError(_damaged(folder, f"{name} was changed after it was written (SHA-256 differs)"))
    for name in ("model.safetensors", "config.json", "trainer_state.json"):
        if name not in files:
            raise CheckpointError(_damaged(folder, f"{name} is missing"))


def _damaged(folder: Path, what: str) -> str:
    others = [p for p in list_checkpoints(folder.parent) if p != folder]
    way_out = f"Use another checkpoint of this run: {others[-1]}" if others else "There is no other one beside it"
    return f"the checkpoint {folder} is damaged: {what}. {way_out}."


def read_state(folder: Path) -> dict[str, Any]:
    """trainer_state.json of a checkpoint, after verifying the checkpoint."""
    verify(folder)
    return _read_json(folder, "trainer_state.json")


def read_arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors file in a checkpoint (which the caller has verified)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(folder / name)
    except (OSError, SafetensorError, TypeError, AttributeError) as error:  # the latter: numbers that NumPy lacks
        raise CheckpointError(_damaged(folder, f"{name} cannot be read ({error})")) from error


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        value = parse_json((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(_damaged(folder, f"{name} cannot be read ({error})")) from error
    if not isinstance(value, dict):
        raise CheckpointError(_damaged(folder, f"{name} is a {type(value).__name__}, and should be an object"))
    return value


def load_weights(folder: Path, model: Module) -> None:
    """Copy a (verified) checkpoint's parameters into a model that fits.

    Raises:
        CheckpointError: if names or shapes do not fit.
    """
    try:
        model.load_state_dict(read_arrays(folder, "model.safetensors"))
    except (KeyError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder} does not fit this model: {error.args[0]}") from error


def load_tokenizer_of(folder: Path) -> Tokenizer | None:
    """The tokenizer inside a checkpoint, or None."""
    path = folder / "tokenizer.json"
    return load_tokenizer(path) if path.is_file() else None


def _numbers_in(folder: Path, name: str) -> int:
    """How many numbers a .safetensors file of a checkpoint holds, by its header alone; a byte of int4 holds two."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / name, "np") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_damaged(folder, f"{name} cannot be read ({error})")) from error
    return sum(math.prod(shape) * (2 if key.endswith(".int4") else 1) for key, shape in shapes.items())


def _check_size(folder: Path, kind: str, config: Any) -> None:
    """Refuse a configuration whose model is larger than the file of its weights, before the model takes its memory.

    Counted are the numbers that a model of these sizes has at the least: the embeddings, of each block or layer the
    matrices that all have, and the head of a classifier.
    """
    keys = ("vocab_size", "block_size", "n_embd", "n_hidden", "n_layer", "n_segment", "num_labels")
    sizes = {key: getattr(config, key, 1 if key == "n_layer" else 0) for key in keys}
    if wrong := [key for key, size in sizes.items() if type(size) is not int]:
        raise CheckpointError(_damaged(folder, f"{wrong[0]} is {sizes[wrong[0]]!r} in config.json: sizes are integers"))
    V, T, C, H, L, S, K = sizes.values()
    least = V * C + (H * C + L * H * H if "lstm" in kind else L * (C * C + H * C)) + S * C
    least += T * C if kind.startswith(("bert", "gpt")) else 0  # others compute their positions
    least += K * max(C, H) if kind == "lstm-classifier" else K * C if kind.endswith("-classification") else 0
    there = _numbers_in(folder, "model.safetensors")
    if least > there or T * C > max(there, LARGEST_TABLE):
        what = f"config.json claims {V:,} tokens, {L:,} layers of width {C:,} and {H:,}, a context of {T:,}"
        raise CheckpointError(_damaged(folder, f"{what}, and model.safetensors has {there:,} numbers"))


def described_model(folder: Path) -> Module:
    """A new model of the sizes in config.json of a (verified) checkpoint.

    Raises:
        CheckpointError: if there is no such model, or model.safetensors is too small for it.
    """
    content = _read_json(folder, "config.json")
    if content.get("model") not in list(MODELS):
        name = content.get("class") or content.get("model")
        raise CheckpointError(
            f"{folder} holds a model of the class {name}, which minilm does not know: build it yourself and use "
            f"minilm.training.load_weights"
        )
    kind, config_kind = MODELS[content["model"]]
    try:
        config = config_kind(**content["config"])
        _check_size(folder, content["model"], config)
        model: Module = kind(config)
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, CheckpointError):
            raise
        what = f"config.json does not describe a {content['model']} ({error})"
        raise CheckpointError(_damaged(folder, what)) from error
    return model


def load_model(path: str | os.PathLike[str], best: bool = True) -> tuple[Module, Tokenizer | None]:
    """The model and the tokenizer of a checkpoint, or of a run's folder (its best checkpoint, else its last).

    The model is in evaluation mode.

    Raises:
        CheckpointError: if there is none, it is damaged, or it holds a model that is not one of MODELS.
    """
    folder = find_checkpoint(path, best=best)
    verify(folder)
    model = described_model(folder)
    load_weights(folder, model)
    tokenizer = load_tokenizer_of(folder)
    vocab_size = model.config.vocab_size
    if tokenizer is not None and tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, but the model knows only {vocab_size}: it "
            "belongs to another model"
        )
    return model.eval(), tokenizer

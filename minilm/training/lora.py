"""LoRA for a whole model: adapters on the Linear layers that are named, all else frozen (Hu et al. 2021).

    add_lora(model, ("qkv_proj", "out_proj"), rank=8, alpha=16)      # in place; then train as usual
    save_lora(model, "adapter.safetensors")                          # what was trained, and nothing else
    merge_lora(model)                                                # plain layers, the adapters in their weights

    load_lora(base_model, "adapter.safetensors")                     # adapters on a model that has none

It works on any model whose layers are nn.Linear: BERT, GPT, Llama. A file of adapters for BERT is some hundred times
smaller than the model, so that one model can serve many tasks, or many people. Where the layer itself is explained:
minilm.nn.lora.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minilm.backend import to_numpy
from minilm.errors import CheckpointError, ConfigurationError, DataError
from minilm.nn import Linear, LoRALinear, Module
from minilm.text import atomic_write
from minilm.text.strict_json import parse_json

ATTENTION = ("qkv_proj", "out_proj")
"""How the names of the layers end that are adapted by default: the matrices of attention, as in the paper."""


def lora_layers(model: Module) -> dict[str, LoRALinear]:
    """The adapted layers of a model, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def add_lora(
    model: Module,
    targets: Sequence[str] = ATTENTION,
    rank: int = 8,
    alpha: float = 16.0,
) -> list[str]:
    """Freeze the model, and put adapters on its Linear layers named in `targets`, in place.

    Args:
        targets: names of layers, or their ends: "qkv_proj" is that of every block, "blocks.5.attention.qkv_proj" one.
        rank, alpha: see LoRALinear. A is drawn from the current generator.

    Returns:
        The names of the adapted layers.

    Raises:
        ConfigurationError: if a target fits no Linear layer, the model has adapters already, or the rank is too large.
    """
    if lora_layers(model):
        raise ConfigurationError("this model has adapters already: merge_lora(model) before it gets new ones")
    linears = {name: module for name, module in model.named_modules() if type(module) is Linear}
    chosen = [name for name in linears if any(_ends(name, target) for target in targets)]
    useless = [target for target in targets if not any(_ends(name, target) for name in linears)]
    if useless or not chosen:
        there = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linears)) or "none at all"
        raise ConfigurationError(
            f"{type(model).__name__} has no Linear layer {', '.join(useless) or '(no target is given)'} to adapt; the "
            f"names of its Linear layers end with {there}"
        )
    model.requires_grad_(False)
    for name in chosen:
        _replace(model, linears[name], LoRALinear(linears[name], rank, alpha))
    return chosen


def merge_lora(model: Module) -> Module:
    """Make plain Linear layers of the adapted ones, in place, and unfreeze the model: as if it had been trained whole.

    Raises:
        ConfigurationError: if it has no adapters.
    """
    for layer in _adapted(model).values():
        _replace(model, layer, layer.as_linear())
    return model.requires_grad_(True)


def lora_state(model: Module) -> dict[str, np.ndarray]:
    """What is trained: A and B of each adapted layer, and whatever else is not frozen (a head), by name."""
    _adapted(model)
    return {name: np.array(to_numpy(p.data)) for name, p in model.named_parameters() if p.requires_grad}


def save_lora(model: Module, path: str | os.PathLike[str]) -> None:
    """Write `lora_state` to a safetensors file, with the rank and alpha of each layer.

    Raises:
        ConfigurationError: if the model has no adapters.
        DataError: if the file cannot be written.
    """
    from safetensors.numpy import save

    settings = {name: [layer.rank, layer.alpha] for name, layer in _adapted(model).items()}
    content = save(lora_state(model), metadata={"format": "pt", "lora": json.dumps(settings)})
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise DataError(f"the adapters were not saved to {os.fspath(path)}: {error.strerror or error}") from error


def load_lora(model: Module, path: str | os.PathLike[str]) -> Module:
    """Put the adapters of a file on a model that has none, and load whatever else was trained with them.

    Raises:
        CheckpointError: if the file is missing, damaged, or made for a model of other layers or sizes.
        ConfigurationError: if the model has adapters already.
    """
    if lora_layers(model):
        raise ConfigurationError("this model has adapters already: merge_lora(model) before it gets new ones")
    settings, arrays = _read(Path(path))
    where = os.fspath(path)
    linears = {name: module for name, module in model.named_modules() if type(module) is Linear}
    parameters = {name: p.shape for name, p in model.named_parameters()}
    for name, (rank, _) in settings.items():
        if name not in linears:
            raise CheckpointError(f"{where} adapts the layer {name!r}, which {type(model).__name__} does not have")
        out_features, in_features = linears[name].weight.shape
        parameters |= {f"{name}.lora_A": (rank, in_features), f"{name}.lora_B": (out_features, rank)}
    expected = {f"{name}.lora_{letter}" for name in settings for letter in "AB"}
    if lacking := expected - arrays.keys():
        raise CheckpointError(f"{where} is damaged: it lacks {sorted(lacking)[0]}")
    for name, array in arrays.items():
        if parameters.get(name) != array.shape:
            there = f"{parameters[name]} in the model" if name in parameters else "not in the model"
            raise CheckpointError(f"{where} was made for another model: {name} is {array.shape} there, and {there}")
    model.requires_grad_(False)
    for name, (rank, alpha) in settings.items():
        _replace(model, linears[name], LoRALinear(linears[name], rank, alpha))
    model.load_state_dict(arrays, strict=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in arrays
    return model


def _read(path: Path) -> tuple[dict[str, tuple[int, float]], dict[str, np.ndarray]]:
    """(rank, alpha) of each adapted layer, and the arrays of a file."""
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load_file

    try:
        with safe_open(path, "np") as file:
            metadata: Any = file.metadata() or {}
        settings = {name: (int(r), float(alpha)) for name, (r, alpha) in parse_json(metadata["lora"]).items()}
        arrays = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"there are no adapters {path}: check the name") from error
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path} is no file of adapters that save_lora wrote, or is damaged ({what})") from error
    if not settings:
        raise CheckpointError(f"{path} names no adapted layer")
    return settings, arrays


def _adapted(model: Module) -> dict[str, LoRALinear]:
    layers = lora_layers(model)
    if not layers:
        raise ConfigurationError(f"this {type(model).__name__} has no adapters: add_lora(model) puts them on it")
    return layers


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _replace(model: Module, old: Module, new: Module) -> None:
    """Put `new` wherever `old` is: a layer may serve in more than one place."""
    for module in model.modules():
        for name, child in module._modules.items():
            if child is old:
                module._modules[name] = new

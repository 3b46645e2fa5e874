"""save_pretrained: a model of ours as a published folder, which PyTorch's side reads as well.

    save_pretrained(model, tokenizer, "path/to/folder")
    AutoModelForCausalLM.from_pretrained("path/to/folder")       # transformers

The names are those of `names`, the numbers are written as they are. A Llama with rotary positions on interleaved pairs
(GGUF, llama2.c) is written with its rows in the order of halves, and so is a little different when it comes back: the
same function, other rows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from minilm.errors import ConfigurationError
from minilm.models import BERT, GPT, Llama
from minilm.nn import Module
from minilm.pretrained import chat, configurations, names, vocabularies
from minilm.pretrained.names import Layout
from minilm.pretrained.safetensors_file import WEIGHTS, write_safetensors
from minilm.pretrained.vocabularies import write_json, write_tokenizer
from minilm.text import Tokenizer

FILES = ("config.json", WEIGHTS, *vocabularies.FILES, chat.TEMPLATE, chat.GENERATION)
"""What a published folder of ours may hold: whoever puts another model into it removes these first."""


def save_pretrained(model: Module, tokenizer: Tokenizer | None, path: str | os.PathLike[str]) -> None:
    """Write config.json, model.safetensors and the files of the tokenizer into the folder `path`.

    Raises:
        ConfigurationError: for a model that has no published form.
    """
    layout, values = published(model)
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    tensors: dict[str, np.ndarray] = {}
    for ours, parts in layout.entries:
        for name, array in names.take_apart(parts, state.pop(ours)):
            tensors[layout.written(name)] = array
    if state:
        raise ConfigurationError(f"these parameters have no published name: {', '.join(state)}")
    values["torch_dtype"] = next(iter(tensors.values())).dtype.name
    partial = folder / f".{WEIGHTS}.partial"
    write_safetensors(partial, tensors)
    os.replace(partial, folder / WEIGHTS)
    write_json(folder / "config.json", values)
    if tokenizer is not None:
        write_tokenizer(tokenizer, folder, values["model_type"])


def published(model: Module) -> tuple[Layout, dict[str, Any]]:
    """The published names of a model's parameters, and its config.json.

    Raises:
        ConfigurationError: if it has none.
    """
    kind = type(model)
    if kind is GPT:
        if not model.config.bias:
            raise ConfigurationError("a GPT without biases has no published form: GPT-2 has them (bias=True)")
        return names.gpt2(model.config), configurations.gpt2_to_json(model.config)
    if kind is Llama:
        return names.llama(model.config, "hugging face"), configurations.llama_to_json(model.config)
    if kind in configurations.BERT_CLASSES.values():
        encoder = model if kind is BERT else model.bert
        layout = names.bert(model.config, kind, encoder.pooler is not None)
        return layout, configurations.bert_to_json(model.config, kind)
    raise ConfigurationError(
        f"a {kind.__name__} has no published form: GPT, Llama, BERT and its heads do. Checkpoints of minilm "
        "(minilm.training.save_checkpoint) hold any model"
    )

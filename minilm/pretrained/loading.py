"""from_pretrained: a published model, as ours, with its tokenizer.

    model, tokenizer = from_pretrained("path/to/folder")       # config.json, model.safetensors, vocab.txt, ...
    model, tokenizer = from_pretrained("model.gguf")
    model, tokenizer = from_pretrained("stories15M.bin")       # llama2.c

    model, tokenizer = from_pretrained("all-MiniLM-L6-v2")     # of an installed package; `make pretrained`
    model, tokenizer = from_pretrained("all-MiniLM-L6-v2", kind=BERTForSequenceClassification, num_labels=2)

It runs no code of what it reads, whatever that may be; a file that is damaged, or lies, is refused.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minilm.errors import CheckpointError, ConfigurationError
from minilm.models import (
    BERT,
    GPT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    Llama,
    LlamaConfig,
)
from minilm.pretrained import configurations, names
from minilm.pretrained.building import build
from minilm.pretrained.gguf_file import MAGIC, open_gguf
from minilm.pretrained.llama2c import MAGIC as MAGIC_1
from minilm.pretrained.llama2c import PICKLED, open_llama2c
from minilm.pretrained.packages import PACKAGES, locate
from minilm.pretrained.safetensors_file import WEIGHTS, open_folder, parse_json
from minilm.pretrained.stored import StoredTensor, map_file
from minilm.pretrained.vocabularies import tokenizer_beside, tokenizer_of_folder, tokenizer_of_gguf
from minilm.text import Tokenizer

Tensors = Mapping[str, StoredTensor]

HEADS: dict[type[Any], str] = {
    BERTForMaskedLM: "cls.predictions.",
    BERTForQuestionAnswering: "qa_outputs.",
    BERTForSequenceClassification: "classifier.",
    BERTForTokenClassification: "classifier.",
}
"""How the names of a head's tensors begin: where the file has none, the head starts afresh."""


def from_pretrained(
    path: str | os.PathLike[str],
    kind: type[Any] | None = None,
    context_length: int | None = None,
    with_tokenizer: bool = True,
    **changes: Any,
) -> tuple[Any, Tokenizer | None]:
    """The model in evaluation mode, in float32, and its tokenizer, None if none comes with it.

    Args:
        path: a folder with config.json and safetensors (GPT-2, Llama, BERT), a .gguf file (Llama in F32, F16, Q8_0,
            Q4_0 or Q4_1, which become float32), a .bin of llama2.c (version 0 or 1), or the name of an installed
            model (`packages.PACKAGES`).
        kind: of a BERT, the class to make of it, such as BERTForSequenceClassification; if None, what config.json says.
            A head that the file does not have starts from weights drawn from the current generator.
        context_length: of a Llama, the most tokens that it shall see, where fewer than it was made for are enough.
        with_tokenizer: False leaves the files of the tokenizer alone.
        changes: of a BERT, fields of its BERTConfig to set, such as num_labels=2 or dropout=0.0.

    Raises:
        CheckpointError: if there is no such model, it is of a family that minilm does not know, tensors are missing,
            unknown or of other shapes than they should be, or a file is damaged.
        TokenizerError: if the files of the tokenizer are damaged, or it is one that minilm does not know.
        ConfigurationError: for `kind` or `changes` that do not fit the model.
    """
    path = locate(path)
    if path.is_dir() or path.suffix == ".safetensors" or path.name == "config.json":
        folder = path if path.is_dir() else path.parent
        if path.suffix == ".safetensors" and path.name != WEIGHTS:
            raise CheckpointError(f"{path}: name the folder {folder}. What is read there is {WEIGHTS}, or its parts")
        model, family = _from_folder(folder, kind, context_length, changes)
        tokenizer = tokenizer_of_folder(folder, family) if with_tokenizer else None
    elif not path.exists():
        raise CheckpointError(f"there is no {path}; the models that are known by name are {', '.join(PACKAGES)}")
    else:
        _only_for_bert(path, "Llama", kind, (Llama,), changes)
        if map_file(path, 4, "a model")[:4].tobytes() == MAGIC:
            file = open_gguf(path)
            model = _llama(configurations.llama_from_gguf(file, context_length), "gguf", file.tensors, path)
            tokenizer = tokenizer_of_gguf(file) if with_tokenizer else None
        else:
            _may_be_llama2c(path)
            config, tensors = open_llama2c(path)
            model = _llama(config, "meta", tensors, path)
            tokenizer = tokenizer_beside(path, config.vocab_size) if with_tokenizer else None
    if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"the tokenizer of {path} has {tokenizer.vocab_size:,} tokens, and the model knows "
            f"{model.config.vocab_size:,}: they do not belong together"
        )
    return model, tokenizer


def _from_folder(
    folder: Path, kind: type[Any] | None, context_length: int | None, changes: dict[str, Any]
) -> tuple[Any, str]:
    """The model and its family, as config.json calls it."""
    if (folder / "manifest.json").is_file():
        raise CheckpointError(f"{folder} is a checkpoint of `minilm train`: read it with minilm.training.load_model")
    path = folder / "config.json"
    if not path.is_file():
        ours = any(folder.glob("checkpoint-*/manifest.json"))
        raise CheckpointError(
            f"{folder} holds no config.json, which a published model comes with"
            + (": it is a run of minilm's, and minilm.training.load_model reads its model" if ours else "")
        )
    values = parse_json(map_file(path, 2, "a configuration").tobytes(), str(path))
    family = values.get("model_type")
    if family not in ("gpt2", "llama", "bert"):
        raise CheckpointError(f"{path} describes a {family!r}: minilm knows the families gpt2, llama and bert")
    tensors = open_folder(folder)
    if family == "bert":
        return _bert(values, path, kind, changes, tensors), family
    _only_for_bert(folder, family, kind, (GPT,) if family == "gpt2" else (Llama,), changes)
    if family == "llama":
        config = configurations.llama_from_json(values, str(path), context_length)
        return _llama(config, "hugging face", tensors, folder), family
    gpt = configurations.gpt2_from_json(values, str(path))
    return build(lambda: GPT(gpt), lambda: names.gpt2(gpt), gpt.n_layer, tensors, str(folder)), family


def _may_be_llama2c(path: Path) -> None:
    """Refuse any other file by what it is not: llama2.c's older files begin with sizes, and so might anything."""
    begin = map_file(path, 4, "a model")[:4].tobytes()
    if path.suffix != ".bin" and not begin.startswith((MAGIC_1, *PICKLED)):
        raise CheckpointError(
            f"{path} is no model: that is a folder with config.json and safetensors, a .gguf, or a .bin of llama2.c"
        )


def _only_for_bert(
    path: Path, family: str, kind: type[Any] | None, own: tuple[type[Any]], changes: dict[str, Any]
) -> None:
    if kind not in (None, *own) or changes:
        raise ConfigurationError(f"{path} is a {family}: another `kind`, and changes of the sizes, are for a BERT")


def _llama(config: LlamaConfig, column: str, tensors: Tensors, path: Path) -> Any:
    return build(lambda: Llama(config), lambda: names.llama(config, column), config.n_layer, tensors, str(path))


def _bert(values: dict[str, Any], path: Path, kind: type[Any] | None, changes: dict[str, Any], tensors: Tensors) -> Any:
    """A BERT with or without a head; the head from the file, or started afresh."""
    config = configurations.bert_from_json(values, str(path))
    kind = kind or configurations.bert_class(values, str(path))
    if kind not in (BERT, *HEADS):
        raise ConfigurationError(f"{path.parent} is a BERT, and cannot be made a {kind.__name__}")
    unknown = set(changes) - {field.name for field in dataclasses.fields(BERTConfig)}
    if unknown:
        raise ConfigurationError(f"a BERTConfig has no {', '.join(sorted(unknown))}")
    if kind is not BERTForMaskedLM:
        config = dataclasses.replace(config, next_sentence=False)
    config = dataclasses.replace(config, **changes)
    pooling = kind in (BERT, BERTForSequenceClassification) or config.next_sentence

    def built(kind: type[Any]) -> Any:
        return build(
            lambda: BERT(config, pooling) if kind is BERT else kind(config),
            lambda: names.bert(config, kind, pooling),
            config.n_layer,
            tensors,
            str(path.parent),
        )

    if kind is BERT or any(name.startswith(HEADS[kind]) for name in tensors):
        return built(kind)
    return kind(config, built(BERT)).eval()

"""A trained model with small integers for weights: `quantize(model, bits=8)`, then use it as before.

    model = quantize(model, bits=4)       # Linear and Embedding layers, in place
    size_in_bytes(model)                  # what its weights take now
    save_quantized(folder, model, tokenizer)
    model, tokenizer = load_quantized(folder)

Weights are rounded after training, each to the nearest step ("post-training quantization", Jacob et al. 2018 for the
arithmetic; Dettmers et al. 2022 for language models): no data is needed. Activations stay float32, as do norms, biases
and position tables, which are small. How the integers are kept and multiplied is told in `matrices`.

Eight bits are as good as lossless for language models; four cost some perplexity. The table of embeddings, which in
many models is the head too, is kept at eight unless told otherwise. It saves memory above all: the float
matrix is made piece by piece, in the cache, for each product (benchmarks/compression.py measures what that costs).

What this file does not do: recurrent layers, whose weights belong to one fused operation; training of the integers. A
gradient goes through a quantized layer to its input, though, so that small trained layers can stand beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import minilm.functional as F
from minilm.compression.matrices import Int4Matrix, Int8Matrix, QuantizedMatrix
from minilm.errors import BackendError, CheckpointError, ConfigurationError
from minilm.nn import Embedding, Linear, Module
from minilm.nn.linear import ACTIVATIONS
from minilm.tensor import Tensor, is_grad_enabled, unwrap
from minilm.text import Tokenizer
from minilm.training.checkpoint import (
    described_model,
    load_tokenizer_of,
    model_config,
    read_arrays,
    read_state,
    save_checkpoint,
)


class QuantizedLinear(Module):
    """(..., in_features) -> (..., out_features), as a Linear of the same weights, rounded."""

    def __init__(self, matrix: QuantizedMatrix, bias: Any = None) -> None:
        super().__init__()
        self.out_features, self.in_features = matrix.shape
        self.matrix = matrix
        self.bias = bias

    @property
    def weight(self) -> Tensor:
        """All weights as float32 (out_features, in_features), made anew at each use."""
        return Tensor.wrap(self.matrix.whole())

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        """f(x Wᵀ + b), with f as in Linear."""
        y = _times(x, self.matrix)
        if self.bias is not None:
            y = y + self.bias
        return y if activation is None else ACTIVATIONS[activation](y)

    def describe(self) -> str:
        return f"{self.in_features} -> {self.out_features}, {self.matrix.bits} bits"


class QuantizedEmbedding(Module):
    """ids (...) of integers -> (..., embedding_dim); only the rows that are asked for become floats."""

    def __init__(self, matrix: QuantizedMatrix) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = matrix.shape
        self.matrix = matrix

    @property
    def weight(self) -> Tensor:
        """The whole table as float32, made anew at each use: for a head that is tied to it, `project` is quicker."""
        return Tensor.wrap(self.matrix.whole())

    def forward(self, ids: Any) -> Tensor:
        ids = np.asarray(unwrap(ids))
        if ids.size and not (0 <= ids.min() and ids.max() < self.num_embeddings):
            bad = ids[(ids < 0) | (ids >= self.num_embeddings)].flat[0]
            raise IndexError(f"id {bad} is outside the table of {self.num_embeddings} rows")
        return Tensor.wrap(self.matrix.floats(ids.reshape(-1)).reshape(*ids.shape, self.embedding_dim))

    def project(self, x: Tensor) -> Tensor:
        """x (..., C) -> x Wᵀ (..., V): the table as the weight of a head."""
        return _times(x, self.matrix)

    def describe(self) -> str:
        return f"{self.num_embeddings} x {self.embedding_dim}, {self.matrix.bits} bits"


def _times(x: Tensor, matrix: QuantizedMatrix) -> Tensor:
    """x Wᵀ; where a gradient is recorded, with the whole float matrix, which the way back needs."""
    if not isinstance(x.data, np.ndarray):
        raise BackendError("a quantized model computes with NumPy alone: use the backend 'numpy'")
    if x.shape[-1] != matrix.shape[1]:
        raise ValueError(f"x {x.shape} does not fit a quantized weight {matrix.shape}: their last axes must be equal")
    if x.requires_grad and is_grad_enabled():
        return F.linear(x, Tensor.wrap(matrix.whole().astype(x.dtype, copy=False)))
    rows = x.data.reshape(-1, x.shape[-1]).astype(np.float32, copy=False)
    y = matrix.product(rows).astype(x.dtype, copy=False)
    return Tensor.wrap(y.reshape(*x.shape[:-1], matrix.shape[0]))


# --- a whole model


def quantize(
    model: Module, bits: int = 8, offset: bool = False, embedding_bits: int = 8, skip: Collection[str] = ()
) -> Module:
    """Replace every Linear and Embedding of a model by its quantized form, in place; returns the model.

    A weight that two layers share stays shared. What stays floats becomes float32, as what is computed is. The model is
    from now on for use, not for training.

    Args:
        bits: of Linear layers: 8 (a scale for each row) or 4 (a scale for each 32 weights).
        offset: with 4 bits: each block also has an offset, 5 bits a weight in all, for a smaller error.
        embedding_bits: of Embedding layers, 8 or 4: a table that is the head as well minds rounding the most.
        skip: dotted names of layers to leave as they are, as `model.named_modules()` gives them.

    Raises:
        ConfigurationError: for other bits, a name in `skip` that is no layer, or a model without such layers.
    """
    if bits not in (4, 8) or embedding_bits not in (4, 8):
        raise ConfigurationError(f"bits={bits}, embedding_bits={embedding_bits}: weights are quantized to 8 or 4 bits")
    if offset and bits == embedding_bits == 8:
        raise ConfigurationError("offset is for 4 bits: 8 bits are symmetric, and nearly exact as they are")
    known: dict[int, QuantizedMatrix] = {}
    tables = {id(m.weight) for m in model.modules() if isinstance(m, Embedding)}

    def small(name: str, layer: Module) -> Module:
        key = id(layer.weight)
        if key not in known:
            weight = layer.weight.data
            if not isinstance(weight, np.ndarray):
                raise BackendError("a model is quantized on the host: load it with the backend 'numpy'")
            wanted = embedding_bits if key in tables else bits
            known[key] = Int8Matrix(weight) if wanted == 8 else Int4Matrix(weight, offset)
        return _wrapped(layer, known[key])

    _replace(model, small, skip)
    return model.astype(np.float32)


def _wrapped(layer: Module, matrix: QuantizedMatrix) -> Module:
    quantized = QuantizedLinear(matrix, layer.bias) if isinstance(layer, Linear) else QuantizedEmbedding(matrix)
    quantized.training = layer.training
    return quantized


def _replace(model: Module, small: Callable[[str, Module], Module | None], skip: Collection[str] = ()) -> None:
    """Put small(name, layer) in the place of each Linear and Embedding, wherever it is used; None leaves it."""
    names = {id(m): name for name, m in model.named_modules() if type(m) in (Linear, Embedding)}
    unknown = [name for name in skip if name not in names.values()]
    if unknown:
        raise ConfigurationError(f"skip names no Linear or Embedding of the model: {', '.join(unknown)}")
    made: dict[int, Module | None] = {}
    for parent in list(model.modules()):
        for attribute, child in list(parent._modules.items()):
            if id(child) not in names or names[id(child)] in skip:
                continue
            if id(child) not in made:
                made[id(child)] = small(names[id(child)], child)
            if (replacement := made[id(child)]) is not None:
                setattr(parent, attribute, replacement)
    if not made:
        raise ConfigurationError(f"{type(model).__name__} has no Linear or Embedding left to quantize")


def quantized_matrices(model: Module) -> dict[str, QuantizedMatrix]:
    """The matrices of a quantized model by the dotted name of their layer; a shared one under each of its names."""
    layers = (QuantizedLinear, QuantizedEmbedding)
    return {name: m.matrix for name, m in model.named_modules() if isinstance(m, layers)}


def size_in_bytes(model: Module) -> int:
    """Bytes of all weights: parameters, and integers with their scales; what is shared counts once."""
    matrices = {id(matrix): matrix for matrix in quantized_matrices(model).values()}
    return sum(p.data.nbytes for p in model.parameters()) + sum(m.nbytes for m in matrices.values())


# --- files


def save_quantized(folder: str | os.PathLike[str], model: Module, tokenizer: Tokenizer | None = None) -> None:
    """Write a quantized model to a folder, in the form of a checkpoint (see minilm.training.checkpoint).

    model.safetensors holds the integers as they are, under NAME.int8 or NAME.int4, NAME.scale and NAME.offset, beside
    the parameters that stayed floats.

    Raises:
        ConfigurationError: if nothing in the model is quantized, or it is not one of minilm.models.
        TrainingError: if the disk is full or cannot be written.
    """
    matrices = quantized_matrices(model)
    if not matrices:
        raise ConfigurationError("the model is not quantized: call quantize(model) first")
    if model_config(model)["model"] is None:
        raise ConfigurationError(f"{type(model).__name__} is not one of minilm.models, which alone can be loaded again")
    first: dict[int, str] = {}
    weights = model.state_dict()
    for name, matrix in matrices.items():
        if first.setdefault(id(matrix), name) == name:
            weights |= {f"{name}.{kind}": array for kind, array in matrix.arrays().items()}
    shared = {name: first[id(matrix)] for name, matrix in matrices.items() if first[id(matrix)] != name}
    save_checkpoint(Path(folder), model, tokenizer, state={"quantized": {"shared": shared}}, weights=weights)


def load_quantized(folder: str | os.PathLike[str]) -> tuple[Module, Tokenizer | None]:
    """The model, in evaluation mode, and the tokenizer that `save_quantized` wrote.

    Raises:
        CheckpointError: if the folder is missing or damaged, or holds no quantized model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}")
    state = read_state(folder)
    if not isinstance(state.get("quantized"), Mapping):
        raise CheckpointError(f"{folder} holds a model that is not quantized: read it with minilm.training.load_model")
    shared = state["quantized"].get("shared")
    if not isinstance(shared, Mapping) or not all(isinstance(name, str) for name in shared.values()):
        raise CheckpointError(f"{folder} does not describe which layers share their weights: {shared!r}")
    model = described_model(folder)
    arrays = read_arrays(folder, "model.safetensors")
    made: dict[str, QuantizedMatrix] = {}

    def small(name: str, layer: Module) -> Module | None:
        source = shared.get(name, name)
        if source not in made:
            own = {kind: arrays.pop(f"{source}.{kind}") for kind in _KINDS if f"{source}.{kind}" in arrays}
            if "scale" not in own:
                return None  # a layer that was skipped
            form = Int8Matrix if "int8" in own else Int4Matrix
            try:
                made[source] = form.from_arrays(own, layer.weight.shape[1])
            except KeyError as error:
                raise CheckpointError(f"{folder}: the integers of {source} are missing ({error})") from error
        if made[source].shape != layer.weight.shape:
            raise CheckpointError(
                f"{folder}: {name} is {made[source].shape} in the file and {layer.weight.shape} in the model"
            )
        return _wrapped(layer, made[source])

    _replace(model, small)
    try:
        model.load_state_dict(arrays)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder} does not fit this model: {error.args[0]}") from error
    return model.eval(), load_tokenizer_of(folder)


_KINDS = ("int8", "int4", "scale", "offset")

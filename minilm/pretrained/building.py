"""A model of ours whose parameters are the tensors of a file.

First the names and shapes of all tensors are compared with those that a model of the claimed sizes has; only then the
model is made, around the arrays of the file. So it takes no more memory than the bytes of the file vouch for, and
nothing is drawn to be overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minilm.backend import Array, asarray
from minilm.errors import CheckpointError
from minilm.pretrained.names import Layout, assemble
from minilm.pretrained.stored import StoredTensor
from minilm.random import Generator, using_generator

TENSORS_OF_A_LAYER = 9  # of a Llama; others have more


def build(
    make: Callable[[], Any],
    layout_of: Callable[[], Layout],
    n_layer: int,
    tensors: Mapping[str, StoredTensor],
    source: str,
) -> Any:
    """The model that `make` makes, in evaluation mode, with the tensors as its parameters.

    Args:
        layout_of: gives the names of its parameters; it has `n_layer` layers.
        source: what the tensors come from, for messages.

    Raises:
        CheckpointError: if tensors are missing, unknown or of other shapes, or hold no finite floating-point numbers.
    """
    if n_layer > len(tensors) // TENSORS_OF_A_LAYER + 100:  # or the list of what should be there would be too long
        raise CheckpointError(f"{source} claims {n_layer:,} layers, and has {len(tensors):,} tensors")
    layout = layout_of()
    named = _checked(layout, tensors, source)
    with using_generator(_Undrawn()):
        model = make()
    parameters = dict(model.named_parameters())
    for ours, parts in layout.entries:
        parameter = parameters.pop(ours)
        with np.errstate(all="ignore"):  # what overflows is found by its sum, which is no number then
            array = assemble(parts, lambda name: named[name].read())
            finite = np.isfinite(array.sum())
        if not finite:
            where = ", ".join(part.name for part in parts)
            raise CheckpointError(f"{source} is damaged: there are infinite numbers, or none at all (NaN), in {where}")
        assert array.shape == parameter.shape and array.dtype == np.float32, ours
        parameter.data = asarray(array)
    assert not parameters, f"these have no published name: {', '.join(parameters)}"
    return model.eval()


def _checked(layout: Layout, tensors: Mapping[str, StoredTensor], source: str) -> dict[str, StoredTensor]:
    """The tensors by their plain names, if they are just those of the layout."""
    named: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        plain = layout.plain(name)
        if plain in named:
            raise CheckpointError(f"{source} has the tensor {plain!r} twice, under two of its names")
        named[plain] = tensor
    wanted = {part.name: part.shape for part in layout.parts()}
    missing = [name for name in wanted if name not in named]
    if missing:
        raise CheckpointError(f"{source} lacks tensors of a model of its kind: {_listed(missing)}")
    unknown = [n for n in named if n not in wanted and n not in layout.twins and not layout.is_ignored(n)]
    if unknown:
        raise CheckpointError(f"{source} has tensors that a model of its kind does not have: {_listed(unknown)}")
    wrong = [f"{n} is {named[n].shape} and not {shape}" for n, shape in wanted.items() if named[n].shape != shape]
    if wrong:
        raise CheckpointError(f"{source}: the shapes of tensors are not those of the claimed sizes: {_listed(wrong)}")
    for twin, name in layout.twins.items():
        if twin in named and not _equal(named[twin], named[name]):
            raise CheckpointError(f"{source}: {twin} should hold the same numbers as {name}, since the two are tied")
    return named


def _equal(a: StoredTensor, b: StoredTensor) -> bool:
    return a.shape == b.shape and np.array_equal(a.read(), b.read())


def _listed(items: list[str], most: int = 4) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


class _Undrawn(Generator):
    """Draws nothing: a parameter is one number, shown in its shape, until that of the file takes its place."""

    def normal(self, shape: Any, mean: float = 0.0, std: float = 1.0, dtype: Any = "float32") -> Array:
        return np.broadcast_to(np.zeros((), dtype), shape)

    def uniform(self, shape: Any, low: float = 0.0, high: float = 1.0, dtype: Any = "float32") -> Array:
        return np.broadcast_to(np.zeros((), dtype), shape)

    def fill_normal(self, array: Array, mean: float = 0.0, std: float = 1.0) -> None:
        pass

"""Magnitude pruning: the smallest weights become zeros, and stay zeros (Han et al. 2015, "Learning both weights and
connections for efficient neural networks").

    mask_i = 1 if |w_i| > threshold else 0,     w <- mask * w

    global       one threshold for all layers: a layer with small weights loses more of them
    per layer    a threshold for each weight matrix, so that each loses the same share

The rest can be trained on to make up for what was lost: `Pruning` is a callback of the Trainer that puts the zeros
back after each update, and `GradualPruning` takes weights away little by little while training goes on (Zhu & Gupta
2017, equation 1),

    sparsity at step t = final * (1 - (1 - (t - begin) / (end - begin))³)

quickly at first, while there are weights to spare, then slower. Pruned are the weights of Linear layers; embeddings,
norms and biases are left alone.

What this file does not do: make anything smaller or faster by itself. The zeros are stored and multiplied like any
other number; it shows how many weights a model needs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minilm.backend import Array, to_numpy, xp
from minilm.errors import ConfigurationError
from minilm.nn import Linear, Module
from minilm.tensor import no_grad
from minilm.training import Callback

if TYPE_CHECKING:
    from minilm.training import Trainer

SCOPES = ("global", "layer")


class Pruning(Callback):
    """Masks for weights of a model: which of them are kept. As a callback, it keeps the others at zero.

    Attributes:
        masks: parameter name -> booleans of its shape, False where the weight is zero for good.
    """

    def __init__(self, model: Module, masks: Mapping[str, Array]) -> None:
        self.model = model
        self.masks = dict(masks)

    @classmethod
    def of_zeros(cls, model: Module) -> Pruning:
        """The masks of a model that was pruned before and loaded again: what is exactly 0 stays 0."""
        return cls(model, {name: p.data != 0 for name, p in prunable(model).items()})

    @property
    def sparsity(self) -> float:
        """The part of the weights with masks that is zero."""
        kept = sum(int(mask.sum()) for mask in self.masks.values())
        return 1 - kept / sum(mask.size for mask in self.masks.values())

    def apply(self, parameters: Mapping[str, Any] | None = None) -> None:
        """Set what is not kept to zero: in the model, or in other parameters of the same names."""
        parameters = dict(self.model.named_parameters()) if parameters is None else parameters
        with no_grad():
            for name, mask in self.masks.items():
                parameters[name].mul_(xp(mask).asarray(mask, dtype=parameters[name].dtype))

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first step, too: a resumed run loads its weights."""
        self._keep(trainer)

    def on_step_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """An update moves all weights, by the optimizer's momentum even those without a gradient."""
        self._keep(trainer)

    def _keep(self, trainer: Trainer) -> None:
        self.apply()
        if trainer.precision is not None:  # float16: the weights that are trained are the float32 copies
            self.apply(trainer.precision.masters)


class GradualPruning(Pruning):
    """Pruning that grows while the model is trained, from step `begin` to step `end`, and then stays.

    Args:
        sparsity: at the end, from 0 to below 1.
        every: steps between two looks at which weights are the smallest.
        scope, skip: as in `prune`.

    Raises:
        ConfigurationError: for numbers out of range.
    """

    def __init__(
        self,
        model: Module,
        sparsity: float,
        end: int,
        begin: int = 0,
        every: int = 10,
        scope: str = "global",
        skip: Collection[str] = (),
    ) -> None:
        _check(sparsity, scope)
        if not 0 <= begin < end or every < 1:
            raise ConfigurationError(f"begin={begin}, end={end}, every={every}: 0 <= begin < end and every at least 1")
        weights = prunable(model, skip)
        super().__init__(model, {name: xp(p.data).ones(p.shape, dtype=bool) for name, p in weights.items()})
        self.final, self.begin, self.end, self.every, self.scope = sparsity, begin, end, every, scope

    def sparsity_at(self, step: int) -> float:
        """What the schedule asks for after this step."""
        done = min(max((step - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return self.final * (1 - (1 - done) ** 3)

    def on_step_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """Prune further where the schedule says so; keep what was pruned at zero."""
        step = trainer.state.step
        if self.begin <= step <= self.end and ((step - self.begin) % self.every == 0 or step == self.end):
            self._keep(trainer)  # what was pruned is the smallest still
            parameters = dict(self.model.named_parameters())
            weights = {name: parameters[name].data for name in self.masks}
            self.masks = _masks(weights, self.sparsity_at(step), self.scope)
        self._keep(trainer)


def prunable(model: Module, skip: Collection[str] = ()) -> dict[str, Any]:
    """Name -> parameter of the weights of all Linear layers, but for those whose parameter name is in `skip`.

    Raises:
        ConfigurationError: if there are none, or a name in `skip` is not among them.
    """
    linear = {id(m.weight) for m in model.modules() if isinstance(m, Linear)}
    found = {name: p for name, p in model.named_parameters() if id(p) in linear}
    unknown = [name for name in skip if name not in found]
    if unknown:
        raise ConfigurationError(f"skip names no weight of a Linear layer: {', '.join(unknown)}")
    found = {name: p for name, p in found.items() if name not in skip}
    if not found:
        raise ConfigurationError(f"{type(model).__name__} has no Linear layer to prune")
    return found


def prune(model: Module, sparsity: float, scope: str = "global", skip: Collection[str] = ()) -> Pruning:
    """Set the smallest weights of a model to zero, in place; returns the masks, a callback for training on.

    Args:
        sparsity: the part of the weights that goes, from 0 to below 1.
        scope: "global" compares all weights with each other, "layer" those of each matrix.
        skip: names of parameters that are left alone.

    Raises:
        ConfigurationError: for another scope or sparsity, or where there is nothing to prune.
    """
    _check(sparsity, scope)
    masks = _masks({name: p.data for name, p in prunable(model, skip).items()}, sparsity, scope)
    pruning = Pruning(model, masks)
    pruning.apply()
    return pruning


def _check(sparsity: float, scope: str) -> None:
    if not 0 <= sparsity < 1:
        raise ConfigurationError(f"sparsity={sparsity}: it is the part of the weights that goes, from 0 to below 1")
    if scope not in SCOPES:
        raise ConfigurationError(f"scope is 'global' or 'layer', not {scope!r}")


def _masks(weights: Mapping[str, Array], sparsity: float, scope: str) -> dict[str, Array]:
    """Which weights stay. Exactly floor(sparsity * number) of those compared go; of equal ones, the first."""
    if scope == "layer":
        return {name: mask for n, w in weights.items() for name, mask in _masks({n: w}, sparsity, "global").items()}
    sizes = np.cumsum([w.size for w in weights.values()])
    magnitudes = np.concatenate([np.abs(to_numpy(w)).reshape(-1) for w in weights.values()])
    count = int(round(sparsity * magnitudes.size, 6))
    kept = np.ones(magnitudes.size, dtype=bool)
    if count:
        threshold = np.partition(magnitudes, count - 1)[count - 1]
        kept[magnitudes < threshold] = False
        equal = np.flatnonzero(magnitudes == threshold)
        kept[equal[: count - (magnitudes.size - int(kept.sum()))]] = False
    parts = np.split(kept, sizes[:-1])
    named = zip(weights.items(), parts, strict=True)
    return {name: xp(w).asarray(part.reshape(w.shape)) for (name, w), part in named}

"""Where did NaN or infinity first appear? What the trainer says when a loss is no longer a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minilm.backend import xp
from minilm.nn import Module
from minilm.tensor import Tensor, no_grad


def _finite(tensor: Tensor) -> bool:
    return bool(xp(tensor.data).isfinite(tensor.data).all())


def first_nonfinite(model: Module, batch: Mapping[str, Any]) -> str:
    """A sentence that names the parameter or layer where the first value that is not finite appears.

    Parameters are looked at first, then the forward pass of `batch` layer by layer, then the gradients.
    """
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return f"the parameter {name} is not finite already"

    found: list[str] = []
    removers = []
    for name, module in model.named_modules():

        def look(module: Module, args: Any, output: Any, name: str = name) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if not found and isinstance(first, Tensor) and not _finite(first):
                found.append(f"it first appears in the output of {name or 'the model'} ({type(module).__name__})")

        removers.append(module.register_forward_hook(look))
    try:
        with no_grad():
            loss = model.loss(batch)
    finally:
        for remove in removers:
            remove()
    if found:
        return found[0]
    if not _finite(loss):
        return "all layers put out finite values, but the loss computed from them is not finite"

    # backward goes from the last layer to the first: the last bad gradient in the model's order came first
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    if bad:
        return f"the forward pass is finite; the gradient is not, first at {bad[-1]}"
    return "a second forward pass of the same batch is finite: is the model deterministic?"

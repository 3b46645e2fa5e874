"""Training in float16: float32 master weights and a loss scale (Micikevicius et al. 2018, "Mixed precision training").

The model computes in float16: half the memory, and the fast units of a GPU. Two things keep it trainable:

- *Master weights.* An update of 1e-4 is lost on a float16 weight of 1, whose neighbours are 1e-3 away. The optimizer
  works on float32 copies; after each step the model gets them rounded.
- *The loss scale* s (section 3.2 of the paper). A gradient below 6e-8 is 0 in float16, and many are. So backward
  starts from s instead of 1, and the gradients are divided by s in float32, before they are clipped:

      loss.backward(s)
      master.grad = float32(model.grad) / s

  Too large an s makes infinities. Then the step is left out and s halved; after `growth_interval` good steps in
  succession s doubles. s is a power of two: scaling rounds nothing.

What this file does not do: it never looks at a gradient. That the norm of all of them is finite, one number that the
trainer reads anyway, says that each of them is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minilm.backend import asarray, to_numpy
from minilm.nn import Module, Parameter
from minilm.tensor import no_grad


class MixedPrecision:
    """A model in float16, its master weights and its loss scale.

    Args:
        model: it becomes float16, in place.
        initial_scale: the first loss scale, a power of two.
        growth_interval: good steps in succession after which the scale doubles.
    """

    def __init__(self, model: Module, initial_scale: float = 2.0**16, growth_interval: int = 2000) -> None:
        self.model = model
        self.masters = {
            name: Parameter(p.data, p.requires_grad, dtype="float32") for name, p in model.named_parameters()
        }
        model.astype("float16")
        self.scale, self.growth_interval = float(initial_scale), growth_interval
        self.good_steps = 0  # since the scale last changed
        self.skipped_steps = 0

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, master weight): what an optimizer works on."""
        return iter(self.masters.items())

    # --- the parts of a step

    def unscale(self) -> None:
        """Give the masters the model's gradients, divided by the scale. The model's own stay, to be looked at."""
        for name, parameter in self.model.named_parameters():
            gradient = parameter.grad
            self.masters[name].grad = None if gradient is None else gradient.data.astype("float32") * (1 / self.scale)

    def write_back(self) -> None:
        """Round the masters into the model."""
        with no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(self.masters[name])

    def succeeded(self) -> None:
        """After a step that was taken: write its result back, and perhaps double the scale."""
        self.write_back()
        self.good_steps += 1
        if self.good_steps == self.growth_interval:
            self.scale, self.good_steps = self.scale * 2, 0

    def overflowed(self) -> bool:
        """After a loss or a gradient that is not finite: halve the scale. False if it is 1: that was no overflow."""
        if self.scale <= 1:
            return False
        self.scale, self.good_steps = max(self.scale / 2, 1.0), 0
        self.skipped_steps += 1
        return True

    # --- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """The numbers, as JSON can hold them."""
        return {"scale": self.scale, "good_steps": self.good_steps, "skipped_steps": self.skipped_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.scale, self.good_steps = float(state["scale"]), int(state["good_steps"])
        self.skipped_steps = int(state["skipped_steps"])

    def weights(self) -> dict[str, np.ndarray]:
        """Name -> master weight on the host: what a checkpoint stores as the model."""
        return {name: np.array(to_numpy(master.data)) for name, master in self.masters.items()}

    def load_weights(self, state: Mapping[str, np.ndarray]) -> None:
        """Take masters from `weights`, which fit, and write them into the model."""
        with no_grad():
            for name, master in self.masters.items():
                master.copy_(asarray(state[name], dtype="float32"))
        self.write_back()

"""Stochastic gradient descent, with momentum.

PyTorch's form (Sutskever et al. 2013 with the learning rate outside the momentum), with g the gradient:

    g = g + weight_decay p          L2 regularisation
    b = momentum b + g              b starts at 0
    p = p - lr b                    or, with Nesterov's momentum,  p = p - lr (g + momentum b)

What this file does not do: dampening.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minilm.backend import Array, xp
from minilm.optim.optimizer import Optimizer, Parameters, check


def sgd_update(
    p: Array,
    g: Array,
    work: Array,
    *buffer: Array,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """One step of SGD on 1-D arrays of one length: p and the momentum buffer change in place."""
    home, change, other = xp(p), work[0], work[1]
    if weight_decay:
        home.multiply(p, weight_decay, out=change)
        change += g
        g = change
    if momentum:
        (b,) = buffer
        b *= momentum
        b += g
        g = home.add(g, home.multiply(b, momentum, out=other), out=change) if nesterov else b
    p -= home.multiply(g, lr, out=change)


class SGD(Optimizer):
    """Stochastic gradient descent in PyTorch's form.

    Args:
        params: Tensors, (name, Tensor) pairs, or groups; see `Optimizer`.
        lr: the learning rate.
        momentum: how much of the previous direction is kept, in [0, 1).
        nesterov: look ahead by one momentum step (needs momentum).
        weight_decay: L2 regularisation of every parameter, through its gradient.

    Raises:
        ConfigurationError: if a number lies outside its range, or Nesterov's momentum is asked for without
            momentum.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        )

    def state_names(self) -> tuple[str, ...]:
        return ("momentum",) if any(group["momentum"] for group in self.param_groups) else ()

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        check(0 <= group["momentum"] < 1, f"momentum must lie in [0, 1), not {group['momentum']}")
        check(
            bool(group["momentum"]) or not group["nesterov"],
            "Nesterov's momentum needs a momentum: pass momentum=0.9, say, or nesterov=False",
        )

    def update(
        self, settings: Mapping[str, Any], step: int, p: Array, g: Array, work: Array, *state: Array
    ) -> None:
        check(
            bool(state) or not settings["momentum"],
            "momentum was set after SGD was made without it, and there is nowhere to keep it: make a new SGD",
        )
        numbers = {name: settings[name] for name in ("lr", "momentum", "nesterov", "weight_decay")}
        sgd_update(p, g, work, *state, **numbers)

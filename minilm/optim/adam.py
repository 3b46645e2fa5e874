"""Adam: momentum, with a step size for each parameter from the running size of its gradient.

Kingma & Ba 2015, algorithm 1, with g the gradient at step t = 1, 2, ...:

    m = b1 m + (1 - b1) g                    first moment
    v = b2 v + (1 - b2) g^2                  second moment
    p = p - lr mhat / (sqrt(vhat) + eps)     mhat = m / (1 - b1^t),  vhat = v / (1 - b2^t)

m and v start at 0, so the first averages are too small by exactly the factors 1 - b1^t and 1 - b2^t: the bias
correction. AdamW (Loshchilov & Hutter 2019, algorithm 2) shrinks the weights beside that step instead of
adding weight_decay * p to g, where 1 / sqrt(vhat) would undo the decay of the weights with large gradients:

    p = p - lr weight_decay p - lr mhat / (sqrt(vhat) + eps)

As in PyTorch, the whole learning rate multiplies the decay (in the paper only the schedule's factor does).

Under a backend with an "adamw" kernel (minilm.kernels.adamw) the whole step is one call of it.

What this file does not do: L2 regularisation through the gradient, AMSGrad.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from minilm.backend import Array, xp
from minilm.optim.optimizer import Optimizer, Parameters, check
from minilm.tensor import Tensor


def adamw_update(
    p: Array,
    g: Array,
    work: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float = 0.0,
) -> None:
    """One step of AdamW on 1-D arrays of one length: p, m and v change in place, `work` is scratch.

    The two corrections are moved into the numbers (Kingma & Ba 2015, end of section 2), which saves two
    passes: lr mhat / (sqrt(vhat) + eps) = (lr c / (1 - b1^t)) m / (sqrt(v) + eps c) with c = sqrt(1 - b2^t).
    """
    home, change = xp(p), work[0]
    b1, b2 = betas
    correction = math.sqrt(1 - b2**step)

    m *= b1
    m += home.multiply(g, 1 - b1, out=change)

    home.multiply(g, g, out=change)
    change *= 1 - b2
    v *= b2
    v += change

    home.sqrt(v, out=change)
    change += eps * correction
    home.divide(m, change, out=change)
    change *= lr * correction / (1 - b1**step)
    if weight_decay:
        p *= 1 - lr * weight_decay
    p -= change


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1), with bias correction.

    Args:
        params: Tensors, (name, Tensor) pairs, or groups; see `Optimizer`.
        lr: the learning rate.
        betas: decay of the first and of the second moment, each in [0, 1).
        eps: added to sqrt(vhat).

    Raises:
        ConfigurationError: if a number lies outside its range.
    """

    kernel = "adamw"

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        group["betas"] = tuple(group["betas"])  # JSON knows lists only
        check(
            len(group["betas"]) == 2 and all(0 <= beta < 1 for beta in group["betas"]),
            f"betas must be two numbers in [0, 1), not {group['betas']}",
        )
        check(group["eps"] >= 0, f"eps must not be negative: {group['eps']}")

    def kernel_settings(self, settings: Mapping[str, Any], step: int) -> Any:
        return step, settings["lr"], settings["betas"], settings["eps"], settings["weight_decay"]

    def state_names(self) -> tuple[str, ...]:
        return "first_moment", "second_moment"

    def update(
        self, settings: Mapping[str, Any], step: int, p: Array, g: Array, work: Array, *state: Array
    ) -> None:
        m, v = state
        lr, betas, eps = settings["lr"], settings["betas"], settings["eps"]
        adamw_update(p, g, work, m, v, step, lr, betas, eps, settings["weight_decay"])


def is_matrix(name: str, parameter: Tensor) -> bool:
    """What AdamW decays by itself: parameters of two or more axes. Biases and the gains of norms have one."""
    return parameter.ndim >= 2


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    Args:
        params: Tensors, (name, Tensor) pairs, or groups; see `Optimizer`.
        lr: the learning rate.
        betas: decay of the first and of the second moment, each in [0, 1).
        eps: added to sqrt(vhat).
        weight_decay: each step takes lr * weight_decay of a decayed parameter away.
        decay_filter: which parameters decay: a function of (name, Tensor). As it stands, those with two axes
            or more (PyTorch decays all: `decay_filter=lambda name, parameter: True`).

    Raises:
        ConfigurationError: if a number lies outside its range.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        decay_filter: Callable[[str, Tensor], bool] = is_matrix,
    ) -> None:
        Optimizer.__init__(
            self, params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, decay_filter
        )

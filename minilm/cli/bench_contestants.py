"""Contestants of `minilm bench`: from a function and its arguments to a call that can be timed.

A contestant is bound to its arguments and to a direction first; what the forward pass keeps for the backward pass is
computed then, so that the call of a backward pass is that pass alone. A call can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minilm.optim import AdamW
from minilm.tensor import OPERATIONS, Tensor

Call = Callable[[], Sequence[Any]]
"""Computes something and returns its arrays: the outputs, or the gradients."""


class Arguments(NamedTuple):
    """The positional and the named arguments of an operation, and the cotangent of each output."""

    arrays: list[Any]
    options: dict[str, Any]
    cotangents: list[Any]


Bind = Callable[[Arguments, str], Call]
"""From the arguments and a direction ("forward", "backward", "step") to the call that is timed."""


# ----- numbers


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """float64 rounded to a dtype; "bfloat16", which NumPy does not have, as its bits in uint16."""
    if dtype != "bfloat16":
        return array.astype(dtype)
    bits = np.asarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to the nearest, ties to even


def widened(array: np.ndarray) -> np.ndarray:
    """The same numbers in float64."""
    if array.dtype != np.uint16:
        return array.astype(np.float64)
    return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def converted(arguments: Arguments, convert: Callable[[np.ndarray], Any]) -> Arguments:
    """The arguments with every array of numbers converted; integers are indices and stay on the host."""

    def of(value: Any) -> Any:
        number = isinstance(value, np.ndarray) and (value.dtype.kind == "f" or value.dtype == np.uint16)
        return convert(value) if number else value

    options = {name: of(value) for name, value in arguments.options.items()}
    return Arguments([of(a) for a in arguments.arrays], options, [of(g) for g in arguments.cotangents])


# ----- who computes


def of_operation(operation: str, body: Callable[..., Any]) -> Bind:
    """A contestant from a function that returns (output, vjp), in the three forms that a vjp may have."""

    def bind(arguments: Arguments, direction: str) -> Call:
        arrays, options, cotangents = arguments

        def forward() -> Sequence[Any]:
            y, _ = body(*arrays, **options)
            return y if isinstance(y, tuple) else (y,)

        if direction == "forward":
            return forward
        y, vjp = body(*arrays, **options)
        g = tuple(cotangents) if isinstance(y, tuple) else cotangents[0]
        positions = OPERATIONS[operation].positions
        needs = tuple(i < len(arrays) and arrays[i] is not None for i in positions)

        def backward() -> Sequence[Any]:
            if isinstance(vjp, tuple):
                return [f(g) for f, need in zip(vjp, needs, strict=True) if need and f is not None]
            gradients = (vjp(g),) if len(needs) == 1 else vjp(g, needs)
            return [d for d, need in zip(gradients, needs, strict=True) if need]

        return backward

    return bind


ADAMW: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
"""A large learning rate, so that the step shows beside the parameter when results are compared."""


def adamw_textbook(arguments: Arguments, direction: str) -> Call:
    """Kingma and Ba's algorithm 1 with decoupled decay, one parameter after the other, as one writes it down."""
    parameters = [p.copy() for p in arguments.arrays]
    wide = np.promote_types(parameters[0].dtype, np.float32)
    m, v = ([p.astype(wide) * 0 for p in parameters] for _ in range(2))
    (b1, b2), lr, eps, decay = ADAMW["betas"], ADAMW["lr"], ADAMW["eps"], ADAMW["weight_decay"]
    t = 0

    def step() -> Sequence[Any]:
        nonlocal t
        t += 1
        for i, (p, g) in enumerate(zip(parameters, gradients_of_step(arguments, t), strict=True)):
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g * g
            if p.ndim > 1:
                p *= 1 - lr * decay
            p -= (lr * (m[i] / (1 - b1**t)) / ((v[i] / (1 - b2**t)) ** 0.5 + eps)).astype(p.dtype)
        return parameters

    return step


def gradients_of_step(arguments: Arguments, t: int) -> list[Any]:
    """The gradients of step t: one of two sets in turns, so that the moments matter."""
    half = len(arguments.cotangents) // 2
    return arguments.cotangents[:half] if t % 2 else arguments.cotangents[half:]


def adamw_blocked(arguments: Arguments, direction: str) -> Call:
    """minilm.optim.AdamW: all parameters in a row, block by block."""
    tensors = [Tensor(p.copy(), requires_grad=True) for p in arguments.arrays]
    optimizer = AdamW(tensors, **ADAMW)
    sets = [[Tensor(g) for g in gradients_of_step(arguments, t)] for t in (0, 1)]
    t = 0

    def step() -> Sequence[Any]:
        nonlocal t
        t += 1
        for tensor, gradient in zip(tensors, sets[t % 2], strict=True):
            tensor.grad = gradient
        optimizer.step()
        return [tensor.data for tensor in tensors]

    return step


def adamw_kernel(operation: str, kernel: Callable[..., Any]) -> Bind:
    """The one launch for all parameters, without the optimizer around it."""

    def bind(arguments: Arguments, direction: str) -> Call:
        parameters = [p.copy() for p in arguments.arrays]
        sizes = [p.size for p in parameters]
        starts = [sum(sizes[:slot]) for slot in range(len(sizes))]
        flat = parameters[0].reshape(-1)[:1].astype("float32").repeat(sum(sizes))
        m, v = flat * 0, flat * 0
        update, t = kernel(starts, sizes, m, v), 0

        def step() -> Sequence[Any]:
            nonlocal t
            t += 1
            settings = [
                (t, ADAMW["lr"], ADAMW["betas"], ADAMW["eps"], ADAMW["weight_decay"] if p.ndim > 1 else 0.0)
                for p in parameters
            ]
            update(parameters, gradients_of_step(arguments, t), settings)
            return parameters

        return step

    return bind

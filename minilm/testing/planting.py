"""Wrong on purpose: a checker that has never rejected anything proves nothing.

    with planted("softmax", "scaled"):
        gradcheck(functional.softmax, [x])      # must raise GradientError

Each corruption is a mistake that people make: a factor, a sign, a term or an index left out, a cotangent forgotten.
Only the vjp is changed, never the value, and only while the block runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from minilm import backend
from minilm.backend import Array, xp
from minilm.tensor import OPERATIONS

Compute = Callable[[Any], Array]


def _drop_largest(compute: Compute, g: Any) -> Array:
    d = compute(g)
    if not d.size:
        return d
    m = xp(d)
    flat = d.reshape(-1)
    return m.where(m.arange(d.size) == m.argmax(m.abs(flat)), 0, flat).reshape(d.shape)


def _reverse(compute: Compute, g: Any) -> Array:
    d = compute(g)
    return d.reshape(-1)[::-1].reshape(d.shape)


def _ones(compute: Compute, g: Any) -> Array:
    return compute(tuple(xp(part).ones_like(part) for part in g) if isinstance(g, tuple) else xp(g).ones_like(g))


CORRUPTIONS: dict[str, Callable[[Compute, Any], Array]] = {
    "scaled": lambda compute, g: compute(g) * 1.01,
    "shifted": lambda compute, g: compute(g) + 0.001,
    "negated": lambda compute, g: -compute(g),
    "zero": lambda compute, g: compute(g) * 0,
    "reversed": _reverse,
    "one left out": _drop_largest,
    "cotangent forgotten": _ones,
}
"""By name: a function of (compute, g), where compute(g) is the right gradient, to the wrong one."""


@contextlib.contextmanager
def planted(
    operation: str, corruption: str | Callable[[Compute, Any], Array], input: int = 0
) -> Iterator[list[bool]]:
    """Within the block, the gradient of one input of an operation is wrong.

    Args:
        operation: its name in `minilm.tensor.OPERATIONS`.
        corruption: a name in `CORRUPTIONS`, or such a function.
        input: which array parameter's gradient, counted as the vjps of the operation are.

    Yields:
        a list that receives, for each time the gradient was computed, whether the corruption changed it.

    Raises:
        ValueError: for an unknown operation or corruption.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"no operation is named {operation!r}: choose from {', '.join(sorted(OPERATIONS))}")
    if isinstance(corruption, str) and corruption not in CORRUPTIONS:
        raise ValueError(f"no corruption is named {corruption!r}: choose from {', '.join(CORRUPTIONS)}")
    corrupt = CORRUPTIONS[corruption] if isinstance(corruption, str) else corruption
    changes: list[bool] = []

    def wrong(compute: Compute, g: Any) -> Array:
        right, result = xp(_first(g)).asarray(compute(g)), xp(_first(g)).asarray(corrupt(compute, g))
        changes.append(right.shape != result.shape or bool((right != result).any()))
        return result.astype(right.dtype)

    def corrupted(body: Callable[..., Any]) -> Callable[..., Any]:
        def with_wrong_vjp(*args: Any, **kwargs: Any) -> Any:
            y, vjp = body(*args, **kwargs)
            return y, _corrupted_vjp(vjp, wrong, input)

        return with_wrong_vjp

    registered = OPERATIONS[operation]
    body, kernel = registered.body, backend.kernel_for(operation)
    registered.body = corrupted(body)
    if kernel is not None:
        backend._kernels[operation] = corrupted(kernel)
    try:
        yield changes
    finally:
        registered.body = body
        if kernel is not None:
            backend._kernels[operation] = kernel


def _first(g: Any) -> Array:
    return g[0] if isinstance(g, tuple) else g


def _corrupted_vjp(vjp: Any, wrong: Callable[[Compute, Any], Array], input: int) -> Any:
    """A vjp of the same form (see `minilm.tensor.Operation`) in which one gradient goes through `wrong`."""
    if isinstance(vjp, tuple):
        if input >= len(vjp) or vjp[input] is None:
            return vjp
        return (*vjp[:input], lambda g: wrong(vjp[input], g), *vjp[input + 1 :])

    def joint(g: Any, *needs: tuple[bool, ...]) -> Any:
        if not needs:
            return wrong(vjp, g)
        gradients = vjp(g, *needs)
        if input >= len(gradients) or gradients[input] is None:
            return gradients
        return (*gradients[:input], wrong(lambda g: vjp(g, *needs)[input], g), *gradients[input + 1 :])

    return joint

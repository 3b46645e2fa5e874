"""Questions about elements: comparisons, argmax and argmin. Their answers are constants; no gradient flows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minilm.backend import is_array, xp
from minilm.tensor import Tensor, unwrap


def _compare(name: str) -> Callable[[Any, Any], Tensor]:
    def compare(a: Any, b: Any) -> Tensor:
        a, b = unwrap(a), unwrap(b)
        m = xp(*(v for v in (a, b) if is_array(v)))
        try:
            return Tensor.wrap(m.asarray(getattr(m, name)(a, b)))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    compare.__name__ = name
    compare.__doc__ = f"numpy.{name} of two tensors (or a tensor and a number): a bool Tensor, broadcast."
    return compare


equal = _compare("equal")
not_equal = _compare("not_equal")
less = _compare("less")
less_equal = _compare("less_equal")
greater = _compare("greater")
greater_equal = _compare("greater_equal")


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """int64 index of the (first) largest element along `axis`, or of the flattened x."""
    m = xp(x.data)
    return Tensor.wrap(m.asarray(m.argmax(x.data, axis=axis, keepdims=keepdims)))


def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """int64 index of the (first) smallest element along `axis`, or of the flattened x."""
    m = xp(x.data)
    return Tensor.wrap(m.asarray(m.argmin(x.data, axis=axis, keepdims=keepdims)))

"""Dropout (Srivastava et al. 2014): leave out each element with probability p and scale up the rest.

y = x m / (1 - p), with m the mask of 0 and 1;  dx = g m / (1 - p). The expected value of y is x, so nothing is done
outside training. The mask comes from the counter-based stream of the generator (see minilm.random).
"""

from __future__ import annotations

from typing import Any

from minilm.backend import Array, xp
from minilm.random import Generator, current_generator
from minilm.tensor import differentiable


def check_probability(p: float) -> None:
    """Raise ValueError unless p is a probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"the probability of dropping an element is from 0 to 1, got {p}")


def dropout_factors(shape: tuple[int, ...], p: float, like: Array, generator: Generator | None) -> Array:
    """m / (1 - p) in the dtype of `like`: what an element is multiplied by, 0 if it is dropped."""
    if p == 1:
        return xp(like).zeros(shape, dtype=like.dtype)
    keep = (generator or current_generator()).keep_mask(shape, p, like)
    return keep * like.dtype.type(1 / (1 - p))


@differentiable
def dropout(x: Array, p: float, training: bool, generator: Generator | None = None) -> Any:
    """x with each element 0 with probability p and the others divided by 1 - p; x itself if not `training`."""
    check_probability(p)
    if not training or p == 0:
        return x, lambda g: g
    factors = dropout_factors(x.shape, p, x, generator)
    return x * factors, lambda g: g * factors

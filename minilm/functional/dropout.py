"""Dropout (Srivastava et al. 2014): leave out each element with probability p and scale up the rest.

    y = x m / (1 - p),   dx = g m / (1 - p)      m, of the shape of x, is 0 with probability p, else 1

y is x times constants, and so is the vjp. The expected value of m is 1 - p, and that of y is x, so nothing is done
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
    """y = x m / (1 - p);  dx = g m / (1 - p). With m the mask, 0 with probability p, else 1; y = x if not `training`.

    y has the shape of x. The mask is drawn anew at each call, and kept for the vjp.
    """
    check_probability(p)
    if not training or p == 0:
        return x, lambda g: g
    factors = dropout_factors(x.shape, p, x, generator)
    return x * factors, lambda g: g * factors

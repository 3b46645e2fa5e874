"""Rotary positions (Su et al. 2021, "RoFormer", equation 34): pairs of channels turn by angles that grow with t.

    y1 = x1 cos φ - x2 sin φ,   y2 = x2 cos φ + x1 sin φ,   φ = t θ^(-2i/D)      for pair i at position t

so that <y_t, y_s> depends on t - s alone. With the angle a constant this is a product with a matrix, and the vjp the
product with its transpose. A rotation's transpose is the rotation back, the same operation with -sin:

    dx1 = g1 cos φ + g2 sin φ,   dx2 = g2 cos φ - g1 sin φ

The two published layouts differ in which channels make a pair: i and i + D/2 (halves: GPT-NeoX, Llama in
Hugging Face's form), or 2i and 2i + 1 (interleaved: the paper, llama2.c, GGUF files of Llama).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.backend import Array, xp
from minilm.tensor import differentiable


def rotary_angles(T: int, D: int, theta: float = 10000.0, dtype: Any = "float32") -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, each (T, D/2), of the angles t θ^(-2i/D); computed in float64 and rounded once."""
    if D % 2:
        raise ValueError(f"rotary positions turn pairs of channels: the head width must be even, got {D}")
    angles = np.arange(T)[:, None] * theta ** (-np.arange(0, D, 2) / D)
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)


def _pairs(x: Array, interleaved: bool) -> tuple[Array, Array]:
    """Views of the first and of the second channel of every pair."""
    half = x.shape[-1] // 2
    return (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])


def _rotate(x: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    y = xp(x).empty_like(x)
    x1, x2 = _pairs(x, interleaved)
    y1, y2 = _pairs(y, interleaved)
    y1[...] = x1 * cos - x2 * sin
    y2[...] = x2 * cos + x1 * sin
    return y


@differentiable
def rotary_embedding(x: Array, cos: Any, sin: Any, interleaved: bool = False) -> Any:
    """Turn the pairs of channels of x by the angles whose cosine and sine are given (constants).

    The module's docstring has the formula and its vjp. y has the shape of x.

    Args:
        x: (..., T, D), D even.
        cos, sin: (T, D/2), or any shape that broadcasts to (..., T, D/2).
        interleaved: which channels make a pair; see above.
    """
    m = xp(x)
    cos, sin = m.asarray(cos, dtype=x.dtype), m.asarray(sin, dtype=x.dtype)
    if x.ndim < 2 or x.shape[-1] % 2 or cos.shape[-1] != x.shape[-1] // 2 or cos.shape != sin.shape:
        raise ValueError(
            f"x (..., T, D) {x.shape} with an even D needs cos and sin of D/2 channels each, "
            f"got {cos.shape} and {sin.shape}"
        )
    return _rotate(x, cos, sin, interleaved), lambda g: _rotate(g, cos, -sin, interleaved)

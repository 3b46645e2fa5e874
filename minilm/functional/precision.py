"""float16 in, float16 out, float32 in between.

float16 has 11 bits and ends at 65504: the square of 300 is infinite in it, a sum of 3000 ones stops at 2048. What
norms, softmax and losses put out fits; what they compute on the way does not. The operations that this concerns are
written once, plainly, and wrapped here (products of matrices need it not: they add up in float32 by themselves).

What this file does not do: bfloat16 (see minilm.kernels), and the scale of the loss (minilm.training.mixed_precision).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy as np

from minilm.backend import is_array

P = ParamSpec("P")


def _converted(value: Any, dtype: str) -> Any:
    """Floating arrays (and NumPy's scalars) in a dtype, in tuples too; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(_converted(v, dtype) for v in value)
    if (is_array(value) or isinstance(value, np.generic)) and value.dtype.kind == "f":
        return value.astype(dtype)
    return value


def _wrapped(vjp: Any) -> Any:
    """A vjp of any of the three forms (see minilm.tensor.Operation) with float16 outside."""
    if isinstance(vjp, tuple):
        return tuple(_wrapped(f) for f in vjp)
    return lambda g, *needs: _converted(vjp(_converted(g, "float32"), *needs), "float16")


def in_float32(body: Callable[P, Any]) -> Callable[P, Any]:
    """Let the body of an operation compute in float32 where its inputs, the first of them foremost, are float16."""

    @functools.wraps(body)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
        if args[0].dtype.char != "e":  # type: ignore[attr-defined]
            return body(*args, **kwargs)
        wide = {name: _converted(value, "float32") for name, value in kwargs.items()}
        y, vjp = body(*_converted(args, "float32"), **wide)
        return _converted(y, "float16"), _wrapped(vjp)

    return wrapped

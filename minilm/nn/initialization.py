"""Where weights start. Each function returns a Parameter drawn from the current generator (minilm.random).

- `uniform_fan_in`: U(-1/sqrt(n), 1/sqrt(n)), n inputs (LeCun et al. 1998, "Efficient backprop"; PyTorch's Linear).
- `normal`, and `normal_` in place: N(0, std²); std 0.02 is GPT-2's and BERT's (Radford et al. 2018; Devlin et al.
  2019).
- `xavier_uniform`: U(-a, a), a = sqrt(6 / (n_in + n_out)) (Glorot & Bengio 2010, equation 16; the Transformer's).
- `zeros`, `ones`: biases and the scales of norms.
"""

from __future__ import annotations

import math

import numpy as np

from minilm.backend import Array, asarray
from minilm.nn.module import Parameter
from minilm.random import current_generator


def _parameter(array: Array) -> Parameter:
    """A Parameter on the array itself: nobody else holds it, and a copy of a large table would cost its size."""
    parameter = Parameter.__new__(Parameter)
    parameter._set(array, True)
    return parameter


def uniform_fan_in(shape: tuple[int, ...], fan_in: int) -> Parameter:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), float32."""
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    return _parameter(current_generator().uniform(shape, -bound, bound))


def normal(shape: tuple[int, ...], std: float) -> Parameter:
    """N(0, std²), float32."""
    return _parameter(current_generator().normal(shape, 0.0, std))


def normal_(parameter: Parameter, std: float) -> None:
    """Start again, from N(0, std²): for a model with a rule of its own for layers that have drawn their weights."""
    current_generator().fill_normal(parameter.data, 0.0, std)


def xavier_uniform(shape: tuple[int, int]) -> Parameter:
    """Uniform on (-a, a) with a = sqrt(6 / (rows + columns)), float32."""
    bound = math.sqrt(6 / (shape[0] + shape[1]))
    return _parameter(current_generator().uniform(shape, -bound, bound))


def zeros(shape: tuple[int, ...]) -> Parameter:
    """All 0, float32."""
    return _parameter(asarray(np.zeros(shape, dtype="float32")))


def ones(shape: tuple[int, ...]) -> Parameter:
    """All 1, float32."""
    return _parameter(asarray(np.ones(shape, dtype="float32")))

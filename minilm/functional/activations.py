"""The nonlinearities of Transformers: GELU, SiLU and the gated SwiGLU. (relu, tanh, sigmoid are in elementwise.)"""

from __future__ import annotations

import math
from typing import Any

from minilm.backend import Array, xp
from minilm.functional.elementwise import sigmoid_array
from minilm.functional.erf import erf_array
from minilm.functional.precision import in_float32
from minilm.tensor import differentiable, elementwise


@differentiable
@in_float32
def gelu(x: Array, approximate: str = "none") -> Any:
    """y = x Φ(x);  dx = g (Φ(x) + x φ(x)). With Φ the normal distribution function, φ = Φ' (Hendrycks & Gimpel 2016).

    `approximate` says how Φ is computed, and so what φ is; with t = tanh u, φ comes from t' = (1 - t²) u':

        none    Φ(x) = (1 + erf(x / √2)) / 2,   φ(x) = e^(-x²/2) / √(2π)
        tanh    Φ(x) ≈ (1 + t) / 2,   u = √(2/π) (x + 0.044715 x³)
                φ(x) ≈ (1 - t²) u' / 2,   u' = √(2/π) (1 + 3 · 0.044715 x²)

    BERT uses the exact form, GPT-2 the tanh form. y has the shape of x.
    """
    m = xp(x)
    if approximate == "none":
        cdf = (erf_array(x * math.sqrt(0.5)) + 1) * 0.5
        return x * cdf, lambda g: g * (cdf + x * m.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)))
    if approximate != "tanh":
        raise ValueError(f"approximate is 'none' (exact) or 'tanh', got {approximate!r}")
    c = math.sqrt(2 / math.pi)
    square = x * x
    t = m.tanh(x * (c + (c * 0.044715) * square))

    def dx(g: Array) -> Array:
        slope = x * (1 - t * t)
        slope *= c + (3 * c * 0.044715) * square
        slope += t
        slope += 1
        slope *= 0.5
        slope *= g
        return slope

    return 0.5 * x * (1 + t), dx


@elementwise
def silu(x: Array) -> Any:
    """y = x σ(x);  dx = g σ(x) (1 + x (1 - σ(x))).

    The product rule, with σ the sigmoid and σ' = σ (1 - σ). y has the shape of x (Elfwing et al. 2017; "swish").
    """
    s = sigmoid_array(x)
    return x * s, lambda g: g * (s * (1 + x * (1 - s)))


@elementwise
def swiglu(gate: Array, value: Array) -> Any:
    """y = silu(gate) value;  dgate = g value σ (1 + gate (1 - σ)),  dvalue = g silu(gate).

    The product rule, with σ the sigmoid of gate and the derivative of `silu`. gate and value have one shape, or
    broadcast (Shazeer 2020, "GLU variants improve Transformer").
    """
    s = sigmoid_array(gate)
    return gate * s * value, (lambda g: g * value * (s * (1 + gate * (1 - s))), lambda g: g * (gate * s))

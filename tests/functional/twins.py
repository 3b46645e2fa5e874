"""Composed twins: every fused operation again, as its textbook formula made of elementary Tensor operations.

A fused operation has a vjp that was derived by hand; its twin gets its gradient from the rules of +, *, exp and the
like, which are checked on their own. `assert_equals_twin`
demands that both agree in the value and in every gradient: to 1e-12 in float64, to a few eps in float32.

The twins care for clarity alone: no maximum is taken out of a softmax, one-hot matrices stand for look-ups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor
from minilm.random import Generator
from minilm.testing.samples import LAYOUTS, with_layout


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """e^x_i / sum_j e^x_j."""
    e = x.exp()
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """x_i - log sum_j e^x_j."""
    return x - x.exp().sum(axis=axis, keepdims=True).log()


def cross_entropy(
    logits: Tensor, target: np.ndarray, ignore_index: int, label_smoothing: float, reduction: str
) -> Tensor:
    """-sum_j q_j log p_j, q the smoothed one-hot rows, over the places that count."""
    V = logits.shape[-1]
    counts = target != ignore_index
    onehot = np.eye(V)[np.where(counts, target, 0)]
    q = (1 - label_smoothing) * onehot + label_smoothing / V
    q = (q * counts[..., None]).astype(logits.dtype)
    loss = -(log_softmax(logits) * q).sum(axis=-1)
    if reduction == "none":
        return loss
    return loss.sum() / int(counts.sum()) if reduction == "mean" else loss.sum()


def copy_logits(logits: Tensor, scores: Tensor, ids: np.ndarray) -> Tensor:
    """log(e^l_w + sum_i e^c_i [s_i = w]), the bracket as a one-hot matrix of the source."""
    onehot = np.eye(logits.shape[-1], dtype=logits.dtype)[ids]
    return (logits.exp() + scores.exp() @ Tensor(onehot)).log()


def layer_norm(x: Tensor, axes: tuple[int, ...], weight: Any, bias: Any, eps: float) -> Tensor:
    """(x - mean) / sqrt(mean of (x - mean)^2 + eps), scaled and shifted."""
    centred = x - x.mean(axis=axes, keepdims=True)
    y = centred / ((centred**2).mean(axis=axes, keepdims=True) + eps).sqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(x: Tensor, axes: tuple[int, ...], weight: Any, eps: float) -> Tensor:
    """x / sqrt(mean of x^2 + eps), scaled."""
    y = x / ((x**2).mean(axis=axes, keepdims=True) + eps).sqrt()
    return y if weight is None else y * weight


def gelu(x: Tensor, approximate: str) -> Tensor:
    """x times the normal distribution function, or its tanh approximation."""
    if approximate == "none":
        return 0.5 * x * (1 + F.erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())


def silu(x: Tensor) -> Tensor:
    """x / (1 + e^-x)."""
    return x / (1 + (-x).exp())


def swiglu(gate: Tensor, value: Tensor) -> Tensor:
    """silu(gate) value."""
    return silu(gate) * value


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y_o = sum_i x_i W_oi + b_o, as one broadcast product."""
    y = (F.expand_dims(x, -2) * weight).sum(axis=-1)
    return y if bias is None else y + bias


def embedding(ids: np.ndarray, weight: Tensor) -> Tensor:
    """A row of the identity for each id, times the table."""
    return Tensor(np.eye(weight.shape[0], dtype=weight.dtype)[ids]) @ weight


def rotary_embedding(x: Tensor, cos: np.ndarray, sin: np.ndarray, interleaved: bool) -> Tensor:
    """R_t x_t with the rotation matrices R_t, (D, D) each, of the paper's equation 34 written out."""
    T, half = cos.shape
    R = np.zeros((T, 2 * half, 2 * half))
    for i in range(half):
        first, second = (2 * i, 2 * i + 1) if interleaved else (i, i + half)
        R[:, first, first], R[:, first, second] = cos[:, i], -sin[:, i]
        R[:, second, first], R[:, second, second] = sin[:, i], cos[:, i]
    return (Tensor(R.astype(x.dtype)) @ F.expand_dims(x, -1)).squeeze(-1)


def dropout(x: Tensor, p: float, seed: int) -> Tensor:
    """x times the mask that a generator of this seed draws, over 1 - p."""
    return x * Generator(seed).keep_mask(x.shape, p).astype(x.dtype) / (1 - p)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any = None,
    is_causal: bool | str = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """P V with P_ij = a_ij e^(S_ij) / sum_j a_ij e^(S_ij), a_ij = 1 where query i may see key j, else 0.

    A row without any such key has P = 0. Key heads are repeated for grouped queries.
    """
    (Tq, D), Tk = query.shape[-2:], key.shape[-2]
    if query.ndim > 2 and query.shape[-3] != key.shape[-3]:
        heads = np.arange(query.shape[-3]) // (query.shape[-3] // key.shape[-3])
        key, value = key[..., heads, :, :], value[..., heads, :, :]
    S = (query @ key.swapaxes(-1, -2)) * (1 / math.sqrt(D) if scale is None else scale)
    a = np.ones((Tq, Tk), dtype=bool)
    if is_causal:
        offset = Tk - Tq if is_causal == "lower_right" else 0
        a = np.arange(Tk)[None, :] <= np.arange(Tq)[:, None] + offset
    if mask is not None and mask.dtype.kind == "b":
        a = a & mask
    elif mask is not None:
        S = S + mask
    e = S.exp() * a.astype(S.dtype)
    total = e.sum(axis=-1, keepdims=True)
    P = e / F.where(total.data == 0, 1.0, total)
    if dropout_p:
        P = dropout(P, dropout_p, seed)
    return P @ value


# ----- drawing inputs and comparing


@dataclass(frozen=True)
class Drawn:
    """Values that float32 holds exactly, and where they shall lie in memory."""

    values: np.ndarray
    layout: str = "C"

    def tensor(self, dtype: str) -> Tensor:
        """A new leaf; wrapped, since a copy would lose the layout."""
        array = np.asarray(self.values, dtype=dtype)
        tensor = Tensor.wrap(with_layout(array, self.layout) if array.ndim else array.copy())
        tensor.requires_grad = True
        return tensor


def normals(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Normal variates cut off at 3, rounded to float32."""
    values = np.asarray(np.random.default_rng(seed).normal(size=shape))
    return np.asarray(np.clip(values, -3, 3), dtype="float32").astype("float64")


@st.composite
def drawn(draw: Any, shape: tuple[int, ...]) -> Drawn:
    """An input of this shape, in any memory layout."""
    return Drawn(normals(shape, draw(st.integers(0, 2**32 - 1))), draw(st.sampled_from(LAYOUTS)))


def shapes(min_axes: int = 0, max_axes: int = 3, smallest: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    """Small shapes, axes of length 0 and 1 among them."""
    return st.lists(st.integers(smallest, 4), min_size=min_axes, max_size=max_axes).map(tuple)


def value_and_gradients(
    function: Callable[..., Tensor], inputs: list[Tensor], cotangent_seed: int = 7
) -> list[np.ndarray]:
    """The value of a function of Tensors, and the gradient of each for one random cotangent."""
    y = function(*inputs)
    assert y.dtype == inputs[0].dtype
    y.backward(normals(y.shape, cotangent_seed).astype(y.dtype))
    assert all(x.grad is not None and x.grad.dtype == x.dtype for x in inputs)
    return [y.numpy(), *(x.grad.numpy() for x in inputs)]


def assert_equals_twin(
    fused: Callable[..., Tensor], twin: Callable[..., Tensor], *inputs: Drawn, few: float = 64
) -> None:
    """Value and gradients agree to 1e-12 in float64, and to `few` eps in float32 (with the twin in float64)."""
    expected = value_and_gradients(twin, [x.tensor("float64") for x in inputs])
    for dtype, tolerance in (("float64", 1e-12), ("float32", few * float(np.finfo("float32").eps))):
        computed = value_and_gradients(fused, [x.tensor(dtype) for x in inputs])
        for i, (array, exact) in enumerate(zip(computed, expected, strict=True)):
            what = "the value" if i == 0 else f"the gradient of input {i - 1}"
            scale = max(1.0, float(np.abs(exact).max(initial=0.0)))
            np.testing.assert_allclose(
                array, exact, rtol=0, atol=tolerance * scale, err_msg=f"{what} differs in {dtype}"
            )

"""Cross-entropy between logits and the index of the right class, in one operation.

With p = softmax(x) over the V classes and the right class t:

    loss = -log p_t = log sum_j e^(x_j) - x_t,   dx_j = g (p_j - [j = t])

since the derivative of the log of the sum by x_j is p_j, and that of x_t is [j = t] (1 if true, else 0). Fused because
the composed form would store log p and its gradient, each as large as the logits.

Label smoothing (Szegedy et al. 2016, section 7) puts ε of the weight on all classes alike. The target becomes q,

    q_j = (1 - ε) [j = t] + ε / V,   loss = -sum_j q_j log p_j,   dx_j = g (p_j - q_j)

by the same two derivatives, since the q_j sum to 1.

Source: Goodfellow, Bengio & Courville 2016, "Deep Learning", section 6.2.2.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.backend import Array, is_array, xp
from minilm.functional.precision import in_float32
from minilm.functional.softmax import shifted
from minilm.tensor import differentiable


def _check_classes(flat: Array, V: int, ignore_index: int) -> int:
    """How many of the targets (N,) count; raise IndexError for one that is no class."""
    counts = flat != ignore_index
    wrong = counts & ((flat < 0) | (flat >= V))
    if wrong.any():
        i = int(wrong.argmax())
        raise IndexError(
            f"target {int(flat[i])} at flat position {i} is outside the {V} classes (0 to {V - 1}); "
            f"mark places that shall not count with {ignore_index}"
        )
    return int(counts.sum())


@differentiable
@in_float32
def cross_entropy(
    logits: Array,
    target: Any,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood of `target` under softmax(logits), in nats; the module's docstring derives the vjp.

    Args:
        logits: (..., V) floats; the class axis is the last one, always.
        target: (...) integers from 0 to V - 1, or `ignore_index`: such a place costs nothing and gets no gradient.
            NumPy's are checked on the host and then moved; to check targets that are on a device is to wait for it.
        label_smoothing: ε from 0 to 1.
        reduction: "mean" over the places that count, "sum", or "none" (the shape of target).

    Raises:
        ValueError: if the shapes do not fit, or if "mean" has no place to average over.
        IndexError: for a target outside the classes; names it and its place.
    """
    m = xp(logits)
    target = target if is_array(target) else np.asarray(target)
    V = logits.shape[-1] if logits.ndim else 0
    label_smoothing = float(label_smoothing)  # a NumPy float64 would make float64 of the loss
    if target.dtype.kind not in "iu":
        raise TypeError(f"targets are class indices, integers, not {target.dtype}: convert them with .astype('int64')")
    if target.shape != logits.shape[:-1]:
        raise ValueError(
            f"logits (..., V) {logits.shape} need a target of shape {logits.shape[:-1]}, got {target.shape}: "
            f"the class axis is the last one"
        )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is 'mean', 'sum' or 'none', got {reduction!r}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is from 0 to 1, got {label_smoothing}")

    flat = target.reshape(-1)  # (N,)
    n = _check_classes(flat, V, ignore_index)
    if reduction == "mean" and n == 0:
        raise ValueError(f"every target is {ignore_index} (ignored): there is nothing to average; use reduction='sum'")
    flat = m.asarray(flat)
    counts = flat != ignore_index
    rows, right = m.arange(flat.size), m.where(counts, flat, 0)
    shape = logits.shape  # what the vjp needs of them: as large as p, they are not to be kept

    x = shifted(logits.reshape(-1, V), -1)  # (N, V)
    x_target = x[rows, right]
    if label_smoothing:  # sum_j q_j x_j = (1 - ε) x_t + ε mean(x)
        x_target = (1 - label_smoothing) * x_target + label_smoothing * x.mean(-1)
    p = m.exp(x, out=x)
    total = p.sum(-1)
    total = m.where(total == 0, 1, total)  # a row of -inf: p is 0 there, as in softmax
    loss = m.where(counts, m.log(total) - x_target, 0)  # not times counts: the loss of an ignored row may be inf
    p /= total[:, None]

    def dx(g: Array) -> Array:
        weight = m.broadcast_to((g / n if reduction == "mean" else g).reshape(-1), rows.shape) * counts  # (N,)
        d = p * weight[:, None]
        d[rows, right] -= weight * (1 - label_smoothing)
        if label_smoothing:
            d -= (weight * (label_smoothing / V))[:, None]
        return d.reshape(shape)

    if reduction == "none":
        return loss.reshape(target.shape), dx
    return m.asarray(loss.sum(dtype=loss.dtype) / loss.dtype.type(n if reduction == "mean" else 1)), dx

"""Clipping by the global norm: one length for the gradient of all parameters together.

    norm = sqrt(sum over all parameters of |g|^2)
    g = g * min(1, max_norm / (norm + 1e-6))

(Pascanu, Mikolov & Bengio 2013, section 3.2, algorithm 1; the 1e-6 is PyTorch's.) The direction of the step
stays, its length is bounded: one batch with an exploding gradient, common in recurrent networks, cannot undo
the rest.

For NumPy's arrays the backend has kernels (minilm.kernels.gradient_norm) that go through all gradients on several
threads; the functions here go from one to the next.

On a device nothing here waits for it: `clip_gradients` leaves the norm there, as an array without axes, and multiplies
by a factor that is computed there. `clip_grad_norm_` and `grad_norm` are the same for those who want the number now,
which is one wait however many parameters there are.

What this file does not do: clipping by value, or of each parameter alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm.backend import Array, is_array, kernel_for, to_numpy, xp
from minilm.errors import ConfigurationError
from minilm.optim.optimizer import named_tensors

ROW = 8192
"""Elements in one dot product: few enough that float32 loses only its last digit, and that OpenBLAS takes one
thread, so that the norm does not depend on the number of threads."""


def _squared_norm(g: Array) -> Any:
    """|g|^2: dot products of short rows in the array's own precision, added up in float64.

    A float on the host; on a device a float64 array without axes.
    """
    flat = g.reshape(-1)
    if xp(g) is np:
        if flat.dtype == np.float16:
            flat = flat.astype(np.float32)
        whole = flat.size // ROW * ROW
        rows, rest = flat[:whole].reshape(-1, ROW), flat[whole:]
        total = float(rest @ rest)
        if whole:
            total += float(np.vecdot(rows, rows).sum(dtype=np.float64))
        if 1e-30 < total < math.inf:
            return total
    wide = flat.astype(np.float64)  # on a device, or since squares left the range of float32
    return float(wide @ wide) if xp(g) is np else wide @ wide


def _gradients(params: Any) -> list[Any]:
    return [p.grad for _, p in named_tensors(params) if p.grad is not None]


def _kernel(operation: str, gradients: list[Any]) -> Any:
    """The backend's kernel for all gradients at once; None if it is not for each of them."""
    kernels = {kernel_for(operation, gradient.data) for gradient in gradients}
    return kernels.pop() if len(kernels) == 1 else None


def _norm(gradients: list[Any]) -> Any:
    kernel = _kernel("squared_norm", gradients)
    if kernel is not None:
        return math.sqrt(kernel([gradient.data for gradient in gradients]))
    with np.errstate(over="ignore", invalid="ignore"):  # the result says it
        square = sum(_squared_norm(g.data) for g in gradients)
    return xp(square).sqrt(square) if is_array(square) else math.sqrt(square)


def _number(norm: Any) -> float:
    return float(to_numpy(norm)) if is_array(norm) else norm


def grad_norm(params: Any) -> float:
    """The 2-norm of the gradient of all parameters together, summed in float64; 0 where there is no gradient.

    Args:
        params: Tensors or (name, Tensor) pairs; one that occurs twice (a tied weight) counts once.
    """
    return _number(_norm(_gradients(params)))


def clip_gradients(params: Any, max_norm: float | None) -> Any:
    """`clip_grad_norm_` without waiting for a device: the norm is a float on the host, and there an array of no axes.

    With max_norm None nothing is clipped.
    """
    if max_norm is not None and not max_norm > 0:
        raise ConfigurationError(
            f"max_norm must be positive, not {max_norm}: leave the call out to clip nothing"
        )
    gradients = _gradients(params)
    norm = _norm(gradients)
    if max_norm is None:
        return norm
    if is_array(norm):  # the branch of the host, as arithmetic: a factor of 1 changes no bit
        m = xp(norm)
        factor = m.where(m.isfinite(norm), m.minimum(max_norm / (norm + 1e-6), 1), 1)
        for gradient in gradients:
            gradient.mul_(factor.astype(gradient.dtype))
        return norm
    factor = max_norm / (norm + 1e-6)
    if not (math.isfinite(norm) and factor < 1):
        return norm
    kernel = _kernel("scale", gradients)
    if kernel is not None:
        kernel([gradient.data for gradient in gradients], factor)
    for gradient in gradients:
        if kernel is None:
            gradient.mul_(factor)
        else:
            gradient.mark_changed()
    return norm


def clip_grad_norm_(params: Any, max_norm: float) -> float:
    """Scale all gradients in place, by one factor, so that their common norm is at most `max_norm`.

    Args:
        params: Tensors or (name, Tensor) pairs; one that occurs twice (a tied weight) counts once.
        max_norm: the bound; gradients that keep it are not touched.

    Returns:
        The norm before clipping. Where it is NaN or infinite the gradients are left as they are: a factor
        would spread the NaN and hide where it came from.

    Raises:
        ConfigurationError: if max_norm is not positive.
    """
    return _number(clip_gradients(params, max_norm))

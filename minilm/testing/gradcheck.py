"""Is this gradient right? Two answers, both by finite differences in float64.

With J the Jacobian of f at x, and v a cotangent of its output, backward computes Jᵀ v.

- `gradcheck` compares it element by element:  (Jᵀ v)_i  against  <v, f(x + eps e_i) - f(x - eps e_i)> / (2 eps).
  Two evaluations for each element of each input; the error names the element.
- `dual_test` compares one number:  <u, Jᵀ v>  against  <v, J u>, with J u the central difference along a random
  direction u. Two evaluations, whatever the size.

Neither can judge a kink: keep the inputs of relu, abs, max and the like away from it by more than eps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minilm.backend import Array, to_numpy, xp
from minilm.random import Generator
from minilm.tensor import Tensor, backpropagate, no_grad

# A central difference with step eps is off by about eps^2 f'''/6 (truncation) and 1e-16 |f| / eps (rounding): with
# eps = 1e-6 that is 1e-12 and 1e-10, for a function and derivatives of order one. The tolerances leave a factor of
# a thousand for sums and compositions, and still are a thousand times finer than a vjp that is wrong by one percent.
EPS = 1e-6
ATOL = 1e-7
RTOL = 1e-5


class GradientError(AssertionError):
    """A gradient that is wrong, or a function whose gradient cannot be trusted.

    Attributes:
        input: the position of the input, where one is to blame, else None.
        index: the element of that input, where one is to blame, else None.
        analytic: what backward gives, or None.
        numeric: what the finite difference gives, or None.
    """

    def __init__(
        self,
        message: str,
        input: int | None = None,
        index: tuple[int, ...] | None = None,
        analytic: float | None = None,
        numeric: float | None = None,
    ) -> None:
        super().__init__(message)
        self.input, self.index, self.analytic, self.numeric = input, index, analytic, numeric

    @property
    def ratio(self) -> float | None:
        """analytic / numeric: 2 suggests a term counted twice, -1 a sign, 0 a term that was left out."""
        if self.analytic is None or self.numeric is None:
            return None
        return _ratio(self.analytic, self.numeric)


def gradcheck(
    fn: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = EPS,
    atol: float = ATOL,
    rtol: float = RTOL,
    seed: int = 0,
) -> bool:
    """True if backward through `fn` agrees with central differences in every element of every input.

    Why a random cotangent v, and not `fn(x).sum()`? The sum is the cotangent of ones, and many wrong gradients are
    right for it: the rows of softmax add up to 1 and those of layer norm to 0, so their gradients of a sum vanish
    and zero passes; a transposed or shuffled gradient has the same sum; a vjp that forgets to multiply by g
    multiplies by 1. A random v leaves nowhere to hide.

    The inputs are changed in place by eps, one element at a time, and put back. So `fn` may also reach them by
    another way, as a layer reaches its parameters:  gradcheck(lambda *_: layer(x), layer.parameters()).

    Args:
        fn: called as fn(*inputs); returns a Tensor, or (nested) tuples of Tensors.
        inputs: what fn takes. The Tensors among them that require a gradient are checked: they must be leaves, and
            float64 (float32 has seven digits; half of them are lost in a difference). All else is passed on.
        eps: half of the step of the central difference.
        atol, rtol: an element passes if |analytic - numeric| <= atol + rtol max(|analytic|, |numeric|).
        seed: of the random cotangent.

    Raises:
        GradientError: naming the input, the index, both numbers and their ratio; or if fn is not deterministic,
            changes its inputs, gives a gradient of another shape or dtype, NaN or infinity, or another gradient at
            the second backward through the same graph.
        ValueError, TypeError: if no input can be checked, or one is not a float64 leaf.
    """
    worst_error(fn, inputs, eps, atol, rtol, seed)
    return True


def worst_error(
    fn: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = EPS,
    atol: float = ATOL,
    rtol: float = RTOL,
    seed: int = 0,
) -> float:
    """What `gradcheck` checks, as a number: the largest error in units of what is tolerated (at most 1)."""
    inputs = _listed(inputs)
    checked = _checked(inputs)
    cotangents, gradients = _backward(fn, inputs, checked, Generator(seed).spawn("cotangents"))
    worst = 0.0
    for position, gradient in gradients.items():
        x = inputs[position].data
        for index in np.ndindex(x.shape):
            kept = x[index].item()
            try:
                x[index] = kept + eps
                upper, above = x[index].item(), _evaluate(fn, inputs)
                x[index] = kept - eps
                lower, below = x[index].item(), _evaluate(fn, inputs)
            finally:
                x[index] = kept
            difference = _products(cotangents, above, below).sum()
            numeric = float(difference / (upper - lower))  # the step as it came out after rounding, not 2 eps
            analytic = float(gradient[index])
            error = abs(analytic - numeric) / (atol + rtol * max(abs(analytic), abs(numeric)))
            if not error <= 1:  # NaN included
                raise GradientError(
                    f"input {position} at index {index}: backward gives {analytic:.10g}, the finite difference "
                    f"{numeric:.10g} (ratio {_ratio(analytic, numeric):.6g}, error {error:.3g} times the tolerance)",
                    position,
                    index,
                    analytic,
                    numeric,
                )
            worst = max(worst, error)
    return worst


def dual_test(
    fn: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = EPS,
    atol: float = ATOL,
    rtol: float = RTOL,
    seed: int = 0,
) -> bool:
    """True if <v, J u> = <Jᵀ v, u> for a random cotangent v and a random direction u through all inputs at once.

    One number against one number: it says that something is wrong, not where; `gradcheck` says where. Arguments
    and errors are those of `gradcheck`; the relative tolerance counts from the norms of the terms of both sums.
    """
    inputs = _listed(inputs)
    checked = _checked(inputs)
    generator = Generator(seed)
    cotangents, gradients = _backward(fn, inputs, checked, generator.spawn("cotangents"))
    directions = generator.spawn("directions")
    kept = {position: inputs[position].data.copy() for position in checked}
    moved = {position: directions.normal(inputs[position].shape, dtype="float64") for position in checked}
    try:
        for position in checked:
            inputs[position].data[...] = kept[position] + eps * moved[position]
        above = _evaluate(fn, inputs)
        upper = {position: inputs[position].data.copy() for position in checked}
        for position in checked:
            inputs[position].data[...] = kept[position] - eps * moved[position]
        below = _evaluate(fn, inputs)
        # the step as it came out after rounding
        steps = {p: to_numpy(upper[p] - inputs[p].data) / (2 * eps) for p in checked}
    finally:
        for position in checked:
            inputs[position].data[...] = kept[position]
    forward = _products(cotangents, above, below) / (2 * eps)
    reverse = np.concatenate([(gradients[p] * steps[p]).reshape(-1) for p in checked])
    numeric, analytic = float(forward.sum()), float(reverse.sum())
    scale = float(np.linalg.norm(forward) + np.linalg.norm(reverse))  # the sums themselves may cancel
    if not abs(analytic - numeric) <= atol + rtol * scale:
        raise GradientError(
            f"dual test: <Jᵀv, u> by backward is {analytic:.10g}, <v, Ju> by the finite difference {numeric:.10g} "
            f"(ratio {_ratio(analytic, numeric):.6g}); gradcheck() on a small input says which element is wrong",
            analytic=analytic,
            numeric=numeric,
        )
    return True


# ----- the parts


def _ratio(analytic: float, numeric: float) -> float:
    return analytic / numeric if numeric else float("nan" if analytic == 0 else "inf")


def _listed(inputs: Tensor | Sequence[Any]) -> list[Any]:
    return [inputs] if isinstance(inputs, Tensor) else list(inputs)


def _checked(inputs: list[Any]) -> list[int]:
    """The positions of the inputs to check."""
    first = {id(x): i for i, x in reversed(list(enumerate(inputs)))}  # a Tensor given twice is checked once
    positions = [
        i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad and first[id(x)] == i
    ]
    if not positions:
        raise ValueError("nothing to check: none of the inputs is a Tensor with requires_grad=True")
    for i in positions:
        x = inputs[i]
        if x.dtype != np.float64:
            raise TypeError(
                f"input {i} is {x.dtype}: its digits do not suffice for a finite difference; "
                f"check with Tensor(array, requires_grad=True, dtype='float64')"
            )
        if not x.is_leaf:
            raise ValueError(f"input {i} is the result of a recorded operation: pass a Tensor of its own, a leaf")
    return positions


def _flatten(output: Any) -> list[Tensor]:
    """The floating-point Tensors in (nested) tuples, lists or dicts."""
    if isinstance(output, Tensor):
        return [output] if output.dtype.kind == "f" else []
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, tuple | list):
        return [tensor for part in output for tensor in _flatten(part)]
    if output is None:
        return []
    raise TypeError(f"the function must return Tensors, not {type(output).__name__}")


def _evaluate(fn: Callable[..., Any], inputs: list[Any]) -> list[np.ndarray]:
    with no_grad():
        return [to_numpy(y.data).copy() for y in _flatten(fn(*inputs))]


def _products(cotangents: list[np.ndarray], above: list[np.ndarray], below: list[np.ndarray]) -> np.ndarray:
    """The terms of <v, above - below>: differences first, so that large values cancel before they are summed."""
    return np.concatenate(
        [(v * (a - b)).reshape(-1) for v, a, b in zip(cotangents, above, below, strict=True)]
    )


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def _arrays(inputs: list[Any]) -> list[tuple[int, Array]]:
    """The arrays among the inputs, with their positions."""
    arrays = [(i, x.data if isinstance(x, Tensor) else x) for i, x in enumerate(inputs)]
    return [(i, x) for i, x in arrays if hasattr(x, "dtype") and hasattr(x, "shape")]


def _backward(
    fn: Callable[..., Any], inputs: list[Any], checked: list[int], generator: Generator
) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """Random cotangents of the outputs, and the gradient of each checked input by backward; no `.grad` is touched."""
    before = [to_numpy(x).copy() for _, x in _arrays(inputs)]

    def unchanged(what: str) -> None:
        for (i, x), old in zip(_arrays(inputs), before, strict=True):
            if not _same(to_numpy(x), old):
                raise GradientError(f"{what} changed its input {i} in place", i)

    outputs = _flatten(fn(*inputs))
    unchanged("the function")
    again = _evaluate(fn, inputs)
    if len(again) != len(outputs) or not all(
        _same(to_numpy(y.data), b) for y, b in zip(outputs, again, strict=True)
    ):
        raise GradientError(
            "the function is not deterministic: two calls on the same inputs gave different outputs; "
            "if it draws random numbers, make the generator anew inside it"
        )
    for k, y in enumerate(outputs):
        if y.dtype != np.float64:
            raise GradientError(f"output {k} is {y.dtype}, from float64 inputs: the dtype must not change")
        if not np.isfinite(to_numpy(y.data)).all():
            raise GradientError(f"output {k} holds NaN or infinity: finite differences do not apply there")

    cotangents = [generator.normal(y.shape, dtype="float64") for y in outputs]
    hosted = [to_numpy(v).copy() for v in cotangents]
    live = [k for k, y in enumerate(outputs) if y.requires_grad]
    given = [xp(outputs[k].data).asarray(cotangents[k]) for k in live]
    gradients, repeated = (
        _gradients(inputs, checked, [outputs[k] for k in live], given, retain) for retain in (True, False)
    )
    unchanged("backward")
    if not all(_same(to_numpy(v), hosted[k]) for k, v in zip(live, given, strict=True)):
        raise GradientError("a vjp changed the cotangent in place: it must leave g as it is")
    for i in checked:
        if not _same(gradients[i], repeated[i]):
            raise GradientError(
                f"input {i}: the second backward through the same graph gave another gradient: "
                f"a vjp changes the arrays that it holds",
                i,
            )
    return hosted, gradients


def _gradients(
    inputs: list[Any], checked: list[int], outputs: list[Tensor], cotangents: list[Array], retain_graph: bool
) -> dict[int, np.ndarray]:
    found = {id(leaf): array for leaf, array in backpropagate(outputs, cotangents, retain_graph)}
    gradients = {}
    for i in checked:
        x = inputs[i]
        gradient = to_numpy(found[id(x)]) if id(x) in found else np.zeros(x.shape)  # zero: it has no influence
        if gradient.shape != x.shape or gradient.dtype != x.dtype:
            raise GradientError(
                f"input {i} is {x.shape} {x.dtype}, its gradient {gradient.shape} {gradient.dtype}", i
            )
        if not np.isfinite(gradient).all():
            index = tuple(int(k[0]) for k in np.nonzero(~np.isfinite(gradient)))
            raise GradientError(f"input {i} at index {index}: backward gives {gradient[index]}", i, index)
        gradients[i] = gradient
    return gradients

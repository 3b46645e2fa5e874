"""For every registered operation, calls on which its gradient is checked.

A `Sample` is a function of Tensors together with the inputs to draw for it. `SAMPLES` holds a few for each operation
(samples_elementary and samples_fused fill it): broadcasting, every form of an axis, sizes one and none, memory that
is not contiguous, and the options of the operation. A test fails for an operation without one.

`check_operations` is the command `minilm gradcheck`; `check_samples` does the same for calls of your own:

    layer = Linear(3, 2)
    check_samples([Sample("Linear", "two rows", layer, (leaf(2, 3),))])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minilm.functional  # noqa: F401 - registers the operations
from minilm.backend import current_backend
from minilm.random import Generator
from minilm.tensor import OPERATIONS, Tensor
from minilm.testing.gradcheck import ATOL, EPS, RTOL, worst_error

LAYOUTS = ("C", "F", "reversed", "strided")
"""Where the elements lie in memory: rows first, columns first, back to front, every second one of a larger array."""


def with_layout(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values in memory of their own, in one of `LAYOUTS`."""
    if layout == "C":
        return np.ascontiguousarray(array).reshape(array.shape)  # it makes one axis out of none
    if layout == "F":
        return np.asfortranarray(array).reshape(array.shape)
    if layout == "reversed":
        backwards: Any = (*(slice(None, None, -1),) * array.ndim, ...)
        return array[backwards].copy(order="C")[backwards]
    if layout == "strided":
        large = np.full([2 * n + 1 for n in array.shape], 7, dtype=array.dtype)
        between: Any = (*(slice(1, None, 2),) * array.ndim, ...)  # `...`: a view, also with no axes
        view = large[between]
        view[...] = array
        return view
    raise ValueError(f"layout is one of {', '.join(LAYOUTS)}, got {layout!r}")


@dataclass(frozen=True)
class Leaf:
    """An input to draw: its shape, and what it must stay away from."""

    shape: tuple[int, ...]
    kind: str = "normal"
    layout: str = "C"
    requires_grad: bool = True

    def draw(self, generator: Generator, dtype: Any = "float64", layout: str | None = None) -> Tensor:
        """A new Tensor, on the current backend."""
        values = with_layout(_KINDS[self.kind](generator, self.shape).astype(dtype), layout or self.layout)
        tensor = Tensor.wrap(current_backend().array_module().asarray(values))  # wrap: a copy would lose the layout
        tensor.requires_grad = self.requires_grad
        return tensor


def _apart(generator: Generator, shape: tuple[int, ...], shift: float = 0.0) -> np.ndarray:
    n = int(np.prod(shape))
    return ((generator.permutation(n) - n // 2) * 0.25 + 0.125 + shift).reshape(shape)


def _normal(generator: Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.clip(_host(generator.normal(shape, dtype="float64")), -3, 3)


def _positive(generator: Generator, shape: tuple[int, ...]) -> np.ndarray:
    return _host(generator.uniform(shape, 0.5, 2.0, dtype="float64"))


def _nonzero(generator: Generator, shape: tuple[int, ...]) -> np.ndarray:
    sign = np.where(_host(generator.uniform(shape, dtype="float64")) < 0.5, -1.0, 1.0)
    return sign * _positive(generator, shape)


def _host(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.get()


_KINDS: dict[str, Callable[[Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": _normal,  # within 3 of 0
    "positive": _positive,  # from 0.5 to 2
    "nonzero": _nonzero,  # 0.5 to 2 away from 0, on both sides
    "apart": _apart,  # no two equal, none at 0: far from every kink of max, relu, abs
    "apart too": lambda generator, shape: _apart(generator, shape, 0.06),  # nor equal to any that is "apart"
}


def leaf(*shape: int, kind: str = "normal", layout: str = "C", requires_grad: bool = True) -> Leaf:
    """An input of this shape; kinds: normal, positive, nonzero, apart (no ties, no zeros), "apart too"."""
    return Leaf(shape, kind, layout, requires_grad)


@dataclass(frozen=True)
class Sample:
    """A call to check: `fn(*inputs)`, where each `Leaf` among the inputs is drawn, and arrays become constant Tensors.

    Attributes:
        operation: what is checked: an operation's name, or a layer's.
        name: what is special about this call.
        fn: a function of Tensors that returns one, or (nested) tuples of them; deterministic.
        inputs: of `Leaf`, and of integer or boolean arrays.
    """

    operation: str
    name: str
    fn: Callable[..., Any]
    inputs: Sequence[Any]

    def draw(self, generator: Generator, dtype: Any = "float64", layout: str | None = None) -> list[Any]:
        """New inputs; the same ones for generators of the same state."""
        return [
            x.draw(generator, dtype, layout)
            if isinstance(x, Leaf)
            else Tensor.wrap(current_backend().array_module().asarray(x.copy()))
            if isinstance(x, np.ndarray)
            else x
            for x in self.inputs
        ]


@dataclass(frozen=True)
class Result:
    """What the check of one operation found.

    Attributes:
        operation: its name.
        samples: how many calls were checked.
        worst: the largest error of a gradient element, in units of the tolerance; infinite if a check failed.
        error: the first error's message, or None.
    """

    operation: str
    samples: int
    worst: float
    error: str | None

    @property
    def ok(self) -> bool:
        """True if every sample passed, and there was one."""
        return self.error is None


SAMPLES: dict[str, list[Sample]] = {}
"""For each operation's name, the calls on which to check it."""


def add_sample(operation: str, name: str, fn: Callable[..., Any], *inputs: Any) -> None:
    """Register a call for the checks of an operation."""
    SAMPLES.setdefault(operation, []).append(Sample(operation, name, fn, inputs))


def check_samples(
    samples: Iterable[Sample], seed: int = 0, eps: float = EPS, atol: float = ATOL, rtol: float = RTOL
) -> list[Result]:
    """Check each sample as `gradcheck` does; one Result for each operation (or layer), in order of appearance."""
    results: dict[str, Result] = {}
    for sample in samples:
        known = results.get(sample.operation, Result(sample.operation, 0, 0.0, None))
        worst, error = known.worst, known.error
        try:
            inputs = sample.draw(Generator(seed).spawn(f"{sample.operation}/{sample.name}"))
            worst = max(worst, worst_error(sample.fn, inputs, eps, atol, rtol, seed))
        except Exception as problem:  # whatever it is, it goes into the table, and the others are still checked
            worst, error = float("inf"), error or f"{sample.name}: {type(problem).__name__}: {problem}"
        results[sample.operation] = Result(sample.operation, known.samples + 1, worst, error)
    return list(results.values())


def check_operations(names: Iterable[str] | None = None, seed: int = 0) -> list[Result]:
    """Check the registered operations, or those named; one Result each, sorted by name.

    An operation without samples has not been checked, and is not ok.

    Raises:
        ValueError: for a name that is not registered.
    """
    chosen = sorted(OPERATIONS) if names is None else list(names)
    results = []
    for name in chosen:
        if name not in OPERATIONS:
            raise ValueError(f"no operation is named {name!r}: choose from {', '.join(sorted(OPERATIONS))}")
        samples = SAMPLES.get(name, [])
        missing = Result(name, 0, float("inf"), f"no sample: add one with minilm.testing.add_sample({name!r}, ...)")
        results.extend(check_samples(samples, seed) or [missing])
    return results


# They fill SAMPLES, and so need what is above.
from minilm.testing import samples_elementary, samples_fused  # noqa: E402, F401

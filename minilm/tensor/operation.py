"""Operation: a function on arrays, lifted to Tensors and recorded on the tape."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from types import MethodType
from typing import Any, ParamSpec

import numpy as np

from minilm.backend import Array, asarray, is_array, kernel_for, xp
from minilm.tensor.recording import recording
from minilm.tensor.tape import Node
from minilm.tensor.tensor import Tensor, short, unwrap

P = ParamSpec("P")

OPERATIONS: dict[str, Operation] = {}
"""Every registered operation, by name."""

_NUMBERS = (float, int, bool)


class Operation:
    """A function on arrays that returns (output, vjp), lifted to Tensors and recorded on the tape.

    The *array parameters* are those annotated with `Array` (also `MaskArray`, `*xs: Array`): they take part in
    differentiation when they arrive as Tensors that require a gradient. A Tensor that arrives elsewhere counts as
    a constant. The vjp is

    - with one array parameter, a function g -> gradient;
    - with several, a tuple of such functions, one for each array parameter in the order of the signature (each
      element of a `*` parameter counts; None for one that has no derivative): only those needed are called;
    - or, where the gradients share work, one function (g, needs) -> tuple of gradients, with a bool for each.

    If the output is a tuple of arrays, g is a tuple as well, with zeros for outputs that got no gradient.
    """

    def __init__(self, body: Callable[..., Any], broadcasts: bool) -> None:
        functools.update_wrapper(self, body)
        self.name = body.__name__.strip("_")
        self.body = body
        self.broadcasts = broadcasts
        self.signature = inspect.signature(body)
        parameters = list(self.signature.parameters.values())
        arrays = [p for p in parameters if "Array" in str(p.annotation)]
        self.variadic = bool(arrays) and arrays[0].kind is inspect.Parameter.VAR_POSITIONAL
        self.positions = tuple(parameters.index(p) for p in arrays)
        self.array_names = tuple(p.name for p in arrays)
        self.masks = tuple(parameters.index(p) for p in arrays if "MaskArray" in str(p.annotation))
        if not arrays:
            raise TypeError(f"operation {self.name} has no parameter annotated with Array")
        if self.name in OPERATIONS:
            raise TypeError(f"an operation named {self.name} is registered already")
        OPERATIONS[self.name] = self

    def __repr__(self) -> str:
        return f"<operation {self.name}{self.signature}>"

    def __get__(self, instance: Any, kind: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)  # so that it can be a method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs and not self.variadic and any(name in kwargs for name in self.array_names):
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs

        # what the body gets: arrays where Tensors came
        arguments = [value.data if isinstance(value, Tensor) else unwrap(value) for value in args]
        if kwargs:
            kwargs = {name: unwrap(value) for name, value in kwargs.items()}
        positions = range(len(args)) if self.variadic else self.positions
        inputs = [args[i] if i < len(args) else None for i in positions]

        try:
            if not _agreed(inputs):
                self._agree(args, arguments, positions)
            first = arguments[self.positions[0]] if self.positions[0] < len(arguments) else None
            y, vjp = (kernel_for(self.name, first) or self.body)(*arguments, **kwargs)
        except (ValueError, TypeError, IndexError) as error:
            raise self._explained(error, arguments) from error

        several = isinstance(y, tuple)
        arrays = [v if type(v) is np.ndarray else self._array(v, arguments) for v in (y if several else (y,))]
        node = None
        if recording.on:
            edges = [(t._node or t, t._index) if isinstance(t, Tensor) and t.requires_grad else None for t in inputs]
            if any(edges):
                if isinstance(vjp, tuple) and None in edges and len(vjp) == len(edges):
                    # drop what will not be asked for, and the arrays that it holds
                    vjp = tuple([None if edge is None else vjp[i] for i, edge in enumerate(edges)])
                node = Node(self, edges, vjp, arrays, several)
        if several:
            return tuple([Tensor.wrap(array, node, i) for i, array in enumerate(arrays)])
        return Tensor.wrap(arrays[0], node)

    def _agree(self, args: Sequence[Any], arguments: list[Any], positions: Iterable[int]) -> None:
        """Refuse arrays of two homes or of two floating dtypes; convert what adapts (in `arguments`)."""
        at = [i for i in positions if i < len(args) and args[i] is not None]
        arrays = [arguments[i] for i in at if is_array(arguments[i])]
        if any(not isinstance(array, np.ndarray) for array in arrays):
            for i in at:  # on a device NumPy's scalars are numbers, not arrays of another home
                value = arguments[i]
                plain = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and args[i] is value)
                if plain and value.ndim == 0 and i not in self.masks:
                    arguments[i] = value.item()
            arrays = [arguments[i] for i in at if is_array(arguments[i])]
        if len(arrays) > 1:
            xp(*arrays)
        # a plain array of no axes is a scalar: it adapts, as Python's numbers do
        firm = {arguments[i].dtype for i in at if isinstance(args[i], Tensor) or getattr(args[i], "ndim", 0) > 0}
        adapting = [i for i in at if i not in self.masks]
        _agree_on_dtype(arguments, adapting, {dtype for dtype in firm if dtype.kind == "f"})

    @staticmethod
    def _array(value: Any, arguments: list[Any]) -> Array:
        if type(value) is np.ndarray or is_array(value):
            return value
        home = next((xp(a) for a in arguments if is_array(a)), np)
        return home.asarray(value)  # NumPy's reductions return scalars

    def _explained(self, error: Exception, arguments: Iterable[Any]) -> Exception:
        """The same error with the operation's name and its inputs in front."""
        inputs = ", ".join(f"{a.shape} {a.dtype}" if is_array(a) else short(a) for a in arguments)
        message = f"{self.name}: {error} [inputs: {inputs}]"
        if "broadcast" in str(error) and self.broadcasts:
            message += "; from the right, lengths must be equal or 1: reshape, transpose or expand one of them"
        for kind in (IndexError, TypeError):
            if isinstance(error, kind) and not isinstance(error, ValueError):
                return kind(message)
        return ValueError(message)


def _agreed(inputs: Iterable[Any]) -> bool:
    """True if nothing has to be converted, as in most calls: Tensors of one home and dtype, and Python's numbers."""
    first: Any = None
    for value in inputs:
        if isinstance(value, Tensor):
            value = value.data
            if first is None:
                first = value
        elif value is None or type(value) in _NUMBERS:
            continue
        if type(value) is not type(first) or value.dtype is not first.dtype:
            return False
    return True


def _agree_on_dtype(arguments: list[Any], at: Sequence[int], dtypes: set[np.dtype]) -> None:
    """One floating dtype for all operands: scalars and integers adapt to it; two different ones are refused."""
    if len(dtypes) > 1:
        narrow, *_, wide = sorted(dtypes, key=lambda dtype: dtype.itemsize)
        raise TypeError(f"{narrow} and {wide} do not mix by themselves: convert one side, with .astype('{narrow}')")
    if not dtypes:
        return
    (dtype,) = dtypes
    for i in at:
        value = arguments[i]
        if isinstance(value, np.generic):
            arguments[i] = dtype.type(value)
        elif isinstance(value, list | tuple):
            arguments[i] = asarray(value, dtype)
        elif is_array(value) and value.dtype != dtype:
            arguments[i] = value.astype(dtype)


def differentiable(body: Callable[P, Any]) -> Callable[P, Any]:
    """Make an operation whose gradients have exactly the shapes of its inputs; see `Operation`."""
    return Operation(body, broadcasts=False)


def elementwise(body: Callable[P, Any]) -> Callable[P, Any]:
    """Make an operation whose array inputs broadcast as in NumPy: the engine sums gradients back to their shapes."""
    return Operation(body, broadcasts=True)

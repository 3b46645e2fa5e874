"""Operation: a function on arrays, lifted to Tensors and recorded on the tape."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
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
        return self if instance is None else functools.partial(self, instance)  # so that it can be a method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs and not self.variadic and any(name in kwargs for name in self.array_names):
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs

        arguments = list(args)  # what the body gets: arrays where Tensors came
        tensors: list[Tensor] = []
        for i, value in enumerate(args):
            if isinstance(value, Tensor):
                arguments[i] = value.data
                tensors.append(value)
            elif isinstance(value, tuple | list):
                tensors.extend(_tensors(value))
                arguments[i] = unwrap(value)
        if kwargs:
            tensors.extend(_tensors(kwargs.values()))
            kwargs = {name: unwrap(value) for name, value in kwargs.items()}
        positions = range(len(args)) if self.variadic else self.positions
        inputs = [args[i] if i < len(args) and isinstance(args[i], Tensor) else None for i in positions]

        try:
            self._agree(args, arguments, positions)
            y, vjp = (kernel_for(self.name) or self.body)(*arguments, **kwargs)
        except (ValueError, TypeError, IndexError) as error:
            raise self._explained(error, arguments) from error

        several = isinstance(y, tuple)
        arrays = tuple(self._array(v, arguments) for v in (y if several else (y,)))
        outputs = tuple(Tensor.wrap(array) for array in arrays)
        for output in outputs:
            self._share_version(output, tensors)
        if recording.on and any(t is not None and t.requires_grad for t in inputs):
            edges = [None if t is None or not t.requires_grad else (t._node or t, t._index) for t in inputs]
            if None in edges and isinstance(vjp, tuple) and len(vjp) == len(edges):
                # drop what will not be asked for, and the arrays that it holds
                vjp = tuple([f if edge is not None else None for f, edge in zip(vjp, edges, strict=True)])
            versions = [(t._version, t._version.count) for t in (*tensors, *outputs)]
            node = Node(self, edges, vjp, versions, inputs, arrays, several)
            for index, output in enumerate(outputs):
                if output.data.dtype.kind == "f":
                    output.requires_grad, output._node, output._index = True, node, index
        return outputs if several else outputs[0]

    def _agree(self, args: Sequence[Any], arguments: list[Any], positions: Iterable[int]) -> None:
        """Refuse arrays of two homes or of two floating dtypes; convert what adapts (in `arguments`)."""
        first: Any = None
        for i in positions:  # most calls: Tensors of one home and dtype, and Python's numbers
            if i >= len(args) or args[i] is None or type(args[i]) in _NUMBERS:
                continue
            array = arguments[i]
            if first is None and isinstance(args[i], Tensor):
                first = array
            elif type(array) is not type(first) or array.dtype != first.dtype:
                break
        else:
            return
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

    @staticmethod
    def _share_version(output: Tensor, tensors: Iterable[Tensor]) -> None:
        """A view of an input's memory shares its version counter."""
        owner_id = output._version.owner_id
        for tensor in tensors:
            if tensor._version.owner_id == owner_id:
                output._version = tensor._version
                return

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


def _tensors(args: Iterable[Any]) -> Iterator[Tensor]:
    for value in args:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


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

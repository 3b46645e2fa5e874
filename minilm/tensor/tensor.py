"""Tensor: an array that remembers how it was computed.

What this file does not do: it computes nothing. `minilm.functional` registers the operators and methods declared
below; `minilm.tensor.tape` walks back through what was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from minilm.backend import Array, asarray, is_array, to_numpy, xp
from minilm.tensor.changes import changes
from minilm.tensor.recording import recording

if TYPE_CHECKING:
    from minilm.tensor.tape import Node


def from_host(value: Any) -> Array:
    """A NumPy array, a number or a list as an array of the current backend; an array of a device as it is."""
    return asarray(value) if isinstance(value, np.ndarray) or not is_array(value) else value


class Tensor:
    """An array that remembers how it was computed.

    Args:
        data: an array, a Tensor, a number or nested lists of numbers; it is copied. Python floats become float32.
            What comes from the host, NumPy arrays included, is made an array of the current backend.
        requires_grad: record what is done with it, so that `backward` can fill in `.grad`.
        dtype: convert to this dtype.

    Attributes:
        data: the array itself. Writing into it by hand is the one change that the engine cannot see (until
            `mark_changed` tells it); use `copy_`, `add_`, `mul_`, `fill_`, `zero_` or an index assignment, which it
            does see.
        requires_grad: True if gradients flow to or through this tensor.

    Raises:
        TypeError: if data is not numeric, or a gradient is asked of integers or booleans.
    """

    __slots__ = ("data", "requires_grad", "_grad", "_node", "_index", "__weakref__")
    __hash__ = object.__hash__  # by identity: == compares elements
    __array_ufunc__ = None  # ndarray * Tensor asks Tensor.__rmul__ instead of looping over elements

    if TYPE_CHECKING:  # methods and operators that minilm.functional registers
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def var(self, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor: ...
        def max(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def min(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def argmax(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def argmin(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def logsumexp(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def cumsum(self, axis: int | None = None) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def transpose(self, *axes: Any) -> Tensor: ...
        def swapaxes(self, axis1: int, axis2: int) -> Tensor: ...
        def expand(self, *shape: Any) -> Tensor: ...
        def squeeze(self, axis: Any = None) -> Tensor: ...
        def split(self, indices_or_sections: Any, axis: int = 0) -> tuple[Tensor, ...]: ...
        def astype(self, dtype: Any) -> Tensor: ...
        def exp(self) -> Tensor: ...
        def log(self) -> Tensor: ...
        def sqrt(self) -> Tensor: ...
        def tanh(self) -> Tensor: ...
        def sigmoid(self) -> Tensor: ...
        def relu(self) -> Tensor: ...
        def abs(self) -> Tensor: ...
        def clip(self, low: Any = None, high: Any = None) -> Tensor: ...
        @property
        def T(self) -> Tensor: ...  # noqa: N802 - NumPy's name

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        if isinstance(data, Tensor):
            data = data.data
        if is_array(data):
            array = data.astype(dtype or data.dtype)  # astype copies, always
        else:
            array = np.array(data, dtype=dtype)
            if dtype is None and array.dtype == np.float64 and not isinstance(data, np.generic):
                array = array.astype(np.float32)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"a Tensor holds numbers or booleans, not {array.dtype}: {short(data)}")
        if requires_grad and array.dtype.kind != "f":
            raise TypeError(
                f"only floating-point tensors can require a gradient, not {array.dtype}: pass dtype='float32'"
            )
        self._set(from_host(array), requires_grad)

    def _set(self, array: Array, requires_grad: bool) -> None:
        self.data = array
        self.requires_grad = requires_grad
        self._grad: Tensor | None = None
        self._node: Node | None = None
        self._index = 0

    @staticmethod
    def wrap(array: Array, node: Node | None = None, index: int = 0) -> Tensor:
        """A Tensor on the array itself, without the copy: for an array that nobody else will write to.

        `node` is the operation that made it, if that was recorded; the array is its output number `index`.
        """
        tensor = Tensor.__new__(Tensor)
        tensor._set(array, False)
        if node is not None and array.dtype.kind == "f":  # nothing flows through integers
            tensor.requires_grad, tensor._node, tensor._index = True, node, index
        return tensor

    # --- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def is_leaf(self) -> bool:
        """True unless a recorded operation made this tensor."""
        return self._node is None

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a Tensor with no axes: it is a scalar, use .item()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth of a Tensor of shape {self.shape} is ambiguous: it has {self.size} elements"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __repr__(self) -> str:
        body = np.array2string(to_numpy(self.data), separator=", ", prefix="Tensor(", threshold=100, precision=4)
        made = f", made by {self._node.operation.name}" if self._node is not None else ""
        grad = ", requires_grad=True" if self.requires_grad and self.is_leaf else ""
        return f"Tensor({body}, shape={self.shape}, {self.dtype}{grad}{made})"

    # --- out of the tape

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array that cannot be written to (a view, where the data is on the host)."""
        view = to_numpy(self.data).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"a conversion from {array.dtype} to {np.dtype(dtype)} needs a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def item(self) -> float | int | bool:
        """The value of a Tensor of one element, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() needs exactly one element; this Tensor has shape {self.shape}")
        return self.data.item()

    def tolist(self) -> Any:
        """The values as nested Python lists."""
        return self.data.tolist()

    def detach(self) -> Tensor:
        """The same memory, outside the graph: no gradient flows through the result."""
        return Tensor.wrap(self.data)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("only leaf tensors can be deep-copied; detach() this one first")
        copy = type(self).__new__(type(self))
        Tensor._set(copy, self.data.copy(), self.requires_grad)
        if self._grad is not None:
            copy._grad = Tensor.wrap(self._grad.data.copy())
        memo[id(self)] = copy
        return copy

    # --- gradients

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient of a leaf (or of a tensor after `retain_grad`), or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is None:
            self._grad = None
            return
        array = self._operand(value if isinstance(value, Tensor) else from_host(value))
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"a gradient has the shape and dtype of its tensor, {self.shape} {self.dtype}; "
                f"got {array.shape} {array.dtype}"
            )
        self._grad = Tensor.wrap(array.copy())  # never shared with the user

    def retain_grad(self) -> None:
        """Keep this tensor's gradient in `.grad` although it is not a leaf."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad() of a tensor through which no gradient flows")
        if self._node is not None:
            self._node.retain(self)

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf), weighted by `gradient`, to the `.grad` of every leaf that requires one.

        Gradients accumulate over calls, as in PyTorch; the graph is freed as it is walked unless `retain_graph`.
        An error leaves every `.grad` as it was.

        Args:
            gradient: the cotangent, of this tensor's shape; may be left out for a tensor of one element (then 1).

        Raises:
            RuntimeError: if nothing was recorded, if the graph was freed by an earlier backward, or if an array
                that a vjp needs was changed in place after the forward pass.
            ValueError: if the cotangent is missing or has another shape.
        """
        from minilm.tensor.tape import backpropagate  # the tape is made of tensors: imported when it is needed

        for leaf, array in backpropagate([self], [gradient], retain_graph):
            if leaf._grad is None:
                leaf._grad = Tensor.wrap(array)
            else:
                leaf._grad.data += array

    # --- changes in place: seen by the engine

    def mark_changed(self) -> None:
        """Tell the engine that `.data` was written to by hand: graphs recorded before this need the old values."""
        changes.note(self.data)

    def _changing(self, method: str) -> None:
        if self.requires_grad and recording.on:
            raise RuntimeError(
                f"{method} on a tensor that requires a gradient would not be recorded: "
                f"do it under `with no_grad():`, or compute a new tensor"
            )
        changes.note(self.data)

    def _operand(self, value: Any) -> Any:
        array = value.data if isinstance(value, Tensor) else value
        if is_array(array):
            xp(self.data, array)  # refuses arrays of two homes
        return array

    def copy_(self, value: Any) -> Tensor:
        """self[...] = value, in place, broadcasting; the dtype stays."""
        array = self._operand(value)
        self._changing("copy_()")
        self.data[...] = array
        return self

    def add_(self, value: Any) -> Tensor:
        """self += value, in place."""
        array = self._operand(value)
        self._changing("add_()")
        self.data += array
        return self

    def mul_(self, value: Any) -> Tensor:
        """self *= value, in place."""
        array = self._operand(value)
        self._changing("mul_()")
        self.data *= array
        return self

    def fill_(self, value: float) -> Tensor:
        """Every element becomes `value`, in place."""
        self._changing("fill_()")
        self.data.fill(value)
        return self

    def zero_(self) -> Tensor:
        """Every element becomes 0, in place."""
        return self.fill_(0)

    def __setitem__(self, index: Any, value: Any) -> None:
        array = self._operand(value)
        self._changing("assignment to an index")
        self.data[unwrap(index)] = array


def unwrap(value: Any) -> Any:
    """`value` with every Tensor in it (tuples and lists included) replaced by its array."""
    if isinstance(value, Tensor):
        return value.data
    if isinstance(value, (tuple, list)) and any(isinstance(v, Tensor) for v in value):
        return type(value)(unwrap(v) for v in value)
    return value


def short(value: Any) -> str:
    """repr(value), cut to what fits in an error message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."

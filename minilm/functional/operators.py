"""Which operation stands behind which operator and method of Tensor."""

from __future__ import annotations

from typing import Any

from minilm.functional import comparison, elementwise, indexing, linear_algebra, reductions, shape
from minilm.tensor import Tensor

OPERATORS: dict[str, Any] = {
    "__add__": elementwise.add,
    "__sub__": elementwise.subtract,
    "__mul__": elementwise.multiply,
    "__truediv__": elementwise.divide,
    "__pow__": elementwise.power,
    "__neg__": elementwise.negative,
    "__abs__": elementwise.abs,
    "__matmul__": linear_algebra.matmul,
    "__getitem__": indexing.getitem,
    "__eq__": comparison.equal,
    "__ne__": comparison.not_equal,
    "__lt__": comparison.less,
    "__le__": comparison.less_equal,
    "__gt__": comparison.greater,
    "__ge__": comparison.greater_equal,
}
REFLECTED = {
    "__radd__": elementwise.add,
    "__rsub__": elementwise.subtract,
    "__rmul__": elementwise.multiply,
    "__rtruediv__": elementwise.divide,
    "__rpow__": elementwise.power,
    "__rmatmul__": linear_algebra.matmul,
}
METHODS: tuple[Any, ...] = (
    *(elementwise.exp, elementwise.log, elementwise.sqrt, elementwise.tanh, elementwise.sigmoid, elementwise.relu),
    *(elementwise.abs, elementwise.clip, elementwise.astype, elementwise.clone),
    *(reductions.sum, reductions.mean, reductions.var, reductions.max, reductions.min, reductions.logsumexp),
    *(reductions.cumsum, comparison.argmax, comparison.argmin),
    *(shape.reshape, shape.transpose, shape.swapaxes, shape.expand, shape.squeeze, shape.split),
)


def _reflected(operation: Any) -> Any:
    return lambda self, other: operation(other, self)


for name, operation in OPERATORS.items():
    setattr(Tensor, name, operation)
for name, operation in REFLECTED.items():
    setattr(Tensor, name, _reflected(operation))
for operation in METHODS:
    setattr(Tensor, operation.__name__, operation)
Tensor.T = property(shape.transpose)  # type: ignore[method-assign,assignment]

"""What the host functions of the kernels ask of an array before its address goes into a kernel.

Only row-wise kernels need rows that lie one behind the other; products take any strides.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm.kernels.host import tile

COMPUTED = ("float32", "float16", "uint16")  # uint16: the bits of a bfloat16, see host.Ptr


def check_dtypes(operation: str, *arrays: Any) -> None:
    """Raise NotImplementedError unless each array (or None) holds numbers that the kernels compute with."""
    for array in arrays:
        if array is not None and array.dtype.name not in COMPUTED:
            raise NotImplementedError(
                f"{operation}: the Triton kernel computes in float32, float16 and bfloat16, and this array "
                f"{array.shape} is {array.dtype}: convert it, or use the 'numpy' or the 'cupy' backend"
            )


def contiguous(array: Any) -> Any:
    """`array` itself if its elements lie in C order without gaps, else a copy of which that is true."""
    return array if array is None or array.flags.c_contiguous else array.copy(order="C")


def as_rows(array: Any, width: int | None = None) -> Any:
    """(..., n) as a matrix (N, n); a view where the strides allow it, else a copy. `width`: n of several last axes."""
    width = array.shape[-1] if width is None else width
    rows = math.prod(array.shape) // width if width else math.prod(array.shape[:-1])
    return array.reshape(rows, width)


def power_of_two(n: int, smallest: int = 1) -> int:
    """The least power of two that is at least n and `smallest`; a kernel's `arange` has no other lengths."""
    return max(smallest, 1 << max(n - 1, 0).bit_length())


def norm_width(x: Any, normalized_shape: Any, *parameters: Any) -> int:
    """How many numbers of x a norm over its last axes takes together, after checking that all shapes fit.

    Raises:
        ValueError: if `normalized_shape` is not the end of x's shape, or a parameter has another shape.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"normalized_shape {shape} must be the last axes of x {x.shape}")
    for parameter in parameters:
        if parameter is not None and parameter.shape != shape:
            raise ValueError(f"a parameter {parameter.shape} must have the shape normalized_shape {shape}")
    return math.prod(shape)


def row_tile(kernel_name: str, width: int) -> dict[str, int]:
    """The tile of a kernel that holds whole rows of `width` numbers in registers, padded to a power of two.

    Raises:
        NotImplementedError: if the rows are too long for that.
    """
    try:
        sizes = tile(kernel_name, width=width)
    except LookupError as error:
        raise NotImplementedError(
            f"{kernel_name}: rows of {width} numbers do not fit into registers ({error}): use the 'numpy' or the "
            f"'cupy' backend for them"
        ) from error
    return {"BLOCK_C": power_of_two(width), **sizes}


def zeros(dtype: str, *shape: int) -> np.ndarray:
    """Zeros on the host, for the static cases of the kernels; of bfloat16 as the bits of one."""
    return np.zeros(shape, dtype="uint16" if dtype == "bfloat16" else dtype)

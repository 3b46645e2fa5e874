"""Tensors that lie in a file: shapes first, numbers when they are asked for.

The readers of the formats (safetensors_file, gguf_file, llama2c) give dicts of these. Each reader has checked that the
bytes which a tensor claims are there, so that a shape here is a promise that the file keeps, whatever else is wrong
with it; nothing is allocated before.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minilm.errors import CheckpointError

MOST_AXES = 8


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        shape: as NumPy orders axes, the last one contiguous.
        dtype: as the file calls it.
        read: gives the numbers, in float32.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


def map_file(path: Path, least: int, what: str) -> np.ndarray:
    """The bytes of a file, mapped and not read.

    Raises:
        CheckpointError: if it cannot be read, or has fewer than `least` bytes, which no file of the kind `what` has.
    """
    try:
        size = os.stat(path).st_size
        data = np.memmap(path, dtype=np.uint8, mode="r") if path.is_file() and size >= max(least, 1) else None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a name that no file can have
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file: {what} is one")
    if data is None:
        raise CheckpointError(
            f"{path} is not {what}, or is cut short: it has {size:,} bytes, and the shortest possible one {least}"
        )
    return data


def count(shape: Iterable[int]) -> int:
    """How many numbers a tensor of this shape has: exact, however large (NumPy's integers would wrap around)."""
    return math.prod(shape)


def check_extents(extents: Iterable[tuple[int, int, str]], size: int, where: str) -> None:
    """Refuse tensors whose bytes [begin, end) lie outside the `size` bytes of data, or in one another's.

    Raises:
        CheckpointError: naming the tensors.
    """
    last_end, last_name = 0, ""
    for begin, end, name in sorted(extents):
        if not 0 <= begin <= end <= size:
            raise CheckpointError(
                f"{where}: the tensor {name!r} claims the bytes {begin:,} to {end:,}, and there are {size:,}: the "
                f"file is cut short or damaged; get it again"
            )
        if begin < last_end:
            raise CheckpointError(f"{where}: the tensors {last_name!r} and {name!r} overlap: the file is damaged")
        if end > begin:
            last_end, last_name = end, name

"""GGUF: one file with the weights, often quantized, the sizes, the vocabulary and the chat template (llama.cpp's).

    "GGUF", version, how many tensors, how many facts
    facts      key, type, value: strings, numbers, arrays of one of them
    tensors    name, axes (the contiguous one first), format, offset
    padding    up to a multiple of general.alignment
    numbers    from here offsets count

(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.) There is a package `gguf` that reads it. This reader is
small, and made for files from strangers: whatever a count or a length claims is compared with the bytes that are left
before anything is made of it.

What it does not read: version 1, big-endian files, arrays of arrays, and formats other than those of `quantized`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minilm.errors import CheckpointError
from minilm.pretrained.quantized import FORMATS
from minilm.pretrained.stored import StoredTensor, check_extents, count, map_file

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_AXES = 4
STRING, ARRAY, BOOL = 8, 9, 7
NUMBERS = {
    **{0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4"},
    **{BOOL: "?", 10: "<u8", 11: "<i8", 12: "<f8"},
}
LARGEST_ALIGNMENT = 1 << 16


@dataclass(frozen=True)
class GGUF:
    """A file's facts (metadata) by key, and its tensors by name."""

    path: Path
    facts: dict[str, Any]
    tensors: dict[str, StoredTensor]

    def fact(self, key: str, kind: type, default: Any = None) -> Any:
        """A fact of this type.

        Raises:
            CheckpointError: if it is missing and there is no default, or is of another type.
        """
        value = self.facts.get(key, default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            what = "is missing" if value is None else f"is a {type(value).__name__}, not a {kind.__name__}"
            raise CheckpointError(f"{self.path}: the fact {key!r} {what}")
        return value


class _Reader:
    """Walks through the bytes, and refuses each step beyond their end."""

    def __init__(self, data: np.ndarray, where: str) -> None:
        self.data, self.where, self.position = memoryview(data.data), where, 0

    def take(self, size: int, what: str) -> memoryview:
        left = len(self.data) - self.position
        if size > left:
            raise CheckpointError(
                f"{self.where} is cut short or damaged: {what} at byte {self.position:,} needs {size:,} bytes, and "
                f"{left:,} are left"
            )
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, layout: str, what: str) -> Any:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout), what))[0]

    def string(self, what: str) -> str:
        raw = bytes(self.take(self.number("Q", what), what))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self.where}: {what} is not UTF-8 ({error})") from error

    def value(self, kind: int, what: str) -> Any:
        if kind == STRING:
            return self.string(what)
        if kind == ARRAY:
            return self.array(what)
        return self.numbers(kind, 1, what)[0].item()

    def array(self, what: str) -> Any:
        """A list of strings, or an array (n,) of numbers."""
        kind, n = self.number("I", what), self.number("Q", what)
        if kind != STRING:
            return self.numbers(kind, n, what)
        self.check_count(n, 8, what)  # an empty string still has a length
        return [self.string(what) for _ in range(n)]

    def numbers(self, kind: int, n: int, what: str) -> np.ndarray:
        if kind not in NUMBERS:
            raise CheckpointError(f"{self.where}: {what} has the type {kind}, which minilm does not read")
        dtype = np.dtype(NUMBERS[kind])
        raw = self.take(n * dtype.itemsize, what)
        if kind == BOOL:  # any byte but 0 and 1 would be a boolean that NumPy does not know
            return np.frombuffer(raw, np.uint8) != 0
        return np.frombuffer(raw, dtype)

    def check_count(self, n: int, least: int, what: str) -> None:
        """Refuse `n` things of at least `least` bytes each, where fewer fit in what is left."""
        if n * least > len(self.data) - self.position:
            raise CheckpointError(
                f"{self.where} is cut short or damaged: it claims {n:,} {what}, and {len(self.data) - self.position:,} "
                f"bytes are left"
            )


def open_gguf(path: Path) -> GGUF:
    """The facts and tensors of a file.

    Raises:
        CheckpointError: if it is not such a file, is cut short, contradicts itself, or holds what minilm does not read.
    """
    where = str(path)
    data = map_file(path, 24, "a GGUF file")
    reader = _Reader(data, where)
    if bytes(reader.take(4, "the first word")) != MAGIC:
        raise CheckpointError(f"{where} is not a GGUF file: it does not begin with {MAGIC.decode()}")
    version = reader.number("I", "the version")
    if version not in VERSIONS:
        swapped = version & 0xFFFF == 0
        what = "is for machines of the other byte order" if swapped else f"has version {version}"
        raise CheckpointError(f"{where} {what}: minilm reads little-endian GGUF files of version 2 and 3")
    n_tensors, n_facts = reader.number("Q", "a count"), reader.number("Q", "a count")
    reader.check_count(n_facts, 13, "facts")
    reader.check_count(n_tensors, 24, "tensors")
    facts = {}
    for _ in range(n_facts):
        key = reader.string("a fact's key")
        if key in facts:
            raise CheckpointError(f"{where}: the fact {key!r} is there twice")
        facts[key] = reader.value(reader.number("I", f"the type of {key!r}"), f"the fact {key!r}")
    lines = [_line(reader) for _ in range(n_tensors)]
    alignment = facts.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= LARGEST_ALIGNMENT:
        raise CheckpointError(f"{where}: general.alignment is {alignment!r}, which no file has")
    numbers = data[min(-(-reader.position // alignment) * alignment, len(data)) :]
    tensors, extents = {}, []
    for name, shape, kind, offset in lines:
        label, block, size, convert = FORMATS[kind]
        stop = offset + count(shape) // block * size
        if name in tensors:
            raise CheckpointError(f"{where}: there are two tensors {name!r}")
        extents.append((offset, stop, name))
        tensors[name] = StoredTensor(shape, label, _read(numbers[offset:stop], shape, convert))
    check_extents(extents, len(numbers), where)
    return GGUF(path, facts, tensors)


def _line(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    """(name, shape, format, offset) of a tensor."""
    name = reader.string("a tensor's name")
    what = f"the tensor {name!r}"
    n_axes = reader.number("I", what)
    if not 1 <= n_axes <= MOST_AXES:
        raise CheckpointError(f"{reader.where}: {what} has {n_axes} axes, and a tensor has from 1 to {MOST_AXES}")
    shape = tuple(reader.number("Q", what) for _ in range(n_axes))[::-1]  # the file has the contiguous axis first
    kind, offset = reader.number("I", what), reader.number("Q", what)
    if kind not in FORMATS:
        known = ", ".join(label for label, *_ in FORMATS.values())
        raise CheckpointError(
            f"{reader.where}: {what} has GGUF's number format {kind}, and minilm reads {known}: get the model in one "
            f"of these"
        )
    if shape[-1] % FORMATS[kind][1]:
        raise CheckpointError(
            f"{reader.where}: {what} has rows of {shape[-1]} weights, which {FORMATS[kind][0]} blocks of "
            f"{FORMATS[kind][1]} do not fill"
        )
    return name, shape, kind, offset


def _read(raw: np.ndarray, shape: tuple[int, ...], convert: Any) -> Any:
    return lambda: convert(raw).reshape(shape)

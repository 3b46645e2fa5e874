"""Matrices of small integers: 8 or 4 bits for a weight that had 32, and products with them.

**8 bits, one scale a row.** For row o of W, the weights into output o,

    s_o = max_i |W_oi| / 127,    q_oi = round(W_oi / s_o) in -127 ... 127,    W_oi ≈ s_o q_oi

The scale comes out of the sum, y_o = s_o sum_i q_oi x_i, so that nothing but a cast stands between the integers and
the product.

**4 bits, one scale for 32 weights.** A row has large weights and small ones, and 16 steps cannot serve both; so each
block b of 32 neighbours in a row gets a scale d and an offset m of its own, both float16, and

    W_oi ≈ d_ob q_oi + m_ob,     q in 0 ... 15

With an offset m is free (5 bits a weight in all), without one m = -8 d (4.5 bits). d spans the largest weights of the
block, or a little less: of a few spans the one with the smallest squared error is taken, since clipping one outlier
may serve the 31 others. These are the formats Q4_1 and Q4_0 of GGUF files in other words; the search is an idea of the
many papers on "clipping" (Banner et al. 2019).

A product never makes the whole float matrix. It goes through the rows in pieces that fit into a core's cache: integers
to float32, product, next piece. For few rows of x (writing token by token) the scales of a piece are applied to 32
times fewer numbers, after the partial sums of each block:

    y_o = sum_b d_ob (sum_(i in b) q_oi x_i) + sum_b m_ob (sum_(i in b) x_i)

What this file does not do: multiply integers by integers (NumPy has no fast way), or round x.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from minilm.errors import CheckpointError

Floats = NDArray[np.float32]
PIECE = 1 << 17  # float32 numbers of a piece: half a megabyte
BLOCK = 32  # weights that share a scale in 4 bits
FEW = 4  # rows of x, up to which the scales are applied to sums and not to weights
SPANS = (1.0, 0.95, 0.9, 0.85, 0.8)


class QuantizedMatrix(ABC):
    """A matrix (rows, columns) that is kept as integers and scales."""

    bits: ClassVar[int]
    shape: tuple[int, int]

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What it is kept as: names and arrays, for a file."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], columns: int) -> QuantizedMatrix:
        """The matrix that `arrays` gave. Raises CheckpointError where they do not fit each other."""

    @abstractmethod
    def floats(self, rows: Any, out: Floats | None = None) -> Floats:
        """The rows (a slice, or an array of numbers) as float32 (n, columns), written to `out` if given."""

    @abstractmethod
    def product(self, x: Floats) -> Floats:
        """x (N, columns) -> x Wᵀ (N, rows), float32."""

    def whole(self) -> Floats:
        """All of it as float32."""
        out = np.empty(self.shape, dtype=np.float32)
        for rows in _pieces(*self.shape):
            self.floats(rows, out[rows])
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.shape}"


class Int8Matrix(QuantizedMatrix):
    """8 bits, one scale a row, symmetric.

    Args:
        weight: (rows, columns) of floats.

    Raises:
        ValueError: if a weight is not finite.
    """

    bits = 8

    def __init__(self, weight: NDArray[Any]) -> None:
        self.shape = _checked(weight)
        self.integers = np.empty(self.shape, dtype=np.int8)
        self.scale = np.empty(self.shape[0], dtype=np.float32)
        for rows in _pieces(*self.shape):
            piece = weight[rows].astype(np.float32)
            scale = np.abs(piece).max(axis=1, initial=0.0) / 127
            self.scale[rows] = scale
            piece /= np.where(scale == 0, 1, scale)[:, None]  # a row of zeros stays one
            self.integers[rows] = np.rint(piece, out=piece)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"int8": self.integers, "scale": self.scale}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], columns: int) -> Int8Matrix:
        self = cls.__new__(cls)
        self.integers, self.scale = arrays["int8"], arrays["scale"]
        self.shape = (len(self.scale), columns)
        _fits(self.integers, np.int8, self.shape)
        _fits(self.scale, np.float32, self.shape[:1])
        return self

    def floats(self, rows: Any, out: Floats | None = None) -> Floats:
        integers = self.integers[rows]
        if out is None:
            out = np.empty(integers.shape, dtype=np.float32)
        out[...] = integers
        out *= self.scale[rows][:, None]
        return out

    def product(self, x: Floats) -> Floats:
        y = np.empty((len(x), self.shape[0]), dtype=np.float32)
        buffer = _buffer(*self.shape)
        for rows in _pieces(*self.shape):
            piece = buffer[: rows.stop - rows.start]
            piece[...] = self.integers[rows]
            y[:, rows] = x @ piece.T
        y *= self.scale
        return y


class Int4Matrix(QuantizedMatrix):
    """4 bits, a scale for each 32 weights of a row, and an offset too if asked for.

    A row is padded to a multiple of 64 columns. The low halves of its bytes hold its first half, the high halves the
    second: so are both taken out in one long stroke.

    Args:
        weight: (rows, columns) of floats.
        offset: whether each block has an offset of its own.

    Raises:
        ValueError: if a weight is not finite, or too large for a float16 scale.
    """

    bits = 4

    def __init__(self, weight: NDArray[Any], offset: bool = False) -> None:
        self.shape = _checked(weight)
        n, columns = self.shape
        padded = -(-columns // (2 * BLOCK)) * 2 * BLOCK
        self.packed = np.empty((n, padded // 2), dtype=np.uint8)
        self.scale = np.empty((n, padded // BLOCK), dtype=np.float16)
        self.offset = np.empty_like(self.scale) if offset else None
        for rows in _pieces(n, padded):
            piece = np.zeros((rows.stop - rows.start, padded), dtype=np.float32)
            piece[:, :columns] = weight[rows]
            blocks = piece.reshape(len(piece), -1, BLOCK)
            scale, shift, integers = _best_of_spans(blocks, offset)
            self.scale[rows] = scale
            if self.offset is not None:
                self.offset[rows] = shift
            flat = integers.reshape(len(piece), padded)
            self.packed[rows] = flat[:, : padded // 2] | (flat[:, padded // 2 :] << 4)

    def arrays(self) -> dict[str, NDArray[Any]]:
        offset = {} if self.offset is None else {"offset": self.offset}
        return {"int4": self.packed, "scale": self.scale, **offset}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], columns: int) -> Int4Matrix:
        self = cls.__new__(cls)
        self.packed, self.scale, self.offset = arrays["int4"], arrays["scale"], arrays.get("offset")
        n, padded = len(self.scale), -(-columns // (2 * BLOCK)) * 2 * BLOCK
        self.shape = (n, columns)
        _fits(self.packed, np.uint8, (n, padded // 2))
        for array in (self.scale, self.offset):
            if array is not None:
                _fits(array, np.float16, (n, padded // BLOCK))
        return self

    def floats(self, rows: Any, out: Floats | None = None) -> Floats:
        scale, shift = self._scales(rows)
        blocks = self._unpacked(rows).reshape(*scale.shape, BLOCK)
        blocks *= scale[:, :, None]
        blocks += shift[:, :, None]
        weights = blocks.reshape(len(blocks), -1)[:, : self.shape[1]]
        if out is None:
            return weights
        out[...] = weights
        return out

    def product(self, x: Floats) -> Floats:
        N, columns = x.shape
        padded = 2 * self.packed.shape[1]
        if columns < padded:
            x = np.concatenate([x, np.zeros((N, padded - columns), dtype=np.float32)], axis=1)
        y = np.empty((N, self.shape[0]), dtype=np.float32)
        buffer = _buffer(self.shape[0], padded)
        x_blocks = np.ascontiguousarray(x.reshape(N, -1, BLOCK).transpose(1, 2, 0))  # (blocks, 32, N)
        x_sums = x_blocks.sum(axis=1)  # (blocks, N)
        for rows in _pieces(self.shape[0], padded):
            scale, shift = self._scales(rows)
            integers = self._unpacked(rows, buffer).reshape(*scale.shape, BLOCK)
            if N <= FEW:
                sums = integers.transpose(1, 0, 2) @ x_blocks  # (blocks, n, N)
                sums *= scale.T[:, :, None]
                y[:, rows] = (sums.sum(axis=0) + shift @ x_sums).T
            else:
                integers *= scale[:, :, None]
                y[:, rows] = x @ integers.reshape(len(integers), padded).T + (shift @ x_sums).T
        return y

    def _scales(self, rows: Any) -> tuple[Floats, Floats]:
        """Scale and offset (n, blocks) of some rows, as float32."""
        scale = self.scale[rows].astype(np.float32)
        return scale, -8 * scale if self.offset is None else self.offset[rows].astype(np.float32)

    def _unpacked(self, rows: Any, buffer: Floats | None = None) -> Floats:
        """The integers of some rows (n, padded columns), as float32."""
        packed = self.packed[rows]
        n, half = packed.shape
        out = np.empty((n, 2, half), dtype=np.float32) if buffer is None else buffer[:n].reshape(n, 2, half)
        out[:, 0] = packed & 15
        out[:, 1] = packed >> 4
        return out.reshape(n, 2 * half)


def _best_of_spans(blocks: Floats, free: bool) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """Scale d and offset m (n, blocks), as float16 rounds them, and q (n, blocks, 32) of the smallest squared error."""
    if free:
        low, high = blocks.min(axis=2), blocks.max(axis=2)
    else:  # q = 0 ... 15 stands for -8 d ... 7 d: the weight of the largest size gets the side with 8 steps
        low, high = blocks.min(axis=2), blocks.max(axis=2)
        largest = np.where(-low >= high, low, high)
    best_error = np.full(blocks.shape[:2], np.inf, dtype=np.float32)
    best_d, best_m = np.zeros_like(best_error), np.zeros_like(best_error)
    best_q = np.zeros(blocks.shape, dtype=np.uint8)
    for span in SPANS:
        if free:
            d = _half(span * (high - low) / 15)
            m = _half(low + (1 - span) / 2 * (high - low))
        else:
            d = _half(span * largest / -8)
            m = -8 * d
        q = (blocks - m[:, :, None]) / np.where(d == 0, 1, d)[:, :, None]
        np.clip(np.rint(q, out=q), 0, 15, out=q)
        difference = q * d[:, :, None]
        difference += m[:, :, None]
        difference -= blocks
        error = np.einsum("rbi,rbi->rb", difference, difference)
        better = error < best_error
        best_error[better], best_d[better], best_m[better], best_q[better] = (
            error[better],
            d[better],
            m[better],
            q[better],
        )
    return best_d, best_m, best_q


def _half(x: Floats) -> Floats:
    """x as float16 rounds it."""
    with np.errstate(over="ignore"):
        rounded = x.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise ValueError(f"weights of up to {np.abs(x).max():.3g} a step are too large for a scale in float16")
    return rounded.astype(np.float32)


def _pieces(rows: int, columns: int) -> Iterator[slice]:
    size = max(1, PIECE // max(1, columns))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _buffer(rows: int, columns: int) -> Floats:
    return np.empty((min(rows, max(1, PIECE // max(1, columns))), columns), dtype=np.float32)


def _checked(weight: NDArray[Any]) -> tuple[int, int]:
    if weight.ndim != 2 or weight.dtype.kind != "f":
        raise ValueError(f"a matrix of floats is quantized, not {weight.shape} {weight.dtype}")
    if not np.isfinite(weight).all():
        raise ValueError(f"the weights {weight.shape} are not all finite: a quantized NaN would look like a number")
    return int(weight.shape[0]), int(weight.shape[1])


def _fits(array: NDArray[Any], dtype: Any, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise CheckpointError(
            f"a quantized matrix needs {np.dtype(dtype)} {shape}, and the file has {array.dtype} {array.shape}: it was "
            "written for a model of other sizes, or is damaged"
        )

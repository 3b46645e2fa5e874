"""What the tests of kernels share: guard bands around arrays, poisoned outputs, and the tolerance."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from minilm.kernels import host

BAND = 256  # elements on either side of an array: more than a tile of the interpreter reaches beyond an edge

_guarded: list[tuple[np.ndarray, int, int, bytes]] = []
_made = 0


def _sentinel(dtype: np.dtype) -> np.generic:
    """What turns a sum that reads it into NaN (of integers: into nonsense), and what no kernel writes by chance.

    Each call gives another NaN: one that a kernel read beside one array and wrote beside another is found out too.
    """
    global _made
    _made += 1
    if dtype.kind == "f":
        bits = {2: 0x7E00, 4: 0x7FC00000, 8: 0x7FF8000000000000}[dtype.itemsize] | _made % 509
        return np.array(bits, f"uint{8 * dtype.itemsize}").view(dtype)[()]
    if dtype.name == "uint16":  # bfloat16
        return np.uint16(0x7FC0 | _made % 61)
    return np.bool_(True) if dtype.kind == "b" else dtype.type(np.iinfo(dtype).max - _made % 100)


def guarded(array: np.ndarray) -> np.ndarray:
    """A copy of `array` with the same strides' order, between two bands of NaN that `check_guards` looks at.

    A kernel that reads out of bounds gets NaN into its result; one that writes there is found out.
    """
    order = np.argsort([-step for step in array.strides], kind="stable")
    memory = np.full(array.size + 2 * BAND, _sentinel(array.dtype), dtype=array.dtype)
    inner = memory[BAND : BAND + array.size].reshape([array.shape[axis] for axis in order])
    view = inner.transpose(np.argsort(order))
    view[...] = array
    bands = memory[:BAND].tobytes() + memory[BAND + array.size :].tobytes()
    _guarded.append((memory, BAND, BAND + array.size, bands))
    return view


def check_guards() -> None:
    """Fail if anything was written into a band of an array that `guarded` made since the last check."""
    found, _guarded[:] = list(_guarded), []
    for memory, start, stop, bands in found:
        now = memory[:start].tobytes() + memory[stop:].tobytes()
        assert now == bands, f"a kernel wrote outside an array of {stop - start} elements of {memory.dtype}"


@contextlib.contextmanager
def guards() -> Iterator[None]:
    """Within the block every array that `host.empty` makes is poisoned and lies between bands, which are checked
    at the end together with those of `guarded`."""
    plain = host._allocate

    def allocate(module, shape, dtype):
        array = guarded(np.empty(shape, dtype))
        array.fill(_sentinel(array.dtype))
        return array

    _guarded.clear()
    host._allocate = allocate
    try:
        yield
        check_guards()
    finally:
        host._allocate = plain
        _guarded.clear()


def relative_error(actual: np.ndarray, oracle: np.ndarray) -> float:
    """The Frobenius norm of the difference over that of the oracle, floored: a gradient can be exactly 0."""
    difference = np.asarray(actual, np.float64) - np.asarray(oracle, np.float64)
    floor = 1e-3 * np.sqrt(max(difference.size, 1))
    return float(np.linalg.norm(difference) / max(np.linalg.norm(np.asarray(oracle, np.float64)), floor))


def close(actual: np.ndarray, oracle: np.ndarray, plain: np.ndarray | None = None, c: float = 4.0) -> None:
    """Fail unless `actual` is as near to the float64 `oracle` as arithmetic in its dtype can be asked to be.

    The allowance is the larger of twice the error that the plain formula makes in the same dtype (`plain`), and
    c eps(dtype). Shapes must agree; NaN in `actual` always fails.
    """
    assert actual.shape == oracle.shape, f"shape {actual.shape} where {oracle.shape} was due"
    error = relative_error(actual, oracle)
    allowed = c * float(np.finfo(actual.dtype).eps)
    if plain is not None:
        assert plain.dtype == actual.dtype, f"the plain formula came in {plain.dtype}, the kernel in {actual.dtype}"
        allowed = max(allowed, 2 * relative_error(plain, oracle))
    assert error <= allowed, f"relative error {error:.3g}, and {allowed:.3g} is allowed in {actual.dtype}"

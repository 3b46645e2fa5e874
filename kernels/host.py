"""Everything between an array and a Triton kernel, so that the kernels themselves are arithmetic only.

    y = empty_like(x)
    launch(scale_kernel, (cdiv(x.size, 1024),), *pointers(x, y), x.size, BLOCK=1024)

The same line runs three ways:

- in Triton's interpreter on NumPy arrays, in a process started with TRITON_INTERPRET=1: the numbers;
- through the compiler, on NumPy arrays, inside `with dry("sm_90") as launches:`: the machine code, no GPU needed;
- on a GPU, on CuPy arrays, in CuPy's current stream, after `activate()`.

It moves no data between host and device and converts no dtype: an array that does not fit where the kernel is
going to run is refused.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import triton

from minilm.kernels.counting import counting, interpreting
from minilm.kernels.dry import DryDriver, dry
from minilm.kernels.tiles import TILES

__all__ = [
    "Ptr",
    "activate",
    "architecture",
    "cdiv",
    "counting",
    "dry",
    "empty",
    "empty_like",
    "interpreting",
    "launch",
    "module_of",
    "pointers",
    "strides",
    "tile",
    "using_tile",
    "using_tiles_of",
]


def cdiv(a: int, b: int) -> int:
    """The number of blocks of b that cover a: ceil(a / b) in integers."""
    return -(-a // b)


# ----- what a kernel gets for an array


class Ptr:
    """An array as a kernel's argument: its address and the type of its elements.

    Triton reads `data_ptr()` and `dtype` off an argument, and its interpreter calls the other methods, which on a
    GPU would copy to the host and back; here the memory is the host's already, and each answers with itself.

    `dtype` is a name that Triton knows. NumPy has no bfloat16, so an array of uint16 is taken for the bits of
    one: no kernel of this library has another use for uint16.
    """

    __slots__ = ("array", "dtype")

    def __init__(self, array: Any, dtype: str | None = None) -> None:
        name = array.dtype.name
        self.array = array  # keeps the memory alive as long as the pointer
        self.dtype = dtype or ("bfloat16" if name == "uint16" else name)

    def data_ptr(self) -> int:
        return self.array.ctypes.data if isinstance(self.array, np.ndarray) else self.array.data.ptr

    def _itself(self, *args: Any, **kwargs: Any) -> Ptr:
        return self

    untyped_storage = cpu = new_empty = set_ = copy_ = _itself

    def _nothing(self) -> int:
        return 0

    storage_offset = size = stride = _nothing

    def __repr__(self) -> str:
        return f"Ptr({self.dtype}{list(self.array.shape)})"


def pointers(*arrays: Any) -> tuple[Ptr | None, ...]:
    """One Ptr for each array; None (an operand that this call does without) stays None."""
    return tuple(None if array is None else Ptr(array) for array in arrays)


def strides(array: Any) -> tuple[int, ...]:
    """The steps of an array in elements, as kernels count; NumPy and CuPy count in bytes."""
    return tuple(step // array.itemsize for step in array.strides)


def module_of(array: Any) -> ModuleType:
    """The array module that an array belongs to: numpy or cupy."""
    return np if isinstance(array, np.ndarray) else sys.modules[type(array).__module__.partition(".")[0]]


def _allocate(module: ModuleType, shape: int | tuple[int, ...], dtype: Any) -> Any:
    """A function of its own so that a test can put guard bands around what kernels write."""
    return module.empty(shape, dtype=dtype)


def empty(shape: int | tuple[int, ...], dtype: Any, like: Any) -> Any:
    """An array without content, in the home of `like`, for a kernel to fill.

    With MINILM_POISON=1 (the tests) every element is NaN, or the largest integer, so that an element which the
    kernel forgot shows.
    """
    array = _allocate(module_of(like), shape, dtype)
    if os.environ.get("MINILM_POISON") == "1":
        kind = array.dtype.kind
        if array.dtype.name == "uint16":
            array.fill(0x7FC0)  # a NaN in bfloat16
        else:
            array.fill(math.nan if kind == "f" else True if kind == "b" else np.iinfo(array.dtype).max)
    return array


def empty_like(array: Any) -> Any:
    """`empty` of the shape and dtype of `array`, in C order whatever the order of `array`."""
    return empty(array.shape, array.dtype, array)


# ----- where a kernel runs


def architecture() -> str:
    """What the next launch runs on: "interpreter", or "sm_80", "sm_90", ... (under `dry` the one compiled for).

    Raises:
        RuntimeError: if there is nothing to run on.
    """
    if interpreting():
        return "interpreter"
    return f"sm_{_driver().get_current_target().arch}"


def _driver() -> Any:
    try:
        return triton.runtime.driver.active
    except (RuntimeError, AssertionError) as error:
        raise RuntimeError(
            "a Triton kernel has nothing to run on: Triton finds no CUDA device here. Start the process with "
            "TRITON_INTERPRET=1 to run kernels in the interpreter on NumPy arrays"
        ) from error


def activate() -> None:
    """Make launches go to CuPy's current device and stream; nothing to do under the interpreter."""
    if not interpreting():
        from minilm.kernels.cupy_driver import CuPyDriver

        CuPyDriver.activate()


def launch(kernel: Any, grid: int | tuple[int, ...], *args: Any, **meta: Any) -> None:
    """Run `kernel` once for each program of `grid`: up to three axes; nothing happens where one is 0.

    Args:
        args: the kernel's arguments in order: Ptr (see `pointers`), int, float, bool or None.
        meta: the kernel's constexpr arguments (a `tile`), num_warps and num_stages.

    Raises:
        TypeError: if an argument is a bare array, or an array that is not where the kernel runs.
        NotImplementedError: for bfloat16 in the interpreter, which computes it wrongly.
    """
    grid = (grid,) if isinstance(grid, int) else tuple(int(n) for n in grid)
    args = tuple(arg.item() if isinstance(arg, np.generic) else arg for arg in args)
    if 0 not in grid:
        _run(kernel, grid, args, meta)


def _run(kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], meta: dict[str, Any]) -> None:
    _check(kernel, args)
    if interpreting():
        sizes = {name: size for name, size in meta.items() if name not in ("num_warps", "num_stages")}
        # Lanes beyond a boundary compute on whatever they hold, and a mask drops the result: no GPU warns of it.
        with np.errstate(all="ignore"):
            kernel[grid](*args, **sizes)
    else:
        # The default of today, which Triton 3.10 takes back.
        kernel[grid](*args, enable_fp_fusion=True, **meta)


def _check(kernel: Any, args: tuple[Any, ...]) -> None:
    """Refuse arguments that would be read as something else than what they are."""
    on_host = interpreting() or isinstance(_driver(), DryDriver)
    for index, arg in enumerate(args):
        if isinstance(arg, Ptr):
            if isinstance(arg.array, np.ndarray) is not on_host:
                raise TypeError(
                    f"argument {index} of {kernel.__name__} is a {type(arg.array).__module__} array, and the kernel "
                    f"runs {'on the host' if on_host else 'on the GPU'} ({architecture()}): move it there first"
                )
            if arg.dtype == "bfloat16" and interpreting():
                raise NotImplementedError(
                    f"argument {index} of {kernel.__name__} is bfloat16, which Triton's interpreter computes "
                    f"wrongly: use float16 or float32 there"
                )
        elif not (arg is None or isinstance(arg, int | float)):
            raise TypeError(
                f"argument {index} of {kernel.__name__} is a {type(arg).__name__}: "
                f"wrap an array with pointers(array), and pass Python numbers"
            )


# ----- which tile

_overrides: dict[str, dict[str, int]] = {}
_tiles_of: str | None = None


def tile(kernel_name: str, **key: int | str) -> dict[str, int]:
    """The block sizes, num_warps and num_stages of a kernel here: the first row of the table that fits `key`.

    A row fits if each number of its condition is at least the one in `key` (`D=64` covers head widths up to 64)
    and each string is the same. An architecture that the table does not name takes the rows of the nearest older
    one; the interpreter has rows of its own.

    Raises:
        LookupError: if no row fits; the message lists what the table has.
    """
    if kernel_name in _overrides:
        return dict(_overrides[kernel_name])
    if kernel_name not in TILES:
        raise LookupError(f"no tiles for a kernel {kernel_name!r}: kernels/tiles.py has {', '.join(sorted(TILES))}")
    here, table = _tiles_of or architecture(), TILES[kernel_name]
    if here in table:
        rows = table[here]
    else:
        older = [name for name in table if name != "interpreter" and here != "interpreter"]
        older = [name for name in older if int(name[3:]) <= int(here[3:])]
        if not older:
            raise LookupError(f"{kernel_name} has no tiles for {here}: kernels/tiles.py has {', '.join(table)}")
        rows = table[max(older, key=lambda name: int(name[3:]))]
    for condition, sizes in rows:
        if all(key[n] == v if isinstance(v, str) else key[n] <= v for n, v in condition.items()):
            return dict(sizes)
    raise LookupError(
        f"{kernel_name} has no tile for {', '.join(f'{n}={v}' for n, v in key.items())} on {here}: the rows cover "
        f"{'; '.join(str(condition) for condition, _ in rows)}"
    )


@contextlib.contextmanager
def using_tile(kernel_name: str, **sizes: int) -> Iterator[None]:
    """Within the block `tile(kernel_name, ...)` answers with `sizes`: for tests of odd tiles and for tuning."""
    previous = _overrides.get(kernel_name)
    _overrides[kernel_name] = sizes
    try:
        yield
    finally:
        if previous is None:
            del _overrides[kernel_name]
        else:
            _overrides[kernel_name] = previous


@contextlib.contextmanager
def using_tiles_of(arch: str) -> Iterator[None]:
    """Within the block `tile` answers as it would on `arch`: to count in the interpreter what a GPU's tiles do."""
    global _tiles_of
    previous, _tiles_of = _tiles_of, arch
    try:
        yield
    finally:
        _tiles_of = previous

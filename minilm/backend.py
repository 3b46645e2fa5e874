"""Where arrays live, and who computes the fused operations.

Two questions, kept apart:

- *Where does this array live?* `xp(array)` answers with the module that made it (`numpy`, `cupy`). An
  operation is written once, against that module, and so follows its arrays; it never asks a global switch.
- *Who computes a fused operation?* `use_backend("numpy" | "cupy" | "triton")` sets the backend of the process:
  where new arrays are made, and a table from operation names to the kernels in `minilm.kernels` that replace
  the textbook bodies in `minilm.functional`. An operation that the table does not name keeps its textbook body.

Nothing here falls back in silence: a backend that cannot work on this machine raises `BackendError`, which says
what is missing and how to get it. GPU packages are imported here, on request, and nowhere above.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType, TracebackType
from typing import Annotated, Any, TypeAlias

import numpy as np

from minilm.errors import BackendError

Array: TypeAlias = Annotated[Any, "Array"]
"""An array of whichever module; in an operation's signature it marks what is differentiated."""
MaskArray: TypeAlias = Annotated[Any, "MaskArray"]
"""The same for an array whose dtype says what it means (booleans or numbers): it is never converted."""

# ----- where arrays live

_homes: dict[type, ModuleType | None] = {np.ndarray: np}


def register_home(array_type: type, module: ModuleType) -> None:
    """Declare that arrays of `array_type` are computed on by `module` (an array module with NumPy's names)."""
    _homes[array_type] = module


def _home(array: Any) -> ModuleType | None:
    """The module of an array, or None for what is not an array; remembered by type."""
    kind = type(array)
    if kind not in _homes:
        _homes[kind] = None
        for base in kind.__mro__:
            if _homes.get(base) is not None:
                _homes[kind] = _homes[base]
            elif base.__name__ == "ndarray" and base.__module__.partition(".")[0] == "cupy":
                _homes[kind] = sys.modules["cupy"]  # whoever holds a CuPy array has imported it already
    return _homes[kind]


def is_array(value: object) -> bool:
    """True if `value` is an array of a known home; NumPy's scalars are not arrays."""
    return _home(value) is not None


def xp(*arrays: Array) -> ModuleType:
    """The one array module in which all of `arrays` live.

    Raises:
        TypeError: if they live in different ones; nothing is moved between host and device by itself.
    """
    if len(arrays) == 1 and type(arrays[0]) is np.ndarray:
        return np
    home: ModuleType | None = None
    for array in arrays:
        other = np if isinstance(array, np.generic) else _home(array)
        if other is None:
            raise TypeError(
                f"{type(array).__name__} is not an array that minilm knows: pass a Tensor or a NumPy array"
            )
        if home is not None and other is not home:
            raise TypeError(
                f"arrays of two homes in one operation ({home.__name__} and {other.__name__}): "
                f"move one of them first, with minilm.backend.asarray(array) to the current backend "
                f"or minilm.backend.to_numpy(array) to the host"
            )
        home = other
    assert home is not None, "xp() needs an array"
    return home


def owner(array: Array) -> Array:
    """The array that owns the memory which `array` (perhaps a view) shows."""
    while type(array.base) is type(array):
        array = array.base
    return array


def asarray(data: Any, dtype: Any = None) -> Array:
    """`data` (list, scalar, NumPy array, array of the current backend) as an array of the current backend."""
    return current_backend().array_module().asarray(data, dtype=dtype)


def to_numpy(array: Array) -> np.ndarray:
    """`array` on the host; the same memory where it lives there already."""
    if isinstance(array, np.ndarray | np.generic):
        return np.asarray(array)
    return np.asarray(array.get())  # CuPy's explicit copy to the host


def scatter_add_rows(rows: Array, ids: Array, n: int) -> Array:
    """y (n, C) with y[ids[i]] += rows[i], for `rows` (N, C) and integer `ids` (N,): repeated ids add up.

    On NumPy the rows are sorted by id and each run is summed at once: same bits every time, and some ten times
    as fast as `np.add.at` on rows. CuPy's `add.at` uses atomics, so there the order of the sum is not fixed.
    """
    if rows.dtype == "float16":  # thousands of rows may go into one: they are added up in float32
        return scatter_add_rows(rows.astype("float32"), ids, n).astype("float16")
    module = xp(rows, ids)
    y = module.zeros((n, rows.shape[1]), dtype=rows.dtype)
    if module is not np:
        module.add.at(y, ids, rows)
    elif len(ids):
        order = np.argsort(ids, kind="stable")
        sorted_ids = ids[order]
        first = np.flatnonzero(np.r_[True, sorted_ids[1:] != sorted_ids[:-1]])
        y[sorted_ids[first]] = np.add.reduceat(rows[order], first, axis=0)
    return y


# ----- who computes the fused operations


@dataclass(frozen=True)
class Backend:
    """A setting of the switch: the array module of new arrays, and the kernels that replace textbook bodies.

    `kernels` maps an operation's name to "module:function"; the function has the operation's signature, on
    arrays, and returns (output, vjp) like the textbook body.
    """

    name: str
    module: str
    kernels: dict[str, str] = field(default_factory=dict)

    def array_module(self) -> ModuleType:
        return np if self.module == "numpy" else importlib.import_module(self.module)


# The fast CPU paths, for arrays of NumPy in float32 and float64; the other operations keep their textbook bodies.
THREADED_KERNELS: dict[str, str] = {
    "scaled_dot_product_attention": "minilm.kernels.attention.threaded:attention",
    "linear": "minilm.kernels.matmul.threaded:linear",
    "linear_activation": "minilm.kernels.matmul.threaded:linear_activation",
    "matmul": "minilm.kernels.matmul.threaded:matmul",
    "lstm": "minilm.kernels.lstm_cell.threaded:lstm",
    "gru": "minilm.kernels.gru.threaded:gru",
    "rnn": "minilm.kernels.rnn.threaded:rnn",
    "layer_norm": "minilm.kernels.layer_norm.threaded:layer_norm",
    "rms_norm": "minilm.kernels.rms_norm.threaded:rms_norm",
    "add_rms_norm": "minilm.kernels.rms_norm.threaded:add_rms_norm",
    "softmax": "minilm.kernels.softmax.threaded:softmax",
    "log_softmax": "minilm.kernels.softmax.threaded:log_softmax",
    "swiglu": "minilm.kernels.swiglu.threaded:swiglu",
    "cross_entropy": "minilm.kernels.cross_entropy.threaded:cross_entropy",
    "keep_mask": "minilm.kernels.dropout.threaded:keep_mask",  # what dropout leaves, of minilm.random
    "adamw": "minilm.kernels.adamw.threaded:adamw",  # the optimizer's step, all parameters at once
    "squared_norm": "minilm.kernels.gradient_norm.threaded:squared_norm",  # of all gradients together
    "scale": "minilm.kernels.gradient_norm.threaded:scale",
}

# The operations that have a Triton kernel; those not named here keep their textbook bodies, on the same arrays.
TRITON_KERNELS: dict[str, str] = {
    "scaled_dot_product_attention": "minilm.kernels.attention.triton:attention",
    "linear": "minilm.kernels.matmul.triton:linear",
    "linear_activation": "minilm.kernels.matmul.triton:linear_activation",
    "matmul": "minilm.kernels.matmul.triton:matmul",
    "softmax": "minilm.kernels.softmax.triton:softmax",
    "log_softmax": "minilm.kernels.softmax.triton:log_softmax",
    "layer_norm": "minilm.kernels.layer_norm.triton:layer_norm",
    "rms_norm": "minilm.kernels.rms_norm.triton:rms_norm",
    "add_rms_norm": "minilm.kernels.rms_norm.triton:add_rms_norm",
    "rotary_embedding": "minilm.kernels.rotary.triton:rotary_embedding",
    "swiglu": "minilm.kernels.swiglu.triton:swiglu",
    "cross_entropy": "minilm.kernels.cross_entropy.triton:cross_entropy",
    "lstm": "minilm.kernels.lstm_cell.triton:lstm",
    "adamw": "minilm.kernels.adamw.triton:adamw",  # the optimizer's step, all parameters at once
}

BACKENDS: dict[str, Backend] = {
    "numpy": Backend("numpy", "numpy", THREADED_KERNELS),
    "cupy": Backend("cupy", "cupy", {"gelu": "minilm.kernels.gelu.cupy:gelu"}),
    "triton": Backend("triton", "cupy", TRITON_KERNELS),  # under TRITON_INTERPRET=1 on NumPy arrays, see _switch
}


def why_not(name: str) -> str | None:
    """None if the backend `name` can work on this machine, else the reason and the way out."""
    if name not in BACKENDS:
        return f"there is no backend {name!r}: choose one of {', '.join(map(repr, BACKENDS))}"
    if name == "numpy":
        return None
    if name == "triton":
        reason = _why_no_triton()
        if reason is not None or _interpreting():
            return reason
    reason = _why_no_gpu(name)
    if reason is None or name != "triton":
        return reason
    return f"{reason}. TRITON_INTERPRET=1 in the environment runs the kernels here, slowly, on NumPy arrays"


def _why_no_triton() -> str | None:
    if importlib.util.find_spec("triton") is None:
        if sys.platform != "linux":
            return f"the 'triton' backend needs the package triton, which is not for {sys.platform}: use 'numpy'"
        return (
            "the 'triton' backend needs the package triton, which is not installed: "
            "pip install 'minilm[triton]', or use 'numpy'"
        )
    if os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "on", "true", "yes", "y") and not _interpreting():
        return (
            "TRITON_INTERPRET was set after triton was imported, and triton reads it once: "
            "set it before Python starts, as in TRITON_INTERPRET=1 minilm train gpt --backend triton"
        )
    return None


def _interpreting() -> bool:
    """True if Triton kernels run in its interpreter in this process."""
    return importlib.import_module("minilm.kernels.host").interpreting()


def _why_no_gpu(name: str) -> str | None:
    """None if CuPy finds a GPU that the backend `name` can use."""
    if importlib.util.find_spec("cupy") is None:
        extras = "cupy" if name == "cupy" else "cupy,triton"
        return (
            f"the {name!r} backend needs the package cupy, which is not installed: "
            f"pip install 'minilm[{extras}]' on a machine with an NVIDIA GPU, or use 'numpy'"
        )
    cuda = importlib.import_module("cupy").cuda
    needs = f"the {name!r} backend needs a CUDA device"
    try:
        if cuda.runtime.getDeviceCount() == 0:
            return f"{needs}, and cupy finds none on this machine: use 'numpy'"
    except RuntimeError as error:  # CUDARuntimeError
        driver, runtime = cuda.runtime.driverGetVersion(), cuda.runtime.runtimeGetVersion()
        if driver == 0:
            return f"{needs}, and cupy finds none on this machine, nor an NVIDIA driver: use 'numpy'"
        if "InsufficientDriver" in str(error):
            return (
                f"{needs}, and the NVIDIA driver here is too old: it is for CUDA {_version(driver)}, "
                f"and this cupy for {_version(runtime)}. Update the driver, or use 'numpy'"
            )
        return f"{needs}, and CUDA answers {error}: use 'numpy'"
    capability = int(cuda.Device().compute_capability)
    if name == "triton" and capability < 80:
        return (
            f"the 'triton' backend needs a GPU of compute capability 8.0 (Ampere) or newer, and this one has "
            f"{capability / 10}: use 'cupy'"
        )
    return None


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"  # 12040 is 12.4


_current: Backend | None = None
_kernels: dict[str, Callable[..., Any]] = {}


def current_backend() -> Backend:
    """The backend in force: the last `use_backend`, else the environment's MINILM_BACKEND, else numpy."""
    if _current is None:
        _switch(os.environ.get("MINILM_BACKEND") or "numpy")
    assert _current is not None
    return _current


def _switch(name: str) -> None:
    global _current
    reason = why_not(name)
    if reason is not None:
        raise BackendError(reason)
    backend = BACKENDS[name]
    if name == "triton":
        if _interpreting():
            backend = replace(backend, module="numpy")
        try:
            importlib.import_module("minilm.kernels.host").activate()
        except Exception as error:
            raise BackendError(f"the 'triton' backend could not set up Triton's launcher: {error}") from error
    kernels = {}
    for operation, target in backend.kernels.items():
        module, _, function = target.partition(":")
        kernels[operation] = getattr(importlib.import_module(module), function)
    _current = backend
    _kernels.clear()
    _kernels.update(kernels)


def kernel_for(operation: str, array: Any = None) -> Callable[..., Any] | None:
    """The current backend's own (output, vjp) function for a fused operation, or None: the textbook body.

    The table of "numpy" is for NumPy's float32 and float64: given an `array` (the operation's first) of another
    home or dtype, the answer is None. The tables of the other backends are for all of their arrays.
    """
    if _current is None:
        current_backend()
    kernel = _kernels.get(operation)
    if kernel is None or array is None or _current is not BACKENDS["numpy"]:
        return kernel
    return kernel if type(array) is np.ndarray and array.dtype.char in "fd" else None


class use_backend:  # noqa: N801 - reads as a statement, like no_grad
    """Switch the whole process to a backend: `use_backend("cupy")`, or `with use_backend("cupy"):` for a block.

    Raises:
        BackendError: if it cannot work here; the message says what to install.
    """

    def __init__(self, name: str) -> None:
        self.previous = current_backend().name
        _switch(name)

    def __enter__(self) -> Backend:
        return current_backend()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _switch(self.previous)

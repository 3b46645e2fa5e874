"""A device without a device: an array module made of NumPy that is as strict as CuPy, and a little stricter.

`DeviceArray` is no ndarray: it refuses to become one by itself, it does not mix with one, and its reductions return
arrays without axes, not scalars. The module lacks what CuPy lacks. What runs on it follows its arrays (`xp(x)`) and
never reaches for NumPy. What it cannot show is CuPy's own behaviour: asynchronous errors, atomics, its bugs.
"""

import sys
import weakref
from types import ModuleType

import numpy as np

from minilm import backend

# NumPy's names that CuPy (13) does not have, as far as an array library could want them.
LACKING = {"errstate", "vectorize", "float128", "nditer", "ndindex", "frompyfunc", "longdouble", "busday_count"}
# Host constants, types and functions on shapes: CuPy hands on NumPy's own.
HOST = {"float16", "float32", "float64", "int32", "int64", "bool_", "dtype", "finfo", "iinfo", "inf", "nan", "pi"}
HOST |= {"newaxis", "broadcast_shapes", "result_type", "can_cast", "issubdtype", "floating", "integer", "isscalar"}


class Mixed(TypeError):
    """An array of the host where one of the device is needed, or the reverse."""


def _down(value):
    """The ndarray in a DeviceArray, in containers too; an ndarray that comes from outside is refused."""
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, np.ndarray):
        raise Mixed(f"a NumPy array of shape {value.shape} where a device array is needed")
    if isinstance(value, tuple | list):
        return type(value)(_down(v) for v in value)
    if isinstance(value, dict):
        return {k: _down(v) for k, v in value.items()}
    return value


def _up(value):
    """NumPy's result as a device array; scalars become arrays without axes."""
    if isinstance(value, np.ndarray | np.generic):
        return DeviceArray(np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(_up(v) for v in value)
    return value


def _lifted(function):
    def on_device(*args, **kwargs):
        return _up(function(*_down(args), **_down(kwargs)))

    return on_device


class DeviceArray:
    """An array that lives elsewhere."""

    __array_ufunc__ = None  # ndarray + DeviceArray asks DeviceArray.__radd__, which refuses
    __hash__ = None

    def __init__(self, host):
        self._host = host
        if host.base is None:
            _owners[id(host)] = self

    def __array__(self, *args, **kwargs):
        raise Mixed("implicit conversion to a NumPy array is not allowed: use .get()")

    def get(self):
        return self._host.copy()

    @property
    def base(self):
        """The array whose memory this one shows, the same object for all its views."""
        if self._host.base is None:
            return None
        known = _owners.get(id(self._host.base))
        return known if known is not None else DeviceArray(self._host.base)

    def __setitem__(self, index, value):
        self._host[_down(index)] = _down(value)

    def __iter__(self):
        return (self[i] for i in range(len(self._host)))

    def __len__(self):
        return len(self._host)

    def __bool__(self):
        return bool(self._host)

    def __int__(self):
        return int(self._host)

    def __float__(self):
        return float(self._host)

    def __index__(self):
        return self._host.__index__()

    def item(self):
        return self._host.item()

    def tolist(self):
        return self._host.tolist()

    def fill(self, value):
        self._host.fill(_down(value))

    def __repr__(self):
        return f"DeviceArray({self._host!r})"


_owners: weakref.WeakValueDictionary[int, DeviceArray] = weakref.WeakValueDictionary()

for _name in ("shape", "ndim", "size", "dtype", "itemsize", "nbytes", "strides", "flags"):
    setattr(DeviceArray, _name, property(lambda self, name=_name: getattr(self._host, name)))
DeviceArray.T = property(lambda self: _up(self._host.T))


def _method(name):
    def method(self, *args, **kwargs):
        return _up(getattr(self._host, name)(*_down(args), **_down(kwargs)))

    return method


_OPERATORS = "add sub mul truediv floordiv mod pow matmul and or xor".split()
for _name in (
    *(f"__{prefix}{op}__" for op in _OPERATORS for prefix in ("", "r")),
    *"__neg__ __abs__ __invert__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __getitem__".split(),
    *"sum mean max min argmax argmin any all prod cumsum reshape transpose swapaxes squeeze copy astype clip".split(),
    *"nonzero ravel repeat take view".split(),
):
    setattr(DeviceArray, _name, _method(_name))


def _in_place(name):
    def method(self, other):
        getattr(self._host, name)(_down(other))
        return self

    return method


for _op in _OPERATORS:
    setattr(DeviceArray, f"__i{_op}__", _in_place(f"__i{_op}__"))


class _Add:
    """`add`, with `add.at`: the one ufunc method that CuPy has for it."""

    def __call__(self, *args, **kwargs):
        return _lifted(np.add)(*args, **kwargs)

    @staticmethod
    def at(array, index, values):
        np.add.at(array._host, _down(index), _down(values))


def _asarray(data, dtype=None):
    """From the host on purpose: the one door."""
    return data if isinstance(data, DeviceArray) and dtype in (None, data.dtype) else DeviceArray(
        np.array(_down(data) if isinstance(data, DeviceArray) else data, dtype=dtype)
    )


class _Module(ModuleType):
    ndarray = DeviceArray
    add = _Add()
    asarray = staticmethod(_asarray)

    def __getattr__(self, name):
        if name in LACKING or name.startswith("__"):
            raise AttributeError(f"module 'standin' has no attribute {name!r} (nor has cupy)")
        value = getattr(np, name)
        if name in HOST:
            return value
        if callable(value):
            return _lifted(value)
        raise AttributeError(f"module 'standin' has no attribute {name!r}")


standin = _Module("standin")


def install(monkeypatch):
    """Make the stand-in a backend for the length of a test: use_backend("standin")."""
    monkeypatch.setitem(sys.modules, "standin", standin)
    monkeypatch.setitem(backend.BACKENDS, "standin", backend.Backend("standin", "standin"))
    known = backend.why_not
    monkeypatch.setattr(backend, "why_not", lambda name: None if name == "standin" else known(name))
    monkeypatch.setitem(backend._homes, DeviceArray, standin)
    monkeypatch.setattr(backend, "_current", backend._current)

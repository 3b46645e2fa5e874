"""A device without a device: an array module made of NumPy that is as strict as CuPy, and a little stricter.

Where it differs from NumPy it does so on purpose, as CuPy does or worse:

- a `DeviceArray` is no ndarray: it refuses to become one by itself (in any function of NumPy too), or to mix with one;
- reductions and single elements are arrays without axes, not scalars;
- the module has the names in `FUNCTIONS` and the arrays those in `METHODS`, no others; a test holds both lists against
  the real cupy. Arguments that CuPy lacks (`where=`, `initial=`) are refused;
- indices out of range wrap around without a word, in every integer array;
- assignment through repeated indices leaves garbage where the values differ, and memory from `empty` is garbage;
- a result computed into memory that overlaps an operand is refused (CuPy's threads would race);
- elementwise results are in C order, whatever their operands were;
- inside `no_synchronization()` nothing may wait for the device: no bool(), float(), int(), .item(), .tolist(), no
  boolean index (its result has a length that only the device knows). `.get()`, the explicit copy to the host, is
  counted, and so is every upload.

What it cannot show is CuPy's own behaviour: asynchronous errors, atomics, its bugs.
"""

import contextlib
import sys
import weakref
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np

from minilm import backend

# Elementwise functions: operands are device arrays and numbers, never lists.
UFUNCS = set(
    "abs absolute add subtract multiply divide negative power exp log sqrt sin cos tanh sign copysign maximum minimum "
    "logaddexp isnan isfinite equal not_equal less less_equal greater greater_equal logical_not logical_and "
    "floor".split()
)
FUNCTIONS = UFUNCS | set(
    "arange argmax argmin argsort array asarray ascontiguousarray broadcast_to clip concatenate cumsum einsum empty "
    "empty_like expand_dims flip full full_like nonzero ones ones_like pad split stack sum take_along_axis tri where "
    "zeros zeros_like".split()
)
# Types, constants and functions on dtypes and shapes: CuPy hands on NumPy's own.
HOST = {"bool_", "dtype", "finfo", "float16", "float32", "float64", "inf", "int32", "int64", "nan", "newaxis", "uint32"}
HOST |= {"uint64", "result_type"}
UPLOADS = {"array", "asarray", "ascontiguousarray"}  # the doors for arrays of the host
REFUSED_ARGUMENTS = {"where", "initial", "subok", "like", "order", "casting"}

METHODS = set(
    "all any argmax argmin argsort astype clip copy cumsum max mean min nonzero prod ravel repeat reshape squeeze sum "
    "swapaxes take transpose view".split()
)
ATTRIBUTES = {"T", "base", "dtype", "flags", "itemsize", "nbytes", "ndim", "shape", "size", "strides"}
READS = {"get", "item", "tolist"}


class Mixed(TypeError):
    """An array of the host where one of the device is needed, or the reverse."""


class Synchronized(RuntimeError):
    """Something waited for the device where nothing may."""


class Race(RuntimeError):
    """An operation reads memory that it writes, in another order."""


# ----- what crosses between host and device


@dataclass
class Traffic:
    """What crossed in a block."""

    transfers_allowed: float
    transfers: int = 0  # explicit copies to the host
    uploads: int = 0  # arrays and lists of the host that were moved to the device
    uploaded: int = 0  # bytes of them
    waits: tuple = ()  # what read the device in another way
    launches: int = 0  # elementwise operations, each of which is a kernel

    def read(self, how):
        if how == "get":
            self.transfers += 1
            if self.transfers > self.transfers_allowed:
                raise Synchronized(f"copy number {self.transfers} to the host; allowed are {self.transfers_allowed}")
        elif self.transfers_allowed != float("inf"):
            raise Synchronized(f"{how} waits for the device")
        else:
            self.waits += (how,)


_blocks: list[Traffic] = []


@contextlib.contextmanager
def no_synchronization(transfers=0):
    """Within the block only so many explicit copies to the host may wait for the device. Gives what crossed."""
    _blocks.append(Traffic(transfers))
    try:
        yield _blocks[-1]
    finally:
        _blocks.pop()


def watched():
    """Only count what crosses in the block."""
    return no_synchronization(float("inf"))


def _read(how):
    for block in _blocks:
        block.read(how)


def _launched():
    for block in _blocks:
        block.launches += 1


def _uploaded(host):
    for block in _blocks:
        block.uploads += 1
        block.uploaded += host.nbytes


# ----- down to NumPy and up again


def _down(value):
    """The ndarray in a DeviceArray, in containers too; an ndarray that comes from outside is refused."""
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, np.ndarray):
        raise Mixed(f"a NumPy array of shape {value.shape} where a device array is needed")
    if isinstance(value, tuple | list):
        return type(value)(_down(v) for v in value)
    return value


_owners: weakref.WeakValueDictionary[int, "DeviceArray"] = weakref.WeakValueDictionary()


def _known(host):
    """The DeviceArray of an ndarray that owns its memory, if there is one."""
    known = _owners.get(id(host))
    return known if known is not None and known._host is host else None


def _up(value):
    """NumPy's result as a device array; scalars become arrays without axes."""
    if isinstance(value, np.ndarray | np.generic):
        host = np.asarray(value)
        return DeviceArray(host) if _known(host) is None else _known(host)
    if isinstance(value, tuple | list):
        return type(value)(_up(v) for v in value)
    return value


def _c_order(value):
    """A new result in C order."""
    if isinstance(value, np.ndarray) and value.base is None:
        return value if value.flags.c_contiguous else np.array(value, order="C")
    return value


def _garbage(host):
    """Fill with what nobody should read."""
    host[...] = np.nan if host.dtype.kind in "fc" else True if host.dtype.kind == "b" else np.iinfo(host.dtype).max
    return host


def _same_view(a, b):
    address = [x.__array_interface__["data"] for x in (a, b)]
    return address[0] == address[1] and (a.shape, a.strides) == (b.shape, b.strides)


def _no_race(out, operands):
    for other in operands:
        if isinstance(other, np.ndarray) and not _same_view(out, other) and np.shares_memory(out, other):
            raise Race(f"the result {out.shape} overlaps an operand {other.shape} that is read in another order")


def _checked(name, args, kwargs):
    """Raise for what CuPy would not take."""
    refused = REFUSED_ARGUMENTS.intersection(kwargs)
    if refused:
        raise TypeError(f"{name}() of cupy takes no {', '.join(refused)}")
    if name in UFUNCS or name == "where":
        for value in args:
            if isinstance(value, list | tuple):
                raise TypeError(f"Unsupported type {type(value)} (cupy.{name} computes on arrays and numbers)")
    if name == "where" and not isinstance(args[0], DeviceArray):
        raise TypeError("cupy.where needs an array as its condition")
    if name == "clip" and len(args) + len(kwargs) < 3:
        raise TypeError("cupy.clip needs both bounds")


def _function(name):
    plain = getattr(np, name)

    def on_device(*args, **kwargs):
        _checked(name, args, kwargs)
        if name == "nonzero":
            _read("nonzero()")
        if name in UFUNCS or name == "where":
            _launched()
        args, kwargs = _down(args), {k: _down(v) for k, v in kwargs.items()}
        if kwargs.get("out") is not None:
            _no_race(kwargs["out"], args[0] if name == "concatenate" else args)
        result = plain(*args, **kwargs)
        if name.startswith("empty"):
            _garbage(result)
        if name == "broadcast_to":  # CuPy's result can be written to
            result = np.lib.stride_tricks.as_strided(result, result.shape, result.strides)
        return _up(_c_order(result) if name in UFUNCS or name == "where" else result)

    on_device.__name__ = name
    return on_device


def _door(name):
    """array, asarray, ascontiguousarray: from the host on purpose."""

    def make(data, dtype=None):
        if isinstance(data, DeviceArray):
            host = data._host
        else:
            if isinstance(data, list | tuple) and any(isinstance(v, DeviceArray) for v in data):
                raise TypeError(f"cupy.{name} of a list of arrays copies them one by one: use stack")
            host = np.asarray(data)
            if host.dtype.kind not in "biufc" or host.dtype.itemsize > 8:
                raise ValueError(f"Unsupported dtype {host.dtype}")
            if host.ndim:
                _uploaded(host)
            return DeviceArray(np.array(host, dtype=dtype))
        return _up(getattr(np, name)(host, dtype=dtype))

    return make


# ----- indices


def _index(shape, index):
    """An index for NumPy: integer arrays wrapped into range, lists uploaded.

    It always has an ellipsis, so that NumPy gives a view for one element too, as CuPy does, and no scalar.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    if all(part is not Ellipsis for part in parts):
        parts.append(Ellipsis)
    for i, part in enumerate(parts):
        if isinstance(part, list):
            parts[i] = np.array(part)
            _uploaded(parts[i])
        else:
            parts[i] = _down(part)
    width = [0 if p is None or p is Ellipsis else p.ndim if _is_mask(p) else 1 for p in parts]
    axis = 0
    for i, part in enumerate(parts):
        if part is Ellipsis:
            axis += len(shape) - sum(width)
        elif isinstance(part, np.ndarray) and part.dtype.kind in "iu":
            parts[i] = part % shape[axis] if shape[axis] else part
        axis += width[i]
    return tuple(parts)


def _is_mask(part):
    return isinstance(part, np.ndarray) and part.dtype.kind == "b"


def _is_advanced(parts):
    return any(isinstance(p, np.ndarray) for p in parts)


def _places(host, parts):
    """The numbers, in C order, of the elements that an index chooses."""
    return np.arange(host.size).reshape(host.shape)[parts]


def _flat(host):
    flat = host.reshape(-1)
    if flat.size and not np.shares_memory(flat, host):
        raise NotImplementedError("the stand-in indexes with arrays into contiguous memory only")
    return flat


# ----- arrays


class DeviceArray:
    """An array that lives elsewhere."""

    __array_ufunc__ = None  # ndarray + DeviceArray asks DeviceArray.__radd__, which refuses
    __hash__ = None

    def __init__(self, host):
        self._host = host
        self._base = None
        if host.base is None:
            _owners[id(host)] = self
        else:  # a view keeps its owner alive, the same object for all views of it
            owner = host
            while getattr(owner, "base", None) is not None:  # as_strided puts an object of its own between
                owner = owner.base
            known = _known(owner)
            self._base = DeviceArray(owner) if known is None else known

    def __array__(self, *args, **kwargs):
        raise Mixed("implicit conversion to a NumPy array is not allowed: use .get()")

    def __array_function__(self, function, types, args, kwargs):
        raise Mixed(f"numpy.{function.__name__} of a device array: use the function of xp(array)")

    @property
    def base(self):
        return self._base

    @property
    def flags(self):
        flags = self._host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)

    def __getitem__(self, index):
        parts = _index(self._host.shape, index)
        if any(_is_mask(p) for p in parts):
            _read("a boolean index")
        result = self._host[parts]
        return _up(np.array(result) if _is_advanced(parts) else result)

    def __setitem__(self, index, value):
        parts, value = _index(self._host.shape, index), _down(value)
        if isinstance(value, list | tuple):
            raise TypeError("cupy assigns arrays and numbers, no lists")
        if isinstance(value, np.ndarray) and not _is_advanced(parts):
            _no_race(self._host[parts], [value])
        self._host[parts] = value
        if _is_advanced(parts) and not any(_is_mask(p) for p in parts):
            self._scramble(parts, value)

    def _scramble(self, parts, value):
        places = _places(self._host, parts)
        values = np.broadcast_to(np.asarray(value, dtype=self._host.dtype), places.shape).reshape(-1)
        places = places.reshape(-1)
        order = np.argsort(places, kind="stable")
        places, values = places[order], values[order]
        unsure = places[1:][(places[1:] == places[:-1]) & (values[1:] != values[:-1])]
        if unsure.size:
            _flat(self._host)[unsure] = _garbage(np.empty(unsure.size, self._host.dtype))

    def __iter__(self):
        return (self[i] for i in range(len(self._host)))

    def __len__(self):
        return len(self._host)

    def fill(self, value):
        self._host.fill(_down(value))

    def __repr__(self):
        return f"DeviceArray({self._host!r})"

    # what waits for the device

    def get(self):
        _read("get")
        return self._host.copy()

    def item(self):
        _read(".item()")
        return self._host.item()

    def tolist(self):
        _read(".tolist()")
        return self._host.tolist()

    def __bool__(self):
        _read("bool()")
        return bool(self._host)

    def __int__(self):
        _read("int()")
        return int(self._host)

    def __float__(self):
        _read("float()")
        return float(self._host)


def _property(name):
    return property(lambda self: _up(getattr(self._host, name)))


def _method(name):
    plain = getattr(np.ndarray, name)

    def method(self, *args, **kwargs):
        refused = REFUSED_ARGUMENTS.intersection(kwargs)
        if refused:
            raise TypeError(f"{name}() of a cupy array takes no {', '.join(refused)}")
        if name == "nonzero":
            _read("nonzero()")
        result = plain(self._host, *_down(args), **{k: _down(v) for k, v in kwargs.items()})
        if result is NotImplemented:
            return result
        return _up(_c_order(result) if name.startswith("__") else result)

    method.__name__ = name
    return method


def _operator(name):
    plain = _method(name)

    def method(self, *operands):
        for value in operands:
            if isinstance(value, list | tuple):
                raise TypeError(f"Unsupported type {type(value)} (cupy computes on arrays and numbers)")
        _launched()
        return plain(self, *operands)

    return method


def _in_place(name):
    plain = getattr(np.ndarray, name)

    def method(self, other):
        if isinstance(other, list | tuple):
            raise TypeError(f"Unsupported type {type(other)} (cupy computes on arrays and numbers)")
        other = _down(other)
        if isinstance(other, np.ndarray):
            _no_race(self._host, [other])
        _launched()
        plain(self._host, other)
        return self

    return method


for _name in ATTRIBUTES - {"base", "flags"}:
    setattr(DeviceArray, _name, _property(_name))
for _name in METHODS:
    setattr(DeviceArray, _name, _method(_name))
_BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split()
for _name in (
    *(f"__{prefix}{op}__" for op in _BINARY for prefix in ("", "r")),
    *"__neg__ __abs__ __invert__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__".split(),
):
    setattr(DeviceArray, _name, _operator(_name))
for _name in _BINARY:
    if _name != "matmul":  # cupy arrays have no __imatmul__
        setattr(DeviceArray, f"__i{_name}__", _in_place(f"__i{_name}__"))


# ----- the module


class _WithAt:
    """`add` with `add.at`, `maximum` with `maximum.at`: the one method of a ufunc that the library uses."""

    def __init__(self, name):
        self.function, self.numpy = _function(name), getattr(np, name)

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)

    def at(self, array, index, values):
        host = array._host
        places = _places(host, _index(host.shape, index))
        values = np.broadcast_to(_down(values), places.shape)
        # backwards, since atomics keep no order, and NumPy's own would hide what depends on it
        self.numpy.at(_flat(host), places.reshape(-1)[::-1], values.reshape(-1)[::-1])


WITH_AT = ("add", "maximum")


class _Module(ModuleType):
    ndarray = DeviceArray

    def __getattr__(self, name):
        if name in HOST:
            return getattr(np, name)
        raise AttributeError(
            f"module 'standin' has no attribute {name!r}: if cupy has it, FUNCTIONS in tests/backend/standin.py may too"
        )


standin = _Module("standin")
for _name in FUNCTIONS - UPLOADS:
    setattr(standin, _name, _WithAt(_name) if _name in WITH_AT else _function(_name))
for _name in UPLOADS:
    setattr(standin, _name, _door(_name))


def install(monkeypatch):
    """Make the stand-in a backend for the length of a test: use_backend("standin")."""
    monkeypatch.setitem(sys.modules, "standin", standin)
    monkeypatch.setitem(backend.BACKENDS, "standin", backend.Backend("standin", "standin"))
    known = backend.why_not
    monkeypatch.setattr(backend, "why_not", lambda name: None if name == "standin" else known(name))
    monkeypatch.setitem(backend._homes, DeviceArray, standin)
    monkeypatch.setattr(backend, "_current", backend._current)

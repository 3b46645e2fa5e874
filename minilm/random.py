"""Random numbers that mean the same everywhere, and that a checkpoint can resume.

A `Generator` holds two streams, both made from its seed:

- *draws* (weights, shuffles, sampled tokens) come from NumPy's own generator on the host and are moved to where
  they are needed, so that a seed gives the same weights on every backend;
- *masks* (dropout) come from a counter-based generator, Philox4x32-10 (Salmon et al., "Parallel random numbers:
  as easy as 1, 2, 3", SC 2011). Element i of a mask is a function of (seed, offset + i) alone: a kernel can
  make it again in the backward pass instead of storing it, and no order of evaluation can change it. It is
  the function that Triton calls `tl.rand(seed, offset)`.

Operations that are given no generator use the current one: the process's default (`manual_seed`), or the one that
`using_generator` puts in its place for a block, as the trainer does. NumPy's global generator is never touched.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minilm.backend import Array, current_backend, kernel_for, xp
from minilm.errors import ConfigurationError

_U32 = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
BLOCK = 1 << 18  # float64 draws at a time: 2 MB, beside arrays that may be a thousand times as large


def philox4x32(
    counter: tuple[Any, Any, Any, Any], key: tuple[int, int], rounds: int = 10, home: Any = np
) -> tuple[Array, ...]:
    """Philox4x32: four words of 32 random bits for each 128-bit counter, under a 64-bit key.

    Args:
        counter: four arrays (or ints) of values below 2**32, broadcast against each other.
        key: two ints below 2**32.
        home: the array module that computes; integers are the same everywhere.

    Returns:
        four arrays of uint32. Source: Salmon et al. 2011, section 3.3 and figure 3.
    """
    c0, c1, c2, c3 = (home.asarray(c, dtype=np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(rounds):
        high_low_0 = c0 * np.uint64(0xD2511F53)  # 32 x 32 -> 64 bits: no overflow
        high_low_1 = c2 * np.uint64(0xCD9E8D57)
        c0 = (high_low_1 >> _SHIFT) ^ c1 ^ np.uint64(k0)
        c2 = (high_low_0 >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c1 = high_low_1 & _U32
        c3 = high_low_0 & _U32
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF  # the golden ratio and sqrt(3) - 1: a Weyl sequence of keys
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return tuple(c.astype(np.uint32) for c in (c0, c1, c2, c3))


def counter_uniform(seed: int, offset: int, n: int, home: Any = np) -> Array:
    """float32 (n,), uniform in [0, 1): element i is what `tl.rand(seed, offset + i)` gives, bit for bit.

    It is computed by `home`, an array module: what a device needs is made there, and nothing is moved.
    """
    key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
    u = home.empty(n, dtype=np.float32)
    # On the host small enough for all temporaries of one block to stay in cache; a device has no use for small ones.
    block = 1 << 14 if home is np else 1 << 24
    for start in range(0, n, block):
        stop = min(start + block, n)
        i = home.arange(offset + start, offset + stop, dtype=np.uint64)
        word = philox4x32((i & _U32, i >> _SHIFT, 0, 0), key, home=home)[0].view(np.int32)
        word = home.where(word < 0, -(word + 1), word)  # fold the sign away, as Triton's uint_to_uniform_float
        u[start:stop] = word.astype(np.float32) * np.float32(4.6566127342e-10)
    return u


class Generator:
    """A seeded source of random numbers; see the module's docstring for its two streams.

    Args:
        seed: any int from 0 to 2**63 - 1.
    """

    def __init__(self, seed: int = 0) -> None:
        if not 0 <= int(seed) < 2**63:
            raise ConfigurationError(f"a seed is an int from 0 to 2**63 - 1, got {seed}")
        self.seed = int(seed)
        self.offset = 0  # counters that masks have used up so far
        self._draws = np.random.Generator(np.random.Philox(self.seed))

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed}, offset={self.offset})"

    # draws, on the host and moved

    def normal(self, shape: Any, mean: float = 0.0, std: float = 1.0, dtype: Any = "float32") -> Array:
        """Normal variates, drawn in float64 and rounded to `dtype`, so that every dtype starts from the same ones."""
        return _move(_rounded(lambda n: self._draws.normal(mean, std, n), shape, dtype), dtype)

    def fill_normal(self, array: Array, mean: float = 0.0, std: float = 1.0) -> None:
        """Overwrite `array` with what `normal` would give: no second array, which for a large table is much."""
        if xp(array) is np:
            _fill(array.reshape(-1), lambda n: self._draws.normal(mean, std, n))
        else:
            array[...] = self.normal(array.shape, mean, std, array.dtype)

    def uniform(self, shape: Any, low: float = 0.0, high: float = 1.0, dtype: Any = "float32") -> Array:
        """Uniform variates in [low, high), drawn in float64 and rounded to `dtype`."""
        return _move(_rounded(lambda n: self._draws.uniform(low, high, n), shape, dtype), dtype)

    def integers(self, low: int, high: int, shape: Any = ()) -> np.ndarray:
        """int64 from `low` up to, not including, `high`; on the host."""
        return np.asarray(self._draws.integers(low, high, shape))

    def permutation(self, n: int) -> np.ndarray:
        """int64 (n,): the numbers below n in random order; on the host."""
        return self._draws.permutation(n)

    def random(self) -> float:
        """One float64 uniform in [0, 1)."""
        return float(self._draws.random())

    # masks, by counter

    def reserve(self, n: int) -> tuple[int, int]:
        """(seed, offset) of n counters that no one else will get: what a kernel needs to make a mask itself."""
        offset, self.offset = self.offset, self.offset + n
        return self.seed, offset

    def keep_mask(self, shape: tuple[int, ...], p: float, like: Array = None) -> Array:
        """bool mask, each element False (dropped) with probability p; in C order element i has counter offset + i.

        It is made where `like` lives; if that is None, where the current backend makes arrays.
        """
        n = int(np.prod(shape, dtype=np.int64))
        seed, offset = self.reserve(n)
        home = current_backend().array_module() if like is None else xp(like)
        kernel = kernel_for("keep_mask", like)
        if kernel is not None:
            return kernel(seed, offset, n, p).reshape(shape)
        return counter_uniform(seed, offset, n, home).reshape(shape) >= np.float32(p)

    # state

    def spawn(self, name: str) -> Generator:
        """An independent generator, determined by this one's seed and a name; this one is left as it was."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return Generator(int.from_bytes(digest[:8], "little") >> 1)

    def state_dict(self) -> dict[str, Any]:
        """All of the state, as JSON can hold it."""
        state = self._draws.bit_generator.state
        return {
            "seed": self.seed,
            "offset": self.offset,
            "counter": [int(v) for v in state["state"]["counter"]],
            "key": [int(v) for v in state["state"]["key"]],
            "buffer": [int(v) for v in state["buffer"]],
            "buffer_pos": int(state["buffer_pos"]),
            "has_uint32": int(state["has_uint32"]),
            "uinteger": int(state["uinteger"]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken.

        Raises:
            ValueError: if `state` is none; NumPy itself would read beside its buffer.
        """
        limits = {"seed": 63, "offset": 64, "buffer_pos": 3, "has_uint32": 1, "uinteger": 32}
        for name, size in (("counter", 4), ("key", 2), ("buffer", 4)):
            numbers = state.get(name)
            if not isinstance(numbers, list) or len(numbers) != size or not all(_fits(n, 64) for n in numbers):
                raise ValueError(f"{name} of a generator's state is {numbers!r}: it has {size} numbers of 64 bits")
        if wrong := [name for name, bits in limits.items() if not _fits(state.get(name), bits)]:
            raise ValueError(f"{wrong[0]} of a generator's state is {state.get(wrong[0])!r}")
        if state["buffer_pos"] > 4:
            raise ValueError(f"buffer_pos of a generator's state is {state['buffer_pos']}: the buffer has 4")
        self.seed, self.offset = state["seed"], state["offset"]
        self._draws = np.random.Generator(np.random.Philox(self.seed))
        self._draws.bit_generator.state = {
            "bit_generator": "Philox",
            "state": {
                "counter": np.array(state["counter"], dtype=np.uint64),
                "key": np.array(state["key"], dtype=np.uint64),
            },
            "buffer": np.array(state["buffer"], dtype=np.uint64),
            "buffer_pos": state["buffer_pos"],
            "has_uint32": state["has_uint32"],
            "uinteger": state["uinteger"],
        }


def _rounded(draw: Callable[[int], np.ndarray], shape: Any, dtype: Any) -> np.ndarray:
    """Numbers of draw(n), which gives n of them in float64, in `shape` and rounded to `dtype`, a block at a time."""
    out = np.empty(shape, dtype=dtype)
    _fill(out.reshape(-1), draw)
    return out


def _fill(flat: np.ndarray, draw: Callable[[int], np.ndarray]) -> None:
    for start in range(0, flat.size, BLOCK):
        part = flat[start : start + BLOCK]
        part[...] = draw(part.size)


def _move(drawn: np.ndarray, dtype: Any) -> Array:
    return current_backend().array_module().asarray(np.asarray(drawn, dtype=dtype))


_generator = Generator(0)


def current_generator() -> Generator:
    """The generator of operations that are given none."""
    return _generator


def manual_seed(seed: int) -> Generator:
    """Replace the process's default generator by a new one of this seed, and return it."""
    global _generator
    _generator = Generator(seed)
    return _generator


@contextlib.contextmanager
def using_generator(generator: Generator) -> Iterator[Generator]:
    """Within the block, `generator` is the current one."""
    global _generator
    previous, _generator = _generator, generator
    try:
        yield generator
    finally:
        _generator = previous


def _fits(value: Any, bits: int) -> bool:
    return type(value) is int and 0 <= value < 1 << bits

"""Runs the tests of the interpreter on a GPU: a launch on NumPy arrays, made on copies of their memory over there.

Before a launch all the memory that its arguments point into, guard bands included, goes to the device; afterwards
what changed comes back. So the tests, their oracles and their guards need not know where the kernel ran.
"""

import contextlib
import ctypes

import numpy as np

from minilm.kernels import host
from minilm.kernels.host import Ptr


def memory(array):
    """The bytes of the array that owns the memory of `array`, as an array of uint8, and where they begin."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    low, high = np.lib.array_utils.byte_bounds(array)
    size = (high - low) if array.size else 0
    return np.frombuffer((ctypes.c_char * size).from_address(low), np.uint8), low


@contextlib.contextmanager
def mirrored(to_device, to_host):
    """Within the block launches get copies: `to_device` makes one of bytes on the host, `to_host` brings it back."""
    run = host._run

    def run_over_there(kernel, grid, args, meta):
        copies = {}

        def copied(arg):
            if not (isinstance(arg, Ptr) and isinstance(arg.array, np.ndarray)):
                return arg
            here, low = memory(arg.array)
            if low not in copies:
                copies[low] = here, to_device(here)
            start = arg.data_ptr() - low if arg.array.size else 0
            return Ptr(copies[low][1][start:], arg.dtype)

        run(kernel, grid, tuple(map(copied, args)), meta)
        for here, there in copies.values():
            now = to_host(there)
            changed = now != here
            here[changed] = now[changed]

    host._run = run_over_there
    try:
        yield
    finally:
        host._run = run

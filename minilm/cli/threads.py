"""How many threads NumPy's BLAS uses: said in the environment, before NumPy is loaded.

For the matrices of a small model a second thread gains next to nothing, and it costs dearly when another program
wants a core: the threads of OpenBLAS wait for each other by spinning, and a step becomes ten times slower. So the small
presets use one. What the environment says already is left alone.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int) -> list[str]:
    """Set the variables that are not set yet; returns their names."""
    ours = [name for name in VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, str(count)))
    return ours


@contextmanager
def shared_cores(shares: int) -> Iterator[None]:
    """For the processes that are started in this block: BLAS threads for a share of the cores."""
    ours = use_threads(max(1, usable_cores() // shares))
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]

"""How many threads a command uses: said in the environment, before NumPy is loaded.

Ours are those of minilm.kernels.threads. The BLAS gets one: its threads wait for each other by spinning, and beside
ours, or where another program wants a core, a step becomes ten times slower. What the environment says of the BLAS
already is left alone.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from minilm.errors import ConfigurationError

OURS = "MINILM_THREADS"
BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int | None, one_of_blas: bool = True) -> None:
    """`count` threads of ours (None: as the environment says, else one a core), and one of the BLAS.

    Raises:
        ConfigurationError: if MINILM_THREADS is no number of threads.
    """
    if count:
        os.environ[OURS] = str(count)
    elif not (os.environ.get(OURS) or "1").isdigit() or os.environ.get(OURS) == "0":
        raise ConfigurationError(f"{OURS} is a number of threads, from 1, not {os.environ[OURS]!r}")
    if one_of_blas:
        for name in BLAS:
            os.environ.setdefault(name, "1")


@contextmanager
def shared_cores(shares: int) -> Iterator[None]:
    """For the processes that are started in this block: threads for a share of the cores."""
    before = os.environ.get(OURS)
    os.environ[OURS] = str(max(1, int(before or usable_cores()) // shares))
    try:
        yield
    finally:
        if before is None:
            del os.environ[OURS]
        else:
            os.environ[OURS] = before

"""What a run asks of the operating system."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys

import pytest

from minilm.training.process import StopSignals, peak_memory

FAULTS = """
import resource, sys
import numpy as np
from minilm.training.process import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for step in range(60):
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(200_000, dtype="float32") for _ in range(20)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be asked")
def test_kept_memory_is_not_fetched_again_page_by_page() -> None:
    def page_faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert page_faults("kept") < page_faults("given back") / 20


def test_the_first_signal_is_noted_and_the_second_stops() -> None:
    with StopSignals() as _, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    stopping = StopSignals()
    before = signal.getsignal(signal.SIGINT)
    with stopping:
        signal.raise_signal(signal.SIGTERM)
        assert stopping.caught
    assert signal.getsignal(signal.SIGINT) is before


def test_peak_memory_is_at_least_what_is_held() -> None:
    assert peak_memory() > 10 * 2**20

"""Timing and memory: contestants take turns, one disturbed round moves nothing, a peak is a peak."""

import importlib
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from minilm.testing import timing
from minilm.testing.timing import (
    CudaTimer,
    Timing,
    ceilings,
    free_memory,
    in_words,
    machine,
    measure,
    peak_memory,
    seconds_on_host,
    timer_of,
    within_free_memory,
)


def test_contestants_take_turns_in_an_order_that_is_reversed():
    calls = []
    contestants = {name: lambda name=name: calls.append(name) for name in "ab"}
    timings = measure(contestants, repeats=3, warmup=1)
    assert "".join(calls) == "abbaabba"
    assert [timing.name for timing in timings] == ["a", "b"]
    assert [len(timing.seconds) for timing in timings] == [3, 3], "a warm-up round was counted"


def test_the_seconds_are_those_of_the_call():
    ticks = iter([1.0, 5.0, 2.0, 7.0])
    (result,) = measure({"a": lambda: None}, 3, 1, timer=lambda call: next(ticks))
    assert result.seconds == (5.0, 2.0, 7.0), "the warm-up round was counted"
    assert seconds_on_host(lambda: time.sleep(0.02)) >= 0.02


def test_the_median_and_the_spread_ignore_one_disturbed_round():
    result = Timing("a", (1.0, 2.0, 3.0, 4.0, 100.0))
    assert (result.median, result.spread) == (3.0, 2.0)


@pytest.mark.parametrize("seconds, words", [(2.0, "2 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 us")])
def test_a_time_is_printed_with_its_unit(seconds, words):
    assert in_words(seconds) == words


def test_the_machine_names_processor_software_and_load():
    facts = machine()
    assert facts["cpu"] and facts["blas"] and facts["cores"] >= 1
    assert facts["numpy"] == np.__version__
    assert "gpu" not in facts


def test_the_peak_counts_what_was_freed_again_and_not_what_was_there_before():
    before = np.ones(3_000_000)  # 24 MB that are not the call's

    def call():
        first = np.ones(1_000_000)  # 8 MB
        second = first + before[:1_000_000]  # 16 MB: the peak
        del first
        return second[:10].copy()

    assert 16e6 <= peak_memory(call) < 17e6
    assert peak_memory(lambda: None) < 1e5


def test_more_than_the_free_memory_raises_and_the_limit_ends_with_the_block(monkeypatch):
    resource = importlib.import_module("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    monkeypatch.setattr(timing, "free_memory", lambda: 300 << 20)
    with within_free_memory():
        np.ones(10 << 17)  # 10 MB fit
        with pytest.raises(MemoryError):
            np.empty(1 << 27)  # 1 GB, of which Linux would promise every byte
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    np.empty(1 << 27)


def test_nothing_is_limited_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(timing, "free_memory", lambda: None)
    with within_free_memory():
        np.empty(1 << 27)


def test_free_memory_is_a_number_of_bytes_on_linux():
    free = free_memory()
    if sys.platform == "linux":
        assert free > 1 << 20


def test_the_ceilings_follow_from_the_best_round():
    seconds = iter([9.0, 9.0, 9.0, 9.0, *[4.0, 3.0, 2.0, 5.0] * 4])
    found = ceilings(np, lambda call: next(seconds), size=8, bytes_copied=1 << 10)
    # in turns, and the order is reversed each round: the product's rounds take 4, 5, ... and the copy's 3, 2, ...
    assert found["flop_per_s"] == 2 * 8**3 / 4.0
    assert found["byte_per_s"] == 2 * (1 << 10) / 2.0


class Gpu:
    """What timing asks of CuPy: events whose clock is moved by the work, and a pool of memory."""

    __version__ = "14.0"

    def __init__(self):
        self.clock = 0.0  # ms
        self.held = self.reserved = 0
        gpu = self

        class Event:
            def record(self):
                self.at = gpu.clock

            def synchronize(self):
                pass

        properties = {"name": b"Some GPU", "major": 9, "minor": 0, "multiProcessorCount": 132, "totalGlobalMem": 1}
        runtime = SimpleNamespace(
            getDevice=lambda: 0,
            getDeviceProperties=lambda device: properties,
            driverGetVersion=lambda: 12040,
            runtimeGetVersion=lambda: 12060,
        )
        self.cuda = SimpleNamespace(
            Event=Event, get_elapsed_time=lambda a, b: b.at - a.at, runtime=runtime
        )

    def zeros(self, n, dtype):
        return SimpleNamespace(fill=lambda value: self.work(100.0))

    def work(self, ms):
        self.clock += ms

    def get_default_memory_pool(self):
        return SimpleNamespace(free_all_blocks=self.free, total_bytes=lambda: self.reserved)

    def free(self):
        self.reserved = self.held


def test_a_gpu_is_timed_between_events_and_without_the_flush_of_its_cache():
    gpu = Gpu()
    timer = timer_of(gpu)
    assert isinstance(timer, CudaTimer)
    assert timer(lambda: gpu.work(3.0)) == pytest.approx(3e-3)
    assert gpu.clock == 103.0, "the cache was not flushed"


def test_a_gpus_peak_is_what_its_pool_had_to_reserve():
    gpu = Gpu()
    gpu.held, gpu.reserved = 50, 500  # 450 of them left over from before

    def call():
        gpu.reserved += 70

    assert peak_memory(call, gpu) == 70


def test_a_gpu_is_named_with_its_software():
    facts = machine(Gpu())
    assert (facts["gpu"], facts["compute_capability"], facts["sms"]) == ("Some GPU", "9.0", 132)
    assert (facts["cuda_driver"], facts["cupy"]) == (12040, "14.0")
    assert "triton" in facts


def test_timing_needs_no_other_floor_than_those_above_it():
    code = "import sys, minilm.testing.timing; assert 'minilm.nn' not in sys.modules and 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

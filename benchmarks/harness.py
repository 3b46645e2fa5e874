"""The one harness of all benchmarks: is it right, then how long does it take, and on which machine was that.

    from harness import compare

    compare(
        "softmax",
        {"minilm": lambda: ours(x), "torch": lambda: theirs(x)},
        check=lambda: np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5),
    )

Nothing is timed before `check` has passed. The contestants take turns, in an order reversed each round, so
that a machine that slows down slows all of them alike. Reported are the median, the spread (interquartile
range) and the ratio of medians to the first contestant's. The result goes to benchmarks/results/SUBJECT.json
with the facts of the machine, since a time without its machine says nothing. What has no time to compare (a
loss, a memory peak) is written by `save`.

It does not judge: an absolute time is never a test.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"


def cpu_model() -> str:
    """The name of the processor, as far as the system tells."""
    with contextlib.suppress(OSError):  # /proc is Linux's
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def blas() -> list[str]:
    """The BLAS libraries that NumPy has loaded, each with its kernels and its number of threads."""
    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        built_with = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index,call-overload]
        return [
            f"{built_with['name']} {built_with['version']}, threads unknown (threadpoolctl is not installed)"
        ]
    return [
        f"{pool['internal_api']} {pool['version']}, {pool.get('architecture')}, {pool['num_threads']} threads"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def machine() -> dict[str, Any]:
    """What a reader has to know of the machine to compare a figure with their own."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": usable,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas(),
    }


@dataclass(frozen=True)
class Timing:
    """The seconds that one contestant took, round by round."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the rounds: what a disturbance of a few rounds does not move."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """The interquartile range: the width of the middle half of the rounds."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float(high - low)


def measure(contestants: Mapping[str, Callable[[], Any]], repeats: int, warmup: int) -> list[Timing]:
    """Time the contestants in turns, after `warmup` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for round_ in range(-warmup, repeats):
        for name in order:
            start = time.perf_counter()
            contestants[name]()
            elapsed = time.perf_counter() - start
            if round_ >= 0:
                seconds[name].append(elapsed)
        order.reverse()
    return [Timing(name, tuple(rounds)) for name, rounds in seconds.items()]


def save(subject: str, result: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> Path:
    """Write `result`, with the facts of the machine, to benchmarks/results/SUBJECT.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{subject}.json"
    content = {"subject": subject, "machine": facts or machine(), **result}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def in_words(seconds: float) -> str:
    """A time with three digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def compare(
    subject: str,
    contestants: Mapping[str, Callable[[], Any]],
    *,
    check: Callable[[], Any],
    repeats: int = 20,
    warmup: int = 3,
) -> list[Timing]:
    """Check, time, print a table and save it; the ratios are to the first contestant.

    Raises:
        Whatever `check` raises: a wrong result has no speed. A `check` that returns False is refused as well.
    """
    if check() is False:
        raise AssertionError(f"{subject}: the contestants do not agree, so there is nothing to time")
    facts = machine()  # before the rounds: the load is the one they met
    timings = measure(contestants, repeats, warmup)
    first = timings[0].median
    rows = [
        {
            "name": timing.name,
            "median_s": timing.median,
            "spread_s": timing.spread,
            "ratio": timing.median / first,
        }
        for timing in timings
    ]
    path = save(subject, {"repeats": repeats, "warmup": warmup, "timings": rows}, facts)

    print(f"{subject}: {facts['cpu']}, {facts['cores']} cores, load {facts['load']}")
    print(f"Python {facts['python']}, NumPy {facts['numpy']}, {'; '.join(facts['blas'])}")
    print(f"{repeats} rounds after {warmup} of warm-up")
    width = max(len(timing.name) for timing in timings)
    print(f"  {'':{width}}  {'median':>9}  {'spread':>9}  {'ratio':>6}")
    for timing in timings:
        median, spread = in_words(timing.median), in_words(timing.spread)
        print(f"  {timing.name:{width}}  {median:>9}  {spread:>9}  {timing.median / first:6.2f}")
    print(f"  -> {path.relative_to(RESULTS.parent.parent)}")
    return timings

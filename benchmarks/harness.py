"""The one harness of all benchmarks: is it right, then how long does it take, and on which machine was that.

    from harness import compare

    compare(
        "softmax",
        {"minilm": lambda: ours(x), "torch": lambda: theirs(x)},
        check=lambda: np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5),
    )

Nothing is timed before `check` has passed. How it is timed is in minilm.testing.timing: contestants in turns, median,
interquartile range. The result goes to benchmarks/results/SUBJECT.json with the facts of the machine, since a time
without its machine says nothing. What has no time to compare (a loss, a memory peak) is written by `save`.

It does not judge: an absolute time is never a test.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from minilm.testing.timing import Timing, in_words, machine, measure

STARTED = time.perf_counter()
RESULTS = Path(os.environ.get("MINILM_BENCH_RESULTS") or Path(__file__).resolve().parent / "results")


def no_options(doc: str | None) -> None:
    """For a script without any: --help says what it does, and any other word is refused instead of passed over."""
    argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def elapsed() -> float:
    """Seconds since the script began: how long who runs it again will wait."""
    return time.perf_counter() - STARTED


def save(subject: str, result: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> Path:
    """Write `result`, with the facts of the machine, to benchmarks/results/SUBJECT.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{subject}.json"
    content = {"subject": subject, "machine": facts or machine(), **result}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


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
    began = time.perf_counter()
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
    seconds = time.perf_counter() - began
    path = save(subject, {"seconds": seconds, "repeats": repeats, "warmup": warmup, "timings": rows}, facts)

    print(f"{subject}: {facts['cpu']}, {facts['cores']} cores, load {facts['load']}")
    print(f"Python {facts['python']}, NumPy {facts['numpy']}, {'; '.join(facts['blas'])}")
    print(f"{repeats} rounds after {warmup} of warm-up")
    width = max(len(timing.name) for timing in timings)
    print(f"  {'':{width}}  {'median':>9}  {'spread':>9}  {'ratio':>6}")
    for timing in timings:
        median, spread = in_words(timing.median), in_words(timing.spread)
        print(f"  {timing.name:{width}}  {median:>9}  {spread:>9}  {timing.median / first:6.2f}")
    print(f"  -> {path}")
    return timings

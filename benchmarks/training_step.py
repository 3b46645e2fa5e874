"""As fast as PyTorch on the same CPU? A whole training step (forward, backward, clip, AdamW), and sampling.

    make bench ONLY=training_step
    make bench ONLY=training_step ARGS="'gpt 4x128' 'lstm 2x256'"      # a part; nothing is saved

Both sides start from the same weights and read the same batches, each in a process of its own; before anything is
timed their losses must agree, step by step. Then they take turns. What is reported: the median of each, their ratio
(minilm over PyTorch: below 1 minilm is faster), the peak of memory beyond what the imports took, and the share of the
machine's own rate of matrix products (sgemm) that a step reaches: the flops of its products, over its time. PyTorch
comes with the extra `bench`; without it there is nothing to compare with.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

from harness import elapsed, machine, save
from minilm.testing.timing import in_words, version_of
from sides.process import SideProcess
from sides.works import WORKS, Work

THREADS = 2
SIDES = {"minilm": "sides.ours", "pytorch": "sides.pytorch"}
TOKENS = 24  # written in one turn, when sampling


def check(name: str, sides: dict[str, SideProcess]) -> None:
    """Both sides compute the same: the losses of three steps, or the tokens that they write."""
    if WORKS[name].kind == "sampling":
        ours, theirs = (side.sample(8)[0] for side in sides.values())
        assert ours == theirs, f"{name}: the tokens differ: {ours} and {theirs}"
        return
    for step in range(3):
        ours, theirs = (side.step()[0] for side in sides.values())
        np.testing.assert_allclose(ours, theirs, rtol=2e-3 if step else 2e-5, err_msg=f"{name}, step {step + 1}")


def measure(work: Work, sides: dict[str, SideProcess], budget: float) -> dict[str, list[float]]:
    """Seconds of each step (or token), the sides in turns until `budget` seconds are over."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    began = time.perf_counter()
    while time.perf_counter() - began < budget or len(seconds[order[0]]) < 5:
        for name in order:
            if work.kind == "sampling":
                seconds[name].append(sides[name].sample(TOKENS)[1] / TOKENS)
                continue
            turn = 0.0
            while turn < 0.3:  # several small steps in a turn: the first after a pause is slower
                elapsed = sides[name].step()[1]
                seconds[name].append(elapsed)
                turn += elapsed
        order.reverse()
    return seconds


def sgemm_rate() -> float:
    """flop/s of NumPy's float32 product of 1024 x 1024 matrices: the best of twenty."""
    a = np.ones((1024, 1024), dtype=np.float32)
    best = min(_seconds(lambda: a @ a) for _ in range(20))
    return 2 * 1024**3 / best


def _seconds(call) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(names: list[str]) -> None:
    if version_of("torch") is None:
        sys.exit("error: PyTorch is the opponent here, and it is not installed: pip install -e '.[bench]'")
    facts, rate = machine(), sgemm_rate()
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}; sgemm {rate / 1e9:.0f} GFLOP/s")
    print(f"NumPy {facts['numpy']}, {'; '.join(facts['blas'])}; PyTorch {version_of('torch')}; {THREADS} threads each")
    print(f"{'':24}{'minilm':>10}{'spread':>10}{'PyTorch':>10}{'spread':>10}{'ratio':>8}{'sgemm':>8}{'memory':>16}{'ratio':>7}")
    rows = {}
    for name in names or WORKS:
        work = WORKS[name]
        sides = {side: SideProcess(module, name, THREADS) for side, module in SIDES.items()}
        check(name, sides)
        seconds = measure(work, sides, budget=15 if work.width < 768 else 30)
        peaks = {side: process.peak_memory() for side, process in sides.items()}
        for process in sides.values():
            process.close()
        medians = {side: statistics.median(times) for side, times in seconds.items()}
        spreads = {side: float(np.subtract(*np.percentile(times, [75, 25]))) for side, times in seconds.items()}
        share = work.matmul_flops / medians["minilm"] / rate
        rows[name] = {
            "work": work.words,
            "steps": {side: len(times) for side, times in seconds.items()},
            "median_s": medians,
            "spread_s": spreads,
            "ratio": medians["minilm"] / medians["pytorch"],
            "noise": sum(spreads[side] / medians[side] for side in SIDES),
            "share_of_sgemm": share,
            "peak_memory": peaks,
            "memory_ratio": peaks["minilm"] / peaks["pytorch"],
        }
        times = "".join(f"{in_words(t):>10}" for s in SIDES for t in (medians[s], spreads[s]))
        memory = " / ".join(f"{peak / 2**20:.0f}" for peak in peaks.values()) + " MB"
        ratios = f"{rows[name]['ratio']:8.2f}{share:8.0%}{memory:>16}{rows[name]['memory_ratio']:7.2f}"
        print(f"{name:24}{times}{ratios}", flush=True)
    result = {"seconds": elapsed(), "threads": THREADS, "torch": version_of("torch")}
    if not names:
        save("training_step", {**result, "sgemm_flop_per_s": rate, "rows": rows}, facts)


if __name__ == "__main__":
    main(sys.argv[1:])

"""What share of a training step is spent outside of matrix products? For the GPT and the LSTM of `minilm demo`.

    make bench ONLY=outside_products
    make bench ONLY=outside_products ARGS=2          # threads

Products are what NumPy cannot be beaten at, so the rest is what a faster library would have to save. While a step runs,
`numpy.matmul` is one that looks at the clock; what our kernels multiply goes through it. Products with a side shorter
than 8 are left to the rest: those are sums, written as a product with a row of ones. Before anything is reported, the
products seen must have at least the floating-point operations that the model's formula asks for, so that none is
missed.

As in the demo, where two models train side by side, each of them has half of the cores, and the BLAS one thread. With
several threads the share is that of their time together, in which a thread that waits is outside of products, too.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from harness import elapsed, machine, save
from minilm.kernels.threads import set_thread_count, thread_count
from minilm.testing.timing import in_words
from sides.presets import PresetStep
from sides.works import Work

MODELS, PRESET, VOCABULARY = ("gpt", "lstm"), "char-cpu", 65
SHORTEST = 8
WARMUP, STEPS = 10, 60


@contextmanager
def clocked() -> Iterator[list[tuple[float, float]]]:
    """Within the block each matrix product of NumPy adds (seconds, floating-point operations) to the list."""
    plain, seen = np.matmul, []

    def matmul(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        y = plain(a, b, *args, **kwargs)
        seconds = time.perf_counter() - start
        if a.ndim > 1 and b.ndim > 1 and min(*a.shape[-2:], b.shape[-1]) >= SHORTEST:
            seen.append((seconds, 2.0 * y.size * a.shape[-1]))
        return y

    np.matmul = matmul  # type: ignore[assignment]
    try:
        yield seen
    finally:
        np.matmul = plain


def flops_of(step: PresetStep) -> float:
    """What the formula of the model asks for."""
    s = step.settings
    width = s.n_embd if s.model == "gpt" else s.n_hidden
    return Work(s.model, VOCABULARY, s.n_layer, width, s.block_size, s.batch_size).matmul_flops


def seconds_of(step: PresetStep, batch: Any) -> float:
    start = time.perf_counter()
    step.update(batch)
    return time.perf_counter() - start


def measured(step: PresetStep, threads: int) -> dict[str, Any]:
    """Steps with the clock and steps without it, in turns."""
    batches = step.batches()
    for _ in range(WARMUP):
        step.update(next(batches))
    plain, watched, products, seen = [], [], [], []
    for _ in range(STEPS):
        plain.append(seconds_of(step, next(batches)))
        with clocked() as calls:
            watched.append(seconds_of(step, next(batches)))
        products.append(sum(seconds for seconds, _ in calls) / threads)
        seen.append(sum(flops for _, flops in calls))
    needed = flops_of(step)
    assert min(seen) > 0.99 * needed, f"products of {min(seen):.3g} flop were seen, of {needed:.3g}: some are missed"
    shares = [1 - inside / whole for inside, whole in zip(products, watched, strict=True)]
    return {
        "work": step.words,
        "step_s": statistics.median(plain),
        "step_with_clock_s": statistics.median(watched),
        "products": len(calls),
        "products_s": statistics.median(products),
        "products_flop_per_s": statistics.median(f / s / threads for f, s in zip(seen, products, strict=True)),
        "flop": statistics.median(seen),
        "outside_share": statistics.median(shares),
        "outside_share_spread": float(np.subtract(*np.percentile(shares, [75, 25]))),
    }


def main(threads: int) -> None:
    """Measure, print and save."""
    set_thread_count(threads)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, 200_000)
    made = {model: PresetStep(model, PRESET, tokens, VOCABULARY) for model in MODELS}
    facts, rows = machine(), {}
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}; {', '.join(facts['blas'])}; ours: {threads}")
    for model, step in made.items():
        row = rows[model] = measured(step, threads)
        print(
            f"{row['work']}: {in_words(row['step_s'])} a step, {row['products']} products of "
            f"{in_words(row['products_s'])} together ({row['products_flop_per_s'] / 1e9:.0f} GFLOP/s a thread); "
            f"outside of them {row['outside_share']:.0%} (spread {row['outside_share_spread']:.1%})",
            flush=True,
        )
    save("outside_products", {"seconds": elapsed(), "threads": threads, "rows": rows}, facts)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else max(1, thread_count() // len(MODELS)))

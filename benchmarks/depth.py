"""Is backward linear in depth? Chains of small operations, and GPTs of 1 to 12 layers.

    make bench ONLY=depth

For each length: the time of forward and backward for each operation (a constant, if the engine is linear), and for
each depth the time of a training step's forward and backward for each layer, with the peak of NumPy's memory in it.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

import minilm
from harness import elapsed, machine, no_options, save
from minilm import Tensor
from minilm.models import GPT, GPTConfig


def median_seconds(run: Callable[[], None], repeats: int) -> float:
    """The median of `repeats` runs after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def chain(length: int) -> None:
    """x * 1.0001, `length` times, and back."""
    x = Tensor(np.ones(4, dtype="float32"), requires_grad=True)
    y = x
    for _ in range(length):
        y = y * 1.0001
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 1.0001**length, rtol=length * 1e-7)


def main() -> None:
    print(machine())
    chains = {}
    for length in (100, 1_000, 10_000, 100_000):
        seconds = median_seconds(lambda length=length: chain(length), 3 if length > 10_000 else 7)  # type: ignore[misc]
        chains[length] = 1e6 * seconds / length
        print(f"chain of {length:>7,} operations: {chains[length]:6.1f} us an operation, forward and backward")

    rng = np.random.default_rng(0)
    ids = rng.integers(0, 65, (4, 65))
    batch = {"input_ids": ids[:, :-1], "labels": ids[:, 1:]}
    depths = {}
    for layers in (1, 2, 4, 8, 12):
        minilm.manual_seed(0)
        model = GPT(GPTConfig(65, 64, n_layer=layers, n_head=4, n_embd=128))

        def step(model: GPT = model) -> None:
            model.loss(batch).backward()
            model.zero_grad()

        seconds = median_seconds(step, 15)
        tracemalloc.start()
        step()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        depths[layers] = {"ms": 1e3 * seconds, "ms_per_layer": 1e3 * seconds / layers, "peak_mb": peak / 2**20}
        print(
            f"GPT of {layers:>2} layers: {1e3 * seconds:6.1f} ms, {1e3 * seconds / layers:5.2f} ms a layer, "
            f"peak {peak / 2**20:5.1f} MB"
        )
    save("depth", {"seconds": elapsed(), "us_per_operation": chains, "gpt": depths})


if __name__ == "__main__":
    no_options(__doc__)
    main()

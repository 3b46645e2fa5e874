"""What does the tape cost? Chains of small operations, forward and backward, where the arithmetic itself is nothing.

    make bench ONLY=tape

A chain is x = relu(x a + b), 10, 100 or 1,000 times, on arrays of 1 and of 100 float64 numbers, where x, a and b all
want a gradient: three operations a link. What is reported is the time for each operation, forward and backward, of
minilm, of the same arithmetic written by hand in NumPy without any tape, of PyTorch eager (one thread), HIPS autograd,
and micrograd (which knows single numbers only). The extra `bench` brings them; one that is not installed is left out
with a line that says so. Before anything is timed, value and gradients must be those of the closed form. The ratio is
minilm's time, there and back, over PyTorch's.

A training step of a small GPT records some 90 operations: times the figure, that is what its tape costs.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from harness import elapsed, machine, no_options, save
from minilm import Tensor
from minilm.functional import relu
from minilm.testing.timing import Timing, measure, version_of

LENGTHS, SIZES = (10, 100, 1_000), (1, 100)
OPERATIONS = 3  # a link: multiply, add, relu
X, A, B = 0.25, 0.9, 0.3

Gradients = Callable[[], tuple[Any, Any, Any]]
Chain = Callable[[int, int], tuple[Any, Gradients]]
"""From a length and a size to the sum of the last x, and the way back: to the gradients of the first x, a and b."""


def minilm_chain(length: int, size: int) -> tuple[Any, Gradients]:
    """The tape of this library."""
    x, a, b = first = [Tensor(np.full(size, value), requires_grad=True) for value in (X, A, B)]
    for _ in range(length):
        x = relu(x * a + b)
    y = x.sum()

    def gradients() -> Any:
        y.backward()
        return [t.grad.data for t in first]

    return y.data, gradients


def numpy_chain(length: int, size: int) -> tuple[Any, Gradients]:
    """The same arithmetic without a tape: what is left is the tape's."""
    x, a, b = (np.full(size, value) for value in (X, A, B))
    kept = []
    for _ in range(length):
        before, s = x, x * a + b
        x = np.maximum(s, 0.0)
        kept.append((before, s))
    y = x.sum()

    def gradients() -> Any:
        g, da, db = np.ones(size), np.zeros(size), np.zeros(size)
        for before, s in reversed(kept):
            g = g * (s > 0)
            db += g
            da += g * before
            g = g * a
        return g, da, db

    return y, gradients


def pytorch_chain(length: int, size: int) -> tuple[Any, Gradients]:
    """PyTorch, eager."""
    import torch

    torch.set_num_threads(1)
    x, a, b = first = [torch.full((size,), v, dtype=torch.float64, requires_grad=True) for v in (X, A, B)]
    for _ in range(length):
        x = torch.relu(x * a + b)
    y = x.sum()

    def gradients() -> Any:
        y.backward()
        return [t.grad for t in first]

    return y.detach(), gradients


def autograd_chain(length: int, size: int) -> tuple[Any, Gradients]:
    """HIPS autograd, which wraps NumPy's functions."""
    import autograd.numpy as anp
    from autograd import make_vjp

    def chain(x: Any, a: Any, b: Any) -> Any:
        for _ in range(length):
            x = anp.maximum(x * a + b, 0.0)
        return anp.sum(x)

    vjp, y = make_vjp(chain, (0, 1, 2))(*(np.full(size, value) for value in (X, A, B)))
    return y, lambda: vjp(1.0)


def micrograd_chain(length: int, size: int) -> tuple[Any, Gradients]:
    """micrograd, for one number. It walks back by recursion, a level for each operation."""
    from micrograd.engine import Value

    sys.setrecursionlimit(10 * length * OPERATIONS + 1_000)
    x, a, b = first = [Value(value) for value in (X, A, B)]
    for _ in range(length):
        x = (x * a + b).relu()

    def gradients() -> Any:
        x.backward()
        return [value.grad for value in first]

    return x.data, gradients


CHAINS: dict[str, tuple[str, Chain]] = {
    "minilm": ("minilm", minilm_chain),
    "by hand": ("numpy", numpy_chain),
    "PyTorch": ("torch", pytorch_chain),
    "autograd": ("autograd", autograd_chain),
    "micrograd": ("micrograd", micrograd_chain),
}
"""By name: the package, and its chain."""


def closed_form(length: int) -> tuple[float, float, float, float]:
    """x_n = a^n x + b (1 - a^n) / (1 - a), always positive, and its derivatives by x, a and b."""
    power, rest = A**length, 1 - A
    series = (1 - power) / rest
    slope = (series - length * A ** (length - 1)) / rest  # of the series, by a
    return X * power + B * series, power, X * length * A ** (length - 1) + B * slope, series


def check(chain: Chain, length: int, size: int) -> None:
    """Value and gradients are right."""
    value, gradients = chain(length, size)
    expected, *derivatives = closed_form(length)
    np.testing.assert_allclose(value, size * expected, rtol=1e-9)
    for found, derivative in zip(gradients(), derivatives, strict=True):
        np.testing.assert_allclose(np.asarray(found), np.full(np.shape(found), derivative), rtol=1e-9)


def forward(call: Callable[[], tuple[Any, Gradients]]) -> float:
    """Seconds of the way there."""
    start = time.perf_counter()
    _kept = call()
    return time.perf_counter() - start


def backward(call: Callable[[], tuple[Any, Gradients]]) -> float:
    """Seconds of the way back alone."""
    _, gradients = call()
    start = time.perf_counter()
    gradients()
    return time.perf_counter() - start


def timed(names: list[str], length: int, size: int) -> dict[str, dict[str, Timing]]:
    """The timings of everyone, there and back."""
    calls = {name: lambda chain=CHAINS[name][1]: chain(length, size) for name in names}
    repeats = max(15, 3_000 // length)
    ways = {"forward": forward, "backward": backward}
    found = {way: measure(calls, repeats, warmup=3, timer=timer) for way, timer in ways.items()}
    return {name: {way: found[way][i] for way in ways} for i, name in enumerate(names)}


def main() -> None:
    """Check, time, print and save."""
    installed = [name for name, (package, _) in CHAINS.items() if find_spec(package) is not None]
    for name in CHAINS:
        if name not in installed:
            print(f"{name} is left out: it is not installed (pip install 'minilm[bench]')")
    facts = machine()
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}; Python {facts['python']}, ", end="")
    packages = {CHAINS[name][0]: version_of(CHAINS[name][0]) for name in installed if name != "minilm"}
    print(", ".join(f"{package} {version}" for package, version in packages.items()))
    print("microseconds for each operation: median (spread)")
    print(f"{'':34}{'forward':>14}{'backward':>15}{'both':>8}")
    rows: dict[str, Any] = {}
    for size in SIZES:
        names = [name for name in installed if size == 1 or name != "micrograd"]
        for length in LENGTHS:
            for name in names:
                check(CHAINS[name][1], length, size)
            gc.collect()
            gc.freeze()  # Python's collector shall not look through all of PyTorch on somebody's time
            row = rows[f"{length} links of {size}"] = figures(timed(names, length, size), length)
            for name in names:
                f = row[name]
                print(
                    f"{length:>5} links, {size:>3} numbers, {name:10}"
                    f"{f['forward_us']:8.2f} ({f['forward_spread_us']:.2f}){f['backward_us']:8.2f} "
                    f"({f['backward_spread_us']:.2f}){f['both_us']:8.2f}",
                    flush=True,
                )
            if "ratio" in row:
                print(f"{'':31}minilm / PyTorch: {row['ratio']:.2f}")
    result = {"operations_per_link": OPERATIONS, "versions": packages, "rows": rows}
    save("tape", {"seconds": elapsed(), **result}, facts)


def figures(timings: dict[str, dict[str, Timing]], length: int) -> dict[str, Any]:
    """In microseconds for each operation; minilm's ratio to PyTorch, with the spreads of both as its noise."""
    us = 1e6 / (length * OPERATIONS)
    row: dict[str, Any] = {}
    for name, ways in timings.items():
        row[name] = {f"{way}_us": us * timing.median for way, timing in ways.items()}
        row[name] |= {f"{way}_spread_us": us * timing.spread for way, timing in ways.items()}
        row[name]["both_us"] = sum(us * timing.median for timing in ways.values())
        row[name]["noise"] = sum(us * timing.spread for timing in ways.values()) / row[name]["both_us"]
    if "PyTorch" in row:
        row["ratio"] = row["minilm"]["both_us"] / row["PyTorch"]["both_us"]
        row["noise"] = row["minilm"]["noise"] + row["PyTorch"]["noise"]
    return row


if __name__ == "__main__":
    no_options(__doc__)
    main()

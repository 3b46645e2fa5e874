"""Attention against the length: forward and backward, and the memory that they take. Is it linear?

    make bench ONLY=attention_length
    make bench ONLY=attention_length ARGS="128 4096"     # a part; nothing is saved

Causal self-attention of 8 heads of width 64 on one sequence of 128 to 8,192 positions, float32: minilm's operation as
the library computes it (minilm.kernels.attention.threaded), its textbook body, which holds all T x T weights and is
left out where they do not fit, and PyTorch's scaled_dot_product_attention with as many threads, if the extra `bench`
is there. Query, key and value are views of one projection, as a layer passes them. Before anything is timed the output
and all gradients must agree.

The work grows with the square of the length whoever does it; the memory need not. It is the most that is held beyond
the inputs, from the start of the forward to the end of the backward pass, as NumPy's allocations tell it (PyTorch's
cannot be told that way): `doubled` is its ratio to that of half the length, 2 if memory is linear, 4 if quadratic.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from harness import RESULTS, elapsed, machine, save
from minilm.errors import MinilmError
from minilm.functional import scaled_dot_product_attention
from minilm.kernels.attention.threaded import attention
from minilm.kernels.threads import thread_count
from minilm.plots.loss_curves import COLOURS, new_figure
from minilm.testing.timing import Timing, free_memory, in_words, peak_memory, version_of
from minilm.training.process import keep_freed_memory

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
H, D = 8, 64
SECONDS = 6.0  # for each length, but at least three rounds
TURN = 0.05  # seconds: the first call of a turn, which finds the other's threads still awake, is not counted

Gradients = Callable[[], tuple[Any, ...]]
Contestant = Callable[[], tuple[Any, Gradients]]
"""A call that returns the output, and the way back to the gradients of query, key and value."""


def arrays(T: int) -> list[np.ndarray]:
    """query, key and value (1, H, T, D), views of one (1, T, 3 H D), and the cotangent of the output."""
    rng = np.random.default_rng(T)
    projected = rng.standard_normal((1, T, 3 * H * D), dtype=np.float32)
    cotangent = rng.standard_normal((1, T, H * D), dtype=np.float32)
    return [x.reshape(1, T, H, D).swapaxes(1, 2) for x in (*np.split(projected, 3, axis=-1), cotangent)]


def by_arrays(function: Callable[..., Any], inputs: list[np.ndarray]) -> Contestant:
    """An operation's body or kernel."""
    *parts, g = inputs

    def forward() -> tuple[Any, Gradients]:
        out, vjp = function(*parts, is_causal=True)
        return out, lambda: vjp(g, (True, True, True, False))[:3]

    return forward


def by_pytorch(inputs: list[np.ndarray]) -> Contestant:
    """PyTorch, eager, on the same memory."""
    import torch

    torch.set_num_threads(thread_count())
    *parts, g = (torch.from_numpy(x) for x in inputs)
    for part in parts:
        part.requires_grad_()

    def forward() -> tuple[Any, Gradients]:
        out = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        return out.detach(), lambda: torch.autograd.grad(out, parts, g)

    return forward


def textbook_bytes(T: int) -> int:
    """What the textbook body needs at its worst moment: some five arrays of all weights."""
    return 5 * H * T * T * 4


def contestants(T: int) -> dict[str, Contestant]:
    """Those that can take part at this length."""
    inputs = arrays(T)
    found = {"minilm": by_arrays(attention, inputs)}
    free = free_memory()
    if free is None or textbook_bytes(T) < free / 2:
        found["textbook"] = by_arrays(scaled_dot_product_attention.body, inputs)  # type: ignore[attr-defined]
    if version_of("torch"):
        found["PyTorch"] = by_pytorch(inputs)
    return found


def check(found: dict[str, Contestant]) -> None:
    """Everyone has the same output and gradients."""
    results = {}
    for name, forward in found.items():
        out, gradients = forward()
        results[name] = [np.asarray(x) for x in (out, *gradients())]
    for name, result in results.items():
        for ours, theirs in zip(results["minilm"], result, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-4, err_msg=f"minilm and {name} differ")


def there_and_back(forward: Contestant) -> tuple[float, float]:
    """Seconds of forward and backward; nothing of it is left in memory when the next turn begins."""
    start = time.perf_counter()
    _out, gradients = forward()
    middle = time.perf_counter()
    _gradients = gradients()
    return middle - start, time.perf_counter() - middle


def timed(found: dict[str, Contestant]) -> dict[str, tuple[Timing, Timing]]:
    """Forward and backward of each, in turns."""
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in found}
    order, began = list(found), time.perf_counter()
    while time.perf_counter() - began < SECONDS or len(seconds["minilm"][0]) < 3:
        for name in order:
            turn = time.perf_counter()
            there_and_back(found[name])
            while True:
                for times, taken in zip(seconds[name], there_and_back(found[name]), strict=True):
                    times.append(taken)
                if time.perf_counter() - turn > TURN:
                    break
        order.reverse()
    return {name: (Timing(name, tuple(there)), Timing(name, tuple(back))) for name, (there, back) in seconds.items()}


def figures(forward: Timing, backward: Timing) -> dict[str, float]:
    both = forward.median + backward.median
    return {
        "forward_s": forward.median,
        "backward_s": backward.median,
        "both_s": both,
        "noise": (forward.spread + backward.spread) / both,
    }


def peak(forward: Contestant) -> int:
    """Bytes beyond the inputs, at the worst moment of forward and backward."""

    return peak_memory(lambda: there_and_back(forward))


def measured(T: int) -> dict[str, Any]:
    """The row of a length."""
    found = contestants(T)
    check(found)
    row: dict[str, Any] = {name: figures(*timings) for name, timings in timed(found).items()}
    for name in found:
        if name != "PyTorch":
            row[name]["peak_bytes"] = peak(found[name])
    if "PyTorch" in row:
        row["ratio"] = row["minilm"]["both_s"] / row["PyTorch"]["both_s"]
        row["noise"] = row["minilm"]["noise"] + row["PyTorch"]["noise"]
    return row


def draw(rows: dict[str, Any]) -> None:
    """Time and memory over the length, both on logarithmic axes, into results/attention_length.png."""
    figure = new_figure()
    time_axes, memory_axes = figure.subplots(1, 2)
    for colour, name in zip(COLOURS, ("minilm", "textbook", "PyTorch"), strict=False):
        lengths = [T for T in rows if name in rows[T]]
        if not lengths:
            continue
        x = [int(T) for T in lengths]
        time_axes.plot(x, [1e3 * rows[T][name]["both_s"] for T in lengths], "o-", color=colour, label=name)
        if name != "PyTorch":
            memory_axes.plot(x, [rows[T][name]["peak_bytes"] / 2**20 for T in lengths], "o-", color=colour)
    time_axes.set_ylabel("forward and backward, ms")
    memory_axes.set_ylabel("most memory beyond the inputs, MB")
    for axes in (time_axes, memory_axes):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("length")
        axes.set_xticks([int(T) for T in rows], list(rows), rotation=45)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(RESULTS / "attention_length.png")


def main(lengths: list[str]) -> None:
    """Check, time, print, save and draw."""
    keep_freed_memory()  # as the trainer does; for PyTorch as well, it is the same process
    facts = machine()
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}; NumPy {facts['numpy']}", end="")
    print(f", PyTorch {version_of('torch')}" if version_of("torch") else "; PyTorch is not installed: it is left out")
    print(f"causal attention, {H} heads of width {D}, float32, {thread_count()} threads")
    print(f"{'':21}{'forward':>10}{'backward':>10}{'both':>10}{'spread':>8}{'memory':>11}{'doubled':>9}")
    rows: dict[str, Any] = {}
    for T in map(int, lengths or LENGTHS):
        row = rows[str(T)] = measured(T)
        for name in [name for name in ("minilm", "textbook", "PyTorch") if name in row]:
            f = row[name]
            times = "".join(f"{in_words(f[key]):>10}" for key in ("forward_s", "backward_s", "both_s"))
            memory, doubled = "", ""
            if "peak_bytes" in f:
                memory = f"{f['peak_bytes'] / 2**20:,.1f} MB"
                half = rows.get(str(T // 2), {}).get(name)
                if half is not None:
                    f["doubled"] = f["peak_bytes"] / half["peak_bytes"]
                    doubled = f"{f['doubled']:.2f}"
            print(f"{T:>6}, {name:13}{times}{f['noise']:>8.0%}{memory:>11}{doubled:>9}", flush=True)
        if "ratio" in row:
            print(f"{'':8}minilm / PyTorch: {row['ratio']:.2f}")
    if lengths:
        return
    result = {"heads": H, "width": D, "torch": version_of("torch"), "rows": rows}
    save("attention_length", {"seconds": elapsed(), **result}, facts)
    try:
        draw(rows)
    except MinilmError as error:
        print(error)


if __name__ == "__main__":
    main(sys.argv[1:])

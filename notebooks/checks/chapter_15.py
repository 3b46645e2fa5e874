"""Checkers of chapter 15, memory: intensity, roofline, the size of a KV cache, the order of a transposition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

from checks import NotYet
from checks.answers import shown
from checks.cache import Cache


def _number(answer: Any, call: str) -> float:
    if not isinstance(answer, Real):
        raise NotYet(f"{call} returned {answer!r}: return a number")
    return float(answer)


def check_intensity(matmul_intensity: Callable[..., Any]) -> None:
    """Exercise 15.1: flops a byte of a product."""
    for M, N, K, itemsize in ((8, 4, 2, 4), (1, 1, 1, 4), (1024, 1024, 1024, 2)):
        call = f"matmul_intensity({M}, {N}, {K}, {itemsize})"
        got = _number(matmul_intensity(M, N, K, itemsize), call)
        flops, numbers = 2 * M * N * K, M * K + K * N + M * N
        right = flops / (numbers * itemsize)
        if not math.isclose(got, right, rel_tol=1e-9):
            hint = f"{flops} flops, and {M} x {K} + {K} x {N} + {M} x {N} = {numbers} numbers of {itemsize} bytes"
            for wrong, why in (
                (right / 2, "a multiplication and an addition for each term: 2 M N K flops"),
                (right * itemsize, "this is flops a number: a number has `itemsize` bytes"),
                (flops / ((M * K + K * N) * itemsize), "Y has to be written as well: M N numbers more"),
                (1 / right, "this is bytes a flop: turn it round"),
            ):
                if math.isclose(got, wrong, rel_tol=1e-9):
                    hint = why
            raise NotYet(f"{call} gives {got:.6g}, expected {right:.6g}: {hint}")
    print("matmul_intensity: right.")


def check_roofline(least_time: Callable[..., Any]) -> None:
    """Exercise 15.2: the longer of two times."""
    for flops, moved, peak, bandwidth in ((1e9, 1e9, 1e11, 1e10), (1e12, 1e9, 1e11, 1e10), (1e10, 2e9, 1e11, 1e10)):
        call = f"least_time({flops:g}, {moved:g}, {peak:g}, {bandwidth:g})"
        answer = least_time(flops, moved, peak, bandwidth)
        if not isinstance(answer, tuple | list) or len(answer) != 2 or not isinstance(answer[0], Real):
            raise NotYet(f"{call} returned {answer!r}: return the pair (seconds, 'memory' or 'compute')")
        got, which = answer
        compute, memory = flops / peak, moved / bandwidth
        right = max(compute, memory)
        if not math.isclose(got, right, rel_tol=1e-9):
            hint = f"computing takes {compute:g} s and moving {memory:g} s"
            if math.isclose(got, compute + memory, rel_tol=1e-9):
                hint += "; at best they overlap: the longer of the two, not their sum"
            elif math.isclose(got, min(compute, memory), rel_tol=1e-9):
                hint += "; the slower one decides: max, not min"
            elif math.isclose(got, min(peak, flops / moved * bandwidth), rel_tol=1e-9):
                hint += "; this is the rate, flops a second: the time is wanted"
            raise NotYet(f"{call} gives {got:g} s, expected {right:g} s: {hint}")
        expected = "memory" if memory > compute else "compute"
        if which != expected:
            why = f"computing takes {compute:g} s and moving {memory:g} s"
            raise NotYet(f"{call}: {which!r} should be {expected!r}: {why}")
    print("least_time: right.")


def check_cache_bytes(kv_cache_bytes: Callable[..., Any]) -> None:
    """Exercise 15.3: keys and values of all layers."""
    sizes = {"layers": 3, "query_heads": 8, "kv_heads": 2, "D": 64, "T": 100, "batch": 5, "itemsize": 8}
    call = f"kv_cache_bytes({', '.join(f'{name}={size}' for name, size in sizes.items())})"
    got = _number(kv_cache_bytes(**sizes), call)
    right = 2 * 3 * 2 * 64 * 100 * 5 * 8
    if got != right:
        hint = "keys and values, for each layer, sequence, key head, position and channel"
        for wrong, why in (
            (right / 2, "keys *and* values: twice as much"),
            (right * 4, "query heads share key heads here: only kv_heads are kept, and queries are not kept at all"),
            (right / 8, "these are numbers: each has `itemsize` bytes"),
            (right / 5, "each sequence of the batch has a cache of its own"),
            (right / 3, "each layer has a cache of its own"),
        ):
            if got == wrong:
                hint = why
                break
        raise NotYet(f"{call} gives {got:g}, expected {right}: {hint}")
    print("kv_cache_bytes: right.")


def check_transpose(transpose_order: Callable[[int], Iterable[tuple[int, int]]]) -> None:
    """Exercise 15.4: an order that uses up each line while it is near."""
    for n in (4, 20):
        order = transpose_order(n)
        pairs = list(order) if isinstance(order, Iterable) else [order]
        if not all(isinstance(pair, Iterable) for pair in pairs):
            raise NotYet(f"transpose_order({n}) returned {shown(order)}: yield pairs (i, j), or return a list of them")
        pairs = [tuple(pair) for pair in pairs]  # a list or an array of lists is as good
        missing = sorted(set(itertools.product(range(n), repeat=2)) - set(pairs))
        if missing:
            raise NotYet(f"transpose_order({n}) leaves out {len(missing)} pairs, such as {missing[0]}")
        if len(pairs) != n * n:
            raise NotYet(f"transpose_order({n}) gives {len(pairs)} pairs for {n * n} elements: each once, none else")
    n, size = 64, 4096
    cache = Cache(size)
    x, y = cache.array((n, n)), cache.array((n, n))
    for i, j in transpose_order(n):
        cache.read(x, i, j)
        cache.read(y, j, i)
    least = 2 * n * n * 8
    ratio = cache.fetched / least
    if ratio > 1.3:
        hint = "take blocks: all (i, j) of a small square before the next; a line holds 8 numbers"
        if ratio > 4:
            hint = f"rows of x and columns of y: each y[j, i] fetches a line for one number; {hint}"
        what = f"{cache.fetched} bytes are fetched, {ratio:.2f} times the matrices"
        raise NotYet(f"each pair comes once, but {what}: {hint}")
    print(f"transpose_order: right; {ratio:.2f} times the size of the matrices is fetched.")

"""How `minilm bench` runs a subject: right first, then memory, then time. What comes out is plain data for JSON.

At each length and in each direction, every contestant

1. is checked against the textbook formula in float64, at sizes that the oracle can do (Subject.checked);
2. computes once while its memory is watched, within the memory that is free: too little is a result, not an end;
3. takes turns with the others, after a warm-up.

In Triton's interpreter nothing is timed: there the bytes and flops of the kernels are counted instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from minilm.backend import current_backend, to_numpy
from minilm.cli.bench_contestants import Arguments, Bind, converted, widened
from minilm.cli.bench_subjects import Sizes, Subject, draw
from minilm.testing.timing import Timer, Timing, ceilings, measure, peak_memory, timer_of, within_free_memory

TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "float16": 1e-2, "bfloat16": 3e-2}
"""The relative error (Frobenius norm) beyond which a result is wrong; sums of thousands of terms are among them."""

ITEMSIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
DATA_SHEETS = {"NVIDIA H100 80GB HBM3": "sm_90", "NVIDIA A100-SXM4-80GB": "sm_80"}
"""The GPUs whose ceilings are known, by the name that CUDA gives them; PCIe cards of that family have others."""

WARMUP = 2
SECONDS_A_POINT = 10.0
LEAST_ROUNDS = 5

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where a benchmark runs: the backend's name, the module of its arrays, and whether kernels are interpreted."""

    backend: str
    module: ModuleType
    interpreting: bool

    @property
    def scale(self) -> str:
        """Which of a subject's sizes suit it."""
        return "interpreter" if self.interpreting else "cpu" if self.module is np else "gpu"

    def memory_limit(self) -> contextlib.AbstractContextManager[None]:
        """NumPy has to be kept within the free memory; CuPy knows by itself."""
        return within_free_memory() if self.module is np else contextlib.nullcontext()


def current_setting() -> Setting:
    """The setting of the backend in force. Raises BackendError if MINILM_BACKEND cannot work here."""
    backend = current_backend()
    interpreting = backend.name == "triton" and import_module("minilm.kernels.host").interpreting()
    return Setting(backend.name, backend.array_module(), interpreting)


def known_ceilings(setting: Setting, facts: Mapping[str, Any], dtype: str, timer: Timer) -> Row:
    """The two roofs: those of the data sheet where the static report has the GPU, else measured now."""
    arch = DATA_SHEETS.get(str(facts.get("gpu")))
    if arch is not None:
        ceiling = import_module("minilm.kernels.static_report").CEILINGS[arch]
        peak = ceiling.tensor if dtype in ("float16", "bfloat16") else ceiling.float32
        source = f"data sheet of {ceiling.gpu}, {dtype}"
        return {"flop_per_s": peak, "byte_per_s": ceiling.bandwidth, "source": source}
    library = "cuBLAS" if setting.module is not np else "BLAS"
    source = f"measured in this run: a float32 product of 1024 ({library}), and a copy of 128 MB"
    return {**ceilings(setting.module, timer), "source": source}


class Bench:
    """The subjects of one run of the command, under one setting and in one dtype."""

    def __init__(self, setting: Setting, dtype: str, repeats: int) -> None:
        self.setting, self.dtype, self.repeats = setting, dtype, repeats
        self.timer: Timer = timer_of(setting.module)
        self._verdicts: dict[Any, tuple[str, str | None, float | None]] = {}

    def point(self, subject: Subject, direction: str, sizes: Sizes) -> list[Row]:
        """All contestants at one length, in one direction."""
        rows, fit = [], {}
        flops, moved = subject.cost(direction, sizes, ITEMSIZES[self.dtype])
        module = self.setting.module
        contestants = subject.contestants(self.setting.backend, module.__name__, sizes)
        if self.setting.interpreting:  # the others are NumPy, and neither timed nor counted
            contestants = {name: bind for name, bind in contestants.items() if name == "triton"}
        arguments: Arguments | None = None
        for name, bind in contestants.items():
            status, why, error = self.verdict(subject, name, bind, direction, sizes)
            row: Row = {
                "contestant": name,
                "direction": direction,
                "length": sizes[subject.varied],
                "sizes": dict(sizes),
                "status": status,
                "why": why,
                "relative_error": error,
                "flops": flops,
                "bytes": moved,
            }
            rows.append(row)
            if status != "ok":
                continue
            assert bind is not None
            try:
                with self.setting.memory_limit():
                    if arguments is None:
                        arguments = converted(draw(subject, sizes, self.dtype), module.asarray)
                    if self.setting.interpreting:
                        row |= self.counted(bind, arguments, direction)
                        continue
                    row["peak_bytes"] = self.peak(bind, arguments, direction)
                fit[name] = bind
            except MemoryError as lack:  # CuPy's OutOfMemoryError is one
                row |= {"status": "out of memory", "why": str(lack) or None}
                self.release()
        if fit and arguments is not None:
            self.time(rows, fit, arguments, direction)
        return rows

    # right first

    def verdict(
        self, subject: Subject, name: str, bind: Bind | None, direction: str, sizes: Sizes
    ) -> tuple[str, str | None, float | None]:
        """(status, reason, relative error) of a contestant, at sizes that are cut to what float64 can check."""
        if bind is None:
            return "no kernel", f"the backend {self.setting.backend!r} has no kernel for {subject.operation}", None
        if self.dtype == "bfloat16" and name != "triton":
            return "not covered", f"{self.setting.module.__name__} does not compute in bfloat16", None
        checked = {n: min(size, subject.checked.get(n, size)) for n, size in sizes.items()}
        key = subject.name, name, direction, tuple(sorted(checked.items()))
        if key not in self._verdicts:
            self._verdicts[key] = self.check(subject, bind, direction, checked)
        return self._verdicts[key]

    def check(self, subject: Subject, bind: Bind, direction: str, sizes: Sizes) -> tuple[str, str | None, float | None]:
        """Compare the second call of a contestant with that of the oracle: a call has to bear repetition."""
        arguments = draw(subject, sizes, self.dtype)
        expected = _second(subject.textbook()(converted(arguments, widened), direction))
        here = converted(arguments, self.setting.module.asarray)
        try:
            actual = _second(bind(here, direction))
        except NotImplementedError as gap:
            return "not covered", str(gap), None
        errors = [
            relative_error(widened(to_numpy(a)), to_numpy(e)) for a, e in zip(actual, expected, strict=True)
        ]
        worst, allowed = max(errors), TOLERANCES[self.dtype]
        if worst <= allowed:  # NaN is not
            return "ok", None, worst
        return "wrong", f"relative error {worst:.1e} at {_words(sizes)}, and {allowed:.0e} is allowed", worst

    # then memory and time

    def peak(self, bind: Bind, arguments: Arguments, direction: str) -> int:
        """Bytes at the worst moment, beyond the arguments; a backward pass counts with what the forward pass kept."""
        if direction == "backward":
            return peak_memory(lambda: bind(arguments, direction)(), self.setting.module)
        return peak_memory(bind(arguments, direction), self.setting.module)

    def time(self, rows: list[Row], fit: Mapping[str, Bind], arguments: Arguments, direction: str) -> None:
        """Add the times to the rows of those that fit into memory."""
        timings: list[Timing] = []
        try:
            with self.setting.memory_limit():
                timings = self.rounds({name: bind(arguments, direction) for name, bind in fit.items()})
        except MemoryError:  # each fits alone, all together do not: what a forward pass keeps adds up
            for name, bind in fit.items():
                self.release()
                with self.setting.memory_limit():
                    timings += self.rounds({name: bind(arguments, direction)})
        for timing in timings:
            (row,) = (row for row in rows if row["contestant"] == timing.name)
            row |= {
                "median_s": timing.median,
                "spread_s": timing.spread,
                "rounds": len(timing.seconds),
                "flop_per_s": row["flops"] / timing.median,
                "byte_per_s": row["bytes"] / timing.median,
            }

    def rounds(self, calls: Mapping[str, Callable[[], Any]]) -> list[Timing]:
        """As many rounds as asked for; fewer, but LEAST_ROUNDS, where they would take too long."""
        once = sum(self.timer(call) for call in calls.values())
        repeats = min(self.repeats, max(LEAST_ROUNDS, int(SECONDS_A_POINT / max(once, 1e-9))))
        return measure(calls, repeats, WARMUP - 1, self.timer)

    def release(self) -> None:
        """Give memory back that a contestant left behind."""
        if self.setting.module is not np:
            self.setting.module.get_default_memory_pool().free_all_blocks()

    # or counts

    def counted(self, bind: Bind, arguments: Arguments, direction: str) -> Row:
        """What the kernels did in the interpreter; the library's products and sums around them are not in it."""
        call = bind(arguments, direction)
        with import_module("minilm.kernels.host").counting() as counts:
            call()
        return {"status": "counted", "counts": counts.as_dict()}


def _second(call: Callable[[], Any]) -> list[Any]:
    call()
    return list(call())


def _words(sizes: Sizes) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def relative_error(actual: np.ndarray, oracle: np.ndarray) -> float:
    """The Frobenius norm of the difference over that of the oracle; NaN if anything is, infinite if shapes differ."""
    if actual.shape != oracle.shape:
        return float("inf")
    return float(np.linalg.norm(actual - oracle) / max(float(np.linalg.norm(oracle)), 1e-30))

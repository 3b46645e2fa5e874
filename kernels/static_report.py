"""What is known of every kernel without a GPU, kernel by kernel and tile by tile.

From the compiler: registers, spills, shared memory, tensor-core instructions, and so the blocks that live on an SM.
From the interpreter, with the same tiles: bytes and flops as the kernel really moves and computes them. From the
operation itself: the bytes and flops that it cannot do without, and with the ceilings of a GPU the time below which
no kernel for it can go (the roofline):

    time >= max(flops / peak, bytes / bandwidth, exponentials / rate)

with the peak of the arithmetic units, the bandwidth of the memory, and the rate of the units for special functions.

What is not here is a time: that takes a GPU. A kernel that reaches half its roofline is a good one.

Each `kernels/<operation>/triton.py` has a function `static_cases()` that says what to compile and to count.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class StaticCase:
    """A kernel at one set of sizes.

    name: what it computes, the same for all its sizes and dtypes.
    kernels: the names of the kernels that are reported; what else `run` launches is left out.
    sizes: where the roofline stands; `counted`: smaller ones, at which the interpreter counts.
    run(dtype, **sizes): makes arrays of such sizes and launches; it runs under `dry` and in the interpreter.
    flops(**sizes), bytes(itemsize, **sizes): what the operation cannot do without.
    tensor_cores: whether its flops are those of `tl.dot`.
    """

    name: str
    kernels: tuple[str, ...]
    sizes: Mapping[str, int]
    counted: Mapping[str, int]
    run: Callable[..., None]
    flops: Callable[..., int]
    bytes: Callable[..., int]
    dtypes: tuple[str, ...] = ("float16", "bfloat16")
    tensor_cores: bool = True


@dataclass(frozen=True)
class Ceiling:
    """What a GPU can do at most: NVIDIA's data sheets, dense, and 16 special functions a clock and SM."""

    gpu: str
    tensor: float  # 16-bit flop/s
    float32: float  # flop/s
    bandwidth: float  # byte/s
    exponentials: float  # 1/s


CEILINGS = {
    "sm_80": Ceiling("A100 80G SXM", 312e12, 19.5e12, 2.04e12, 108 * 16 * 1.41e9),
    "sm_90": Ceiling("H100 SXM", 989e12, 67e12, 3.35e12, 132 * 16 * 1.83e9),
}


def folders() -> list[str]:
    """The folders of minilm.kernels that hold Triton kernels."""
    return sorted(file.parent.name for file in Path(__file__).parent.glob("*/triton.py"))


def cases_of(operations: Sequence[str]) -> Iterator[StaticCase]:
    """The cases of the kernels in these folders."""
    for name in operations:
        module = importlib.import_module(f"minilm.kernels.{name}.triton")
        if hasattr(module, "static_cases"):
            yield from module.static_cases()


def static_report(
    architectures: Sequence[str] = ("sm_80", "sm_90"), operations: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """One row for each kernel, sizes, dtype and architecture; see `compile_case`, `roofline` and `count_case`.

    It needs triton, in a process that does not interpret, and starts one that does, for the counts.

    Args:
        operations: folders of minilm.kernels to report on; all of them if empty.

    Raises:
        ValueError: for an architecture without ceilings, or an operation without kernels.
        RuntimeError: in a process started with TRITON_INTERPRET=1, or if counting fails.
    """
    operations = list(operations) or folders()
    for what, given, known in (
        ("ceilings for", architectures, list(CEILINGS)),
        ("kernels of", operations, folders()),
    ):
        for name in given:
            if name not in known:
                raise ValueError(f"there are no {what} {name!r}: choose from {', '.join(known)}")
    counts = _count_in_a_process_of_its_own(architectures, operations)
    rows = []
    for index, case in enumerate(cases_of(operations)):
        for arch in architectures:
            counted = counts[f"{index} {arch}"]
            for dtype in case.dtypes:
                shared = {
                    "case": case.name,
                    "arch": arch,
                    "dtype": dtype,
                    "sizes": dict(case.sizes),
                    **roofline(case, arch, dtype, counted),
                    "counted": counted,
                }
                rows += [shared | compiled for compiled in compile_case(case, arch, dtype)]
    return rows


def compile_case(case: StaticCase, arch: str, dtype: str) -> list[dict[str, Any]]:
    """What the compiler made of each kernel of a case, once for each tile that its launches use."""
    from minilm.kernels.host import dry

    with dry(arch) as launches:
        case.run(dtype, **case.sizes)
    rows: list[dict[str, Any]] = []
    for launch in launches:
        if launch.name not in case.kernels:
            continue
        row = {
            "kernel": launch.name,
            "grid": launch.grid,
            "tile": {name: value for name, value in launch.constants.items() if name.isupper()},
            "num_warps": launch.num_warps,
            "num_stages": launch.num_stages,
            "registers": launch.registers,
            "spills": launch.spills,
            "stack": launch.stack,
            "shared": launch.shared,
            "blocks_per_sm": launch.blocks_per_sm,
            "hmma": launch.hmma,
            "hgmma": launch.hgmma,
            "ffma": launch.ffma,
        }
        if row not in rows:
            rows.append(row)
    missing = set(case.kernels) - {row["kernel"] for row in rows}
    if missing:
        raise RuntimeError(f"the case {case.name!r} never launched {', '.join(sorted(missing))}")
    return rows


def roofline(case: StaticCase, arch: str, dtype: str, counted: Mapping[str, Any]) -> dict[str, Any]:
    """The times below which the operation cannot go, in microseconds, and which of them is the longest."""
    ceiling = CEILINGS[arch]
    flops, moved = case.flops(**case.sizes), case.bytes(ITEMSIZE[dtype], **case.sizes)
    peak = ceiling.tensor if case.tensor_cores and dtype != "float32" else ceiling.float32
    # The exponentials grow with the flops: so many of them to a flop as were counted.
    exponentials = counted["exps"] * flops / case.flops(**case.counted)
    times = {
        "compute": 1e6 * flops / peak,
        "memory": 1e6 * moved / ceiling.bandwidth,
        "exponentials": 1e6 * exponentials / ceiling.exponentials,
    }
    bound = max(times, key=lambda name: times[name])
    return {
        "flops": flops,
        "bytes": moved,
        "intensity": flops / moved,
        "times_us": times,
        "bound": bound,
        "roofline_us": times[bound],
    }


# ----- counting, in a process with TRITON_INTERPRET=1


def count_case(case: StaticCase, arch: str) -> dict[str, Any]:
    """Bytes and flops of a case at its small sizes, with the tiles of `arch`, beside what its formulas say."""
    from minilm.kernels.host import counting, using_tiles_of

    dtype = next(name for name in case.dtypes if name != "bfloat16")
    with using_tiles_of(arch), counting(*case.kernels) as counts:
        case.run(dtype, **case.counted)
    return {
        "sizes": dict(case.counted),
        "dtype": dtype,
        **counts.as_dict(),
        "formula_flops": case.flops(**case.counted),
        "formula_bytes": case.bytes(ITEMSIZE[dtype], **case.counted),
    }


def count_cases(architectures: Sequence[str], operations: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`count_case` of all cases of these operations, by number and architecture."""
    return {
        f"{index} {arch}": count_case(case, arch)
        for index, case in enumerate(cases_of(operations))
        for arch in architectures
    }


def _count_in_a_process_of_its_own(
    architectures: Sequence[str], operations: Sequence[str]
) -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "counts.json"
        program = (
            "import json, sys; from minilm.kernels.static_report import count_cases; "
            "file, *names = sys.argv[1:]; "
            "counts = count_cases(*[name.split(',') for name in names]); "
            "open(file, 'w').write(json.dumps(counts))"
        )
        result = subprocess.run(
            [sys.executable, "-c", program, str(file), ",".join(architectures), ",".join(operations)],
            env=os.environ | {"TRITON_INTERPRET": "1"},
            capture_output=True,
            text=True,
        )
        if result.returncode != 0:
            raise RuntimeError(f"counting in the interpreter failed:\n{result.stderr[-3000:]}")
        return json.loads(file.read_text())


# ----- the report


def write_report(
    path: str | Path, architectures: Sequence[str] = ("sm_80", "sm_90"), operations: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Write static_report.json and static_report.md into the folder `path`, and return the rows."""
    import triton

    rows = static_report(architectures, operations)
    facts = {"triton": triton.__version__, "ceilings": {arch: vars(CEILINGS[arch]) for arch in architectures}}
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "static_report.json").write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")
    (folder / "static_report.md").write_text(markdown(rows, triton.__version__))
    return rows


def _product(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _mega(n: int) -> str:
    return f"{n / 1e6:.4g}" if n else "-"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---" if i < 3 else "---:" for i in range(len(header))], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def markdown(rows: Sequence[Mapping[str, Any]], triton_version: str) -> str:
    """The rows as three tables: what was compiled, the rooflines, what was counted."""
    text = (
        "# What the compiler and the interpreter say of the kernels\n\n"
        f"Made with Triton {triton_version}, without a GPU, by `minilm.kernels.static_report.write_report`; "
        "the same numbers come out on every machine.\n"
    )
    for arch in dict.fromkeys(row["arch"] for row in rows):
        here = [row for row in rows if row["arch"] == arch]
        text += f"\n## {arch}: compiled\n\nRegisters are of a thread, spills are LDL and STL instructions.\n\n"
        text += _table(
            ["case", "kernel", "tile"]
            + ["sizes", "dtype", "warps", "stages", "registers", "spills", "shared KB", "blocks/SM", "HMMA", "HGMMA"]
            + ["FFMA"],
            [
                [row["case"], row["kernel"], _product(row["tile"]), _product(row["sizes"]), row["dtype"]]
                + [row["num_warps"], row["num_stages"], row["registers"], row["spills"]]
                + [f"{row['shared'] / 1024:.1f}", row["blocks_per_sm"], row["hmma"], row["hgmma"], row["ffma"]]
                for row in here
            ],
        )
        ceiling = CEILINGS[arch]
        text += (
            f"\n## {arch}: rooflines\n\n{ceiling.gpu}: {ceiling.tensor / 1e12:.0f} TFLOP/s in 16 bits, "
            f"{ceiling.float32 / 1e12:.1f} in float32, {ceiling.bandwidth / 1e12:.2f} TB/s, "
            f"{ceiling.exponentials / 1e12:.1f}e12 exponentials a second.\n\n"
        )
        cases = {(row["case"], _product(row["sizes"]), row["dtype"]): row for row in here}
        text += _table(
            ["case", "sizes", "dtype", "GFLOP", "MB", "flop/byte", "compute us", "memory us", "exp us", "bound"],
            [
                [*key, f"{row['flops'] / 1e9:.3g}", f"{row['bytes'] / 1e6:.4g}", f"{row['intensity']:.3g}"]
                + [f"{time:.3g}" for time in row["times_us"].values()]
                + [row["bound"]]
                for key, row in cases.items()
            ],
        )
        text += (
            f"\n## {arch}: counted in the interpreter\n\nLoaded and stored: each access of each program. Needed: "
            "the operation's formula; moved: each element that was touched, once. All in KB and MFLOP of tl.dot.\n\n"
        )
        counted = {(row["case"], _product(row["counted"]["sizes"])): row for row in here}
        text += _table(
            ["case", "sizes", "dtype", "programs", "loaded", "stored", "moved", "needed", "MFLOP", "needed "],
            [
                [*key, row["counted"]["dtype"], row["counted"]["programs"]]
                + [f"{row['counted'][name] / 1e3:.4g}" for name in ("loaded", "stored", "moved", "formula_bytes")]
                + [_mega(row["counted"]["flops"]), _mega(row["counted"]["flops"] and row["counted"]["formula_flops"])]
                for key, row in counted.items()
            ],
        )
    return text

"""minilm bench --static: the kernels as the compiler and the interpreter see them, shown and written. No GPU needed.

The facts come from minilm.kernels.static_report. It runs in a process of its own, without TRITON_INTERPRET: compiled
kernels and interpreted ones cannot share a process, and this one may have been started for either. What is added here
are the tables for a terminal and the pictures.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minilm.cli.output import say, shown, table
from minilm.errors import BackendError, MinilmError

JSON, MARKDOWN = "static_report.json", "static_report.md"
PROGRAM = "import sys; from minilm.kernels.static_report import write_report; write_report(sys.argv[1])"


def show_static(out: Path | None) -> None:
    """Make the report, print it, and keep it in the folder `out` if there is one.

    Raises:
        BackendError: if triton is not installed.
        MinilmError: if the report cannot be made; with the end of what the process said.
    """
    if importlib.util.find_spec("triton") is None:
        raise BackendError(
            "minilm bench --static compiles the Triton kernels (no GPU is needed) and needs the package triton, which "
            "is not installed: pip install 'minilm[triton]' (Linux only)"
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = out or Path(scratch)
        report = make_report(folder)
        for arch, ceiling in report["ceilings"].items():
            rows = [row for row in report["rows"] if row["arch"] == arch and row["dtype"] != "bfloat16"]
            show(arch, ceiling, rows)
        say("\nbfloat16 is left out here; " + ("it is in the report" if out else "--out FOLDER writes all of it"))
        if out is not None:
            for path in [out / JSON, out / MARKDOWN, *draw(report, out)]:
                say(f"report: {shown(path)}")


def make_report(folder: Path) -> dict[str, Any]:
    """Run the report in a process that compiles, into `folder`; what its JSON says."""
    say("Compiling and counting every kernel; that takes some minutes the first time (Triton keeps what it compiled).")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    result = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines()
        # what stands below the frames of the traceback
        message = list(itertools.takewhile(lambda line: not line.startswith(" "), reversed(lines)))
        said = "\n".join(reversed(message)) or "it said nothing"
        raise MinilmError(f"the static report could not be made (exit status {result.returncode}): {said}")
    return json.loads((folder / JSON).read_text(encoding="utf-8"))


def show(arch: str, ceiling: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """The tables of one architecture."""
    say(
        f"\n{arch}: what the compiler made. tile: blocks, w warps, s stages; regs of a thread; KB of shared memory;\n"
        "blocks that live on an SM at once; tc: tensor-core instructions"
    )
    columns = ["kernel", "tile", "dtype", "regs", "spills", "KB", "blocks", "tc"]
    table(columns, list(dict.fromkeys(_compiled(row) for row in rows)), left=3)
    say(
        f"\n{arch}: the time that the operation takes at least on an {ceiling['gpu']} ({ceiling['tensor'] / 1e12:.0f} "
        f"TFLOP/s in 16 bits, {ceiling['float32'] / 1e12:g} in float32, {ceiling['bandwidth'] / 1e12:g} TB/s)"
    )
    columns = ["case", "sizes", "dtype", "flop/byte", "time at least", "bound by"]
    table(columns, list(dict.fromkeys(_roofline(row) for row in rows)), left=3)
    say(
        f"\n{arch}: counted in the interpreter, with the tiles of {arch}, in kB and kFLOP. loaded, stored: each access "
        "of each program;\nmoved: each element that was touched, once; bytes and flops: the formulas"
    )
    columns = ["case", "sizes", "loaded", "stored", "moved", "bytes", "tl.dot", "flops"]
    table(columns, list(dict.fromkeys(_counted(row) for row in rows)), left=2)


def _joined(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in settings.items())


def _compiled(row: Mapping[str, Any]) -> tuple[str, ...]:
    blocks = [f"{n.removeprefix('BLOCK_')}{size}" for n, size in row["tile"].items() if n.startswith("BLOCK")]
    tile = " ".join([*blocks, f"{row['num_warps']}w", f"{row['num_stages']}s"])
    numbers = row["registers"], row["spills"], f"{row['shared'] / 1024:.1f}", row["blocks_per_sm"]
    name = row["kernel"].removesuffix("_kernel")
    return name, tile, row["dtype"], *map(str, numbers), str(row["hmma"] + row["hgmma"])


def _roofline(row: Mapping[str, Any]) -> tuple[str, ...]:
    time = f"{row['roofline_us']:.3g} us"
    return row["case"], _joined(row["sizes"]), row["dtype"], f"{row['intensity']:.3g}", time, row["bound"]


def _counted(row: Mapping[str, Any]) -> tuple[str, ...]:
    counts = row["counted"]
    names = ("loaded", "stored", "moved", "formula_bytes", "flops", "formula_flops")
    return row["case"], _joined(counts["sizes"]), *(f"{counts[name] / 1e3:,.4g}" for name in names)


def draw(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Two pictures for each architecture, beside the report and named in it; without matplotlib none, and why."""
    from minilm.plots.roofline import static_figure, static_times_figure

    paths, text = [], ""
    for arch, ceiling in report["ceilings"].items():
        rows = [row for row in report["rows"] if row["arch"] == arch]
        text += f"\n## {arch}: pictures\n"
        for name, figure_of in (("roofline", static_figure), ("times", static_times_figure)):
            path = folder / f"static_{name}_{arch}.png"
            try:
                figure_of(rows, ceiling).savefig(path)
            except MinilmError as error:
                say(f"no pictures: {error}")
                return []
            paths.append(path)
            text += f"\n![{name} of the kernels on an {ceiling['gpu']}]({path.name})\n"
    with (folder / MARKDOWN).open("a", encoding="utf-8") as report_file:
        report_file.write(text)
    return paths

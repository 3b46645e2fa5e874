"""The static report: rooflines by hand, rows from the compiler, counts from a process that interprets."""

import json

import numpy as np
import pytest
import triton
import triton.language as tl

from minilm.kernels import static_report as report
from minilm.kernels.host import launch, pointers
from minilm.kernels.static_report import StaticCase, compile_case, roofline, static_report, write_report

COUNTED = {"exps": 64}


@triton.jit
def add_kernel(x, y, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, tl.load(x + i) + 1)


@triton.jit
def helper_kernel(x, BLOCK: tl.constexpr):
    tl.store(x + tl.arange(0, BLOCK), 0.0)


def run(dtype, N):
    x = np.empty(N, "uint16" if dtype == "bfloat16" else dtype)
    launch(helper_kernel, 1, *pointers(x), BLOCK=16)
    for _ in range(2):
        launch(add_kernel, N // 1024, *pointers(x, x), BLOCK=1024, num_warps=4)
    launch(add_kernel, N // 2048, *pointers(x, x), BLOCK=2048, num_warps=8)


CASE = StaticCase(
    name="add",
    kernels=("add_kernel",),
    sizes={"N": 8192},
    counted={"N": 64},
    run=run,
    flops=lambda N: 4 * N,
    bytes=lambda itemsize, N: 2 * itemsize * N,
)


def test_the_roofline_by_hand():
    half, single = roofline(CASE, "sm_90", "float16", COUNTED), roofline(CASE, "sm_90", "float32", COUNTED)
    assert half["flops"] == 4 * 8192 and half["bytes"] == 4 * 8192 and half["intensity"] == 1
    assert half["times_us"]["compute"] == pytest.approx(4 * 8192 / 989e12 * 1e6)
    assert half["times_us"]["memory"] == pytest.approx(4 * 8192 / 3.35e12 * 1e6)
    assert half["times_us"]["exponentials"] == pytest.approx(8192 / (132 * 16 * 1.83e9) * 1e6)  # one for each element
    assert half["bound"] == "memory" and half["roofline_us"] == half["times_us"]["memory"]
    assert single["times_us"]["compute"] == pytest.approx(4 * 8192 / 67e12 * 1e6)
    many = roofline(CASE, "sm_80", "float16", {"exps": 64 * 100})
    assert many["bound"] == "exponentials"


def test_each_tile_of_the_kernels_of_a_case_is_a_row():
    rows = compile_case(CASE, "sm_80", "bfloat16")
    assert [(row["kernel"], row["tile"], row["grid"]) for row in rows] == [
        ("add_kernel", {"BLOCK": 1024}, (8, 1, 1)),
        ("add_kernel", {"BLOCK": 2048}, (4, 1, 1)),
    ]
    assert all(row["spills"] == 0 and row["registers"] > 0 and row["blocks_per_sm"] > 0 for row in rows)


def test_a_case_whose_kernel_is_not_launched_is_an_error():
    from dataclasses import replace

    with pytest.raises(RuntimeError, match="the case 'add' never launched mul_kernel"):
        compile_case(replace(CASE, kernels=("add_kernel", "mul_kernel")), "sm_80", "float16")


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="no ceilings for 'sm_75': choose from sm_80, sm_90"):
        static_report(["sm_75"])
    with pytest.raises(ValueError, match="no kernels of 'conv': choose from .*lstm_cell"):
        static_report(["sm_80"], ["conv"])


def test_what_fails_while_counting_is_shown(monkeypatch):
    monkeypatch.setattr(report, "folders", lambda: ["conv"])
    with pytest.raises(RuntimeError, match="(?s)counting in the interpreter failed:.*minilm.kernels.conv"):
        static_report(["sm_80"], ["conv"])


def test_the_report_is_written_as_json_and_as_tables(tmp_path):
    rows = write_report(tmp_path / "report", ["sm_90"], ["lstm_cell"])
    written = json.loads((tmp_path / "report" / "static_report.json").read_text())
    assert written["rows"] == json.loads(json.dumps(rows)) and written["triton"] == triton.__version__
    assert written["ceilings"]["sm_90"]["gpu"] == "H100 SXM"
    row = rows[0]
    assert row["arch"] == "sm_90" and row["counted"]["moved"] > 0 and row["roofline_us"] > 0
    assert {"case", "kernel", "tile", "dtype", "registers", "spills", "shared", "blocks_per_sm", "hgmma"} <= set(row)
    tables = (tmp_path / "report" / "static_report.md").read_text()
    for part in ("## sm_90: compiled", "## sm_90: rooflines", "## sm_90: counted", f"| {row['kernel']} |"):
        assert part in tables
    for block in tables.split("\n\n"):  # a table has as many cells in each line
        if block.startswith("|"):
            assert len({line.count("|") for line in block.strip().split("\n")}) == 1

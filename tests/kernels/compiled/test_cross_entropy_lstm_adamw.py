"""Cross-entropy, the LSTM cell and AdamW compile for both architectures: no spills, wide loads, the right grid."""

from __future__ import annotations

import re
import subprocess
import tempfile

import numpy as np
import pytest
import triton

from minilm.kernels import dry as dry_driver
from minilm.kernels.adamw import triton as adamw_module
from minilm.kernels.cross_entropy import triton as cross_entropy_module
from minilm.kernels.host import dry
from minilm.kernels.lstm_cell import triton as lstm_module
from tests.package.source import ROOT

ARCHITECTURES = ["sm_80", "sm_90"]
CASES = [
    case for module in (cross_entropy_module, lstm_module, adamw_module) for case in module.static_cases()
]


def instructions(launch, pattern):
    """How many instructions of the machine code match, such as r"LDG\\.E\\.128": a load of 16 bytes a thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(launch.cubin)
        file.flush()
        command = [str(dry_driver._TOOLS / "cuobjdump"), "-sass", file.name]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return len(re.findall(rf"\b{pattern}\b", code))


WIDE, ATOMIC = r"LDG\.E[.\w]*\.128", r"(ATOM|RED|ATOMG)\b[.\w]*"


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {list(case.sizes.values())}")
def test_no_spills_and_room_for_several_blocks_on_an_sm(case, arch):
    for dtype in case.dtypes:
        with dry(arch) as launches:
            case.run(dtype, **case.sizes)
        found = [launch for launch in launches if launch.name in case.kernels]
        assert [launch.name for launch in found] == list(case.kernels)
        for launch in found:
            assert launch.spills == launch.stack == 0
            # All of them wait for memory, so many threads have to be on their way at the same time.
            assert launch.blocks_per_sm * launch.threads >= 1024
            if dtype == case.dtypes[0]:
                assert instructions(launch, ATOMIC) == 0


def logits(N, V, dtype):
    return np.zeros((N, V), dtype="uint16" if dtype == "bfloat16" else dtype)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_padded_vocabulary_is_read_16_bytes_at_a_time(arch, dtype):
    for V, wide in ((50304, True), (50257, False)):
        with dry(arch) as launches, np.errstate(all="ignore"):
            loss, dx = cross_entropy_module.cross_entropy(logits(8, V, dtype), np.zeros(8, "int64"))
            dx(np.ones((), dtype=loss.dtype))
        forward, backward = launches
        assert forward.grid == (8, 1, 1) and backward.grid == (8, 13, 1)
        for launch in launches:
            assert (instructions(launch, WIDE) > 0) is wide


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_option_and_a_small_vocabulary_compile(arch):
    with dry(arch) as launches, np.errstate(all="ignore"):
        for V in (1, 65):
            for reduction in ("none", "sum"):
                loss, dx = cross_entropy_module.cross_entropy(
                    logits(4, V, "float16"), np.zeros(4, "int64"), label_smoothing=0.1, reduction=reduction
                )
                dx(np.ones(np.shape(loss), "float16"))
    assert len(launches) == 8
    assert all(launch.spills == 0 and launch.num_warps == 4 for launch in launches)
    assert {launch.signature["x_ptr"] for launch in launches} == {"*fp16"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("H, columns", [(100, 1), (1030, 3)])
def test_the_lstm_launches_its_cell_once_a_step(arch, H, columns):
    B, T = 2, 3
    x, states = np.zeros((B, T, 4), "float16"), np.zeros((B, H), "float16")
    weights = np.zeros((4 * H, 4), "float16"), np.zeros((4 * H, H), "float16")
    with dry(arch) as launches, np.errstate(all="ignore"):
        outputs, vjp = lstm_module.lstm(x, states, states, *weights)
        vjp(tuple(np.zeros_like(y) for y in outputs), (True,) * 5 + (False,) * 2)
    names = [launch.name for launch in launches]
    assert names == ["lstm_cell_forward_kernel"] * T + ["lstm_cell_backward_kernel"] * T
    assert all(launch.grid == (B, columns, 1) and launch.spills == 0 for launch in launches)
    assert launches[0].signature["gates_ptr"] == "*fp16" and launches[0].signature["c_ptr"] == "*fp32"


def adamw_launch(arch, sizes, dtype="float32"):
    """The one launch for parameters of these sizes, laid end to end in memory."""
    starts = [sum(sizes[:slot]) for slot in range(len(sizes))]
    memory = np.zeros((4, sum(sizes) + 64), "float32")
    memory = memory[:, (-memory.ctypes.data % 64) // 4 :]  # NumPy's own memory begins at any multiple of 16
    values, gradients = ([row[at : at + n].astype(dtype, copy=False) for at, n in zip(starts, sizes, strict=True)]
                         for row in memory[:2])  # fmt: skip
    m, v = (np.zeros(sum(sizes), "float32") for _ in range(2))
    with dry(arch) as launches:
        settings = [(1, 1e-3, (0.9, 0.999), 1e-8, 0.0)] * len(sizes)
        adamw_module.adamw(starts, sizes, m, v)(values, gradients, settings)
    (launch,) = launches
    return launch


def test_the_rows_that_the_readme_shows():
    """Where Triton is the version that the README names: registers are its choice."""
    text = (ROOT / "kernels" / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\| `(\w+_kernel)` \| (\w+) \| (.*) \|$", text, flags=re.MULTILINE))
    assert len(shown) == 3
    made = set()
    for case in CASES:
        if case.sizes.get("V") == 50257 or "C" in case.sizes:
            for dtype in ("float32", "float16"):
                with dry("sm_90") as launches:
                    case.run(dtype, **case.sizes)
                for launch in launches:
                    numbers = (launch.num_warps, launch.registers, launch.spills, launch.shared, launch.blocks_per_sm)
                    made.add((launch.name, dtype, " | ".join(map(str, numbers))))
    if f"(Triton {triton.__version__})" in text:
        assert shown <= made
    assert {row[:2] for row in shown} <= {row[:2] for row in made}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_adamw_is_one_launch_of_a_program_for_each_block(arch):
    launch = adamw_launch(arch, [4096, 16, 1025, 1])
    assert launch.grid == (4 + 1 + 2 + 1, 1, 1) and launch.spills == 0
    assert launch.constants["ALIGNED"] is False and instructions(launch, WIDE) == 0


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_adamw_reads_16_bytes_at_a_time_where_all_parameters_allow_it(arch):
    launch = adamw_launch(arch, [4096, 16, 1040])
    assert launch.constants["ALIGNED"] is True
    assert instructions(launch, WIDE) >= 4  # p, g, m and v

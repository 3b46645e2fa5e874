"""Each bug that attention kernels are known for, planted in a copy of the library: the tests turn red.

A test suite that stays green whatever is done to the kernel proves nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORWARD, BACKWARD = "triton_forward.py", "triton_backward.py"

# name: (file, the text as it stands, what is planted); the text stands there once
BUGS = {
    "causal mask": (FORWARD, "seen = seen & (columns <= rows + offset)", "pass"),
    "rescaling of the output": (FORWARD, "v, out * rescale[:, None], input", "v, out, input"),
    "rescaling of the total": (FORWARD, "total * rescale + tl.sum", "total + tl.sum"),
    "lse without the maximum": (FORWARD, "top + tl.log2(total), mask", "tl.log2(total), mask"),
    "boundary of the keys": (FORWARD, "(rows < Tq) & (columns < Tk)", "rows < Tq"),
    "boundary of a tile's rows": (FORWARD, "inside = rows[:, None] < T\n", "inside = rows[:, None] < T + 1\n"),
    "boundary of a tile's columns": (FORWARD, "inside = inside & (d[None, :] < D)", "pass"),
    "delta in dK": (BACKWARD, "dweights - tl.load(delta + rows, mask=rows < Tq, other=0.0)[None, :]", "dweights"),
    "delta in dQ": (BACKWARD, "dweights - delta[:, None]", "dweights"),
    "rows that saw no key": (BACKWARD, "tl.where(values == -float(\"inf\"), float(\"inf\"), values)", "values"),
    "dropout in the backward": (BACKWARD, "dropped = tl.where(keep, weights * keep_scale, 0.0)", "pass"),
    "heads of a group": (BACKWARD, "query_head = head * group + member", "query_head = head * group"),
}
BLOCKED_BUGS = {
    "causal mask": ("np.where(j <= i + offset, scores, -np.inf)", "scores"),
    "rescaling of the output": ("acc[..., rows, :] *= rescale[..., None]", "pass"),
    "rescaling of the total": ("total[..., rows] * rescale + ", "total[..., rows] + "),
    "delta": ("dweights - delta[..., rows, None]", "dweights"),
    "first row of a block": ("max(start - offset, 0)", "max(start - offset + 1, 0)"),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The library and these tests, laid out so that the copies are what is imported there."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "minilm", tmp_path / "minilm", ignore=ignore)
    shutil.copytree(ROOT / "kernels", tmp_path / "minilm/kernels", ignore=ignore)
    shutil.copytree(ROOT / "tests/kernels", tmp_path / "tests/kernels", ignore=ignore)
    for name in ("pyproject.toml", "tests/__init__.py", "tests/conftest.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def plant(copy: Path, file: str, text: str, bug: str) -> None:
    path = copy / "minilm/kernels/attention" / file
    source = path.read_text(encoding="utf-8")
    assert source.count(text) == 1, f"{file} has {text!r} {source.count(text)} times: mend this test"
    path.write_text(source.replace(text, bug), encoding="utf-8")


QUICK = "test_equals_the_formula and not any_case or sees_no"


def outcome(copy: Path, tests: str, environment: dict[str, str], chosen: str = QUICK) -> tuple[int, int, str]:
    """How many tests pass in the copy until one fails, how many fail (0 or 1), and what pytest said."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | environment
    probe = "import minilm.kernels.attention as a; print(a.__file__)"
    where = subprocess.run([sys.executable, "-c", probe], cwd=copy, env=settings, capture_output=True, text=True)
    assert where.stdout.startswith(str(copy)), f"the copy is not what is imported: {where.stdout}{where.stderr}"
    command = [sys.executable, "-m", "pytest", tests, "-q", "-x", "-k", chosen]
    result = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist"], cwd=copy, env=settings, capture_output=True, text=True
    )
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", result.stdout)}
    assert "error" not in counts, result.stdout
    return counts.get("passed", 0), counts.get("failed", 0), result.stdout


def in_the_interpreter(copy: Path, chosen: str = QUICK) -> tuple[int, int, str]:
    environment = {"TRITON_INTERPRET": "1", "MINILM_POISON": "1"}
    return outcome(copy, "tests/kernels/interpreter/test_attention.py", environment, chosen)


@pytest.mark.slow
def test_the_copy_without_a_bug_is_green(copy, require_package) -> None:
    require_package("triton")
    for passed, failed, said in (
        in_the_interpreter(copy, "ragged"),  # the whole suite runs elsewhere
        outcome(copy, "tests/kernels/test_attention_blocked.py", {}),
    ):
        assert passed > 0 and failed == 0, said


@pytest.mark.slow
@pytest.mark.parametrize("file, text, bug", BUGS.values(), ids=BUGS)
def test_a_bug_in_the_triton_kernels_turns_the_tests_red(file, text, bug, copy, require_package) -> None:
    require_package("triton")
    plant(copy, file, text, bug)
    _, failed, said = in_the_interpreter(copy)
    assert failed > 0 and "AssertionError" in said, said


@pytest.mark.parametrize("text, bug", BLOCKED_BUGS.values(), ids=BLOCKED_BUGS)
def test_a_bug_in_the_blocked_rung_turns_the_tests_red(text, bug, copy) -> None:
    plant(copy, "blocked.py", text, bug)
    _, failed, said = outcome(copy, "tests/kernels/test_attention_blocked.py", {})
    assert failed > 0 and "AssertionError" in said, said

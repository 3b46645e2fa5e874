"""The tests of layers, models, generation, evaluation and the trainer, once more and unchanged, on device arrays.

Each folder in a process of its own, with the plugin of this folder. (The tests of the operations and of the optimizers
look into NumPy's arrays. What they ask for is asked of the device by tests/backend/test_seam.py, and in this folder by
test_contract.py and test_training.py.)
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(400)  # a suite each
@pytest.mark.parametrize(
    ("folder", "at_least"), [("nn", 180), ("models", 60), ("generation", 80), ("evaluation", 15), ("training", 60)]
)
def test_the_suite_passes_on_the_device(folder: str, at_least: int) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", f"tests/{folder}", "-q", "-m", "not slow", "-p", "tests.standin.plugin",
         "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
        capture_output=True,
        text=True,
    )  # fmt: skip
    passed = re.search(r"(\d+) passed", result.stdout)
    if result.returncode != 0 or passed is None or int(passed[1]) < at_least:
        pytest.fail(f"tests/{folder}:\n{result.stdout[-6000:]}\n{result.stderr[-2000:]}", pytrace=False)

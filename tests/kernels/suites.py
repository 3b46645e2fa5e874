"""Starts files of tests in a process of their own, and fails with its output where a test there fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def files_of(suite: str) -> list[str]:
    return sorted(path.name for path in (FOLDER / suite).glob("test_*.py"))


def run_file(suite: str, file: str, environment: dict[str, str | None]) -> None:
    """Run one file of tests with `environment` (None: unset); a file of which nothing runs fails as well."""
    settings = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | environment
    command = [sys.executable, "-m", "pytest", f"tests/kernels/{suite}/{file}", "-q", "-ra", "--durations=5"]
    result = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=FOLDER.parents[1],
        env={key: value for key, value in settings.items() if value is not None},
        capture_output=True,
        text=True,
    )
    print(result.stdout)  # pytest shows it with -rP and where the test fails
    if result.returncode != 0 or not re.search(r"\b[1-9]\d* passed", result.stdout):
        pytest.fail(f"tests/kernels/{suite}/{file}:\n{result.stdout[-6000:]}\n{result.stderr[-2000:]}", pytrace=False)

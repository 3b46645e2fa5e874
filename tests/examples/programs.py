"""How a test runs one of the example programs: as a user does, with warnings as errors."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(program, *arguments):
    """The finished process of a program (a path); its output is text."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )

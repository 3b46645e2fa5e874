"""Did anything get slower, or take more memory, than its recorded ratio to PyTorch says?

    make bench-compare
    make bench-compare ONLY=tape

Runs the subjects again, into a folder of their own, and compares every ratio with the one in results/. A ratio was
taken on one machine in one run, both sides in turns, so it says more than a time; but it has noise, and on another
machine it is another one. A figure fails if it is worse than the recorded one by more than the noise: the spreads of
both sides in both runs, and at least a tenth. On another machine than the recorded one, record first: `make bench`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import RESULTS

SUBJECTS = ("training_step", "tape")
LEAST_NOISE = 0.10


def ratios(content: Any, path: str = "") -> Iterator[tuple[str, float, float]]:
    """(where, ratio, its relative noise) for every "ratio" in the results, however deep."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "ratio" or key.endswith("_ratio"):
                yield f"{path} {key}".strip(), value, content.get("noise", 0.0) if key == "ratio" else 0.0
            else:
                yield from ratios(value, f"{path} {key}".strip())
    elif isinstance(content, list):
        for index, value in enumerate(content):
            name = value.get("name", index) if isinstance(value, dict) else index
            yield from ratios(value, f"{path} {name}".strip())


def worse(recorded: Any, measured: Any) -> list[str]:
    """The figures that got worse by more than the noise, a line each; a figure that is missing now is one of them."""
    now = {where: (ratio, noise) for where, ratio, noise in ratios(measured)}
    lines = []
    for where, before, noise in ratios(recorded):
        if where not in now:
            lines.append(f"{where}: recorded {before:.2f}, not measured now")
            continue
        ratio, noise_now = now[where]
        allowed = before * (1 + max(LEAST_NOISE, noise + noise_now))
        if ratio > allowed:
            lines.append(f"{where}: {ratio:.2f}, recorded {before:.2f}, and up to {allowed:.2f} would be noise")
    return lines


def main(names: list[str]) -> int:
    """0 if nothing got worse."""
    failures = []
    for name in names or SUBJECTS:
        record = RESULTS / f"{name}.json"
        if not record.is_file():
            print(f"{name}: nothing is recorded in {record}: make bench ONLY={name}")
            return 2
        recorded = json.loads(record.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            script = Path(__file__).with_name(f"{name}.py")
            run = subprocess.run([sys.executable, str(script)], env={**os.environ, "MINILM_BENCH_RESULTS": folder})
            if run.returncode:
                print(f"{name}: ended with status {run.returncode}")
                return run.returncode
            measured = json.loads((Path(folder) / record.name).read_text(encoding="utf-8"))
        if recorded["machine"]["cpu"] != measured["machine"]["cpu"]:
            print(f"{name}: recorded on {recorded['machine']['cpu']}, and this is {measured['machine']['cpu']}: "
                  f"ratios differ between machines")  # fmt: skip
        failures += [f"{name}: {line}" for line in worse(recorded, measured)]
    print("\n".join(["", *failures]) if failures else "\nnothing got worse than its recorded ratio")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

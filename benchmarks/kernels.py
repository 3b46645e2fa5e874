"""The standard set of `minilm bench`: every operation, forward and backward; and the static report of the kernels.

    make bench ONLY=kernels
    make bench ONLY=kernels ARGS="--backend triton --dtype float16"      # on a machine with a GPU

Writes results/kernels.json and pictures in results/kernels/ (with ARGS, their words are added to the names); without
ARGS also static_report.json and .md and their pictures, which need the package triton and no GPU.
"""

from __future__ import annotations

import importlib.util
import sys

from harness import RESULTS
from minilm.cli import main as minilm


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status."""
    name = "_".join(["kernels", *(word.strip("-").replace("=", "_").replace(",", "_") for word in arguments)])
    outputs = ["--json", str(RESULTS / f"{name}.json"), "--plot", str(RESULTS / name)]
    status = minilm(["bench", "all", *outputs, *arguments])
    if status or arguments:
        return status
    if importlib.util.find_spec("triton") is None:
        print("no static report: it needs the package triton (pip install 'minilm[triton]', Linux only)")
        return 0
    return minilm(["bench", "--static", "--out", str(RESULTS)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The figures on one page: reads results/*.json, writes results/REPORT.md and the pictures that it shows.

    make bench ONLY=report

It measures nothing; each section names the command that makes its figures again, and the machine that they come from.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness import RESULTS
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.testing.timing import in_words

Result = Mapping[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column is words, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def megabytes(count: float) -> str:
    return f"{count / 2**20:,.0f} MB"


# ----- a function for each subject: from its result to its section, after drawing its picture


def training_step(result: Result) -> str:
    """Ratios to PyTorch."""
    rows = result["rows"]
    figure = new_figure()
    axes = figure.subplots()
    names = list(rows)
    for offset, key, label in ((-0.18, "ratio", "time"), (0.18, "memory_ratio", "peak memory")):
        places = [i + offset for i in range(len(names))]
        axes.barh(places, [rows[n][key] for n in names], 0.34, label=label, color=COLOURS[0 if key == "ratio" else 1])
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("minilm / PyTorch (below 1: minilm needs less)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(RESULTS / "training_step.png")
    body = table(
        ["work", "minilm", "spread", "PyTorch", "spread", "ratio", "of sgemm", "memory", "PyTorch's", "ratio"],
        [
            [
                f"**{name}**: {row['work']}",
                *(in_words(row[key][side]) for side in ("minilm", "pytorch") for key in ("median_s", "spread_s")),
                f"**{row['ratio']:.2f}**",
                f"{row['share_of_sgemm']:.0%}",
                *(megabytes(row["peak_memory"][side]) for side in ("minilm", "pytorch")),
                f"**{row['memory_ratio']:.2f}**",
            ]
            for name, row in rows.items()
        ],
    )
    return (
        f"{body}\nMedian seconds of a step (sampling: of a token), interquartile range beside it; PyTorch "
        f"{result['torch']}, {result['threads']} threads each. *Of sgemm*: the flops of the step's products over its "
        f"time, as a share of what NumPy's product of two 1024 x 1024 matrices reaches on this machine, "
        f"{result['sgemm_flop_per_s'] / 1e9:.0f} GFLOP/s. Memory: the peak of the process beyond its imports.\n\n"
        f"![ratios](training_step.png)\n"
    )


SECTIONS: dict[str, tuple[str, Callable[[Result], str]]] = {
    "training_step": ("A training step against PyTorch's, on the same cores", training_step),
}


def main(arguments: list[str]) -> int:
    """Write the page of all subjects that have a result."""
    parts = ["# What was measured\n\nWritten by `make bench ONLY=report` from the results in this folder.\n"]
    for subject, (title, section) in SECTIONS.items():
        path = RESULTS / f"{subject}.json"
        if not path.is_file():
            print(f"{subject}: no result yet (make bench ONLY={subject})")
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        facts = result["machine"]
        where = (
            f"`make bench ONLY={subject}`; {facts['cpu']}, {facts['cores']} cores, load {facts['load']}, Python "
            f"{facts['python']}, NumPy {facts['numpy']}, {facts['date'][:10]}"
        )
        parts.append(f"## {title}\n\n{section(result)}\n{where}\n")
    (RESULTS / "REPORT.md").write_text("\n".join(parts), encoding="utf-8")
    print(f"-> {RESULTS / 'REPORT.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

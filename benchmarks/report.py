"""The figures on one page: reads results/*.json, writes results/REPORT.md and the pictures that it shows.

    make bench ONLY=report

It measures nothing; each section names the command that makes its figures again, the machine that they come from, and
how long they took. The sections are in sections/, a function for each subject.
"""

from __future__ import annotations

import json
import sys

from harness import RESULTS
from sections import duration, models, seconds_in, speed, tasks

PARTS = {
    "Time and memory": speed.SECTIONS,
    "Models": models.SECTIONS,
    "Uses": tasks.SECTIONS,
}


def main(arguments: list[str]) -> int:
    """Write the page of all subjects that have a result."""
    page = ["# What was measured\n\nWritten by `make bench ONLY=report` from the results in this folder.\n"]
    for part, sections in PARTS.items():
        page.append(f"# {part}\n")
        for subject, (title, section) in sections.items():
            path = RESULTS / f"{subject}.json"
            if not path.is_file():
                print(f"{subject}: no result yet (make bench ONLY={subject})")
                continue
            result = json.loads(path.read_text(encoding="utf-8"))
            facts = result["machine"]
            seconds = seconds_in(result) if subject in tasks.SECTIONS else result.get("seconds")
            took = f" ({duration(seconds)})" if seconds else ""
            command = result.get("command", f"make bench ONLY={subject}")
            where = (
                f"`{command}`{took}; {facts['cpu']}, {facts['cores']} cores, load {facts['load']}, "
                f"Python {facts['python']}, NumPy {facts['numpy']}, {facts['date'][:10]}"
            )
            page.append(f"## {title}\n\n{section(result)}\n{where}\n")
    (RESULTS / "REPORT.md").write_text("\n".join(page), encoding="utf-8")
    print(f"-> {RESULTS / 'REPORT.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

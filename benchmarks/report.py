"""The figures on one page: reads results/*.json, writes results/REPORT.md and the pictures that it shows.

    make bench ONLY=report

It measures nothing; each section names the command that makes its figures again, the machine that they come from, and
how long they took. The sections are in sections/, a function for each subject.
"""

from __future__ import annotations

import json
import sys

from harness import RESULTS
from sections import duration, models, seconds_in, speed, tasks, threads_of

OPENING = """# What was measured

Written by `make bench ONLY=report` from the results in this folder. Below each section stand the command that makes its
figures again and how long that took; the machine, its cores, and how many threads computed on them; its load, which is
how many programs wanted a core in the minute before (a time that begins at a load of 3 on 2 cores would be shorter on a
quiet machine); and the day. All seeds are fixed: with as many threads what is said of quality comes out as it stands
here. With others, sums round differently, and after thousands of steps a loss may differ in the third decimal. Times
will be those of your machine.

To run a line: `make .venv` and `source .venv/bin/activate` once, in the repository's folder; `make pretrained` for the
published weights; `pip install -e '.[bench]'` for what is compared with PyTorch. Texts are downloaded when they are
first needed, except for the summaries' (their section says where they come from). Each file's `--help` or first lines
tell of shorter runs.
"""

PARTS = {
    "Time and memory": speed.SECTIONS,
    "Models": models.SECTIONS,
    "Uses": tasks.SECTIONS,
}


def main(arguments: list[str]) -> int:
    """Write the page of all subjects that have a result."""
    page = [OPENING]
    for part, sections in PARTS.items():
        page.append(f"# {part}\n")
        for subject, (title, section) in sections.items():
            path = RESULTS / f"{subject}.json"
            if not path.is_file():
                print(f"{subject}: no result yet (make bench ONLY={subject})")
                continue
            result = json.loads(path.read_text(encoding="utf-8"))
            facts = result["machine"]
            seconds = seconds_in(result)
            took = f" ({duration(seconds)})" if seconds else ""
            threads = threads_of(result)
            command = result.get("command", f"make bench ONLY={subject}")
            where = (
                f"`{command}`{took}; {facts['cpu']}, {facts['cores']} cores, "
                f"{threads} thread{'s' * (threads != 1)}, load {facts['load']}, "
                f"Python {facts['python']}, NumPy {facts['numpy']}, {facts['date'][:10]}"
            )
            page.append(f"## {title}\n\n{section(result)}\n{where}\n")
    (RESULTS / "REPORT.md").write_text("\n".join(page), encoding="utf-8")
    print(f"-> {RESULTS / 'REPORT.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

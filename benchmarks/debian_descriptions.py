"""The data of summarization.py: descriptions of Debian packages and their synopses, from Debian's own files.

    curl -O https://deb.debian.org/debian/dists/bookworm/main/i18n/Translation-en.bz2
    python benchmarks/debian_descriptions.py Translation-en.bz2 descriptions.en.jsonl.gz

Each third package with a description of 150 to 1,200 characters; a line is {"package", "synopsis", "description"}. Each
description is under its own package's licence, which is why none of them is in this repository. The committed figures
come from a third of the same packages that was chosen otherwise: yours will differ from them by as much as that does.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path

from minilm.errors import DataError

OPENERS = {".bz2": bz2.open, ".xz": lzma.open, ".gz": gzip.open}
SHORTEST, LONGEST = 150, 1200  # characters of a description
EACH = 3  # as many as a quarter of an hour of training can use


def packages(path: Path) -> Iterator[dict[str, str]]:
    """The packages of a Translation-en file, in its order, each once."""
    text = OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8").read()
    seen = set()
    for entry in text.split("\n\n"):
        head, found, body = entry.partition("\nDescription-en: ")
        name = head.partition("\n")[0].removeprefix("Package: ")
        synopsis, _, description = body.partition("\n")
        lines = [line.strip() for line in description.split("\n")]
        description = " ".join(line for line in lines if line not in ("", "."))
        if found and name not in seen and SHORTEST <= len(description) <= LONGEST:
            seen.add(name)
            yield {"package": name, "synopsis": synopsis.strip(), "description": description}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("translation", type=Path, help="Translation-en, also .bz2, .xz or .gz")
    parser.add_argument("out", type=Path, help="a .jsonl.gz")
    options = parser.parse_args()
    if not options.translation.is_file():
        parser.error(f"there is no file {options.translation}")
    chosen = list(packages(options.translation))[::EACH]
    if not chosen:
        raise DataError(f"{options.translation} has no entries with a line 'Description-en: ...'")
    with gzip.open(options.out, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(package, ensure_ascii=False) + "\n" for package in chosen)
    print(f"{len(chosen):,} packages -> {options.out}")


if __name__ == "__main__":
    main()

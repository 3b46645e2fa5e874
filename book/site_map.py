"""Which page of the site shows which file of the repository, and how one page speaks of another.

    pages = SiteMap(ROOT)
    pages.page_of(Path("minilm/nn/linear.py"))                     # "source/minilm/nn/linear.md"
    pages.rewrite(markdown, Path("notebooks/03_title.ipynb"))      # links between files become links between pages
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^()\s]+)\)")
DOCUMENTS = {
    "README.md": "project/README.md",
    "CONTRIBUTING.md": "project/CONTRIBUTING.md",
    "CHANGELOG.md": "project/CHANGELOG.md",
    "book/README.md": "project/book.md",
    "benchmarks/README.md": "benchmarks/index.md",
    "notebooks/README.md": "chapters/index.md",
}
COPIED = {".png", ".svg", ".gif", ".json", ".csv"}
"""What is linked as it is: pictures and figures."""


class SiteMap:
    """The pages; what is not of the library has one only where something links to it: those are collected."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.code: set[Path] = set()  # tests, benchmarks, examples
        self.wanted: set[Path] = set()  # files to be shown as plain text
        self.copied: set[Path] = set()  # files that pages link to as they are
        self.folders: set[Path] = set()  # folders that need a page with a list of their files

    def page_of(self, path: Path) -> str | None:
        """The page (its place below docs/) of a file or folder, or None if there is none of that name."""
        text = path.as_posix()
        if text in DOCUMENTS:
            return DOCUMENTS[text]
        if (self.root / path).is_dir():
            inside = next((n for n in ("README.md", "__init__.py") if (self.root / path / n).exists()), None)
            if text in ("minilm", "notebooks"):
                return {"minilm": "source/index.md", "notebooks": "chapters/index.md"}[text]
            if inside is None:
                self.folders.add(path)
                return f"source/{text}/index.md"
            return self.page_of(path / inside)
        if path.parts[0] == "notebooks" and path.suffix in (".ipynb", ".py") and re.match(r"\d\d_", path.name):
            source = path.with_suffix(".py")
            return f"chapters/{path.stem}.md" if (self.root / source).exists() else None
        if not (self.root / path).exists():
            return None
        if path.suffix == ".md":
            folder = "benchmarks/" if path.parts[0] == "benchmarks" else "source/"
            return folder + text.removeprefix("benchmarks/")
        if path.suffix in COPIED:
            self.copied.add(path)
            return f"files/{text}"
        if path.suffix != ".py":
            self.wanted.add(path)
        elif path.parts[0] not in ("minilm", "kernels"):
            self.code.add(path)
        return f"source/{text.removeprefix('.').removesuffix('.py')}.md"

    def rewrite(self, markdown: str, origin: Path) -> str:
        """Markdown of the file `origin`, its links to other files of the repository pointing at their pages."""
        page = self.page_of(origin)
        assert page is not None, origin

        def change(found: re.Match[str]) -> str:
            words, target = found.groups()
            if re.match(r"[a-z]+:|#|//", target):
                return found[0]
            path, sign, anchor = target.partition("#")
            there = Path(os.path.normpath(origin.parent / path))
            other = None if there.parts[:1] == ("..",) else self.page_of(there)
            if other is None:
                return found[0]  # MkDocs says that it leads nowhere
            return f"{words}({relative(other, page)}{sign}{anchor})"

        pieces = re.split(r"(^(?:```|~~~)[\s\S]*?^(?:```|~~~)[ \t]*$)", markdown, flags=re.MULTILINE)
        return "".join(piece if i % 2 else LINK.sub(change, piece) for i, piece in enumerate(pieces))


def relative(target: str, page: str) -> str:
    """The address of a page, as seen from another (both places below docs/)."""
    return PurePosixPath(os.path.relpath(target, PurePosixPath(page).parent)).as_posix()


def html_address(page: str) -> str:
    """The file that MkDocs makes of a page."""
    folder, _, name = page.rpartition("/")
    name = "index.html" if name in ("index.md", "README.md") else f"{name.removesuffix('.md')}.html"
    return f"{folder}/{name}" if folder else name

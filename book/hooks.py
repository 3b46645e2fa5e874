"""What MkDocs cannot know by itself: the navigation in reading order, and the pages that are HTML already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mkdocs.structure.toc import get_toc


def _pages(config: Any) -> Path:
    return Path(config["docs_dir"]).parent


def on_config(config: Any) -> Any:
    """Take the navigation that build.py wrote."""
    config["nav"] = json.loads((_pages(config) / "nav.json").read_text(encoding="utf-8"))
    return config


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """The source pages: their Markdown is a title only, and what stands below was written by annotate.py."""
    fragment = _pages(config) / "html" / f"{page.file.src_uri}.html"
    if not fragment.exists():
        return html
    page.toc = get_toc([{"level": 1, "id": "top", "name": page.title, "children": []}])
    return fragment.read_text(encoding="utf-8")

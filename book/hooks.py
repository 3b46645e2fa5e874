"""What MkDocs cannot know by itself: the navigation in reading order, and the pages that are HTML already."""

from __future__ import annotations

import json
import re
from html import escape, unescape
from pathlib import Path
from typing import Any

from mkdocs.plugins import CombinedEvent, event_priority
from mkdocs.structure.toc import get_toc
from readable import readable


def _pages(config: Any) -> Path:
    return Path(config["docs_dir"]).parent


def on_config(config: Any) -> Any:
    """Take the navigation that build.py wrote."""
    config["nav"] = json.loads((_pages(config) / "nav.json").read_text(encoding="utf-8"))
    return config


WEIGHTS = [
    (r"chapters/\d|source/kernels/README", 2.0),
    (r"source/minilm/functional/(?!__)", 1.5),
    (r"source/(?!minilm|kernels)|source/.*/__init__", 0.3),
    (r"source/minilm/cli/", 0.5),
    (r"source/kernels/.*/", 0.4),
    (r"source/", 1.0),
    (r"api/minilm\.kernels", 0.25),
    (r"api/", 0.5),
]
"""How much a find counts in the search, by page: what explains a thing comes before what lists it. The first that fits
counts; the rest of the site has 0.8."""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Tell the search how much the page counts."""
    boost = next((weight for place, weight in WEIGHTS if re.match(place, page.file.src_uri)), 0.8)
    page.meta.setdefault("search", {}).setdefault("boost", boost)
    return markdown


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """The source pages: their Markdown is a title only, and what stands below was written by annotate.py."""
    fragment = _pages(config) / "html" / f"{page.file.src_uri}.html"
    if not fragment.exists():  # a Markdown page; in its tables a number stays with its unit
        return re.sub(r"(<td[^>]*>(?:<strong>)?[\d.,]+) (\w{1,3}(?:</strong>)?</td>)", r"\1&nbsp;\2", html)
    page.toc = get_toc([{"level": 1, "id": "top", "name": page.title, "children": []}])
    return fragment.read_text(encoding="utf-8")


NOT_FOUND = """<!doctype html><html lang="en"><meta charset="utf-8"><title>No such page - minilm</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<body style="font-family: sans-serif; margin: 3rem auto; max-width: 30rem; padding: 0 1rem">
<h1>No such page</h1><p>There is nothing at this address. <a href="/">The start page</a> leads to all there is.</p>"""


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """What a server shows where no page is: the theme's needs files, and nobody knows from which folder it is shown."""
    return NOT_FOUND if template_name == "404.html" else output_content


TEX = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


@event_priority(100)
def _before_the_search(context: Any, page: Any, **_: Any) -> Any:
    """What the search finds is shown as text: there a formula shall be one that can be read."""
    page.set_for_readers = page.content
    page.content = TEX.sub(lambda found: escape(readable(unescape(found[1] or found[2]))), page.content)
    return context


@event_priority(-100)
def _after_the_search(context: Any, page: Any, **_: Any) -> Any:
    page.content = page.set_for_readers
    return context


on_page_context = CombinedEvent(_before_the_search, _after_the_search)

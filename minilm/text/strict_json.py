"""JSON of a file from a stranger, which must say one thing: `json.loads`, and whatever is wrong is a ValueError.

Python's own reader takes the last of two equal keys, so that two programs may read two things in one file, and ends
with a RecursionError where brackets are nested without end.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


def parse_json(text: str) -> Any:
    """What the text says.

    Raises:
        ValueError: if it is no JSON, nested too deeply, or has a key twice in one object.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (repeated, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"it has the key {repeated!r} twice")
    return content

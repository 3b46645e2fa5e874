"""Training, validation and test parts, cut so that no part can leak into another.

    split_by_position   one long text or token array: consecutive parts, the last ones for testing
    split_documents     many documents: whole documents, chosen by their content

Both are deterministic, and neither ever returns an empty part.
"""

import hashlib
import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from minilm.errors import DataError

Sliceable = TypeVar("Sliceable", bound=Any)  # a string, a list, an array, a memory map

THREE_PARTS = (0.8, 0.1, 0.1)


def split_by_position(sequence: Sliceable, fractions: Sequence[float] = THREE_PARTS) -> tuple[Sliceable, ...]:
    """Consecutive parts of a text or of a token array, one for each fraction; together they are the sequence.

    The cut after a fraction f of n items stands at floor(f n). Arrays are cut as views: nothing is copied.
    Raises DataError when a part would be empty, ValueError when the fractions are not positive or do not sum
    to 1.
    """
    _check_fractions(fractions)
    n = len(sequence)
    # round: the sum 0.7 + 0.1 falls just below 0.8, and floor would then lose an item.
    cuts = [0, *(math.floor(round(share * n, 6)) for share in accumulate(fractions))]
    cuts[-1] = n
    if any(begin == end for begin, end in pairwise(cuts)):
        raise DataError(
            f"{n} items are too few to split into parts of {list(fractions)}: one of the parts would be "
            "empty. Give more text, or larger fractions"
        )
    return tuple(sequence[begin:end] for begin, end in pairwise(cuts))


def split_documents(
    documents: Sequence[str], fractions: Sequence[float] = THREE_PARTS, seed: int = 0
) -> tuple[list[str], ...]:
    """Whole documents dealt out to the parts, one for each fraction.

    Which part a document goes to depends on its text and the seed, not on its place in the list, and all
    copies of a document go to the same part: what the model is tested on, it has not been trained on. The
    distinct documents are ordered by SHA-256 of seed and text, and that order is cut: each part but the
    largest gets the floor of its share, and at least one. Within a part the documents keep their order.
    Raises DataError when there are fewer distinct documents than parts.
    """
    _check_fractions(fractions)
    ranked = sorted(set(documents), key=lambda text: _digest(seed, text))
    counts = [max(1, math.floor(round(fraction * len(ranked), 6))) for fraction in fractions]
    largest = max(range(len(fractions)), key=lambda part: fractions[part])
    counts[largest] += len(ranked) - sum(counts)
    if counts[largest] < 1:
        raise DataError(
            f"{len(ranked)} different documents cannot be split into {len(fractions)} parts: give more "
            "documents, or join them and split the text by position (split_by_position)"
        )
    part_of = {}
    for part, (begin, end) in enumerate(pairwise([0, *accumulate(counts)])):
        part_of.update(dict.fromkeys(ranked[begin:end], part))
    parts: tuple[list[str], ...] = tuple([] for _ in fractions)
    for document in documents:
        parts[part_of[document]].append(document)
    return parts


def _digest(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{text}".encode("utf-8", errors="surrogatepass")).digest()


def _check_fractions(fractions: Sequence[float]) -> None:
    if not fractions or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"the fractions must be positive and sum to 1, and are {list(fractions)}")

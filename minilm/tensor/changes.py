"""Which memory was changed in place, and when.

A vjp holds arrays of the forward pass and needs them as they were. One clock numbers all that happens, the operations
that are recorded and the changes in place; so an array is out of date for a node if its last change has a higher number
than the node. Nothing has to be noted with each operation, and where nothing was changed since, nothing is looked at.

What is not seen: writing into an array by hand.
"""

from __future__ import annotations

import itertools
import weakref

from minilm.backend import Array, owner

clock = itertools.count(1)
"""next(clock) is the number of what happens now."""


class Changes:
    """The number of the last change of each memory, known by the array that owns it.

    So a change through one tensor is a change of all that share its memory: its views, and what was detached. An entry
    goes when the array does, before another can get the same id.
    """

    def __init__(self) -> None:
        self.last = 0  # of any memory
        self._numbers: dict[int, tuple[weakref.ref[Array], int]] = {}

    def note(self, array: Array) -> None:
        """The memory that `array` shows is being changed."""
        owned = owner(array)
        key = id(owned)
        self.last = next(clock)
        self._numbers[key] = weakref.ref(owned, lambda _: self._numbers.pop(key, None)), self.last

    def of(self, array: Array) -> int:
        """When the memory that `array` shows was last changed; 0 for never."""
        return self._numbers.get(id(owner(array)), (None, 0))[1]


changes = Changes()
"""Of this process."""

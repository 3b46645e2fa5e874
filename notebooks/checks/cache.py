"""A processor's cache, simulated: which accesses find their number near, and which have to fetch it from memory.

    cache = Cache(size=4096, line=64)
    a = cache.array((32, 32))
    cache.read(a, i, k)
    cache.fetched          # bytes that came from memory so far

Memory comes in *lines* of 64 bytes: who asks for one number gets its seven neighbours in a row as well. A cache holds a
certain number of lines, and when it is full it forgets the line that was not used for the longest time. Real caches
come in several levels, forget less exactly, and guess what will be needed next; the counts are of the right kind all
the same.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True)
class Matrix:
    """Where a matrix lies in memory: row after row, 8 bytes a number."""

    start: int
    shape: tuple[int, int]


class Cache:
    """The lines that are near. Sizes in bytes; numbers have 8."""

    def __init__(self, size: int, line: int = 64) -> None:
        self.line, self.capacity = line, size // line
        self.lines: OrderedDict[int, None] = OrderedDict()  # the one used last is at the end
        self.hits = self.misses = self.end = 0

    @property
    def fetched(self) -> int:
        """Bytes that came from memory."""
        return self.misses * self.line

    def array(self, shape: tuple[int, int]) -> Matrix:
        """A matrix, laid out behind those that there are, at the start of a line."""
        matrix = Matrix(self.end, shape)
        self.end += -(-shape[0] * shape[1] * 8 // self.line) * self.line
        return matrix

    def read(self, matrix: Matrix, i: int, j: int) -> bool:
        """Look at element (i, j); True if its line was there already."""
        number = (matrix.start + (i * matrix.shape[1] + j) * 8) // self.line
        if number in self.lines:
            self.lines.move_to_end(number)
            self.hits += 1
            return True
        self.misses += 1
        self.lines[number] = None
        if len(self.lines) > self.capacity:
            self.lines.popitem(last=False)
        return False

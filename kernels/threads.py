"""Our own threads: `parallel(work, count)` calls work(0), ..., work(count - 1), shared out among the cores.

Python runs one thread at a time, but NumPy lets go of that lock while it loops over an array or multiplies matrices:
two threads that each work on half of the rows are nearly twice as fast. So a threaded kernel cuts its arrays into
pieces, hands `parallel` a function that does one of them, and joins nothing: each piece writes into its own part of
the output.

Three things would spoil that. *The BLAS brings threads of its own*, which wait for work by spinning: with ours beside
them, or any other program on one of the cores, a product can take thirty times as long. So inside `parallel` each
product runs on one BLAS thread (the setting from before comes back at the end). *The system may put two threads on
one core* while another is idle: Linux likes to wake a thread where its waker runs, as if the two would take turns. So
there, within a section, the caller stays on its core and the others keep off it. And *handing over costs*: a core that
slept takes some 50 microseconds to wake up. `pieces` says into how many parts an amount of work should be cut, so that
small arrays stay in one.

How many threads: MINILM_THREADS, or else as many cores as this process may use, at most 8 (each needs Python's lock
between two calls of NumPy). `set_thread_count` changes it. Which thread does which piece is left to chance and does
not matter to the result; into how many pieces an array is cut may show in its last bits, so a run repeats exactly with
the same number of threads.

What this file does not do: nested sections. A `parallel` inside a piece, or while another thread of the program is in
one, runs its pieces one after another.
"""

from __future__ import annotations

import contextvars
import ctypes
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from threadpoolctl import ThreadpoolController

MOST_BY_ITSELF = 8
"""Threads at most, where nobody says how many."""

LEAST = 1 << 19
"""Work for a piece, in steps on one element of an array (see `pieces`), some 50 microseconds: below, handing it over
costs more than it saves."""

LEAD = 1 << 18
"""Work by which the caller's piece is longer. It begins some 25 microseconds before the others, which have to wake up;
and if it ends last, it need not sleep and be woken itself."""

_count: int | None = None


def thread_count() -> int:
    """How many threads a section uses, the caller's own included."""
    global _count
    if _count is None:
        _count = _asked_for() or min(_usable_cores(), MOST_BY_ITSELF)
    return _count


def _asked_for() -> int | None:
    """MINILM_THREADS, if it is set."""
    text = os.environ.get("MINILM_THREADS", "")
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"MINILM_THREADS is a number of threads, from 1, not {text!r}")
    return int(text)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_thread_count(count: int) -> int:
    """Use `count` threads from now on, in the whole process; returns how many it was."""
    global _count
    if count < 1:
        raise ValueError(f"a number of threads is at least 1, got {count}")
    before, _count = thread_count(), count
    return before


def pieces(length: int, work: float = 1.0, multiple: int = 1) -> list[slice]:
    """Cut range(length) into slices, at most one for each thread: equal ones, but the first, the caller's, is longer.

    Args:
        work: what one index costs, in steps on one element: a row of 512 numbers that are read, multiplied and
            written is 512, and 16 multiplications of a matrix product count as one.
        multiple: the lengths are multiples of it, but for the last.
    """
    count = max(1, min(thread_count(), int(length * work / LEAST), length))
    if count == 1:
        return [slice(0, length)]
    step = max(1, math.ceil((length - LEAD / work) / count))  # at least 1: LEAST is more than LEAD
    step = max(step // multiple, 1) * multiple
    first = min(max(length - (count - 1) * step, 1), length)
    first = min(-(-first // multiple) * multiple, length)
    starts = [0, *range(first, length, step)]
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], length], strict=True)]


def blocks(piece: slice, size: int) -> Iterator[slice]:
    """Cut a piece into blocks of `size`: what is done to a block in several steps finds it in the cache."""
    for start in range(piece.start, piece.stop, size):
        yield slice(start, min(start + size, piece.stop))


def _core_finder() -> Callable[[], int] | None:
    """The C library's sched_getcpu: the number of the core that the calling thread is on. None where there is none."""
    if not hasattr(os, "sched_setaffinity"):  # macOS, Windows
        return None
    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


_current_core = _core_finder()


class _Job:
    """One section's work for one worker; whoever claims it first has it."""

    __slots__ = ("claimed", "context", "share")

    def __init__(self, share: Callable[[], None]) -> None:
        self.share = share
        self.context = contextvars.copy_context()  # np.errstate holds in the workers as well
        self.claimed = threading.Lock()

    def claim(self) -> bool:
        return self.claimed.acquire(blocking=False)


class _Team:
    """Threads that wait for jobs, as long as the process lives."""

    def __init__(self, workers: int) -> None:
        self.finished: SimpleQueue[None] = SimpleQueue()
        self.inboxes: list[SimpleQueue[_Job]] = [SimpleQueue() for _ in range(workers)]
        self.threads = [
            threading.Thread(target=self._work, args=(inbox,), name=f"minilm-{number + 1}", daemon=True)
            for number, inbox in enumerate(self.inboxes)
        ]
        self.others: set[int] = set()  # the cores that the workers may use, once it has been said
        for thread in self.threads:
            thread.start()

    def _work(self, inbox: SimpleQueue[_Job]) -> None:
        _section.inside = True
        while True:
            job = inbox.get()
            if job.claim():
                job.context.run(job.share)
                self.finished.put(None)
            del job  # it holds arrays

    def run(self, share: Callable[[], None], workers: int) -> None:
        """share() in this thread and in `workers` others; each call takes what is left until nothing is."""
        usable = self._spread()
        try:
            self._run(share, workers)
        finally:
            if usable:
                os.sched_setaffinity(0, usable)

    def _spread(self) -> set[int]:
        """Keep the caller on its core and the workers off it; returns the cores that the caller had to choose from."""
        if _current_core is None:
            return set()
        usable, here = os.sched_getaffinity(0), _current_core()
        others = usable - {here}
        if not others or here < 0:
            return set()
        if self.others != others:
            for thread in self.threads:
                os.sched_setaffinity(thread.native_id or 0, others)
            self.others = others
        os.sched_setaffinity(0, {here})  # 0: the calling thread
        return usable

    def _run(self, share: Callable[[], None], workers: int) -> None:
        jobs = [_Job(share) for _ in range(workers)]
        for inbox, job in zip(self.inboxes, jobs, strict=False):
            inbox.put(job)
        try:
            share()
        finally:
            # A worker that has not woken up yet is not waited for: there is nothing left for it to do.
            for job in jobs:
                if not job.claim():
                    self._wait()

    def _wait(self) -> None:
        interrupted: BaseException | None = None
        while True:
            try:
                self.finished.get()
                break
            except BaseException as error:  # Ctrl-C: the worker still writes into the caller's arrays
                interrupted = error
        if interrupted is not None:
            raise interrupted


class _Section(threading.local):
    inside = False


_section = _Section()
_busy = threading.Lock()
_team: _Team | None = None
_blas: list[Any] | None = None


def _forget() -> None:
    """In a forked child the threads are gone, and the lock may have been held."""
    global _team, _busy
    _team, _busy = None, threading.Lock()
    _section.inside = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def parallel(work: Callable[[int], None], count: int) -> None:
    """Call work(0), ..., work(count - 1), each once, in any order, on up to `thread_count()` threads at a time.

    Raises:
        What a piece raised (the first of them); pieces that were not begun by then are left out.
    """
    global _team, _blas
    if _section.inside or not _busy.acquire(blocking=False):
        for i in range(count):
            work(i)
        return
    try:
        if _blas is None:
            _blas = [c for c in ThreadpoolController().lib_controllers if c.user_api == "blas"]
        before = [library.num_threads for library in _blas]
        for library in _blas:
            library.set_num_threads(1)
        _section.inside = True
        try:
            workers = min(count, thread_count()) - 1
            if workers < 1:
                for i in range(count):
                    work(i)
                return
            if _team is None or len(_team.inboxes) < workers:
                _team = _Team(thread_count() - 1)
            _run(_team, work, count, workers)
        finally:
            _section.inside = False
            for library, threads in zip(_blas, before, strict=True):
                library.set_num_threads(threads)
    finally:
        _busy.release()


def _run(team: _Team, work: Callable[[int], None], count: int, workers: int) -> None:
    numbers = itertools.count()  # next() of it is one step for Python: no two threads get the same number
    errors: list[BaseException] = []

    def share() -> None:
        try:
            while not errors and (i := next(numbers)) < count:
                work(i)
        except BaseException as error:  # handed to the caller below
            errors.append(error)

    team.run(share, workers)
    if errors:
        raise errors[0]

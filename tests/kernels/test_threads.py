"""The threads of the fast CPU path: every piece is done once, errors come out, the BLAS's own threads come back."""

import os
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from minilm.kernels import threads


@pytest.fixture(params=[1, 2, 3])
def thread_count(request):
    before = threads.set_thread_count(request.param)
    yield request.param
    threads.set_thread_count(before)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_every_piece_is_done_once(thread_count, count):
    done = np.zeros(count, dtype=int)

    def work(i):
        done[i] += 1

    for _ in range(50):
        threads.parallel(work, count)
    assert (done == 50).all()


def test_two_threads_work_at_the_same_time():
    before = threads.set_thread_count(2)
    meeting = threading.Barrier(2, timeout=20)  # breaks if one thread does both pieces
    try:
        threads.parallel(lambda i: meeting.wait(), 2)
    finally:
        threads.set_thread_count(before)


def test_an_error_in_a_piece_reaches_the_caller_and_the_team_lives_on(thread_count):
    def work(i):
        if i == 3:
            raise ZeroDivisionError("piece 3")

    for _ in range(20):
        with pytest.raises(ZeroDivisionError, match="piece 3"):
            threads.parallel(work, 6)
    done = np.zeros(7)
    threads.parallel(lambda i: done.__setitem__(i, 1), 7)
    assert done.all()


def test_nobody_writes_any_more_when_an_error_comes_out():
    before = threads.set_thread_count(2)
    written = np.zeros(1)
    meeting = threading.Barrier(2, timeout=20)

    def work(i):
        meeting.wait()
        if i == 0:
            raise ValueError("early")
        time.sleep(0.05)
        written[0] = 1

    try:
        with pytest.raises(ValueError, match="early"):
            threads.parallel(work, 2)
        assert written[0] == 1
    finally:
        threads.set_thread_count(before)


def test_errstate_holds_in_every_thread():
    before = threads.set_thread_count(2)
    meeting = threading.Barrier(2, timeout=20)
    large = np.full(1000, 3e38, dtype=np.float32)

    def work(i):
        meeting.wait()
        large * large  # noqa: B018

    try:
        with np.errstate(over="ignore"):
            threads.parallel(work, 2)
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            threads.parallel(work, 2)
    finally:
        threads.set_thread_count(before)


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_the_blas_has_one_thread_inside_and_its_own_again_outside(thread_count):
    outside, inside = blas_threads(), []

    def work(i):
        if i == 0:
            inside.append(blas_threads())

    threads.parallel(work, 3)
    assert inside == [[1] * len(outside)] and blas_threads() == outside
    with pytest.raises(ValueError):
        threads.parallel(lambda i: int("no number"), 3)
    assert blas_threads() == outside


def test_a_section_within_a_section_runs_where_it_is(thread_count):
    seen = np.zeros((3, 4), dtype=int)

    def row(i):
        here = threading.get_ident()

        def element(j):
            seen[i, j] += threading.get_ident() == here

        threads.parallel(element, 4)

    threads.parallel(row, 3)
    assert (seen == 1).all()


def test_two_callers_at_once_each_get_their_work_done(thread_count):
    sums = []

    def caller(start):
        for _ in range(100):
            out = np.zeros(8, dtype=int)
            threads.parallel(lambda i, out=out: out.__setitem__(i, start + i), 8)
            sums.append(int(out.sum()) - 8 * start)

    callers = [threading.Thread(target=caller, args=(100 * k,)) for k in range(3)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert sums == [28] * 300


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own():
    before = threads.set_thread_count(2)
    try:
        threads.parallel(lambda i: None, 2)
        child = os.fork()
        if child == 0:
            done = np.zeros(4)
            threads.parallel(lambda i: done.__setitem__(i, 1), 4)
            os._exit(0 if done.all() else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        threads.set_thread_count(before)


@pytest.mark.parametrize("length", [0, 1, 5, 1000])
@pytest.mark.parametrize("multiple", [1, 16])
def test_pieces_cover_the_range_in_order(thread_count, length, multiple):
    cut = threads.pieces(length, threads.LEAST, multiple)
    assert [i for piece in cut for i in range(piece.start, piece.stop)] == list(range(length))
    assert 1 <= len(cut) <= thread_count
    assert all((piece.stop - piece.start) % multiple == 0 for piece in cut[:-1])


def test_little_work_stays_in_one_piece():
    before = threads.set_thread_count(4)
    try:
        assert len(threads.pieces(100, threads.LEAST / 101)) == 1
        assert len(threads.pieces(100, threads.LEAST / 49)) == 2
        assert len(threads.pieces(100, threads.LEAST)) == 4
    finally:
        threads.set_thread_count(before)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_threads_in_the_environment_is_named(monkeypatch, text):
    monkeypatch.setattr(threads, "_count", None)
    monkeypatch.setenv("MINILM_THREADS", text)
    with pytest.raises(ValueError, match=f"MINILM_THREADS is a number of threads, from 1, not '{text}'"):
        threads.thread_count()


def test_the_environment_says_how_many(monkeypatch):
    monkeypatch.setattr(threads, "_count", None)
    monkeypatch.setenv("MINILM_THREADS", "3")
    assert threads.thread_count() == 3
    with pytest.raises(ValueError, match="at least 1, got 0"):
        threads.set_thread_count(0)

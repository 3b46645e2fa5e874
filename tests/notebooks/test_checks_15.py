"""The checkers of chapter 15: a right answer passes, and each usual mistake is named; and the simulated cache."""

import numpy as np
import pytest

from checks import NotYet, chapter_15
from checks.cache import Cache


def test_cache_fetches_lines_and_forgets_the_one_not_used_for_longest():
    cache = Cache(size=128, line=64)  # two lines of eight numbers
    x = cache.array((3, 8))
    assert [cache.read(x, 0, j) for j in range(8)] == [False] + [True] * 7
    assert not cache.read(x, 1, 0)
    assert cache.read(x, 0, 0)  # now row 1 is the older one
    assert not cache.read(x, 2, 0)
    assert cache.read(x, 0, 3)
    assert not cache.read(x, 1, 1)
    assert cache.fetched == 4 * 64


def test_intensity_names_the_factor_two_the_bytes_and_the_written_array():
    check = chapter_15.check_intensity
    check(lambda M, N, K, b: 2 * M * N * K / ((M * K + K * N + M * N) * b))
    with pytest.raises(NotYet, match="2 M N K flops"):
        check(lambda M, N, K, b: M * N * K / ((M * K + K * N + M * N) * b))
    with pytest.raises(NotYet, match="flops a number"):
        check(lambda M, N, K, b: 2 * M * N * K / (M * K + K * N + M * N))
    with pytest.raises(NotYet, match="written as well"):
        check(lambda M, N, K, b: 2 * M * N * K / ((M * K + K * N) * b))
    with pytest.raises(NotYet, match="return a number"):
        check(lambda *sizes: None)


def test_roofline_names_sum_minimum_and_the_wrong_limit():
    check = chapter_15.check_roofline
    check(lambda F, M, p, w: (max(F / p, M / w), "memory" if M / w > F / p else "compute"))
    with pytest.raises(NotYet, match="not their sum"):
        check(lambda F, M, p, w: (F / p + M / w, "memory"))
    with pytest.raises(NotYet, match="max, not min"):
        check(lambda F, M, p, w: (min(F / p, M / w), "memory"))
    with pytest.raises(NotYet, match="the time is wanted"):
        check(lambda F, M, p, w: (min(p, F / M * w), "memory"))
    with pytest.raises(NotYet, match="return the pair"):
        check(lambda F, M, p, w: ("memory", max(F / p, M / w)))
    with pytest.raises(NotYet, match="should be 'compute'"):
        check(lambda F, M, p, w: (max(F / p, M / w), "memory"))


def test_cache_bytes_names_keys_without_values_query_heads_and_the_batch():
    check = chapter_15.check_cache_bytes

    def size(layers, query_heads, kv_heads, D, T, batch, itemsize):
        return 2 * layers * kv_heads * D * T * batch * itemsize

    check(size)
    with pytest.raises(NotYet, match="twice as much"):
        check(lambda **s: size(**s) // 2)
    with pytest.raises(NotYet, match="query heads share"):
        check(lambda **s: size(**s | {"kv_heads": s["query_heads"]}))
    with pytest.raises(NotYet, match="these are numbers"):
        check(lambda **s: size(**s | {"itemsize": 1}))
    with pytest.raises(NotYet, match="each sequence"):
        check(lambda **s: size(**s | {"batch": 1}))


def test_transpose_wants_pairs():
    with pytest.raises(NotYet, match="yield pairs"):
        chapter_15.check_transpose(lambda n: None)
    with pytest.raises(NotYet, match="yield pairs"):
        chapter_15.check_transpose(lambda n: range(n * n))


def test_transpose_names_missing_and_repeated_pairs_and_too_much_traffic():
    check = chapter_15.check_transpose

    def by_blocks(n, BLOCK=8):
        for i0 in range(0, n, BLOCK):
            for j0 in range(0, n, BLOCK):
                for i in range(i0, min(i0 + BLOCK, n)):
                    for j in range(j0, min(j0 + BLOCK, n)):
                        yield i, j

    check(by_blocks)
    check(lambda n: [list(pair) for pair in by_blocks(n)])
    check(lambda n: np.array(list(by_blocks(n))))
    with pytest.raises(NotYet, match="a line for one number"):
        check(lambda n: ((i, j) for i in range(n) for j in range(n)))
    with pytest.raises(NotYet, match="leaves out"):
        check(lambda n: ((i, j) for i in range(n - 1) for j in range(n)))
    with pytest.raises(NotYet, match="each once"):
        check(lambda n: [*by_blocks(n), (0, 0)])

"""The checkers of chapter 9: a right answer passes (the solutions in the chapter), each usual mistake is named."""

import numpy as np
import pytest

from checks import NotYet, chapter_09


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def drawn_from(z, temperature, k, times=False, after=False):
    z = np.array(z)
    if temperature == 0:
        return np.eye(len(z))[z.argmax()]
    kept = np.argsort(-z)[:k]
    z = z * temperature if times else z / temperature
    if after:
        p = softmax(z)
        return np.where(np.isin(np.arange(len(z)), kept), p, 0)
    out = np.full(len(z), -np.inf)
    out[kept] = z[kept]
    return softmax(out)


def test_probabilities_names_a_product_a_missing_norm_a_changed_input_and_division_by_zero():
    check = chapter_09.check_probabilities
    check(drawn_from)
    with pytest.raises(NotYet, match="divide"):
        check(lambda z, t, k: drawn_from(z, t, k, times=True))
    with pytest.raises(NotYet, match="cut first"):
        check(lambda z, t, k: drawn_from(z, t, k, after=True))
    with pytest.raises(NotYet, match="cannot be divided by"):
        check(lambda z, t, k: drawn_from(z, t, k) if t else softmax(np.array(z) / np.float64(0)))
    with pytest.raises(NotYet, match="work on a copy"):

        def changing(z, t, k):
            p = drawn_from(z, t, k)
            z[:] = 0
            return p

        check(changing)
    with pytest.raises(NotYet, match="overflows"):

        def unshifted(z, t, k):
            p = drawn_from(z, t, k)
            e = np.exp(np.where(p > 0, z, -np.inf) / (t or 1))
            return e / e.sum() if t else p

        check(unshifted)


def test_nucleus_names_the_token_that_crosses_the_limit_and_an_empty_set():
    def nucleus(p, limit, rule):
        order = np.argsort(-p)
        total = np.cumsum(p[order])
        keep = np.zeros(len(p), bool)
        keep[order[rule(total, p[order], limit)]] = True
        return keep

    check = chapter_09.check_nucleus
    with pytest.raises(NotYet, match="crosses the limit|at least one"):
        check(lambda p, limit: nucleus(p, limit, lambda total, p, limit: total <= limit))
    with pytest.raises(NotYet, match="smallest set"):
        check(lambda p, limit: nucleus(p, limit, lambda total, p, limit: total - p <= limit))
    with pytest.raises(NotYet, match="own places"):  # the mask of the sorted probabilities
        check(lambda p, limit: np.cumsum(np.sort(p)[::-1]) - np.sort(p)[::-1] < limit)
    with pytest.raises(NotYet, match="bool"):
        check(lambda p, limit: np.flatnonzero(p > limit))


@pytest.mark.parametrize(
    "answer, mistake",
    [
        (lambda L, H, D, T, b: L * H * D * T * b, "a key and a value"),
        (lambda L, H, D, T, b: 2 * H * D * T * b, "every layer"),
        (lambda L, H, D, T, b: ..., "write the body"),
    ],
)
def test_cache_bytes_names(answer, mistake):
    with pytest.raises(NotYet, match=mistake):
        chapter_09.check_cache_bytes(answer)


def test_windows_names_labels_that_are_the_inputs_and_a_missing_last_label():
    def copies(ids, T):
        N = (len(ids) - 1) // T
        x = ids[: N * T].reshape(N, T)
        return x, x

    def too_many(ids, T):
        N = len(ids) // T
        return ids[: N * T].reshape(N, T), np.append(ids[1:], 0)[: N * T].reshape(N, T)

    with pytest.raises(NotYet, match="the inputs themselves"):
        chapter_09.check_windows(copies)
    with pytest.raises(NotYet, match="no label for its last token"):
        chapter_09.check_windows(too_many)

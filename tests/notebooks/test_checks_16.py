"""The checkers of chapter 16: a right answer passes, and each usual mistake is named."""

import numpy as np
import pytest

from checks import NotYet, chapter_16


def one_pass(scores, start=-np.inf, rescale=True):
    top, total = start, 0.0
    for s in scores:
        new_top = max(top, s)
        total = total * (np.exp(top - new_top) if rescale else 1.0) + np.exp(s - new_top)
        top = new_top
    return top, total


def test_one_pass_names_two_passes_a_missing_factor_and_a_wrong_start():
    check = chapter_16.check_one_pass
    check(one_pass)

    def twice(scores):
        top = max(scores)
        return top, sum(np.exp(s - top) for s in scores)

    with pytest.raises(NotYet, match="second time"):
        check(twice)
    with pytest.raises(NotYet, match="multiply the old total"):
        check(lambda scores: one_pass(scores, rescale=False))
    with pytest.raises(NotYet, match="starts at -inf"):
        check(lambda scores: one_pass(scores, start=0.0))
    with pytest.raises(NotYet, match="returns the pair"):
        check(lambda scores: None)

    def keeps_them(scores):
        scores = np.fromiter(scores, float)
        return scores.max(), np.exp(scores - scores.max()).sum()

    with pytest.raises(NotYet, match="keeps the scores"):
        check(keeps_them)


def merge(a, b):
    top = max(a[0], b[0])
    if top == -np.inf:
        return a
    ra, rb = np.exp(a[0] - top), np.exp(b[0] - top)
    return top, ra * a[1] + rb * b[1], ra * a[2] + rb * b[2]


def test_merge_names_different_maxima_order_and_empty_parts():
    check = chapter_16.check_merge
    check(merge)
    with pytest.raises(NotYet, match="different maxima"):
        check(lambda a, b: (max(a[0], b[0]), a[1] + b[1], a[2] + b[2]))

    def only_the_second(a, b):
        top = max(a[0], b[0])
        r = np.exp(b[0] - top)
        return top, a[1] + r * b[1], a[2] + r * b[2]

    with pytest.raises(NotYet, match="must not matter which half|different maxima"):
        check(only_the_second)

    def careless(a, b):
        top = max(a[0], b[0])
        ra, rb = np.exp(a[0] - top), np.exp(b[0] - top)
        return top, ra * a[1] + rb * b[1], ra * a[2] + rb * b[2]

    with pytest.raises(NotYet, match="two empty parts"):
        check(careless)

    def in_place(a, b):
        top, total, acc = merge(a, b)
        a[2][:] = acc
        return top, total, a[2]

    with pytest.raises(NotYet, match="changes its argument in place"):
        check(in_place)


def by_queries(q, k, v, BLOCK_Q, BLOCK_K, scale=True):
    out = np.zeros((len(q), v.shape[1]))
    for i in range(0, len(q), BLOCK_Q):
        rows = q[i : i + BLOCK_Q]
        state = np.full(len(rows), -np.inf), np.zeros(len(rows)), np.zeros((len(rows), v.shape[1]))
        for j in range(0, len(k), BLOCK_K):
            s = rows @ k[j : j + BLOCK_K].T / (np.sqrt(q.shape[1]) if scale else 1)
            top = np.maximum(state[0], s.max(1))
            r, w = np.exp(state[0] - top), np.exp(s - top[:, None])
            state = top, state[1] * r + w.sum(1), state[2] * r[:, None] + w @ v[j : j + BLOCK_K]
        out[i : i + BLOCK_Q] = state[2] / state[1][:, None]
    return out


def test_blocked_names_a_missing_scale_ragged_blocks_and_all_scores_at_once():
    check = chapter_16.check_blocked
    check(by_queries)
    check(lambda *a: by_queries(*a).astype(np.float32))
    with pytest.raises(NotYet, match="not divided by sqrt"):
        check(lambda *a: by_queries(*a, scale=False))
    with pytest.raises(NotYet, match="do not divide"):
        check(lambda q, k, v, Q, K: by_queries(q, k[: len(k) // K * K or None], v[: len(k) // K * K or None], Q, K))

    def all_at_once(q, k, v, BLOCK_Q, BLOCK_K):
        s = q @ k.T / np.sqrt(q.shape[1])
        w = np.exp(s - s.max(1, keepdims=True))
        return w @ v / w.sum(1, keepdims=True)

    with pytest.raises(NotYet, match="inside both loops"):
        check(all_at_once)

    def scores_of_a_block_and_all_keys(q, k, v):
        s = q @ k.T
        s /= np.sqrt(q.shape[1])
        np.exp(s, out=s)
        return s @ v / s.sum(1, keepdims=True)

    with pytest.raises(NotYet, match="inside both loops"):
        check(lambda q, k, v, Q, K: np.concatenate(
            [scores_of_a_block_and_all_keys(q[i : i + Q], k, v) for i in range(0, len(q), Q)]
        ))  # fmt: skip


def loss(h, W, target, BLOCK, subtract=True, add_top=True):
    top, total, wanted = np.full(len(h), -np.inf), np.zeros(len(h)), np.zeros(len(h))
    for first in range(0, len(W), BLOCK):
        z = h @ W[first : first + BLOCK].T
        new = np.maximum(top, z.max(1))
        total = total * np.exp(top - new) + np.exp(z - new[:, None]).sum(1)
        top = new
        here = (target >= first) & (target < first + z.shape[1])
        wanted[here] = z[here, target[here] - first]
    return add_top * top + np.log(total) - subtract * wanted


def test_cross_entropy_names_the_target_the_top_and_the_memory():
    check = chapter_16.check_cross_entropy
    check(loss)
    check(lambda *a: loss(*a).astype(np.float32))
    with pytest.raises(NotYet, match="subtract the logit"):
        check(lambda *a: loss(*a, subtract=False))
    with pytest.raises(NotYet, match="top is missing"):
        check(lambda *a: loss(*a, add_top=False))
    with pytest.raises(NotYet, match="inside the loop"):
        check(lambda h, W, target, BLOCK: loss(h, W, target, len(W)))

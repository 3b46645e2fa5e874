"""The checkers of chapter 18: a right answer passes, and each usual mistake is named."""

from itertools import combinations

import numpy as np
import pytest

from checks import NotYet, chapter_18


def quantize_rows(W, bits, most=None, size=np.abs, rounded=np.round, guard=True, rows=True):
    most = 2 ** (bits - 1) - 1 if most is None else most(bits)
    s = size(W).max(axis=1) / most
    if not rows:
        s = np.full(len(W), size(W).max() / most)
    return rounded(W / (np.where(s == 0, 1, s) if guard else s)[:, None]), s


@pytest.mark.parametrize(
    "mistake, message",
    [
        ({"most": lambda bits: 2 ** (bits - 1)}, "divide by that"),
        ({"size": np.asarray}, "may be a negative one"),
        ({"rounded": np.trunc}, "cut off is not rounded"),
        ({"guard": False}, "0 / 0 is no number"),
        ({"rows": False}, "scales of rows 0 and 1"),
        ({"most": lambda bits: 127}, "follow from `bits`"),
        ({"size": lambda W: np.abs(W).T}, "the columns' scales"),
        ({"rounded": lambda w: np.round(w) + 1}, "0 is rounded to 0"),
    ],
)
def test_quantize_rows_names(mistake, message):
    chapter_18.check_quantize_rows(quantize_rows)
    with pytest.raises(NotYet, match=message):
        chapter_18.check_quantize_rows(lambda W, bits: quantize_rows(W, bits, **mistake))


def test_quantize_rows_wants_the_integers_and_not_the_rounded_weights():
    def multiplied(W, bits):
        q, s = quantize_rows(W, bits)
        return s[:, None] * q, s

    with pytest.raises(NotYet, match="return the integers"):
        chapter_18.check_quantize_rows(multiplied)


def keep(w, sparsity, size=np.abs):
    mask = np.ones(w.size, dtype=bool)
    mask[np.argsort(size(w), axis=None, kind="stable")[: int(sparsity * w.size)]] = False
    return mask.reshape(w.shape)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda w, part: keep(w, part, np.asarray), "a large negative weight is large"),
        (lambda w, part: ~keep(w, part), "True is for what stays"),
        (lambda w, part: np.abs(w) > (np.quantile(np.abs(w), part, method="lower") if part else -1), "expected floor"),
        (lambda w, part: keep(w, part).reshape(-1), "shape"),
    ],
)
def test_keep_names(wrong, message):
    chapter_18.check_keep(keep)
    with pytest.raises(NotYet, match=message):
        chapter_18.check_keep(wrong)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda s, z, tau: (softmax(s / tau) - softmax(z / tau)) / tau, "KL alone"),
        (lambda s, z, tau: tau**2 * (softmax(s / tau) - softmax(z / tau)), "a factor 1 / tau"),
        (lambda s, z, tau: tau * (softmax(z / tau) - softmax(s / tau)), "the sign is turned"),
        (lambda s, z, tau: tau * (softmax(s) - softmax(z)), "both are softened"),
        (lambda s, z, tau: tau * (softmax(s / tau) - softmax(z)), "both are softened"),
        (lambda s, z, tau: tau * (softmax(s / tau) - softmax(z / tau)) / len(s), "not their mean"),
    ],
)
def test_distillation_gradient_names(wrong, message):
    chapter_18.check_distillation_gradient(lambda s, z, tau: tau * (softmax(s / tau) - softmax(z / tau)))
    chapter_18.check_distillation_gradient(
        lambda s, z, tau: (tau * (softmax(s / tau) - softmax(z / tau))).astype(np.float32)  # seven digits are enough
    )
    with pytest.raises(NotYet, match=message):
        chapter_18.check_distillation_gradient(wrong)


def clipped_mean(g, C, L, least=1e-300, factor=np.minimum):
    return (g * factor(1, C / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), least))).sum(axis=0) / L


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda g, C, L: clipped_mean(g, C, len(g)), "how many were drawn is private"),
        (lambda g, C, L: g.sum(0) / L * min(1, C / np.linalg.norm(g.sum(0))), "the sum is clipped"),
        (lambda g, C, L: clipped_mean(g, C, L, factor=lambda one, x: x), "shorter than C stays"),
        (lambda g, C, L: np.clip(g, -C, C).sum(0) / L, "each number is cut off alone"),
        (lambda g, C, L: (g * C / np.linalg.norm(g, axis=1, keepdims=True)).sum(0) / L, "zeros has the length 0"),
        (lambda g, C, L: g.sum(0) / L * min(1, C / np.linalg.norm(g)), "one factor for all"),
        (lambda g, C, L: clipped_mean(g, C, L, factor=np.maximum), "min, not max"),
    ],
)
def test_clipped_mean_names(wrong, message):
    chapter_18.check_clipped_mean(clipped_mean)
    with pytest.raises(NotYet, match=message):
        chapter_18.check_clipped_mean(wrong)


def test_a_tiny_number_added_to_the_length_is_as_good():
    chapter_18.check_clipped_mean(
        lambda g, C, L: (g * np.minimum(1, C / (np.linalg.norm(g, axis=1) + 1e-6))[:, None]).sum(0) / L
    )


def permutation_p(first, second, size=abs, compare=np.greater_equal):
    values, n = np.array([*first, *second]), len(first)
    ways = [size(values[list(c)].mean() - np.delete(values, c).mean()) for c in combinations(range(len(values)), n)]
    found = size(np.mean(first) - np.mean(second))
    return float(compare(np.round(ways, 9), round(found, 9)).mean())


@pytest.mark.parametrize(
    "mistake, message",
    [
        ({"size": lambda x: x}, "one-sided"),
        ({"compare": np.greater}, "that was found counts too"),
        ({"compare": np.less}, "smaller difference"),
    ],
)
def test_permutation_p_names(mistake, message):
    chapter_18.check_permutation_p(permutation_p)
    with pytest.raises(NotYet, match=message):
        chapter_18.check_permutation_p(lambda a, b: permutation_p(a, b, **mistake))


def test_permutation_p_wants_cuts_as_long_as_the_lists():
    def halves(first, second):
        values, found = np.array([*first, *second]), abs(np.mean(first) - np.mean(second))
        cuts = combinations(range(len(values)), len(values) // 2)
        return float(np.mean([abs(values[list(c)].mean() - np.delete(values, c).mean()) >= found for c in cuts]))

    with pytest.raises(NotYet, match="as many numbers as it has"):
        chapter_18.check_permutation_p(halves)

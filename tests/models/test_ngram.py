"""The n-gram model against hand-computed numbers, against a slow dictionary version, and on real text."""

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import DataError, TokenizerError
from minilm.models.ngram import USUAL_DISCOUNTS, NGram, discounts
from minilm.random import Generator

V = 5
texts = st.lists(st.integers(0, V - 1), min_size=1, max_size=40)
orders = st.integers(0, 5)
smoothings = st.sampled_from(["kneser_ney", "add_k"])


class SlowKneserNey:
    """The definition, with a dictionary of tuples for each level and no arrays."""

    def __init__(self, order, vocab_size, tokens):
        self.order, self.V = order, vocab_size
        grams = {
            k: [tuple(tokens[i : i + k]) for i in range(len(tokens) - k + 1)] for k in range(1, order + 2)
        }
        highest = min(order, len(tokens))
        self.counts, self.discounts = {}, {}
        for k in range(1, highest + 1):
            if k == highest:
                self.counts[k] = Counter(grams[k])
            else:
                self.counts[k] = Counter(gram[1:] for gram in set(grams[k + 1]))
            n = [sum(count == i for count in self.counts[k].values()) for i in range(5)]
            self.discounts[k] = (0, *USUAL_DISCOUNTS)
            if n[1] and n[2] and n[3]:
                y = n[1] / (n[1] + 2 * n[2])
                d = [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
                if min(d) > 0:
                    self.discounts[k] = (0, *d)
        self.after = {k: defaultdict(list) for k in self.counts}
        for k, counts in self.counts.items():
            for gram, count in counts.items():
                self.after[k][gram[:-1]].append(count)

    def probability(self, context, token):
        k = min(len(context) + 1, self.order, len(self.counts))
        return self._level(k, tuple(context[len(context) - k + 1 :]), token)

    def _level(self, k, h, token):
        if k <= 0:
            return 1 / self.V
        lower = self._level(k - 1, h[1:], token)
        following, d = self.after[k].get(h, []), self.discounts[k]
        if not following:
            return lower
        count = self.counts[k].get((*h, token), 0)
        kept = sum(d[min(c, 3)] for c in following)
        return (count - d[min(count, 3)] + kept * lower) / sum(following)


@given(texts, texts, orders)
def test_it_equals_the_slow_dictionary_version(training, scored, order):
    fast, slow = NGram(order, V).fit(training), SlowKneserNey(order, V, training)
    expected = [slow.probability(scored[:t], token) for t, token in enumerate(scored)]
    np.testing.assert_allclose(np.exp(fast.log_probs(scored)), expected, rtol=1e-12)


def test_it_equals_the_slow_version_with_estimated_discounts():
    # skewed enough for the estimate to be used on every level
    tokens = np.minimum(np.random.default_rng(0).geometric(0.12, 3000) - 1, 39)
    fast, slow = NGram(3, 40).fit(tokens), SlowKneserNey(3, 40, tokens.tolist())
    assert slow.discounts[3] != (0, *USUAL_DISCOUNTS)
    scored = tokens[500:700].tolist()
    expected = [slow.probability(scored[:t], token) for t, token in enumerate(scored)]
    np.testing.assert_allclose(np.exp(fast.log_probs(scored)), expected, rtol=1e-12)


@given(texts, texts, st.integers(1, 4))
def test_additive_smoothing_is_the_formula(training, scored, order):
    model = NGram(order, V, "add_k", k=0.5).fit(training)
    for t, log_prob in enumerate(model.log_probs(scored)):
        n = min(order, t + 1, len(training))
        gram = tuple(scored[t - n + 1 : t + 1])
        grams = [tuple(training[i : i + n]) for i in range(len(training) - n + 1)]
        times = sum(other == gram for other in grams)
        context = sum(other[:-1] == gram[:-1] for other in grams)
        assert np.exp(log_prob) == pytest.approx((times + 0.5) / (context + 0.5 * V), rel=1e-12)


def test_a_worked_example():
    # a b a b c with V = 3. Bigrams: ab twice, ba and bc once. Left neighbours: of a {b}, of b {a}, of c {b}.
    # n_3 = 0, so the discounts are 1/2, 1 and 3/2.
    # p_1(w) = (1 - 1/2) / 3 + (3/2) / 3 * 1/3 = 1/3 for each w
    # p_2(b | a) = (2 - 1) / 2 + 1/2 * 1/3 = 2/3            p_2(a | a) = 1/2 * 1/3 = 1/6
    # p_2(a | b) = (1 - 1/2) / 2 + (1/2 + 1/2) / 2 * 1/3 = 5/12    p_2(b | b) = 1/2 * 1/3 = 1/6
    model = NGram(2, 3).fit([0, 1, 0, 1, 2])
    third, sixth, five = float(Fraction(1, 3)), float(Fraction(1, 6)), float(Fraction(5, 12))
    np.testing.assert_allclose(model.next_distribution([]), [third] * 3, rtol=1e-14)
    np.testing.assert_allclose(model.next_distribution([0]), [sixth, 4 * sixth, sixth], rtol=1e-14)
    np.testing.assert_allclose(model.next_distribution([1]), [five, sixth, five], rtol=1e-14)
    np.testing.assert_allclose(model.next_distribution([2]), [third] * 3, rtol=1e-14)  # c is never followed
    expected = third * 4 * sixth * five
    np.testing.assert_allclose(model.log_probs([0, 1, 2]), np.log([third, 4 * sixth, five]), rtol=1e-14)
    assert model.perplexity([0, 1, 2]) == pytest.approx(expected ** (-1 / 3), rel=1e-14)


def test_discounts_follow_the_published_estimate():
    # n_1 = 4, n_2 = 2, n_3 = 2, n_4 = 1: Y = 4 / (4 + 4) = 1/2
    counts = np.array([1, 1, 1, 1, 2, 2, 3, 3, 4, 9])
    assert discounts(counts) == pytest.approx((1 - 2 / 4, 2 - 3 / 2, 3 - 4 / 4))
    assert discounts(np.array([7, 7, 7])) == USUAL_DISCOUNTS
    assert discounts(np.array([1, 2, 3, 3, 3, 3])) == USUAL_DISCOUNTS  # D(2) would be negative


def test_a_token_that_follows_one_word_only_is_rare_in_a_new_context():
    # "san francisco" often, and "the", "a" and "my" before many words each
    san, francisco, the, day, night, x = range(6)
    tokens = [san, francisco] * 20 + [the, day, x, day, night, day, the, night, x, night, san, day]
    p = NGram(2, 6).fit(tokens).next_distribution([])
    assert p[francisco] < p[day]  # although francisco is five times as frequent
    p = NGram(1, 6).fit(tokens).next_distribution([])
    assert p[francisco] > p[day]


@given(texts, st.lists(st.integers(0, V - 1), max_size=7), orders, smoothings)
def test_distributions_are_positive_sum_to_one_and_agree_with_the_scores(training, context, order, smoothing):
    model = NGram(order, V, smoothing).fit(training)
    p = model.next_distribution(context)
    assert p.shape == (V,) and (p > 0).all() and p.sum() == pytest.approx(1, abs=1e-12)
    scores = [model.log_probs([*context, token])[-1] for token in range(V)]
    np.testing.assert_allclose(np.log(p), scores, rtol=1e-10)


def test_order_zero_is_uniform_and_needs_no_fit():
    model = NGram(0, 7)
    np.testing.assert_allclose(model.log_probs([0, 6]), [-np.log(7)] * 2)
    assert model.perplexity([1, 2, 3]) == pytest.approx(7)


def test_order_one_ignores_the_context_and_approaches_the_frequencies():
    tokens = np.repeat([0, 1, 2], [500, 300, 200])
    model = NGram(1, 3).fit(tokens)
    np.testing.assert_allclose(model.next_distribution([]), [0.5, 0.3, 0.2], atol=0.005)
    np.testing.assert_array_equal(model.next_distribution([2, 2]), model.next_distribution([]))


def test_codes_do_not_overflow_where_the_power_of_the_vocabulary_does():
    vocab_size = 50_000  # 50,000^8 is far above 2^63
    tokens = np.tile(np.arange(0, vocab_size, 1000), 20)
    model = NGram(8, vocab_size).fit(tokens)
    assert model.perplexity(tokens[8:]) < 2
    assert model.next_distribution(tokens[:7]).argmax() == tokens[7]


def test_samples_follow_the_distribution_and_the_seed():
    model = NGram(3, 3).fit([0, 1, 0, 2, 0, 1, 1, 2, 2, 0, 1, 2, 0])
    drawn = model.sample(20_000, Generator(5))
    assert drawn.dtype == np.int64 and drawn.shape == (20_000,)
    np.testing.assert_array_equal(drawn[:50], model.sample(50, Generator(5)))
    assert drawn[:50].tolist() != model.sample(50, Generator(6)).tolist()
    for pair in np.ndindex(3, 3):
        following = drawn[2:][(drawn[:-2] == pair[0]) & (drawn[1:-1] == pair[1])]
        frequencies = np.bincount(following, minlength=3) / len(following)
        np.testing.assert_allclose(frequencies, model.next_distribution(pair), atol=0.06)


def test_a_sample_goes_on_from_its_context():
    model = NGram(3, 4).fit([0, 1, 2, 3] * 2000)
    assert model.sample(8, Generator(0), context=[1, 2]).tolist() == [3, 0, 1, 2, 3, 0, 1, 2]


def test_longer_contexts_help_on_real_text_until_they_are_too_rare(test_data):
    text = (test_data("tinyshakespeare/input.txt")).read_text(encoding="utf-8")
    characters = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = np.array([characters[c] for c in text])
    train, held_out = np.split(tokens, [len(tokens) * 9 // 10])
    losses = [-NGram(n, 65).fit(train).log_probs(held_out).mean() for n in range(8)]
    assert all(longer < shorter for shorter, longer in zip(losses, losses[1:], strict=False))
    assert losses[0] == pytest.approx(np.log(65))
    frequencies = [np.bincount(part, minlength=65) / len(part) for part in (held_out, train)]
    assert losses[1] == pytest.approx(-frequencies[0] @ np.log(frequencies[1]), abs=0.001)
    assert 1.45 < losses[7] < 1.55
    additive = [-NGram(n, 65, "add_k", k=0.01).fit(train).log_probs(held_out).mean() for n in (4, 6)]
    assert additive[0] > losses[4] and additive[1] > losses[6] + 0.3


def test_bad_input_is_refused():
    with pytest.raises(TokenizerError, match="token id 5 at position 1"):
        NGram(2, 5).fit([0, 5])
    model = NGram(2, 5).fit([0, 4])
    for score in (model.log_probs, model.next_distribution):
        with pytest.raises(TokenizerError, match="token id -1"):
            score([-1])
    with pytest.raises(DataError, match="no tokens"):
        NGram(2, 5).fit([])
    with pytest.raises(DataError, match="no tokens"):
        model.perplexity([])
    with pytest.raises(ValueError, match="call fit"):
        NGram(2, 5).log_probs([0])
    with pytest.raises(ValueError, match=r"shape \(N,\), not \(1, 2\)"):
        model.fit([[0, 1]])
    for arguments in [(-1, 5), (2, 0)]:
        with pytest.raises(ValueError, match="at least"):
            NGram(*arguments)
    with pytest.raises(ValueError, match="k must be positive"):
        NGram(2, 5, "add_k", k=0)
    with pytest.raises(ValueError, match="'good_turing'"):
        NGram(2, 5, "good_turing")

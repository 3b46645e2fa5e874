"""The n-gram model: the next token depends on the n - 1 tokens before it, and counting gives its probability.

Let h be the k - 1 tokens before w, and h' the same without the oldest. Every smoothed model here is one
recursion,

    p_k(w | h) = alpha_k(h w) + gamma_k(h) p_{k-1}(w | h')        p_0(w) = 1 / V

"what the counts say of w after h, and for the rest the shorter context". `fit` turns counts into the two
tables of each level k = 1 .. n; all else is looking up. For a context that was never seen alpha is 0 and
gamma is 1.

Interpolated modified Kneser-Ney, the default, takes a discount D off each count and lends it to the shorter
context:

    alpha_k(h w) = (c(h w) - D(c(h w))) / c(h)        gamma_k(h) = (sum over w of D(c(h w))) / c(h)

where c(h) is the sum of c(h w) over w. Below the highest level c does not count how often h w occurs, but
after how many different tokens: "Francisco" is frequent and only ever follows "San", so after a new word it
should be rare. (S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language
modeling", Computer Speech and Language 13, 1999, and technical report TR-10-98, Harvard: the sections on
Kneser-Ney and modified Kneser-Ney.)

Additive smoothing ("add_k") is the baseline, p(w | h) = (c(h w) + k) / (c(h) + k V): the same form with p_0
in the place of p_{k-1}. Order 1 forgets the context (unigram), order 0 the counts as well (uniform).

Not here: pruning, learning on after `fit`, files.
"""

from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import DataError
from minilm.text.tokenizers import check_token_ids

Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]

# Discounts where the counts are too few or too regular to estimate them from (KenLM's fallback).
USUAL_DISCOUNTS = (0.5, 1.0, 1.5)


class UniformSource(Protocol):
    """What `sample` draws from. `minilm.random.Generator` is one."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class NGram:
    """order: the n of n-gram, from 0. vocab_size: V; every id below V always has a positive probability.

    smoothing: "kneser_ney", or "add_k" with k counts added for every token.
    """

    def __init__(
        self,
        order: int,
        vocab_size: int,
        smoothing: Literal["kneser_ney", "add_k"] = "kneser_ney",
        k: float = 1.0,
    ) -> None:
        if order < 0 or vocab_size < 1:
            raise ValueError(
                f"order must be at least 0 and vocab_size at least 1, not {order} and {vocab_size}"
            )
        if smoothing not in ("kneser_ney", "add_k"):
            raise ValueError(f'smoothing must be "kneser_ney" or "add_k", not {smoothing!r}')
        if not k > 0:
            raise ValueError(f"k must be positive, not {k}: with 0 an unseen token would be impossible")
        self.order = order
        self.vocab_size = vocab_size
        self.smoothing = smoothing
        self.k = k
        self.fitted = order == 0
        # Level k is entry k - 1. The k-grams that occur are numbered in the order of their codes. A code is
        # (number of the first k - 1 tokens) V + (last token): below N V, however large V^k is.
        self.codes: list[Ids] = []
        # alpha of each k-gram and gamma of each (k-1)-gram, by number, and one more entry at the end, 0 and
        # 1: a gram that does not occur has the number -1, and finds that.
        self.alpha: list[Numbers] = []
        self.gamma: list[Numbers] = []

    def fit(self, tokens: ArrayLike) -> Self:
        """Count the tokens (N,), in place of what was counted before.

        Raises TokenizerError for an id outside 0 .. V - 1 and DataError for no tokens.
        """
        ids = self._checked(tokens)
        N, V = len(ids), self.vocab_size
        if N == 0:
            raise DataError("there are no tokens to fit an n-gram model on: is the text empty?")
        self.codes = []
        counts: list[Ids] = []
        prefix = np.zeros(
            N, np.int64
        )  # prefix[i]: number of the (k-1)-gram that starts at i; 0 is the empty one
        for k in range(1, min(self.order, N) + 1):
            grams = prefix[: N - k + 1] * V + ids[k - 1 :]
            codes, first, numbers, occurrences = np.unique(
                grams, return_index=True, return_inverse=True, return_counts=True
            )
            if k > 1 and self.smoothing == "kneser_ney":
                # A k-gram without its first token is the (k-1)-gram that starts one later. Each different
                # k-gram gives that one a left neighbour, and those are the counts of level k - 1.
                counts[-1] = np.bincount(prefix[first + 1], minlength=len(self.codes[-1]))
            self.codes.append(codes)
            counts.append(occurrences)
            prefix = numbers
        contexts = [1, *map(len, self.codes)]
        tables = [self._weigh(*level) for level in zip(self.codes, counts, contexts, strict=False)]
        self.alpha = [alpha for alpha, _ in tables]
        self.gamma = [gamma for _, gamma in tables]
        self.fitted = True
        return self

    def _weigh(self, codes: Ids, counts: Ids, contexts: int) -> tuple[Numbers, Numbers]:
        """alpha and gamma of one level from its counts; contexts: how many different contexts there are."""
        context = codes // self.vocab_size
        total = np.bincount(context, counts, minlength=contexts)  # c(h)
        if self.smoothing == "add_k":
            added = self.k * self.vocab_size
            alpha = counts / (total + added)[context]
            gamma = added / (total + added)
        else:
            discount = np.array([0.0, *discounts(counts)])[np.minimum(counts, 3)]
            # c(h) is 0 where h w occurs only at the start of the text, without a left neighbour: then this
            # level has nothing to say, alpha 0 and gamma 1.
            alpha = (counts - discount) / np.maximum(total, 1)[context]
            gamma = np.where(total > 0, np.bincount(context, discount, contexts) / np.maximum(total, 1), 1.0)
        return np.append(alpha, 0.0), np.append(gamma, 1.0)

    def log_probs(self, tokens: ArrayLike) -> Numbers:
        """ln p(w_t | the n - 1 tokens before t) for each of the tokens (N,): float64 (N,).

        The first tokens have shorter contexts; the very first has none.
        """
        self._need_fit()
        ids = self._checked(tokens)
        uniform = 1.0 / self.vocab_size
        p = np.full(len(ids), uniform)
        context = np.zeros(
            len(ids), np.int64
        )  # number of the (k-1)-gram that ends before each token from k - 1 on
        for k in range(1, min(len(self.codes), len(ids)) + 1):
            gram = self._numbers(k, context, ids[k - 1 :])
            shorter = uniform if self.smoothing == "add_k" else p[k - 1 :]
            p[k - 1 :] = self.alpha[k - 1][gram] + self.gamma[k - 1][context] * shorter
            context = gram[:-1]
        return np.log(p)

    def perplexity(self, tokens: ArrayLike) -> float:
        """exp of the mean negative log-likelihood of the tokens (N,)."""
        log_probs = self.log_probs(tokens)
        if not len(log_probs):
            raise DataError("the perplexity of no tokens is not defined: is the text empty?")
        return float(np.exp(-log_probs.mean()))

    def next_distribution(self, context: ArrayLike) -> Numbers:
        """p(. | context), float64 (V,), from the last n - 1 tokens of the context (T,) or as many as there
        are."""
        self._need_fit()
        ids = self._checked(context)
        ids = ids[max(0, len(ids) - self.order + 1) :]
        V = self.vocab_size
        p = np.full(V, 1.0 / V)
        grams = np.zeros(len(ids) + 1, np.int64)  # the (k-1)-grams of the context; the last one is h
        for k in range(1, min(len(self.codes), len(ids) + 1) + 1):
            h = grams[-1]
            begin, end = np.searchsorted(self.codes[k - 1], [h * V, h * V + V])
            p = self.gamma[k - 1][h] * (np.full(V, 1.0 / V) if self.smoothing == "add_k" else p)
            p[self.codes[k - 1][begin:end] - h * V] += self.alpha[k - 1][begin:end]
            grams = self._numbers(k, grams[:-1], ids[k - 1 :])
        return p

    def sample(self, n: int, generator: UniformSource, context: ArrayLike = ()) -> Ids:
        """n tokens (n,), each drawn given the ones before it and, at first, the context (T,)."""
        history = self._checked(context).tolist()
        start = len(history)
        for _ in range(n):
            cumulative = np.cumsum(self.next_distribution(history[-max(self.order - 1, 1) :]))
            draw = generator.random() * cumulative[-1]  # the last entry is 1 but for rounding
            history.append(int(np.searchsorted(cumulative[:-1], draw, side="right")))
        return np.array(history[start:], dtype=np.int64)

    def _numbers(self, k: int, context: Ids, last: Ids) -> Ids:
        """The numbers of the k-grams made of a (k-1)-gram, given by number, and a last token; -1 where
        unseen."""
        codes = self.codes[k - 1]
        wanted = context * self.vocab_size + last  # negative, and so never found, where the context is -1
        place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        return np.where(codes[place] == wanted, place, -1)

    def _checked(self, tokens: ArrayLike) -> Ids:
        ids = np.asarray(tokens)
        if ids.ndim != 1:
            raise ValueError(f"tokens must be one row of ids, shape (N,), not {ids.shape}")
        check_token_ids(ids, self.vocab_size)
        return ids.astype(np.int64, copy=False)

    def _need_fit(self) -> None:
        if not self.fitted:
            raise ValueError("this n-gram model has counted nothing yet: call fit(tokens) first")

    def __repr__(self) -> str:
        return f"NGram(order={self.order}, vocab_size={self.vocab_size}, smoothing={self.smoothing!r})"


def discounts(counts: Ids) -> tuple[float, float, float]:
    """D(1), D(2) and D(3 and more), from n_i, how many counts are equal to i (Chen and Goodman's estimates):

    Y = n_1 / (n_1 + 2 n_2)     D(i) = i - (i + 1) Y n_{i+1} / n_i
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == i)) for i in range(1, 5))
    if min(n1, n2, n3) == 0:
        return USUAL_DISCOUNTS
    Y = n1 / (n1 + 2 * n2)
    estimates = (1 - 2 * Y * n2 / n1, 2 - 3 * Y * n3 / n2, 3 - 4 * Y * n4 / n3)
    # A discount of 0 or less would leave nothing for unseen tokens.
    return estimates if min(estimates) > 0 else USUAL_DISCOUNTS

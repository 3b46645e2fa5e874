"""From one row of logits to one token id.

    p_i = exp(x_i / T) / sum_j exp(x_j / T)        temperature T: below 1 sharper, above 1 flatter, 0 greedy

What may be drawn is narrowed first: to the k most probable tokens (top-k; Fan et al. 2018), to the smallest
set of tokens whose probability is at least p (top-p, the nucleus; Holtzman et al. 2020), and away from tokens
that were there before (repetition penalty; Keskar et al. 2019). A token that is out gets the logit -inf.

The draw is one uniform number u from the generator, and the id is the first whose cumulative probability
exceeds u. All of it happens on the host, in float64: a seed means the same on every backend. These are pure
functions of rows (V,); nothing here knows a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import ConfigurationError, TrainingError
from minilm.random import Generator

Row = NDArray[np.float64]  # (V,)


@dataclass(frozen=True)
class SamplingSettings:
    """How to choose the next token. As it stands: from the model's own distribution.

    Args:
        temperature: 0 takes the most probable token, always.
        top_k: draw from the k most probable tokens only.
        top_p: draw from the most probable tokens that together have at least this probability.
        repetition_penalty: above 1, tokens of the prompt and of what was generated become less probable; the
            paper uses 1.2.

    Raises:
        ConfigurationError: for a number outside its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)
        _check_top_k(self.top_k)
        _check_top_p(self.top_p)
        _check_penalty(self.repetition_penalty)

    def choose(self, logits: ArrayLike, previous_ids: Sequence[int], generator: Generator) -> int:
        """The next token after `previous_ids`, of which `logits` (V,) are the model's."""
        penalized = apply_repetition_penalty(logits, previous_ids, self.repetition_penalty)
        return sample(penalized, generator, self.temperature, self.top_k, self.top_p)


def apply_repetition_penalty(logits: ArrayLike, previous_ids: Sequence[int], penalty: float) -> Row:
    """x_i / penalty where x_i > 0, x_i * penalty where not, for each id that occurs in `previous_ids`.

    Keskar et al. 2019 (CTRL), section 4.1, divide whatever the sign, which would reward a negative logit; to
    multiply those, as has become usual, makes every repeated token less probable. How often a token has
    occurred plays no part.

    Raises:
        ConfigurationError: unless penalty > 0.
    """
    _check_penalty(penalty)
    x = _row(logits).copy()
    if penalty != 1 and len(previous_ids):
        seen = np.unique(previous_ids)
        x[seen] = np.where(x[seen] > 0, x[seen] / penalty, x[seen] * penalty)
    return x


def top_k_filter(logits: ArrayLike, k: int | None) -> Row:
    """The k largest logits; the others become -inf. Of equal ones the lower ids stay.

    Raises:
        ConfigurationError: if k < 1.
    """
    _check_top_k(k)
    x = _row(logits)
    return x if k is None else _keep(x, _descending(x)[:k])


def top_p_filter(logits: ArrayLike, p: float | None) -> Row:
    """The nucleus: the fewest logits whose probabilities sum to p or more; the others become -inf.

    At least the most probable token stays, and of equal ones the lower ids.
    Source: Holtzman et al. 2020, equations 2 and 3.

    Raises:
        ConfigurationError: unless 0 < p <= 1.
    """
    _check_top_p(p)
    x = _row(logits)
    if p is None or p == 1:
        return x
    order = _descending(x)
    mass = np.cumsum(softmax(x)[order])
    return _keep(x, order[: np.searchsorted(mass, p * mass[-1]) + 1])


def apply_temperature(logits: ArrayLike, temperature: float) -> Row:
    """(x - max x) / temperature; at 0 its limit, 0 for the largest logits and -inf for all others.

    Raises:
        ConfigurationError: unless temperature >= 0.
    """
    _check_temperature(temperature)
    x = _row(logits)
    x = x - x.max()
    if temperature == 0:
        return np.where(x == 0, 0.0, -np.inf)
    with np.errstate(over="ignore"):  # a tiny temperature gives -inf, which is what is meant
        return x / temperature


def softmax(logits: ArrayLike) -> Row:
    """exp(x_i) / sum_j exp(x_j), the probabilities (V,) of the tokens."""
    x = _row(logits)
    e = np.exp(x - x.max())
    return e / e.sum()


def log_softmax(logits: ArrayLike) -> Row:
    """x_i - log sum_j exp(x_j) over the last axis, float64, of logits (..., V) on the host."""
    x = np.array(logits, dtype=np.float64)
    x -= x.max(axis=-1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return x


def sample(
    logits: ArrayLike,
    generator: Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> int:
    """Draw a token id: temperature, then top-k, then top-p of what is left, then the draw.

    Temperature 0 gives the largest logit, of equal ones the lowest id, and draws nothing; else exactly one
    `generator.random()` is used.

    Raises:
        ConfigurationError: for a setting outside its range.
        TrainingError: for logits from which no distribution follows: NaN, +inf, or -inf alone.
    """
    x = top_p_filter(top_k_filter(apply_temperature(logits, temperature), top_k), top_p)
    if temperature == 0:
        return int(x.argmax())
    cumulative = np.cumsum(softmax(x))
    # scaled, since rounding may leave the sum below 1; "right": a token of probability 0 is never drawn
    return int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right"))


def _row(logits: ArrayLike) -> Row:
    x = np.asarray(logits, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"logits of one token are a row (V,), got the shape {x.shape}: take logits[b, t]")
    if not np.isfinite(largest := x.max()):
        raise TrainingError(
            f"no token can be drawn from logits whose largest is {largest}: the weights of the model are "
            "damaged, or its training has diverged; use an earlier checkpoint"
        )
    return x


def _descending(x: Row) -> NDArray[np.intp]:
    return np.argsort(-x, kind="stable")  # stable: of equal logits the lower id comes first


def _keep(x: Row, ids: NDArray[np.intp]) -> Row:
    kept = np.full_like(x, -np.inf)
    kept[ids] = x[ids]
    return kept


def _check_temperature(temperature: float) -> None:
    if not 0 <= temperature < np.inf:  # NaN is refused too
        raise ConfigurationError(
            f"temperature={temperature}: it must be 0 (the most probable token, always) or a positive number"
        )


def _check_top_k(top_k: int | None) -> None:
    if top_k is not None and top_k < 1:
        raise ConfigurationError(f"top_k={top_k}: at least 1 token must stay; leave it out to keep all")


def _check_top_p(top_p: float | None) -> None:
    if top_p is not None and not 0 < top_p <= 1:
        raise ConfigurationError(
            f"top_p={top_p}: a probability above 0 and at most 1 must stay; leave it out to keep all"
        )


def _check_penalty(penalty: float) -> None:
    if not 0 < penalty < np.inf:
        raise ConfigurationError(
            f"repetition_penalty={penalty}: it must be positive; 1 changes nothing, 1.2 avoids repetitions"
        )

"""Beam search: the best of several hypotheses that grow side by side, for models that read a source and write.

    score(Y) = log P(Y | X) / lp(Y),    lp(Y) = ((5 + |Y|) / 6)^alpha        Wu et al. 2016, equation 14

Greedy decoding takes the best next token, and never learns that another one would have led to a better text. A beam
keeps the k best beginnings: at each step every one of them is continued with every token, and of these k V candidates
the k best go on. Those that end in eos are taken out if they are among the first k, and the search is over when k have
ended. Longer texts are less probable, so in the end each log-probability is divided by the length penalty lp, which
grows with the number of tokens |Y| (eos included): alpha 0 changes nothing, 1 is nearly a mean over the tokens.

k = 1 is greedy decoding; with k as large as the number of all texts it finds the best one, as the tests say. In between
nothing is guaranteed.

The sources of a batch are searched together, each with its own k rows; one that is done leaves the batch. The model
computes each token once: its state (keys and values, or h and c) follows the rows as they change places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from minilm.backend import to_numpy
from minilm.errors import ConfigurationError, TrainingError
from minilm.generation.sampling import log_softmax
from minilm.nn import Module, evaluating
from minilm.tensor import Tensor

ROOM = 10  # tokens that a text may be longer than twice its source, unless max_length says otherwise


class EncoderDecoderState(Protocol):
    """What a decoder needs of its past, for a batch of rows."""

    def select(self, rows: Any) -> Self:
        """The state of these rows, in this order."""


class EncoderDecoder(Protocol):
    """What beam search asks of a model; Transformer and Seq2SeqLSTM have it."""

    @property
    def config(self) -> Any:
        """Has `pad_id`, `bos_id` and `eos_id`."""

    @property
    def context_length(self) -> int | None:
        """The most tokens of a target; None if there is no such number."""

    def modules(self) -> Iterator[Module]:
        """All its modules, whose mode is switched."""

    def __call__(self, input_ids: Any, decoder_input_ids: Any, attention_mask: Any, /) -> Tensor:
        """sources (B, Tk), targets so far (B, T) -> logits (B, T, V)."""

    def encode(self, input_ids: Any, attention_mask: Any = None) -> Any:
        """The state in which the decoder begins, an EncoderDecoderState."""

    def decode(self, ids: Any, state: Any) -> tuple[Tensor, Any]:
        """logits (B, T, V) after the next tokens (B, T), and the state after them."""


@dataclass(frozen=True)
class Hypothesis:
    """A text that was found: its tokens without bos, the last one eos unless it was cut off at the greatest length."""

    ids: tuple[int, ...]
    log_probability: float
    score: float  # log_probability / length penalty


@dataclass
class _Search:
    """One source: what has ended, and the k beginnings that go on, with their log-probabilities."""

    source: int
    ended: list[Hypothesis] = field(default_factory=list)
    prefixes: list[tuple[int, ...]] = field(default_factory=list)
    totals: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def length_penalty(length: int, alpha: float) -> float:
    """((5 + length) / 6)^alpha, Wu et al. 2016, equation 14."""
    return ((5 + length) / 6) ** alpha


def beam_search(
    model: EncoderDecoder,
    input_ids: Any,
    attention_mask: Any = None,
    beam_size: int = 4,
    alpha: float = 0.6,
    max_length: int | None = None,
    use_cache: bool = True,
) -> list[list[Hypothesis]]:
    """The hypotheses for each source, at most `beam_size` of them, the best score first.

    Args:
        input_ids: (B, Tk) integers on the host.
        attention_mask: (B, Tk), False for padding.
        beam_size: k; 1 is greedy.
        alpha: of the length penalty; the paper of the Transformer uses 0.6.
        max_length: the most tokens of a text, eos included; if None, twice as many as its own source has (without the
            padding) and 10. Never more than the model's context.
        use_cache: False computes all tokens again at each step: the same, slowly.

    Raises:
        ConfigurationError: for a beam, length or penalty that makes no sense.
        TrainingError: if the model gives no distribution (NaN).
    """
    input_ids = np.asarray(input_ids)
    if input_ids.ndim != 2:
        raise ValueError(f"sources have the axes (B, Tk), got {input_ids.shape}: a single one is input_ids[None]")
    if beam_size < 1:
        raise ConfigurationError(f"beam_size={beam_size}: a beam has at least 1 hypothesis, and 1 is greedy")
    if not alpha >= 0:
        raise ConfigurationError(f"the length penalty's alpha={alpha}: it is a number from 0")
    limits = _limits(input_ids, attention_mask, max_length, model.context_length)
    start = np.full(beam_size, -np.inf)
    start[0] = 0.0  # at first there is one beginning, the empty one; the other k - 1 rows do not count
    searches = [_Search(s, prefixes=[()] * beam_size, totals=start) for s in range(len(input_ids))]
    with evaluating(list(model.modules())):
        next_logits = (_Cached if use_cache else _Uncached)(model, input_ids, attention_mask, beam_size)
        active, rows = searches, np.arange(len(input_ids) * beam_size)
        for length in range(1, limits.max(initial=0) + 1):
            if not active:
                break
            last = [prefix for search in active for prefix in search.prefixes]
            log_p = _log_probabilities(next_logits(last, rows, [s.source for s in active]), model.config)
            parents = []
            still = []
            for place, search in enumerate(active):
                mine = slice(place * beam_size, (place + 1) * beam_size)
                is_last = length == limits[search.source]
                chosen = _advance(search, log_p[mine], beam_size, alpha, is_last, model.config.eos_id)
                if len(search.ended) < beam_size and chosen is not None:
                    still.append(search)
                    parents.append(chosen + place * beam_size)
            active, rows = still, np.concatenate(parents) if parents else np.zeros(0, dtype=np.int64)
    return [sorted(search.ended, key=lambda h: -h.score)[:beam_size] for search in searches]


def _limits(input_ids: Any, attention_mask: Any, max_length: int | None, context: int | None) -> NDArray[np.int64]:
    """(B,), the most tokens of each text; a source has the same one in any batch."""
    B, Tk = input_ids.shape
    if max_length is None:
        tokens = np.full(B, Tk) if attention_mask is None else np.asarray(attention_mask).astype(bool).sum(axis=1)
        limits = 2 * tokens + ROOM
    else:
        limits = np.full(B, max_length)
    if context is not None:
        limits = np.minimum(limits, context)
    if (limits < 1).any():
        raise ConfigurationError(f"max_length={max_length}: a text has at least 1 token")
    return limits


def _advance(
    search: _Search, log_p: NDArray[np.float64], k: int, alpha: float, is_last: bool, eos_id: int
) -> NDArray[np.int64] | None:
    """Continue the beginnings of one source, log_p (k, V); which of them the new ones continue, None if none do."""
    V = log_p.shape[1]
    totals = (search.totals[:, None] + log_p).reshape(-1)  # (k V,)
    best = _largest(totals, min(2 * k, totals.size))  # of 2k at most k can end in eos
    going: list[tuple[int, tuple[int, ...], float]] = []
    for rank, candidate in enumerate(best):
        parent, token = divmod(int(candidate), V)
        total = float(totals[candidate])
        if total == -np.inf:
            break
        prefix = (*search.prefixes[parent], token)
        if token == eos_id or is_last:
            if rank < k and len(search.ended) < k:
                search.ended.append(Hypothesis(prefix, total, total / length_penalty(len(prefix), alpha)))
        elif len(going) < k:
            going.append((parent, prefix, total))
    if not going:
        return None
    while len(going) < k:  # a vocabulary smaller than the beam: fill up with rows that do not count
        going.append((going[0][0], going[0][1], -np.inf))
    search.prefixes = [prefix for _, prefix, _ in going]
    search.totals = np.array([total for _, _, total in going])
    return np.array([parent for parent, _, _ in going])


class _Cached:
    """Logits of the next token, from the state that the model keeps for each row."""

    def __init__(self, model: EncoderDecoder, input_ids: Any, attention_mask: Any, k: int) -> None:
        self.model = model
        state = model.encode(input_ids, attention_mask)
        self.state = state.select(np.repeat(np.arange(len(input_ids)), k)) if k > 1 else state
        self.count = len(input_ids) * k

    def __call__(self, prefixes: list[tuple[int, ...]], rows: NDArray[np.int64], sources: list[int]) -> Any:
        if len(rows) != self.count or (rows != np.arange(self.count)).any():
            self.state, self.count = self.state.select(rows), len(rows)
        ids = np.array([[prefix[-1] if prefix else self.model.config.bos_id] for prefix in prefixes])
        logits, self.state = self.model.decode(ids, self.state)
        return logits.data[:, -1]


class _Uncached:
    """The same from the whole of every row."""

    def __init__(self, model: EncoderDecoder, input_ids: Any, attention_mask: Any, k: int) -> None:
        self.model, self.input_ids, self.attention_mask, self.k = model, input_ids, attention_mask, k

    def __call__(self, prefixes: list[tuple[int, ...]], rows: NDArray[np.int64], sources: list[int]) -> Any:
        ids = np.array([[self.model.config.bos_id, *prefix] for prefix in prefixes])
        chosen = np.repeat(sources, self.k)
        mask = None if self.attention_mask is None else self.attention_mask[chosen]
        return self.model(self.input_ids[chosen], ids, mask).data[:, -1]


def _log_probabilities(logits: Any, config: Any) -> NDArray[np.float64]:
    """log p (N, V) on the host; pad and bos, which no label ever was, are left out of the choice."""
    x = log_softmax(to_numpy(logits))
    if np.isnan(x).any():
        raise TrainingError(
            "the model gives no distribution (NaN): its weights are damaged, or its training has diverged; use an "
            "earlier checkpoint"
        )
    x[:, [config.pad_id, config.bos_id]] = -np.inf
    return x


def _largest(values: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Where the n largest are, in order; of equal ones the first."""
    if n < len(values):
        threshold = np.partition(values, len(values) - n)[len(values) - n]
        places = np.flatnonzero(values >= threshold)
    else:
        places = np.arange(len(values))
    return places[np.argsort(-values[places], kind="stable")][:n]



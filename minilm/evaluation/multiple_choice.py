r"""Multiple choice: of several answers, which one does a language model find the most probable?

    score_k = log p(option_k | prompt) = sum_j log p(o_kj | prompt, o_k1 ... o_(k,j-1))

over the tokens o_k1, o_k2, ... of option k (Brown et al. 2020, section 2.4). Nothing is generated, so that the answer
is always one of the options, and a model is judged by what it finds likely, not by how it would have put it.

Prompts that begin alike, with the same examples, are cheap: what all of them have in common is read once, and its keys
and values stay in the cache, which is rewound to there for each batch. In a batch shorter rows are padded at their
ends, where no token sees the padding.

A model finds some options likelier than others whatever is asked: the last one that it has read, the one that is the
commoner word. Contextual calibration (Zhao et al. 2021, section 5) asks first about content-free texts c, such as
"N/A", and takes off what the options have from there:

    calibrated_k = score_k - log mean_c p(option_k | prompt with c)

What this file does not do: options of different lengths are compared as they are, and a longer one is less probable.
Divide by the numbers of tokens (the paper does for some tasks) where that matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minilm.backend import to_numpy, xp
from minilm.errors import DataError, TokenizerError
from minilm.generation import LanguageModel
from minilm.generation.sampling import log_softmax
from minilm.nn import KVCache, evaluating
from minilm.text import Tokenizer

READ_AT_ONCE = 512  # tokens: their logits, (B, T, V), are the largest array


class _Row(NamedTuple):
    """Ids to read, and what to look up in the log-probabilities: (position, id of the next token, option's place)."""

    ids: list[int]
    wanted: list[tuple[int, int, tuple[int, int]]]


def option_log_likelihoods(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    options: Sequence[str],
    batch_tokens: int = READ_AT_ONCE,
    use_cache: bool = True,
) -> NDArray[np.float64]:
    """(N, K): log p(option k | prompt n) in nats.

    Args:
        options: as they follow the prompt, so with a space in front where one belongs: " positive".
        batch_tokens: read at once, the padding included; one row may be longer.
        use_cache: False reads the common beginning again for each row: the same scores, slowly. So does a model with
            a recurrent state, which cannot be rewound.

    Raises:
        DataError: if there are no prompts or options, or a prompt with an option is longer than the model's context.
        TokenizerError: if the tokens of a prompt change where an option follows.
    """
    if not len(prompts) or not len(options) or batch_tokens < 1:
        raise DataError(f"{len(prompts)} prompts, {len(options)} options, {batch_tokens} tokens at once: one at least")
    rows = [row for n, prompt in enumerate(prompts) for row in _rows(tokenizer, n, prompt, options)]
    longest = max(len(row.ids) for row in rows)
    if model.context_length is not None and longest > model.context_length:
        raise DataError(
            f"a prompt has {longest} tokens, and the model sees {model.context_length}: show fewer or shorter examples"
        )
    scores = np.zeros((len(prompts), len(options)))
    # of each row the last token of its prompt must be read anew, for the logits after it
    common = min(_common_length([row.ids for row in rows]), min(row.wanted[0][0] for row in rows)) if use_cache else 0
    with evaluating(model.modules()):
        reader = _Reader(model, rows[0].ids[:common])
        for batch in _batches(rows, len(reader.beginning), batch_tokens):
            logits = reader.logits([row.ids for row in batch])
            flat = [(b, *look) for b, row in enumerate(batch) for look in row.wanted]
            b, position, token, place = (np.array(column) for column in zip(*flat, strict=True))
            position -= len(reader.beginning)
            m = xp(logits)
            x = to_numpy(logits[m.asarray(b), m.asarray(position), : tokenizer.vocab_size])  # (M, V)
            np.add.at(scores, tuple(place.T), log_softmax(x)[np.arange(len(x)), token])
    return scores


def calibrated(scores: NDArray[np.float64], content_free: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (N, K) less what the options have from nothing: content_free (M, K), scores of content-free texts.

    The largest of a row is the class that Zhao et al. (2021, equation 1 with W = diag(p_cf)⁻¹, b = 0) choose.
    """
    most = content_free.max(axis=0)  # (K,)
    return scores - (most + np.log(np.exp(content_free - most).mean(axis=0)))


def _rows(tokenizer: Tokenizer, n: int, prompt: str, options: Sequence[str]) -> Iterator[_Row]:
    """What must be read for one prompt: options that differ in their last token alone share a row."""
    ids = tokenizer.encode(prompt).tolist()
    if not ids:
        raise DataError(f"prompt {n} has no tokens, and a model can only continue what is there")
    rows: dict[tuple[int, ...], _Row] = {}
    for k, option in enumerate(options):
        whole = tokenizer.encode(prompt + option).tolist()
        if len(whole) <= len(ids) or whole[: len(ids)] != ids:
            raise TokenizerError(
                f"the end of prompt {n}, {prompt[-20:]!r}, has other tokens where {option!r} follows: put the space "
                "between them at the beginning of the option"
            )
        row = rows.setdefault(tuple(whole[:-1]), _Row(whole[:-1], []))
        row.wanted.extend((t - 1, whole[t], (n, k)) for t in range(len(ids), len(whole)))
    yield from rows.values()


def _common_length(rows: list[list[int]]) -> int:
    """How many ids all rows have in common at their beginning: as many as the first and the last in their order."""
    first, last = min(rows), max(rows)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _batches(rows: list[_Row], common: int, batch_tokens: int) -> Iterator[list[_Row]]:
    """Rows of like lengths together, the longest first: as many as have `batch_tokens` after their beginning."""
    rows = sorted(rows, key=lambda row: -len(row.ids))
    cuts = [0]
    for place in range(1, len(rows)):
        if (place + 1 - cuts[-1]) * (len(rows[cuts[-1]].ids) - common) > batch_tokens:
            cuts.append(place)
    for begin, end in pairwise([*cuts, len(rows)]):
        yield rows[begin:end]


class _Reader:
    """Logits of rows of which all have the same beginning.

    Attributes:
        beginning: the ids that are read once; none for a model whose state is no list of KVCache.
    """

    def __init__(self, model: LanguageModel, beginning: list[int]) -> None:
        self.model, self.beginning = model, beginning
        self._caches: list[KVCache] = []  # of one row, the beginning
        self._copies: list[KVCache] = []  # of a batch
        self._room = (0, 0)  # rows and tokens of those
        state: Any = None
        for start in range(0, len(beginning), READ_AT_ONCE):
            _, state = model.decode(np.array([beginning[start : start + READ_AT_ONCE]]), state)
        if isinstance(state, list) and all(isinstance(cache, KVCache) for cache in state):
            self._caches = state
        else:
            self.beginning = []

    def logits(self, rows: list[list[int]]) -> Any:
        """(B, T, V), an array: T counts from the end of the beginning to that of the longest row."""
        common = len(self.beginning)
        ids = np.zeros((len(rows), max(map(len, rows)) - common), dtype=np.int64)
        for b, row in enumerate(rows):
            ids[b, : len(row) - common] = row[common:]
        if not common:
            return self.model(ids).data
        B, T = ids.shape
        if self._room[0] == B and self._room[1] >= common + T:
            for cache in self._copies:
                cache.length = common  # rewound
        else:
            self._room = B, common + T
            self._copies = [cache.select([0] * B, capacity=common + T) for cache in self._caches]
        logits, _ = self.model.decode(ids, self._copies)
        return logits.data

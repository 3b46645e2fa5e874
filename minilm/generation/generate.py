"""Prompt ids in, new ids out: the loop of model, logits, draw, model.

    logits_t = model(ids_1 .. ids_t),   ids_(t+1) ~ softmax(logits_t)

Computed so, token t costs t times as much as the first. `model.decode` is given the new ids only and keeps
what it needs of the past: keys and values (GPT), or the recurrent state (LSTM). The logits are the same, to
1e-5, which a test says; `use_cache=False` is the formula above, to compare with.

Gradients are off and the model is in evaluation mode while it computes, and only then: between two tokens
everything is as the caller left it. (A generator that yields inside `with no_grad()` would turn recording
off for its caller, and leave a model in evaluation mode whose reader stops early.)

One sequence at a time; text is the matter of `streaming`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.backend import to_numpy
from minilm.errors import ConfigurationError, DataError
from minilm.generation.sampling import SamplingSettings
from minilm.nn import KVCache, Module, evaluating
from minilm.random import Generator, current_generator
from minilm.tensor import Tensor
from minilm.text import check_token_ids

PROMPT_PIECE = 256  # tokens of a prompt at once: their logits, (1, T, V), are large, and only the last row is used


class LanguageModel(Protocol):
    """What generation asks of a model; those in minilm.models have it."""

    @property
    def config(self) -> Any:
        """Has `vocab_size`, V."""

    @property
    def context_length(self) -> int | None:
        """The most tokens that it sees at once; None if there is no such number."""

    def modules(self) -> Iterator[Module]:
        """All its modules, whose mode is switched."""

    def __call__(self, ids: Any, /) -> Tensor:
        """ids (1, T) -> logits (1, T, V)."""

    def decode(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        """The same for ids that follow those in `state` (None at the start), and the state after them."""


class NextToken:
    """The logits of the next token, for a sequence that grows: what the model has seen it is not shown again.

    A model with a `context_length` (GPT) sees at most that many tokens, the last ones. Once the sequence is
    longer, every token moves to another position at each step: no cached key is right any more, and the
    window is computed afresh.

    vocab_size: how many tokens there are, where the model knows more, to round its sizes up; all of them if None.
    """

    def __init__(self, model: LanguageModel, use_cache: bool = True, vocab_size: int | None = None) -> None:
        self.model, self.use_cache, self.vocab_size = model, use_cache, vocab_size
        self._modules = list(model.modules())
        self._state: Any = None
        self._seen = 0  # tokens in the state

    def logits(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """(V,) on the host, of the token after `ids` (t,): those of the last call and at least one more, unless
        `rewind` was called in between.
        """
        if len(ids) <= self._seen:
            raise ValueError(f"{self._seen} tokens were seen and {len(ids)} are given: add one, or rewind first")
        limit = self.model.context_length
        with evaluating(self._modules):
            if limit is not None and len(ids) > limit:
                self._state, self._seen = None, 0  # frees the cache
                logits = self.model(_batch_of_one(ids[-limit:]))
            elif not self.use_cache:
                logits = self.model(_batch_of_one(ids))
            else:
                for begin in range(self._seen, len(ids), PROMPT_PIECE):
                    piece = _batch_of_one(ids[begin : begin + PROMPT_PIECE])
                    logits, self._state = self.model.decode(piece, self._state)
                self._seen = len(ids)
        # one row: the one transfer for a token
        return to_numpy(logits.data[0, -1, : self.vocab_size]).astype(np.float64)

    def rewind(self, length: int) -> None:
        """Forget what came after the first `length` tokens; the next ids begin with those.

        Keys and values of a cache are simply given up. A recurrent state cannot go back: it is computed again.
        """
        if length >= self._seen:
            return
        caches = self._state if isinstance(self._state, list) else []
        if caches and all(isinstance(cache, KVCache) for cache in caches):
            for cache in caches:
                cache.length = length
            self._seen = length
        else:
            self._state, self._seen = None, 0


def generate_tokens(
    model: LanguageModel,
    prompt_ids: ArrayLike,
    max_new_tokens: int,
    settings: SamplingSettings | None = None,
    generator: Generator | None = None,
    use_cache: bool = True,
    stop_ids: Collection[int] = (),
    vocab_size: int | None = None,
) -> Iterator[int]:
    """The ids that the model writes after a prompt, each as soon as it is drawn; stop whenever you like.

    Args:
        prompt_ids: (T,) integers, at least one. Of a prompt longer than the model's context only the last
            `context_length` tokens are seen, as is the case for every token that is generated.
        settings: how to choose; `SamplingSettings()` if None.
        generator: of the draws, one for each token; the current one if None.
        use_cache: False computes everything again for each token: the same ids, slowly.
        stop_ids: tokens that end the text, such as the one after which another speaker has the turn: generation ends
            when one is drawn, and it is not among the ids.
        vocab_size: draw from the first so many tokens only; see `NextToken`.

    Raises:
        DataError: if the prompt is empty.
        TokenizerError: for an id outside the vocabulary, in the prompt or in stop_ids.
        ConfigurationError: if max_new_tokens is negative.
        TrainingError: at the token for which the model gives no distribution (NaN).
    """
    ids = _prompt(prompt_ids, model.config.vocab_size)
    if max_new_tokens < 0:
        raise ConfigurationError(f"max_new_tokens={max_new_tokens}: it is a number of tokens, from 0")
    check_token_ids(list(stop_ids), model.config.vocab_size)
    # in a function of its own: here the arguments are checked at the call, not at the first token
    settings, generator = settings or SamplingSettings(), generator or current_generator()
    next_token = NextToken(model, use_cache, vocab_size)
    return continue_tokens(next_token, ids, max_new_tokens, settings, generator, stop_ids)


def continue_tokens(
    next_token: NextToken,
    ids: list[int],
    max_new_tokens: int,
    settings: SamplingSettings,
    generator: Generator,
    stop_ids: Collection[int] = (),
) -> Iterator[int]:
    """The loop of `generate_tokens`, with a state that outlives it: a conversation goes on with `next_token`.

    Each id that is yielded has been appended to `ids`, the prompt at first.
    """
    for _ in range(max_new_tokens):
        drawn = settings.choose(next_token.logits(ids), ids, generator)
        if drawn in stop_ids:
            return
        ids.append(drawn)
        yield drawn


def generate(
    model: LanguageModel,
    prompt_ids: ArrayLike,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    use_cache: bool = True,
    stop_ids: Collection[int] = (),
) -> NDArray[np.int64]:
    """The new ids (max_new_tokens,) after one prompt (T,), all at once; see `generate_tokens`.

    With `stop_ids` there may be fewer.

    Args:
        seed: of a generator for this call alone; without one the current generator goes on.
    """
    settings = SamplingSettings(temperature, top_k, top_p, repetition_penalty)
    generator = current_generator() if seed is None else Generator(seed)
    tokens = generate_tokens(model, prompt_ids, max_new_tokens, settings, generator, use_cache, stop_ids)
    return np.fromiter(tokens, dtype=np.int64)


def _batch_of_one(ids: Sequence[int]) -> NDArray[np.int64]:
    return np.array([ids], dtype=np.int64)  # (1, T)


def _prompt(prompt_ids: ArrayLike, vocab_size: int) -> list[int]:
    ids = np.asarray(prompt_ids)
    if ids.ndim != 1:
        raise ValueError(
            f"prompt_ids are one sequence (T,), got the shape {ids.shape}: generate for one row at a time"
        )
    if ids.size == 0:
        raise DataError(
            "the prompt has no tokens, and a model can only continue what is there: give at least one, "
            'such as a line break ("\\n")'
        )
    check_token_ids(ids, vocab_size)
    return ids.tolist()

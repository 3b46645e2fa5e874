"""Prompt text in, new text out, shown while it is written.

Between an id and text that may be shown stand two doubts. A token may be a part of a character (bytes), or
its text may depend on the token before (words): the tokenizer's stream decoder holds back what is not
certain. And text that looks like the beginning of a stop string may turn out to be one: `until_stop` holds
it back until it is not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from minilm.errors import ConfigurationError, TokenizerError
from minilm.generation.generate import LanguageModel, generate_tokens
from minilm.generation.sampling import SamplingSettings
from minilm.random import Generator
from minilm.text import Tokenizer


def stream_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    settings: SamplingSettings | None = None,
    generator: Generator | None = None,
    stop: str | Sequence[str] = (),
    use_cache: bool = True,
    stop_ids: Collection[int] = (),
) -> Iterator[str]:
    """The text that the model writes after a prompt, in pieces, none of them empty.

    Joined, they are what the new ids add to the decoded prompt. Generation ends after `max_new_tokens`, or
    where one of the `stop` strings is complete; that string and what follows is never shown. Only tokens that the
    tokenizer has are drawn. The other arguments and errors are those of `generate_tokens`.

    Raises:
        TokenizerError: for a prompt that the tokenizer cannot write, or a tokenizer that is not this model's.
        ConfigurationError: for an empty stop string.
    """
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if "" in stops:
        raise ConfigurationError("an empty stop string would stop before the first token: leave it out")
    if tokenizer.vocab_size > model.config.vocab_size:  # it may have fewer: models round their sizes up
        raise TokenizerError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model {model.config.vocab_size}: use "
            "the tokenizer that the model was trained with"
        )
    prompt_ids = tokenizer.encode(prompt)
    tokens = generate_tokens(
        model, prompt_ids, max_new_tokens, settings, generator, use_cache, stop_ids, tokenizer.vocab_size
    )
    return until_stop(decoded(tokenizer, prompt_ids.tolist(), tokens), stops)


def generate_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    settings: SamplingSettings | None = None,
    generator: Generator | None = None,
    stop: str | Sequence[str] = (),
    use_cache: bool = True,
    stop_ids: Collection[int] = (),
) -> str:
    """All of `stream_text` in one string, without the prompt."""
    pieces = stream_text(model, tokenizer, prompt, max_new_tokens, settings, generator, stop, use_cache, stop_ids)
    return "".join(pieces)


def decoded(tokenizer: Tokenizer, prompt_ids: Iterable[int], tokens: Iterable[int]) -> Iterator[str]:
    """The text of `tokens` after `prompt_ids`, in pieces that are certain; some may be empty."""
    decoder = tokenizer.stream_decoder()
    for token in prompt_ids:  # so that a first word is written as one that follows the prompt
        decoder.push(token)
    for token in tokens:
        yield decoder.push(token)
    yield decoder.flush()


def until_stop(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The text of `pieces` up to the stop string that is complete first, and not a character of that.

    Where several are complete at the same character, the one that began first counts. How the text is cut
    into pieces makes no difference. What is yielded is certain, and never empty.
    """
    held = ""  # the longest end of the text that a stop string could begin with
    for piece in pieces:
        held += piece
        found = [(begin + len(stop), begin) for stop in stops if (begin := held.find(stop)) >= 0]
        if found:
            held = held[: min(found)[1]]
            break
        certain = len(held) - _unfinished(held, stops)
        if certain:
            yield held[:certain]
            held = held[certain:]
    if held:
        yield held


def _unfinished(text: str, stops: Sequence[str]) -> int:
    """The length of the longest end of `text` that is the beginning of a stop string."""
    longest = min(len(text), max((len(stop) - 1 for stop in stops), default=0))
    return next((n for n in range(longest, 0, -1) if any(stop.startswith(text[-n:]) for stop in stops)), 0)

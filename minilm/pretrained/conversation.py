"""A conversation with a chat model, in which each turn costs no more than its own tokens.

Of the whole conversation, as the template writes it, only what comes after the part that the model has seen is
computed: keys and values of the rest are in the cache. Where the context would be exceeded, the oldest question and
answer are forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minilm.errors import ConfigurationError, DataError
from minilm.generation import NextToken, SamplingSettings, continue_tokens, decoded
from minilm.pretrained.chat import ChatTemplate, Message
from minilm.random import Generator, current_generator


@dataclass
class Turn:
    """What a reply took: tokens read and written, and the seconds until the first of them and from then on."""

    read: int = 0
    written: int = 0
    seconds_to_first: float = 0.0
    seconds_writing: float = 0.0


class Conversation:
    """Messages so far, and a model that has seen them.

    Args:
        system: what the model is told first; the template's own words if None.
        settings: how it chooses its words; by default nearly always the most probable, as suits a small model.
        max_new_tokens: in a reply.

    Raises:
        ConfigurationError: if the model's context has no room for a reply.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        template: ChatTemplate,
        system: str | None = None,
        settings: SamplingSettings | None = None,
        generator: Generator | None = None,
        max_new_tokens: int = 512,
    ) -> None:
        if not 0 < max_new_tokens < model.context_length:
            raise ConfigurationError(
                f"max_new_tokens={max_new_tokens} (--tokens): a reply has from 1 to {model.context_length - 1} tokens, "
                "what this model's context has room for"
            )
        self.tokenizer, self.template, self.max_new_tokens = tokenizer, template, max_new_tokens
        self.settings = settings or SamplingSettings(temperature=0.2, top_p=0.9)
        self.generator = generator or current_generator()
        self.context_length = model.context_length
        self.messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self.forgotten = 0  # messages
        self.turns: list[Turn] = []
        self._next_token = NextToken(model, vocab_size=tokenizer.vocab_size)
        self._ids: list[int] = []  # the model has seen these, but perhaps for the last

    def reply(self, text: str) -> Iterator[str]:
        """What the model answers to `text`, in pieces, as it writes them; it is then part of the conversation.

        Raises:
            DataError: if the message alone is longer than the context; it is not part of the conversation then.
        """
        messages: list[Message] = [*self.messages, {"role": "user", "content": text}]
        room = self.context_length - self.max_new_tokens
        first = int(messages[0]["role"] == "system")
        while len(ids := self.template.encode(self.tokenizer, messages)) > room:
            if len(messages) < first + 3:
                raise DataError(
                    f"the message is too long: with what comes before it there are {len(ids)} tokens, and the model "
                    f"has room for {room}, if its reply may have {self.max_new_tokens}"
                )
            del messages[first : first + 2]
        self.forgotten += len(self.messages) + 1 - len(messages)
        self.messages = messages
        return self._write(ids)

    def _write(self, ids: list[int]) -> Iterator[str]:
        prompt_length, started, turn = len(ids), time.perf_counter(), Turn()
        self.turns.append(turn)
        common = _common(ids, self._ids)
        self._next_token.rewind(min(common, prompt_length - 1))
        turn.read = prompt_length - common
        self._ids = ids

        def tokens() -> Iterator[int]:
            new = continue_tokens(
                self._next_token, ids, self.max_new_tokens, self.settings, self.generator, self.template.stop_ids
            )
            for token in new:
                now = time.perf_counter() - started
                turn.seconds_to_first = turn.seconds_to_first or now
                turn.written, turn.seconds_writing = turn.written + 1, now - turn.seconds_to_first
                yield token

        pieces: list[str] = []
        try:
            for piece in decoded(self.tokenizer, ids[:prompt_length], tokens()):
                if piece:
                    pieces.append(piece)
                    yield piece
        finally:  # also if the reader has had enough
            self.messages.append({"role": "assistant", "content": "".join(pieces), "ids": ids[prompt_length:]})


def _common(a: list[int], b: list[int]) -> int:
    """How many ids two lists have in common at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

"""The most probable reply to each of many prompts, for scoring: greedy, up to a token that stops it.

One prompt after the other, in their own order. What a prompt has in common with the one before (the same system
message, the same instruction) is not read again: the cache is rewound to where they part.

What this file does not do: draw, or write several replies at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from minilm.generation.generate import LanguageModel, NextToken, continue_tokens
from minilm.generation.sampling import SamplingSettings
from minilm.random import Generator
from minilm.text import Tokenizer


def greedy_replies(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
) -> list[str]:
    """The text that follows each prompt (T,): at each step the most probable token, at most `max_new_tokens`."""
    next_token = NextToken(model, vocab_size=tokenizer.vocab_size)
    greedy, unused = SamplingSettings(temperature=0), Generator(0)
    replies: list[str] = []
    seen: list[int] = []
    for prompt in prompts:
        ids = [int(index) for index in prompt]
        common = next((i for i, (a, b) in enumerate(zip(ids, seen, strict=False)) if a != b), min(len(ids), len(seen)))
        next_token.rewind(min(common, len(ids) - 1))
        new = list(continue_tokens(next_token, ids, max_new_tokens, greedy, unused, stop_ids))
        replies.append(tokenizer.decode(new))
        seen = ids
    return replies

"""Special tokens: tokens that no text makes, such as <|endoftext|> between documents or [CLS] before a sentence.

A model obeys them: "<|im_end|>" ends the turn of who speaks. So text from outside must not be able to make one, and by
default it cannot: a text that looks like a special token is encoded like any other text. Who writes the special
tokens into the text (a chat template does) says which are meant:

    tokenizer.encode("Hi<|endoftext|>")                                          # ordinary text, several tokens
    tokenizer.encode("Hi<|endoftext|>", allowed_special=["<|endoftext|>"])       # the last token is the special one
    tokenizer.encode("Hi<|endoftext|>", allowed_special="all")
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from minilm.errors import TokenizerError

AllowedSpecial = Literal["all"] | Collection[str]


class SpecialTokens:
    """ids: {"<|endoftext|>": 50256}, as the tokenizer that has them tells."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self.ids = dict(ids)
        if "" in self.ids:
            raise TokenizerError("a special token must have at least one character")

    def split(self, text: str, allowed: AllowedSpecial) -> Iterator[tuple[str, int | None]]:
        """The text in parts: (ordinary text, None) or (special token, its id). Where two could begin: the longest.

        Raises TokenizerError for an allowed token that is none of these.
        """
        if isinstance(allowed, str) and allowed != "all":
            raise TypeError(f'allowed_special is "all" or a list of tokens, not the string {allowed!r}')
        names = self.ids if allowed == "all" else allowed
        for name in names:
            if name not in self.ids:
                raise TokenizerError(
                    f"{name!r} is not a special token of this tokenizer: it has {', '.join(self.ids) or 'none'}"
                )
        if not names:
            yield text, None
            return
        longest_first = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        for part in re.split(f"({longest_first})", text):
            if part:
                yield part, self.ids[part] if part in names else None

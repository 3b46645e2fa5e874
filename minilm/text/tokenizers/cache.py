"""Words repeat: what a word was encoded to is remembered, and most of a text is looked up instead of encoded."""

from collections.abc import Callable, Sequence

MOST_WORDS = 1 << 17  # some 30 MB; then it begins anew, so that a text of random words does not fill the memory
LONGEST_WORD = 100  # characters; what is longer does not come again


class WordCache(dict[str, Sequence[int]]):
    """cache[word] is encode(word), which must depend on the word alone."""

    def __init__(self, encode: Callable[[str], Sequence[int]]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, word: str) -> Sequence[int]:
        ids = self._encode(word)
        if len(word) <= LONGEST_WORD:
            if len(self) >= MOST_WORDS:
                self.clear()
            self[word] = ids
        return ids

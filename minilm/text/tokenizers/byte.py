"""The second rung: a token is a byte of the text's UTF-8 form.

256 ids write any text in any language, and nothing is trained. The price: texts in other scripts become two
to four times as long, and a model can generate bytes that are not UTF-8. `decode` writes U+FFFD for those, so
it is the inverse of `encode` but encode is not the inverse of decode.
"""

import codecs
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import TokenizerError
from minilm.text.tokenizers.base import StreamDecoder, Tokenizer, as_token_ids

SINGLE_BYTES = tuple(bytes([value]) for value in range(256))


class ByteTokenizer(Tokenizer):
    """The id of a byte is its value."""

    type = "byte"

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, text: str) -> NDArray[np.int64]:
        return np.frombuffer(utf8(text), dtype=np.uint8).astype(np.int64)

    def decode(self, ids: ArrayLike) -> str:
        data = as_token_ids(ids, self.vocab_size).astype(np.uint8).tobytes()
        return data.decode("utf-8", errors="replace")

    def stream_decoder(self) -> StreamDecoder:
        return Utf8StreamDecoder(self, SINGLE_BYTES)

    def to_dict(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        return cls()


def utf8(text: str) -> bytes:
    """text in UTF-8. Raises TokenizerError, naming the place, for half of a UTF-16 pair: it has no UTF-8 form."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the character {text[error.start]!r} at position {error.start} is a lone surrogate, which "
            "UTF-8 cannot write: repair the text first (minilm.text.clean)"
        ) from error


class Utf8StreamDecoder(StreamDecoder):
    """Holds the bytes of an unfinished character back until the last of them has come.

    pieces: what each id stands for, V byte strings.
    """

    def __init__(self, tokenizer: Tokenizer, pieces: Sequence[bytes]) -> None:
        super().__init__(tokenizer)
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        (index,) = as_token_ids([token_id], self.tokenizer.vocab_size).tolist()
        return self._decoder.decode(self._piece(index))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)

    def _piece(self, index: int) -> bytes:
        return self._pieces[index]

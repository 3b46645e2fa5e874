"""A tokenizer turns text into integers, the ids 0 .. vocab_size - 1, and back.

All tokenizers share this interface, whatever their unit is:

    ids = tokenizer.encode(text)          # (T,) int64
    text = tokenizer.decode(ids)
    tokenizer.save(path); load_tokenizer(path)

and differ in what a token is: that is the one idea of each file beside this one. A tokenizer never changes
once it is made, so its `fingerprint()` names it: a checkpoint or a token file that stores the fingerprint can
tell whether the ids that it holds were made by the tokenizer at hand.
"""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import TokenizerError
from minilm.text.files import atomic_write
from minilm.text.strict_json import parse_json

FORMAT_VERSION = 1
_TYPES: dict[str, type["Tokenizer"]] = {}


class Tokenizer(ABC):
    """What every tokenizer offers. A subclass sets `type`, the name that its JSON file carries."""

    type: ClassVar[str]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        _TYPES[cls.type] = cls

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """V: the ids are 0 .. V - 1."""

    @abstractmethod
    def encode(self, text: str) -> NDArray[np.int64]:
        """text -> ids (T,). Raises TokenizerError for a text that the vocabulary cannot write."""

    @abstractmethod
    def decode(self, ids: ArrayLike) -> str:
        """ids (T,) -> text. Raises TokenizerError for an id outside the vocabulary."""

    def stream_decoder(self) -> "StreamDecoder":
        """Decodes one id at a time, for text that is shown while it is generated."""
        return StreamDecoder(self)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """What JSON must hold to make this tokenizer again, without `type` and `version`."""

    @classmethod
    @abstractmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""

    def to_json(self) -> str:
        """The tokenizer as one canonical JSON text: equal tokenizers give equal texts."""
        content = {"type": self.type, "version": FORMAT_VERSION, **self.to_dict()}
        return json.dumps(content, sort_keys=True)

    def fingerprint(self) -> str:
        """SHA-256 of `to_json()`, in hexadecimal: 64 characters that differ when the tokenizer differs."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON file in one step: after a crash or on a full disk the old file is still there."""
        try:
            with atomic_write(path) as file:
                file.write(self.to_json().encode("ascii"))
        except OSError as error:
            raise TokenizerError(
                f"the tokenizer was not saved to {os.fspath(path)}: {error.strerror}"
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that `save` wrote; `CharTokenizer.load` refuses the file of another type."""
        tokenizer = load_tokenizer(path)
        if not isinstance(tokenizer, cls):
            raise TokenizerError(
                f"{os.fspath(path)} holds a {tokenizer.type!r} tokenizer, not a {cls.type!r} one: "
                f"read it with {type(tokenizer).__name__}.load or load_tokenizer"
            )
        return tokenizer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"


class StreamDecoder:
    """Joined together, the texts from `push` and the one from `flush` equal `tokenizer.decode(ids)`.

    This one serves where each token is a text of its own. Where a token may be a part of a character (bytes),
    or its text depends on its neighbour (words), the tokenizer returns a decoder that remembers what it
    needs.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def push(self, token_id: int) -> str:
        """The text that is certain once this token is known; it may be empty."""
        return self.tokenizer.decode([token_id])

    def flush(self) -> str:
        """What is left at the end, such as the mark for a character that was never finished."""
        return ""


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Read the file that any tokenizer's `save` wrote; the file says which tokenizer it is.

    Raises TokenizerError for a file that is missing, is not JSON, or is not a tokenizer of this library.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"cannot read the tokenizer {os.fspath(path)}: {error}") from error
    return tokenizer_from_json(text, os.fspath(path))


def tokenizer_from_json(text: str, where: str = "this text") -> Tokenizer:
    """The inverse of `Tokenizer.to_json`; `where` names the source in error messages."""
    try:
        content = parse_json(text)
    except ValueError as error:
        raise TokenizerError(f"{where} is not a tokenizer file: it is not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("type") not in list(_TYPES):
        found = content.get("type") if isinstance(content, dict) else None
        raise TokenizerError(
            f'{where} is not a tokenizer file of this library: its "type" is {found!r}, and must be one of '
            f"{', '.join(sorted(_TYPES))}"
        )
    if content.get("version") != FORMAT_VERSION:
        raise TokenizerError(
            f"{where} has format version {content.get('version')!r}, and this minilm reads version "
            f"{FORMAT_VERSION}: use the minilm that wrote it, or train the tokenizer again"
        )
    try:
        return _TYPES[content["type"]].from_dict(content)
    except (KeyError, TypeError) as error:
        raise TokenizerError(
            f"{where} is a damaged tokenizer file: {type(error).__name__} {error}"
        ) from error


def read_vocabulary_file(path: str | os.PathLike[str]) -> str:
    """The text of a published vocabulary file, which must be UTF-8; its line ends are left as they are."""
    try:
        return Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise TokenizerError(f"there is no vocabulary file {os.fspath(path)}: check the name") from None
    except OSError as error:
        raise TokenizerError(f"cannot read the vocabulary file {os.fspath(path)}: {error}") from error
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{os.fspath(path)} is not a vocabulary file: it is not UTF-8 ({error})") from error


def check_token_ids(ids: ArrayLike, vocab_size: int) -> None:
    """Raise TokenizerError, naming the first bad id and its position, unless all ids are in 0 .. vocab_size -
    1.

    ids: integers of any shape. A float or boolean array raises TypeError: it is a mistake in a program.
    """
    array = np.asarray(ids)
    if array.size == 0:  # an empty list arrives as float64
        return
    if array.dtype.kind not in "iu":
        raise TypeError(f"token ids must be integers, and these have dtype {array.dtype}: convert them first")
    if array.min() >= 0 and array.max() < vocab_size:
        return
    first = int(np.flatnonzero((array < 0) | (array >= vocab_size))[0])
    position = first if array.ndim == 1 else tuple(int(i) for i in np.unravel_index(first, array.shape))
    raise TokenizerError(
        f"token id {array.flat[first]} at position {position} is outside the vocabulary: ids must be in "
        f"0 .. {vocab_size - 1}. Encode the text with the tokenizer that belongs to the model"
    )


def as_token_ids(ids: ArrayLike, vocab_size: int) -> NDArray[np.int64]:
    """ids as a checked (T,) int64 array: the first line of every `decode`."""
    array = np.asarray(ids)
    if array.ndim != 1:
        raise ValueError(
            f"decode takes one sequence of ids, shape (T,), and got shape {array.shape}: decode each row"
        )
    check_token_ids(array, vocab_size)
    return array.astype(np.int64, copy=False)


def as_texts(texts: str | Iterable[str]) -> Iterable[str]:
    """The texts to train on: one string is one text, not a sequence of one-character texts."""
    return [texts] if isinstance(texts, str) else texts


def strings(content: dict[str, Any], key: str) -> Sequence[str]:
    """A list of strings out of a JSON file, or TypeError, which `tokenizer_from_json` reports as damage."""
    value = content[key]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{key!r} must be a list of strings")
    return value

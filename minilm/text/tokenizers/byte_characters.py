"""Bytes written as printable characters, as in the vocabulary files of GPT-2 and of all who followed it.

A token of a byte-level tokenizer may be any bytes: a space, a line break, half of a character. To list tokens in JSON
or one to a line, each byte is written as one character. The 188 bytes that are printable in Latin-1 stand for
themselves; the other 68, in order, become U+0100, U+0101, ... So the space (0x20) is U+0120, the line break (0x0A) is
U+010A, and the token " the" is written as U+0120 and "the".

GPT-2 numbers the bytes in the order of these characters: "!" is 0 and the space 220.
"""

from minilm.errors import TokenizerError

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = sorted({*range(256)} - {*_PRINTABLE})

BYTE_OF = {chr(byte): byte for byte in _PRINTABLE} | {chr(0x100 + n): byte for n, byte in enumerate(_OTHERS)}
CHARACTERS = tuple(BYTE_OF)  # in the order of GPT-2's ids
CHARACTER_OF = tuple(sorted(BYTE_OF, key=BYTE_OF.__getitem__))  # CHARACTER_OF[byte]


def as_characters(data: bytes) -> str:
    """One character for each byte."""
    return "".join([CHARACTER_OF[byte] for byte in data])


def as_bytes(characters: str) -> bytes:
    """The inverse of `as_characters`. Raises TokenizerError for a character that stands for no byte."""
    try:
        return bytes([BYTE_OF[character] for character in characters])
    except KeyError as error:
        raise TokenizerError(
            f"the token {characters!r} has the character {error.args[0]!r}, which stands for no byte: in such a "
            "vocabulary each byte is written as one printable character (a space as U+0120)"
        ) from None

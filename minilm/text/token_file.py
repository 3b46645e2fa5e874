"""Token files: ids on disk, read by memory map, so that a corpus larger than memory trains.

A file is a header of 128 bytes and then the ids, little-endian, two bytes each while the vocabulary fits (at
most 65,536 ids) and four otherwise. The header:

    bytes    0 .. 7     the magic bytes "MINILMTK"
             8 .. 11    format version, uint32
            12 .. 15    bytes per id, uint32: 2 or 4
            16 .. 23    number of ids, uint64
            24 .. 31    vocabulary size, uint64
            32 .. 95    fingerprint of the tokenizer, 64 hexadecimal characters or zeros if unknown
            96 .. 127   zeros

The file does not hold the tokenizer: save it beside. The ids are not compressed, since a memory map must find
each.
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import DataError, TokenizerError
from minilm.text.files import atomic_write
from minilm.text.tokenizers.base import check_token_ids

MAGIC = b"MINILMTK"
VERSION = 1
HEADER_BYTES = 128
_HEADER = struct.Struct("<8sIIQQ64s32x")


@dataclass(frozen=True)
class TokenFileHeader:
    """What a token file says about itself. fingerprint is "" when the writer gave none."""

    count: int
    vocab_size: int
    dtype: np.dtype[Any]
    fingerprint: str


def write_token_file(
    path: str | os.PathLike[str], pieces: Iterable[ArrayLike], vocab_size: int, fingerprint: str = ""
) -> TokenFileHeader:
    """Write the ids of all pieces, one after another; only one piece need be in memory at a time.

    pieces: arrays (T,) of ids, such as `map(tokenizer.encode, documents)`. fingerprint:
    `tokenizer.fingerprint()`. The file appears under its name only when it is whole. Raises TokenizerError
    for an id outside 0 .. vocab_size - 1, and DataError when there are no ids at all or the disk refuses.
    """
    dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
    count = 0
    try:
        with atomic_write(path) as file:
            file.write(bytes(HEADER_BYTES))  # the real one is written when the count is known
            for piece in pieces:
                ids = np.asarray(piece).reshape(-1)
                check_token_ids(ids, vocab_size)
                file.write(ids.astype(dtype).tobytes())
                count += len(ids)
            if count == 0:
                raise DataError(f"there are no tokens to write to {os.fspath(path)}: is the text empty?")
            file.seek(0)
            file.write(
                _HEADER.pack(MAGIC, VERSION, dtype.itemsize, count, vocab_size, fingerprint.encode("ascii"))
            )
    except OSError as error:
        raise DataError(
            f"the token file {os.fspath(path)} was not written: {error.strerror}. If there was one, it is "
            "unchanged"
        ) from error
    return TokenFileHeader(count, vocab_size, dtype, fingerprint)


def read_token_file_header(path: str | os.PathLike[str]) -> TokenFileHeader:
    """The header of a token file, checked against the file's size.

    Raises DataError for a file that is missing, is not a token file, or was cut short.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DataError(f"cannot read the token file {name}: {error.strerror}") from error
    if raw[: len(MAGIC)] != MAGIC:
        raise DataError(f"{name} is not a token file: make one from text with write_token_file")
    if len(raw) < HEADER_BYTES:
        raise DataError(
            f"the token file {name} is cut short: {size} bytes, less than its header. Write it again"
        )
    _, version, itemsize, count, vocab_size, fingerprint = _HEADER.unpack(raw)
    if version != VERSION or itemsize not in (2, 4):
        raise DataError(
            f"{name} is a token file of version {version}, and this minilm reads {VERSION}: write it again"
        )
    expected = HEADER_BYTES + count * itemsize
    if size != expected or count == 0:
        raise DataError(
            f"the token file {name} is damaged: its header says {count} tokens, which makes {expected} "
            f"bytes, and it has {size}. Write it again"
        )
    return TokenFileHeader(
        count, vocab_size, np.dtype(f"<u{itemsize}"), fingerprint.rstrip(b"\0").decode("ascii")
    )


def open_token_file(path: str | os.PathLike[str], fingerprint: str | None = None) -> NDArray[Any]:
    """The ids (N,), uint16 or uint32, as a read-only memory map: pages are read when they are touched.

    fingerprint: that of the tokenizer at hand. Raises TokenizerError when the file was made by another one,
    and DataError as `read_token_file_header` does.
    """
    header = read_token_file_header(path)
    if fingerprint is not None and header.fingerprint != fingerprint:
        raise TokenizerError(
            f"the token file {os.fspath(path)} was made by another tokenizer (fingerprint "
            f"{header.fingerprint[:12] or 'not given'}, not {fingerprint[:12]}): encode the text again"
        )
    return np.memmap(Path(path), dtype=header.dtype, mode="r", offset=HEADER_BYTES, shape=(header.count,))

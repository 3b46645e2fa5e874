r"""Documents from files: text, folders, CSV, JSON lines, each also compressed with gzip.

    read_text(path)         one text file, whole
    iter_text(path)         the same in pieces of whole lines, for files larger than memory
    read_documents(path)    whatever path is: a list of documents
    iter_documents(path)    the same, one at a time

Text is UTF-8, with or without a byte order mark, and all line ends become "\n". Bytes that are not UTF-8 are
an error that says where, unless errors is "replace" (each becomes U+FFFD) or "ignore". Nothing is cleaned
here: see `cleaning`.
"""

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, cast

from minilm.errors import DataError

Errors = Literal["strict", "replace", "ignore"]
PathLike = str | os.PathLike[str]

TEXT_ENDINGS = (".txt", ".text", ".md", ".markdown", ".rst", ".tex")  # what counts as text in a folder
PIECE_BYTES = 1 << 20
LONGEST_FIELD = 2**31 - 1  # csv refuses fields above 131,072 characters, and a document may well be longer


def read_text(path: PathLike, errors: Errors = "strict") -> str:
    """The text of one file. Raises DataError when it is missing, empty or not UTF-8."""
    text = "".join(iter_text(path, errors))
    if not text:
        raise DataError(f"{os.fspath(path)} is empty: there is no text to read")
    return text


def iter_text(path: PathLike, errors: Errors = "strict") -> Iterator[str]:
    """The text of one file in pieces of about a megabyte, each of whole lines. An empty file has none."""
    if errors not in ("strict", "replace", "ignore"):
        raise ValueError(f'errors must be "strict", "replace" or "ignore", not {errors!r}')
    byte, line = 0, 1  # where the piece begins
    try:
        with _open(Path(path)) as file:
            while lines := file.readlines(PIECE_BYTES):
                piece = b"".join(lines)
                text = _decode(piece, errors, byte, line, path)
                if byte == 0:
                    text = text.removeprefix("\ufeff")
                yield text.replace("\r\n", "\n").replace("\r", "\n")
                byte, line = byte + len(piece), line + len(lines)
    except FileNotFoundError:
        raise DataError(f"there is no file {os.fspath(path)}: check the name") from None
    except IsADirectoryError:
        raise DataError(f"{os.fspath(path)} is a folder, and a file is needed here: name one in it") from None
    except (OSError, EOFError, zlib.error) as error:  # a folder, no permission, a damaged .gz
        raise DataError(f"cannot read {os.fspath(path)}: {error}") from error


def read_documents(
    path: PathLike, text_column: str = "text", errors: Errors = "strict", numbers: bool = False
) -> list[str]:
    """All documents of `iter_documents`, in a list."""
    return list(iter_documents(path, text_column, errors, numbers))


def iter_documents(
    path: PathLike, text_column: str = "text", errors: Errors = "strict", numbers: bool = False
) -> Iterator[str]:
    """The documents of a path, one at a time.

    A folder gives one document for each of its text files (TEXT_ENDINGS), all levels down, in the order of
    their names; hidden and empty files are passed over. A .csv or .tsv file gives the column text_column of
    each row, a .jsonl file that field of each line, and any other file is one document. ".gz" after the
    ending is unpacked. With `numbers`, a whole number in a .jsonl file is taken for its digits: the name of a class
    may be one. Raises DataError when there is nothing to read, or naming the place, when it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        documents = _from_folder(path, errors)
    elif (ending := _ending(path)) in (".csv", ".tsv"):
        documents = _from_table(path, text_column, errors, "," if ending == ".csv" else "\t")
    elif ending in (".jsonl", ".ndjson"):
        documents = _from_json_lines(path, text_column, errors, numbers)
    else:
        documents = iter([read_text(path, errors)])
    found = False
    for document in documents:
        found = found or bool(document.strip())
        yield document
    if not found:
        raise DataError(f"{path} holds no text: all that is in it is empty")


def _from_folder(folder: Path, errors: Errors) -> Iterator[str]:
    files = sorted(
        path
        for path in folder.rglob("*")
        if _ending(path) in TEXT_ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise DataError(
            f"there are no text files in the folder {folder}: looked for {', '.join(TEXT_ENDINGS)}"
        )
    for path in files:
        if text := "".join(iter_text(path, errors)):
            yield text


def _from_table(path: Path, column: str, errors: Errors, delimiter: str) -> Iterator[str]:
    csv.field_size_limit(LONGEST_FIELD)
    rows = csv.reader(_lines(path, errors), delimiter=delimiter, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            raise DataError(f"{path} is empty: there is no text to read")
        if column not in header:
            raise DataError(
                f"{path} has no column {column!r}. Its first line names the columns {_listed(header)}: say "
                "which of them holds the text (--text-column)"
            )
        index = header.index(column)
        for row in rows:
            if not row:  # an empty line
                continue
            if len(row) <= index:
                raise DataError(
                    f"{path}, line {rows.line_num}: the row ends before the column {column!r}: it has "
                    f"{len(row)} fields, and the first line names {len(header)}"
                )
            yield row[index]
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: not a valid table: {error}") from error


def _from_json_lines(path: Path, field: str, errors: Errors, numbers: bool) -> Iterator[str]:
    for number, line in enumerate(_lines(path, errors), start=1):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError) as error:  # also a number of 5,000 digits, or lists in lists in lists
            raise DataError(f"{path}, line {number}: not valid JSON: {error}") from error
        if not isinstance(record, dict) or field not in record:
            has = f"the fields {_listed(list(record))}" if isinstance(record, dict) else "no fields at all"
            raise DataError(f"{path}, line {number}: no field {field!r}; it has {has} (--text-column)")
        value = str(record[field]) if numbers and type(record[field]) is int else record[field]
        if not isinstance(value, str):
            raise DataError(f"{path}, line {number}: the field {field!r} is {value!r}, not text (--text-column)")
        yield value


def _lines(path: Path, errors: Errors) -> Iterator[str]:
    for piece in iter_text(path, errors):
        # Not str.splitlines: it also breaks at U+2028 and others, which may stand inside a field.
        yield from io.StringIO(piece, newline="\n")


def _open(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _ending(path: Path) -> str:
    """The ending that says what is inside: ".csv" for both table.csv and table.csv.gz."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings[-1:] == [".gz"]:
        endings.pop()
    return endings[-1] if endings else ""


def _decode(piece: bytes, errors: Errors, byte: int, line: int, path: PathLike) -> str:
    try:
        return piece.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        bad = " ".join(f"{value:02x}" for value in piece[error.start : error.end])
        line += piece.count(b"\n", 0, error.start)
        if byte == 0 and piece[:2] in (b"\xff\xfe", b"\xfe\xff"):
            way_out = "It begins as UTF-16 text does: convert the file to UTF-8 (iconv -f utf-16 -t utf-8)"
        elif b"\0" in piece:
            way_out = "There are zero bytes in it, so it is hardly a text: name another file"
        else:
            way_out = (
                "Convert it (iconv -f latin1 -t utf-8); or, of a command that has it, add --errors replace, and such "
                "bytes become U+FFFD"
            )
        raise DataError(
            f"{os.fspath(path)} is not valid UTF-8: bytes {bad} at byte offset {byte + error.start}, line {line} "
            f"({error.reason}). {way_out}"
        ) from error


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "(none)"

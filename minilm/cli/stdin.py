"""Text from stdin: UTF-8, whatever the locale says, and what is none is told with its place."""

import sys
from collections.abc import Iterator


def lines() -> Iterator[str]:
    """The lines of stdin with their ends, each as soon as it is there.

    Raises:
        DataError: at a line that is not UTF-8.
    """
    raw = getattr(sys.stdin, "buffer", None)
    if raw is None:  # a stdin that someone put in the place of the real one
        yield from sys.stdin
        return
    for number, line in enumerate(raw, start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            from minilm.errors import DataError

            bad = " ".join(f"{value:02x}" for value in line[error.start : error.end])
            raise DataError(
                f"stdin, line {number}, is not valid UTF-8: bytes {bad} at its byte {error.start} ({error.reason}). "
                "Convert it, as in: iconv -f latin1 -t utf-8 FILE | minilm ..."
            ) from error
        yield text.removeprefix("\ufeff").replace("\r\n", "\n") if number == 1 else text.replace("\r\n", "\n")


def text() -> str:
    """All of stdin. Raises DataError as `lines`."""
    return "".join(lines())

"""Writing a file so that a crash, a full disk or Ctrl-C leaves either the old file or the new one, never
half.

The recipe: write a temporary file in the same folder, flush it to the disk (fsync), then rename it over the
old one (`os.replace`), which POSIX and Windows promise to do in one step. The folder is flushed too where the
system allows it, so that the new name survives a power cut. It does not guard against two writers at once:
the last one to finish wins, with a whole file.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write to; it takes the place of `path` when the block ends without an error.

    After any error, KeyboardInterrupt included, `path` is what it was before and the temporary file is gone.
    An OSError (no such folder, no space left) passes through, and names `path`: the caller knows what it was saving.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_of_a_new_file(path))
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _flush_folder(path.parent)


def _mode_of_a_new_file(path: Path) -> int:
    """mkstemp makes private files (0600): give back the old file's mode, or what the umask grants."""
    return path.stat().st_mode & 0o777 if path.exists() else usual_mode()


def usual_mode() -> int:
    """What the umask grants a new file; for files that a library made private, as safetensors does."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _flush_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Token files: written in pieces, read by memory map, and never half written."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import DataError, TokenizerError
from minilm.text import (
    ByteTokenizer,
    TokenWindows,
    atomic_write,
    open_token_file,
    read_token_file_header,
    write_token_file,
)


@given(st.lists(st.lists(st.integers(0, 99_999), max_size=20), max_size=6), st.sampled_from([100_000, 2**17]))
def test_what_is_written_in_pieces_is_read_as_one(tmp_path_factory, pieces, vocab_size):
    path = tmp_path_factory.mktemp("tokens") / "t.bin"
    flat = [token for piece in pieces for token in piece]
    if not flat:
        with pytest.raises(DataError, match="no tokens"):
            write_token_file(path, pieces, vocab_size)
        assert not path.exists()
        return
    header = write_token_file(path, iter(pieces), vocab_size)
    tokens = open_token_file(path)
    assert tokens.tolist() == flat
    assert header == read_token_file_header(path) and header.count == len(flat)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(256, "<u2"), (65_536, "<u2"), (65_537, "<u4")])
def test_the_smallest_sufficient_integers_hold_the_largest_id(vocab_size, dtype, tmp_path):
    write_token_file(tmp_path / "t.bin", [[0, vocab_size - 1]], vocab_size)
    tokens = open_token_file(tmp_path / "t.bin")
    assert tokens.dtype == np.dtype(dtype) and tokens.tolist() == [0, vocab_size - 1]
    assert (tmp_path / "t.bin").stat().st_size == 128 + 2 * tokens.dtype.itemsize


def test_the_file_is_mapped_not_loaded_and_cannot_be_changed(tmp_path):
    write_token_file(tmp_path / "t.bin", [np.arange(1000)], 1000)
    tokens = open_token_file(tmp_path / "t.bin")
    windows = TokenWindows(tokens, 10)
    assert isinstance(tokens, np.memmap) and isinstance(windows.tokens, np.memmap)
    assert windows[3]["labels"].tolist() == list(range(31, 41))
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 1


def test_another_tokenizers_file_is_refused(tmp_path):
    fingerprint = ByteTokenizer().fingerprint()
    write_token_file(tmp_path / "t.bin", [[1, 2]], 256, fingerprint)
    assert open_token_file(tmp_path / "t.bin", fingerprint).tolist() == [1, 2]
    with pytest.raises(TokenizerError, match=f"another tokenizer.*{fingerprint[:12]}.*encode the text again"):
        open_token_file(tmp_path / "t.bin", "0" * 64)


def test_a_truncated_longer_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "t.bin"
    write_token_file(path, [np.arange(100)], 100)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:200], whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=f"100 tokens, which makes 328 bytes, and it has {len(damaged)}"):
            open_token_file(path)
    path.write_bytes(whole[:60])
    with pytest.raises(DataError, match="cut short"):
        open_token_file(path)
    for foreign in (b"", b"To be, or not to be" * 20):
        path.write_bytes(foreign)
        with pytest.raises(DataError, match="not a token file"):
            open_token_file(path)
    path.write_bytes(whole[:8] + b"\x09" + whole[9:])
    with pytest.raises(DataError, match="version 9"):
        open_token_file(path)
    with pytest.raises(DataError, match=r"absent\.bin"):
        open_token_file(tmp_path / "absent.bin")


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "t.bin"
    write_token_file(path, [[1, 2, 3]], 10)

    def pieces():
        yield [4, 5]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_token_file(path, pieces(), 10)
    with pytest.raises(TokenizerError, match="token id 10 at position 1"):
        write_token_file(path, [[4], [4, 10]], 10)
    with pytest.raises(DataError, match="not written"):
        write_token_file(tmp_path / "no" / "folder.bin", [[1]], 10)
    assert open_token_file(path).tolist() == [1, 2, 3]
    assert [file.name for file in tmp_path.iterdir()] == ["t.bin"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.bin"
    write_token_file(path, [[1, 2, 3]], 10)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_token_file(path, [[4]], 10)
    monkeypatch.undo()
    assert open_token_file(path).tolist() == [1, 2, 3]
    assert [file.name for file in tmp_path.iterdir()] == ["t.bin"]


def test_an_error_of_the_system_names_the_file_that_was_asked_for(tmp_path):
    """And not the temporary one beside it, of which nobody has heard."""
    for path in (tmp_path, tmp_path / "missing" / "a.txt"):
        with pytest.raises(OSError) as caught, atomic_write(path) as file:
            file.write(b"x")
        assert caught.value.filename == str(path) and not list(tmp_path.rglob("*.tmp"))


def test_an_atomic_write_shows_nothing_before_its_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"new" and [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]

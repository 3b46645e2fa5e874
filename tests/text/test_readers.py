"""Readers: every kind of file gives its documents, and bad input is named with its place."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import DataError
from minilm.text import iter_documents, iter_text, read_documents, read_text, readers


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufeff"), min_size=1))
def test_utf8_text_comes_back_exactly(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("texts")
    assert read_text(write(folder / "a.txt", text)) == text
    assert read_text(write(folder / "a.txt.gz", text)) == text


def test_byte_order_mark_and_line_ends_are_made_uniform(tmp_path):
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree\n\xef\xbb\xbffour")
    assert read_text(path) == "one\ntwo\nthree\n\ufefffour"  # a later U+FEFF is a character like others


def test_a_large_file_comes_in_pieces_of_whole_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "PIECE_BYTES", 100)
    text = "".join(f"line {i} with é and 我\n" for i in range(50)) + "no newline at the end"
    pieces = list(iter_text(write(tmp_path / "a.txt", text)))
    assert len(pieces) > 5 and "".join(pieces) == text
    assert all(piece.endswith("\n") for piece in pieces[:-1])


@pytest.mark.parametrize("piece", [4, 1 << 20])
def test_invalid_utf8_is_named_with_offset_line_bytes_and_the_way_out(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(readers, "PIECE_BYTES", piece)
    path = write(tmp_path / "a.txt", "first\nsecönd\nth".encode() + b"\xe9\xff" + b"rd\n")
    with pytest.raises(DataError) as caught:
        read_text(path)
    message = str(caught.value)
    assert str(path) in message and "bytes e9 at byte offset 16, line 3" in message
    assert "--errors replace" in message
    assert read_text(path, errors="replace") == "first\nsecönd\nth\ufffd\ufffdrd\n"
    assert read_text(path, errors="ignore") == "first\nsecönd\nthrd\n"
    with pytest.raises(ValueError, match="not 'replce'"):
        read_text(path, errors="replce")


def test_utf16_and_what_is_no_text_are_recognised_in_the_error(tmp_path):
    with pytest.raises(DataError, match=r"hardly a text"):
        read_text(write(tmp_path / "b.bin", b"\x80\0\0\0"))
    with pytest.raises(DataError, match="as UTF-16 text does.*iconv -f utf-16"):
        read_text(write(tmp_path / "a.txt", "text".encode("utf-16")))


def test_empty_missing_and_damaged_files_are_refused(tmp_path):
    for name in ("a.txt", "a.txt.gz", "a.csv", "a.jsonl"):
        with pytest.raises(DataError, match=rf"{name}.*empty"):
            read_documents(write(tmp_path / name, ""))
    with pytest.raises(DataError, match=r"no file .*absent\.txt"):
        read_documents(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="holds no text"):
        read_documents(write(tmp_path / "blank.txt", " \n"))
    with pytest.raises(DataError, match="is a folder, and a file is needed") as told:
        read_text(tmp_path)
    assert "Errno" not in str(told.value)
    whole = write(tmp_path / "b.txt.gz", "some text " * 100).read_bytes()
    for damaged in (whole[:-9], b"not gzip at all", whole[:20] + b"xxxx" + whole[24:]):
        (tmp_path / "b.txt.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"cannot read .*b\.txt\.gz"):
            read_text(tmp_path / "b.txt.gz")


# folders


def test_a_folder_gives_one_document_a_file_in_order(tmp_path):
    for name in ("b.txt", "a.md", "sub/c.txt", "sub/d.txt.gz", "image.png", ".hidden.txt", ".git/e.txt"):
        write(tmp_path / name, f"text of {name}")
    write(tmp_path / "empty.txt", "")
    assert read_documents(tmp_path) == [
        f"text of {n}" for n in ("a.md", "b.txt", "sub/c.txt", "sub/d.txt.gz")
    ]


def test_a_folder_without_text_is_refused(tmp_path):
    write(tmp_path / "image.png", b"\x89PNG")
    with pytest.raises(DataError, match=r"no text files in the folder .*\.txt, "):
        read_documents(tmp_path)
    write(tmp_path / "empty.txt", "")
    with pytest.raises(DataError, match="holds no text"):
        read_documents(tmp_path)


# tables and JSON lines

TABLE = 'id,text\n1,"To be, or not\nto be"\n\n2,plain\u2028still\n3,""\n'


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.CSV"])
def test_csv_gives_its_text_column(tmp_path, name):
    path = write(tmp_path / name, TABLE)
    assert read_documents(path) == ["To be, or not\nto be", "plain\u2028still", ""]
    assert read_documents(path, text_column="id") == ["1", "2", "3"]


def test_tsv_and_very_long_fields(tmp_path):
    assert read_documents(write(tmp_path / "a.tsv", "x\ttext\n1\tone, two\n")) == ["one, two"]
    assert read_documents(write(tmp_path / "b.csv", "text\n" + "x" * 200_000)) == ["x" * 200_000]


def test_a_missing_column_lists_those_there_are(tmp_path):
    with pytest.raises(DataError, match="no column 'body'.*'id', 'text'.*--text-column"):
        read_documents(write(tmp_path / "a.csv", TABLE), text_column="body")


def test_a_short_or_broken_row_is_named(tmp_path):
    with pytest.raises(DataError, match="line 3: the row ends before the column 'text': it has 1 fields"):
        read_documents(write(tmp_path / "a.csv", "id,text\n1,a\n2\n"))
    with pytest.raises(DataError, match="line 2: not a valid table"):
        read_documents(write(tmp_path / "b.csv", 'id,text\n1,"a"b\n'))


def test_json_lines_give_their_field(tmp_path):
    rows = [{"text": "one\ntwo", "n": 1}, {"text": "三\u2028"}]
    content = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    for name in ("a.jsonl", "a.jsonl.gz", "a.ndjson"):
        assert read_documents(write(tmp_path / name, content)) == ["one\ntwo", "三\u2028"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{text: 1}", "line 2: not valid JSON"),
        ('{"body": "x"}', "line 2: no field 'text'; it has the fields 'body'"),
        ('["x"]', "line 2: no field 'text'; it has no fields at all"),
        ('{"text": 5}', "line 2: the field 'text' is 5, not text"),
        ('{"text": ' + "9" * 5000 + "}", "line 2: not valid JSON"),
        ("[" * 100_000, "line 2: not valid JSON"),
    ],
)
def test_a_bad_json_line_is_named(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        read_documents(write(tmp_path / "a.jsonl", '{"text": "fine"}\n' + line))


def test_documents_come_one_at_a_time(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "fine"}\nbroken')
    documents = iter_documents(path)
    assert next(documents) == "fine"
    with pytest.raises(DataError):
        next(documents)

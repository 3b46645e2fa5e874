"""Texts with a class each: for whoever trains or scores a classifier.

    read_labelled("reviews.csv")       # two columns of a .csv or .tsv file, or two fields of a .jsonl file
    read_labelled("rt_polarity")       # a corpus of CORPORA, or a folder, with a file for each class, a text a line:
                                       # rt-polarity.pos, rt-polarity.neg (or pos.txt and neg.txt)
    read_labelled("aclImdb/train")     # a folder with a folder for each class, a text a file: pos/..., neg/...

A class is a name, a string; `class_names` puts the names in order: numbers by their value, all else by the alphabet.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from minilm.errors import DataError
from minilm.text.corpora import CORPORA, find_corpus
from minilm.text.readers import TEXT_ENDINGS, Errors, PathLike, read_documents, read_text
from minilm.text.splits import split_documents

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
LARGEST_NUMBER_OF_CLASSES = 1000  # more of them are no classes but another column


class Labelled(NamedTuple):
    """A text and the name of its class."""

    text: str
    label: str


def read_labelled(
    data: PathLike, text_column: str = "text", label_column: str = "label", errors: Errors = "strict"
) -> list[Labelled]:
    """The texts of a table, a folder or a corpus, with their classes; texts that are empty are passed over.

    Raises:
        DataError: if there is nothing to read, a column is missing, or there are not at least two classes.
    """
    path = Path(data)
    if str(data) in CORPORA and not path.exists():
        found = _from_files(find_corpus(str(data)), str(data), errors)
    elif path.is_dir():
        found = _from_folder(path, errors)
    elif path.name.lower().removesuffix(".gz").endswith(TABLES):
        found = read_rows(path, text_column, label_column, errors)
    elif not path.exists():
        raise DataError(f"there is no {path}: --data is a table, a folder or one of the corpora {', '.join(CORPORA)}")
    else:
        raise DataError(
            f"{path} is no table of texts and their classes: give a file that ends with {', '.join(TABLES)}, or a "
            "folder with a file for each class (rt-polarity.pos, rt-polarity.neg), a text on each line"
        )
    texts = [Labelled(" ".join(text.split()), label.strip()) for text, label in found if text.strip()]
    if without := sum(not label for _, label in texts):
        raise DataError(f"{data}: {without:,} of {len(texts):,} texts have no class: it is empty")
    names = class_names(label for _, label in texts)
    if len(names) < 2:
        only = f"of one class only, {names[0]!r}" if names else "none"
        raise DataError(f"{data}: a classifier needs texts of two classes or more, and here are {only}")
    if len(names) > LARGEST_NUMBER_OF_CLASSES:
        raise DataError(
            f"{data}: {len(names):,} different classes in {len(texts):,} texts: is {label_column!r} the right column?"
        )
    return texts


def read_rows(
    path: PathLike, text_column: str = "text", label_column: str = "label", errors: Errors = "strict"
) -> list[Labelled]:
    """Every row of a table as it is, also one without a text.

    Raises:
        DataError: if there is nothing to read, or a column is missing.
    """
    texts = read_documents(path, text_column, errors)
    try:
        labels = read_documents(path, label_column, errors, numbers=True)
    except DataError as error:
        message = str(error).replace("holds the text", "holds the class").replace("--text-column", "--label-column")
        raise DataError(message) from error
    return [Labelled(*row) for row in zip(texts, labels, strict=True)]


def class_names(labels: Iterable[str]) -> list[str]:
    """The distinct labels in the order of their numbers 0, 1, ...: by value if all are whole numbers, else by name."""
    found = set(labels)
    if all(name.removeprefix("-").isdecimal() for name in found):
        return sorted(found, key=lambda name: (int(name), name))
    return sorted(found)


def split_labelled(
    examples: Sequence[Labelled], fractions: Sequence[float], seed: int = 0
) -> tuple[list[Labelled], ...]:
    """The examples dealt out to the parts by their texts: always the same, and no text is in two parts.

    Raises:
        DataError: if there are fewer distinct texts than parts.
    """
    parts = split_documents([example.text for example in examples], fractions, seed)
    part_of = {text: number for number, part in enumerate(parts) for text in part}
    dealt: tuple[list[Labelled], ...] = tuple([] for _ in fractions)
    for example in examples:
        dealt[part_of[example.text]].append(example)
    return dealt


def _from_folder(folder: Path, errors: Errors) -> list[Labelled]:
    shown = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    folders = [p for p in shown if p.is_dir()]
    if folders:
        return [Labelled(text, p.name) for p in folders for text in read_documents(p, errors=errors)]
    return _from_files([p for p in shown if p.is_file()], str(folder), errors)


def _from_files(paths: list[Path], where: str, errors: Errors) -> list[Labelled]:
    """A file for each class: its ending is the name of the class, or, of text files, what stands before the ending."""
    plain = [p for p in paths if p.suffix.lower() in TEXT_ENDINGS]
    others = [p for p in paths if p.suffix and p not in plain and p.suffix.lower() not in TABLES]
    named = {p.suffix[1:]: p for p in others} if len(others) > 1 else {p.stem: p for p in plain}
    if len(named) < 2:
        tables = [p.name for p in paths if p.suffix.lower() in TABLES]
        hint = f"; to read the table in it, name it: {Path(where) / tables[0]}" if tables else ""
        raise DataError(
            f"{where} has no file for each class, such as rt-polarity.pos and rt-polarity.neg, or pos.txt and "
            f"neg.txt{hint}"
        )
    return [
        Labelled(line, label)
        for label, path in named.items()
        for line in read_text(path, errors).split("\n")
        if line.strip()
    ]

"""What --data means: from a corpus's name or a path to three files of tokens.

    train.tokens, validation.tokens, test.tokens    the ids, which training reads by memory map
    tokenizer.json
    data.json                                       where they came from, and the size of each part

Many documents are dealt out whole, 80 % for training and 10 % each for validation and test; a single text, or
fewer than ten, is cut by position. A single text file is read piece by piece and may be larger than memory;
the documents of a folder, a table or a corpus are held in memory while they are encoded, once.

Training never comes back to the source: a run goes on from its token files, also if the source is gone.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from minilm.cli.presets import Settings
from minilm.errors import DataError
from minilm.text import (
    CORPORA,
    ByteTokenizer,
    CharTokenizer,
    GPT2Tokenizer,
    Tokenizer,
    WordTokenizer,
    atomic_write,
    clean,
    iter_text,
    load_corpus,
    load_tokenizer,
    open_token_file,
    read_documents,
    split_documents,
    write_token_file,
)

PARTS = {"train": 0.8, "validation": 0.1, "test": 0.1}
FEWEST_DOCUMENTS = 10  # of fewer, a tenth is not one document
TABLES = {".csv", ".tsv", ".jsonl", ".ndjson"}

Texts = Callable[[], Iterable[str]]  # a text in pieces, from the beginning at each call


@dataclass
class Sizes:
    """Of one part of the data."""

    documents: int = 0  # 0: a stretch of a text
    characters: int = 0
    bytes: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class TextData:
    """The parts of a text as token ids (N,), read by memory map."""

    tokenizer: Tokenizer
    tokens: dict[str, Any]
    sizes: dict[str, Sizes]
    source: str  # in words


def prepare(settings: Settings, folder: Path) -> None:
    """Read --data, train the tokenizer, and write the token files into `folder`.

    Raises:
        DataError: if there is no such text, it cannot be read, or is too short to be split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    documents, text = read_source(settings)
    if documents is not None and len(set(documents)) >= FEWEST_DOCUMENTS:
        parts = split_documents(documents, tuple(PARTS.values()))
        texts: list[Texts] = [lambda part=part: map(_ended, part) for part in parts]  # type: ignore[misc]
        sizes = [Sizes(documents=len(part)) for part in parts]
        everything: Texts = lambda: map(_ended, documents)  # noqa: E731
        source = f"{settings.data}: {len(documents):,} documents, split by documents"
    else:
        everything = text
        texts = _cut(text, _length(text, settings.data))
        sizes = [Sizes() for _ in PARTS]
        several = f"{len(documents)} documents, joined and " if documents and len(documents) > 1 else ""
        source = f"{settings.data}: {several}split by position"
    tokenizer = _make_tokenizer(settings, everything, texts[0])
    tokenizer.save(folder / "tokenizer.json")
    for name, part, size in zip(PARTS, texts, sizes, strict=True):
        try:
            header = write_token_file(
                folder / f"{name}.tokens",
                _encoded(part(), tokenizer, size),
                tokenizer.vocab_size,
                tokenizer.fingerprint(),
            )
        except DataError as error:
            if size.characters or size.tokens:
                raise
            raise DataError(f"the {name} part of {settings.data} is empty: give more text") from error
        size.tokens = header.count
    content = {"source": source, "parts": {name: asdict(size) for name, size in zip(PARTS, sizes, strict=True)}}
    with atomic_write(folder / "data.json") as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def open_data(folder: Path) -> TextData:
    """The data that `prepare` wrote.

    Raises:
        DataError, TokenizerError: if something is missing, damaged, or does not belong together.
    """
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    tokens = {name: open_token_file(folder / f"{name}.tokens", tokenizer.fingerprint()) for name in PARTS}
    try:
        content = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        sizes = {name: Sizes(**content["parts"][name]) for name in PARTS}
        source = str(content["source"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / 'data.json'} cannot be read: {error}") from error
    return TextData(tokenizer, tokens, sizes, source)


def read_source(settings: Settings) -> tuple[list[str] | None, Texts]:
    """The documents of --data, or None where it is one text file; and all of it in pieces, one after another.

    A corpus's name comes first: a file of that name is ./name.
    """
    name, path = settings.data, Path(settings.data)
    if name in CORPORA:
        documents = load_corpus(name)
    elif not path.exists():
        raise DataError(
            f"there is no file or folder {name}, and no corpus of that name either; "
            f"the corpora are {', '.join(n for n, corpus in CORPORA.items() if corpus.read)}"
        )
    elif path.is_file() and not {ending.lower() for ending in path.suffixes} & TABLES:
        return None, lambda: (_cleaned(piece, settings) for piece in iter_text(path, settings.errors))  # type: ignore[arg-type]
    else:
        documents = read_documents(path, settings.text_column, settings.errors)  # type: ignore[arg-type]
    documents = [_cleaned(document, settings) for document in documents]
    return documents, lambda: map(_ended, documents)


def encode(settings: Settings, tokenizer: Tokenizer) -> tuple[Any, Sizes]:
    """All of --data as one row of ids (N,), in memory: what `minilm eval --data` scores."""
    import numpy as np

    sizes = Sizes()
    pieces = list(_encoded(read_source(settings)[1](), tokenizer, sizes))
    ids = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
    sizes.tokens = len(ids)
    if len(ids) < 2:
        raise DataError(f"{settings.data} has {len(ids)} tokens: at least 2 are needed, one to predict from")
    return ids, sizes


def _cleaned(text: str, settings: Settings) -> str:
    text = clean(text) if settings.clean else text
    return text.lower() if settings.lower else text


def _ended(document: str) -> str:
    """A document ends with its line: where one ends and the next begins can be learnt."""
    return document if document.endswith("\n") else document + "\n"


def _length(text: Texts, name: str) -> int:
    length, blank = 0, True
    for piece in text():
        length, blank = length + len(piece), blank and not piece.strip()
    if blank:
        raise DataError(f"{name} is empty: there is no text to learn from")
    return length


def _cut(text: Texts, length: int) -> list[Texts]:
    """The consecutive parts of a text of `length` characters, which is read from the beginning for each."""
    fractions = list(PARTS.values())
    cuts = [0, *(math.floor(round(sum(fractions[: i + 1]) * length, 6)) for i in range(len(fractions)))]

    def part(begin: int, end: int) -> Iterator[str]:
        position = 0
        for piece in text():
            chosen = piece[max(0, begin - position) : max(0, end - position)]
            position += len(piece)
            if chosen:
                yield chosen
            if position >= end:
                return

    return [lambda begin=begin, end=end: part(begin, end) for begin, end in pairwise(cuts)]  # type: ignore[misc]


def _make_tokenizer(settings: Settings, everything: Texts, training: Texts) -> Tokenizer:
    if settings.tokenizer == "byte":
        return ByteTokenizer()
    if settings.tokenizer == "word":  # what validation and test have besides becomes the unknown token
        return WordTokenizer.train(training(), min_count=settings.min_count, max_size=settings.max_words)
    if settings.tokenizer == "bpe":  # the bytes write whatever is new in validation and test
        return GPT2Tokenizer.train(training(), settings.vocab_size, special_tokens=())
    if settings.tokenizer.endswith(".json"):
        return load_tokenizer(settings.tokenizer)
    return CharTokenizer.train(everything())


def _encoded(pieces: Iterable[str], tokenizer: Tokenizer, sizes: Sizes) -> Iterator[Any]:
    for piece in pieces:
        sizes.characters += len(piece)
        sizes.bytes += len(piece.encode("utf-8", errors="surrogatepass"))
        yield tokenizer.encode(piece)

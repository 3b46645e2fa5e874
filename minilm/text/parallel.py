"""Parallel text: sentences with their translations, or anything else that is read and then written.

    read_pairs        pairs from a corpus by name, from "source<TAB>target" on each line, or from two columns of a table
    split_pairs       training, validation and test parts that share no source
    families          for long sources: which of them share a sentence, and so belong in the same part
    references        what each source may become: all the targets that it has
    PairTokenizer     texts to ids and back, with the three tokens that an encoder-decoder needs
    encode_pairs      pairs -> examples for the batches
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import DataError
from minilm.text.corpora import CORPORA, load_corpus
from minilm.text.readers import PathLike, read_documents, read_text
from minilm.text.splits import split_documents
from minilm.text.tokenizers.base import Tokenizer

PARTS = (0.9, 0.05, 0.05)  # training, validation, test: of short texts a twentieth says enough
TABLES = (".csv", ".jsonl", ".ndjson")  # files whose columns have names
LONG_SENTENCE = 40  # letters and digits; shorter ones ("See the manual.") say nothing of where a text comes from
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+")


class Pair(NamedTuple):
    """A source text and its target."""

    source: str
    target: str


def read_pairs(data: PathLike, source_column: str = "source", target_column: str = "target") -> list[Pair]:
    """The pairs of a corpus of CORPORA, or of a UTF-8 file with a pair on each line: source, a tab, target.

    Further columns are passed over, as are empty lines; spaces of any kind and number become one space. Of a .csv or
    .jsonl file (also .gz) they are two columns or fields; a row where one of them is empty is no pair.

    Raises:
        DataError: if there is no such file, corpus or column, or a line has no tab.
    """
    name = str(data)
    if name.lower().removesuffix(".gz").endswith(TABLES):
        return _table_pairs(name, source_column, target_column)
    lines = load_corpus(name) if name in CORPORA and not Path(name).exists() else read_text(data).split("\n")
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        columns = [" ".join(column.split()) for column in line.split("\t")]
        if len(columns) < 2 or not columns[0] or not columns[1]:
            raise DataError(
                f"{name}, line {number}: {line[:60]!r} is not a pair: a line is a source, a tab and a target"
            )
        pairs.append(Pair(columns[0], columns[1]))
    if not pairs:
        raise DataError(f"{name} holds no pairs: each line is a source, a tab and a target")
    return pairs


def _table_pairs(name: str, source_column: str, target_column: str) -> list[Pair]:
    try:
        columns = [read_documents(name, column) for column in (source_column, target_column)]
    except DataError as error:
        raise DataError(str(error).replace("--text-column", "--source-column, --target-column")) from error
    rows = [Pair(" ".join(source.split()), " ".join(target.split())) for source, target in zip(*columns, strict=True)]
    if not (pairs := [pair for pair in rows if pair.source and pair.target]):
        raise DataError(f"{name} holds no pairs: in each row {source_column!r} or {target_column!r} is empty")
    return pairs


def split_pairs(
    pairs: Sequence[Pair],
    fractions: Sequence[float] = PARTS,
    seed: int = 0,
    key: Mapping[str, str] | None = None,
) -> tuple[list[Pair], ...]:
    """The pairs dealt out to the parts, all pairs of a source to the same one.

    Sources that differ in case, spaces or punctuation only ("Go!" and "Go.") count as one here: a model that has seen
    the one has seen the other. `key` says otherwise: sources with the same key stay together (see `families`).
    """
    key = key or {pair.source: source_key(pair.source) for pair in pairs}
    if (different := len(set(key.values()))) < len(fractions):
        raise DataError(
            f"{len(pairs):,} pairs with {different:,} different sources cannot be dealt out to {len(fractions)} parts "
            f"that share none: give more pairs"
        )
    parts = split_documents(sorted(set(key.values())), fractions, seed)
    part_of = {source: number for number, part in enumerate(parts) for source in part}
    dealt: tuple[list[Pair], ...] = tuple([] for _ in fractions)
    for pair in pairs:
        dealt[part_of[key[pair.source]]].append(pair)
    return dealt


def source_key(text: str) -> str:
    """The letters and digits of a text, in lower case; the text itself if it has none."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum()) or text


def families(sources: Iterable[str]) -> dict[str, str]:
    """Each source and the name of its family: those that share a long sentence, or are linked by others that do.

    Documents repeat each other: the description of a library is that of its documentation too, but for the last
    sentence. A model tested on the one must not have learnt from the other. Sentences are compared by `source_key`,
    those of LONG_SENTENCE letters and digits or more; a source without such a sentence is compared as a whole.
    """
    parent: dict[str, str] = {}  # a forest: two trees are joined when a sentence is found in both (union-find)

    def root(node: str) -> str:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = parent[above]  # halves the way for the next search
            node = above
        return node

    names = {}
    for source in sources:
        keys = [source_key(sentence) for sentence in _SENTENCE_END.split(source)]
        linked = [key for key in keys if len(key) >= LONG_SENTENCE] or [source_key(source)]
        names[source] = linked[0]
        for key in linked:
            parent[root(key)] = root(linked[0])
    first: dict[str, str] = {}  # the name of a family hangs on its sentences, not on their order
    for key in parent:
        first[root(key)] = min(first.get(root(key), key), key)
    return {source: first[root(name)] for source, name in names.items()}


def references(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """Each distinct source, in order, and all its distinct targets."""
    found: dict[str, dict[str, None]] = {}
    for pair in pairs:
        found.setdefault(pair.source, {})[pair.target] = None
    return {source: list(targets) for source, targets in found.items()}


class PairTokenizer:
    """A tokenizer for both sides, and three ids after its last one: pad, bos and eos.

    They are no tokens of the tokenizer: no text can make one, and any tokenizer will do. A text is encoded with a space
    before it, so that its first word is the same token as in the midst of a text, and eos is put behind it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        V = tokenizer.vocab_size
        self.pad_id, self.bos_id, self.eos_id = V, V + 1, V + 2
        self.vocab_size = V + 3

    def encode(self, text: str, longest: int | None = None) -> NDArray[np.int64]:
        """text -> ids (T,), the last of them eos; of a longer text the first `longest` - 1 tokens and eos."""
        text = unicodedata.normalize("NFC", " " + " ".join(text.split())).replace("\u2019", "'")
        ids = self.tokenizer.encode(text)
        return np.append(ids if longest is None else ids[: longest - 1], self.eos_id)

    def decode(self, ids: ArrayLike) -> str:
        """ids (T,) -> text, up to the first eos; pad and bos are passed over."""
        row = np.asarray(ids, dtype=np.int64)
        if (ends := np.flatnonzero(row == self.eos_id)).size:
            row = row[: ends[0]]
        return self.tokenizer.decode(row[row < self.pad_id]).strip()

    def pieces(self, ids: ArrayLike) -> list[str]:
        """What stands for each id in a picture: the text of the token, or the name of a special one."""
        names = {self.pad_id: "<pad>", self.bos_id: "<bos>", self.eos_id: "<eos>"}
        return [names.get(i) or self.tokenizer.decode([i]).strip() for i in np.asarray(ids).tolist()]


def encode_pairs(
    pairs: Iterable[Pair], tokenizer: PairTokenizer, longest: int | None = None, cut_sources: bool = False
) -> list[dict[str, Any]]:
    """Examples {"input_ids": (Tk,), "labels": (T,)}, each with eos at its end.

    longest: pairs with more tokens on a side than this are left out; with cut_sources, a longer source is cut instead.
    """
    cut = longest if cut_sources else None
    examples = [{"input_ids": tokenizer.encode(s, cut), "labels": tokenizer.encode(t)} for s, t in pairs]
    return [e for e in examples if longest is None or max(map(len, e.values())) <= longest]

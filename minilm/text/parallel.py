"""Parallel text: sentences with their translations, or anything else that is read and then written.

    read_pairs        pairs from a corpus by name, or from a file with "source<TAB>target" on each line
    split_pairs       training, validation and test parts that share no source
    references        what each source may become: all the targets that it has
    PairTokenizer     texts to ids and back, with the three tokens that an encoder-decoder needs
    encode_pairs      pairs -> examples for the batches
"""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minilm.errors import DataError
from minilm.text.corpora import CORPORA, load_corpus
from minilm.text.readers import PathLike, read_text
from minilm.text.splits import split_documents
from minilm.text.tokenizers.base import Tokenizer

PARTS = (0.9, 0.05, 0.05)  # training, validation, test: of short texts a twentieth says enough


class Pair(NamedTuple):
    """A source text and its target."""

    source: str
    target: str


def read_pairs(data: PathLike) -> list[Pair]:
    """The pairs of a corpus of CORPORA, or of a UTF-8 file with a pair on each line: source, a tab, target.

    Further columns are passed over, as are empty lines; spaces of any kind and number become one space.

    Raises:
        DataError: if there is no such file or corpus, or a line has no tab.
    """
    name = str(data)
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


def split_pairs(
    pairs: Sequence[Pair], fractions: Sequence[float] = PARTS, seed: int = 0
) -> tuple[list[Pair], ...]:
    """The pairs dealt out to the parts, all pairs of a source to the same one.

    Sources that differ in case, spaces or punctuation only ("Go!" and "Go.") count as one here: a model that has seen
    the one has seen the other.
    """
    key = {pair.source: source_key(pair.source) for pair in pairs}
    parts = split_documents(sorted(set(key.values())), fractions, seed)
    part_of = {source: number for number, part in enumerate(parts) for source in part}
    dealt: tuple[list[Pair], ...] = tuple([] for _ in fractions)
    for pair in pairs:
        dealt[part_of[key[pair.source]]].append(pair)
    return dealt


def source_key(text: str) -> str:
    """The letters and digits of a text, in lower case; the text itself if it has none."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum()) or text


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

    def encode(self, text: str) -> NDArray[np.int64]:
        """text -> ids (T,), the last of them eos; without a limit to T."""
        text = unicodedata.normalize("NFC", " " + " ".join(text.split())).replace("\u2019", "'")
        return np.append(self.tokenizer.encode(text), self.eos_id)

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
    pairs: Iterable[Pair], tokenizer: PairTokenizer, longest: int | None = None
) -> list[dict[str, Any]]:
    """Examples {"input_ids": (Tk,), "labels": (T,)}, each with eos at its end.

    longest: pairs with more tokens on a side than this are left out.
    """
    examples = [{"input_ids": tokenizer.encode(s), "labels": tokenizer.encode(t)} for s, t in pairs]
    return [e for e in examples if longest is None or max(map(len, e.values())) <= longest]

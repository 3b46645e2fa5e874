"""The files in which byte-level BPE vocabularies are published.

    encoder.json (vocab.json)    {token: id}; tokens written as in `byte_characters`
    vocab.bpe (merges.txt)       one merge a line, "left right", in order
    *.tiktoken                   one token a line: its bytes in base64, and its rank, which is its id

A .tiktoken file names no merges. They follow from the ranks: encode the bytes of a token with the merges of lower rank,
and the two tokens that come out are what it is merged from.

Each reader raises TokenizerError with the file and the line for what is missing, cut short or damaged.
"""

import base64
import os

from minilm.errors import TokenizerError
from minilm.text.strict_json import parse_json
from minilm.text.tokenizers.base import read_vocabulary_file
from minilm.text.tokenizers.bpe import MergeTable
from minilm.text.tokenizers.byte_characters import as_characters

PathLike = str | os.PathLike[str]


def read_encoder(path: PathLike) -> list[str]:
    """The tokens in id order. The ids must be 0 .. V - 1."""
    where = os.fspath(path)
    try:
        ids = parse_json(read_vocabulary_file(path))
    except ValueError as error:
        if isinstance(error, TokenizerError):
            raise
        raise TokenizerError(f"{where} is not JSON, or is cut short: {error}") from error
    if not isinstance(ids, dict) or not ids or not all(type(index) is int for index in ids.values()):
        raise TokenizerError(f'{where} is not a vocabulary: it must be one JSON object {{"token": id, ...}}')
    tokens = {index: token for token, index in ids.items()}
    if len(tokens) != len(ids):
        repeated = next(token for token, index in ids.items() if tokens[index] != token)
        raise TokenizerError(f"{where} gives the id {ids[repeated]} to {repeated!r} and to {tokens[ids[repeated]]!r}")
    for index in range(len(ids)):
        if index not in tokens:
            raise TokenizerError(
                f"{where} has {len(ids)} tokens, so the ids must be 0 .. {len(ids) - 1}, and {index} is missing"
            )
    return [tokens[index] for index in range(len(ids))]


def read_merges(path: PathLike) -> list[tuple[str, str]]:
    """The merges in order."""
    lines = read_vocabulary_file(path).split("\n")
    merges = []
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        if (number == 1 and line.startswith("#version")) or (number == len(lines) and not line):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise TokenizerError(
                f'{os.fspath(path)}, line {number}: {line[:80]!r} is not a merge, "left right" with one space between: '
                "is the file damaged or cut short?"
            )
        merges.append((parts[0], parts[1]))
    if not merges:
        raise TokenizerError(f"{os.fspath(path)} has no merges")
    return merges


def read_ranks(path: PathLike) -> tuple[list[str], list[tuple[str, str]]]:
    """The tokens of a .tiktoken file in id order, and its merges."""
    where = os.fspath(path)
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(read_vocabulary_file(path).splitlines(), 1):
        encoded, _, rank = line.partition(" ")
        try:
            token, index = base64.b64decode(encoded, validate=True), int(rank)
        except ValueError as error:
            raise TokenizerError(
                f'{where}, line {number}: {line[:80]!r} is not a token, "base64 rank": is the file damaged or cut '
                f"short? ({error})"
            ) from error
        if not token or token in ranks or index != len(ranks):
            what = "is empty" if not token else "is there twice" if token in ranks else f"must have rank {len(ranks)}"
            raise TokenizerError(f"{where}, line {number}: the token {token!r} with rank {index} {what}")
        ranks[token] = index
    if not ranks:
        raise TokenizerError(f"{where} has no tokens")
    return [as_characters(token) for token in ranks], _merges_of(ranks, where)


def _merges_of(ranks: dict[bytes, int], where: str) -> list[tuple[str, str]]:
    """What each token is merged from (see above). ranks: {bytes: id}, ids in order."""
    tokens, merges, table = list(ranks), [], MergeTable()
    for token, index in ranks.items():
        if len(token) == 1:
            continue
        parts = [ranks.get(token[i : i + 1], -1) for i in range(len(token))]
        if -1 not in parts:
            parts = table.apply(parts)
        if -1 in parts or len(parts) != 2:
            raise TokenizerError(
                f"{where}: the token {token!r} (rank {index}) is not made of two tokens of lower rank, so no merge "
                "leads to it: is a line missing?"
            )
        table.add((parts[0], parts[1]), index)
        merges.append((as_characters(tokens[parts[0]]), as_characters(tokens[parts[1]])))
    return merges

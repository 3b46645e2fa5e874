"""SentencePiece vocabularies of Llama, as the library tokenizers writes them: tokenizer.json with merges.

SentencePiece merges the pair whose result has the highest score; tokenizer.json lists pairs in order. One follows from
the other: in descending order of scores, each token with all pairs that make it; and back, the place of the first of
its merges, negative, serves as the score of a token. Where scores are equal, or two pairs make one token, the two
libraries may differ in which comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minilm.errors import TokenizerError
from minilm.text import SentencePieceTokenizer, TokenType

SPACE = "\u2581"


def is_sentencepiece(content: Mapping[str, Any]) -> bool:
    """True for a tokenizer.json in which spaces are written as U+2581, in one of the two ways that are in use."""
    normalizer, words = content.get("normalizer"), content.get("pre_tokenizer")
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        return False
    by_normalizer = words is None and isinstance(normalizer, dict) and _replaces_spaces(normalizer)
    by_words = normalizer is None and isinstance(words, dict) and words.get("type") == "Metaspace"
    return by_normalizer or by_words


def _replaces_spaces(normalizer: Mapping[str, Any]) -> bool:
    steps = normalizer.get("normalizers", [normalizer])
    known = [{"type": "Prepend", "prepend": SPACE}, {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]
    return isinstance(steps, list) and bool(steps) and all(step in known for step in steps)


def from_json(content: Mapping[str, Any], where: str) -> SentencePieceTokenizer:
    """The tokenizer of a tokenizer.json that `is_sentencepiece`.

    Raises:
        TokenizerError: if it is damaged.
    """
    model, unknown = content["model"], content["model"].get("unk_token")
    try:
        added = {entry["content"]: (entry["id"], entry.get("special")) for entry in content.get("added_tokens") or []}
        ids = {**model["vocab"], **{token: index for token, (index, _) in added.items()}}
        by_id = {index: token for token, index in ids.items()}
        tokens = [by_id[index] for index in range(len(by_id))]
        ranks: dict[str, int] = {}
        for rank, merge in enumerate(model["merges"]):
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            if not {left, right, left + right} <= ids.keys():
                raise TokenizerError(f"{where}: merge {rank} is {left!r} + {right!r}, and a token of it is missing")
            ranks.setdefault(left + right, rank)
        bytes_too = model.get("byte_fallback") is True
        types = [_type(token, token == unknown, added.get(token), bytes_too) for token in tokens]
        scores = [-float(ranks.get(token, len(ranks))) for token in tokens]
        return SentencePieceTokenizer(tokens, scores, types, _prefixes(content), ids.get("<s>"), ids.get("</s>"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, TokenizerError):
            raise
        raise TokenizerError(f"{where} is damaged: {type(error).__name__} {error}") from error


def _type(token: str, unknown: bool, added: tuple[int, Any] | None, bytes_too: bool) -> TokenType:
    if unknown:
        return TokenType.UNKNOWN
    if added is not None:
        return TokenType.CONTROL if added[1] else TokenType.USER_DEFINED
    is_byte = bytes_too and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return TokenType.BYTE if is_byte else TokenType.NORMAL


def _prefixes(content: Mapping[str, Any]) -> bool:
    """Is a space put before the text?"""
    words = content.get("pre_tokenizer")
    if words is not None:
        return words.get("prepend_scheme", "always") != "never" and words.get("add_prefix_space", True) is not False
    normalizer = content["normalizer"]
    return any(step.get("type") == "Prepend" for step in normalizer.get("normalizers", [normalizer]))


def to_json(tokenizer: SentencePieceTokenizer) -> dict[str, Any]:
    """The tokenizer.json of a tokenizer."""
    spaces = [{"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]
    if tokenizer.add_space_prefix:
        spaces.insert(0, {"type": "Prepend", "prepend": SPACE})
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    kinds = dict(zip(tokenizer.tokens, tokenizer.types, strict=True))
    ids = {token: index for index, token in enumerate(tokenizer.tokens)}
    special = (TokenType.CONTROL, TokenType.UNKNOWN)
    added = [
        {"id": ids[token], "content": token, **plain, "special": kind in special}
        for token, kind in kinds.items()
        if kind in (*special, TokenType.USER_DEFINED)
    ]
    unknown = next((token for token, kind in kinds.items() if kind == TokenType.UNKNOWN), None)
    end: list[dict[str, Any]] = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": spaces},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *(end if tokenizer.add_space_prefix else []),
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": TokenType.BYTE in tokenizer.types,
            "vocab": ids,
            "merges": _merges(tokenizer, kinds),
        },
    }


def _merges(tokenizer: SentencePieceTokenizer, kinds: Mapping[str, TokenType]) -> list[str]:
    """All pairs of tokens that make a token; those that make the token with the highest score come first."""
    order = sorted(range(tokenizer.vocab_size), key=lambda index: -tokenizer.scores[index])
    merges = []
    for token in (tokenizer.tokens[index] for index in order):
        if kinds[token] == TokenType.NORMAL:
            cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
            merges += [f"{a} {b}" for a, b in cuts if kinds.get(a) == kinds.get(b) == TokenType.NORMAL]
    return merges

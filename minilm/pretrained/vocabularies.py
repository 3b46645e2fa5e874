"""The tokenizer that comes with published weights, as ours, and ours in published files.

    GGUF                  facts: tokens, merges or scores, types; byte-level BPE ("gpt2") or SentencePiece ("llama")
    folder of a BERT      vocab.txt; tokenizer_config.json says whether letters become small
    other folders         tokenizer.json (byte-level BPE, SentencePiece); GPT-2's also as vocab.json and merges.txt
    llama2.c              tokenizer.bin or tokV.bin beside the weights

What has no published form, or would lose something in it, is saved and found again as `minilm_tokenizer.json`.
Everything here comes from strangers' files: what is no vocabulary is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minilm.errors import TokenizerError
from minilm.pretrained import sentencepiece_json
from minilm.pretrained.gguf_file import GGUF
from minilm.pretrained.safetensors_file import parse_json
from minilm.pretrained.stored import map_file
from minilm.text import (
    GPT2Tokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    TokenType,
    WordPieceTokenizer,
    atomic_write,
    load_tokenizer,
)

OURS = "minilm_tokenizer.json"
SETTINGS = "tokenizer_config.json"
FILES = ("vocab.txt", "tokenizer.json", SETTINGS, OURS)  # that `write_tokenizer` writes
WITHOUT = "or load the model alone: from_pretrained(path, with_tokenizer=False)"
# GGUF's name of a pre-tokenizer -> ours.
GGUF_PATTERNS = {"smollm": "smollm2", "gpt-2": "gpt2", "default": "gpt2"}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# Our name of a pre-tokenizer -> tokenizer.json's.
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt2": _BYTE_LEVEL,
    "smollm2": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL]},
}


# ----- reading


def tokenizer_of_gguf(file: GGUF) -> Tokenizer | None:
    """The tokenizer that a GGUF file holds; None if it holds none.

    Raises:
        TokenizerError: if it is damaged, or one that minilm does not know.
        CheckpointError: if a fact is missing or of another type.
    """
    if "tokenizer.ggml.model" not in file.facts:
        return None
    kind = file.fact("tokenizer.ggml.model", str)
    tokens = _string_list(file, "tokenizer.ggml.tokens")
    types = file.fact("tokenizer.ggml.token_type", np.ndarray).tolist()
    if len(types) != len(tokens) or not all(type(t) is int for t in types):
        raise TokenizerError(f"{file.path} has {len(tokens)} tokens and {len(types)} types: it is damaged")
    if kind == "llama":
        scores = file.fact("tokenizer.ggml.scores", np.ndarray).astype(float).tolist()
        prefix = file.fact("tokenizer.ggml.add_space_prefix", bool, True)
        bos, eos = (file.facts.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos"))
        ends = {"bos_id": bos if type(bos) is int else None, "eos_id": eos if type(eos) is int else None}
        return SentencePieceTokenizer(tokens, scores, types, add_space_prefix=prefix, **ends)
    pattern = file.fact("tokenizer.ggml.pre", str, "default")
    if kind != "gpt2" or pattern not in GGUF_PATTERNS:
        raise TokenizerError(
            f"{file.path} has a tokenizer of the kind {kind!r} ({pattern!r}), and minilm reads those of 'llama' and of "
            f"'gpt2' with {', '.join(GGUF_PATTERNS)}: get a model with one of these, {WITHOUT}"
        )
    merges = _merges(_string_list(file, "tokenizer.ggml.merges"), str(file.path))
    never_text = (TokenType.CONTROL, TokenType.USER_DEFINED)
    special = [token for token, kind in zip(tokens, types, strict=True) if kind in never_text]
    return GPT2Tokenizer(tokens, merges, special, GGUF_PATTERNS[pattern])


def _string_list(file: GGUF, key: str) -> list[str]:
    values = file.fact(key, list)  # the reader makes lists of strings alone
    if not values:
        raise TokenizerError(f"{file.path}: {key!r} is empty")
    return values


def _merges(lines: Sequence[Any], where: str) -> list[tuple[str, str]]:
    """Merges written as "left right", or as two strings."""
    merges = [tuple(line.split(" ")) if isinstance(line, str) else tuple(line) for line in lines]
    if not all(len(pair) == 2 and all(isinstance(token, str) and token for token in pair) for pair in merges):
        raise TokenizerError(f"{where} has a merge that is not of two tokens: it is damaged")
    return merges  # type: ignore[return-value]


def tokenizer_of_folder(folder: Path, family: str) -> Tokenizer | None:
    """The tokenizer in the folder of a model of this family (bert, gpt2, llama); None if there is none.

    Raises:
        TokenizerError: if it is damaged, or one that minilm does not know.
    """
    if (folder / OURS).is_file():
        return load_tokenizer(folder / OURS)
    if family == "bert" and (folder / "vocab.txt").is_file():
        lower = read_settings(folder).get("do_lower_case", True)
        return WordPieceTokenizer.from_file(folder / "vocab.txt", lower is not False)
    if family != "bert" and (folder / "tokenizer.json").is_file():
        return _of_tokenizer_json(folder / "tokenizer.json")
    if family == "gpt2" and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return GPT2Tokenizer.from_files(folder / "vocab.json", folder / "merges.txt")
    others = [n for n in ("tokenizer.json", "tokenizer.model", "vocab.json") if (folder / n).is_file()]
    if others:
        raise TokenizerError(
            f"{folder} has a tokenizer in a form that minilm does not read ({', '.join(others)} of a {family}): get "
            f"the model as GGUF, {WITHOUT}"
        )
    return None


def read_settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json of a folder; empty if there is none."""
    path = folder / SETTINGS
    return parse_json(map_file(path, 2, "a configuration").tobytes(), str(path)) if path.is_file() else {}


def _of_tokenizer_json(path: Path) -> Tokenizer:
    """tokenizer.json of the library tokenizers, where it is byte-level BPE or SentencePiece."""
    content = parse_json(map_file(path, 2, "a tokenizer").tobytes(), str(path))
    if sentencepiece_json.is_sentencepiece(content):
        return sentencepiece_json.from_json(content, str(path))
    model = content.get("model")
    pattern = _pattern(content.get("pre_tokenizer"))
    if not isinstance(model, dict) or model.get("type") != "BPE" or content.get("normalizer") or pattern is None:
        raise TokenizerError(
            f"{path} is neither SentencePiece's BPE nor a byte-level one with the words of GPT-2 or SmolLM2, and "
            f"minilm reads nothing else there: get the model as GGUF, {WITHOUT}"
        )
    try:
        extra = {entry["content"]: entry["id"] for entry in content.get("added_tokens") or []}
        by_id = {index: token for token, index in {**model["vocab"], **extra}.items()}
        tokens = [by_id[index] for index in range(len(by_id))]
        return GPT2Tokenizer(tokens, _merges(model["merges"], str(path)), list(extra), pattern)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, TokenizerError):
            raise
        raise TokenizerError(f"{path} is damaged: {type(error).__name__} {error}") from error


def _pattern(pre_tokenizer: Any) -> str | None:
    """Our name for a pre-tokenizer of tokenizer.json; None for one that is unknown."""

    def essence(step: Any) -> Any:
        if not isinstance(step, dict):
            return None
        steps = step.get("pretokenizers")
        if isinstance(steps, list):
            return tuple(essence(s) for s in steps)
        return step.get("type"), step.get("individual_digits"), step.get("add_prefix_space", False)

    known = {essence(value): name for name, value in PRE_TOKENIZERS.items()}
    found = essence(pre_tokenizer)
    try:
        return known.get(found)
    except TypeError:  # lists where there should be words
        return None


def tokenizer_beside(path: Path, vocab_size: int) -> Tokenizer | None:
    """llama2.c's tokenizer of a model of V tokens, in the folder of its weights: tokV.bin or tokenizer.bin."""
    for name in (f"tok{vocab_size}.bin", "tokenizer.bin"):
        if (path.parent / name).is_file():
            return SentencePieceTokenizer.from_llama2c(path.parent / name)
    return None


# ----- writing


def write_tokenizer(tokenizer: Tokenizer, folder: Path, family: str) -> None:
    """The files of a tokenizer, under published names where it has a published form."""
    if isinstance(tokenizer, WordPieceTokenizer) and family == "bert":
        with atomic_write(folder / "vocab.txt") as file:
            file.write("".join(f"{token}\n" for token in tokenizer.tokens).encode())
        write_json(folder / SETTINGS, _bert_settings(tokenizer))
    elif isinstance(tokenizer, GPT2Tokenizer) and family != "bert":
        write_json(folder / "tokenizer.json", _as_tokenizer_json(tokenizer))
        write_json(folder / SETTINGS, {"tokenizer_class": "PreTrainedTokenizerFast"})
    else:
        tokenizer.save(folder / OURS)
        if isinstance(tokenizer, SentencePieceTokenizer):  # for others; the scores are not in it
            write_json(folder / "tokenizer.json", sentencepiece_json.to_json(tokenizer))
            write_json(folder / SETTINGS, _llama_settings(tokenizer))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file, there as a whole or not at all."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def _bert_settings(tokenizer: WordPieceTokenizer) -> dict[str, Any]:
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": tokenizer.lower,
        **{f"{name}_token": token for name, token in names.items()},
    }


def _llama_settings(tokenizer: SentencePieceTokenizer) -> dict[str, Any]:
    ends = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id, "unk_token": tokenizer.unknown_id}
    named = {name: tokenizer.tokens[index] for name, index in ends.items() if index is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **named}


def _as_tokenizer_json(tokenizer: GPT2Tokenizer) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = tokenizer.special_tokens
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": token, **plain} for token, index in special.items()],
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[tokenizer.pattern],
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(tokenizer.tokens)},
            "merges": [f"{left} {right}" for left, right in tokenizer.merges],
        },
    }

"""How fast do the tokenizers encode, and how long does it take to train one? Beside them tiktoken and tokenizers.

    make bench ONLY=tokenizer_speed

Two texts of about a megabyte: tinyshakespeare, and a mixed one of English and German sentences, English and Chinese
ones, and paragraphs from Wikipedia. MB/s are 10^6 bytes of UTF-8 a second, the median of the rounds, each in one call:

    cold      a tokenizer just loaded encodes the text; its cache of words is empty
    unseen    it has encoded the first half, and encodes the second
    again     it encodes the text once more: all words are in the cache

Before anything is timed, the ids of GPT-2 must be those of tiktoken, those of BERT those of tokenizers, and training
must give the merges of tokenizers. These two are written in Rust. tiktoken has no cache; tokenizers also notes where
each token comes from.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from harness import machine, no_options, save
from minilm.cli.output import table
from minilm.text import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    GPT2Tokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    find_corpus,
    load_corpus,
    tokenizer_from_json,
)
from minilm.text.tokenizers.byte_characters import as_bytes
from minilm.text.tokenizers.gpt2 import PATTERNS

ROUNDS = 3
PIECE = 350_000  # bytes of each part of the mixed text
VOCABULARIES = {1_000: (4, 2, 1), 10_000: (1,)}  # to learn, from which parts of a text: a quarter, a half, all

Encode = Callable[[str], Any]


def texts() -> dict[str, str]:
    """The texts to encode."""
    shakespeare = "".join(load_corpus("tinyshakespeare"))
    parts = ["\n".join(load_corpus(name)).encode()[-PIECE:] for name in ("tatoeba_en_de", "tatoeba_en_zh", "xquad")]
    return {"tinyshakespeare": shakespeare, "mixed": b"\n".join(parts).decode("utf-8", errors="ignore")}


def ladder(text: str) -> dict[str, Tokenizer]:
    """The tokenizers; those that are trained here know `text`."""
    encoder, merges = find_corpus("gpt2_bpe")
    uncased, cased = find_corpus("bert_vocab")
    return {
        "char": CharTokenizer.train(text),
        "byte": ByteTokenizer(),
        "word": WordTokenizer.train(text),
        "bpe, 1,000 learnt here": BPETokenizer.train(text, 1_000),
        "gpt2, 1,000 learnt here": GPT2Tokenizer.train(text, 1_000),
        "gpt2": GPT2Tokenizer.from_files(encoder, merges),
        "wordpiece, uncased": WordPieceTokenizer.from_file(uncased),
        "wordpiece, cased": WordPieceTokenizer.from_file(cased, lower=False),
        "sentencepiece, 512": SentencePieceTokenizer.from_llama2c(find_corpus("stories260k")[2]),
    }


def others(gpt2: GPT2Tokenizer) -> dict[str, Callable[[], Encode]]:
    """tiktoken and tokenizers with the same vocabularies: each a function that makes a fresh one."""
    import tiktoken
    import tokenizers

    encoder, merges = map(str, find_corpus("gpt2_bpe"))
    ranks = {as_bytes(token): index for index, token in enumerate(gpt2.tokens) if token not in gpt2.special_tokens}

    def of_tiktoken() -> Encode:
        made = tiktoken.Encoding(
            "gpt2", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens=gpt2.special_tokens
        )
        return made.encode_ordinary

    def of_tokenizers() -> Encode:
        made = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(encoder, merges))
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return lambda text: made.encode(text).ids

    def bert() -> Encode:
        made = tokenizers.Tokenizer(
            tokenizers.models.WordPiece.from_file(str(find_corpus("bert_vocab")[0]), unk_token="[UNK]")
        )
        made.normalizer = tokenizers.normalizers.BertNormalizer()
        made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        return lambda text: made.encode(text).ids

    return {"tiktoken: gpt2": of_tiktoken, "tokenizers: gpt2": of_tokenizers, "tokenizers: wordpiece, uncased": bert}


def seconds(call: Callable[[], Any]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def speeds(fresh: Callable[[], Encode], text: str) -> dict[str, float]:
    """MB/s: cold, unseen, again."""
    half = text.rfind("\n", 0, len(text) // 2)
    size, rest = len(text.encode()) / 1e6, len(text[half:].encode()) / 1e6
    found: dict[str, list[float]] = {"cold": [], "unseen": [], "again": []}
    for _ in range(ROUNDS):
        encode = fresh()
        found["cold"].append(size / seconds(lambda: encode(text)))  # noqa: B023
        found["again"].append(size / seconds(lambda: encode(text)))  # noqa: B023
        encode = fresh()
        encode(text[:half])
        found["unseen"].append(rest / seconds(lambda: encode(text[half:])))  # noqa: B023
    return {name: round(statistics.median(values), 2) for name, values in found.items()}


def encoding(name: str, text: str) -> list[dict[str, Any]]:
    """One row for each tokenizer."""
    tokenizers = ladder(text)
    references = others(tokenizers["gpt2"])  # type: ignore[arg-type]
    for ours, theirs in [
        ("gpt2", "tiktoken: gpt2"),
        ("gpt2", "tokenizers: gpt2"),
        ("wordpiece, uncased", "tokenizers: wordpiece, uncased"),
    ]:
        if tokenizers[ours].encode(text).tolist() != references[theirs]()(text):
            raise AssertionError(f"{name}: {ours} and {theirs} do not give the same ids, so there is nothing to time")
    rows = []
    for kind, tokenizer in tokenizers.items():
        if tokenizer.type not in ("word", "wordpiece") and tokenizer.decode(tokenizer.encode(text)) != text:
            raise AssertionError(f"{name}: {kind} does not give the text back")
        written = tokenizer.to_json()
        tokens = len(tokenizer.encode(text))
        rows.append({"text": name, "tokenizer": kind, "vocab_size": tokenizer.vocab_size, "tokens": tokens,
                     "MB/s": speeds(lambda: tokenizer_from_json(written).encode, text)})  # noqa: B023  # fmt: skip
    for kind, fresh in references.items():
        rows.append({"text": name, "tokenizer": kind, "tokens": len(fresh()(text)), "MB/s": speeds(fresh, text)})
    return rows


def training(name: str, text: str) -> list[dict[str, Any]]:
    """Seconds to learn each vocabulary from the text, and from parts of it."""
    import tokenizers

    def reference(part: str, vocab_size: int) -> Any:
        made = tokenizers.Tokenizer(tokenizers.models.BPE())
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        )
        made.train_from_iterator([part], trainer)
        return made

    rows = []
    for vocab_size, shares in VOCABULARIES.items():
        ours = GPT2Tokenizer.train(text, vocab_size, special_tokens=())
        theirs = json.loads(reference(text, vocab_size).to_str())["model"]["merges"]
        if [list(pair) for pair in ours.merges] != theirs:
            raise AssertionError(f"{name}: the merges are not those of tokenizers, so there is nothing to time")
        calls: dict[str, Callable[[str], Any]] = {
            "bpe": lambda part, size=vocab_size: BPETokenizer.train(part, size),
            "gpt2": lambda part, size=vocab_size: GPT2Tokenizer.train(part, size),
            "tokenizers: gpt2": lambda part, size=vocab_size: reference(part, size),
        }
        for kind, train in calls.items():
            for share in shares:
                part = text[: len(text) // share]
                times = [seconds(lambda: train(part)) for _ in range(ROUNDS)]  # noqa: B023
                row = {"text": name, "tokenizer": kind, "vocab_size": vocab_size}
                rows.append({**row, "MB": round(len(part.encode()) / 1e6, 3), "seconds": statistics.median(times)})
    return rows


def main() -> None:
    """Encode and train, print and save."""
    facts, start = machine(), time.perf_counter()
    encoded: list[dict[str, Any]] = []
    trained: list[dict[str, Any]] = []
    for name, text in texts().items():
        encoded += encoding(name, text)
        trained += training(name, text)
    taken = round(time.perf_counter() - start, 1)
    table(
        ["MB/s", "text", "tokens", "cold", "unseen", "again"],
        [
            (row["tokenizer"], row["text"], f"{row['tokens']:,}", *(f"{speed:.2f}" for speed in row["MB/s"].values()))
            for row in encoded
        ],
    )
    table(
        ["training", "text", "MB", "vocabulary", "seconds"],
        [
            (row["tokenizer"], row["text"], f"{row['MB']:.2f}", f"{row['vocab_size']:,}", f"{row['seconds']:.2f}")
            for row in trained
        ],
    )
    result = {"command": "make bench ONLY=tokenizer_speed", "seconds": taken, "rounds": ROUNDS}
    print(f"  -> {save('tokenizer_speed', {**result, 'encoding': encoded, 'training': trained}, facts)}")


if __name__ == "__main__":
    no_options(__doc__)
    main()

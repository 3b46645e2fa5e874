"""An encoder of a few thousand parameters as a published folder, and reviews that it can learn to tell apart."""

from __future__ import annotations

import csv
from pathlib import Path

from minilm.models import BERT, BERTConfig
from minilm.pretrained import save_pretrained
from minilm.random import Generator, using_generator
from minilm.text import WordPieceTokenizer

GOOD, BAD = ("good", "fine", "warm", "funny"), ("bad", "dull", "cold", "silly")
OTHERS = "the a film plot is was and very so of it".split()
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *OTHERS, *GOOD, *BAD]
CONFIG = BERTConfig(len(WORDS), 16, n_layer=2, n_head=2, n_embd=16, n_hidden=24, dropout=0.1)


def write_encoder(folder: Path, seed: int = 1) -> Path:
    """all-MiniLM-L6-v2 in small, with weights that nobody trained."""
    with using_generator(Generator(seed)):
        model = BERT(CONFIG)
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.ndim == 2:
            parameter.data *= 5  # 0.02 is little for so few channels, and nothing would be learnt in a few steps
    save_pretrained(model, WordPieceTokenizer(WORDS), folder)
    return folder


def reviews(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, "pos" or "neg"), each with one word that tells, one after the other."""
    generator = Generator(seed)
    found: dict[str, str] = {}
    while len(found) < n:
        length = int(generator.integers(3, 9))
        words = [OTHERS[i] for i in generator.integers(0, len(OTHERS), length)]
        good = len(found) % 2 == 0
        words[int(generator.integers(0, length))] = (GOOD if good else BAD)[int(generator.integers(0, 4))]
        found.setdefault(" ".join(words), "pos" if good else "neg")
    return list(found.items())


def write_table(path: Path, rows: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> Path:
    """A CSV file."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path

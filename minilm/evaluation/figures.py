"""Figures: what an evaluation found, and on how much text it stands.

A perplexity of 20 on 30 tokens and one on 300,000 are not the same piece of news. So whatever measures here gives its
numbers together with how many documents and how many tokens they come from, and says what counts as a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

from minilm.errors import DataError, MinilmError


@dataclass(frozen=True)
class Figures:
    """Numbers by name, and what they stand on.

    Attributes:
        values: such as {"accuracy": 0.8, "macro_f1": 0.79}.
        documents: how many were scored: texts, sentences, questions; 1 for one long text.
        tokens: how many were scored, or read, in the units that `token` names.
        token: what a token is here: each metric cuts text in its own way.
        details: what else can be told: a confusion matrix as a list of rows, the signature of BLEU.
    """

    values: Mapping[str, float]
    documents: int
    tokens: int
    token: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All of it in one flat dict that JSON can hold."""
        own = {"documents": self.documents, "tokens": self.tokens, "token": self.token}
        return {**self.values, **own, **self.details}


def check_pairs(predictions: Sequence[Any], references: Sequence[Any], what: str = "predictions") -> None:
    """Raise DataError unless there is something to score, and one entry of references for each prediction."""
    if len(predictions) != len(references):
        raise DataError(
            f"{len(predictions):,} {what} and {len(references):,} references: there must be one entry of references "
            "for each of them, in the same order"
        )
    if not len(predictions):
        raise DataError(f"nothing to score: there are no {what}")


def optional(package: str, does: str) -> ModuleType:
    """Import a package of the extra `eval`, which `does` something.

    Raises:
        MinilmError: if it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package.partition(".")[0]:
            raise  # it is there, and lacks something itself
        name = package.partition(".")[0].replace("_", "-")
        raise MinilmError(
            f"{does} needs the package {name}, which is not installed: pip install 'minilm[eval]'"
        ) from error

"""minilm classify: the class of each text, and how sure the model is of it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

AT_ONCE = 256  # lines that are read before they are sorted by length and classified


def classify(
    run: Annotated[
        str, typer.Argument(help="Folder that `minilm finetune --task classify` wrote, or such a model.", metavar="RUN")
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts; without any, stdin is read, a text on each line.", metavar="[TEXT]..."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Classify this file, a text on each line.", metavar="FILE")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with the probability of each class.")] = (
        False
    ),
) -> None:
    """Say which class each text is of: class, probability, text.

    \b
    Examples:
      minilm classify runs/reviews "a warm , funny film" "two hours of nothing"
      minilm classify runs/reviews --file reviews.txt --json
      head reviews.txt | minilm classify runs/reviews
    """
    from itertools import islice
    from json import dumps

    from minilm.cli.output import cut_short
    from minilm.errors import ConfigurationError, DataError
    from minilm.pretrained import TextClassifier

    if texts and file is not None:
        raise ConfigurationError("a TEXT and a --file: classify one of them at a time")
    if not texts and file is None and sys.stdin.isatty():
        raise ConfigurationError(f'what shall be classified? Give a text, as in: minilm classify {run} "a fine film"')
    if texts and not all(text.strip() for text in texts):
        raise DataError("there is nothing to classify: a text is empty")
    classifier = TextClassifier.load(run)
    width = max(map(len, classifier.names))
    lines = iter(texts) if texts else _lines(file)
    while group := list(islice(lines, AT_ONCE)):
        for text, row in zip(group, classifier.probabilities(group).tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            label, probability = classifier.names[best], row[best]
            if json:
                each = dict(zip(classifier.names, row, strict=True))
                found = {"text": text, "label": label, "probability": probability, "probabilities": each}
                typer.echo(dumps(found, ensure_ascii=False))
            else:
                typer.echo(f"{label:<{width}}  {probability:.4f}  {text}")
    if classifier.cut:
        typer.echo(cut_short(classifier.cut, classifier.max_tokens), err=True)


def _lines(file: Path | None) -> Iterator[str]:
    """The lines with text in them of a file, or of stdin."""
    from minilm.cli import stdin
    from minilm.errors import DataError
    from minilm.text import iter_text

    found = False
    pieces = (line for piece in iter_text(file) for line in piece.split("\n")) if file is not None else stdin.lines()
    for line in pieces:
        if line.strip():
            found = True
            yield line.removesuffix("\n")
    if not found:
        raise DataError(f"there is nothing to classify: {file or 'stdin'} holds no text")

"""minilm summarize: a document in a line, by a model that has learnt it from documents with their lines."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def summarize(
    text: Annotated[
        str | None,
        typer.Argument(help="A document; - (or nothing) reads stdin, all of it.", metavar="[TEXT]"),
    ] = None,
    model: Annotated[
        Path, typer.Option("--model", "-m", help="Folder of a run, or a checkpoint.", metavar="RUN")
    ] = Path("runs/summarize"),
    file: Annotated[Path | None, typer.Option(help="Summarize this file.", metavar="FILE")] = None,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses side by side; 1 is greedy.", metavar="K")] = 4,
    length_penalty: Annotated[
        float, typer.Option(min=0, help="Above 0, longer summaries are preferred.", metavar="X")
    ] = 0.6,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of a summary, at most.", metavar="N")] = None,
) -> None:
    """Say in a line what a document is about, with a model that `minilm train --preset summarize` made.

    It knows documents like those it has learnt from, and reads their beginning
    only: as many tokens as in its training.

    \b
    Examples:
      minilm summarize "This package provides a library to read images." --model runs/summarize
      minilm summarize --file paper.txt --beam 1
      cat paper.txt | minilm summarize
    """
    from minilm.cli import pair_run, stdin
    from minilm.errors import ConfigurationError, DataError
    from minilm.generation import translate
    from minilm.text import read_text

    if text is not None and file is not None:
        raise ConfigurationError("a TEXT and a --file: summarize one of them at a time")
    if text is None and file is None and sys.stdin.isatty():
        raise ConfigurationError("what shall be summarized? Give a text, as in: minilm summarize --file paper.txt")
    writer, tokenizer = pair_run.load(model, pair_run.SUMMARIZES)
    if file is not None:
        document = read_text(file)
    else:
        document = stdin.text() if text is None or text == "-" else text
    if not document.strip():
        raise DataError("there is nothing to summarize: the text is empty")
    longest, tokens = pair_run.longest_source(model, writer), len(tokenizer.encode(document))
    if longest is not None and tokens > longest:
        sys.stderr.write(f"the model reads the first {longest:,} of {tokens:,} tokens\n")
    [summary] = translate(writer, tokenizer, [document], beam, length_penalty, max_length, longest=longest)
    sys.stdout.write(summary + "\n")

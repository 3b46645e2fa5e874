"""minilm embed: sentences as vectors, how near they are to each other, and search by meaning."""

from pathlib import Path
from typing import Annotated, Any

import typer

MOST_PAIRED = 2000


def embed(
    sentences: Annotated[
        list[str] | None, typer.Argument(help="Texts to compare with one another.", metavar="TEXT...")
    ] = None,
    search: Annotated[str | None, typer.Option(help="Find what is nearest to this in --data.", metavar="TEXT")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Texts: a file or a folder; may be given again.", metavar="PATH")
    ] = None,
    text_column: Annotated[
        str, typer.Option(help="Of a CSV or JSONL: the column or field with the text.", metavar="NAME")
    ] = "text",
    by: Annotated[str, typer.Option(help="What a text of --data is: a line, or a paragraph.", metavar="UNIT")] = "line",
    top: Annotated[int, typer.Option(min=1, help="How many to show.", metavar="N")] = 5,
    out: Annotated[Path | None, typer.Option(help="Write the vectors (N, C) as .npy.", metavar="FILE")] = None,
    model: Annotated[
        str, typer.Option(help="A folder with a sentence encoder, or the name of one.", metavar="MODEL")
    ] = "all-MiniLM-L6-v2",
) -> None:
    """Turn texts into vectors that are near where the meanings are.

    \b
    Examples:
      minilm embed "A man is eating." "Someone has a meal." "It rains."
      minilm embed --search "love at first sight" --data plays.txt --top 3
      minilm embed --data sentences.txt --out vectors.npy
    """
    import numpy as np

    from minilm.cli.finetune_task import is_own_run
    from minilm.cli.output import cut_short
    from minilm.errors import ConfigurationError, DataError
    from minilm.pretrained import SentenceEncoder, nearest

    if by not in ("line", "paragraph"):
        raise ConfigurationError(f"--by is line or paragraph, not {by!r}")
    if search is not None and not data:
        raise ConfigurationError("--search needs the texts to search: --data FILE")
    if out is not None and not out.parent.is_dir():
        raise ConfigurationError(f"--out {out}: there is no folder {out.parent}")
    if not all(text.strip() for text in [*(sentences or []), *([] if search is None else [search])]):
        raise DataError("a text is empty: there is nothing in it that could mean something")
    texts = [*(sentences or []), *_texts(data or [], text_column, by)]
    if not texts:
        raise ConfigurationError('give texts to embed: minilm embed "one text" "another", or --data FILE')
    if len(texts) > MOST_PAIRED and search is None and out is None:
        raise ConfigurationError(
            f"{len(texts):,} texts are too many to compare each with each (at most {MOST_PAIRED:,}): "
            f"use --search, or --out"
        )
    if is_own_run(model):
        raise ConfigurationError(
            f"{model} is no sentence encoder, but a run of another model: without --model it is all-MiniLM-L6-v2"
        )
    encoder = SentenceEncoder.load(model)
    vectors = _encode(encoder, texts)
    if out is not None:
        from minilm.text import atomic_write

        with atomic_write(out) as file:
            np.save(file, vectors)
    if search is not None:
        for place, cosine in nearest(encoder.encode([search])[0], vectors, top):
            typer.echo(f"{cosine:.4f}  {texts[place]}")
    elif out is None:
        _similarities(texts, vectors, top)
    if encoder.cut:
        typer.echo(cut_short(encoder.cut, encoder.max_tokens), err=True)


def _texts(sources: list[str], column: str, by: str) -> list[str]:
    """The lines, or the paragraphs, of files; each once, without the empty ones."""
    import re

    from minilm.text import read_documents

    found: dict[str, None] = {}
    for document in (d for source in sources for d in read_documents(source, column)):
        parts = document.splitlines() if by == "line" else re.split(r"\n\s*\n", document)
        found.update(dict.fromkeys(" ".join(part.split()) for part in parts))
    found.pop("", None)
    return list(found)


def _encode(encoder: Any, texts: list[str], at_once: int = 256) -> Any:
    """The vectors of all texts, with a progress bar if there are many."""
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    parts = [texts[i : i + at_once] for i in range(0, len(texts), at_once)]
    watched = track(
        parts, "embedding", console=console, transient=True, disable=len(parts) < 2 or not console.is_terminal
    )
    return np.concatenate([encoder.encode(part) for part in watched])


def _similarities(texts: list[str], vectors: Any, top: int) -> None:
    """A table of cosines; of many texts, the pairs that are nearest to each other."""
    import numpy as np

    from minilm.cli.output import say, table

    if len(texts) == 1:
        say(" ".join(f"{x:.6f}" for x in vectors[0]))
        return
    cosines = vectors @ vectors.T
    if len(texts) <= 8:
        numbers = [str(i + 1) for i in range(len(texts))]
        rows = [(f"{n} {t}", *(f"{c:.3f}" for c in row)) for n, t, row in zip(numbers, texts, cosines, strict=True)]
        table(["cosine", *numbers], rows)
        return
    pairs = np.argwhere(np.triu(np.ones(cosines.shape, bool), 1))
    best = pairs[np.argsort(-cosines[tuple(pairs.T)], kind="stable")[:top]]
    for i, j in best:
        say(f"{cosines[i, j]:.4f}  {texts[i]}\n        {texts[j]}")

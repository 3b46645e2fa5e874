"""minilm translate: texts through a model that reads one and writes another."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

PICTURES = (".png", ".svg", ".pdf")


def translate(
    text: Annotated[
        str | None,
        typer.Argument(help="A sentence; - (or nothing) reads stdin, a sentence on each line.", metavar="[TEXT]"),
    ] = None,
    model: Annotated[
        Path, typer.Option("--model", "-m", help="Folder of a run, or a checkpoint.", metavar="RUN")
    ] = Path("runs/translate"),
    file: Annotated[
        Path | None, typer.Option(help="Translate this file, a sentence on each line.", metavar="FILE")
    ] = None,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses side by side; 1 is greedy.", metavar="K")] = 4,
    length_penalty: Annotated[
        float, typer.Option(min=0, help="Above 0, longer translations are preferred.", metavar="X")
    ] = 0.6,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a translation, at most.", metavar="N")
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(help="Draw where the model looks while it writes (one sentence).", metavar="PNG|SVG|PDF"),
    ] = None,
) -> None:
    """Translate with a model that `minilm train transformer` or `seq2seq-lstm` made.

    It knows sentences like those it has seen: of the corpus tatoeba_en_de, short ones.

    \b
    Examples:
      minilm translate "Good morning." --model runs/translate
      minilm translate --file english.txt --beam 1 > german.txt
      minilm translate "I like it." --attention map.png
    """
    from minilm.cli import pair_run
    from minilm.errors import ConfigurationError, DataError

    if text is not None and file is not None:
        raise ConfigurationError("a TEXT and a --file: translate one of them at a time")
    if attention is not None and not attention.parent.is_dir():
        raise ConfigurationError(f"--attention {attention}: there is no folder {attention.parent}")
    if attention is not None and attention.suffix.lower() not in PICTURES:
        raise ConfigurationError(f"--attention {attention}: the name of a picture ends with {', '.join(PICTURES)}")
    translator, tokenizer = pair_run.load(model)
    lines = _lines(text, file)
    if attention is not None:
        lines = iter(chosen := [line for line in lines if line.strip()])
        if len(chosen) != 1:
            raise DataError(f"--attention draws the map of one sentence, and here are {len(chosen)}")
    for source, best in _translated(translator, tokenizer, lines, beam, length_penalty, max_length):
        sys.stdout.write((tokenizer.decode(best) if best is not None else "") + "\n")
        sys.stdout.flush()
        if attention is not None:
            _draw(translator, tokenizer, source, best, attention)


AT_ONCE = 64  # lines of a file


def _lines(text: str | None, file: Path | None) -> Iterator[str]:
    from minilm.cli import stdin
    from minilm.errors import ConfigurationError, DataError
    from minilm.text import read_text

    if file is not None:
        yield from read_text(file).removesuffix("\n").split("\n")
    elif text is not None and text != "-":
        if not text.strip():
            raise DataError("there is nothing to translate: the text is empty")
        yield text
    elif text is None and sys.stdin.isatty():
        raise ConfigurationError('what shall be translated? Give a text, as in: minilm translate "Good morning."')
    else:
        yield from (line.removesuffix("\n") for line in stdin.lines())


def _translated(
    model: Any, tokenizer: Any, lines: Iterator[str], beam: int, alpha: float, max_length: int | None
) -> Iterator[tuple[str, Any]]:
    """Each line with the ids of its translation, None for a line without text."""
    from itertools import islice

    from minilm.generation import hypotheses

    while group := list(islice(lines, AT_ONCE)):
        texts = [line for line in group if line.strip()]
        found = iter(hypotheses(model, tokenizer, texts, beam, alpha, max_length))
        for line in group:
            yield line, next(found)[0].ids if line.strip() else None


def _draw(model: Any, tokenizer: Any, source: str, best: Any, path: Path) -> None:
    """The map of each layer, the mean of its heads."""
    import numpy as np

    from minilm.plots import plot_attention

    read, written = tokenizer.encode(source), np.array(best)
    weights = model.attention_weights(read[None], np.append(tokenizer.bos_id, written[:-1])[None])  # (L, 1, H, T, Tk)
    labels = [f"layer {i + 1}" for i in range(len(weights))]
    plot_attention(weights[:, 0].mean(1), tokenizer.pieces(read), tokenizer.pieces(written), path, source, labels)

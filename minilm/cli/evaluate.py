"""minilm eval: how well a model predicts a text that it has not seen."""

from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a checkpoint.", metavar="RUN")],
    data: Annotated[
        str | None,
        typer.Option(help="Another text to score: name or path, as for train.", metavar="NAME|PATH"),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Which part of the run's own data: test, validation or train.", metavar="PART")
    ] = "test",
    text_column: Annotated[str, typer.Option(help="Column or field with the text.", metavar="NAME")] = "text",
    errors: Annotated[
        str, typer.Option(help="Bytes that are not UTF-8: strict, replace or ignore.", metavar="HOW")
    ] = "strict",
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers to this file too.", metavar="FILE")
    ] = None,
) -> None:
    """Loss, perplexity and bits per character of a model.

    The best checkpoint of the run is scored on all of its test part, or on a text of yours.
    A GPT sees windows of its context, a recurrent model windows of 512 tokens.

    \b
    Examples:
      minilm eval runs/gpt
      minilm eval runs/gpt --split validation --json gpt.json
      minilm eval runs/gpt/checkpoint-500 --data mytext.txt
    """
    from dataclasses import asdict

    from minilm.cli import run as runs
    from minilm.cli.data import PARTS
    from minilm.errors import ConfigurationError

    if split not in PARTS:
        raise ConfigurationError(f"--split is one of {', '.join(PARTS)}, not {split!r}")
    if json is not None and not json.parent.is_dir():
        raise ConfigurationError(f"--json {json}: there is no folder {json.parent}")
    model, tokenizer = runs.load(run)
    tokens, sizes, name = _text(run, tokenizer, data, split, text_column, errors)
    score = runs.score(model, tokens, sizes)
    runs.score_table([(name, score)], tokenizer.type, str(run))
    if json is not None:
        _write(json, {"run": str(run), "text": name, "tokenizer": tokenizer.type, **asdict(score)})


def _text(
    run: Path, tokenizer: Any, data: str | None, split: str, text_column: str, errors: str
) -> tuple[Any, Any, str]:
    """(tokens (N,), sizes, name) of the text to score."""
    from minilm.cli.data import encode, open_data
    from minilm.cli.presets import Settings
    from minilm.errors import DataError, TokenizerError
    from minilm.training import find_checkpoint

    if data is not None:
        settings = Settings(model="gpt", data=data, text_column=text_column, errors=errors)
        return *encode(settings, tokenizer), data
    folder = find_checkpoint(run).parent / "data"
    try:
        own = open_data(folder)
    except (DataError, TokenizerError) as error:
        raise DataError(f"the run's own data cannot be used ({error}): name a text with --data") from error
    if own.tokenizer != tokenizer:
        raise TokenizerError(
            f"the data in {folder} were made with another tokenizer ({own.tokenizer!r}) than the checkpoint "
            f"({tokenizer!r}): name a text with --data"
        )
    return own.tokens[split], own.sizes[split], split


def _write(path: Path, numbers: dict[str, Any]) -> None:
    import json

    from minilm.text import atomic_write

    with atomic_write(path) as file:
        file.write((json.dumps(numbers, indent=1) + "\n").encode())

"""minilm eval: how good a model is, in the figures that belong to its kind."""

from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    run: Annotated[
        Path, typer.Argument(help="A run, a checkpoint, a .gguf or a folder; or an installed model.", metavar="MODEL")
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Text to score: name or path; or a table, pairs, questions.", metavar="NAME|PATH"),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="perplexity, accuracy, bleu (and chrF), rouge, exact-match (and F1); auto: by the model.",
            metavar="NAME",
        ),
    ] = "auto",
    split: Annotated[
        str, typer.Option(help="Which part of the run's own data: test, validation or train.", metavar="PART")
    ] = "test",
    text_column: Annotated[str, typer.Option(help="Column or field with the text.", metavar="NAME")] = "text",
    label_column: Annotated[str, typer.Option(help="Column or field with the class.", metavar="NAME")] = "label",
    source_column: Annotated[
        str | None, typer.Option(help="Of pairs in a CSV or JSONL: what is read.", metavar="NAME")
    ] = None,
    target_column: Annotated[
        str | None, typer.Option(help="And what is to be written; both else as in the training.", metavar="NAME")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Score N documents only (the first; of classes, all over), or N tokens.", metavar="N"),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a window; by itself the context, at most 1024.", metavar="T"),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, help="From window to window; below T, tokens see more: better and slower.", metavar="N"),
    ] = None,
    beam: Annotated[int, typer.Option(min=1, help="For what is written: hypotheses side by side.", metavar="K")] = 4,
    errors: Annotated[
        str, typer.Option(help="Bytes that are not UTF-8: strict, replace or ignore.", metavar="HOW")
    ] = "strict",
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers to this file too.", metavar="FILE")
    ] = None,
) -> None:
    """Measure a model: perplexity and bits per byte, accuracy and F1, BLEU, ROUGE.

    The best checkpoint of a run is scored on all of its test part, or on data of
    yours. A text longer than the context is cut into windows, each token scored
    once; a recurrent model sees windows of 512 tokens.

    \b
    Examples:
      minilm eval runs/gpt
      minilm eval runs/gpt --split validation --stride 16 --json gpt.json
      minilm eval SmolLM2-135M-Instruct --data mytext.txt --stride 512
      minilm eval runs/translate --limit 500
      minilm eval runs/reviews --data reviews.csv
      minilm eval runs/answer --data questions.json
    """
    import time

    from minilm.cli import evaluate_kinds as kinds
    from minilm.cli.presets import choose
    from minilm.errors import ConfigurationError

    kinds.check_part(split)
    choose("--errors", errors, ("strict", "replace", "ignore"))
    if json is not None and not json.parent.is_dir():
        raise ConfigurationError(f"--json {json}: there is no folder {json.parent}")
    if json is not None and json.is_dir():
        raise ConfigurationError(f"--json {json} is a folder: name a file in it")
    model, tokenizer = kinds.load(run)
    chosen = kinds.choose_metric(model, metric, run)
    began = time.perf_counter()
    if chosen == "perplexity":
        text = kinds.read_text(run, tokenizer, data, split, text_column, errors, limit)
        numbers = kinds.perplexity(model, tokenizer, text, context, stride)
    elif chosen == "pseudo-perplexity":
        text = kinds.read_text(run, tokenizer, data, split, text_column, errors, limit)
        numbers = kinds.pseudo_perplexity(model, tokenizer, text, context)
    elif chosen == "accuracy":
        numbers = kinds.accuracy(run, model, tokenizer, data, text_column, label_column, errors, limit)
    elif isinstance(model, kinds.ANSWERERS):
        numbers = kinds.answers(model, tokenizer, run, data, limit, context, stride)
    else:
        numbers = kinds.written(model, tokenizer, run, chosen, data, split, beam, limit, source_column, target_column)
    kinds.show(str(run), chosen, numbers, tokenizer.type)
    if json is not None:
        seconds = time.perf_counter() - began
        _write(json, {"run": str(run), "metric": chosen, "tokenizer": tokenizer.type, **numbers, "seconds": seconds})


def _write(path: Path, numbers: dict[str, Any]) -> None:
    import json

    from minilm.text import atomic_write

    with atomic_write(path) as file:
        file.write((json.dumps(numbers, indent=1) + "\n").encode())

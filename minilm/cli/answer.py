"""minilm answer: where in a text the answer to a question stands."""

from pathlib import Path
from typing import Annotated, Any

import typer

AROUND = 60  # characters shown on either side of an answer


def answer(
    model: Annotated[
        Path,
        typer.Argument(help="What `minilm finetune --task answer` made.", metavar="MODEL"),
    ],
    question: Annotated[str, typer.Option("--question", "-q", help="The question.", metavar="TEXT")],
    context: Annotated[
        str | None, typer.Option("--context", "-c", help="The text to look for the answer in.", metavar="TEXT")
    ] = None,
    context_file: Annotated[
        Path | None, typer.Option(help="The same from a file; - reads stdin.", metavar="FILE")
    ] = None,
    longest: Annotated[int, typer.Option(min=1, help="Tokens of an answer, at most.", metavar="N")] = 30,
    window: Annotated[
        int | None, typer.Option(min=8, help="Tokens read at once; by itself the context, at most 384.", metavar="T")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, help="From window to window of a long text; half a window.", metavar="N")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the piece of a text that answers a question.

    It always gives one; only a low probability tells that there is none.

    \b
    Examples:
      minilm answer runs/answer -q "Who wrote it?" -c "Ada wrote it in 1843."
      minilm answer runs/answer -q "When was it built?" --context-file text.txt
      minilm answer runs/answer -q "Who?" --context-file - --json < text.txt
    """
    from minilm.cli.output import facts
    from minilm.errors import DataError
    from minilm.generation import find_answers

    text = _text(context, context_file)
    for name, given in (("question", question), ("context", text)):
        if not given.strip():
            raise DataError(f"the {name} is empty: there is nothing to look for an answer with")
    answerer, tokenizer = load(model)
    (found,) = find_answers(answerer, tokenizer, [(question, text)], longest, window, stride)
    if json:
        import json as writer

        numbers = {"answer": found.text, "probability": found.probability, "begin": found.begin, "end": found.end}
        typer.echo(writer.dumps({"question": question, **numbers}, ensure_ascii=False))
        return
    place = f"characters {found.begin:,} to {found.end:,} of {len(text):,}"
    shown = [("answer", " ".join(found.text.split())), ("probability", f"{found.probability:.3f}"), ("place", place)]
    facts([*shown, ("there", _around(text, found.begin, found.end))])


def load(path: Path) -> tuple[Any, Any]:
    """The model at a path and its tokenizer, if it answers questions.

    Raises:
        CheckpointError: if there is none, or it is of another kind.
    """
    from minilm.cli import evaluate_kinds
    from minilm.errors import CheckpointError
    from minilm.models import BERTForQuestionAnswering
    from minilm.pretrained import locate
    from minilm.text import WordPieceTokenizer

    make = "`minilm finetune all-MiniLM-L6-v2 --task answer --data FILE`, where FILE has questions like SQuAD's"
    if not locate(path).exists():
        raise CheckpointError(f"there is no folder {path}: a model that answers questions is made with {make}")
    model, tokenizer = evaluate_kinds.load(path)
    if not isinstance(model, BERTForQuestionAnswering) or not isinstance(tokenizer, WordPieceTokenizer):
        raise CheckpointError(
            f"{path} holds a {type(model).__name__}, which does not answer questions: make one that does with {make}"
        )
    return model, tokenizer


def _text(context: str | None, file: Path | None) -> str:
    from minilm.cli import stdin
    from minilm.errors import ConfigurationError
    from minilm.text import read_text

    if (context is None) == (file is None):
        raise ConfigurationError("give the text to look in, either as --context or as --context-file")
    if file is None:
        assert context is not None
        return context
    return stdin.text() if str(file) == "-" else read_text(file)


def _around(text: str, begin: int, end: int) -> str:
    """The answer in brackets, with some of the text before and after it, on one line."""
    before, after = text[max(0, begin - AROUND) : begin], text[end : end + AROUND]
    if begin > AROUND:
        before = "... " + (before.partition(" ")[2] or before)
    if end + AROUND < len(text):
        after = (after.rpartition(" ")[0] or after) + " ..."
    return " ".join(f"{before}[{text[begin:end]}]{after}".split())

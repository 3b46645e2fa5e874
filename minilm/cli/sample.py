"""minilm sample: what a model writes, shown while it is written."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def sample(
    run: Annotated[
        Path, typer.Argument(help="A run, a checkpoint, a .gguf or a folder; or an installed model.", metavar="MODEL")
    ],
    prompt: Annotated[
        str, typer.Option(help="Text to go on from; - reads it from stdin.", metavar="TEXT", show_default=False)
    ] = "",
    tokens: Annotated[int, typer.Option(min=0, help="How many to write.", metavar="N")] = 500,
    temperature: Annotated[
        float, typer.Option(help="Below 1 bolder, above 1 wilder; 0: always the most probable.", metavar="X")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Draw from the N most probable tokens only.", metavar="N")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the fewest tokens that have this probability together.", metavar="P")
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1, what was there before becomes less probable.", metavar="X")
    ] = 1.0,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; may be given again.", metavar="TEXT")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same text; without one, a new text.", metavar="N")
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Compute everything again for each token: the same text, slowly.")
    ] = False,
) -> None:
    """Write text with a model, starting with the prompt.

    \b
    Examples:
      minilm sample runs/gpt --prompt "ROMEO:" --tokens 300 --seed 1
      minilm sample runs/gpt --temperature 0.8 --top-k 40 --top-p 0.95
      minilm sample SmolLM2-135M-Instruct --prompt "def fibonacci(n):" --tokens 60
      head -3 mytext.txt | minilm sample runs/lstm --prompt - --stop "\\n\\n"
    """
    from minilm.cli import evaluate_kinds as kinds
    from minilm.cli import stdin
    from minilm.generation import SamplingSettings

    settings = SamplingSettings(temperature, top_k, top_p, repetition_penalty)
    model, tokenizer = kinds.load_language_model(run)
    if prompt == "-":
        prompt = stdin.text()
    elif not prompt:
        prompt = start(tokenizer)
    pieces = stream(model, tokenizer, prompt, tokens, settings, seed, _stops(stop), not no_cache)
    if prompt.strip():
        _show(prompt)
    for piece in pieces:
        _show(piece)
    _show("\n")


def stream(
    model: Any,
    tokenizer: Any,
    prompt: str,
    tokens: int,
    settings: Any,
    seed: int | None,
    stops: list[str],
    use_cache: bool = True,
) -> Any:
    """The pieces of the text that follows the prompt."""
    from minilm.generation import stream_text
    from minilm.random import Generator

    if seed is None:
        import secrets

        seed = secrets.randbits(32)
    return stream_text(model, tokenizer, prompt, tokens, settings, Generator(seed), stops, use_cache)


def start(tokenizer: Any) -> str:
    """A text of one token to begin with: a line break, or what the tokenizer has instead."""
    from minilm.errors import TokenizerError

    try:
        if len(tokenizer.encode("\n")):
            return "\n"
    except TokenizerError:
        pass  # a text without line breaks
    return tokenizer.decode([min(1, tokenizer.vocab_size - 1)])  # of words, the most frequent


def _stops(stop: list[str] | None) -> list[str]:
    r"""Stop strings with the escapes \n and \t, which a shell would hand over as they are."""
    return [text.replace("\\n", "\n").replace("\\t", "\t") for text in stop or []]


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

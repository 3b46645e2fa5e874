"""minilm chat: a conversation with a chat model, in NumPy."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

LONGEST_REPLY = 512  # tokens
HELP = "/exit ends, /new forgets what was said, Ctrl-C stops a reply"


def chat(
    model: Annotated[
        str, typer.Option(help="A .gguf file, a folder, or the name of an installed model.", metavar="MODEL")
    ] = "SmolLM2-135M-Instruct",
    prompt: Annotated[
        str | None, typer.Option(help="Answer this and end; - reads it from stdin.", metavar="TEXT")
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told about its part.", metavar="TEXT")] = None,
    tokens: Annotated[
        int | None,
        typer.Option(min=1, help="The most that a reply may have (512, or half of a small context).", metavar="N"),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Below 1 bolder, above 1 wilder; 0: always the most probable.", metavar="X")
    ] = 0.2,
    top_p: Annotated[
        float, typer.Option(help="Draw from the fewest tokens that have this probability together.", metavar="P")
    ] = 0.9,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1, what was there before becomes less probable.", metavar="X")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same replies.", metavar="N")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Write on from the prompt, which is not put to the model as a question.")
    ] = False,
    context: Annotated[
        int | None, typer.Option(min=2, help="See at most so many tokens; less than the model can.", metavar="N")
    ] = None,
) -> None:
    """Talk with a chat model. /exit ends the conversation.

    \b
    Examples:
      minilm chat
      minilm chat --prompt "What is the capital of France?"
      minilm chat --prompt "The capital of France is" --plain --tokens 8
      minilm chat --model path/to/model.gguf --system "You answer in rhymes."
    """
    import secrets

    from minilm.cli import stdin
    from minilm.errors import ConfigurationError, DataError, TokenizerError
    from minilm.generation import SamplingSettings, stream_text
    from minilm.pretrained import Conversation, from_pretrained, load_chat_template
    from minilm.random import Generator

    if plain and prompt is None:
        raise ConfigurationError("--plain writes on from a text: give it with --prompt")
    settings = SamplingSettings(temperature, None, top_p, repetition_penalty)
    _check(Path(model))
    llama, tokenizer = from_pretrained(model, context_length=context)
    if tokenizer is None or not hasattr(llama, "decode"):
        raise ConfigurationError(f"{model} cannot chat: that takes a model that writes, and its tokenizer")
    if tokens is None:
        tokens = min(LONGEST_REPLY, max(1, llama.context_length // 2))
    generator = Generator(secrets.randbits(32) if seed is None else seed)
    prompt = stdin.text().strip() if prompt == "-" else prompt
    if prompt is not None and not (prompt if plain else prompt.strip()):
        raise DataError("there is nothing to answer: the prompt is empty")
    if prompt is not None and plain:
        _show(stream_text(llama, tokenizer, prompt, tokens, settings, generator))
        return
    template = load_chat_template(model, tokenizer)

    def begin() -> Conversation:
        return Conversation(llama, tokenizer, template, system, settings, generator, tokens)

    conversation = begin()
    turns = []
    if prompt is not None:
        _show(conversation.reply(prompt))
    else:
        if sys.stdin.isatty():
            _say(f"{model}: {HELP}")
        for message in _messages():
            if message == "/new":
                turns += conversation.turns
                conversation = begin()
                continue
            before = conversation.forgotten
            try:
                _show(conversation.reply(message))
            except (DataError, TokenizerError) as error:  # a message that is too long, or no text
                _say(f"error: {error}")
            if conversation.forgotten > before:
                _say(f"(the context of {llama.context_length:,} tokens is full: the oldest messages are forgotten)")
    _say(_summary([*turns, *conversation.turns]))


def _check(path: Path) -> None:
    """Raise ConfigurationError if the model is one that `minilm train` made, and nobody taught to answer."""
    from minilm.cli.evaluate_kinds import is_published, load_language_model
    from minilm.cli.output import shown
    from minilm.errors import ConfigurationError
    from minilm.models import GPT, Llama
    from minilm.training import list_checkpoints

    if not is_published(path) and (list_checkpoints(path) or (path / "manifest.json").is_file()):
        own, _ = load_language_model(path)  # another kind does not even go on with a text, and it says so
        learn = f": minilm finetune {shown(path)} --task instruct --data pairs.jsonl --out runs/tuned"
        raise ConfigurationError(
            f"{path} is a model of ours that goes on with a text (minilm sample {shown(path)}) and was not taught to "
            f"answer{learn if isinstance(own, GPT | Llama) else ''}"
        )


def _messages() -> Iterator[str]:
    """What is typed, line by line, until /exit or the end; empty lines are passed over."""
    from minilm.cli import stdin

    for line in _typed() if sys.stdin.isatty() else stdin.lines():
        message = line.strip()
        if message == "/exit":
            return
        if message:
            yield message


def _typed() -> Iterator[str]:
    """The lines that somebody types at a terminal."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives input() a line that can be edited
    with contextlib.suppress(EOFError):
        while True:
            yield input("> ")


def _show(pieces: Iterator[str]) -> None:
    """Write a reply while it comes; Ctrl-C ends the reply and not the conversation."""
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        pieces.close()  # type: ignore[attr-defined]
    sys.stdout.write("\n")
    sys.stdout.flush()


def _summary(turns: list[Any]) -> str:
    """How fast it went, and the memory that it took."""
    from minilm.training.process import peak_memory

    written, read = sum(t.written for t in turns), sum(t.read for t in turns)
    writing, reading = sum(t.seconds_writing for t in turns), sum(t.seconds_to_first for t in turns)
    after_first = sum(max(0, t.written - 1) for t in turns)
    speeds = []
    if writing:
        speeds.append(f"{written} tokens written at {after_first / writing:.1f} tokens/s")
    if reading:
        speeds.append(f"{read} read at {read / reading:.0f} tokens/s")
    return ", ".join([*speeds, f"peak memory {peak_memory() / 2**20:,.0f} MB"])


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()

"""The commands, the options that all of them have, and how errors are shown.

A command is a function in the file of its name that knows nothing of this one; `guarded` adds --debug, --backend and
--threads to it. Bad input becomes one message, `error: ...`, and an exit status:

    0     all went well
    1     an error; a traceback is shown with --debug only
    2     options that the command does not have, or values that do not parse (typer's own messages)
    130   interrupted with Ctrl-C or SIGTERM
    141   whoever read the output has closed it (`minilm sample ... | head`): nothing is said
"""

import functools
import inspect
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import typer

from minilm import __version__
from minilm.cli.answer import answer
from minilm.cli.bench import bench
from minilm.cli.chat import chat
from minilm.cli.classify import classify
from minilm.cli.demo import demo
from minilm.cli.doctor import doctor
from minilm.cli.embed import embed
from minilm.cli.evaluate import evaluate
from minilm.cli.finetune import finetune
from minilm.cli.gradcheck import gradcheck
from minilm.cli.sample import sample
from minilm.cli.summarize import summarize
from minilm.cli.threads import use_threads
from minilm.cli.train import train
from minilm.cli.translate import translate
from minilm.errors import MinilmError

COMMANDS: dict[str, Callable[..., Any]] = {
    "doctor": doctor,
    "train": train,
    "eval": evaluate,
    "sample": sample,
    "chat": chat,
    "embed": embed,
    "finetune": finetune,
    "classify": classify,
    "answer": answer,
    "translate": translate,
    "summarize": summarize,
    "gradcheck": gradcheck,
    "bench": bench,
    "demo": demo,
}
INTERRUPTED, PIPE_CLOSED = 130, 141  # what a shell says of a program that SIGINT or SIGPIPE ended

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", show_default=False)]
Backend = Annotated[
    str | None,
    typer.Option(help="Where arrays live: numpy, cupy or triton (or set MINILM_BACKEND).", metavar="NAME"),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="How many work at a time (or set MINILM_THREADS); one a core, at most 8.", metavar="N"),
]
BLAS_AS_IT_IS = (bench, doctor)  # they measure and report what there is

app = typer.Typer(
    name="minilm",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"minilm {__version__}")
        raise typer.Exit()


@app.callback()
def common(
    ctx: typer.Context,
    debug: Debug = False,
    backend: Backend = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Language models from scratch in NumPy: train, evaluate and sample them.

    \b
    A first round:
      minilm doctor
      minilm train gpt --data shakespeare --preset tiny --out runs/first
      minilm eval runs/first
      minilm sample runs/first --prompt "ROMEO:" --tokens 300
    """
    ctx.obj = {"debug": debug, "backend": backend}


def guarded(function: Callable[..., Any]) -> Callable[..., None]:
    """The command `function` with the common options, and with errors shown as people should see them."""

    def command(
        *,
        ctx: typer.Context,
        debug: Debug = False,
        backend: Backend = None,
        threads: Threads = None,
        **options: Any,
    ) -> None:
        status = 0
        try:
            use_threads(threads, one_of_blas=function not in BLAS_AS_IT_IS)
            with _chosen_backend(backend or ctx.obj["backend"]):
                function(**options)
            sys.stdout.flush()
        except (typer.Exit, SystemExit):
            raise
        except BaseException as error:
            if debug or ctx.obj["debug"]:
                traceback.print_exception(error)
            status = show(error)
        if status:
            raise typer.Exit(status)

    # typer reads the options from the signature: the function's, and those that `command` adds.
    own, added = inspect.signature(function), inspect.signature(command)
    extra = [p for p in added.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    functools.update_wrapper(command, function)
    command.__signature__ = inspect.Signature([*own.parameters.values(), *extra])  # type: ignore[attr-defined]
    command.__annotations__ = {**function.__annotations__, **{p.name: p.annotation for p in extra}}
    return command


def _chosen_backend(name: str | None) -> AbstractContextManager[Any]:
    if name is None:  # then MINILM_BACKEND counts, once something is computed
        return nullcontext()
    from minilm.backend import use_backend

    return use_backend(name)


def show(error: BaseException) -> int:
    """Say on stderr what went wrong, in the words of the error, and return the exit status."""
    if isinstance(error, BrokenPipeError):
        # Python flushes stdout once more when it ends and may complain again: its manual's note on SIGPIPE.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    if isinstance(error, MinilmError):
        training = sys.modules.get("minilm.training")  # not imported for this
        if training and isinstance(error, training.Interrupted):
            _say(str(error))
            return INTERRUPTED
        _say(f"error: {error}")
    elif isinstance(error, OSError):
        _say(f"error: {_of_the_system(error)}")
    elif isinstance(error, MemoryError):
        _say("error: out of memory: use a smaller --batch-size, --block-size or model")
    else:
        _say(
            f"error: {type(error).__name__}: {error}\n"
            "Run it again with --debug to see where; this is a bug in minilm, please report it."
        )
    return 1


def _of_the_system(error: OSError) -> str:
    if error.filename is None or not error.strerror:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}"


def _say(message: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(message.rstrip() + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `minilm` with these arguments (those of the process if None); returns the exit status."""
    # What a terminal or a pipe cannot show (an emoji in Latin-1, half a surrogate) is no reason to stop.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments, prog_name="minilm")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


for _name, _function in COMMANDS.items():
    app.command(_name)(guarded(_function))

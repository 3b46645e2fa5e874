"""minilm gradcheck: the gradient of every registered operation and of every layer, against finite differences."""

from typing import Annotated, Any

import typer


def gradcheck(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Check this operation or layer; may be given again.", metavar="NAME"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the inputs that are drawn.", metavar="N")] = 0,
) -> None:
    """Check the gradients of all operations and layers, in float64.

    Each is compared, element by element, with central differences against a random cotangent.
    The error is told in units of what is tolerated: above 1 the gradient is wrong.
    The exit status is 1 if one of them is.

    \b
    Examples:
      minilm gradcheck
      minilm gradcheck --only softmax --only SelfAttention
    """
    from minilm.cli.layers import layer_samples
    from minilm.cli.output import say, table
    from minilm.tensor import OPERATIONS
    from minilm.testing import check_operations, check_samples

    layers: dict[str, list[Any]] = {}
    for sample in layer_samples():
        layers.setdefault(sample.operation, []).append(sample)
    operations = sorted(OPERATIONS)
    if only:
        _check_names(only, [*operations, *layers])
        operations = [name for name in operations if name in only]
        layers = {name: samples for name, samples in layers.items() if name in only}
    results: list[tuple[str, Any]] = []
    for kind, name in _watched([("operation", name) for name in operations] + [("layer", name) for name in layers]):
        chosen = check_operations([name], seed) if kind == "operation" else check_samples(layers[name], seed)
        results.extend((kind, result) for result in chosen)

    def row(kind: str, result: Any) -> tuple[str, ...]:
        return result.operation, kind, "ok" if result.ok else "WRONG", str(result.samples), f"{result.worst:.1e}"

    table(["name", "kind", "", "checks", "error / tolerance"], [row(*result) for result in results], left=3)
    wrong = [result for _, result in results if not result.ok]
    checks = sum(result.samples for _, result in results)
    say()
    for result in wrong:
        say(f"{result.operation}: {result.error}")
    say(f"{len(results)} gradients, {checks} checks: " + (f"{len(wrong)} wrong" if wrong else "all right"))
    if wrong:
        raise typer.Exit(1)


def _check_names(only: list[str], known: list[str]) -> None:
    from difflib import get_close_matches

    from minilm.errors import ConfigurationError

    for name in only:
        if name not in known:
            close = get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
            raise ConfigurationError(f"there is no operation or layer {name!r}: {hint}")


def _watched(names: list[tuple[str, str]]) -> Any:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(names, "checking", console=console, transient=True, disable=not console.is_terminal)

"""minilm bench: how fast are the operations here, against the formula, against each other and against the machine.

With --static: what is known of the Triton kernels without a GPU. See bench_run (how), bench_subjects (what),
bench_contestants (who) and bench_static.
"""

from pathlib import Path
from typing import Annotated, Any

import typer


def bench(
    subject: Annotated[
        str | None, typer.Argument(help="What to time; 'all' for everything.", metavar="SUBJECT")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(help="Of the size that is varied; each subject has its own.", metavar="N,N,..."),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Another size, such as B=8 or causal=1; may be given again.", metavar="NAME=N"),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16, float64 or bfloat16.", metavar="NAME")] = "float32",
    forward_only: Annotated[bool, typer.Option("--forward-only", help="Leave the backward pass out.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds at most; fewer where they take long.", metavar="N")] = 20,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all results and the machine's facts there.", metavar="FILE")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw time against length, and the roofline, into a folder.", metavar="FOLDER")
    ] = None,
    static: Annotated[
        bool, typer.Option("--static", help="Without a GPU: what the compiler and the interpreter say of the kernels.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="With --static: write the report, with plots, there.", metavar="FOLDER")
    ] = None,
) -> None:
    """Time operations, forward and backward, against the formula and the machine.

    Subjects: attention, matmul, softmax, layer_norm, rms_norm, rotary,
    swiglu, cross_entropy, lstm, adamw.
    Each contestant is checked against float64 first. One that is wrong is
    not timed, and the exit status is 1. Times mean nothing under Triton's
    interpreter: bytes and flops are counted there.

    \b
    Examples:
      minilm bench attention --lengths 128,256,512 --plot plots
      minilm bench attention --size causal=1 --size D=128
      minilm bench matmul --backend triton --dtype float16
      minilm bench all --json all.json
      minilm bench --static --out report
    """
    if static:
        _only_with(not subject, "--static reports on all kernels: leave the subject out")
        from minilm.cli.bench_static import show_static

        show_static(out)
        return
    _only_with(out is None, "--out goes with --static; --json FILE and --plot FOLDER keep the results of a run")
    wrong = run(subject, lengths, size or [], dtype, forward_only, repeats, json_path, plot)
    if wrong:
        raise typer.Exit(1)


def run(
    subject: str | None,
    lengths: str | None,
    size: list[str],
    dtype: str,
    forward_only: bool,
    repeats: int,
    json_path: Path | None,
    plot: Path | None,
) -> int:
    """Run the subjects, show and keep the results; returns how many contestants were wrong."""
    import json

    from minilm.cli.bench_run import TOLERANCES, Bench, current_setting, known_ceilings
    from minilm.cli.output import say, shown
    from minilm.testing.timing import machine

    subjects = _subjects(subject)
    setting = current_setting()
    _check(dtype in TOLERANCES, f"there is no dtype {dtype!r} here: choose one of {', '.join(TOLERANCES)}")
    plans = [(s, *_sizes(s, setting.scale, lengths, size)) for s in subjects]
    if plot is not None:
        from minilm.plots.loss_curves import new_figure

        new_figure()  # says at once what is missing
        _check(not setting.interpreting, "--plot draws times, and in Triton's interpreter there are none: leave it out")
    for path in (json_path.parent if json_path else None, plot):  # now, not after minutes of measuring
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    bench = Bench(setting, dtype, repeats)
    facts = machine(setting.module)
    roofs = None if setting.interpreting else known_ceilings(setting, facts, dtype, bench.timer)
    _say_where(setting, facts, roofs, dtype)

    result: dict[str, Any] = {
        "command": "minilm bench",
        "machine": facts,
        "backend": setting.backend,
        "interpreter": setting.interpreting,
        "dtype": dtype,
        "tolerance": TOLERANCES[dtype],
        "ceilings": roofs,
        "subjects": [],
    }
    for chosen, its_lengths, fixed in plans:
        formulas = {d: {"flops": chosen.flops[d], "bytes": chosen.bytes[d]} for d in chosen.directions}
        entry: dict[str, Any] = {
            "subject": chosen.name,
            "operation": chosen.operation,
            "varied": chosen.varied,
            "sizes": dict(fixed),
            "formulas": formulas,
            "rows": [],
        }
        result["subjects"].append(entry)
        say()
        for direction in chosen.directions:
            if forward_only and direction == "backward":
                continue
            say()
            _say_subject(entry, direction)
            rows = [
                row
                for length in its_lengths
                for row in _watched(bench, chosen, direction, {**fixed, chosen.varied: length})
            ]
            entry["rows"] += rows
            _tables(rows, chosen.varied, setting.interpreting)
    say()
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        say(f"results: {shown(json_path)}")
    if plot is not None:
        from minilm.plots import plot_bench

        for picture in plot_bench(result, plot):
            say(f"picture: {shown(picture)}")
    return sum(row["status"] == "wrong" for entry in result["subjects"] for row in entry["rows"])


# ----- what was asked for


def _check(holds: bool, message: str) -> None:
    from minilm.errors import ConfigurationError

    if not holds:
        raise ConfigurationError(message)


_only_with = _check


def _subjects(name: str | None) -> list[Any]:
    from difflib import get_close_matches

    from minilm.cli.bench_subjects import SUBJECTS

    _check(name is not None, f"name a subject ({', '.join(SUBJECTS)} or all), or use --static")
    if name == "all":
        return list(SUBJECTS.values())
    close = get_close_matches(str(name), SUBJECTS, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(SUBJECTS)} or all"
    _check(name in SUBJECTS, f"there is no subject {name!r}: {hint}")
    return [SUBJECTS[str(name)]]


def _sizes(subject: Any, scale: str, lengths: str | None, size: list[str]) -> tuple[tuple[int, ...], dict[str, int]]:
    """The lengths, and the sizes that stay the same."""
    chosen = subject.lengths[scale]
    if lengths is not None:
        parts = [part.strip() for part in lengths.split(",")]
        _check(
            all(part.isdecimal() and int(part) > 0 for part in parts),
            f"--lengths takes whole numbers above 0 with commas between them, such as 128,256,512; got {lengths!r}",
        )
        chosen = tuple(dict.fromkeys(int(part) for part in parts))
    fixed = dict(subject.sizes[scale])
    for setting in size:
        name, _, number = setting.partition("=")
        _check(number.isdecimal(), f"--size takes NAME=N, such as B=8; got {setting!r}")
        _check(
            name in fixed,
            f"{subject.name} has no size {name!r}: it has {', '.join(fixed) or 'none'}"
            f" ({subject.varied} is varied, by --lengths)",
        )
        fixed[name] = int(number)
        _check(fixed[name] > 0 or name == "causal", f"a size is at least 1; got {setting!r}")
        _check(name != "causal" or fixed[name] <= 1, f"causal is 0 or 1; got {setting!r}")
    _check(fixed.get("D", 2) % 2 == 0 or subject.name != "rotary", f"rotary turns pairs: D must be even, got {fixed}")
    return chosen, fixed


# ----- what people see


def _say_where(setting: Any, facts: dict[str, Any], roofs: dict[str, Any] | None, dtype: str) -> None:
    from minilm.cli.output import say

    say(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}")
    say(f"Python {facts['python']}, NumPy {facts['numpy']}")
    if "gpu" in facts:
        say(f"{facts['gpu']}, CuPy {facts['cupy']}, Triton {facts['triton'] or 'not installed'}")
    else:
        say("; ".join(facts["blas"]))
    if roofs is None:
        say(
            f"backend {setting.backend} in Triton's interpreter, {dtype}: times mean nothing here, and none are "
            "taken.\nCounted are the bytes that kernels load and store (each access of each program), the bytes of\n"
            "distinct elements (moved: what HBM has to carry at least), and the flops of tl.dot as executed; beside\n"
            "them stand the bytes and flops of the formulas."
        )
        return
    say(
        f"backend {setting.backend}, {dtype}. Ceilings: {roofs['flop_per_s'] / 1e9:,.0f} GFLOP/s, "
        f"{roofs['byte_per_s'] / 1e9:,.0f} GB/s\n({roofs['source']})"
    )
    if setting.module.__name__ == "cupy" and dtype == "float16":
        say("CuPy computes batches of float16 products in float32, without tensor cores: attention's formula is slow.")


def _say_subject(entry: dict[str, Any], direction: str) -> None:
    from minilm.cli.output import say

    sizes = ", ".join(f"{name} {number}" for name, number in entry["sizes"].items())
    formula = entry["formulas"][direction]
    say(f"{entry['subject']}, {direction}" + (f" ({sizes})" if sizes else ""))
    say(f"  flops = {formula['flops']};  bytes = {formula['bytes']}")


def _watched(bench: Any, subject: Any, direction: str, sizes: dict[str, int]) -> list[dict[str, Any]]:
    """The rows of one point, with a line on a terminal that says what is being waited for."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        return bench.point(subject, direction, sizes)
    with console.status(f"{subject.name} {direction}, {subject.varied} = {sizes[subject.varied]}"):
        return bench.point(subject, direction, sizes)


SHORT = {"out of memory": "no memory", "not covered": "-", "no kernel": "-"}
"""A status as it stands in a table; a line below the table gives the reason."""


def _tables(rows: list[dict[str, Any]], varied: str, interpreting: bool) -> None:
    from minilm.cli.output import say, table

    if interpreting:
        columns = [varied, "", "loaded", "stored", "moved", "bytes", "tl.dot", "flops", "error"]
        table(columns, [_counted_row(row) for row in rows], left=2)
    else:
        columns = [varied, "", "median", "spread", "ratio", "GFLOP/s", "GB/s", "peak MB", "error"]
        first = {row["length"]: row["median_s"] for row in reversed(rows) if "median_s" in row}
        table(columns, [_timed_row(row, first) for row in rows], left=2)
    for row in rows:
        if row["why"] is not None:
            say(f"  {row['contestant']} at {varied} {row['length']}: {row['status']}: {row['why']}")


def _timed_row(row: dict[str, Any], first: dict[int, float]) -> tuple[str, ...]:
    from minilm.testing.timing import in_words

    start, error = _ends(row)
    if "median_s" not in row:
        return *start, SHORT.get(row["status"], row["status"]), "", "", "", "", "", error
    return (
        *start,
        in_words(row["median_s"]),
        f"{row['spread_s'] / row['median_s']:.0%}",
        _digits(row["median_s"] / first[row["length"]]),
        _digits(row["flop_per_s"] / 1e9),
        _digits(row["byte_per_s"] / 1e9),
        _digits(row["peak_bytes"] / 1e6),
        error,
    )


def _counted_row(row: dict[str, Any]) -> tuple[str, ...]:
    start, error = _ends(row)
    if "counts" not in row:
        return *start, SHORT.get(row["status"], row["status"]), "", "", "", "", "", error
    counts = row["counts"]
    numbers = counts["loaded"], counts["stored"], counts["moved"], row["bytes"], counts["flops"], row["flops"]
    return *start, *(f"{number:,.0f}" for number in numbers), error


def _ends(row: dict[str, Any]) -> tuple[tuple[str, str], str]:
    """The first two cells of a row, and the last one."""
    error = row["relative_error"]
    return (str(row["length"]), row["contestant"]), "" if error is None else f"{error:.0e}"


def _digits(number: float) -> str:
    """Three digits: 0.0123, 1.23, 123, 12,345; what is below 0.01 with one and an exponent."""
    if number >= 1000:
        return f"{number:,.0f}"
    return f"{number:.3g}" if number >= 0.01 else f"{number:.0e}"

"""minilm demo: a GPT and an LSTM learn Shakespeare, next to models that only count. `make demo` runs this."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

NEURAL = ("gpt", "lstm")
ORDERS = (2, 3, 4, 5, 6)  # of the n-gram models
SAMPLE_TOKENS = 300
PROMPT = "ROMEO:"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all that comes out.", metavar="FOLDER")] = Path("runs/demo"),
    steps: Annotated[int | None, typer.Option(min=1, help="Updates of each model.", metavar="N")] = None,
    data: Annotated[str, typer.Option(help="A text, as for train.", metavar="NAME|PATH")] = "shakespeare",
    preset: Annotated[str, typer.Option(help="Sizes and settings, as for train.", metavar="NAME")] = "char-cpu",
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.", metavar="N")] = 1,
) -> None:
    """Train a GPT and an LSTM on Shakespeare and compare them.

    At the end: their losses on all of the validation and the test part next to those of
    uniform, unigram and n-gram models, a sample of each, and a picture of the loss curves.
    An earlier demo in the same folder is replaced.

    \b
    Examples:
      minilm demo --out runs/demo
      minilm demo --out runs/quick --steps 200
      minilm demo --data mytext.txt --out runs/mine
    """
    from minilm.cli import run as runs
    from minilm.cli.output import duration, facts, say, shown
    from minilm.cli.presets import resolve
    from minilm.cli.side_by_side import learn_side_by_side

    given: dict[str, Any] = {"seed": seed}
    if steps is not None:
        given["steps"] = steps
    settings = {model: resolve(model, data, preset, given) for model in NEURAL}
    _claim(out)
    began, times = time.perf_counter(), {}

    @contextmanager
    def part(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        times[name] = time.perf_counter() - started

    with part("reading the text"):
        gpt = runs.begin(settings["gpt"], out / "gpt", overwrite=True)
        lstm = runs.begin(settings["lstm"], out / "lstm", overwrite=True, data=out / "gpt" / "data")
        _save(out, {})
    for run in (gpt, lstm):
        runs.describe(run, with_data=run is gpt)
    say()
    learned = dict(zip(NEURAL, learn_side_by_side([gpt, lstm]), strict=True))
    for name, result in learned.items():
        times[f"training and evaluating the {name.upper()}, at the same time"] = result.seconds
        say(f"{name.upper():<12} {runs.speed(result.output)}")
    say()
    with part("counting for the n-grams"):
        rows = _baselines(gpt.data)
    models = {name: runs.load(run.folder)[0] for name, run in zip(NEURAL, (gpt, lstm), strict=True)}
    for name, model in models.items():
        rows[f"{name.upper()}, {model.num_parameters() / 1e6:.2f} M"] = learned[name].scores
    _save(out, {"scores": {name: {s: asdict(x) for s, x in row.items()} for name, row in rows.items()}})
    _compare(rows, gpt)
    with part("writing the samples"):
        tokenizer = gpt.data.tokenizer
        texts = {name: _sample(model, tokenizer, seed) for name, model in models.items()}
    with part("drawing"):
        picture = _draw(out, {"GPT": gpt, "LSTM": lstm}, rows)
    for name, text in texts.items():
        say()
        say(f"The {name.upper()} writes (temperature 0.8, seed {seed}):")
        say()
        say("\n".join(f"    {line}".rstrip() for line in text.strip("\n").split("\n")))
    say()
    times["all of it"] = time.perf_counter() - began
    facts([(duration(seconds), name) for name, seconds in times.items()])
    say()
    folder = shown(out)
    facts([
        ("curves", picture),
        ("models", f"{out / 'gpt'} and {out / 'lstm'} (checkpoints, metrics, tokens)"),
        ("go on", f'minilm sample {folder}/gpt --prompt "{PROMPT if _knows(tokenizer) else "..."}" --temperature 0.5'),
        ("", f"minilm train --resume {folder}/lstm --steps {2 * settings['lstm'].steps}"),
        ("", f"minilm eval {folder}/gpt --data mytext.txt"),
    ])  # fmt: skip


def _claim(out: Path) -> None:
    """Make room in a folder that an earlier demo made; any other run in it is left alone."""
    from minilm.errors import ConfigurationError
    from minilm.training import list_checkpoints

    if (out / "demo.json").is_file():
        return
    for model in NEURAL:
        if list_checkpoints(out / model):
            raise ConfigurationError(f"{out / model} holds a run that `minilm demo` did not make: choose another --out")
    for model in NEURAL:  # of a demo that was stopped before its first checkpoint
        shutil.rmtree(out / model / "data", ignore_errors=True)


def _save(out: Path, results: dict[str, Any]) -> None:
    """Write demo.json: the results, and the sign that a demo made this folder."""
    from minilm.text import atomic_write

    with atomic_write(out / "demo.json") as file:
        file.write((json.dumps({"made_by": "minilm demo", **results}, indent=1) + "\n").encode())


def _baselines(data: Any) -> dict[str, dict[str, Any]]:
    """Scores of models that count: uniform, unigram, and n-grams with modified Kneser-Ney smoothing."""
    from rich.console import Console
    from rich.progress import track

    from minilm.cli.run import Score
    from minilm.models import NGram

    console = Console(stderr=True)
    rows = {}
    orders = track((0, 1, *ORDERS), "n-grams", console=console, transient=True, disable=not console.is_terminal)
    for order in orders:
        model = NGram(order, data.tokenizer.vocab_size).fit(data.tokens["train"])
        name = {0: "uniform", 1: "unigram"}.get(order, f"{order}-gram")
        # the first token is left out, as for the others, which have nothing to predict it from
        nll = {split: -float(model.log_probs(data.tokens[split])[1:].sum()) for split in ("validation", "test")}
        rows[name] = {s: Score.of(nll[s], data.sizes[s].tokens - 1, data.sizes[s]) for s in nll}
    return rows


def _sample(model: Any, tokenizer: Any, seed: int) -> str:
    from minilm.cli.sample import start, stream
    from minilm.generation import SamplingSettings

    prompt = PROMPT if _knows(tokenizer) else start(tokenizer)
    return prompt + "".join(stream(model, tokenizer, prompt, SAMPLE_TOKENS, SamplingSettings(0.8), seed, []))


def _knows(tokenizer: Any) -> bool:
    """Whether the prompt can be written with the characters of this text."""
    from minilm.errors import TokenizerError

    try:
        tokenizer.encode(PROMPT)
    except TokenizerError:
        return False
    return True


def _draw(out: Path, runs: dict[str, Any], rows: dict[str, dict[str, Any]]) -> str:
    """Both curves with the baselines as dashed lines; the path, or what to install."""
    from importlib.util import find_spec

    from minilm.plots import plot_losses

    if find_spec("matplotlib") is None:
        return "not drawn: pip install 'minilm[plots]' for matplotlib"
    names = ("unigram", *(f"{order}-gram" for order in ORDERS[::2]))
    sizes = runs["GPT"].data.sizes["validation"]
    return str(
        plot_losses(
            {name: run.metrics for name, run in runs.items()},
            out / "losses.png",
            title=f"{runs['GPT'].settings.data}: a GPT, an LSTM, and n-grams",
            baselines={name: rows[name]["validation"].loss for name in names},
            characters_per_token=sizes.characters / sizes.tokens,
        )
    )


def _compare(rows: dict[str, dict[str, Any]], run: Any) -> None:
    from minilm.cli.output import say, table

    say("All of the validation and the test part; bits are per character.")
    say()
    columns = ["", *(f"{split}\n{what}" for split in ("valid.", "test") for what in ("loss", "perplexity", "bits"))]

    def numbers(score: Any) -> tuple[str, str, str]:
        return f"{score.loss:.3f}", f"{score.perplexity:.2f}", f"{score.bits_per_character:.3f}"

    table(columns, [(name, *numbers(row["validation"]), *numbers(row["test"])) for name, row in rows.items()])
    sizes, s = run.data.sizes, run.settings
    seen = s.steps * s.batch_size * s.block_size
    say(f"Scored: {sizes['validation'].tokens - 1:,} and {sizes['test'].tokens - 1:,} characters.")
    say(f"Learnt from: {sizes['train'].tokens:,} characters by counting, {seen:,} by the GPT and the LSTM each.")

"""minilm train: a language model from a text."""

from pathlib import Path
from typing import Annotated, Any

import typer

_Model = {"rich_help_panel": "Model (else as in the preset)"}
_Data = {"rich_help_panel": "Data"}
_Training = {"rich_help_panel": "Training (else as in the preset)"}
CHANGEABLE = {"steps", "eval_every", "save_every", "early_stopping"}  # of a run that is resumed


def train(
    model: Annotated[
        str | None, typer.Argument(help="gpt, lstm, gru, rnn; for pairs transformer, seq2seq-lstm.", metavar="MODEL")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="A corpus by name (shakespeare), or a path: text file, folder of text files, CSV, TSV or JSONL.",
            metavar="NAME|PATH",
            **_Data,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run: checkpoints, metrics.", metavar="FOLDER", show_default=False)
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="char-cpu (the default), tiny, char-large; for pairs translate, summarize, tiny.", metavar="NAME"
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this run, or from one of its checkpoints; --steps may extend it.", metavar="FOLDER"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that is in --out.")] = False,
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw the loss curves (needs matplotlib).")] = True,
    text_column: Annotated[
        str | None, typer.Option(help="Column or field with the text (text).", metavar="NAME", **_Data)
    ] = None,
    source_column: Annotated[
        str | None, typer.Option(help="Of pairs in a CSV or JSONL: what is read (source).", metavar="NAME", **_Data)
    ] = None,
    target_column: Annotated[
        str | None, typer.Option(help="And what is to be written (target).", metavar="NAME", **_Data)
    ] = None,
    errors: Annotated[
        str | None,
        typer.Option(help="Bytes that are not UTF-8: strict (the default), replace or ignore.", metavar="HOW", **_Data),
    ] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Repair Unicode, drop control characters.", **_Data)] = False,
    lower: Annotated[bool, typer.Option("--lower", help="In lower case.", **_Data)] = False,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="char (the default), byte, word, bpe, or a tokenizer.json.", metavar="KIND|PATH", **_Data),
    ] = None,
    min_count: Annotated[
        int | None, typer.Option(min=1, help="Words that occur less often become <unk>.", metavar="N", **_Data)
    ] = None,
    max_words: Annotated[int | None, typer.Option(min=2, help="The most words to know.", metavar="N", **_Data)] = None,
    vocab_size: Annotated[
        int | None, typer.Option(min=256, help="Tokens that bpe learns, at most (1024).", metavar="N", **_Data)
    ] = None,
    n_layer: Annotated[int | None, typer.Option(min=1, help="Layers.", metavar="N", **_Model)] = None,
    n_head: Annotated[
        int | None, typer.Option(min=1, help="Attention heads (gpt, transformer).", metavar="N", **_Model)
    ] = None,
    n_embd: Annotated[
        int | None, typer.Option(min=1, help="Channels; width of the embedding.", metavar="N", **_Model)
    ] = None,
    n_hidden: Annotated[
        int | None, typer.Option(min=1, help="Units of a layer (not gpt).", metavar="N", **_Model)
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(min=0, max=0.99, help="Part of the activations to drop.", metavar="P", **_Model)
    ] = None,
    block_size: Annotated[
        int | None, typer.Option(min=1, help="Context: tokens in a row of a batch.", metavar="N", **_Model)
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float64 or float16.", metavar="TYPE", **_Model)] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates of the weights.", metavar="N", **_Training)] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows of a batch; of pairs, tokens.", metavar="N", **_Training)
    ] = None,
    grad_accum: Annotated[int | None, typer.Option(min=1, help="Batches to a step.", metavar="N", **_Training)] = None,
    lr: Annotated[
        float | None,
        typer.Option(min=0, help="Highest learning rate; a cosine ends it at a tenth.", metavar="X", **_Training),
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(min=0, help="Steps until the learning rate is there.", metavar="N", **_Training)
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, help="On matrices.", metavar="X", **_Training)] = None,
    clip: Annotated[
        float | None, typer.Option(min=0, help="Largest norm of the gradient; 0: any.", metavar="X", **_Training)
    ] = None,
    eval_every: Annotated[
        int | None, typer.Option(min=1, help="Steps from one evaluation to the next.", metavar="N", **_Training)
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(min=1, help="Steps from one checkpoint to the next.", metavar="N", **_Training)
    ] = None,
    early_stopping: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many evaluations that were no better.", metavar="N", **_Training),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of weights, data order and dropout.", metavar="N", **_Training)
    ] = None,
) -> None:
    """Train a language model on a text.

    80 % of the text are for training, 10 % for validation, 10 % for `minilm eval`.
    A transformer or seq2seq-lstm learns from pairs to translate or, with --preset summarize, to summarize:
    a file with source, tab, target on each line, or a CSV or JSONL.
    Ctrl-C saves a checkpoint and says how to go on.

    \b
    Examples:
      minilm train gpt  --data shakespeare --out runs/gpt
      minilm train lstm --data mytext.txt --steps 2000 --out runs/lstm
      minilm train gru  --data reviews.csv --text-column review --out runs/gru
      minilm train gpt  --data notes/ --preset tiny --tokenizer byte --out runs/a
      minilm train transformer --data tatoeba_en_de --out runs/translate
      minilm train transformer --data papers.csv --source-column text --target-column title \
        --preset summarize --out runs/summarize
      minilm train --resume runs/gpt --steps 4000
    """
    given: dict[str, Any] = {
        name: value
        for name, value in locals().items()
        if name not in ("model", "data", "out", "preset", "resume", "overwrite", "plot")
        and value is not None
        and value is not False
    }
    from minilm.cli.pair_presets import is_pair_run
    from minilm.cli.presets import PAIR_MODELS

    if model in PAIR_MODELS or (resume is not None and is_pair_run(resume)):
        _train_pairs(model, data, out, preset, resume, overwrite, plot, given)
        return
    # Only now: --help should not wait for NumPy.
    from minilm.cli import presets
    from minilm.cli import run as runs
    from minilm.cli.output import facts, say, shown

    run, step, checkpoint = _opened(runs, presets, model, data, out, preset, resume, overwrite, given)
    runs.describe(run, step)
    say()
    output = runs.train(run, checkpoint)
    best, _ = runs.load(run.folder)
    validation = runs.score(best, run.data.tokens["validation"], run.data.sizes["validation"])
    say()
    runs.score_table([("validation, all of it", validation)], run.data.tokenizer.type)
    say()
    folder = shown(run.folder)
    sizes = run.data.sizes["validation"]
    facts([
        *_outcome(run, output, sizes.characters / sizes.tokens, plot),
        ("try", f"minilm sample {folder}"),
        ("", f"minilm eval {folder}"),
    ])  # fmt: skip


def _train_pairs(
    model: str | None,
    data: str | None,
    out: Path | None,
    preset: str | None,
    resume: Path | None,
    overwrite: bool,
    plot: bool,
    given: dict[str, Any],
) -> None:
    """The same for a model that reads a text and writes another."""
    from minilm.cli import pair_presets
    from minilm.cli import pair_run as runs
    from minilm.cli.output import facts, say

    run, step, checkpoint = _opened(runs, pair_presets, model, data, out, preset, resume, overwrite, given)
    runs.describe(run, step)
    say()
    output = runs.train(run, checkpoint)
    loss, tokens = runs.score(run, runs.load(run.folder)[0])
    say()
    facts([
        ("validation", f"loss {loss:.4f} nats per token, {tokens:,} tokens"),
        *_outcome(run, output, None, plot),
        ("try", runs.example(run)),
    ])  # fmt: skip


def _outcome(run: Any, output: Any, characters_per_token: float | None, plot: bool) -> list[tuple[str, str]]:
    """What to say of a training run that is over."""
    from minilm.cli.run import speed
    from minilm.training import find_checkpoint

    rows = [("speed", speed(output)), ("checkpoint", f"{find_checkpoint(run.folder, best=True)} (the best)")]
    if output.global_step < run.settings.steps:
        rows.insert(0, ("stopped", f"at step {output.global_step:,}: no better evaluation was in sight"))
    if plot:
        rows.append(("curves", _plot(run, characters_per_token)))
    return rows


def _opened(
    runs: Any,
    presets: Any,
    model: str | None,
    data: str | None,
    out: Path | None,
    preset: str | None,
    resume: Path | None,
    overwrite: bool,
    given: dict[str, Any],
) -> tuple[Any, int, Path | None]:
    """A new run, or one to resume: it, the step and the checkpoint that it goes on from.

    runs, presets: the modules that know such models: run and presets, or pair_run and pair_presets.
    """
    if resume is None:
        return _new(runs, presets, model, data, preset, out, overwrite, given), 0, None
    return _resumed(runs, presets, resume, model, data, preset, out, overwrite, given)


def _new(
    runs: Any,
    presets: Any,
    model: str | None,
    data: str | None,
    preset: str | None,
    out: Path | None,
    overwrite: bool,
    given: dict[str, Any],
) -> Any:
    from minilm.errors import ConfigurationError

    missing = [name for name, value in (("MODEL", model), ("--data", data), ("--out", out)) if value is None]
    if model is None or data is None or out is None:
        raise ConfigurationError(
            f"a new run needs {', '.join(missing)}, as in: minilm train gpt --data shakespeare --out runs/gpt"
        )
    return runs.begin(presets.resolve(model, data, preset, given), out, overwrite)


def _resumed(
    runs: Any,
    presets: Any,
    path: Path,
    model: str | None,
    data: str | None,
    preset: str | None,
    out: Path | None,
    overwrite: bool,
    given: dict[str, Any],
) -> tuple[Any, int, Path]:
    """The run in a folder with the options that may change, and the step and the checkpoint it goes on from."""
    import dataclasses

    from minilm.cli.presets import option, save
    from minilm.errors import ConfigurationError
    from minilm.training import find_checkpoint
    from minilm.training.checkpoint import read_state

    checkpoint = find_checkpoint(path)
    folder = checkpoint.parent
    settings = presets.load(folder / "run.json")
    fixed = {"model": model, "data": data, "preset": preset, **{k: v for k, v in given.items() if k not in CHANGEABLE}}
    changed = [
        f"{'MODEL' if name == 'model' else option(name)} ({getattr(settings, name)}, not {value})"
        for name, value in fixed.items()
        if value is not None and value != getattr(settings, name)
    ]
    if overwrite:
        raise ConfigurationError("--overwrite begins anew and --resume goes on: use one of them")
    if out is not None and out.resolve() != folder.resolve():
        raise ConfigurationError(f"--resume goes on in its own folder {folder}: leave --out away")
    if changed:
        raise ConfigurationError(
            f"a run that is resumed keeps its settings, and {folder} has other ones: {', '.join(changed)}. "
            f"What may change: {', '.join(option(name) for name in sorted(CHANGEABLE))}"
        )
    step = int(read_state(checkpoint)["step"])
    settings = dataclasses.replace(settings, **{k: v for k, v in given.items() if k in CHANGEABLE})
    if step >= settings.steps:
        raise ConfigurationError(
            f"{folder} has done its {step:,} steps already: give --steps with more than that to go on"
        )
    run = runs.reopen(folder, settings)
    save(settings, folder / "run.json")
    return run, step, checkpoint


def _plot(run: Any, characters_per_token: float | None) -> str:
    """Draw the curves; the path, or what to install."""
    from importlib.util import find_spec

    from minilm.plots import plot_losses

    if find_spec("matplotlib") is None:
        return "not drawn: pip install 'minilm[plots]' for matplotlib"
    name = run.settings.model.upper()
    path = run.folder / "loss.png"
    return str(plot_losses({name: run.metrics}, path, characters_per_token=characters_per_token))

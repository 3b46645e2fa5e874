"""Loss over steps: one picture that tells whether a model learns, and which of several learns better.

    plot_losses({"GPT": "runs/gpt/metrics.jsonl", "LSTM": "runs/lstm/metrics.jsonl"}, "losses.png",
                baselines={"unigram": 3.31})

Each model has a colour: the training loss as it was logged (faint) and smoothed (thin), the validation loss
with markers, baselines as dashed lines. The colours are those of Okabe & Ito (2008), which colour-blind
readers can tell apart; the markers differ as well.

matplotlib is imported when a figure is drawn, and never pyplot: its figures are global, and it looks for a
screen. What this file does not do: it draws nothing while training goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from minilm.errors import DataError, MinilmError
from minilm.training import read_metrics

Point: TypeAlias = tuple[int, float | None, float | None]
"""(step, training loss or None, validation loss or None), in nats per token."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#555555"
MARKERS = ("o", "s", "^", "D", "v", "P")


def plot_losses(
    curves: Mapping[str, Iterable[Point] | str | Path],
    path: str | Path,
    title: str | None = None,
    baselines: Mapping[str, float] | None = None,
    characters_per_token: float | None = None,
) -> Path:
    """Draw the loss curves of one or several models into a file.

    Args:
        curves: for each name the points, or the path of a metrics.jsonl that the trainer wrote.
        path: the picture; its suffix (.png, .svg, .pdf) chooses the format, PNG without one. Folders are
            made.
        title: a line above the picture.
        baselines: losses, in nats per token, that do not change with the steps.
        characters_per_token: adds an axis in bits per character on the right (1 for a character tokenizer).

    Returns:
        The path of the picture.

    Raises:
        MinilmError: if matplotlib is not installed.
        DataError: if there is nothing to draw, or a file of metrics cannot be read.
    """
    figure = loss_figure(curves, title, baselines, characters_per_token)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format=path.suffix.lstrip(".") or "png")
    return path


def loss_figure(
    curves: Mapping[str, Iterable[Point] | str | Path],
    title: str | None = None,
    baselines: Mapping[str, float] | None = None,
    characters_per_token: float | None = None,
) -> Any:
    """The matplotlib Figure that `plot_losses` saves, with the same arguments and errors."""
    points = {name: _points(name, curve) for name, curve in curves.items()}
    if not points:
        raise DataError("no loss curve to draw: pass at least one, {'gpt': 'runs/gpt/metrics.jsonl'}")
    figure = new_figure()
    axes = figure.add_subplot()
    last = 0
    for k, (name, (train, validation)) in enumerate(points.items()):
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        if len(train):
            axes.plot(*train.T, color=colour, alpha=0.3, linewidth=0.7)
            line = smoothed(train[:, 1])
            axes.plot(train[:, 0], line, color=colour, linewidth=1.2, label=f"{name}, training")
        if len(validation):
            every = math.ceil(len(validation) / 20)  # more markers than that hide the line
            style = {"marker": marker, "markersize": 5, "markevery": every, "linewidth": 1.8}
            axes.plot(*validation.T, color=colour, label=f"{name}, validation", **style)
        last = max([last, *train[:, 0], *validation[:, 0]])
    for loss in (baselines or {}).values():
        axes.axhline(loss, color=GREY, linestyle="--", linewidth=1)
    middle = sum(axes.get_ylim()) / 2
    for name, loss in (baselines or {}).items():
        # curves fall from the top left to the bottom right: the names stand in the other corners
        x, side, shift = (last, "right", -2) if loss > middle else (0, "left", 4)
        style = {"ha": side, "va": "bottom", "fontsize": 9, "color": GREY}
        axes.annotate(f"{name} {loss:.2f}", (x, loss), xytext=(shift, 2), textcoords="offset points", **style)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.set_xlim(0, last * 1.02 or 1)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if characters_per_token is not None:
        nats_to_bits = 1 / (math.log(2) * characters_per_token)
        to_bits = (lambda nats: nats * nats_to_bits, lambda bits: bits / nats_to_bits)
        axes.secondary_yaxis("right", functions=to_bits).set_ylabel("bits per character")
    if title:
        axes.set_title(title, fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    return figure


def smoothed(values: np.ndarray) -> np.ndarray:
    """The mean over a window around each value, a twentieth of the curve wide and narrower at the ends."""
    n = len(values)
    half = n // 40
    sums = np.concatenate([[0.0], np.cumsum(values)])
    # as far to the left as to the right, so that a falling curve is not pulled up or down at its ends
    reach = np.minimum(np.minimum(np.arange(n), np.arange(n)[::-1]), half)
    low, high = np.arange(n) - reach, np.arange(n) + reach + 1
    return (sums[high] - sums[low]) / (high - low)


def _points(name: str, curve: Any) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation points (n, 2) of (step, loss), finite and in the order of the steps."""
    rows = (
        [(m["step"], m.get("loss"), m.get("eval_loss")) for m in read_metrics(curve)]
        if isinstance(curve, str | Path)
        else list(curve)
    )
    train = _finite((step, loss) for step, loss, _ in rows)
    validation = _finite((step, loss) for step, _, loss in rows)
    if not len(train) and not len(validation):
        raise DataError(f"the curve {name!r} has no finite loss to draw ({len(rows)} points)")
    return train, validation


def _finite(pairs: Iterable[tuple[int, float | None]]) -> np.ndarray:
    kept = sorted((step, loss) for step, loss in pairs if loss is not None and math.isfinite(loss))
    return np.array(kept, dtype=np.float64).reshape(-1, 2)


def new_figure() -> Any:
    """An empty matplotlib Figure, as wide as a page. Raises MinilmError if matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise  # it is installed, and broken
        raise MinilmError(
            "drawing needs the package matplotlib, which is not installed: pip install 'minilm[plots]'"
        ) from error
    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure

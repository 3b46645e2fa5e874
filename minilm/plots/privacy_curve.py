"""What privacy costs, and what it brings: loss against epsilon, and the exposure of a secret.

On the left the held-out loss over epsilon, a mark for each seed and a line through their means; infinity, where
examples are clipped and no noise is added, stands apart on the right, and plain SGD is a dashed line. On the right the
exposure of a secret that was among the training data (but for the last bar), in bits, for each seed; the dashed line is
where it can be read out of the model by trying. Under the bars stands what the model is worth, its held-out loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minilm.errors import DataError
from minilm.plots.loss_curves import COLOURS, GREY, new_figure

Result = Mapping[str, Any]
"""What benchmarks/privacy.py saves."""


def plot_privacy(result: Result, path: str | Path) -> Path:
    """Draw `privacy_figure` into a file; its suffix chooses the format, PNG without one. Folders are made."""
    figure = privacy_figure(result)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format=path.suffix.lstrip(".") or "png", bbox_inches="tight")
    return path


def privacy_figure(result: Result) -> Any:
    """The matplotlib Figure of both; of the cost alone, where the result has no canary.

    Raises:
        MinilmError: if matplotlib is not installed.
        DataError: if no epsilon is finite.
    """
    both = "canary" in result
    figure = new_figure()
    figure.set_size_inches(9 if both else 5.6, 3.8)
    panels = figure.subplots(1, 2, width_ratios=(1.5, 1)) if both else [figure.add_subplot()]
    _draw_cost(panels[0], result["cost"]["rows"], result["delta"])
    if both:
        _draw_exposure(panels[1], result["canary"])
    for axes in panels:
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_cost(axes: Any, rows: Result, delta: float) -> None:
    finite = sorted((row for row in rows.values() if row["epsilon"] is not None), key=lambda row: row["epsilon"])
    if not finite:
        raise DataError("no run with a finite epsilon: there is no curve of privacy to draw")
    places = [row["epsilon"] for row in finite]
    labels = [f"{place:g}" for place in places]
    curve = list(finite)
    if "inf" in rows:
        places.append(places[-1] * 2.5)
        labels.append("∞, clipped")
        curve.append(rows["inf"])
    colour = COLOURS[0]
    axes.plot(places[: len(finite)], [row["loss"]["mean"] for row in finite], color=colour, linewidth=1.6)
    for place, row in zip(places, curve, strict=True):
        seeds = row["loss"]["seeds"]
        axes.plot([place] * len(seeds), seeds, "o", color=colour, markersize=4, alpha=0.6, markeredgewidth=0)
        note = f"{100 * row['accuracy']['mean']:.1f}"
        axes.annotate(note, (place, max(seeds)), xytext=(0, 6), textcoords="offset points", ha="left", fontsize=8)
    if "plain" in rows:
        loss = rows["plain"]["loss"]["mean"]
        axes.axhline(loss, color=GREY, linestyle="--", linewidth=1)
        note = f"plain SGD {loss:.3f}, {100 * rows['plain']['accuracy']['mean']:.1f} %"
        style = {"ha": "left", "va": "top", "fontsize": 8, "color": GREY}
        axes.annotate(note, (places[0], loss), xytext=(-4, -3), textcoords="offset points", **style)
    axes.set_xscale("log")
    axes.set_xticks(places, labels)
    axes.minorticks_off()
    axes.margins(x=0.08, y=0.15)
    axes.set_xlabel(f"epsilon (delta = {delta:g})")
    axes.set_ylabel("held-out loss (nats)")
    axes.set_title("film reviews (above the marks: accuracy in %)", fontsize=9)


def _draw_exposure(axes: Any, canary: Result) -> None:
    rows = canary["rows"]
    for place, row in enumerate(rows.values()):
        seeds = row["exposure_bits"]["seeds"]
        colour = COLOURS[1] if row["epsilon"] is None else COLOURS[0]
        axes.bar(place, row["exposure_bits"]["mean"], width=0.6, color=colour, alpha=0.35)
        axes.plot([place] * len(seeds), seeds, "o", color=colour, markersize=5)
    most = canary["most_exposure_bits"]
    axes.axhline(most, color=GREY, linestyle="--", linewidth=1)
    note = f"first of all {canary['secrets_of_the_form']:,}"
    style = {"ha": "right", "va": "bottom", "fontsize": 8, "color": GREY}
    axes.annotate(note, (len(rows) - 0.7, most), xytext=(0, 2), textcoords="offset points", **style)
    names = [way if row["epsilon"] is None else f"ε = {way}" for way, row in rows.items()]
    ticks = [f"{name}\nloss {row['loss']['mean']:.2f}" for name, row in zip(names, rows.values(), strict=True)]
    axes.set_xticks(range(len(rows)), ticks, fontsize=7)
    axes.set_xlabel("held-out loss in nats per character", fontsize=8)
    axes.set_ylim(0, most * 1.12)
    axes.set_ylabel("exposure of the secret (bits)")
    axes.set_title("a secret among 1,000 names", fontsize=9)

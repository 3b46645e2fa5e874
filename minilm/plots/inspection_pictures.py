"""What minilm.inspection found, as pictures: words in the colour of their share, the logit lens, paired sentences.

    plot_saliency(["a", "##wful", "film"], {"integrated gradients": values}, "saliency.png")
    plot_logit_lens(logit_lens(model, ids), tokens, words, "lens.png")
    plot_effects({"nurse": effect(...), "soldier": effect(...)}, "bias.png", "log p(she) - log p(he), nats")

Maps of attention are drawn by attention_maps. Red and blue (for and against) are told apart by colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minilm.errors import DataError
from minilm.inspection.bias_probe import Effect
from minilm.inspection.logit_lens import LogitLens
from minilm.plots.loss_curves import COLOURS, GREY, new_figure

FOR_AND_AGAINST = "RdBu_r"


def plot_saliency(
    tokens: Sequence[str], rows: Mapping[str, Any], path: str | Path, title: str | None = None
) -> Path:
    """Draw each attribution (T,) as a row of coloured words, with its numbers, into a file.

    Each row has its own scale, symmetric around white for 0: red speaks for the score, blue against it.

    Raises:
        MinilmError: if matplotlib is not installed.
        DataError: if the numbers of words and values differ, or there is nothing to draw.
    """
    return _saved(saliency_figure(tokens, rows, title), path)


def saliency_figure(tokens: Sequence[str], rows: Mapping[str, Any], title: str | None = None) -> Any:
    """The matplotlib Figure that `plot_saliency` saves."""
    values = {name: np.asarray(row, dtype=np.float64) for name, row in rows.items()}
    for name, row in values.items():
        if row.shape != (len(tokens),):
            raise DataError(f"{name!r} has values of shape {row.shape}, and there are {len(tokens)} tokens")
    if not values or not tokens:
        raise DataError("no attribution to draw: pass at least one row of at least one token")
    figure = new_figure()
    figure.set_size_inches(2.0 + 0.62 * len(tokens), 0.9 + 0.62 * len(values))
    axes = figure.add_subplot()
    scales = np.array([np.abs(row).max() or 1.0 for row in values.values()])
    shares = np.stack(list(values.values())) / scales[:, None]
    axes.imshow(shares, cmap=FOR_AND_AGAINST, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    for i, row in enumerate(values.values()):
        for j, value in enumerate(row):
            ink = "white" if abs(shares[i, j]) > 0.6 else "black"
            axes.text(j, i, f"{value:+.2f}".replace("-", "\u2212"), ha="center", va="center", fontsize=7.5, color=ink)
    axes.set_yticks(range(len(values)), values, fontsize=9)
    axes.set_xticks(range(len(tokens)), _plain(tokens), fontsize=9, rotation=35, ha="left")
    axes.xaxis.tick_top()
    _grid(axes, len(values), len(tokens))
    if title:
        axes.set_xlabel(title.replace("$", r"\$"), fontsize=9)
    return figure


def plot_logit_lens(
    lens: LogitLens,
    tokens: Sequence[str],
    word: Callable[[int], str],
    path: str | Path,
    title: str | None = None,
) -> Path:
    """Draw the most probable next token of every layer at every place, darker where the layer is surer.

    Args:
        lens: of one text.
        tokens: the T tokens that were read.
        word: what to write for an id: `lambda i: tokenizer.decode([i])`.

    Raises:
        MinilmError: if matplotlib is not installed.
        DataError: if the number of tokens is not the lens's.
    """
    return _saved(logit_lens_figure(lens, tokens, word, title), path)


def logit_lens_figure(
    lens: LogitLens, tokens: Sequence[str], word: Callable[[int], str], title: str | None = None
) -> Any:
    """The matplotlib Figure that `plot_logit_lens` saves: the embeddings at the bottom, the last layer at the top."""
    layers, T = lens.top.shape
    if len(tokens) != T:
        raise DataError(f"the lens looked at {T} tokens, and here are {len(tokens)}")
    figure = new_figure()
    figure.set_size_inches(2.0 + 0.95 * T, 1.3 + 0.22 * layers)
    axes = figure.add_subplot()
    image = axes.imshow(
        lens.probability, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest", origin="lower"
    )
    for i in range(layers):
        for j in range(T):
            ink = "white" if lens.probability[i, j] > 0.55 else "black"
            shown = _cut(word(int(lens.top[i, j])))
            axes.text(j, i, *_plain([shown]), ha="center", va="center", fontsize=7, color=ink)
    names = ["embeddings", *(str(i) for i in range(1, layers))]
    every = 1 if layers <= 16 else 2
    axes.set_yticks(range(0, layers, every), names[::every], fontsize=8)
    axes.set_xticks(range(T), _plain(tokens), fontsize=9)
    axes.set_xlabel("token read; in each field the next token that the layer finds most probable")
    axes.set_ylabel("after layer")
    _grid(axes, layers, T)
    figure.colorbar(image, ax=axes, label="its probability", shrink=0.6)
    if title:
        axes.set_title(title.replace("$", r"\$"), fontsize=10)
    return figure


def plot_effects(
    effects: Mapping[str, Effect],
    path: str | Path,
    label: str,
    title: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Draw the mean of each effect as a bar with its 95 % bootstrap interval, the largest at the top.

    Args:
        effects: by name.
        label: what the means are of, with the unit.
        groups: {group: names in it}; each group gets a colour, and its mean a dashed line.

    Raises:
        MinilmError: if matplotlib is not installed.
        DataError: if there is nothing to draw, or a name is in no group.
    """
    return _saved(effects_figure(effects, label, title, groups), path)


def effects_figure(
    effects: Mapping[str, Effect],
    label: str,
    title: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """The matplotlib Figure that `plot_effects` saves."""
    if not effects:
        raise DataError("no effect to draw: pass at least one")
    group_of = {name: group for group, names in (groups or {}).items() for name in names}
    if groups and (lacking := [name for name in effects if name not in group_of]):
        raise DataError(f"{lacking[0]!r} is in none of the groups {', '.join(groups)}")
    colours = dict(zip(groups or {}, COLOURS, strict=False))
    order = sorted(effects, key=lambda name: effects[name].mean)
    figure = new_figure()
    figure.set_size_inches(7, 1.4 + 0.26 * len(order))
    axes = figure.add_subplot()
    for y, name in enumerate(order):
        e = effects[name]
        colour = colours.get(group_of.get(name, ""), COLOURS[0])
        axes.barh(y, e.mean, height=0.7, color=colour, alpha=0.55)
        axes.plot([e.low, e.high], [y, y], color="black", linewidth=1.3, marker="|", markersize=5)
    for group, colour in colours.items():
        mean = float(np.mean([effects[name].mean for name in order if group_of[name] == group]))
        axes.axvline(mean, color=colour, linestyle="--", linewidth=1.2, label=_label(group, mean))
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(order)), _plain(order), fontsize=9)
    axes.set_xlabel(label)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if groups:
        axes.legend(framealpha=1, edgecolor="none", fontsize=8, loc="lower right")
    if title:
        axes.set_title(title.replace("$", r"\$"), fontsize=10)
    return figure


def _label(group: str, mean: float) -> str:
    return f"{group}, mean {mean:+.2f}".replace("-", "\u2212")


def _saved(figure: Any, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format=path.suffix.lstrip(".") or "png", bbox_inches="tight")
    return path


def _grid(axes: Any, rows: int, columns: int) -> None:
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(-0.5, columns), minor=True)
    axes.set_yticks(np.arange(-0.5, rows), minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color="white", linewidth=0.8)


def _cut(text: str, most: int = 12) -> str:
    """One line of a few characters that the picture's font has; others as an open box."""
    shown = text.replace("\n", "\\n").strip() or "\u2423"
    shown = "".join(c if ord(c) < 0x250 or c == "\u2423" else "\u25a1" for c in shown)
    return shown if len(shown) <= most else shown[: most - 1] + "\u2026"


def _plain(tokens: Sequence[str]) -> list[str]:
    """matplotlib takes what stands between dollar signs for a formula."""
    return [token.replace("$", r"\$") for token in tokens]

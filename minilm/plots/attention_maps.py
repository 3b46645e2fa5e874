"""Attention maps: a grey picture for each head, dark where a token that is written looks at a token that is read.

    plot_attention(model.attention_weights(source, target)[:, 0], ["Good", "morning", "."], ["Guten", ...], "map.png")

A row is a token of the target, a column one of the source; each row sums to 1. Layers stand below each other, heads
beside each other. This is what figure 3 of Bahdanau et al. 2015 shows for one head, and the appendix of Vaswani et al.
2017 for many. What a head looks at is not always why the model wrote a word (Jain & Wallace 2019).

matplotlib is imported when a figure is drawn, as in loss_curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minilm.errors import DataError
from minilm.plots.loss_curves import new_figure

TALLEST = 60  # inches; a picture of more would be megabytes that nobody looks at


def plot_attention(
    weights: Any,
    source: Sequence[str],
    target: Sequence[str],
    path: str | Path,
    title: str | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """Draw attention weights into a file.

    Args:
        weights: (T, Tk), or (H, T, Tk), or (layers, H, T, Tk): from 0 to 1, a row for each token of the target.
        source: the Tk tokens that are read, in words.
        target: the T tokens that are written.
        path: the picture; its suffix (.png, .svg, .pdf) chooses the format, PNG without one. Folders are made.
        title: a line above the picture.
        labels: what stands above each map, if not "layer 1, head 1" and so on.

    Returns:
        The path of the picture.

    Raises:
        MinilmError: if matplotlib is not installed.
        DataError: if the numbers of tokens and weights differ.
    """
    figure = attention_figure(weights, source, target, title, labels)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format=path.suffix.lstrip(".") or "png", bbox_inches="tight")
    return path


def attention_figure(
    weights: Any,
    source: Sequence[str],
    target: Sequence[str],
    title: str | None = None,
    labels: Sequence[str] | None = None,
) -> Any:
    """The matplotlib Figure that `plot_attention` saves, with the same arguments and errors."""
    maps = np.asarray(weights)
    if maps.ndim not in (2, 3, 4) or maps.shape[-2:] != (len(target), len(source)):
        raise DataError(
            f"attention weights of {len(target)} target and {len(source)} source tokens end in the axes "
            f"({len(target)}, {len(source)}), and these have the shape {maps.shape}"
        )
    maps = maps.reshape((1,) * (4 - maps.ndim) + maps.shape)  # (layers, H, T, Tk)
    rows, columns = maps.shape[:2]
    if labels is None:
        several = rows > 1 or columns > 1
        labels = [f"layer {i + 1}, head {j + 1}" if several else "" for i in range(rows) for j in range(columns)]
    figure = new_figure()
    cell = (0.6 + 0.15 * len(source), 0.5 + 0.18 * len(target))  # four heads of eight tokens on a page's width
    figure.set_size_inches(max(3.0, columns * cell[0]), max(2.5, min(TALLEST, rows * cell[1])))
    grid = figure.subplots(rows, columns, squeeze=False)
    for i in range(rows):
        for j in range(columns):
            _draw(grid[i, j], maps[i, j], source if i == rows - 1 else None, target if j == 0 else None)
            grid[i, j].set_title(labels[i * columns + j], fontsize=8)
    if title:
        figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    return figure


def _draw(axes: Any, weights: np.ndarray, source: Sequence[str] | None, target: Sequence[str] | None) -> None:
    """One map; the tokens are written where they are given."""
    axes.imshow(weights, cmap="Greys", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    T, Tk = weights.shape
    axes.set_xticks(range(Tk), _plain(source or [""] * Tk), rotation=90, fontsize=8)
    axes.set_yticks(range(T), _plain(target or [""] * T), fontsize=8)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(-0.5, Tk), minor=True)
    axes.set_yticks(np.arange(-0.5, T), minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.4)


def _plain(tokens: Sequence[str]) -> list[str]:
    """Tokens as they are: matplotlib takes what stands between dollar signs for a formula."""
    return [token.replace("$", r"\$") for token in tokens]

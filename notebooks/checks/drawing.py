"""Pictures that several chapters draw: matrices as rectangles of their shapes, graphs of computations, boxes in a row.

What this file does not do: it computes nothing that a chapter explains.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from minilm.plots.loss_curves import COLOURS, GREY, new_figure

LINE = "#888888"


def blank(width: float, height: float) -> tuple[Any, Any]:
    """A figure with one axes without frame, measured in inches: what lies at (1, 1) lies an inch from the corner."""
    figure = new_figure()
    figure.set_layout_engine("none")
    figure.set_size_inches(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_axis_off()
    return figure, axes


# ----- matrices


def matrices_figure(rows: Sequence[Sequence[Any]], cell: float = 0.3, digits: int = 2) -> Any:
    """Rows of matrices and symbols. A matrix is (name, shape or 2-D array, colour or None): an array shows its numbers.

    matrices_figure([[("A", (2, 3), COLOURS[0]), "@", ("B", (3, 4), COLOURS[1]), "=", ("Y", (2, 4), None)]])
    """
    gap, top, bottom = 0.18, 0.12, 0.42
    drawn = [[_part(part) for part in row] for row in rows]
    heights = [max(part[2][0] for part in row) * cell + top + bottom for row in drawn]
    widths = [sum(_width(part, cell) for part in row) + gap * (len(row) - 1) for row in drawn]
    figure, axes = blank(max(7.0, max(widths) + 0.2), sum(heights))
    y = sum(heights)
    for row, height, width in zip(drawn, heights, widths, strict=True):
        x = (figure.get_figwidth() - width) / 2
        middle = y - top - (height - top - bottom) / 2
        for name, values, shape, colour in row:
            w = _width((name, values, shape, colour), cell)
            if shape == (0, 0):
                size = 13 if len(name) < 4 else 9
                axes.text(x + w / 2, middle, name, ha="center", va="center", fontsize=size, color=GREY)
            else:
                _matrix(axes, x + (w - shape[1] * cell) / 2, middle, values, shape, colour, cell, digits)
                label = f"{name}  ({shape[0]}, {shape[1]})"
                axes.text(x + w / 2, middle - shape[0] * cell / 2 - 0.07, label, ha="center", va="top", fontsize=9)
            x += w + gap
        y -= height
    return figure


def _part(part: Any) -> tuple[str, Any, tuple[int, int], str | None]:
    if isinstance(part, str):
        return part, None, (0, 0), None
    name, what, colour = part
    if isinstance(what, tuple):
        return name, None, what, colour
    return name, np.asarray(what), np.asarray(what).shape, colour


def _width(part: Any, cell: float) -> float:
    name, _, shape, _ = part
    if shape == (0, 0):
        return max(0.25, 0.072 * len(name))
    return max(shape[1] * cell, 0.078 * (len(name) + 9))


def _matrix(axes: Any, x: float, middle: float, values: Any, shape: Any, colour: Any, cell: float, digits: int) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    base = np.array(to_rgb(colour or "#bbbbbb"))
    bottom = middle - shape[0] * cell / 2
    largest = 1.0 if values is None else max(float(np.abs(np.where(np.isfinite(values), values, 0)).max()), 1e-12)
    for i in range(shape[0]):
        for j in range(shape[1]):
            strength = 0.3 if values is None else 0.08 + 0.5 * min(1.0, abs(float(values[i, j])) / largest)
            box = (x + j * cell, bottom + (shape[0] - 1 - i) * cell)
            face = tuple(1 - strength * (1 - base))
            axes.add_patch(Rectangle(box, cell, cell, facecolor=face, edgecolor="white", linewidth=1))
            if values is not None:
                text = _number(values[i, j], digits)
                at = (box[0] + cell / 2, box[1] + cell / 2)
                axes.text(*at, text, ha="center", va="center", fontsize=7.5 if cell < 0.38 else 8.5)
    axes.add_patch(
        Rectangle((x, bottom), shape[1] * cell, shape[0] * cell, fill=False, edgecolor=colour or LINE, linewidth=1.2)
    )


def _number(value: Any, digits: int) -> str:
    value = float(value)
    if not np.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else "nan"
    return f"{value:.0f}" if value == round(value) else f"{value:.{digits}f}"


# ----- graphs


def graph_figure(
    nodes: Mapping[Hashable, str],
    edges: Sequence[tuple[Any, ...]],
    colours: Mapping[Hashable, str] | None = None,
    height: float | None = None,
    fontsize: float = 9,
) -> Any:
    """Nodes in columns, each to the right of all that it is computed from.

    Args:
        nodes: the text of each node by its key; in the order in which they shall stand from top to bottom.
        edges: (from, to) or (from, to, text).
        colours: of the frames of some nodes.
    """
    column: dict[Hashable, int] = {}
    sources: dict[Hashable, list[Hashable]] = {key: [] for key in nodes}
    for edge in edges:
        sources[edge[1]].append(edge[0])
    while len(column) < len(nodes):
        for key in nodes:
            if key not in column and all(s in column for s in sources[key]):
                column[key] = 1 + max((column[s] for s in sources[key]), default=-1)
    for key in nodes:  # a leaf stands beside its first use
        uses = [column[edge[1]] for edge in edges if edge[0] == key]
        if not sources[key] and uses:
            column[key] = min(uses) - 1
    columns = [[key for key in nodes if column[key] == c] for c in range(max(column.values()) + 1)]
    tallest = max(len(c) for c in columns)
    figure, axes = blank(7.0, height or 0.35 + 0.75 * tallest)
    width, tall = figure.get_size_inches()
    at: dict[Hashable, tuple[float, float]] = {}
    for c, keys in enumerate(columns):
        for r, key in enumerate(keys):
            at[key] = (width * (c + 0.5) / len(columns), tall * (1 - (r + 0.5) / len(keys)))
    boxes: dict[Hashable, Any] = {}
    for key, label in nodes.items():
        frame = dict(boxstyle="round,pad=0.35", facecolor="white", edgecolor=(colours or {}).get(key, LINE))
        boxes[key] = axes.text(*at[key], label, ha="center", va="center", fontsize=fontsize, bbox=frame, zorder=3)
    figure.canvas.draw()  # now the frames know their sizes, and arrows can end at them
    sizes = {key: box.get_bbox_patch().get_window_extent() for key, box in boxes.items()}
    halves = {key: (size.width / figure.dpi / 2, size.height / figure.dpi / 2) for key, size in sizes.items()}
    for start, end, *text in edges:
        tail, head = _leaving(at[start], at[end], halves[start]), _leaving(at[end], at[start], halves[end])
        _arrow(axes, tail, head, _hits(at, start, end))
        if text:
            _beside(axes, tail, head, text[0], fontsize - 1)
    return figure


def _leaving(centre: tuple[float, float], other: tuple[float, float], half: tuple[float, float]) -> tuple[float, float]:
    """Where the line from the centre of a box to another point leaves the box."""
    dx, dy = other[0] - centre[0], other[1] - centre[1]
    share = min(half[0] / max(abs(dx), 1e-9), half[1] / max(abs(dy), 1e-9))
    return centre[0] + share * dx, centre[1] + share * dy


def _beside(axes: Any, tail: tuple[float, float], head: tuple[float, float], text: str, fontsize: float) -> None:
    """A label above the middle of an arrow, to the left of one that rises."""
    x, y = (tail[0] + head[0]) / 2, (tail[1] + head[1]) / 2
    slope = (head[1] - tail[1]) / max(head[0] - tail[0], 1e-9)
    side = "center" if abs(slope) < 0.15 else "right" if slope > 0 else "left"
    shift = {"center": 0.0, "right": -0.04, "left": 0.04}[side]
    axes.text(x + shift, y + 0.03, text, fontsize=fontsize, color=COLOURS[1], ha=side, va="bottom")


def _hits(at: Mapping[Hashable, tuple[float, float]], start: Hashable, end: Hashable) -> bool:
    """Does a straight line between two nodes run through a third one?"""
    (x0, y0), (x1, y1) = at[start], at[end]
    for key, (x, y) in at.items():
        if key not in (start, end) and min(x0, x1) < x < max(x0, x1):
            if abs(y0 + (y1 - y0) * (x - x0) / (x1 - x0) - y) < 0.25:
                return True
    return False


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], curved: bool) -> None:
    from matplotlib.patches import FancyArrowPatch

    bend = "arc3,rad=-0.35" if curved else "arc3"
    style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 10, "color": LINE, "connectionstyle": bend}
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=1, zorder=1, **style))


# ----- boxes in a row


def boxes_figure(rows: Sequence[Sequence[tuple[str, str]]]) -> Any:
    """Rows of boxes joined by arrows, read from left to right and row by row: (what, a smaller line below it)."""
    height = 0.95
    figure, axes = blank(7.0, height * len(rows) + 0.1)
    from matplotlib.patches import FancyBboxPatch

    previous: tuple[float, float] | None = None
    for r, row in enumerate(rows):
        y = figure.get_figheight() - height * (r + 0.5) - 0.05
        step = 7.0 / len(row)
        for c, (what, below) in enumerate(row):
            x, half = step * (c + 0.5), min(step * 0.4, 0.85)
            style = {"boxstyle": "round,pad=0,rounding_size=0.07", "edgecolor": COLOURS[r % len(COLOURS)]}
            axes.add_patch(FancyBboxPatch((x - half, y - 0.29), 2 * half, 0.58, facecolor="white", **style))
            axes.text(x, y + 0.08, what, ha="center", va="center", fontsize=9)
            axes.text(x, y - 0.13, below, ha="center", va="center", fontsize=7.5, color=GREY)
            if previous is not None and c:
                axes.annotate("", (x - half, y), previous, arrowprops={"arrowstyle": "-|>", "color": LINE})
            previous = (x + half, y)
    return figure

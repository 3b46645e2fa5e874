"""What `minilm bench` measured, as pictures: time against length, and the roofline.

    plot_bench(json.loads(Path("all.json").read_text()), "plots")

The roofline (Williams, Waterman and Patterson 2009) has one question for a program: how far is it from what the
machine can do? Across is its arithmetic intensity, the flops that it does for each byte that has to cross the memory
bus; upwards its flop/s. Nothing can be above

    min(peak, intensity * bandwidth)      peak in flop/s

To the left of the ridge, where the two meet, memory is the limit, to the right of it arithmetic. A program that moves
more bytes than it needs to falls below the roof; the intensity here is that of the operation, not of its program, so
that all contestants of one operation and size stand above each other. Two things put a point above the roof: arrays
that were in the cache, and flops that need not be done (attention's backward is counted as five products, as the field
does; the formula kept the weights, and does with four).

Colours tell contestants apart, and are those of Okabe and Ito (2008), which colour-blind readers can tell apart;
forward is filled, backward hollow. What it does not do: it measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minilm.errors import DataError
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.testing.timing import in_words

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")

Result = Mapping[str, Any]
"""What `minilm bench --json` writes."""


def plot_bench(result: Result, folder: str | Path) -> list[Path]:
    """Draw SUBJECT_time.png for each subject of a result, and roofline.png for all of them, into a folder.

    Raises:
        MinilmError: if matplotlib is not installed.
        DataError: if nothing was timed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {f"{entry['subject']}_time.png": time_figure(entry, _where(result)) for entry in result["subjects"]}
    figures["roofline.png"] = roofline_figure(result)
    for name, figure in figures.items():
        figure.savefig(folder / name)
    return [folder / name for name in figures]


def time_figure(entry: Mapping[str, Any], where: str = "") -> Any:
    """Time against length, a panel for each direction; `entry` is one of the subjects of a result.

    The bars are interquartile ranges. A cross at the upper edge: the contestant ran out of memory at that length.
    """
    timed = _timed([entry])
    directions = list(dict.fromkeys(row["direction"] for row in entry["rows"]))
    names = list(dict.fromkeys(row["contestant"] for row in entry["rows"]))
    lengths = sorted({row["length"] for row in entry["rows"]})
    figure = new_figure()
    figure.set_size_inches(7, 3.9)
    panels = figure.subplots(1, len(directions), sharey=True, squeeze=False)[0]
    for axes, direction in zip(panels, directions, strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        for k, name in enumerate(names):
            style = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
            rows = [row for row in timed if (row["contestant"], row["direction"]) == (name, direction)]
            spread = [row["spread_s"] / 2 for row in rows]
            x, y = [row["length"] for row in rows], [row["median_s"] for row in rows]
            bars = [[min(s, 0.9 * median) for s, median in zip(spread, y, strict=True)], spread]
            axes.errorbar(x, y, bars, **style, markersize=5, linewidth=1.6, elinewidth=1, capsize=2, label=name)
        _mark_lack_of_memory(axes, entry["rows"], direction, names)
        axes.set_title(direction, fontsize=10)
        axes.set_xlabel(f"length {entry['varied']}")
        _ticks(axes, lengths)
    panels[0].set_ylabel("time (median)")
    panels[0].legend(frameon=False, fontsize=9)
    sizes = ", ".join(f"{name} {size}" for name, size in entry["sizes"].items())
    figure.suptitle(entry["subject"] + (f" ({sizes})" if sizes else "") + (f"; {where}" if where else ""), fontsize=10)
    return figure


def roofline_figure(result: Result) -> Any:
    """Flop/s against arithmetic intensity, under the roofs in result["ceilings"].

    Of one subject every length is drawn, of several the largest length of each, forward.
    """
    entries = result["subjects"]
    rows = _timed(entries)
    several = len(entries) > 1
    if several:
        largest = {(row["operation"], row["contestant"]): row for row in rows if row["direction"] != "backward"}
        rows = list(largest.values())
    roofs = result["ceilings"]
    figure = new_figure()
    axes = figure.add_subplot()
    subjects = [entry["operation"] for entry in entries]
    names = list(dict.fromkeys(row["contestant"] for row in rows))
    for row in rows:
        colour = COLOURS[names.index(row["contestant"]) % len(COLOURS)]
        marker = MARKERS[subjects.index(row["operation"]) % len(MARKERS)]
        filled = row["direction"] != "backward"
        face = {"markerfacecolor": colour if filled else "white", "markeredgecolor": colour}
        axes.plot(row["flops"] / row["bytes"], row["flop_per_s"], marker, markersize=7, markeredgewidth=1.3, **face)
    intensities = [row["flops"] / row["bytes"] for row in rows]
    draw_roofs(axes, {"": roofs["flop_per_s"]}, roofs["byte_per_s"], intensities)
    handles = [_handle(COLOURS[k % len(COLOURS)], "s", name) for k, name in enumerate(names)]
    if several:
        shapes = [_handle(GREY, MARKERS[k % len(MARKERS)], entry["subject"]) for k, entry in enumerate(entries)]
        handles += [_handle("none", "", "")] + shapes
        figure.legend(handles=handles, frameon=False, fontsize=9, loc="outside right upper")
    else:
        if any(row["direction"] == "backward" for row in rows):
            handles += [_handle(GREY, "o", "forward"), _handle(GREY, "o", "backward", hollow=True)]
        axes.legend(handles=handles, frameon=False, fontsize=9, loc="lower right")
    title = "largest length of each, forward" if several else f"{entries[0]['subject']}, every length"
    axes.set_title(f"{title}; {_where(result)}", fontsize=10)
    return figure


def static_figure(rows: Iterable[Mapping[str, Any]], ceiling: Mapping[str, Any], dtype: str = "float16") -> Any:
    """Where the kernels of the static report can stand at best on one GPU; `rows` are those of one architecture.

    A point below the roofs is held there by the exponential unit. Raises DataError if no row has that dtype.
    """
    points = {(row["case"], tuple(row["sizes"].items())): row for row in rows if row["dtype"] == dtype}
    if not points:
        raise DataError(f"the static report has no {dtype} to draw")
    figure = new_figure()
    figure.set_size_inches(7, 4.6)
    axes = figure.add_subplot()
    cases = list(dict.fromkeys(case for case, _ in points))
    for (case, _), row in points.items():
        k = cases.index(case)
        style = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[(k // len(COLOURS) + k) % len(MARKERS)]}
        first = row is next(r for (c, _), r in points.items() if c == case)
        label = case if first else None
        axes.plot(row["intensity"], 1e6 * row["flops"] / row["roofline_us"], linestyle="", **style, label=label)
    peaks = {"16 bits: ": ceiling["tensor"], "float32: ": ceiling["float32"]}
    draw_roofs(axes, peaks, ceiling["bandwidth"], [row["intensity"] for row in points.values()])
    axes.set_title(f"what {dtype} kernels can reach on an {ceiling['gpu']}", fontsize=10)
    figure.legend(frameon=False, fontsize=7.5, loc="outside right upper")
    return figure


LIMITS = {"memory": ("#0072B2", "o"), "compute": ("#D55E00", "s"), "exponentials": ("#009E73", "^")}
"""What can limit a kernel, with its colour and marker."""


def static_times_figure(rows: Iterable[Mapping[str, Any]], ceiling: Mapping[str, Any], dtype: str = "float16") -> Any:
    """The least time of each case of the static report, for memory, for arithmetic and for exponentials.

    The rightmost mark of a line is what limits the operation; how far the others are behind tells what else would.
    """
    points = {(row["case"], *row["sizes"].items()): row for row in rows if row["dtype"] == dtype}
    if not points:
        raise DataError(f"the static report has no {dtype} to draw")
    figure = new_figure()
    figure.set_size_inches(7, 1.2 + 0.17 * len(points))
    axes = figure.add_subplot()
    names = []
    for y, ((case, *sizes), row) in enumerate(points.items()):
        names.append(f"{case}  {' '.join(f'{name} {size}' for name, size in sizes)}")
        axes.plot([0, row["roofline_us"]], [y, y], color="#cccccc", linewidth=1, zorder=1)
        for limit, (colour, marker) in LIMITS.items():
            if row["times_us"][limit] > 0:
                axes.plot(row["times_us"][limit], y, marker, color=colour, markersize=5)
    axes.set_xscale("log")
    least = [time for row in points.values() for time in row["times_us"].values() if time > 0]
    axes.set_xlim(min(least) / 2, max(least) * 2)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("least time (microseconds)")
    axes.xaxis.set_major_formatter(lambda time, _: f"{time:g}")
    axes.set_title(f"{dtype} on an {ceiling['gpu']}", fontsize=10)
    _frame(axes)
    handles = [_handle(colour, marker, limit) for limit, (colour, marker) in LIMITS.items()]
    figure.legend(handles=handles, frameon=False, fontsize=9, ncols=3, loc="outside lower center")
    return figure


def draw_roofs(axes: Any, peaks: Mapping[str, float], bandwidth: float, intensities: Sequence[float]) -> None:
    """Draw min(peak, intensity x bandwidth) for each peak, and set up the axes around the points."""
    highest = max(peaks.values())
    ridge = highest / bandwidth
    left, right = min(*intensities, ridge) / 3, max(*intensities, ridge) * 4
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.plot([left, ridge], [left * bandwidth, highest], color=GREY, linewidth=1.4, zorder=1)
    for name, peak in peaks.items():
        axes.plot([peak / bandwidth, right], [peak, peak], color=GREY, linewidth=1.4, zorder=1)
        text = f"{name}{_rate(peak, 'FLOP/s')}"
        axes.annotate(text, (right, peak), xytext=(-4, 4), textcoords="offset points", ha="right", **_SMALL)
    x = left * 1.5
    at = {"xytext": (8, -4), "textcoords": "offset points", "va": "top"}
    axes.annotate(_rate(bandwidth, "B/s"), (x, x * bandwidth), **at, **_SMALL)
    axes.set_xlim(left, right)
    axes.set_xlabel("arithmetic intensity (FLOP per byte)")
    axes.set_ylabel("FLOP/s")
    axes.yaxis.set_major_formatter(lambda rate, _: _rate(rate, ""))
    axes.xaxis.set_major_formatter(lambda intensity, _: f"{intensity:,g}")
    _frame(axes)


_SMALL = {"fontsize": 9, "color": GREY}


def _rate(rate: float, unit: str) -> str:
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= size:
            return f"{rate / size:.3g} {letter}{unit}"
    return f"{rate:.3g} {unit}"


def _where(result: Result) -> str:
    facts = result["machine"]
    return f"{facts.get('gpu') or facts['cpu']}, {result['dtype']}"


def _timed(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have a time, each with its operation; the longest last."""
    found = [
        {**row, "operation": entry["operation"]} for entry in entries for row in entry["rows"] if "median_s" in row
    ]
    if not found:
        raise DataError("nothing was timed, so there is nothing to draw")
    return sorted(found, key=lambda row: row["length"])


def _mark_lack_of_memory(axes: Any, rows: Iterable[Mapping[str, Any]], direction: str, names: list[str]) -> None:
    label = "out of memory"
    for row in rows:
        if row["direction"] == direction and row["status"] == "out of memory":
            colour = COLOURS[names.index(row["contestant"]) % len(COLOURS)]
            at = {"transform": axes.get_xaxis_transform(), "clip_on": False}
            axes.plot(row["length"], 0.97, "x", color=colour, markersize=8, markeredgewidth=2, label=label, **at)
            label = "_" + label.lstrip("_")  # once in the legend


def _ticks(axes: Any, lengths: Sequence[int]) -> None:
    """The lengths that were run, and times with their units."""
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths], rotation=45 if len(lengths) > 4 else 0)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda seconds, _: in_words(seconds))
    _frame(axes)


def _frame(axes: Any) -> None:
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _handle(colour: str, marker: str, label: str, hollow: bool = False) -> Any:
    from matplotlib.lines import Line2D

    face = "white" if hollow else colour
    style: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": colour, "markersize": 6}
    return Line2D([], [], linestyle="", marker=marker, label=label, **style)

"""The pictures of a benchmark: what is on them, and that they can be read."""

import json
import math

import numpy as np
import pytest

from minilm.errors import DataError
from minilm.plots import plot_bench, roofline_figure, time_figure
from minilm.plots.roofline import static_figure, static_times_figure


@pytest.fixture(autouse=True)
def matplotlib(require_package):
    return require_package("matplotlib")


def row(contestant, direction, length, median=None, **more):
    timed = {} if median is None else {"median_s": median, "spread_s": median / 4, "flop_per_s": 1e9 * length / median}
    return {
        **{"contestant": contestant, "direction": direction, "length": length, "status": "ok", "why": None},
        **{"flops": 1e9 * length, "bytes": 1e8, **timed, **more},
    }


def entry(name="attention", directions=("forward", "backward")):
    rows = [
        row(contestant, direction, length, length * slow)
        for direction in directions
        for length in (128, 256)
        for contestant, slow in (("textbook", 1e-5), ("blocked", 2e-5))
    ]
    return {"subject": name, "operation": name, "varied": "T", "sizes": {"B": 1, "D": 64}, "rows": rows}


def result(*entries):
    return {
        "machine": {"cpu": "Some CPU"},
        "dtype": "float32",
        "ceilings": {"flop_per_s": 1e14, "byte_per_s": 1e12},
        "subjects": list(entries or [entry()]),
    }


def labels(figure):
    legends = [*(axes.get_legend() for axes in figure.axes), *figure.legends]
    return [text.get_text() for legend in legends if legend for text in legend.get_texts()]


def test_a_picture_for_each_subject_and_one_roofline_wide_enough_for_a_page(tmp_path):
    paths = plot_bench(result(entry("attention"), entry("matmul")), tmp_path / "new")
    assert [path.name for path in paths] == ["attention_time.png", "matmul_time.png", "roofline.png"]
    for path in paths:
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(data[16:20], "big") >= 1000


def test_a_result_that_went_through_json_gives_the_same_picture():
    again = json.loads(json.dumps(result()))
    one, other = (roofline_figure(r).axes[0].lines for r in (result(), again))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.get_xydata(), b.get_xydata())


def test_time_against_length_has_a_panel_for_each_direction_and_both_axes_logarithmic():
    figure = time_figure(entry())
    assert [axes.get_title() for axes in figure.axes] == ["forward", "backward"]
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert axes.get_xlabel() == "length T"
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["128", "256"]
    assert figure.axes[0].get_ylabel() == "time (median)"
    assert labels(figure) == ["textbook", "blocked"]
    line = figure.axes[1].containers[1].lines[0]
    np.testing.assert_allclose(line.get_xydata(), [(128, 128 * 2e-5), (256, 256 * 2e-5)])


def test_the_bars_are_as_long_as_the_interquartile_range():
    (bars,) = time_figure(entry()).axes[0].containers[0].lines[2]
    (x, low), (_, high) = bars.get_segments()[0]
    assert x == 128 and high - low == pytest.approx(128 * 1e-5 / 4)


def test_times_have_units():
    figure = time_figure(entry())
    figure.canvas.draw()
    assert "1 ms" in [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_a_cross_marks_where_memory_ran_out():
    of_memory = entry(directions=("forward",))
    of_memory["rows"] += [row("textbook", "forward", n, status="out of memory") for n in (512, 1024)]
    figure = time_figure(of_memory)
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [512, 1024]
    assert labels(figure).count("out of memory") == 1


def test_points_stand_at_their_intensity_under_the_two_roofs():
    axes = roofline_figure(result(entry(directions=("forward",)))).axes[0]
    points = {tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() != "None"}
    assert points == {(10 * n, 1e9 * n / (n * slow)) for n in (128, 256) for slow in (1e-5, 2e-5)}
    slope, flat = (line.get_xydata() for line in axes.lines if line.get_marker() == "None")
    np.testing.assert_allclose(slope[:, 1] / slope[:, 0], 1e12)
    np.testing.assert_allclose(slope[1], (100, 1e14))
    np.testing.assert_allclose(flat[:, 1], 1e14)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("arithmetic intensity (FLOP per byte)", "FLOP/s")
    assert [text.get_text() for text in axes.texts] == ["100 TFLOP/s", "1 TB/s"]


def test_forward_is_filled_and_backward_hollow():
    figure = roofline_figure(result())
    faces = {line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() != "None"}
    assert "white" in faces and len(faces) == 3
    assert labels(figure) == ["textbook", "blocked", "forward", "backward"]


def test_of_several_subjects_the_largest_length_is_drawn_forward():
    figure = roofline_figure(result(entry("attention"), entry("matmul")))
    points = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert {float(line.get_xdata()[0]) for line in points} == {2560.0}
    assert len({line.get_marker() for line in points}) == 2
    assert {"attention", "matmul", "textbook", "blocked"} <= set(labels(figure))


def test_the_static_rooflines_hold_every_case_under_the_ceilings():
    ceiling = {"gpu": "H100 SXM", "tensor": 989e12, "float32": 67e12, "bandwidth": 3.35e12}
    rows = [
        {
            **{"case": case, "sizes": {"D": 64}, "dtype": dtype, "intensity": intensity},
            **{"flops": 1e9, "roofline_us": 1e9 / min(989e12, 3.35e12 * intensity) * 1e6},
        }
        for case, intensity in (("attention forward", 500.0), ("softmax", 1.0))
        for dtype in ("float16", "float32")
    ]
    figure = static_figure(rows, ceiling)
    points = [tuple(line.get_xydata()[0]) for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert points == [(500.0, pytest.approx(989e12)), (1.0, pytest.approx(3.35e12))]
    assert labels(figure) == ["attention forward", "softmax"]
    assert "H100" in figure.axes[0].get_title()
    with pytest.raises(DataError, match="no bfloat16"):
        static_figure(rows, ceiling, "bfloat16")


def test_the_least_times_of_a_case_stand_on_its_line():
    times = {"compute": 4.0, "memory": 20.0, "exponentials": 0.0}
    rows = [
        {"case": "softmax", "sizes": {"N": 8, "n": n}, "dtype": "float16", "times_us": times, "roofline_us": 20.0}
        for n in (64, 128)
    ]
    axes = static_times_figure(rows, {"gpu": "H100 SXM"}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["softmax  N 8 n 64", "softmax  N 8 n 128"]
    points = [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() != "None"]
    assert points == [(20.0, 0), (4.0, 0), (20.0, 1), (4.0, 1)], "an operation without exponentials takes none"
    assert "microseconds" in axes.get_xlabel()
    with pytest.raises(DataError, match="no float32"):
        static_times_figure(rows, {"gpu": "H100 SXM"}, "float32")


def test_nothing_timed_is_nothing_to_draw():
    empty = {**entry(), "rows": [row("textbook", "forward", 128, status="wrong")]}
    for draw in (lambda: time_figure(empty), lambda: roofline_figure(result(empty))):
        with pytest.raises(DataError, match="nothing was timed"):
            draw()


def test_a_median_of_nearly_nothing_does_not_break_the_logarithmic_axis():
    tiny = {**entry(), "rows": [row("a", "forward", 8, 1e-9, spread_s=1.0)]}
    time_figure(tiny).canvas.draw()
    assert math.isfinite(time_figure(tiny).axes[0].get_ylim()[0])

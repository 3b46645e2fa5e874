"""The picture of the losses: what is on it, from which sources, and what it says when it cannot be drawn."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from minilm.errors import DataError, MinilmError
from minilm.plots import loss_figure, plot_losses
from minilm.plots.loss_curves import smoothed

CURVE = [(step, 4 * 0.99**step, 4.1 * 0.99**step if step % 20 == 0 else None) for step in range(1, 101)]


@pytest.fixture(autouse=True)
def matplotlib(require_package):
    return require_package("matplotlib")


def texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def metrics_file(folder, lines):
    path = folder / "metrics.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_file_is_a_png_wide_enough_for_a_page(tmp_path):
    path = plot_losses({"gpt": CURVE}, tmp_path / "new" / "losses.png", title="Shakespeare")
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    assert width >= 1000 and height >= 600


def test_axes_and_curves_are_labelled():
    axes = loss_figure({"gpt": CURVE, "lstm": CURVE}, title="both").axes[0]
    assert axes.get_xlabel() == "step"
    assert axes.get_ylabel() == "loss (nats per token)"
    assert axes.get_title() == "both"
    assert texts(axes) == ["gpt, training", "gpt, validation", "lstm, training", "lstm, validation"]
    colours = {line.get_label(): line.get_color() for line in axes.lines}
    assert colours["gpt, training"] == colours["gpt, validation"] != colours["lstm, training"]


def test_the_lines_show_the_points_that_were_given():
    raw, _, validation = loss_figure({"gpt": CURVE}).axes[0].lines
    np.testing.assert_array_equal(raw.get_xydata(), [(step, train) for step, train, _ in CURVE])
    np.testing.assert_array_equal(validation.get_xydata(), [(s, e) for s, _, e in CURVE if e is not None])


def test_baselines_are_dashed_lines_with_their_names():
    axes = loss_figure({"gpt": CURVE}, baselines={"uniform": math.log(65)}).axes[0]
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert set(line.get_ydata()) == {math.log(65)}
    assert [text.get_text() for text in axes.texts] == ["uniform 4.17"]


def test_bits_per_character_stand_on_the_right():
    figure = loss_figure({"gpt": CURVE}, characters_per_token=2.0)
    (right,) = figure.axes[0].child_axes
    assert right.get_ylabel() == "bits per character"
    figure.canvas.draw()
    nats = np.array(figure.axes[0].get_ylim())
    np.testing.assert_allclose(right.get_ylim(), nats / (2 * math.log(2)))


def test_metrics_of_a_run_give_the_same_picture_as_its_points(tmp_path):
    lines = []
    for step, train, validation in CURVE:
        lines.append(json.dumps({"step": step, "loss": train, "tokens": 5}))
        if validation is not None:
            lines.append(json.dumps({"step": step, "eval_loss": validation}))
    path = metrics_file(tmp_path, [*lines, '{"step": 101, "lo'])  # killed while it wrote
    of_file, of_points = (loss_figure({"gpt": curve}).axes[0].lines for curve in (str(path), CURVE))
    for one, other in zip(of_file, of_points, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())


def test_losses_that_are_not_finite_are_left_out():
    curve = [(1, 3.0, None), (2, math.nan, None), (3, math.inf, None), (4, 2.0, None)]
    np.testing.assert_array_equal(loss_figure({"gpt": curve}).axes[0].lines[0].get_xydata(), [(1, 3), (4, 2)])


@pytest.mark.parametrize("n", [1, 2, 39, 40, 200])
def test_smoothing_keeps_a_straight_line_and_damps_noise(n):
    line = np.linspace(4, 1, n)
    np.testing.assert_allclose(smoothed(line), line, rtol=1e-12)
    if n == 200:
        noise = np.where(np.arange(n) % 2, 1.0, -1.0)
        assert np.abs(smoothed(noise)[5:-5]).max() < 0.1


def test_drawing_leaves_pyplot_alone(tmp_path):
    code = (
        "import sys; from minilm.plots import plot_losses; assert 'matplotlib' not in sys.modules; "
        f"plot_losses({{'gpt': [(1, 2.0, None)]}}, {str(tmp_path / 'a.png')!r}); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "matplotlib":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(MinilmError, match=r"pip install 'minilm\[plots\]'"):
        loss_figure({"gpt": CURVE})


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(DataError, match="no loss curve"):
        loss_figure({})
    with pytest.raises(DataError, match="'gpt' has no finite loss"):
        loss_figure({"gpt": [(1, math.nan, None)]})
    with pytest.raises(DataError, match="No such file"):
        loss_figure({"gpt": tmp_path / "absent.jsonl"})
    path = metrics_file(tmp_path, ['{"step": 1, "loss": 2}', "nonsense", '{"step": 2, "loss": 2}'])
    with pytest.raises(DataError, match="line 2 is no JSON object"):
        loss_figure({"gpt": path})

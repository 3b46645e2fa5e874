"""Pictures of inspections show the numbers they were given, each in its place, and refuse what does not fit."""

import numpy as np
import pytest

from minilm.errors import DataError
from minilm.inspection.bias_probe import Effect
from minilm.inspection.logit_lens import LogitLens
from minilm.plots import (
    effects_figure,
    logit_lens_figure,
    plot_effects,
    plot_logit_lens,
    plot_privacy,
    plot_saliency,
    privacy_figure,
    saliency_figure,
)

TOKENS = ["[CLS]", "costs", "$5", "or", "$6"]
VALUES = np.array([0.0, 1.5, -3.0, 0.2, 0.75])


@pytest.fixture(autouse=True)
def matplotlib(require_package):
    return require_package("matplotlib")


def lens(layers=4, T=5):
    draw = np.random.default_rng(0)
    top, p = draw.integers(0, 9, (layers, T)), draw.random((layers, T))
    return LogitLens(top, p, p, p, {})


def effect_of(mean):
    return Effect(mean, mean - 0.5, mean + 0.4, 1.0, 0.01, 6)


EFFECTS = {"nurse": effect_of(1.2), "soldier": effect_of(-2.0), "clerk": effect_of(0.1)}
GROUPS = {"one": ("nurse", "clerk"), "other": ("soldier",)}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_saliency_writes_each_value_over_its_word_in_a_colour_of_its_sign():
    (axes,) = saliency_figure(TOKENS, {"gradient": VALUES, "other": -VALUES}, "for class $1").axes
    assert texts(axes)[:5] == ["+0.00", "+1.50", "\u22123.00", "+0.20", "+0.75"]
    (image,) = axes.images
    np.testing.assert_allclose(image.get_array(), [VALUES / 3, -VALUES / 3])
    assert (image.norm.vmin, image.norm.vmax) == (-1, 1)  # white is 0
    assert [label.get_text() for label in axes.get_xticklabels()] == [t.replace("$", r"\$") for t in TOKENS]


def test_the_lens_has_the_embeddings_at_the_bottom_and_a_word_in_each_field():
    found = lens()
    axes = logit_lens_figure(found, TOKENS, lambda i: f"w{i}").axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), found.probability)
    assert texts(axes) == [f"w{i}" for i in found.top.ravel()]
    low, high = axes.get_ylim()
    assert low < high  # row 0 is the lowest
    assert [label.get_text() for label in axes.get_yticklabels()] == ["embeddings", "1", "2", "3"]


def test_words_that_the_font_lacks_or_that_are_too_long_are_shortened():
    words = iter(["\u4e2d", "a" * 40, "\n", "  "])
    axes = logit_lens_figure(lens(1, 4), list("abcd"), lambda i: next(words)).axes[0]
    assert texts(axes) == ["\u25a1", "a" * 11 + "\u2026", "\\n", "\u2423"]


def test_effects_are_sorted_bars_with_their_intervals():
    (axes,) = effects_figure(EFFECTS, "nats", groups=GROUPS).axes
    assert [bar.get_width() for bar in axes.patches] == [-2.0, 0.1, 1.2]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["soldier", "clerk", "nurse"]
    spans = [tuple(line.get_xdata()) for line in axes.lines[:3]]
    np.testing.assert_allclose(spans, [(-2.5, -1.6), (-0.4, 0.5), (0.7, 1.6)])
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["one, mean +0.65", "other, mean \u22122.00"]


def privacy_result():
    def row(epsilon, loss):
        seeds = [loss, loss + 0.01]
        spread = {"mean": loss + 0.005, "seeds": seeds}
        return {"epsilon": epsilon, "loss": spread, "accuracy": {"mean": 0.75}, "exposure_bits": spread}

    rows = {"1": row(1.0, 0.6), "8": row(8.0, 0.55), "inf": row(None, 0.52), "plain": row(None, 0.5)}
    canary = {"rows": {"plain": row(None, 9.0), "8": row(8.0, 2.0)}, "most_exposure_bits": 14.1}
    return {"delta": 1e-5, "cost": {"rows": rows}, "canary": {**canary, "secrets_of_the_form": 17576}}


def test_the_privacy_curve_goes_through_the_means_and_shows_every_seed():
    left, right = privacy_figure(privacy_result()).axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), [(1.0, 0.605), (8.0, 0.555)])
    assert sum(len(line.get_xdata()) for line in left.lines[1:4]) == 6  # two seeds, two epsilons and infinity
    assert [label.get_text() for label in left.get_xticklabels()] == ["1", "8", "\u221e, clipped"]
    assert [bar.get_height() for bar in right.patches] == [9.005, 2.005]
    result = privacy_result()
    del result["canary"]
    assert len(privacy_figure(result).axes) == 1


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plot_saliency(TOKENS, {"gradient": VALUES}, path),
        lambda path: plot_logit_lens(lens(), TOKENS, str, path),
        lambda path: plot_effects(EFFECTS, path, "nats"),
        lambda path: plot_privacy(privacy_result(), path),
    ],
)
def test_the_file_is_written_in_the_format_of_its_suffix(draw, tmp_path):
    assert draw(tmp_path / "a" / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="there are 5 tokens"):
        saliency_figure(TOKENS, {"gradient": VALUES[:3]})
    with pytest.raises(DataError, match="looked at 5"):
        logit_lens_figure(lens(), TOKENS[:2], str)
    with pytest.raises(DataError, match="none of the groups"):
        effects_figure(EFFECTS, "nats", groups={"one": ("nurse",)})
    with pytest.raises(DataError, match="at least one"):
        effects_figure({}, "nats")
    result = privacy_result()
    result["cost"]["rows"] = {"inf": result["cost"]["rows"]["inf"]}
    with pytest.raises(DataError, match="no curve"):
        privacy_figure(result)

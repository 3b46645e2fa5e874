"""The picture of attention: every map, every token, and what it says when they do not fit."""

import numpy as np
import pytest

from minilm.errors import DataError
from minilm.plots import attention_figure, plot_attention

SOURCE, TARGET = ["I", "have", "$5", "and", "$6"], ["Ich", "habe", "<eos>"]


@pytest.fixture(autouse=True)
def matplotlib(require_package):
    return require_package("matplotlib")


def maps(*shape):
    weights = np.random.default_rng(0).random((*shape, len(TARGET), len(SOURCE)))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_there_is_a_map_for_each_head_and_it_shows_the_weights(shape):
    weights = maps(*shape)
    axes = attention_figure(weights, SOURCE, TARGET).axes
    assert len(axes) == np.prod(shape, dtype=int)
    for ax, expected in zip(axes, weights.reshape(-1, 3, 5), strict=True):
        (image,) = ax.images
        np.testing.assert_array_equal(image.get_array(), expected)
        assert image.norm.vmin == 0 and image.norm.vmax == 1  # the same grey means the same in all maps
        assert ax.get_xlim() == (-0.5, 4.5) and ax.get_ylim() == (2.5, -0.5)  # the first token at the top


def test_tokens_stand_at_the_edges_and_dollars_are_no_formula(tmp_path):
    figure = attention_figure(maps(2, 2), SOURCE, TARGET, title="costs $5 or $6")
    corner = figure.axes[2]
    assert [label.get_text() for label in corner.get_xticklabels()] == [t.replace("$", r"\$") for t in SOURCE]
    assert [label.get_text() for label in corner.get_yticklabels()] == TARGET
    assert not any(label.get_text() for label in figure.axes[1].get_yticklabels())
    assert [ax.get_title() for ax in figure.axes][:2] == ["layer 1, head 1", "layer 1, head 2"]
    figure.savefig(tmp_path / "map.png")


@pytest.mark.parametrize(("name", "begins"), [("a/map.png", b"\x89PNG"), ("map.svg", b"<?xml"), ("map", b"\x89PNG")])
def test_the_file_has_the_format_of_its_suffix(tmp_path, name, begins):
    path = plot_attention(maps(2), SOURCE, TARGET, tmp_path / name, labels=["left", "right"])
    assert path.read_bytes().startswith(begins)


def test_weights_that_do_not_fit_the_tokens_are_refused():
    with pytest.raises(DataError, match=r"\(3, 5\)"):
        attention_figure(maps()[:2], SOURCE, TARGET)
    with pytest.raises(DataError, match="shape"):
        attention_figure(maps(1, 1, 1), SOURCE, TARGET)

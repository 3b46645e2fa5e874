"""The pictures of the chapters hold what was asked for, where it should be."""

import numpy as np
from matplotlib.patches import FancyArrowPatch, Rectangle

from checks.drawing import boxes_figure, graph_figure, matrices_figure


def texts(figure):
    """What is written in a picture, with its place in inches."""
    return {text.get_text(): text.get_position() for text in figure.axes[0].texts}


def test_a_matrix_has_a_cell_for_each_element_and_its_shape_below():
    figure = matrices_figure([[("A", (2, 3), None), "·", ("b", np.array([[1.0], [0.25], [np.inf]]), None)]])
    written = texts(figure)
    assert {"A  (2, 3)", "b  (3, 1)", "·", "1", "0.25", "inf"} <= set(written)
    cells = [p for p in figure.axes[0].patches if isinstance(p, Rectangle) and p.get_fill()]
    assert len(cells) == 2 * 3 + 3 * 1
    assert written["A  (2, 3)"][0] < written["·"][0] < written["b  (3, 1)"][0]
    assert written["1"][1] > written["0.25"][1] > written["inf"][1]  # row by row, from the top


def test_a_product_of_many_columns_widens_the_picture_and_stays_inside():
    figure = matrices_figure([[("A", (2, 40), None)]])
    assert figure.get_figwidth() > 40 * 0.3
    right = max(p.get_x() + p.get_width() for p in figure.axes[0].patches)
    assert right < figure.get_figwidth()


def test_each_node_stands_to_the_right_of_all_that_it_is_computed_from():
    nodes = {"late": "late", "x": "x", "y": "y", "a": "a", "b": "b"}
    edges = [("x", "a"), ("y", "a"), ("a", "b"), ("x", "b"), ("b", "late", "twice")]
    figure = graph_figure(nodes, edges)
    at = texts(figure)
    for start, end, *_ in edges:
        assert at[start][0] < at[end][0]
    assert "twice" in at
    arrows = [p for p in figure.axes[0].patches if isinstance(p, FancyArrowPatch)]
    assert len(arrows) == len(edges)


def test_a_leaf_stands_beside_its_first_use():
    chain = [("x", "a"), ("a", "b"), ("b", "c"), ("late", "c")]
    at = texts(graph_figure({name: name for name in ("x", "a", "b", "c", "late")}, chain))
    assert at["late"][0] == at["b"][0]


def test_boxes_are_read_from_left_to_right_and_down():
    at = texts(boxes_figure([[("first", "a"), ("second", "b")], [("third", "c")]]))
    assert at["first"][0] < at["second"][0]
    assert at["third"][1] < at["first"][1] == at["second"][1]

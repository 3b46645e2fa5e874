"""The checkers of chapter 2: a right answer passes, and each usual mistake is named."""

import numpy as np
import pytest

from checks import NotYet
from checks.chapter_02 import (
    check_mean_vjp,
    check_rows_vjp,
    check_scores_vjp,
    check_transpose_vjp,
    check_unbroadcast,
    check_weight_vjp,
)


def unbroadcast(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


def first_element(g, shape):
    g = g[(0,) * (g.ndim - len(shape))]
    return g[tuple(slice(0, n) for n in shape)]


def in_front_only(g, shape):
    return g.sum(axis=tuple(range(g.ndim - len(shape))))


def without_keepdims(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1))


def mean_vjp(g, shape, axis):
    return np.broadcast_to(np.expand_dims(g, axis), shape) / shape[axis]


def rows_vjp(g, ids, V):
    dW = np.zeros((V, g.shape[-1]))
    np.add.at(dW, ids, g)
    return dW


def rows_assigned(g, ids, V):
    dW = np.zeros((V, g.shape[-1]))
    dW[ids] += g
    return dW


def weight_vjp(x, g):
    return np.einsum("btc,btd->cd", x, g)


RIGHT = [
    (check_unbroadcast, unbroadcast),
    (check_mean_vjp, mean_vjp),
    (check_mean_vjp, lambda g, shape, axis: mean_vjp(g, shape, axis).astype("float32")),
    (check_rows_vjp, rows_vjp),
    (check_weight_vjp, weight_vjp),
    (check_transpose_vjp, lambda g, axes: g.transpose(np.argsort(axes))),
    (check_scores_vjp, lambda Q, g: np.swapaxes(g, 1, 2) @ Q),
]
WRONG = [
    (check_unbroadcast, lambda g, shape: ..., "fill it in"),
    (check_unbroadcast, first_element, "first element drops the rest"),
    (check_unbroadcast, in_front_only, "where the input has length 1"),
    (check_unbroadcast, without_keepdims, "keep axes of length 1"),
    (check_unbroadcast, lambda g, shape: unbroadcast(g, shape) * unbroadcast(g, shape).size / g.size, "mean"),
    (check_mean_vjp, lambda g, shape, axis: mean_vjp(g, shape, axis) * shape[axis], "vjp of the sum"),
    (check_mean_vjp, lambda g, shape, axis: np.expand_dims(g, axis) / shape[axis], "Repeat it along the axis"),
    (
        check_mean_vjp,
        lambda g, shape, axis: mean_vjp(g, shape, axis) * shape[axis] / np.prod(shape),
        "length of the axis, 3, not by all 6",
    ),
    (check_mean_vjp, lambda g, shape, axis: np.broadcast_to(g, shape) / shape[axis], "could not be broadcast"),
    (check_rows_vjp, rows_assigned, "use np.add.at"),
    (check_rows_vjp, lambda g, ids, V: g, "shape of the table"),
    (check_weight_vjp, lambda x, g: np.swapaxes(x, 1, 2) @ g, "sum over the batch"),
    (check_weight_vjp, lambda x, g: weight_vjp(x, g).T, "That is the transpose"),
    (check_weight_vjp, lambda x, g: weight_vjp(x, g) / len(x), "mean over the batch"),
    (check_transpose_vjp, lambda g, axes: g.transpose(axes), "the way back is its inverse"),
    (check_transpose_vjp, lambda g, axes: g.transpose(), "reverses the axes"),
    (check_scores_vjp, lambda Q, g: np.einsum("bqk,bqd->bdk", g, Q), "swap two axes"),
    (check_scores_vjp, lambda Q, g: g @ Q, "ValueError"),
    (check_scores_vjp, lambda Q, g: np.einsum("bqk,bqd->kd", g, Q), "batch was summed"),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_a_right_answer_passes(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize("check, answer, message", WRONG)
def test_a_mistake_is_named(check, answer, message):
    with pytest.raises(NotYet, match=message):
        check(answer)

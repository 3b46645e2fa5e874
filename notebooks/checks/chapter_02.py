"""The checkers of chapter 2, Tensors and broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import Mistake, call, expect


def _unbroadcast(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    extra = g.ndim - len(shape)
    ones = tuple(extra + i for i, n in enumerate(shape) if n == 1)
    return g.sum(axis=(*range(extra), *ones), keepdims=True).reshape(shape)


def check_unbroadcast(unbroadcast: Callable[..., Any]) -> None:
    """Exercise 2.1."""
    g = np.arange(24.0).reshape(4, 2, 3)  # small integers: sums are exact
    for shape in ((4, 2, 3), (2, 3), (3,), (), (1, 3), (2, 1), (4, 1, 3), (1, 1, 1), (1,)):
        where = f"g of shape {g.shape} to an input of shape {shape}"
        right = _unbroadcast(g, shape)
        mistakes: list[Mistake] = []
        extra = g.ndim - len(shape)
        first = g[(0,) * extra]
        mistakes.append((first, "The axes in front must be summed over: taking their first element drops the rest."))
        first = first[tuple(slice(0, n) for n in shape)]
        mistakes.append((first, "An element was broadcast to many: sum over all of them, do not take the first."))
        summed = g.sum(axis=tuple(range(extra)))
        hint = "The axes in front are summed; those where the input has length 1 must be as well (keepdims=True)."
        mistakes.append((summed, hint))
        count = g.size / max(1, right.size)
        mistakes.append((right / count, "That is the mean: the way back of a repetition is the sum."))
        got = np.asarray(call(unbroadcast, g, shape, what=where))
        if got.shape != right.shape and got.size == right.size:
            hint = "The right numbers" if np.array_equal(got.reshape(shape), right) else "As many numbers"
            raise NotYet(f"{where}: {hint}, but in the shape {got.shape}: keep axes of length 1, drop those in front.")
        expect(got, right, where, mistakes)
    print("Right: summed over all that was repeated, and in the input's shape.")


def check_mean_vjp(mean_vjp: Callable[..., Any]) -> None:
    """Exercise 2.2."""
    for shape, axis in (((2, 3), 1), ((2, 3), 0), ((2, 3, 4), 1), ((3, 3), 0), ((3, 3), -1)):
        g = np.arange(1.0, 1.0 + np.prod(shape) / shape[axis]).reshape(np.delete(shape, axis))
        full = np.broadcast_to(np.expand_dims(g, axis), shape)
        mistakes: list[Mistake] = [
            (full, f"That is the vjp of the sum: divide by the number of elements of the axis, {shape[axis]}."),
            (full / np.prod(shape), f"Divide by the length of the axis, {shape[axis]}, not by all {np.prod(shape)}."),
            (full * shape[axis], "Divide by the length of the axis: the mean counts each element 1/n."),
            (np.expand_dims(g, axis) / shape[axis], "Repeat it along the axis: the gradient has the shape of x."),
        ]
        if shape == (3, 3):
            other = np.broadcast_to(np.expand_dims(g, 1 if axis == 0 else 0), shape) / 3
            mistakes.append((other, "It is repeated along the wrong axis: put the axis back with np.expand_dims."))
        expect(call(mean_vjp, g, shape, axis), full / shape[axis], f"x {shape}, axis {axis}, g {g.shape}", mistakes)
    print("Right: repeated along the axis, divided by its length.")


def check_rows_vjp(rows_vjp: Callable[..., Any]) -> None:
    """Exercise 2.3."""
    for ids, V in ((np.array([2, 0, 2]), 4), (np.array([[1, 1], [0, 1]]), 3)):
        g = 10.0 ** np.arange(ids.size).reshape(*ids.shape, 1) * np.array([1.0, 2.0])
        right, last, counted = np.zeros((V, 2)), np.zeros((V, 2)), np.zeros((V, 1))
        np.add.at(right, ids, g)
        np.add.at(counted, ids, 1.0)
        last[ids] = g
        hint = "An id that stands there twice got its last gradient, not the sum: dW[ids] += g assigns; use np.add.at."
        mistakes: list[Mistake] = [
            (last, hint),
            (right / np.maximum(counted, 1), "That is the mean over the places of an id; the gradients add."),
            (g, "The gradient has the shape of the table, (V, C)."),
        ]
        where = f"ids {ids.tolist()}, a table of {V} rows"
        expect(call(rows_vjp, g, ids, V, what=where), right, where, mistakes)
    print("Right: every place where an id stands adds to its row.")


def check_weight_vjp(weight_vjp: Callable[..., Any]) -> None:
    """Exercise 2.4."""
    rng = np.random.default_rng(0)
    for B, T, C, D in ((2, 3, 4, 5), (3, 3, 3, 3)):
        x, g = rng.normal(size=(B, T, C)), rng.normal(size=(B, T, D))
        right = np.einsum("btc,btd->cd", x, g)
        mistakes: list[Mistake] = [
            (np.swapaxes(x, 1, 2) @ g, "One gradient for each text: the weight is shared, so sum over the batch."),
            (right.T, "That is the transpose, (D, C): the weight is (C, D), so dW = Aᵀ G and not Gᵀ A."),
            (right / B, "That is the mean over the batch; gradients of all uses add."),
            (right / (B * T), "That is the mean over batch and time; gradients of all uses add."),
            ((np.swapaxes(x, 1, 2) @ g)[0], "Only the first text counts: sum over the batch."),
        ]
        expect(call(weight_vjp, x, g), right, f"x {x.shape}, g {g.shape}: dW", mistakes)
    print("Right: one sum over batch and time.")


def check_transpose_vjp(transpose_vjp: Callable[..., Any]) -> None:
    """Exercise 2.5."""
    for shape, axes in (((2, 3), (1, 0)), ((2, 3, 4), (0, 2, 1)), ((2, 3, 4), (1, 2, 0)), ((2, 2, 2, 2), (3, 0, 1, 2))):
        x = np.arange(float(np.prod(shape))).reshape(shape)
        g = x.transpose(axes)
        hint = f"The order {axes} is applied again; the way back is its inverse: which axis went where?"
        mistakes: list[Mistake] = [
            (g.transpose(axes), hint),
            (g.reshape(shape), "Reshape keeps the order of the numbers in memory; they must be moved back."),
            (g, "Nothing was moved back."),
            (g.transpose(), "That reverses the axes; the inverse of the order is needed."),
        ]
        got = np.asarray(call(transpose_vjp, g, axes))
        if got.shape != shape and got.size == g.size and np.array_equal(got, g.transpose(axes)):
            raise NotYet(f"x {shape} transposed by {axes}: got the shape {got.shape}, x has {shape}. {hint}")
        expect(got, x, f"x {shape} transposed by {axes}", mistakes)
    print("Right: moved back by the inverse order.")


def check_scores_vjp(scores_vjp: Callable[..., Any]) -> None:
    """Exercise 2.6."""
    rng = np.random.default_rng(0)
    for B, Tq, Tk, D in ((2, 3, 5, 4), (2, 3, 3, 3)):
        Q, g = rng.normal(size=(B, Tq, D)), rng.normal(size=(B, Tq, Tk))
        mistakes: list[Mistake] = []
        if Tq == Tk:
            hint = "That is the gradient with g transposed: its index after the batch is the query: sum over it."
            mistakes.append((g @ Q, hint))
        mistakes.append((np.einsum("bqk,bqd->kd", g, Q), "The batch was summed over; K has its own row for each b."))
        where = f"Q {Q.shape}, g {g.shape}: dK"
        got = call(scores_vjp, Q, g, what=where)
        if np.shape(got) == (B, D, Tk) != (B, Tk, D):
            raise NotYet(f"{where}: got the shape {np.shape(got)}; K is (b, k, d) = {(B, Tk, D)}: swap two axes")
        expect(got, np.einsum("bqk,bqd->bkd", g, Q), where, mistakes)
    print("Right: g and the operand changed places.")

"""Checkers of chapter 14, fine-tuning and prompting: each says what is wrong with an answer, or that nothing is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import call, expect, shown


def _pair(answer: Any, where: str, what: str) -> tuple[Any, Any]:
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise NotYet(f"{where}: return two things, {what}, not {shown(answer)}")
    return answer


def _adapter() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    shapes = ((4, 3), (3, 3), (3,), (2, 3), (3, 2))  # in = out: a forgotten transpose gives numbers, and not an error
    return tuple(rng.normal(size=shape) for shape in shapes)


def check_lora_forward(lora_forward: Callable[..., Any]) -> None:
    """Exercise 14.1: two thin products instead of a thick one."""
    x, W, b, A, B = _adapter()
    alpha, r = 6.0, 2
    plain, change = x @ W.T + b, (x @ A.T) @ B.T
    mistakes = [
        (plain + alpha * change, "the change counts alpha / r times, and here alpha"),
        (plain + change, "the change counts alpha / r times, and here once"),
        (plain + change / r, "the change counts alpha / r times, and here 1 / r"),
        (plain - b + alpha / r * change, "b is left out"),
        (alpha / r * change, "this is the change alone: the frozen layer is a part of y"),
        (plain, "this is the frozen layer alone: the change is missing"),
        (x @ W + b + alpha / r * change, "W has the shape (out, in): x is multiplied with its transpose"),
        (alpha / r * (plain + change), "alpha / r belongs to the change alone"),
        (plain + alpha / 3 * change, "r is the number of rows of A (and of columns of B): len(A)"),
        (plain + alpha / r * x @ (B @ A), "B A has the shape of W, (out, in): it is transposed as W is"),
    ]
    expect(call(lora_forward, x, W, b, A, B, alpha), plain + alpha / r * change,
           "lora_forward of x (4, 3), r = 2, alpha = 6", mistakes)  # fmt: skip
    rng = np.random.default_rng(1)
    x, W, b, A, B = (rng.normal(size=shape) for shape in ((2, 3), (5, 3), (5,), (1, 3), (5, 1)))
    expected = x @ W.T + b + alpha * (x @ A.T) @ B.T
    expect(call(lora_forward, x, W, b, A, B, alpha), expected, "lora_forward from 3 to 5 channels with r = 1")
    print("lora_forward is right: x W' + b + alpha / r (x A') B'")


def check_lora_gradients(lora_gradients: Callable[..., Any]) -> None:
    """Exercise 14.2: the chain rule through two products."""
    x, _, _, A, B = _adapter()
    G, alpha, r = np.random.default_rng(2).normal(size=(4, 3)), 6.0, 2
    dA, dB = (G @ B).T @ x, G.T @ (x @ A.T)
    c = alpha / r
    where = "x (4, 3), r = 2, alpha = 6"
    first, second = _pair(call(lora_gradients, x, A, B, alpha, G), where, "the gradients of A and of B")
    if np.shape(first) == B.shape and np.shape(second) == A.shape:
        raise NotYet(f"{where}: the shapes are turned: A's gradient comes first, of A's shape {A.shape}")
    scales, through = "alpha / r stands before both gradients", "this is W's: here the chain goes through z = x A'"

    def usual(gradient: np.ndarray) -> list[tuple[Any, str]]:
        mean = c * gradient / len(x)
        return [(gradient, scales), (alpha * gradient, scales), (c * c * gradient, f"{scales}, once"),
                (-c * gradient, "the sign is turned"), (c * gradient.T, "this is its transpose"),
                (alpha / 3 * gradient, "r is the number of rows of A (and of columns of B): len(A)"),
                (mean, "the mean over rows is in G already, if the loss takes one"),
                (G.T @ x, through), (c * G.T @ x, through)]  # fmt: skip

    expect(second, c * dB, f"{where}: the gradient of B", usual(dB))
    mistakes = [*usual(dA), (np.zeros_like(A), "it is zero only where B is zero")]
    expect(first, c * dA, f"{where}: the gradient of A", mistakes)
    none = _pair(call(lora_gradients, x, A, np.zeros_like(B), alpha, G), where, "the gradients of A and of B")
    expect(none[0], np.zeros_like(A), "B = 0: the gradient of A")
    expect(none[1], c * dB, "B = 0: the gradient of B")
    print("lora_gradients is right: at B = 0 only B learns")


def check_to_example(to_example: Callable[..., Any]) -> None:
    """Exercise 14.3: labels one place earlier, -100 where nothing is learned."""
    parts = [([11, 12, 13], False), ([21, 22], True), ([2], True), ([10], False), ([14], False), ([23, 2], True)]
    ids = np.array([i for part, _ in parts for i in part])
    learned = np.array([learn for part, learn in parts for _ in part])
    labels = np.where(learned, ids, -100)
    where = f"to_example({parts})"
    first, second = _pair(call(to_example, parts), where, "input_ids and labels")
    first, second = np.asarray(first), np.asarray(second)
    full = np.where(learned[:-1], ids[1:], -100)
    for name, row in (("input_ids", first), ("labels", second)):
        if row.shape == ids.shape:
            raise NotYet(f"{where}: {name} has {len(ids)} places, as many as the conversation has tokens. The last "
                         "token predicts nothing, and the first is not predicted: one less")  # fmt: skip
    read = "what is learned must be read as well: the next token depends on it"
    mistakes = [(ids[1:], "the last token is left out, not the first"), (np.where(learned, -100, ids)[:-1], read)]
    expect(first, ids[:-1], f"{where}, input_ids", mistakes)
    expect(second, labels[1:], f"{where}, labels", [
        (labels[:-1], "not shifted: the label of a place is the token that comes after it"),
        (full, "the mask is one place late: whether a label counts is up to the token that is predicted"),
        (ids[1:], "everything counts: labels are -100 where the predicted token is not learned"),
        (np.where(learned, 0, ids)[1:], "what is learned has its id for a label, the rest -100"),
        (np.where(learned, -100, ids)[1:], "the mask is turned: the answers count, not the questions"),
        (np.where(learned, ids, 0)[1:], "0 is a token as well: what does not count is -100"),
        (np.where(learned & (ids != 2), ids, -100)[1:], "the end of an answer is learned too, or it never stops"),
    ])  # fmt: skip
    print("to_example is right: the answers count, and each label stands one place before its token")


def check_choose(choose: Callable[..., Any]) -> None:
    """Exercise 14.4: take off what is said anyway."""
    scores = np.log([[0.20, 0.02, 0.05], [0.02, 0.05, 0.10], [0.40, 0.15, 0.20], [0.05, 0.08, 0.10],
                     [0.10, 0.03, 0.08], [0.10, 0.03, 0.03]])  # fmt: skip
    content_free = np.log([[0.70, 0.05, 0.02], [0.20, 0.05, 0.15]])  # each mistake below chooses otherwise
    p_free = np.exp(content_free)
    mean = p_free.mean(0)
    expected = (scores - np.log(mean)).argmax(1)
    mistakes = [
        (scores.argmax(1), "nothing is taken off"),
        ((scores + np.log(mean)).argmax(1), "added, not taken off: what is said anyway should count less"),
        ((scores - content_free.mean(0)).argmax(1), "the mean of log p is not the logarithm of the mean of p"),
        ((scores - mean).argmax(1), "scores are logarithms, and what is taken off is none"),
        ((scores - np.log(p_free.max(0))).argmax(1), "the mean over the texts without content, not the largest"),
        *(((scores - one).argmax(1), "the mean over all texts without content, not one") for one in content_free),
        ((scores - np.log((p_free / p_free.sum(1, keepdims=True)).mean(0))).argmax(1),
         "the formula takes p as it is: it does not make the p of a text sum to one first"),
        ((scores - np.log(mean)).argmin(1), "the smallest is taken"),
        ((scores - np.log(mean)).max(1), "this is the score of the choice: return its number, argmax"),
    ]
    expect(call(choose, scores, content_free), expected, "six prompts, three answers, two texts", mistakes)
    print("choose is right: an answer that is said anyway counts less")

"""The checkers of chapter 14: a right answer passes, and each usual mistake is named."""

import numpy as np
import pytest

from checks import NotYet, chapter_14


def lora_forward(x, W, b, A, B, alpha):
    return x @ W.T + b + alpha / len(A) * (x @ A.T) @ B.T


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda x, W, b, A, B, alpha: x @ W.T + b + alpha * (x @ A.T) @ B.T, "and here alpha"),
        (lambda x, W, b, A, B, alpha: x @ W.T + alpha / len(A) * (x @ A.T) @ B.T, "b is left out"),
        (lambda x, W, b, A, B, alpha: x @ W + b + alpha / len(A) * (x @ A.T) @ B.T, "its transpose"),
        (lambda x, W, b, A, B, alpha: alpha / len(A) * (x @ A.T) @ B.T, "the change alone"),
        (lambda x, W, b, A, B, alpha: x @ W.T + b + alpha / len(B) * (x @ A.T) @ B.T, "number of rows of A"),
        (lambda x, W, b, A, B, alpha: x @ (W.T + alpha / len(A) * B @ A) + b, "transposed as W is"),
        (lambda x, W, b, A, B, alpha: None, "fill it in"),
    ],
)
def test_lora_forward_names(wrong, message):
    chapter_14.check_lora_forward(lora_forward)
    with pytest.raises(NotYet, match=message):
        chapter_14.check_lora_forward(wrong)


def lora_gradients(x, A, B, alpha, G):
    c = alpha / len(A)
    return c * (G @ B).T @ x, c * G.T @ (x @ A.T)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda x, A, B, alpha, G: lora_gradients(x, A, B, len(A), G), "stands before both"),
        (lambda x, A, B, alpha, G: lora_gradients(x, A, B, alpha, G)[::-1], "the shapes are turned"),
        (lambda x, A, B, alpha, G: tuple(-g for g in lora_gradients(x, A, B, alpha, G)), "sign is turned"),
        (lambda x, A, B, alpha, G: lora_gradients(x, A, B, alpha, G)[0][0], "return two things"),
        (lambda x, A, B, alpha, G: lora_gradients(x, A, B, alpha * 2 / 3, G), "number of rows of A"),
        (lambda x, A, B, alpha, G: (alpha / 2 * (G @ B).T @ x, alpha / 2 * G.T @ x), "goes through z"),
        (lambda x, A, B, alpha, G: tuple(g / len(x) for g in lora_gradients(x, A, B, alpha, G)), "in G already"),
    ],
)
def test_lora_gradients_names(wrong, message):
    chapter_14.check_lora_gradients(lora_gradients)
    with pytest.raises(NotYet, match=message):
        chapter_14.check_lora_gradients(wrong)


def to_example(parts, shift=True, late=False, everything=False, end=True):
    ids = np.array([i for part, _ in parts for i in part])
    learned = np.array([(learn and (end or i != 2)) or everything for part, learn in parts for i in part])
    if late:
        return ids[:-1], np.where(learned[:-1], ids[1:], -100)
    labels = np.where(learned, ids, -100)
    return ids[:-1], labels[1:] if shift else labels[:-1]


@pytest.mark.parametrize(
    "mistake, message",
    [
        ({"shift": False}, "not shifted"),
        ({"late": True}, "one place late"),
        ({"everything": True}, "everything counts"),
        ({"end": False}, "or it never stops"),
    ],
)
def test_to_example_names(mistake, message):
    chapter_14.check_to_example(to_example)
    with pytest.raises(NotYet, match=message):
        chapter_14.check_to_example(lambda parts: to_example(parts, **mistake))


def test_to_example_names_rows_of_the_whole_length():
    with pytest.raises(NotYet, match="one less"):
        chapter_14.check_to_example(lambda parts: (np.array([i for part, _ in parts for i in part]),) * 2)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda s, f: s.argmax(1), "nothing is taken off"),
        (lambda s, f: (s + np.log(np.exp(f).mean(0))).argmax(1), "added, not taken off"),
        (lambda s, f: (s - f.mean(0)).argmax(1), "logarithm of the mean"),
        (lambda s, f: (s - np.log(np.exp(f).mean(0))).max(1), "return its number"),
        (lambda s, f: (s - np.log(np.exp(f).max(0))).argmax(1), "not the largest"),
        (lambda s, f: (s - f[0]).argmax(1), "content, not one"),
        (lambda s, f: (s - np.log((np.exp(f) / np.exp(f).sum(1)[:, None]).mean(0))).argmax(1), "takes p as it is"),
        (lambda s, f: (s - np.log(np.exp(f).mean(1))).argmax(1), "broadcast"),
    ],
)
def test_choose_names(wrong, message):
    chapter_14.check_choose(lambda s, f: (s - np.log(np.exp(f).mean(0))).argmax(1))
    with pytest.raises(NotYet, match=message):
        chapter_14.check_choose(wrong)

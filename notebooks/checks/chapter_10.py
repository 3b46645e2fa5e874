"""Checkers of chapter 10, LSTM against GPT: each says what is wrong with an answer, or that nothing is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import call as called
from checks.answers import written


def check_widest_lstm(widest_lstm: Callable[[int, int, int], int]) -> None:
    """Exercise 10.1: the hidden width."""

    def count(V: int, C: int, H: int) -> int:
        return V * C + 4 * H * (C + H + 2) + V * (H + 1)

    for V, C, most in ((71, 64, 108_000), (71, 64, count(71, 64, 50)), (71, 64, count(71, 64, 50) - 1), (2, 8, 10)):
        call = f"widest_lstm({V}, {C}, {most})"
        got = called(widest_lstm, V, C, most, what=call)
        expected = max((H for H in range(1, 500) if count(V, C, H) <= most), default=0)
        if got == expected:
            continue
        if got != int(got) or got < 0:
            raise NotYet(f"{call} is {got}: a width is a whole number, and 0 where none fits")
        got = int(got)
        if expected == 0:
            why = "not even H = 1 fits"
        elif count(V, C, got) > most:
            why = f"that has {count(V, C, got):,} parameters, too many"
        else:
            why = f"H = {got + 1} has {count(V, C, got + 1):,} and fits as well"
        raise NotYet(f"{call} is {got}: {why}; expected {expected}")
    print("widest_lstm is right: as wide as the parameters allow")


def check_recall_batch(recall_batch: Callable[..., Any]) -> None:
    """Exercise 10.2: keys, values and a question."""
    B, pairs, keys, values = 64, 5, 8, 6
    call = f"recall_batch(rng, {B}, {pairs}, {keys}, {values})"
    batch = written(recall_batch(np.random.default_rng(0), B, pairs, keys, values), call)
    if not isinstance(batch, Mapping) or not {"input_ids", "labels"} <= set(batch):
        raise NotYet(f'{call}: a batch is a dict {{"input_ids": ..., "labels": ...}}, as that of copy_batch')
    ids, labels = np.asarray(batch["input_ids"]), np.asarray(batch["labels"])
    if ids.shape != (B, 2 * pairs + 1) or labels.shape != ids.shape:
        raise NotYet(f"{call}: input_ids {ids.shape} and labels {labels.shape}; both are {(B, 2 * pairs + 1)}")
    k, v, asked = ids[:, 0:-1:2], ids[:, 1::2], ids[:, -1]
    if k.min() < 0 or k.max() >= keys:
        raise NotYet(f"{call}: keys stand at the even places and are 0 ... {keys - 1}; found {k.min()} ... {k.max()}")
    if v.min() < keys or v.max() >= keys + values:
        raise NotYet(
            f"{call}: values stand at the odd places and are {keys} ... {keys + values - 1}; "
            f"found {v.min()} ... {v.max()}"
        )
    if any(len(set(row)) < pairs for row in k.tolist()):
        row = next(row for row in k.tolist() if len(set(row)) < pairs)
        raise NotYet(f"{call}: a key occurs twice in {row}, so that its value is not one")
    if not (k == asked[:, None]).any(1).all():
        raise NotYet(f"{call}: the last id must be one of the keys of its own row")
    if (labels[:, :-1] != -100).any():
        raise NotYet(f"{call}: nothing but the last place can be known: the other labels are -100")
    right = v[np.arange(B), (k == asked[:, None]).argmax(1)]
    if (labels[:, -1] != right).any():
        raise NotYet(f"{call}: the last label is not the value of the key that is asked for")
    places = (k == asked[:, None]).argmax(1)
    if len(set(places.tolist())) < pairs:
        raise NotYet(f"{call}: only the pairs {sorted(set(places.tolist()))} are ever asked for: draw one at random")
    print("recall_batch is right: a model must find the key again, and look beside it")


def check_parity_weights(parity_weights: Callable[[], Any]) -> None:
    """Exercise 10.3: one bit of memory."""
    answer = written(parity_weights(), "parity_weights()")
    try:
        a, b, c, d = map(float, answer)
    except (TypeError, ValueError):
        raise NotYet(f"parity_weights() is {answer!r}; asked for are four numbers (a, b, c, d)") from None
    for x, h in product((0, 1), repeat=2):
        z = a * x + b * h + c * x * h + d
        new, right = int(z > 0), x ^ h
        if new != right:
            action = "a one flips the state" if x else "a zero leaves the state as it is"
            raise NotYet(
                f"with h = {h} and x = {x}: a x + b h + c x h + d = {z:g}, so the new h is {new}; it must be {right}: "
                f"{action}"
            )
    print("parity_weights is right: one bit, flipped at every one, for a row of any length")

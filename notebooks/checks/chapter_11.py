"""Checkers of chapter 11, BERT: each says what is wrong with an answer, or that nothing is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from checks import NotYet
from checks.answers import call, expect

Hide = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], Any]


def check_hide(hide: Hide) -> None:
    """Exercise 11.1: 80, 10, 10."""
    ids = np.array([11, 12, 13, 14, 15, 16, 17, 18])
    u = np.array([0.05, 0.90, 0.10, 0.14, 0.15, 0.01, 0.50, 0.02])
    v = np.array([0.30, 0.10, 0.85, 0.95, 0.20, 0.80, 0.85, 0.90])
    others = np.array([21, 22, 23, 24, 25, 26, 27, 28])
    mask_id = 4
    call_text = "hide(ids=[11 ... 18], u, v, others=[21 ... 28], mask_id=4)"
    result = call(hide, ids, u, v, others, mask_id, what=call_text)
    try:
        shown, labels = map(np.asarray, result)
    except (TypeError, ValueError):
        raise NotYet(f"{call_text} returned {result!r}: two arrays are asked for, shown and labels") from None
    chosen = u < 0.15
    right = np.where(chosen, ids, -100)
    for name, array in (("what is shown", shown), ("the labels", labels)):
        if array.shape != ids.shape:
            raise NotYet(f"{call_text}: {name}: the shape is {array.shape}, expected {ids.shape}")
    masked, replaced = chosen & (v < 0.8), chosen & (v >= 0.8) & (v < 0.9)
    fates = np.select([masked, replaced], [mask_id, others], ids)
    expect(
        labels,
        right,
        "the labels",
        [
            (fates, "This is what is shown: first what is shown, then the labels."),
            (ids, "Only the chosen places have a label; -100 at all others, or the model is paid for copying."),
            (np.where(chosen & (v < 0.9), ids, -100), "A chosen token that stays as it was has its label too."),
            (np.where(chosen & (v < 0.8), ids, -100), "All chosen tokens have a label, not only those under [MASK]."),
            (np.where(chosen, shown, -100), "The label is what was there, not what is shown."),
            (np.where(u <= 0.15, ids, -100), "Place 4 has u = 0.15, which is not below 0.15."),
            (np.where(chosen, -100, ids), "It is the other way round: -100 where nothing was chosen."),
        ],
    )
    expect(
        shown,
        fates,
        "what is shown",
        [
            (np.where(chosen, mask_id, ids), "All chosen tokens become [MASK] here: v decides between three fates."),
            (np.select([v < 0.8, v < 0.9], [mask_id, others], ids), "Tokens that were not chosen are changed."),
            (np.where(masked, mask_id, ids), "Where v is from 0.8 to below 0.9 the token of `others` is shown."),
            (
                np.select([masked, chosen], [mask_id, others], ids),
                "From v = 0.9 on a chosen token stays what it was.",
            ),
            (
                np.select([masked, chosen & (v >= 0.9)], [mask_id, others], ids),
                "The two last fates have changed places: replaced from 0.8, kept from 0.9.",
            ),
            (
                np.select([chosen & (v <= 0.8), chosen & (v > 0.8) & (v <= 0.9)], [mask_id, others], ids),
                "Below is meant without the limit: v = 0.8 is replaced, v = 0.9 is kept.",
            ),
        ],
    )
    print("hide is right: three fates, and one label for each chosen token")


def check_join(join: Callable[[list[int], list[int], int, int], Any]) -> None:
    """Exercise 11.2: [CLS], [SEP] and segments."""
    for first, second in (([11, 12, 13], [21, 22]), ([11], [21, 22, 23])):
        where = f"join({first}, {second}, cls_id=2, sep_id=3)"
        result = call(join, first, second, 2, 3, what=where)
        try:
            ids, segments = (np.asarray(row).tolist() for row in result)
        except (TypeError, ValueError):
            raise NotYet(f"{where} returned {result!r}: two rows are asked for, ids and segments") from None
        right = [2, *first, 3, *second, 3]
        if ids != right:
            why = {
                tuple(right[:-1]): "a [SEP] ends the second sentence as well",
                tuple([*first, 3, *second, 3]): "[CLS] stands at the beginning",
                tuple([2, *first, 3, 2, *second, 3]): "there is one [CLS], at the beginning",
                tuple([2, *first, *second, 3]): "a [SEP] ends the first sentence as well",
            }.get(tuple(ids), "[CLS] first [SEP] second [SEP]")
            raise NotYet(f"{where}: the ids are {ids}, expected {right}: {why}")
        a, b = len(first), len(second)
        expected = [0] * (a + 2) + [1] * (b + 1)
        if segments != expected:
            if len(segments) != len(expected):
                why = f"{len(segments)} segments for {len(expected)} tokens: special tokens have one too"
            elif segments == [0] * (a + 1) + [1] * (b + 2):
                why = "the [SEP] after the first sentence belongs to it: segment 0"
            elif segments == [1] * (a + 2) + [2] * (b + 1):
                why = "the segments are 0 and 1"
            else:
                why = f"expected {expected}"
            raise NotYet(f"{where}: the segments are {segments}: {why}")
    print("join is right")


def _log_p(ids: np.ndarray, V: int = 9) -> np.ndarray:
    """A model for the check: what it says at a place depends on the token there and on both neighbours."""
    ids = np.asarray(ids)
    left, right = np.roll(ids, 1), np.roll(ids, -1)
    z = np.sin(1.0 + ids[:, None] * 1.3 + np.arange(V) * 0.7) + np.cos(left[:, None] * 0.9 * (1 + np.arange(V)))
    z = z + np.sin(right[:, None] + 2.0 * np.arange(V)) + 3.0 * (np.arange(V) == ids[:, None])
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def check_pseudo_perplexity(pseudo_perplexity: Callable[[Any, np.ndarray, int], Any]) -> None:
    """Exercise 11.3: each token hidden once, alone."""
    ids, mask_id = np.array([2, 5, 8, 6, 7, 3]), 4
    where = "pseudo_perplexity(log_p, ids=[2, 5, 8, 6, 7, 3], mask_id=4)"
    inside = np.arange(1, len(ids) - 1)

    def alone(places: np.ndarray) -> np.ndarray:
        rows = np.repeat(ids[None], len(places), axis=0)
        rows[np.arange(len(places)), places] = mask_id
        return np.array([_log_p(row)[t, ids[t]] for row, t in zip(rows, places, strict=True)])

    right = alone(inside)
    all_hidden = ids.copy()
    all_hidden[inside] = mask_id
    growing = []
    stays = ids.copy()
    for t in inside:
        stays[t] = mask_id
        growing.append(_log_p(stays)[t, ids[t]])
    copied = _log_p(ids)[inside, ids[inside]]
    expect(
        call(pseudo_perplexity, _log_p, ids, mask_id, what=where),
        np.exp(-right.mean()),
        where,
        [
            (np.exp(-copied.mean()), "Nothing was hidden: the model sees the token that it is asked for."),
            (
                np.exp(-_log_p(all_hidden)[inside, ids[inside]].mean()),
                "All tokens were hidden at once: each must be hidden alone, with all others in sight.",
            ),
            (
                np.exp(-np.mean(growing)),
                "The tokens that were hidden before stay hidden: begin with a copy of ids each time.",
            ),
            (np.exp(-alone(np.arange(len(ids))).mean()), "[CLS] and [SEP] do not count."),
            (-right.mean(), "This is the mean loss: its exponential is asked for."),
            (right.mean(), "This is the mean of the logarithms: take exp of minus that."),
            (np.exp(right.mean()), "The sign: exp of MINUS the mean."),
            (np.exp(-right.sum()), "The mean over the tokens, not their sum."),
            (
                np.exp(-right.sum() / len(ids)),
                "The sum is divided by all ids: [CLS] and [SEP] do not count, so divide by two less.",
            ),
        ],
    )
    print("pseudo_perplexity is right: every word once, with all others in sight")


def check_trust(trust: Callable[[float, float, float], Any]) -> None:
    """Exercise 11.4: Bayes."""
    for r, masked, replaced in ((0.15, 0.8, 0.1), (0.4, 0.5, 0.5), (0.15, 0.9, 0.0)):
        where = f"trust(r={r}, masked={masked}, replaced={replaced})"
        wrong = r * replaced / (1 - r * masked)
        expect(
            call(trust, r, masked, replaced, what=where),
            1 - wrong,
            where,
            [
                (wrong, "This is the probability that it is wrong."),
                (1 - r * replaced, "Of all tokens so many are true or [MASK]; divide by the share that is not [MASK]."),
                (1 - replaced, "Only a share r of the tokens is chosen at all."),
                (1 - r, "Not every chosen token is wrong."),
                (1 - r * replaced / (1 - r), "1 - r is what was not chosen; not [MASK] is 1 - r masked."),
                (1 - r * replaced / (1 - masked), "Only a share r of the tokens can become [MASK]."),
                (
                    (1 - r) / (1 - r * masked),
                    "True are not only the tokens that were not chosen: some that were chosen stay what they were.",
                ),
            ],
        )
    print(f"trust is right: with BERT's numbers {1 - 0.015 / 0.88:.1%} of what is shown is true")

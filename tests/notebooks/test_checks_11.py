"""The checkers of chapter 11: a right answer passes, each usual mistake is named."""

import numpy as np
import pytest

from checks import NotYet, chapter_11


def hide(ids, u, v, others, mask_id, fates=True, all_labels=False, shown_labels=False, everywhere=False, kept=0.9):
    chosen = np.ones(len(ids), bool) if everywhere else u < 0.15
    shown = np.where(chosen & (v < 0.8), mask_id, ids)
    if fates:
        shown = np.where(chosen & (v >= 0.8) & (v < kept), others, shown)
    else:
        shown = np.where(chosen, mask_id, ids)
    labels = np.where(u < 0.15, shown if shown_labels else ids, -100)
    return shown, ids if all_labels else labels


@pytest.mark.parametrize(
    "settings, mistake",
    [
        ({"fates": False}, "three fates"),
        ({"all_labels": True}, "paid for copying"),
        ({"shown_labels": True}, "what was there"),
        ({"everywhere": True}, "not chosen are changed"),
        ({"kept": 2.0}, "stays what it was"),
    ],
)
def test_hide_names(settings, mistake):
    chapter_11.check_hide(hide)
    with pytest.raises(NotYet, match=mistake):
        chapter_11.check_hide(lambda *inputs: hide(*inputs, **settings))


def test_hide_names_a_single_array_and_ids_that_were_changed():
    with pytest.raises(NotYet, match="two arrays"):
        chapter_11.check_hide(lambda ids, u, v, others, mask_id: 3)
    with pytest.raises(NotYet, match="first what is shown"):
        chapter_11.check_hide(lambda *inputs: hide(*inputs)[::-1])
    with pytest.raises(NotYet, match="the shape is"):
        chapter_11.check_hide(lambda *inputs: (hide(*inputs)[0][:3], hide(*inputs)[1]))
    with pytest.raises(NotYet, match="in place"):

        def changing(ids, u, v, others, mask_id):
            labels = np.where(u < 0.15, ids, -100)
            ids[(u < 0.15) & (v < 0.8)] = mask_id
            return ids, labels

        chapter_11.check_hide(changing)


def join(first, second, cls_id, sep_id):
    ids = [cls_id, *first, sep_id, *second, sep_id]
    return ids, [0] * (len(first) + 2) + [1] * (len(second) + 1)


@pytest.mark.parametrize(
    "answer, mistake",
    [
        (lambda a, b, c, s: (join(a, b, c, s)[0][:-1], join(a, b, c, s)[1][:-1]), "second sentence as well"),
        (lambda a, b, c, s: ([c, *a, s, c, *b, s], []), "one \\[CLS\\]"),
        (lambda a, b, c, s: (join(a, b, c, s)[0], [0] * (len(a) + 1) + [1] * (len(b) + 2)), "belongs to it"),
        (lambda a, b, c, s: (join(a, b, c, s)[0], [0] * len(a) + [1] * len(b)), "special tokens"),
    ],
)
def test_join_names(answer, mistake):
    chapter_11.check_join(join)
    with pytest.raises(NotYet, match=mistake):
        chapter_11.check_join(answer)


def pppl(log_p, ids, mask_id, alone=True, hidden=True, ends=False, final=lambda x: np.exp(-np.mean(x))):
    found, shown = [], ids.copy()
    for t in range(0 if ends else 1, len(ids) - (0 if ends else 1)):
        shown = ids.copy() if alone else shown
        if hidden:
            shown[t] = mask_id
        found.append(log_p(shown)[t, ids[t]])
    return final(found)


@pytest.mark.parametrize(
    "settings, mistake",
    [
        ({"alone": False}, "stay hidden"),
        ({"hidden": False}, "Nothing was hidden"),
        ({"ends": True}, "do not count"),
        ({"final": lambda x: np.exp(np.mean(x))}, "MINUS"),
        ({"final": lambda x: np.exp(-np.sum(x))}, "not their sum"),
        ({"final": lambda x: -np.mean(x)}, "exponential"),
        ({"final": lambda x: np.exp(-np.sum(x) / (len(x) + 2))}, "divide by two less"),
    ],
)
def test_pseudo_perplexity_names(settings, mistake):
    chapter_11.check_pseudo_perplexity(pppl)
    with pytest.raises(NotYet, match=mistake):
        chapter_11.check_pseudo_perplexity(lambda log_p, ids, mask_id: pppl(log_p, ids, mask_id, **settings))


@pytest.mark.parametrize(
    "answer, mistake",
    [
        (lambda r, m, x: r * x / (1 - r * m), "wrong"),
        (lambda r, m, x: 1 - r * x, "divide"),
        (lambda r, m, x: 1 - r, "Not every"),
        (lambda r, m, x: 1 - r * x / (1 - r), "not chosen"),
        (lambda r, m, x: (1 - r) / (1 - r * m), "stay what they were"),
    ],
)
def test_trust_names(answer, mistake):
    chapter_11.check_trust(lambda r, m, x: 1 - r * x / (1 - r * m))
    with pytest.raises(NotYet, match=mistake):
        chapter_11.check_trust(answer)

"""The checkers of chapter 8: a right answer passes, each usual mistake is named."""

import functools

import numpy as np
import pytest

import minilm.functional as F
from checks import NotYet, chapter_08
from minilm import Tensor
from minilm.models import Transformer, TransformerConfig


def moved(labels, bos, pad):
    read = np.full_like(labels, bos)
    read[:, 1:] = np.where(labels[:, :-1] == -100, pad, labels[:, :-1])
    return read


@pytest.mark.parametrize(
    "answer, mistake",
    [
        (lambda labels, bos, pad: labels, "asked for"),
        (lambda labels, bos, pad: np.insert(labels, 0, bos, axis=1)[:, :-1], "-100 is no token"),
        (lambda labels, bos, pad: np.insert(np.where(labels < 0, pad, labels), 0, bos, axis=1), "never read"),
        (lambda labels, bos, pad: np.roll(labels, 1, axis=1), "np.roll"),
        (lambda labels, bos, pad: np.roll(np.where(labels < 0, pad, labels), -1, axis=1), "to the left"),
        (lambda labels, bos, pad: moved(labels, pad, pad), "is bos"),
        (lambda labels, bos, pad: ..., "fill it in"),
    ],
)
def test_shifted_right_names(answer, mistake):
    chapter_08.check_shifted_right(moved)
    with pytest.raises(NotYet, match=mistake):
        chapter_08.check_shifted_right(answer)


def log_softmax(z):
    z = z - z.max()
    return z - np.log(np.exp(z).sum())


@pytest.mark.parametrize(
    "answer, mistake",
    [
        (lambda z, r, eps: -log_softmax(z)[r], "without smoothing"),
        (lambda z, r, eps: -(1 - eps) * log_softmax(z)[r] - eps * np.delete(log_softmax(z), r).mean(), "eps / V"),
        (lambda z, r, eps: -log_softmax(z)[r] - eps * log_softmax(z).mean(), "more than 1"),
        (lambda z, r, eps: -np.log((1 - eps) * np.exp(log_softmax(z)[r]) + eps / len(z)), "smoothed are the labels"),
        (lambda z, r, eps: (1 - eps) * log_softmax(z)[r] + eps * log_softmax(z).mean(), "sign"),
        (
            lambda z, r, eps: (lambda log_p: -(1 - eps) * log_p[r] - eps * log_p.mean())(
                np.log(np.exp(z) / np.exp(z).sum())
            ),
            "overflows",
        ),
    ],
)
def test_smoothed_loss_names(answer, mistake):
    chapter_08.check_smoothed_loss(lambda z, r, eps: -(1 - eps) * log_softmax(z)[r] - eps * log_softmax(z).mean())
    with pytest.raises(NotYet, match=mistake):
        chapter_08.check_smoothed_loss(answer)


@pytest.mark.parametrize(
    "answer, mistake",
    [
        (lambda n, C, w: C**-0.5 * max(n**-0.5, n * w**-1.5), "min, not max"),
        (lambda n, C, w: min(n**-0.5, n * w**-1.5), "factor"),
        (lambda n, C, w: C**-0.5 * n**-0.5, "no warm-up"),
        (lambda n, C, w: C**-0.5 * n * w**-1.5, "falls"),
        (lambda n, C, w: C**-0.5 * min((n + 1) ** -0.5, (n + 1) * w**-1.5), "begins at 1"),
    ],
)
def test_learning_rate_names(answer, mistake):
    chapter_08.check_learning_rate(lambda n, C, w: C**-0.5 * min(n**-0.5, n * w**-1.5))
    with pytest.raises(NotYet, match=mistake):
        chapter_08.check_learning_rate(answer)


def test_smoothed_loss_takes_a_tensor():
    chapter_08.check_smoothed_loss(
        lambda z, r, eps: F.cross_entropy(Tensor(z[None]), np.array([r]), label_smoothing=eps)
    )


def beam(
    next_tokens, k, alpha, penalty=True, keep_end=True, go_on=False, as_list=False, of_each=0, stop=False, count_end=1,
    narrower=False,
):  # fmt: skip
    beginnings, ended = [((), 0.0)], []
    while beginnings and not (stop and ended):
        groups = [[((*b, t), total + np.log(p)) for t, p in next_tokens(b).items()] for b, total in beginnings]
        if of_each:  # each beginning keeps its best continuations: the usual misreading
            groups = [sorted(group, key=lambda c: -c[1])[: min(k, of_each)] for group in groups]
        best = sorted(sum(groups, []), key=lambda c: -c[1])[: None if of_each > 1 else k - narrower * len(ended)]
        ended += [c for c in best if c[0][-1] == "<eos>"]
        beginnings = [c for c in best if go_on or c[0][-1] != "<eos>"]
    alpha = alpha if penalty else 0
    text = max(ended, key=lambda c: c[1] / ((4 + count_end + len(c[0])) / 6) ** alpha)[0]
    text = text if keep_end else text[:-1]
    return list(text) if as_list else text


@pytest.mark.parametrize(
    "settings, mistake",
    [
        ({"penalty": False}, "length penalty is missing"),
        ({"keep_end": False}, "belongs to the text"),
        ({"go_on": True}, "must not go on"),
        ({"as_list": True}, "a tuple of tokens"),
        ({"of_each": 1}, "greedy"),
        ({"of_each": 9}, "of each beginning"),
        ({"stop": True}, "stop at the first"),
        ({"count_end": 0}, "counts <eos> too"),
        ({"narrower": True}, "however many texts have ended"),
    ],
)
def test_search_names(settings, mistake):
    chapter_08.check_search(beam)
    with pytest.raises(NotYet, match=mistake):
        chapter_08.check_search(lambda tree, k, alpha: beam(tree, k, alpha, **settings))


def counted(V, C, C_h, L, attentions=2, norms=3, tables=1, matrices=4):
    attention, forward = matrices * (C * C + C), 2 * C * C_h + C_h + C
    return tables * V * C + L * (attention * (1 + attentions) + 2 * forward + 2 * C * (2 + norms))


def test_parameters_counts_as_the_model_does_and_names_what_is_left_out():
    model = Transformer(TransformerConfig(vocab_size=30, block_size=8, n_layer=2, n_head=2, n_embd=8, n_hidden=12))
    assert counted(30, 8, 12, 2) == model.num_parameters()
    chapter_08.check_parameters(counted)
    for wrong, mistake in (
        (lambda V, C, C_h, L: counted(V, C, C_h, L) - L * (12 * C + 2 * (C_h + C)), "Biases are missing"),
        (lambda V, C, C_h, L: counted(V, C, C_h, L) + 4 * C, "No norm stands behind"),
    ):
        with pytest.raises(NotYet, match=mistake):
            chapter_08.check_parameters(wrong)
    for settings, mistake in (
        ({"attentions": 1}, "two attentions"),
        ({"norms": 2}, "three norms"),
        ({"tables": 3}, "shared"),
        ({"tables": 0}, "embeddings is missing"),
        ({"matrices": 3}, "four matrices"),
    ):
        with pytest.raises(NotYet, match=mistake):
            chapter_08.check_parameters(functools.partial(counted, **settings))

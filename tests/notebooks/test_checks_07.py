"""The checkers of chapter 7: a right answer passes, and each usual mistake is named."""

import numpy as np
import pytest

from checks import NotYet, chapter_07


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_attend_names_a_missing_scale_a_missing_softmax_and_overflow():
    check = chapter_07.check_attend
    check(lambda q, k, v: softmax(k @ q / np.sqrt(q.size)) @ v)
    with pytest.raises(NotYet, match="not divided by sqrt"):
        check(lambda q, k, v: softmax(k @ q) @ v)
    with pytest.raises(NotYet, match="do not sum to 1"):
        check(lambda q, k, v: np.exp(k @ q / np.sqrt(q.size)) @ v)
    with pytest.raises(NotYet, match="number of keys"):
        check(lambda q, k, v: softmax(k @ q / np.sqrt(len(k))) @ v)
    with pytest.raises(NotYet, match="write the body"):
        check(lambda q, k, v: ...)

    def overflowing(q, k, v):
        with np.errstate(all="ignore"):
            e = np.exp(k @ q / np.sqrt(q.size))
            return (e / e.sum()) @ v

    with pytest.raises(NotYet, match="overflows"):
        check(overflowing)


def test_padding_mask_names_shape_polarity_and_off_by_one():
    check = chapter_07.check_padding_mask

    def mask(lengths, T):
        return (np.arange(T) < lengths[:, None])[:, None, None]

    check(mask)
    with pytest.raises(NotYet, match="add the axes"):
        check(lambda lengths, T: mask(lengths, T)[:, 0, 0])
    with pytest.raises(NotYet, match="exchanged"):
        check(lambda lengths, T: ~mask(lengths, T))
    with pytest.raises(NotYet, match="one too many"):
        check(lambda lengths, T: mask(lengths + 1, T))
    with pytest.raises(NotYet, match="return booleans"):
        check(lambda lengths, T: mask(lengths, T) * 1.0)


def test_split_heads_names_the_direct_reshape_and_interleaved_channels():
    check = chapter_07.check_split_heads
    check(lambda x, H: x.reshape(*x.shape[:2], H, -1).swapaxes(1, 2))
    with pytest.raises(NotYet, match="mixes positions"):
        check(lambda x, H: x.reshape(x.shape[0], H, x.shape[1], -1))
    with pytest.raises(NotYet, match="every H-th channel"):
        check(lambda x, H: x.reshape(*x.shape[:2], -1, H).transpose(0, 3, 1, 2))


def rotated(x, sign=1, first=0, exponent=2):
    T, D = x.shape
    a = sign * (np.arange(T)[:, None] + first) * 10000.0 ** (-exponent * np.arange(D // 2) / D)
    y = np.empty_like(x)
    y[:, 0::2] = x[:, 0::2] * np.cos(a) - x[:, 1::2] * np.sin(a)
    y[:, 1::2] = x[:, 0::2] * np.sin(a) + x[:, 1::2] * np.cos(a)
    return y


def test_rotary_names_direction_first_position_exponent_and_length():
    check = chapter_07.check_rotary
    check(rotated)
    with pytest.raises(NotYet, match="wrong way"):
        check(lambda x: rotated(x, sign=-1))
    with pytest.raises(NotYet, match="position 0"):
        check(lambda x: rotated(x, first=1))
    with pytest.raises(NotYet, match="not -i/D"):
        check(lambda x: rotated(x, exponent=1))
    with pytest.raises(NotYet, match="keeps the length"):
        check(lambda x: 2 * rotated(x))

    def in_place(x):
        a = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(0, x.shape[1], 2) / x.shape[1])
        x[:, 0::2] = x[:, 0::2] * np.cos(a) - x[:, 1::2] * np.sin(a)
        x[:, 1::2] = x[:, 0::2] * np.sin(a) + x[:, 1::2] * np.cos(a)  # of the new x1
        return x

    with pytest.raises(NotYet, match="written over"):
        check(in_place)


def test_gradient_names_the_mask_the_scale_and_the_sum_of_softmax():
    check = chapter_07.check_gradient

    def vjp(Q, K, V, dO, causal=True, scale=0.5, rows=True, late=False):
        S = Q @ K.T / 2
        P = softmax(np.where(np.tri(len(Q), dtype=bool), S, -np.inf) if causal and not late else S)
        P = P * np.tri(len(Q)) if late else P
        dP = dO @ V.T
        dS = P * (dP - rows * (P * dP).sum(-1, keepdims=True))
        return scale * dS @ K, scale * dS.T @ Q, P.T @ dO

    check(vjp)
    with pytest.raises(NotYet, match="without the mask"):
        check(lambda *a: vjp(*a, causal=False))
    with pytest.raises(NotYet, match="1 / sqrt"):
        check(lambda *a: vjp(*a, scale=1.0))
    with pytest.raises(NotYet, match="subtracts"):
        check(lambda *a: vjp(*a, rows=False))
    with pytest.raises(NotYet, match="behind the softmax"):
        check(lambda *a: vjp(*a, late=True))


def test_an_answer_in_float32_and_one_as_a_list_are_right():
    def vjp(Q, K, V, dO):
        Q, K, V, dO = (a.astype("float32") for a in (Q, K, V, dO))
        P = softmax(np.where(np.tri(len(Q), dtype=bool), Q @ K.T / np.sqrt(Q.shape[-1]), -np.inf))
        dP = dO @ V.T
        dS = P * (dP - (P * dP).sum(-1, keepdims=True))
        return [dS @ K / np.sqrt(Q.shape[-1]), dS.T @ Q / np.sqrt(Q.shape[-1]), P.T @ dO]

    chapter_07.check_gradient(vjp)
    chapter_07.check_rotary(lambda x: rotated(x.astype("float32")).tolist())

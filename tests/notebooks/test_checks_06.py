"""The checkers of chapter 6: a right answer passes (the solutions in the chapter), each usual mistake is named."""

import numpy as np
import pytest

from checks import NotYet, chapter_06


def bigram(ids, V, k, once=False, turned=False, bare=False):
    counts = np.zeros((V, V))
    if once:
        counts[ids[:-1], ids[1:]] += 1
    else:
        np.add.at(counts, (ids[:-1], ids[1:]), 1)
    if turned:
        counts = counts.T
    if bare:
        return counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return (counts + k) / (counts + k).sum(1, keepdims=True)


@pytest.mark.parametrize(
    "mistake, message",
    [({"once": True}, "counts once"), ({"turned": True}, "exchanged"), ({"bare": True}, "k is not added")],
)
def test_bigram_names(mistake, message):
    chapter_06.check_bigram(bigram)
    with pytest.raises(NotYet, match="exchanged"):
        chapter_06.check_bigram(lambda *arguments: bigram(*arguments).T)
    with pytest.raises(NotYet, match=message):
        chapter_06.check_bigram(lambda *arguments: bigram(*arguments, **mistake))


def backward(  # each flag is a mistake
    i, f, g, o, c, c_before, dh, dc, forget_use=False, wrong_cell=False, both=False, tanh_forgotten=False
):
    tanh_c = np.tanh(c)
    whole = dc if forget_use else dc + dh * o * (1 - tanh_c**2)
    if tanh_forgotten:
        whole = dc + dh * o
    do = (whole if both else dh) * tanh_c * o * (1 - o)
    dz_f = whole * (c if wrong_cell else c_before) * f * (1 - f)
    return whole * g * i * (1 - i), dz_f, whole * i * (1 - g**2), do, whole * f


@pytest.mark.parametrize(
    "mistake, message",
    [
        ({"forget_use": True}, "c_t is used in h_t as well"),
        ({"wrong_cell": True}, r"multiplies c_\(t-1\)"),
        ({"both": True}, "dc has no part in it"),
        ({"tanh_forgotten": True}, "the derivative of tanh c is missing"),
    ],
)
def test_lstm_step_backward_names(mistake, message):
    chapter_06.check_lstm_step_backward(backward)
    with pytest.raises(NotYet, match=message):
        chapter_06.check_lstm_step_backward(lambda *arguments: backward(*arguments, **mistake))


def test_clipped_names_single_clipping_scaling_up_and_a_changed_input():
    def each(arrays, limit):
        return [a * min(1.0, limit / np.linalg.norm(a)) for a in arrays]

    def always(arrays, limit):
        norm = np.sqrt(sum((a**2).sum() for a in arrays))
        return [a * limit / norm for a in arrays]

    def changing(arrays, limit):
        norm = np.sqrt(sum((a**2).sum() for a in arrays))
        for a in arrays:
            a *= min(1, limit / norm)
        return arrays

    mistakes = {each: "each array is clipped by itself", always: "scale them up", changing: "new ones"}
    for answer, message in mistakes.items():
        with pytest.raises(NotYet, match=message):
            chapter_06.check_clipped(answer)


def test_clipped_names_a_norm_of_zero():
    def divides(arrays, limit):
        norm = float(np.sqrt(sum((a**2).sum() for a in arrays)))
        return [a * min(1.0, limit / norm) for a in arrays]

    with pytest.raises(NotYet, match="their norm is 0"):
        chapter_06.check_clipped(divides)


def test_half_life_accepts_float32_and_names_an_infinity_of_the_wrong_sign():
    def numpy_way(f):
        with np.errstate(divide="ignore"):
            return np.log(0.5) / np.log(f)

    chapter_06.check_half_life(lambda f: np.inf if f == 1 else np.float32(numpy_way(f)))
    with pytest.raises(NotYet, match="infinite"):
        chapter_06.check_half_life(numpy_way)


def test_half_life_names_the_sign_and_the_division_by_zero():
    import math

    with pytest.raises(NotYet, match="sign"):
        chapter_06.check_half_life(lambda f: math.log(2) / math.log(f) if f < 1 else math.inf)
    with pytest.raises(NotYet, match="infinite"):
        chapter_06.check_half_life(lambda f: math.log(0.5) / math.log(f))

"""The checkers of chapter 13: a right answer passes (the solutions in the chapter), each usual mistake is named."""

import numpy as np
import pytest

from checks import NotYet, chapter_13


def problems(entries, length, inside=True, sizes=True, shared=True):
    found, last = [], 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if inside and not 0 <= begin <= end <= length:
            found.append(name)
        size = int(np.prod(entry["shape"], dtype=object)) if sizes is True else int(np.prod(entry["shape"]))
        if sizes and 0 <= begin <= end <= length and end - begin != 4 * size:
            found.append(name)
        if shared and begin < last:
            found.append(name)
        last = max(last, end) if shared is True else end
    return found


@pytest.mark.parametrize(
    "mistake, message",
    [
        ({"inside": False, "sizes": False}, "end after the data is not found|ends before it begins is not found"),
        ({"sizes": "numpy"}, "Python's integers do not overflow"),
        ({"shared": False}, "two arrays in the same bytes is not found"),
    ],
)
def test_problems_names_the_lie_that_got_through(mistake, message):
    chapter_13.check_problems(problems)
    with pytest.raises(NotYet, match=message):
        chapter_13.check_problems(lambda entries, length: problems(entries, length, **mistake))


@pytest.mark.parametrize("answer", [lambda *_: "", lambda *_: False], ids=["a string", "a boolean"])
def test_problems_wants_a_list(answer):
    with pytest.raises(NotYet, match="return a list"):
        chapter_13.check_problems(answer)


def q4_0(raw, order="halves", signed=True, shift=8):
    block = np.frombuffer(raw, dtype=[("d", "<f2"), ("q", "u1", 16)])
    low, high = block["q"] & 15, block["q"] >> 4
    q = {
        "halves": np.concatenate([low, high], 1),
        "swapped": np.concatenate([high, low], 1),
        "woven": np.stack([low, high], 2).reshape(len(low), 32),
    }[order]
    q = q.astype(np.int8) - shift if signed else q - np.uint8(shift)
    return (block["d"].astype(np.float32)[:, None] * q).reshape(-1)


@pytest.mark.parametrize(
    "mistake, message",
    [
        ({"shift": 0}, "8 is not subtracted"),
        ({"order": "woven"}, "not neighbours"),
        ({"order": "swapped"}, "lower half"),
        ({"signed": False}, "signed integer"),
    ],
)
def test_q4_0_names(mistake, message):
    chapter_13.check_q4_0(q4_0)
    with pytest.raises(NotYet, match=message):
        chapter_13.check_q4_0(lambda raw: q4_0(raw, **mistake))


def test_pool_names_padding_that_counts_and_lengths():
    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    with pytest.raises(NotYet, match="padding counts"):
        chapter_13.check_pool(lambda h, m: unit(h.mean(1)))
    with pytest.raises(NotYet, match="should be 1"):
        chapter_13.check_pool(lambda h, m: (h * m[..., None]).sum(1) / m.sum(1, keepdims=True))


def test_halves_from_neighbours_names_the_way_back_and_a_row_taken_twice():
    forward = np.array([0, 2, 4, 6, 1, 3, 5, 7])
    chapter_13.check_halves_from_neighbours(lambda D: forward)
    with pytest.raises(NotYet, match="the way back"):
        chapter_13.check_halves_from_neighbours(lambda D: np.argsort(forward))
    with pytest.raises(NotYet, match="taken once"):
        chapter_13.check_halves_from_neighbours(lambda D: np.zeros(D, int))
    with pytest.raises(NotYet, match="integers"):
        chapter_13.check_halves_from_neighbours(lambda D: forward.astype(float))

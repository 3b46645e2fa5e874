"""The counter-based generator is Philox4x32-10, bit for bit."""

import numpy as np
import pytest

from minilm.random import Generator, counter_uniform, philox4x32

# The known-answer vectors that Random123 (D. E. Shaw Research) publishes for philox4x32-10: counter, key, result
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize("counter, key, expected", KNOWN)
def test_the_published_vectors(counter, key, expected):
    assert tuple(int(word) for word in philox4x32(words(counter), words(key))) == words(expected)


def test_counters_are_independent_of_each_other():
    counters = tuple(np.array(column) for column in zip(*(words(c) for c, _, _ in KNOWN), strict=True))
    key = words(KNOWN[2][1])
    together = philox4x32(counters, key)
    for i in range(3):
        alone = philox4x32(tuple(int(c[i]) for c in counters), key)
        assert [int(w[i]) for w in together] == [int(w) for w in alone]


def test_uniform_numbers_are_the_first_words_folded_as_triton_does():
    seed, offset = 0x299F31D0_A4093822, 2**32 - 2  # the offset crosses into the second word of the counter
    for i, u in enumerate(counter_uniform(seed, offset, 5)):
        count = offset + i
        word = int(philox4x32((count & 0xFFFFFFFF, count >> 32, 0, 0), (0xA4093822, 0x299F31D0))[0])
        signed = word - 2**32 if word >= 2**31 else word
        folded = -signed - 1 if signed < 0 else signed
        assert u == np.float32(folded) * np.float32(4.6566127342e-10)
        assert 0 <= u < 1


def test_an_element_depends_on_its_own_counter_alone():
    whole = counter_uniform(5, 100, 40_000)  # more than one block
    assert counter_uniform(5, 100 + 33_333, 7).tolist() == whole[33_333:33_340].tolist()
    assert whole.dtype == np.float32


def test_uniform_numbers_are_spread_evenly():
    u = counter_uniform(1, 0, 100_000)
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    chi_square = float(((counts - 5000) ** 2 / 5000).sum())
    assert chi_square < 43.8  # 19 degrees of freedom: exceeded once in a thousand seeds


def test_a_mask_keeps_at_its_rate():
    keep = Generator(0).keep_mask((400, 500), 0.3)
    assert keep.dtype == bool
    assert abs(keep.mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / keep.size)
    assert Generator(0).keep_mask((5,), 0.0).all()

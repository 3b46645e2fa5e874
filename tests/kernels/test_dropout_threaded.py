"""The masks of dropout: bit for bit those of the plain generator, however they are cut."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minilm.backend import kernel_for
from minilm.kernels.dropout import threaded
from minilm.kernels.dropout.threaded import keep_mask
from minilm.random import Generator, counter_uniform
from tests.kernels.against_textbook import cut

seeds = st.integers(0, 2**63 - 1)
offsets = st.one_of(st.integers(0, 1000), st.integers(2**32 - 200, 2**32 + 5), st.integers(0, 2**62))


@given(seeds, offsets, st.integers(0, 300), st.floats(0, 1, width=32), st.sampled_from([1, 7, 64]), st.integers(1, 3))
@example(seed=1, offset=2**32 - 3, n=9, p=0.5, block=64, threads=1)  # a block on both sides of a multiple of 2^32
@example(seed=2**40 + 5, offset=0, n=50, p=1.0, block=64, threads=2)
def test_it_keeps_what_the_plain_generator_keeps(seed, offset, n, p, block, threads):
    with cut(threads), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", block)
        kept = keep_mask(seed, offset, n, p)
    assert kept.dtype == bool
    np.testing.assert_array_equal(kept, counter_uniform(seed, offset, n) >= np.float32(p))


@given(st.integers(0, 2**32 - 1))
def test_the_edge_lies_exactly_at_a_value_of_the_generator(seed):
    """p is one of the values that occur: the element with it is kept, and dropped for the next float."""
    u = counter_uniform(seed, 0, 20)
    for p in (u[3], np.nextafter(u[3], np.float32(1)), np.nextafter(u[3], np.float32(0))):
        np.testing.assert_array_equal(keep_mask(seed, 0, 20, p), u >= p)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything_can_be_dropped(p):
    np.testing.assert_array_equal(keep_mask(3, 0, 1000, p), counter_uniform(3, 0, 1000) >= np.float32(p))
    assert keep_mask(3, 0, 1000, p).mean() == 1 - p


def test_the_generator_uses_it_and_its_counters_go_on(monkeypatch):
    assert kernel_for("keep_mask", np.zeros(1, np.float32)) is keep_mask
    generator = Generator(5)
    first, second = (generator.keep_mask((3, 40), 0.4, np.zeros(1, np.float32)) for _ in range(2))
    both = counter_uniform(5, 0, 240) >= np.float32(0.4)
    np.testing.assert_array_equal(np.concatenate([first, second]).reshape(-1), both)

"""A generator is determined by its seed, resumes from JSON, and leaves the global ones alone."""

import json
import sys

import numpy as np
import pytest

from minilm import Generator, manual_seed
from minilm.random import current_generator, using_generator

DRAWS = {
    "normal": lambda g: g.normal((3, 2), 1.0, 2.0),
    "uniform": lambda g: g.uniform((4,), -1.0, 1.0, dtype="float64"),
    "integers": lambda g: g.integers(0, 10, (5,)),
    "permutation": lambda g: g.permutation(7),
    "random": lambda g: np.asarray(g.random()),
    "keep_mask": lambda g: g.keep_mask((3, 5), 0.5),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_seed_determines_every_draw(name):
    first, same, other = (DRAWS[name](Generator(seed)) for seed in (3, 3, 4))
    assert first.tolist() == same.tolist() != other.tolist()


@pytest.mark.parametrize("name", DRAWS)
def test_a_state_that_went_through_json_resumes(name):
    g = Generator(11)
    for draw in DRAWS.values():
        draw(g)
    g.integers(0, 5, (3,))  # leaves half of a 64-bit word behind
    state = json.loads(json.dumps(g.state_dict()))
    resumed = Generator(99)
    resumed.load_state_dict(state)
    for draw in (DRAWS[name], *DRAWS.values()):
        assert draw(resumed).tolist() == draw(g).tolist()


def test_masks_and_draws_are_two_streams():
    a, b = Generator(0), Generator(0)
    a.keep_mask((100,), 0.5)
    assert a.normal((3,)).tolist() == b.normal((3,)).tolist()
    assert a.keep_mask((5,), 0.5).tolist() == Generator(0).keep_mask((105,), 0.5)[100:].tolist()


def test_every_dtype_starts_from_the_same_numbers():
    wide, narrow = Generator(2).normal((50,), dtype="float64"), Generator(2).normal((50,))
    assert (wide.dtype, narrow.dtype) == (np.float64, np.float32)
    assert narrow.tolist() == wide.astype("float32").tolist()


def test_children_are_determined_by_seed_and_name_and_leave_the_parent_alone():
    parent = Generator(5)
    before = parent.state_dict()
    child, same, other = parent.spawn("data"), Generator(5).spawn("data"), parent.spawn("dropout")
    assert parent.state_dict() == before
    family = (child, same, other, parent, Generator(6).spawn("data"))
    draws = [tuple(g.integers(0, 2**62, (4,)).tolist()) for g in family]
    assert draws[0] == draws[1] and len(set(draws)) == 4
    assert 0 <= child.seed < 2**63


def test_children_are_not_correlated_with_their_parent_or_each_other():
    parent = Generator(5)
    streams = [g.normal((20_000,)) for g in (parent, parent.spawn("a"), parent.spawn("b"), parent.spawn("c"))]
    correlation = np.corrcoef(streams) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)


def test_the_global_generators_are_not_touched():
    numpy_global, python_global = vars(np.random)["get_state"], sys.modules["random"].getstate
    numpy_state, python_state = numpy_global(), python_global()
    g = manual_seed(3)
    for draw in DRAWS.values():
        draw(g)
    g.spawn("child").normal((2,))
    assert python_global() == python_state
    assert [np.array_equal(a, b) for a, b in zip(numpy_global(), numpy_state, strict=True)] == [True] * 5


def test_the_current_generator_is_the_innermost():
    outer, inner = Generator(1), Generator(2)
    default = manual_seed(0)
    with using_generator(outer):
        with using_generator(inner):
            assert current_generator() is inner
        assert current_generator() is outer
    assert current_generator() is default


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match="a seed is an int from 0 to 2\\*\\*63 - 1"):
        Generator(seed)

"""KVCache: it returns everything so far, and refuses what does not fit."""

import numpy as np
import pytest

from minilm import Tensor, nn, no_grad


def pair(T, B=2, Hk=3, D=4, seed=0):
    generator = np.random.default_rng(seed)
    return tuple(Tensor(generator.normal(size=(B, Hk, T, D)).astype("float32")) for _ in range(2))


@no_grad()
def test_it_returns_all_positions_so_far_in_order():
    cache, parts = nn.KVCache(7), [pair(T, seed=T) for T in (3, 1, 2)]
    for n, part in enumerate(parts, start=1):
        seen = cache.append(*part)
        for which in (0, 1):
            expected = np.concatenate([p[which].numpy() for p in parts[:n]], axis=2)
            np.testing.assert_array_equal(seen[which].numpy(), expected)
    assert cache.length == 6 and cache.capacity == 7


@no_grad()
def test_values_may_be_wider_than_keys():
    cache = nn.KVCache(4)
    key, value = Tensor(np.ones((1, 2, 3, 4))), Tensor(np.ones((1, 2, 3, 5)))
    assert [x.shape for x in cache.append(key, value)] == [(1, 2, 3, 4), (1, 2, 3, 5)]


@no_grad()
def test_it_keeps_copies():
    cache, (key, value) = nn.KVCache(4), pair(2)
    expected = key.numpy().copy()
    cache.append(key, value)
    key.zero_()
    np.testing.assert_array_equal(cache.append(*pair(1))[0].numpy()[:, :, :2], expected)


@no_grad()
def test_more_positions_than_the_capacity_are_refused_and_nothing_is_lost():
    cache, first = nn.KVCache(4), pair(3)
    cache.append(*first)
    with pytest.raises(ValueError, match="the cache holds 4 positions; 3 are used and 2 more do not fit"):
        cache.append(*pair(2))
    np.testing.assert_array_equal(cache.append(*pair(1, seed=1))[0].numpy()[:, :, :3], first[0].numpy())


@no_grad()
@pytest.mark.parametrize(
    "other", [{"B": 1}, {"Hk": 1}, {"D": 1}, {"B": 4}], ids=["one sequence", "one head", "width 1", "more sequences"]
)
def test_other_shapes_are_refused_also_where_they_would_broadcast(other):
    cache, first = nn.KVCache(4), pair(2)
    cache.append(*first)
    with pytest.raises(ValueError, match=r"the cache was made for .*use a new cache"):
        cache.append(*pair(1, **other))
    assert cache.length == 2


def test_while_gradients_are_recorded_it_names_the_remedy():
    with pytest.raises(RuntimeError, match=r"use it under `with no_grad\(\):`"):
        nn.KVCache(4).append(*pair(1))

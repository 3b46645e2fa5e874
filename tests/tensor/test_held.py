"""What a vjp keeps is found wherever it keeps it: an array of its own is not added to, and its change is reported."""

import functools

import numpy as np
import pytest

from minilm import Tensor, no_grad
from minilm.backend import Array
from minilm.tensor.tape import _held
from tests.tensor.test_contract import operation


def in_a_closure(x):
    return lambda g: x


def in_a_closure_of_a_closure(x):
    inner = in_a_closure(x)
    return lambda g: inner(g)


def in_a_default(x):
    return lambda g, x=x: x


def in_a_keyword_default(x):
    return lambda g, *, x=x: x


def in_containers(x):
    kept = {"arrays": [(x,)]}
    return lambda g: kept["arrays"][0][0]


def in_a_partial(x):
    return functools.partial(lambda g, x: x, x=x)


def in_a_tensor(x):
    kept = Tensor.wrap(x)
    return lambda g: kept.data


class Keeper:
    def __init__(self, x):
        self.x = x

    def vjp(self, g):
        return self.x


def in_an_object(x):
    keeper = Keeper(x)
    return lambda g: keeper.vjp(g)


def in_the_object_of_a_method(x):
    return Keeper(x).vjp


KEEPING = [
    *(in_a_closure, in_a_closure_of_a_closure, in_a_default, in_a_keyword_default, in_containers, in_a_partial),
    *(in_a_tensor, in_an_object, in_the_object_of_a_method),
]


@pytest.mark.parametrize("keeping", KEEPING)
def test_an_array_that_a_vjp_keeps_is_not_added_to(keeping):
    kept = np.array([2.0, 2.0])

    def twice(x: Array):
        """y = 2 x, with a vjp that hands out the array that it keeps: right for a cotangent of ones."""
        return 2 * x, keeping(kept)

    x = Tensor([1.0, 2.0], requires_grad=True, dtype="float64")
    with operation(twice) as op:
        total = op(x) + x * 5.0
        total = op(x) + total  # on the way back this comes first, and x gets more
    total.backward(np.ones(2), retain_graph=True)
    assert kept.tolist() == [2.0, 2.0] and x.grad.tolist() == [9.0, 9.0]
    total.backward(np.ones(2))
    assert kept.tolist() == [2.0, 2.0] and x.grad.tolist() == [18.0, 18.0]


@pytest.mark.parametrize("keeping", KEEPING)
def test_a_change_of_an_array_that_a_vjp_keeps_is_reported(keeping):
    def keep(x: Array):
        """y = x, with a vjp that keeps x."""
        return x.copy(), keeping(x)

    x = Tensor([1.0, 2.0], requires_grad=True)
    with operation(keep) as op:
        y = op(x)
    with no_grad():
        x.fill_(0.0)
    with pytest.raises(RuntimeError, match="keep: an array .* changed in place"):
        y.backward(np.ones(2, "float32"))


def test_the_search_ends_where_things_hold_each_other():
    x = np.ones(2)
    ring: list = [x]
    ring.append(ring)

    def vjp(g):
        return vjp, ring, np  # itself, a list that holds itself, and a module, which is not searched

    (found,) = _held(vjp)
    assert found is x


def test_a_variable_that_was_never_assigned_is_passed_over():
    if False:
        missing = None
    assert _held(lambda g: missing) == []

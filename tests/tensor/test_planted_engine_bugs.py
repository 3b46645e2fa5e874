"""The tests of the contract can fail: each bug planted in the engine turns at least one of them red."""

import numpy as np
import pytest

from minilm.functional import tanh
from minilm.tensor import tape
from tests.tensor import test_contract as contract


def only_the_first_slice(gradient, shape):
    """A broadcast that is not summed: the first of its slices stands for all."""
    extra = gradient.ndim - len(shape)
    first = gradient[(0,) * extra]
    return first[tuple(slice(0, n) for n in shape)]


def overwrite(arrived, gradient, ours):
    """The last gradient to arrive wins."""
    return gradient, ours


def add_in_place(arrived, gradient, ours):
    """Sums are made in whichever array came first, and nothing is ever copied."""
    if arrived is None:
        return gradient, True
    total = arrived[0]
    total += gradient
    return total, True


class FirstArrival:
    """Instead of the heap a queue: nodes are visited in the order in which they are first reached."""

    @staticmethod
    def heappush(heap, entry):
        heap.append(entry)

    @staticmethod
    def heappop(heap):
        return heap.pop(0)


def no_versions(node):
    """Changes in place are not looked for."""


def closures_are_not_searched(vjp):
    """The engine believes that a vjp holds no array."""
    return iter(())


kept_apart = contract.test_gradients_that_a_vjp_shares_are_kept_apart
BUGS = {
    "broadcasting is not undone": (
        ("unbroadcast", lambda gradient, shape: gradient),
        lambda: contract.test_broadcasting_is_undone_exactly((2, 1)),
    ),
    "a broadcast keeps its first slice": (
        ("unbroadcast", only_the_first_slice),
        lambda: contract.test_broadcasting_is_undone_exactly((2, 1)),
    ),
    "gradients are overwritten": (
        ("_add", overwrite),
        contract.test_gradients_of_several_uses_add_up,
    ),
    "gradients are added in place in shared arrays": (
        ("_add", add_in_place),
        contract.test_the_cotangent_is_not_changed_by_what_is_added_to_it,
    ),
    "the user's cotangent becomes the gradient": (
        ("_add", add_in_place),
        lambda: contract.test_no_gradient_array_is_shared_with_another_or_with_the_user("the sum of two"),
    ),
    "a joint vjp's array is added to in place": (
        ("_add", add_in_place),
        lambda: kept_apart(contract.a_sum_with_the_transpose, a_first=True),
    ),
    "what a vjp holds is taken for the engine's own": (
        ("_held", closures_are_not_searched),
        lambda: kept_apart(contract.a_kept_gradient, a_first=True),
    ),
    "views are not traced to their owner": (
        ("owner", lambda array: array),
        lambda: kept_apart(contract.the_transpose_first, a_first=False),
    ),
    "a node is visited at first arrival": (
        ("heapq", FirstArrival),
        contract.test_a_node_waits_until_all_of_its_gradient_has_arrived,
    ),
    "a node with many consumers is visited early": (
        ("heapq", FirstArrival),
        contract.test_each_vjp_is_called_once_for_a_node_with_many_consumers,
    ),
    "changes in place are not detected": (
        ("_check_versions", no_versions),
        lambda: contract.test_a_change_of_an_input_that_a_vjp_needs_is_detected(
            lambda x: x * x, contract.changed_by_method
        ),
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_engine_bug_turns_the_contract_red(name, monkeypatch):
    (part, wrong), check = BUGS[name]
    check()
    monkeypatch.setattr(tape, part, wrong)
    # pytest.fail's exception is no Exception, so that a test's own `except Exception` cannot swallow it
    with pytest.raises((AssertionError, RuntimeError, ValueError, pytest.fail.Exception)):
        check()


def test_a_depth_first_walk_through_a_retained_graph_takes_exponential_time(monkeypatch):
    def calls(depth):
        x = contract.leaf([0.5])
        with contract.counted("tanh") as made:
            y = x
            for _ in range(depth):
                y = tanh(y) + y
            y.backward(np.ones(1), retain_graph=True)
        return len(made)

    assert calls(10) == 10
    monkeypatch.setattr(FirstArrival, "heappop", lambda heap: heap.pop())  # a stack instead of a queue
    monkeypatch.setattr(tape, "heapq", FirstArrival)
    assert calls(10) == 2**10 - 1

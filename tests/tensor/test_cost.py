"""What the engine does not do where it need not: the cost of the tape, counted in steps and not in seconds."""

import gc
import tracemalloc

import numpy as np
import pytest

from minilm import Tensor, no_grad
from minilm.functional import tanh
from minilm.tensor import backpropagate, tape
from minilm.tensor.changes import changes


@pytest.fixture
def looked_into(monkeypatch):
    """A list that grows by one for each vjp in which the engine looks for arrays."""
    calls = []
    original = tape._held
    monkeypatch.setattr(tape, "_held", lambda vjp: calls.append(vjp) or original(vjp))
    return calls


def test_who_holds_an_array_is_asked_only_where_something_may_be_added(looked_into):
    x = Tensor([0.5, -0.5], requires_grad=True)
    y = x
    for _ in range(50):
        y = tanh(y * 1.5)
    y.backward(np.ones(2))
    assert len(looked_into) == 1  # at the leaf: will the array be its gradient, or a copy?
    looked_into.clear()
    y = x * 2.0
    (tanh(y) + tanh(y)).backward(np.ones(2))
    assert len(looked_into) == 2  # the first that arrives at y, and the leaf: then there is an array of ours


def test_a_vjp_is_searched_for_changes_only_if_something_was_changed_since(looked_into):
    other = Tensor([1.0])
    x = Tensor([0.5, -0.5], requires_grad=True)
    before = x * 2.0
    other.fill_(3.0)
    (before * 2.0).backward(np.ones(2))
    assert len(looked_into) == 2  # for the change, in the node from before it; and at the leaf


@pytest.mark.parametrize("uses", [1, 2, 20])
def test_what_arrives_at_a_leaf_is_added_up_in_one_array(uses):
    w = Tensor(np.ones(100_000), requires_grad=True)
    y = [w * 0.5 for _ in range(uses)]
    cotangent = np.ones(100_000)
    tracemalloc.start()
    try:
        found = backpropagate(y, [cotangent] * uses)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found[0][1][0] == 0.5 * uses
    assert peak < (2 if uses > 1 else 1) * w.data.nbytes + 10_000  # the sum, and what is added to it


def test_a_change_before_the_forward_pass_is_no_matter_if_another_comes_later():
    x, other = Tensor([1.0, 2.0], requires_grad=True), Tensor([1.0])
    x.detach().fill_(3.0)
    y = (x * x).sum()
    other.fill_(2.0)
    y.backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_what_is_written_by_hand_can_be_marked():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    x.data[...] = 5.0
    x.detach().mark_changed()
    with pytest.raises(RuntimeError, match="multiply: .* changed in place between forward and backward"):
        y.backward()


def test_a_change_of_memory_that_is_gone_is_forgotten():
    """Another array may get the same address, and was not changed."""
    gc.collect()
    before = len(changes._numbers)
    x = Tensor([1.0, 2.0])
    view = x.reshape(2, 1)
    view.fill_(3.0)
    x.fill_(4.0)
    assert len(changes._numbers) == before + 1  # one memory, whoever changed it
    del x
    assert len(changes._numbers) == before + 1
    del view
    assert len(changes._numbers) == before


def test_memory_that_only_a_vjp_holds_may_change_under_another_name():
    x, w = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0])
    y = x * w
    alias = w.detach()
    del w
    with no_grad():
        alias.add_(1.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(np.ones(2))

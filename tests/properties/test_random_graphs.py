"""Gradients are right on graphs, not only on operations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.random import Generator
from minilm.tensor import OPERATIONS, Tensor, backpropagate, tape
from minilm.testing import GradientError, dual_test, gradcheck, planted, random_graph
from minilm.testing.random_graphs import RECIPES


def nodes_of(outputs):
    found, stack = {}, [t._node for t in outputs if t._node is not None]
    while stack:
        node = stack.pop()
        if id(node) not in found:
            found[id(node)] = node
            stack.extend(e[0] for e in node.edges if e is not None and not isinstance(e[0], Tensor))
    return list(found.values())


def graphs(count, n_operations=40):
    for seed in range(count):
        yield random_graph(Generator(seed), n_operations)


def passes(graph):
    try:
        return dual_test(*graph)
    except (GradientError, RuntimeError):
        return False


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31), n_operations=st.integers(1, 60))
def test_backward_through_a_random_graph_is_dual_to_the_finite_difference(seed, n_operations):
    assert dual_test(*random_graph(Generator(seed), n_operations), seed=seed)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_a_deep_graph(seed):
    assert dual_test(*random_graph(Generator(seed), 300), seed=seed)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), n_operations=st.integers(1, 25))
def test_every_element_of_the_gradient_of_a_random_graph(seed, n_operations):
    assert gradcheck(*random_graph(Generator(seed), n_operations), seed=seed)


def test_every_operation_has_a_recipe():
    missing = sorted(set(OPERATIONS) - set(RECIPES))
    assert missing == [], f"no recipe for {', '.join(missing)}: write one in minilm/testing/random_graphs.py"


def test_the_graphs_hold_every_operation_and_every_shape_of_graph():
    seen, shared, dead, unused_outputs, reused_leaves = set(), 0, 0, 0, 0
    for fn, leaves in graphs(60):
        outputs = fn(*leaves)
        nodes = nodes_of(outputs)
        seen |= {node.operation.name for node in nodes}
        targets = [(id(e[0]), e[1]) for node in nodes for e in node.edges if e is not None]
        shared += len(targets) - len(set(targets))
        reused_leaves += max((sum(t == id(leaf) for t, _ in targets) for leaf in leaves), default=0) > 1
        unused_outputs += any(
            node.several and len({k for t, k in targets if t == id(node)}) < len(node.outputs)
            for node in nodes
        )
        dead += len(nodes) < 40
    assert sorted(set(OPERATIONS) - seen) == []
    assert shared > 60 and dead > 5 and unused_outputs > 10 and reused_leaves > 10


def test_the_same_seed_gives_the_same_graph():
    (f, x), (g, y) = (random_graph(Generator(7), 30) for _ in range(2))
    assert [a.tolist() for a in (*x, *f(*x))] == [b.tolist() for b in (*y, *g(*y))]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_wrong_vjp_in_a_graph_is_caught(name):
    for graph in graphs(80):
        if any(node.operation.name == name for node in nodes_of(graph[0](*graph[1]))):
            with planted(name, "scaled"):
                if not passes(graph):
                    return
    pytest.fail(f"a gradient of {name} that is one percent too large passed in every graph")


@pytest.mark.parametrize("bug", ["overwritten", "in place", "first arrival"])
def test_an_engine_bug_is_caught(bug, monkeypatch):
    def in_place(arrived, gradient, ours):
        if arrived is None:
            return gradient, True
        total = arrived[0]
        total += gradient
        return total, True

    class Queue:
        heappush = staticmethod(lambda heap, entry: heap.append(entry))
        heappop = staticmethod(lambda heap: heap.pop(0))

    drawn = list(graphs(10))
    assert all(map(passes, drawn))
    wrong = {"overwritten": ("_add", lambda arrived, g, ours: (g, ours)), "in place": ("_add", in_place)}
    monkeypatch.setattr(tape, *wrong.get(bug, ("heapq", Queue)))
    caught = 0
    for graph in drawn:
        try:
            caught += not passes(graph)
        except ValueError:  # added in place into a view that cannot be written to
            caught += 1
    assert caught > 0


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_backward_in_two_rounds_is_backward_of_the_sum(seed):
    fn, leaves = random_graph(Generator(seed), 20)
    ones = [np.ones(y.shape) for y in fn(*leaves)]

    def gradients(outputs, cotangents):
        live = [(y, v) for y, v in zip(outputs, cotangents, strict=True) if y.requires_grad]
        found = {id(x): g for x, g in backpropagate(*zip(*live, strict=True))} if live else {}
        return [found.get(id(x), np.zeros(x.shape)) for x in leaves]

    together = gradients(fn(*leaves), ones)
    parts = [gradients([fn(*leaves)[k]], [ones[k]]) for k in range(len(ones))]
    for whole, *pieces in zip(together, *parts, strict=True):
        np.testing.assert_allclose(sum(pieces), whole, rtol=1e-9, atol=1e-9)

"""The checkers of chapter 3: a right answer passes, and each usual mistake is named."""

import heapq

import pytest

from checks import NotYet
from checks.chapter_03 import check_accumulate, check_cycles, check_guarded, check_way_back


def accumulate(total, g):
    return g.copy() if total is None else total + g


def keeps_the_first(total, g):
    return g if total is None else total + g


def in_what_came(total, g):
    if total is None:
        return g.copy()
    g += total
    return g


def way_back(root, g):
    heap, arrived, leaves = [(-root.number, root)], {root: g}, {}
    while heap:
        step = heapq.heappop(heap)[1]
        g = arrived.pop(step)
        if not step.inputs:
            leaves[step] = g
        for source, vjp in step.inputs:
            gradient = vjp(g)
            if source in arrived:
                arrived[source] = arrived[source] + gradient
            else:
                arrived[source] = gradient
                heapq.heappush(heap, (-source.number, source))
    return leaves


def first_come_first_served(root, g):
    queue, arrived, leaves, seen = [root], {root: g}, {}, {root}
    while queue:
        step = queue.pop(0)
        if not step.inputs:
            leaves[step] = arrived[step]
        for source, vjp in step.inputs:
            gradient = vjp(arrived[step])
            arrived[source] = arrived[source] + gradient if source in arrived else gradient
            if source not in seen:
                seen.add(source)
                queue.append(source)
    return leaves


def every_path(root, g):
    leaves, stack = {}, [(root, g)]
    while stack:
        step, g = stack.pop()
        if not step.inputs:
            leaves[step] = leaves.get(step, 0) + g
        stack += [(source, vjp(g)) for source, vjp in step.inputs]
    return leaves


def recursive(root, g):
    order, seen = [], set()

    def visit(step):
        if step not in seen:
            seen.add(step)
            for source, _ in step.inputs:
                visit(source)
            order.append(step)

    visit(root)
    arrived = {root: g}
    for step in reversed(order):
        for source, vjp in step.inputs:
            arrived[source] = arrived.get(source, 0) + vjp(arrived[step])
    return {step: arrived[step] for step in order if not step.inputs}


def in_place(root, g):
    arrived, leaves = {root: g}, {}
    while arrived:
        step = max(arrived, key=lambda step: step.number)
        g = arrived.pop(step)
        if not step.inputs:
            leaves[step] = g
        for source, vjp in step.inputs:
            if source in arrived:
                arrived[source] += vjp(g)
            else:
                arrived[source] = vjp(g)
    return leaves


def lowest_number_first(root, g):
    """Right gradients, and a visit for each path."""
    arrived, leaves = {root: g}, {}
    while arrived:
        step = min(arrived, key=lambda step: step.number)
        g = arrived.pop(step)
        if not step.inputs:
            leaves[step] = leaves.get(step, 0) + g
        for source, vjp in step.inputs:
            arrived[source] = arrived.get(source, 0) + vjp(g)
    return leaves


def multiply(a, b, keep=lambda box: box.version):
    versions = keep(a), keep(b)

    def vjp(g):
        if (keep(a), keep(b)) != versions:
            raise RuntimeError("changed")
        return g * b.data, g * a.data

    return a.data * b.data, vjp


def compares_with_zero(a, b):
    def vjp(g):
        if a.version or b.version:
            raise RuntimeError("changed.")
        return g * b.data, g * a.data

    return a.data * b.data, vjp


def watches_a_alone(a, b):
    version = a.version

    def vjp(g):
        if a.version != version:
            raise RuntimeError("changed")
        return g * b.data, g * a.data

    return a.data * b.data, vjp


CYCLES = {"first": False, "second": True, "third": False, "fourth": True}
RIGHT = [
    (check_accumulate, accumulate),
    (check_way_back, way_back),
    (check_cycles, CYCLES),
    (check_guarded, multiply),
    (check_guarded, lambda a, b: list(multiply(a, b))),
]
WRONG = [
    (check_accumulate, lambda total, g: ..., "must return the new sum"),
    (check_accumulate, keeps_the_first, "not a copy"),
    (check_accumulate, in_what_came, "belongs to somebody else"),
    (check_accumulate, lambda total, g: g.copy(), "replaced the sum"),
    (check_way_back, first_come_first_served, "highest number that is waiting"),
    (check_way_back, every_path, "each step once"),
    (check_way_back, lowest_number_first, "highest number that is waiting"),
    (check_way_back, recursive, "RecursionError"),
    (check_way_back, in_place, "added to in place"),
    (check_way_back, lambda root, g: g, "return a dict"),
    (check_cycles, CYCLES | {"third": ...}, "third: answer True or False"),
    (check_cycles, CYCLES | {"third": True}, "holds the array"),
    (check_cycles, CYCLES | {"first": "False"}, "first: answer True or False"),
    (check_cycles, CYCLES | {"fourth": False}, "x.children holds out"),
    (check_guarded, lambda a, b: multiply(a, b, keep=lambda box: 0), "without a word"),
    (check_guarded, compares_with_zero, "is no matter"),
    (check_guarded, watches_a_alone, "b was changed after"),
    (check_guarded, lambda a, b: (a.data * b.data, lambda g: (g * a.data, g * b.data)), "exchanged"),
    (check_guarded, lambda a, b: a.data * b.data, "return two things"),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_a_right_answer_passes(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize("check, answer, message", WRONG)
def test_a_mistake_is_named(check, answer, message):
    with pytest.raises(NotYet, match=message):
        check(answer)


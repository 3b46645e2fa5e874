"""The checkers of chapter 1: a right answer passes, and each usual mistake is named."""

import math

import numpy as np
import pytest

from checks import NotYet
from checks.chapter_01 import check_neuron_gradient, check_order, check_power, check_update


class Value:
    """The engine of the chapter, as far as the checkers need it."""

    def __init__(self, data, inputs=()):
        self.data, self.grad, self.inputs = data, 0.0, inputs

    def __add__(self, other):
        return Value(self.data + other.data, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Value(self.data * other.data, [(self, other.data), (other, self.data)])

    def tanh(self):
        y = math.tanh(self.data)
        return Value(y, [(self, 1.0 - y * y)])


def neuron(w, x, b, t):
    y = math.tanh(w * x + b)
    ds = 2 * (y - t) * (1 - y * y)
    return ds * x, ds * w, ds


def power(a, n):
    return Value(a.data**n, [(a, n * a.data ** (n - 1))])


def in_order(root):
    waiting, stack, seen = {}, [root], {root}
    while stack:
        for source, _ in stack.pop().inputs:
            waiting[source] = waiting.get(source, 0) + 1
            if source not in seen:
                seen.add(source)
                stack.append(source)
    listed, ready = [], [root]
    while ready:
        value = ready.pop()
        listed.append(value)
        for source, _ in value.inputs:
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
    return listed[::-1]


def recursive(root):
    order, seen = [], set()

    def visit(value):
        if value not in seen:
            seen.add(value)
            for source, _ in value.inputs:
                visit(source)
            order.append(value)

    visit(root)
    return order


def as_first_reached(root):
    found, queue = [root], [root]
    while queue:
        for source, _ in queue.pop(0).inputs:
            if source not in found:
                found.append(source)
                queue.append(source)
    return found[::-1]


def every_path(root):
    listed, stack = [], [root]
    while stack:
        value = stack.pop()
        if value in listed:
            listed.remove(value)
        listed.append(value)
        stack += [source for source, _ in value.inputs]
    return listed[::-1]


def update(parameters, rate):
    for value in parameters:
        value.data -= rate * value.grad
        value.grad = 0.0


def climb(parameters, rate):
    for value in parameters:
        value.data += rate * value.grad
        value.grad = 0.0


def zero_too_early(parameters, rate):
    for value in parameters:
        value.grad = 0.0
        value.data -= rate * value.grad


def grads_to_none(parameters, rate):
    for value in parameters:
        value.data -= rate * value.grad
        value.grad = None  # backward() does value.grad += ...: it raises TypeError


def keep_the_grad(parameters, rate):
    for value in parameters:
        value.data -= rate * value.grad


RIGHT = [
    lambda: check_neuron_gradient(neuron),
    lambda: check_neuron_gradient(lambda *a: np.array(neuron(*a))),
    lambda: check_power(power, Value),
    lambda: check_order(in_order, Value),
    lambda: check_update(update, Value),
]
WRONG = [
    (lambda: check_neuron_gradient(lambda *_: ...), "fill it in"),
    (lambda: check_neuron_gradient(lambda *a: (neuron(*a)[1], neuron(*a)[0], neuron(*a)[2])), "factor x"),
    (lambda: check_neuron_gradient(lambda *a: tuple(v / 2 for v in neuron(*a))), "factor 2 of the square"),
    (
        lambda: check_neuron_gradient(
            lambda w, x, b, t: tuple(2 * (math.tanh(w * x + b) - t) * v for v in (x, w, 1))
        ),
        "derivative of tanh is missing",
    ),
    (lambda: check_power(lambda a, n: a.data**n, Value), "return a Value"),
    (lambda: check_power(lambda a, n: Value(a.data**n), Value), "do not hold a"),
    (lambda: check_power(lambda a, n: Value(a.data**n, [(a, n * a.data**n)]), Value), "exponent goes down"),
    (lambda: check_power(lambda a, n: Value(a.data**n, [(a, a.data ** (n - 1))]), Value), "factor n is missing"),
    (lambda: check_power(lambda a, n: Value(a.data**n, (a, n * a.data ** (n - 1))), Value), "a list of the pair"),
    (lambda: check_order(recursive, Value), "a function still calls itself"),
    (lambda: check_order(as_first_reached, Value), "Being reached is not enough"),
    (lambda: check_order(every_path, Value), "walk every path"),
    (lambda: check_order(lambda root: in_order(root)[::-1], Value), "the root comes first"),
    (lambda: check_order(lambda root: [root], Value), "one that it is computed from is not"),
    (lambda: check_order(lambda root: root, Value), "return a list of values"),
    (lambda: check_order(lambda root: [value.data for value in in_order(root)], Value), "return a list of values"),
    (lambda: check_update(climb, Value), "up the slope"),
    (lambda: check_update(zero_too_early, Value), "before it was used"),
    (lambda: check_update(grads_to_none, Value), "set each to 0.0"),
    (lambda: check_update(keep_the_grad, Value), "set each to 0.0"),
    (lambda: check_update(lambda parameters, rate: None, Value), "Nothing has changed"),
]


@pytest.mark.parametrize("check", RIGHT)
def test_a_right_answer_passes(check, capsys):
    check()
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize("check, message", WRONG)
def test_a_mistake_is_named(check, message):
    with pytest.raises(NotYet, match=message):
        check()

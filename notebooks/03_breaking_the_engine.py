# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · Breaking the engine
#
# Every derivative in an engine can be right, and its gradients still be wrong, or never arrive, or fill the memory.
# This chapter takes an engine as one writes it the first time, breaks it in five ways, and shows for each the few lines
# in minilm that mend it. None of the five failures is contrived: each is found in engines that people use to learn.
#
# **What you will be able to do**
#
# - recognise gradients that share an array, and say when adding in place is safe;
# - walk a graph without recursion, each node once;
# - say why a short and innocent closure keeps megabytes alive;
# - explain why residual connections make a careless engine take exponential time;
# - detect that an array which the way back needs was changed.
#
# **What it needs**: reverse mode and topological order ([chapter 1](01_one_scalar.ipynb)), vjps
# ([chapter 2](02_tensors.ipynb)).

# %%
import gc
import tracemalloc
import weakref
from unittest import mock

import numpy as np

import minilm.functional as F
from checks import source
from checks.chapter_03 import Box, Step, check_accumulate, check_cycles, check_guarded, check_way_back
from checks.drawing import graph_figure
from minilm import Tensor, no_grad
from minilm.plots.loss_curves import COLOURS, new_figure
from minilm.tensor import changes, tape
from minilm.testing import planted

# %% [markdown]
# ## 1. An engine as one writes it the first time
#
# A node holds an array, its gradient, its parents (the nodes it was computed from), and a function `step` that hands
# the gradient on to them. It is the engine of chapter 1 with arrays for numbers and vjps for local derivatives.


# %%
class Naive:
    def __init__(self, data, parents=()):
        self.data, self.grad, self.parents = np.asarray(data, dtype=float), None, parents
        self.step = lambda: None

    def receive(self, g):
        if self.grad is None:
            self.grad = g
        else:
            self.grad += g

    def __add__(self, other):
        out = Naive(self.data + other.data, (self, other))

        def step():
            self.receive(out.grad)
            other.receive(out.grad)

        out.step = step
        return out

    def __mul__(self, other):
        out = Naive(self.data * other.data, (self, other))

        def step():
            self.receive(out.grad * other.data)
            other.receive(out.grad * self.data)

        out.step = step
        return out


# %%
def in_order(node, order=None, seen=None):
    order, seen = ([], set()) if order is None else (order, seen)
    if node not in seen:
        seen.add(node)
        for parent in node.parents:
            in_order(parent, order, seen)
        order.append(node)  # after its parents
    return order


def backward(root):
    root.grad = np.ones_like(root.data)
    for node in reversed(in_order(root)):
        node.step()


# %% tags=["deterministic"]
x, w, b = Naive([1.0, 2.0]), Naive([3.0, 4.0]), Naive([5.0, 6.0])
backward(x * w + b)
print("x.grad", x.grad.tolist(), " expected: w =", w.data.tolist())
print("w.grad", w.grad.tolist(), " expected: x =", x.data.tolist())
print("b.grad", b.grad.tolist(), " expected: 1")

# %% [markdown]
# It works, it is short, and it can train a small network. Now to what it cannot do.

# %% [markdown]
# ## 2. Two gradients, one array
#
# Compute $L = (x + y) + x$. Its derivative by $x$ is 2, and by $y$ it is 1.

# %% tags=["deterministic"]
x, y = Naive([0.0, 0.0]), Naive([0.0, 0.0])
a = x + y
L = a + x
backward(L)
print("x.grad", x.grad.tolist())
print("y.grad", y.grad.tolist())

# %% [markdown]
# $y$ has got 2. Follow the arrays. The vjp of addition is $g \mapsto g$, for both parents: so `L.step` gives `a` and
# `x` *the same array*, the one that is `L.grad` as well. Then `a.step` adds its gradient to `x.grad` in place, by `+=`.
# This changes the array, and with it `a.grad`, which is about to be handed to `y`.

# %% tags=["deterministic"]
for name, node in (("L", L), ("a", a), ("y", y)):
    print(f"{name}.grad is x.grad:", node.grad is x.grad)

# %%
names = {name: f"{name}.grad" for name in ("L", "a", "x", "y")}
array = "one array in memory\n[1, 1], and after\nx.grad += a.grad\n[2, 2]"
graph_figure(names | {"array": array}, [(name, "array") for name in names], {"array": COLOURS[1]}, height=2.4)

# %% [markdown]
# The simple mend is to copy: `self.grad = g.copy()`. It is right, and it copies every array on the way back, though
# most of them are never added to. Never adding in place (`self.grad = self.grad + g`) is right too, as long as nobody
# else changes a `.grad` in place, and makes a new array for each contribution: a weight that is used a hundred times
# allocates a hundred arrays of its size.
#
# minilm asks for each array: *is it ours?* An array that the engine made itself (by an addition) is its own. One that a
# vjp returned is the engine's own only if nobody else holds it: it is not the cotangent handed on, no view, and not
# among the arrays that the vjp keeps. What has arrived at a node is a pair, the sum so far and whether it is ours:

# %%
source(tape._add)

# %% [markdown]
# A sum is made in place where one of the two arrays is ours, and in a new array (which then is ours) where neither is.
# What ends up in `.grad` of a leaf is copied if it is not ours. So nobody's array is ever changed:

# %% tags=["deterministic"]
x, y = Tensor([0.0, 0.0], requires_grad=True), Tensor([0.0, 0.0], requires_grad=True)
cotangent = np.array([1.0, 1.0], dtype="float32")
L = (x + y) + x
L.backward(cotangent, retain_graph=True)
print("x.grad", x.grad.tolist(), " y.grad", y.grad.tolist(), " the user's cotangent", cotangent.tolist())
print("memory shared:", np.shares_memory(x.grad.data, y.grad.data) or np.shares_memory(y.grad.data, cotangent))

# %% [markdown]
# Is it these lines that do it? Take them out, and see the failure come back:


# %% tags=["deterministic"]
def add_in_place(arrived, gradient, ours):
    if arrived is None:
        return gradient, True  # everything is believed to be ours
    total = arrived[0]
    total += gradient
    return total, True


x.grad = y.grad = None
with mock.patch.object(tape, "_add", add_in_place):
    L.backward(cotangent)
print("x.grad", x.grad.tolist(), " y.grad", y.grad.tolist(), " the user's cotangent", cotangent.tolist())

# %% [markdown]
# ## 3. A long chain
#
# A recurrent network that reads 2000 words makes a chain of several thousand operations. `in_order` calls itself for
# each.


# %% tags=["deterministic"]
def chain(x, n):
    y = x
    for _ in range(n):
        y = y + x
    return y


try:
    backward(chain(Naive([0.0]), 10_000))
except RecursionError as error:
    print(type(error).__name__)

x = Tensor([0.0], requires_grad=True)
chain(x, 10_000).backward()
print("minilm:", x.grad.tolist())

# %% [markdown]
# Raising Python's limit only moves the wall, or ends in a crash of the interpreter. What is needed is an order without
# recursion, and it lies at hand: **the order in which the operations were recorded.** An operation can only use what
# was computed before it. So give each node a number when it is made, and on the way back take the highest number that
# is waiting. Every consumer of a node has a higher number than the node, so when a node is taken, all of its gradient
# has arrived. What is waiting lies in a *heap*, a list that gives its smallest entry quickly (hence the minus sign in
# the source below).

# %% tags=["deterministic"]
x, w = Tensor(0.5, requires_grad=True), Tensor(2.0, requires_grad=True)
p = x * w
q = F.tanh(p)
r = p + q
L = r * q
made = [("p = x·w", p), ("q = tanh p", q), ("r = p + q", r), ("L = r·q", L)]
first = p._node.number
numbers = {name: t._node.number - first + 1 for name, t in made}  # the clock counts on since the start of Python
print("recorded:", numbers)
print("way back:", sorted(numbers, key=lambda name: -numbers[name]))

# %%
text = {name: f"{name}\nnumber {number}" for name, number in numbers.items()}
text = {"x": "x (leaf)", "w": "w (leaf)"} | text
steps = [("x", "p = x·w"), ("w", "p = x·w"), ("p = x·w", "q = tanh p"), ("p = x·w", "r = p + q"),
         ("q = tanh p", "r = p + q"), ("r = p + q", "L = r·q"), ("q = tanh p", "L = r·q")]  # fmt: skip
graph_figure(text, steps, dict.fromkeys(numbers, COLOURS[0]), height=2.2)

# %% [markdown]
# $p$ is used by $q$ (number 2) and by $r$ (number 3). From $L$ its turn would come early by way of $r$; its number
# makes it wait for $q$. The whole loop:

# %%
source(tape.backpropagate)

# %% [markdown]
# How to read it: `pending` holds what has arrived and waits; `sums_at` puts a node on the heap when the first gradient
# arrives at it. The `while` loop takes the node with the highest number, calls its vjps (`_vjps`), brings each gradient
# to the shape of its input (`_fitted`: chapter 2's undone broadcast), finds out whose array it is (section 2), and adds
# it to what waits at the input. When the heap is empty, only leaves are left in `pending`. Two lines are still to be
# explained: `_check_versions` (section 6) and `node.free()` (section 5).

# %% [markdown]
# ## 4. Sixty residuals
#
# Some engines have no order at all: each node pushes what it gets on to its parents, at once. That is the sum over
# paths, taken literally, and it gives right gradients.


# %%
class Pushing:
    def __init__(self, data, inputs=()):
        self.data, self.inputs, self.grad = data, inputs, 0.0  # inputs: pairs (node, vjp)

    def __add__(self, other):
        return Pushing(self.data + other.data, [(self, lambda g: g), (other, lambda g: g)])

    def tanh(self):
        y = np.tanh(self.data)
        return Pushing(y, [(self, lambda g: g * (1 - y * y))])

    def push(self, g=1.0):
        self.grad += g
        return 1 + sum(node.push(vjp(g)) for node, vjp in self.inputs)  # how many visits that took


# %% [markdown]
# A **residual connection** adds a layer's input to its output, $y \leftarrow y + f(y)$. A Transformer (chapter 8) has
# two of them in each of its blocks, and this one change made deep networks trainable. Each doubles the number of paths:
# through $f$, and past it. Count the visits of `push`, and how often minilm computes the gradient of the tanh:


# %%
def residuals(x, depth):
    y = x
    for _ in range(depth):
        y = y + y.tanh()
    return y


def visits_of_minilm(depth):
    calls = []

    def counting(compute, g):  # for minilm.testing.planted: called in place of the vjp of tanh
        calls.append(1)
        return compute(g)

    with planted("tanh", counting):
        residuals(Tensor(0.1, requires_grad=True), depth).backward()
    return len(calls)


depths = [1, 2, 4, 6, 8, 10, 12, 14]
pushed = [residuals(Pushing(0.1), depth).push() for depth in depths]
walked = [visits_of_minilm(depth) for depth in [*depths, 30, 60]]

# %%
figure = new_figure()
figure.set_size_inches(7, 3.2)
axes = figure.add_subplot()
axes.plot(depths, pushed, color=COLOURS[1], marker="s", label="push: a visit for each path")
axes.plot([14, 60], [pushed[-1], pushed[-1] * 2.0**46], color=COLOURS[1], linestyle=":", label="push, extrapolated")
axes.plot([*depths, 30, 60], walked, color=COLOURS[0], marker="o", label="minilm: a visit for each tanh")
axes.set_yscale("log")
axes.set(xlabel="residual connections in a row", ylabel="visits")
axes.legend(frameon=False, fontsize=9)
figure

# %% tags=["deterministic"]
print("visits of push:  ", dict(zip(depths, pushed, strict=True)))
print("tanh's in minilm:", dict(zip([*depths, 30, 60], walked, strict=True)))
years = pushed[-1] * 2.0**46 / 1e6 / (365.25 * 24 * 3600)
print(f"push at depth 60, a million visits a second: about {years:,.0f} years")

# %% [markdown]
# With each residual connection the visits double, and a little more. The right gradient after a hundred thousand years
# is a wrong answer too. The heap of section 3 is the mend: each node is visited once, when everything has arrived.
# (Marking nodes as "seen" without an order is no mend: it is fast and gives the wrong number of chapter 1.)

# %% [markdown]
# ## 5. Memory that only the collector frees
#
# Python frees an object as soon as nobody refers to it. In `Naive.__add__` the function `step` refers to `out` (it
# reads `out.grad`), and `out` refers to `step`. They hold each other: a **cycle**. When nobody else needs them any
# more, they stay, with all arrays of the graph, until Python's garbage collector looks for such cycles. It looks when
# many *objects* were made, and knows nothing of their size.


# %% tags=["deterministic"]
def is_freed_at_once(make):
    gc.collect()
    gc.disable()  # only for the test: what is freed now is freed without the collector
    try:
        result = make()
        alive = weakref.ref(result)  # a reference that does not keep it alive
        del result
        return alive() is None
    finally:
        gc.enable()


x = Naive([1.0, 2.0])
t = Tensor([1.0, 2.0], requires_grad=True)
print("the first engine:", is_freed_at_once(lambda: x * x + x))
print("minilm:          ", is_freed_at_once(lambda: t * t + t))

# %% [markdown]
# In a training loop the difference looks so. Each step makes ten arrays of a megabyte and forgets them:


# %%
def memory_of_steps(make, steps=60):
    """Megabytes in use after each step of a loop that keeps nothing."""
    gc.collect()
    tracemalloc.start()
    used = []
    for _ in range(steps):
        y = start = make()
        for _ in range(10):
            y = y + start
        del y, start
        used.append(tracemalloc.get_traced_memory()[0] / 1e6)
    tracemalloc.stop()
    return used


ones = np.ones(125_000)  # a megabyte
figure = new_figure()
figure.set_size_inches(7, 3)
axes = figure.add_subplot()
axes.plot(memory_of_steps(lambda: Naive(ones)), color=COLOURS[1], label="the first engine")
axes.plot(memory_of_steps(lambda: Tensor(ones, requires_grad=True)), color=COLOURS[0], label="minilm")
axes.set(xlabel="step of the loop", ylabel="memory in use (MB)", ylim=(-5, None))
axes.legend(frameon=False, fontsize=9)
figure

# %% [markdown]
# (What is left after each step. Within a step the first engine holds all ten arrays, minilm fewer: the way back of a
# sum needs none of its inputs, so they are freed at once.) The saw teeth are the collector's
# visits. In a real network the arrays of the way forward, its *activations*, are a hundred times larger, and the peak
# is what decides whether a model fits. In minilm there is no cycle, by two rules:
#
# - A node points to what it was computed from, never the other way. A `Tensor` knows the node that made it; the node
#   does not know the Tensor that holds its output. (Where it must, for `retain_grad`, it has a weak reference.)
# - A vjp closes over *arrays*, never over Tensors. It gets its cotangent as an argument, so it need not know `out`.

# %%
source(F.tanh, tape.Node.retain)

# %% [markdown]
# And since `backward` frees each node as it leaves it, the memory of the forward pass goes while the way back is still
# under way. The price is that a second `backward` through the same graph is refused, with the way out:

# %% tags=["deterministic"]
y = (t * t).sum()
y.backward()
try:
    y.backward()
except RuntimeError as error:
    print(error)

# %% [markdown]
# ## 6. Changed behind the engine's back
#
# The vjp of $y = x \cdot x$ needs $x$, as it was. Change $x$ in place between the way forward and the way back:

# %% tags=["deterministic"]
x = Naive([3.0])
y = x * x
x.data += 1.0  # for example an optimizer's step
backward(y)
print("dy/dx at 3 should be 6.0, and is", x.grad.item())

# %% [markdown]
# 8 is the derivative at 4, where no loss was ever computed, and nothing says so. Copying $x$ whenever a vjp needs it
# would cost the memory of every network twice. minilm notes changes instead. There is **one clock**, which numbers
# everything that happens: operations that are recorded, and changes in place. An array is out of date for a node if its
# last change has a higher number than the node.

# %%
source(changes.Changes, tape._check_versions)

# %% tags=["deterministic"]
x = Tensor([3.0], requires_grad=True)
y = x * x
with no_grad():  # what happens in here is not recorded as an operation
    x.add_(1.0)
try:
    y.backward()
except RuntimeError as error:
    print(error)

# %%
figure = new_figure()
figure.set_size_inches(7, 1.7)
axes = figure.add_subplot()
axes.axhline(0, color="#888888", linewidth=1)
recorded, changed = COLOURS[0], COLOURS[1]
events = [("w += 1\n(change)", changed), ("y = x · w\n(recorded)", recorded), ("z = tanh y\n(recorded)", recorded),
          ("x += 1\n(change)", changed), ("z.backward()", "#555555")]  # fmt: skip
for when, (what, colour) in enumerate(events, 1):
    axes.plot(when, 0, "o", color=colour, markersize=8)
    axes.annotate(what, (when, 0), xytext=(0, 12), textcoords="offset points", ha="center", fontsize=9, color=colour)
axes.set(xlabel="clock", xticks=range(1, 6), yticks=[], xlim=(0.4, 5.6), ylim=(-0.5, 1.6))
axes.spines[["top", "right", "left"]].set_visible(False)
figure

# %% [markdown]
# In the picture the node of $y$ has the number 2. The last change of $w$ has the number 1: before the node, so the node
# has seen it, and all is well. The last change of $x$ has the number 4: after the node, so `backward` refuses at $y$.
#
# Which array belongs to which change is known by the memory, not by the Tensor: a change through a view, or through
# `x.detach()` (the same memory, without the node), is a change of all that share the memory. And where nothing was
# changed since the node was made (the usual case: one comparison of two numbers), nothing is looked up.
#
# **The one hole.** Writing into the array by hand, `x.data[...] = 1`, is invisible: Python cannot tell the engine. It
# is documented, and `mark_changed()` closes it for those who have to:

# %% tags=["deterministic"]
x = Tensor([3.0], requires_grad=True)
y = x * x
x.data[...] = 4.0
y.backward(retain_graph=True)
print("not seen: dy/dx =", x.grad.item())
with no_grad():
    x.mark_changed()
try:
    y.backward()
except RuntimeError as error:
    print("seen:", str(error)[:60], "...")

# %% [markdown]
# ## 7. The five in a table
#
# | the first engine | what happens | in minilm | the test |
# |---|---|---|---|
# | hands the same array to two, adds in place | wrong gradients, without a word | `_add`: in place only in what is ours | `test_no_gradient_array_is_shared_with_another_or_with_the_user` |
# | recursion | `RecursionError` | numbers and a heap | `test_a_chain_of_10_000_operations_works` |
# | a visit for each path | exponential time | each node once, when complete | `test_60_chained_residuals_take_linear_time` |
# | cycles | memory in saw teeth | nodes point backwards only, vjps hold arrays | `test_the_graph_is_freed_without_the_garbage_collector` |
# | believes that nothing changes | wrong gradients, without a word | one clock | `test_a_change_of_an_input_that_a_vjp_needs_is_detected` |
#
# A test that cannot fail proves nothing. Therefore another file takes each mechanism out of the engine, as we did in
# section 2, and demands that a test turns red:
# [tests/tensor/test_planted_engine_bugs.py](../tests/tensor/test_planted_engine_bugs.py).

# %% [markdown]
# ## Exercises
#
# **Exercise 3.1.** Add up what arrives: `accumulate(total, g)` gets the sum so far (or `None` at the first arrival) and
# a new gradient, and returns the new sum. `g` belongs to somebody else: it must neither be changed nor become the sum.
# `total` was returned by an earlier call, so you may add to it in place.


# %%
def accumulate(total, g):
    return ...


# check_accumulate(accumulate)

# %% [markdown]
# **Exercise 3.2.** The loop itself, on the smallest possible nodes:

# %%
source(Step)

# %% [markdown]
# Write `way_back(root, g)`, which returns a dict from each *leaf* (a step without inputs) to its gradient. No
# recursion, each step once, and nobody's array changed. (`import heapq`, or take
# `max(waiting, key=lambda step: step.number)`.)


# %%
def way_back(root, g):
    return ...


# check_way_back(way_back)


# %% [markdown]
# **Exercise 3.3.** Which of these four make a cycle, so that the result is not freed at once? Answer `True` or `False`
# for each.


# %%
class Node:
    pass


def first(x):
    out = Node()
    out.vjp = lambda g: g * x.data
    return out


def second(x):
    out = Node()
    out.data = x.data * 2
    out.vjp = lambda g: g * out.data
    return out


def third(x):
    out = Node()
    data = out.data = x.data * 2
    out.vjp = lambda g: g * data
    return out


def fourth(x):
    out = Node()
    out.parent = x
    x.children = [out]
    return out


makes_a_cycle = {"first": ..., "second": ..., "third": ..., "fourth": ...}

# check_cycles(makes_a_cycle)

# %% [markdown]
# **Exercise 3.4.** A box holds an array and counts its changes:

# %%
source(Box)

# %% [markdown]
# Write `multiply(a, b)` for two boxes. It returns the product, an array, and a vjp that takes `g` to the pair
# `(da, db)`, and that raises `RuntimeError` if one of the boxes was changed since.


# %%
def multiply(a, b):
    return ...


# check_guarded(multiply)

# %% [markdown]
# ## Solutions


# %% tags=["solution"]
def accumulate(total, g):
    if total is None:
        return g.copy()
    total += g
    return total


check_accumulate(accumulate)


# %% tags=["solution"]
def way_back(root, g):
    arrived, leaves = {root: g}, {}
    while arrived:
        step = max(arrived, key=lambda step: step.number)  # a heap finds it faster
        g = arrived.pop(step)
        if not step.inputs:
            leaves[step] = g
        for source, vjp in step.inputs:
            gradient = vjp(g)
            arrived[source] = gradient if source not in arrived else arrived[source] + gradient  # a new array
    return leaves


check_way_back(way_back)

# %% tags=["solution"]
# first: the vjp holds x, and x does not know out.      second: out -> vjp -> out.
# third: the vjp holds the array, not out.              fourth: out -> x -> children -> out.
makes_a_cycle = {"first": False, "second": True, "third": False, "fourth": True}

check_cycles(makes_a_cycle)


# %% tags=["solution"]
def multiply(a, b):
    versions = a.version, b.version

    def vjp(g):
        if (a.version, b.version) != versions:
            raise RuntimeError("multiply: an input was changed in place between forward and backward")
        return g * b.data, g * a.data

    return a.data * b.data, vjp


check_guarded(multiply)

# %% [markdown]
# ## What to read next
#
# - [minilm/tensor/tape.py](../minilm/tensor/tape.py): all of it now makes sense, `_held` and `_shared` included: they
#   find out what a vjp keeps.
# - [minilm/tensor/changes.py](../minilm/tensor/changes.py): the clock, 45 lines.
# - [tests/tensor/test_contract.py](../tests/tensor/test_contract.py): the promises;
#   [test_cost.py](../tests/tensor/test_cost.py): what they may cost.
# - [Chapter 4](04_how_do_we_know.ipynb): how to find a wrong gradient that nobody has thought of.

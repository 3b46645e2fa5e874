# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · How do we know?
#
# A wrong gradient raises no error. The loss falls a little slower than it could, or stops a little higher, and nobody
# knows how it should have been. So correctness has to be shown by other means than "it trains". This chapter builds
# those means, finds out what each can and cannot see, and then turns them on themselves: a checker that has never
# rejected anything proves nothing.
#
# **What you will be able to do**
#
# - choose the step of a finite difference, and know how many digits to expect from it;
# - check the gradient of any function, and say why it must not be the gradient of `sum()`;
# - check a gradient of a million elements with two evaluations, by the dual test;
# - let a program search for the input that breaks yours;
# - plant a bug, and find it.
#
# **What it needs**: vjps and cotangents ([chapter 2](02_tensors.ipynb)); section 6 uses the engine bugs of
# [chapter 3](03_breaking_the_engine.ipynb).

# %%
import tempfile
from unittest import mock

import numpy as np

import minilm.functional as F
from checks import source
from checks.chapter_04 import check_central, check_dual, check_find, check_sneaky
from minilm import Tensor, no_grad
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.random import Generator
from minilm.tensor import tape
from minilm.testing import (
    CORRUPTIONS,
    GradientError,
    check_operations,
    dual_test,
    gradcheck,
    planted,
    random_graph,
)

# %% [markdown]
# ## 1. How small a step?
#
# Chapter 1 nudged an input by $h$ and divided. How good is that? Expand $f$ around $x$ (Taylor):
#
# $$f(x \pm h) = f(x) \pm h f'(x) + \frac{h^2}{2} f''(x) \pm \frac{h^3}{6} f'''(x) + \dots$$
#
# The **forward difference** uses $f(x + h)$ and $f(x)$. In the **central difference** the terms with $h^2$ cancel:
#
# $$\frac{f(x+h) - f(x)}{h} = f'(x) + \frac{h}{2} f''(x) + \dots, \qquad
#   \frac{f(x+h) - f(x-h)}{2h} = f'(x) + \frac{h^2}{6} f'''(x) + \dots$$
#
# So the *truncation error* of the central difference falls with the square of $h$. That asks for a small $h$. But a
# computer stores $f$ with a relative error of about $\varepsilon$ ($10^{-16}$ in float64, $6 \cdot 10^{-8}$ in
# float32), and the difference of two numbers that are nearly equal keeps that error, while the numbers cancel. Divided
# by $2h$, it is a *rounding error* of about $\varepsilon |f| / h$. That asks for a large $h$. The sum of the two
#
# $$E(h) \approx \frac{h^2}{6} |f'''| + \frac{\varepsilon |f|}{h}$$
#
# is smallest where its derivative vanishes: $\frac{h}{3}|f'''| = \varepsilon |f| / h^2$, that is $h = (3 \varepsilon
# |f| / |f'''|)^{1/3}$. For a function of order one this is $h \approx 7 \cdot 10^{-6}$ in float64, with an error of
# some $10^{-11}$. In float32 it is $h \approx 6 \cdot 10^{-3}$, with an error of some $10^{-5}$. Look:

# %%
steps = 10.0 ** np.arange(-15, 0.1, 0.25)


def errors(dtype, central):
    x, exact = dtype(1.0), np.exp(1.0)  # f = exp: f' = f'' = f''' = f
    found = []
    for h in steps.astype(dtype):
        upper, lower = x + h, x - h if central else x
        slope = (np.exp(upper) - np.exp(lower)) / (upper - lower) if upper != lower else np.inf
        found.append(abs(float(slope) - exact) / exact)
    return np.array(found)


figure = new_figure()
axes = figure.add_subplot()
for dtype, colour in ((np.float64, COLOURS[0]), (np.float32, COLOURS[1])):
    for central, line in ((True, "-"), (False, ":")):
        label = f"{dtype.__name__}, {'central' if central else 'forward'}"
        axes.plot(steps, errors(dtype, central), line, color=colour, label=label)
axes.plot(steps, steps**2 / 6, color=GREY, linewidth=0.8)
axes.annotate("truncation h²/6", (1e-4, 1e-9), fontsize=9, color=GREY, ha="left", va="top", xytext=(3e-4, 6e-9))
axes.plot(steps, 1e-16 / steps, color=GREY, linewidth=0.8, linestyle="--")
axes.annotate("rounding ε/h", (1e-9, 1e-8), fontsize=9, color=GREY, xytext=(4e-10, 2e-6))
axes.set(xscale="log", yscale="log", xlabel="step h", ylabel="relative error of the derivative", ylim=(1e-13, 10))
axes.legend(frameon=False, fontsize=9, loc="lower left")
figure

# %% tags=["deterministic"]
for dtype, bound in ((np.float64, 1e-9), (np.float32, 1e-3)):
    epsilon = np.finfo(dtype).eps / 2  # the largest relative error of a rounded number
    best = (3 * epsilon) ** (1 / 3)
    near = errors(dtype, central=True)[np.abs(np.log10(steps / best)) < 0.5]
    small = bool((near < bound).all())
    print(f"{dtype.__name__}: best step near {best:.0e}; errors around it below {bound:.0e}: {small}")

# %% [markdown]
# To the right of the best step all curves follow their truncation error, with slope 2 (central) or 1 (forward); to the
# left rounding takes over, and the derivative dissolves into noise.
#
# The steps around $10^{-6}$ are good for functions of order one; minilm takes $10^{-6}$. Three rules follow, and
# `minilm.testing` keeps them. *Central*, never forward. *In float64*: with the five digits that float32 leaves, a
# gradient that is wrong by one part in a hundred thousand would pass. And *divide by the step that was taken*,
# `upper - lower`, since $x + h$ is itself rounded. The checker refuses float32 inputs outright.

# %% [markdown]
# ## 2. A gradient checker
#
# For a function from arrays to arrays, the Jacobian $J$ has many elements, and `backward` computes $J^\top v$ for one
# cotangent $v$. So choose a $v$ and compare, element by element of $x$,
#
# $$(J^\top v)_i \quad\text{with}\quad \frac{\langle v,\ f(x + h e_i) - f(x - h e_i) \rangle}{2h}$$
#
# where $e_i$ is 1 at place $i$ and 0 elsewhere, and $\langle a, b \rangle = \sum_k a_k b_k$.


# %%
def my_gradcheck(f, x, v, h=1e-6):
    """The largest difference between backward and nudging, over all elements of x."""
    leaf = Tensor(x, requires_grad=True)
    f(leaf).backward(v)
    worst = 0.0
    for index in np.ndindex(x.shape):
        values = []
        for sign in (1, -1):
            nudged = x.copy()
            nudged[index] += sign * h
            with no_grad():
                values.append(f(Tensor(nudged)).numpy())
        numeric = (v * (values[0] - values[1])).sum() / (2 * h)
        worst = max(worst, abs(leaf.grad.numpy()[index] - numeric))
    return worst


# %% tags=["deterministic"]
rng = np.random.default_rng(0)
x, v = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
print("softmax, as it is:     difference below 1e-8:", my_gradcheck(F.softmax, x, v) < 1e-8)
with planted("softmax", "scaled"):  # within the block its vjp is one percent too large
    print("softmax, 1 % too large: difference", f"{my_gradcheck(F.softmax, x, v):.0e}")

# %% [markdown]
# `minilm.testing.gradcheck` is this function with what experience added: several inputs and outputs, a tolerance that
# grows with the size of the numbers, a check that the function is deterministic and changes nothing in place, and an
# error that names the element and the *ratio* of the two numbers. A ratio of 2 suggests that a term is counted twice,
# of $-1$ a sign, of 0 that a term is left out.

# %% tags=["deterministic"]
leaf = Tensor(x, requires_grad=True)
print("gradcheck:", gradcheck(F.softmax, [leaf]))
with planted("softmax", "negated"):
    try:
        gradcheck(F.softmax, [leaf])
    except GradientError as error:
        print("gradcheck: input", error.input, "index", error.index, f"ratio {error.ratio:.1f}")

# %% [markdown]
# ## 3. Why not `sum()`?
#
# `backward` wants a number, so the obvious check is `f(x).sum()`. That is the cotangent $v = (1, \dots, 1)$, the worst
# choice there is. Take softmax along a row, $y_i = e^{x_i} / \sum_j e^{x_j}$. Its derivative, by the quotient rule:
#
# $$\frac{\partial y_i}{\partial x_j} = \frac{e^{x_i} \delta_{ij}\, Z - e^{x_i} e^{x_j}}{Z^2}
#   = y_i (\delta_{ij} - y_j), \qquad\text{where } Z = \sum_k e^{x_k} .$$
#
# (Only if $i = j$ does the numerator depend on $x_j$: hence Kronecker's delta, 1 for $i = j$ and else 0.) The vjp:
#
# $$dx_j = \sum_i v_i\, y_i (\delta_{ij} - y_j) = y_j \Big( v_j - \sum_i v_i y_i \Big) .$$
#
# For $v = (1, \dots, 1)$ the bracket is $1 - \sum_i y_i = 0$. Of course: the outputs always sum to 1, so their sum does
# not depend on $x$. *Every* gradient that vanishes there passes, zero among them. The same holds for *layer norm*,
# which shifts and scales each row to mean 0 and variance 1 (chapter 8 uses it): its rows sum to 0. The Jacobian of
# softmax shows it: each of its columns sums to zero.

# %%
row = np.array([1.0, 0.0, -1.0, 0.5])
y = np.exp(row) / np.exp(row).sum()
J = np.diag(y) - np.outer(y, y)
figure = new_figure()
figure.set_size_inches(7, 2.8)
left, right = figure.subplots(1, 2)
image = left.imshow(J, cmap="RdBu_r", vmin=-0.25, vmax=0.25)
for i, j in np.ndindex(4, 4):
    colour = "white" if J[i, j] > 0.15 else "black"
    left.text(j, i, f"{J[i, j]:.3f}", ha="center", va="center", fontsize=8, color=colour)
left.set(title="Jacobian of softmax", xlabel="input j", ylabel="output i", xticks=range(4), yticks=range(4))
right.bar(np.arange(4) - 0.2, J.sum(axis=0), width=0.4, color=COLOURS[1], label="v = ones, from sum()")
right.bar(np.arange(4) + 0.2, J.T @ np.array([0.3, -1.2, 0.8, 1.5]), width=0.4, color=COLOURS[0], label="a random v")
right.axhline(0, color="black", linewidth=0.8)
right.set(title="gradient Jᵀ v", xlabel="input j", xticks=range(4))
right.legend(frameon=False, fontsize=8)
figure

# %% [markdown]
# What else does `sum()` let pass? `minilm.testing.CORRUPTIONS` is a list of mistakes that people make. Plant each in
# four operations, and check once with $v$ all ones, once with a random $v$.


# %%
def caught(f, x, v, operation, corruption):
    with planted(operation, corruption):
        return my_gradcheck(f, x, v) > 1e-6


weight = Tensor(rng.normal(size=(4, 4)))
subjects = {"tanh": F.tanh, "matmul": lambda x: x @ weight, "softmax": F.softmax,
            "layer_norm": lambda x: F.layer_norm(x, 4)}  # fmt: skip
cotangents = {"sum()": np.ones((3, 4)), "random v": v}
table = [
    [caught(f, x, cotangent, name, corruption) for name, f in subjects.items() for cotangent in cotangents.values()]
    for corruption in CORRUPTIONS
]

# %%
figure = new_figure()
figure.set_size_inches(7, 3.1)
axes = figure.add_subplot()
axes.imshow(np.where(table, 0.25, 0.9), cmap="RdBu", vmin=0, vmax=1.1, aspect="auto", alpha=0.6)
for i, j in np.ndindex(len(table), len(table[0])):
    axes.text(j, i, "caught" if table[i][j] else "passes", ha="center", va="center", fontsize=8)
labels = [f"{name}\n{kind}" for name in subjects for kind in cotangents]
axes.set_xticks(range(len(labels)), labels, fontsize=7.5)
axes.set_yticks(range(len(CORRUPTIONS)), list(CORRUPTIONS), fontsize=8)
axes.set_ylabel("mistake in the vjp")
axes.tick_params(length=0)
figure

# %% tags=["deterministic"]
by_sum = sum(row[j] for row in table for j in (0, 2, 4, 6))
by_random = sum(row[j] for row in table for j in (1, 3, 5, 7))
print(f"caught with sum(): {by_sum} of {4 * len(table)};  with a random v: {by_random} of {4 * len(table)}")

# %% [markdown]
# "Cotangent forgotten" passes under `sum()` everywhere: who forgets to multiply by $g$ multiplies by 1. A random $v$
# leaves nowhere to hide. If the vjp applies a wrong matrix $\tilde J^\top$, it passes only if
# $(\tilde J - J)^\top v = 0$ within the tolerance, and for a random $v$ that has probability zero unless $\tilde J = J$
# at this $x$.

# %% [markdown]
# ## 4. The dual test: one number against one number
#
# Nudging every element costs two evaluations for each. For the weights of a real layer that is hopeless. But there is
# an identity that holds for *every* matrix $J$ and all vectors $u$, $v$:
#
# $$\langle v,\ J u \rangle = \sum_{k,i} v_k J_{ki} u_i = \langle J^\top v,\ u \rangle .$$
#
# On the right stands what `backward` computes, once. On the left stands $J u$, the derivative of $f$ along the
# direction $u$, which a single central difference gives:
#
# $$J u \approx \frac{f(x + h u) - f(x - h u)}{2h} .$$
#
# Two evaluations, whatever the size of $x$.


# %%
def my_dual_test(f, x, v, u, h=1e-6):
    """<v, Ju> by a difference, <Jᵀv, u> by backward."""
    leaf = Tensor(x, requires_grad=True)
    f(leaf).backward(v)
    with no_grad():
        Ju = (f(Tensor(x + h * u)).numpy() - f(Tensor(x - h * u)).numpy()) / (2 * h)
    return (v * Ju).sum(), (leaf.grad.numpy() * u).sum()


# %% tags=["deterministic"]
x, v, u = (rng.normal(size=(200, 300)) for _ in range(3))
numeric, analytic = my_dual_test(F.softmax, x, v, u)
print(f"60,000 elements: <v, Ju> = {numeric:.4f}, <Jᵀv, u> = {analytic:.4f}")
with planted("softmax", "scaled"):
    numeric, analytic = my_dual_test(F.softmax, x, v, u)
print(f"planted, 1 %:    <v, Ju> = {numeric:.4f}, <Jᵀv, u> = {analytic:.4f}")

# %% [markdown]
# What is the price? It says *that* something is wrong, not where. And it is less sharp. If the gradient is off by an
# array $e$, the test sees the single number $\langle e, u \rangle$, against sums that grow with the number of elements
# $n$. An error in every element (a factor, a sign) shows at any size. An error in one element of $n$ is one term among
# $n$. For random terms of order one the sums are measured by the norm of their terms, $\sqrt{n}$, so it fades as
# $1/\sqrt{n}$. Measure it on a tanh:


# %%
def discrepancy(n, corruption=None):
    """|<v, Ju> - <Jᵀv, u>| over the norm of the terms, the median of nine draws."""
    found = []
    for draw in range(9):
        x, v, u = np.random.default_rng(draw).normal(size=(3, n))
        if corruption is None:
            numeric, analytic = my_dual_test(F.tanh, x, v, u)
        else:
            with planted("tanh", corruption):
                numeric, analytic = my_dual_test(F.tanh, x, v, u)
        found.append(abs(numeric - analytic) / np.linalg.norm(v * (1 - np.tanh(x) ** 2) * u))
    return np.median(found)


sizes = [10, 100, 1000, 10_000, 100_000]
figure = new_figure()
figure.set_size_inches(7, 3.4)
axes = figure.add_subplot()
cases = [("one left out", "the largest element left out", COLOURS[1], "s"),
         ("scaled", "every element 1 % too large", COLOURS[0], "o"), (None, "right", COLOURS[2], "^")]  # fmt: skip
for corruption, label, colour, marker in cases:
    axes.plot(sizes, [discrepancy(n, corruption) for n in sizes], color=colour, marker=marker, label=label)
axes.axhline(1e-5, color=GREY, linestyle="--", linewidth=1)
axes.text(1e5, 1.4e-5, "tolerance of dual_test", ha="right", fontsize=9, color=GREY)
axes.set(xscale="log", yscale="log", xlabel="elements of x", ylabel="relative discrepancy")
axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(0, 0.42))
figure

# %% [markdown]
# Both bugs stand far above the tolerance, and the right gradient far below. The plain rule: `gradcheck` on small inputs
# for each operation, `dual_test` on whole models and graphs.

# %% [markdown]
# ## 5. What they cannot see
#
# **Kinks.** $\mathrm{relu}(x) = \max(x, 0)$ has no derivative at 0. The central difference across the kink gives
# $\frac12$, backward gives 0 (a convention, PyTorch's), and neither is wrong. A checker must keep away from kinks by
# more than $h$:

# %% tags=["deterministic"]
for at in (0.5, 0.0):
    leaf = Tensor([at], requires_grad=True, dtype="float64")
    F.relu(leaf).backward(np.array([1.0]))
    numeric = (max(at + 1e-6, 0) - max(at - 1e-6, 0)) / 2e-6
    print(f"relu at {at}: backward {leaf.grad.item():.1f}, central difference {numeric:.1f}", end=", ")
    try:
        print("gradcheck passes:", gradcheck(F.relu, [leaf]))
    except GradientError:
        print("gradcheck refuses")

# %% [markdown]
# **Inputs that nobody tried.** Here is the rule of chapter 2 that undoes a broadcast, with a mistake: it sums over the
# axes that were put in front, and forgets those of length 1.


# %%
def undo_broadcast(g, shape):
    return g.sum(axis=tuple(range(g.ndim - len(shape))))


# %% tags=["deterministic"]
def is_right(input_shape, result_shape):
    """Is the gradient's shape the input's?"""
    return undo_broadcast(np.ones(result_shape), input_shape).shape == input_shape


print([is_right((3,), (2, 3)), is_right((), (2, 3)), is_right((2, 3), (2, 3)), is_right((4,), (5, 3, 4))])

# %% [markdown]
# Four examples, all right; one would commit this. **Property-based testing** turns it round: state what must hold for
# *every* input, and let a program draw inputs until one breaks it. The library
# [hypothesis](https://hypothesis.readthedocs.io) then *shrinks* what it found to the smallest input that still fails.

# %%
from hypothesis import configuration, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

configuration.set_hypothesis_home_dir(tempfile.mkdtemp())


@st.composite
def broadcasts(draw):
    """The shape of an input, and of a result that it broadcasts to."""
    result = draw(array_shapes(min_dims=1, max_dims=3, max_side=4))
    axes = draw(st.integers(0, len(result)))  # so many of the result's axes, from the right
    return tuple(1 if draw(st.booleans()) else n for n in result[len(result) - axes :]), result


@settings(database=None, derandomize=True, deadline=None, print_blob=False, report_multiple_bugs=False)
@given(broadcasts())
def the_gradient_has_the_shape_of_the_input(shapes):
    shape, result = shapes
    got = undo_broadcast(np.ones(result), shape).shape
    assert got == shape, f"an input of shape {shape} in a result of shape {result} gets a gradient of shape {got}"


try:
    the_gradient_has_the_shape_of_the_input()
except AssertionError as error:
    print("found, and shrunk:", str(error).splitlines()[0])

# %% [markdown]
# A single axis of length 1, stretched to 2: there is no smaller example. minilm's tests draw shapes, broadcasts, axes,
# repeated indices and *memory layouts* (transposed, reversed, every second element) in this way:
# [tests/properties/strategies.py](../tests/properties/strategies.py).

# %% [markdown]
# ## 6. Right operations, wrong graph
#
# Suppose that every operation has passed. Is the engine right? Put the mistake of chapter 1 into it: nodes are visited
# in the order in which they are first reached, instead of when their gradient is complete.


# %% tags=["deterministic"]
class FirstArrival:
    """A queue in place of the heap."""

    heappush = staticmethod(lambda queue, entry: queue.append(entry))
    heappop = staticmethod(lambda queue: queue.pop(0))


names = ["add", "subtract", "multiply", "tanh", "matmul", "mean", "sum", "softmax", "layer_norm", "getitem"]


def fails(graph):
    try:
        return not dual_test(*graph)
    except (GradientError, RuntimeError):
        return True


graphs = [random_graph(Generator(seed), n_operations=30) for seed in range(20)]
for engine in ("as it is", "first arrival"):
    with mock.patch.object(tape, "heapq", FirstArrival if engine == "first arrival" else tape.heapq):
        wrong = [result.operation for result in check_operations(names) if not result.ok]
        print(f"{engine:14} operations rejected: {len(wrong)} of {len(names)},", end=" ")
        print(f"random graphs rejected: {sum(map(fails, graphs))} of {len(graphs)}")

# %% [markdown]
# Every operation passes in the broken engine, since a single operation leaves nothing to wait for. It takes *graphs*:
# tensors that are used twice, branches that end unused, outputs that nobody reads. `random_graph` draws them from all
# registered operations, and the dual test judges each with two evaluations.

# %% [markdown]
# ## 7. Does it train? That is no test
#
# A small network with a hidden layer learns $\sin$ on 64 points. Train it as it is; with no gradient through the
# tanh at all; and with smaller bugs in two vjps at once:


# %%
def train(steps=300):
    rng = np.random.default_rng(0)
    x = np.linspace(-3, 3, 64).reshape(-1, 1)
    inputs, target = Tensor(x), Tensor(np.sin(x))
    parameters = [Tensor(rng.normal(size=shape) * scale, requires_grad=True)
                  for shape, scale in (((1, 32), 1.0), ((32,), 1.0), ((32, 1), 0.2), ((1,), 0.0))]  # fmt: skip
    losses = []
    for _ in range(steps):
        w1, b1, w2, b2 = parameters
        difference = F.tanh(inputs @ w1 + b1) @ w2 + b2 - target
        loss = (difference * difference).mean()
        loss.backward()
        for parameter in parameters:
            parameter.data -= 0.05 * parameter.grad.data
            parameter.grad = None
        losses.append(loss.item())
    return losses


curves = {"as it is": train()}
with planted("tanh", "zero"):
    curves["tanh: no gradient at all"] = train()
with planted("matmul", "scaled", input=1), planted("tanh", "one left out"):
    curves["matmul 1 % too large, tanh one element short"] = train()

# %%
figure = new_figure()
figure.set_size_inches(7, 3.2)
axes = figure.add_subplot()
for (name, losses), colour, line in zip(curves.items(), COLOURS, ("-", "-", "--"), strict=False):
    axes.plot(losses, line, color=colour, label=name)
axes.set(xlabel="step", ylabel="mean squared error", yscale="log")
axes.legend(frameon=False, fontsize=9)
figure

# %% [markdown]
# Who sees one of these curves alone notices nothing. Even with *no* gradient through the tanh at all (the first layer
# never learns) the loss falls, since the second layer makes the best of random features. The checker names the
# culprits:

# %% tags=["deterministic"]
used = ["matmul", "add", "tanh", "subtract", "multiply", "mean"]
with planted("matmul", "scaled", input=1), planted("tanh", "one left out"):
    for result in check_operations(used):
        print(f"{result.operation:10} {'ok' if result.ok else 'WRONG'}")

# %% [markdown]
# ## 8. Who checks the checker?
#
# `planted` is how minilm answers that question. A test takes every registered operation, each of its inputs, and each
# of the seven corruptions, plants them one at a time, and demands that `gradcheck` rejects each. Another plants bugs in
# the engine, a third in random graphs. If one day a change makes the checker blind, these tests turn red.

# %%
source(planted)

# %% [markdown]
# ## Exercises
#
# **Exercise 4.1.** The central difference of a function of one number.


# %%
def central(f, x, h):
    return ...


# check_central(central)

# %% [markdown]
# **Exercise 4.2.** The dual test without an engine: `f` takes an array to an array, `vjp(v)` claims to be $J^\top v$ at
# `x`. Return the two numbers $\langle v, Ju \rangle$ and $\langle J^\top v, u \rangle$ as a tuple.


# %%
def both_sides(f, vjp, x, v, u, h=1e-6):
    return ...


# check_dual(both_sides)

# %% [markdown]
# **Exercise 4.3.** Fool the check with `sum()`. `y` is the output of a softmax along the last axis, `g` a cotangent.
# Return something that is wrong, though right whenever `g` is all ones. It must not be zero everywhere.


# %%
def sneaky_vjp(y, g):
    return ...


# check_sneaky(sneaky_vjp)

# %% [markdown]
# **Exercise 4.4.** Find the bug. The checker plants one in an operation that it does not tell, and calls your function
# with the names of all suspects. Return the list of those that are wrong (and an empty list if none is).


# %%
def find(suspects):
    return ...


# check_find(find)

# %% [markdown]
# ## Solutions


# %% tags=["solution"]
def central(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


check_central(central)


# %% tags=["solution"]
def both_sides(f, vjp, x, v, u, h=1e-6):
    Ju = (f(x + h * u) - f(x - h * u)) / (2 * h)
    return (v * Ju).sum(), (vjp(v) * u).sum()


check_dual(both_sides)


# %% tags=["solution"]
def sneaky_vjp(y, g):
    return g - g.mean(axis=-1, keepdims=True)  # 0 for equal g; right is y * (g - (g * y).sum(-1, keepdims=True))


check_sneaky(sneaky_vjp)


# %% tags=["solution"]
def find(suspects):
    return [result.operation for result in check_operations(suspects) if not result.ok]


check_find(find)

# %% [markdown]
# ## What to read next
#
# - [minilm/testing/gradcheck.py](../minilm/testing/gradcheck.py): `gradcheck` and `dual_test`, with the reason for each
#   tolerance.
# - [minilm/testing/planting.py](../minilm/testing/planting.py) and
#   [random_graphs.py](../minilm/testing/random_graphs.py).
# - [tests/testing/test_planting.py](../tests/testing/test_planting.py): every operation, every input, every corruption;
#   [tests/properties/test_random_graphs.py](../tests/properties/test_random_graphs.py): whole graphs.
# - `minilm gradcheck` on the command line checks all operations and prints a table.
# - [Chapter 5](05_text_to_numbers.ipynb): with an engine to trust, on to text.

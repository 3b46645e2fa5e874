# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · One scalar, one chain rule
#
# A network with a million parameters is trained by asking one question a million times: if this parameter were a little
# larger, would the loss grow or shrink, and how much? This chapter answers all of these questions in one pass, on
# plain Python numbers, with an engine of 27 lines. Readers who come from micrograd or from one of the GPTs in 200
# lines will recognise it; the last part says what minilm does otherwise, and why.
#
# **What you will be able to do**
#
# - measure a derivative by nudging an input, and say what the number means;
# - state the chain rule for a whole computation: a sum over paths of products along each path;
# - write a reverse-mode engine, and train a small network with it;
# - explain in which order the way back must go, and what happens otherwise;
# - translate micrograd's words into those of minilm.
#
# **What it needs**: Python, and derivatives of functions of one variable.

# %%
import math
import random

import numpy as np

import minilm.functional as F
from checks import source
from checks.chapter_01 import check_neuron_gradient, check_order, check_power, check_update
from checks.drawing import graph_figure
from minilm import Tensor
from minilm.plots.loss_curves import COLOURS, new_figure

# %% [markdown]
# ## 1. What a derivative tells
#
# Take the smallest network there is: one *neuron*. It multiplies its input $x$ by a weight $w$, adds a bias $b$, and
# squeezes the result between $-1$ and $1$ with the hyperbolic tangent. The target is $t$, and the loss $L$ is the
# squared difference:
#
# $$y = \tanh(w x + b), \qquad L = (y - t)^2$$


# %% tags=["deterministic"]
def loss(w, x, b, t):
    y = math.tanh(w * x + b)
    return (y - t) ** 2


w, x, b, t = 0.8, 1.5, -0.5, 1.0
print(f"L = {loss(w, x, b, t):.4f}")

# %% [markdown]
# Add a small number $h$ to $w$ and compute the loss again. Near $w$ the loss is almost a straight line, so the change
# is almost proportional to $h$. The factor is the derivative:
#
# $$L(w + h) \approx L(w) + \frac{dL}{dw} h \qquad\Longrightarrow\qquad
#   \frac{dL}{dw} \approx \frac{L(w + h) - L(w - h)}{2h}$$

# %% tags=["deterministic"]
h = 1e-5
print(f"dL/dw = {(loss(w + h, x, b, t) - loss(w - h, x, b, t)) / (2 * h):.4f}")
print(f"dL/dx = {(loss(w, x + h, b, t) - loss(w, x - h, b, t)) / (2 * h):.4f}")
print(f"dL/db = {(loss(w, x, b + h, t) - loss(w, x, b - h, t)) / (2 * h):.4f}")

# %% [markdown]
# All three are negative: a larger $w$, $x$ or $b$ lowers the loss. And $dL/dw$ is larger than $dL/db$ in size, since a
# change of $w$ is multiplied by $x = 1.5$ before it arrives at the same sum.
#
# Nudging needs two evaluations of the loss for each input. For a million parameters that is two million evaluations for
# one step of training. We need all derivatives for the price of a few evaluations.

# %% [markdown]
# ## 2. One path: multiply
#
# The loss is computed in steps, each of one operation:
#
# $$p = w x, \qquad s = p + b, \qquad y = \tanh s, \qquad d = y - t, \qquad L = d \cdot d$$
#
# For each single step calculus knows the derivative, the **local derivative**. These are all that we need:
#
# | step | local derivatives |
# |---|---|
# | $u = a + b$ | $\partial u/\partial a = 1, \quad \partial u/\partial b = 1$ |
# | $u = a \cdot b$ | $\partial u/\partial a = b, \quad \partial u/\partial b = a$ |
# | $u = \tanh a$ | $\partial u/\partial a = 1 - u^2$ |
#
# Nudge $s$ by $h$. Then $y$ moves by $(1 - y^2) h$, and $d$ by the same, and $L$ by $2 d$ times that. Along a path the
# factors multiply. This is the **chain rule**:
#
# $$\frac{dL}{ds} = \frac{dL}{dd} \cdot \frac{dd}{dy} \cdot \frac{dy}{ds} = 2 d \cdot 1 \cdot (1 - y^2)$$

# %% tags=["deterministic"]
s = w * x + b
y = math.tanh(s)
d = y - t
dL_ds = 2 * d * 1 * (1 - y**2)
print(f"dL/dw = dL/ds · x = {dL_ds * x:.4f}")
print(f"dL/dx = dL/ds · w = {dL_ds * w:.4f}")
print(f"dL/db = dL/ds · 1 = {dL_ds:.4f}")

# %% [markdown]
# The same numbers as above, and without a nudge.
#
# ## 3. Several paths: add
#
# In the last step $L = d \cdot d$ the number $d$ is used twice. Nudge it by $h$: the first factor moves by $h$, which
# moves $L$ by $d\,h$; the second factor moves by $h$ as well, which moves $L$ by another $d\,h$. Small changes add, so
# $dL/dd = d + d = 2d$. In general, if $v$ is used in steps that give $u_1, u_2, \dots, u_n$,
#
# $$\frac{dL}{dv} = \sum_{k=1}^{n} \frac{dL}{du_k} \cdot \frac{\partial u_k}{\partial v}$$
#
# Apply this again to each $dL/du_k$, and so on up to $L$, and the formula unfolds: **the derivative of $L$ by $v$ is
# the sum over all paths from $v$ to $L$ of the product of the local derivatives along the path.** That is all there is
# to know about derivatives of programs. The rest is bookkeeping.
#
# ## 4. Which way?
#
# The number of paths can be huge (it doubles with each step such as $d \cdot d$), but one need not walk each of them.
# The formula for $dL/dv$ uses only the derivatives by the *consumers* $u_k$ of $v$. So start at the end, where
# $dL/dL = 1$, and go backwards: when a number's derivative is complete, hand it on to each number that it was computed
# from, times the local derivative. Each step of the computation is visited once, and at the end the derivatives of $L$
# by *all* inputs are there. This is **reverse mode**, in networks called *backpropagation*.
#
# (Going forwards, from one input to all that depends on it, works as well, and needs one pass for each input. With a
# million parameters and one loss that is a million passes, and backwards it is one.)
#
# What must be kept is a record of which number was computed from which, and the local derivatives: a **graph**.

# %% [markdown]
# ## 5. An engine of 27 lines
#
# A `Value` holds a number, its derivative `grad` (that is $dL/d\,\text{value}$, once it is known), and what it was
# computed from: pairs of an input and the local derivative with respect to it.


# %%
class Value:
    def __init__(self, data, inputs=(), name=""):
        self.data, self.grad = data, 0.0
        self.inputs = inputs  # pairs (value, local derivative)
        self.name = name

    def __add__(self, other):
        return Value(self.data + other.data, [(self, 1.0), (other, 1.0)], "+")

    def __mul__(self, other):
        return Value(self.data * other.data, [(self, other.data), (other, self.data)], "·")

    def tanh(self):
        y = math.tanh(self.data)
        return Value(y, [(self, 1.0 - y * y)], "tanh")

    def backward(self):
        self.grad = 1.0  # dL/dL
        for value in reversed(in_order(self)):
            for parent, local in value.inputs:
                parent.grad += value.grad * local  # += : a sum over all uses


# %% [markdown]
# `backward` is the formula of section 3, from the side of the consumer: instead of collecting from all consumers, each
# consumer $u_k$ adds its part to `parent.grad`. When the loop arrives at a value, all of its consumers must have added
# theirs. So the loop needs an order in which every value comes *after* all that it was computed from, and runs it in
# reverse. Such an order is called *topological*; a walk that lists a value once its inputs are listed finds it:


# %%
def in_order(root):
    order, seen = [], set()

    def visit(value):
        if value not in seen:
            seen.add(value)
            for parent, _ in value.inputs:
                visit(parent)
            order.append(value)  # after all of its inputs

    visit(root)
    return order


# %% [markdown]
# Now the neuron. ($y - t$ is written as $y + (-t)$, so that no further operation is needed.)

# %% tags=["deterministic"]
w, x, b, minus_t = Value(0.8, name="w"), Value(1.5, name="x"), Value(-0.5, name="b"), Value(-1.0, name="-t")
p = w * x
s = p + b
y = s.tanh()
d = y + minus_t
L = d * d
for value, name in ((p, "p = w x"), (s, "s = p + b"), (y, "y = tanh s"), (d, "d = y - t"), (L, "L = d d")):
    value.name = name
L.backward()
print(f"L = {L.data:.4f}   dL/dw = {w.grad:.4f}   dL/dx = {x.grad:.4f}   dL/db = {b.grad:.4f}")

# %% [markdown]
# The numbers that nudging found, from one pass. The graph shows how they came about. On each arrow stands the local
# derivative (from right to left the grads are multiplied by it). The arrow from $d$ to $L$ has two of them, because $d$
# is used twice: its grad is their sum.


# %%
def draw(root, height):
    order = in_order(root)
    nodes = {value: f"{value.name}\n{value.data:.3f}\ngrad {value.grad:.3f}" for value in order}
    edges = {}
    for value in order:
        for parent, local in value.inputs:  # two arrows between the same two values are drawn as one
            edges.setdefault((parent, value), []).append(f"{local:.2f}")
    edges = [(*pair, "\n".join(local)) for pair, local in edges.items()]
    return graph_figure(nodes, edges, {value: COLOURS[0] for value in order if not value.inputs}, height, fontsize=8)


draw(L, height=2.3)

# %% [markdown]
# ### The order matters
#
# What if the way back does not wait? The function below visits values as they are first reached, nearest first. In
# $L = 3y + \tanh(1 \cdot y)$ with $y = x^2$, it reaches $y$ by way of $3y$, and hands its grad on to $x$ before the
# longer way, through $\tanh$, has added its part.


# %% tags=["deterministic"]
def backward_without_order(root):
    root.grad = 1.0
    queue, seen = [root], {root}
    while queue:
        value = queue.pop(0)
        for parent, local in value.inputs:
            parent.grad += value.grad * local
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)


def example():
    x = Value(0.5, name="x")
    y = x * x
    return x, y * Value(3.0, name="3") + (y * Value(1.0, name="1")).tanh()


for way_back in (Value.backward, backward_without_order):
    x, L = example()
    way_back(L)
    print(f"{way_back.__name__:24} dL/dx = {x.grad:.4f}")
exact = (3 + 1 - math.tanh(0.25) ** 2) * 2 * 0.5
print(f"{'by hand':24} dL/dx = {exact:.4f}")

# %% [markdown]
# No error, no warning: a wrong number, that looks as good as a right one. Much of
# [chapter 3](03_breaking_the_engine.ipynb) and all of [chapter 4](04_how_do_we_know.ipynb) is about mistakes of this
# kind.

# %% [markdown]
# ## 6. Train something
#
# The *exclusive or* of two bits is 1 if exactly one of them is 1. No single neuron can compute it: its output depends
# on one weighted sum of the inputs, and rises or falls along it. Two layers can. With $-1$ and $1$ in place of 0 and 1,
# four hidden neurons and one on top of them:
#
# $$a_j = \tanh\Big(\sum_{i=1}^{2} W_{ji} x_i + b_j\Big), \qquad y = \tanh\Big(\sum_{j=1}^{4} v_j a_j + c\Big)$$
#
# **Gradient descent** takes small steps against the derivative: each parameter $\theta$ becomes
# $\theta - \eta\, dL/d\theta$, with a *learning rate* $\eta$.

# %%
inputs = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)]
targets = [-1.0, 1.0, 1.0, -1.0]

random.seed(3)
W = [[Value(random.gauss(0, 1)) for _ in range(2)] for _ in range(4)]
bias = [Value(0.0) for _ in range(4)]
v = [Value(random.gauss(0, 1)) for _ in range(4)]
c = Value(0.0)
parameters = [*(value for row in W for value in row), *bias, *v, c]
start = [value.data for value in parameters]  # for later


def network(x):
    a = [(W[j][0] * Value(x[0]) + W[j][1] * Value(x[1]) + bias[j]).tanh() for j in range(4)]
    y = c
    for j in range(4):
        y = y + v[j] * a[j]
    return y.tanh()


# %%
RATE, STEPS = 0.1, 100
scalar_losses = []
for _ in range(STEPS):
    L = Value(0.0)
    for x, t in zip(inputs, targets, strict=True):
        d = network(x) + Value(-t)
        L = L + d * d
    for value in parameters:
        value.grad = 0.0  # what the last step left there
    L.backward()
    for value in parameters:
        value.data -= RATE * value.grad
    scalar_losses.append(L.data)

# %% tags=["deterministic"]
print(f"loss {scalar_losses[0]:.2f} at the start, {scalar_losses[-1]:.2f} after {STEPS} steps")
print("answers:", [round(network(x).data, 1) for x in inputs], " targets:", targets)
print("values in the graph of one step:", len(in_order(L)))

# %% [markdown]
# (Not every start gets there. With `random.seed(2)` the loss stays near 4: one of the four answers is stuck at the
# wrong end of tanh, where it is flat and its derivative nearly 0. Training finds a low place near the start, not the
# lowest one.)
#
# Note the line that sets every `grad` to zero. `backward` *adds* (it must, because of section 3), so without that line
# the second step would go along the sum of two steps' derivatives. Forgetting it is the most common mistake in a
# training loop, here and in every library.
#
# ## 7. The same with minilm
#
# Python looks at each of the values of that graph one by one. Nothing in the chain rule requires this: an operation may
# as well be a product of matrices, with one node for the whole of it. A `Tensor` is a `Value` whose `data` is an array.
# The same network, on all four inputs at once, from the same starting point (`requires_grad=True` marks the tensors
# whose gradients are wanted):

# %%
parameters_2 = [
    Tensor(np.array(start[0:8]).reshape(4, 2), requires_grad=True),  # W
    Tensor(np.array(start[8:12]), requires_grad=True),  # bias
    Tensor(np.array(start[12:16]), requires_grad=True),  # v
    Tensor(np.array(start[16]), requires_grad=True),  # c
]
X, target = Tensor(np.array(inputs)), Tensor(np.array(targets))  # (4, 2), (4,)

tensor_losses = []
for _ in range(STEPS):
    weight, bias_2, v_2, c_2 = parameters_2
    a = F.tanh(X @ weight.T + bias_2)  # (4 inputs, 4 neurons)
    d = F.tanh(a @ v_2 + c_2) - target
    loss_2 = (d * d).sum()
    for parameter in parameters_2:
        parameter.grad = None
    loss_2.backward()
    for parameter in parameters_2:
        parameter.data -= RATE * parameter.grad.data
    tensor_losses.append(loss_2.item())

# %%
figure = new_figure()
figure.set_size_inches(7, 3)
axes = figure.add_subplot()
axes.plot(scalar_losses, color=COLOURS[0], linewidth=4, alpha=0.4, label="the engine of this chapter, scalar by scalar")
axes.plot(tensor_losses, color=COLOURS[1], linestyle="--", label="minilm, array by array")
axes.set(xlabel="step", ylabel="loss: sum of squared errors", ylim=(0, None))
axes.legend(frameon=False, fontsize=9)
figure


# %% tags=["deterministic"]
def nodes_behind(tensor):
    found, stack = set(), [tensor._node]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack += [edge[0] for edge in node.edges if edge is not None and not isinstance(edge[0], Tensor)]
    return found


d = F.tanh(F.tanh(X @ weight.T + bias_2) @ v_2 + c_2) - target
difference = max(abs(p - q) for p, q in zip(scalar_losses, tensor_losses, strict=True))
print("both curves agree to 1e-9:", difference < 1e-9)
print("nodes in minilm's graph of one step:", len(nodes_behind((d * d).sum())))

# %% [markdown]
# The two curves are one, and the graph has 10 nodes where the scalar engine had 182. Each node costs the
# same bookkeeping; with arrays it is spread over thousands or millions of numbers, and the arithmetic is done by
# compiled code.
#
# ## 8. Where to find the parts
#
# In minilm an operation is a function on arrays that returns its result *and* the rule for the way back:

# %%
source(F.add, F.multiply, F.tanh)

# %% [markdown]
# Compare with the `Value`: `inputs` held a local derivative for each input, and `backward` multiplied it by the
# consumer's grad. Here a small function does both: it takes `g`, the derivative of the loss by the output, and returns
# the derivative by one input. For scalars that is the same thing. For arrays a local "derivative" would be a huge
# table, and the function never makes it; [chapter 2](02_tensors.ipynb) derives such functions. They are called
# **vjps**. (Two more words that stand all over the source: `@elementwise` makes an operation on Tensors, which records
# a node, out of the function on arrays. `xp(x)` is the library that the array `x` belongs to: NumPy here, CuPy for an
# array on a graphics card.)
#
# | micrograd, or a GPT in 200 lines | minilm | where |
# |---|---|---|
# | `Value` | `Tensor` | [minilm/tensor/tensor.py](../minilm/tensor/tensor.py) |
# | `_prev`, `_children` | `node.edges` | [minilm/tensor/tape.py](../minilm/tensor/tape.py) |
# | `_backward`, `_local_grads` | the vjp beside each formula | [minilm/functional](../minilm/functional) |
# | topological sort, recursive | numbers on a tape and a heap, no recursion | [minilm/tensor/tape.py](../minilm/tensor/tape.py) |
# | `p.grad = 0` for all parameters | `model.zero_grad()` | [minilm/nn/module.py](../minilm/nn/module.py) |
# | `p.data -= lr * p.grad` | `optimizer.step()` | [minilm/optim](../minilm/optim) |
# | every value keeps a `grad` | only leaves do (others on request: `retain_grad()`) | [minilm/tensor/tensor.py](../minilm/tensor/tensor.py) |
# | the graph lives as long as the loss | `backward()` frees it (unless `retain_graph=True`) | [minilm/tensor/tape.py](../minilm/tensor/tape.py) |
#
# A *leaf* is a tensor that no operation made, such as a parameter.

# %% [markdown]
# ## Exercises
#
# **Exercise 1.1.** By hand, with the chain rule: the three derivatives of $L = (\tanh(w x + b) - t)^2$, as a tuple
# $(dL/dw, dL/dx, dL/db)$.


# %%
def neuron_gradient(w, x, b, t):
    return ...


# check_neuron_gradient(neuron_gradient)

# %% [markdown]
# **Exercise 1.2.** A new operation for the engine: $u = a^n$ for a constant number $n$. Return a `Value` with the right
# `data` and `inputs`.


# %%
def power(a, n):
    return ...


# check_power(power, Value)

# %% [markdown]
# **Exercise 1.3.** `in_order` is recursive, and Python allows about 1000 calls inside each other: a graph of 5000 steps
# in a row stops it. Write it without recursion. (One way: count for each value how many of its consumers have not been
# listed, start at the root, list a value when its count is zero, and reverse the list at the end.)


# %%
def in_order_without_recursion(root):
    return ...


# check_order(in_order_without_recursion, Value)

# %% [markdown]
# **Exercise 1.4.** One step of gradient descent on a list of `Value`s: change every `data`, and leave every `grad`
# ready for the next `backward`.


# %%
def update(parameters, rate):
    return ...


# check_update(update, Value)

# %% [markdown]
# ## Solutions


# %% tags=["solution"]
def neuron_gradient(w, x, b, t):
    y = math.tanh(w * x + b)
    dL_ds = 2 * (y - t) * (1 - y * y)
    return dL_ds * x, dL_ds * w, dL_ds


check_neuron_gradient(neuron_gradient)


# %% tags=["solution"]
def power(a, n):
    return Value(a.data**n, [(a, n * a.data ** (n - 1))], f"^{n}")


check_power(power, Value)


# %% tags=["solution"]
def in_order_without_recursion(root):
    waiting, stack, seen = {}, [root], {root}
    while stack:  # how many uses has each value?
        for parent, _ in stack.pop().inputs:
            waiting[parent] = waiting.get(parent, 0) + 1
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    listed, ready = [], [root]
    while ready:
        value = ready.pop()
        listed.append(value)
        for parent, _ in value.inputs:
            waiting[parent] -= 1
            if waiting[parent] == 0:  # all of its consumers are listed
                ready.append(parent)
    return listed[::-1]


check_order(in_order_without_recursion, Value)


# %% tags=["solution"]
def update(parameters, rate):
    for value in parameters:
        value.data -= rate * value.grad
        value.grad = 0.0


check_update(update, Value)

# %% [markdown]
# ## What to read next
#
# - [minilm/tensor/tape.py](../minilm/tensor/tape.py): `backpropagate`, the loop of this chapter's `backward` for
#   arrays. You can read it now; [chapter 3](03_breaking_the_engine.ipynb) explains the lines that look superfluous.
# - [minilm/functional/elementwise.py](../minilm/functional/elementwise.py): twenty operations with their derivatives.
# - [tests/tensor/test_contract.py](../tests/tensor/test_contract.py): what the engine promises, one test for each
#   promise; `test_a_node_waits_until_all_of_its_gradient_has_arrived` is the section on order.
# - [Chapter 2](02_tensors.ipynb): from numbers to arrays.

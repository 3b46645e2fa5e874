# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · Tensors and broadcasting
#
# An engine on arrays needs one thing that an engine on numbers does not: for each operation a rule that takes the
# derivative of the loss by the operation's *output*, an array, to its derivative by the *input*, an array of another
# shape. This chapter derives the rules for the operations of which nearly everything else is made: sums, broadcasting,
# matrix products, indexing. Always in the same way: write it with indices, differentiate, read it back as array
# operations.
#
# **What you will be able to do**
#
# - say what a vjp is, and why nobody ever stores a Jacobian;
# - derive the vjp of an operation with indices, and check it by nudging;
# - undo a broadcast, and say why sum and broadcast are each other's way back;
# - write the gradients of a matrix product without looking them up;
# - name the trap of repeated indices.
#
# **What it needs**: the chain rule as a sum over paths, and $g = dL/dy$ going backwards
# ([chapter 1](01_one_scalar.ipynb)); NumPy's broadcasting.

# %%
import numpy as np

import minilm.functional as F
from checks import source
from checks.chapter_02 import (
    check_mean_vjp,
    check_rows_vjp,
    check_scores_vjp,
    check_transpose_vjp,
    check_unbroadcast,
    check_weight_vjp,
)
from checks.drawing import graph_figure, matrices_figure
from minilm import Tensor
from minilm.plots.loss_curves import COLOURS
from minilm.tensor import unbroadcast

rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. Jacobian and vjp
#
# Let an operation take $n$ numbers $x_1, \dots, x_n$ to $m$ numbers $y_1, \dots, y_m$. Its local derivatives are now a
# table, the **Jacobian**:
#
# $$J_{ki} = \frac{\partial y_k}{\partial x_i}, \qquad \text{an } m \times n \text{ matrix.}$$
#
# The loss $L$ is a single number at the end of the computation. Write $g_k = \partial L / \partial y_k$ for its
# derivative by output $k$; the array $g$ has the shape of $y$ and is called the **cotangent** of $y$. Input $i$ reaches
# the loss through each of the outputs, so by the sum over paths
#
# $$dx_i := \frac{\partial L}{\partial x_i} = \sum_{k=1}^m g_k \frac{\partial y_k}{\partial x_i}
#   = \sum_k g_k J_{ki}, \qquad\text{that is}\qquad dx = J^\top g .$$
#
# The map from $g$ to $J^\top g$ is the operation's **vjp**, its vector-Jacobian product. (We write $dx$ for the
# derivative of the loss by $x$, an array of the shape of $x$, here and in minilm's docstrings.)
#
# An engine needs this product, and never the table. How large would the table be? Take one linear layer of a small
# network, $y = x W$: 64 texts at a time, 512 channels in, 2048 out.

# %% tags=["deterministic"]
inputs, outputs = 64 * 512, 64 * 2048
print(f"elements of x: {inputs:,}   of y: {outputs:,}   of the Jacobian: {inputs * outputs:,}")
print(f"the Jacobian in float32: {inputs * outputs * 4 / 1e9:.0f} GB; g: {outputs * 4 / 1e6:.1f} MB")

# %% [markdown]
# ### How to check a derivation
#
# As in chapter 1, by nudging, one element of $x$ at a time. The loss that we use is $L = \sum_k g_k y_k$ for some
# random numbers $g_k$: its derivative by $y_k$ is $g_k$, so its derivative by $x_i$ must be what the vjp gives.


# %%
def nudged(f, x, g, h=1e-6):
    """What the vjp of f at x should give for the cotangent g."""
    dx = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        dx[index] = (g * (f(x + step) - f(x - step))).sum() / (2 * h)
    return dx


def agrees(dx, f, x, g):
    return dx.shape == x.shape and bool(np.allclose(dx, nudged(f, x, g), atol=1e-7))


# %% [markdown]
# ## 2. Element by element
#
# $y_i = f(x_i)$ for each $i$ on its own. Output $k$ depends on input $i$ only if $k = i$. Write $\delta_{ki}$ for the
# number that is 1 if $k = i$ and 0 otherwise (Kronecker's delta). Then
#
# $$\frac{\partial y_k}{\partial x_i} = f'(x_i)\,\delta_{ki}, \qquad
#   dx_i = \sum_k g_k f'(x_i)\,\delta_{ki} = g_i f'(x_i).$$
#
# A delta under a sum picks out one term. That step comes back in every derivation below. As arrays:
# $dx = g \cdot f'(x)$.

# %% tags=["deterministic"]
x, g = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
print("tanh:", agrees(g * (1 - np.tanh(x) ** 2), np.tanh, x, g))

# %% [markdown]
# ## 3. Sum
#
# Sum each row of a matrix: $y_i = \sum_j x_{ij}$. The input has two indices now, so the Jacobian has three, and nothing
# else changes:
#
# $$\frac{\partial y_k}{\partial x_{ij}} = \delta_{ki}, \qquad dx_{ij} = \sum_k g_k\,\delta_{ki} = g_i .$$
#
# Every element of row $i$ gets the same number: in the sum, all of them count alike. In NumPy: repeat $g$ along the
# axis that was summed away.

# %% tags=["deterministic"]
x, g = rng.normal(size=(2, 3)), rng.normal(size=2)
dx = np.broadcast_to(g[:, None], (2, 3))  # keep the summed axis with length 1, then repeat along it
print("sum: ", agrees(dx, lambda x: x.sum(axis=1), x, g))
print("mean:", agrees(dx / 3, lambda x: x.mean(axis=1), x, g))

# %% [markdown]
# ## 4. Broadcast
#
# NumPy repeats a vector $b$ when it is added to a matrix. The repetition itself is an operation: from $b$ of shape
# $(3)$ to $y_{ij} = b_j$ of shape $(2, 3)$. Its vjp:
#
# $$\frac{\partial y_{ij}}{\partial b_k} = \delta_{jk}, \qquad
#   db_k = \sum_{i,j} g_{ij}\,\delta_{jk} = \sum_i g_{ik} .$$
#
# The way back of a repetition is a sum over the axis along which it was repeated. And the way back of a sum was a
# repetition. The two Jacobians show why: flatten $y$ to a vector of six, and each is the other one transposed.

# %%
repeat = np.vstack([np.eye(3), np.eye(3)])  # y = repeat @ b, with y flattened row by row
matrices_figure(
    [
        [("broadcast: y", (6, 1), COLOURS[1]), "=", ("J", repeat, None), "·", ("b", (3, 1), COLOURS[0])],
        [("sum over axis 0: y", (3, 1), COLOURS[1]), "=", ("Jᵀ", repeat.T, None), "·", ("x", (6, 1), COLOURS[0])],
    ]
)

# %% [markdown]
# ### Undoing any broadcast
#
# NumPy compares shapes from the right. It puts axes of length 1 in front of the shorter shape, and stretches axes of
# length 1 to the length of the other operand. So to undo it, for an input of shape `shape` and a gradient of the
# result's shape: sum over the axes that were put in front, and sum over the axes that had length 1 and have it no more.
#
# | input | result | sum over axes |
# |---|---|---|
# | `(3,)` | `(2, 3)` | 0 |
# | `(2, 1)` | `(2, 3)` | 1, keeping it with length 1 |
# | `(1, 3)` | `(4, 2, 3)` | 0 and 1, the second kept |
# | `()` | `(2, 3)` | both |
#
# In minilm no operation does this itself: the vjps of `+`, `*` and their like are plain calculus, as in section 2, and
# the engine brings what they return to the shape of the input. (`wide_sum` is `sum`; float16 it adds up in float32.)

# %%
source(unbroadcast)

# %% tags=["deterministic"]
a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 1))
g = rng.normal(size=(2, 3))
da, db = g * b, g * a  # section 2; db has the shape (2, 3), and b has (2, 1)
print("da of a * b:", agrees(da, lambda a: a * b, a, g))
print("db of a * b:", agrees(unbroadcast(db, b.shape), lambda b: a * b, b, g))

# %% [markdown]
# ## 5. Matrix product
#
# The most used operation of all. $A$ is $(n, k)$, $B$ is $(k, m)$, and
#
# $$Y_{ij} = \sum_{l=1}^{k} A_{il} B_{lj} .$$
#
# Which outputs does $A_{pq}$ reach? It stands in the sum where $i = p$ and $l = q$, with the factor $B_{qj}$:
#
# $$\frac{\partial Y_{ij}}{\partial A_{pq}} = \delta_{ip}\, B_{qj}, \qquad
#   dA_{pq} = \sum_{i,j} G_{ij}\, \delta_{ip}\, B_{qj} = \sum_j G_{pj} B_{qj} = \sum_j G_{pj} (B^\top)_{jq} .$$
#
# The last sum is a matrix product again. For $B$ in the same way:
#
# $$\frac{\partial Y_{ij}}{\partial B_{pq}} = A_{ip}\, \delta_{jq}, \qquad
#   dB_{pq} = \sum_{i,j} G_{ij}\, A_{ip}\, \delta_{jq} = \sum_i (A^\top)_{pi}\, G_{iq} .$$
#
# So
#
# $$\boxed{\; dA = G B^\top, \qquad dB = A^\top G \;}$$
#
# The shapes, for $n = 4$, $k = 3$, $m = 5$:

# %%
blue, red, green = COLOURS[0], COLOURS[1], COLOURS[2]
matrices_figure(
    [
        [("Y", (4, 5), green), "=", ("A", (4, 3), blue), "·", ("B", (3, 5), red)],
        [("dA", (4, 3), blue), "=", ("G", (4, 5), green), "·", ("Bᵀ", (5, 3), red)],
        [("dB", (3, 5), red), "=", ("Aᵀ", (3, 4), blue), "·", ("G", (4, 5), green)],
    ],
    cell=0.25,
)

# %% tags=["deterministic"]
A, B, G = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
print("dA:", agrees(G @ B.T, lambda A: A @ B, A, G))
print("dB:", agrees(A.T @ G, lambda B: A @ B, B, G))

# %% [markdown]
# Three lengths that differ leave one way to multiply $G$ and $B$ that has the shape of $A$; that is a good way to
# remember the rule. It is no proof: for square matrices every product fits, and a wrong one raises no error.
#
# **With a batch.** In a network $A$ is often an array $(B, T, C)$, a batch of texts, and the same weight $W$ of shape
# $(C, D)$ is used for all: $Y_{btd} = \sum_c A_{btc} W_{cd}$. The weight was repeated along two axes, so its gradient
# is summed over both:
#
# $$dW_{cd} = \sum_{b,t} A_{btc}\, G_{btd} .$$
#
# A matrix product sums over *one* index. Put $b$ and $t$ into one, by reshaping $(B, T, C)$ to $(B T, C)$, and it is
# one product of two matrices, $dW = A^\top G$, instead of one product for each text and a sum. minilm's matmul does
# exactly this (`_rows` is that reshaping):

# %%
source(F.matmul)

# %% [markdown]
# ## 6. Indexing
#
# $y_k = x_{i_k}$, where $i_1, i_2, \dots$ are given places, such as the ids of words in a text. Place $i$ is read by
# every $k$ with $i_k = i$:
#
# $$\frac{\partial y_k}{\partial x_i} = \delta_{i_k i}, \qquad dx_i = \sum_{k:\ i_k = i} g_k .$$
#
# A place that is read several times gets the **sum** of its gradients; a place that is never read gets 0. As a picture,
# with the places 2, 0, 2: a matrix of zeros and ones that selects, and its transpose, which puts back and adds.

# %%
places = np.array([2, 0, 2])
select = np.eye(4)[places]  # (3, 4): row k is 1 at place i_k
g_shown = np.array([[1.0], [10.0], [100.0]])
matrices_figure(
    [
        [("y", (3, 1), COLOURS[1]), "=", ("J", select, None), "·", ("x", (4, 1), COLOURS[0])],
        [("dx", select.T @ g_shown, COLOURS[0]), "=", ("Jᵀ", select.T, None), "·", ("g", g_shown, COLOURS[1])],
    ],
    cell=0.34,
)

# %% [markdown]
# Here is the trap. In NumPy `dx[places] += g` looks like this sum, and is not: it reads `dx[places]`, adds `g`, and
# assigns the result, so that for a place that stands there twice the last assignment wins. `np.add.at` adds one by one.

# %% tags=["deterministic"]
g = np.array([1.0, 10.0, 100.0])
wrong, right = np.zeros(4), np.zeros(4)
wrong[places] += g
np.add.at(right, places, g)
print("dx[places] += g:        ", wrong.tolist())
print("np.add.at(dx, places, g):", right.tolist())
x = rng.normal(size=4)
print("which agrees with nudging:", agrees(wrong, lambda x: x[places], x, g), agrees(right, lambda x: x[places], x, g))

# %% [markdown]
# In every text some words occur twice, so an engine with the first form trains on wrong gradients for the most frequent
# words, and learns nevertheless, only worse. In minilm, with the rows of a table (such a table of word vectors is
# called an **embedding**), row 2 gets 1 + 100:

# %% tags=["deterministic"]
table = Tensor(np.zeros((4, 2)), requires_grad=True)
F.embedding(places, table).backward(np.array([[1.0, 1.0], [10.0, 10.0], [100.0, 100.0]]))
print(table.grad.tolist())

# %% [markdown]
# And `x[index]` of minilm. Where no place can be read twice, as with a slice, an assignment is enough. Otherwise
# `add_at` adds one by one, and for the rows of a table `scatter_add_rows` does the same, faster.

# %%
source(F.getitem)

# %% [markdown]
# ## 7. Rearranging
#
# `reshape` and `transpose` compute nothing, they move numbers. Their Jacobian is a matrix with a single 1 in each row
# and column, a *permutation*, and the transpose of a permutation is its inverse. So the gradient is moved back:
# `reshape` to the old shape, `transpose` by the inverse order of the axes. The inverse of an order is `np.argsort` of
# it. Swapping two axes is its own inverse; with three axes that go round in a circle, it is not:

# %% tags=["deterministic"]
x, axes = rng.normal(size=(2, 3, 4)), (1, 2, 0)
g = rng.normal(size=(3, 4, 2))
print("inverse of", axes, "is", tuple(np.argsort(axes).tolist()))
print("moved back by the inverse order:", agrees(g.transpose(np.argsort(axes)), lambda x: x.transpose(axes), x, g))
print("by the order itself:", agrees(g.transpose(axes), lambda x: x.transpose(axes), x, g))

# %% [markdown]
# ## 8. One rule for all products
#
# Look at the matrix product once more, as `einsum` writes it: `"ik,kj->ij"`. Letters that stand on the left alone are
# summed over. The two gradients are
#
# $$dA_{ik} = \sum_j G_{ij} B_{kj}, \qquad dB_{kj} = \sum_i A_{ik} G_{ij},$$
#
# or, as `einsum` writes them, `"ij,kj->ik"` and `"ik,ij->kj"`.
#
# To get the gradient of an operand, let $G$ and the operand **change places**, with their letters. That holds for every
# such sum of products. The reason is that $L = \sum G_{ij} A_{ik} B_{kj}$, summed over all letters, is symmetric in its
# three factors, and its derivative by one of them is the sum with that factor left out. (Where a letter stands in one
# operand alone, it is summed away there, and $G$ cannot bring it back: then the gradient is repeated along it, as in
# section 3.)
#
# The scores of attention, for each text $b$ of a batch: $S_{bqk} = \sum_d Q_{bqd} K_{bkd}$.

# %% tags=["deterministic"]
Q, K, G = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 3, 5))
scores = "bqd,bkd->bqk"
dQ = np.einsum("bqk,bkd->bqd", G, K)  # G and Q have changed places
print("dQ:", agrees(dQ, lambda Q: np.einsum(scores, Q, K), Q, G))

# %% [markdown]
# ## 9. All together: a network by hand
#
# Two linear layers with a tanh between them, and the mean of squared errors:
#
# $$U = X W_1 + b_1, \quad H = \tanh U, \quad Y = H W_2 + b_2, \quad D = Y - T, \quad
#   L = \frac{1}{n} \sum_{ij} D_{ij}^2$$
#
# with $n$ the number of elements of $D$. The shapes, for a batch of 6, with 3 numbers in, 5 hidden and 2 out:

# %%
shapes = {
    "X": "X\n(6, 3)", "W1": "W₁\n(3, 5)", "b1": "b₁\n(5)", "U": "U\n(6, 5)", "H": "H\n(6, 5)",
    "W2": "W₂\n(5, 2)", "b2": "b₂\n(2)", "Y": "Y\n(6, 2)", "T": "T\n(6, 2)", "D": "D\n(6, 2)", "L": "L\n()",
}  # fmt: skip
steps = [("X", "U"), ("W1", "U"), ("b1", "U"), ("U", "H"), ("H", "Y"), ("W2", "Y"), ("b2", "Y"), ("Y", "D"),
         ("T", "D"), ("D", "L")]  # fmt: skip
graph_figure(shapes, steps, dict.fromkeys(["W1", "b1", "W2", "b2"], COLOURS[1]), height=2.6)

# %% [markdown]
# Against the arrows, one line for each step, each from a section above. (The parameters are framed in colour: theirs
# are the gradients that training needs.)

# %%
X, T = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
W1, b1, W2, b2 = rng.normal(size=(3, 5)), rng.normal(size=5), rng.normal(size=(5, 2)), rng.normal(size=2)

U = X @ W1 + b1
H = np.tanh(U)
Y = H @ W2 + b2
D = Y - T
L = (D**2).sum() / D.size

dD = 2 * D / D.size  # sum: the same for all; square: 2 D (section 2 and 3)
dY = dD
dW2 = H.T @ dY  # section 5
db2 = dY.sum(axis=0)  # b₂ was broadcast over the batch (section 4)
dH = dY @ W2.T  # section 5
dU = dH * (1 - H**2)  # section 2
dW1 = X.T @ dU
db1 = dU.sum(axis=0)

# %% [markdown]
# The engine finds the same:

# %% tags=["deterministic"]
tensors = [Tensor(a, requires_grad=True) for a in (W1, b1, W2, b2)]
w1, c1, w2, c2 = tensors
D = F.tanh(Tensor(X) @ w1 + c1) @ w2 + c2 - Tensor(T)
(D * D).mean().backward()
for name, mine, tensor in zip(("dW1", "db1", "dW2", "db2"), (dW1, db1, dW2, db2), tensors, strict=True):
    print(name, mine.shape, "equal to 1e-12:", bool(np.abs(mine - tensor.grad.numpy()).max() < 1e-12))

# %% [markdown]
# Eight lines for eight steps. That proportion holds for every network: the way back costs about as much as the way
# forward for each input of each operation, so about twice as much for matrix products, which have two.

# %% [markdown]
# ## Exercises
#
# **Exercise 2.1.** Undo any broadcast: sum `g` so that it gets the shape `shape`.


# %%
def undo_broadcast(g, shape):
    return ...


# check_unbroadcast(undo_broadcast)

# %% [markdown]
# **Exercise 2.2.** The vjp of `x.mean(axis)` for `x` of shape `shape` and one axis, which `g` has no more.


# %%
def mean_vjp(g, shape, axis):
    return ...


# check_mean_vjp(mean_vjp)

# %% [markdown]
# **Exercise 2.3.** The vjp of `W[ids]`, where `W` is a table $(V, C)$, `ids` an array of integers of any shape and `g`
# of the shape `(*ids.shape, C)`.


# %%
def rows_vjp(g, ids, V):
    return ...


# check_rows_vjp(rows_vjp)

# %% [markdown]
# **Exercise 2.4.** The gradient of the weight in `y = x @ W`, for `x` of shape $(B, T, C)$, `W` of shape $(C, D)$ and
# `g` of shape $(B, T, D)$.


# %%
def weight_vjp(x, g):
    return ...


# check_weight_vjp(weight_vjp)

# %% [markdown]
# **Exercise 2.5.** The vjp of `x.transpose(axes)`.


# %%
def transpose_vjp(g, axes):
    return ...


# check_transpose_vjp(transpose_vjp)

# %% [markdown]
# **Exercise 2.6.** The other gradient of section 8: $dK$ for $S_{bqk} = \sum_d Q_{bqd} K_{bkd}$, from `Q` and the
# cotangent `g` of $S$.


# %%
def scores_vjp(Q, g):
    return ...


# check_scores_vjp(scores_vjp)

# %% [markdown]
# ## Solutions


# %% tags=["solution"]
def undo_broadcast(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))  # axes that were put in front
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=stretched, keepdims=True)


check_unbroadcast(undo_broadcast)


# %% tags=["solution"]
def mean_vjp(g, shape, axis):
    return np.broadcast_to(np.expand_dims(g, axis), shape) / shape[axis]


check_mean_vjp(mean_vjp)


# %% tags=["solution"]
def rows_vjp(g, ids, V):
    dW = np.zeros((V, g.shape[-1]))
    np.add.at(dW, ids, g)
    return dW


check_rows_vjp(rows_vjp)


# %% tags=["solution"]
def weight_vjp(x, g):
    return x.reshape(-1, x.shape[-1]).T @ g.reshape(-1, g.shape[-1])


check_weight_vjp(weight_vjp)


# %% tags=["solution"]
def transpose_vjp(g, axes):
    return g.transpose(np.argsort(axes))


check_transpose_vjp(transpose_vjp)


# %% tags=["solution"]
def scores_vjp(Q, g):
    return np.einsum("bqk,bqd->bkd", g, Q)  # G and K have changed places


check_scores_vjp(scores_vjp)

# %% [markdown]
# ## What to read next
#
# - [minilm/functional/reductions.py](../minilm/functional/reductions.py),
#   [shape.py](../minilm/functional/shape.py), [indexing.py](../minilm/functional/indexing.py) and
#   [linear_algebra.py](../minilm/functional/linear_algebra.py): the operations of this chapter, with all of their cases
#   (vectors, several axes, masks, `einsum` with repeated letters).
# - [minilm/tensor/operation.py](../minilm/tensor/operation.py): how a function on arrays becomes an operation on
#   Tensors; `elementwise` is where the engine promises to undo broadcasts.
# - [tests/tensor/test_contract.py](../tests/tensor/test_contract.py): `test_broadcasting_is_undone_exactly` and
#   `test_repeated_indices_add`; [tests/functional](../tests/functional) checks each operation.
# - [Chapter 3](03_breaking_the_engine.ipynb): what can go wrong although every vjp is right.

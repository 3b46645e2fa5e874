# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 16 · Flash attention by hand
#
# **What you will be able to do**
#
# - compute a softmax-weighted sum in one pass over the scores, and prove that it is right;
# - write the forward of attention block by block, so that the matrix of all scores never exists;
# - write its backward from two kept arrays, with the trick that removes a sum over all keys;
# - count what that saves, in memory and in traffic, and what it costs.
#
# **What it needs**: attention and its gradient ([chapter 7](07_attention.ipynb)), vjps and the gradient check
# ([chapters 2](02_tensors.ipynb) and [4](04_how_do_we_know.ipynb)), what memory traffic is
# ([chapter 15](15_memory.ipynb)).

# %%
import numpy as np
from matplotlib.patches import Rectangle

import minilm.functional as F
from checks import results
from checks.chapter_16 import check_blocked, check_cross_entropy, check_merge, check_one_pass
from minilm import Tensor
from minilm.backend import Array
from minilm.kernels.attention import blocked as library_blocked
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.tensor import differentiable
from minilm.testing import gradcheck
from minilm.testing.timing import peak_memory

# %% [markdown]
# ## The problem
#
# For one head, with queries $Q$ $(T_q, D)$, keys $K$ $(T_k, D)$ and values $V$ $(T_k, D_v)$:
#
# $$S = \frac{Q K^\top}{\sqrt{D}}, \qquad P = \operatorname{softmax}(S) \text{ along the keys}, \qquad O = P V$$
#
# $Q$, $K$, $V$ and $O$ grow with the length $T$. $S$ and $P$ grow with its square, and the backward of chapter 7 keeps
# $P$ until it is needed.

# %% tags=["deterministic"]
H, D, itemsize = 8, 64, 4  # heads, head width, bytes of a float32
for T in (1024, 8192, 65536):
    rows, scores = 4 * H * T * D * itemsize, H * T * T * itemsize
    print(f"T {T:6}: Q, K, V, O {rows / 1e6:7.1f} MB    P alone {scores / 1e6:9.1f} MB")

# %% [markdown]
# One layer of one sequence of 65,536 tokens would need 137 GB for numbers that are used once and thrown away. Is
# there a way to use a weight the moment its score is known, and to forget it?
#
# The obstacle is the softmax: a weight has all scores in its denominator. So it seems that all scores must be known
# before the first weight is.
#
# ## Softmax in three passes, in two, in one
#
# Take one query. Its scores are $s_1, \dots, s_T$ with $T$ short for $T_k$, and the values are $v_1, \dots, v_T$. Since
# $e^s$ overflows for large $s$, everybody subtracts the largest score first:
#
# $$\mathit{top} = \max_j s_j, \qquad \mathit{total} = \sum_j e^{s_j - \mathit{top}}, \qquad
# o = \sum_j \frac{e^{s_j - \mathit{top}}}{\mathit{total}}\, v_j$$
#
# These are three passes over the scores: one for the maximum, one for the sum, one for the output.
#
# **Two passes.** The division by $\mathit{total}$ is the same for all terms. It can wait until the end. With
#
# $$\mathit{acc} = \sum_j e^{s_j - \mathit{top}}\, v_j, \qquad o = \frac{\mathit{acc}}{\mathit{total}}$$
#
# the second and third pass are one.
#
# **One pass.** The maximum is left. But look at what it is for: any number $c$ in the place of $\mathit{top}$ gives the
# same $o$, because $e^{s_j - c} = e^{s_j} e^{-c}$ and the factor $e^{-c}$ cancels in the quotient. So start with the
# maximum *of the scores seen so far*, and when a larger one comes, correct what has been added up.
#
# Say that after the first $n$ scores we hold
#
# $$\mathit{top}_n = \max_{j \le n} s_j, \qquad \mathit{total}_n = \sum_{j \le n} e^{s_j - \mathit{top}_n}, \qquad
# \mathit{acc}_n = \sum_{j \le n} e^{s_j - \mathit{top}_n}\, v_j \tag{1}$$
#
# and the next score is $s_{n+1}$. The update is
#
# $$\mathit{top}_{n+1} = \max(\mathit{top}_n, s_{n+1}), \qquad r = e^{\mathit{top}_n - \mathit{top}_{n+1}}, \qquad
# w = e^{s_{n+1} - \mathit{top}_{n+1}}$$
#
# $$\mathit{total}_{n+1} = r\, \mathit{total}_n + w, \qquad
# \mathit{acc}_{n+1} = r\, \mathit{acc}_n + w\, v_{n+1} \tag{2}$$
#
# **Proof** that (2) keeps (1) true. Every term added so far is $e^{s_j - \mathit{top}_n}$ and should be
# $e^{s_j - \mathit{top}_{n+1}}$. The quotient of the two is
#
# $$\frac{e^{s_j - \mathit{top}_{n+1}}}{e^{s_j - \mathit{top}_n}} = e^{\mathit{top}_n - \mathit{top}_{n+1}} = r$$
#
# It does not depend on $j$. So one factor corrects all terms at once:
#
# $$r\, \mathit{total}_n + w = \sum_{j \le n} r\, e^{s_j - \mathit{top}_n} + e^{s_{n+1} - \mathit{top}_{n+1}}
# = \sum_{j \le n+1} e^{s_j - \mathit{top}_{n+1}}$$
#
# and in the same way for $\mathit{acc}$, where each term has the factor $v_j$. For the start,
# $\mathit{top}_0 = -\infty$ and $\mathit{total}_0 = \mathit{acc}_0 = 0$ satisfy (1), as sums without terms. By
# induction (1) holds after the last score, and there it is the two-pass formula. $\blacksquare$
#
# Nothing overflows: all exponents are at most 0. This is the **online softmax** (Milakov and Gimelshein 2018).

# %%
def online(scores, values):
    """softmax(scores) @ values, each score and each value looked at once; also the history, for the table."""
    top, total, acc = -np.inf, 0.0, np.zeros(values.shape[1])
    history = []
    for s, v in zip(scores, values, strict=True):
        new_top = max(top, s)
        r, w = np.exp(top - new_top), np.exp(s - new_top)
        total, acc, top = r * total + w, r * acc + w * v, new_top
        history.append((s, top, r, w, total, acc[0]))
    return acc / total, history


# %% tags=["deterministic"]
rng = np.random.default_rng(0)
scores, values = np.array([1.0, 0.0, 3.0, 2.0, 5.0, 4.0]), rng.standard_normal((6, 2))
out, history = online(scores, values)
print("score  top       r       w    total   acc[0]")
for s, top, r, w, total, acc in history:
    print(f"{s:5.1f} {top:4.1f}  {r:6.4f}  {w:6.4f}  {total:7.4f}  {acc:7.4f}")
weights = np.exp(scores) / np.exp(scores).sum()
print("one pass:", out.round(6), " formula:", (weights @ values).round(6))

# %% [markdown]
# Read the third line: the score 3 raises the maximum from 1 to 3, so all that was added before shrinks by
# $r = e^{1 - 3}$, which is 0.1353. In the fourth line the maximum stays, and $r = 1$.
#
# The same update works for a *block* of scores at once: $\mathit{top}$ becomes the maximum of the old one and of the
# block's, the old sums are multiplied by $r$, and the block's sums are added. The proof is the same with "the block" in
# the place of "the score $n + 1$". Below, 64 scores in blocks of 8.

# %%
rng = np.random.default_rng(1)
s64, block = rng.normal(0, 2, 64) + np.linspace(-2, 2, 64), 8
top, total, tops, totals = -np.inf, 0.0, [], []
for first in range(0, 64, block):
    part = s64[first : first + block]
    new_top = max(top, part.max())
    total = total * np.exp(top - new_top) + np.exp(part - new_top).sum()
    top = new_top
    tops.append(top)
    totals.append(total)

figure = new_figure()
figure.set_size_inches(7, 3.6)
upper, lower = figure.subplots(2, 1, sharex=True)
upper.plot(s64, ".", color=GREY, label="scores")
upper.step(np.arange(8) * block + block, tops, where="post", color=COLOURS[1])
upper.plot(np.arange(8) * block + block, tops, "s", color=COLOURS[1], markersize=5, label="top, after each block")
upper.legend(frameon=False, fontsize=8, ncols=2, loc="lower right")
upper.set_ylabel("score")
for first in range(0, 65, block):
    upper.axvline(first - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
ends = np.arange(8) * block + block
lower.bar(ends, totals, width=3, color=COLOURS[0], label="total, relative to top so far")
final = [np.exp(s64[:end] - s64.max()).sum() for end in ends]
lower.plot(ends, final, "D", color=COLOURS[2], label="the same scores, relative to the final top")
lower.set(xlabel="scores seen", ylabel="sum of exponentials", xticks=ends, ylim=(0, max(totals) * 1.45))
lower.legend(frameon=False, fontsize=8, loc="upper left")
figure

# %% [markdown]
# The bars go up and down: each new maximum makes all that came before smaller. At the end bar and diamond agree, as
# they must.
#
# ## The forward, block by block
#
# Now all queries. Each query (row) has its own $\mathit{top}$, $\mathit{total}$ and $\mathit{acc}$. Let blocks of
# `BLOCK_K` keys pass by; only a $(T_q, \mathtt{BLOCK\_K})$ block of scores exists at a time. The variable names are
# those of [kernels/attention/blocked.py](../kernels/attention/blocked.py), and they will be the same in the Triton
# kernel of [chapter 17](17_triton.ipynb).
#
# *Causal* attention: query $i$ may see the keys $j \le i + \mathit{offset}$, with $\mathit{offset} = 0$ when queries
# and keys are the same positions. A block of keys from `start` on is seen only by the queries
# $i \ge \mathit{start} - \mathit{offset}$; earlier ones are left out, and blocks on the diagonal are masked.

# %%
def blocks(Tq, Tk, BLOCK_K, offset):
    """Rows and columns of the scores, a block of keys at a time: the queries that see any of them."""
    for start in range(0, Tk, BLOCK_K):
        first = 0 if offset is None else min(max(start - offset, 0), Tq)
        if first < Tq:
            yield slice(first, Tq), slice(start, min(start + BLOCK_K, Tk))


def block_of_scores(q, k, rows, columns, offset):
    """The scores of these queries and keys; -inf where a query may not see a key."""
    scores = q[rows] @ k[columns].T / np.sqrt(q.shape[1])
    if offset is not None:
        i, j = np.arange(len(q))[rows, None], np.arange(len(k))[columns]
        scores = np.where(j <= i + offset, scores, -np.inf)
    return scores


# %% [markdown]
# One hazard. A query that has seen no key yet has $\mathit{top} = -\infty$, and if the whole block is masked for it,
# $\mathit{top}_{n+1}$ is $-\infty$ as well: $-\infty - (-\infty)$ is not a number. There `shift` is 0 in the place of
# the maximum; then all exponentials are $e^{-\infty} = 0$, which is right.
#
# With equation (2) for all rows at once, and at the end $o = \mathit{acc} / \mathit{total}$:

# %%
def forward(q, k, v, BLOCK_K=64, offset=None):
    """out (Tq, Dv) and lse (Tq,), with q (Tq, D), k (Tk, D), v (Tk, Dv)."""
    Tq, Tk = len(q), len(k)
    top, total = np.full(Tq, -np.inf), np.zeros(Tq)
    acc = np.zeros((Tq, v.shape[1]))  # out, before the division by total
    for rows, columns in blocks(Tq, Tk, BLOCK_K, offset):
        scores = block_of_scores(q, k, rows, columns, offset)
        new_top = np.maximum(top[rows], scores.max(axis=1))
        shift = np.where(new_top == -np.inf, 0, new_top)
        weights = np.exp(scores - shift[:, None])
        rescale = np.exp(top[rows] - shift)  # r
        total[rows] = total[rows] * rescale + weights.sum(axis=1)
        acc[rows] = acc[rows] * rescale[:, None] + weights @ v[columns]
        top[rows] = new_top
    total = np.where(total == 0, 1, total)  # a query that sees no key: out is 0
    return acc / total[:, None], top + np.log(total)


# %% [markdown]
# It returns one number more for each query. By (1), after the last block,
#
# $$\mathit{lse} = \mathit{top} + \log \mathit{total} = \log\Big(e^{\mathit{top}} \sum_j e^{s_j - \mathit{top}}\Big)
# = \log \sum_j e^{s_j}$$
#
# the *log-sum-exp* of the scores. With it any weight is one exponential away from its score:
# $w_j = e^{s_j} / \sum_m e^{s_m} = e^{s_j - \mathit{lse}}$. The backward will live on that.
#
# Does it give what the formula gives? For blocks that do not divide the length, for one block, for blocks of one key:

# %% tags=["deterministic"]
rng = np.random.default_rng(2)
Tq, Tk, D, Dv = 50, 70, 16, 8
q, k, v = rng.standard_normal((Tq, D)), rng.standard_normal((Tk, D)), rng.standard_normal((Tk, Dv))
for offset, how in ((None, False), (0, "upper_left"), (Tk - Tq, "lower_right")):
    expected = F.scaled_dot_product_attention.body(q, k, v, is_causal=how)[0]  # the textbook formula, on arrays
    errors = [np.abs(forward(q, k, v, BLOCK_K, offset)[0] - expected).max() for BLOCK_K in (1, 16, 33, 70, 1000)]
    print(f"is_causal={how!s:11} equal for all block sizes: {max(errors) < 1e-13}")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.9)
Tq_, BLOCK = 12, 3
for axes, offset, title in zip(figure.subplots(1, 3), (None, 0, -4),
                               ("every key", "causal", "causal, offset -4: the first\nfour queries see nothing"),
                               strict=True):  # fmt: skip
    for number, (rows, columns) in enumerate(blocks(Tq_, Tq_, BLOCK, offset)):
        box = (columns.start, rows.start), columns.stop - columns.start, rows.stop - rows.start
        colour = COLOURS[number % len(COLOURS)]
        axes.add_patch(Rectangle(*box, facecolor=colour, alpha=0.35, edgecolor=colour, linewidth=1.5))
        axes.text(columns.start + BLOCK / 2, rows.stop - 0.8, f"{number + 1}", ha="center", va="center", fontsize=9)
    if offset is not None:
        i, j = np.nonzero(~np.tri(Tq_, k=offset, dtype=bool))
        axes.plot(j + 0.5, i + 0.5, "x", color="#999999", markersize=3)
    axes.set(xlim=(0, Tq_), ylim=(Tq_, 0), aspect="equal", xlabel="key j")
    axes.set(xticks=range(0, 13, 3), yticks=range(0, 13, 3))
    axes.set_title(title, fontsize=9)
figure.axes[0].set_ylabel("query i")
figure

# %% [markdown]
# Each coloured box is a block of scores that exists at one time, in the order of the numbers; crosses are pairs that
# the mask forbids. With causal attention a large part of the square is never computed: nearly half, where blocks are
# small beside the length.
#
# ## The backward
#
# From chapter 7, with $dX$ for the gradient of the loss with respect to $X$:
#
# $$dV = P^\top dO, \qquad dP = dO\, V^\top, \qquad dS_{ij} = P_{ij}\Big(dP_{ij} - \sum_m P_{im}\, dP_{im}\Big)$$
#
# $$dQ = \frac{dS\, K}{\sqrt D}, \qquad dK = \frac{dS^\top Q}{\sqrt D}$$
#
# Two things are in the way of doing this block by block.
#
# **$P$ was not kept.** We compute it again: a block of scores from $Q$ and $K$, then
# $P_{ij} = e^{S_{ij} - \mathit{lse}_i}$. This is one matrix product more than the textbook needs. On a machine that
# waits for memory most of the time, computing a thing twice can be faster than storing it.
#
# **The sum over $m$ needs all keys of a row** before the first $dS_{ij}$ is known. That would be another pass over all
# blocks. But look at what is summed. Insert $dP_{im} = \sum_d dO_{id} V_{md}$ and exchange the two sums:
#
# $$\sum_m P_{im}\, dP_{im} = \sum_m P_{im} \sum_d dO_{id}\, V_{md}
# = \sum_d dO_{id} \underbrace{\sum_m P_{im} V_{md}}_{O_{id}} = \sum_d dO_{id}\, O_{id} = \mathit{delta}_i \tag{3}$$
#
# It is the dot product of two rows that are there already, the output and its gradient. So
#
# $$dS_{ij} = P_{ij}\,(dP_{ij} - \mathit{delta}_i)$$
#
# needs nothing outside its own block. $dV$ and $dK$ of a key are complete when its block is done; $dQ$ adds up over the
# blocks.

# %%
def backward(q, k, v, out, lse, dout, BLOCK_K=64, offset=None):
    """dq, dk, dv, from what the forward kept: out and lse."""
    scale = 1 / np.sqrt(q.shape[1])
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    delta = (dout * out).sum(axis=1)  # equation (3)
    finite_lse = np.where(lse == -np.inf, np.inf, lse)  # a query that saw no key: its weights are e^(s - inf) = 0
    for rows, columns in blocks(len(q), len(k), BLOCK_K, offset):
        weights = np.exp(block_of_scores(q, k, rows, columns, offset) - finite_lse[rows, None])
        dweights = dout[rows] @ v[columns].T
        dscores = weights * (dweights - delta[rows, None])
        dv[columns] = weights.T @ dout[rows]
        dk[columns] = dscores.T @ q[rows] * scale
        dq[rows] += dscores @ k[columns] * scale
    return dq, dk, dv


# %% tags=["deterministic"]
dout = rng.standard_normal((Tq, Dv))
for offset, how in ((None, False), (0, "upper_left"), (-10, None)):
    out, lse = forward(q, k, v, 16, offset)
    ours = backward(q, k, v, out, lse, dout, 16, offset)
    if how is None:  # query i sees the keys j <= i - 10; the library takes this as a mask
        mask = np.tri(Tq, Tk, -10, dtype=bool)
        vjp = F.scaled_dot_product_attention.body(q, k, v, attn_mask=mask)[1]
    else:
        vjp = F.scaled_dot_product_attention.body(q, k, v, is_causal=how)[1]
    theirs = vjp(dout, (True, True, True, False))
    close = [bool(np.abs(a - b).max() < 1e-12) for a, b in zip(ours, theirs, strict=False)]
    print(f"offset {offset!s:4}: equal to the formula's: {close}; queries without a key: {np.isinf(lse).sum()}")

# %% [markdown]
# The formula could be wrong as well. So make an operation of it and let finite differences judge (chapter 4). An
# operation of minilm is a function on arrays that returns its output and its vjp:

# %%
@differentiable
def flash_attention(query: Array, key: Array, value: Array, BLOCK_K: int = 64, offset: int | None = None):
    out, lse = forward(query, key, value, BLOCK_K, offset)
    return out, lambda g, needs: backward(query, key, value, out, lse, g, BLOCK_K, offset)


# %% tags=["deterministic"]
inputs = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((7, 4), (9, 4), (9, 3))]
print("every key:", gradcheck(lambda *x: flash_attention(*x, BLOCK_K=4), inputs))
print("causal:   ", gradcheck(lambda *x: flash_attention(*x, BLOCK_K=4, offset=2), inputs))

# %% [markdown]
# Would it have found a mistake? Leave $\mathit{delta}$ out, which is the usual one:

# %% tags=["deterministic"]
@differentiable
def flash_without_delta(query: Array, key: Array, value: Array):
    out, lse = forward(query, key, value)
    return out, lambda g, needs: backward(query, key, value, 0 * out, lse, g)


try:
    gradcheck(flash_without_delta, inputs)
except AssertionError as error:
    print("GradientError:", str(error).split(":")[0], "is wrong")

# %% [markdown]
# ## What it saves
#
# *Memory.* What is held from the forward to the backward, besides the inputs: $P$, $T_q T_k$ numbers, or out and lse,
# $T_q (D_v + 1)$ numbers. At work: blocks of $T_q \cdot \mathtt{BLOCK\_K}$. We measure the largest amount held during
# forward and backward together, for the textbook formula, for our functions, and for the library's blocked rung.

# %%
def peak(compute, T, D=64):
    """Bytes held at the worst moment of a forward and a backward, beyond the inputs."""
    rng = np.random.default_rng(T)
    q, k, v, g = (rng.standard_normal((T, D)) for _ in range(4))
    return peak_memory(lambda: compute(q, k, v, g))


def textbook(q, k, v, g):
    out, vjp = F.scaled_dot_product_attention.body(q, k, v)
    vjp(g, (True, True, True, False))


def by_hand(q, k, v, g):
    out, lse = forward(q, k, v)
    backward(q, k, v, out, lse, g)


def blocked_rung(q, k, v, g):
    out, vjp = library_blocked.attention(q, k, v)
    vjp(g, (True, True, True, False))


lengths = [128, 256, 512, 1024, 2048]
contestants = {"the formula": textbook, "by hand": by_hand, "kernels/attention/blocked.py": blocked_rung}
measured = {name: [peak(compute, T) for T in lengths] for name, compute in contestants.items()}

# %%
figure = new_figure()
figure.set_size_inches(7, 3.4)
axes = figure.add_subplot()
for (name, bytes_), colour, marker in zip(measured.items(), COLOURS, "os^", strict=False):
    axes.plot(lengths, np.array(bytes_) / 1e6, marker + "-", color=colour, label=name)
x = np.array([400, 2048.0])
axes.plot(x, measured["the formula"][-1] / 1e6 * 0.55 * (x / 2048) ** 2, "--", color=GREY, linewidth=1)
axes.plot(x, measured["by hand"][-1] / 1e6 * 0.55 * (x / 2048), "--", color=GREY, linewidth=1)
axes.text(900, 8, "$\\propto T^2$", color=GREY)
axes.text(1300, 1.75, "$\\propto T$", color=GREY)
axes.set(xscale="log", yscale="log", xlabel="length T (one head, D = 64, float64)")
axes.set_ylabel("memory at the worst moment (MB)")
axes.set_xticks(lengths, lengths)
axes.minorticks_off()
axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
axes.grid(color="#dddddd", linewidth=0.6)
axes.legend(frameon=False, fontsize=9)
figure

# %% [markdown]
# On these log-log axes the formula's line is twice as steep: doubling $T$ takes four times the memory, ours twice.
#
# *Traffic.* Memory is fast or slow (chapter 15). Let the fast memory hold $M$ numbers, and say one program works on
# `BLOCK_Q` queries: it reads them once, keeps them with their $\mathit{acc}$ in fast memory, and lets all keys and
# values pass by. Each of the $T / \mathtt{BLOCK\_Q}$ programs reads all of $K$ and $V$. With $D_v = D$ the numbers
# moved are
#
# $$\underbrace{T D}_{Q} + \underbrace{T D}_{O} + \underbrace{T}_{\mathit{lse}} + \frac{T}{\mathtt{BLOCK\_Q}} \cdot
# \underbrace{2\, T D}_{K,\, V}$$
#
# The formula moves $Q$, $K$, $V$, $O$ once, and writes and reads both $S$ and $P$: $4 T D + 4 T^2$ numbers. In the
# fused version $T^2$ has the factor $2 D / \mathtt{BLOCK\_Q}$ in the place of 4. A block of queries, its
# $\mathit{acc}$, and one block of keys and of values must fit into $M$; with blocks of the same size that is
# $4\, \mathtt{BLOCK\_Q}\, D \le M$. The largest possible block, $M / 4D$, gives $8\, T^2 D^2 / M$ numbers: the more
# fast memory, the less traffic (Dao et al. 2022, theorem 2).

# %% tags=["deterministic"]
T, D = 4096, 64
formula = 4 * T * D + 4 * T * T
print(f"the formula:      {formula / 1e6:6.2f} million numbers moved")
for BLOCK_Q in (16, 64, 128, 256):
    fused = 2 * T * D + T + T // BLOCK_Q * 2 * T * D
    print(f"BLOCK_Q = {BLOCK_Q:4}:   {fused / 1e6:6.2f} million; formula / blocks = {formula / fused:.1f}; "
          f"fast memory {4 * BLOCK_Q * D * 2 / 1024:4.0f} KB in float16")  # fmt: skip

# %% [markdown]
# Blocks of 16 queries move *more* than the formula does: the keys and values are read again too often. The factor
# $2 D / \mathtt{BLOCK\_Q}$ is below 4 only if `BLOCK_Q` is more than $D / 2$. (The last column counts the scores of a
# block for nothing: a GPU keeps them in registers.)
#
# *Arithmetic.* A product of matrices with the sides $T$, $D$, $T$ takes $2 T^2 D$ flops. The formula does two in the
# forward ($QK^\top$, $PV$) and four in the backward ($dV$, $dP$, $dQ$, $dK$). The blocked version computes the scores
# once more: two and five. Seven products for six, and that is the whole price.
#
# What does that mean in seconds? The library's fast version of this loop (`kernels/attention/threaded.py`: the same
# idea, with the queries cut into blocks as well, so that each block stays in the processor's cache) was timed beside
# the formula in a long run:

# %%
run = results("attention_length")
lengths = sorted(int(T) for T in run["rows"])
names = {"textbook": "the formula", "minilm": "by blocks"}
figure = new_figure()
figure.set_size_inches(7, 3.1)
labels = "seconds, forward and backward", "most memory held (MB)"
for axes, what, unit, label in zip(figure.subplots(1, 2), ("both_s", "peak_bytes"), (1, 1e-6), labels, strict=True):
    for name, colour, marker in (("textbook", COLOURS[0], "o"), ("minilm", COLOURS[1], "s")):
        rows = [(T, run["rows"][str(T)].get(name)) for T in lengths]
        points = [(T, row[what] * unit) for T, row in rows if row is not None and what in row]
        axes.plot(*np.array(points).T, marker + "-", color=colour, label=names[name])
    axes.set(xscale="log", yscale="log", xlabel="length T", ylabel=label)
    axes.set_xticks(lengths, [f"{T:,}" for T in lengths], rotation=45, fontsize=8)
    axes.minorticks_off()
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=9)
machine = run["machine"]
figure.suptitle(f"{run['heads']} heads of width {run['width']}, causal, float32; {machine['cpu']}, "
                f"{machine['threads']} threads", fontsize=9)  # fmt: skip
figure

# %% [markdown]
# Beyond the shortest length it takes less memory *and* less time, though it does more arithmetic: the formula spends
# its time waiting for memory.
#
# ## Exercises
#
# **Exercise 16.1.** `one_pass(scores)`: the maximum and $\sum_j e^{s_j - \max}$ as a pair `(top, total)`. The
# argument is an *iterator*: it gives each score once and then it is empty. Make no list or array of them: there may
# be more than memory holds.

# %%
def one_pass(scores):
    ...


# check_one_pass(one_pass)

# %% [markdown]
# **Exercise 16.2.** Two programs have each gone through one half of the keys of a query, and hold
# $(\mathit{top}, \mathit{total}, \mathit{acc})$ as in (1). `merge(a, b)` returns the triple for all keys. (A GPU
# decodes one token from a long cache so: many programs, each a part of the keys. One part may be empty:
# $(-\infty, 0, 0)$.)

# %%
def merge(a, b):
    ...


# check_merge(merge)

# %% [markdown]
# **Exercise 16.3.** `attention_by_queries(q, k, v, BLOCK_Q, BLOCK_K)`: cut the queries as well. The outer loop goes
# over blocks of queries, the inner one over blocks of keys, and no array larger than (`BLOCK_Q`, `BLOCK_K`) of scores
# exists. Return out $(T_q, D_v)$. No mask.

# %%
def attention_by_queries(q, k, v, BLOCK_Q, BLOCK_K):
    ...


# check_blocked(attention_by_queries)

# %% [markdown]
# **Exercise 16.4.** The same idea elsewhere. A language model's loss at one position with the hidden vector $h$
# $(C,)$ and the output matrix $W$ $(V, C)$, $V$ being the number of tokens, is
# $\log \sum_j e^{W_j \cdot h} - W_{\mathit{target}} \cdot h$. With 50,000 tokens the logits $W h$ of a batch are the
# largest array of the whole training step. `cross_entropy_blocked(h, W, target, BLOCK)` takes `h` $(N, C)$ and
# `target` $(N,)$ and returns the $N$ losses, with at most $(N, \mathtt{BLOCK})$ logits at a time.

# %%
def cross_entropy_blocked(h, W, target, BLOCK):
    ...


# check_cross_entropy(cross_entropy_blocked)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
def one_pass_solution(scores):
    top, total = -np.inf, 0.0
    for s in scores:
        new_top = max(top, s)
        total = total * np.exp(top - new_top) + np.exp(s - new_top)
        top = new_top
    return top, total


check_one_pass(one_pass_solution)

# %% tags=["solution"]
def merge_solution(a, b):
    top = max(a[0], b[0])
    if top == -np.inf:  # both are empty
        return a
    ra, rb = np.exp(a[0] - top), np.exp(b[0] - top)
    return top, ra * a[1] + rb * b[1], ra * a[2] + rb * b[2]


check_merge(merge_solution)

# %% tags=["solution"]
def attention_by_queries_solution(q, k, v, BLOCK_Q, BLOCK_K):
    out = np.empty((len(q), v.shape[1]))
    for start in range(0, len(q), BLOCK_Q):
        rows = slice(start, start + BLOCK_Q)
        out[rows] = forward(q[rows], k, v, BLOCK_K)[0]
    return out


check_blocked(attention_by_queries_solution)

# %% tags=["solution"]
def cross_entropy_blocked_solution(h, W, target, BLOCK):
    top, total, wanted = np.full(len(h), -np.inf), np.zeros(len(h)), np.zeros(len(h))
    for first in range(0, len(W), BLOCK):
        logits = h @ W[first : first + BLOCK].T  # (N, at most BLOCK)
        new_top = np.maximum(top, logits.max(axis=1))
        total = total * np.exp(top - new_top) + np.exp(logits - new_top[:, None]).sum(axis=1)
        top = new_top
        here = (target >= first) & (target < first + logits.shape[1])  # rows whose target is in this block
        wanted[here] = logits[here, target[here] - first]
    return top + np.log(total) - wanted


check_cross_entropy(cross_entropy_blocked_solution)

# %% [markdown]
# ## What to read next
#
# - [kernels/attention/blocked.py](../kernels/attention/blocked.py): this chapter with masks, dropout, grouped heads
#   and batches; [kernels/attention/threaded.py](../kernels/attention/threaded.py): the fast version.
# - [kernels/cross_entropy/blocked.py](../kernels/cross_entropy/blocked.py): exercise 16.4 with its backward.
# - [tests/kernels/test_attention_blocked.py](../tests/kernels/test_attention_blocked.py): the blocked rung held against
#   the one below, with all its options.
# - [kernels/README.md](../kernels/README.md), "Online softmax in five lines" and "The delta of the backward".
# - Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022, "FlashAttention".
# - [Chapter 17](17_triton.ipynb): the same loop as a GPU kernel.

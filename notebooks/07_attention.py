# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7 · Attention
#
# **What you will be able to do**
#
# - follow one query through attention by hand, and say what a query, a key, a value, a score and a weight are;
# - say why scores are divided by $\sqrt{D}$, and what happens to the gradient if they are not;
# - write causal masks and padding masks, and say what a query gets that may see nothing;
# - split channels into heads and follow the shapes;
# - prove that attention alone does not know the order of its input, and name three ways to tell it;
# - read an attention map.
#
# **What it needs**: softmax ([chapter 0](00_documented_math.ipynb)), the vjp of a matrix product
# ([chapter 2](02_tensors.ipynb)), tokens and embeddings ([chapter 5](05_text_to_numbers.ipynb)), a training loop
# ([chapter 6](06_ngram_to_lstm.ipynb)).

# %%
import numpy as np
from matplotlib.patches import Rectangle

import minilm
import minilm.functional as F
from checks import source
from checks.chapter_07 import check_attend, check_gradient, check_padding_mask, check_rotary, check_split_heads
from checks.drawing import matrices_figure
from minilm import Tensor, nn, no_grad, optim
from minilm.plots.loss_curves import COLOURS, GREY, new_figure

# %% [markdown]
# ## The problem
#
# *The cat sat down because it was tired.* Who was tired? A reader of "it" looks back and finds "cat".
#
# The LSTM of [chapter 6](06_ngram_to_lstm.ipynb) cannot look back. All that it knows of the past is a state of fixed
# size, which every word changes a little. "cat" must survive each word in between; in a long text these are
# thousands.
#
# Attention keeps a vector for every position and looks the past up when it needs it. It works like a Python
# dictionary, but softly: a dictionary returns the value of the one key that matches, attention returns an average of
# all values, in which a value counts more the better its key matches.
#
# ## One query by hand
#
# Four positions, $j = 1, \dots, 4$. Each offers two vectors:
#
# - a **key** $k_j$ with $D$ numbers: what the position is found by;
# - a **value** $v_j$ with $D_v$ numbers: what it hands over.
#
# And somebody asks, with a **query** $q$ of $D$ numbers: what is looked for.
#
# For the example we write the vectors by hand, $D = 4$ and $D_v = 2$. The four channels of the keys could mean
# "article", "living thing", "action", "pronoun". The query of "it" looks for a living thing, and a little for an
# action.

# %%
words = ["the", "cat", "sat", "it"]
K = np.array([[2.0, 0.0, 0.0, 0.0],    # the
              [0.0, 2.0, 0.0, 0.0],    # cat
              [0.0, 0.0, 2.0, 0.0],    # sat
              [0.0, 1.0, 0.0, 1.0]])   # it      (Tk, D)
V = np.array([[1.0, 3.0], [4.0, 1.0], [-2.0, 2.0], [-1.0, -2.0]])  # (Tk, Dv)
q = np.array([0.0, 2.0, 1.0, 0.0])  # (D,)

# %% [markdown]
# **Step 1, scores.** How well does key $j$ match? The dot product says it, divided by the square root of the width (a
# later section explains the division):
#
# $$s_j = \frac{q \cdot k_j}{\sqrt{D}} = \frac{1}{\sqrt{D}} \sum_{d=1}^{D} q_d \, k_{jd}$$
#
# For "cat": $q \cdot k_2 = 0 \cdot 0 + 2 \cdot 2 + 1 \cdot 0 + 0 \cdot 0 = 4$, and $4 / \sqrt{4} = 2$.
#
# **Step 2, weights.** Softmax makes the scores positive and lets them sum to 1:
#
# $$w_j = \frac{e^{s_j}}{\sum_{m=1}^{4} e^{s_m}}$$
#
# **Step 3, the output:** the values, each as much as its weight says:
#
# $$o = \sum_{j=1}^{4} w_j \, v_j$$

# %% tags=["deterministic"]
D = q.size
print("       q.k     s   e^s        w")
dots = K @ q
s = dots / np.sqrt(D)
w = np.exp(s) / np.exp(s).sum()
for j, word in enumerate(words):
    print(f"{word:4}  {dots[j]:4.1f}  {s[j]:4.1f}  {np.exp(s[j]):6.4f}  {w[j]:.4f}")
print(f"sum               {np.exp(s).sum():7.4f}  {w.sum():.4f}")
o = w @ V
print("output", " + ".join(f"{w[j]:.4f} * {V[j, 0]:g}" for j in range(4)), f"= {o[0]:.4f}")
print("      ", " + ".join(f"{w[j]:.4f} * {V[j, 1]:g}" for j in range(4)), f"= {o[1]:.4f}")

# %% [markdown]
# "cat" gets the weight 0.5344: more than half of the output is its value. "sat" and "it" have the same score, so the
# same weight, 0.1966. Even "the", whose score is 0, is not left out: $e^0 = 1$, and its weight is 0.0723.
#
# The weights are positive and sum to 1. So the output is a *weighted mean* of the values: it lies inside the figure
# that they span, and nearest to those with the largest weights.

# %%
figure = new_figure()
figure.set_size_inches(7, 2.9)
left, right = figure.subplots(1, 2, width_ratios=[1, 1.1])
left.bar(np.arange(4) - 0.2, s, 0.4, color=GREY, label="score $s_j$")
left.bar(np.arange(4) + 0.2, w, 0.4, color=COLOURS[0], label="weight $w_j$")
left.set_xticks(range(4), words)
left.set_xlabel("key")
left.legend(frameon=False, fontsize=9)
hull = V[[0, 1, 3, 2]]
right.fill(*hull.T, color="#eeeeee")
right.scatter(*V.T, s=600 * w, color=COLOURS[0], zorder=3)
for word, (x, y) in zip(words, V, strict=True):
    right.annotate(word, (x, y), xytext=(8, 6), textcoords="offset points")
right.plot(*o, "D", color=COLOURS[1], markersize=8, zorder=4)
right.annotate("output", o, xytext=(9, 3), textcoords="offset points", color=COLOURS[1])
right.set(xlabel="channel 1 of the values", ylabel="channel 2 of the values", xlim=(-2.8, 5.2), ylim=(-2.8, 4))
right.set_title("area of a dot: its weight", fontsize=9)
figure

# %% [markdown]
# ## All queries at once
#
# Every position asks. Put the $T_q$ queries as rows into a matrix $Q$ of the shape $(T_q, D)$, the keys into $K$,
# $(T_k, D)$, and the values into $V$, $(T_k, D_v)$. Entry $(i, j)$ of $Q K^\top$ is the dot product of query $i$ and
# key $j$, so the three steps become three lines:
#
# $$S = \frac{Q K^\top}{\sqrt{D}} \qquad P_{ij} = \frac{e^{S_{ij}}}{\sum_m e^{S_{im}}} \qquad O = P\,V$$
#
# (Vaswani et al. 2017, equation 1.) The softmax runs along the keys: **each row of $P$ sums to 1**. There is no
# division by $V$ anywhere; chapter 0 met an article with that mistake.

# %%
def attention(Q, K, V):
    S = Q @ K.T / np.sqrt(Q.shape[-1])  # (Tq, Tk)
    P = np.exp(S - S.max(axis=-1, keepdims=True))  # a constant of a row cancels, and now e^x cannot overflow
    P = P / P.sum(axis=-1, keepdims=True)
    return P @ V, P  # (Tq, Dv), (Tq, Tk)


# %%
q_colour, k_colour, v_colour, o_colour = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[5]
matrices_figure([
    [("Q", (3, 2), q_colour), "@", ("Kᵀ", (2, 5), k_colour), "=", ("S", (3, 5), GREY), "softmax", ("P", (3, 5), GREY)],
    [("P", (3, 5), GREY), "@", ("V", (5, 4), v_colour), "=", ("O", (3, 4), o_colour)],
], cell=0.24)  # fmt: skip

# %% [markdown]
# (Here $T_q = 3$, $T_k = 5$, $D = 2$, $D_v = 4$.) $S$ and $P$ are the large ones: one number for each pair of
# positions. [Chapters 15](15_memory.ipynb) and [16](16_flash_attention.ipynb)
# are about them. The library has the same formula as one operation; ours must agree
# with it.

# %% tags=["deterministic"]
rng = np.random.default_rng(7)
Q1, K1, V1 = rng.standard_normal((3, 4)), rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
O1, P1 = attention(Q1, K1, V1)
library = F.scaled_dot_product_attention(Tensor(Q1), Tensor(K1), Tensor(V1)).numpy()
print("shapes", O1.shape, P1.shape, "rows of P sum to", P1.sum(axis=1).round(12))
print("equal to the library's:", np.allclose(O1, library, rtol=1e-12))

# %% [markdown]
# Where do queries, keys and values come from? In a network each position has one vector $x_i$ with $C$ channels (at
# first its embedding). Three trained matrices make the three roles of it:
#
# $$q_i = x_i W_q^\top, \qquad k_i = x_i W_k^\top, \qquad v_i = x_i W_v^\top$$
#
# If all three come from the same sequence this is **self-attention**. If the queries come from one sequence and keys
# and values from another it is **cross-attention** (chapter 8: a German sentence that asks an English one).
#
# ## Why divide by the square root of D?
#
# Suppose the entries of $q$ and $k$ are independent, with mean 0 and variance 1 (layers are initialized so that this
# is about right). The dot product is a sum of $D$ terms $q_d k_d$. Each term has the mean
# $\mathbb{E}[q_d]\,\mathbb{E}[k_d] = 0$ and the variance
# $\mathbb{E}[q_d^2 k_d^2] = \mathbb{E}[q_d^2]\,\mathbb{E}[k_d^2] = 1$. The terms are independent, so variances add:
#
# $$\operatorname{Var}(q \cdot k) = \sum_{d=1}^{D} \operatorname{Var}(q_d k_d) = D, \qquad
# \operatorname{std}(q \cdot k) = \sqrt{D}, \qquad \operatorname{std}\Big(\frac{q \cdot k}{\sqrt{D}}\Big) = 1$$
#
# The typical size of a score should not depend on how wide the head is. Divided by $\sqrt{D}$ it does not.

# %% tags=["deterministic"]
rng = np.random.default_rng(0)
scores = {}
print("   D   std of q.k   sqrt(D)   std of q.k / sqrt(D)")
for D in (4, 64, 1024):
    scores[D] = (rng.standard_normal((4000, D)) * rng.standard_normal((4000, D))).sum(axis=1)
    print(f"{D:4}   {scores[D].std():10.2f}   {np.sqrt(D):7.2f}   {scores[D].std() / np.sqrt(D):10.3f}")

# %% [markdown]
# What is wrong with large scores? Softmax of numbers that lie 30 apart puts all weight on the largest. That alone could
# be what one wants. The trouble is the gradient. The derivative of a weight by a score is
#
# $$\frac{\partial w_k}{\partial s_j} = w_k(\delta_{kj} - w_j)$$
#
# with $\delta_{kj}$ 1 if $k = j$ and 0 otherwise. (The quotient rule: $e^{s_k}$ depends on $s_j$ only if $k = j$,
# which gives $w_k \delta_{kj}$; the sum below contains $e^{s_j}$, which gives $-w_k w_j$.) If one weight is almost 1
# and the others almost 0, every entry of this matrix is almost 0: either $w_k \approx 0$, or $k = j$ and
# $1 - w_j \approx 0$. Softmax is *saturated*, and nothing is learned through it. The right panel below shows it: with
# wide heads and no division the derivative shrinks.

# %%
def largest_and_slope(s):
    """For scores (N, T): the mean largest weight, and the mean size of the matrix of derivatives."""
    w = np.exp(s - s.max(axis=1, keepdims=True))
    w /= w.sum(axis=1, keepdims=True)
    jacobian = w[:, :, None] * (np.eye(s.shape[1]) - w[:, None, :])
    return w.max(axis=1).mean(), np.sqrt((jacobian**2).sum(axis=(1, 2))).mean()


widths, keys = [2**n for n in range(1, 12)], 32
raw, scaled = [], []
for D in widths:
    dots = np.einsum("nd,njd->nj", rng.standard_normal((100, D)), rng.standard_normal((100, keys, D)))
    raw.append(largest_and_slope(dots))
    scaled.append(largest_and_slope(dots / np.sqrt(D)))

figure = new_figure()
figure.set_size_inches(7, 2.7)
first, second, third = figure.subplots(1, 3)
for D, colour in zip(scores, COLOURS, strict=False):
    first.hist(scores[D], bins=60, density=True, histtype="step", color=colour, label=f"D = {D}")
first.set(xlabel="$q \\cdot k$, not divided", ylabel="density", yscale="log", xlim=(-110, 110), ylim=(1e-4, 30))
first.legend(frameon=False, fontsize=8, loc="upper left")
for axes, index, title in ((second, 0, "largest of 32 weights"), (third, 1, "size of the derivative")):
    axes.plot(widths, np.array(raw)[:, index], "o-", color=COLOURS[1], markersize=4, label="not divided")
    axes.plot(widths, np.array(scaled)[:, index], "s-", color=COLOURS[0], markersize=4, label="divided by $\\sqrt{D}$")
    axes.set(xscale="log", xlabel="head width D", title=title, ylim=(0, None))
    axes.title.set_fontsize(9)
second.legend(frameon=False, fontsize=8)
figure

# %% [markdown]
# ## Masks
#
# A language model that predicts word $i + 1$ from words $1, \dots, i$ must not look at word $i + 1$. So query $i$ may
# see the keys $j \le i$ only: a **causal mask**.
#
# How do we forbid a key? Not by setting its weight to 0 afterwards: the remaining weights would no longer sum to 1,
# and the forbidden score would still be in the denominator, where it tells of the future. The score is set to
# $-\infty$ *before* the softmax. Then $e^{-\infty} = 0$, in the numerator and in the denominator: as if the key were
# not there.
#
# $$S_{ij} \leftarrow \begin{cases} S_{ij} & \text{if query } i \text{ may see key } j \\
# -\infty & \text{otherwise}\end{cases}$$

# %% tags=["deterministic"]
T = 6
rng = np.random.default_rng(1)
x = rng.standard_normal((T, 8))
S = x @ x.T / np.sqrt(8)
causal = np.tri(T, dtype=bool)  # True on and below the diagonal
masked = np.where(causal, S, -np.inf)
P = F.softmax(Tensor(masked), axis=-1).numpy()
print(P.round(3))

# %%
figure = new_figure()
figure.set_size_inches(7, 2.4)
for axes, matrix, title, colours in zip(
    figure.subplots(1, 3), (S, causal, P), ("scores $S$", "mask: black is seen", "weights $P$"),
    ("coolwarm", "Greys", "Greys"), strict=True,
):  # fmt: skip
    span = {"vmin": -3, "vmax": 3} if colours == "coolwarm" else {"vmin": 0, "vmax": 1}
    image = axes.imshow(matrix, cmap=colours, **span)
    if matrix is not causal:
        figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set_title(title, fontsize=9)
    axes.set(xlabel="key j", ylabel="query i", xticks=range(T), yticks=range(T))
figure

# %% [markdown]
# The first query sees one key, itself, and gives it the weight 1 whatever its score is.
#
# Does the mask do what it is there for? Change the last two positions. The outputs of the first four must not change
# by a single bit.

# %% tags=["deterministic"]
def causal_outputs(x):
    y = Tensor(x)
    return F.scaled_dot_product_attention(y, y, y, is_causal=True).numpy()


changed = x.copy()
changed[4:] = 100.0
for i in range(T):
    same = np.array_equal(causal_outputs(x)[i], causal_outputs(changed)[i])
    print(f"position {i}: {'the same' if same else 'changed'}")

# %% [markdown]
# The second mask is for **padding**. Sentences of a batch have different lengths; the short ones are filled up. No
# query may see what was filled in. This mask belongs to a sentence, not to a query, so its shape is $(B, 1, 1, T)$:
# it broadcasts over the heads and over the queries. In minilm, as in PyTorch, True means "takes part". Both masks can
# apply at once.
#
# One case is left: a query that may see *no* key at all. The formula says $0 / 0$. A NaN there would spread over the
# whole batch, so the library defines the output as 0, with gradient 0.

# %% tags=["deterministic"]
lengths = np.array([4, 2, 0])  # the third sentence is empty
taking_part = np.arange(4) < lengths[:, None]  # (B, T)
print(taking_part.astype(int))
rng = np.random.default_rng(2)
x3 = Tensor(rng.standard_normal((3, 1, 4, 8)))  # (B, H, T, D)
out = F.scaled_dot_product_attention(x3, x3, x3, attn_mask=Tensor(taking_part[:, None, None, :])).numpy()
print("largest output of each sentence:", np.abs(out).max(axis=(1, 2, 3)).round(4))

# %% [markdown]
# ## Heads
#
# One query makes one weighted mean. A mean mixes: of the values 1 and 3 it makes 2, and so it does of 2 and 2. Who
# wants to know the subject of a sentence *and* its verb cannot get both out of one mean. So the $C$ channels are cut
# into $H$ **heads** of $D = C / H$ channels. Each head has its own queries, keys and values, and attends for itself.
# The outputs are put beside each other again, and a last matrix mixes them.
#
# It costs nothing: the four matrices $W_q, W_k, W_v, W_o$ have $4 C^2$ entries whatever $H$ is, and the products of
# scores and values take $2 \cdot 2 T^2 D$ operations in each head, so $4 T^2 C$ in all.
#
# In arrays, heads are one more axis, beside the batch. What was $(B, T, C)$ becomes $(B, H, T, D)$:

# %%
source(nn.attention.split_heads)

# %%
figure = new_figure()
figure.set_size_inches(7, 2.2)
axes = figure.add_subplot()
axes.axis("off")
T_, H_, D_ = 5, 3, 4
for t in range(T_):
    for c in range(H_ * D_):
        axes.add_patch(Rectangle((c * 0.5, -t * 0.5), 0.45, 0.45, facecolor=COLOURS[c // D_], alpha=0.5))
        head = c // D_
        axes.add_patch(
            Rectangle((9 + head * 3.1 + (c % D_) * 0.5, -t * 0.5), 0.45, 0.45, facecolor=COLOURS[head], alpha=0.5)
        )
axes.annotate("", (8.7, -0.8), (6.4, -0.8), arrowprops={"arrowstyle": "->"})
axes.text(7.5, -0.6, "split_heads", ha="center", fontsize=9)
axes.text(3, 0.8, "x: (T, C) = (5, 12)", ha="center", fontsize=10)
for head in range(H_):
    axes.text(10 + head * 3.1, 0.8, f"head {head}: (5, 4)", ha="center", fontsize=9)
axes.set(xlim=(-0.2, 18.2), ylim=(-2.3, 1.3), aspect="equal")
figure

# %% [markdown]
# The order matters. `reshape(B, T, H, D)` first cuts each row of $C$ numbers into heads, then `swapaxes` brings the
# heads to the front. A direct `reshape(B, H, T, D)` has the same shape and the wrong numbers: it puts several
# *positions* into one head (exercise 7.3).
#
# The layer of the library is these pieces in a row: one product for $q$, $k$ and $v$, split, attend, merge, one
# product.

# %% tags=["deterministic"]
minilm.manual_seed(0)
for H in (1, 4, 16):
    layer = nn.SelfAttention(64, H)
    out = layer(Tensor(np.zeros((2, 5, 64), "float32")))
    print(f"{H:2} heads: {sum(p.size for p in layer.parameters())} parameters, output {out.shape}")

# %% [markdown]
# ## Attention does not know the order: positional encoding
#
# Here is a property that surprises. Let $\Pi$ be a permutation matrix: $\Pi X$ has the rows of $X$ in another order.
# Put the permuted sequence into self-attention without a mask. Queries, keys and values are computed row by row, so
# they are permuted in the same way: $\Pi Q$, $\Pi K$, $\Pi V$. The scores become
#
# $$\frac{(\Pi Q)(\Pi K)^\top}{\sqrt{D}} = \Pi\, \frac{Q K^\top}{\sqrt{D}}\, \Pi^\top = \Pi S \Pi^\top$$
#
# which is $S$ with rows and columns reordered. Softmax acts on each row by itself, and does not care in which order the
# entries of a row stand, so the weights are $\Pi P \Pi^\top$. With $\Pi^\top \Pi = I$ the output is
#
# $$(\Pi P \Pi^\top)(\Pi V) = \Pi P V = \Pi\, O$$
#
# Permuted input, permuted output, and nothing else has changed: "dog bites man" and "man bites dog" give each word
# the same vector. Attention sees a **set**.

# %% tags=["deterministic"]
minilm.manual_seed(1)
layer = nn.SelfAttention(32, 4)
rng = np.random.default_rng(3)
x = rng.standard_normal((1, 7, 32)).astype("float32")
order = rng.permutation(7)
with no_grad():
    difference = np.abs(layer(Tensor(x[:, order])).numpy() - layer(Tensor(x)).numpy()[:, order]).max()
print("order:", order, " output permuted in the same way:", difference < 1e-5)

# %% [markdown]
# A causal mask breaks the symmetry a little: position $i$ sees a set of $i + 1$ vectors, and its size depends on $i$.
# But the *last* position still sees all the others as a set.
#
# So positions must be put in by hand, which is called **positional encoding**. There are three common ways.
#
# ### 1. Sinusoidal positions, added to the embeddings
#
# For position $t$ and channels $2i$ and $2i + 1$, $i = 0, \dots, C/2 - 1$ (Vaswani et al. 2017, section 3.5):
#
# $$\mathrm{PE}_{t, 2i} = \sin(t\,\omega_i), \qquad \mathrm{PE}_{t, 2i+1} = \cos(t\,\omega_i), \qquad
# \omega_i = 10000^{-2i/C}$$
#
# Each pair of channels is the hand of a clock. The first one turns by one radian a position, the last takes tens of
# thousands of positions for one turn. Together they read like the digits of a number.
#
# Why sine *and* cosine? Because of what the dot product of two positions becomes, by
# $\sin a \sin b + \cos a \cos b = \cos(a - b)$:
#
# $$\mathrm{PE}_t \cdot \mathrm{PE}_s
# = \sum_i \big( \sin(t\omega_i)\sin(s\omega_i) + \cos(t\omega_i)\cos(s\omega_i) \big)
# = \sum_i \cos\big((t - s)\,\omega_i\big)$$
#
# It depends on the *difference* $t - s$ only, and is largest where the difference is 0.

# %% tags=["deterministic"]
PE = nn.SinusoidalPositions(128, 64).table.numpy()
for t, s_ in ((3, 0), (60, 57), (120, 117), (60, 40)):
    print(f"t {t:3}, s {s_:3}: dot product {PE[t].astype('float64') @ PE[s_]:.3f}")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.8)
left, right = figure.subplots(1, 2)
image = left.imshow(PE.T, cmap="coolwarm", aspect="auto", origin="lower")
figure.colorbar(image, ax=left, label="PE")
left.set(xlabel="position t", ylabel="channel")
for t, colour in zip((20, 64, 100), COLOURS, strict=False):
    right.plot(PE @ PE[t], color=colour, label=f"s = {t}")
right.set(xlabel="position t", ylabel="$PE_t \\cdot PE_s$", ylim=(10, 39))
right.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", columnspacing=0.8, handlelength=1)
figure

# %% [markdown]
# ### 2. Learned positions
#
# A table with one trained row for each position, added to the embeddings: GPT-2 and BERT do so. It is simple, and it
# ends where the table ends:

# %%
try:
    nn.LearnedPositions(64, 32)(Tensor(np.zeros((1, 65, 32), "float32")))
except ValueError as error:
    print(error)

# %% [markdown]
# ### 3. Rotary positions: turn queries and keys
#
# What counts in a sentence is mostly how far apart two words are. Can the score of query $t$ and key $s$ depend on
# $t - s$ by construction? (Su et al. 2021.) Take two channels. Turn the query by the angle $t\omega$ and the key by
# $s\omega$:
#
# $$R(\varphi) = \begin{pmatrix} \cos\varphi & -\sin\varphi \\ \sin\varphi & \cos\varphi \end{pmatrix}, \qquad
# \tilde q = R(t\omega)\, q, \qquad \tilde k = R(s\omega)\, k$$
#
# Two facts of rotations: the transpose turns back, $R(\varphi)^\top = R(-\varphi)$, and angles add,
# $R(\alpha) R(\beta) = R(\alpha + \beta)$. Hence
#
# $$\tilde q \cdot \tilde k = q^\top R(t\omega)^\top R(s\omega)\, k = q^\top R\big((s - t)\,\omega\big)\, k$$
#
# The two positions have become one difference. The picture shows why: both arrows turn, and the angle between them
# changes only if one of them turns further.

# %%
def turned(vector, angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ vector


omega, q2, k2 = 0.3, np.array([1.0, 0.2]), np.array([0.6, 0.5])
figure = new_figure()
figure.set_size_inches(7, 2.5)
for axes, (t, s_) in zip(figure.subplots(1, 3, sharey=True), ((0, 0), (5, 0), (9, 4)), strict=True):
    for vector, position, name, colour in ((q2, t, "q", COLOURS[0]), (k2, s_, "k", COLOURS[1])):
        x, y = turned(vector, omega * position)
        axes.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 2})
        axes.text(1.18 * x, 1.18 * y, name, color=colour, ha="center", va="center")
    product = turned(q2, omega * t) @ turned(k2, omega * s_)
    axes.set_title(f"q at t = {t}, k at s = {s_}: product {product:.2f}", fontsize=8)
    axes.set(xlim=(-1.3, 1.3), ylim=(-0.6, 1.3), aspect="equal", xlabel="channel 1")
    axes.grid(color="#dddddd", linewidth=0.6)
figure.axes[0].set_ylabel("channel 2")
figure

# %% [markdown]
# A head of width $D$ has $D/2$ such pairs, each with its own speed $\omega_i = 10000^{-2i/D}$, as above. The library
# turns whole arrays; `rotary_angles` gives the cosines and sines. Let the *same* query stand in every position, and
# the same key. Then the scores depend on $t - s$ only, so every diagonal of the matrix has one value:

# %% tags=["deterministic"]
rng = np.random.default_rng(4)
D, T = 16, 24
query, key = rng.standard_normal(D), rng.standard_normal(D)
cos, sin = F.rotary_angles(T, D, dtype="float64")
same_query = Tensor(np.tile(query, (T, 1)))
same_key = Tensor(np.tile(key, (T, 1)))
scores = F.rotary_embedding(same_query, cos, sin).numpy() @ F.rotary_embedding(same_key, cos, sin).numpy().T
print(scores[:4, :4].round(4))
spread = max(np.ptp(np.diagonal(scores, offset)) for offset in range(-T + 1, T))
print("every diagonal has one value:", spread < 1e-12)

# %%
figure = new_figure()
figure.set_size_inches(7, 2.9)
left, right = figure.subplots(1, 2)
image = left.imshow(scores, cmap="coolwarm", vmin=-np.abs(scores).max(), vmax=np.abs(scores).max())
figure.colorbar(image, ax=left, label="score", shrink=0.9)
left.set(xlabel="position s of the key", ylabel="position t of the query")
cos64, sin64 = F.rotary_angles(200, 64, dtype="float64")
ones = Tensor(np.ones((200, 64)) / 8)
turned_ones = F.rotary_embedding(ones, cos64, sin64).numpy()
right.plot(turned_ones @ turned_ones[0], color=COLOURS[0])
right.set(xlabel="distance t - s", ylabel="score of $q = k = (1, \\ldots, 1)/8$")
right.grid(color="#dddddd", linewidth=0.6)
figure

# %% [markdown]
# At the right: where query and key are the same vector, the score is largest at distance 0, and falls in ripples as
# the distance grows.
#
# Rotations change no length, nothing is added to the values, and there is no table to train. Llama and most models
# after it use this. (A fourth way, ALiBi, subtracts a multiple of the distance from the scores; `minilm.nn.ALiBi`.)
#
# ## The gradient
#
# To train through attention we need its vjp. Write $dX$ for the gradient of the loss with respect to $X$, and take the
# formula from its end. $O = P V$ is a matrix product (chapter 2):
#
# $$dV = P^\top dO, \qquad dP = dO\, V^\top$$
#
# Softmax, one row with weights $w$ and scores $s$: the derivative above says
# $\partial w_k / \partial s_j = w_k(\delta_{kj} - w_j)$, so
#
# $$ds_j = \sum_k dw_k\, w_k (\delta_{kj} - w_j) = w_j \Big( dw_j - \sum_k w_k\, dw_k \Big)$$
#
# and $S = Q K^\top / \sqrt{D}$ is a matrix product again:
#
# $$dQ = \frac{dS\, K}{\sqrt{D}}, \qquad dK = \frac{dS^\top Q}{\sqrt{D}}$$

# %%
def attention_vjp(Q, K, V, dO):
    _, P = attention(Q, K, V)
    dV = P.T @ dO
    dP = dO @ V.T
    dS = P * (dP - (P * dP).sum(axis=-1, keepdims=True))
    return dS @ K / np.sqrt(Q.shape[-1]), dS.T @ Q / np.sqrt(Q.shape[-1]), dV


# %% tags=["deterministic"]
rng = np.random.default_rng(5)
inputs = [Tensor(a, requires_grad=True) for a in (Q1, K1, V1)]
dO = rng.standard_normal(O1.shape)
F.scaled_dot_product_attention(*inputs).backward(dO)
for name, ours, tensor in zip("QKV", attention_vjp(Q1, K1, V1, dO), inputs, strict=True):
    print(f"d{name} {ours.shape} equal to the library's: {np.allclose(ours, tensor.grad.numpy(), rtol=1e-10)}")

# %% [markdown]
# ## A map that can be read
#
# A task that needs nothing but looking: **write the sequence backwards**. The output at position $t$ must be the
# token at position $T - 1 - t$. One layer, one head. We train it twice: with learned positions, and with none.

# %%
class Reverser(nn.Module):
    def __init__(self, vocabulary, T, C, positions):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, C)
        self.positions = nn.LearnedPositions(T, C) if positions else None
        self.attention = nn.SelfAttention(C, num_heads=1)
        self.head = nn.Linear(C, vocabulary)

    def inputs(self, ids):
        x = self.embedding(ids)  # (B, T, C)
        return x if self.positions is None else self.positions(x)

    def forward(self, ids):
        return self.head(self.attention(self.inputs(ids)))  # (B, T, vocabulary)


def train(positions, steps=400, T=10, vocabulary=12):
    minilm.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Reverser(vocabulary, T, 32, positions)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        ids = rng.integers(0, vocabulary, (32, T))
        loss = F.cross_entropy(model(ids), ids[:, ::-1].copy())
        model.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


with_positions, learned = train(positions=True)
without_positions, stuck = train(positions=False)

# %% [markdown]
# The layer returns the outputs alone. To see the weights we compute them again from its own queries and keys.

# %%
def attention_map(model, ids):
    with no_grad():
        query, key, _ = model.attention.qkv_proj(model.inputs(ids)).split(3, axis=-1)
        scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1]).item()
        return F.softmax(scores, axis=-1).numpy()[0]  # (T, T) of the first sequence


ids = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 8]])
figure = new_figure()
figure.set_size_inches(7, 2.8)
curves, *maps = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
curves.plot(learned, color=COLOURS[0], label="with positions")
curves.plot(stuck, color=COLOURS[1], label="without")
curves.axhline(np.log(12), color=GREY, linestyle="--", linewidth=1)
curves.text(400, np.log(12) + 0.06, "guessing, log 12", ha="right", fontsize=8, color=GREY)
curves.set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, 3.2))
curves.legend(frameon=False, fontsize=8, loc="center right")
for axes, model, title in zip(maps, (with_positions, without_positions), ("with positions", "without"), strict=True):
    axes.imshow(attention_map(model, ids), cmap="Greys", vmin=0, vmax=1)
    axes.set_xticks(range(10), ids[0])
    axes.set_yticks(range(10), ids[0])
    axes.set_title(title, fontsize=9)
    axes.set(xlabel="token that is read")
maps[0].set_ylabel("token at the position that writes")
figure

# %% [markdown]
# With positions the map is the answer: the first row looks at the last column, the second at the last but one. It was
# not told so; that pattern is what makes the loss small. Without positions the model could not do it at all: for it
# the ten tokens are a set, and a set cannot be turned round. It does learn which tokens occur, and that is better
# than guessing.
#
# One warning before you read maps of larger models (chapters 8, 11, 13): a weight says what was *mixed in*, at this
# layer. It does not say why the model wrote a word; later layers may ignore it, and values of length zero carry
# nothing whatever their weight.
#
# ## Exercises
#
# Fill in the function, take the `#` before the checker away, and run the cell. The checker says what is wrong.
#
# **Exercise 7.1.** One query, from the formula, without `attention` above: `attend(query, keys, values)` with `query`
# $(D,)$, `keys` $(T_k, D)$, `values` $(T_k, D_v)$; it returns the output $(D_v,)$.

# %%
def attend(query, keys, values):
    ...


# check_attend(attend)

# %% [markdown]
# **Exercise 7.2.** `padding_mask(lengths, T)`: for sentences of these lengths, filled up to `T`, a boolean mask
# $(B, 1, 1, T)$ for the library: True where a key takes part.

# %%
def padding_mask(lengths, T):
    ...


# check_padding_mask(padding_mask)

# %% [markdown]
# **Exercise 7.3.** `split(x, H)`: an array $(B, T, C)$ as $(B, H, T, D)$, where head $h$ holds the channels
# $hD, \dots, (h+1)D - 1$.

# %%
def split(x, H):
    ...


# check_split_heads(split)

# %% [markdown]
# **Exercise 7.4.** `rotate(x)`: rotary positions for an array $x$ $(T, D)$, row $t$ standing at position $t$. The
# pairs are the channels $(2i, 2i + 1)$, and pair $i$ turns by $t \cdot 10000^{-2i/D}$.

# %%
def rotate(x):
    ...


# check_rotary(rotate)

# %% [markdown]
# **Exercise 7.5.** *Causal* attention and its gradient: `causal_vjp(Q, K, V, dO)` returns `(dQ, dK, dV)` for
# $T_q = T_k$. What must change in `attention_vjp`, and what need not?

# %%
def causal_vjp(Q, K, V, dO):
    ...


# check_gradient(causal_vjp)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
def attend_solution(query, keys, values):
    s = keys @ query / np.sqrt(query.size)
    w = np.exp(s - s.max())
    return (w / w.sum()) @ values


check_attend(attend_solution)

# %% tags=["solution"]
def padding_mask_solution(lengths, T):
    return (np.arange(T) < np.asarray(lengths)[:, None])[:, None, None, :]


check_padding_mask(padding_mask_solution)

# %% tags=["solution"]
def split_solution(x, H):
    B, T, C = x.shape
    return x.reshape(B, T, H, C // H).swapaxes(1, 2)


check_split_heads(split_solution)

# %% tags=["solution"]
def rotate_solution(x):
    T, D = x.shape
    angles = np.arange(T)[:, None] * 10000.0 ** (-np.arange(0, D, 2) / D)  # (T, D/2)
    first, second = x[:, 0::2], x[:, 1::2]
    y = np.empty_like(x)
    y[:, 0::2] = first * np.cos(angles) - second * np.sin(angles)
    y[:, 1::2] = first * np.sin(angles) + second * np.cos(angles)
    return y


check_rotary(rotate_solution)

# %% tags=["solution"]
def causal_vjp_solution(Q, K, V, dO):
    """Only the weights change. Where a weight is 0, dS = P (...) is 0 by itself: the backward needs no mask."""
    S = np.where(np.tri(len(Q), dtype=bool), Q @ K.T / np.sqrt(Q.shape[-1]), -np.inf)
    P = np.exp(S - S.max(axis=-1, keepdims=True))
    P /= P.sum(axis=-1, keepdims=True)
    dP = dO @ V.T
    dS = P * (dP - (P * dP).sum(axis=-1, keepdims=True))
    return dS @ K / np.sqrt(Q.shape[-1]), dS.T @ Q / np.sqrt(Q.shape[-1]), P.T @ dO


check_gradient(causal_vjp_solution)

# %% [markdown]
# ## What to read next
#
# - [kernels/attention/loops.py](../kernels/attention/loops.py): attention and its gradient one number at a time.
# - [minilm/functional/attention.py](../minilm/functional/attention.py): the textbook formula as one operation, with
#   masks, grouped heads and dropout; [its tests](../tests/functional/test_attention.py).
# - [minilm/nn/attention.py](../minilm/nn/attention.py): self-attention and cross-attention as layers;
#   [minilm/nn/positions.py](../minilm/nn/positions.py): sinusoidal, learned, rotary, ALiBi.
# - [Chapter 8](08_transformer.ipynb) builds a translator of these layers, [chapter 9](09_gpt.ipynb) a GPT.

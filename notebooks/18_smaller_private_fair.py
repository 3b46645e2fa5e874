# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 18 · Smaller, private, fair
#
# **What you will be able to do**
#
# - round the weights of a model to 8 and to 4 bits, and predict the error before you measure it;
# - take away half of the weights, and say why the smallest ones;
# - let a small model learn from a large one, and derive why the loss is multiplied by $\tau^2$;
# - train so that no single example shows, and say what $\epsilon$ promises and what it does not;
# - ask a model for a bias with paired sentences, and not ask more of the answer than it can say.
#
# **What it needs:** a GPT (chapter 9), perplexity (chapter 12), gradient descent (chapter 1). The last part asks the
# published model of chapter 13 (`make pretrained`).

# %%
import copy
import logging
import math
import tempfile
from itertools import combinations

import numpy as np
from matplotlib.patches import Circle

import minilm
import minilm.functional as F
from checks import results, source
from minilm import Tensor, nn, no_grad
from minilm.compression import Int4Matrix, Int8Matrix, distillation_loss, prunable, prune, quantize, size_in_bytes
from minilm.inspection.bias_probe import OCCUPATIONS, Effect, group_difference, paired_sentences, probe_pairs
from minilm.inspection.likelihood import log_likelihoods
from minilm.inspection.memorization import exposure
from minilm.models import GPT, GPTConfig
from minilm.optim import AdamW, clip_grad_norm_
from minilm.plots.inspection_pictures import effects_figure
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.plots.privacy_curve import privacy_figure
from minilm.pretrained import from_pretrained
from minilm.text import CharTokenizer, ShuffledBatches, TokenWindows, load_corpus
from minilm.training import PrivateTrainer, TrainingArguments, epsilon_spent
from minilm.training.private import ClippedSum

# %% [markdown]
# ## Smaller
#
# ### Eight bits for a weight
#
# A weight is trained as a float32: 32 bits. Must it be kept as one? Take a row $w$ of a weight matrix, and as many
# equal steps as an integer of 8 bits can count, from $-127$ to $127$. The width of a step, the *scale* $s$, is chosen
# so that the largest weight is just reached:
#
# $$s = \frac{\max_i |w_i|}{127}, \qquad q_i = \mathrm{round}(w_i / s), \qquad w_i \approx s \, q_i .$$
#
# The integers $q_i$ are kept, a byte each, and one $s$ for the row. This is called *quantization*.

# %% tags=["deterministic"]
w = np.array([0.31, -0.12, 0.05, -0.47, 0.002, 0.20])
s = np.abs(w).max() / 127
q = np.round(w / s)
print(f"s = {s:.6f}")
print("q =", q.astype(int))
print("s q =", np.round(s * q, 4))
library = Int8Matrix(w[None].astype(np.float32))
print("the library keeps the same integers:", np.array_equal(library.integers[0], q))

# %% [markdown]
# **How large is the error?** Rounding moves a number by at most half a step, so $|w_i - s q_i| \le s/2$. If the steps
# are narrow compared with how the weights are spread, the error $e$ is as likely to be anywhere between $-s/2$ and
# $s/2$, and its mean square is
#
# $$\frac{1}{s} \int_{-s/2}^{s/2} e^2 \, de = \frac{s^2}{12}.$$
#
# The output $y = \sum_i w_i x_i$ is then off by $\sum_i e_i x_i$. The $e_i$ have mean 0 and know nothing of each other,
# so their mixed products vanish in the mean, and the mean square of the error of $y$ is $\frac{s^2}{12} \sum_i x_i^2$.
# Is it so? We write the rounding for any number of bits $b$, where the largest integer is $2^{b-1} - 1$, and for rows
# or for blocks of neighbours that have an $s$ of their own.

# %% tags=["deterministic"]
def rounded(W, bits, block=None):
    """W (rows, columns), each row or each block of `block` neighbours with its own scale; returns s q, and s."""
    groups = W.reshape(-1, W.shape[1] if block is None else block)
    s = np.abs(groups).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    s = np.where(s == 0, 1, s)  # a group of zeros stays one
    return (s * np.round(groups / s)).reshape(W.shape), s


rng = np.random.default_rng(0)
W, x = rng.normal(0, 0.1, (2000, 512)), rng.normal(0, 1, 512)
for bits in (8, 4):
    W_hat, s = rounded(W, bits)
    rms = math.sqrt(((W_hat - W) ** 2).mean())
    print(f"{bits} bits: error of a weight {rms:.3e}, derived {math.sqrt((s**2).mean() / 12):.3e}")
    rms = math.sqrt((((W_hat - W) @ x) ** 2).mean())
    print(f"        error of y       {rms:.3e}, derived {math.sqrt((s**2).mean() / 12 * (x**2).sum()):.3e}")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.8)
left, right = figure.subplots(1, 2)
line = np.linspace(-1, 1, 801)
stairs, step = rounded(line[None], 3)
left.plot(line, line, color=GREY, linewidth=0.8)
left.plot(line, stairs[0], color=COLOURS[0])
left.set(xlabel="weight", ylabel="rounded", title="3 bits: 7 values")
for bits, colour in ((8, COLOURS[0]), (3, COLOURS[1])):
    W_hat, s = rounded(W, bits)
    right.hist(((W_hat - W) / s).reshape(-1), bins=40, range=(-0.5, 0.5), density=True, histtype="step", color=colour,
               label=f"{bits} bits")  # fmt: skip
right.axhline(1, color=GREY, linestyle="--", linewidth=1)
right.set(xlabel="error, in steps", ylabel="density", ylim=(0, 1.6), title="where the error lies")
right.legend(frameon=False, loc="upper right")
figure

# %% [markdown]
# The error is spread evenly, as assumed (dashed). Even at 3 bits, where a step is as wide as the standard deviation of
# the weights, it nearly is. (The bump at 0: the largest weight of each row is met exactly.)
#
# ### The scale comes out of the sum
#
# The product with $x$ does not need the weights back as floats: $s$ is the same in all of a row, so
#
# $$y = \sum_i s \, q_i \, x_i = s \sum_i q_i x_i .$$
#
# This is why a whole row shares its scale, and not a column.
#
# ### Four bits, and one large weight
#
# With $b$ bits the step is $\max|w| / (2^{b-1} - 1)$. Each bit less doubles the step and the error. And all weights of
# a row pay for the largest: if one weight is ten times as large as the others, the step is ten times as wide for all.
# Trained models have such weights. So with few bits, not the row but each **block of 32 neighbours** gets its own
# scale; then a large weight harms 31 others and not the whole row.

# %%
with_outlier = W[:200].copy()
with_outlier[:, 7] = 3.0  # thirty times the standard deviation of the others, in every row
cases = {
    "a scale for each row": (W[:200], None, COLOURS[0], "o-"),
    "the same, one large weight in the row": (with_outlier, None, COLOURS[1], "o-"),
    "large weight, a scale for each 32": (with_outlier, 32, COLOURS[1], "o--"),
}
figure = new_figure()
figure.set_size_inches(7, 2.8)
axes = figure.subplots()
for name, (matrix, block, colour, form) in cases.items():
    others = np.arange(512) != 7
    errors = [np.sqrt(((rounded(matrix, b, block)[0] - matrix)[:, others] ** 2).mean()) for b in range(2, 9)]
    axes.semilogy(range(2, 9), np.array(errors) / 0.1, form, color=colour, markersize=4, label=name)
axes.set(xlabel="bits of a weight", ylabel="error / standard deviation")
axes.legend(frameon=False, fontsize=9)
figure

# %% [markdown]
# (At 2 and 3 bits the solid orange line is flat: every other weight of the row is rounded to zero, and the error cannot
# get worse than that.)
#
# The library's form: 16 integers $q = 0 \dots 15$ stand for $d\,(q - 8)$, that is for $-8d$ to $7d$. This is lopsided,
# so the weight of the largest size, $w_\ast$ with its sign, gets the side with eight steps:
#
# $$d = \frac{w_\ast}{-8}, \qquad q_i = \mathrm{clip}\big(\mathrm{round}(w_i / d) + 8,\; 0,\; 15\big), \qquad
# w_i \approx d \, (q_i - 8).$$
#
# Thirty-two weights need $32 \cdot 4$ bits and a float16 for $d$, 16 more: 4.5 bits a weight. Int4Matrix tries four
# narrower spans too, which clip $w_\ast$, and takes the $d$ with the smallest squared error.

# %% tags=["deterministic"]
block = np.random.default_rng(3).normal(0, 0.1, 32)
largest = block[np.abs(block).argmax()]
d = float(np.float16(largest / -8))
q = np.clip(np.round(block / d) + 8, 0, 15)
ours = d * (q - 8)
library = Int4Matrix(block[None].astype(np.float32)).whole()[0]
print(f"largest weight {largest:.4f}, d = {d:.5f}")
print("q =", *q.astype(int))
for name, values in (("by hand", ours), ("the library", library)):
    print(f"{name:12} squared error {((values - block) ** 2).sum():.5f}")

# %% [markdown]
# ### A model before and after
#
# An error of a weight is not what we care about. We train a small GPT as in chapter 9, round it, and ask for the
# perplexity of text that it has not seen. Two words of the table: *with an offset* is the form of chapter 13,
# $d\,q + m$, whose 16 values need not lie around zero; and *embeddings* are the rows of the table of tokens, which is
# the head as well (chapter 9).

# %%
plays = "\n".join(load_corpus("shakespeare"))
tokenizer = CharTokenizer.train([plays])
train, held_out = tokenizer.encode(plays[:400_000]), tokenizer.encode(plays[400_000:440_000])
minilm.manual_seed(1)
model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=32, n_layer=2, n_head=4, n_embd=64))
optimizer = AdamW(model.named_parameters(), lr=4e-3)
STEPS = 250
for step, batch in enumerate(ShuffledBatches(TokenWindows(train, 32), batch_size=24).epoch(0)):
    if step == STEPS:
        break
    optimizer.scale_lr(min(1.0, step / 20) * (1 - step / STEPS))
    model.loss(batch).backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    model.zero_grad()
model.eval()


def perplexity_of(model, windows=160):
    x, y = (held_out[k : k + windows * 32].reshape(windows, 32) for k in (0, 1))
    with no_grad():
        return math.exp(model.loss({"input_ids": x, "labels": y}).item())


forms = {
    "float32": {},
    "8 bits": {"bits": 8},
    "4 bits, embeddings 8": {"bits": 4},
    "4 bits with an offset, embeddings 8": {"bits": 4, "offset": True},
    "4 bits, all": {"bits": 4, "embedding_bits": 4},
}
for name, settings in forms.items():
    small = quantize(copy.deepcopy(model), **settings) if settings else model
    print(f"{name:36} {size_in_bytes(small) / 1000:6.0f} kB   perplexity {perplexity_of(small):.3f}")

# %% [markdown]
# Eight bits are as good as free, and to this model four are too: it has trained for seconds, and nothing in it is
# precise. How far can one go? The function `rounded` from above takes any number of bits; we put its values in the
# place of the weights of all linear layers.

# %%
def with_weights(change):
    """A copy of the model, each linear weight W replaced by change(W)."""
    changed = copy.deepcopy(model)
    for parameter in prunable(changed).values():
        parameter.data[...] = change(parameter.data)
    return changed


figure = new_figure()
figure.set_size_inches(7, 2.6)
axes = figure.subplots()
for name, block, colour in (("a scale for each row", None, COLOURS[1]), ("a scale for each 32", 32, COLOURS[0])):
    models = [with_weights(lambda W, bits=bits, block=block: rounded(W, bits, block)[0]) for bits in range(2, 9)]
    perplexities = [perplexity_of(changed) for changed in models]
    axes.plot(range(2, 9), perplexities, "o-", color=colour, markersize=4, label=name)
axes.axhline(perplexity_of(model), color=GREY, linestyle="--", linewidth=1)
axes.annotate("float32", (5.5, perplexity_of(model)), (0, 4), textcoords="offset points", color=GREY, fontsize=9)
axes.set(xlabel="bits of a weight in linear layers", ylabel="perplexity, held out")
axes.legend(frameon=False)
figure

# %% [markdown]
# Down to four bits nothing is seen; at two the small groups are worth their scales. The committed figures of a larger
# character GPT and of SmolLM2:

# %%
figures = results("compression_quantization")
for name in ("character GPT", "SmolLM2-135M-Instruct"):
    print(f"{name}, {figures[name]['parameters']:,} parameters")
    for form, row in figures[name]["forms"].items():
        size, perplexity, speed = row["bytes"] / 1e6, row["perplexity"], row["tokens_per_second"]
        print(f"  {form:34} {size:7.2f} MB   perplexity {perplexity:6.2f}   {speed:4.0f} tokens/s written")

# %% [markdown]
# SmolLM2's file was made with four bits and an offset (chapter 13). Rounding it to the same form again changes nothing
# that matters; without the offset the steps lie elsewhere, each weight is rounded a second time, and the perplexity
# tells.
#
# **What this does not show.** The rounded model is not faster here: NumPy has no product of small integers, so the
# integers become floats piece by piece. Where reading the weights is what takes the time (one token after the other on
# an accelerator), fewer bytes are fewer seconds. And a perplexity over all tokens may hide a word that is now wrong.
#
# ### Pruning: which weight can go?
#
# Set one weight $w_i$ to zero. What happens to the loss $\mathcal L$? Expand it around the trained weights, with
# gradient $g_i = \partial \mathcal L / \partial w_i$ and curvature $h_i = \partial^2 \mathcal L / \partial w_i^2$:
#
# $$\mathcal L(w_i \to 0) \approx \mathcal L - g_i w_i + \tfrac12 h_i w_i^2 .$$
#
# After training $g_i$ is about 0, and what remains is $\tfrac12 h_i w_i^2$ (LeCun, Denker and Solla 1990). If we know
# nothing of $h_i$ and take it to be the same for all, the weights to take are those with the **smallest $|w_i|$**:
# magnitude pruning. A mask says what stays:
#
# $$m_i = \begin{cases} 1 & \text{if } |w_i| > t \\ 0 & \text{otherwise,} \end{cases} \qquad w \leftarrow m \odot w,$$
#
# with $t$ such that the wanted part, the *sparsity*, goes. One $t$ serves all matrices together.

# %% tags=["deterministic"]
w = np.array([[0.31, -0.12, 0.05], [-0.47, 0.02, 0.20]])
t = np.sort(np.abs(w), axis=None)[int(0.5 * w.size) - 1]  # half of them are at most t
mask = np.abs(w) > t
print(f"t = {t:.2f}")
print(np.where(mask, w, 0))
layer = nn.Linear(3, 2).astype(np.float64)
with no_grad():
    layer.weight.copy_(w)
prune(layer, 0.5)
print("the library leaves the same:", np.array_equal(layer.weight.numpy(), mask * w))

# %%
random = np.random.default_rng(0)
shares = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
smallest, drawn = [], []
for share in shares:
    pruned = copy.deepcopy(model)
    prune(pruned, share)
    smallest.append(perplexity_of(pruned))
    drawn.append(perplexity_of(with_weights(lambda W, share=share: W * (random.random(W.shape) >= share))))
pruned = copy.deepcopy(model)
prune(pruned, 0.5)
figure = new_figure()
figure.set_size_inches(7, 2.8)
left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
name, weight = next(iter(prunable(pruned).items()))
left.imshow(weight.data[:64] != 0, cmap="Greys", vmin=0, vmax=1.5, interpolation="nearest")
left.set(xlabel="input", ylabel="output", title="dark: what is left of one matrix at 0.5")
left.title.set_fontsize(9)
right.semilogy(shares, smallest, "o-", color=COLOURS[0], markersize=4, label="the smallest go")
right.semilogy(shares, drawn, "o-", color=COLOURS[1], markersize=4, label="drawn at random")
right.set_yticks([10, 15, 20, 30, 40], ["10", "15", "20", "30", "40"])
right.minorticks_off()
right.set(xlabel="part of the weights that is zero", ylabel="perplexity, held out")
right.legend(frameon=False)
figure

# %% [markdown]
# Nearly half can go before it is seen. Among those that are drawn at random there are large weights, and the model is
# worse from the beginning. Training on, with the zeros kept zero, mends much. Where most of them shall go, it is better
# still to take them away little by little while the model trains (Zhu and Gupta 2017). The committed run:

# %%
runs = results("compression_pruning")["perplexity"]
ways = {"global": "pruned", "global, trained on": "pruned at once, then trained on", "gradually": "little by little"}
figure = new_figure()
figure.set_size_inches(7, 2.8)
axes = figure.subplots()
for (way, label), colour in zip(ways.items(), COLOURS, strict=False):
    points = [(float(share), row[way]) for share, row in runs.items() if way in row]
    axes.semilogy(*zip(*points, strict=True), "o-", color=colour, markersize=4, label=label)
axes.axhline(runs["0"]["untouched"], color=GREY, linestyle="--", linewidth=1)
axes.set_yticks([6, 8, 10, 15, 20, 30], ["6", "8", "10", "15", "20", "30"])
axes.minorticks_off()
axes.set(xlabel="part of the weights that is zero", ylabel="perplexity, held out")
axes.legend(frameon=False)
figure

# %% [markdown]
# **What this does not show.** The zeros are kept and multiplied like any other number: nothing is smaller or faster
# until there is a format and a kernel for it. And the two lower curves have been trained for some steps more than the
# dashed model.
#
# ### Distillation: learning from a teacher
#
# A text says which token came. A trained model tells more: which others would have fitted, and how well. So let a small
# model, the *student*, learn from the probabilities of a large one, the *teacher* (Hinton, Vinyals and Dean 2015).
#
# From here on $s$ and $q$ are no longer a scale and integers. Let $z$ be the teacher's logits and $s$ the student's,
# one for each of the $V$ tokens, and $\tau$ a *temperature* that softens both:
#
# $$p_i = \frac{e^{z_i / \tau}}{\sum_j e^{z_j / \tau}}, \qquad q_i = \frac{e^{s_i / \tau}}{\sum_j e^{s_j / \tau}}.$$
#
# How far is $q$ from $p$? Where tokens come as $p$ says, a student pays $-\sum_i p_i \log q_i$ nats in the mean, and
# could have paid $-\sum_i p_i \log p_i$ with $q = p$. What it pays too much is the *Kullback-Leibler divergence*
#
# $$\mathrm{KL}(p \,\|\, q) = \sum_i p_i \log \frac{p_i}{q_i} \ge 0 .$$
#
# It cannot be negative, because $\log u \le u - 1$ gives
# $-\mathrm{KL} = \sum_i p_i \log \frac{q_i}{p_i} \le \sum_i p_i \big(\frac{q_i}{p_i} - 1\big) = 1 - 1 = 0$.
#
# **Its gradient.** From $\partial \log q_i / \partial s_k = (\mathbb 1[i = k] - q_k) / \tau$, where $\mathbb 1[i = k]$ is 1
# for $i = k$ and 0 else, and $\sum_i p_i = 1$:
#
# $$\frac{\partial\, \mathrm{KL}}{\partial s_k} =
# -\sum_i p_i \, \frac{\mathbb 1[i = k] - q_k}{\tau} = \frac{q_k - p_k}{\tau}.$$
#
# **Why $\tau^2$?** For a large $\tau$ the exponents are small, and $e^u \approx 1 + u$. Shift the logits so that they
# sum to zero, which softmax does not notice. Then $p_k \approx \frac{1}{V} (1 + z_k / \tau)$, likewise $q_k$, and
#
# $$\frac{\partial\, \mathrm{KL}}{\partial s_k} \approx \frac{1}{V \tau^2} (s_k - z_k).$$
#
# The gradient falls as $1 / \tau^2$. Multiplied by $\tau^2$ it keeps its size, and so the weight $\alpha$ between the
# two parts of the loss means the same at every temperature:
#
# $$\text{loss} = \alpha \, \tau^2 \, \mathrm{KL}(p \,\|\, q) + (1 - \alpha) \, (-\log \mathrm{softmax}(s)_y), \qquad
# y \text{ the token that came.}$$

# %% tags=["deterministic"]
def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


z, s = np.array([4.0, 2.0, 1.0, -7.0]), np.array([1.0, 0.0, 1.0, -2.0])  # both sum to zero
for tau in (1, 2, 4, 16):
    p, q = softmax(z / tau), softmax(s / tau)
    by_hand = tau**2 * (q - p) / tau
    student = Tensor(s[None], requires_grad=True)
    distillation_loss(student, z[None], np.array([0]), temperature=tau, alpha=1.0).backward()
    same = np.allclose(student.grad.numpy()[0], by_hand)
    print(f"tau {tau:2}: p = {np.round(p, 3)}  gradient {np.round(by_hand, 3)}  the library the same: {same}")
print(f"the limit, (s - z) / V:                    {np.round((s - z) / 4, 3)}")

# %%
words = ["dog", "cat", "fox", "car"]
taus = np.geomspace(1, 32, 30)
sizes = [np.linalg.norm(softmax(s / t) - softmax(z / t)) / t for t in taus]
figure = new_figure()
figure.set_size_inches(7, 2.8)
left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
for place, tau in enumerate((1, 2, 4, 16)):
    left.bar(np.arange(4) + 0.2 * (place - 1.5), softmax(z / tau), width=0.18, color=COLOURS[0],
             alpha=1 - 0.22 * place, label=f"$\\tau$ = {tau}")  # fmt: skip
left.set_xticks(range(4), words)
left.set(ylabel="teacher's probability", xlabel="next token (made up)")
left.legend(frameon=False, fontsize=8)
right.loglog(taus, sizes, color=COLOURS[1], label="of KL")
right.loglog(taus, taus**2 * sizes, color=COLOURS[0], label="of $\\tau^2$ KL")
right.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
right.minorticks_off()
right.set(xlabel="$\\tau$", ylabel="length of the gradient")
right.legend(frameon=False)
figure

# %% [markdown]
# A tiny demonstration, where we can see everything. The teacher sorts points of the plane into three classes. Two
# students of the same form, $s = x A + c$, see the same twelve points. One is told the class that was drawn for each,
# the other the teacher's probabilities. All else is equal: gradient descent by the formula above with $\tau = 1$, where
# a label $y$ is the distribution that is 1 at $y$.

# %% tags=["deterministic"]
rng = np.random.default_rng(5)
A, c = np.array([[2.0, -1.0, -1.0], [0.0, 1.5, -1.5]]), np.array([0.0, 0.3, -0.3])
points, new = rng.uniform(-2, 2, (12, 2)), rng.uniform(-2, 2, (5000, 2))
p = softmax(points @ A + c)
labels = np.array([rng.choice(3, p=row) for row in p])


def learn(targets, steps=4000):
    A, c = np.zeros((2, 3)), np.zeros(3)
    for _ in range(steps):
        g = (softmax(points @ A + c) - targets) / len(points)  # (q - p), the mean over points
        A, c = A - 0.5 * points.T @ g, c - 0.5 * g.sum(axis=0)
    return A, c


students = {"told the labels": learn(np.eye(3)[labels]), "told the probabilities": learn(p)}
truth = softmax(new @ A + c)
for name, (B, b) in students.items():
    q = softmax(new @ B + b)
    agree, kl = (q.argmax(1) == truth.argmax(1)).mean(), (truth * np.log(truth / q)).sum(1).mean()
    print(f"{name:24} agrees with the teacher on {agree:.2f} of new points, KL {kl:.3f} nats")

# %%
grid = np.stack(np.meshgrid(np.linspace(-2, 2, 120), np.linspace(-2, 2, 120)), axis=-1)
rgb = np.array([[int(COLOURS[i][k : k + 2], 16) / 255 for k in (1, 3, 5)] for i in range(3)])
figure = new_figure()
figure.set_size_inches(7, 2.6)
for axes, (name, (B, b)) in zip(figure.subplots(1, 3), {"teacher": (A, c), **students}.items(), strict=True):
    axes.imshow(softmax(grid @ B + b) @ (0.35 + 0.65 * rgb), origin="lower", extent=(-2, 2, -2, 2), interpolation="nearest")
    axes.scatter(*points.T, c=[COLOURS[y] for y in labels], edgecolor="white", s=36)
    axes.set_title(name, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
figure

# %% [markdown]
# (The dots are the twelve points, in the colours of the classes that were drawn.) Where these can be separated, above
# all between orange and green, the first student becomes ever surer of a border that twelve points do not tell. The
# other one sees how unsure the teacher is near its borders, and comes out as the teacher itself: it has the same form,
# and twelve points with their probabilities are more than enough to fix its nine numbers. A smaller student cannot
# become its teacher. The committed run with language models:

# %%
figures = results("compression_distillation")
print(f"teacher {figures['teacher']['parameters']:,} parameters, loss {figures['teacher']['loss']:.3f}")
print(f"student {figures['student']['parameters']:,} parameters:")
for way, row in figures["ways"].items():
    print(f"  {way:30} {row['steps']:5} steps   loss {row['mean_loss']:.3f}   (best and worst of three seeds: {row['spread']:.3f} apart)")

# %% [markdown]
# With as many steps the student of a teacher is better than one that learns alone. With three times the steps it is
# better alone: where text is plentiful and the student's own step is cheap, the teacher's forward passes are not free.
# **What this does not show:** how it is with little text, where a teacher has most to give; or with a student that is
# trained to its end.
#
# ## Private
#
# ### What is a promise worth?
#
# A model may learn a text by heart. If the text was a patient's record, whoever can ask the model can get it out. What
# could one promise to the patient? Not that nothing is learnt: then there is no model. But this: **whether your record
# was there or not, the model would come out about the same.**
#
# The smallest example is a way to hold a survey (Warner 1965). A question that nobody likes to answer. Toss a coin.
# Heads: say the truth. Tails: toss again, and say yes for heads, no for tails. Then
#
# $$P(\text{yes} \mid \text{truth is yes}) = \tfrac12 + \tfrac12 \cdot \tfrac12 = \tfrac34, \qquad
# P(\text{yes} \mid \text{truth is no}) = \tfrac12 \cdot \tfrac12 = \tfrac14 .$$
#
# An answer is at most 3 times as probable under one truth as under the other. Write $3 = e^\epsilon$: here
# $\epsilon = \log 3$. What anyone believes can be written as *odds*, the probability of yes divided by that of no. By
# Bayes' rule an answer moves the odds by this factor at most,
#
# $$\frac{P(\text{truth is yes} \mid \text{answer})}{P(\text{truth is no} \mid \text{answer})} =
# \frac{P(\text{answer} \mid \text{yes})}{P(\text{answer} \mid \text{no})} \cdot
# \frac{P(\text{yes})}{P(\text{no})} \le e^{\epsilon} \, \frac{P(\text{yes})}{P(\text{no})},$$
#
# whatever else they know. And the sum over many people is still of use: if the share $\pi$ has the truth yes, yes is
# said with probability $\frac14 + \frac12 \pi$.

# %% tags=["deterministic"]
rng = np.random.default_rng(0)
truth = rng.random(10_000) < 0.3
answers = np.where(rng.random(10_000) < 0.5, truth, rng.random(10_000) < 0.5)
print(f"epsilon = log 3 = {math.log(3):.4f}")
print(f"yes is said by {answers.mean():.4f}; so the share is about {2 * (answers.mean() - 1 / 4):.4f}, in truth {truth.mean():.4f}")

# %% [markdown]
# ### The definition
#
# Let $D$ and $D'$ be two data sets that differ in one example, which one of them has and the other has not. Let $M$ be
# a training algorithm that draws random numbers, and $S$ any set of models. $M$ is *$(\epsilon, \delta)$-differentially
# private* (Dwork et al. 2006) if always
#
# $$P(M(D) \in S) \le e^{\epsilon} \, P(M(D') \in S) + \delta .$$
#
# $\epsilon = 0$: the data play no part. $\epsilon = 1$: odds move by a factor of $e$ at most, a strong promise.
# $\epsilon = 8$: a factor of some 3,000, a weak one. $\delta$ is the part of the cases in which the promise may fail,
# and must be far below one over the number of examples: an algorithm that publishes one record in ten thousand is no
# secret-keeper.
#
# ### A sum with noise
#
# Training with gradients uses the data only through sums of gradients. So: how private is a sum to which noise is
# added? Say that one example moves the sum by at most $C$, and the noise is Gaussian with standard deviation
# $\sigma C$. In the other directions the noise is the same with and without the example; in the one in which the
# example moves the sum, at worst by all of $C$, we see a number $o$ from the normal distribution
# $\mathcal N(0, \sigma^2 C^2)$ or from $\mathcal N(C, \sigma^2 C^2)$, with densities $p_0$ and $p_1$:
#
# $$\log \frac{p_0(o)}{p_1(o)} = \frac{(o - C)^2 - o^2}{2 \sigma^2 C^2} = \frac{1}{2 \sigma^2} - \frac{o}{\sigma^2 C}.$$
#
# For $o$ far to the left this exceeds any $\epsilon$: hence $\delta$. It is above $\epsilon$ where
# $o < C\,(\frac12 - \epsilon \sigma^2)$: in units of $\sigma C$, left of $\frac{1}{2\sigma} - \epsilon \sigma$ from the
# mean of $p_0$, and left of $-\frac{1}{2\sigma} - \epsilon \sigma$ from that of $p_1$. The most by which $P_0(S)$ can
# exceed $e^\epsilon P_1(S)$ is with $S$ all of this region, so with $\Phi$ the distribution function of
# $\mathcal N(0, 1)$ (Balle and Wang 2018; with $p_0$ and $p_1$ exchanged it is the same, by symmetry),
#
# $$\delta = \int \max\big(0,\, p_0 - e^\epsilon p_1\big) \, do =
# \Phi\Big(\frac{1}{2\sigma} - \epsilon \sigma\Big) - e^{\epsilon} \,
# \Phi\Big(-\frac{1}{2\sigma} - \epsilon \sigma\Big).$$

# %% tags=["deterministic"]
def Phi(u):
    return 0.5 * math.erfc(-u / math.sqrt(2))


def delta_of(sigma, epsilon):
    return Phi(1 / (2 * sigma) - epsilon * sigma) - math.exp(epsilon) * Phi(-1 / (2 * sigma) - epsilon * sigma)


sigma, C = 2.0, 1.0
o = np.linspace(-30, 30, 200_001)
p_0, p_1 = (np.exp(-((o - mean) ** 2) / (2 * sigma**2)) / math.sqrt(2 * math.pi) / sigma for mean in (0, C))
integral = np.maximum(0, p_0 - math.exp(1) * p_1).sum() * (o[1] - o[0])
print(f"sigma 2, epsilon 1: delta {delta_of(2, 1):.6f}, by a sum over o {integral:.6f}")
counted = epsilon_spent(1, 1.0, 2.0, delta_of(2, 1), accountant="pld")  # one sum, in which every example is
print(f"the library, asked for epsilon at this delta: {counted:.3f}")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.6)
for axes, sigma in zip(figure.subplots(1, 2), (0.5, 2.0), strict=True):
    o = np.linspace(-7, 8, 500)
    a, b = (np.exp(-((o - mean) ** 2) / (2 * sigma**2)) / math.sqrt(2 * math.pi) / sigma for mean in (0, 1))
    axes.plot(o, b, color=COLOURS[1], label="with the example")
    axes.plot(o, a, color=COLOURS[0], label="without it")
    axes.fill_between(o, np.maximum(0, a - math.e * b), color=COLOURS[0], alpha=0.3, linewidth=0)
    axes.set(xlabel="what is seen, in C", xlim=(-7, 8), title=f"$\\sigma$ = {sigma:g}: at $\\epsilon$ = 1, $\\delta$ = {delta_of(sigma, 1):.1g}")
    axes.title.set_fontsize(10)
figure.axes[0].set_ylabel("density")
figure.axes[0].legend(frameon=False, fontsize=7, loc="center right", handlelength=1)
figure

# %% [markdown]
# The shaded area is $\delta$. Less noise, and the two can be told apart.
#
# ### Why each example is clipped
#
# All this needs a bound: one example moves the sum by at most $C$. A gradient has no bound. One strange example may
# have a gradient a thousand times as long as the others. So each is made shorter before it is added (Abadi et al.
# 2016):
#
# $$c_i = g_i \, \min\Big(1, \frac{C}{|g_i|}\Big), \qquad
# \Big|\sum_{i \in D} c_i - \sum_{i \in D'} c_i\Big| \le C \quad \text{for } D, D' \text{ that differ in one.}$$
#
# Would it not be simpler to clip the sum once, as in ordinary training? Its length would then be at most $C$ for
# however many examples. The noise must still hide one example, which can turn a vector of length $C$ around and move it
# by $2C$. All examples together could never rise above the noise for one. Clipped one by one, $B$ examples that agree
# add up to $B C$, against noise of $\sigma C$.

# %% tags=["deterministic"]
rng = np.random.default_rng(2)
g = np.concatenate([[0.8, 0.4] + rng.normal(0, 0.2, (12, 2)), [[-9.0, 6.0]]])  # twelve agree, one is strange


def clip(v, C):
    return v * min(1.0, C / np.linalg.norm(v))


ways = {
    "not clipped": lambda g: g.sum(axis=0),
    "the sum clipped": lambda g: clip(g.sum(axis=0), 1.0),
    "each clipped": lambda g: sum(clip(row, 1.0) for row in g),
}
for name, way in ways.items():
    length, moved = np.linalg.norm(way(g[:-1])), np.linalg.norm(way(g) - way(g[:-1]))
    print(f"{name:16} length of the sum of the twelve {length:6.2f}   the strange one moves it by {moved:5.2f}")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.4)
for axes, (name, way) in zip(figure.subplots(1, 3), ways.items(), strict=True):
    shown = np.array([clip(row, 1.0) for row in g]) if name == "each clipped" else g
    axes.quiver(np.zeros(13), np.zeros(13), *shown.T, angles="xy", scale_units="xy", scale=1, color=GREY, alpha=0.5, width=0.006)
    for part, colour in ((g[:-1], COLOURS[0]), (g, COLOURS[1])):
        axes.quiver(0, 0, *way(part), angles="xy", scale_units="xy", scale=1, color=colour, width=0.014)
    axes.add_patch(Circle((0, 0), 1.0, fill=False, linestyle="--", edgecolor=GREY))
    axes.set(xlim=(-9.5, 12), ylim=(-2, 12.5), aspect="equal", xlabel="first number")
    axes.set_title(name, fontsize=9)
figure.axes[0].set_ylabel("second number")
figure.axes[2].text(-9, 10.8, "sum of twelve", color=COLOURS[0], fontsize=8)
figure.axes[2].text(-9, 8.9, "with the strange one", color=COLOURS[1], fontsize=8)
figure

# %% [markdown]
# Each gradient here has two numbers; the grey arrows are the thirteen, before they are added. The dashed circle has the
# radius $C = 1$. On the right both sums are long, and differ by at most $C$.
#
# ### DP-SGD
#
# The whole algorithm, for $N$ examples and an expected batch of $L$, all parameters in one vector $\theta$ with
# learning rate $\eta$:
#
# 1. draw each example with probability $q = L / N$, whatever becomes of the others;
# 2. compute the gradient $g_i$ of each one *alone*, and clip it to $c_i$;
# 3. $\displaystyle g = \frac{1}{L} \Big( \sum_i c_i + \mathcal N(0, \sigma^2 C^2) \Big)$, with noise of its own for
#    each number of $g$;
# 4. $\theta \leftarrow \theta - \eta g$, or whatever an optimizer makes of $g$: what is computed from $g$ alone gives
#    nothing more away.
#
# By hand, one step without noise, for a linear classifier of points in the plane: two classes, two clouds that overlap.
# Beside it the library, which goes through the examples one by one as well.

# %% tags=["deterministic"]
rng = np.random.default_rng(1)
classes = rng.integers(0, 2, 400)
X = (rng.normal(0, 1, (400, 2)) + np.where(classes[:, None] == 1, [1.2, 0.6], [-1.2, -0.6])).astype(np.float64)
classifier = nn.Linear(2, 2).astype(np.float64)
with no_grad():
    classifier.weight.zero_(), classifier.bias.zero_()

C, total, clipped, lengths = 0.5, ClippedSum(classifier.parameters(), 0.5), 0.0, []
for x, y in zip(X[:5], classes[:5], strict=True):
    F.cross_entropy(classifier(Tensor(x[None])), np.array([y])).backward()
    g = np.concatenate([parameter.grad.numpy().reshape(-1) for parameter in classifier.parameters()])
    lengths.append(np.linalg.norm(g))
    clipped = clipped + g * min(1.0, C / lengths[-1])
    total.add()  # clips and adds the same gradients, and forgets them
total.release(noise_multiplier=0.0, expected=5, generator=minilm.Generator(0))
library = np.concatenate([parameter.grad.numpy().reshape(-1) for parameter in classifier.parameters()])
print("lengths before clipping:", np.round(lengths, 3))
print("mean of the clipped:    ", np.round(clipped / 5, 4))
print("the library the same:   ", np.allclose(library, clipped / 5))

# %%
source(ClippedSum.release)

# %% [markdown]
# Step 1 is not a detail. Who is drawn only with probability $q$ is mostly not there, and a step of small $\epsilon$
# gives away only about $q$ times as much. But *accounts* must be kept: the steps add up. If each of $k$ steps is
# $(\epsilon, \delta)$-private, all of them are $(k \epsilon, k \delta)$-private; that is true and far too pessimistic,
# since the noises of many steps seldom all fall on the same side. An *accountant* adds up the distribution of the
# privacy loss $\log (p_0 / p_1)$ itself, or its moments. The library asks the package `dp-accounting`.

# %%
logging.getLogger("absl").setLevel("ERROR")  # it leaves out some orders, which makes no epsilon too small, and says so
steps = np.array([1, 10, 100, 1000])
figure = new_figure()
figure.set_size_inches(7, 2.8)
axes = figure.subplots()
for sigma, colour in ((1.0, COLOURS[1]), (2.0, COLOURS[0])):
    spent = [epsilon_spent(int(k), 0.1, sigma, 1e-5) for k in steps]
    axes.loglog(steps, spent, "o-", color=colour, markersize=4, label=f"$\\sigma$ = {sigma:g}, accountant")
    axes.loglog(steps, spent[0] * steps, "--", color=colour, linewidth=1, label=f"$\\sigma$ = {sigma:g}, steps × the first")
axes.set(xlabel="steps, each example drawn with probability 0.1", ylabel="$\\epsilon$ at $\\delta = 10^{-5}$", ylim=(0.3, 1000))
axes.legend(frameon=False, fontsize=8)
figure

# %% [markdown]
# Now we train the classifier, with more and more noise. (`epsilon` tells what the steps have spent together.)

# %%
class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        with no_grad():
            self.linear.weight.zero_(), self.linear.bias.zero_()

    def loss(self, batch):
        return F.cross_entropy(self.linear(Tensor(batch["x"])), batch["labels"])


X = X.astype(np.float32)
examples = [{"x": x, "labels": np.int64(y)} for x, y in zip(X[:300], classes[:300], strict=True)]
lines = {}
for sigma in (0.0, 2.0, 10.0, 40.0):
    private = Classifier()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=40, per_device_train_batch_size=30, learning_rate=0.5, max_grad_norm=1.0, optim="sgd",
            lr_scheduler_type="constant", save_strategy="no", progress=False, seed=3,
        )  # fmt: skip
        trainer = PrivateTrainer(private, arguments, examples, noise_multiplier=sigma)
        trainer.train()
    with no_grad():
        right = (private.linear(Tensor(X[300:])).numpy().argmax(1) == classes[300:]).mean()
    lines[sigma] = private.linear
    print(f"sigma {sigma:4.1f}: epsilon {trainer.epsilon(1e-4):7.3f} (delta 1e-4)   right on {right:.2f} of 100 new points")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.1)
for axes, (sigma, linear) in zip(figure.subplots(1, 4), lines.items(), strict=True):
    grid = np.stack(np.meshgrid(np.linspace(-4, 4, 80), np.linspace(-4, 4, 80)), axis=-1).astype(np.float32)
    with no_grad():
        p = F.softmax(linear(Tensor(grid))).numpy()[..., 1]
    axes.imshow(p, origin="lower", extent=(-4, 4, -4, 4), cmap="RdBu", vmin=0, vmax=1, alpha=0.6)
    axes.scatter(*X[300:].T, c=classes[300:], cmap="RdBu", s=5)
    axes.set_title(f"$\\sigma$ = {sigma:g}", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
figure

# %% [markdown]
# (The dots are the 100 new points and their classes, the background is what the model says.) With the most noise chance
# turns the border, and next to nothing is given away. In between, privacy costs little here, since only six numbers are
# trained. The noise is drawn for every number, so with $P$ of them the mean square of its length is $P \sigma^2 C^2$,
# while the sum of the gradients is never longer than $C$ times the examples drawn. Large models need large batches, and
# many examples, so that $q$ stays small.
#
# The committed run: a linear layer on the features of a sentence encoder learns 5,000 film reviews.

# %%
figures = results("privacy")
figure = privacy_figure(figures)
figure.set_size_inches(7, 3.3)
figure

# %% [markdown]
# With five thousand examples a strong promise is nearly free here, and only the strongest costs much. (The features
# come from a model that has seen public text only. Had it seen these reviews, the promise would be void.)
#
# $\epsilon$ is a bound for the worst case. How much *is* learnt by heart can be tried: put a *canary* into the training
# data, one of $R$ secrets of one form drawn at random ("the code is 4921"), and let the trained model rank all $R$ by
# their probability. If the canary comes out $r$-th, its *exposure* is (Carlini et al. 2019)
#
# $$\log_2 R - \log_2 r \quad \text{bits:}$$
#
# $\log_2 R$ if it is the first, so that whoever tries all codes can read it out, and if the model knows nothing of it,
# $r / R$ is anything from 0 to 1 and the mean is $-\int_0^1 \log_2 u \, du = \log_2 e$, about one and a half bits.

# %% tags=["deterministic"]
log_p = np.random.default_rng(0).normal(-20, 3, 10_000)  # of a model that knows nothing, for 10,000 codes
for bonus in (0, 5, 20):
    with_canary = log_p.copy()
    with_canary[4921] += bonus
    rank = (with_canary >= with_canary[4921]).sum()
    print(f"{bonus:2} nats more probable by training: rank {rank:5,}, exposure {math.log2(10_000) - math.log2(rank):5.2f} bits,",
          f"the library {exposure(with_canary, 4921):5.2f}")  # fmt: skip

# %% [markdown]
# In the committed run (the right panel above) a small LSTM learns 1,000 names and one secret among them:

# %%
print(f"exposure of one that can be read out: {figures['canary']['most_exposure_bits']:.1f} bits")
for way, row in figures["canary"]["rows"].items():
    way = way if row["epsilon"] is None else f"epsilon {way}"
    print(f"{way:12} exposure {row['exposure_bits']['mean']:5.1f} bits   held-out loss {row['loss']['mean']:.3f} nats a character")

# %% [markdown]
# Trained plainly, the model puts the secret near the top, though it stood once among a thousand names; trained
# privately, it exposes the secret no more than if it had *never seen* it. (Each is a mean of three runs, which vary
# much.)
#
# **What $\epsilon$ does not cover.** What was chosen by looking at the data (learning rate, when to stop). Losses that
# a log prints. A seed that somebody knows, since noise that can be drawn again hides nothing. A secret that stands in
# many examples: the promise is for one. And what is true of people in general is learnt, as it should be, and can be
# held against someone whose record was never there.
#
# ## Fair
#
# ### Paired sentences
#
# A model has learnt from what people wrote. Does it expect a nurse to be "she" and a plumber to be "he"? Take two
# sentences that differ in this word alone, and compare how probable they are (in form like Nangia et al. 2020):
#
# $$d = \log p(\text{... she ...}) - \log p(\text{... he ...}) =
# \sum_t \big( \log p(x_t \mid x_{<t}) - \log p(x'_t \mid x'_{<t}) \big).$$

# %%
chat_model, chat_tokenizer = from_pretrained("smollm2-135m-instruct", context_length=256)
start = chat_tokenizer.special_tokens["<|endoftext|>"]


def token_log_p(text):
    ids = np.concatenate([[start], chat_tokenizer.encode(text)])
    with no_grad():
        log_p = F.log_softmax(chat_model(ids[None, :-1])).numpy()[0]
    return [chat_tokenizer.decode([i]) for i in ids[1:]], log_p[np.arange(len(ids) - 1), ids[1:]]


figure = new_figure()
figure.set_size_inches(7, 3.6)
for axes, person in zip(figure.subplots(2, 1, sharey=True), ("nurse", "plumber"), strict=True):
    tokens, she = token_log_p(f"The {person} said that she would be late.")
    _, he = token_log_p(f"The {person} said that he would be late.")
    axes.bar(range(len(tokens)), she - he, color=COLOURS[0])
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks(range(len(tokens)), [t.strip().replace("she", "she / he") for t in tokens])
    axes.set_ylabel("difference, nats")
    axes.set_title(f"{person}: d = {(she - he).sum():.1f}".replace("-", "−"), fontsize=10)
figure

# %% [markdown]
# Before the word there is no difference: the model has not read it yet. At the word it is largest; the words after it,
# read with the one or the other before them, give a part back or add to it.
#
# **A single $d$ says little.** It also tells that "he" is the more frequent word in English. What can be compared is
# $d$ of some occupations with $d$ of others, where this part is the same. So: two lists of occupations, $d$ averaged
# over sentences for each, and the difference between the means of the lists.
#
# **Could it be chance?** Say that the lists mean nothing. Then any other way to cut the occupations into two lists of
# these sizes would do as well. So we try all of them. The part that gives as large a difference, in either direction,
# is $p$: this is the *permutation test*. (Five against five can be cut in 252 ways, each with its mirror image, so the
# smallest $p$ that can come out is 2 in 252.)

# %%
lists = {name: people[:5] for name, people in OCCUPATIONS.items()}
templates = ("The {group} said that {word} would be late.", "The {group} smiled when {word} heard the news.")
pairs = paired_sentences([person for people in lists.values() for person in people], ("she", "he"), templates)


def likelihood(texts):
    return log_likelihoods(chat_model, [chat_tokenizer.encode(text) for text in texts], start)


for name, people in lists.items():
    print(f"{name:20}", *people)
d = {}
for pair, value in zip(pairs, probe_pairs(likelihood, pairs), strict=True):
    d.setdefault(pair.group, []).append(value)
means = np.array([np.mean(values) for values in d.values()])  # the first five are the first list
found = means[:5].mean() - means[5:].mean()
others = [
    means[list(chosen)].mean() - np.delete(means, chosen).mean() for chosen in combinations(range(10), 5)
]
p = np.mean(np.abs(others) >= abs(found) - 1e-12)
print(f"difference of the lists {found:.2f} nats; {len(others)} ways to cut ten into five and five, p = {p:.3f}")
library = group_difference(means[:5], means[5:], minilm.Generator(0))
print(f"the library             {library[0]:.2f} nats, p = {library[1]:.3f}")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.4)
axes = figure.subplots()
axes.hist(others, bins=40, color=COLOURS[5], edgecolor="white")
axes.axvline(found, color=COLOURS[1])
axes.text(found, axes.get_ylim()[1] * 0.85, "the two lists ", color=COLOURS[1], ha="right")
axes.set(xlabel="difference between two lists, nats", ylabel="ways to cut")
figure

# %% [markdown]
# The further out the line stands, the fewer cuts would do as well. The committed run has 21 people and six sentences
# each. Among them are people without an occupation, as a scale for what is no stereotype. The bar is the mean of $d$,
# the line the 95 % interval of the bootstrap (chapter 12).

# %%
probe = results("inspection")["parts"]["pronouns"]["found"]
effects = {person: Effect(**row) for person, row in probe["effects"].items()}
effects_figure(effects, "log p(she) − log p(he), nats", "SmolLM2-135M-Instruct", probe["people"])

# %% [markdown]
# **What this does not show.** Whether the model harms anyone in a use, which depends on the use. That a model without
# this difference is fair: it was asked one question, in English, with six sentences. What is behind a difference: a
# frequency in the world or an injustice in the text, the probe cannot tell them apart. "She" and "he" are not all there
# is. And who tries twenty probes will find something by chance with one of them. It is there to look, not to certify.
#
# ## Exercises
#
# **Exercise 18.1.** Quantize a matrix, one scale a row, symmetric. Return the integers and the scales. A row of zeros
# must stay one.

# %%
def quantize_rows(W, bits):
    """W (rows, columns) -> integers q of W's shape, from -(2^(bits-1) - 1) to 2^(bits-1) - 1, and s (rows,)."""
    ...


# from checks.chapter_18 import check_quantize_rows; check_quantize_rows(quantize_rows)

# %% [markdown]
# **Exercise 18.2.** Which weights stay? *Exactly* `floor(sparsity * w.size)` go, the smallest in size, also where
# several are equal.

# %%
def keep(w, sparsity):
    """w of any shape -> booleans of its shape: True where the weight stays."""
    ...


# from checks.chapter_18 import check_keep; check_keep(keep)

# %% [markdown]
# **Exercise 18.3.** The gradient of $\tau^2\, \mathrm{KL}(p \,\|\, q)$ with respect to the student's logits.

# %%
def distillation_gradient(s, z, tau):
    """s student's, z teacher's logits (V,) -> (V,)."""
    ...


# from checks.chapter_18 import check_distillation_gradient; check_distillation_gradient(distillation_gradient)

# %% [markdown]
# **Exercise 18.4.** Steps 2 and 3 of DP-SGD without the noise. A gradient of zeros is possible, and so is one with a
# huge entry.

# %%
def clipped_mean(gradients, C, L):
    """gradients (B, P), one row for each example drawn; C the bound, L the expected batch -> (P,)."""
    ...


# from checks.chapter_18 import check_clipped_mean; check_clipped_mean(clipped_mean)

# %% [markdown]
# **Exercise 18.5.** The permutation test, two-sided and exact: of all ways to choose which of the numbers are the first
# list, the part with at least as large a difference of means, in size.

# %%
def permutation_p(first, second):
    """Two lists of numbers, perhaps of different lengths -> p."""
    ...


# from checks.chapter_18 import check_permutation_p; check_permutation_p(permutation_p)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
from checks.chapter_18 import (
    check_clipped_mean,
    check_distillation_gradient,
    check_keep,
    check_permutation_p,
    check_quantize_rows,
)


def quantize_rows(W, bits):
    s = np.abs(W).max(axis=1) / (2 ** (bits - 1) - 1)
    q = np.round(W / np.where(s == 0, 1, s)[:, None])
    return q.astype(int), s


check_quantize_rows(quantize_rows)

# %% tags=["solution"]
def keep(w, sparsity):
    order = np.argsort(np.abs(w), axis=None, kind="stable")  # counting, not comparing: equal ones make no trouble
    mask = np.ones(w.size, dtype=bool)
    mask[order[: int(sparsity * w.size)]] = False
    return mask.reshape(w.shape)


check_keep(keep)

# %% tags=["solution"]
def distillation_gradient(s, z, tau):
    return tau * (softmax(s / tau) - softmax(z / tau))  # tau^2 times 1 / tau


check_distillation_gradient(distillation_gradient)

# %% tags=["solution"]
def clipped_mean(gradients, C, L):
    lengths = np.linalg.norm(gradients, axis=1, keepdims=True)
    return (gradients * np.minimum(1, C / np.maximum(lengths, 1e-300))).sum(axis=0) / L  # L: how many came is private


check_clipped_mean(clipped_mean)

# %% tags=["solution"]
def permutation_p(first, second):
    values, n = np.array([*first, *second], dtype=float), len(first)
    found = abs(np.mean(first) - np.mean(second))
    ways = [abs(values[list(c)].mean() - np.delete(values, c).mean()) for c in combinations(range(len(values)), n)]
    return float(np.mean(np.array(ways) >= found - 1e-12))


check_permutation_p(permutation_p)

# %% [markdown]
# ## What to read next
#
# - [minilm/compression](../minilm/compression/__init__.py): [matrices.py](../minilm/compression/matrices.py) multiplies
#   with integers, [distillation.py](../minilm/compression/distillation.py) is a loss for the Trainer.
# - [minilm/training/private.py](../minilm/training/private.py) and [accountant.py](../minilm/training/accountant.py).
# - [minilm/inspection](../minilm/inspection/__init__.py): the probe, associations of embeddings, and the exposure of a
#   secret.
# - [tests/compression](../tests/compression), [tests/inspection](../tests/inspection): what holds all this.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6 · From n-grams to the LSTM
#
# **What you will be able to do**
#
# - make a language model by counting, and say where counting ends;
# - write a recurrent network, and derive its backward pass through time;
# - show why its gradients vanish or explode, and what the LSTM's cell changes;
# - correct and train the LSTM program that many introductions print;
# - read the gates of a trained LSTM.
#
# **What it needs:** tensors and vjps (chapters 1 to 4), tokens (chapter 5).

# %%
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

import minilm
import minilm.functional as F
from checks import source
from minilm import Tensor, nn, no_grad
from minilm.models import LSTMLM, LSTMConfig, NGram
from minilm.optim import Adam, AdamW, clip_grad_norm_
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.text import CharTokenizer, ShuffledBatches, TokenWindows, WordTokenizer, load_corpus

# %% [markdown]
# ## A language model by counting
#
# A language model gives a probability to every next token, given those before it. The chain rule of probability makes a
# probability of the whole text out of that:
#
# $$P(x_1 \dots x_N) = \prod_{i=1}^{N} p(x_i \mid x_1 \dots x_{i-1}).$$
#
# The simplest estimate is to count. If we look back one token only (a *bigram* model), with $c(a, b)$ the number of
# times that $b$ follows $a$,
#
# $$p(b \mid a) = \frac{c(a, b)}{\sum_{b'} c(a, b')}.$$

# %% tags=["deterministic"]
plays = "\n".join(load_corpus("shakespeare"))
pairs = Counter(pairwise(plays[:400_000]))
after_q = {b: n for (a, b), n in pairs.items() if a == "q"}
after_t = {b: n for (a, b), n in pairs.items() if a == "t"}
print("after q:", after_q)
total = sum(after_t.values())
print("after t:", ", ".join(f"{b!r} {n / total:.3f}" for b, n in sorted(after_t.items(), key=lambda i: -i[1])[:5]))

# %%
letters = " abcdefghijklmnopqrstuvwxyz"
table = np.array([[pairs[a, b] for b in letters] for a in letters], dtype=float)
figure = new_figure()
figure.set_size_inches(5.2, 4.6)
axes = figure.subplots()
image = axes.imshow(table / table.sum(axis=1, keepdims=True), cmap="Blues")
shown = letters.replace(" ", "·")
axes.set_xticks(range(27), shown, fontsize=8)
axes.set_yticks(range(27), shown, fontsize=8)
axes.set(xlabel="next letter (· is the space)", ylabel="this letter")
figure.colorbar(image, label="$p(\\mathrm{next} \\mid \\mathrm{this})$", shrink=0.8)
figure

# %% [markdown]
# Look back further and the guesses get better, until they do not. To see it, keep some text back: what is *held out* is
# not counted (and later not trained on), only measured. There are $71^5$ different rows of five characters, about two
# thousand million. Most of them never stand in the text that we count. What has not been seen gets the
# probability 0, and a single 0 makes the whole text impossible.

# %% tags=["deterministic"]
train, held_out = plays[:400_000], plays[400_000:440_000]
for n in range(2, 9):
    seen = {train[i : i + n] for i in range(len(train) - n + 1)}
    new = [held_out[i : i + n] for i in range(len(held_out) - n + 1)]
    unseen = np.mean([gram not in seen for gram in new])
    print(f"rows of {n}: {len(seen):7,} different ones in the text; of the held-out ones {unseen:6.1%} are new")

# %% [markdown]
# Smoothing repairs it: lend some probability to the shorter row, of which there are more. The library's `NGram` does
# this by the method of Kneser and Ney (its file derives it). Even so, one cannot look back ten tokens by counting.
# (Order $n$ counts rows of $n$ characters: the bigram model has order 2, and order 0 gives all characters the same
# probability.)

# %% tags=["deterministic"]
tokenizer = CharTokenizer.train([plays])
train_ids, held_out_ids = tokenizer.encode(train), tokenizer.encode(held_out)
losses = {}
for n in range(7):
    losses[n] = -NGram(n, tokenizer.vocab_size).fit(train_ids).log_probs(held_out_ids).mean()
    print(f"order {n}: {losses[n]:.3f} nats a character")

# %% [markdown]
# What is missing is that "the king" and "the queen" have something in common. To a table of counts they are different
# rows. A network can learn it.
#
# ## A network with a memory
#
# A *recurrent* network (Elman 1990) reads one token after the other and keeps a vector $h_t$, its *state*: everything
# that it knows of the past.
#
# $$z_t = W x_t + U h_{t-1} + b, \qquad h_t = \tanh z_t, \qquad \mathrm{logits}_t = V h_t + c.$$
#
# $x_t$ is the embedding of token $t$, $C$ numbers; $h_t$ has $H$ numbers; $W$ is $H \times C$ and $U$ is
# $H \times H$. The same matrices at every step: no matter how long the text is, there is no more to learn.

# %%
figure = new_figure()
figure.set_size_inches(7, 2.1)
axes = figure.subplots()
axes.set_axis_off()
axes.set_xlim(0, 10.4)
axes.set_ylim(0, 3.2)
arrow = {"arrowstyle": "->", "color": GREY}
for t in range(4):
    x = 1.2 + 2.4 * t
    axes.text(x, 1.6, f"$h_{t + 1}$", ha="center", va="center", bbox={"boxstyle": "round,pad=0.5", "fc": "white", "ec": COLOURS[0]})
    axes.text(x, 0.2, f"$x_{t + 1}$ = {'king'[t]!r}", ha="center")
    axes.text(x, 2.9, f"p(next | {'king'[: t + 1]!r})", ha="center", fontsize=9)
    axes.annotate("", (x, 1.2), (x, 0.55), arrowprops=arrow)
    axes.annotate("", (x, 2.75), (x, 2.05), arrowprops=arrow)
    axes.annotate("", (x + 2.0, 1.6), (x + 0.45, 1.6), arrowprops=arrow)
    axes.text(x + 0.1, 0.8, "$W$", color=GREY)
    axes.text(x + 1.15, 1.75, "$U$", color=GREY)
    axes.text(x + 0.1, 2.3, "$V$", color=GREY)
figure

# %% [markdown]
# ## Backward, through time
#
# Write $\bar v$ for the derivative of the loss by $v$ (chapter 2 wrote $dv$, and so does the code below). The state
# $h_t$ is used twice: for the logits of step $t$, and for the next state. So two parts are added:
#
# $$\bar h_t = \underbrace{V^\top \overline{\mathrm{logits}}_t}_{\text{from its own output}} +
# \underbrace{U^\top \bar z_{t+1}}_{\text{from the future}}, \qquad
# \bar z_t = (1 - h_t^2) \odot \bar h_t .$$
#
# ($\odot$ multiplies element by element.) It has to be computed from the last step to the first. The parameters are
# used at every step, so their gradients are sums over time:
#
# $$\bar U = \sum_t \bar z_t h_{t-1}^\top, \qquad \bar W = \sum_t \bar z_t x_t^\top, \qquad \bar b = \sum_t \bar z_t .$$
#
# That is all of *backpropagation through time*. By hand, and against the library:

# %% tags=["deterministic"]
T, C, H = 6, 3, 4
rng = np.random.default_rng(0)
x, W, U, b = (rng.normal(size=shape) for shape in ((T, C), (H, C), (H, H), (H,)))
g = rng.normal(size=(T, H))  # the cotangents of h_1 ... h_T: what comes from the outputs

h = np.zeros((T + 1, H))  # h[t] is the state after t tokens
for t in range(T):
    h[t + 1] = np.tanh(W @ x[t] + U @ h[t] + b)

dW, dU, dx, dz = np.zeros_like(W), np.zeros_like(U), np.zeros_like(x), np.zeros(H)
for t in reversed(range(T)):
    dh = g[t] + U.T @ dz  # dz is still that of step t + 1
    dz = (1 - h[t + 1] ** 2) * dh
    dU += np.outer(dz, h[t])
    dW += np.outer(dz, x[t])
    dx[t] = W.T @ dz

layer = nn.RNN(C, H)
with no_grad():
    for name, value in (("weight_ih_l0", W), ("weight_hh_l0", U), ("bias_ih_l0", b), ("bias_hh_l0", np.zeros(H))):
        setattr(layer, name, nn.Parameter(value))
ours = Tensor(x[None], requires_grad=True)
output, _ = layer(ours, Tensor(np.zeros((1, 1, H))))
output.backward(g[None])
print("states equal   ", np.allclose(output.numpy()[0], h[1:]))
print("dU equal       ", np.allclose(layer.weight_hh_l0.grad.numpy(), dU))
print("dW, dx equal   ", np.allclose(layer.weight_ih_l0.grad.numpy(), dW), np.allclose(ours.grad.numpy()[0], dx))

# %% [markdown]
# ## Gradients that vanish, and gradients that explode
#
# How much does the loss at step $T$ depend on the token at step $t$? Follow the derivative back: every step
# multiplies by $U^\top$ and by $1 - h^2$, which is at most 1:
#
# $$\bar h_t = U^\top \mathrm{diag}(1 - h_{t+1}^2)\, \bar h_{t+1} \quad\Rightarrow\quad
# \bar h_t = \Big(\prod_{s=t+1}^{T} U^\top \mathrm{diag}(1 - h_s^2)\Big) \bar h_T .$$
#
# A product of $T - t$ factors. If each shrinks a vector to 0.9 of its length, 50 steps shrink it to a half per cent;
# if each stretches it by 1.1, to a hundred times its length. There is no middle (Bengio, Simard and Frasconi 1994).
# We measure it with small inputs, and for $U$ a factor times an orthogonal matrix $Q$: that turns a vector and keeps its
# length, so the factor is all that $U$ stretches or shrinks.

# %%
def gradient_by_distance(layer, T=80, C=32):
    """|d loss / d x_t| for all t, of a loss that reads the last state only."""
    rng = np.random.default_rng(1)
    x = Tensor(0.3 * rng.normal(size=(1, T, C)), requires_grad=True)
    output, _ = layer(x)
    output.backward(np.concatenate([np.zeros((1, T - 1, output.shape[2])), rng.normal(size=(1, 1, output.shape[2]))], axis=1))
    return np.linalg.norm(x.grad.numpy()[0], axis=1)


def to_float64(layer):
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(parameter.numpy().astype(np.float64)))
    return layer


minilm.manual_seed(2)
rng = np.random.default_rng(2)
orthogonal = np.linalg.qr(rng.normal(size=(32, 32)))[0]
curves = {}
for factor in (0.8, 1.0, 2.5):
    layer = to_float64(nn.RNN(32, 32))
    layer.weight_hh_l0 = nn.Parameter(factor * orthogonal)
    curves[f"RNN, U = {factor} Q"] = gradient_by_distance(layer)
for bias in (0.0, 3.0):
    layer = to_float64(nn.LSTM(32, 32))
    forget = layer.bias_ih_l0.numpy().copy()
    forget[32:64] = bias  # the second of the four blocks belongs to the forget gate
    layer.bias_ih_l0 = nn.Parameter(forget)
    curves[f"LSTM, forget bias {bias:g}"] = gradient_by_distance(layer)

# %%
figure = new_figure()
figure.set_size_inches(7, 3.2)
axes = figure.subplots()
for colour, (name, norms) in zip(COLOURS, curves.items()):
    axes.semilogy(range(len(norms) - 1, -1, -1), norms, color=colour, label=name, linestyle="-" if "RNN" in name else "--")
axes.set(xlabel="steps back from the end", ylabel="norm of the gradient by $x_t$", ylim=(1e-12, 1e3))
axes.legend(frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
figure

# %% [markdown]
# Straight lines on a logarithmic axis: exponentials. With the factor 1.0 the tanh still shrinks a little at every
# step, and with 2.5 it takes most of the growth away, but not all. An explosion can be cut off (*clipping*: if the norm
# of all gradients is above a limit, scale them down to it). A gradient that has vanished cannot be brought back. The
# dashed curves are explained next.
#
# ## The LSTM: a sum instead of a product
#
# The *long short-term memory* (Hochreiter and Schmidhuber 1997; forget gate by Gers and others 2000) keeps a second
# vector, the *cell* $c_t$. The cell is not multiplied by a matrix from step to step. It is kept, and added to:
#
# $$\begin{aligned}
# i &= \sigma(z_i) & &\text{input gate: how much to write}\\
# f &= \sigma(z_f) & &\text{forget gate: how much to keep}\\
# g &= \tanh(z_g) & &\text{what to write}\\
# o &= \sigma(z_o) & &\text{output gate: how much to show}\\
# c_t &= f \odot c_{t-1} + i \odot g, & h_t &= o \odot \tanh c_t,
# \end{aligned}$$
#
# where $z_i, z_f, z_g, z_o$ are four blocks of $W x_t + U h_{t-1} + b$, and $\sigma(z) = 1 / (1 + e^{-z})$ lies
# between 0 and 1, with the derivative $\sigma (1 - \sigma)$. The way back along the cells is
#
# $$\bar c_{t-1} = f \odot \bar c_t + \dots$$
#
# (the dots are what comes by way of $h_{t-1}$, as in the RNN). From cell to cell, a product of the forget gates alone.
# Where the network has learnt $f = 1$, the gradient runs back undamaged, as far as it needs to; with $f = 0$ it forgets
# at will. The dashed curves above show both: with a forget bias of 0 the gates stand at $\sigma(0) = 1/2$ and half is
# lost at every step, faster than in the RNN. With a bias of 3, $f = \sigma(3) = 0.95$, and the gradient hardly falls. So
# many start the training of an LSTM with a positive bias.

# %% tags=["deterministic"]
sigma = 1 / (1 + np.exp(-3.0))
print(f"sigma(3) = {sigma:.2f}; after 15 steps {sigma ** 15:.2f}")

# %% [markdown]
# The library computes a whole sequence as one operation, forward and backward. The loop over time is this:

# %%
source(F.lstm)

# %% [markdown]
# ## The program of the introductions, corrected
#
# Articles on language models print an LSTM program: an embedding of 1,000 words in 100 channels, two LSTM layers of
# width 100, a linear decoder on the last step, Adam with a rate of `0.001`, cross-entropy. Chapter 0 listed the five
# reasons why it does not run. Here is the version that does (`examples/documents_lstm.py`), at the same sizes.

# %%
sys.path.insert(0, str(Path("../examples").resolve()))
import documents_lstm

source(documents_lstm.LSTMLanguageModel, documents_lstm.last_word)

# %% [markdown]
# Two words in it are new. *Cross-entropy* is the loss of chapter 0, the mean of $-\log p$ of the words that came.
# *Adam* (Kingma and Ba 2015) is gradient descent with a step of its own for each parameter. With $g$ the gradient at
# step $n$, it keeps two running averages, one of $g$ and one of $g^2$, and divides one by the root of the other:
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\, g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2, \qquad
# \theta \leftarrow \theta - \eta\, \frac{m / (1 - \beta_1^n)}{\sqrt{v / (1 - \beta_2^n)} + \epsilon} .$$
#
# So a parameter moves by about $\eta$ a step, whether its gradients are large or small. (Both averages begin at 0; the
# divisions by $1 - \beta^n$ make up for that.)
#
# It reads 20 words and predicts the next one. We train it on a part of the plays, for a few hundred steps.
#
# `model.train()` tells every layer that training goes on, and `model.eval()` (which `evaluate` calls) that it is over.
# Most layers do the same in both cases. *Dropout* does not (Srivastava et al. 2014): in training it sets a random part
# of its inputs to zero and scales the others up, so that no unit can rely on a single other one; afterwards it hands
# them on unchanged. This model has none, but whoever forgets `eval()` for one that has it measures a crippled model.

# %%
minilm.manual_seed(0)
words = WordTokenizer.train([plays[:600_000]], lower=True, max_size=1000)
word_ids = words.encode(plays[:600_000])
split = int(0.9 * len(word_ids))
train_words = ShuffledBatches(TokenWindows(word_ids[:split], 20), 32, drop_last=False)
test_words = ShuffledBatches(TokenWindows(word_ids[split:], 20), 32, drop_last=False)
model = documents_lstm.LSTMLanguageModel(1000, 100, 100, 2)
before, _ = documents_lstm.evaluate(model, test_words)
optimizer, curve = Adam(model.parameters(), lr=0.001), []
model.train()
for epoch in range(3):
    for batch in train_words.epoch(epoch):
        loss = F.cross_entropy(model(batch["input_ids"]), documents_lstm.last_word(batch))
        model.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
after, accuracy = documents_lstm.evaluate(model, test_words)
print(f"{len(curve)} steps; held-out loss {before:.2f} before (log 1000 = {np.log(1000):.2f}), {after:.2f} after")
print(f"{accuracy:.0%} of the next words are the most probable one; <unk> is {np.mean(word_ids == 0):.0%} of all words")

# %% [markdown]
# It learns. But look at the bookkeeping: a window of 20 words gives *one* example, the last word. The same pass could
# ask for the next word at every step, and learn twenty times as much from the same work. That is
# `minilm.models.LSTMLM`, and everything below uses it.
#
# ## An LSTM of characters
#
# The optimizer is now *AdamW*: Adam, which also shrinks every weight matrix a little at each step (*weight decay*). The
# learning rate rises for 20 steps, and then falls along half a wave of the cosine.

# %%
minilm.manual_seed(3)
model = LSTMLM(LSTMConfig(tokenizer.vocab_size, n_embd=32, n_hidden=96, n_layer=1))
optimizer = AdamW(model.named_parameters(), lr=5e-3, betas=(0.9, 0.99), weight_decay=0.1)
batches, curve = ShuffledBatches(TokenWindows(train_ids, 64), batch_size=16), []
STEPS = 350
for step, batch in enumerate(batches.epoch(0), 1):
    optimizer.scale_lr(min(1.0, step / 20) * (0.05 + 0.475 * (1 + np.cos(np.pi * step / STEPS))))
    loss = model.loss(batch)
    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    model.zero_grad()
    curve.append(loss.item())
    if step == STEPS:
        break
model.eval()
x, y = (held_out_ids[s : s + 128 * 64].reshape(128, 64) for s in (0, 1))
with no_grad():
    final = model.loss({"input_ids": x, "labels": y}).item()

figure = new_figure()
figure.set_size_inches(7, 2.8)
axes = figure.subplots()
axes.plot(curve, color=COLOURS[1], alpha=0.5, label="LSTM, training")
axes.plot(STEPS, final, "D", color=COLOURS[1], label="LSTM, held out")
for n in (1, 2, 3, 4):
    axes.axhline(losses[n], color=GREY, linestyle="--", linewidth=1)
    axes.text(STEPS + 9, losses[n], f"{n}-gram", va="center", color=GREY, fontsize=9)
axes.set(xlabel="step of 16 windows of 64", ylabel="loss, nats a character", xlim=(0, STEPS + 5), ylim=(1.5, 4.4))
axes.legend(frameon=False)
figure

# %% [markdown]
# In some seconds it has left the counts of pairs behind, and it is not at its end: chapter 10 shows a longer run.
#
# ## Reading the gates
#
# What does it do? We run the equations by hand over a piece of text and keep every gate.

# %% tags=["deterministic"]
text = "\nFirst Servant:\nMy lord, the king is here.\n\nKING RICHARD:\nWhat, is he come?"
ids = tokenizer.encode(text)
p = {name: parameter.numpy() for name, parameter in model.named_parameters()}
W, U = p["recurrent.weight_ih_l0"], p["recurrent.weight_hh_l0"]
b = p["recurrent.bias_ih_l0"] + p["recurrent.bias_hh_l0"]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


h, c = np.zeros(96, np.float32), np.zeros(96, np.float32)
gates = {name: [] for name in ("i", "f", "o", "c", "h")}
for x in p["token_embedding.weight"][ids]:
    z_i, z_f, z_g, z_o = np.split(W @ x + U @ h + b, 4)
    i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
    c = f * c + i * g
    h = o * np.tanh(c)
    for name, value in zip("ifoch", (i, f, o, c, h)):
        gates[name].append(value)
gates = {name: np.array(rows) for name, rows in gates.items()}  # (T, H) each
with no_grad():
    output, _ = model.recurrent(Tensor(p["token_embedding.weight"][ids][None]))
print("by hand as the library:", np.allclose(gates["h"], output.numpy()[0], atol=1e-5))

# %% [markdown]
# Some units (a *unit* is one of the 96 numbers of $h_t$) have a meaning that we can name. We look for the one that follows best whether we are in a line of
# capitals, the speaker's name, and for the one that follows how far we are into a word.

# %%
long_ids = held_out_ids[:6000]
long_text = tokenizer.decode(long_ids)
with no_grad():
    states = model.recurrent(Tensor(p["token_embedding.weight"][long_ids][None]))[0].numpy()[0]  # h (T, H)
place, since = [], 0
for character in long_text:
    since = since + 1 if character.isalpha() else 0
    place.append(since)
features = {
    "in capitals": np.array([character.isupper() for character in long_text], float),
    "letters since the word began": np.minimum(place, 8.0),
}
figure = new_figure()
figure.set_size_inches(7, 3.4)
for axes, (name, feature) in zip(figure.subplots(2, 1, sharex=True), features.items()):
    correlation = np.array([np.corrcoef(states[:, unit], feature)[0, 1] for unit in range(96)])
    unit = int(np.abs(correlation).argmax())
    axes.bar(range(len(text)), gates["h"][:, unit], color=[COLOURS[0] if v > 0 else COLOURS[1] for v in gates["h"][:, unit]])
    axes.set_title(f'unit {unit} follows "{name}" (correlation {correlation[unit]:.2f})', fontsize=9)
    axes.set_ylabel("$h_t$")
    axes.set_ylim(-1, 1)
axes.set_xticks(range(len(text)), [{"\n": "↵", " ": "·"}.get(c, c) for c in text], fontsize=7)
axes.set_xlabel("character that was just read")
figure

# %%
figure = new_figure()
figure.set_size_inches(7, 4.6)
order = np.argsort(gates["f"].mean(axis=0))
for axes, (name, title) in zip(figure.subplots(2, 1, sharex=True), (("f", "forget gate $f$ (dark: keep)"), ("i", "input gate $i$ (dark: write)"))):
    image = axes.imshow(gates[name][:, order].T, cmap="Blues", aspect="auto", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_ylabel("unit of 96, sorted")
    figure.colorbar(image, ax=axes)
axes.set_xticks(range(len(text)), [{"\n": "↵", " ": "·"}.get(c, c) for c in text], fontsize=7)
axes.set_xlabel("character that was just read")
figure

# %% [markdown]
# The rows at the bottom of the first picture are dark throughout: units that keep what they have, the long memory.
# Those at the top forget at every step: they are about the last character or two. And in the speaker's name many rows
# between the two turn light: what is written in capitals is another kind of text, and the network clears what it had
# of the other.
#
# The second picture has the rows in the same order. It is dark nearly everywhere: most units write something at every
# character, and leave it to $g$ what. The white dashes, most of them among the units that forget, are gates that are
# shut for most characters and open for a few. And in the capitals the long memories at the bottom write less.
#
# ## Exercises
#
# **Exercise 6.1.** A bigram model with *add-k* smoothing:
# $p(b \mid a) = \dfrac{c(a, b) + k}{\sum_{b'} c(a, b') + k V}$.

# %%
def bigram(ids, V, k):
    """The table (V, V) of p(b | a), row a, column b; every row sums to 1."""
    ...


# from checks.chapter_06 import check_bigram; check_bigram(bigram)

# %% [markdown]
# **Exercise 6.2.** The backward pass of one LSTM step. Given the cotangents of $h_t$ and $c_t$, find those of the
# four $z$ and of $c_{t-1}$. (A hint: $c_t$ is used twice, in $h_t$ and in the next step, and `dc` is only what comes
# from the next step.)

# %%
def lstm_step_backward(i, f, g, o, c, c_before, dh, dc):
    """(dz_i, dz_f, dz_g, dz_o, dc_before), all (H,)."""
    ...


# from checks.chapter_06 import check_lstm_step_backward; check_lstm_step_backward(lstm_step_backward)

# %% [markdown]
# **Exercise 6.3.** Clipping by the norm: scale *all* arrays by one factor so that their norm together is at most
# `limit`; leave them alone if it is already.

# %%
def clipped(arrays, limit):
    """A list of new arrays of the same shapes."""
    ...


# from checks.chapter_06 import check_clipped; check_clipped(clipped)

# %% [markdown]
# **Exercise 6.4.** The forget gate as a clock: with a constant $f$ and nothing written, after how many steps is a
# half of the cell left?

# %%
def half_life(f):
    """Steps n with f^n = 1/2, a float; infinity for f = 1."""
    ...


# from checks.chapter_06 import check_half_life; check_half_life(half_life)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
from checks.chapter_06 import check_bigram, check_clipped, check_half_life, check_lstm_step_backward


def bigram(ids, V, k):
    counts = np.full((V, V), float(k))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)  # += would count a pair that repeats only once
    return counts / counts.sum(axis=1, keepdims=True)


check_bigram(bigram)

# %% tags=["solution"]
def lstm_step_backward(i, f, g, o, c, c_before, dh, dc):
    tanh_c = np.tanh(c)
    dc = dc + dh * o * (1 - tanh_c**2)  # the second use of c_t
    return (
        dc * g * i * (1 - i),  # sigma' = sigma (1 - sigma)
        dc * c_before * f * (1 - f),
        dc * i * (1 - g**2),
        dh * tanh_c * o * (1 - o),
        dc * f,
    )


check_lstm_step_backward(lstm_step_backward)

# %% tags=["solution"]
def clipped(arrays, limit):
    norm = np.sqrt(sum((a**2).sum() for a in arrays))
    factor = min(1.0, limit / norm) if norm > 0 else 1.0
    return [a * factor for a in arrays]


check_clipped(clipped)

# %% tags=["solution"]
def half_life(f):
    return np.inf if f == 1 else np.log(0.5) / np.log(f)


check_half_life(half_life)

# %% [markdown]
# ## What to read next
#
# - [minilm/models/ngram.py](../minilm/models/ngram.py): Kneser-Ney smoothing, derived.
# - [minilm/functional/rnn.py](../minilm/functional/rnn.py), [lstm.py](../minilm/functional/lstm.py),
#   [gru.py](../minilm/functional/gru.py): one operation for a whole sequence.
# - [kernels/lstm_cell](../kernels/lstm_cell): the fast path, on threads and as a Triton kernel.
# - [examples/documents_lstm.py](../examples/documents_lstm.py): the corrected program, from a CSV file to a test loss.
# - [tests/functional/test_recurrent.py](../tests/functional/test_recurrent.py): the operation equals the same equations
#   made of small operations, value and gradient.

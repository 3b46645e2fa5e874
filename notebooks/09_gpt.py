# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9 · A GPT
#
# **What you will be able to do**
#
# - draw a GPT from memory, and count its parameters without running it;
# - train one and read its loss curve against what counting alone achieves;
# - write text with it, and say what temperature, top-k and top-p do to the probabilities;
# - explain the cache of keys and values, and what it saves.
#
# **What it needs:** attention (chapter 7), the Transformer's block (chapter 8), tokens (chapter 5), n-grams (chapter
# 6).

# %%
import time

import numpy as np

import minilm
from checks import source
from minilm import no_grad
from minilm.generation import NextToken, sample, top_k_filter, top_p_filter
from minilm.models import GPT, GPTConfig, NGram
from minilm.optim import AdamW, clip_grad_norm_
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.text import CharTokenizer, ShuffledBatches, TokenWindows, load_corpus

# %% [markdown]
# ## The decoder alone
#
# The Transformer of chapter 8 reads one sentence and writes another. A GPT (Radford et al. 2018) only writes: it is the
# decoder without the attention to a source. One formula is the whole model. With a row of ids $x_1 \dots x_T$,
#
# $$\begin{aligned}
# h^{(0)}_t &= E_{x_t} + P_t & &\text{a row of the token table and a row of the position table}\\
# a^{(l)} &= h^{(l-1)} + \mathrm{attention}\big(\mathrm{norm}(h^{(l-1)})\big) & &l = 1, \dots, L\\
# h^{(l)} &= a^{(l)} + \mathrm{feed\_forward}\big(\mathrm{norm}(a^{(l)})\big)\\
# \mathrm{logits}_t &= E \, \mathrm{norm}(h^{(L)}_t) & &\text{one score for each token of the vocabulary.}
# \end{aligned}$$
#
# Two things are worth a second look.
#
# **The norm comes first.** In chapter 8 the norm came after the sum, as in the paper of 2017. Here the vector $h$ is
# never normalized on its way: from the first layer to the last runs a *residual stream* to which every layer adds a
# little. The gradient runs back along it undisturbed.
#
# **The head is the table $E$ again.** A token's row says what the token means when it is read. The score of a token
# is the dot product of its row with the stream: how much does the stream look like it? This shares $V C$ parameters.

# %%
figure = new_figure()
figure.set_size_inches(7, 2.5)
axes = figure.subplots()
axes.set_axis_off()
axes.set_xlim(0, 100)
axes.set_ylim(0, 30)
axes.annotate("", (98, 9), (3, 9), arrowprops={"arrowstyle": "->", "color": COLOURS[0], "lw": 3})
axes.text(4, 3, "residual stream  h  (B, T, C)", color=COLOURS[0])
for x, name in ((25, "attention"), (53, "feed-forward")):
    axes.annotate("", (x, 19), (x, 9.6), arrowprops={"arrowstyle": "->", "color": GREY})
    axes.text(x, 13.5, "norm", ha="center", backgroundcolor="white", fontsize=9)
    axes.text(x + 7, 22, name, ha="center", bbox={"boxstyle": "round,pad=0.5", "fc": "white", "ec": GREY})
    axes.annotate("", (x + 14, 9.6), (x + 14, 19), arrowprops={"arrowstyle": "->", "color": GREY})
    axes.text(x + 14, 9, "+", ha="center", va="center", color="white", weight="bold",
              bbox={"boxstyle": "circle,pad=0.2", "fc": COLOURS[0], "ec": COLOURS[0]})  # fmt: skip
axes.text(46, 27.5, "one block, L times", ha="center", color=GREY)
axes.text(4, 22, "$E_{x_t} + P_t$", ha="left")
axes.annotate("", (8, 9.6), (8, 20), arrowprops={"arrowstyle": "->", "color": GREY})
axes.text(86, 22, "norm, then\n$E\\,h$: logits", ha="center", va="center")
axes.annotate("", (86, 18), (86, 9.6), arrowprops={"arrowstyle": "->", "color": GREY})
figure

# %% [markdown]
# The model in the library is these lines. You know its parts from chapters 7 and 8, but for one: between the two
# matrices of the feed-forward network stands $\mathrm{gelu}(x) = x\, \Phi(x)$ in place of $\max(0, x)$. $\Phi(x)$ is
# the probability that a normal random number lies below $x$, so gelu is $\max(0, x)$ with its corner rounded off.

# %%
source(GPT.forward)

# %% [markdown]
# ## How many parameters?
#
# Count them on paper, for width $C$, $L$ layers, a vocabulary of $V$ and a context of $T$. Each linear layer from $m$
# to $n$ channels has $m n$ weights and $n$ biases, each norm $2 C$.
#
# | part | weights | biases and norms |
# |---|---|---|
# | tokens and positions | $V C + T C$ | |
# | attention: $Q, K, V$ and the output | $4 C^2$ | $4 C$ |
# | feed-forward: $C \to 4 C \to C$ | $8 C^2$ | $5 C$ |
# | two norms in a block, one at the end | | $4 C$ a block, $2 C$ |
#
# $$N = (V + T)\, C + L\,(12 C^2 + 13 C) + 2 C.$$
#
# For GPT-2 small, $V = 50257$, $T = 1024$, $C = 768$, $L = 12$:

# %% tags=["deterministic"]
def count(V, T, C, L):
    return (V + T) * C + L * (12 * C * C + 13 * C) + 2 * C


print(f"GPT-2 small: {count(50257, 1024, 768, 12):,}")
minilm.manual_seed(1)
config = GPTConfig(vocab_size=71, block_size=32, n_layer=2, n_head=4, n_embd=64)
model = GPT(config)
print(f"ours:        {count(71, 32, 64, 2):,}, and the model itself says {model.num_parameters():,}")

# %% [markdown]
# Published as "117M", later corrected to 124M. Now you know better than the first announcement.
#
# ## Training
#
# The text is the first part of Shakespeare's plays, in characters. At each of the $T$ positions the model predicts
# the next character, so one window of 32 characters is 32 examples. The target is the window shifted by one.

# %% tags=["deterministic"]
plays = "\n".join(load_corpus("shakespeare"))
tokenizer = CharTokenizer.train([plays])
train, held_out = tokenizer.encode(plays[:400_000]), tokenizer.encode(plays[400_000:440_000])
batches = ShuffledBatches(TokenWindows(train, 32), batch_size=24)
batch = next(iter(batches.epoch(0)))
print("input_ids", batch["input_ids"].shape, repr(tokenizer.decode(batch["input_ids"][0])))
print("labels   ", batch["labels"].shape, repr(tokenizer.decode(batch["labels"][0])))

# %% [markdown]
# What loss is there to beat? Three rivals that need no training at all:

# %% tags=["deterministic"]
rivals = {
    "uniform": NGram(0, tokenizer.vocab_size),
    "unigram": NGram(1, tokenizer.vocab_size).fit(train),
    "bigram": NGram(2, tokenizer.vocab_size).fit(train),
}
floor = {name: -rival.log_probs(held_out).mean() for name, rival in rivals.items()}
for name, loss in floor.items():
    print(f"{name:8} {loss:.3f} nats a character")

# %% [markdown]
# A fresh model knows nothing, so its loss must be that of the uniform guess, $\log V$. **Check this before every
# training run.** A model that starts far above it is badly initialized; one that starts below it has seen the answer.

# %%
def loss_on(model, ids, windows=128):
    """Mean loss on windows of 32 that lie side by side."""
    x = ids[: windows * 32].reshape(windows, 32)
    y = ids[1 : windows * 32 + 1].reshape(windows, 32)
    with no_grad():
        return model.loss({"input_ids": x, "labels": y}).item()


print(f"before training {loss_on(model, held_out):.2f}, and log {tokenizer.vocab_size} = {np.log(71):.2f}")

# %% [markdown]
# The loop: forward, backward, clip, step. The learning rate rises at the beginning, while Adam's averages are still
# poor, and falls towards the end. (`minilm.training.Trainer` does the same with checkpoints, and resumes bit for bit.
# Here the loop is written out, since it is short.)

# %%
STEPS = 500
optimizer = AdamW(model.named_parameters(), lr=5e-3, betas=(0.9, 0.99), weight_decay=0.1)
curve, checked, step = [], [(0, loss_on(model, held_out))], 0
model.train()
for epoch in range(10):
    for batch in batches.epoch(epoch):
        step += 1
        warm, rest = min(1.0, step / 20), 0.5 * (1 + np.cos(np.pi * step / STEPS))
        optimizer.scale_lr(warm * (0.05 + 0.95 * rest))
        loss = model.loss(batch)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.zero_grad()
        curve.append(loss.item())
        if step % 50 == 0:
            checked.append((step, loss_on(model, held_out)))
        if step == STEPS:
            break
    if step == STEPS:
        break
model.eval()
print(f"after {STEPS} steps, {STEPS * 24 * 32:,} characters: {checked[-1][1]:.2f} nats a character on text it has not seen")

# %%
figure = new_figure()
figure.set_size_inches(7, 3)
axes = figure.subplots()
axes.plot(range(1, STEPS + 1), curve, color=COLOURS[0], alpha=0.35, label="training, each batch")
axes.plot(*zip(*checked), "o-", color=COLOURS[0], markersize=4, label="held out")
for name, loss in floor.items():
    axes.axhline(loss, color=GREY, linestyle="--", linewidth=1)
    axes.text(STEPS - 5, loss + 0.04, name, ha="right", color=GREY, fontsize=9)
axes.set(xlabel="step", ylabel="loss, nats a character", xlim=(0, STEPS + 5), ylim=(1.8, 4.6))
axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.72))
figure

# %% [markdown]
# In the first steps it learns how frequent each character is (the line "unigram"), then which follows which
# ("bigram"), and then it leaves counting pairs behind. This took some seconds. `make demo` trains a larger one for
# minutes, and the committed runs ([results](../benchmarks/results/REPORT.md)) a longer one still.
#
# ## Writing
#
# The model gives a probability to every next character. To write is to choose one, append it, and ask again:
#
# $$\mathrm{logits} = \mathrm{model}(x_1 \dots x_t), \qquad x_{t+1} \sim \mathrm{softmax}(\mathrm{logits}_t).$$

# %%
def write(prompt, n, **settings):
    ids = tokenizer.encode(prompt).tolist()
    generator, following = minilm.Generator(7), NextToken(model)
    for _ in range(n):
        ids.append(sample(following.logits(ids), generator, **settings))
    return tokenizer.decode(ids)


print(write("KING", 220, temperature=0.8))

# %% [markdown]
# It has learnt what a play looks like: speakers in capitals, a colon, lines of verse. The words are half English.
# More layers, a longer context and more steps mend that.
#
# ## Temperature and friends
#
# **Temperature** divides the logits before the softmax:
#
# $$p_i = \frac{e^{z_i / \tau}}{\sum_j e^{z_j / \tau}}.$$
#
# The ratio of two probabilities becomes $p_i / p_j = e^{(z_i - z_j) / \tau}$: with $\tau < 1$ differences grow, with
# $\tau > 1$ they shrink. As $\tau \to 0$ only the largest is left (*greedy*), as $\tau \to \infty$ all are equal.

# %%
ids = tokenizer.encode("KING RICHARD:\nI am th").tolist()
z = NextToken(model).logits(ids)
order = np.argsort(-z)[:12]
names = [repr(tokenizer.decode([i]))[1:-1].replace(" ", "␣") for i in order]


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


figure = new_figure()
figure.set_size_inches(7, 2.7)
for axes, tau in zip(figure.subplots(1, 3, sharey=True), (0.5, 1.0, 2.0), strict=True):
    axes.bar(range(12), softmax(z / tau)[order], color=COLOURS[0])
    axes.set_xticks(range(12), names, fontsize=8)
    axes.set_title(f"$\\tau = {tau}$", fontsize=10)
figure.axes[0].set_ylabel("probability")
figure.axes[1].set_xlabel('the next character after "I am th" (␣: a space)')
figure

# %% [markdown]
# Even at $\tau = 1$ many unlikely tokens have some probability together, and one of them derails a sentence.
# So cut the tail off:
#
# - **top-k** keeps the $k$ most probable tokens (Fan et al. 2018);
# - **top-p** keeps the smallest set of the most probable whose probabilities sum to at least $p$ (Holtzman et al.
#   2020). Where the model is sure that is one token, where it is not, many.
#
# A token that is out gets the logit $-\infty$, so its probability is 0 and the others are scaled up. An example with
# four tokens:

# %% tags=["deterministic"]
z4 = np.log([0.5, 0.3, 0.15, 0.05])
for name, filtered in (("all", z4), ("top-k, k = 2", top_k_filter(z4, 2)), ("top-p, p = 0.9", top_p_filter(z4, 0.9))):
    print(f"{name:16}", np.round(softmax(filtered), 4))
print("sums of the most probable:", ", ".join(f"{total:.2f}" for total in np.cumsum(softmax(z4))))

# %% [markdown]
# For $p = 0.9$: the first two sum to 0.80, which is not enough; with the third it is 0.95. Three stay.
#
# ## The cache
#
# To write token $t + 1$ the loop asks the model about all of $x_1 \dots x_t$ again. Almost all of that work was done
# before. In a *causal* model a position sees only what is to its left, so **the keys and values of the past do not
# change when a token is appended.** Keep them, and compute the query, key and value of the new token only:
#
# | | multiplications for token $t$ in one layer | for $T$ tokens |
# |---|---|---|
# | without cache | $12 C^2 t$ for the products, $2 t^2 C$ for attention | grows as $T^2 C^2 + T^3 C$ |
# | with cache | $12 C^2$ for the products, $2 t C$ for attention | grows as $T C^2 + T^2 C$ |
#
# The price is memory: $2 L T C$ numbers. The result must be the same.

# %% tags=["deterministic"]
ids = tokenizer.encode("KING RICHARD:\nI am the")[None]
with no_grad():
    whole = model(ids).data[0]
    state, rows = None, []
    for t in range(ids.shape[1]):
        logits, state = model.decode(ids[:, t : t + 1], state)  # one new token, and what is kept of the others
        rows.append(logits.data[0, 0])
print("largest difference below 1e-5:", bool(np.abs(whole - np.stack(rows)).max() < 1e-5))
print("numbers kept for", ids.shape[1], "tokens:", 2 * config.n_layer * ids.shape[1] * config.n_embd)

# %% [markdown]
# Now the time for each token, with and without, as the text grows. With the cache a
# token's price hardly grows with what was written before. (Whatever else the machine does in the meantime can only make
# a token slower: of eight measurements of each length the best one counts.)

# %%
large = GPT(GPTConfig(vocab_size=71, block_size=512, n_layer=4, n_head=4, n_embd=128)).eval()
ids, lengths = [0] * 256, range(8, 257, 8)  # which tokens they are makes no difference to the time
seconds = {"with cache": np.full(len(lengths), np.inf), "without": np.full(len(lengths), np.inf)}
for _ in range(8):
    for label, best in seconds.items():
        following = NextToken(large, use_cache=label == "with cache")
        for i, t in enumerate(lengths):
            if label == "with cache":
                following.logits(ids[: t - 1])  # what is already in the cache when token t comes
            began = time.perf_counter()
            following.logits(ids[:t])
            best[i] = min(best[i], time.perf_counter() - began)
figure = new_figure()
figure.set_size_inches(7, 2.8)
axes = figure.subplots()
for colour, (label, times) in zip(COLOURS, seconds.items()):
    axes.plot(lengths, 1e3 * times, "o-", color=colour, markersize=3, label=label)
axes.set(xlabel="tokens before", ylabel="ms for the next token", ylim=(0, None))
axes.legend(frameon=False)
figure

# %% [markdown]
# ## Exercises
#
# **Exercise 9.1.** Temperature and top-k in one function: the probabilities (V,) from which the next token is drawn.
# Temperature 0 is greedy.

# %%
def probabilities(logits, temperature, k):
    """(V,) that sum to 1."""
    ...


# from checks.chapter_09 import check_probabilities; check_probabilities(probabilities)

# %% [markdown]
# **Exercise 9.2.** Top-p: which tokens stay? Return a boolean mask. At least one token always stays.

# %%
def nucleus(probabilities, p):
    """bool (V,): the smallest set of the most probable tokens whose sum is at least p."""
    ...


# from checks.chapter_09 import check_nucleus; check_nucleus(nucleus)

# %% [markdown]
# **Exercise 9.3.** How many tokens of a chat fit into memory? Give the bytes that the cache takes, for a model whose
# keys and values have $H_{kv}$ heads of width $D$ (in GPT $H_{kv} D = C$; Llama has fewer heads for keys and values
# than for queries).

# %%
def cache_bytes(layers, kv_heads, width, tokens, bytes_per_number):
    """Bytes of all keys and values."""
    ...


# from checks.chapter_09 import check_cache_bytes; check_cache_bytes(cache_bytes)

# %% [markdown]
# **Exercise 9.4.** Training examples: cut a row of ids into windows of $T$ side by side, with their labels. What is
# left over at the end is dropped. No label may be missing.

# %%
def windows(ids, T):
    """(inputs, labels), both (N, T), N as large as possible: labels[n, t] is the token after inputs[n, t]."""
    ...


# from checks.chapter_09 import check_windows; check_windows(windows)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
from checks.chapter_09 import check_cache_bytes, check_nucleus, check_probabilities, check_windows


def probabilities(logits, temperature, k):
    if temperature == 0:
        p = np.zeros(len(logits))
        p[np.argmax(logits)] = 1
        return p
    z = np.array(logits, dtype=float)
    z[np.argsort(-z, kind="stable")[k:]] = -np.inf
    z /= temperature
    e = np.exp(z - z.max())  # the largest is taken out first: nothing overflows
    return e / e.sum()


check_probabilities(probabilities)

# %% tags=["solution"]
def nucleus(probabilities, p):
    order = np.argsort(-probabilities, kind="stable")
    before = np.cumsum(probabilities[order]) - probabilities[order]  # what the more probable ones have already
    keep = np.zeros(len(probabilities), dtype=bool)
    keep[order[before < p]] = True
    keep[order[0]] = True
    return keep


check_nucleus(nucleus)

# %% tags=["solution"]
def cache_bytes(layers, kv_heads, width, tokens, bytes_per_number):
    return 2 * layers * kv_heads * width * tokens * bytes_per_number  # 2: a key and a value


check_cache_bytes(cache_bytes)

# %% tags=["solution"]
def windows(ids, T):
    ids = np.asarray(ids)
    N = (len(ids) - 1) // T  # the last label is the token after the last input
    return ids[: N * T].reshape(N, T), ids[1 : N * T + 1].reshape(N, T)


check_windows(windows)

# %% [markdown]
# ## What to read next
#
# - [minilm/models/gpt.py](../minilm/models/gpt.py): the model, with GPT-2's initialization and the reason for it.
# - [minilm/generation](../minilm/generation/__init__.py): sampling, streaming, beam search.
# - [minilm/nn/cache.py](../minilm/nn/cache.py): where the keys and values are kept.
# - [minilm/training/trainer.py](../minilm/training/trainer.py): the loop with all that a long run needs.
# - [tests/models/test_gpt.py](../tests/models/test_gpt.py) and [tests/generation](../tests/generation): cached equals uncached,
#   no position sees the future, the same seed writes the same text.

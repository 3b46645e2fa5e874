# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · LSTM against GPT
#
# **What you will be able to do**
#
# - set up a comparison that is fair: the same parameters, tokens, optimizer and trainer;
# - read two loss curves, over steps and over seconds, and over the position in the text;
# - name a task that attention learns at once and an LSTM does not, and one where it is the reverse, and say why;
# - compute what each costs, for training and for writing.
#
# **What it needs:** the LSTM (chapter 6) and the GPT (chapter 9).

# %%
import tempfile
from pathlib import Path

import numpy as np

import minilm
from checks import results
from minilm import no_grad
from minilm.models import GPT, LSTMLM, GPTConfig, LSTMConfig
from minilm.optim import AdamW, clip_grad_norm_
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.text import CharTokenizer, ShuffledBatches, TokenWindows, load_corpus
from minilm.training import Trainer, TrainingArguments, read_metrics

# %% [markdown]
# ## What is fair?
#
# "Transformers are better than LSTMs" is said often, and measured seldom with care. A comparison is fair if only one
# thing differs. We fix
#
# - the **number of parameters**, as nearly as widths allow;
# - the **tokens**: the same text, the same batches in the same order;
# - the **optimizer**, its schedule, and the trainer;
#
# and still three things cannot be equal at once: parameters, arithmetic and time. An LSTM of the same size needs
# about the same arithmetic, but does it step by step. So we look at the loss over steps *and* over seconds.
#
# Chapter 9 counted the parameters of a GPT. For an LSTM with embedding width $C$, hidden width $H$ and one layer,
# each of the four gates has a matrix for the input, $H \times C$, one for the state, $H \times H$, and two biases;
# then the table and the head:
#
# $$N_{\text{LSTM}} = V C + 4 H (C + H + 2) + V (H + 1), \qquad N_{\text{GPT}} = (V + T) C + L (12 C^2 + 13 C) + 2 C.$$

# %% tags=["deterministic"]
V, T, C, L = 71, 64, 64, 2


def gpt_parameters(V, T, C, L):
    return (V + T) * C + L * (12 * C * C + 13 * C) + 2 * C


def lstm_parameters(V, C, H):
    return V * C + 4 * H * (C + H + 2) + V * (H + 1)


wanted = gpt_parameters(V, T, C, L)
H = min(range(32, 256), key=lambda H: abs(lstm_parameters(V, C, H) - wanted))
minilm.manual_seed(1)
models = {
    "GPT": GPT(GPTConfig(V, block_size=T, n_layer=L, n_head=4, n_embd=C)),
    "LSTM": LSTMLM(LSTMConfig(V, n_embd=C, n_hidden=H, n_layer=1)),
}
print(f"hidden width of the LSTM: {H}")
for name, model in models.items():
    print(f"{name:5} {model.num_parameters():,} parameters")

# %% [markdown]
# ## The same training
#
# The library's `Trainer` knows nothing of either model: it calls `model.loss(batch)`. Everything else is one set of
# arguments.

# %%
plays = "\n".join(load_corpus("shakespeare"))
tokenizer = CharTokenizer.train([plays])
train, held_out = tokenizer.encode(plays[:400_000]), tokenizer.encode(plays[400_000:433_000])
runs = {}
with tempfile.TemporaryDirectory() as folder:
    for name, model in models.items():
        arguments = TrainingArguments(
            Path(folder) / name, max_steps=260, learning_rate=5e-3, lr_scheduler_type="cosine", warmup_steps=20,
            weight_decay=0.1, adam_beta2=0.99, logging_steps=5, eval_strategy="steps", eval_steps=20,
            save_strategy="no", progress=False,
        )  # fmt: skip
        trainer = Trainer(
            model,
            arguments,
            train_dataset=ShuffledBatches(TokenWindows(train, T), batch_size=16),
            eval_dataset=ShuffledBatches(TokenWindows(held_out, T), batch_size=64),
        )
        trainer.train()
        runs[name] = read_metrics(Path(folder) / name / "metrics.jsonl")
for line in runs["GPT"][3:5]:
    print(sorted(line))

# %% [markdown]
# Each line of `metrics.jsonl` is a dictionary; some have a training loss, some an evaluation.

# %%
figure = new_figure()
figure.set_size_inches(7, 3)
over_steps, over_seconds = figure.subplots(1, 2, sharey=True)
for colour, (name, lines) in zip(COLOURS, runs.items()):
    evaluations = [line for line in lines if "eval_loss" in line]
    steps, loss = [line["step"] for line in evaluations], [line["eval_loss"] for line in evaluations]
    spent = {m["step"]: m["step"] * 16 * T / m["tokens_per_second"] for m in lines if "tokens_per_second" in m}
    over_steps.plot(steps, loss, "o-", color=colour, markersize=3, label=name)
    over_seconds.plot([spent[s] for s in steps], loss, "o-", color=colour, markersize=3)
over_steps.set(xlabel="step", ylabel="loss on held-out text, nats")
over_seconds.set(xlabel="seconds of training, one thread")
over_steps.legend(frameon=False)
figure

# %% [markdown]
# In a short run on a small text the LSTM learns faster. It is no accident: **at this size, for so few tokens,
# recurrence is a good guess about text** (what is near matters most), and the GPT has to learn even that from data.
# The committed run reads nearly six times as many tokens, with models more than seven times as large:

# %%
committed = results("tinyshakespeare")
print(f"{'':6}{'parameters':>12}{'tokens':>12}{'loss':>8}{'ms a step':>11}{'peak MB':>9}")
for name in ("gpt", "lstm"):
    row = committed[name]
    print(f"{name.upper():6}{row['parameters']:12,}{row['tokens']:12,}{row['validation_loss']:8.3f}"
          f"{row['step_ms_median']:11.1f}{row['peak_memory_mb']:9.0f}")  # fmt: skip

# %% [markdown]
# Still the LSTM. The Transformer's advantage comes with size and text: where published comparisons find it (Kaplan et
# al. 2020, figure 7), models have millions of parameters and read billions of tokens, and there LSTMs stop improving
# with more context. We cannot train there on a laptop. But we can see *why* it must come, with two tasks that are
# small enough.
#
# ## Loss over the position
#
# How much does a model gain from more context? Take windows of 64 characters. At position 1 the next character is
# guessed from one, at position 64 from 64.

# %%
def loss_by_position(model):
    """Mean negative log-likelihood (T,) of each position over windows of the held-out text."""
    x = held_out[: 512 * T].reshape(512, T)
    y = held_out[1 : 512 * T + 1].reshape(512, T)
    with no_grad():
        z = model(x).data.astype(np.float64)  # (512, T, V)
    z -= z.max(-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, y[..., None], -1)[..., 0].mean(0)


figure = new_figure()
figure.set_size_inches(7, 2.7)
axes = figure.subplots()
for colour, (name, model) in zip(COLOURS, models.items()):
    model.eval()
    axes.plot(range(1, T + 1), loss_by_position(model), color=colour, label=name)
axes.set(xlabel="position in the window", ylabel="loss, nats")
axes.legend(frameon=False)
figure

# %% [markdown]
# Both gain from the first few characters, the GPT from two, the LSTM from four or five. Then the curves are flat:
# neither has learnt, in so short a training, to use what is farther away. For that one needs text in which it pays,
# so let us make some.
#
# ## A task for attention: copy
#
# Sixteen random symbols, a mark, and the same sixteen again. Nothing can be guessed in the first half. In the second
# half everything can, **by whoever can look back sixteen places.**
#
# ## A task for recurrence: parity
#
# A row of random bits; after each bit, say whether the number of ones so far is odd. The answer depends on *every*
# bit, but one bit of memory is enough: flip it at every one.

# %% tags=["deterministic"]
def copy_batch(rng, B=32, n=16, symbols=16):
    half = rng.integers(1, symbols, (B, n))
    ids = np.concatenate([half, np.zeros((B, 1), int), half], axis=1)
    labels = ids[:, 1:].copy()
    labels[:, :n] = -100  # the first half cannot be known: not scored
    return {"input_ids": ids[:, :-1], "labels": labels}


def parity_batch(rng, B=32, n=32):
    bits = rng.integers(0, 2, (B, n))
    return {"input_ids": bits, "labels": np.cumsum(bits, axis=1) % 2}


rng = np.random.default_rng(3)
for name, batch in (("copy", copy_batch(rng, 1, 6)), ("parity", parity_batch(rng, 1, 12))):
    print(f"{name:7} input_ids {batch['input_ids'][0].tolist()}")
    print(f"        labels    {batch['labels'][0].tolist()}")

# %%
def train_on(make_batch, model, steps):
    rng = np.random.default_rng(0)
    optimizer = AdamW(model.named_parameters(), lr=3e-3, betas=(0.9, 0.99))
    losses = []
    for _ in range(steps):
        loss = model.loss(make_batch(rng))
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.zero_grad()
        losses.append(loss.item())
    return losses


tasks = {"copy": (copy_batch, 16), "parity": (parity_batch, 2)}
curves = {}
for task, (make_batch, symbols) in tasks.items():
    minilm.manual_seed(1)
    small = {
        "GPT": GPT(GPTConfig(symbols, block_size=64, n_layer=2, n_head=4, n_embd=48)),
        "LSTM": LSTMLM(LSTMConfig(symbols, n_embd=48, n_hidden=96, n_layer=1)),
    }
    for name, model in small.items():
        curves[task, name] = train_on(make_batch, model, 140)

# %%
figure = new_figure()
figure.set_size_inches(7, 2.8)
for axes, (task, (_, symbols)) in zip(figure.subplots(1, 2), tasks.items()):
    for colour, name in zip(COLOURS, ("GPT", "LSTM")):
        axes.plot(curves[task, name], color=colour, label=name)
    guess = np.log(symbols - 1 if task == "copy" else 2)
    axes.axhline(guess, color=GREY, linestyle="--", linewidth=1)
    axes.text(138, guess, "guessing", ha="right", va="bottom", color=GREY, fontsize=9)
    axes.set(xlabel="step", title=task, ylim=(0, 1.15 * guess))
figure.axes[0].set_ylabel("loss, nats")
figure.axes[0].legend(frameon=False, loc="center right")
figure

# %% [markdown]
# Two opposite pictures from models of nearly the same size, and both have a reason.
#
# **Copy.** The GPT needs one head that looks sixteen places back and hands over what it finds: a matter of positions,
# learnt in a hundred steps. The LSTM has to press sixteen symbols of nearly four bits each into its state, keep them
# there undamaged while the others arrive, and take them out again in order. It can be done, but in these 140 steps it
# has not begun to. The farther back, the harder: its state has a fixed size, and the GPT's memory grows with the
# text.
#
# **Parity.** The LSTM keeps one bit and flips it. The GPT has no place where something is kept from step to step:
# every position computes its answer anew from all bits before it, in a fixed number of layers. A sum modulo 2 of 32
# bits in two layers of soft averages is hard to write and harder to learn (Hahn 2020 proves that a Transformer of
# fixed size cannot do it for every length).
#
# Language has both: names to be copied from far back, and brackets, quotes and speakers to be kept track of. That is
# why models that mix both were built again lately.
#
# ## What does each cost?
#
# For one sequence of $T$ tokens, $L$ layers of width $C$ (constants left out):
#
# | | LSTM | GPT |
# |---|---|---|
# | arithmetic | $L T C^2$ | $L T C^2 + L T^2 C$ |
# | steps one after another, training | $T$ | 1 (all positions at once) |
# | memory while writing | $L C$, whatever was written | $L T C$, the cache |
# | work for the next token, after $T$ | $L C^2$ | $L C^2 + L T C$ |
# | how far back can it look? | as far as its state carries | to any of the last $T$, equally well |
#
# The second line is the reason why the world changed over. On a GPU that does a hundred thousand multiplications at
# once, a loop of a thousand small steps is a waste, and a GPT's training is a few large products. On one core of a
# CPU the loop costs little, as the seconds above show.

# %%
figure = new_figure()
figure.set_size_inches(7, 2.7)
axes = figure.subplots()
lengths = 2.0 ** np.arange(4, 16)
axes.loglog(lengths, 4 * H * (C + H) * np.ones_like(lengths), color=COLOURS[1], label="LSTM")
axes.loglog(lengths, L * (12 * C * C + 2 * lengths * C), color=COLOURS[0], label="GPT, with its cache")
axes.axvline(6 * C, color=GREY, linestyle="--", linewidth=1)
axes.text(6 * C * 1.1, 3e6, "$T = 6\\,C$: attention costs as much\nas all products with weights", color=GREY, fontsize=9)
axes.set(xlabel="tokens before", ylabel="multiplications for the next token")
axes.legend(frameon=False, loc="upper left")
figure

# %% [markdown]
# ## Exercises
#
# **Exercise 10.1.** Find the hidden width for which an LSTM has at most a given number of parameters, and as many as
# possible.

# %%
def widest_lstm(V, C, most):
    """The largest H with V C + 4 H (C + H + 2) + V (H + 1) <= most; 0 if there is none."""
    ...


# from checks.chapter_10 import check_widest_lstm; check_widest_lstm(widest_lstm)

# %% [markdown]
# **Exercise 10.2.** Make a batch for a third task, *recall*: pairs of a key and a value, then one of the keys again.
# Its value is asked for. Keys are different from each other. Which model has the better tool for it, and why? Which
# one learns it? (Train both with `train_on`, for 2,000 steps with four pairs: a minute.)

# %%
def recall_batch(rng, B, pairs, keys, values):
    """input_ids (B, 2 pairs + 1): k1 v1 k2 v2 ... and one of the keys again; keys are 0 ... keys - 1, values
    keys ... keys + values - 1. labels of the same shape: -100, but at the last place the value of that key.
    """
    ...


# from checks.chapter_10 import check_recall_batch; check_recall_batch(recall_batch)

# %% [markdown]
# **Exercise 10.3.** An LSTM that solves parity by hand: choose the weights of one cell. To make it simple, a
# recurrence with a hard step instead of gates: $h_t = \mathrm{step}(a x_t + b h_{t-1} + c\, x_t h_{t-1} + d)$ with
# $\mathrm{step}(z) = 1$ if $z > 0$, else 0.

# %%
def parity_weights():
    """(a, b, c, d) for which h_t is the parity of x_1 ... x_t, starting from h_0 = 0."""
    ...


# from checks.chapter_10 import check_parity_weights; check_parity_weights(parity_weights)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
from checks.chapter_10 import check_parity_weights, check_recall_batch, check_widest_lstm


def widest_lstm(V, C, most):
    H = 0
    while lstm_parameters(V, C, H + 1) <= most:
        H += 1
    return H


check_widest_lstm(widest_lstm)

# %% tags=["solution"]
def recall_batch(rng, B, pairs, keys, values):
    k = np.stack([rng.permutation(keys)[:pairs] for _ in range(B)])  # different from each other
    v = keys + rng.integers(0, values, (B, pairs))
    asked = rng.integers(0, pairs, B)
    ids = np.empty((B, 2 * pairs + 1), dtype=np.int64)
    ids[:, 0:-1:2], ids[:, 1::2] = k, v
    ids[:, -1] = k[np.arange(B), asked]
    labels = np.full_like(ids, -100)
    labels[:, -1] = v[np.arange(B), asked]
    return {"input_ids": ids, "labels": labels}


# The GPT has the better tool: one layer tells each value which key stands before it, the next looks for the key that is
# asked for. The LSTM has to keep all pairs in its state. But a tool must be found first, and with one label in a row that
# takes long. In our run with four pairs the GPT still guessed among the four values that it had read after 5,000 steps,
# and the LSTM, whose state easily holds four pairs, made few mistakes. What a model can do and what it learns are two things.
check_recall_batch(recall_batch)

# %% tags=["solution"]
def parity_weights():
    # 1 if exactly one of x and h is 1: x + h is 1 then, and 2 if both are, which the product takes away again
    return 1, 1, -2, -0.5


check_parity_weights(parity_weights)

# %% [markdown]
# ## What to read next
#
# - [minilm/models/lstm.py](../minilm/models/lstm.py) and [gpt.py](../minilm/models/gpt.py), side by side.
# - [minilm/training/trainer.py](../minilm/training/trainer.py): the trainer that knows neither.
# - [benchmarks/tinyshakespeare.py](../benchmarks/tinyshakespeare.py): the longer comparison, and its
#   [figures](../benchmarks/results/REPORT.md).
# - `make demo` trains both side by side and draws their curves.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8 · The Transformer
#
# **What you will be able to do**
#
# - write the encoder's and the decoder's block as formulas, and say where a norm, a mask and the other language come
#   in;
# - train a translator, and say what teacher forcing, label smoothing and warm-up are for;
# - search for a translation with a beam, by hand on a small tree, and say what the length penalty changes;
# - read from cross-attention which word of the source a word of the translation comes from;
# - let a decoder copy what it cannot know.
#
# **What it needs:** attention, masks and positions ([chapter 7](07_attention.ipynb)), tokens
# ([chapter 5](05_text_to_numbers.ipynb)), a training loop and cross-entropy ([chapter 6](06_ngram_to_lstm.ipynb)).

# %%
import numpy as np
from IPython.display import Image

import minilm
import minilm.functional as F
from checks import results
from checks.drawing import blank
from minilm import Tensor, nn, no_grad
from minilm.generation import beam_search, length_penalty, translate
from minilm.models import Transformer, TransformerConfig
from minilm.optim import Adam, noam
from minilm.plots import attention_figure
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.text import LengthBuckets, Pair, PairTokenizer, WordTokenizer, encode_pairs

# %% [markdown]
# ## Reading one text, writing another
#
# A **source** $X = (x_1, \dots, x_{T_k})$, an English sentence, shall become a **target** $Y = (y_1, \dots, y_T)$, a
# German one. Two things make this hard. The lengths differ, and so does the order:
#
# | today | i | will | buy | a | red | lamp |
# |---|---|---|---|---|---|---|
# | heute | *werde* | *ich* | eine | rote | Lampe | *kaufen* |
#
# So the target cannot be computed position by position from the source. It is written token by token, each from all of
# the source and from what is written already. The chain rule of probability says that nothing is lost by that:
#
# $$P(Y \mid X) = \prod_{t=1}^{T} P(y_t \mid y_1, \dots, y_{t-1}, X)$$
#
# The Transformer (Vaswani et al. 2017) has a half for each. The **encoder** reads $X$ once and turns it into a
# **memory** $M$: one vector of $C$ channels for each source token. The **decoder** reads the target so far and the
# memory, and gives the scores of the next token. Both are stacks of $L$ blocks.

# %%
figure, axes = blank(7.0, 4.3)


def box(x, y, text, colour):
    axes.text(x, y, text, ha="center", va="center", fontsize=8.5,
              bbox={"boxstyle": "round,pad=0.35", "fc": "white", "ec": colour, "lw": 1.3})  # fmt: skip


def arrow(start, end, colour=GREY):
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0})


def column(x, colour, parts):
    axes.plot([x, x], [0.55, parts[-1][0] + 0.35], color=GREY, lw=1, zorder=0)
    for y, text in parts:
        box(x, y, text, colour)


axes.fill([0.55, 3.05, 3.05, 0.55], [1.25, 1.25, 2.55, 2.55], color="#f0f0f0", zorder=-1)
axes.fill([3.75, 6.55, 6.55, 3.75], [1.25, 1.25, 3.2, 3.2], color="#f0f0f0", zorder=-1)
column(1.9, COLOURS[0], [(0.95, "embedding + positions"), (1.55, "self-attention"), (2.2, "feed-forward")])
column(5.1, COLOURS[1], [(0.95, "embedding + positions"), (1.55, "self-attention, causal"),
                         (2.2, "cross-attention"), (2.85, "feed-forward"), (3.6, "scores of all tokens")])  # fmt: skip
arrow((5.1, 3.78), (5.1, 4.0))
axes.plot([1.9, 1.9, 3.4, 3.4], [2.5, 2.85, 2.85, 2.2], color=COLOURS[0], lw=2)
arrow((3.4, 2.2), (4.5, 2.2), COLOURS[0])
axes.text(2.65, 2.95, "memory M", ha="center", color=COLOURS[0], fontsize=9)
axes.text(0.62, 2.38, "L times", fontsize=8.5, color=GREY)
axes.text(6.48, 3.03, "L times", fontsize=8.5, color=GREY, ha="right")
axes.text(1.9, 0.42, "today i will buy a red lamp <eos>", ha="center", va="top", fontsize=8.5)
axes.text(5.1, 0.42, "<bos> heute werde ich ...", ha="center", va="top", fontsize=8.5)
axes.text(5.1, 4.05, "heute werde ich eine ...", ha="center", fontsize=8.5)
axes.text(1.9, 0.1, "source (B, Tk)", ha="center", color=COLOURS[0], fontsize=9)
axes.text(5.1, 0.1, "target so far (B, T)", ha="center", color=COLOURS[1], fontsize=9)
figure

# %% [markdown]
# Two tokens mark the ends: `<bos>` (beginning of sequence) is what the decoder reads before there is anything, `<eos>`
# (end) is what it writes when it is done.
#
# ## What goes in
#
# $W_e$ is the table of embeddings, one row of $C$ numbers a token, and $\mathrm{PE}$ are the sinusoids of chapter 7.
# The first block gets
#
# $$h^{(0)}_t = \sqrt{C}\; W_e[x_t] + \mathrm{PE}_t$$
#
# **Why $\sqrt{C}$?** The table works twice: its rows are also what the decoder's output is compared with at the end, as
# we shall see. There the dot product of a row with a vector whose $C$ entries have a size of about 1 should itself have
# a size of about 1. So the table is drawn with variance $1/C$ (chapter 7's calculation: $C$ terms of variance $1/C$
# each). But beside the sinusoids, whose entries have a size of about 0.7, such numbers are nothing: for $C = 512$ they
# are sixteen times smaller. Multiplied by $\sqrt{C}$ they have variance 1.
#
# **Why sinusoids?** Chapter 7 found that $\mathrm{PE}_t \cdot \mathrm{PE}_s$ depends on $t - s$ only. The paper gives
# one more reason: a shift by $k$ positions is a *linear* map, the same at every position. For one pair of channels with
# the speed $\omega$ the addition theorems say
#
# $$\begin{pmatrix} \sin((t+k)\omega) \\ \cos((t+k)\omega) \end{pmatrix} =
# \begin{pmatrix} \cos k\omega & \sin k\omega \\ -\sin k\omega & \cos k\omega \end{pmatrix}
# \begin{pmatrix} \sin t\omega \\ \cos t\omega \end{pmatrix}$$
#
# The matrix knows $k$, and not $t$. So one weight matrix can learn "the word before" for all positions at once.

# %% tags=["deterministic"]
C, k = 64, 3
PE = nn.SinusoidalPositions(40, C).table.numpy().astype("float64")  # (40, C)
omega = 10000.0 ** (-np.arange(0, C, 2) / C)  # (C/2,)
shift = np.zeros((C, C))
for i, angle in enumerate(k * omega):
    pair = slice(2 * i, 2 * i + 2)
    shift[pair, pair] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
moved = PE[:-k] @ shift.T
print("one matrix moves every position by", k, ":", np.allclose(moved, PE[k:], atol=1e-5))

# %%
figure = new_figure()
figure.set_size_inches(7, 2.4)
for axes, i in zip(figure.subplots(1, 3), (0, 2, 4), strict=True):
    axes.plot(np.cos(np.linspace(0, 7, 99)), np.sin(np.linspace(0, 7, 99)), color="#dddddd")
    for t in range(5):
        x, y = PE[t, 2 * i + 1], PE[t, 2 * i]
        axes.plot([0, x], [0, y], color=COLOURS[0], lw=1.5)
        axes.text(1.2 * x, 1.2 * y, f"{t}", ha="center", va="center", fontsize=8)
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axes.set(xlabel=f"channel {2 * i + 1}", ylabel=f"channel {2 * i}")
    axes.set_title(f"pair {i}: {omega[i]:.2f} radians a step", fontsize=9)
figure

# %% [markdown]
# (The numbers at the hands are positions.) A step further in the text turns each pair by its own angle, wherever the
# step begins: that is the matrix.
#
# ## The encoder's block
#
# A block has two parts: attention moves information *between* positions, a feed-forward network works on each position
# *by itself*. Each part $f$ adds to its input what it has found, and the sum is normalized. With $h$ of the shape
# $(T, C)$:
#
# $$\begin{aligned}
# a &= \mathrm{norm}\big(h + \mathrm{attention}(h, h, h)\big) \\
# h' &= \mathrm{norm}\big(a + \mathrm{feed\_forward}(a)\big)
# \end{aligned}$$
#
# - $\mathrm{attention}(q, k, v)$ is chapter 7's attention with heads: queries from its first argument, keys and values
#   from the others. Here all three are $h$: self-attention. (In the code the layer is given $h$ once.)
# - The feed-forward network has one hidden layer of width $C_h$. Without $\max(0, \cdot)$ (*relu*) between them the two
#   matrices would be one:
#
# $$\mathrm{feed\_forward}(x) = \max(0,\; x W_1 + b_1)\, W_2 + b_2, \qquad W_1: (C, C_h), \quad W_2: (C_h, C)$$
#
# - The sum $h + f(h)$ is a **residual connection**: its derivative by $h$ contains the identity, so a gradient passes
#   also where that of $f$ is small.
# - The norm is **layer norm** (Ba et al. 2016): the $C$ channels of each position get the mean 0 and the variance 1. A
#   trained scale $\gamma$ and shift $\beta$ then let the model choose others; the small $\varepsilon$ keeps us from
#   dividing by 0.
#
# $$\mathrm{norm}(x)_c = \gamma_c\, \frac{x_c - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta_c, \qquad
# \mu = \frac{1}{C} \sum_{c=1}^{C} x_c, \qquad \sigma^2 = \frac{1}{C} \sum_{c=1}^{C} (x_c - \mu)^2$$

# %%
def norm(x, layer):
    mu = x.mean(axis=-1, keepdims=True)
    sigma2 = ((x - mu) ** 2).mean(axis=-1, keepdims=True)
    gamma, beta = layer.weight, layer.bias
    return gamma * (x - mu) / (sigma2 + layer.eps) ** 0.5 + beta


def feed_forward(x, block):
    first, second = block.feed_forward.up_proj, block.feed_forward.down_proj  # x W1 + b1 and x W2 + b2
    return second(F.relu(first(x)))


def encoder_block(h, block, mask=None):  # mask (B, 1, 1, Tk): False for padding, as in chapter 7
    a = norm(h + block.attention(h, mask), block.norm_1)
    return norm(a + feed_forward(a, block), block.norm_2)


# %% [markdown]
# ## The decoder's block
#
# One part more. Between self-attention and feed-forward stands **cross-attention**: the queries come from the target,
# keys and values from the memory. Each position of the target asks: which source tokens do I need now?
#
# $$\begin{aligned}
# a &= \mathrm{norm}\big(h + \mathrm{attention}(h, h, h)\big) & &\text{causal} \\
# b &= \mathrm{norm}\big(a + \mathrm{attention}(a, M, M)\big) & &\text{cross-attention} \\
# h' &= \mathrm{norm}\big(b + \mathrm{feed\_forward}(b)\big)
# \end{aligned}$$

# %%
def decoder_block(h, M, block, mask=None):
    a = norm(h + block.attention(h, is_causal=True), block.norm_1)
    b = norm(a + block.cross_attention(a, M, mask), block.norm_cross)
    return norm(b + feed_forward(b, block), block.norm_2)


# %% [markdown]
# After the last block the score of each token of the vocabulary is the dot product of its embedding with the vector:
# $\mathrm{logits}_t = W_e\, h^{(L)}_t$. The same table serves source, target and scores (section 3.4 of the paper).
#
# That is all of the model. Put together, our blocks must compute what the library's `Transformer` computes. (`eval()`
# switches its dropout off, chapter 6.)

# %% tags=["deterministic"]
minilm.manual_seed(0)
small = Transformer(TransformerConfig(vocab_size=30, block_size=16, n_layer=2, n_head=4, n_embd=32, n_hidden=64)).eval()
rng = np.random.default_rng(0)
x, y = rng.integers(3, 30, (2, 7)), rng.integers(3, 30, (2, 5))  # source (B, Tk), target so far (B, T)


def transformer(model, x, y, mask=None):
    W_e, PE, C = model.token_embedding.weight, model.positions.table, model.config.n_embd
    M = C**0.5 * W_e[x] + PE[: x.shape[1]]
    for block in model.encoder:
        M = encoder_block(M, block, mask)
    h = C**0.5 * W_e[y] + PE[: y.shape[1]]
    for block in model.decoder:
        h = decoder_block(h, M, block, mask)
    return h @ W_e.T  # (B, T, V)


with no_grad():
    ours, library = transformer(small, x, y).numpy(), small(x, y).numpy()
print("logits", ours.shape, " equal to the library's:", np.allclose(ours, library, atol=1e-4))

# %% [markdown]
# Cross-attention is where the lengths may differ: its matrix of weights has a row for each target token and a column
# for each source token, $(T, T_k)$. Nothing in it is causal, since the whole source is known.
#
# ## Three masks
#
# So there are three attentions, and each has its rule of who may see what. Take a batch in which the source was filled
# up from 5 tokens to 7 (chapter 7's padding), with a target of 6:

# %%
Tk, T, real = 7, 6, 5
taking_part = np.arange(Tk) < real
masks = {
    "encoder, self": (np.tile(taking_part, (Tk, 1)), "source, key", "source, query"),
    "decoder, self": (np.tri(T, dtype=bool), "target, key", "target, query"),
    "decoder, cross": (np.tile(taking_part, (T, 1)), "source, key", "target, query"),
}
figure = new_figure()
figure.set_size_inches(7, 2.5)
for axes, (title, (mask, keys, queries)) in zip(figure.subplots(1, 3), masks.items(), strict=True):
    axes.imshow(mask, cmap="Greys", vmin=0, vmax=1.4)
    axes.set_title(f"{title}  {mask.shape}", fontsize=9)
    axes.set(xlabel=keys, ylabel=queries, xticks=range(mask.shape[1]), yticks=range(mask.shape[0]))
    axes.set_xticks(np.arange(-0.5, mask.shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, mask.shape[0]), minor=True)
    axes.grid(which="minor", color="white")
    axes.tick_params(which="minor", length=0)
figure

# %% [markdown]
# (Dark is seen.) The rows of the padding itself do not matter: nobody looks at what they compute. Where the *target* is
# padded no mask is needed: the padding stands behind the real tokens, the causal mask hides it from them, and the loss
# ignores what is computed there. Let us see that it is so.

# %% tags=["deterministic"]
mask = np.ones((2, 7), dtype=bool)
mask[1, 5:] = False
other_padding, other_future = x.copy(), y.copy()
other_padding[1, 5:] = 29
other_future[:, 4] = 29
with no_grad():
    before = small(x, y, mask).numpy()
    print("other tokens in the padding, same logits:", np.array_equal(before, small(other_padding, y, mask).numpy()))
    after = small(x, other_future, mask).numpy()
print("another last target token, same logits before it:", np.array_equal(before[:, :4], after[:, :4]))

# %% [markdown]
# ## Teacher forcing
#
# How is a model trained that writes token by token? Not by letting it write: each token would need a step of its own,
# and after the first wrong word all that follows would be judged in a wrong context. Instead the decoder reads the
# *right* target, moved to the right by one place, and at every position it is asked for the next token:

# %%
right = ["heute", "werde", "ich", "eine", "Lampe", "kaufen", ".", "<eos>"]
figure, axes = blank(7.0, 1.45)
for t, (read, label) in enumerate(zip(["<bos>", *right[:-1]], right, strict=True)):
    for y_, word, colour in ((0.35, read, COLOURS[0]), (1.1, label, COLOURS[1])):
        axes.text(1.35 + 0.74 * t, y_, word, ha="center", va="center", fontsize=8.5,
                  bbox={"boxstyle": "round,pad=0.25", "fc": "white", "ec": colour})  # fmt: skip
    axes.annotate("", (1.35 + 0.74 * t, 0.93), (1.35 + 0.74 * t, 0.52), arrowprops={"arrowstyle": "-|>", "color": GREY})
axes.text(0.08, 0.35, "decoder\nreads", va="center", fontsize=9, color=COLOURS[0])
axes.text(0.08, 1.1, "labels", va="center", fontsize=9, color=COLOURS[1])
figure

# %% [markdown]
# Because of the causal mask position $t$ cannot see the label that it is asked for, although it stands one place
# further on. So one pass gives all $T$ terms of the loss
#
# $$-\log P(Y \mid X) = -\sum_{t=1}^{T} \log P(y_t \mid y_1, \dots, y_{t-1}, X)$$
#
# at once. The teacher forces the pupil's hand: whatever it would have written, it goes on from what is right. The
# price: it never sees its own mistakes in training, and later has to go on from them.
#
# ## Label smoothing
#
# Cross-entropy is lowest where the right token has the probability 1, which no finite logits give: they grow for ever,
# and the model becomes surer than it has reason to be. Often several tokens would have been right. So a part
# $\varepsilon$ of the target's weight is spread over all $V$ tokens alike (Szegedy et al. 2016). With
# $p = \mathrm{softmax}(z)$ and the right token $r$:
#
# $$q_j = (1 - \varepsilon)\,[j = r] + \frac{\varepsilon}{V}, \qquad \mathrm{loss} = -\sum_{j=1}^{V} q_j \log p_j$$
#
# where $[j = r]$ is 1 if $j = r$ and 0 otherwise. The derivative is as simple as without smoothing. From
# $\log p_j = z_j - \log \sum_m e^{z_m}$ follows $\partial \log p_j / \partial z_i = [i = j] - p_i$, and with
# $\sum_j q_j = 1$
#
# $$\frac{\partial\, \mathrm{loss}}{\partial z_i} = -\sum_j q_j \big([i = j] - p_i\big) = p_i - q_i$$
#
# It is zero at $p = q$, and the logits there are **finite**. Since $p_i / p_j = e^{z_i - z_j}$, all wrong tokens have
# the same logit, and the right one is larger by
#
# $$\log \frac{q_r}{q_{\text{wrong}}} = \log \frac{1 - \varepsilon + \varepsilon / V}{\varepsilon / V}$$

# %% tags=["deterministic"]
V, eps, r = 1000, 0.1, 7
best_gap = np.log((1 - eps + eps / V) / (eps / V))
z = Tensor(np.zeros(V), requires_grad=True)
with no_grad():
    z.data[r] = best_gap
F.cross_entropy(z[None], np.array([r]), label_smoothing=eps).backward()
print(f"for V = {V} and eps = {eps}: the best gap is {best_gap:.3f}, where the right token has p = {1 - eps + eps / V:.4f}")
print("largest entry of the gradient there below 1e-12:", np.abs(z.grad.numpy()).max() < 1e-12)

# %%
gaps = np.linspace(0, 20, 200)
figure = new_figure()
figure.set_size_inches(7, 2.7)
axes = figure.subplots()
for smoothing, colour in ((0.0, COLOURS[0]), (0.1, COLOURS[1])):
    logits = np.zeros((len(gaps), V))
    logits[:, r] = gaps
    losses = F.cross_entropy(Tensor(logits), np.full(len(gaps), r), label_smoothing=smoothing, reduction="none").numpy()
    axes.plot(gaps, losses, color=colour, label=f"$\\varepsilon$ = {smoothing:g}")
axes.axvline(best_gap, color=GREY, linestyle="--", linewidth=1)
axes.text(best_gap + 0.2, 5.5, "best gap with smoothing", color=GREY, fontsize=9)
axes.set(xlabel="right logit minus wrong logits", ylabel="loss (nats)", xlim=(0, 20), ylim=(0, None))
axes.legend(frameon=False)
figure

# %% [markdown]
# Without smoothing the loss falls for ever; with it, being too sure costs. The loss never reaches 0 then, so a smoothed
# loss must not be compared with a plain one. (The library smooths in training only; its evaluations tell the plain
# loss.)
#
# ## The learning rate
#
# The paper's schedule, for step $n = 1, 2, \dots$ and $w$ steps of **warm-up** (equation 3; `noam` in
# the library, after Noam Shazeer, one of the authors):
#
# $$\mathrm{rate}(n) = C^{-1/2}\, \min\big(n^{-1/2},\; n\, w^{-3/2}\big)$$
#
# Up to $n = w$ the second term is the smaller one, and the rate grows in a straight line; from then on it falls as
# $1/\sqrt{n}$. Both terms agree at $n = w$, since $w \cdot w^{-3/2} = w^{-1/2}$: there is the peak, $1/\sqrt{C w}$.

# %% tags=["deterministic"]
for width, w in ((512, 4000), (64, 100)):
    rate = noam(width, w)  # counts from step 0
    print(f"C = {width:3}, w = {w:4}: first {rate(0):.3g}, at the peak {rate(w - 1):.4g}, after 10 w steps {rate(10 * w - 1):.3g}")

# %% [markdown]
# Why begin slowly? Two reasons. Adam divides by the running size of the gradient, and an average over the first few
# steps is a poor guess of it. And the norm stands *behind* each sum: if what one part adds is suddenly large, the norm
# makes everything else small, and what came from below is lost. Xiong et al. (2020) have the mathematics; we shall see
# what comes of it.
#
# ## A language to learn
#
# A translator that trains in seconds needs a small language. We make one of true English and German sentences. It has
# what makes German hard for an English speaker:
#
# - the main verb goes to the end: *i can see the dog*, *ich kann den Hund sehen*;
# - after a word of time subject and auxiliary change places: *now i can*, *jetzt kann ich*;
# - the auxiliary depends on the subject (*ich kann*, *wir können*);
# - article and adjective depend on the gender of a noun that comes **later**: *a red lamp* is *eine rote Lampe*, *a red
#   dog* is *einen roten Hund*.

# %%
SUBJECTS = {"i": ("ich", 0), "you": ("du", 1), "she": ("sie", 2), "he": ("er", 2), "we": ("wir", 3)}
AUXILIARIES = {"will": "werde wirst wird werden", "can": "kann kannst kann können", "must": "muss musst muss müssen"}
VERBS = {"see": "sehen", "buy": "kaufen", "paint": "malen", "find": "finden", "sell": "verkaufen", "look for": "suchen"}
NOUNS = {"dog": ("Hund", "m"), "table": ("Tisch", "m"), "cat": ("Katze", "f"), "lamp": ("Lampe", "f"),
         "house": ("Haus", "n"), "book": ("Buch", "n")}  # fmt: skip
ARTICLES = {"the": {"m": ("den", "en"), "f": ("die", "e"), "n": ("das", "e")},
            "a": {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")}}  # fmt: skip
ADJECTIVES = {"": "", "small": "klein", "blue": "blau", "new": "neu", "red": "rot", "beautiful": "schön"}
TIMES = {"": "", "today": "heute", "tomorrow": "morgen", "now": "jetzt"}


def sentence(rng):
    def choose(table):
        key = list(table)[rng.integers(len(table))]
        return key, table[key]

    (time, zeit), (i, (ich, person)), (can, forms) = choose(TIMES), choose(SUBJECTS), choose(AUXILIARIES)
    (see, sehen), (a, by_gender) = choose(VERBS), choose(ARTICLES)
    (red, rot), (dog, (hund, gender)) = choose(ADJECTIVES), choose(NOUNS)
    ein, ending = by_gender[gender]
    kann = forms.split()[person]
    begin = [zeit, kann, ich] if zeit else [ich, kann]
    english = [time, i, can, see, a, red, dog, "."]
    german = [*begin, ein, rot and rot + ending, hund, sehen, "."]
    return Pair(" ".join(filter(None, english)), " ".join(filter(None, german)))


# %% tags=["deterministic"]
rng = np.random.default_rng(8)
pairs = list(dict.fromkeys(sentence(rng) for _ in range(6000)))
train, test = pairs[:3000], pairs[3000:3200]
tokenizer = PairTokenizer(WordTokenizer.train([text for pair in pairs for text in pair], lower=False))
tables = (TIMES, SUBJECTS, AUXILIARIES, VERBS, ARTICLES, ADJECTIVES, NOUNS)
print(f"{np.prod([len(table) for table in tables]):,} sentences are possible")
print(len(train), "pairs to learn from,", len(test), "others to test; tokens of both languages together:", tokenizer.vocab_size)
for pair in train[:4]:
    print(f"  {pair.source:45} {pair.target}")
ids = tokenizer.encode(train[0].source)
print("the first source as ids:", ids, "=", *tokenizer.pieces(ids))

# %% [markdown]
# There are 25,920 different sentences in this language, and the model sees 3,000 of them. None of the test is among
# these.
#
# Two blocks in each half, four heads, 64 channels. We train it three times: with the paper's schedule; with the
# schedule's peak as a constant rate, without warm-up; and with a quarter of the peak as a constant rate. Sentences of
# like length go into one batch (`LengthBuckets`), at most 1,000 tokens of both languages.

# %%
config = TransformerConfig(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=2, n_head=4, n_embd=64, n_hidden=128,
                           dropout=0.0, label_smoothing=0.1,
                           pad_id=tokenizer.pad_id, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)  # fmt: skip
batches = LengthBuckets(encode_pairs(train, tokenizer), max_tokens=1000)


def fit(rate, epochs):
    minilm.manual_seed(0)
    model, curve = Transformer(config), []
    optimizer = Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)  # betas and eps are the paper's
    for epoch in range(epochs):
        for batch in batches.epoch(epoch):
            optimizer.scale_lr(rate(len(curve)))  # times lr, which is 1
            loss = model.loss(batch)
            loss.backward()
            optimizer.step()
            model.zero_grad()
            curve.append(loss.item())
    return model.eval(), curve


rate = noam(config.n_embd, warmup_steps=100)
model, curve = fit(rate, epochs=6)
stuck, stuck_curve = fit(lambda step: rate(99), epochs=3)  # the peak, step 100
slow, slow_curve = fit(lambda step: rate(99) / 4, epochs=3)
print(f"{model.num_parameters():,} parameters, {len(batches)} batches an epoch")


def exact(model, pairs, beam):
    written = translate(model, tokenizer, [pair.source for pair in pairs], beam_size=beam)
    wanted = [tokenizer.decode(tokenizer.encode(pair.target)) for pair in pairs]
    return np.mean([w == o for w, o in zip(wanted, written, strict=True)])


print(f"with warm-up: {exact(model, test, 1):.1%} of the unseen sentences are translated without a mistake")
print(f"without:      {exact(stuck, test, 1):.1%};  with a quarter of the rate: {exact(slow, test, 1):.1%}")

# %%
entropy = -(0.9 + 0.1 / config.vocab_size) * np.log(0.9 + 0.1 / config.vocab_size)
entropy -= (config.vocab_size - 1) * (0.1 / config.vocab_size) * np.log(0.1 / config.vocab_size)
figure = new_figure()
figure.set_size_inches(7, 2.8)
left, right_axes = figure.subplots(1, 2)
left.plot(range(1, len(curve) + 1), [rate(n) for n in range(len(curve))], color=COLOURS[0])
left.axhline(rate(99), color=COLOURS[1], linestyle="--")
left.axhline(rate(99) / 4, color=COLOURS[2], linestyle="-.")
left.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
right_axes.plot(range(1, len(curve) + 1), curve, color=COLOURS[0], label="with warm-up")
right_axes.plot(range(1, len(stuck_curve) + 1), stuck_curve, "--", color=COLOURS[1], label="peak rate from the start")
right_axes.plot(range(1, len(slow_curve) + 1), slow_curve, "-.", color=COLOURS[2], label="a quarter of it")
right_axes.axhline(entropy, color=GREY, linestyle=":", linewidth=1)
right_axes.text(len(curve), entropy - 0.05, "lowest possible, with smoothing", ha="right", va="top", fontsize=8, color=GREY)
right_axes.set(xlabel="step", ylabel="smoothed loss (nats per token)", ylim=(0, 5))
right_axes.legend(frameon=False, fontsize=9)
figure

# %% [markdown]
# The one with warm-up has learnt the language; its loss stops at the lowest that label smoothing allows,
# $-\sum_j q_j \log q_j$, which is the loss at $p = q$. The one that began at the peak is stuck. A quarter of its rate
# does as well without warm-up, and is done sooner: warm-up is what makes a high rate possible, and a language as small
# as this one does not need it. What is wrong with the one that is stuck?

# %%
for pair in test[:2]:
    print(f"source        {pair.source}\nwith warm-up  {translate(model, tokenizer, [pair.source])[0]}")
    print(f"without       {translate(stuck, tokenizer, [pair.source])[0]}\n")


def cross_weights(model, text):
    """What it writes for a text, and where it looks in the meantime: (tokens read, tokens written, (L, H, T, Tk))."""
    read = tokenizer.encode(text)
    [[best, *_]] = beam_search(model, read[None])  # one source; its texts, the best first (next section)
    written = np.array(best.ids)
    weights = model.attention_weights(read[None], np.append(tokenizer.bos_id, written[:-1])[None])
    return tokenizer.pieces(read), tokenizer.pieces(written), weights[:, 0]


for name, which in (("with warm-up", model), ("without", stuck)):
    with no_grad():
        [*_, (K, V)] = which.encode(tokenizer.encode(test[0].source)[None]).memory  # of M, a pair for each block
    weights = cross_weights(which, test[0].source)[2]
    print(f"{name:12}  cross-attention weights from {weights.min():.2f} to {weights.max():.2f};", end=" ")
    print(f"keys differ from token to token by {K.numpy().std(axis=2).mean():.4f}")  # (1, H, Tk, D)

# %% [markdown]
# It writes the same for both, for it looks at all source tokens alike. The memory has become (almost) the same vector
# for every token, and keys that are all equal give equal weights, whatever the query. What the source says does not
# reach the decoder, so it learns only which German words are frequent, and which follow each other.
#
# ## Beam search
#
# The model gives $P(y_t \mid y_1, \dots, y_{t-1}, X)$. We want the whole text $Y$ that is most probable. **Greedy**
# search takes the most probable token at each step, and can miss it. Here is a tree of what some model could say to *a
# kitten*. The numbers are the probabilities of the next token:

# %%
TREE = {  # beginning: {next token: probability}
    (): {"ein": 0.55, "eine": 0.45},
    ("ein",): {"Kätzchen": 0.36, "Katzenkind": 0.34, "Junges": 0.30},
    ("eine",): {"Katze": 0.54, "kleine": 0.46},
    ("eine", "Katze"): {"<eos>": 0.85, "hier": 0.15},
    ("eine", "kleine"): {"Katze": 0.97, "Maus": 0.03},
}


def next_tokens(beginning):
    return TREE.get(beginning, {"<eos>": 1.0})  # everything else ends here


# %% tags=["deterministic"]
def leaves(beginning=(), p=1.0):
    for token, share in next_tokens(beginning).items():
        if token == "<eos>":
            yield (*beginning, token), p * share
        else:
            yield from leaves((*beginning, token), p * share)


for text, p in sorted(leaves(), key=lambda leaf: -leaf[1]):
    print(f"{p:.4f}  {' '.join(text)}")

# %% [markdown]
# Greedy search begins with *ein*, $0.55$ against $0.45$, and then takes *Kätzchen*: 0.1980 in all. But *eine Katze*
# has 0.2066. After *ein* there are three ways to go on, which share its probability; greedy search does not look ahead.
#
# A **beam** keeps the $k$ best beginnings instead of one. At each step every beginning is continued with every token,
# and of all these candidates the $k$ most probable go on; those that end in `<eos>` are taken out and kept. By hand,
# for $k = 2$:

# %% tags=["deterministic"]
beginnings, ended = [((), 1.0)], []
for step in range(1, 5):
    candidates = [((*b, token), p * share) for b, p in beginnings for token, share in next_tokens(b).items()]
    candidates.sort(key=lambda candidate: -candidate[1])
    print(f"step {step}")
    for rank, (text, p) in enumerate(candidates):
        fate = "out" if rank >= 2 else "ends" if text[-1] == "<eos>" else "goes on"
        print(f"   {p:.4f}  {' '.join(text):26} {fate}")
    ended += [c for c in candidates[:2] if c[0][-1] == "<eos>"]
    beginnings = [c for c in candidates[:2] if c[0][-1] != "<eos>"]

# %%
figure, axes = blank(7.0, 3.1)
places, kept = {(): (0.35, 1.5)}, {(), ("ein",), ("eine",), ("eine", "Katze"), ("eine", "kleine"),
                                   ("eine", "Katze", "<eos>"), ("eine", "kleine", "Katze"),
                                   ("eine", "kleine", "Katze", "<eos>")}  # fmt: skip
rows = iter(np.linspace(2.85, 0.2, 7))


def layout(beginning):
    below = [layout((*beginning, token)) for token in next_tokens(beginning)] if beginning[-1:] != ("<eos>",) else []
    y = np.mean(below) if below else next(rows)
    places[beginning] = (0.35 + 1.55 * len(beginning), y)
    return y


layout(())
for beginning, (x_, y_) in places.items():
    if beginning:
        x0, y0 = places[beginning[:-1]]
        colour = COLOURS[0] if beginning in kept else "#bbbbbb"
        axes.plot([x0, x_], [y0, y_], color=colour, lw=2 if beginning in kept else 1, zorder=1)
        share = next_tokens(beginning[:-1])[beginning[-1]]
        axes.text((x0 + x_) / 2, (y0 + y_) / 2, f"{share:.2f}", fontsize=7.5, color=GREY, ha="center", va="center",
                  bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"})  # fmt: skip
    label = beginning[-1] if beginning else "<bos>"
    axes.text(x_, y_, label, ha="center", va="center", fontsize=8.5,
              bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none"})  # fmt: skip
figure

# %% [markdown]
# (Blue: what a beam of 2 keeps.) In the second step everything that begins with *ein* falls out: its probability has
# been shared among three. The winner is *eine Katze*, the most probable text of all.
#
# **Is the most probable text the best one?** Each further token multiplies with a number below 1, so probability
# favours short texts: *eine kleine Katze* says more, and has 0.2008. The mean of the $\log p$ over the tokens can err
# to the other side, where a text is lengthened with tokens that are easy to guess. The length penalty stands between
# (Wu et al. 2016, equation 14). With $|Y|$ tokens, `<eos>` included:
#
# $$\mathrm{score}(Y) = \frac{\log P(Y \mid X)}{\mathrm{lp}(Y)}, \qquad
# \mathrm{lp}(Y) = \Big(\frac{5 + |Y|}{6}\Big)^{\alpha}$$
#
# $\alpha = 0$ changes nothing, a larger $\alpha$ helps long texts more, and the Transformer's paper takes 0.6. Since
# $\log P$ is negative, a larger divisor makes a better score.

# %% tags=["deterministic"]
for alpha in (0.0, 0.6):
    print(f"alpha = {alpha}")
    for text, p in ended:
        lp = length_penalty(len(text), alpha)
        print(f"   {' '.join(text):26} log P {np.log(p):.4f}   lp {lp:.4f}   score {np.log(p) / lp:.4f}")

# %% [markdown]
# With the penalty the longer text wins: $-1.6055 / 1.2754$ is nearer to zero than $-1.5772 / 1.1884$. The library's
# search must find the same. It asks a model for logits; our tree becomes a model in a few lines.

# %% tags=["deterministic"]
WORDS = ["<pad>", "<bos>", "<eos>", *sorted({token for row in TREE.values() for token in row} - {"<eos>"})]


class TreeModel:
    """Logits (B, T, V) of the next token after each beginning, from the tree."""

    config, context_length = TransformerConfig(vocab_size=len(WORDS), block_size=8), 8  # what beam_search wants to know

    def modules(self):
        return iter(())  # it has no layers

    def __call__(self, input_ids, decoder_input_ids, attention_mask):
        logits = np.full((*decoder_input_ids.shape, len(WORDS)), -1e9)
        for b, row in enumerate(decoder_input_ids):
            for token, share in next_tokens(tuple(WORDS[i] for i in row[1:])).items():
                logits[b, -1, WORDS.index(token)] = np.log(share)
        return Tensor(logits)


for beam, alpha in ((1, 0.0), (2, 0.0), (2, 0.6)):
    [[best, *_]] = beam_search(TreeModel(), np.array([[3]]), beam_size=beam, alpha=alpha, use_cache=False)
    print(f"beam {beam}, alpha {alpha}: {' '.join(WORDS[i] for i in best.ids):26} P = {np.exp(best.log_probability):.4f}")

# %% [markdown]
# ## Attention as alignment
#
# Which source word does a German word come from? Nobody told the model. But to write *kaufen* it must have looked at
# *buy*. The cross-attention of the last block, as the mean of its four heads, white for the weight 0 and black for 1; a
# row is a word at the moment when it is written:

# %%
maps = [cross_weights(model, text) for text in ("today i will buy a red lamp .", "she must look for the small dog .")]
figure = new_figure()
figure.set_size_inches(7, 3.3)
for axes, (read, written, weights) in zip(figure.subplots(1, 2), maps, strict=True):
    axes.imshow(weights[-1].mean(axis=0), cmap="Greys", vmin=0, vmax=1)
    axes.set_xticks(range(len(read)), read, rotation=90, fontsize=9)
    axes.set_yticks(range(len(written)), written, fontsize=9)
    axes.set(xlabel="looks at", ylabel="writes" if axes is figure.axes[0] else None)
figure

# %% [markdown]
# Follow the rows. *kaufen*, at the end of the German sentence, looks back at *buy* in the middle of the English one.
# Some words look at more than one: article and adjective at their own word *and at the noun*, since without its gender
# their ending cannot be chosen. And *werde* looks at the subject, from which it takes its form; where it read *will*,
# this block does not show.
#
# Attention was invented as an alignment like this (Bahdanau et al. 2015, for a recurrent network). It remains a hint
# and no proof: here are all heads of both blocks for the second sentence, and among them some whose looks have no
# meaning that we could name.

# %%
read, written, weights = maps[1]
figure = attention_figure(weights, read, written)
figure.set_size_inches(7, 4)
figure.supxlabel("looks at", fontsize=9)
figure.supylabel("writes", fontsize=9)
figure

# %% [markdown]
# ## English and German as people write them
#
# The same model, larger, on 45,000 pairs of short sentences that volunteers translated (Tatoeba). Its rival is chapter
# 6's LSTM as encoder and decoder, with attention between them (Bahdanau et al. 2015): about as many parameters, the
# same pairs, as many steps. BLEU and chrF (chapter 12) compare what a model writes with translations by people, from 0
# to 100; more is better.

# %%
found = results("translation")
print(f"{'':14}{'parameters':>11}{'steps':>7}   {'search':28}{'BLEU':>6}{'chrF':>6}")
for name, run in found["models"].items():
    for search, row in run["searches"].items():
        print(f"{name:14}{run['parameters']:11,}{run['steps']:7,}   {search:28}{row['bleu']:6.1f}{row['chrf']:6.1f}")
widest = {name: list(run["searches"].values())[-1]["bleu"] for name, run in found["models"].items()}
order = sorted(widest, key=lambda name: -widest[name])
print(f"ahead: {order[0]}, by {widest[order[0]] - widest[order[-1]]:.1f} BLEU")
run = found["models"]["transformer"]
print(f"\nthe Transformer was trained on {run['training_pairs']:,} pairs, {run['epochs']:.1f} times each; tested on {run['test_sentences']:,} sentences:")
for example in run["examples"][::2]:
    print(f"   {example['source']:26} {example['written']:34} ({example['references'][0]})")

# %% [markdown]
# In so short a training the LSTM need not be behind: that words follow each other is built into it, and the Transformer
# has to learn it. ([Chapter 10](10_lstm_against_gpt.ipynb) compares the two in earnest. The paper's model read a
# hundred times as many pairs.)
#
# Look at the sentences. Common ones are right; rare words are where it fails. It has seen them a few times or never,
# and then it writes something fluent: that is what a decoder does when the memory tells it little, and you have met the
# extreme case above. Here is its cross-attention for a sentence of the test part, in which *met* becomes two words,
# *habe* and *getroffen*, with the rest of the sentence between them. (A row writes, a column is looked at, as above; a
# rare word is several tokens.)

# %%
Image(f"../benchmarks/results/{run['attention']['picture']}", width=680)

# %% [markdown]
# In the last layer *habe* and *getroffen* both look at *met*, and also at `<eos>`, where the encoder may have put
# anything. The rival has one map instead of twelve, and most of it can be read at a glance:

# %%
Image(f"../benchmarks/results/{found['models']['seq2seq-lstm']['attention']['picture']}", width=290)

# %% [markdown]
# ## Names: a decoder that may copy
#
# A word that no training sentence had cannot be learnt as an output: nothing has ever raised its logit. But where a
# text is told again in its own language, as in a summary, the word stands in the source. So let the decoder point at it
# (Gu et al. 2016). Beside the logits $l_w$ of the vocabulary it makes a score $c_i$ for each place $i$ of the source,
# where the token $s_i$ stands; one softmax over both, and what speaks for the same token is added up:
#
# $$p(w) = \frac{1}{Z} \Big( e^{l_w} + \sum_{i:\, s_i = w} e^{c_i} \Big)
# \qquad\text{so the logits become}\qquad y_w = \log \Big( e^{l_w} + \sum_{i:\, s_i = w} e^{c_i} \Big)$$
#
# `copy_logits` is the right formula. A vocabulary of five words, of which the model thinks *Mopidy* the least likely,
# and a source that begins with it and has *player* twice:

# %% tags=["deterministic"]
vocabulary = ["a", "player", "for", "music", "Mopidy"]
read = ["Mopidy", "player", "music", "player"]
l = Tensor([[[1.0, 0.5, 0.0, 0.5, -4.0]]])  # (B, T, V): one text, one step
c = Tensor([[[2.0, -1.0, -1.0, -1.0]]])  # (B, T, Tk)
y = F.copy_logits(l, c, np.array([[vocabulary.index(word) for word in read]]))
for word, before, after in zip(vocabulary, F.softmax(l)[0, 0].tolist(), F.softmax(y)[0, 0].tolist(), strict=True):
    print(f"{word:8} without copying {before:.4f}   with it {after:.4f}")

# %% [markdown]
# Where do the scores come from? As in attention: a query of what the decoder has at step $t$, a key for each place. The
# key has two parts, the memory of the place and of the one before it:
#
# $$c_i = \frac{(W_q x_t) \cdot (W_k h_i + W_p h_{i-1})}{\sqrt{C}}$$
#
# The second part lets a copy go on. A name is often several tokens (*Mop*, *idy*): when *Mop* has just been written,
# the place after *Mop* should come next, and through $h_{i-1}$ a query can ask for just that.
#
# With such a decoder: descriptions of Debian packages, and the line that their maintainers wrote above them. *Not
# copying* is the same model without the pointer, trained as long; the other opponent is the description's own first
# sentence, which is hard to beat. ROUGE (chapter 12) is from 0 to 100; more is better.

# %%
found = results("summarization")
summarizer = found["models"]["copying"]
rows = {**found["baselines"], **{f"{name}, {s}": r for name, m in found["models"].items() for s, r in m["searches"].items()}}
print(f"{'':40}{'ROUGE-1':>8}{'ROUGE-2':>8}{'ROUGE-L':>8}")
for name, row in rows.items():
    print(f"{name:40}{row['rouge1']:8.1f}{row['rouge2']:8.1f}{row['rouge_l']:8.1f}")
for example in summarizer["examples"][1:12:3]:
    print(f"\n{example['source'][:100]} ...\n   it writes:    {example['written']}\n   they wrote:   {example['references'][0]}")

# %% [markdown]
# ## Exercises
#
# Fill in the function, take the `#` before the checker away, and run the cell.
#
# **Exercise 8.1.** Teacher forcing: what does the decoder read? Of labels $(B, T)$, filled up with $-100$ (which the
# loss leaves out) where a sentence is shorter, make its input $(B, T)$: `bos` first, then the labels moved to the right
# by one place. Where a label is $-100$ it reads `pad`.

# %%
def shifted_right(labels, bos, pad):
    ...


# from checks.chapter_08 import check_shifted_right; check_shifted_right(shifted_right)

# %% [markdown]
# **Exercise 8.2.** Cross-entropy with label smoothing, from the formula: of `logits` $(V,)$, the right token `r` and
# $\varepsilon$ make one number. It must also be right for logits of 1000.

# %%
def smoothed_loss(logits, r, eps):
    ...


# from checks.chapter_08 import check_smoothed_loss; check_smoothed_loss(smoothed_loss)

# %% [markdown]
# **Exercise 8.3.** The paper's learning rate for step `n` (from 1), width `C` and `w` steps of warm-up.

# %%
def learning_rate(n, C, w):
    ...


# from checks.chapter_08 import check_learning_rate; check_learning_rate(learning_rate)

# %% [markdown]
# **Exercise 8.4.** Beam search. `next_tokens(beginning)` takes a tuple of tokens and gives a dict: token to
# probability, as above; it begins with `()`. At each step keep the `k` most probable of all candidates, take those out
# that end in `"<eos>"`, and stop when none is left to go on. Of the texts that were taken out return the one with the
# best $\mathrm{score}(Y)$, as a tuple, `"<eos>"` included.

# %%
def search(next_tokens, k, alpha):
    ...


# from checks.chapter_08 import check_search; check_search(search)

# %% [markdown]
# **Exercise 8.5.** How many numbers does a Transformer train? Count all weights, biases, and the scales and shifts of
# the norms; one shared table of embeddings, `L` blocks in the encoder and `L` in the decoder, attention with four
# matrices $(C, C)$ and their biases.

# %%
def parameters(V, C, C_h, L):
    ...


# from checks.chapter_08 import check_parameters; check_parameters(parameters)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
from checks.chapter_08 import (
    check_learning_rate,
    check_parameters,
    check_search,
    check_shifted_right,
    check_smoothed_loss,
)


def shifted_right_solution(labels, bos, pad):
    read = np.full_like(labels, bos)
    read[:, 1:] = np.where(labels[:, :-1] == -100, pad, labels[:, :-1])
    return read


check_shifted_right(shifted_right_solution)

# %% tags=["solution"]
def smoothed_loss_solution(logits, r, eps):
    z = logits - logits.max()
    log_p = z - np.log(np.exp(z).sum())
    return -(1 - eps) * log_p[r] - eps * log_p.mean()  # the mean is the sum over V of eps / V each


check_smoothed_loss(smoothed_loss_solution)

# %% tags=["solution"]
def learning_rate_solution(n, C, w):
    return C**-0.5 * min(n**-0.5, n * w**-1.5)


check_learning_rate(learning_rate_solution)

# %% tags=["solution"]
def search_solution(next_tokens, k, alpha):
    beginnings, ended = [((), 0.0)], []
    while beginnings:
        candidates = [((*b, t), total + np.log(p)) for b, total in beginnings for t, p in next_tokens(b).items()]
        best = sorted(candidates, key=lambda c: -c[1])[:k]
        ended += [c for c in best if c[0][-1] == "<eos>"]
        beginnings = [c for c in best if c[0][-1] != "<eos>"]
    return max(ended, key=lambda c: c[1] / ((5 + len(c[0])) / 6) ** alpha)[0]


check_search(search_solution)

# %% tags=["solution"]
def parameters_solution(V, C, C_h, L):
    attention = 4 * (C * C + C)
    feed_forward = C * C_h + C_h + C_h * C + C
    norm = 2 * C
    encoder = attention + feed_forward + 2 * norm
    decoder = 2 * attention + feed_forward + 3 * norm
    return V * C + L * (encoder + decoder)  # the sinusoids are not trained


check_parameters(parameters_solution)

# %% [markdown]
# ## What to read next
#
# - [minilm/models/transformer.py](../minilm/models/transformer.py): the model, and where it differs from the paper;
#   [its tests](../tests/models/test_transformer.py).
# - [minilm/nn/blocks.py](../minilm/nn/blocks.py): one block for post-norm and pre-norm, with and without
#   cross-attention. (Post-norm: the norm behind the sum, as here. Pre-norm: before each part, as in chapter 9.)
# - [minilm/generation/beam_search.py](../minilm/generation/beam_search.py): the search for a batch of sources, with a
#   cache; [its tests](../tests/generation/test_beam_search.py) compare it with all texts that there are.
# - [minilm/nn/pointer.py](../minilm/nn/pointer.py) and [minilm/functional/copying.py](../minilm/functional/copying.py):
#   copying.
# - [minilm/models/seq2seq_lstm.py](../minilm/models/seq2seq_lstm.py): an LSTM with attention for the same task.
# - [Chapter 9](09_gpt.ipynb) keeps the decoder alone, [chapter 11](11_bert.ipynb) the encoder.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 0 · The documented math
#
# This project grew from two introductory articles on open-source language models. They describe a pipeline, state the
# mathematics, work one example and print two programs. Whoever learns from such articles needs to know two things:
# what each line means, and which lines are wrong. This chapter goes through all of it, computes every number, and
# names every mistake.
#
# **What you will be able to do**
#
# - say what a language model is, and compute its perplexity from the probabilities it gives;
# - turn scores into weights with softmax, without overflow;
# - compute attention by hand from $Q$, $K$ and $V$, state the shape of every array in it, and say why the scores are
#   divided by $\sqrt{d_k}$;
# - recognise a wrong formula by its shapes, before running anything;
# - find your way from each claim of the articles to the place in minilm where it works.
#
# **What it needs**: Python and NumPy. Derivatives begin in [chapter 1](01_one_scalar.ipynb).

# %%
import math
import sys
import tempfile
from pathlib import Path

import numpy as np

import minilm
import minilm.functional as F
from checks import source
from checks.chapter_00 import check_attention, check_perplexity, check_printed_result, check_softmax
from checks.drawing import boxes_figure, matrices_figure
from minilm import Tensor, nn
from minilm.models import BERTConfig, BERTForSequenceClassification
from minilm.plots.loss_curves import COLOURS, new_figure
from minilm.text import WordTokenizer, clean
from minilm.training import Trainer, TrainingArguments

# %% [markdown]
# ## 1. The pipeline
#
# Both articles describe the same way from text to a working model. Below each step stands the part of minilm that does
# it.

# %%
boxes_figure(
    [
        [("collect text", "text.readers, corpora"), ("clean", "text.cleaning"), ("tokenize", "text.tokenizers"),
         ("map to indices", "encode")],
        [("embed", "nn.Embedding"), ("hidden layers", "nn"), ("output", "nn.Linear, softmax"),
         ("prediction", "generation")],
        [("train", "training.Trainer"), ("validate, then test", "evaluation"), ("pre-train", "on general text"),
         ("fine-tune", "for one task")],
    ]
)  # fmt: skip

# %% [markdown]
# The first row and the first box of the second, on a page small enough to see everything. Cleaning strips tags,
# entities and scripts; the tokenizer cuts the text into words and gives each distinct word a number, its *index* or
# *id*; the embedding is a table with one row of numbers for each id.

# %% tags=["deterministic"]
page = "<h1>The cat</h1><p>The cat sat on the&nbsp;mat.</p><script>track()</script>"
text = clean(page, html=True, lower=True, whitespace="collapse")
tokenizer = WordTokenizer.train([text])
ids = tokenizer.encode(text)
table = np.random.default_rng(0).normal(size=(tokenizer.vocab_size, 4))  # (V, C)
x = table[ids]  # (T, C)

print("text  ", repr(text))
print("words ", tokenizer.words)
print("ids   ", ids.tolist())
print("table (V, C) =", table.shape, "  embedded text (T, C) =", x.shape)

# %% [markdown]
# Here $V = 7$ is the size of the vocabulary (the word `<unk>` stands for all words that the tokenizer does not know),
# $T = 9$ the length of the text in tokens, and $C = 4$ the number of *channels*, the width of a row of the table. These
# letters mean the same in the whole book and in the whole source. The table starts out random; training changes it.
# [Chapter 5](05_text_to_numbers.ipynb) is about this row of the pipeline.
#
# The other boxes use words that come on every later page. A **layer** is a function of arrays with numbers of its own,
# its **parameters** or *weights*; the table is one, and most others multiply by a matrix. A **network**, or *model*, is
# a chain of layers. What stands between the first and the last is called *hidden*. **Training** changes the parameters
# in small steps, so that the **loss**, a number that measures the errors, falls; a *batch* is the $B$ texts that one
# step looks at together. How good a model is shows on text that was kept back from training: the *validation set*, on
# which one may look as often as one likes, and the *test set*, on which one looks once, at the end.

# %% [markdown]
# ## 2. A language model predicts the next token
#
# Write $w_1, w_2, \dots, w_n$ for the tokens of a text, and $w_{<t}$ for all tokens before the $t$-th. A language model
# is a function that takes $w_{<t}$ and gives a probability to each of the $V$ tokens that may come next. The
# probability of the whole text follows from the definition of conditional probability, applied again and again:
#
# $$P(w_1, \dots, w_n) = P(w_1)\,P(w_2 \mid w_1)\,P(w_3 \mid w_1, w_2) \cdots = \prod_{t=1}^{n} P(w_t \mid w_{<t})$$
#
# Nothing is approximated here: any distribution over texts can be written so. What a model approximates is each factor.
#
# Suppose that a model reads "the cat sat down", and gives these probabilities to the words that did come:

# %% tags=["deterministic"]
probabilities = np.array([1 / 4, 1 / 8, 1 / 2, 1 / 2])  # P(the), P(cat | the), P(sat | the cat), P(down | ...)
print("P(text) =", np.prod(probabilities), "= 1 /", round(1 / np.prod(probabilities)))

# %% [markdown]
# A product of many numbers below 1 soon is too small for a computer, so one adds logarithms instead. The **negative
# log-likelihood** of a text is $-\log P(w_1,\dots,w_n) = -\sum_t \log P(w_t \mid w_{<t})$, and its mean over the tokens
# is the *loss* with which language models are trained. **Perplexity** is its exponential:
#
# $$\mathrm{PPL} = \exp\Big(-\frac1n \sum_{t=1}^n \log P(w_t \mid w_{<t})\Big)
#   = \Big(\prod_{t=1}^n \frac{1}{P(w_t \mid w_{<t})}\Big)^{1/n}$$
#
# The right-hand side says what it is: the geometric mean of $1/P$. A model that gives each of $V$ tokens the
# probability $1/V$ has the perplexity $V$. So a perplexity of 3.36 means: on average as uncertain as a fair die with
# 3.36 sides.

# %% tags=["deterministic"]
nll = -np.log(probabilities).mean()
print(f"mean negative log-likelihood {nll:.4f} nats, perplexity {math.exp(nll):.2f}")
print(f"geometric mean of 1/P: {np.prod(1 / probabilities) ** (1 / 4):.2f}")
uniform = np.full(10, 1 / 1000)
print(f"uniform over 1000 words: {math.exp(-np.log(uniform).mean()):.0f}")

# %% [markdown]
# The unit *nat* says that the logarithm is the natural one. With $\log_2$ the loss is in bits, and the perplexity is
# $2^{\text{loss}}$: the same number, as long as logarithm and exponential have the same base. A perplexity depends on
# what a token is, so two models with different tokenizers cannot be compared by it;
# [chapter 12](12_how_good.ipynb) has the remedy.

# %% [markdown]
# ## 3. Softmax: from scores to weights
#
# A network's last layer gives one real number for each token, its *score* (or *logit*) $s_j$. Weights must be positive
# and sum to 1. The exponential makes every number positive, and dividing by the sum makes the total 1:
#
# $$p_i = \mathrm{softmax}(s)_i = \frac{e^{s_i}}{\sum_j e^{s_j}}$$
#
# Two properties follow at once. Only differences count: adding a constant $c$ to all scores multiplies numerator and
# denominator by $e^c$. And the ratio of two weights is the exponential of the difference of their scores,
# $p_i / p_j = e^{s_i - s_j}$.

# %%
scores = np.array([2.0, 1.0, 0.0, -1.0])
figure = new_figure()
figure.set_size_inches(7, 2.6)
left, right = figure.subplots(1, 2)
left.bar(range(4), scores, color=COLOURS[0])
left.axhline(0, color="black", linewidth=0.8)
left.set(title="scores s", xlabel="token j", ylabel="score", xticks=range(4))
right.bar(range(4), np.exp(scores) / np.exp(scores).sum(), color=COLOURS[1])
right.set(title="weights softmax(s), sum 1", xlabel="token j", ylabel="weight", xticks=range(4))
figure

# %% [markdown]
# Written as the formula stands, softmax fails for large scores, since $e^{1000}$ is more than a float can hold. The
# first property is the way out: subtract the largest score. Then the largest exponent is 0 and nothing overflows.

# %% tags=["deterministic"]
s = np.array([1000.0, 999.0, 998.0])
with np.errstate(over="ignore", invalid="ignore"):
    print("as the formula stands:", np.exp(s) / np.exp(s).sum())
e = np.exp(s - s.max())
print("largest taken out:    ", np.round(e / e.sum(), 4))
print("minilm:               ", np.round(F.softmax(Tensor(s)).numpy(), 4))

# %% [markdown]
# ## 4. Attention
#
# A token's meaning depends on others: in "the cat sat on the mat because it was tired", *it* should fetch something
# from *cat*. Attention does this as a soft look-up. Each position has three vectors:
#
# - a **query** $q$: what this position looks for;
# - a **key** $k$: what it can be found by;
# - a **value** $v$: what it hands over when it is found.
#
# Query $i$ is compared with each key $j$ by a dot product; softmax turns the scores of one query into weights; the
# output is the weighted sum of the values. With $d_k$ the length of a query and of a key,
#
# $$S_{ij} = \frac{1}{\sqrt{d_k}} \sum_{d=1}^{d_k} Q_{id} K_{jd}, \qquad
#   P_{ij} = \frac{e^{S_{ij}}}{\sum_{j'} e^{S_{ij'}}}, \qquad
#   O_{ic} = \sum_j P_{ij} V_{jc}.$$
#
# The first sum is a matrix product with the second factor transposed, the last one a plain matrix product. So with one
# query, key and value in each row of $Q$, $K$ and $V$, the three lines are one formula:
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt{d_k}}\right) V$$
#
# One of the two articles states it so, and so does the paper that it comes from (Vaswani et al. 2017, *Attention Is All
# You Need*, equation 1). In *self-attention* queries, keys and values are all computed from the same positions.
#
# The shapes, for $T_q = 3$ queries, $T_k = 5$ keys, $d_k = 4$ and values of width $d_v = 2$:

# %%
q, k, v, o = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3]
matrices_figure(
    [
        [("Q", (3, 4), q), "·", ("Kᵀ", (4, 5), k), "=", ("scores S·√dₖ", (3, 5), None)],
        ["softmax of each row of S  →", ("P", (3, 5), None), "·", ("V", (5, 2), v), "=", ("O", (3, 2), o)],
    ]
)

# %% [markdown]
# A row of $P$ belongs to one query and sums to 1; a column belongs to one key. $P$ has as many columns as $V$ has rows,
# the number of keys: that is what makes the product $PV$ possible. In NumPy the formula is three lines.


# %%
def attention(Q, K, V):
    S = Q @ K.T / math.sqrt(Q.shape[-1])  # (Tq, Tk)
    e = np.exp(S - S.max(axis=-1, keepdims=True))
    P = e / e.sum(axis=-1, keepdims=True)  # (Tq, Tk), each row sums to 1
    return P @ V, P  # (Tq, Dv), (Tq, Tk)


# %% tags=["deterministic"]
rng = np.random.default_rng(1)
Q, K, V = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 2))
O, P = attention(Q, K, V)
ours = F.scaled_dot_product_attention(Tensor(Q), Tensor(K), Tensor(V))
print("rows of P sum to", P.sum(axis=1).round(6))
print("largest difference from minilm's attention below 1e-12:", bool(np.abs(O - ours.numpy()).max() < 1e-12))

# %% [markdown]
# ### Why divide by the square root of $d_k$?
#
# Let the elements of $q$ and $k$ be independent, with mean 0 and variance 1. Each product $q_d k_d$ then has mean 0 and
# variance $E[q_d^2]\,E[k_d^2] = 1$, and variances of independent terms add:
#
# $$\mathrm{Var}(q \cdot k) = \sum_{d=1}^{d_k} \mathrm{Var}(q_d k_d) = d_k .$$
#
# So scores grow as $\sqrt{d_k}$. Differences of scores become large, and since the ratio of two weights is the
# exponential of the difference, one key takes all the weight: softmax turns into a hard choice, whose derivative is
# zero almost everywhere, and nothing is learned. Dividing by $\sqrt{d_k}$ brings the variance back to 1, whatever the
# width.

# %%
widths = 4 ** np.arange(0, 6)
largest = {"scores q·k": [], "scores q·k / √dₖ": []}
for d in widths:
    Q, K = rng.normal(size=(400, d)), rng.normal(size=(16, d))
    for name, scale in zip(largest, (math.sqrt(d), 1.0), strict=True):
        _, P = attention(Q * scale, K, np.eye(16))
        largest[name].append(P.max(axis=1).mean())

figure = new_figure()
figure.set_size_inches(7, 3)
axes = figure.add_subplot()
for (name, values), colour, marker in zip(largest.items(), (COLOURS[1], COLOURS[0]), "so", strict=True):
    axes.plot(widths, values, color=colour, marker=marker, label=name)
axes.axhline(1 / 16, color="#555555", linestyle="--", linewidth=1, label="all 16 keys alike")
axes.set_xscale("log", base=2)
axes.set(xlabel="width dₖ of queries and keys", ylabel="largest weight, mean", ylim=(0, 1.05))
axes.legend(frameon=False, fontsize=9)
figure

# %% [markdown]
# ## 5. The wrong formula
#
# The other article writes the last step as a division:
#
# $$\text{(wrong)}\qquad \mathrm{Attention}(Q, K, V) = \frac{\mathrm{softmax}(QK^\top/\sqrt{d_k})}{V}$$
#
# It is not a matter of notation. Four simple tests refute it:
#
# 1. **Shapes.** $P$ is $(T_q, T_k)$ and $V$ is $(T_k, d_v)$: an elementwise division of the two does not exist, unless
#    the sizes happen to agree. And the result should be $(T_q, d_v)$.
# 2. **A zero in $V$** would give an infinite output. Values are arbitrary numbers, zero among them.
# 3. **Scale.** Doubling what is handed over should double what arrives. Division halves it.
# 4. **A single key.** Its weight is 1, so the output must be its value $v$, not $1/v$.

# %% tags=["deterministic"]
Q, K, V = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 2))
O, P = attention(Q, K, V)
try:
    P / V
except ValueError as error:
    print("1. shapes:", error)
with np.errstate(divide="ignore"):
    print("2. a zero:", 1.0 / np.array([0.0, 1.0]))
doubled, _ = attention(Q, K, 2 * V)
print("3. the right formula, V doubled: output times", np.unique((doubled / O).round(9)))
one, _ = attention(Q, K[:1], V[:1])
print("4. the right formula, one key: output is its value:", bool(np.allclose(one, V[0])))

# %% [markdown]
# What has gone wrong in the article is probably one lost character: $\mathrm{softmax}(\cdot)\,V$ became
# $\mathrm{softmax}(\cdot)/V$.

# %% [markdown]
# ## 6. The worked example, computed both ways
#
# The article then computes an example, with $Q = [1, 0, 1]$, $K = [1, 1, 0]$, $V = [0, 1, 1]$ and $\sqrt{1}$ under the
# scores, and reports the result $\frac13 [1, 1, 1]$. It does not say what the three numbers are: one vector of width 3,
# or three positions of width 1. Take both readings in turn.
#
# **First reading: one query, one key, width 3.** The only score is
# $q \cdot k = 1\cdot1 + 0\cdot1 + 1\cdot0 = 1$. (The width is 3, so it should be divided by $\sqrt3$, not by $\sqrt1$;
# it makes no difference, as we now see.) Softmax over a single score is $e^s / e^s = 1$ for every $s$. The output is
# $1 \cdot V = [0, 1, 1]$.

# %% tags=["deterministic"]
Q, K, V = np.array([1.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0])
O, P = attention(Q[None, :], K[None, :], V[None, :])  # (1, 3) each
print("weights", P.tolist(), "  output", O.tolist())

# %% [markdown]
# **Second reading: three positions of width 1.** Now $d_k = 1$, which fits the article's $\sqrt1$. The scores are
# $S_{ij} = Q_i K_j$:
#
# $$S = \begin{bmatrix} 1 & 1 & 0 \\ 0 & 0 & 0 \\ 1 & 1 & 0 \end{bmatrix}$$
#
# *Row 1.* The exponentials are $e, e, 1$ and sum to $2e + 1$, so the weights are
# $\frac{e}{2e+1}, \frac{e}{2e+1}, \frac{1}{2e+1}$. With $V = [0, 1, 1]$ the output is the second weight plus the third:
#
# $$O_1 = \frac{e + 1}{2e + 1} = 0.5777\ldots$$
#
# *Row 2.* All scores are 0, all weights are $\frac13$, and $O_2 = \frac13 + \frac13 = \frac23$.
#
# *Row 3* is row 1 again, since the first and third query are equal.

# %% tags=["deterministic"]
O, P = attention(Q[:, None], K[:, None], V[:, None])  # (3, 1) each
e = math.e
print("by hand ", [round(value, 4) for value in ((e + 1) / (2 * e + 1), 2 / 3, (e + 1) / (2 * e + 1))])
print("computed", O[:, 0].round(4).tolist())
ours = F.scaled_dot_product_attention(*(Tensor(a[:, None]) for a in (Q, K, V)))
print("minilm  ", ours.numpy()[:, 0].round(4).tolist())

# %%
column = lambda a: a[:, None]  # noqa: E731
matrices_figure(
    [
        [("Q", column(Q), q), "·", ("Kᵀ", K[None, :], k), "=", ("S", column(Q) * K, None)],
        ["softmax of each row  →", ("P", P, None), "·", ("V", column(V), v), "=", ("O", O, o)],
    ],
    cell=0.55,
    digits=4,
)

# %% [markdown]
# Neither reading gives $\frac13[1, 1, 1]$. The picture shows where the printed result may come from: it is the second
# row of $P$. The second query is zero, and so are its scores: it weighs the three keys equally. That row holds
# *weights*, before the values enter, and it belongs to one of three queries. And with the article's own division by $V$
# the example has no finite result at all, because the first value is 0:

# %% tags=["deterministic"]
with np.errstate(divide="ignore"):
    print("first reading, divided: ", (np.ones(3) / V).tolist())
    print("second reading, divided:", (P / V[None, :]).round(4).tolist()[1], "(second row)")

# %% [markdown]
# ## 7. Metrics
#
# The articles name four.
#
# | metric | question | how it is counted |
# |---|---|---|
# | perplexity | how uncertain is the model about real text? | section 2 |
# | accuracy | what share of the answers is right? (classification) | right answers / all answers |
# | BLEU | how much of the output stands in the reference? (translation) | precision of n-grams, times a penalty for short outputs |
# | ROUGE | how much of the reference stands in the output? (summaries) | recall of n-grams |
#
# BLEU and ROUGE count *n-grams*, runs of $n$ tokens. With $n = 1$, the output "the cat sat" and the reference "the cat
# sat on the mat": all 3 of its words stand in the reference (precision 1), and 3 of the reference's 6 words stand in
# the output (recall one half). Precision alone would reward an output of one safe word; therefore BLEU multiplies by
# the *brevity penalty* $\exp(1 - r/c)$ if the output's length $c$ is less than the reference's length $r$.

# %% tags=["deterministic"]
output, reference = "the cat sat".split(), "the cat sat on the mat".split()
common = sum(min(output.count(word), reference.count(word)) for word in set(output))
precision, recall = common / len(output), common / len(reference)
penalty = math.exp(1 - len(reference) / len(output))
print(f"precision {precision:.4f}, brevity penalty {penalty:.4f}, BLEU with n = 1: {precision * penalty:.4f}")
print(f"recall (ROUGE-1) {recall:.4f}")

answers, labels = np.array([1, 0, 1, 1]), np.array([1, 0, 0, 1])
print(f"accuracy {np.mean(answers == labels):.4f}")

# %% [markdown]
# [Chapter 12](12_how_good.ipynb) computes each in full, by hand and with the libraries that set the standard.

# %% [markdown]
# ## 8. The first program: an LSTM language model
#
# One article prints a language model in PyTorch: an embedding of 1000 words in 100 channels, two LSTM layers of width
# 100, a linear layer (a product with a matrix of parameters) on the last step, Adam with learning rate `0.001`,
# cross-entropy, 100 epochs over a CSV file. An *LSTM* is a network that reads one word after the other and carries
# arrays along, its *hidden state*; [chapter 6](06_ngram_to_lstm.ipynb) derives it. *Cross-entropy* is the loss of
# section 2, computed from logits. *Adam* is a rule for the steps of training (chapter 6 again), and the *learning rate*
# sets how long they are. An *epoch* is one pass over the text. The program cannot run today, and could not quite run
# then:
#
# | what the program does | what happens | the corrected version |
# |---|---|---|
# | reads data with torchtext's `Field` and `TabularDataset` | they were removed from torchtext | `read_documents(path, text_column="text")` |
# | uses `layer_dim` where the hidden state is made | `NameError`: only the constructor knew it | kept as `self.layer_dim` |
# | makes a hidden state for batch size 1 | refused for every other batch | the batch's size is passed |
# | gives the target a second axis | cross-entropy refuses it | one id for each row |
# | takes one argmax over the whole batch | one number instead of one prediction a row | `argmax(axis=-1)` |
#
# The last three can be shown with minilm's layers, which refuse the same things and say why.


# %%
def refused(call):
    try:
        call()
    except (ValueError, NameError) as error:
        print(f"{type(error).__name__}: {error}\n")


# %% tags=["deterministic"]
lstm = nn.LSTM(100, 100, num_layers=2)
words = Tensor(np.zeros((32, 20, 100), dtype="float32"))  # a batch of 32 texts, 20 words, 100 channels
state = Tensor(np.zeros((2, 1, 100), dtype="float32"))  # (layers, 1, width): for a batch of one text
refused(lambda: lstm(words, (state, state)))

logits = Tensor(np.zeros((32, 1000), dtype="float32"))  # (B, V)
refused(lambda: F.cross_entropy(logits, np.zeros((32, 1), dtype="int64")))

array = logits.numpy()
print("shape of one argmax over the batch:", np.shape(array.argmax()), " of one a row:", array.argmax(axis=-1).shape)

# %% [markdown]
# The working version has the same sizes, and a comment at each place where the original went wrong:
# [examples/documents_lstm.py](../examples/documents_lstm.py).

# %%
sys.path.insert(0, str(Path("../examples").resolve()))
import documents_lstm  # noqa: E402

source(documents_lstm.LSTMLanguageModel, documents_lstm.evaluate)

# %% [markdown]
# Before training it should know nothing: a loss of about $\log 1000$, the loss of equal probabilities for 1000 words.

# %% tags=["deterministic"]
minilm.manual_seed(0)
model = documents_lstm.LSTMLanguageModel(1000, 100, 100, 2)
ids = np.random.default_rng(0).integers(0, 1000, (32, 21))
loss = F.cross_entropy(model(ids[:, :-1]), ids[:, -1])
print("parameters:", sum(p.size for p in model.parameters()))
print(f"loss before training: {loss.item():.1f}; log 1000 = {math.log(1000):.1f}")

# %% [markdown]
# ## 9. The second program: fine-tuning
#
# The other program fine-tunes a published model, "bert-base-uncased" with a new layer for classification on top, with
# Hugging Face's trainer. In minilm it is the same few lines. A stand-in for the model and for the reviews makes them
# run here: a BERT with one small layer, and texts of eight random words, in which word 0 or word 1 tells the class.


# %%
def reviews(n, seed):
    rng = np.random.default_rng(seed)
    ids, labels = rng.integers(2, 20, (n, 8)), rng.integers(0, 2, n)
    ids[np.arange(n), rng.integers(0, 8, n)] = labels  # one word of each text
    return [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]


minilm.manual_seed(0)
config = BERTConfig(vocab_size=20, block_size=8, n_layer=1, n_head=2, n_embd=32, n_hidden=64, dropout=0.0)
model = BERTForSequenceClassification(config)
train_dataset, eval_dataset = reviews(640, seed=0), reviews(160, seed=1)

# %% tags=["deterministic"]
with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(
        output_dir=folder,
        num_train_epochs=3,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        learning_rate=3e-3,  # not in the article: see below
        progress=False,
    )
    trainer = Trainer(model=model, args=args, train_dataset=train_dataset, eval_dataset=eval_dataset)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
print(f"loss on texts that were not trained on: {before:.1f} before, {trainer.evaluate()['eval_loss']:.1f} after")

# %% [markdown]
# The article's lines are right. What they leave out matters, though:
#
# - The layer on top is *new* and knows nothing before training: the classification is not in the published weights.
# - The texts must be tokenized, with the model's own tokenizer.
# - The default learning rate, `5e-5`, is right for weights that were trained before. For our random ones it is far too
#   small: that is why the cell sets another.
# - With the default settings `train()` never looks at `eval_dataset`, neither here nor in Hugging Face's trainer.
#   Whether three epochs are too many only an evaluation tells, and it has to be asked for: `trainer.evaluate()`, or
#   `eval_strategy="epoch"`.
#
# [Chapter 11](11_bert.ipynb) explains the model, and [chapter 14](14_fine_tuning.ipynb) fine-tunes a published one and
# compares ways to do it.

# %% [markdown]
# ## 10. What else they name, and where it is
#
# | named | here |
# |---|---|
# | PyTorch, TensorFlow (an engine with gradients) | `minilm.tensor`, `functional`, `nn`, `optim`: chapters [1](01_one_scalar.ipynb) to [4](04_how_do_we_know.ipynb) |
# | torchtext, spaCy's tokenization | `minilm.text`: [chapter 5](05_text_to_numbers.ipynb) |
# | "Attention Is All You Need", machine translation | [chapter 8](08_transformer.ipynb), `minilm translate` |
# | GPT, text generation | [chapter 9](09_gpt.ipynb), `minilm sample` |
# | BERT, sentiment analysis | [chapter 11](11_bert.ipynb) |
# | Hugging Face Transformers: published weights and the trainer | [chapter 13](13_real_weights.ipynb) and [14](14_fine_tuning.ipynb) |
# | LaMDA, ChatGPT, chat assistants | `minilm chat`: [chapter 13](13_real_weights.ipynb) |
# | "Language Models are Few-Shot Learners", GPT-3; question answering; summarization | [chapter 14](14_fine_tuning.ipynb), [benchmarks/README.md](../benchmarks/README.md) |
# | the OpenAI API: a hosted endpoint that counts usage | not here yet |
# | the future: smaller and faster models, privacy, bias and fairness | [chapter 18](18_smaller_private_fair.ipynb) |
# | the future: personalization (cheap fine-tuning for one user) | LoRA: [chapter 14](14_fine_tuning.ipynb) |
# | the future: interpretability | attention maps and a logit lens: chapters [7](07_attention.ipynb) and [13](13_real_weights.ipynb) |
# | the future: several modalities (pictures, sound) | not here yet |

# %% [markdown]
# ## Exercises
#
# Fill in a function, take the `#` away from the line that checks it, and run the cell. A checker says what is wrong
# with an answer, not only that it is. Solutions are at the end.
#
# **Exercise 0.1.** Perplexity from the probabilities that a model gave to the tokens of a text. It must also work for a
# text of 2000 tokens, where the product of the probabilities is 0 in floating point.


# %%
def perplexity(probabilities):
    return ...


# check_perplexity(perplexity)

# %% [markdown]
# **Exercise 0.2.** Softmax along the last axis of an array of any shape, for scores of any size.


# %%
def softmax(scores):
    return ...


# check_softmax(softmax)

# %% [markdown]
# **Exercise 0.3.** Attention in two loops, without a matrix product: for each query the weights over all keys, then the
# weighted sum of the values. `Q` is $(T_q, d_k)$, `K` is $(T_k, d_k)$, `V` is $(T_k, d_v)$; return the output
# $(T_q, d_v)$.


# %%
def attention_by_hand(Q, K, V):
    return ...


# check_attention(attention_by_hand)

# %% [markdown]
# **Exercise 0.4.** Keep the example's $Q = [1, 0, 1]$ and $K = [1, 1, 0]$ in the second reading (three positions of
# width 1). Which $V$ would have given the printed result $\frac13[1, 1, 1]$? Find one whose three values are not all
# equal. (How many equations are there, and how many unknowns?)

# %%
V_printed = ...

# check_printed_result(V_printed)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
def perplexity(probabilities):
    return float(np.exp(-np.mean(np.log(probabilities))))  # the logarithm first: no product can underflow


check_perplexity(perplexity)


# %% tags=["solution"]
def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


check_softmax(softmax)


# %% tags=["solution"]
def attention_by_hand(Q, K, V):
    output = np.zeros((len(Q), V.shape[1]))
    for i, query in enumerate(Q):
        weights = softmax(np.array([np.dot(query, key) for key in K]) / math.sqrt(len(query)))
        for j, value in enumerate(V):
            output[i] += weights[j] * value
    return output


check_attention(attention_by_hand)

# %% tags=["solution"]
# The rows of P for the first and third query are equal: two equations for three unknowns.
#   e (V1 + V2) + V3 = (2e + 1) / 3      and      V1 + V2 + V3 = 1
# They hold for V1 + V2 = 2/3 and V3 = 1/3, however the 2/3 are shared: keys 1 and 2 are equal, and so are their weights.
V_printed = np.array([0.0, 2 / 3, 1 / 3])

check_printed_result(V_printed)

# %% [markdown]
# ## What to read next
#
# - [minilm/functional/attention.py](../minilm/functional/attention.py): the formula of section 4 as an operation, with
#   masks and with its derivative. Its tests hold the worked example of section 6:
#   [tests/functional](../tests/functional).
# - [minilm/functional/softmax.py](../minilm/functional/softmax.py): softmax with the largest score taken out.
# - [examples/documents_lstm.py](../examples/documents_lstm.py): the whole corrected program of section 8, and
#   [its test](../tests/examples/test_documents_lstm.py).
# - [Chapter 1](01_one_scalar.ipynb): derivatives, from the beginning.

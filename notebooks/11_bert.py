# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · BERT
#
# **What you will be able to do**
#
# - say why a model that sees both sides cannot be trained to predict the next token, and what it is trained for
#   instead;
# - hide words as BERT does, 80/10/10, and say what each of the three numbers is for;
# - train a small BERT, and measure what it knows by masked accuracy and pseudo-perplexity;
# - fine-tune a classifier from it, and compare with frozen features and with a model that starts from nothing;
# - ask with a linear probe in which layer a property of the text can be read.
#
# **What it needs:** the encoder's block ([chapter 8](08_transformer.ipynb)), WordPiece
# ([chapter 5](05_text_to_numbers.ipynb)), a training loop ([chapter 9](09_gpt.ipynb)).

# %%
import copy
import re
from collections import Counter

import numpy as np
from matplotlib.patches import Rectangle

import minilm
from checks import results
from checks.drawing import blank
from minilm import no_grad
from minilm.evaluation import EachTokenHidden, evaluate_masked_language_model
from minilm.models import BERT, BERTConfig, BERTForMaskedLM, BERTForSequenceClassification
from minilm.optim import AdamW, clip_grad_norm_
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.text import WordPieceTokenizer, load_corpus, mask_tokens

# %% [markdown]
# ## Seeing both sides
#
# A GPT reads from left to right: at each token it sees what stands before. To write, it must be so. To *understand* a
# finished text that is a waste. In *the bank of the river* what *bank* means is said by a word behind it.
#
# The encoder of chapter 8 has no causal mask: every token sees all others. BERT (Devlin et al. 2019) is that encoder
# and nothing else. But what can it be trained for? "Predict the next token" is no task for it: the next token stands
# before its eyes, and to copy it would be enough. So some words are **hidden**, and the model says what they were. For
# that it needs both sides:
#
# > where is my [MASK] , the king ?
#
# The loss is the cross-entropy at the hidden places alone. With the text $x_1 \dots x_T$, the set $\mathcal{H}$ of
# hidden places and $\tilde x$, what is shown:
#
# $$\mathrm{loss} = -\frac{1}{|\mathcal{H}|} \sum_{t \in \mathcal{H}} \log P(x_t \mid \tilde x)$$
#
# ## What goes in
#
# Two tokens are new. `[CLS]` stands at the beginning of every input; it is no word, and its vector in the last layer
# serves as the vector of the whole text. `[SEP]` ends a text. Two texts can be put into one input (a question and a
# paragraph, a sentence and the next one). So that the model can tell them apart, each token has a **segment** $s_t$, 0
# for the first text and 1 for the second. What enters the first block is
#
# $$h^{(0)}_t = \mathrm{norm}\big(W_e[x_t] + W_p[t] + W_s[s_t]\big)$$
#
# with three tables that are trained: $W_e$ $(V, C)$ of tokens, $W_p$ $(T_{\max}, C)$ of positions (chapter 7's learned
# ones) and $W_s$ $(2, C)$ of segments. Then come $L$ blocks as in chapter 8's encoder (norm behind the sum), with
# $\mathrm{gelu}(x) = x\, \Phi(x)$ in place of $\max(0, x)$: $\Phi(x)$ is the probability that a normal random number
# lies below $x$, so gelu is $\max(0, x)$ with its corner rounded off.
#
# For a vocabulary we take the 484 most frequent words and punctuation marks of Shakespeare's plays, and eleven endings
# (`##est` in *know-est*, as WordPiece writes them). A word that cannot be put together from these is `[UNK]`.

# %% tags=["deterministic"]
def sentences(play):
    """The sentences of a play, without the speakers' names."""
    speeches = (" ".join(speech.split("\n")[1:]) for speech in play.split("\n\n"))
    return [sentence.strip() for speech in speeches for sentence in re.findall(r"[^.?!]+[.?!]", speech)]


plays = load_corpus("shakespeare")
train_text = [s for play in plays[:33] for s in sentences(play)]
test_text = [s for play in plays[33:] for s in sentences(play)]
counts = Counter(word for s in train_text for word in re.findall(r"[a-z]+|[^\w\s]", s.lower()))
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
endings = ["##s", "##st", "##est", "##eth", "##th", "##ed", "##d", "##ing", "##ly", "##er", "##es"]
words = sorted(counts, key=lambda word: (-counts[word], word))[: 500 - len(special) - len(endings)]
tokenizer = WordPieceTokenizer([*special, *endings, *words])
PAD, UNK, CLS, SEP, MASK = tokenizer.special_tokens.values()


def encoded(texts):
    """[CLS] sentence [SEP] of those with 4 to 12 tokens, of which at most one is unknown."""
    ids = map(tokenizer.encode, texts)
    return [tokenizer.pair(row).input_ids for row in ids if 4 <= len(row) <= 12 and (row == UNK).sum() <= 1]


train, test = encoded(train_text), encoded(test_text)
print(f"{len(words)} words, vocabulary {tokenizer.vocab_size}; {len(train):,} sentences of 33 plays, {len(test):,} of 5 others")
pair = tokenizer.pair(tokenizer.encode("Where is my lord?"), tokenizer.encode("Thou knowest not."))
for name, row in (("token", [tokenizer.tokens[i] for i in pair.input_ids]), ("position", range(len(pair.input_ids))),
                  ("segment", pair.token_type_ids)):  # fmt: skip
    print(f"{name:9}", *(f"{value!s:>6}" for value in row))

# %% [markdown]
# The published BERT had a second task on such pairs: does the second sentence follow the first one in the text, or is
# it from elsewhere? (*Next-sentence prediction*, from the vector of `[CLS]`; `minilm.text.next_sentence_examples` makes
# the pairs.) Liu et al. (2019) found that without it the model is as good or better. We leave it out.
#
# ## Hiding: 80, 10, 10
#
# Each token is chosen with the probability $0.15$. A chosen token becomes
#
# - `[MASK]` with probability 0.8;
# - **another token**, drawn at random, with probability 0.1;
# - **what it was**, with probability 0.1.
#
# In all three cases its label is the true token; a token that was not chosen has none (`-100`, which the loss leaves
# out). Why so complicated? Were it `[MASK]` always, the model could learn: *only where [MASK] stands is there something
# to do*, and nobody would ask for what it computes at the other tokens. But in the task for which we want it later
# there is no `[MASK]`: these other tokens are all that counts.
#
# So among the tokens that are not `[MASK]` a few must be wrong, and nobody may say which. How many? Let $r = 0.15$ be
# the share that is chosen. A share $r \cdot 0.8$ of all tokens becomes `[MASK]`, and $r \cdot 0.1$ is replaced. Of a
# token that is *not* `[MASK]` the probability to be wrong is
#
# $$P(\text{wrong} \mid \text{not [MASK]}) = \frac{0.1\, r}{1 - 0.8\, r}$$
#
# Small, but not zero: the model has to check each token against its surroundings. The last 10 % see to it that it does
# not conclude "a token that I am asked for is never what stands there".

# %% tags=["deterministic"]
ids = np.concatenate(train)
shown, labels = mask_tokens(ids, minilm.Generator(0), MASK, tokenizer.vocab_size, never=tokenizer.special_tokens.values())
may, chosen = ~np.isin(ids, list(tokenizer.special_tokens.values())), labels != -100
masked, kept = chosen & (shown == MASK), chosen & (shown == ids)
replaced = chosen & ~masked & ~kept
print(f"of {may.sum():,} tokens {chosen.sum() / may.sum():.3f} are chosen; of these")
for name, which in (("[MASK]", masked), ("another token", replaced), ("what it was", kept)):
    print(f"   {name:14} {which.sum() / chosen.sum():.3f}")
print(f"not [MASK], and wrong: {replaced.sum() / (may & ~masked).sum():.4f}; by the formula {0.015 / 0.88:.4f}")

# %%
rows, row = 7, next(row for row in train if len(row) == 12 and UNK not in row)
figure, axes = blank(7.0, 2.6)
generator = minilm.Generator(7)
for r in range(rows):
    shown, labels = mask_tokens(row, generator, MASK, tokenizer.vocab_size, never=tokenizer.special_tokens.values())
    for t, token in enumerate(shown):
        x, y = 0.12 + 0.565 * t, 2.2 - 0.3 * r
        hidden = labels[t] != -100
        colour = "white" if not hidden else COLOURS[0] if token == MASK else COLOURS[1] if token != row[t] else COLOURS[2]
        axes.add_patch(Rectangle((x, y), 0.54, 0.26, facecolor=colour, alpha=0.45, edgecolor="none"))
        axes.add_patch(Rectangle((x, y), 0.54, 0.26, fill=False, edgecolor="#cccccc", linewidth=0.7))
        axes.text(x + 0.27, y + 0.13, tokenizer.tokens[token], ha="center", va="center", fontsize=7.5)
for x, colour, name in ((0.15, COLOURS[0], "[MASK]"), (1.25, COLOURS[1], "another token"), (2.75, COLOURS[2], "what it was")):
    axes.add_patch(Rectangle((x, 0.08), 0.2, 0.16, facecolor=colour, alpha=0.45))
    axes.text(x + 0.28, 0.16, name, va="center", fontsize=9)
axes.text(6.85, 0.16, "the same sentence in seven epochs", ha="right", va="center", fontsize=9, color=GREY)
figure

# %% [markdown]
# ## Training one
#
# The score of each token of the vocabulary at a place comes from its vector $h^{(L)}_t$ through one more small layer,
# and then from the table of embeddings, as in chapters 8 and 9, with a bias for each token:
#
# $$\mathrm{logits}_t = W_e\, \mathrm{norm}\big(\mathrm{gelu}(h^{(L)}_t W + b)\big) + b_V, \qquad W: (C, C)$$
#
# Ours has three blocks and 64 channels. One thing is not as published: BERT draws its weights with the standard
# deviation $0.02$, for 768 channels. A sum of $C$ terms has the size of one term times $\sqrt{C}$ (chapter 7), so with
# 64 channels the queries, keys and scores would all begin near zero. We draw the weights four times as large.

# %%
config = BERTConfig(vocab_size=tokenizer.vocab_size, block_size=14, n_layer=3, n_head=4, n_embd=64, n_hidden=256, dropout=0.0)


def larger(model):
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.mul_(4.0)
    return model


minilm.manual_seed(0)
with no_grad():
    model = larger(BERTForMaskedLM(config, BERT(config)))
print(f"{model.num_parameters():,} parameters")

# %% [markdown]
# What is there to beat? The *unigram* model gives each token the probability with which it occurs, whatever stands
# beside it. And a fresh model should be near $\log V$ (chapter 9).
#
# Beside the loss we measure two things, on plays that it has not read. **Masked accuracy**: for how many of the chosen
# tokens is the most probable token the right one? And **pseudo-perplexity** (Salazar et al. 2020). *Perplexity* is $e$
# to the mean loss: who guesses evenly among $n$ tokens has the perplexity $n$ (chapter 12). BERT gives no probability
# of a text, only of one token when all others are known. So hide each token once, alone, and take
#
# $$\mathrm{PPPL} = \exp\Big(-\frac{1}{N} \sum_{t=1}^{N}
# \log P\big(x_t \mid x_1, \dots, x_{t-1}, \text{[MASK]}, x_{t+1}, \dots, x_T\big)\Big)$$
#
# over the $N$ tokens of the text. It costs a row of a forward pass for each token, where a GPT reads a text once.

# %%
def batch_of(rows, **others):
    T = max(map(len, rows))
    ids = np.array([np.pad(row, (0, T - len(row)), constant_values=PAD) for row in rows])  # (B, T)
    return {"input_ids": ids, "attention_mask": ids != PAD, **others}  # True takes part


held_out = batch_of(test[:500])
true = held_out["input_ids"].copy()
held_out["input_ids"], held_out["labels"] = mask_tokens(
    true, minilm.Generator(1), MASK, tokenizer.vocab_size, tokenizer.special_tokens.values()
)
whole = [row[1:-1] for row in test[500:600] if UNK not in row]  # without [CLS] and [SEP]
each_hidden = EachTokenHidden(whole, batch_size=64, block_size=14, mask_id=MASK, cls_id=CLS, sep_id=SEP)


def measure(model):
    """Masked loss, masked accuracy, pseudo-perplexity."""
    with no_grad():
        logits = model.eval()(held_out["input_ids"], held_out["attention_mask"])[0].numpy()  # [1] would be for pairs
        loss = model.loss(held_out).item()
    chosen = held_out["labels"] != -100
    right = (logits.argmax(-1) == held_out["labels"])[chosen].mean()
    pppl = evaluate_masked_language_model(model, each_hidden).perplexity
    model.train()
    return loss, right, pppl


frequency = np.bincount(np.concatenate(train), minlength=tokenizer.vocab_size).astype(float)
frequency[list(tokenizer.special_tokens.values())] = 0
frequency /= frequency.sum()
targets = held_out["labels"][held_out["labels"] != -100]
unigram_loss = -np.log(np.maximum(frequency[targets], 1e-7)).mean()
print(f"{'':16}{'loss':>7}{'accuracy':>10}{'pseudo-perplexity':>19}")
unigram_pppl = np.exp(-np.log(np.maximum(frequency[np.concatenate(whole)], 1e-7)).mean())
print(f"{'unigram':16}{unigram_loss:7.2f}{(targets == frequency.argmax()).mean():10.1%}{unigram_pppl:19.0f}")
before = measure(model)
print(f"{'before training':16}{before[0]:7.2f}{before[1]:10.1%}{before[2]:19.0f}     log V = {np.log(tokenizer.vocab_size):.2f}")

# %% [markdown]
# The fresh model is near $\log V$, as it should be. Now the training. Sentences of the same length go together, 64 in a
# batch, and each time that one comes round other words are hidden.

# %%
STEPS, rng, generator = 420, np.random.default_rng(0), minilm.Generator(3)
by_length = [np.array([row for row in train if len(row) == T]) for T in range(6, 15)]
batches = [rows[i : i + 64] for rows in by_length for i in range(0, len(rows) - 63, 64)]
optimizer = AdamW(model.named_parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
curve = []
while len(curve) < STEPS:
    for number in rng.permutation(len(batches))[: STEPS - len(curve)]:
        ids, labels = mask_tokens(
            batches[number], generator, MASK, tokenizer.vocab_size, tokenizer.special_tokens.values()
        )
        step = len(curve)
        optimizer.scale_lr(min(1.0, (step + 1) / 60) * (1.02 - step / STEPS))  # warm-up, then a straight line to 0
        loss = model.loss({"input_ids": ids, "labels": labels})
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.zero_grad()
        curve.append(loss.item())
after = measure(model)
model.eval()
print(f"{'':16}{'loss':>7}{'accuracy':>10}{'pseudo-perplexity':>19}")
for name, row in (("before training", before), ("after", after)):
    print(f"{name:16}{row[0]:7.2f}{row[1]:10.1%}{row[2]:19.0f}")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.6)
axes = figure.subplots()
axes.plot(range(1, STEPS + 1), curve, color=COLOURS[0], alpha=0.3, label="training, each batch")
smooth = np.convolve(curve, np.ones(25) / 25, mode="valid")
axes.plot(np.arange(13, 13 + len(smooth)), smooth, color=COLOURS[0], label="mean of 25")
axes.axhline(unigram_loss, color=GREY, linestyle="--", linewidth=1)
axes.text(STEPS, unigram_loss + 0.06, "unigram", ha="right", fontsize=9, color=GREY)
axes.plot(STEPS, after[0], "D", color=COLOURS[1], label="held out, at the end")
axes.set(xlabel="step", ylabel="loss at hidden places (nats)", ylim=(3, 7))
axes.legend(frameon=False, fontsize=9)
figure

# %% [markdown]
# Only one token in seven gives a loss, where a GPT has one at every position: that is the price of seeing both sides.
# In these few seconds the model has learnt a little of what stands near what. Let us ask it. Below each word are the
# three most probable tokens when that word alone is hidden; green is right.

# %%
def guesses(row):
    """(N, V): for each token between [CLS] and [SEP] the probabilities of all tokens, when it alone is hidden."""
    places = np.arange(1, len(row) - 1)
    ids = np.repeat(row[None], len(places), axis=0)
    ids[np.arange(len(places)), places] = MASK
    with no_grad():
        logits = model(ids)[0].numpy()[np.arange(len(places)), places]
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


texts = ["What is the matter?", "My lord, I will not.", "I know not what to say.", "Where is the king?"]
figure, axes = blank(7.0, 3.5)
for r, text in enumerate(texts):
    row = tokenizer.pair(tokenizer.encode(text)).input_ids
    for t, p in enumerate(guesses(row)):
        x, y = 0.5 + t, 3.3 - 0.88 * r
        axes.text(x, y, tokenizer.tokens[row[t + 1]], ha="center", fontsize=10, weight="bold")
        for rank, token in enumerate(np.argsort(-p)[:3]):
            colour = COLOURS[2] if token == row[t + 1] else GREY
            axes.text(x, y - 0.19 - 0.17 * rank, f"{tokenizer.tokens[token]} {p[token]:.2f}", ha="center", fontsize=8, color=colour)
figure

# %% [markdown]
# ## A question without its mark
#
# Look at the marks: it knows that *what* and *where* go with a question mark, and falls for *I know not what to say*.
# So hide the mark at the end of a sentence, and compare what the model gives to `?` and to `.`. That is a classifier,
# question or statement, for which nobody wrote a label. It is called **zero-shot**:

# %%
QUESTION, STOP = tokenizer.encode("?")[0], tokenizer.encode(".")[0]


def marks_hidden(rows):
    """Sentences that end in ? or ., with the mark hidden; and 1 for questions."""
    rows = [row for row in rows if row[-2] in (QUESTION, STOP)]
    labels = np.array([int(row[-2] == QUESTION) for row in rows])
    return [np.append(row[:-2], [MASK, SEP]) for row in rows], labels


train_rows, train_labels = marks_hidden(train)
test_rows, test_labels = marks_hidden(test)
examined = batch_of(test_rows[:1000])
answers = test_labels[:1000]
end = np.array([len(row) - 2 for row in test_rows[:1000]])  # where the mark stood
with no_grad():
    logits = model(examined["input_ids"], examined["attention_mask"])[0].numpy()[np.arange(1000), end]
zero_shot = ((logits[:, QUESTION] > logits[:, STOP]) == answers).mean()
always = max(answers.mean(), 1 - answers.mean())
print(f"always 'statement': {always:.1%} right;  zero-shot: {zero_shot:.1%}")

# %% [markdown]
# ## Fine-tuning
#
# For most tasks there is no such trick. Then a new layer, the **head**, is put on top of `[CLS]`, and the whole network
# is trained on labelled examples, starting from what it knows. With $h^{(L)}_1$, the vector at `[CLS]` after the last
# block, and $K$ classes:
#
# $$\mathrm{pooled} = \tanh\big(h^{(L)}_1 W_h + b_h\big), \qquad
# \mathrm{logits} = \mathrm{pooled}\, W_c + b_c, \qquad W_c: (C, K)$$
#
# Labels are what is dear. So we ask: with only 40, 120 or 400 labelled sentences, how good can question against
# statement become? Three ways:
#
# - **fine-tuning**: all weights, from the pre-trained ones;
# - **from nothing**: the same network and the same examples, but fresh weights;
# - **frozen features**: the pre-trained weights stay as they are, and a linear classifier is fitted to the vectors at
#   `[CLS]`.

# %%
def fine_tuned(bert, N, rate, steps=40):
    """Accuracy on the test sentences after training on the first N labelled ones, 20 a step."""
    minilm.manual_seed(1)
    classifier = BERTForSequenceClassification(config, bert)
    optimizer = AdamW(classifier.named_parameters(), lr=rate, weight_decay=0.01)
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(N) for _ in range(20 * steps // N + 1)])  # as many passes as it takes
    for step in range(steps):
        chosen = order[20 * step : 20 * step + 20]
        optimizer.scale_lr(min(1.0, (step + 1) / 10) * (1 - step / steps))
        loss = classifier.loss(batch_of([train_rows[i] for i in chosen], labels=train_labels[chosen]))
        loss.backward()
        optimizer.step()
        classifier.zero_grad()
    with no_grad():
        logits = classifier.eval()(examined["input_ids"], examined["attention_mask"]).numpy()
    return (logits.argmax(axis=1) == answers).mean()


def fresh():
    minilm.manual_seed(2)
    with no_grad():
        return larger(BERT(config))


sizes = [40, 120, 400]
full = [fine_tuned(copy.deepcopy(model.bert), N, rate=1e-3) for N in sizes]
nothing = [fine_tuned(fresh(), N, rate=3e-3) for N in sizes]  # fresh weights have further to go

# %% [markdown]
# The linear classifier for the frozen features needs no gradient descent. With the vectors as rows of $X$ $(N, C)$ (and
# a column of ones for the bias), $y_n = +1$ for a question and $-1$ otherwise, and weights $a_n$ that make both classes
# count the same, minimize
#
# $$\sum_{n=1}^{N} a_n\, (x_n \cdot w - y_n)^2 + \lambda\, |w|^2$$
#
# (*Ridge regression*; $\lambda$ keeps $w$ small where there are fewer examples than channels.) The gradient is zero
# where $X^\top A X\, w + \lambda w = X^\top A\, y$, with $A$ the diagonal matrix of the $a_n$: one system of linear
# equations. We say question where $x \cdot w > 0$.
#
# To get at the vectors, `layers` hangs a *hook* on each block: a function that is called with what goes in and what
# comes out.

# %%
def linear_classifier(X, labels, lam=1.0):
    """w, from ridge regression in which both classes weigh the same."""
    X = np.column_stack([X, np.ones(len(X))]).astype("float64")
    a = np.where(labels == 1, 0.5 / (labels == 1).mean(), 0.5 / (labels == 0).mean())
    y = 2.0 * labels - 1
    return np.linalg.solve(X.T @ (a[:, None] * X) + lam * np.eye(X.shape[1]), X.T @ (a * y))


def says(w, X):
    return (np.column_stack([X, np.ones(len(X))]) @ w > 0).astype(int)


def layers(bert, batch):
    """h (B, T, C) before the first block and after each."""
    found = []
    first = bert.blocks[0].register_forward_hook(lambda block, inputs, h: found.append(inputs[0].numpy()))
    removers = [first, *(b.register_forward_hook(lambda block, inputs, h: found.append(h.numpy())) for b in bert.blocks)]
    with no_grad():
        bert(batch["input_ids"], batch["attention_mask"])
    for remove in removers:
        remove()
    return found


features, test_features = (layers(model.bert, b)[-1][:, 0] for b in (batch_of(train_rows[:400]), examined))
frozen = [(says(linear_classifier(features[:N], train_labels[:N]), test_features) == answers).mean() for N in sizes]

figure = new_figure()
figure.set_size_inches(7, 2.9)
axes = figure.subplots()
for shift, (name, values) in zip((-0.26, 0, 0.26), {"fine-tuning": full, "frozen features": frozen, "from nothing": nothing}.items()):
    bars = axes.bar(np.arange(3) + shift, values, 0.24, label=name, color=COLOURS[round(2 * shift / 0.52 + 1)])
    axes.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=8, color="white", padding=-12)
for level, name in ((always, "always 'statement'"), (zero_shot, "zero-shot")):
    axes.axhline(level, color=GREY, linestyle="--", linewidth=1)
    axes.text(2.75, level + 0.008, name, fontsize=8, color=GREY)
axes.set(xticks=range(3), xticklabels=sizes, xlabel="labelled sentences", ylabel="accuracy", ylim=(0.5, 1), xlim=(-0.5, 3.45))
axes.legend(frameon=False, fontsize=9, ncols=3, loc="upper left")
figure

# %% [markdown]
# From nothing, 40 or 120 examples teach no more than which class is the more frequent one; with 400 it begins to learn
# the task. The pre-trained model has read thousands of sentences without a label, and the few examples have only to
# tell it which of the things that it knows is wanted. Frozen features keep up while there are few examples, and fall
# behind with more: not all that the task needs is in the vector at `[CLS]`, of which pre-training never asked anything.
# Fine-tuning brings it there.
#
# Note the upper dashed line. The hidden mark, without any label, is as good as fine-tuning here, since the task is
# almost the one that the model was trained for. That is rare.
#
# ## What the layers know
#
# Where in the network is that knowledge? A **probe** (Alain & Bengio 2017) is a linear classifier on the vectors of one
# layer. If a property can be read off by a weighted sum of channels, the layer has made it explicit. We ask three
# things of each layer, from 0 (embeddings) to 3:
#
# - at a word that is shown, beside a `[MASK]`: **is it a pronoun** (*I, you, thou, him, ...*)? For that it has only to
#   remember what it read.
# - at the `[MASK]`: **was a pronoun hidden here**? For that it must look at the neighbours.
# - at the `[MASK]` in the place of the last mark: **is the sentence a question**? For that it must look far.
#
# And a control, without which a probe says little: the same on a network with random weights. A linear classifier on
# random mixtures of what stands in the sentence already finds something, and only what is *above* that has been learnt.
# We report the mean of the accuracies of both classes, so that guessing is 0.5 whatever the classes' sizes.

# %%
PRONOUNS = [tokenizer.encode(word)[0] for word in "i you he she we they thou it me him her us them thee".split()]


def word_examples(rows, seed):
    """A batch in which one word of each sentence is hidden; its place, another place, and the two answers."""
    rng = np.random.default_rng(seed)
    hidden = np.array([rng.integers(1, len(row) - 2) for row in rows])
    other = np.array([h + 1 if h + 1 < len(row) - 2 else h - 1 for h, row in zip(hidden, rows, strict=True)])
    other = np.where(other == 0, hidden + 1, other)
    batch, every = batch_of(rows), np.arange(len(rows))
    was, seen = batch["input_ids"][every, hidden], batch["input_ids"][every, other]
    batch["input_ids"][every, hidden] = MASK
    return batch, hidden, other, np.isin(was, PRONOUNS).astype(int), np.isin(seen, PRONOUNS).astype(int)


def probe(H, labels, H_test, labels_test):
    right = says(linear_classifier(H, labels), H_test) == labels_test
    return (right[labels_test == 1].mean() + right[labels_test == 0].mean()) / 2


def all_probes(bert, N=1500):
    found = {"the word itself: a pronoun?": [], "the hidden word: a pronoun?": [], "the sentence: a question?": []}
    fit, check = word_examples(train_rows[:N], 0), word_examples(test_rows[:1000], 1)
    marks = batch_of(train_rows[:N])
    ends = np.array([len(row) - 2 for row in train_rows[:N]])
    every, every_test = np.arange(N), np.arange(1000)
    H, H_test, M, M_test = (layers(bert, b) for b in (fit[0], check[0], marks, examined))
    word, hidden, question = found.values()
    for l in range(config.n_layer + 1):
        word.append(probe(H[l][every, fit[2]], fit[4], H_test[l][every_test, check[2]], check[4]))
        hidden.append(probe(H[l][every, fit[1]], fit[3], H_test[l][every_test, check[1]], check[3]))
        question.append(probe(M[l][every, ends], train_labels[:N], M_test[l][every_test, end], answers))
    return found


known, control = all_probes(model.bert), all_probes(fresh().eval())

# %%
figure = new_figure()
figure.set_size_inches(7, 2.8)
for axes, name, colour in zip(figure.subplots(1, 3, sharey=True), known, COLOURS, strict=False):
    axes.plot(range(4), known[name], "o-", color=colour, label="pre-trained")
    axes.plot(range(4), control[name], "s--", color=GREY, markersize=4, label="random weights")
    axes.axhline(0.5, color="#bbbbbb", linewidth=1)
    axes.set_title(name, fontsize=9)
    axes.set(xticks=range(4), xlabel="layer", ylim=(0.45, 1.02))
    axes.grid(color="#eeeeee")
figure.axes[0].set_ylabel("accuracy of the probe")
figure.axes[0].legend(frameon=False, fontsize=8, loc="center left")
figure

# %% [markdown]
# Layer 0 knows the word that stands there and its position, and nothing else; so of a `[MASK]` it has the position
# only. Block by block, information comes in from the other tokens. Of the hidden word most of it is there after the
# first block; of the kind of the sentence the first block brings hardly more than random mixing does, and what is
# learnt comes with the second. Without the control we should have praised the first. The word itself fades a little on
# the way up, in both networks: it is mixed with the others. In the published BERT, too, what kind of word stands there
# is found in lower layers than what the sentence means (Tenney et al. 2019).
#
# A probe says that something *can be read* from a layer. It does not say that the model uses it.
#
# ## With real weights
#
# all-MiniLM-L6-v2 is a BERT of six layers with 23 million parameters, trained on a billion pairs of sentences. Here it
# is tuned on film reviews: 10,662 sentences, half of them positive (Pang & Lee 2005). A tenth is held out. Two rows lie
# between full and frozen: the last block alone, and **LoRA**, a small correction of rank 8 beside each matrix of the
# attention (chapter 14). The last row is an LSTM that starts from nothing. (Macro F1: chapter 12.)

# %%
names = {"full": "fine-tuning, all of it", "lora": "LoRA, rank 8", "last": "the last block and the head",
         "frozen": "frozen features", "lstm": "LSTM from nothing"}  # fmt: skip
machine = results("finetuning")["machine"]
print(f"on {machine['cpu']}, {machine['threads']} thread(s)")
print(f"{'':30}{'trained parameters':>20}{'seconds':>9}{'peak MB':>9}{'accuracy':>10}{'macro F1':>10}")
for name, row in results("finetuning")["methods"].items():
    print(f"{names[name]:30}{row['trained_parameters']:20,}{row['seconds']:9.0f}{row['peak_memory_mb']:9.0f}"
          f"{row['accuracy']:10.3f}{row['macro_f1']:10.3f}")  # fmt: skip

# %% [markdown]
# Set fine-tuning against frozen features: these were trained to tell what a sentence is about, not whether its writer
# liked a film. And see where the LSTM stands, which starts from nothing: 9,596 labelled sentences are many.
#
# Can the pre-training be done here, too? The committed run hides words of these 9,596 sentences, labels aside, and then
# learns good from bad, from the weights that this gave and from none. Beside it stands what counting can do:

# %%
run = results("masked_words")
for name, row in run["words"].items():
    loss = f"{row['loss_masked']:8.3f}" if "loss_masked" in row else " " * 8
    print(f"{name:48} loss {loss}   right {100 * row['accuracy_masked']:5.1f} %")
for labels, row in run["labels"].items():
    print(f"\n{labels} labels:", *(f"   {start:30} accuracy {found['accuracy']:.3f} +- {found['standard_error']:.3f}"
                                   for start, found in row["starts"].items()), sep="\n")  # fmt: skip

# %% [markdown]
# Two lessons. A quarter of a million tokens is little: the original read 3.3 billion words, and a table of which word
# stood between which neighbours is a serious rival to so small a BERT. And compare with a rival at its best: at the
# learning rate that suits the pre-trained weights, the fresh ones look worse than they are.
#
# ## Exercises
#
# Fill in the function, take the `#` before the checker away, and run the cell.
#
# **Exercise 11.1.** Hide words. Given are the ids $(T,)$, the id of `[MASK]`, and three arrays of the same shape as the
# ids: `u` and `v` with numbers drawn evenly from 0 to 1, and `others` with random tokens. A token is chosen where `u`
# is below $0.15$. A chosen one becomes `[MASK]` where `v` is below 0.8, the token of `others` where `v` is from 0.8 to
# below 0.9, and else stays. Return what is shown, and the labels: $-100$ where nothing was chosen.

# %%
def hide(ids, u, v, others, mask_id):
    """(shown, labels), both (T,)."""
    ...


# from checks.chapter_11 import check_hide; check_hide(hide)

# %% [markdown]
# **Exercise 11.2.** Put two sentences into one input: `[CLS] first [SEP] second [SEP]`. Return the ids and the
# segments; the `[SEP]` after a sentence belongs to it.

# %%
def join(first, second, cls_id, sep_id):
    """(ids, segments), both (T,)."""
    ...


# from checks.chapter_11 import check_join; check_join(join)

# %% [markdown]
# **Exercise 11.3.** Pseudo-perplexity of one text. `log_p(ids)` gives, for ids $(T,)$, the array $(T, V)$ of
# log-probabilities of every token at every place. The first and the last id are `[CLS]` and `[SEP]`, and do not count.

# %%
def pseudo_perplexity(log_p, ids, mask_id):
    ...


# from checks.chapter_11 import check_pseudo_perplexity; check_pseudo_perplexity(pseudo_perplexity)

# %% [markdown]
# **Exercise 11.4.** How far may a token be trusted? The share `r` of tokens is chosen; of the chosen ones `masked`
# become `[MASK]` and `replaced` another token. Give the probability that a token which is not `[MASK]` *is* the true
# one.

# %%
def trust(r, masked, replaced):
    ...


# from checks.chapter_11 import check_trust; check_trust(trust)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
from checks.chapter_11 import check_hide, check_join, check_pseudo_perplexity, check_trust


def hide_solution(ids, u, v, others, mask_id):
    chosen = u < 0.15
    shown = np.where(chosen & (v < 0.8), mask_id, ids)
    shown = np.where(chosen & (v >= 0.8) & (v < 0.9), others, shown)
    return shown, np.where(chosen, ids, -100)


check_hide(hide_solution)

# %% tags=["solution"]
def join_solution(first, second, cls_id, sep_id):
    ids = [cls_id, *first, sep_id, *second, sep_id]
    return np.array(ids), np.array([0] * (len(first) + 2) + [1] * (len(second) + 1))


check_join(join_solution)

# %% tags=["solution"]
def pseudo_perplexity_solution(log_p, ids, mask_id):
    found = []
    for t in range(1, len(ids) - 1):
        shown = ids.copy()
        shown[t] = mask_id  # this one alone
        found.append(log_p(shown)[t, ids[t]])
    return np.exp(-np.mean(found))


check_pseudo_perplexity(pseudo_perplexity_solution)

# %% tags=["solution"]
def trust_solution(r, masked, replaced):
    return 1 - r * replaced / (1 - r * masked)


check_trust(trust_solution)

# %% [markdown]
# ## What to read next
#
# - [minilm/models/bert.py](../minilm/models/bert.py): the encoder, and four heads to put on top of it;
#   [its tests](../tests/models/test_bert.py).
# - [minilm/text/masking.py](../minilm/text/masking.py): hiding, and pairs for next-sentence prediction.
# - [minilm/evaluation/masked.py](../minilm/evaluation/masked.py): pseudo-perplexity.
# - [minilm/training/lora.py](../minilm/training/lora.py) and [benchmarks/finetuning.py](../benchmarks/finetuning.py):
#   the table above.
# - [Chapter 13](13_real_weights.ipynb) runs the published model, [chapter 14](14_fine_tuning.ipynb) has LoRA.

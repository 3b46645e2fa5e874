# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · How good is it?
#
# **What you will be able to do**
#
# - compute perplexity by hand, and say what it means in words;
# - compare models with different tokenizers, in bits per byte;
# - read a confusion matrix, and say why accuracy flatters;
# - compute BLEU, ROUGE, exact match and F1 on a napkin, and know what they do not see;
# - put an error bar on a figure, and refuse to compare two figures that differ by less.
#
# **What it needs:** n-gram models (chapter 6) and tokenizers (chapter 5). No network is trained here.

# %%
import math
from collections import Counter

import numpy as np

from checks import source
from minilm.evaluation import (
    LanguageModelScore,
    accuracy,
    confusion_matrix,
    evaluate_answers,
    evaluate_summaries,
    evaluate_translations,
    exact_match,
    f1,
    perplexity,
    token_f1,
)
from minilm.models import NGram
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.text import BPETokenizer, CharTokenizer, load_corpus

# %% [markdown]
# ## Perplexity by hand
#
# A language model gives every next token a probability. The text tells which token really came. So ask: **how
# probable was the text, to this model?** By the chain rule of probability the answer is a product,
#
# $$P(x_1 \dots x_N) = \prod_{i=1}^{N} p(x_i \mid x_1 \dots x_{i-1}).$$
#
# A product of many numbers below 1 is tiny, so we take its logarithm, and the mean over the tokens, and turn the
# sign. This is the loss that every model in this book is trained on:
#
# $$\text{loss} = -\frac{1}{N} \sum_{i=1}^{N} \log p(x_i \mid x_1 \dots x_{i-1}), \qquad
# \text{perplexity} = e^{\text{loss}}.$$
#
# Four tokens came, and the model had given them these probabilities:

# %% tags=["deterministic"]
p = np.array([0.5, 0.25, 0.125, 0.25])
print("product          ", p.prod())
print("-log p           ", np.round(-np.log(p), 4))
loss = -np.log(p).mean()
print(f"loss              {loss:.4f}")
print(f"perplexity        {math.exp(loss):.4f}")
print(f"the library       {perplexity(loss):.4f}")
print(f"1 / the geometric mean of p: {1 / p.prod() ** (1 / 4):.4f}")

# %% [markdown]
# The last line is another way to read it. A model that rolls a fair die with $k$ faces gives every token the
# probability $1/k$ and has perplexity $k$. So **a perplexity of 4 means: as unsure as if it had to choose among 4
# equally likely tokens each time.** Here the four probabilities average (geometrically) to 1/4.
#
# One bad guess costs a lot. If the third token had had the probability $1/1000$, then:

# %% tags=["deterministic"]
worse = np.array([0.5, 0.25, 0.001, 0.25])
print(f"perplexity {perplexity(-np.log(worse).mean()):.2f}, and with a probability of 0: {perplexity(math.inf)}")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.6)
axes = figure.subplots()
x = np.linspace(0.002, 1, 400)
axes.plot(x, -np.log(x), color=COLOURS[0])
axes.plot(p, -np.log(p), "o", color=COLOURS[0])
axes.axhline(loss, color=GREY, linestyle="--", linewidth=1)
axes.annotate("their mean: the loss", (0.62, loss), xytext=(0, 5), textcoords="offset points", color=GREY)
axes.set(xlabel="probability that the model gave to the token that came", ylabel="$-\\log p$, nats", ylim=(0, 6.5))
figure

# %% [markdown]
# ## A real one, on text that it has not seen
#
# Two n-gram models of Shakespeare, in characters. Chapter 6 has built them; here we only ask how good they are. What
# they are scored on must not be what they were counted on: a model that has learnt a text by heart has a perplexity
# near 1 there, and that says nothing.

# %% tags=["deterministic"]
plays = "\n".join(load_corpus("shakespeare"))
train, test = plays[:1_000_000], plays[2_000_000:2_100_000]
char = CharTokenizer.train([plays])
models = {n: NGram(n, char.vocab_size).fit(char.encode(train)) for n in (1, 2, 3, 4, 5)}
for n, model in models.items():
    seen = model.perplexity(char.encode(train)[:100_000])
    print(f"order {n}: perplexity {model.perplexity(char.encode(test)):6.3f} on new text, {seen:6.3f} on its own")

# %% [markdown]
# On its own text the longer context always wins. On new text it wins less and less. Every figure in this project is
# measured on held-out text, and says on how many tokens.
#
# ## Different tokenizers: bits per byte
#
# Now the same with a byte-pair encoding of 500 tokens.

# %% tags=["deterministic"]
bpe = BPETokenizer.train([train[:300_000]], vocab_size=500)
scores = {}
for name, tokenizer, order in (("characters, order 5", char, 5), ("BPE of 500, order 3", bpe, 3)):
    ids = tokenizer.encode(test)
    log_p = NGram(order, tokenizer.vocab_size).fit(tokenizer.encode(train)).log_probs(ids)
    scores[name] = LanguageModelScore(-log_p.sum(), len(ids), len(test), len(test.encode()))
    score = scores[name]
    print(f"{name}: {score.tokens:7,} tokens, perplexity {score.perplexity:6.3f}")

# %% [markdown]
# The second model has a far larger perplexity. Is it worse? **The two numbers cannot be compared.** A token of the
# second is almost two characters: there are fewer of them, and each is harder to guess. What both have in common
# is the text. The negative log-likelihood of the *whole text* is the same question to both, so divide it by something
# that does not depend on the tokenizer:
#
# $$\text{bits per byte} = \frac{-\log P(\text{text})}{\log 2 \cdot \text{bytes of the text}}.$$
#
# The logarithm of 2 turns nats into bits. The unit has a meaning: a model with 2 bits per byte could compress the
# text to a quarter of its size (Shannon 1948).

# %% tags=["deterministic"]
for name, score in scores.items():
    by_hand = score.loss * score.tokens / (math.log(2) * len(test.encode()))
    print(f"{name}: {by_hand:.4f} bits per byte; the library {score.bits_per_byte:.4f}")

# %% [markdown]
# In this unit the two are neighbours.
#
# Two more conditions for comparing: the same text, and the same context. A model that sees windows of 64 tokens
# cannot know what stood before, so the first tokens of each window are guessed blindly. `minilm eval` lets windows
# overlap (`--stride`), scores each token once, and prints how much each of them has seen.
#
# ## Classes: accuracy, and what it hides
#
# A hundred messages, ten of them spam. Three filters: one that never says spam, one that finds most of it and cries
# wolf sometimes, one that is careful.

# %% tags=["deterministic"]
true = np.array([1] * 10 + [0] * 90)
filters = {
    "never": np.zeros(100, dtype=int),
    "eager": np.array([1] * 9 + [0] * 1 + [1] * 12 + [0] * 78),
    "careful": np.array([1] * 6 + [0] * 4 + [1] * 1 + [0] * 89),
}
for name, guess in filters.items():
    print(f"{name:8} accuracy {accuracy(guess, true):.2f}   {confusion_matrix(guess, true).tolist()}")

# %% [markdown]
# The filter that does nothing is right 90 times of 100. Accuracy flatters whoever answers the largest class.
#
# The *confusion matrix* $C$ keeps all there is to know: $C_{ij}$ examples of class $i$ were taken for class $j$. From
# it, for each class $k$:
#
# $$\text{precision}_k = \frac{C_{kk}}{\sum_i C_{ik}}, \qquad \text{recall}_k = \frac{C_{kk}}{\sum_j C_{kj}}, \qquad
# F_{1,k} = \frac{2 \, \text{precision}_k \, \text{recall}_k}{\text{precision}_k + \text{recall}_k}.$$
#
# Precision: of those it called spam, how many were? Recall: of the spam, how much was found? $F_1$ is their harmonic
# mean, which is small if either is small. Put both fractions in, and it becomes one, which is 0 (and not $0 / 0$)
# also for a filter that calls nothing spam:
#
# $$F_{1,k} = \frac{2\, C_{kk}}{\sum_i C_{ik} + \sum_j C_{kj}}.$$
#
# *Macro* $F_1$ is the mean over the classes, each counted alike.

# %%
figure = new_figure()
figure.set_size_inches(7, 2.7)
for axes, (name, guess) in zip(figure.subplots(1, 3), filters.items(), strict=True):
    C = confusion_matrix(guess, true, n_classes=2)
    axes.imshow(C / C.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for i in range(2):
        for j in range(2):
            share = C[i, j] / C[i].sum()
            axes.text(j, i, str(C[i, j]), ha="center", va="center", color="white" if share > 0.5 else "black")
    axes.set_xticks([0, 1], ["mail", "spam"])
    axes.set_yticks([0, 1], ["mail", "spam"])
    axes.set_xlabel("taken for")
    axes.set_title(name, fontsize=10)
figure.axes[0].set_ylabel("is")
figure

# %% tags=["deterministic"]
for name, guess in filters.items():
    C = confusion_matrix(guess, true, n_classes=2)
    tp, found, real = C[1, 1], C[:, 1].sum(), C[1].sum()
    precision, recall = tp / found if found else float("nan"), tp / real
    by_hand, library = 2 * tp / (found + real), f1(guess, true, average=None)[1]
    print(f"{name:8} precision {precision:.3f}  recall {recall:.3f}  F1 of spam {by_hand:.3f}, "
          f"the library {library:.3f}  macro F1 {f1(guess, true):.3f}")  # fmt: skip

# %% [markdown]
# By macro $F_1$ the filter that does nothing is the worst, as it should be. Whether the eager or the careful one is
# better no number can say: it depends on what a lost message costs.
#
# ## BLEU: translations
#
# A translation can be right in many ways, so one cannot ask whether it *equals* the reference. BLEU (Papineni et
# al. 2002) asks how many of its n-grams stand in a reference. Two ideas make it work.
#
# **Clipping.** "the the the the" consists of words that are in the reference. So an n-gram counts at most as often as
# it stands in the reference:
#
# $$p_n = \frac{\sum_{g} \min(\text{count}_{\text{prediction}}(g), \text{count}_{\text{reference}}(g))}{\sum_{g}
# \text{count}_{\text{prediction}}(g)}, \quad g \text{ all n-grams of the prediction.}$$
#
# **The brevity penalty.** "the cat" alone has perfect precision. So with $c$ words in the prediction and $r$ in the
# reference,
#
# $$\text{BLEU} = 100 \cdot \min\left(1, e^{1 - r/c}\right) \cdot \left(p_1 p_2 p_3 p_4\right)^{1/4}.$$

# %%
def ngrams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def clipped_precision(prediction, reference, n):
    mine, theirs = ngrams(prediction, n), ngrams(reference, n)
    return sum((mine & theirs).values()), sum(mine.values())  # & takes the smaller count of each


# %% tags=["deterministic"]
reference = "the cat sat on the mat all day".split()
prediction = "the cat sat on a mat all day".split()
log_sum = 0.0
for n in (1, 2, 3, 4):
    hits, total = clipped_precision(prediction, reference, n)
    log_sum += math.log(hits / total)
    print(f"p_{n} = {hits} / {total} = {hits / total:.4f}")
brevity = min(1.0, math.exp(1 - len(reference) / len(prediction)))
print(f"BLEU by hand {100 * brevity * math.exp(log_sum / 4):.2f}")
ours = evaluate_translations([" ".join(prediction)], [[" ".join(reference)]])
print(f"the library  {ours.values['bleu']:.2f}   ({ours.details['bleu_signature']})")
print("the the the the:", clipped_precision(["the"] * 4, reference, 1))

# %% [markdown]
# One word of eight is wrong and BLEU falls to 50: a wrong word in the middle breaks two pairs, three triples, four
# quadruples. A single sentence often has no 4-gram in common with its reference and would get 0 (the library puts a
# small number in the place of a zero: `smooth:exp` in the line above). **BLEU is made for a whole test set**: hits
# and totals are added up over all sentences before anything is divided.
#
# How text is cut into words changes the figure by several points, so the library leaves this to `sacrebleu` (Post 2018)
# and prints its signature. Two BLEU figures with different signatures cannot be compared.
#
# What BLEU does not see: meaning.

# %% tags=["deterministic"]
reference = "the film is not good at all , and far too long for what it has to tell"
candidates = {
    "right, in other words": "that movie is really poor , and takes much too much time for its story",
    "one word left out": "the film is good at all , and far too long for what it has to tell",
}
for name, candidate in candidates.items():
    values = evaluate_translations([candidate], [[reference]]).values
    print(f"{name:22} BLEU {values['bleu']:6.2f}   chrF {values['chrf']:6.2f}")

# %% [markdown]
# The second says the opposite and gets nearly full marks. chrF, the same idea with n-grams of characters, is kinder to
# endings and to languages without spaces, and no wiser.
#
# ## ROUGE: summaries
#
# For summaries people ask the reverse: how much of the reference was found? ROUGE-N (Lin 2004) is the $F_1$ of the
# shared n-grams. ROUGE-L takes the *longest common subsequence*, the longest row of words that stands in both in the
# same order, gaps allowed, with $m$ words in the reference, $n$ in the prediction and $L$ in the subsequence:
#
# $$P = \frac{L}{n}, \quad R = \frac{L}{m}, \quad \text{ROUGE-L} = \frac{2 P R}{P + R} = \frac{2 L}{m + n}.$$
#
# The subsequence is found by filling a table: $T_{ij}$ is its length for the first $i$ words of one and the first $j$
# of the other,
#
# $$T_{ij} = \begin{cases} T_{i-1, j-1} + 1 & \text{if the words } i \text{ and } j \text{ are equal} \\
# \max(T_{i-1, j}, T_{i, j-1}) & \text{otherwise.} \end{cases}$$

# %%
def common_subsequence(a, b):
    """The table T (m + 1, n + 1)."""
    T = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, word in enumerate(a, 1):
        for j, other in enumerate(b, 1):
            T[i, j] = T[i - 1, j - 1] + 1 if word == other else max(T[i - 1, j], T[i, j - 1])
    return T


reference = "a small and fast reader for mail".split()
prediction = "a fast and small mail reader".split()
T = common_subsequence(reference, prediction)
figure = new_figure()
figure.set_size_inches(7, 3.2)
axes = figure.subplots()
axes.imshow(T[1:, 1:], cmap="Blues", aspect="auto", vmin=0, vmax=6)
for i in range(len(reference)):
    for j in range(len(prediction)):
        same = reference[i] == prediction[j]
        axes.text(j, i, str(T[i + 1, j + 1]), ha="center", va="center", weight="bold" if same else "normal",
                  color=COLOURS[1] if same else "black")  # fmt: skip
axes.set_xticks(range(len(prediction)), prediction)
axes.set_yticks(range(len(reference)), reference)
axes.set_xlabel("prediction")
axes.set_ylabel("reference")
axes.set_title("length of the longest common subsequence so far (orange: the words are equal)", fontsize=9)
figure

# %% tags=["deterministic"]
L, m, n = T[-1, -1], len(reference), len(prediction)
shared = sum((Counter(reference) & Counter(prediction)).values())
print(f"ROUGE-1 by hand {200 * shared / (m + n):.2f}")
print(f"ROUGE-L by hand {200 * L / (m + n):.2f}   (L = {L})")
values = evaluate_summaries([" ".join(prediction)], [" ".join(reference)]).values
print(f"the library     {values['rouge1']:.2f} and {values['rouge_l']:.2f}; ROUGE-2 {values['rouge2']:.2f}")

# %% [markdown]
# All six words of the prediction are in the reference, and ROUGE-1 is high. Their order is another, and ROUGE-L sees
# that.
#
# ## Answers: exact match and F1
#
# The answer to a question is a few words. SQuAD (Rajpurkar et al. 2016) first makes both sides simple: lower case, no
# punctuation, no articles. Then *exact match* asks whether they are equal, and *F1* how many words they share.

# %%
source(token_f1)

# %% tags=["deterministic"]
for prediction, answers in (
    ("the Eiffel Tower", ["Eiffel Tower", "The Eiffel tower in Paris"]),
    ("in Paris", ["Paris"]),
    ("London", ["Paris"]),
):
    print(f"{prediction!r:20} exact match {exact_match(prediction, answers):5.1f}   F1 {token_f1(prediction, answers):6.2f}")
print(evaluate_answers(["the Eiffel Tower", "in Paris"], [["Eiffel Tower"], ["Paris"]]).as_dict())

# %% [markdown]
# "in Paris" has two words, one of them right, and the reference has one: precision 1/2, recall 1, and so F1 66.67.
#
# ## How sure are we?
#
# A classifier is right on 80 % of 200 examples, another on 82 %. Is it better? Each example is a coin toss: with
# accuracy $a$ the number of hits among $n$ has the standard deviation $\sqrt{n a (1 - a)}$, so
#
# $$\text{standard error of } a = \sqrt{\frac{a (1 - a)}{n}}.$$

# %% tags=["deterministic"]
for n in (200, 1066, 20_000):
    print(f"accuracy 0.80 on {n:6,} examples: standard error {math.sqrt(0.8 * 0.2 / n):.4f}")

# %% [markdown]
# On 200 examples the error is larger than the difference: the two figures say nothing about which is better. A rule of
# thumb: believe a difference of more than three standard errors.
#
# For figures that are no mean of coin tosses (BLEU, $F_1$) there is the *bootstrap* (Efron 1979): draw as many
# examples as there are, with replacement, compute the figure on them, and do so a thousand times. The spread of the
# thousand is the uncertainty of the one.

# %% tags=["deterministic"]
rng = np.random.default_rng(0)
correct = np.arange(200) < 160  # the first 160 are right
means = np.array([rng.choice(correct, 200).mean() for _ in range(1000)])
low, high = np.percentile(means, [2.5, 97.5])
print(f"accuracy {correct.mean():.3f}, and 95 % of the draws lie between {low:.3f} and {high:.3f}")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.5)
axes = figure.subplots()
axes.hist(means, bins=np.arange(0.6975, 0.9, 0.01), color=COLOURS[5], edgecolor="white")
axes.axvline(correct.mean(), color=COLOURS[0])
for edge in (low, high):
    axes.axvline(edge, color=GREY, linestyle="--", linewidth=1)
axes.set(xlabel="accuracy of a draw of 200 examples (dashed: 95 % lie between)", ylabel="draws")
figure

# %% [markdown]
# ## Before you believe a figure
#
# - Was the test text held out, and are there no copies of training texts in it?
# - On how many tokens, sentences, documents does it stand?
# - Is it the same tokenizer, the same context, the same signature?
# - Is the difference larger than its error, also over several seeds?
# - What does the simplest rival get: the uniform model, the largest class, the first sentence?
#
# `minilm eval` prints what a figure stands on with every figure, and `--json` keeps it.
#
# ## Exercises
#
# **Exercise 12.1.** Perplexity of a text in batches: each batch gives a *mean* loss and a number of tokens. What is the
# perplexity of the whole?

# %%
def perplexity_of_batches(losses, tokens):
    """losses: mean nats per token of each batch; tokens: how many tokens each has."""
    ...


# from checks.chapter_12 import check_perplexity_of_batches; check_perplexity_of_batches(perplexity_of_batches)

# %% [markdown]
# **Exercise 12.2.** Corpus BLEU of one reference each: add up hits and totals over all sentences for each $n$, then the
# formula. Words are split at spaces. If some $p_n$ is 0, return 0.

# %%
def corpus_bleu(predictions, references):
    """Two lists of strings; from 0 to 100."""
    ...


# from checks.chapter_12 import check_corpus_bleu; check_corpus_bleu(corpus_bleu)

# %% [markdown]
# **Exercise 12.3.** Macro $F_1$ from a confusion matrix. A class that occurs neither among the truths nor among the
# guesses is left out.

# %%
def macro_f1(C):
    """C (K, K): C[i, j] examples of class i taken for class j."""
    ...


# from checks.chapter_12 import check_macro_f1; check_macro_f1(macro_f1)

# %% [markdown]
# **Exercise 12.4.** ROUGE-L of two strings, words split at spaces; 0 if they share nothing.

# %%
def rouge_l(prediction, reference):
    """From 0 to 100."""
    ...


# from checks.chapter_12 import check_rouge_l; check_rouge_l(rouge_l)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
from checks.chapter_12 import check_corpus_bleu, check_macro_f1, check_perplexity_of_batches, check_rouge_l


def perplexity_of_batches(losses, tokens):
    total = sum(loss * n for loss, n in zip(losses, tokens, strict=True))  # a short batch counts less
    return math.exp(total / sum(tokens))  # exp of the mean, not the mean of exp


check_perplexity_of_batches(perplexity_of_batches)

# %% tags=["solution"]
def corpus_bleu(predictions, references):
    predictions = [text.split() for text in predictions]
    references = [text.split() for text in references]
    log_sum = 0.0
    for n in (1, 2, 3, 4):
        pairs = [clipped_precision(p, r, n) for p, r in zip(predictions, references, strict=True)]
        hits, total = sum(h for h, _ in pairs), sum(t for _, t in pairs)
        if hits == 0:
            return 0.0
        log_sum += math.log(hits / total)
    c, r = sum(map(len, predictions)), sum(map(len, references))
    return 100 * min(1.0, math.exp(1 - r / c)) * math.exp(log_sum / 4)


check_corpus_bleu(corpus_bleu)

# %% tags=["solution"]
def macro_f1(C):
    both = C.sum(axis=0) + C.sum(axis=1)
    met = both > 0
    return float((2 * np.diag(C)[met] / both[met]).mean())


check_macro_f1(macro_f1)

# %% tags=["solution"]
def rouge_l(prediction, reference):
    a, b = reference.split(), prediction.split()
    if not a or not b:
        return 0.0
    return 200 * common_subsequence(a, b)[-1, -1] / (len(a) + len(b))


check_rouge_l(rouge_l)

# %% [markdown]
# ## What to read next
#
# - [minilm/evaluation](../minilm/evaluation/__init__.py): a file for each kind of figure, with its formula and source.
# - [windows.py](../minilm/evaluation/windows.py): perplexity of a text that is longer than the context.
# - [tests/evaluation](../tests/evaluation): the figures against worked examples of the papers, and against the
#   scripts that others use.
# - The figures of this project's models: [benchmarks/results](../benchmarks/results/REPORT.md).

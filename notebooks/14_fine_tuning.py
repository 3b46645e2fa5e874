# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 14 · Fine-tuning and prompting
#
# **What you will be able to do**
#
# - say what a trained model brings to a new task, and find out whether it is enough;
# - choose how much of it to train, and count what that costs;
# - derive LoRA, its gradients and its merge;
# - teach a chat model to answer, with the loss on the answer only;
# - ask a model by examples in its prompt, score its answers, and take off what it says anyway.
#
# **What it needs:** BERT (chapter 11), the two published models of chapter 13 (`make pretrained`), gradients of a
# matrix product (chapter 2).

# %%
import numpy as np
from matplotlib.patches import Rectangle

import minilm
import minilm.functional as F
from checks import results
from checks.drawing import matrices_figure
from minilm import Tensor, nn, no_grad
from minilm.evaluation import calibrated, option_log_likelihoods
from minilm.generation import FewShotPrompt
from minilm.models import BERTForSequenceClassification
from minilm.nn import LoRALinear
from minilm.optim import AdamW
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.pretrained import SentenceEncoder, from_pretrained, load_chat_template
from minilm.text.instructions import labelled_example
from minilm.training import add_lora, lora_layers, merge_lora, prepare_method

# %% [markdown]
# ## A task of our own
#
# Thirty-two short sentences, written here, about people and animals. We ask two questions of each: is the deed **kind**
# or not, and **who acts**, the animal or the person? The words for testing are all other words than those for training:
# other people, other animals. (The verbs are the same eight.)

# %% tags=["deterministic"]
UNKIND, KIND = ("kicked", "chased", "attacked", "frightened"), ("helped", "greeted", "comforted", "guarded")


def sentences(people, animals, shift):
    """(sentence, is it kind, does the animal act)."""
    rows = []
    for i, (person, animal) in enumerate(zip(people.split(), animals.split(), strict=True)):
        for kind, verbs in enumerate((UNKIND, KIND)):
            for acts, (who, whom) in enumerate(((person, animal), (animal, person))):
                rows.append((f"The {who} {verbs[(i + shift) % 4]} the {whom}.", kind, acts))
    return rows


train = sentences("farmer nurse baker girl teacher sailor painter boy", "dog goose horse goat cat donkey pig swan", 0)
test = sentences("gardener doctor butcher woman student soldier singer man", "wolf duck pony sheep kitten camel bull parrot", 1)
for row in train[:4]:
    print(row)
print(len(train), "to learn from,", len(test), "to be tested on")

# %% [markdown]
# ## What is transferred?
#
# Thirty-two sentences are not enough to learn English. So we start from a model that knows it: all-MiniLM-L6-v2, which
# was trained on a billion pairs of sentences to put what means the same near each other. The simplest way to use it:
# take its vectors as *features* that never change, and learn one linear layer on them,
#
# $$p(\text{yes} \mid e) = \frac{1}{1 + e^{-(w \cdot e + b)}}, \qquad
# e \in \mathbb R^{384} \text{ the sentence's vector, of length 1.}$$
#
# For a sentence with the answer $y \in \{0, 1\}$ the loss is $-\log p$ of that answer, and with $z = w \cdot e + b$ and
# $dp/dz = p (1 - p)$ its derivative by $z$ is $-(1 - p) = p - 1$ for $y = 1$, and $p$ for $y = 0$: in both cases
# $p - y$. So over $N$ sentences the gradient of the mean loss is $\frac1N \sum_n (p_n - y_n)\, e_n$ for $w$, and
# $\frac1N \sum_n (p_n - y_n)$ for $b$.

# %% tags=["deterministic"]
encoder = SentenceEncoder.load()
e_train, e_test = (encoder.encode([row[0] for row in rows]).astype(np.float64) for rows in (train, test))
answers_train, answers_test = (np.array([row[1:] for row in rows]) for rows in (train, test))  # columns: kind, acts


def linear_layer(e, y, steps=2000, rate=10.0):
    w, b = np.zeros(e.shape[1]), 0.0
    for _ in range(steps):
        p = 1 / (1 + np.exp(-(e @ w + b)))
        w, b = w - rate * e.T @ (p - y) / len(y), b - rate * (p - y).mean()
    return w, b


def right(layer, e, y):
    return ((e @ layer[0] + layer[1] > 0) == y).mean()


for column, question in enumerate(("is it kind?", "who acts? ")):
    layer = linear_layer(e_train, answers_train[:, column])
    print(f"{question}  right on {right(layer, e_train, answers_train[:, column]):.0%} of the sentences it learnt from,",
          f"{right(layer, e_test, answers_test[:, column]):.0%} of the others")  # fmt: skip
print(f"cosine of {train[0][0]!r} and {train[1][0]!r}: {e_train[0] @ e_train[1]:.2f}")

# %% [markdown]
# What the features carry is learnt at once, and holds for people and animals that were never seen with an answer. What
# they hardly carry is hardly learnt on top of them: whoever acts, the words are the same, and to this encoder the two
# sentences are nearly one. With 384 weights for 32 sentences the linear layer learns the answers by heart all the same,
# and on the others it gains little over a coin. **Always look first whether frozen features are enough.** It costs
# seconds.
#
# ## How much to train
#
# For the second question the model itself has to change. How much of it?
#
# | method | what is trained |
# |---|---|
# | frozen | a head on top; the model gives features |
# | LoRA | the head, and small additions to some matrices, see below |
# | last | the head and the last block |
# | full | everything |
#
# What it costs in memory: each weight is there once. Each *trained* weight also has a gradient and the two running
# means of Adam. With $N$ weights of which $n$ are trained, in float32,
#
# $$\text{bytes} = 4\,(N + 3 n)$$
#
# and the activations that the backward pass needs: those from the top of the model down to the lowest weight that is
# trained.

# %% tags=["deterministic"]
sizes = {}
for method in ("frozen", "lora", "last", "full"):
    bert, _ = from_pretrained("all-MiniLM-L6-v2", kind=BERTForSequenceClassification, num_labels=2)
    prepare_method(bert, method, head=("classifier", "bert.pooler"))  # the two layers on top (chapter 11)
    N, n = bert.num_parameters(), sum(p.size for p in bert.parameters() if p.requires_grad)
    sizes[method] = (N, n)
    print(f"{method:7} {n:12,} of {N:,} parameters are trained, {100 * n / N:6.2f} %")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.2)
axes = figure.subplots()
left = np.zeros(4)
for label, share, colour in (("weights", lambda N, n: N, GREY), ("gradients", lambda N, n: n, COLOURS[1]),
                             ("Adam's two means", lambda N, n: 2 * n, COLOURS[0])):  # fmt: skip
    width = np.array([4 * share(*pair) / 1e6 for pair in sizes.values()])
    axes.barh(list(sizes), width, left=left, color=colour, label=label)
    left += width
axes.invert_yaxis()
axes.set(xlabel="MB for training, without activations")
axes.legend(frameon=False, loc="upper right")
figure

# %% [markdown]
# ## LoRA
#
# A linear layer computes $y = x W^\top + b$ for rows $x$, with $W$ of shape (out, in). Full fine-tuning adds some
# $\Delta W$ of the same shape to it. Is there something simple about $\Delta W$? It is put together from gradients, one
# in each step. So take a gradient. With $N$ rows $x$ and $G = \partial \mathcal L / \partial y$, of shape ($N$, out),
#
# $$\frac{\partial \mathcal L}{\partial W} = G^\top x = \sum_{n=1}^{N} g_n^\top x_n :$$
#
# Each $g_n^\top x_n$ is a column times a row. All its rows are multiples of one row: it has *rank* 1. A sum of
# $N$ of them has rank $N$ at most, and where the examples have much in common, a few directions carry nearly all of it.
# How many, `np.linalg.svd` tells. It writes any matrix as
#
# $$M = \sum_i s_i\, u_i v_i^\top, \qquad s_1 \ge s_2 \ge \dots \ge 0,$$
#
# with columns $u_i$ of length 1 that are perpendicular to each other, and likewise $v_i$. The sum of the squares of all
# entries of $M$ is $\sum_i s_i^2$, and no matrix of rank $r$ is nearer to $M$ than the first $r$ terms. The $s_i$ are
# called *singular values*. Here are those of a trained matrix and those of its gradient for our question, all 32
# sentences at once ($N$ counts their tokens, some 250).

# %%
class Classifier(nn.Module):
    """ids (B, T), mask (B, T) -> logits (B, 2): a linear layer on the mean of the hidden states, of length 1."""

    def __init__(self, bert):
        super().__init__()
        self.bert, self.head = bert, nn.Linear(bert.config.n_embd, 2)

    def features(self, ids, mask):
        hidden, _ = self.bert(ids, mask)  # (B, T, C)
        total = (hidden * Tensor(mask[:, :, None].astype(np.float32))).sum(axis=1)
        return total / (total * total).sum(axis=-1, keepdims=True).sqrt()

    def forward(self, ids, mask):
        return self.head(self.features(ids, mask))


def padded(rows):
    tokens = [encoder.tokenizer.pair(encoder.tokenizer.encode(row[0])).input_ids for row in rows]
    mask = np.arange(max(map(len, tokens))) < np.array([len(t) for t in tokens])[:, None]
    ids = np.full(mask.shape, encoder.tokenizer.pad_id)
    ids[mask] = np.concatenate(tokens)
    return ids, mask


minilm.manual_seed(1)
model = Classifier(encoder.model.requires_grad_(False)).eval()
matrix = model.bert.blocks[5].attention.qkv_proj
matrix.weight.requires_grad = True
F.cross_entropy(model(*padded(train)), answers_train[:, 1]).backward()
spectra = {"the weights": matrix.weight.numpy(), "their gradient": matrix.weight.grad.numpy()}
matrix.weight.requires_grad, matrix.weight.grad = False, None

# %%
figure = new_figure()
figure.set_size_inches(7, 2.5)
axes = figure.subplots()
for (name, array), colour in zip(spectra.items(), (GREY, COLOURS[0]), strict=True):
    singular = np.linalg.svd(array, compute_uv=False)
    part = (singular[:8] ** 2).sum() / (singular**2).sum()
    axes.semilogy(np.arange(1, 65), (singular / singular[0])[:64], color=colour, label=f"{name}: 8 directions carry {part:.0%}")
axes.axvline(8, color=GREY, linestyle="--", linewidth=0.8)
axes.set(xlabel="direction, $i$", ylabel="$s_i / s_1$", title="query, key and value of the last block")
axes.title.set_fontsize(10)
axes.legend(frameon=False)
figure

# %% [markdown]
# (The per cent are of $\sum_i s_i^2$.) What the model has learnt needs many directions, what this task asks to change
# needs few. That does not prove that the sum of many such gradients, rescaled by Adam, has a small rank too. But it is
# worth a trial: let us ask for a change of small rank from the beginning (Hu et al. 2021). A matrix of rank $r$ is a
# product of a tall and a wide one:
#
# $$\Delta W = c \, B A, \qquad
# A \in \mathbb R^{r \times \text{in}}, \quad B \in \mathbb R^{\text{out} \times r}, \qquad c = \alpha / r,$$
#
# $$y = x W^\top + b + c \, (x A^\top) B^\top .$$
#
# $W$ is frozen, $A$ and $B$ are trained: $r\,(\text{in} + \text{out})$ numbers in the place of
# $\text{in} \cdot \text{out}$. The number $\alpha$ is fixed. $B A$ is a sum of $r$ matrices of rank 1; divided by $r$
# it does not grow with their number, and a learning rate that was good for one $r$ serves for another.

# %%
matrices_figure([[
    ("W", (9, 6), GREY), "+ c", ("B", (9, 2), COLOURS[1]), ("A", (2, 6), COLOURS[0]),
    "=", ("W + c B A", (9, 6), COLOURS[2]),
]], cell=0.2)  # fmt: skip

# %% [markdown]
# **Gradients.** Write $z = x A^\top$, of shape ($N$, $r$). Then $y = \dots + c\, z B^\top$, and by the rule for
# products (chapter 2)
#
# $$\frac{\partial \mathcal L}{\partial B} = c \, G^\top z, \qquad
# \frac{\partial \mathcal L}{\partial z} = c \, G B, \qquad
# \frac{\partial \mathcal L}{\partial A} = c \, (G B)^\top x .$$
#
# **How to begin.** At first the model should be what it was: $B A = 0$. If both were zero, both gradients would be
# zero, for ever: $z = 0$ and $G B = 0$. So $B = 0$ and $A$ is drawn at random. Then $\partial \mathcal L / \partial B$
# is not zero, and after one step of $B$, neither is that of $A$.

# %% tags=["deterministic"]
rng = np.random.default_rng(0)
x, target = rng.normal(size=(5, 6)), rng.normal(size=(5, 4))
linear = nn.Linear(6, 4).astype(np.float64)
layer = LoRALinear(linear, rank=2, alpha=6.0)
with no_grad():
    layer.weight.copy_(rng.normal(size=(4, 6))), layer.bias.zero_(), layer.lora_A.copy_(rng.normal(size=(2, 6)))
W, b, A, c = layer.weight.numpy().copy(), layer.bias.numpy(), layer.lora_A.numpy(), 6.0 / 2


def gradients(A, B):
    y = x @ W.T + b + c * (x @ A.T) @ B.T
    G = y - target  # of the loss 1/2 |y - target|^2
    return c * (G @ B).T @ x, c * G.T @ (x @ A.T)


for name, B in (("at the beginning, B = 0", np.zeros((4, 2))), ("later", rng.normal(size=(4, 2)))):
    with no_grad():
        layer.lora_B.copy_(B)
    error = layer(Tensor(x)) - Tensor(target)
    ((error * error).sum() * 0.5).backward()
    by_hand = gradients(A, B)
    same = all(np.allclose(p.grad.numpy(), g) for p, g in zip((layer.lora_A, layer.lora_B), by_hand, strict=True))
    print(f"{name:24} |dA| = {np.linalg.norm(by_hand[0]):7.3f}   |dB| = {np.linalg.norm(by_hand[1]):7.3f}   the library the same: {same}")
    layer.lora_A.grad = layer.lora_B.grad = None

# %% [markdown]
# **The merge.** When training is over, $(x A^\top) B^\top = x (B A)^\top$ lets us add $c B A$ to $W$ once, and the
# layer costs what it did before:
#
# $$x W^\top + c\,(x A^\top) B^\top = x\,(W + c\, B A)^\top .$$

# %% tags=["deterministic"]
with no_grad():
    apart = layer(Tensor(x)).numpy()
    together = layer.merge()(Tensor(x)).numpy()
by_hand = x @ (W + c * B @ A).T + b
print("merged and unmerged differ by less than 1e-12:", np.abs(together - apart).max() < 1e-12)
print("W + c B A is the merged weight:               ", np.allclose(layer.weight.numpy(), W + c * B @ A))
print("and gives the same by hand:                   ", np.allclose(by_hand, together))
width, r = 384, 4
full, low = 3 * width * width, r * (width + 3 * width)
print(f"query, key and value of MiniLM: {full:,} weights; with r = {r} {low:,}, {full // low} times fewer")

# %% [markdown]
# ## Who acts? Once more
#
# The pair of $A$ and $B$ that a layer gets is called an *adapter*. We put adapters on the attention of the last two
# blocks, since that is where the words of a sentence meet. The head and the adapters are trained, and nothing else.

# %%
chosen = add_lora(model.bert, [f"blocks.{k}.attention.{m}_proj" for k in (4, 5) for m in ("qkv", "out")], rank=4, alpha=16)
model.head.requires_grad_(True)
trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
print(f"{sum(p.size for _, p in trained):,} of {model.num_parameters():,} parameters, in", *chosen, sep="\n  ")

optimizer = AdamW(trained, lr=5e-3, weight_decay=0.0)
curve = []
for step in range(26):
    loss = F.cross_entropy(model(*padded(train)), answers_train[:, 1])
    with no_grad():
        hits = (model(*padded(test)).numpy().argmax(-1) == answers_test[:, 1]).mean() if step % 5 == 0 else None
    curve.append((loss.item(), hits))
    loss.backward()
    optimizer.step()
    model.zero_grad()
print(f"right on {hits:.0%} of the sentences with words that it did not learn from")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.3)
axes = figure.subplots()
axes.plot([loss for loss, _ in curve], color=COLOURS[0])
axes.set(xlabel="step, all 32 sentences in each", ylim=(0, None))
axes.set_ylabel("loss, nats", color=COLOURS[0])
beside = axes.twinx()
beside.plot(*zip(*[(k, hits) for k, (_, hits) in enumerate(curve) if hits is not None], strict=True), "o-", color=COLOURS[1], markersize=4)
beside.set(ylim=(0, 1.05))
beside.set_ylabel("right on the test", color=COLOURS[1])
figure

# %%
with no_grad():
    adapted_train, adapted_test = (model.features(*padded(rows)).numpy().astype(np.float64) for rows in (train, test))


def two_directions(e):
    """The two directions in which the rows of e vary most."""
    centred = e - e.mean(axis=0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


figure = new_figure()
figure.set_size_inches(7, 2.8)
panels = (("frozen: kind?", e_test, 0), ("frozen: who acts?", e_test, 1), ("with LoRA: who acts?", adapted_test, 1))
for axes, (title, e, column) in zip(figure.subplots(1, 3), panels, strict=True):
    places = two_directions(e)
    for value, colour in ((0, COLOURS[0]), (1, COLOURS[1])):
        names = (("unkind", "kind"), ("the person", "the animal"))[column]
        axes.scatter(*places[answers_test[:, column] == value].T, color=colour, s=18, label=names[value])
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(fontsize=7, framealpha=0.8)
figure.supxlabel("the two directions in which the vectors vary most, sentences of the test", fontsize=9)
figure

# %% [markdown]
# Frozen, the sentences lie in eight groups, one for each pair of a person and an animal: whom a sentence names is what
# the encoder finds most telling. Within a group the kind and the unkind lie a little apart, and who acts makes next to
# no difference. Adapted, the vectors vary most with who acts.
#
# A word of honesty: that two blocks and so few steps would do was found by trying, on these very sentences; with
# adapters on all blocks the test became worse again while the loss fell on. So this test has been used up, and a fresh
# one would be a little less kind (chapter 12).
#
# **What was lost?** Fine-tuning for one question may spoil the answer to others (*forgetting*). We ask for kindness on
# the adapted features. And since the frozen weights are still what they were, taking the adapters away brings the old
# model back: one model in memory can serve many tasks, with some tens of kilobytes for each.

# %%
kind = linear_layer(adapted_train, answers_train[:, 0])
print(f"kind? with the adapters: right on {right(kind, adapted_test, answers_test[:, 0]):.0%}")
for adapter in lora_layers(model).values():
    with no_grad():
        adapter.lora_B.zero_()
with no_grad():
    without = model.features(*padded(test)).numpy()
print("without them the old vectors are back:", np.allclose(without, e_test, atol=1e-5))
merge_lora(model.bert)
print("layers after merge_lora:", {type(block.attention.qkv_proj).__name__ for block in model.bert.blocks})

# %% [markdown]
# Nobody asked for kindness during the training, so nothing kept it: the features, which told it without a fault before,
# now tell it badly. A model that shall stay good at something needs examples of it among its training data, or adapters
# that can be taken off.
#
# ## Ten thousand reviews
#
# Thirty-two sentences are a demonstration. The committed run fine-tunes the same encoder on nine tenths of 10,662
# sentences of film reviews, and scores the last tenth. The row `lstm` is a pair of LSTMs (chapter 6), one from each end
# of the sentence, with all to learn. (`macro F1` is the mean of the $F_1$ of the two classes, chapter 12.)

# %%
machine, methods = results("finetuning")["machine"], results("finetuning")["methods"]
print(f"on {machine['cpu']}, {machine['threads']} thread(s)")
for name, row in methods.items():
    print(f"{name:7} {row['trained_parameters']:11,} trained   {row['seconds']:6.0f} s   {row['peak_memory_mb']:5.0f} MB",
          f"  accuracy {row['accuracy']:.3f}   macro F1 {row['macro_f1']:.3f}")  # fmt: skip

# %%
figure = new_figure()
figure.set_size_inches(7, 2.6)
axes = figure.subplots()
for (name, row), colour in zip(methods.items(), COLOURS, strict=False):
    error = 3 * np.sqrt(row["accuracy"] * (1 - row["accuracy"]) / 1066)  # a tenth of the sentences is scored
    axes.errorbar(row["trained_parameters"], row["accuracy"], error, fmt="o", color=colour, capsize=3)
    side, shift = ("right", -6) if name == "lstm" else ("left", 6)
    place = (row["trained_parameters"], row["accuracy"])
    axes.annotate(name, place, (shift, 4), textcoords="offset points", fontsize=9, ha=side)
axes.set_xscale("log")
axes.set(xlabel="trained parameters", ylabel="accuracy, 3 standard errors")
axes.margins(x=0.15)
figure

# %% [markdown]
# How to read it. The bars are three standard errors: where a point lies within the bar of another, these sentences do
# not tell the two apart (chapter 12). From `frozen` over `lora` to `full`: what does each further trained weight bring,
# and what does it cost in time and memory? And `lstm` against the others: what was the billion pairs of sentences
# worth, with these labels?
#
# ## Instruction tuning
#
# A language model continues text. Asked "What is the sun?" it may well continue with nine more questions, as in an
# examination. To make it *answer*, it is trained on conversations (Ouyang et al. 2022). The text is laid out by the
# chat template (chapter 13), and training is next-token prediction as before, with one change: **the loss counts the
# answer only.** With tokens $x_1 \dots x_T$ and $\mathcal A$ the set of places $t$ where $x_t$ is the assistant's to
# write,
#
# $$\text{loss} = -\frac{1}{|\mathcal A|} \sum_{t \in \mathcal A} \log p(x_t \mid x_1 \dots x_{t-1}).$$
#
# The question is read, since it stands in the condition; but the model does not learn to ask it. The token that ends
# the turn is in $\mathcal A$: otherwise it would never learn to stop.

# %% tags=["deterministic"]
chat, tokenizer = from_pretrained("smollm2-135m-instruct", context_length=512)
template = load_chat_template("smollm2-135m-instruct", tokenizer)
conversation = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What do bees make?"},
    {"role": "assistant", "content": "Bees make honey."},
]
parts = template.encode_to_learn(tokenizer, conversation)
for ids, learned in parts:
    print("learned" if learned else "read   ", [tokenizer.decode([i]) for i in ids])

# %% [markdown]
# The place $t$ is predicted from the places before it, so in a batch the label stands one place *earlier*: at the last
# token that is read before the answer stands the first of the answer. Labels of $-100$ (a dash in the picture) are left
# out by the loss.

# %% tags=["deterministic"]
tokens = [i for ids, _ in parts for i in ids]
is_answer = [learned for ids, learned in parts for _ in ids]
input_ids = np.array(tokens[:-1])
labels = np.array([token if learned else -100 for token, learned in zip(tokens, is_answer, strict=True)][1:])
example = labelled_example(parts)
print("the library the same:", np.array_equal(example["input_ids"], input_ids), np.array_equal(example["labels"], labels))
print(len(input_ids), "tokens are read,", (labels != -100).sum(), "are learned")

# %%
def shown(i):
    return "–" if i == -100 else tokenizer.decode([i]).replace("\n", "\\n").replace(" ", "␣")


figure = new_figure()
figure.set_size_inches(7, 3.4)
axes = figure.subplots()
axes.set_axis_off()
for t, (token, label) in enumerate(zip(input_ids, labels, strict=True)):
    row, column = divmod(t, 8)
    for part, text in enumerate((shown(token), shown(label))):
        learned = label != -100 and part == 1
        colour = COLOURS[1] if learned else "#eeeeee" if part else "white"
        corner = (column, -3 * row - part)
        axes.add_patch(Rectangle(corner, 0.95, 0.95, facecolor=colour, edgecolor=GREY, linewidth=0.5))
        axes.text(column + 0.475, -3 * row - part + 0.475, text, ha="center", va="center", fontsize=7,
                  color="white" if learned else "black")  # fmt: skip
for row in range(-(-len(input_ids) // 8)):
    axes.text(-0.1, -3 * row + 0.475, "input", ha="right", va="center", fontsize=8, color=GREY)
    axes.text(-0.1, -3 * row - 0.525, "label", ha="right", va="center", fontsize=8, color=GREY)
axes.set_xlim(-0.8, 8)
axes.set_ylim(-3 * row - 1.2, 1.1)
figure

# %% [markdown]
# That a label of $-100$ really teaches nothing we see in the gradient: it is zero in those rows.

# %% tags=["deterministic"]
small = np.random.default_rng(0).normal(size=(5, 4))
y = np.array([-100, -100, 2, 0, -100])
z = Tensor(small, requires_grad=True)
loss = F.cross_entropy(z, y)
loss.backward()
p = np.exp(small) / np.exp(small).sum(axis=1, keepdims=True)
by_hand = -(np.log(p[2, 2]) + np.log(p[3, 0])) / 2  # the mean over those that count
print(f"loss {loss.item():.4f}, by hand {by_hand:.4f}")
print(np.round(z.grad.numpy(), 3))

# %% [markdown]
# Where is the loss of this conversation? The published model says how surprised it is by each token.

# %%
with no_grad():
    log_p = F.log_softmax(chat(input_ids[None])).numpy()[0]
surprise = -log_p[np.arange(len(input_ids)), np.array(tokens[1:])]
counted = labels != -100
figure = new_figure()
figure.set_size_inches(7, 2.8)
axes = figure.subplots()
axes.bar(np.arange(len(surprise)), surprise, color=np.where(counted, COLOURS[1], COLOURS[5]))
axes.set_xticks(range(len(surprise)), [shown(i) for i in tokens[1:]], rotation=90, fontsize=8)
axes.set(ylabel="−log p, nats", title="orange: the answer, which counts")
axes.title.set_fontsize(10)
figure

# %%
print(f"mean over all {surprise.mean():.2f} nats; over the answer {surprise[counted].mean():.2f}, which is {counted.mean():.0%} of the tokens")

# %% [markdown]
# Without the mask, most of the loss would be about guessing what is asked, and so would the gradient. The committed
# run: SmolLM2, which was tuned on conversations by those who published it, learns one task more, to say in one word
# whether a film review is positive or negative. It trains with LoRA, and sees each example once.

# %%
figures = results("instruction_tuning")
settings, names = figures["settings"], {"before": "as published", "answers": "loss on answers", "everything": "loss on all"}
print(f"{settings['instruction'].strip()!r}  {settings['examples']} examples; scored: {settings['scored']}\n")
for part, row in figures["parts"].items():
    learned = f"{row['tokens_learned']:,} of {row['tokens_read']:,} tokens learned" if "tokens_read" in row else "not trained"
    print(f"{names[part]:16} right word {row['exact_match']:5.1f} %   loss of the answers {row['answer_loss']:.3f} nats   {learned}")
for part, row in figures["parts"].items():
    print(f"\n{names[part]}:", *(f"   {r['right']:9} <- {r['reply'][:80]!r}" for r in row["replies"][:3]), sep="\n")

# %% [markdown]
# *Right word* counts the replies that are the word and nothing else; of 200 questions its standard error is three and a
# half points at most. The loss is that of the right answer, for questions that were held out. Look at the replies too:
# a model can fail by its form, because it says something else about the review, or by its judgment. Which of the two
# does the training mend? (*Loss on all*, if it was run, is the same number of steps without the mask.)
#
# ## Prompting: no training at all
#
# There is a way to give a model a task that changes no weight: write examples into the text that it continues (Brown et
# al. 2020). "Review: ... Sentiment: positive", some times over, and then the question. How does one read the answer?
# One can let it write. Surer is to *score* the possible answers $a$, of tokens $a_1 \dots a_m$, after the prompt $q$:
#
# $$\log p(a \mid q) = \sum_{j=1}^{m} \log p(a_j \mid q, a_1 \dots a_{j-1}),$$
#
# and to take the largest. Every sentence then gets one of the answers.

# %% tags=["deterministic"]
prompt = FewShotPrompt("Review: {text}\nSentiment:")
q = prompt.write("i left the cinema smiling", [("dull and far too long", "negative")])
print(q)
for answer in (" positive", " negative"):
    question, whole = tokenizer.encode(q), tokenizer.encode(q + answer)  # a space begins a token: q's own stay as they are
    with no_grad():
        log_p = F.log_softmax(chat(whole[None, :-1])).numpy()[0]
    by_hand = sum(log_p[t - 1, whole[t]] for t in range(len(question), len(whole)))
    library = option_log_likelihoods(chat, tokenizer, [q], [answer])[0, 0]
    print(f"log p({answer!r} | q) = {by_hand:.2f}, the library {library:.2f}")

# %% [markdown]
# Ten reviews, written here, with 0, 1, 2 and 4 examples. The score that decides is the difference
# $\log p(\text{positive} \mid q) - \log p(\text{negative} \mid q)$.

# %%
reviews = [
    ("a warm and funny film that i loved from start to end", 1), ("two hours that i will never get back", 0),
    ("the jokes fall flat and the plot makes no sense", 0), ("beautiful pictures and a story that stays with you", 1),
    ("the actors look as bored as i was", 0), ("an honest and moving portrait of a family", 1),
    ("loud , long and stupid", 0), ("i left the cinema smiling", 1),
    ("clever dialogue and a perfect ending", 1), ("the worst script of the year", 0),
]  # fmt: skip
examples = [("a delight for young and old", "positive"), ("dull and far too long", "negative"),
            ("the best film of the summer", "positive"), ("a waste of good actors", "negative")]  # fmt: skip
answers, truth = [" positive", " negative"], np.array([y for _, y in reviews])
free = ["N/A", "[MASK]", ""]  # texts that say nothing
scores = {}
for shots in (0, 1, 2, 4):
    prompts = [prompt.write(text, examples[:shots]) for text in [text for text, _ in reviews] + free]
    both = option_log_likelihoods(chat, tokenizer, prompts, answers)
    scores[shots] = both[:10], both[10:]
    difference = both[:10, 0] - both[:10, 1]
    print(f"{shots} examples: right on {((difference > 0) == truth).sum()} of 10; of texts that say nothing",
          f"the difference is {(both[10:, 0] - both[10:, 1]).mean():+.1f}")  # fmt: skip

# %% [markdown]
# One example, which was positive, and the model says positive to nearly everything, even to a text that says nothing.
# **A prompt changes what is said anyway.** This can be measured and taken off (*calibration*, Zhao et al. 2021): let
# $\bar p_k$ be the mean probability of answer $k$ after texts without content. An honest judge would have nothing to
# say about those; so weigh each answer by $1 / \bar p_k$, which makes them equal there,
#
# $$\hat k = \arg\max_k \frac{p(k \mid q)}{\bar p_k} = \arg\max_k \big( \log p(k \mid q) - \log \bar p_k \big).$$

# %%
figure = new_figure()
figure.set_size_inches(7, 2.8)
for axes, shots in zip(figure.subplots(1, 4, sharey=True), scores, strict=True):
    raw, content_free = scores[shots]
    mended = calibrated(raw, content_free)
    difference, shift = raw[:, 0] - raw[:, 1], (raw - mended)[0, 0] - (raw - mended)[0, 1]
    for value, colour in ((1, COLOURS[0]), (0, COLOURS[1])):
        axes.plot(np.flatnonzero(truth == value), difference[truth == value], "o", color=colour, markersize=5)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axhline(shift, color="black", linestyle="--", linewidth=1)
    hits = [((d[:, 0] > d[:, 1]) == truth).sum() for d in (raw, mended)]
    axes.set_title(f"{shots} example{'s' * (shots != 1)}: {hits[0]} of 10,\ncalibrated {hits[1]}", fontsize=9)
    axes.set_xticks([])
figure.axes[0].set_ylabel("log p(positive) − log p(negative)", fontsize=8)
figure.supxlabel("reviews; blue: in truth positive. dashed: where calibration puts the border", fontsize=9)
figure

# %% [markdown]
# Ten sentences show how it works, and not how good it is: the standard error of 8 out of 10 is larger than most
# differences (chapter 12). The committed run has 300 sentences of real reviews, and more than one set of examples; in
# brackets stand the worst and the best of them.

# %%
figures = results("few_shot")
print(figures["scored"], "| standard error at one half:", round(figures["standard_error_at_one_half"], 3))
for shots, row in figures["shots"].items():
    written = []
    for key in ("accuracy", "accuracy_calibrated"):
        mean, least, most = (100 * row[key + end] for end in ("", "_least", "_most"))
        written.append(f"{mean:.1f} % ({least:.1f} to {most:.1f})")
    print(f"{shots} examples, {row['sets_of_examples']} sets: right on {written[0]}, calibrated {written[1]}")

# %% [markdown]
# More examples need not help, and calibration may harm: look for both in the table, and at how far it is from the worst
# set of examples to the best. What Brown et al. showed is a matter of size: their models had up to 175 billion
# parameters, this one has 135 million.
#
# ## Which one, and when?
#
# | | needs | costs for each question | changes the model |
# |---|---|---|---|
# | prompting | no labels, or a handful | reads the examples every time | no |
# | frozen features | tens to thousands of labels | one pass, shared by all tasks | no |
# | LoRA | hundreds of labels | nothing more, once merged | a small file for each task |
# | full | thousands of labels | nothing more | a whole model for each task |
#
# What each needs is a rule of thumb. Try them from top to bottom, and stop where it is good enough.
#
# ## Exercises
#
# **Exercise 14.1.** The forward of a LoRA layer, without ever making the matrix $B A$.

# %%
def lora_forward(x, W, b, A, B, alpha):
    """x (N, in), W (out, in), b (out,), A (r, in), B (out, r) -> y (N, out)."""
    ...


# from checks.chapter_14 import check_lora_forward; check_lora_forward(lora_forward)

# %% [markdown]
# **Exercise 14.2.** Its gradients with respect to $A$ and $B$, in this order, from the gradient $G$ of the loss with
# respect to $y$.

# %%
def lora_gradients(x, A, B, alpha, G):
    """G (N, out), the gradient of the loss with respect to y -> those with respect to A and B."""
    ...


# from checks.chapter_14 import check_lora_gradients; check_lora_gradients(lora_gradients)

# %% [markdown]
# **Exercise 14.3.** From a conversation in parts to what the trainer takes: ids and labels, both one shorter than the
# conversation. A label is the token that comes next if that one is learned, else $-100$.

# %%
def to_example(parts):
    """parts: [(ids, whether they are learned), ...] -> input_ids (T - 1,), labels (T - 1,)."""
    ...


# from checks.chapter_14 import check_to_example; check_to_example(to_example)

# %% [markdown]
# **Exercise 14.4.** The calibrated choice: which of the $K$ answers, for each of $N$ prompts?

# %%
def choose(scores, content_free):
    """scores (N, K): log p(k | q_n); content_free (M, K): the same after M texts without content -> (N,) integers."""
    ...


# from checks.chapter_14 import check_choose; check_choose(choose)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
from checks.chapter_14 import check_choose, check_lora_forward, check_lora_gradients, check_to_example


def lora_forward(x, W, b, A, B, alpha):
    return x @ W.T + b + alpha / len(A) * (x @ A.T) @ B.T


check_lora_forward(lora_forward)

# %% tags=["solution"]
def lora_gradients(x, A, B, alpha, G):
    c = alpha / len(A)
    return c * (G @ B).T @ x, c * G.T @ (x @ A.T)


check_lora_gradients(lora_gradients)

# %% tags=["solution"]
def to_example(parts):
    ids = np.array([i for part, _ in parts for i in part])
    learned = np.array([learn for part, learn in parts for _ in part])
    return ids[:-1], np.where(learned, ids, -100)[1:]


check_to_example(to_example)

# %% tags=["solution"]
def choose(scores, content_free):
    return (scores - np.log(np.exp(content_free).mean(axis=0))).argmax(axis=1)  # the mean of p, then its logarithm


check_choose(choose)

# %% [markdown]
# ## What to read next
#
# - [minilm/nn/lora.py](../minilm/nn/lora.py), the layer, and [minilm/training/lora.py](../minilm/training/lora.py), a
#   whole model with its file of adapters.
# - [minilm/training/finetuning.py](../minilm/training/finetuning.py): the four methods.
#   [examples/documents_finetuning.py](../examples/documents_finetuning.py): the few lines that many articles print, on
#   our own BERT.
# - [minilm/text/instructions.py](../minilm/text/instructions.py) and
#   [minilm/evaluation/multiple_choice.py](../minilm/evaluation/multiple_choice.py).
# - [tests/training](../tests/training), [tests/text](../tests/text), [tests/evaluation](../tests/evaluation): what
#   holds all this.

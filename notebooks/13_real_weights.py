# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 13 · Real weights
#
# **What you will be able to do**
#
# - read a file of weights byte by byte, and say what makes a reader safe;
# - turn four bits back into a weight;
# - list what a Llama does differently from a GPT;
# - chat with a published model that runs in NumPy, and look into its layers with a logit lens;
# - search by meaning with a sentence encoder.
#
# **What it needs:** the GPT (chapter 9), rotary positions (chapter 7), BERT (chapter 11). Two published models, 170
# MB, which `make pretrained` installs: SmolLM2-135M-Instruct (Allal et al. 2025) and all-MiniLM-L6-v2 (Reimers and
# Gurevych 2019).

# %%
import json
import struct
import tempfile
import time
from pathlib import Path

import numpy as np

import minilm.functional as F
from checks import results, source
from minilm import Tensor, no_grad
from minilm.errors import CheckpointError
from minilm.inspection import layer_logits, logit_lens, read
from minilm.plots.inspection_pictures import logit_lens_figure
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.pretrained import Conversation, SentenceEncoder, from_pretrained, load_chat_template, nearest
from minilm.pretrained.packages import locate
from minilm.pretrained.quantized import q4_1
from minilm.pretrained.safetensors_file import open_safetensors

# %% [markdown]
# ## What is in a file of weights?
#
# A trained model is a dictionary from names to arrays. A file of weights must say for each array its name, its shape,
# its type and where its bytes are. The format *safetensors* does nothing else:
#
# | bytes | what |
# |---|---|
# | 8 | $n$, the length of the header, a little-endian integer |
# | $n$ | JSON: `{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}` |
# | the rest | the arrays, one after the other |
#
# We write one by hand, and read it by hand.

# %% tags=["deterministic"]
weight = np.arange(6, dtype="<f4").reshape(2, 3)
header = json.dumps({"weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
data = struct.pack("<Q", len(header)) + header + weight.tobytes()

n = struct.unpack("<Q", data[:8])[0]
entries = json.loads(data[8 : 8 + n])
begin, end = entries["weight"]["data_offsets"]
read_back = np.frombuffer(data[8 + n + begin : 8 + n + end], dtype="<f4").reshape(entries["weight"]["shape"])
print("header of", n, "bytes:", entries)
print("the same array:", np.array_equal(read_back, weight))

# %% [markdown]
# Ten lines. What makes a real reader longer is that **a file may lie.** The older habit was `pickle`, which *runs
# code* from the file: whoever opens a model from a stranger runs the stranger's program. Here nothing can be run, but
# numbers can still be wrong: a header length of $10^{18}$ that eats the memory, two arrays in the same bytes, a shape
# that does not fit its bytes. Each must be found before anything is read.

# %% tags=["deterministic"]
def attempt(what, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content)
        try:
            open_safetensors(path)
            print(f"{what}: read")
        except CheckpointError as error:
            print(f"{what}: {str(error).replace(str(path), 'model.safetensors')}")


attempt("as it was", data)
attempt("a huge header", struct.pack("<Q", 10**18) + data[8:])
attempt("cut short", data[:-4])
wrong = json.dumps({"weight": {"dtype": "F32", "shape": [2, 9], "data_offsets": [0, 24]}}).encode()
attempt("a wrong shape", struct.pack("<Q", len(wrong)) + wrong + weight.tobytes())

# %% [markdown]
# ## Names
#
# The same matrix has many names. What we call `blocks.0.attention.qkv_proj.weight` is three matrices in Llama's own
# files, `layers.0.attention.wq`, `wk` and `wv`; `model.layers.0.self_attn.q_proj.weight` and so on at Hugging Face;
# `blk.0.attn_q` in a GGUF file (the format of the chat model below). All these tables are in one file,
# [names.py](../minilm/pretrained/names.py), and are used in both directions, so that what is read can be written
# again under its published names. The whole work of "loading a pretrained model" is this table, a check of every
# shape, and no tensor left over on either side.
#
# ## Four bits
#
# The chat model has 135 million weights. As float32 they would be 538 MB. Its file has 98 MB, because most weights
# have four bits. Thirty-two weights $w_i$ share a scale $d$ and a minimum $m$, both float16, and each has an integer
# $q_i$ from 0 to 15:
#
# $$w_i = d \, q_i + m, \qquad
# \text{16 bytes of } q \text{ (two in a byte)} + 2 + 2 = 20 \text{ bytes for 32 weights, 5 bits each.}$$

# %% tags=["deterministic"]
rng = np.random.default_rng(0)
w = rng.normal(0, 0.1, 32).astype(np.float32)
d, m = np.float16((w.max() - w.min()) / 15), np.float16(w.min())
q = np.clip(np.round((w - np.float32(m)) / np.float32(d)), 0, 15).astype(np.uint8)
packed = q[:16] | q[16:] << 4  # byte j: q_j in the lower half, q_(j+16) in the upper
block = d.tobytes() + m.tobytes() + packed.tobytes()

low, high = packed & 15, packed >> 4
by_hand = np.float32(d) * np.concatenate([low, high]) + np.float32(m)
print(len(block), "bytes; the library reads the same:", np.array_equal(q4_1(np.frombuffer(block, np.uint8)), by_hand))
print(f"largest error {np.abs(by_hand - w).max():.4f}, half of a step {float(d) / 2:.4f}")

# %%
figure = new_figure()
figure.set_size_inches(7, 2.5)
axes = figure.subplots()
for level in range(16):
    axes.axhline(float(d) * level + float(m), color=GREY, linewidth=0.4)
axes.plot(w, "o", color=COLOURS[0], label="weight")
axes.plot(by_hand, "x", color=COLOURS[1], label="from four bits")
axes.set(xlabel="weight of a block", ylabel="value")
axes.legend(loc="lower right", ncols=2)
figure

# %% [markdown]
# ## What a Llama does differently
#
# SmolLM2 has the architecture of Llama (Touvron et al. 2023). Compared with the GPT of chapter 9, four things:
#
# 1. **RMS norm** (Zhang and Sennrich 2019): $y = w \odot x / \sqrt{\mathrm{mean}(x^2) + \epsilon}$. No mean is taken
#    away, no bias is added.
# 2. **Rotary positions** (Su et al. 2021; chapter 7): queries and keys are turned by their position. No table of
#    positions.
# 3. **SwiGLU** (Shazeer 2020): the feed-forward layer is $W_3\,(\mathrm{silu}(W_1 x) \odot W_2 x)$, one half opens
#    the gates of the other. $\mathrm{silu}(z) = z\,\sigma(z)$.
# 4. **Grouped heads** (Ainslie et al. 2023): several query heads share one key and value head. Here nine share three,
#    so the cache is a third.
#
# Besides, none of its linear layers has a bias.

# %% tags=["deterministic"]
x = np.array([1.0, -2.0, 3.0, 0.5])
by_hand = x / np.sqrt((x**2).mean() + 1e-5)
print("RMS norm", np.round(by_hand, 4), np.allclose(by_hand, F.rms_norm(Tensor(x), 4, eps=1e-5).numpy()))
a, b = np.array([1.0, -1.0]), np.array([0.5, 2.0])
by_hand = a / (1 + np.exp(-a)) * b
print("SwiGLU  ", np.round(by_hand, 4), np.allclose(by_hand, F.swiglu(Tensor(a), Tensor(b)).numpy()))

# %% [markdown]
# ## A published model, in NumPy

# %%
began = time.perf_counter()
model, tokenizer = from_pretrained("smollm2-135m-instruct")
size = locate("smollm2-135m-instruct").stat().st_size
print(f"{model.num_parameters():,} parameters out of {size / 1e6:.0f} MB in {time.perf_counter() - began:.1f} s")
print(model.config)

# %% tags=["deterministic"]
prompt = "The capital of France is"
ids = tokenizer.encode(prompt)
with no_grad():
    z = model(ids[None]).data[0, -1].astype(np.float64)
p = np.exp(z - z.max())
p /= p.sum()
print([tokenizer.decode([i]) for i in ids])
for i in np.argsort(-p)[:5]:
    print(f"{tokenizer.decode([i])!r:12} {p[i]:.2f}")

# %% [markdown]
# The model knows. How do we know that *we* have not made a mistake on the way, in 30 layers? We compare with others:
# the logits of transformers on the same weights, once computed and committed as numbers. The largest difference is
# some hundred-thousandths, of logits around ten: the rounding of float32.

# %%
figures = results("pretrained")["smollm2-135m-instruct"]
print(f"largest difference of the logits  {figures['largest_difference_of_logits']:.1e}")
print(f"perplexity of a short text        {figures['perplexity']:.5f}, transformers {figures['perplexity_of_transformers']}")
print(f"tokens a second, two threads      {figures['tokens_read_per_second']:.0f} read, {figures['tokens_written_per_second']:.0f} written")

# %% [markdown]
# ## A chat
#
# To a chat model a conversation is one long text. A *template*, written by the model's authors and carried in the
# file, says how: who speaks, where a turn ends.

# %% tags=["deterministic"]
template = load_chat_template("smollm2-135m-instruct", tokenizer)
print(template.render([{"role": "user", "content": "What is the sun?"}]))

# %% [markdown]
# The model continues this text, and stops at the token that ends a turn. For the next turn, keys and values of all
# that was said are still in the cache: only what is new is computed.

# %%
chat = Conversation(model, tokenizer, template, max_new_tokens=40)
for question in ("What is the sun? Answer in one sentence.", "How far away is it?"):
    print(">", question)
    print("".join(chat.reply(question)))
    turn = chat.turns[-1]
    print(f"  [{turn.read} tokens read, {turn.written} written]")

# %% [markdown]
# It is a small model: it speaks well and is often wrong. `minilm chat smollm2-135m-instruct` is the same on the
# command line.
#
# ## A logit lens
#
# Every block adds to one residual stream, and the head reads the stream at its end. Nothing keeps us from letting the
# head read it *earlier* (nostalgebraist 2020):
#
# $$\mathrm{logits}^{(l)} = E \, \mathrm{norm}(h^{(l)}), \qquad l = 0, \dots, L.$$
#
# The first function keeps what each block hands on (a *hook* is called whenever its module has run), and puts every
# one of these through the last norm and the head. The second one looks at the probabilities.

# %%
source(layer_logits, logit_lens)

# %%
reading = read(tokenizer, prompt)
lens = logit_lens(model, reading.ids, follow=(int(tokenizer.encode(" Paris")[0]),))
figure = logit_lens_figure(lens, reading.tokens, lambda i: tokenizer.decode([i]))
figure.set_size_inches(7, 6.4)
figure

# %% [markdown]
# Read the last column from the bottom to the top. The embedding says the token itself (with one exception in the
# picture), since the head is the table of embeddings again. For most of the way the lens reads full stops and spaces;
# the answer stands on top after the last layer only, and begins to rise just before. The lens shows what the head
# *would* say. It does not prove that a layer "thinks" it: the head was trained on the last layer alone, and what is
# written in other directions before, it cannot read.
#
# The same for the last position alone, with the *entropy* of each layer's guess, $-\sum_i p_i \log p_i$: 0 if one
# token has all the probability, $\log V$ if all have the same.

# %%
(followed,) = lens.followed.values()
figure = new_figure()
figure.set_size_inches(7, 2.5)
axes = figure.subplots()
axes.plot(followed[:, -1], "o-", color=COLOURS[0], label='probability of " Paris"')
axes.set(xlabel="after layer", ylabel="probability", ylim=(0, 1))
right = axes.twinx()
right.plot(lens.entropy[:, -1], color=COLOURS[1], label="entropy")
right.set_ylabel("entropy, nats", color=COLOURS[1])
axes.legend(frameon=False, loc="upper left")
figure

# %% [markdown]
# ## A sentence encoder
#
# all-MiniLM-L6-v2 is a BERT of six layers that was trained so that sentences which mean the same lie near each other.
# A sentence becomes the mean of its tokens' vectors, scaled to length 1:
#
# $$e = \frac{\bar h}{|\bar h|}, \qquad \bar h = \frac{1}{T} \sum_{t=1}^{T} h_t, \qquad \cos(a, b) = e_a \cdot e_b .$$

# %%
encoder = SentenceEncoder.load()
sentences = [
    "A cat sleeps on the sofa.",
    "The kitten is napping on the couch.",
    "Stock prices fell sharply on Monday.",
    "The market lost value at the beginning of the week.",
    "How do I bake bread?",
]
e = encoder.encode(sentences)
cosine = e @ e.T
figure = new_figure()
figure.set_size_inches(7, 3.2)
axes = figure.subplots()
image = axes.imshow(cosine, cmap="Blues", vmin=0, vmax=1)
for i in range(5):
    for j in range(5):
        axes.text(j, i, f"{cosine[i, j]:.2f}", ha="center", va="center", color="white" if cosine[i, j] > 0.6 else "black", fontsize=9)
axes.set_xticks(range(5), range(1, 6))
axes.set_yticks(range(5), [f"{i}  {s}" for i, s in enumerate(sentences, 1)], fontsize=8)
figure.colorbar(image, label="cosine")
figure

# %% [markdown]
# The two about cats have hardly a word in common. And that is a search by meaning: embed the documents once, embed
# the question, take the nearest.

# %% tags=["deterministic"]
documents = [
    "Water boils at 100 degrees Celsius at sea level.",
    "The Eiffel Tower was built for the world's fair of 1889.",
    "Python lists grow as elements are appended.",
    "Penguins cannot fly, but they swim very well.",
]
library = encoder.encode(documents)
for question in ("When was the tower in Paris made?", "a bird that lives in the sea"):
    number, score = nearest(encoder.encode([question])[0], library, 1)[0]
    print(f"{question:36} {score:.2f}  {documents[number]}")

# %% [markdown]
# ## Exercises
#
# **Exercise 13.1.** Check the header of a safetensors file: return the list of what is wrong with it (as strings), an
# empty list for a good one. Three things: an array's bytes lie outside of the data; two arrays share bytes; the bytes
# are not as many as the shape says (`F32`: 4 bytes a number).

# %%
def problems(entries, data_length):
    """entries: {name: {"dtype": "F32", "shape": [...], "data_offsets": [begin, end]}}; one string for each problem."""
    ...


# from checks.chapter_13 import check_problems; check_problems(problems)

# %% [markdown]
# **Exercise 13.2.** The format Q4_0: 18 bytes for 32 weights, a float16 $d$ and 16 bytes of integers, packed as
# above; $w_i = d\,(q_i - 8)$.

# %%
def q4_0(raw):
    """raw: bytes, a multiple of 18 -> float32 (n,)."""
    ...


# from checks.chapter_13 import check_q4_0; check_q4_0(q4_0)

# %% [markdown]
# **Exercise 13.3.** Sentence vectors of a padded batch. Padding must not count.

# %%
def pool(hidden, mask):
    """hidden (B, T, C), mask (B, T) True for tokens -> (B, C), each row of length 1."""
    ...


# from checks.chapter_13 import check_pool; check_pool(pool)

# %% [markdown]
# **Exercise 13.4.** Rotary positions turn pairs of channels. Some files pair neighbours, (0, 1), (2, 3), ..., others
# pair halves, (0, D/2), (1, D/2 + 1), ... In which order must the rows of a query matrix for neighbours be taken, so
# that a model that pairs halves computes the same?

# %%
def halves_from_neighbours(D):
    """int (D,): row i of the new matrix is row order[i] of the old one."""
    ...


# from checks.chapter_13 import check_halves_from_neighbours; check_halves_from_neighbours(halves_from_neighbours)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
from checks.chapter_13 import check_halves_from_neighbours, check_pool, check_problems, check_q4_0


def problems(entries, data_length):
    found, last_end, last_name = [], 0, None
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= data_length:
            found.append(f"{name}: bytes {begin} to {end} of {data_length}")
        elif end - begin != 4 * int(np.prod(entry["shape"], dtype=object)):
            found.append(f"{name}: {end - begin} bytes for the shape {entry['shape']}")
        if last_name is not None and begin < last_end:
            found.append(f"{name} shares bytes with {last_name}")
        if end > last_end:
            last_end, last_name = end, name
    return found


check_problems(problems)

# %% tags=["solution"]
def q4_0(raw):
    block = np.frombuffer(raw, dtype=[("d", "<f2"), ("q", "u1", 16)])
    q = np.concatenate([block["q"] & 15, block["q"] >> 4], axis=1).astype(np.int8) - 8  # int8: 3 - 8 must be -5
    return (block["d"].astype(np.float32)[:, None] * q).reshape(-1)


check_q4_0(q4_0)

# %% tags=["solution"]
def pool(hidden, mask):
    total = (hidden * mask[:, :, None]).sum(axis=1)  # the mean is the same vector, once its length is 1
    return total / np.linalg.norm(total, axis=1, keepdims=True)


check_pool(pool)

# %% tags=["solution"]
def halves_from_neighbours(D):
    return np.concatenate([np.arange(0, D, 2), np.arange(1, D, 2)])


check_halves_from_neighbours(halves_from_neighbours)

# %% [markdown]
# ## What to read next
#
# - [minilm/pretrained](../minilm/pretrained/__init__.py): readers, names, sizes, templates, in order.
# - [minilm/models/llama.py](../minilm/models/llama.py): the whole Llama, and [bert.py](../minilm/models/bert.py).
# - [minilm/inspection/logit_lens.py](../minilm/inspection/logit_lens.py).
# - [tests/pretrained](../tests/pretrained): hostile files, round trips under the published names, and the numbers of
#   others.

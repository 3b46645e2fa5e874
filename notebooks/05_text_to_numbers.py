# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · From text to numbers
#
# **What you will be able to do**
#
# - turn a web page into text that is worth learning from, and say what each step of cleaning takes away;
# - say what a character is to a computer, and write any text with 256 ids;
# - train a byte-pair encoding, encode with it, and explain why the merges must be made in their order;
# - split a word into WordPiece tokens;
# - choose a tokenizer, knowing what you pay: vocabulary against length.
#
# **What it needs:** Python and NumPy. The engine of the chapters before is not used here.

# %%
from collections import Counter

import numpy as np

from checks import source
from minilm.plots.loss_curves import COLOURS, new_figure
from minilm.text import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    GPT2Tokenizer,
    WordPieceTokenizer,
    clean,
    html_to_text,
    load_corpus,
)

# %% [markdown]
# ## From a page to text
#
# A language model learns from whatever it is given, and it writes what it has learnt: if the training text is full of
# `<br>` and `&nbsp;`, so is its output. Here is a page as it comes from the network.

# %%
page = """<html><head><title>Cats</title><script>track("visit")</script></head>
<body><h1>The cat&#8217;s  life</h1>
<p>A cat sleeps <b>sixteen</b> hours&nbsp;a day.<br>It costs &pound;3 &amp; some patience.</p>
<!-- more cats --><p>Cafe\u0301 cats sleep more. Itâ€™s true.</p></body></html>"""
text = html_to_text(page)
print(text)

# %% [markdown]
# The tags, the script and the comment are gone, the entities have become characters, and each block has its line. Two
# flaws are left that one cannot see, or only wonders about.
#
# - `â€™` was an apostrophe once. Its three bytes were read in the wrong encoding and written again. This happens so
#   often that there is a word for it, *mojibake*, and it can be undone.
# - The last letter of "Café" can be written in two ways: as one character, or as an "e" and an accent that is put on
#   top of it. Both look the same. To a program they are different, and so they would be to a model.
#
# `clean` repairs the first and chooses one form for the second (Unicode's *normal form C*: one character where there is
# one).

# %% tags=["deterministic"]
cleaned = clean(text)
print(cleaned.splitlines()[-1])
for name, word in (("before", "Cafe\u0301"), ("after", clean("Cafe\u0301"))):
    print(f"{name:6}  {len(word)} characters: {[f'U+{ord(c):04X}' for c in word]}")

# %% [markdown]
# More could be taken away: capitals, commas, accents, everything that is no letter. The introductory programs of ten
# years ago did all of that (`lower=True`), since their vocabularies were lists of words and every form of a word cost
# an entry. The price is plain: **a model cannot write what its training text does not have.** Today one cleans what
# nobody wants, and leaves the rest to the tokenizer.
#
# ## A text is a row of integers already
#
# To a computer each character is a number, its *code point*, and Python tells it: `ord("A")` is 65. So a first
# tokenizer is a table from the characters that occur in a text to 0, 1, 2, ...

# %% tags=["deterministic"]
plays = "\n".join(load_corpus("shakespeare"))
characters = sorted(set(plays))
id_of = {character: i for i, character in enumerate(characters)}
ids = [id_of[character] for character in "To be, or not"]
print(len(characters), "characters:", "".join(characters).replace("\n", "\\n"))
print(ids)
print("".join(characters[i] for i in ids))

# %% [markdown]
# `CharTokenizer` is these three lines and the questions that come with them: what happens to a character that is not in
# the table? It says so, instead of dropping it.

# %%
char = CharTokenizer.train([plays])
try:
    char.encode("To be \u20ac")
except Exception as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# How often does each character occur? A few make up most of the text. We will use that in a moment: **what is frequent
# should be cheap.**

# %%
counts = Counter(plays)
common = counts.most_common(40)
figure = new_figure()
figure.set_size_inches(7, 2.6)
axes = figure.subplots()
names = [{" ": "space", "\n": "line"}.get(character, character) for character, _ in common]
axes.bar(range(len(common)), [100 * n / len(plays) for _, n in common], color=COLOURS[0])
axes.set_xticks(range(len(common)), names, fontsize=8)
for label, name in zip(axes.get_xticklabels(), names, strict=True):
    label.set_rotation(90 if len(name) > 1 else 0)
axes.set_ylabel("% of all characters")
axes.set_xlabel("the 40 most frequent characters of Shakespeare's plays")
figure

# %% [markdown]
# ## Bytes: 256 ids write everything
#
# Unicode has more than 150,000 characters, and next year it has more. A table of them all would be large, and most of
# its rows would never be trained. But every character is *stored* as one to four bytes, in a form called UTF-8, and a
# byte has only 256 values:
#
# | code point | bytes | pattern of bits |
# |---|---|---|
# | up to 127 | 1 | `0xxxxxxx` |
# | up to 2,047 | 2 | `110xxxxx 10xxxxxx` |
# | up to 65,535 | 3 | `1110xxxx 10xxxxxx 10xxxxxx` |
# | the others | 4 | `11110xxx 10xxxxxx 10xxxxxx 10xxxxxx` |
#
# The bits of the code point fill the x's. The first byte says how many follow, and a byte that follows begins with
# `10`, so one always sees where a character begins.

# %% tags=["deterministic"]
for character in "Aé€猫🐈":
    data = character.encode("utf-8")
    print(f"U+{ord(character):05X}  {len(data)}  {' '.join(f'{byte:08b}' for byte in data):36}  {list(data)}")

# %% [markdown]
# Nothing is trained and no text is ever refused. The price is length: the same sentence takes more ids in one language
# than in another, for no reason but the order in which scripts were put into Unicode.

# %%
greetings = {
    "English": "The cat sleeps on the warm stove.",
    "French": "Le chat dort sur le poêle tiède.",
    "Greek": "Η γάτα κοιμάται πάνω στη ζεστή σόμπα.",
    "Russian": "Кошка спит на тёплой печке.",
    "Hindi": "बिल्ली गर्म चूल्हे पर सोती है।",
    "Chinese": "猫睡在温暖的炉子上。",
}
byte = ByteTokenizer()
figure = new_figure()
figure.set_size_inches(7, 2.6)
axes = figure.subplots()
for offset, label, lengths in (
    (-0.2, "characters", [len(s) for s in greetings.values()]),
    (0.2, "bytes", [len(byte.encode(s)) for s in greetings.values()]),
):
    axes.barh(np.arange(len(greetings)) + offset, lengths, 0.4, label=label, color=COLOURS[0 if offset < 0 else 1])
axes.set_yticks(range(len(greetings)), list(greetings))
axes.invert_yaxis()
axes.set_xlabel("ids for one sentence")
axes.legend(frameon=False)
figure

# %% [markdown]
# ## Byte-pair encoding: make the frequent short
#
# A row of bytes is long. An attention layer compares every position with every other, so a row that is four times as
# long costs sixteen times as much there, and the same *context*, the number of positions that a model reads at once,
# holds a quarter of the text.
#
# Words would be short rows, but there is no end of words, and names and typing errors are not in any list. *Byte-pair
# encoding* (Gage 1994; Sennrich, Haddow and Birch 2016) lies between the two. It starts with bytes and repeats one
# step:
#
# > find the pair of neighbours that is most frequent, and write a new symbol for it, everywhere.
#
# In symbols: with a text $x_1 \dots x_n$ and $N(a, b)$ the number of places $i$ where $x_i = a$ and $x_{i+1} = b$,
#
# $$(a^*, b^*) = \arg\max_{(a, b)} N(a, b), \qquad a^* b^* \to c, \quad c \text{ a new symbol.}$$
#
# Two functions are all of it.

# %%
def count_pairs(ids):
    """N(a, b) for all pairs of neighbours."""
    return Counter(zip(ids, ids[1:]))


def merge(ids, pair, new):
    """`new` wherever `pair` stands, from left to right."""
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


# %% [markdown]
# An example that many explanations use, step by step. Of pairs that are equally frequent we take the one with the
# smallest ids.

# %% tags=["deterministic"]
ids = list(b"aaabdaaabac")
names = {value: chr(value) for value in range(256)}
for new in (256, 257, 258):
    pair, count = min(count_pairs(ids).items(), key=lambda item: (-item[1], item[0]))
    names[new] = "ZYX"[new - 256]
    ids = merge(ids, pair, new)
    print(f"{names[pair[0]]}{names[pair[1]]} stands {count} times: call it {names[new]}:  {''.join(names[i] for i in ids)}")
print("most frequent now:", max(count_pairs(ids).values()), "time")

# %% [markdown]
# Note the 4 in the first line: in `aaab` the pair `aa` stands twice, and the two places share an `a`. Counting sees
# both; merging from left to right takes the first.
#
# ### Trained live
#
# Now on Shakespeare, the first 100,000 characters. Our two functions go through the whole text for each merge: fifty
# merges are fifty walks.

# %% tags=["deterministic"]
sample = plays[:100_000]
ids = list(sample.encode("utf-8"))
words = {value: bytes([value]) for value in range(256)}
merges = []
for new in range(256, 306):
    pair, count = min(count_pairs(ids).items(), key=lambda item: (-item[1], item[0]))
    merges.append(pair)
    words[new] = words[pair[0]] + words[pair[1]]
    ids = merge(ids, pair, new)
    if new < 268 or new > 302:
        print(f"{new}: {words[pair[0]]!r} + {words[pair[1]]!r}, {count} times -> {words[new]!r}")
    elif new == 268:
        print("...")

# %% [markdown]
# It begins with the ends of words, each with its space, and finds "th", "er", "ou", "an", "in". Nobody told it what a
# word is. With a thousand tokens, below, it knows the speakers by name.
#
# The library makes the same merges. It keeps for each pair the places where it stands, in a linked list, so that a
# merge costs as many steps as it has places and not a walk through the text. Here is that step, from
# `minilm/text/tokenizers/pairs.py`:

# %%
from minilm.text.tokenizers.pairs import PairIndex

source(PairIndex.merge)

# %% tags=["deterministic"]
same = BPETokenizer.train([sample], vocab_size=306)
print("the same 50 merges:", list(same.merges) == merges)
bpe = BPETokenizer.train([plays[:1_000_000]], vocab_size=1000)
longest = sorted(bpe.tokens, key=len)[-6:]
print("1,000 tokens; the longest:", [token.decode() for token in longest])

# %% [markdown]
# What does each merge bring? The more tokens, the shorter the row, but with less and less gain: the first merges find
# what stands everywhere, the later ones what is rarer.

# %%
held_out = plays[2_000_000:2_100_000]
sizes = [256, 270, 300, 350, 400, 500, 600, 800, 1000]
length = [len(BPETokenizer(bpe.merges[: size - 256]).encode(held_out)) for size in sizes]
figure = new_figure()
figure.set_size_inches(7, 3)
axes = figure.subplots()
axes.plot(sizes, [len(held_out) / n for n in length], "o-", color=COLOURS[0])
axes.set_xlabel("vocabulary: 256 bytes and the merges")
axes.set_ylabel("characters per token")
axes.set_ylim(0)
figure

# %% [markdown]
# The text that is measured here was not trained on. That matters: merges can be learnt by heart as well.
#
# ## Encoding: the same merges, in the same order
#
# To encode a new text one could cut off the longest token that fits, again and again. That gives another result than
# training saw. **Encoding makes the merges in the order in which they were learnt**: of all pairs in the text, the one
# that was learnt first. A small example where the two differ: three merges, learnt in this order.

# %% tags=["deterministic"]
def encode(ids, merges):
    """Make the merges, the earliest first, until none applies; merge number i makes 256 + i."""
    rank = {pair: i for i, pair in enumerate(merges)}
    while len(ids) > 1:
        pair = min(zip(ids, ids[1:]), key=lambda pair: rank.get(pair, len(rank)))
        if pair not in rank:
            break
        ids = merge(ids, pair, 256 + rank[pair])
    return ids


b, c, a = ord("b"), ord("c"), ord("a")
learnt = [(b, c), (a, b), (257, c)]  # "bc", then "ab", then "ab" + "c"
text_of = {**{i: bytes([i]) for i in range(256)}, 256: b"bc", 257: b"ab", 258: b"abc"}
print("in the order of the merges:", [text_of[i] for i in encode(list(b"abc"), learnt)])
print("the library:               ", [text_of[i] for i in BPETokenizer(learnt).encode("abc").tolist()])
print("the longest token first:   ", [b"abc"])

# %% [markdown]
# Decoding has no such trouble: put the bytes of the tokens side by side and read them as UTF-8. One thing can go
# wrong: a model may write half of a character. The library shows U+FFFD for it, as browsers do, and its stream
# decoder waits until a character is complete.

# %% tags=["deterministic"]
line = "To be, or not to be: naïve 🐈"
coded = bpe.encode(line)
print(coded.tolist())
print([bpe.tokens[i].decode("utf-8", "replace") for i in coded])
print("round trip:", bpe.decode(coded) == line, "| without the last id:", bpe.decode(coded[:-1]))

# %% [markdown]
# ## Words first
#
# Look at what merges across spaces do: tokens such as `ing, ` are made where they are frequent. The word "king" then
# ends in another token with a comma after it than without, and the model has to learn each form by itself.
#
# GPT-2's tokenizer (Radford et al. 2019) cuts the text into words first, by one regular expression, and no merge goes
# across a cut. A word takes the space before it along.

# %% tags=["deterministic"]
words_first = GPT2Tokenizer.train([plays[:1_000_000]], vocab_size=1000)
for phrase in ("the king", "the king, and", "the king."):
    one = [bpe.tokens[i].decode() for i in bpe.encode(phrase)]
    two = [words_first.tokens[i].replace("Ġ", " ") for i in words_first.encode(phrase)]
    print(f"{phrase!r:16} without words {one!s:28} words first {two}")

# %% [markdown]
# (In its files GPT-2 writes a space as Ġ, so that every byte is a printable character.) Words bring a second gain,
# speed: the same words come again and again, so what a word becomes is computed once and then looked up.
#
# ## WordPiece: the longest piece from the left
#
# BERT's tokenizer also cuts words into pieces, but differently. Its vocabulary has two kinds of pieces: those that
# begin a word, and those that go on, written with `##`. A word $w$ is cut greedily: the longest beginning of $w$ that
# is in the vocabulary, then the longest `##` piece that the rest begins with, and so on. If nothing fits, the whole
# word is `[UNK]`.
#
# BERT's own vocabulary has 30,522 pieces. Nine show how it works; the five in brackets have a meaning of their own,
# of which only `[UNK]` matters here ([chapter 11](11_bert.ipynb) has the others).

# %% tags=["deterministic"]
pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "##a", "aff", "the", "cat", "##s", "!"]
wordpiece = WordPieceTokenizer(pieces)
for phrase in ("The cats!", "unaffable", "affable", "THE CÁT", "dogs"):
    print(f"{phrase:10} {[pieces[i] for i in wordpiece.encode(phrase)]}")

# %% [markdown]
# "THE CÁT" lost its capitals and its accent: this is the *uncased* kind. And the spaces are gone. WordPiece was made
# for models that read, not for models that write, and cannot give the text back. Byte-pair encoding can: that is why
# every model that writes uses it, or a relative of it (SentencePiece for Llama, which `minilm.text` has as well).
#
# ## What do you pay?
#
# A token costs a row of $C$ numbers in the embedding, and as many again in the output layer unless the two share it.
# So a vocabulary of $V$ costs $V C$ parameters. A row of ids that is shorter by a factor $r$ makes a context of $T$
# positions hold $r$ times the text. The same passage of 100,000 characters in all of our tokenizers, and the
# embedding of a small model with $C = 128$:

# %% tags=["deterministic"]
rows = {
    "character": (char.vocab_size, len(char.encode(held_out))),
    "byte": (256, len(byte.encode(held_out))),
    "BPE, 1,000": (bpe.vocab_size, len(bpe.encode(held_out))),
    "words first, 1,000": (words_first.vocab_size, len(words_first.encode(held_out))),
}
print(f"{'tokenizer':20}{'V':>7}{'V C':>10}{'ids':>10}{'characters per id':>20}")
for name, (V, n) in rows.items():
    print(f"{name:20}{V:7,}{V * 128:10,}{n:10,}{len(held_out) / n:20.2f}")

# %% [markdown]
# There is no best tokenizer, only a best one for a size of model: a network of 0.8 million parameters would spend eight
# times its size on GPT-2's 50,257 tokens with 128 channels. For small models take characters or a small byte-pair
# encoding; for large models a large one.
#
# One warning for later (chapter 12 comes back to it): the loss of two models with different tokenizers cannot be
# compared, since a token is not the same amount of text. Bits per byte can.
#
# ## Exercises
#
# **Exercise 5.1.** How many bytes does a character take in UTF-8? Write it from the table, without `encode`.

# %%
def utf8_length(code_point):
    """1, 2, 3 or 4."""
    ...


# from checks.chapter_05 import check_utf8_length; check_utf8_length(utf8_length)

# %% [markdown]
# **Exercise 5.2.** Training counts pairs over several texts (documents). No pair may reach from the end of one text
# into the beginning of the next. Count them.

# %%
def count_pairs_in_texts(texts):
    """{(a, b): how often} for a list of lists of ids; nothing goes across two texts."""
    ...


# from checks.chapter_05 import check_count_pairs; check_count_pairs(count_pairs_in_texts)

# %% [markdown]
# **Exercise 5.3.** Given the merges, what does a token stand for? Merge number $i$ makes the token $256 + i$ out of two
# earlier tokens. Return its bytes.

# %%
def expand(token, merges):
    """The bytes that a token stands for; merges is a list of pairs of ids."""
    ...


# from checks.chapter_05 import check_expand; check_expand(expand)

# %% [markdown]
# **Exercise 5.4.** Write WordPiece for one word.

# %%
def cut_word(word, vocabulary):
    """The pieces of a word, the longest first from the left; ["[UNK]"] if it cannot be cut. vocabulary: a set."""
    ...


# from checks.chapter_05 import check_cut_word; check_cut_word(cut_word)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
from checks.chapter_05 import check_count_pairs, check_cut_word, check_expand, check_utf8_length


def utf8_length(code_point):
    return 1 + (code_point > 0x7F) + (code_point > 0x7FF) + (code_point > 0xFFFF)


check_utf8_length(utf8_length)

# %% tags=["solution"]
def count_pairs_in_texts(texts):
    total = Counter()
    for ids in texts:
        total.update(zip(ids, ids[1:]))  # each text by itself: joining them first would make pairs across the ends
    return total


check_count_pairs(count_pairs_in_texts)

# %% tags=["solution"]
def expand(token, merges):
    if token < 256:
        return bytes([token])
    left, right = merges[token - 256]
    return expand(left, merges) + expand(right, merges)


check_expand(expand)

# %% tags=["solution"]
def cut_word(word, vocabulary):
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):  # the longest first
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:  # nothing fits: the word as a whole is unknown, also what was cut off before
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


check_cut_word(cut_word)

# %% [markdown]
# ## What to read next
#
# - [minilm/text/tokenizers](../minilm/text/tokenizers/__init__.py): the ladder, a file for each rung, from characters
#   to SentencePiece; each says what it does not do.
# - [pairs.py](../minilm/text/tokenizers/pairs.py): the linked list that makes training quick.
# - [cleaning.py](../minilm/text/cleaning.py) and [corpora.py](../minilm/text/corpora.py): where text comes from.
# - [tests/text](../tests/text): the tokenizers must agree with the ones that GPT-2 and BERT were published with, on
#   emoji, Arabic, Khmer and runs of spaces, and decode what they encoded.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 15 · Memory is the cost
#
# **What you will be able to do**
#
# - measure how fast your machine computes and how fast it fetches, and draw its roofline;
# - compute the arithmetic intensity of an operation, and say before any measurement what will limit it;
# - explain why a matrix product is cut into blocks, and count the bytes that it saves;
# - say why writing one token at a time is slow, and what batches, small keys and small numbers do about it.
#
# **What it needs**: the matrix product ([chapter 2](02_tensors.ipynb)), attention ([chapter 7](07_attention.ipynb)),
# the KV cache ([chapter 9](09_gpt.ipynb)).
#
# Timings in this chapter are those of the machine that built the page. Run it on yours: the numbers will differ, the
# shapes of the curves hardly.

# %%
import time

import numpy as np
from matplotlib.ticker import LogLocator
from threadpoolctl import threadpool_limits

from checks import source
from checks.cache import Cache
from checks.chapter_15 import check_cache_bytes, check_intensity, check_roofline, check_transpose
from minilm.kernels.matmul.blocked import fetched_bytes
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.plots.roofline import draw_roofs
from minilm.testing.timing import cpu_model

# %% [markdown]
# ## Two programs
#
# A *flop* is one floating-point operation: an addition or a multiplication. Multiplying two $n \times n$ matrices
# takes $n^3$ multiplications and as many additions: $2 n^3$ flops. Adding two vectors of length $N$ takes $N$ flops.
# In which of the two does the processor get through more flops a second?

# %%
threadpool_limits(1)  # NumPy's products on one core, as everything else here


def seconds(call, at_least=0.15):
    """The shortest of several runs. `thread_time` stands still while another program has the processor."""
    times = []
    while len(times) < 3 or sum(times) < at_least:
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return min(times)


rng = np.random.default_rng(0)
n, N = 512, 1 << 23
a, b = rng.standard_normal((2, n, n), dtype=np.float32)
x, y = rng.standard_normal((2, N), dtype=np.float32)
z = np.empty_like(x)
product = seconds(lambda: np.matmul(a, b), at_least=0.6)
additions = seconds(lambda: np.add(x, y, out=z))
print(f"matrix product: {2 * n**3 / product / 1e9:7.2f} billion flops a second")
print(f"addition:       {N / additions / 1e9:7.2f} billion flops a second")

# %% [markdown]
# The same processor, the same float32 numbers, and a factor of more than ten. The adder does not know which program
# it works for. It waits: the addition fetches two numbers and stores one for every flop, and they come from far away.
#
# ## Near and far
#
# A processor computes on *registers*, a few hundred numbers. Behind them stand caches, each larger and slower than
# the one before, and last the main memory. A number that is asked for is looked up in each in turn; when it is found,
# it is copied into all caches on the way, with its neighbours (a *line*, mostly 64 bytes), and what was not used for
# long is thrown out.
#
# One can see the levels from Python: copy an array again and again, and count bytes a second. A small array stays in
# a near cache, a large one has to come from main memory each time.

# %%
sizes = [1 << p for p in range(13, 27)]  # bytes: 8 KB to 64 MB
rates = []
for size in sizes:
    source_array, target = np.ones(size // 4, np.float32), np.zeros(size // 4, np.float32)
    rounds = max(1, (1 << 22) // size)

    def copy(source_array=source_array, target=target, rounds=rounds):
        for _ in range(rounds):
            np.copyto(target, source_array)

    rates.append(2 * size * rounds / seconds(copy))  # read and written

figure = new_figure()
figure.set_size_inches(7, 2.9)
axes = figure.add_subplot()
axes.plot(sizes, np.array(rates) / 1e9, "o-", color=COLOURS[0])
axes.set(xscale="log", xlabel="size of the array", ylabel="GB/s, read and written", ylim=(0, None))
axes.set_xticks(sizes[1::2], [f"{s >> 10} KB" if s < 1 << 20 else f"{s >> 20} MB" for s in sizes[1::2]])
axes.minorticks_off()
axes.grid(color="#dddddd", linewidth=0.6)
figure

# %% [markdown]
# (At the very left the curve may fall: there the cost of a call of NumPy counts.) The right end is the *bandwidth* of
# the main memory: bytes a second, whatever one does with them.
#
# ## Arithmetic intensity and the roofline
#
# A program does $F$ flops and moves $M$ bytes between processor and main memory. Its **arithmetic intensity** is
#
# $$I = \frac{F}{M} \qquad \text{flops per byte}$$
#
# The machine computes at most $\pi$ flops a second (its *peak*) and moves at most $\beta$ bytes a second (its
# bandwidth). Computing takes at least $F / \pi$, moving at least $M / \beta$. At best the two overlap completely, so
#
# $$t \ge \max\Big(\frac{F}{\pi}, \frac{M}{\beta}\Big), \qquad
# \text{rate} = \frac{F}{t} \le \min\Big(\pi, \frac{F}{M}\beta\Big) = \min(\pi, I \beta)$$
#
# Drawn over $I$ with logarithmic axes this is a roof: a slope, then flat. The two meet at the **ridge**
# $I^* = \pi / \beta$. A program with $I < I^*$ is *memory-bound*: a faster processor would not help it. One with
# $I > I^*$ is *compute-bound*. (Williams, Waterman and Patterson 2009.)
#
# Let us compute some intensities, with float32, 4 bytes a number. Every array that is read or written counts once, as
# if the cache held everything else:
#
# | operation | flops | numbers moved |
# |---|---|---|
# | $z = x + y$, $N$ numbers | $N$ | $3N$ |
# | $x \cdot y$ | $2N$ | $2N$ |
# | $W x$, $W$ of $(n, n)$ | $2 n^2$ | $n^2 + 2n$ |
# | $A B$, both $(n, n)$ | $2 n^3$ | $3 n^2$ |
#
# The last line is the important one. Flops grow with $n^3$, numbers with $n^2$: the intensity of a matrix product
# grows with its size. Every number that is fetched *can* be used $n$ times.

# %% tags=["deterministic"]
def intensity(flops, numbers, itemsize=4):
    return flops / (numbers * itemsize)


C = 1024
print(f"addition               {intensity(1, 3):8.3f} flops a byte")
print(f"dot product            {intensity(2, 2):8.3f}")
print(f"matrix times vector    {intensity(2 * C**2, C**2 + 2 * C):8.3f}")
for m in (16, 128, 1024):
    print(f"matrix product, {m:4}   {intensity(2 * m**3, 3 * m**2):8.3f}")

# %% [markdown]
# Now the two numbers of this machine, one core: the bandwidth from a large copy or addition, the peak from a large
# product (so it is the peak that NumPy's library reaches, somewhat below what the data sheet says).

# %%
big = rng.standard_normal((2, 1024, 1024), dtype=np.float32)
larger = seconds(lambda: np.matmul(big[0], big[1]), at_least=0.6)
peak = max(2 * n**3 / product, 2 * 1024**3 / larger)
bandwidth = max(rates[-1], 3 * 4 * N / additions)  # the large copy, or the addition: the better one
print(f"{cpu_model()}, one core")
print(f"peak {peak / 1e9:.1f} GFLOP/s, bandwidth {bandwidth / 1e9:.1f} GB/s, ridge {peak / bandwidth:.1f} flops a byte")

# %% [markdown]
# Between "matrix times vector" and "matrix product" lies everything that a network does: $X W^\top$ with $B$ rows $X$
# $(B, C)$ and a large weight matrix $W$ $(C, C)$. It takes $2 B C^2$ flops and moves $C^2 + 2 B C$ numbers. For
# $B \ll C$ that is
#
# $$I \approx \frac{2 B C^2}{4 C^2} = \frac{B}{2}$$
#
# Half a flop a byte for each row. $B$ is how many tokens go through the layer together. The picture below shows
# $C = 3072$, for $B$ from 1 to 512, and the addition from the beginning. The hollow mark is an experiment: one row
# again, the same intensity, but $W$ so small that it stays in a near cache.

# %%
C = 3072
W = rng.standard_normal((C, C), dtype=np.float32)
points = []
for B in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
    X = rng.standard_normal((B, C), dtype=np.float32)
    out = np.empty((B, C), np.float32)
    t = seconds(lambda X=X, out=out: np.matmul(X, W.T, out=out), at_least=0.3)
    points.append((B, intensity(2 * B * C * C, C * C + 2 * B * C), 2 * B * C * C / t, t))
near = W[:256, :256].copy()  # 256 KB
row = rng.standard_normal((1, 256), dtype=np.float32)
t_near = seconds(lambda: [np.matmul(row, near.T) for _ in range(100)]) / 100

figure = new_figure()
figure.set_size_inches(7, 3.8)
axes = figure.add_subplot()
Bs, intensities, reached, times = (np.array(column) for column in zip(*points, strict=True))
axes.plot(intensities, reached, "o", color=COLOURS[0], label="X Wᵀ with B rows")
for B, I, rate in zip(Bs, intensities, reached, strict=True):
    if B in (1, 8, 64, 512):
        axes.annotate(f"B = {B}", (I, rate), xytext=(7, -13), textcoords="offset points", fontsize=8, color=COLOURS[0])
axes.plot(intensities[0], 2 * 256**2 / t_near, "o", color=COLOURS[0], markerfacecolor="white", label="1 row, W in a cache")
axes.plot(intensity(1, 3), N / additions, "s", color=COLOURS[1], label="x + y")
draw_roofs(axes, {"": peak}, bandwidth, [intensity(1, 3), *intensities])
axes.axvline(peak / bandwidth, color=GREY, linestyle=":", linewidth=1)
axes.legend(frameon=False, fontsize=9, loc="lower right")
axes.set_title("the roofline of the machine that built this page, one core", fontsize=10)
figure

# %% [markdown]
# One row fetches all of $W$ for its few flops, far left of the ridge. That it waits for memory the hollow mark shows:
# with $W$ near at hand the same program is much faster. (It stands above the roof, for the roof is that of the main
# memory.) Up the slope, twice as many rows may have twice the rate, which is to say: **the second row is
# free**, because the weights have to be fetched anyway. From the ridge on, every row costs.
#
# The roof is what no program can pass; it does not say that a program gets there. The addition is on the slope, since
# we took the bandwidth from programs of its kind. NumPy's routine for one row may ask for $W$ less well, and stay below.
# And between one row and two the rate can *fall*: two rows are a matrix, for which there is another routine, and that
# one first copies $W$ into an order that suits it. The copy costs the same for 2 rows and for 16, so here, too, the
# further rows are nearly free; only where there are so many that the copy no longer counts is the flat roof near.
#
# ## Blocks: how a product gets its intensity
#
# $2n^3$ flops over $3 n^2$ numbers is what *could* be. Does the plain triple loop reach it?
#
# $$y_{mn} = \sum_k a_{mk}\, b_{kn}$$
#
# It asks for $2 n^3$ numbers: one of $a$ and one of $b$ for every term. If the matrices do not fit into the cache,
# most of them come from memory. Let us not guess but count, with a cache simulated in Python:

# %%
source(Cache.read)

# %%
def triple_loop(n, size):
    """Count what the loops read, with a cache of `size` bytes."""
    cache = Cache(size)
    a, b, y = cache.array((n, n)), cache.array((n, n)), cache.array((n, n))
    for m in range(n):
        for j in range(n):
            for k in range(n):
                cache.read(a, m, k)
                cache.read(b, k, j)
            cache.read(y, m, j)
    return cache


# %% tags=["deterministic"]
n, size = 64, 4096  # matrices of 32 KB each, a cache of 4 KB
plain = triple_loop(n, size)
print(f"reads {plain.hits + plain.misses}, found near {plain.hits / (plain.hits + plain.misses):.3f} of them")
matrices = 3 * n * n * 8
print(f"fetched {plain.fetched} bytes; the matrices have {matrices}: each came {plain.fetched / matrices:.1f} times")

# %% [markdown]
# Rows of $a$ are read along the lines, one fetch for eight numbers. Columns of $b$ are read across the lines: each
# number brings a line of which seven eighths are thrown out before they are used.
#
# **The cure.** Cut the matrices into blocks of `BLOCK` $\times$ `BLOCK` numbers. Multiply block by block, so that a
# block of $a$, one of $b$ and one of $y$ are in the cache at a time, and are used up before they are thrown out:
#
# $$y_{[m:m+\mathtt{BLOCK}],\, [n:n+\mathtt{BLOCK}]} =
# \sum_{k = 0, \mathtt{BLOCK}, \dots} a_{[m:m+\mathtt{BLOCK}],\, [k:k+\mathtt{BLOCK}]}\;
# b_{[k:k+\mathtt{BLOCK}],\, [n:n+\mathtt{BLOCK}]}$$
#
# How many numbers are fetched? There are $(n / \mathtt{BLOCK})^3$ products of blocks, each fetches two blocks of
# $\mathtt{BLOCK}^2$ numbers:
#
# $$2\, \mathtt{BLOCK}^2 \Big(\frac{n}{\mathtt{BLOCK}}\Big)^3 = \frac{2 n^3}{\mathtt{BLOCK}}$$
#
# instead of $2 n^3$: every number that is fetched is used `BLOCK` times. The larger the better, as long as three
# blocks fit: $3\, \mathtt{BLOCK}^2 \cdot 8 \text{ bytes} \le \text{size}$. Beyond that the scheme falls apart.

# %%
def blocked_loop(n, size, BLOCK):
    cache = Cache(size)
    a, b, y = cache.array((n, n)), cache.array((n, n)), cache.array((n, n))
    for m0 in range(0, n, BLOCK):
        for j0 in range(0, n, BLOCK):
            for k0 in range(0, n, BLOCK):
                for m in range(m0, m0 + BLOCK):
                    for j in range(j0, j0 + BLOCK):
                        for k in range(k0, k0 + BLOCK):
                            cache.read(a, m, k)
                            cache.read(b, k, j)
                        cache.read(y, m, j)
    return cache


# %% tags=["deterministic"]
block_sizes = [1, 2, 4, 8, 16, 32, 64]
counted = [blocked_loop(n, size, BLOCK).fetched for BLOCK in block_sizes]
print("BLOCK   fetched   2 n^3 / BLOCK * 8   three blocks")
for BLOCK, fetched in zip(block_sizes, counted, strict=True):
    fits = "fit" if 3 * BLOCK**2 * 8 <= size else "do not fit"
    print(f"{BLOCK:5}  {fetched:8}   {2 * n**3 // BLOCK * 8:17}   {3 * BLOCK**2 * 8:6} bytes: {fits}")
print("minilm.kernels.matmul.blocked.fetched_bytes, BLOCK 8:", fetched_bytes(n, n, n, 8, 8, itemsize=8))

# %%
figure = new_figure()
figure.set_size_inches(7, 3.0)
left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
left.plot(block_sizes, np.array(counted) / 1e6, "o-", color=COLOURS[0], label="counted, cache of 4 KB")
left.plot(block_sizes, [2 * n**3 / B * 8 / 1e6 for B in block_sizes], "--", color=GREY, label="$2n^3 / BLOCK$ numbers")
left.axhline(3 * n * n * 8 / 1e6, color=COLOURS[2], linewidth=1, label="the three matrices")
left.axvline((size / 24) ** 0.5, color=COLOURS[1], linestyle=":", label="three blocks fill the cache")
left.set(xscale="log", yscale="log", xlabel="BLOCK", ylabel="fetched (MB)")
left.set_xticks(block_sizes, block_sizes)
left.set_ylim(0.004, 30)
left.minorticks_off()
left.legend(frameon=False, fontsize=7.5, loc="lower left")
right.set(xlim=(0, 13), ylim=(13, 0), aspect="equal")
right.axis("off")
drawn = (0, 7, "a", "row", COLOURS[0]), (7, 0, "b", "column", COLOURS[1]), (7, 7, "y", "one", COLOURS[2])
for x0, y0, name, chosen, colour in drawn:
    for i in range(3):
        for j in range(3):
            use = {"row": i == 1, "column": j == 1, "one": i == 1 and j == 1}[chosen]
            right.fill([x0 + 2 * j, x0 + 2 * j + 1.9, x0 + 2 * j + 1.9, x0 + 2 * j],
                       [y0 + 2 * i, y0 + 2 * i, y0 + 2 * i + 1.9, y0 + 2 * i + 1.9],
                       color=colour, alpha=0.55 if use else 0.12)  # fmt: skip
    right.text(x0 + 2.95, y0 + 2.95, name, ha="center", va="center", fontsize=12)
right.text(0, 1.5, "a block of y needs\na row of blocks of a\nand a column\nof blocks of b", fontsize=8, va="center")
figure

# %% [markdown]
# The valley is at the largest block of which three still fit, or nearly. The counts lie above the formula because
# whole lines are fetched and the three blocks do not share the cache perfectly. This picture is why every fast
# product, on a CPU as on a GPU, is a product of tiles, and why tile sizes are tuned to the size of the near memory.
# Nobody can do much better: with room for $s$ numbers, a number of the order of $n^3 / \sqrt{s}$ must move, whatever
# the order of the loops (Hong and Kung 1981).
#
# ## Attention, counted
#
# Let a layer have batch $B$, $H$ heads of width $D$, length $T$, and $b$ bytes a number. The two products take
#
# $$F = 2 \cdot (2\, B H T^2 D)$$
#
# flops. The formula of chapter 7 as array operations reads $Q$ and $K$, writes $S$; reads $S$, writes $P$; reads $P$
# and $V$, writes $O$:
#
# $$M_{\text{formula}} = 4\, B H T D\, b + 4\, B H T^2\, b$$
#
# A *fused* operation would keep $S$ and $P$ near the processor and move only $Q$, $K$, $V$, $O$ (and one float32 for
# each query, as the next chapter explains):
#
# $$M_{\text{fused}} = 4\, B H T D\, b + 4\, B H T$$
#
# Take the peak and the bandwidth of an H100, a large GPU (chapter 17 opens one), from its data sheet, for matrix
# products of float16:

# %% tags=["deterministic"]
B, H, T, D, b = 8, 16, 1024, 64, 2  # the size of a GPT-2 layer, float16
F = 2 * (2 * B * H * T * T * D)
moved = {"formula": 4 * B * H * T * D * b + 4 * B * H * T * T * b, "fused": 4 * B * H * T * D * b + 4 * B * H * T}
gpu_peak, gpu_bandwidth = 989e12, 3.35e12  # flops a second, bytes a second
print(f"ridge of an H100: {gpu_peak / gpu_bandwidth:.0f} flops a byte")
for name, M in moved.items():
    t_memory, t_compute = M / gpu_bandwidth, F / gpu_peak
    print(f"{name:8} {M / 1e6:6.0f} MB, {F / M:4.0f} flops a byte: ", end="")
    print(f"memory {t_memory * 1e6:4.0f} us, arithmetic {t_compute * 1e6:3.0f} us")

# %% [markdown]
# The formula at 30 flops a byte is far down the slope; fused, it is beyond the ridge. Same flops, a tenth of the
# time. The next chapter fuses it by hand.
#
# ## Writing one token at a time
#
# A model that generates text does for *each token*: all weights once, and the keys and values of all tokens before
# (the KV cache, chapter 9). With $n_w$ weights of $b$ bytes, $L$ layers, $H_k$ key heads of width $D$ and $T$ tokens
# so far, the bytes of a step are
#
# $$M = \underbrace{n_w\, b}_{\text{weights}} + \underbrace{2\, L\, H_k\, D\, T\, b}_{\text{keys and values}}$$
#
# and the flops about $2 n_w$: a multiplication and an addition with each weight. The intensity is $2/b$: one flop a
# byte in float16. No machine has its ridge there. So **tokens a second are at most $\beta / M$**, and the arithmetic
# does not matter.

# %% tags=["deterministic"]
def step_bytes(weights, layers, kv_heads, D, T, itemsize):
    return weights * itemsize, 2 * layers * kv_heads * D * T * itemsize


print("135 million weights, 30 layers, D = 64 (the size of SmolLM2-135M); 20 GB/s, a laptop's memory")
print("bytes  key heads   tokens   weights MB   cache MB   tokens/s at most")
for itemsize, kv_heads, T in ((4, 9, 0), (4, 9, 2048), (4, 3, 2048), (2, 3, 2048), (2, 3, 32768), (1, 3, 2048)):
    w, c = step_bytes(134_515_008, 30, kv_heads, 64, T, itemsize)
    print(f"{itemsize:5}  {kv_heads:9}  {T:7}  {w / 1e6:11.1f}  {c / 1e6:9.1f}   {20e9 / (w + c):6.1f}")

# %% [markdown]
# Every remedy of the last years can be read off this table:
#
# - *smaller numbers*: 2 bytes or 1 in the place of 4 ([chapter 18](18_smaller_private_fair.ipynb));
# - *fewer key heads*: grouped queries let three query heads share a key head, and the cache shrinks to a third;
# - *batches*: many users' tokens go through the same weights together, and the second row is free. But each has a KV
#   cache of its own: that part of $M$ grows with the batch.
#
# The roofline above showed the batch for one matrix. Here are the same measurements as a user sees them: the time of
# a step, and the time for each row in it.

# %%
figure = new_figure()
figure.set_size_inches(7, 2.8)
left, right = figure.subplots(1, 2)
left.plot(Bs, times * 1e3, "o-", color=COLOURS[0])
left.axhline(C * C * 4 / bandwidth * 1e3, color=GREY, linestyle="--", linewidth=1)
left.text(512, C * C * 4 / bandwidth * 1.2e3, "weights / bandwidth", color=GREY, fontsize=8, ha="right")
left.set(xscale="log", yscale="log", xlabel="rows together, B", ylabel="milliseconds a step")
right.plot(Bs, times / Bs * 1e6, "s-", color=COLOURS[1])
right.axhline(2 * C * C / peak * 1e6, color=GREY, linestyle="--", linewidth=1)
right.text(1, 2 * C * C / peak * 1.1e6, "flops / peak", color=GREY, fontsize=8)
right.set(xscale="log", yscale="log", xlabel="rows together, B", ylabel="microseconds a row")
for axes in (left, right):
    axes.set_xticks([1, 4, 16, 64, 256], [1, 4, 16, 64, 256])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(color="#dddddd", linewidth=0.6)
figure

# %% [markdown]
# ## Fusing, the remedy for everything else
#
# Additions, activations and norms have an intensity below 1 and always will. What can be done is to go to memory
# *once* for several of them. A chain of $c$ array operations in NumPy reads and writes the whole array $c$ times. Cut
# into pieces that stay in the cache, the same operations read it once and write it once: $2 N$ numbers in the place
# of $2 c N$.

# %%
def chain(x, out):
    """Eight operations, each of which goes through the whole array."""
    np.multiply(x, 0.5, out=out)
    for _ in range(7):
        np.add(out, 0.25, out=out)


def chain_by_pieces(x, out, piece):
    for first in range(0, len(x), piece):
        chain(x[first : first + piece], out[first : first + piece])


pieces = [1 << p for p in range(11, 24)]
whole = seconds(lambda: chain(x, z))
fused = [seconds(lambda piece=piece: chain_by_pieces(x, z, piece)) for piece in pieces]
figure = new_figure()
figure.set_size_inches(7, 2.7)
axes = figure.add_subplot()
axes.plot([4 * piece for piece in pieces], np.array(fused) * 1e3, "o-", color=COLOURS[0], label="by pieces")
axes.axhline(whole * 1e3, color=COLOURS[1], label="whole arrays")
axes.set(xscale="log", xlabel="size of a piece", ylabel="milliseconds", ylim=(0, 1.8 * whole * 1e3))
labels = [f"{p >> 8} KB" if p < 1 << 18 else f"{p >> 18} MB" for p in pieces]
axes.set_xticks([4 * p for p in pieces[::2]], labels[::2])
axes.minorticks_off()
axes.legend(frameon=False, fontsize=9)
axes.grid(color="#dddddd", linewidth=0.6)
figure

# %% [markdown]
# Too small, and the calls of NumPy cost more than the work; too large, and nothing stays near. In between the same
# arithmetic takes less time. minilm's fast CPU path (`kernels/*/threaded.py`) does its activations, norms and Adam so.
#
# ## Exercises
#
# **Exercise 15.1.** `matmul_intensity(M, N, K, itemsize)`: flops a byte of $Y = A B$ with $A$ $(M, K)$, $B$ $(K, N)$,
# each array moved once.

# %%
def matmul_intensity(M, N, K, itemsize):
    ...


# check_intensity(matmul_intensity)

# %% [markdown]
# **Exercise 15.2.** `least_time(flops, bytes, peak, bandwidth)`: the time that the roofline allows at best, in
# seconds, and which of `"memory"` and `"compute"` decides, as a pair.

# %%
def least_time(flops, bytes, peak, bandwidth):
    ...


# check_roofline(least_time)

# %% [markdown]
# **Exercise 15.3.** `kv_cache_bytes(layers, query_heads, kv_heads, D, T, batch, itemsize)`: the size of the cache of
# keys and values.

# %%
def kv_cache_bytes(layers, query_heads, kv_heads, D, T, batch, itemsize):
    ...


# check_cache_bytes(kv_cache_bytes)

# %% [markdown]
# **Exercise 15.4.** Transposing, $y_{ji} = x_{ij}$, does no arithmetic at all: it is nothing but memory. Going
# through $x$ row by row, $y$ is touched column by column. `transpose_order(n)` gives the pairs $(i, j)$ in an order
# of your choice (a generator or a list; each pair once). The checker counts, for $n = 64$ and a cache of 4 KB, what
# reading $x_{ij}$ and touching $y_{ji}$ fetches: less than 1.3 times the size of the two matrices is possible.

# %%
def transpose_order(n):
    for i in range(n):  # row by row: right, and too much is fetched
        for j in range(n):
            yield i, j


# check_transpose(transpose_order)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
def matmul_intensity_solution(M, N, K, itemsize):
    return 2 * M * N * K / ((M * K + K * N + M * N) * itemsize)


check_intensity(matmul_intensity_solution)

# %% tags=["solution"]
def least_time_solution(flops, bytes, peak, bandwidth):
    compute, memory = flops / peak, bytes / bandwidth
    return max(compute, memory), "memory" if memory > compute else "compute"


check_roofline(least_time_solution)

# %% tags=["solution"]
def kv_cache_bytes_solution(layers, query_heads, kv_heads, D, T, batch, itemsize):
    return 2 * layers * batch * kv_heads * T * D * itemsize  # 2: keys and values; the query heads do not matter


check_cache_bytes(kv_cache_bytes_solution)

# %% tags=["solution"]
def transpose_order_solution(n, BLOCK=8):
    """8 x 8 numbers: eight lines of x and eight of y, and each is used up while it is near."""
    for i0 in range(0, n, BLOCK):
        for j0 in range(0, n, BLOCK):
            for i in range(i0, min(i0 + BLOCK, n)):
                for j in range(j0, min(j0 + BLOCK, n)):
                    yield i, j


check_transpose(transpose_order_solution)

# %% [markdown]
# ## What to read next
#
# - [kernels/matmul/loops.py](../kernels/matmul/loops.py) and
#   [kernels/matmul/blocked.py](../kernels/matmul/blocked.py): the two loops of this chapter, with a second lesson,
#   the order of the blocks; [their tests](../tests/kernels/test_matmul_ladder.py) hold the count to the loop.
# - [kernels/README.md](../kernels/README.md): the same counts for GPUs, with their memories in a table.
# - [minilm/plots/roofline.py](../minilm/plots/roofline.py), and the command `minilm bench`, which draws the roofline
#   of your machine with the library's operations on it.
# - [Chapter 16](16_flash_attention.ipynb): attention without its two large matrices.

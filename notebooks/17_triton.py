# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 17 · Triton
#
# **What you will be able to do**
#
# - read and write a small GPU kernel in Triton: programs, pointers, masks, tiles;
# - run it without a GPU, and count every byte and every flop;
# - follow the attention kernel program by program;
# - read what the compiler says of a kernel: registers, spills, shared memory, how many blocks live on a processor;
# - say what a GPU would do with it, and what limits it.
#
# **What it needs**: blocks, intensity and the roofline ([chapter 15](15_memory.ipynb)); the blocked forward of
# attention ([chapter 16](16_flash_attention.ipynb)). **No GPU.** It runs Triton's interpreter, which needs the
# package `triton`: `pip install 'minilm[triton]'`, Linux only. Elsewhere, read on: the outputs are in the page.
#
# Triton decides when it is imported whether kernels are interpreted or compiled, so the first cell has to say it first.

# %%
from checks.tracing import animated, need_triton, tracing

need_triton()  # sets TRITON_INTERPRET=1

import json
import os
import subprocess
import sys

import numpy as np
import triton
import triton.language as tl
from matplotlib.patches import Rectangle

import minilm.functional as F
from checks import results, source
from checks.chapter_17 import check_axpy, check_blocks, check_keys_of_program, check_row_softmax
from minilm.kernels.attention import triton as attention_on_gpu
from minilm.kernels.attention import triton_forward
from minilm.kernels.host import cdiv, counting, launch, pointers
from minilm.plots.loss_curves import COLOURS, GREY, new_figure

# %% [markdown]
# ## What a GPU is
#
# A GPU is a hundred or so processors, called **SMs** (streaming multiprocessors), around one memory (**HBM**,
# "high-bandwidth memory"). The numbers are those of an NVIDIA H100, from its data sheet:

# %% tags=["deterministic"]
sms, registers, shared = 132, 65536, 227 * 1024  # per SM: 65,536 registers of 4 bytes; shared memory of a block
print(f"registers      {sms * registers * 4 / 1e6:6.1f} MB   of one thread")
print(f"shared memory  {sms * shared / 1e6:6.1f} MB   of the threads of one block")
print(f"L2 cache       {50:6.1f} MB   of all SMs")
print(f"HBM, memory    {80e3:6.0f} MB   of all SMs, 3.35 TB/s")
print(f"tensor cores   989 TFLOP/s in 16 bits: {989 / 3.35:.0f} flops for each byte of HBM")

# %%
figure = new_figure()
figure.set_size_inches(7, 3.3)
axes = figure.add_subplot()
axes.axis("off")
axes.set(xlim=(0, 14), ylim=(0, 6.6))


def box(x, y, w, h, text, colour, alpha=0.25, size=8):
    axes.add_patch(Rectangle((x, y), w, h, facecolor=colour, alpha=alpha, edgecolor=GREY))
    axes.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=size)


for i in range(132):
    corner = 0.2 + (i % 22) * 0.27, 3.3 + (i // 22) * 0.42
    axes.add_patch(Rectangle(corner, 0.22, 0.35, facecolor=COLOURS[0], alpha=0.4))
axes.text(3.2, 6.1, "132 SMs", ha="center", fontsize=9)
box(0.2, 2.1, 5.9, 0.9, "L2 cache, 50 MB", COLOURS[4])
box(0.2, 0.4, 5.9, 1.4, "HBM, 80 GB\n3.35 TB/s", COLOURS[1])
box(7.6, 0.4, 6.2, 5.4, "", COLOURS[0], alpha=0.12)
axes.text(10.7, 6.1, "one SM", ha="center", fontsize=9)
for part in range(4):
    x = 7.8 + part * 1.5
    box(x, 4.2, 1.35, 1.4, "16 warps\nof 32\nthreads", COLOURS[2], size=7)
    box(x, 3.2, 1.35, 0.85, "registers\n64 KB", COLOURS[3], size=7)
    box(x, 2.2, 1.35, 0.85, "tensor\ncore", COLOURS[5], size=7)
box(7.8, 0.7, 5.85, 1.2, "shared memory and L1, 256 KB", COLOURS[4])
axes.plot([6.1, 7.6], [5.72, 5.8], color=GREY, linewidth=0.8)
axes.plot([6.1, 7.6], [5.4, 0.4], color=GREY, linewidth=0.8)
figure

# %% [markdown]
# Threads come in **warps** of 32, which do the same instruction at the same time. A **tensor core** multiplies two
# small matrices in one instruction; nearly all of a GPU's flops are there. A **block** of some warps lives on one SM,
# shares its shared memory, and has its part of the registers. Several blocks live on an SM at once; while the warps
# of one wait for memory, those of another compute. That is how a GPU hides the way to memory: not with large caches
# but with other work.
#
# In CUDA, NVIDIA's C++, one writes what a *thread* does. In **Triton** one writes what a *block* does, in array
# operations on tiles, much as in NumPy; the compiler deals the tile out to the threads. Triton calls a block a
# **program**. Three rules tell where a value is:
#
# - what a kernel computes is in registers;
# - a tile on its way into a matrix product (`tl.dot`) is in shared memory;
# - only `tl.load` and `tl.store` touch L2 and HBM. So the traffic of a kernel can be read off its source.
#
# ## A first kernel
#
# $z = x + y$ for $n$ numbers. Each program takes `BLOCK` of them. It is told its number, `tl.program_id(0)`, and
# finds out by itself which elements are its own:
# $i = \mathit{pid} \cdot \mathtt{BLOCK} + (0, 1, \dots, \mathtt{BLOCK} - 1)$.
#
# `x` is a *pointer*, the address of the first element; `x + i` is a tile of addresses. The last program may stick out
# over the end, so a **mask** says which of its addresses are valid; the others are not touched. `BLOCK: tl.constexpr`
# is known when the kernel is compiled: sizes of tiles must be, and must be powers of two.

# %%
@triton.jit
def add_kernel(x, y, z, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    sums = tl.load(x + i, mask=inside) + tl.load(y + i, mask=inside)
    tl.store(z + i, sums, mask=inside)


# %% [markdown]
# `launch(kernel, grid, *arguments)` runs it once for each program of the grid; `cdiv(n, BLOCK)`, $n$ divided by `BLOCK`
# and rounded up, is how many are needed, and `pointers` makes of arrays what the kernel can take as pointers. The
# interpreter runs the programs one after the other, on NumPy arrays; `counting()` counts what they do, and `tracing()`
# lists which elements they touch.

# %% tags=["deterministic"]
x, y = np.arange(10, dtype="float32"), np.full(10, 100, dtype="float32")
z = np.zeros(10, dtype="float32")
with counting() as counts, tracing(x=x, y=y, z=z) as events:
    launch(add_kernel, cdiv(x.size, 4), *pointers(x, y, z), x.size, BLOCK=4)
print("z =", z)
for event in events:
    print(f"program {event.program[0]}: {event.how:5} {event.name}[{event.rows[0]}:{event.rows[1]}]")
print(f"{counts.read} bytes read, {counts.written} written: {counts.moved / x.size:.0f} bytes for each sum")

# %% [markdown]
# ## The attention kernel
#
# The blocked loop of chapter 16, for one head: $T$ queries, keys and values of width $D$, contiguous matrices in
# memory. New is only *who does what*: **one program owns `BLOCK_Q` queries**. It keeps them, with their `top`,
# `total` and `acc`, in registers, and lets the keys and values pass by in blocks of `BLOCK_K`.
#
# A tile of a matrix needs a matrix of addresses. Element $(i, d)$ of a row-major $(T, D)$ matrix stands at $i D + d$,
# so `rows[:, None] * D + d[None, :]` is what is added to the pointer.
#
# The update is, as before, with $\mathit{shift}$ left out (key 0 is seen by every query, so `new_top` is never
# $-\infty$):
#
# $$\mathit{top}' = \max(\mathit{top}, \operatorname{rowmax} S), \quad w = e^{S - \mathit{top}'}, \quad
# r = e^{\mathit{top} - \mathit{top}'}$$
#
# $$\mathit{total}' = r\, \mathit{total} + \operatorname{rowsum} w, \quad \mathit{acc}' = r\, \mathit{acc} + w V$$

# %%
@triton.jit
def flash_kernel(
    query, key, value, out, lse, T, scale,
    D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    rows, d = block * BLOCK_Q + tl.arange(0, BLOCK_Q), tl.arange(0, D)
    q = tl.load(query + rows[:, None] * D + d[None, :], mask=rows[:, None] < T, other=0.0)  # (BLOCK_Q, D)
    top = tl.full((BLOCK_Q,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    acc = tl.zeros((BLOCK_Q, D), tl.float32)
    stop = tl.minimum(T, (block + 1) * BLOCK_Q) if CAUSAL else T
    for first in range(0, stop, BLOCK_K):
        columns = first + tl.arange(0, BLOCK_K)
        tile = columns[:, None] * D + d[None, :]
        k = tl.load(key + tile, mask=columns[:, None] < T, other=0.0)  # (BLOCK_K, D)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # (BLOCK_Q, BLOCK_K)
        seen = columns[None, :] < T
        if CAUSAL:
            seen = seen & (columns[None, :] <= rows[:, None])
        scores = tl.where(seen, scores, -float("inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp(scores - new_top[:, None])
        rescale = tl.exp(top - new_top)
        total = total * rescale + tl.sum(weights, 1)
        v = tl.load(value + tile, mask=columns[:, None] < T, other=0.0)
        acc = tl.dot(weights, v, acc * rescale[:, None], input_precision="ieee")  # acc rescale + weights v
        top = new_top
    tl.store(out + rows[:, None] * D + d[None, :], acc / total[:, None], mask=rows[:, None] < T)
    tl.store(lse + rows, top + tl.log(total), mask=rows < T)


# %% [markdown]
# (`tl.dot(a, b, c)` is $a b + c$; `other` is what a masked element is loaded as. `input_precision="ieee"`: by default
# a GPU multiplies float32 matrices in TF32, with about three digits.)
#
# The *host*, the Python function that asks for the work, makes the outputs and launches a program for each block of
# queries. A length that no block divides, causal and not:

# %%
def flash(q, k, v, BLOCK_Q=16, BLOCK_K=16, causal=False):
    T, D = q.shape
    out, lse = np.full_like(q, np.nan), np.full(T, np.nan, q.dtype)  # NaN: an element that is forgotten will show
    sizes = {"D": D, "BLOCK_Q": BLOCK_Q, "BLOCK_K": BLOCK_K, "CAUSAL": causal}
    launch(flash_kernel, cdiv(T, BLOCK_Q), *pointers(q, k, v, out, lse), T, 1 / np.sqrt(D), **sizes)
    return out


# %% tags=["deterministic"]
rng = np.random.default_rng(0)
q, k, v = rng.standard_normal((3, 50, 16)).astype("float32")
for causal in (False, True):
    expected = F.scaled_dot_product_attention.body(*(a.astype("float64") for a in (q, k, v)), is_causal=causal)[0]
    ours = np.abs(flash(q, k, v, causal=causal) - expected).max()
    library = np.abs(attention_on_gpu.attention(q[None], k[None], v[None], is_causal=causal)[0][0] - expected).max()
    print(f"causal {causal!s:5}: as the formula: ours {bool(ours < 1e-5)}, the library's kernel {bool(library < 1e-5)}")

# %% [markdown]
# ## Program by program
#
# Which tiles does each program touch? $T = 64$, blocks of 16, causal. The tracer lists every access:

# %% tags=["deterministic"]
T, D, BLOCK = 64, 16, 16
q, k, v = rng.standard_normal((3, T, D)).astype("float32")
out, lse = np.zeros_like(q), np.zeros(T, "float32")
with tracing(Q=q, K=k, V=v, out=out, lse=lse) as events:
    sizes = {"D": D, "BLOCK_Q": BLOCK, "BLOCK_K": BLOCK, "CAUSAL": True}
    launch(flash_kernel, cdiv(T, BLOCK), *pointers(q, k, v, out, lse), T, 0.25, **sizes)
for program in range(4):
    mine = [e for e in events if e.program[0] == program]
    print(f"program {program}:", ", ".join(f"{e.how} {e.name}[{e.rows[0]}:{e.rows[1]}]" for e in mine))

# %%
def draw_step(figure, axes, program, columns, before, stored):
    """One moment: Q at the left, K and V above, the scores in the middle, out at the right."""
    rows = (program * BLOCK, (program + 1) * BLOCK)
    axes.axis("off")
    axes.set(xlim=(-26, 92), ylim=(67, -46), aspect="equal")
    places = {"Q": (-22, 0, 16, T), "Kᵀ": (0, -22, T, 16), "Vᵀ": (0, -42, T, 16), "S": (0, 0, T, T)}
    for name, (x, y, w, h) in (places | {"out": (72, 0, 16, T)}).items():
        axes.add_patch(Rectangle((x, y), w, h, facecolor="white", edgecolor=GREY, linewidth=0.8))
        axes.text(x - 2 if h == 16 else x + w / 2, y + h / 2 if h == 16 else y - 3, name if name != "S" else "",
                  ha="right" if h == 16 else "center", va="center", fontsize=9)  # fmt: skip
    for i in range(4):  # what a causal mask forbids
        axes.add_patch(Rectangle((16 * (i + 1), 16 * i), T - 16 * (i + 1), 16, facecolor="#eeeeee"))
    for r, c in before:
        axes.add_patch(Rectangle((c, r), BLOCK, BLOCK, facecolor=GREY, alpha=0.25))
    for r in stored:
        axes.add_patch(Rectangle((72, r), 16, BLOCK, facecolor=COLOURS[5], alpha=0.8))
    axes.add_patch(Rectangle((-22, rows[0]), 16, BLOCK, facecolor=COLOURS[0], alpha=0.8))
    if columns is not None:
        axes.add_patch(Rectangle((columns[0], -22), BLOCK, 16, facecolor=COLOURS[1], alpha=0.8))
        axes.add_patch(Rectangle((columns[0], -42), BLOCK, 16, facecolor=COLOURS[2], alpha=0.8))
        axes.add_patch(Rectangle((columns[0], rows[0]), BLOCK, BLOCK, facecolor=COLOURS[3], alpha=0.9))
        text = f"program {program}: keys {columns[0]} to {columns[1] - 1}"
    else:
        text = f"program {program}: acc / total is stored"
    axes.text(32, 65, text, ha="center", va="top", fontsize=9)


# %%
steps, before, stored = [], [], []
for event in events:
    program = event.program[0]
    if event.name == "K":
        steps.append((program, event.rows, list(before), list(stored)))
        before.append((program * BLOCK, event.rows[0]))
    elif event.name == "out":
        stored.append(event.rows[0])
        steps.append((program, None, list(before), list(stored)))

frames = []
for step in steps:
    frame = new_figure()
    frame.set_size_inches(5.2, 4.9)
    draw_step(frame, frame.add_subplot(), *step)
    frames.append(frame)
animated(frames, description="Each program of the attention kernel keeps its queries and lets the keys and values pass by")

# %% [markdown]
# Blue: the queries that a program keeps. Orange and green: the block of keys and of values that passes by. Pink: the
# only block of scores that exists; grey are those that existed before, forgotten now. Light grey is never computed:
# causal programs stop early. The interpreter runs one program after the other; on a GPU all four run at the same
# time, on different SMs. The same, standing still:

# %%
figure = new_figure()
figure.set_size_inches(7, 3.7)
chosen = [0, 1, 3, 5, 8, 9, 12, 13]
for axes, number in zip(figure.subplots(2, 4).flat, chosen, strict=True):
    draw_step(figure, axes, *steps[number])
    for text in axes.texts:
        text.set_fontsize(6)
figure

# %% [markdown]
# ## Counted, not estimated
#
# Chapter 16 estimated the traffic; the interpreter counts it. $T D$ numbers of $Q$ are read and $T D + T$ of out and
# lse are written. Every program reads all keys and values, so what flows between the SMs and the L2 cache is, with
# $n$ bytes a number,
#
# $$\mathit{loaded} = \Big(T D + \frac{T}{\mathtt{BLOCK\_Q}} \cdot 2\, T D\Big) n$$
#
# But K and V together are small, and after the first program they are in L2. What has to cross HBM at least counts
# each element once:
#
# $$\mathit{read} = 3\, T D\, n$$

# %% tags=["deterministic"]
T, D = 128, 32
q, k, v = rng.standard_normal((3, T, D)).astype("float32")
print("BLOCK_Q  programs   loaded  formula     read   written    flops  flops per byte of HBM")
for BLOCK_Q in (16, 32, 64, 128):
    with counting() as counts:
        flash(q, k, v, BLOCK_Q=BLOCK_Q, BLOCK_K=32)
    formula = (T * D + T // BLOCK_Q * 2 * T * D) * 4
    print(f"{BLOCK_Q:7}  {counts.programs:8}  {counts.loaded:7}  {formula:7}  {counts.read:7}  {counts.written:8}  "
          f"{counts.flops:7}  {counts.flops / counts.moved:8.1f}")  # fmt: skip
print("flops by the formula, 2 products:", 2 * 2 * T * T * D)

# %% [markdown]
# The bytes are the formula's, to the last one. Larger blocks of queries load less through L2. Why not make them as
# large as possible?
#
# ## What the compiler says
#
# Because a block has to live on an SM. Take the tile of the library for $D = 64$: 128 queries, 64 keys, 4 warps, so
# 128 threads. The accumulator has $128 \cdot 64$ float32 numbers: 64 registers for each thread. The block of scores
# has as many: another 64. Then the queries, the weights in 16 bits, addresses, sums. A thread can have at most 255
# registers. What does not fit **spills**: it is stored to memory and loaded again, at every turn of the loop, without
# any warning.
#
# The compiler can be asked without a GPU. A *dry run* takes a launch all the way to machine code and runs nothing; it
# needs a process of its own, because this one interprets. Here are three tiles of the library's forward kernel,
# compiled for an H100 (`sm_90`):

# %%
program = """
import json, sys
import numpy as np
from minilm.kernels.attention.triton import attention
from minilm.kernels.host import dry, using_tile

q = np.zeros((8, 16, 4096, 64), "float16")
for BLOCK_Q, BLOCK_K in ((128, 64), (128, 128), (32, 64)):
    tile = dict(BLOCK_Q=BLOCK_Q, BLOCK_K=BLOCK_K, num_warps=4, num_stages=3)
    with dry("sm_90") as launches, using_tile("attention_forward", **tile):
        attention(q, q, q)
    made = launches[0]
    facts = made.registers, made.spills, made.shared, made.blocks_per_sm, made.hmma, made.hgmma
    print(json.dumps([BLOCK_Q, BLOCK_K, *facts]))
"""
environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
print("queries  keys  registers  spills  shared bytes  blocks/SM  HMMA  HGMMA")
for line in run.stdout.splitlines():
    print("{:7}  {:4}  {:9}  {:6}  {:12}  {:9}  {:4}  {:5}".format(*json.loads(line)))

# %% [markdown]
# Three lessons in three lines (with another version of Triton the numbers differ a little).
#
# - The tile of the library fits: many registers, no spills.
# - Twice as many keys a block: the scores alone would take 128 registers of each thread. **255 registers and
#   spills.** It would compile, run, and be slow. So the tests of the library fail on any spill.
# - Only 32 queries: HGMMA is 0. The large matrix instruction of this GPU works on 64 rows at least, so the compiler
#   falls back to the older, slower one (HMMA).
#
# How many blocks live on an SM at once? Registers are handed out by warps; the SM has 65,536 of them. For the first
# line:

# %% tags=["deterministic"]
report = results("static_report")  # what `minilm bench --static` wrote
made = next(row for row in report["rows"] if row["case"] == "attention forward" and row["arch"] == "sm_90")
threads, used, shared_used = 32 * made["num_warps"], made["registers"], made["shared"]
print(f"{made['tile']['BLOCK_Q']} x {made['tile']['BLOCK_K']}: {used} registers of a thread, {shared_used} bytes of a block")
by_registers = 65536 // (-(-used * 32 // 256) * 256 * made["num_warps"])  # a warp gets registers in units of 256
by_shared = 228 * 1024 // (shared_used + 1024)  # the system keeps 1 KB of each block
print(f"registers of a block: {used * threads}, so {by_registers} blocks; shared memory: {by_shared} blocks")
print(f"blocks on an SM: {min(by_registers, by_shared)}, so {min(by_registers, by_shared) * 4} of its 64 warps are there")

# %% [markdown]
# Eight warps of 64 seem few to hide the way to memory. But this kernel seldom waits: it fetches tiles ahead
# (`num_stages=3` means that two later blocks are on their way while one is computed on), and each byte feeds many
# flops.
#
# `minilm bench --static` compiles all kernels of the library in this way and counts them in the interpreter. It takes
# some minutes; its report is committed ([static_report.md](../benchmarks/results/static_report.md)). The attention
# kernels in 16 bits on an H100:

# %% tags=["deterministic"]
print(f"Triton {report['triton']}")
print("kernel                    D  queries x keys  warps  registers  spills  shared KB  blocks/SM")
for row in report["rows"]:
    if row["case"] in ("attention forward", "attention backward") and (row["arch"], row["dtype"]) == ("sm_90", "float16"):
        tile = f"{row['tile']['BLOCK_Q']} x {row['tile'].get('BLOCK_K', '-')}"
        print(f"{row['kernel'].removesuffix('_kernel'):23} {row['sizes']['D']:4}  {tile:>14}  {row['num_warps']:5}  "
              f"{row['registers']:9}  {row['spills']:6}  {row['shared'] / 1024:9.1f}  {row['blocks_per_sm']:9}")  # fmt: skip

# %% [markdown]
# ## The backward: who owns what
#
# The backward has three results. $dK$ and $dV$ of a key are sums over all queries; $dQ$ of a query is a sum over all
# keys. If each program owned queries, many programs would have to add to the same row of $dK$ at the same time, one
# after the other, in an order that changes from run to run. So there are two kernels: one owns blocks of keys and
# lets the queries pass by, one owns blocks of queries and lets the keys pass by. Nothing is added twice, and the same
# bits come out each time. The price: scores and $dP$ are computed in both, seven products in the place of five.

# %%
figure = new_figure()
figure.set_size_inches(7, 2.5)
for axes, title, across in zip(
    figure.subplots(1, 3),
    ("forward: owns queries", "dK, dV: owns keys", "dQ: owns queries"), (False, True, False), strict=True,
):  # fmt: skip
    for i in range(4):
        for j in range(4):
            owner = j if across else i
            axes.add_patch(Rectangle((j, i), 1, 1, facecolor=COLOURS[owner], alpha=0.4, edgecolor="white"))
    for owner in range(4):
        at = ((owner + 0.5, 0.15), (owner + 0.5, 3.85)) if across else ((0.15, owner + 0.5), (3.85, owner + 0.5))
        axes.annotate("", at[1], at[0], arrowprops={"arrowstyle": "->", "color": "black", "linewidth": 1})
    axes.set(xlim=(0, 4), ylim=(4, 0), aspect="equal", xlabel="block of keys", xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
figure.axes[0].set_ylabel("block of queries")
figure

# %% [markdown]
# A colour is a program, an arrow the order in which it walks over the blocks of scores.
#
# ## What a GPU would do
#
# The interpreter tells numbers and traffic, the compiler tells registers, and neither tells a time. But the roofline
# tells the time below which no kernel can go. For attention there is a third roof. Every weight is an exponential,
# and an SM computes only 16 of them a clock, at $1.83 \cdot 10^9$ clocks a second:
#
# $$t \ge \max\Big(\frac{\text{flops}}{\pi}, \frac{\text{bytes}}{\beta},
# \frac{\text{exponentials}}{132 \cdot 16 \cdot 1.83 \cdot 10^9 / \text{s}}\Big)$$

# %% tags=["deterministic"]
B, H, T = 8, 16, 4096
for D in (64, 128):
    flops, moved, exponentials = 4 * B * H * T * T * D, B * H * T * (4 * D * 2 + 4), B * H * T * T
    times = {"arithmetic": flops / 989e12, "memory": moved / 3.35e12, "exponentials": exponentials / (132 * 16 * 1.83e9)}
    print(f"D = {D:3}: " + ", ".join(f"{name} {1e6 * t:6.1f} us" for name, t in times.items()))

# %%
figure = new_figure()
figure.set_size_inches(7, 2.9)
axes = figure.add_subplot()
shown = ["attention forward", "attention forward, causal", "attention backward", "decoding", "softmax forward", "linear"]
rows = {}
for row in report["rows"]:
    if row["arch"] == "sm_90" and row["dtype"] == "float16" and row["case"] in shown:
        rows[f"{row['case']}, {'D' if 'D' in row['sizes'] else 'N'} {row['sizes'].get('D', row['sizes'].get('N'))}"] = row
for number, row in enumerate(rows.values()):
    for shift, (limit, colour) in enumerate(zip(("memory", "compute", "exponentials"), COLOURS, strict=False)):
        part = row["times_us"][limit] / row["roofline_us"]
        axes.barh(number + 0.26 * (shift - 1), 100 * part, 0.24, color=colour, label=limit if number == 0 else None)
axes.set_yticks(range(len(rows)), rows, fontsize=8)
axes.invert_yaxis()
axes.set(xlabel="least time for each limit, in % of the longest")
axes.xaxis.label.set_fontsize(9)
figure.legend(frameon=False, fontsize=8, ncols=3, loc="outside lower center")
figure

# %% [markdown]
# Fused attention is bound by arithmetic or, with narrow heads, by exponentials; memory is far behind. Decoding, one
# query against a long cache, is bound by memory and nothing will change that (chapter 15). Softmax by itself is
# memory, and a large linear layer is arithmetic.
#
# On a machine with an NVIDIA GPU and CuPy (NumPy's functions for GPUs), `minilm.use_backend("triton")` runs these very
# kernels, and `minilm bench` measures how near they come. The library's kernel has a little more than ours: masks,
# dropout, grouped heads, strides, $2^x$ for $e^x$ (the GPU has an instruction for it). Its loop is the one that you
# know:

# %%
source(triton_forward.attend.fn)

# %% [markdown]
# ## Exercises
#
# **Exercise 17.1.** `axpy_kernel(x, y, out, a, n, BLOCK)`: $\mathit{out} = a x + y$. The checker lays the arrays
# between bands of NaN and looks whether you touched them.

# %%
@triton.jit
def axpy_kernel(x, y, out, a, n, BLOCK: tl.constexpr):
    pass


# check_axpy(axpy_kernel)

# %% [markdown]
# **Exercise 17.2.** `softmax_kernel(x, out, C, BLOCK)`: softmax along the rows of a contiguous matrix with $C$
# columns; program $i$ owns row $i$, and `BLOCK` is a power of two of at least $C$. What must `other` be, so that the
# columns beyond the edge do no harm?

# %%
@triton.jit
def softmax_kernel(x, out, C, BLOCK: tl.constexpr):
    pass


# check_row_softmax(softmax_kernel)

# %% [markdown]
# **Exercise 17.3.** `keys_of_program(block, BLOCK_Q, BLOCK_K, Tq, Tk)`: the first keys of the blocks that program
# `block` of a *causal* forward lets pass by, as a list, where the queries stand at the end: query $i$ sees the keys
# $j \le i + T_k - T_q$ (decoding with a cache).

# %%
def keys_of_program(block, BLOCK_Q, BLOCK_K, Tq, Tk):
    ...


# check_keys_of_program(keys_of_program)

# %% [markdown]
# **Exercise 17.4.** `blocks_on_sm(registers, warps, shared)`: how many blocks live on an SM of an H100 at once, from
# the registers of a thread, the warps of a block and its bytes of shared memory. An SM has 65,536 registers (a warp
# gets them in units of 256), room for 64 warps and 32 blocks, and $228 \cdot 1024$ bytes of shared memory, of which
# each block takes 1024 more than it asks for.

# %%
def blocks_on_sm(registers, warps, shared):
    ...


# check_blocks(blocks_on_sm)

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
@triton.jit
def axpy_solution(x, y, out, a, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    tl.store(out + i, a * tl.load(x + i, mask=inside) + tl.load(y + i, mask=inside), mask=inside)


check_axpy(axpy_solution)

# %% tags=["solution"]
@triton.jit
def softmax_solution(x, out, C, BLOCK: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, BLOCK)
    scores = tl.load(x + row * C + columns, mask=columns < C, other=-float("inf"))  # e^(-inf) = 0
    e = tl.exp(scores - tl.max(scores, 0))
    tl.store(out + row * C + columns, e / tl.sum(e, 0), mask=columns < C)


check_row_softmax(softmax_solution)

# %% tags=["solution"]
def keys_of_program_solution(block, BLOCK_Q, BLOCK_K, Tq, Tk):
    last_query = min((block + 1) * BLOCK_Q, Tq) - 1
    stop = min(Tk, last_query + Tk - Tq + 1)  # one beyond the last key that the last query sees
    return list(range(0, max(stop, 0), BLOCK_K))


check_keys_of_program(keys_of_program_solution)

# %% tags=["solution"]
def blocks_on_sm_solution(registers, warps, shared):
    of_a_warp = -(-registers * 32 // 256) * 256
    return min(32, 64 // warps, 65536 // of_a_warp // warps, 228 * 1024 // (shared + 1024))


check_blocks(blocks_on_sm_solution)

# %% [markdown]
# ## What to read next
#
# - [kernels/README.md](../kernels/README.md): the ladder of kernels, in the order in which to read them, and how to
#   run one in three ways.
# - [kernels/attention/triton_forward.py](../kernels/attention/triton_forward.py), then
#   [triton_backward.py](../kernels/attention/triton_backward.py): the whole kernels;
#   [tests in the interpreter](../tests/kernels/interpreter/test_attention.py) and
#   [compiled](../tests/kernels/compiled/test_attention.py).
# - [kernels/matmul/triton.py](../kernels/matmul/triton.py): tiles of a product, and the order in which programs take
#   them.
# - [kernels/counting.py](../kernels/counting.py) and [kernels/dry.py](../kernels/dry.py): the two instruments of this
#   chapter.

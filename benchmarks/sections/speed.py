"""The report's sections on time and memory: each is a function from a result to Markdown; some draw a picture."""

from __future__ import annotations

from harness import RESULTS
from minilm.plots.loss_curves import COLOURS, GREY, new_figure
from minilm.testing.timing import in_words
from sections import Result, megabytes, table


def training_step(result: Result) -> str:
    """Ratios to PyTorch."""
    rows = result["rows"]
    figure = new_figure()
    axes = figure.subplots()
    names = list(rows)
    for offset, key, label in ((-0.18, "ratio", "time"), (0.18, "memory_ratio", "peak memory")):
        places = [i + offset for i in range(len(names))]
        axes.barh(places, [rows[n][key] for n in names], 0.34, label=label, color=COLOURS[0 if key == "ratio" else 1])
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("minilm / PyTorch (below 1: minilm needs less)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(RESULTS / "training_step.png")
    body = table(
        ["work", "minilm", "spread", "PyTorch", "spread", "ratio", "of sgemm", "memory", "PyTorch's", "ratio"],
        [
            [
                f"**{name}**: {row['work']}",
                *(in_words(row[key][side]) for side in ("minilm", "pytorch") for key in ("median_s", "spread_s")),
                f"**{row['ratio']:.2f}**",
                f"{row['share_of_sgemm']:.0%}",
                *(megabytes(row["peak_memory"][side]) for side in ("minilm", "pytorch")),
                f"**{row['memory_ratio']:.2f}**",
            ]
            for name, row in rows.items()
        ],
    )
    return (
        f"{body}\nMedian seconds of a step (sampling: of a token), interquartile range beside it; PyTorch "
        f"{result['torch']}, {result['threads']} threads each. *Ratio*: minilm over PyTorch, below 1 where minilm "
        f"needs less. *Of sgemm*: the flops of the step's products over its time, as a share of what NumPy's product "
        f"of two 1024 x 1024 matrices reaches on this machine, {result['sgemm_flop_per_s'] / 1e9:.0f} GFLOP/s. Memory: "
        f"the peak of the process beyond its imports.\n\n![ratios](training_step.png)\n"
    )


def attention_length(result: Result) -> str:
    """Time and memory over the length."""
    body = []
    for T, row in result["rows"].items():
        for name in [name for name in ("minilm", "textbook", "PyTorch") if name in row]:
            f = row[name]
            body.append(
                [
                    f"{int(T):,}, {name}",
                    *(in_words(f[key]) for key in ("forward_s", "backward_s", "both_s")),
                    f"{f['peak_bytes'] / 2**20:,.1f} MB" if "peak_bytes" in f else "",
                    f"{f['doubled']:.2f}" if "doubled" in f else "",
                    f"**{row['ratio']:.2f}**" if name == "minilm" and "ratio" in row else "",
                ]
            )
    return (
        f"{table(['length', 'forward', 'backward', 'both', 'memory', 'doubled', 'ratio'], body)}\n"
        f"Causal attention, {result['heads']} heads of width {result['width']}, float32, one sequence. Memory: the "
        f"most held beyond the inputs; *doubled*: its ratio to half the length's, 2 where it is linear, 4 where "
        f"quadratic (between 512 and 1,024 the blocks reach their full size). Ratio: minilm over PyTorch "
        f"{result['torch']}, both passes.\n\n![attention over the length](attention_length.png)\n"
    )


def tape(result: Result) -> str:
    """What an operation costs."""
    names = [name for name in next(iter(result["rows"].values())) if name not in ("ratio", "noise")]
    body = [
        [
            f"{where} numbers",
            *(
                f"{row[n]['forward_us'] + row[n]['backward_us']:.1f}" if n in row and row[n] else ""
                for n in names
            ),
            f"**{row['ratio']:.2f}**" if "ratio" in row else "",
        ]
        for where, row in result["rows"].items()
    ]  # fmt: skip
    return (
        f"{table(['chain', *names, 'minilm / PyTorch'], body)}\nMicroseconds for each small operation, forward and "
        f"backward together: {', '.join(f'{n} {v}' for n, v in result['versions'].items())}. *By hand*: the same "
        f"NumPy calls without a tape. minilm's tape is written in Python; PyTorch's, in C++, is faster by the ratio in "
        f"the last column, and autograd's is in Python as well.\n"
    )


def data_loading(result: Result) -> str:
    """Batches and tokenizers against the step."""
    batches = table(
        ["work", "batches/s", "one batch", "one step", "share of the step"],
        [
            [
                row["work"],
                f"{row['batches_per_s']:,.0f}",
                in_words(row["batch_s"]),
                in_words(row["step_s"]),
                f"{row['share']:.2%}",
            ]
            for row in result["batches"].values()
        ],
    )
    tokenizers = table(
        ["tokenizer", "vocabulary", "tokens", "time", "million tokens/s", "share of char-cpu's step"],
        [
            [
                name,
                f"{row['vocab_size']:,}",
                f"{row['tokens']:,}",
                in_words(row["encode_s"]),
                f"{row['tokens_per_s'] / 1e6:.1f}",
                f"{row['share']:.2%}",
            ]
            for name, row in result["tokenizers"].items()
        ],
    )
    return (
        f"{batches}\nHow fast batches are made, beside the step that uses them. The text is {result['text']}, and is "
        f"encoded once, before training:\n\n{tokenizers}"
    )


def outside_products(result: Result) -> str:
    """Where the time of a step goes that is no matrix product."""
    return table(
        ["work", "step", "products", "their time", "outside of them"],
        [
            [
                row["work"],
                in_words(row["step_s"]),
                str(row["products"]),
                in_words(row["products_s"]),
                f"**{row['outside_share']:.0%}**",
            ]
            for row in result["rows"].values()
        ],
    ) + (
        f"\nWith {result['threads']} thread, so that the times add up: products are timed one by one, the rest is the "
        f"difference.\n"
    )


def depth(result: Result) -> str:
    """Backward is linear in depth."""
    chains = table(
        ["chain of operations", *(f"{int(n):,}" for n in result["us_per_operation"])],
        [["microseconds for each", *(f"{us:.1f}" for us in result["us_per_operation"].values())]],
    )
    layers = table(
        ["layers", "step", "a layer", "peak of memory"],
        [
            [n, f"{row['ms']:.1f} ms", f"{row['ms_per_layer']:.2f} ms", f"{row['peak_mb']:.1f} MB"]
            for n, row in result["gpt"].items()
        ],
    )
    return (
        f"{chains}\nBackward is linear in depth: an operation costs about as much in a long chain as in a short one "
        f"(forward and backward together), and a layer of a GPT as much in a deep one, in time and in memory (width "
        f"128, 4 heads, 4 windows of 64; a step is forward and backward):\n\n{layers}"
    )


def import_time(result: Result) -> str:
    """What `import minilm` costs."""
    rows = [[f"`{t['name']}`", in_words(t["median_s"]), in_words(t["spread_s"])] for t in result["timings"]]
    return f"{table(['a new Python with', 'median', 'spread'], rows)}\nThe budget of `import minilm` is 0.3 s.\n"


def tokenizer_speed(result: Result) -> str:
    """Megabytes a second."""
    rows = [
        [
            f"{row['text']}, {row['tokenizer']}",
            f"{row['tokens']:,}",
            *(f"{row['MB/s'][key]:,.1f}" for key in ("cold", "unseen", "again")),
        ]
        for row in result["encoding"]
    ]
    trained = [
        [f"{row['text']}, {row['tokenizer']}", f"{row['vocab_size']:,}", f"{row['MB']:.2f}", f"{row['seconds']:.2f}"]
        for row in result["training"]
    ]
    return (
        f"{table(['text, tokenizer', 'tokens', 'cold', 'unseen', 'again'], rows)}\n"
        f"MB/s of encoding, more is better: *cold*, with an empty cache of words; *unseen*, the second half of the "
        f"text after the first; *again*, the same text once more. tiktoken and tokenizers, both in Rust, are there for "
        f"comparison; *mixed* is English, German and Chinese. Training a vocabulary on more and more of a "
        f"text:\n\n{table(['text, tokenizer', 'vocabulary', 'MB', 'seconds'], trained)}"
    )


SECTIONS = {
    "training_step": ("A training step against PyTorch's, on the same cores", training_step),
    "attention_length": ("Attention against the length", attention_length),
    "tape": ("What an operation on the tape costs", tape),
    "outside_products": ("The demo's step outside of matrix products", outside_products),
    "data_loading": ("Tokenizing and batching", data_loading),
    "tokenizer_speed": ("The tokenizers", tokenizer_speed),
    "depth": ("Depth", depth),
    "import_time": ("Import", import_time),
}

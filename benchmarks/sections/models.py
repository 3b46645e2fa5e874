"""The report's sections on language models, published weights and compression: from a result to Markdown."""

from __future__ import annotations

from sections import Result, duration, table


def tinyshakespeare(result: Result) -> str:
    """The loss that nanoGPT's README names."""
    rows = [
        [
            name.upper(),
            f"{row['parameters']:,}",
            f"{row['tokens']:,}",
            f"**{row['validation_loss']:.3f}**",
            duration(row["training_seconds"]),
            f"{row['step_ms_median']:.0f} ms",
            f"{row['peak_memory_mb']:.0f} MB",
        ]
        for name, row in ((name, result[name]) for name in ("gpt", "lstm"))
    ]
    head = ["model", "parameters", "tokens seen", "validation loss", "training", "a step", "peak memory"]
    return (
        f"{table(head, rows)}\nCharacters; {result['gpt']['steps']:,} steps of 12 windows of 64 each. The loss, in "
        f"nats, is that of all {result['gpt']['validation_tokens']:,} labels of the last tenth. nanoGPT's README gives "
        f"1.88 for a GPT of this size trained so long.\n"
    )


def pretrained(result: Result) -> str:
    """Published weights give the published answers."""
    smol, encoder = result["smollm2-135m-instruct"], result["all-minilm-l6-v2"]
    rows = [
        ["SmolLM2-135M-Instruct, 4-bit GGUF", "logits against transformers on the same weights, largest difference",
         f"{smol['largest_difference_of_logits']:.0e}"],
        ["", f"perplexity of {smol['tokens_of_the_text']} tokens (transformers: {smol['perplexity_of_transformers']})",
         f"{smol['perplexity']:.5f}"],
        ["", f'"{smol["prompt"]}" continues', f'"{smol["answer"].splitlines()[0].strip()}"'],
        ["", "tokens/s read, written",
         f"{smol['tokens_read_per_second']:.0f}, {smol['tokens_written_per_second']:.1f}"],
        ["", "peak of memory", f"{smol['peak_memory_mb']:.0f} MB"],
        ["all-MiniLM-L6-v2", "embeddings against the reference, largest difference",
         f"{encoder['largest_difference']:.0e}"],
        ["", f"sentences/s (of {encoder['tokens_of_a_sentence']:g} tokens)", f"{encoder['sentences_per_second']:.0f}"],
    ]  # fmt: skip
    for name, row in result.get("stories260k", {}).items():
        same = "byte for byte" if row["equal_byte_for_byte"] else "another text"
        rows.append([name, f"greedy text of {row['bytes']} bytes as llama2.c writes it", same])
        rows.append(["", "tokens/s", f"{row['tokens_written_per_second']:.0f}"])
    versions = result["reference_made_with"]
    return (
        f"{table(['weights', 'figure', 'value'], rows)}\nThe reference figures were made once with PyTorch "
        f"{versions['torch']} and transformers {versions['transformers']} (`{versions['command']}`).\n"
    )


def quantization(result: Result) -> str:
    """Bytes, perplexity and speed of 8 and 4 bits."""
    parts = []
    for name, model in ((n, m) for n, m in result.items() if isinstance(m, dict) and "forms" in m):
        rows = [
            [
                form,
                f"{row['bytes'] / 1e6:.1f} MB",
                f"{row['perplexity']:.3f}",
                f"{row['tokens_per_second']:.1f}",
            ]
            for form, row in model["forms"].items()
        ]
        parts.append(
            f"**{name}**, {model['parameters']:,} parameters, on {model['scored']}:\n\n"
            f"{table(['weights', 'size', 'perplexity', 'tokens/s written'], rows)}"
        )
    return "\n".join(parts) + (
        "\n8 bits: a scale for each row; 4 bits: one for 32 weights, with an offset where it says so. The weights "
        "become float32 again as they are used, so what is saved is memory, not time. SmolLM2's file holds 4 bits with "
        "offset already, and 8 for the embeddings: that this form loses nothing is no news; 8 bits, and 4 without "
        "offset, are. Perplexity: lower is better.\n"
    )


def pruning(result: Result) -> str:
    """Perplexity at each level."""
    ways = ("global", "layer", "global, trained on", "gradually")
    rows = [
        [f"{float(level):.0%}", *(f"{row[way]:.2f}" if way in row else "" for way in ways)]
        for level, row in result["perplexity"].items()
        if float(level)
    ]
    start = result["perplexity"]["0"]
    head = ["weights that are 0", "smallest of all", "smallest of each layer", "trained on", "step by step"]
    return (
        f"{table(head, rows)}\nPerplexity (lower is better) of the character GPT on {result['scored']}; the model "
        f"itself: {start['untouched']:.2f}, and {start['global, trained on']:.2f} after as many further steps "
        f"({result['steps_of_training_on']}) as the last two columns take. Set to 0 are the smallest weights of all "
        f"Linear layers together, or of each layer; *trained on*: those of all, then the steps, in which they stay 0; "
        f"*step by step*: more and more of them during these steps.\n"
    )


def distillation(result: Result) -> str:
    """A student alone, and with a teacher."""
    rows = [
        [
            way,
            f"{row['steps']:,}",
            f"**{row['mean_loss']:.3f}**",
            f"{row['spread']:.3f}",
            duration(sum(run["seconds"] for run in row["runs"]) / len(row["runs"])),
        ]
        for way, row in result["ways"].items()
    ]
    return (
        f"{table(['student', 'steps', 'loss, mean of the seeds', 'largest - smallest', 'training'], rows)}\n"
        f"Student: {result['student']['parameters']:,} parameters; teacher: {result['teacher']['parameters']:,}, loss "
        f"{result['teacher']['loss']:.3f}; scored on {result['scored']}. Loss in nats a character. For as many steps "
        f"the teacher helps; whoever has its time to spare does better to train the student alone for longer, as long "
        f"as there is text. The times are of a machine with other work on it.\n"
    )


def evaluation(result: Result) -> str:
    """What `minilm eval` says: figures to compare, each with what it stands on."""
    rows = [
        [
            row["model"],
            f"{row['context']:,}, {row['stride']:,}",
            f"{row['loss']:.3f}",
            f"{row['perplexity']:.2f}",
            f"**{row['bits_per_byte']:.3f}**",
            f"{row['tokens']:,}",
            f"{row['documents']:,}",
        ]
        for row in result["texts"]
    ]
    r = result["reviews"]
    classes = r["classes"]
    confusion = [[name, *(f"{count:,}" for count in line)] for name, line in zip(classes, r["confusion"], strict=True)]
    return (
        f"{table(['model', 'window, stride', 'loss', 'perplexity', 'bits/byte', 'tokens', 'documents'], rows)}\n"
        f"`minilm eval MODEL --data FILE --stride N --json FIGURES`, on the last {result['characters']:,} characters "
        f"of tinyshakespeare, which the two models trained here have not seen; SmolLM2 may have. Loss in nats a token, "
        f"and perplexity, are of tokens of different lengths; bits per byte are of the same bytes, and can be "
        f"compared. With a stride below the window each token sees more of what stands before it. Lower is better in "
        f"all three.\n\n`minilm eval` of a classifier, the LSTM of `minilm finetune` on {r['documents']:,} held-out "
        f"sentences of rt_polarity ({r['tokens']:,} tokens): accuracy {r['accuracy']:.4f}, macro F1 "
        f"{r['macro_f1']:.4f}.\n\n{table(['is, was taken for', *classes], confusion)}\nWhat it says of models that "
        f"translate, summarize and answer stands in their sections: BLEU, chrF, ROUGE, exact match and F1.\n"
    )


SECTIONS = {
    "tinyshakespeare": ("Character models of Shakespeare", tinyshakespeare),
    "pretrained": ("Published weights", pretrained),
    "evaluation": ("Evaluation", evaluation),
    "compression_quantization": ("Quantization", quantization),
    "compression_pruning": ("Pruning", pruning),
    "compression_distillation": ("Distillation", distillation),
}

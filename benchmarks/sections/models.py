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
        "become float32 again as they are used, so what is saved is memory, not time.\n"
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
        f"{table(head, rows)}\nPerplexity on {result['scored']}; the model itself: {start['untouched']:.2f}, and "
        f"{start['global, trained on']:.2f} after as many further steps ({result['steps_of_training_on']}) as the last "
        f"two columns take.\n"
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
        f"{result['teacher']['loss']:.3f}; scored on {result['scored']}. For as many steps the teacher helps; whoever "
        f"has its time to spare does better to train the student alone for longer, as long as there is text. The times "
        f"are of a machine with other work on it.\n"
    )


SECTIONS = {
    "tinyshakespeare": ("Character models of Shakespeare", tinyshakespeare),
    "pretrained": ("Published weights", pretrained),
    "compression_quantization": ("Quantization", quantization),
    "compression_pruning": ("Pruning", pruning),
    "compression_distillation": ("Distillation", distillation),
}

"""The report's sections on uses: what is made of a model, from translation to looking inside."""

from __future__ import annotations

from harness import RESULTS
from sections import Result, duration, table

EXAMPLES = 8


def pictures(pattern: str, alt: str) -> str:
    """All pictures of this kind, as Markdown."""
    return "\n".join(f"![{alt}]({path.name})\n" for path in sorted(RESULTS.glob(pattern)))


def translation(result: Result) -> str:
    """BLEU and chrF."""
    rows = []
    for name, m in result["models"].items():
        for search, found in m["searches"].items():
            rows.append(
                [
                    f"{name}, {search}",
                    f"{m['parameters']:,}",
                    f"{m['steps']:,}",
                    f"{duration(m['training_seconds'])}, {m['training_threads']}",
                    f"{m['validation_loss']:.3f}",
                    f"**{found['bleu']:.1f}**",
                    f"{found['chrf']:.1f}",
                    f"{found['texts_per_second']:.0f}",
                ]
            )
    writer, first = next(iter(result["models"].items()))
    search = list(first["searches"])[-1]
    examples = table(
        ["English", "written", "references"],
        [[e["source"], e["written"], " / ".join(e["references"])] for e in first["examples"][:EXAMPLES]],
        figures=False,
    )
    head = ["model, search", "parameters", "steps", "training, threads", "validation loss", "BLEU", "chrF", "texts/s"]
    return (
        f"{table(head, rows)}\nEnglish to German, Tatoeba; the parts do not share an English sentence. "
        f"{first['test_sentences']:,} held-out sentences with {first['test_references']:,} references (all German "
        f"sides of each), BLEU and chrF by sacrebleu, higher is better, "
        f"`{first['searches'][search]['bleu_signature']}`. The LSTM is an encoder-decoder with attention (Bahdanau). "
        f"Some of what {writer} writes ({search}):\n\n{examples}\n"
        f"Where the models look in the English sentence while they write the German one: the LSTM's attention, then "
        f"the heads of the Transformer.\n\n"
        f"{pictures('translation_attention*.png', 'attention from the words written to the words read')}"
    )


def summarization(result: Result) -> str:
    """ROUGE beside the first sentence."""
    rows = [
        [name, "", "", *(f"{b[key]:.1f}" for key in ("rouge1", "rouge2", "rouge_l"))]
        for name, b in result["baselines"].items()
    ]
    for name, m in result["models"].items():
        for search, found in m["searches"].items():
            figures = (f"**{found[key]:.1f}**" for key in ("rouge1", "rouge2", "rouge_l"))
            training = f"{duration(m['training_seconds'])}, {m['training_threads']}"
            rows.append([f"{name}, {search}", f"{m['parameters']:,}", training, *figures])
    head = ["", "parameters", "training, threads", "ROUGE-1", "ROUGE-2", "ROUGE-L"]
    first = next(iter(result["models"].values()))
    examples = table(
        ["beginning of the description", "written", "references"],
        [
            [shortened(e["source"]), e["written"], " / ".join(e["references"])]
            for e in first["examples"][:EXAMPLES]
        ],
        figures=False,
    )
    return (
        f"{table(head, rows)}\nDescriptions of Debian packages to their one-line synopses; "
        f"{result['test_documents']:,} held-out descriptions, none of which shares a sentence of 40 letters or more "
        f"with the training part. ROUGE F1, higher is better. Both models are Transformers; one has a pointer to the "
        f"description, from which it may copy, and what stands below is its own. The file with the descriptions is not "
        f"in this repository: `benchmarks/debian_descriptions.py` makes such a one from Debian's own, as its first "
        f"lines say.\n\n{examples}\n"
    )


def shortened(text: str, most: int = 120) -> str:
    """The beginning of a text, cut behind a word."""
    return text if len(text) <= most else f"{text[:most].rsplit(' ', 1)[0]} ..."


def masked_words(result: Result) -> str:
    """Hidden words restored, and what that brings."""
    keys = ("loss_masked", "accuracy_masked", "among_five_masked")
    words = table(
        ["", "loss", "right", "among five"],
        [
            [name, *(f"{found[key]:.3f}" if key in found else "" for key in keys)]
            for name, found in result["words"].items()
        ],
    )
    tuned = table(
        ["labels", "start", "learning rate", "steps", "loss in training", "accuracy", "pre-trained minus this"],
        [
            [
                amount,
                start,
                f"{s['learning_rate']:g}",
                f"{found['steps']} of {found['batch_size']}",
                f"{s['training_loss']:.3f}",
                f"**{s['accuracy']:.3f}** ± {s['standard_error']:.3f}",
                f"{s['behind']:+.3f} ± {s['standard_error_behind']:.3f}" if "behind" in s else "",
            ]
            for amount, found in result["labels"].items()
            for start, s in found["starts"].items()
        ],
    )
    examples = table(
        ["shown", "hidden", "most probable"],
        [
            [e["shown"], e["right"], ", ".join(f"{c['word']} {c['probability']:.2f}" for c in e["choices"])]
            for e in result["examples"]
        ],
        figures=False,
    )
    n, p, after = result["sentences"], result["pretraining"], list(result["words"].values())[-1]
    tried = list(result["labels"]["all"]["tried_on_validation"].values())
    soon = ", ".join(f"{start} {max(found[start]['accuracy'] for found in tried):.3f}" for start in tried[0])
    seeds = {k: max(len(s["seeds"]) for s in found["starts"].values()) for k, found in result["labels"].items()}
    return (
        f"A BERT of {p['parameters']:,} parameters and {result['tokens']['vocabulary']:,} tokens that starts from "
        f"nothing reads {n['training']:,} film reviews without their labels (rt_polarity): {p['steps']:,} steps, "
        f"{duration(p['seconds'])}. Of {after['places_masked']:,} words hidden behind [MASK] in the "
        f"{n['held_out']:,} held-out sentences:\n\n{words}\n"
        f"The corpus is small: {result['tokens']['training']:,} tokens, where BERT's own had 3.3 billion words. "
        f"Where another word stood in place of the hidden one it found the hidden one in "
        f"{after['accuracy_replaced']:.1%}, and where the word itself was left there in "
        f"{after['accuracy_kept']:.1%}.\n\n{examples}\n"
        f"Then good or bad, from those weights and from none: accuracy on the held-out sentences (± the standard error "
        f"from sentences and seeds; {', '.join(f'{k} labels: {n} seeds' for k, n in seeds.items() if n > 1)}). The "
        f"learning rates were chosen on {n['validation']:,} of the training sentences.\n\n{tuned}\n"
        f"How soon: with all labels, {result['settings']['tried_steps']} steps and the better of the rates tried, "
        f"accuracy on those {n['validation']:,} sentences: {soon}.\n"
    )


def finetuning(result: Result) -> str:
    """How much of an encoder has to be trained?"""
    rows = [
        [
            name,
            f"{m['trained_parameters']:,}",
            duration(m["seconds"]),
            f"{m['peak_memory_mb']:,.0f} MB",
            f"**{m['accuracy']:.3f}**",
            f"{m['macro_f1']:.3f}",
        ]
        for name, m in result["methods"].items()
    ]
    some = next(m for m in result["methods"].values() if "training_texts" in m)
    head = ["method", "parameters trained", "training", "peak memory", "accuracy", "macro F1"]
    return (
        f"{table(head, rows)}\nFilm reviews, good or bad (rt_polarity): {some['training_texts']:,} sentences to learn "
        f"from, {some['held_out_texts']:,} held out (standard error about 0.012). All start from {result['model']} but "
        f"the LSTM, which starts from nothing. *full*: all weights are trained, by the documents' own program "
        f"(examples/documents_finetuning.py); *lora*: adapters of rank 8 on the attention matrices, and the head; "
        f"*last*: the last of six blocks, and the head; *frozen*: the head alone, on features that are computed "
        f"once.\n"
    )


def question_answering(result: Result) -> str:
    """Exact match and F1."""
    rows = [
        [name.replace("_", " "), *(f"**{found[key]:.1f}**" for key in ("exact_match", "f1"))]
        for name, found in result["held_out"].items()
    ]
    examples = table(
        ["question", "right", "answer", "probability"],
        [
            [e["question"], " / ".join(e["right"]), e["answer"], f"{e['probability']:.2f}"]
            for e in result["examples"][:8]
        ],
        figures=False,
    )
    n = result["questions"]
    return (
        f"{table(['answered by', 'exact match', 'F1'], rows)}\nPercent, higher is better. *Sentence*: the one of the "
        f"text that is nearest to the question by all-MiniLM-L6-v2 as it is; *run of words*: the longest part of it "
        f"without words of the question; *untrained head*: the model before training; *fine-tuned*: after `minilm "
        f"finetune --task answer`. The English part of XQuAD, split by article: {n['training']:,} questions to learn "
        f"from, {n['held_out']:,} held out. A thousand questions are few: SQuAD has a hundred thousand.\n\n{examples}"
    )


def few_shot(result: Result) -> str:
    """Examples in the prompt."""

    def cell(row: Result, key: str) -> str:
        several = row["sets_of_examples"] > 1
        return f"{row[key]:.3f}" + (f" ({row[key + '_least']:.3f} to {row[key + '_most']:.3f})" if several else "")

    rows = [
        [shots, str(row["sets_of_examples"]), cell(row, "accuracy"), cell(row, "accuracy_calibrated")]
        for shots, row in result["shots"].items()
    ]
    return (
        f"{table(['examples in the prompt', 'sets of examples', 'accuracy', 'calibrated'], rows)}\n{result['model']}, "
        f"on {result['scored']}; standard error at most {result['standard_error_at_one_half']:.3f}. The answer is the "
        f"word of the two that the model finds more probable after the prompt; *calibrated*: against what it finds "
        f"without a sentence (Zhao et al. 2021). A small model that was tuned on instructions needs no example, and "
        f"may be led astray by those it gets; the lesson of GPT-3 is one of size.\n"
    )


def instruction_tuning(result: Result) -> str:
    """Before and after."""
    rows = [
        [
            name,
            f"{part.get('parameters_trained', 0):,}",
            f"{part['answer_loss']:.3f}",
            f"**{part['exact_match']:.1f}**",
            duration(part["seconds_of_training"]) if "seconds_of_training" in part else "",
        ]
        for name, part in result["parts"].items()
        if "answer_loss" in part
    ]
    s = result["settings"]
    head = ["loss on", "parameters trained", "loss of the answers", "exact match", "training"]
    return (
        f"{table(head, rows)}\n{s['model']}, LoRA of rank {s['lora']['rank']} on {s['examples']} examples of "
        f"\"{s['instruction'].strip()}\", {s['steps']} steps of {s['batch_size']}; scored on {s['scored']}, greedily: "
        f"the loss in nats a token, exact match in percent. *Before*: the model as it is; *answers*: trained with the "
        f"loss on the answers only; *everything*: with the loss on the questions, too.\n"
    )


def privacy(result: Result) -> str:
    """Loss against epsilon, and a secret."""
    parts = []
    titles = {
        "cost": "What it costs: film reviews, good or bad, a small head on the features of all-MiniLM-L6-v2",
        "canary": "What it brings: a secret that stands once among the names that a small model learns from",
    }
    ways = {"inf": "clipped, without noise", "plain": "plain training"}
    for name, title in titles.items():
        part = result.get(name)
        if part is None:
            continue
        keys = [k for k in ("loss", "accuracy", "exposure_bits") if k in next(iter(part["rows"].values()))]
        rows = [
            [
                ways.get(way, way) if row["epsilon"] is None else f"epsilon {row['epsilon']:g}",
                f"{row['noise_multiplier']:.2f}" if row["noise_multiplier"] else "",
                *(f"{row[k]['mean']:.3f}" for k in keys),
            ]
            for way, row in part["rows"].items()
        ]
        parts.append(f"{title}:\n\n{table(['', 'noise', *(k.replace('_', ' ') for k in keys)], rows)}")
    return (
        "\n".join(parts)
        + f"\nDP-SGD with delta {result['delta']:g}, accountant {result['accountant']}; means of three seeds. *Noise*: "
        f"its standard deviation, in clipping norms. *Loss*: in nats, held out, of a review or of a character. "
        f"*Exposure*: how far in front among all secrets of its form the model puts the one that it has seen; if that "
        f"is the first of 17,576, 14.1 bits, and if nothing has leaked, about as much as a secret that was *never "
        f"seen*.\n\n"
        + pictures("privacy*.png", "loss against epsilon")
    )


def inspection(result: Result) -> str:
    """What was found, and the pictures."""
    parts, lines = result["parts"], []
    if "lens" in parts:
        f = parts["lens"]["found"]
        lines.append(
            f"- Logit lens: after \"{f['prompt']}\" the answer \"{f['answer'].strip()}\" is the first choice from "
            f"layer {f['first_choice_from_layer']} of {f['layers']} on."
        )
    if "attention" in parts:
        f = parts["attention"]["found"]
        for what, head in f["strongest"].items():
            lines.append(
                f"- Of {f['heads']} heads, head {head['head']} of layer {head['layer']} looks the most at {what}: "
                f"{head['mean_weight']:.2f} of its weight."
            )
    for name in ("pronouns", "names"):
        if name in parts:
            f = parts[name]["found"]
            words = ", ".join("/".join(pair) for pair in f["words"])
            lines.append(
                f"- Bias probe with {words}: the two lists of occupations differ by "
                f"{f['difference_of_the_two_lists']:.2f} nats (p = {f['p_by_permuting_occupations']:.4f}, by "
                f"permutation)."
            )
    for f in parts.get("association", {}).get("found", []):
        if f["form"] == "{}":
            lines.append(
                f"- Association in all-MiniLM-L6-v2's embeddings, {f['x']} rather than {f['y']} with {f['a']} rather "
                f"than {f['b']}: effect size {f['effect_size']:.2f} (p = {f['p']:.4f})."
            )
    return "\n".join(lines) + "\n\n" + "\n".join(f"{says}:\n\n{pictures(n, says)}" for n, says in LOOKS.items())


LOOKS = {
    "inspection_logit_lens.png": "Logit lens: what each layer would write if it were the last",
    "inspection_attention.png": "Attention maps of the two heads that are named above",
    "inspection_saliency_*.png": "Saliency: which words decide whether a review is positive, in three ways",
    "inspection_bias_*.png": "Bias: which of two paired sentences the model finds more probable, by person",
}


SECTIONS = {
    "translation": ("Translation", translation),
    "summarization": ("Summaries", summarization),
    "masked_words": ("Hidden words", masked_words),
    "finetuning": ("Fine-tuning", finetuning),
    "question_answering": ("Questions", question_answering),
    "few_shot": ("Examples in the prompt", few_shot),
    "instruction_tuning": ("Instructions", instruction_tuning),
    "privacy": ("Privacy", privacy),
    "inspection": ("Looking inside", inspection),
}

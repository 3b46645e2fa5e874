"""Instruction tuning: a chat model learns to answer as it is told, with the loss on the answers only.

    make pretrained
    make bench ONLY=instruction_tuning                          about half an hour on one core
    python benchmarks/instruction_tuning.py before answers      some of the parts; the others are kept as they are
    python benchmarks/instruction_tuning.py --steps 2 --sample 5    a short one, to see that it works (nothing is saved)

SmolLM2-135M-Instruct is asked whether a review (rt_polarity) is positive or negative, and shall answer with that word.
512 questions are learned, once each, with LoRA on the attention matrices; 200 of the held-out tenth are asked.

    before        the model as it was published
    answers       64 steps of 8 questions, the loss on the answers and their ends
    everything    the same steps, the loss on all tokens: what the mask is for

results/instruction_tuning.json is written after each part.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from typing import Any

from few_shot import reviews

from harness import RESULTS, machine, save
from minilm.cli.finetune_instruct import figures
from minilm.evaluation import exact_match
from minilm.generation import greedy_replies
from minilm.pretrained import from_pretrained, load_chat_template
from minilm.pretrained.packages import CHAT
from minilm.random import Generator, using_generator
from minilm.text import InstructionExamples, LengthGroups
from minilm.training import Trainer, TrainingArguments, merge_lora, prepare_method, read_metrics
from minilm.training.process import peak_memory

INSTRUCTION = "Is this review positive or negative? Answer with one word.\n"
PARTS = ("before", "answers", "everything")
STEPS, BATCH, SAMPLE, SHOWN = 64, 8, 200, 5
LEARNING_RATE, RANK, ALPHA = 1e-3, 8, 16.0
LONGEST = 256  # tokens


def conversations(sentences: list[tuple[str, str]], number: int, name: str) -> list[list[dict[str, Any]]]:
    """A question and its answer for `number` of the sentences, chosen by a seed."""
    order = Generator(0).spawn(name).permutation(len(sentences))[:number]
    chosen = [sentences[i] for i in order.tolist()]
    return [
        [{"role": "user", "content": INSTRUCTION + text}, {"role": "assistant", "content": answer}]
        for text, answer in chosen
    ]


def part(name: str, steps: int, sample: int) -> dict[str, Any]:
    """Train, unless it is "before", and ask the held-out questions."""
    model, tokenizer = from_pretrained(CHAT, context_length=1024)
    template = load_chat_template(CHAT, tokenizer)
    pool, held_out = reviews()
    train, test = conversations(pool, steps * BATCH, "instructions"), conversations(held_out, sample, "few-shot sample")

    def examples(talks: list[Any], everything: bool = False) -> InstructionExamples:
        return InstructionExamples(talks, lambda talk: template.encode_to_learn(tokenizer, talk), LONGEST, everything)

    row: dict[str, Any] = {"parameters_trained": 0, "seconds_of_training": 0.0}
    if name != "before":
        learned = examples(train, name == "everything")
        with using_generator(Generator(1).spawn("adapters")):
            prepare_method(model, "lora", rank=RANK, alpha=ALPHA)
        row["parameters_trained"] = sum(p.size for p in model.parameters() if p.requires_grad)
        row["tokens_read"], row["tokens_learned"] = learned.tokens()
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                max_steps=steps,
                learning_rate=LEARNING_RATE,
                warmup_steps=max(1, steps // 16),
                logging_steps=max(1, steps // 16),
                save_strategy="no",
                progress=False,
                seed=1,
            )
            began, worked = time.perf_counter(), time.process_time()
            Trainer(model, arguments, LengthGroups(learned, BATCH, seed=1)).train()
            row["seconds_of_training"] = time.perf_counter() - began
            row["cpu_seconds_of_training"] = time.process_time() - worked  # what counts where others share the cores
            row["loss_while_training"] = [[m["step"], m["loss"]] for m in read_metrics(f"{folder}/metrics.jsonl")]
        merge_lora(model)
    began = time.perf_counter()
    row |= figures(model, tokenizer, template, test, examples(test))
    row["seconds_of_evaluation"] = time.perf_counter() - began
    row["peak_memory_mb"] = peak_memory() / 2**20
    prompts = [template.encode(tokenizer, talk[:1]) for talk in test[:SHOWN]]
    replies = greedy_replies(model, tokenizer, prompts, 16, template.stop_ids)
    row["replies"] = [
        {"right": talk[1]["content"], "reply": reply, "exact": exact_match(reply, talk[1]["content"]) == 100}
        for talk, reply in zip(test, replies, strict=False)
    ]
    return row


def main() -> None:
    """Run the parts that are asked for, and save after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    told = f"some of {', '.join(PARTS)}; all, if none is named"
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[], metavar="PART", help=told)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"other than {STEPS}: nothing is saved")
    parser.add_argument("--sample", type=int, default=SAMPLE, help=f"held-out questions; other than {SAMPLE}: as well")
    options = parser.parse_args()
    settings = {
        "model": "SmolLM2-135M-Instruct, 4-bit weights as float32",
        "instruction": INSTRUCTION,
        "scored": f"{options.sample} sentences of the held-out tenth of rt_polarity",
        "questions": options.sample,
        "steps": options.steps,
        "batch_size": BATCH,
        "examples": options.steps * BATCH,
        "lora": {"rank": RANK, "alpha": ALPHA, "targets": "qkv_proj, out_proj", "learning_rate": LEARNING_RATE},
    }
    path = RESULTS / "instruction_tuning.json"
    for name in options.parts or PARTS:
        facts, began = machine(), time.perf_counter()
        row = {**part(name, options.steps, options.sample), "machine": facts}
        row["seconds"] = time.perf_counter() - began
        known = json.loads(path.read_text()) if path.exists() else {}
        rows = {**(known["parts"] if known.get("settings") == settings else {}), name: row}
        print(name, {key: value for key, value in row.items() if key != "machine"}, flush=True)
        seconds = sum(row["seconds"] for row in rows.values())
        ordered = {name: rows[name] for name in PARTS if name in rows}
        command = "make bench ONLY=instruction_tuning"
        headline = {n: {key: round(r[key], 3) for key in ("answer_loss", "exact_match")} for n, r in ordered.items()}
        result = {"command": command, "seconds": seconds, "headline": headline, "settings": settings, "parts": ordered}
        if (options.steps, options.sample) == (STEPS, SAMPLE):
            print(f"  -> {save('instruction_tuning', result, facts)}")


if __name__ == "__main__":
    sys.exit(main())

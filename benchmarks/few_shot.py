"""Few-shot prompting: does a small model learn a task from examples in its prompt, as GPT-3 did?

    make pretrained
    make bench ONLY=few_shot                         about 12 minutes on one core
    python benchmarks/few_shot.py --add --seeds 3    a set of examples more
    python benchmarks/few_shot.py --sample 10        a short one, to see that it works (nothing is saved)

SmolLM2-135M-Instruct says of sentences of film reviews (rt_polarity) whether they are positive or negative, with 0, 1,
4 and 8 examples before the question (Brown et al. 2020, section 2). The answer is the likelier one of the two words
after the prompt, so that each sentence gets one; a coin would be right in half of them. The same 300 sentences of the
held-out tenth for all; the examples come from the other nine tenths, balanced, a new set for each seed. "calibrated"
takes off what the words have from content-free texts (Zhao et al. 2021).

results/few_shot.json is written after each set of examples.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from typing import Any

import numpy as np

from harness import RESULTS, machine, save
from minilm.evaluation import accuracy, calibrated, option_log_likelihoods
from minilm.generation import FewShotPrompt, balanced_examples
from minilm.pretrained import from_pretrained
from minilm.pretrained.packages import CHAT
from minilm.random import Generator
from minilm.text.labelled import read_labelled, split_labelled

FORM = FewShotPrompt("Review: {text}\nSentiment:")
WORDS = {"pos": "positive", "neg": "negative"}
ANSWERS = tuple(WORDS.values())
SHOTS, SEEDS, SAMPLE, TIMED = (0, 1, 4, 8), (1, 2, 3), 300, 8
CONTENT_FREE = ("N/A", "[MASK]", "")  # as in the paper


def reviews() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(sentence, answer): nine tenths to draw examples from, and the held-out tenth."""
    parts = split_labelled(read_labelled("rt_polarity"), (0.9, 0.1))
    train, held_out = ([(text, WORDS[label]) for text, label in part] for part in parts)
    return train, held_out


class Reader:
    """The model, and the sentences that it is asked about."""

    def __init__(self, sample: int) -> None:
        self.model, self.tokenizer = from_pretrained(CHAT, context_length=1024)
        self.pool, held_out = reviews()
        order = Generator(0).spawn("few-shot sample").permutation(len(held_out))
        self.test = [held_out[i] for i in order[:sample].tolist()]
        self.right = np.array([ANSWERS.index(answer) for _, answer in self.test])

    def scores(self, texts: list[str], examples: list[tuple[str, str]], use_cache: bool = True) -> Any:
        """(N, 2) log-probabilities of the answers."""
        prompts = [FORM.write(text, examples) for text in texts]
        options = [FORM.option(answer) for answer in ANSWERS]
        return option_log_likelihoods(self.model, self.tokenizer, prompts, options, use_cache=use_cache)

    def examples(self, shots: int, seed: int) -> list[tuple[str, str]]:
        """`shots` examples, a function of the seed."""
        return balanced_examples(self.pool, shots, Generator(seed).spawn(f"{shots} examples"))

    def run(self, shots: int, seed: int) -> dict[str, Any]:
        """Accuracy with one set of examples."""
        began, worked, examples = time.perf_counter(), time.process_time(), self.examples(shots, seed)
        shown = [FORM.question(text) + FORM.option(answer) + FORM.separator for text, answer in examples]
        scores = self.scores([text for text, _ in self.test], examples)
        fair = calibrated(scores, self.scores(list(CONTENT_FREE), examples))
        return {
            "seed": seed,
            "answers_of_the_examples": [answer for _, answer in examples],
            "tokens_of_the_examples": sum(len(ids) for ids in map(self.tokenizer.encode, shown)),
            "accuracy": accuracy(scores.argmax(-1), self.right),
            "says_positive": float((scores.argmax(-1) == 0).mean()),
            "accuracy_calibrated": accuracy(fair.argmax(-1), self.right),
            "says_positive_calibrated": float((fair.argmax(-1) == 0).mean()),
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - worked,  # what counts where others share the cores
        }

    def cost(self, shots: int) -> dict[str, float]:
        """Seconds for a few sentences, with the examples read once and with all of it read each time."""
        examples, texts = self.examples(shots, 1), [text for text, _ in self.test[:TIMED]]
        seconds = {}
        for name, use_cache in (("examples_read_once", True), ("examples_read_each_time", False)):
            began = time.perf_counter()
            self.scores(texts, examples, use_cache)
            seconds[name] = (time.perf_counter() - began) / len(texts)
        return seconds


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the sets of examples."""
    told: dict[str, Any] = {"sets_of_examples": len(runs)}
    for key in ("accuracy", "accuracy_calibrated"):
        values = [run[key] for run in runs]
        told |= {key: statistics.mean(values), f"{key}_least": min(values), f"{key}_most": max(values)}
        told[f"{key}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
    return told


def main() -> None:
    """Measure, and save after each set of examples."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS, help="of the sets of examples")
    parser.add_argument("--sample", type=int, default=SAMPLE, help=f"sentences; other than {SAMPLE}: nothing is saved")
    parser.add_argument("--add", action="store_true", help="to what results/few_shot.json has already")
    options = parser.parse_args()
    facts = machine()
    reader = Reader(options.sample)
    path = RESULTS / "few_shot.json"
    whole = options.sample == SAMPLE
    if whole and not options.add:
        path.unlink(missing_ok=True)
    for seed in options.seeds:
        for shots in SHOTS if seed == SEEDS[0] else SHOTS[1:]:  # without examples there is one prompt only
            run = {"shots": shots, **reader.run(shots, seed)}
            print({key: value for key, value in run.items() if key != "answers_of_the_examples"}, flush=True)
            if whole:
                keep(reader, run, facts)
    if whole and SEEDS[0] in options.seeds:
        keep(reader, {"seconds_a_sentence_with_8": reader.cost(8)}, facts)
    if whole:
        print(f"  -> {path}")


def keep(reader: Reader, found: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write what was found to results/few_shot.json, beside what is there."""
    n = len(reader.test)
    path = RESULTS / "few_shot.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    runs = [run for row in known.get("shots", {}).values() for run in row["runs"]]
    if "shots" in found:
        runs = [run for run in runs if (run["shots"], run["seed"]) != (found["shots"], found["seed"])] + [found]
    told = {}
    for shots in SHOTS:
        done = sorted((run for run in runs if run["shots"] == shots), key=lambda run: run["seed"])
        if done:
            row = told[str(shots)] = {**summary(done), "runs": done}
            for key in ("accuracy", "accuracy_calibrated"):
                row[f"{key}_standard_error"] = math.sqrt(row[key] * (1 - row[key]) / n)
    result: dict[str, Any] = {
        "command": "make bench ONLY=few_shot",
        "seconds": sum(run["seconds"] for run in runs),
        "cpu_seconds": sum(run["cpu_seconds"] for run in runs),
        "headline": {
            f"{key}_percent": {shots: round(100 * row[key], 1) for shots, row in told.items()}
            for key in ("accuracy", "accuracy_calibrated")
        },
        "model": "SmolLM2-135M-Instruct, 4-bit weights as float32",
        "form": FORM.form,
        "separator": FORM.separator,
        "answers": list(ANSWERS),
        "scored": f"{n} sentences of the held-out tenth of rt_polarity",
        "sentences": n,
        "positive": float((reader.right == 0).mean()),
        "standard_error_at_one_half": math.sqrt(0.25 / n),
        "content_free": list(CONTENT_FREE),
        "examples_of_a_seed": "balanced, in random order",
        "seconds_a_sentence_with_8": found.get("seconds_a_sentence_with_8") or known.get("seconds_a_sentence_with_8"),
        "shots": told,
    }
    save("few_shot", result, facts)


if __name__ == "__main__":
    sys.exit(main())

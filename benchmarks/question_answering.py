"""Answers found in texts: all-MiniLM-L6-v2, fine-tuned on a thousand questions, beside what needs no training.

    make pretrained
    make bench ONLY=question_answering                    a quarter of an hour on a core of its own
    python benchmarks/question_answering.py --runs FOLDER keeps the run in FOLDER, and does not train what is there
    python benchmarks/question_answering.py --limit 100   a short one, to see that it works (nothing is saved)

The data are the 1,190 English questions of XQuAD (Artetxe et al. 2020), a part of SQuAD's; of its 48 articles, 7 are
held out. Exact match and F1 are SQuAD's, in percent. Each contestant answers the same held-out questions:

    sentence         the sentence of the text that is nearest to the question by all-MiniLM-L6-v2 as it is
    run of words     of that sentence, the longest run of words that the question does not have
    untrained head   the same model with the head as it is drawn, before any training
    fine-tuned       the same model after `minilm finetune --task answer`
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import machine, save
from minilm.cli import finetune_answer, finetune_run
from minilm.evaluation import evaluate_answers, exact_match, normalize_answer, token_f1
from minilm.generation import find_answers
from minilm.kernels.threads import thread_count
from minilm.pretrained import SentenceEncoder, from_pretrained
from minilm.pretrained.packages import SENTENCES
from minilm.text import Question
from minilm.training.callbacks import read_metrics

SETTINGS = finetune_run.Settings(SENTENCES, "answer", "xquad", batch_size=8, held_out=0.15)
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")
SHOWN, SAMPLE = 12, 100


def sentences(questions: Sequence[Question]) -> list[str]:
    """For each question the sentence of its text that is nearest to it."""
    encoder = SentenceEncoder.load(SENTENCES)
    parts = {q.context: [s for s in SENTENCE_END.split(q.context) if s.strip()] for q in questions}
    every = sorted({sentence for part in parts.values() for sentence in part})
    vectors = dict(zip(every, encoder.encode(every), strict=True))
    asked = zip(questions, encoder.encode([q.question for q in questions]), strict=True)
    return [max(parts[q.context], key=lambda sentence, v=v: float(vectors[sentence] @ v)) for q, v in asked]


def run_of_words(question: str, sentence: str) -> str:
    """The longest run of words of the sentence that are not in the question, and the first of equal ones."""
    known = set(normalize_answer(question).split())
    best: list[str] = []
    run: list[str] = []
    for word in sentence.split():
        run = [] if normalize_answer(word) in known else [*run, word]
        best = max(best, run, key=len)
    return " ".join(best)


def scored(answers: Sequence[str], questions: Sequence[Question]) -> dict[str, Any]:
    """Exact match and F1, and the standard error of their means over the questions."""
    right = [[span.text for span in q.answers] for q in questions]
    each = {
        "exact_match": [exact_match(a, r) for a, r in zip(answers, right, strict=True)],
        "f1": [token_f1(a, r) for a, r in zip(answers, right, strict=True)],
    }
    errors = {f"{name}_standard_error": float(np.std(v) / len(v) ** 0.5) for name, v in each.items()}
    return {**evaluate_answers(answers, right).as_dict(), **errors}


def answered(model: Any, tokenizer: Any, questions: Sequence[Question]) -> list[Any]:
    """What the model finds for each question."""
    return find_answers(model, tokenizer, [(q.question, q.context) for q in questions])


def training(folder: Path, settings: finetune_run.Settings) -> dict[str, Any]:
    """The figures of the run in the folder, trained now unless it is there."""
    path = folder / "run.json"
    if not path.is_file():
        finetune_run.claim(folder, overwrite=True)
        finetune_run.train(settings, finetune_run.prepare(settings, finetune_answer), folder)
    return json.loads(path.read_text())[finetune_run.FINISHED]


def main() -> None:
    """Train, answer, print and save results/question_answering.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the run; a temporary one if it is not given")
    parser.add_argument("--limit", type=int, help="use so many questions only; nothing is saved")
    parser.add_argument("--epochs", type=float, help="instead of the task's own number; nothing is saved")
    options = parser.parse_args()
    facts, began = machine(), time.perf_counter()
    whole = options.limit is None and options.epochs is None
    settings = dataclasses.replace(SETTINGS, limit=options.limit, epochs=options.epochs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.runs or Path(temporary)) / "answer"
        there = (folder / "run.json").is_file()
        figures = training(folder, settings)
        model, tokenizer = from_pretrained(folder)
        metrics = read_metrics(folder / "metrics.jsonl")
    task = finetune_run.prepare(settings, finetune_answer)
    _, train, test = finetune_answer.parts(settings.data, settings.options())

    started = time.perf_counter()
    found = answered(model, tokenizer, test)
    seconds = time.perf_counter() - started
    nearest = sentences(test)
    contestants = {
        "sentence": nearest,
        "run of words": [run_of_words(q.question, s) for q, s in zip(test, nearest, strict=True)],
        "untrained head": [a.text for a in answered(task.model, tokenizer, test)],
        "fine-tuned": [a.text for a in found],
    }
    sample = train[:: max(1, len(train) // SAMPLE)]
    seen = scored([a.text for a in answered(model, tokenizer, sample)], sample)
    result = {
        "command": "make bench ONLY=question_answering",
        "threads": thread_count(),
        "settings": dataclasses.asdict(settings),
        "epochs": settings.epochs_of(task),
        "learning_rate": settings.learning_rate_of(task),
        "questions": {"training": len(train), "held_out": len(test)},
        "articles": {"training": len({q.title for q in train}), "held_out": len({q.title for q in test})},
        "windows": {"training": len(task.train), "tokens": sum(len(e["input_ids"]) for e in task.train)},
        "training": {name: figures[name] for name in ("trained_parameters", "steps", "seconds", "peak_memory_mb")},
        "losses": [{k: m[k] for k in ("step", "loss", "eval_loss") if k in m} for m in metrics],
        "held_out": {name: scored(answers, test) for name, answers in contestants.items()},
        "on_questions_of_the_training": seen,
        "seconds_of_an_answer": seconds / len(test),
        "examples": [
            {
                "question": q.question,
                "right": [span.text for span in q.answers],
                "answer": a.text,
                "probability": a.probability,
                "nearest_sentence": s,
            }
            for q, a, s in list(zip(test, found, nearest, strict=True))[:: max(1, len(test) // SHOWN)]
        ],
    }
    for name, values in result["held_out"].items():
        print(f"{name:16} exact match {values['exact_match']:5.1f}   F1 {values['f1']:5.1f}")
    print(f"{'(on training)':16} exact match {seen['exact_match']:5.1f}   F1 {seen['f1']:5.1f}")
    result["seconds"] = time.perf_counter() - began + (figures["seconds"] if there else 0)
    if whole:
        print(f"  -> {save('question_answering', result, facts)}")


if __name__ == "__main__":
    main()

"""Published weights in NumPy: do they give the published answers, how fast, and in how much memory?

    make pretrained
    make bench ONLY=pretrained

Compared with tests/pretrained/reference.json, what PyTorch and transformers computed with the same weights (the command
is in tests/pretrained/reference.py). SmolLM2 is quantized to 4 bits in its file, and computes in float32 here. A speed
is the median of five rounds; reading is of a prompt of 256 tokens, writing goes on from it. stories260K is a corpus
(minilm.text.CORPORA); the text that it must write is the one that llama2.c's own test (test_all.py) expects.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness import machine, no_options, save
from minilm import no_grad
from minilm.errors import DataError
from minilm.evaluation import evaluate_language_model
from minilm.generation import NextToken, SamplingSettings, generate, generate_text
from minilm.pretrained import SentenceEncoder, from_pretrained
from minilm.pretrained.packages import CHAT, SENTENCES
from minilm.text import find_corpus
from minilm.training.process import peak_memory

REFERENCE = Path(__file__).resolve().parents[1] / "tests" / "pretrained" / "reference.json"
ROUNDS, PROMPT, WRITTEN, MANY = 5, 256, 32, 128
STORY = "beeb5cb46785efee81a8545300b31e396b595e5ce6f3b77db201545501981d14"  # SHA-256 of its 464 bytes


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call took, and its result."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def smollm2(known: dict[str, Any]) -> dict[str, Any]:
    """SmolLM2-135M-Instruct against transformers, and its speed."""
    load, (model, tokenizer) = seconds(lambda: from_pretrained(CHAT, context_length=2048))
    expected = np.array(known["logits"])
    ids = np.array(known["prompt_ids"])
    with no_grad():
        logits = model(ids[None]).numpy()[0]
    every = logits.shape[-1] // expected.shape[-1]
    difference = np.abs(logits[:, ::every][:, : expected.shape[-1]] - expected).max()
    text = tokenizer.encode(known["text"])
    score = evaluate_language_model(model, [{"input_ids": text[None, :-1], "labels": text[None, 1:]}])
    answer = generate_text(model, tokenizer, known["prompt"], 12, SamplingSettings(temperature=0))

    prompt = [int(i) for i in np.resize(text, PROMPT)]
    reading, writing = [], []
    for _ in range(ROUNDS):
        next_token, ids = NextToken(model), list(prompt)
        took, row = seconds(lambda n=next_token, i=ids: n.logits(i))
        reading.append(took)
        started = time.perf_counter()
        for _ in range(WRITTEN):
            ids.append(int(row.argmax()))
            row = next_token.logits(ids)
        writing.append(time.perf_counter() - started)
    return {
        "parameters": model.num_parameters(),
        "load_seconds": load,
        "largest_difference_of_logits": float(difference),
        "tokens_of_the_text": len(text),
        "perplexity": score.perplexity,
        "perplexity_of_transformers": known["perplexity"],
        "prompt": known["prompt"],
        "answer": answer,
        "answer_of_transformers": known["greedy"],
        "tokens_read_per_second": PROMPT / statistics.median(reading),
        "tokens_written_per_second": WRITTEN / statistics.median(writing),
        "peak_memory_mb": peak_memory() / 2**20,
    }


def sentences(known: dict[str, Any]) -> dict[str, Any]:
    """all-MiniLM-L6-v2 against PyTorch, and its speed."""
    load, encoder = seconds(lambda: SentenceEncoder.load(SENTENCES))
    vectors, expected = encoder.encode(known["sentences"]), np.array(known["embeddings"])
    every = vectors.shape[1] // expected.shape[1]
    many = [known["sentences"][i % len(known["sentences"])] for i in range(MANY)]
    took = statistics.median(seconds(lambda: encoder.encode(many))[0] for _ in range(ROUNDS))
    return {
        "parameters": encoder.model.num_parameters(),
        "load_seconds": load,
        "largest_difference": float(np.abs(vectors[:, ::every] - expected).max()),
        "sentences_per_second": MANY / took,
        "tokens_of_a_sentence": sum(map(len, known["ids"])) / len(known["ids"]),
    }


def stories() -> dict[str, Any]:
    """stories260K, greedily from BOS, against the published text, from both versions of the file."""
    found = {}
    for path in find_corpus("stories260k"):
        if path.name.startswith("stories"):
            model, tokenizer = from_pretrained(path)
            took, ids = seconds(lambda m=model: generate(m, [1], 200, temperature=0))
            text = tokenizer.decode([1, *ids]).encode()
            found[path.name] = {
                "equal_byte_for_byte": hashlib.sha256(text).hexdigest() == STORY,
                "bytes": len(text),
                "tokens_written_per_second": 200 / took,
            }
    return found


def main() -> None:
    """Measure, print and save results/pretrained.json."""
    facts, started = machine(), time.perf_counter()
    reference = json.loads(REFERENCE.read_text())
    result: dict[str, Any] = {"reference_made_with": reference["made_with"]}
    result["smollm2-135m-instruct"] = smollm2(reference["smollm2"])
    result["all-minilm-l6-v2"] = sentences(reference["minilm"])
    try:
        result["stories260k"] = stories()
    except DataError as error:
        print(f"stories260K is left out: {error}")
    result |= {"command": "make bench ONLY=pretrained", "seconds": time.perf_counter() - started}
    print(json.dumps(result, indent=1))
    print(f"  -> {save('pretrained', result, facts)}")


if __name__ == "__main__":
    no_options(__doc__)
    main()

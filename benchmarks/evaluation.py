"""How good is it, in figures that can be compared? What `minilm eval` says of several models.

    make pretrained
    python benchmarks/evaluation.py                     six minutes on two cores
    python benchmarks/evaluation.py --runs FOLDER       keeps the models in FOLDER, and does not train what is there
    python benchmarks/evaluation.py --steps 20          a short one, to see that it works (nothing is saved)

The models of texts are scored on the same text, the last 50,000 characters of tinyshakespeare, which none of those
trained here has seen: two GPTs that `minilm train` makes, one of characters, one of 1,000 tokens of BPE, and the
published SmolLM2-135M-Instruct and stories260K. Their perplexities are of tokens of different lengths; bits per byte
are of the same bytes. A stride below the window lets each token see more of what stands before it. The classifier is
the LSTM of `minilm finetune`, scored on the tenth of rt_polarity that it has not seen, with the matrix of what was
taken for what.

BLEU and chrF, ROUGE, exact match and F1 are what `minilm eval` says of models that write and answer: translation.py,
summarization.py and question_answering.py compute them with the same functions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import machine, save
from minilm.text import find_corpus, load_corpus

SCORED = 50_000  # characters
TRAIN = "train gpt --data tinyshakespeare --preset char-cpu --no-plot"
RUNS = {
    "characters": TRAIN,
    "tokens": f"{TRAIN} --tokenizer bpe --vocab-size 1000",
    "reviews": "finetune lstm --task classify --data rt_polarity",
}
TEXTS = (  # what it is called, which model, and with which stride
    ("GPT of characters, trained here", "characters", 64),
    ("GPT of characters, trained here", "characters", 16),
    ("GPT of BPE tokens, trained here", "tokens", 64),
    ("GPT of BPE tokens, trained here", "tokens", 16),
    ("SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct", 1024),
    ("SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct", 512),
    ("stories260K", "stories260k", 512),
)


def minilm(*words: str) -> None:
    """The command, as it is typed."""
    print("minilm " + " ".join(words), flush=True)
    subprocess.run([sys.executable, "-m", "minilm", *words], check=True)


def scored(work: Path, model: str, *options: str) -> dict[str, Any]:
    """What `minilm eval` writes of a model as JSON."""
    path = work / "figures.json"
    minilm("eval", model, *options, "--json", str(path))
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {**found, "run": Path(model).name, "text": Path(found["text"]).name}


def main() -> None:
    """Train what is not there, score, print and save results/evaluation.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the models; a temporary one if it is not given")
    parser.add_argument("--steps", type=int, help="of the two GPTs, instead of 2,000; nothing is saved")
    options = parser.parse_args()
    facts, began = machine(), time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = options.runs or work
        for name, command in RUNS.items():
            steps = ["--steps", str(options.steps)] if options.steps and name != "reviews" else []
            if not (folder / name).exists():
                minilm(*command.split(), *steps, "--out", str(folder / name))
        text = work / "tinyshakespeare_end.txt"
        text.write_text(load_corpus("tinyshakespeare")[0][-SCORED:], encoding="utf-8")
        where = {name: str(folder / name) for name in RUNS} | {"stories260k": str(find_corpus("stories260k")[0])}
        texts = [
            {"model": name, **scored(work, where.get(model, model), "--data", str(text), "--stride", str(stride))}
            for name, model, stride in TEXTS
        ]
        reviews = scored(work, where["reviews"])
    result = {
        "command": "python benchmarks/evaluation.py",
        "seconds": time.perf_counter() - began,
        "characters": SCORED,
        "texts": texts,
        "reviews": reviews,
    }
    if options.steps is None:
        print(f"  -> {save('evaluation', result, facts)}")


if __name__ == "__main__":
    main()

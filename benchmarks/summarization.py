"""A document in a line: an encoder-decoder trained here, ROUGE on unseen documents beside the first sentence.

    python benchmarks/summarization.py DATA                   DATA: a .jsonl or .csv with documents and their lines
    python benchmarks/summarization.py DATA --runs FOLDER     keeps the runs in FOLDER, and does not train what is there
    python benchmarks/summarization.py DATA --steps 50        a short one, to see that it works (nothing is saved)
    python benchmarks/summarization.py DATA --models copying  one of them; the other's figures stay as they are

DATA of the committed figures: 16,988 descriptions of Debian packages and their synopses; debian_descriptions.py makes
such a file from Debian's own. A tenth of the families of descriptions is for the test: no sentence of 40 letters or
more is in two parts, so that a library's -doc package is not tested on what its -dev package taught. The training is

    minilm train transformer --data DATA --source-column description --target-column synopsis \\
        --preset summarize --out RUN

and once more without the pointer ("not copying"), which shows what that is for. Beside the models stand baselines that
learn nothing: the first sentence, and the first words, as many as a line has on the average in the training part
(Debian's custom is to begin a description with what it is). ROUGE is that of rouge-score (the extra `eval`), F1,
without stemming.
"""

from __future__ import annotations

import argparse
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from translation import examples, known, searched, trained, training

from harness import machine, save
from minilm.cli import pair_presets, pair_run
from minilm.evaluation import evaluate_summaries
from minilm.kernels.threads import thread_count
from minilm.text import references

MODELS: dict[str, dict[str, Any]] = {"copying": {}, "not copying": {"copy": False}}  # settings beside the preset's
SENTENCE = re.compile(r"^.*?[.!?](?=\s|$)", re.DOTALL)


def first_sentence(text: str) -> str:
    """Up to the first full stop that a space follows; all of a text without one."""
    found = SENTENCE.match(text)
    return found[0] if found else text


def first_words(k: int) -> Callable[[str], str]:
    """The first k words of a text."""
    return lambda text: " ".join(text.split()[:k])


def baselines(run: pair_run.PairRun, right: dict[str, list[str]]) -> dict[str, Any]:
    """ROUGE of what can be written without a model."""
    lengths = [len(pair.target.split()) for pair in run.data.pairs["train"]]
    k = round(sum(lengths) / len(lengths))
    found = {}
    for name, shorten in (("first sentence", first_sentence), (f"first {k} words", first_words(k))):
        found[name] = evaluate_summaries([shorten(text) for text in right], list(right.values())).values
        print(name, {key: round(value, 1) for key, value in found[name].items()}, flush=True)
    return found


def evaluated(run: pair_run.PairRun, right: dict[str, list[str]]) -> dict[str, Any]:
    """What to report of a run: its training, and ROUGE of its summaries of the test part."""
    model, tokenizer = pair_run.load(run.folder)
    print(f"{run.folder.name}:", flush=True)
    result = training(run, model)
    result["evaluation_threads"] = thread_count()
    longest = run.settings.block_size
    result["searches"], written = searched(model, tokenizer, right, evaluate_summaries, longest)
    result["examples"] = examples(right, written)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a .jsonl or .csv with the columns description and synopsis")
    parser.add_argument("--runs", type=Path, help="folder of the runs; a temporary one if it is not given")
    parser.add_argument("--steps", type=int, help="of the training, instead of the preset's; nothing is saved")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    if not options.data.is_file():
        parser.error(f"there is no file {options.data}; benchmarks/debian_descriptions.py makes one (see its top)")
    facts = machine()
    given: dict[str, Any] = {"source_column": "description", "target_column": "synopsis"}
    if options.steps is not None:
        given["steps"] = options.steps
    command = f"python benchmarks/summarization.py {options.data.name}"
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for model in options.models:
            settings = pair_presets.resolve("transformer", str(options.data), "summarize", {**given, **MODELS[model]})
            run = trained(settings, (options.runs or Path(temporary)) / model)
            right = references(run.data.pairs["test"])
            if not result:
                result = {"command": command, "test_documents": len(right), "baselines": baselines(run, right)}
                result["models"] = {}
            result["models"][model] = evaluated(run, right)
            result["models"][model]["settings"]["data"] = options.data.name
            if options.steps is not None:
                continue
            result["models"][model]["command"] = f"{command} --models {shlex.quote(model)}"
            before = known("summarization", options.models, list(MODELS))
            save("summarization", {**result, "models": before | result["models"]}, facts)


if __name__ == "__main__":
    main()

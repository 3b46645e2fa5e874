"""English to German: the Transformer and the LSTM with attention on the same sentences, BLEU and chrF on unseen ones.

    make bench ONLY=translation                           about an hour on two cores
    python benchmarks/translation.py --runs FOLDER        keeps the runs in FOLDER, and does not train what is there
    python benchmarks/translation.py --steps 100          a short one, to see that it works

The training is that of `minilm train transformer --data tatoeba_en_de --out runs/translate`, and of seq2seq-lstm in its
place: 45,000 pairs of Tatoeba, sentences of at most 24 characters. The test part has about 1,900 English sentences;
none of them is in the training part, not even with other punctuation. Each translation is compared with all German
sides that its sentence has there, by sacrebleu (the extra `eval`).
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

from harness import machine, save
from minilm.cli import pair_presets, pair_run
from minilm.evaluation import evaluate_translations
from minilm.generation import translate
from minilm.kernels.threads import thread_count
from minilm.text import references
from minilm.training import list_checkpoints
from minilm.training.callbacks import read_metrics

DATA = "tatoeba_en_de"
SEARCHES = {"greedy": (1, 0.0), "beam 4, length penalty 0.6": (4, 0.6)}


def trained(model: str, folder: Path, steps: int | None) -> pair_run.PairRun:
    """The run in the folder; trained now, unless it is there."""
    if list_checkpoints(folder):
        return pair_run.reopen(folder, pair_presets.load(folder / "run.json"))
    settings = pair_presets.resolve(model, DATA, None, {} if steps is None else {"steps": steps})
    run = pair_run.begin(settings, folder)
    pair_run.train(run)
    return run


def evaluated(run: pair_run.PairRun) -> dict:
    """What to report of a run: its sizes, its training, and BLEU and chrF of its translations of the test part."""
    model, tokenizer = pair_run.load(run.folder)
    right = references(run.data.pairs["test"])
    loss, tokens = pair_run.score(run, model)
    last = [m for m in read_metrics(run.metrics) if "tokens_per_second" in m][-1]
    result = {
        "settings": dataclasses.asdict(run.settings),
        "parameters": model.num_parameters(),
        "training_pairs": len(run.data.pairs["train"]),
        "training_seconds": last["tokens"] / last["tokens_per_second"],  # without evaluating and saving
        "steps": last["step"],
        "epochs": last["epoch"],
        "validation_loss": loss,
        "validation_tokens": tokens,
        "test_sentences": len(right),
        "test_references": sum(map(len, right.values())),
        "searches": {},
    }
    for name, (beam, alpha) in SEARCHES.items():
        began = time.perf_counter()
        translations = translate(model, tokenizer, list(right), beam, alpha)
        seconds = time.perf_counter() - began
        figures = evaluate_translations(translations, list(right.values()))
        result["searches"][name] = {**figures.values, **figures.details, "seconds": seconds}
        print(
            f"{run.settings.model}, {name}: BLEU {figures.values['bleu']:.1f}, chrF {figures.values['chrf']:.1f}, "
            f"{len(right)} sentences in {seconds:.1f} s",
            flush=True,
        )
    result["examples"] = [
        {"english": source, "written": written, "references": right[source]}
        for source, written in list(zip(right, translations, strict=True))[:: max(1, len(right) // 12)]
    ]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the runs; a temporary one if it is not given")
    parser.add_argument("--steps", type=int, help="of the training, instead of the preset's")
    parser.add_argument("--models", nargs="+", default=["transformer", "seq2seq-lstm"])
    options = parser.parse_args()
    facts = machine()
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or Path(temporary)
        results = {model: evaluated(trained(model, runs / model, options.steps)) for model in options.models}
    command = "python benchmarks/translation.py" + (f" --steps {options.steps}" if options.steps else "")
    save("translation", {"command": command, "threads": thread_count(), "models": results}, facts)


if __name__ == "__main__":
    main()

"""English to German: the Transformer and the LSTM with attention on the same sentences, BLEU and chrF on unseen ones.

    make bench ONLY=translation                           half an hour on two cores
    python benchmarks/translation.py --runs FOLDER        keeps the runs in FOLDER, and does not train what is there
    python benchmarks/translation.py --steps 100          a short one, to see that it works (nothing is saved)

The training is that of `minilm train transformer --data tatoeba_en_de --out runs/translate`, and of seq2seq-lstm in its
place: 45,000 pairs of Tatoeba, sentences of at most 24 characters. The test part has about 1,900 English sentences;
none of them is in the training part, not even with other punctuation. Each translation is compared with all German
sides that its sentence has there, by sacrebleu (the extra `eval`).

For one sentence of the test part it draws where each model looks while it writes: the heads of the Transformer, and
the alignment of the LSTM (needs matplotlib). --models with some of them keeps the others' figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import RESULTS, machine, save
from minilm.cli import pair_presets, pair_run
from minilm.evaluation import Figures, evaluate_translations
from minilm.generation import hypotheses, translate
from minilm.kernels.threads import thread_count
from minilm.plots import plot_attention
from minilm.text import references
from minilm.training import list_checkpoints
from minilm.training.callbacks import read_metrics
from minilm.training.checkpoint import read_state

DATA = "tatoeba_en_de"
DRAWN = "I met Tom in the park."  # of the test part; in German the verb goes to the end
MODELS = ("transformer", "seq2seq-lstm")
SEARCHES = {"greedy": (1, 0.0), "beam 4, length penalty 0.6": (4, 0.6)}
EXAMPLES = 16

# ----- for summarization.py too: a run trained or found, its facts, and what it writes


def trained(settings: pair_presets.PairSettings, folder: Path) -> pair_run.PairRun:
    """The run in the folder, trained to its end if it was stopped, or else one that is trained now.

    Raises:
        SystemExit: if the run has other settings, whose figures would stand in the place of these.
    """
    if not (checkpoints := list_checkpoints(folder)):
        run = pair_run.begin(settings, folder)
        (folder / "threads").write_text(f"{thread_count()}\n")
        pair_run.train(run)
        return run
    there, wanted = pair_presets.load(folder / "run.json"), dataclasses.asdict(settings)
    others = [
        f"{name} ({value}, not {wanted[name]})"
        for name, value in dataclasses.asdict(there).items()
        if value != wanted[name] and name != "data"  # the same may lie elsewhere now
    ]
    if others:
        sys.exit(f"{folder} holds a run with other settings: {', '.join(others)}")
    run = pair_run.reopen(folder, there)
    if read_state(checkpoints[-1])["step"] < there.steps:
        pair_run.train(run, checkpoints[-1])
    return run


def known(subject: str, models: Sequence[str], all_models: Sequence[str]) -> dict[str, Any]:
    """The figures of the models that are not evaluated now, from the results of an earlier call."""
    path = RESULTS / f"{subject}.json"
    if set(models) == set(all_models) or not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))["models"]
    return {model: figures for model, figures in found.items() if model not in models}


def training(run: pair_run.PairRun, model: Any) -> dict[str, Any]:
    """What to report of the training: sizes, steps, time, and the loss on the validation part.

    Where other programs ran at the same time the training was slower than it need be: undisturbed is how long it would
    have taken if all of it had been as fast as the fastest tenth of the stretches between two lines of the log.
    """
    loss, tokens = pair_run.score(run, model)
    lines = read_metrics(run.metrics)
    logged = [line for line in lines if "tokens_per_second" in line]
    last, seconds = logged[-1], [line["tokens"] / line["tokens_per_second"] for line in logged]
    paces = [
        (line["tokens"] - before["tokens"]) / (end - begin)
        for before, line, begin, end in zip(logged, logged[1:], seconds, seconds[1:], strict=False)
    ]
    threads = run.folder / "threads"
    return {
        "settings": dataclasses.asdict(run.settings),
        "parameters": model.num_parameters(),
        "training_pairs": len(run.data.pairs["train"]),
        "training_seconds": seconds[-1],  # without evaluating and saving
        "training_seconds_undisturbed": last["tokens"] / float(np.quantile(paces or [last["tokens_per_second"]], 0.9)),
        "training_threads": int(threads.read_text()) if threads.is_file() else None,
        "source_tokens_per_second": last["tokens_per_second"],
        "steps": last["step"],
        "epochs": last["epoch"],
        "validation_loss": loss,
        "validation_tokens": tokens,
        "learning_curve": [[line["step"], line["eval_loss"]] for line in lines if "eval_loss" in line],
    }


def searched(
    model: Any,
    tokenizer: Any,
    right: dict[str, list[str]],
    figures: Callable[[Sequence[str], Any], Figures],
    longest: int | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The figures and the speed of each way to search, and the texts of the last one."""
    found: dict[str, Any] = {}
    for name, (beam, alpha) in SEARCHES.items():
        began = time.perf_counter()
        written = translate(model, tokenizer, list(right), beam, alpha, longest=longest)
        seconds = time.perf_counter() - began
        result = figures(written, list(right.values()))
        found[name] = {**result.values, **result.details, "seconds": seconds, "texts_per_second": len(right) / seconds}
        values = ", ".join(f"{key} {value:.1f}" for key, value in result.values.items())
        print(f"{name}: {values}; {len(right)} texts in {seconds:.1f} s", flush=True)
    return found, written


def examples(right: dict[str, list[str]], written: list[str]) -> list[dict[str, Any]]:
    """Some of the texts, always the same ones, evenly from all of them."""
    each = max(1, len(right) // EXAMPLES)
    rows = list(zip(right.items(), written, strict=True))[each // 2 :: each]
    return [{"source": source, "written": text, "references": targets} for (source, targets), text in rows]


# ----- the translations


def evaluated(run: pair_run.PairRun, pictures: Path) -> dict[str, Any]:
    """What to report of a run: its training, and BLEU and chrF of its translations of the test part."""
    model, tokenizer = pair_run.load(run.folder)
    right = references(run.data.pairs["test"])
    print(f"{run.settings.model}:", flush=True)
    result = training(run, model)
    result["test_sentences"] = len(right)
    result["test_references"] = sum(map(len, right.values()))
    result["evaluation_threads"] = thread_count()
    result["searches"], written = searched(model, tokenizer, right, evaluate_translations)
    result["examples"] = examples(right, written)
    result["attention"] = attention(run.settings.model, model, tokenizer, pictures)
    return result


def attention(name: str, model: Any, tokenizer: Any, pictures: Path) -> dict[str, str]:
    """Draw the attention of all heads while the model writes its translation of DRAWN."""
    [[best, *_]] = hypotheses(model, tokenizer, [DRAWN])
    read, written = tokenizer.encode(DRAWN), np.array(best.ids)
    weights = model.attention_weights(read[None], np.append(tokenizer.bos_id, written[:-1])[None])  # (L, 1, H, T, Tk)
    path = pictures / f"translation_attention_{name}.png"
    plot_attention(weights[:, 0], tokenizer.pieces(read), tokenizer.pieces(written), path, f"{name}: {DRAWN}")
    return {"source": DRAWN, "written": tokenizer.decode(written), "picture": path.name}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the runs; a temporary one if it is not given")
    parser.add_argument("--steps", type=int, help="of the training, instead of the preset's; nothing is saved")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    options = parser.parse_args()
    facts = machine()
    given = {} if options.steps is None else {"steps": options.steps}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for model in options.models:
            settings = pair_presets.resolve(model, DATA, None, given)
            run = trained(settings, (options.runs or Path(temporary)) / model)
            results[model] = evaluated(run, RESULTS if options.steps is None else Path(temporary))
            if options.steps is not None:
                continue
            before = known("translation", options.models, MODELS)  # only now: another process may have added to it
            results[model]["command"] = f"python benchmarks/translation.py --models {model}"
            save("translation", {"command": "make bench ONLY=translation", "models": before | results}, facts)


if __name__ == "__main__":
    main()

"""English to German: the Transformer and the LSTM with attention on the same sentences, BLEU and chrF on unseen ones.

    make bench ONLY=translation                           about an hour on two cores
    python benchmarks/translation.py --runs FOLDER        keeps the runs in FOLDER, and does not train what is there
    python benchmarks/translation.py --steps 100          a short one, to see that it works

The training is that of `minilm train transformer --data tatoeba_en_de --out runs/translate`, and of seq2seq-lstm in its
place: 45,000 pairs of Tatoeba, sentences of at most 24 characters. The test part has about 1,900 English sentences;
none of them is in the training part, not even with other punctuation. Each translation is compared with all German
sides that its sentence has there, by sacrebleu (the extra `eval`).

For one sentence of the test part it draws where each model looks while it writes: the heads of the Transformer, and
the alignment of the LSTM (needs matplotlib). --models with some of them keeps the others' figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pair_runs import examples, searched, trained, training

from harness import RESULTS, machine, save
from minilm.cli import pair_presets, pair_run
from minilm.evaluation import evaluate_translations
from minilm.generation import hypotheses
from minilm.kernels.threads import thread_count
from minilm.plots import plot_attention
from minilm.text import references

DATA = "tatoeba_en_de"
DRAWN = "I met Tom in the park."  # of the test part; in German the verb goes to the end
MODELS = ("transformer", "seq2seq-lstm")


def evaluated(run: pair_run.PairRun) -> dict[str, Any]:
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
    result["attention"] = attention(run.settings.model, model, tokenizer)
    return result


def attention(name: str, model: Any, tokenizer: Any) -> dict[str, str]:
    """Draw the attention of all heads while the model writes its translation of DRAWN."""
    [[best, *_]] = hypotheses(model, tokenizer, [DRAWN])
    read, written = tokenizer.encode(DRAWN), np.array(best.ids)
    weights = model.attention_weights(read[None], np.append(tokenizer.bos_id, written[:-1])[None])  # (L, 1, H, T, Tk)
    path = RESULTS / f"translation_attention_{name}.png"
    plot_attention(weights[:, 0], tokenizer.pieces(read), tokenizer.pieces(written), path, f"{name}: {DRAWN}")
    return {"source": DRAWN, "written": tokenizer.decode(written), "picture": path.name}


def known() -> dict[str, Any]:
    """The figures of models that were evaluated before."""
    path = RESULTS / "translation.json"
    return json.loads(path.read_text(encoding="utf-8"))["models"] if path.is_file() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the runs; a temporary one if it is not given")
    parser.add_argument("--steps", type=int, help="of the training, instead of the preset's")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    options = parser.parse_args()
    facts = machine()
    given = {} if options.steps is None else {"steps": options.steps}
    command = "python benchmarks/translation.py" + (f" --steps {options.steps}" if options.steps else "")
    results = known() if len(options.models) < len(MODELS) else {}
    with tempfile.TemporaryDirectory() as temporary:
        for model in options.models:
            settings = pair_presets.resolve(model, DATA, None, given)
            results[model] = evaluated(trained(settings, (options.runs or Path(temporary)) / model))
            save("translation", {"command": command, "models": results}, facts)


if __name__ == "__main__":
    main()

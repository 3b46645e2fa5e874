"""Fine-tuning all-MiniLM-L6-v2 on film reviews: how much of it has to be trained, and what does that cost?

    make pretrained
    python benchmarks/finetuning.py                 all parts, one after the other: 25 minutes on two cores
    python benchmarks/finetuning.py lora lstm       these; the others in results/finetuning.json stay as they are
    python benchmarks/finetuning.py --work FOLDER   keeps checkpoints there, and goes on from them when it is run again
    python benchmarks/finetuning.py --limit 500     a short one, to see that it works (nothing is saved)

    full      all of it, by the documents' program (examples/documents_finetuning.py): its arguments, word for word
    lora      adapters of rank 8 on the attention matrices, and the head; merged before it is scored
    last      the last of the six blocks, and the head
    frozen    the head alone, on features that are computed once
    lstm      beside it: a bidirectional LSTM that starts from nothing, with the words of the training part as tokens

All but `full` are what `minilm finetune MODEL --task classify --data rt_polarity --method PART` does. The data are the
10,662 sentences of Pang and Lee (2005), half of them positive; which tenth is held out follows from the texts. Nothing
was chosen by looking at that tenth: no epoch, no learning rate. Each part is a process of its own, for its peak memory.
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

from harness import RESULTS, machine, save
from minilm.cli import finetune_classify, finetune_run
from minilm.cli.finetune_run import Settings
from minilm.kernels.threads import thread_count
from minilm.training import Trainer, TrainingArguments, list_checkpoints, read_metrics
from minilm.training.process import peak_memory

MODEL, DATA = "all-MiniLM-L6-v2", "rt_polarity"
PARTS = ("full", "lora", "last", "frozen", "lstm")


def documents(settings: Settings, folder: Path) -> dict[str, Any]:
    """The documents' program, between reading the data and scoring the model."""
    task = finetune_run.prepare(settings, finetune_classify)
    model, train_dataset, eval_dataset = task.model, task.train, task.held_out
    training_args = TrainingArguments(
        output_dir=folder,
        num_train_epochs=3,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
    )
    trainer = Trainer(model=model, args=training_args, train_dataset=train_dataset, eval_dataset=eval_dataset)
    output = trainer.train(resume_from_checkpoint=bool(list_checkpoints(folder)))
    speed = [m["tokens_per_second"] for m in read_metrics(folder / "metrics.jsonl") if "tokens_per_second" in m][-1]
    whole = model.num_parameters()
    return {
        "learning_rate": training_args.learning_rate,
        "epochs": training_args.num_train_epochs,
        "training_texts": len(train_dataset),
        "held_out_texts": len(eval_dataset),
        "parameters": whole,
        "trained_parameters": whole,
        "steps": output.global_step,
        "seconds": trainer.state.tokens / speed,  # without saving; of all steps, also if it was resumed
        "peak_memory_mb": peak_memory() / 2**20,
        **task.evaluate(),
    }


def part(name: str, limit: int | None, folder: Path) -> dict[str, Any]:
    """Train and score one of them."""
    began = time.perf_counter()
    method = "full" if name == "lstm" else name
    settings = Settings("lstm" if name == "lstm" else MODEL, "classify", DATA, method, limit=limit)
    if name == "full":
        result = documents(settings, folder)
    else:
        task = finetune_run.prepare(settings, finetune_classify)
        rate, epochs = task.learning_rates[method], task.epochs[method]
        result = {"learning_rate": rate, "epochs": epochs}
        result |= {"training_texts": len(task.train), "held_out_texts": len(task.held_out)}
        begun = list_checkpoints(folder)
        result |= finetune_run.train(settings, task, folder, begun[-1] if begun else None)
    return {
        **result,
        "seconds_with_reading_and_scoring": time.perf_counter() - began,
        "cpu_seconds": time.process_time(),  # of the whole process: what to compare where others compute as well
        "threads": thread_count(),
        "load": machine()["load"],
        "command": f"python benchmarks/finetuning.py {name}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--limit", type=int, help="use so many texts only, and save nothing")
    parser.add_argument("--work", type=Path, help="folder of the checkpoints; a temporary one if it is not given")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, _, path = options.one.partition("=")
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.work or Path(temporary)) / name
            Path(path).write_text(json.dumps(part(name, options.limit, folder)))
        return
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"there is no part {name!r}: {', '.join(PARTS)}")
    for name in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "result.json")
            own = [] if options.limit is None else ["--limit", str(options.limit)]
            own += [] if options.work is None else ["--work", str(options.work)]
            subprocess.run([sys.executable, __file__, "--one", f"{name}={path}", *own], check=True)
            result = json.loads(path.read_text())
        print(
            f"{name}: {result['trained_parameters']:,} of {result['parameters']:,} parameters, {result['seconds']:.0f} "
            f"s, {result['peak_memory_mb']:.0f} MB, accuracy {result['accuracy']:.4f}, macro F1 "
            f"{result['macro_f1']:.4f}",
            flush=True,
        )
        if options.limit is None:
            _save(name, result)


def _save(name: str, result: dict[str, Any]) -> None:
    """Beside the parts that are there already: one that is interrupted loses itself alone."""
    path = RESULTS / "finetuning.json"
    known = json.loads(path.read_text(encoding="utf-8"))["methods"] if path.is_file() else {}
    methods = {part: {**known, name: result}[part] for part in PARTS if part in {**known, name: result}}
    save("finetuning", {"command": "python benchmarks/finetuning.py", "model": MODEL, "methods": methods})


if __name__ == "__main__":
    main()

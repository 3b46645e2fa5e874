"""What belongs together across the repository: an operation, its kernels, its tests, and the chapters that teach it.

    connections = Connections(table)
    connections.kernels["softmax"]        # [("numpy", Place("minilm.kernels.softmax.threaded", "softmax")), ...]
    connections.tests["softmax"]          # [Path("tests/functional/test_softmax.py"), ...], the most telling first
    connections.chapters(Path("minilm/functional/softmax.py"))      # ["00", "07"]

Operations are those of the registry, their kernels those of the dispatch tables in minilm.backend: nothing is listed
here a second time. Tests are found by the operation's name in them. Which chapter teaches what is the one table below.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from symbols import Place, SymbolTable

# A chapter, and the files and folders that it is about; a file is listed under every chapter that has it or a folder
# that it lies in.
TAUGHT: dict[str, str] = {
    "00": "minilm/functional/softmax.py minilm/functional/attention.py examples",
    "01": "minilm/tensor/tensor.py minilm/tensor/tape.py minilm/functional/elementwise.py",
    "02": "minilm/functional/elementwise.py minilm/functional/reductions.py minilm/functional/shape.py "
    "minilm/functional/indexing.py minilm/functional/linear_algebra.py minilm/functional/operators.py "
    "minilm/functional/comparison.py",
    "03": "minilm/tensor",
    "04": "minilm/testing",
    "05": "minilm/text",
    "06": "minilm/models/ngram.py minilm/models/lstm.py minilm/functional/rnn.py minilm/functional/lstm.py "
    "minilm/functional/gru.py minilm/nn/recurrent.py kernels/rnn kernels/lstm_cell kernels/gru",
    "07": "minilm/functional/softmax.py minilm/functional/attention.py minilm/functional/positions.py "
    "minilm/nn/attention.py minilm/nn/positions.py minilm/plots/attention_maps.py kernels/rotary",
    "08": "minilm/models/transformer.py minilm/nn/blocks.py minilm/generation/beam_search.py "
    "minilm/generation/translate.py minilm/models/seq2seq_lstm.py minilm/nn/pointer.py minilm/functional/copying.py",
    "09": "minilm/models/gpt.py minilm/generation minilm/nn/cache.py minilm/training minilm/optim "
    "minilm/functional/losses.py minilm/functional/normalization.py minilm/functional/activations.py "
    "minilm/functional/dropout.py kernels/adamw",
    "10": "minilm/models/lstm.py minilm/models/gpt.py minilm/cli/demo.py minilm/plots/loss_curves.py",
    "11": "minilm/models/bert.py minilm/text/masking.py minilm/evaluation/masked.py",
    "12": "minilm/evaluation minilm/functional/losses.py",
    "13": "minilm/pretrained minilm/models/llama.py minilm/inspection/logit_lens.py",
    "14": "minilm/training/lora.py minilm/training/finetuning.py minilm/nn/lora.py minilm/generation/prompting.py "
    "minilm/text/instructions.py",
    "15": "kernels/matmul kernels/tiles.py minilm/plots/roofline.py minilm/functional/checkpoint.py "
    "minilm/functional/fused_linear.py minilm/functional/fused_norm.py",
    "16": "kernels/attention/loops.py kernels/attention/blocked.py kernels/attention/threaded.py "
    "kernels/cross_entropy/blocked.py minilm/functional/attention.py",
    "17": "kernels/attention/triton_forward.py kernels/attention/triton_backward.py kernels/attention/triton.py "
    "kernels/softmax/triton.py kernels/dry.py kernels/static_report.py kernels/host.py",
    "18": "minilm/compression minilm/training/private.py minilm/training/accountant.py "
    "minilm/inspection/bias_probe.py minilm/inspection/memorization.py",
}
MOST_TESTS = 3
ALL_OPERATIONS = Path("tests/functional/test_every_operation.py")  # gradients of each, on many shapes


class Connections:
    """Operations with their kernels and tests, and files with their chapters."""

    def __init__(self, table: SymbolTable) -> None:
        import minilm.functional  # noqa: F401 - registers the operations
        from minilm.backend import BACKENDS
        from minilm.tensor.operation import OPERATIONS

        self.table = table
        self.places: dict[Place, str] = {}
        self.kernels: dict[str, list[tuple[str, Place]]] = defaultdict(list)
        self.operations_of: dict[Place, list[tuple[str, str]]] = defaultdict(list)
        for name, operation in OPERATIONS.items():
            place = Place(operation.body.__module__, operation.body.__name__)
            if place.module in table.modules:
                self.places[place] = name
        for backend in BACKENDS.values():
            for name, target in backend.kernels.items():
                module, _, function = target.partition(":")
                place = table.resolve(module, function) or Place(module)
                self.kernels[name].append((backend.name, place))
                self.operations_of[place].append((name, backend.name))
        self.home_of = {name: place for place, name in self.places.items()}
        self.tests = self._tests()

    def _tests(self) -> dict[str, list[Path]]:
        """For each operation the test files that speak of it most."""
        root = self.table.root
        texts = {
            path.relative_to(root): path.read_text(encoding="utf-8")
            for folder in ("functional", "kernels", "tensor", "backend")
            for path in sorted((root / "tests" / folder).rglob("*.py"))
        }
        found: dict[str, list[Path]] = {}
        for name, place in self.home_of.items():
            words = {re.escape(name), re.escape(place.name)}
            use = re.compile(
                "|".join(
                    rf"\b(?:F|functional)\.{w}\b|[\"']{w}[\"']|def test_(?:\w*_)?{w}[_(]|^from .* import .*\b{w}\b"
                    for w in words
                ),
                re.MULTILINE,
            )
            counts = {path: len(use.findall(text)) for path, text in texts.items() if path.name.startswith("test_")}
            stem = place.module.rpartition(".")[2]
            ranked = sorted(
                (path for path, count in counts.items() if count),
                key=lambda path: (path.stem != f"test_{stem}", -counts[path], str(path)),
            )
            found[name] = [*ranked[:MOST_TESTS], ALL_OPERATIONS]
        return found

    def chapters(self, path: Path) -> list[str]:
        """The numbers of the chapters that teach a file."""
        return [
            number
            for number, listed in TAUGHT.items()
            if any(path == Path(item) or path.is_relative_to(item) for item in listed.split())
        ]

    def rungs(self, place: Place) -> list[Path]:
        """The files of the ladder that a kernel stands on, in reading order."""
        folder = self.table.modules[place.module].path.parent
        names = ("loops", "blocked", "threaded", "triton", "cupy")
        return [folder / f"{name}.py" for name in names if (self.table.root / folder / f"{name}.py").exists()]


def missing_from_the_table(table: SymbolTable) -> list[str]:
    """What TAUGHT names and the repository does not have."""
    return [item for listed in TAUGHT.values() for item in listed.split() if not (table.root / item).exists()]


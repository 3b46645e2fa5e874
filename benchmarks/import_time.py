"""How long `import minilm` takes in a fresh Python: it should not be felt. The budget is 0.3 s.

Beside it stand an empty Python, which is what nobody can save, `import numpy`, and a first use of the engine,
which imports numpy.
"""

import subprocess
import sys

from harness import compare, in_words, no_options

BUDGET = 0.3
STATEMENTS = {
    "pass": "pass",
    "import minilm": "import minilm",
    "import numpy": "import numpy",
    "minilm.Tensor": "import minilm; minilm.Tensor",
}


def run(statement: str) -> None:
    """Carry out a statement in a fresh Python."""
    subprocess.run([sys.executable, "-c", statement], check=True)


def main() -> None:
    """Time the statements in turns."""
    timings = compare(
        "import_time",
        {name: lambda statement=statement: run(statement) for name, statement in STATEMENTS.items()},
        check=lambda: run("import minilm; assert minilm.__version__"),
    )
    medians = {timing.name: timing.median for timing in timings}
    own = max(0.0, medians["import minilm"] - medians["pass"])
    print(
        f"  import minilm takes {in_words(own)} more than an empty Python; the budget is {in_words(BUDGET)}"
    )


if __name__ == "__main__":
    no_options(__doc__)
    main()

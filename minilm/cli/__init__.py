"""The command line: minilm doctor, train, eval, sample, gradcheck, demo. `main` is what the word `minilm` runs.

    app         the commands, their common options, and how errors are shown
    output      tables and numbers for people
    presets     the settings of a run, and sets of them by name
    data        what --data means: from a name or a path to files of tokens
    run         one training run in its folder: begin, resume, train, score
    train, evaluate, sample, demo, gradcheck, doctor    one command each
    layers, side_by_side, threads    what gradcheck, demo and train need besides

`minilm --help` should be felt as instant, so nothing here imports NumPy before a command needs it.
"""

from minilm.cli.app import main

__all__ = ["main"]

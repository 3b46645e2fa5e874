"""The command line: minilm doctor, train, eval, sample, gradcheck, bench, demo. `main` is what `minilm` runs.

    app         the commands, their common options, and how errors are shown
    output      tables and numbers for people
    presets     the settings of a run, and sets of them by name
    data        what --data means: from a name or a path to files of tokens
    run         one training run in its folder: begin, resume, train, score
    train, evaluate, sample, demo, gradcheck, bench, doctor    one command each
    bench_run, bench_subjects, bench_contestants, bench_static    how, what, who; and the kernels without a GPU
    layers, side_by_side, threads    what gradcheck, demo and train need besides

`minilm --help` should be felt as instant, so nothing here imports NumPy before a command needs it.
"""

from minilm.cli.app import main

__all__ = ["main"]

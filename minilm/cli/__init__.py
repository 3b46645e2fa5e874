"""The command line: `main` is what `minilm` runs.

    app              the commands, their common options, and how errors are shown
    output, stdin    tables and numbers for people; text that is piped in
    presets          the settings of a run, and sets of them by name
    data             what --data means: from a name or a path to files of tokens
    run              one training run in its folder: begin, resume, train, score
    pair_presets, pair_run    the same for models that read a text and write another
    train, sample, evaluate, demo, gradcheck, bench, doctor    one command each
    evaluate_kinds   what `minilm eval` does for each kind of model
    finetune, finetune_task, finetune_run    a trained model learns a task; what a task is; its run
    finetune_classify, finetune_answer, finetune_instruct    the tasks
    classify, answer, chat, embed, translate, summarize    one command each: what models are for
    bench_run, bench_subjects, bench_contestants, bench_static    how, what, who; and the kernels without a GPU
    layers, side_by_side, threads    what gradcheck, demo and train need besides

`minilm --help` should be felt as instant, so nothing here imports NumPy before a command needs it.
"""

from minilm.cli.app import main

__all__ = ["main"]

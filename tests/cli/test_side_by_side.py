"""Two runs that train at once: the same numbers as one after the other, and no process is left behind."""

import dataclasses
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from minilm.cli import presets, side_by_side
from minilm.cli.run import begin, load, score, train
from minilm.cli.side_by_side import Learned, learn_side_by_side
from minilm.errors import TrainingError
from minilm.training import Interrupted, list_checkpoints
from tests.cli.test_console import wait_for

SMALL = {"steps": 6, "n_layer": 1, "n_embd": 16, "batch_size": 4, "block_size": 16, "eval_every": 3, "save_every": 3}


@pytest.fixture
def start(text, tmp_path):
    """A function that begins a run of a model in a folder of its name."""

    def call(model, folder=None, **settings):
        chosen = presets.resolve(model, str(text), "tiny", SMALL | settings)
        return begin(chosen, tmp_path / (folder or model))

    return call


def test_runs_learn_the_same_as_alone(start):
    together = [start(model) for model in ("gpt", "lstm")]
    learned = learn_side_by_side(together)
    for run, result in zip(together, learned, strict=True):
        alone = start(run.settings.model, f"{run.settings.model} alone")
        train(alone)
        model, _ = load(alone.folder)
        assert result.output.global_step == 6
        for part in ("validation", "test"):
            assert result.scores[part] == score(model, alone.data.tokens[part], alone.data.sizes[part], None)


def test_an_error_in_one_stops_the_others_and_is_told(start):
    bad = start("gpt", lr=1e30, warmup=0)
    good = start("lstm", steps=10**6)
    began = time.monotonic()
    with pytest.raises(TrainingError, match="stopped at step"):
        learn_side_by_side([bad, good])
    assert time.monotonic() - began < 60, "nobody stopped the other one"
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_noticed(start):
    def kill():
        end = time.monotonic() + 60
        while not list_checkpoints(run.folder) and time.monotonic() < end:
            time.sleep(0.05)
        for child in multiprocessing.active_children():
            child.kill()

    run = start("gpt", steps=10**6)
    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(TrainingError, match="ended from outside"):
        learn_side_by_side([run])
    thread.join()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_saves_both_and_nothing_goes_on_alone(text, tmp_path, number):
    """Also when the first process is killed without a chance to tell the others."""
    command = [sys.executable, "-m", "minilm", "demo", "--preset", "tiny", "--steps", "1000000"]
    out = tmp_path / "demo"
    metrics = [out / model / "metrics.jsonl" for model in ("gpt", "lstm")]
    options = ["--data", str(text), "--out", str(out)]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            wait_for(lambda: all(path.exists() for path in metrics), process)
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # as a terminal does: to all that were started from it
            else:
                process.send_signal(number)
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err.count("interrupted at step") == 2 and "Traceback" not in err
        assert all(list_checkpoints(path.parent) for path in metrics)
    end = time.monotonic() + 30
    while writes(metrics):
        assert time.monotonic() < end, "a process trains on though the first one is gone"


def writes(paths):
    """Whether any of these files, or the checkpoints beside them, change within a second."""
    before = [(path.stat().st_size, len(list_checkpoints(path.parent))) for path in paths]
    time.sleep(1)
    return before != [(path.stat().st_size, len(list_checkpoints(path.parent))) for path in paths]


def test_the_settings_travel_to_the_processes(start):
    run = start("gpt")
    run = dataclasses.replace(run, settings=dataclasses.replace(run.settings, steps=2))
    assert learn_side_by_side([run])[0].output.global_step == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_process_that_is_still_being_started_does_not_hear_ctrl_c(start):
    """A terminal sends it to all, and a process leaves the group of the first one only when Python is there."""
    pressed = []

    def press():
        end = time.monotonic() + 60
        while not (children := multiprocessing.active_children()) and time.monotonic() < end:
            time.sleep(0.001)
        for child in children:
            os.kill(child.pid, signal.SIGINT)
            pressed.append(child)

    run = start("gpt", steps=3)
    thread = threading.Thread(target=press)
    thread.start()
    learned = learn_side_by_side([run])
    thread.join()
    assert learned[0].output.global_step == 3 and pressed


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ctrl_c_is_heard_also_with_the_last_report(start, monkeypatch):
    """There is nothing left to stop then, but whoever pressed it does not want what comes after the training either."""
    messages = side_by_side._messages

    def with_ctrl_c(*arguments):
        for message in messages(*arguments):
            if message[1] == "end":
                os.kill(os.getpid(), signal.SIGINT)
            yield message

    monkeypatch.setattr(side_by_side, "_messages", with_ctrl_c)
    run = start("gpt", steps=2)
    with pytest.raises(Interrupted, match=f"{run.folder} was trained and scored"):
        learn_side_by_side([run])
    assert not multiprocessing.active_children()


def test_after_ctrl_c_each_run_says_what_became_of_it():
    """A run that could not save is not passed over; one that had not begun to train has nothing to say."""
    folders = [SimpleNamespace(folder=Path(name)) for name in "abcd"]
    results = {
        3: TrainingError("a process of the training was ended from outside (status -15)"),
        2: TrainingError("could not save c/checkpoint-7: the disk is full."),
        1: Interrupted("interrupted at step 7 of 9; saved b/checkpoint-7."),
        0: Learned(None, {}, 1.0),
    }
    processes = [SimpleNamespace(exitcode=status) for status in (0, 0, 0, -signal.SIGTERM)]
    assert side_by_side._left_behind(folders, processes, results).splitlines() == [
        "a was trained and scored",
        "interrupted at step 7 of 9; saved b/checkpoint-7.",
        "could not save c/checkpoint-7: the disk is full.",
    ]
    nothing = side_by_side._left_behind(folders[3:], processes[3:], {0: results[3]})
    assert nothing == "interrupted before there was anything to save"


@pytest.mark.parametrize(
    "where, message",
    [
        ("minilm.cli.run.train", "before .*gpt was trained$"),
        ("minilm.cli.run.score", "before .*gpt was scored: minilm eval "),
    ],
)
def test_a_run_that_is_stopped_outside_of_the_trainer_says_how_far_it_came(start, monkeypatch, where, message):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    run, told = start("gpt", steps=2), []
    monkeypatch.setattr(side_by_side.signal, "signal", lambda *arguments: None)  # this process is to keep its own
    monkeypatch.setattr(side_by_side.os, "setpgrp", lambda: None, raising=False)
    monkeypatch.setattr(where, stop)
    side_by_side._learn(0, run.folder, run.settings, "numpy", SimpleNamespace(put=told.append))
    assert told[-1][1] == "end" and re.search(message, str(told[-1][2]))

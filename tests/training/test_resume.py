"""A run that is interrupted and resumed gives the same parameters, bit for bit, as one that was not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minilm import Generator
from minilm.errors import CheckpointError, ConfigurationError
from minilm.text import CharTokenizer
from minilm.training import find_checkpoint, list_checkpoints, load_model, read_metrics
from tests.training.runs import BATCH, BLOCK, assert_same_bits, parameters, small_trainer


@pytest.mark.parametrize("kind", ["gpt", "lstm", "gru", "rnn"])
@pytest.mark.parametrize("saved_at", [3, 6, 9])
def test_resuming_from_any_checkpoint_gives_the_same_bits(tmp_path: Path, kind: str, saved_at: int) -> None:
    straight = small_trainer(tmp_path / "straight", kind)
    straight.train()
    resumed = small_trainer(tmp_path / "resumed", kind)
    resumed.train(resume_from_checkpoint=tmp_path / "straight" / f"checkpoint-{saved_at}")
    assert_same_bits(parameters(straight.model), parameters(resumed.model))
    assert straight.state == resumed.state


def test_resuming_goes_through_epochs_and_accumulated_batches(tmp_path: Path) -> None:
    # 14 batches an epoch, three to a step: a step of two batches ends each epoch
    settings = {"gradient_accumulation_steps": 3, "max_steps": -1, "num_train_epochs": 3.0, "save_steps": 4}
    straight = small_trainer(tmp_path / "straight", **settings)
    straight.train()
    assert (straight.state.step, straight.state.epoch) == (15, 2)
    resumed = small_trainer(tmp_path / "resumed", **settings)
    resumed.train(resume_from_checkpoint=tmp_path / "straight" / "checkpoint-8")
    assert_same_bits(parameters(straight.model), parameters(resumed.model))


def test_a_resumed_run_writes_the_same_metrics(tmp_path: Path) -> None:
    def figures(folder: Path) -> list[dict]:
        timing = ("tokens_per_second", "seconds_left")
        return [{k: v for k, v in m.items() if k not in timing} for m in read_metrics(folder / "metrics.jsonl")]

    small_trainer(tmp_path / "run").train()
    whole = figures(tmp_path / "run")
    for folder in list_checkpoints(tmp_path / "run")[2:]:  # as if it had been killed after step 6
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert find_checkpoint(tmp_path / "run").name == "checkpoint-4"
    small_trainer(tmp_path / "run").train(resume_from_checkpoint=True)
    # the running mean of the training loss starts afresh in the middle of a window; steps 5 and 6 make the first
    assert figures(tmp_path / "run") == whole


@contextlib.contextmanager
def started(out: Path, kind: str, steps: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The run as a program of its own, with two threads of BLAS as a user's would have; killed if it is still there."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "error", "-m", "tests.training.runs", str(out), kind, str(steps), *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end; what the program said."""
    return process.communicate()[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_a_run_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path, kind: str) -> None:
    steps = 60
    with started(tmp_path / "straight", kind, steps) as process:
        said = finish(process)
        assert process.returncode == 0, said
    straight, _ = load_model(tmp_path / "straight", best=False)

    chance, kills = Generator(5), 0
    out = tmp_path / "killed"
    while True:
        with started(out, kind, steps, *(["--resume"] if list_checkpoints(out) else [])) as process:
            # let it train until it has saved something new, then kill it somewhere in the next moments
            before = list_checkpoints(out)
            while process.poll() is None and list_checkpoints(out) == before:
                time.sleep(0.005)
            if kills < 5 and process.poll() is None:
                time.sleep(0.05 * chance.random())  # of about 0.5 s of training, or less on a faster machine
                process.kill()
            said = finish(process)
        if process.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.returncode == 0, said
        break
    assert kills >= 2, "the run ended before it could be killed: give it more steps"
    killed, _ = load_model(out, best=False)
    assert_same_bits(parameters(straight), parameters(killed))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_says_how_to_resume_and_loses_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path / "run", "gpt", 100_000) as process:
        while not list_checkpoints(tmp_path / "run"):
            assert process.poll() is None, finish(process)
            time.sleep(0.01)
        process.send_signal(number)
        message = finish(process)
    assert process.returncode not in (0, -number)
    last = find_checkpoint(tmp_path / "run")
    assert f"saved {last}" in message and f"--resume {tmp_path / 'run'}" in message

    step = int(last.name.removeprefix("checkpoint-"))
    straight = small_trainer(tmp_path / "straight", steps=100_000, save_steps=step)

    class StopAt:
        def __getattr__(self, name: str):
            return lambda *args: None

        def on_save(self, trainer, folder):
            if trainer.state.step == step:
                raise StopIteration

    straight.callbacks.append(StopAt())
    with pytest.raises(StopIteration):
        straight.train()
    interrupted, _ = load_model(last)
    assert_same_bits(parameters(straight.model), parameters(interrupted))


class TestRefusals:
    def test_another_tokenizer(self, tmp_path: Path) -> None:
        small_trainer(tmp_path).train()
        other = small_trainer(tmp_path)
        other.tokenizer = CharTokenizer.train(["another text"])
        with pytest.raises(CheckpointError, match="tokenizer of this run .* is not the one in"):
            other.train(resume_from_checkpoint=True)

    def test_another_amount_of_data(self, tmp_path: Path) -> None:
        from minilm.text import ShuffledBatches, TokenWindows
        from tests.training.runs import TOKENS

        small_trainer(tmp_path).train()
        other = small_trainer(tmp_path)
        other.train_batches = ShuffledBatches(TokenWindows(TOKENS[:500], BLOCK), BATCH)
        with pytest.raises(CheckpointError, match="14 batches an epoch, and this run has 7"):
            other.train(resume_from_checkpoint=True)

    def test_another_model(self, tmp_path: Path) -> None:
        small_trainer(tmp_path, "lstm").train()
        with pytest.raises(CheckpointError, match="batches an epoch|does not fit"):
            small_trainer(tmp_path, "gru").train(resume_from_checkpoint=True)

    def test_another_optimizer(self, tmp_path: Path) -> None:
        small_trainer(tmp_path).train()
        with pytest.raises(CheckpointError, match="AdamW"):
            small_trainer(tmp_path, optim="sgd").train(resume_from_checkpoint=True)

    def test_a_folder_without_a_run(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no folder"):
            small_trainer(tmp_path / "nothing").train(resume_from_checkpoint=True)

    def test_a_new_run_in_the_folder_of_another(self, tmp_path: Path) -> None:
        small_trainer(tmp_path).train()
        with pytest.raises(ConfigurationError, match="holds a run already .*resume"):
            small_trainer(tmp_path).train()
        small_trainer(tmp_path, steps=4, overwrite_output_dir=True).train()
        assert find_checkpoint(tmp_path).name == "checkpoint-4"

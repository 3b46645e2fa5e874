"""What only a real process shows: how fast it starts, signals, pipes, and `python -m minilm`."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.conftest import TINY

COMMAND = [sys.executable, "-m", "minilm"]


def run(*arguments, **options):
    """A command in a process of its own, to its end."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


def test_help_loads_neither_numpy_nor_matplotlib():
    """So that it is felt as instant; the time itself depends on the machine."""
    probe = (
        "import sys\nfrom minilm.cli import main\nassert main(['train', '--help']) == 0\n"
        "print(sorted(set(sys.modules) & {'numpy', 'matplotlib', 'safetensors', 'minilm.nn', 'minilm.tensor'}))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_an_error_goes_to_stderr_and_into_the_exit_status(tmp_path):
    done = run("eval", tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_the_backend_comes_from_the_environment_too(tmp_path):
    done = run("gradcheck", "--only", "relu", env={**os.environ, "MINILM_BACKEND": "abacus"})
    assert done.returncode == 1
    assert "'abacus'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_and_says_how_to_go_on(text, tmp_path, number):
    folder = tmp_path / "run"
    options = ["--data", str(text), "--out", str(folder), *TINY, "--warmup", "0", "--steps", "1000000"]
    with subprocess.Popen(
        [*COMMAND, "train", "gpt", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for(lambda: (folder / "checkpoint-3").is_dir(), process)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "interrupted at step" in err and f"--resume {folder}" in err and "Traceback" not in out + err
    last = max(int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*"))
    resumed = run("train", "--resume", folder, "--steps", last + 2, "--no-plot")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((folder / f"checkpoint-{last + 2}" / "trainer_state.json").read_text())["step"] == last + 2


def wait_for(condition, process, seconds=60):
    """Until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other pipes")
def test_a_reader_that_goes_away_is_no_error(trained):
    with subprocess.Popen(
        [*COMMAND, "sample", str(trained), "--tokens", "20000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(1)
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [((), {}, "1"), (("--threads", "2"), {}, "2"), ((), {"OPENBLAS_NUM_THREADS": "3"}, "3")],
)
def test_small_presets_use_one_thread_unless_told_otherwise(tmp_path, monkeypatch, options, environment, expected):
    import os

    from minilm.cli.threads import VARIABLES
    from minilm.cli.train import _use_threads

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    _use_threads(int(options[1]) if options else None, "tiny", None)
    assert os.environ["OPENBLAS_NUM_THREADS"] == expected
    for name in VARIABLES:
        os.environ.pop(name, None)

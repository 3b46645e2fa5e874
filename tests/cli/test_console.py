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


def test_what_a_terminal_cannot_show_is_written_in_another_way(tmp_path):
    rows = "".join(f"a {i},\U0001f600\nb {i},z\n" for i in range(20))
    (tmp_path / "t.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    command = ["finetune", "lstm", "--task", "classify", "--data", tmp_path / "t.csv", "--out", tmp_path / "run"]
    done = run(*command, "--epochs", 1, env={**os.environ, "PYTHONIOENCODING": "latin-1:strict"})
    assert done.returncode == 0, done.stderr
    assert "classes      2: z, \\U0001f600" in done.stdout


@pytest.mark.parametrize(
    ("options", "environment", "ours", "blas"),
    [
        ((), {}, str(min(8, len(os.sched_getaffinity(0)))) if hasattr(os, "sched_getaffinity") else None, "1"),
        (("--threads", "3"), {}, "3", "1"),
        ((), {"MINILM_THREADS": "2"}, "2", "1"),
        (("--threads", "3"), {"MINILM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}, "3", "2"),
    ],
)
def test_commands_use_our_threads_and_one_of_the_blas(options, environment, ours, blas):
    kept = {k: v for k, v in os.environ.items() if "THREADS" not in k}
    shows = (
        "import os, sys; from minilm.cli.app import guarded; from minilm.kernels.threads import thread_count\n"
        "import types; show = lambda: print(thread_count(), os.environ['OPENBLAS_NUM_THREADS'])\n"
        "guarded(show)(ctx=types.SimpleNamespace(obj={'debug': False, 'backend': None}),"
        " threads=int(sys.argv[1]) if len(sys.argv) > 1 else None)"
    )
    run = subprocess.run(
        [sys.executable, "-c", shows, *options[1:]], env={**kept, **environment}, capture_output=True, text=True
    )
    assert run.stderr == "" and run.stdout.split() == [ours or run.stdout.split()[0], blas]


def test_a_wrong_number_of_threads_is_one_line(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "minilm", "sample", str(tmp_path)],
        env={**os.environ, "MINILM_THREADS": "many"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr == "error: MINILM_THREADS is a number of threads, from 1, not 'many'\n"

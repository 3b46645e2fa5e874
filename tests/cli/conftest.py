"""A command line to call, a small text to learn, and a run that has learnt it."""

import shutil
from dataclasses import dataclass

import pytest

from minilm.cli import main
from minilm.random import Generator

WORDS = "the cat sat on a mat and saw two dogs run home from far away".split()
# The smallest run that still evaluates and saves on the way.
TINY = "--preset=tiny --steps=6 --n-layer=1 --n-embd=16 --batch-size=4 --block-size=16 --eval-every=3 --no-plot".split()


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message, of a command that had to fail kindly: one message, on stderr, and no traceback."""
        assert self.status == 1, f"exit status {self.status}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err + self.out
        assert self.err.count("error: ") == 1
        assert "a bug in minilm" not in self.err
        return self.err.partition("error: ")[2]


@pytest.fixture
def minilm(capsys):
    """A function that runs a command of minilm in this process."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A file of sentences, some 7,000 characters, always the same."""
    generator = Generator(0)

    def sentence():
        return " ".join(WORDS[i] for i in generator.integers(0, len(WORDS), 8)).capitalize() + ".\n"

    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(sentence() for _ in range(200)))
    return path


@pytest.fixture(scope="session")
def trained(text, tmp_path_factory):
    """The folder of a GPT that was trained for 6 steps; copy it before you change it."""
    folder = tmp_path_factory.mktemp("trained") / "gpt"
    assert main(["train", "gpt", "--data", str(text), "--out", str(folder), *TINY]) == 0
    return folder


@pytest.fixture
def run_copy(trained, tmp_path):
    """The same folder, to do with as one likes."""
    return shutil.copytree(trained, tmp_path / "copy")

"""The published weights that the tests here read, each loaded once."""

import json
from pathlib import Path

import pytest

from minilm.errors import CheckpointError
from minilm.pretrained import from_pretrained, locate
from minilm.pretrained.packages import CHAT, SENTENCES
from tests.conftest import missing


@pytest.fixture(scope="session")
def reference():
    """What PyTorch computed; see reference.py."""
    return json.loads(Path(__file__).with_name("reference.json").read_text())


def installed(name):
    """The weights of an installed package; without it the test is skipped, and in CI fails."""
    try:
        return locate(name)
    except CheckpointError as error:
        missing(f"the weights {name}", str(error))


@pytest.fixture(scope="session")
def smollm2_path():
    """The GGUF file of SmolLM2."""
    return installed(CHAT)


@pytest.fixture(scope="session")
def smollm2(smollm2_path):
    """SmolLM2 and its tokenizer, with a short context."""
    return from_pretrained(smollm2_path, context_length=512)


@pytest.fixture(scope="session")
def minilm_path():
    """The safetensors file of all-MiniLM-L6-v2."""
    return installed(SENTENCES)

"""The backend of these tests: the strict stand-in for CuPy of tests/backend/standin.py."""

import pytest

from minilm import use_backend
from tests.backend.standin import install


@pytest.fixture
def device(monkeypatch):
    """New arrays live on the stand-in."""
    install(monkeypatch)
    with use_backend("standin"):
        yield


@pytest.fixture
def standin_known(monkeypatch):
    """use_backend("standin") works; it is not chosen."""
    install(monkeypatch)

"""What every test shares: the real data, the optional packages, and settings that make a run reproducible.

A test that needs something which may be absent asks for it through a fixture:

    def test_reads_the_corpus(test_data):
        text = test_data("tinyshakespeare/input.txt").read_text()

    def test_draws_a_curve(require_package):
        matplotlib = require_package("matplotlib")

or calls `missing(what, remedy)` itself. Where the thing is absent the test is skipped with that reason; in
CI, where all of it should be there, it fails. A skip for any other reason stays a plain `pytest.skip`.
"""

import os

# Before anything imports numpy: the workers of pytest-xdist share the cores. Two threads of ours, on every machine:
# where arrays are cut, the last bits depend on their number. A test about the BLAS's threads starts a process of its
# own.
os.environ.setdefault("MINILM_THREADS", "2")
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Callable  # noqa: E402
from importlib import import_module  # noqa: E402
from pathlib import Path  # noqa: E402
from types import ModuleType  # noqa: E402
from typing import NoReturn  # noqa: E402

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

# No deadline and no complaint about slow drawing: both would fail a test because the machine is busy. In CI
# the examples follow from the test alone, so that a red run is red again; at home each run draws new ones.
settings.register_profile(
    "minilm",
    deadline=None,
    derandomize=IN_CI,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("minilm")


def missing(what: str, remedy: str) -> NoReturn:
    """Skip the running test since `what` is absent; in CI fail it. `remedy` says how to get it."""
    message = f"missing: {what}; {remedy}"
    if IN_CI:
        pytest.fail(f"{message} (in CI that is a failure, not a skip)", pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def test_data() -> Callable[[str], Path]:
    """A function from a name, such as "tinyshakespeare/input.txt", to its path under MINILM_TEST_DATA."""

    def find(name: str) -> Path:
        folder = os.environ.get("MINILM_TEST_DATA")
        if not folder:  # a plain skip, in CI too: .ci/run says aloud whether it found the folder
            pytest.skip(f"missing: the test data {name}; set MINILM_TEST_DATA to the folder that holds it")
        path = Path(folder) / name
        if not path.exists():
            missing(f"the test data {path}", "MINILM_TEST_DATA names a folder without it")
        return path

    return find


@pytest.fixture(scope="session")
def require_package() -> Callable[[str], ModuleType]:
    """A function that imports an optional package by its import name and returns it."""

    def find(name: str) -> ModuleType:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
                raise  # it is installed, and broken
        missing(f"the package {name}", "pip install -e '.[plots,eval,test,dev,triton,cupy]' has all that the tests use")

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that uses the real data, so that `-m "not data"` leaves them out."""
    for item in items:
        if "test_data" in getattr(item, "fixturenames", ()):
            item.add_marker("data")

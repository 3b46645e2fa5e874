"""use_backend("triton"): NumPy arrays under the interpreter, CuPy arrays on a GPU, and a plain reason where neither."""

import importlib
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from minilm import backend
from minilm.backend import BACKENDS, current_backend, use_backend, why_not
from minilm.errors import BackendError
from minilm.tensor import OPERATIONS


@pytest.fixture
def installed(monkeypatch):
    """A function that decides which of triton and cupy this machine has, whatever it has."""
    known = importlib.util.find_spec

    def decide(*names):
        def find_spec(name, *rest):
            return (True if name in names else None) if name in ("triton", "cupy") else known(name, *rest)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)

    monkeypatch.setattr(backend, "_interpreting", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    return decide


@pytest.fixture
def gpu(monkeypatch, installed):
    """A function that makes up a machine with triton, cupy and such a driver and devices."""

    def decide(devices=1, driver=12040, capability="90", error=None):
        def count():
            if error:
                raise RuntimeError(error)
            return devices

        cupy = ModuleType("cupy")
        cupy.asarray = np.asarray
        runtime = SimpleNamespace(
            getDeviceCount=count, driverGetVersion=lambda: driver, runtimeGetVersion=lambda: 12090
        )
        cupy.cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(compute_capability=capability))
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        installed("triton", "cupy")

    return decide


@pytest.fixture
def host(monkeypatch):
    """A function that puts a stand-in in the place of the kernels' host module."""

    def put(activate):
        known = importlib.import_module
        module = SimpleNamespace(activate=activate)
        monkeypatch.setattr(
            importlib, "import_module", lambda name: module if name == "minilm.kernels.host" else known(name)
        )

    return put


def test_without_triton_it_says_how_to_install_it(installed, monkeypatch):
    installed("cupy")
    monkeypatch.setattr(sys, "platform", "linux")
    assert "needs the package triton, which is not installed: pip install 'minilm[triton]'" in why_not("triton")
    with pytest.raises(BackendError, match="pip install"):
        use_backend("triton")
    assert current_backend().name == "numpy"
    monkeypatch.setattr(sys, "platform", "win32")
    assert "triton, which is not for win32: use 'numpy'" in why_not("triton")


def test_without_cupy_it_names_both_ways_out(installed):
    installed("triton")
    message = why_not("triton")
    assert "pip install 'minilm[cupy,triton]' on a machine with an NVIDIA GPU" in message
    assert "TRITON_INTERPRET=1 in the environment runs the kernels here" in message
    installed()
    assert "pip install 'minilm[cupy]'" in why_not("cupy") and "TRITON_INTERPRET" not in why_not("cupy")


@pytest.mark.parametrize("name", ["cupy", "triton"])
@pytest.mark.parametrize(
    "machine, reason",
    [
        ({"devices": 0}, "cupy finds none on this machine: use 'numpy'"),
        ({"driver": 0, "error": "cudaErrorInsufficientDriver: ..."}, "nor an NVIDIA driver"),
        (
            {"driver": 11040, "error": "cudaErrorInsufficientDriver: ..."},
            "driver here is too old: it is for CUDA 11.4, and this cupy for 12.9. Update the driver",
        ),
        ({"error": "cudaErrorSystemNotReady: ..."}, "CUDA answers cudaErrorSystemNotReady"),
    ],
)
def test_what_is_missing_on_the_gpu_is_named(gpu, name, machine, reason):
    gpu(**machine)
    message = why_not(name)
    assert message.startswith(f"the {name!r} backend needs a CUDA device") and reason in message
    assert ("TRITON_INTERPRET=1" in message) == (name == "triton")


def test_an_old_gpu_is_refused_by_triton_alone(gpu):
    gpu(capability="75")
    assert "compute capability 8.0 (Ampere) or newer, and this one has 7.5: use 'cupy'" in why_not("triton")
    assert why_not("cupy") is None


def test_on_a_gpu_the_arrays_are_cupys_and_the_launcher_is_set_up(gpu, host, monkeypatch):
    gpu()
    calls = []
    host(lambda: calls.append("activate"))
    monkeypatch.setitem(BACKENDS, "triton", backend.Backend("triton", "cupy"))
    with use_backend("triton") as chosen:
        assert chosen.array_module() is sys.modules["cupy"] and calls == ["activate"]
    assert current_backend().array_module() is np


def test_a_launcher_that_cannot_be_set_up_is_a_reason_too(gpu, host):
    gpu()

    def activate():
        raise RuntimeError("Failed to find C compiler")

    host(activate)
    with pytest.raises(BackendError, match="could not set up Triton's launcher: Failed to find C compiler"):
        use_backend("triton")
    assert current_backend().name == "numpy"


def test_the_table_names_operations_and_kernels_that_exist():
    for operation, target in BACKENDS["triton"].kernels.items():
        assert operation in OPERATIONS or operation == "adamw", operation
        module, _, function = target.partition(":")
        assert module.startswith("minilm.kernels.") and function
        assert importlib.util.find_spec(module) is not None, target


def run(program, **environment):
    settings = {k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", "MINILM_BACKEND")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=settings | environment, capture_output=True, text=True
    )


def test_under_the_interpreter_the_arrays_are_numpys(require_package):
    require_package("triton")
    program = """
import minilm, numpy
from minilm.backend import current_backend
assert type(minilm.Tensor([1.0]).data) is numpy.ndarray
with minilm.use_backend("numpy"):
    print(current_backend().name)
print(current_backend().name, current_backend().module)
"""
    result = run(program, TRITON_INTERPRET="1", MINILM_BACKEND="triton")
    assert result.stdout.split() == ["numpy", "triton", "numpy"], result.stderr


def test_the_interpreter_asked_for_too_late_is_an_error(require_package):
    require_package("triton")
    program = """
import os, triton, minilm
os.environ["TRITON_INTERPRET"] = "1"
minilm.use_backend("triton")
"""
    result = run(program)
    assert result.returncode != 0
    assert "BackendError: TRITON_INTERPRET was set after triton was imported" in result.stderr
    assert "set it before Python starts" in result.stderr


def test_importing_minilm_imports_neither_triton_nor_cupy():
    program = "import sys, minilm; minilm.Tensor([1.0]); print({'triton', 'cupy'} & set(sys.modules))"
    assert run(program).stdout.strip() == "set()"

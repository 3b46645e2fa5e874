"""The lines of C that CuPy makes kernels of, compiled by the host's C compiler and held against the textbook body."""

import ctypes
import importlib
import math
import shutil
import subprocess

import numpy as np
import pytest

from minilm import use_backend
from minilm.backend import asarray
from minilm.functional import gelu
from minilm.random import Generator
from tests.backend.standin import install, watched
from tests.conftest import missing

TEXTBOOK = gelu.body

LOOP = """
#include <tgmath.h>
typedef {real} T;
{preamble}
void run(long n, {parameters}) {{
    for (long i = 0; i < n; i++) {{
        {loads}
        {{ {operation} }}
        {stores}
    }}
}}
"""


class HostElementwiseKernel:
    """cupy.ElementwiseKernel on NumPy arrays: the same arguments, the loop in C."""

    folder = None

    def __init__(self, in_params, out_params, operation, name, preamble=""):
        self.ins = [p.split()[1] for p in in_params.split(",")]
        (self.out,) = [p.split()[1] for p in out_params.split(",")]
        self.operation, self.name, self.preamble = operation, name, preamble

    def __call__(self, *arrays):
        arrays = [np.ascontiguousarray(a) for a in arrays]
        y = np.full(arrays[0].shape, np.nan, arrays[0].dtype)
        source = LOOP.format(
            real={"float32": "float", "float64": "double"}[y.dtype.name],
            preamble=self.preamble,
            parameters=", ".join([*(f"const T *in_{n}" for n in self.ins), "T *out"]),
            loads=" ".join([*(f"const T {n} = in_{n}[i];" for n in self.ins), f"T {self.out};"]),
            operation=self.operation,
            stores=f"out[i] = {self.out};",
        )
        path = self.folder / f"{self.name}_{y.dtype.name}"
        path.with_suffix(".c").write_text(source)
        compiler = shutil.which("cc") or shutil.which("gcc") or missing("a C compiler", "install gcc")
        subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o", path.with_suffix(".so"),
             path.with_suffix(".c"), "-lm"],
            check=True,
        )  # fmt: skip
        run = ctypes.CDLL(str(path.with_suffix(".so"))).run
        run(ctypes.c_long(y.size), *(ctypes.c_void_p(a.ctypes.data) for a in (*arrays, y)))
        return y


@pytest.fixture
def module(require_package, monkeypatch, tmp_path):
    cupy = require_package("cupy")
    module = importlib.import_module("minilm.kernels.gelu.cupy")
    monkeypatch.setattr(HostElementwiseKernel, "folder", tmp_path)
    monkeypatch.setattr(cupy, "ElementwiseKernel", HostElementwiseKernel)
    module._kernels.cache_clear()
    yield module
    module._kernels.cache_clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_forward_and_backward_equal_the_textbook_body(module, approximate, dtype):
    generator = Generator(0)
    x = np.concatenate([generator.normal((500,), std=2.0, dtype=dtype), np.array([0, -0.0, 9, -9, 80, -80], dtype)])
    g = generator.normal(x.shape, dtype=dtype)
    y, dx = module.gelu(x.reshape(2, -1), approximate)
    expected, expected_dx = TEXTBOOK(x, approximate)
    tolerance = 8 * np.finfo(dtype).eps
    assert y.dtype == x.dtype and y.shape == (2, x.size // 2)
    np.testing.assert_allclose(y.reshape(-1), expected, rtol=tolerance, atol=tolerance)
    actual_dx = dx(g.reshape(y.shape))
    np.testing.assert_allclose(actual_dx.reshape(-1), expected_dx(g), rtol=tolerance, atol=4 * tolerance)


def test_a_form_that_does_not_exist_is_refused(module):
    with pytest.raises(ValueError, match="approximate is 'none'"):
        module.gelu(np.ones(3), "sigmoid")


def test_the_real_kernels_can_be_made(require_package):
    """The constructor of cupy parses the parameters; only a launch needs the GPU."""
    cupy = require_package("cupy")
    module = importlib.import_module("minilm.kernels.gelu.cupy")
    for approximate in module.FORWARD:
        for dtype in ("float16", "float32", "float64"):
            forward, backward = module._kernels(approximate, dtype)
            assert isinstance(forward, cupy.ElementwiseKernel)
            assert (forward.nin, forward.nout, backward.nin, backward.nout) == (1, 1, 2, 1)


def test_the_textbook_body_launches_as_many_kernels_as_the_file_says(require_package, monkeypatch):
    require_package("cupy")
    module = importlib.import_module("minilm.kernels.gelu.cupy")
    install(monkeypatch)
    with use_backend("standin"):
        x = asarray(np.linspace(-2, 2, 12, dtype="float32"))
        with watched() as forward:
            _, vjp = TEXTBOOK(x, "tanh")
        with watched() as backward:
            vjp(x)
    assert f"launches {forward.launches} kernels forward and {backward.launches} backward" in " ".join(
        module.__doc__.split()
    )


def test_the_numbers_in_the_source_are_those_of_the_formula(require_package):
    require_package("cupy")
    module = importlib.import_module("minilm.kernels.gelu.cupy")
    text = "".join((*module.FORWARD.values(), *module.BACKWARD.values()))
    for number in (math.sqrt(0.5), math.sqrt(2 / math.pi), 1 / math.sqrt(2 * math.pi), 3 * 0.044715):
        assert f"{number:.15g}"[:14] in text, number

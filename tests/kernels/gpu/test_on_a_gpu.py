"""What only a GPU shows: `make test-gpu`, which also runs the tests of tests/kernels/interpreter there."""

import os

import numpy as np
import pytest

from minilm.backend import use_backend, why_not
from tests.kernels.training import gpt, lstm, train

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu():
    if os.environ.get("MINILM_GPU_SUITE") != "1":
        pytest.skip("needs a GPU: `make test-gpu` on a machine that has one")
    reason = why_not("triton")
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("backend", ["cupy", "triton"])
@pytest.mark.parametrize("make", [gpt, lstm])
def test_training_is_that_of_numpy(backend, make):
    losses, parameters = train("numpy", make)
    there, trained = train(backend, make)
    np.testing.assert_allclose(there, losses, rtol=1e-4)
    for name, expected in parameters.items():
        np.testing.assert_allclose(trained[name], expected, atol=1e-3, err_msg=name)


def test_training_through_the_kernels_gives_the_same_bits_each_time():
    (first, parameters), (second, again) = train("triton", gpt), train("triton", gpt)
    assert first == second
    # The embedding's gradient is a scatter with atomics, CuPy's: whatever it adds up in float32 may differ.
    for name in set(parameters) - {"token_embedding.weight"}:
        np.testing.assert_allclose(parameters[name], again[name], rtol=0, atol=1e-6, err_msg=name)


def test_a_kernel_runs_in_cupys_current_stream():
    import cupy

    from minilm.kernels.softmax.triton import softmax

    with use_backend("triton"):
        stream = cupy.cuda.Stream(non_blocking=True)
        x = cupy.zeros((4096, 4096), "float32")
        cupy.cuda.Device().synchronize()
        with stream:
            for _ in range(20):
                x += 1  # long enough that a kernel elsewhere would come too early
            x[:, 0] = 100
            y, _ = softmax(x)
        stream.synchronize()
        assert float(y[:, 0].min()) == 1.0


def test_the_machine_code_is_that_of_the_dry_compile():
    import cupy
    import triton

    from minilm.kernels.host import dry
    from minilm.kernels.softmax import triton as kernels

    with use_backend("triton"):
        arch = f"sm_{cupy.cuda.Device().compute_capability}"
        kernels.softmax(cupy.zeros((64, 1000), "float16"))
        kernel = next(value for value in vars(kernels).values() if getattr(value, "device_caches", None))
        compiled = next(iter(kernel.device_caches[cupy.cuda.runtime.getDevice()][0].values()))
        with dry(arch) as launches:
            kernels.softmax(np.zeros((64, 1000), "float16"))
        assert isinstance(kernel, triton.runtime.JITFunction)
        assert (compiled.n_regs, compiled.metadata.shared) == (launches[0].registers, launches[0].shared)

"""These tests run kernels in Triton's interpreter, so they need a process that was started for it.

`pytest tests` leaves them to tests/kernels/test_interpreter_suite.py, which starts that process. By hand:

    TRITON_INTERPRET=1 pytest tests/kernels/interpreter

`make test-gpu` runs them on a GPU (tests/kernels/mirror.py), all but those that are about the interpreter.
"""

import os

import pytest

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
ON_GPU = os.environ.get("MINILM_GPU_SUITE") == "1" and not INTERPRETING
ABOUT_THE_INTERPRETER = ["test_host.py", "test_counts.py", "test_training.py", "test_mirror.py"]
UNSEEN = ["test_adamw.py"]  # its kernel is given addresses in an array, which the mirror does not know to be any
collect_ignore_glob = ABOUT_THE_INTERPRETER + UNSEEN if ON_GPU else [] if INTERPRETING else ["test_*.py"]

if INTERPRETING:

    @pytest.fixture(autouse=True)
    def guard_bands():
        """Every array that a kernel's host function allocates is poisoned and guarded, in every test here."""
        from tests.kernels.guards import guards

        with guards():
            yield

elif ON_GPU:

    @pytest.fixture(autouse=True)
    def on_the_gpu():
        """The same guards, around launches on the GPU."""
        from minilm.backend import why_not

        reason = why_not("triton")
        if reason is not None:
            pytest.skip(reason)
        import cupy

        from minilm.kernels.host import activate
        from tests.kernels.guards import guards
        from tests.kernels.mirror import mirrored

        activate()
        with guards(), mirrored(cupy.asarray, cupy.asnumpy):
            yield

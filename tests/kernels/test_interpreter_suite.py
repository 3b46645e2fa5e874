"""Runs the tests of tests/kernels/interpreter, file by file, in processes started with TRITON_INTERPRET=1.

Triton decides at import whether its functions are compiled or interpreted, so one process cannot do both.
"""

import pytest

from tests.kernels.suites import files_of, run_file


@pytest.mark.slow
@pytest.mark.timeout(400)  # every kernel, program by program, in Python
@pytest.mark.parametrize("file", files_of("interpreter"))
def test_in_the_interpreter(file, require_package):
    require_package("triton")
    run_file("interpreter", file, {"TRITON_INTERPRET": "1", "MINILM_POISON": "1"})

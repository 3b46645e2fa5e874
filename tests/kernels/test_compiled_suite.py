"""Runs the tests of tests/kernels/compiled, file by file, in processes that compile kernels and interpret none."""

import pytest

from tests.kernels.suites import files_of, run_file


@pytest.mark.slow
@pytest.mark.timeout(400)  # every kernel, for two architectures, through ptxas
@pytest.mark.parametrize("file", files_of("compiled"))
def test_compiled_for_gpus_that_need_not_be_there(file, require_package):
    require_package("triton")
    run_file("compiled", file, {"TRITON_INTERPRET": None, "MINILM_COMPILED_SUITE": "1"})

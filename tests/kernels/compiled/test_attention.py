"""The attention kernels as machine code, in the cases that the tile table is made for. The others: next file."""

from __future__ import annotations

import pytest

from tests.kernels.compiled_attention import ARCHS, DTYPES, fits, launches, uses_tensor_cores


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [64, 128])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_the_tiles_of_the_table_spill_nothing_and_use_tensor_cores(arch, dtype, D, causal) -> None:
    for launch in launches(arch, dtype, D, offset=0 if causal else None):
        fits(launch)
        assert uses_tensor_cores(launch) == (launch.name != "attention_delta_kernel"), launch.name

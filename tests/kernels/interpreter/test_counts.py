"""The bytes and flops that an operation needs, by its formulas, are what the interpreter counts with a GPU's tiles."""

import importlib

import pytest

from minilm.kernels.static_report import cases_of, count_case, folders

CASES = {f"{case.name} {case.counted}": case for case in cases_of(folders())}
PADDED = {"decoding": 4.0}  # four queries share a key head, and tensor cores take 16 rows


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("name", CASES)
def test_the_formulas_are_what_is_counted(name, arch):
    case = CASES[name]
    counts = count_case(case, arch)
    assert counts["loaded"] >= counts["read"] > 0 and counts["stored"] >= counts["written"] > 0
    # What an operation cannot do without, it moves. A fused kernel moves little besides; several read things again.
    most = 1.15 if len(case.kernels) == 1 else 2.0
    assert 0.999 * counts["formula_bytes"] <= counts["moved"] <= most * counts["formula_bytes"], counts
    if case.tensor_cores:
        # Padding, the masked half of diagonal blocks, and what the backward computes anew come on top.
        most = PADDED.get(case.name, 2.0)
        assert 0.999 * counts["formula_flops"] <= counts["flops"] <= most * counts["formula_flops"], counts
    else:
        assert counts["flops"] == 0


def test_every_folder_with_kernels_has_cases():
    for name in folders():
        kernels = [n for n in vars(importlib.import_module(f"minilm.kernels.{name}.triton")) if n.endswith("_kernel")]
        assert not kernels or list(cases_of([name])), name

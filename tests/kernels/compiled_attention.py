"""Launches of the attention kernels under the dry driver, for the tests of their machine code."""

from __future__ import annotations

import numpy as np

from minilm.kernels.attention.arguments import Options
from minilm.kernels.attention.triton import backward, forward
from minilm.kernels.dry import ARCHITECTURES, Launch
from minilm.kernels.host import dry

ARCHS = ["sm_80", "sm_90"]
NAMES = ["attention_forward_kernel", "attention_delta_kernel", "attention_key_value_kernel", "attention_query_kernel"]
TILES = {name: name.removesuffix("_kernel") for name in NAMES}
DTYPES = {"float16": "float16", "bfloat16": "uint16"}


def projected(B: int, H: int, T: int, D: int, dtype: str) -> np.ndarray:
    """Heads (B, H, T, D) of a projection (B, T, H D): what a model's layers hand over."""
    return np.zeros((B, T, H, D), dtype).swapaxes(1, 2)


def launches(arch: str, dtype: str, D: int, T: int = 256, Hq: int = 4, Hk: int = 4, **options) -> list[Launch]:
    """What the forward and the backward launch."""
    mask = options.pop("mask", None)
    offset, dropout_p = options.pop("offset", None), options.pop("dropout_p", 0.0)
    Tk = options.pop("Tk", T)
    dtype = DTYPES.get(dtype, dtype)
    query, key = projected(2, Hq, T, D, dtype), projected(2, Hk, Tk, D, dtype)
    attn_mask = None if mask is None else np.zeros((1, Hq, T, Tk), "uint8" if mask == "bool" else dtype)
    numbers = Options(Hq // Hk, 0.125, offset, mask, dropout_p)
    with dry(arch) as recorded:
        out, lse = forward(query, key, key, attn_mask, numbers, 2**40, 2**40)
        backward(query, key, key, attn_mask, out, lse, out, numbers, 2**40, 2**40, (True, True, True, False))
    assert [launch.name for launch in recorded] == NAMES
    return recorded


def fits(launch: Launch) -> None:
    what = f"{launch.name} for sm_{launch.arch}, {launch.num_warps} warps: {launch.registers} registers"
    assert launch.spills == 0 and launch.stack == 0, f"{what}, {launch.spills} spills, {launch.stack} bytes of stack"
    assert launch.shared <= ARCHITECTURES[launch.arch].shared_per_block, what
    assert launch.blocks_per_sm >= 1, what


def uses_tensor_cores(launch: Launch) -> bool:
    """Of the newest kind that the architecture has."""
    return (launch.hgmma if launch.arch == 90 else launch.hmma) > 0

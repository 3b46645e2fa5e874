"""The attention and decoding kernels as machine code: masks, dropout, odd sizes, grids, what is specialized."""

from __future__ import annotations

import pytest

from minilm.kernels.attention.triton import attention
from minilm.kernels.decoding.triton import decode_attention
from minilm.kernels.dry import ARCHITECTURES
from minilm.kernels.host import cdiv, dry, tile, using_tile
from tests.kernels.compiled_attention import NAMES, TILES, fits, launches, projected, uses_tensor_cores


@pytest.mark.parametrize(
    "arch, D, options",
    [
        ("sm_80", 64, {"dropout_p": 0.1}),
        ("sm_80", 128, {"mask": "bool"}),
        ("sm_90", 64, {"mask": "additive"}),
        ("sm_90", 128, {"dropout_p": 0.1}),
        ("sm_80", 64, {"Hk": 1}),
        ("sm_80", 128, {"Hk": 2, "T": 300}),
        ("sm_90", 64, {"Hk": 2, "mask": "bool"}),
        ("sm_90", 128, {"Hk": 1, "T": 300}),
    ],
    ids=str,
)
def test_masks_dropout_and_grouped_heads_spill_nothing(arch, D, options) -> None:
    for launch in launches(arch, "bfloat16", D, offset=0, **options):
        fits(launch)
        assert uses_tensor_cores(launch) == (launch.name != "attention_delta_kernel"), launch.name


@pytest.mark.parametrize("arch, dtype, D", [("sm_80", "float32", 128), ("sm_90", "float16", 256)])
def test_other_widths_and_float32_spill_nothing(arch, dtype, D) -> None:
    """float32 goes without tensor cores: they would round it to 10 bits. On sm_90 256 is too wide for 64 rows."""
    for launch in launches(arch, dtype, D, offset=0):
        fits(launch)
        if launch.name != "attention_delta_kernel":
            tensor_cores = launch.hmma + launch.hgmma > 0
            assert tensor_cores == (dtype != "float32") and (launch.ffma > 500) == (dtype == "float32")


def test_a_program_a_block_of_queries_or_of_keys() -> None:
    recorded = launches("sm_80", "float16", 40, T=300, Tk=700, Hq=6, Hk=2)
    with dry("sm_80"):
        sizes = {name: tile(table, D=64, masked=1, grouped=1, dtype="float16") for name, table in TILES.items()}
    for launch in recorded:
        if launch.name == "attention_key_value_kernel":
            assert launch.grid == (cdiv(700, sizes[launch.name]["BLOCK_K"]), 2, 2)
        else:
            assert launch.grid == (cdiv(300, sizes[launch.name]["BLOCK_Q"]), 6, 2)
        assert launch.num_warps == sizes[launch.name]["num_warps"]


def test_a_size_of_1_compiles() -> None:
    """Triton makes a constant of an int argument that is 1."""
    small = {"BLOCK_Q": 16, "BLOCK_K": 16, "num_warps": 1, "num_stages": 1}
    with using_tile("attention_forward", **small), using_tile("attention_key_value", **small):
        with using_tile("attention_query", **small):
            launches("sm_80", "float16", 1, T=40, Tk=1, offset=1)
            launches("sm_80", "float16", 8, T=1, Tk=1, Hq=1, Hk=1)


def test_a_new_seed_or_offset_is_no_new_kernel() -> None:
    for launch in launches("sm_80", "bfloat16", 64, offset=0, dropout_p=0.1):
        if "seed" in launch.signature:
            for name in ("seed", "counter", "offset", "dropout_p"):
                assert launch.signature[name] in ("i32", "i64", "fp32") and name not in launch.attributes, name


def test_every_array_of_a_model_is_read_in_vectors() -> None:
    """A pointer or a stride that is not known to be a multiple of 16 would be read element by element."""
    for launch in launches("sm_90", "bfloat16", 64, offset=0, mask="additive"):
        for name, type_ in launch.signature.items():
            stride = name.endswith(("_b", "_h", "_t"))
            if type_.startswith("*") or (stride and not name.startswith("mask")):
                assert ["tt.divisibility", 16] in launch.attributes[name], (launch.name, name)


@pytest.mark.parametrize("arch, D", [("sm_80", 128), ("sm_90", 64)])
def test_decoding_spills_nothing_and_fills_the_gpu(arch, D) -> None:
    query, key = projected(1, 32, 1, D, "uint16"), projected(1, 8, 16384, D, "uint16")
    with dry(arch) as recorded:
        decode_attention(query, key, key)
        keys = tile("decoding_split", D=D, dtype="bfloat16")["KEYS"]
    split, combine = recorded
    for launch in recorded:
        fits(launch)
    assert split.hmma > 0  # the group of queries fills a quarter of the least tile: HGMMA would need 64 rows
    assert split.grid == (16384 // keys, 8, 1) and combine.grid == (32, 1, 1)
    assert split.grid[0] * split.grid[1] >= ARCHITECTURES[split.arch].sms


def test_attention_of_one_query_takes_the_decoding_kernels() -> None:
    query, key = projected(1, 4, 1, 64, "float16"), projected(1, 4, 1000, 64, "float16")
    with dry("sm_90") as recorded:
        out, vjp = attention(query, key, key, is_causal="lower_right")
        vjp(out, (True, True, True, False))
    assert [launch.name for launch in recorded] == ["decoding_split_kernel", "decoding_combine_kernel", *NAMES[1:]]

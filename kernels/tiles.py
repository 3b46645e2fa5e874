"""The tiles: how large a block one program computes, by kernel, architecture and sizes.

    TILES[kernel][architecture] = [(condition, sizes), ...]

The first row whose condition holds is taken (`minilm.kernels.host.tile`): {"D": 64} holds for D up to 64,
{"dtype": "float32"} for that dtype, {} always. `sizes` are the kernel's constexpr arguments, with num_warps and
num_stages. "interpreter" is Triton's interpreter, which runs program after program: small blocks, so that a
test of small arrays still crosses boundaries. An architecture not named here takes the rows of the nearest
older one.

A row for a GPU stands here because the dry compile shows it free of spills (tests/kernels/compiled); which of
the rows that fit is fastest only a GPU can tell.
"""

from __future__ import annotations

Rows = list[tuple[dict[str, int | str], dict[str, int]]]

TILES: dict[str, dict[str, Rows]] = {}

# One row of logits by blocks: the wider the block, the fewer turns of the loop and their two sums across warps.
_CROSS_ENTROPY: Rows = [
    ({"V": 1024}, {"BLOCK_V": 1024, "num_warps": 4, "num_stages": 2}),
    ({}, {"BLOCK_V": 4096, "num_warps": 8, "num_stages": 2}),
]
TILES["cross_entropy_forward"] = TILES["cross_entropy_backward"] = {
    "interpreter": [({}, {"BLOCK_V": 32})],
    "sm_80": _CROSS_ENTROPY,
}

# One row of the batch and BLOCK_H hidden units: four gates of them are in registers at the same time.
TILES["lstm_cell"] = {
    "interpreter": [({}, {"BLOCK_H": 16})],
    "sm_80": [
        ({"H": 128}, {"BLOCK_H": 128, "num_warps": 1, "num_stages": 1}),
        ({}, {"BLOCK_H": 512, "num_warps": 4, "num_stages": 1}),
    ],
}

# A stretch of one parameter. Half of a small one's block is idle, so a block is no wider than a bias.
TILES["adamw"] = {
    "interpreter": [({}, {"BLOCK": 64})],
    "sm_80": [({}, {"BLOCK": 1024, "num_warps": 4, "num_stages": 1})],
}

# Attention. D is the wider of the padded head widths. Two things take registers and leave room for smaller tiles only:
# masked is 1 with a mask, with dropout or for a head that is padded (not for causal alone), grouped is 1 where query
# heads share a key head. On sm_90 a tile of fewer than 64 rows (keys, for key_value) does without the tensor-core
# instruction of four warps (HGMMA): only where nothing larger fits.


def _queries_and_keys(BLOCK_Q: int, BLOCK_K: int, num_warps: int, num_stages: int) -> dict[str, int]:
    return {"BLOCK_Q": BLOCK_Q, "BLOCK_K": BLOCK_K, "num_warps": num_warps, "num_stages": num_stages}


TILES["attention_forward"] = {
    "interpreter": [({}, {"BLOCK_Q": 16, "BLOCK_K": 32})],
    "sm_80": [
        ({"dtype": "float32", "D": 64}, _queries_and_keys(64, 32, 8, 2)),
        ({"dtype": "float32", "D": 128}, _queries_and_keys(32, 32, 8, 1)),
        ({"dtype": "float32"}, _queries_and_keys(16, 32, 8, 1)),
        ({"masked": 0, "grouped": 0, "D": 64}, _queries_and_keys(128, 64, 4, 3)),
        ({"masked": 0, "D": 64}, _queries_and_keys(128, 64, 8, 3)),
        ({"D": 64}, _queries_and_keys(128, 64, 8, 2)),
        ({"masked": 0, "D": 128}, _queries_and_keys(128, 64, 8, 3)),
        ({"D": 128}, _queries_and_keys(64, 64, 8, 2)),
        ({}, _queries_and_keys(64, 32, 8, 1)),
    ],
    "sm_90": [
        ({"dtype": "float32", "D": 64}, _queries_and_keys(64, 32, 8, 2)),
        ({"dtype": "float32", "D": 128}, _queries_and_keys(32, 32, 8, 1)),
        ({"dtype": "float32"}, _queries_and_keys(16, 32, 8, 1)),
        ({"masked": 0, "D": 64}, _queries_and_keys(128, 64, 4, 3)),
        ({"D": 64}, _queries_and_keys(128, 64, 8, 3)),
        ({"masked": 0, "D": 128}, _queries_and_keys(128, 128, 8, 2)),
        ({"D": 128}, _queries_and_keys(128, 32, 8, 2)),
        ({}, _queries_and_keys(64, 32, 8, 2)),
    ],
}
TILES["attention_key_value"] = {
    "interpreter": [({}, {"BLOCK_Q": 16, "BLOCK_K": 32})],
    "sm_80": [
        ({"dtype": "float32", "D": 64}, _queries_and_keys(32, 32, 8, 1)),
        ({"dtype": "float32"}, _queries_and_keys(16, 16, 8, 1)),
        ({"masked": 0, "D": 64}, _queries_and_keys(32, 128, 8, 2)),
        ({"grouped": 0, "D": 64}, _queries_and_keys(32, 128, 8, 2)),
        ({"D": 64}, _queries_and_keys(32, 32, 4, 2)),
        ({"grouped": 0, "D": 128}, _queries_and_keys(64, 64, 8, 2)),
        ({"masked": 0, "D": 128}, _queries_and_keys(64, 32, 8, 2)),
        ({"D": 128}, _queries_and_keys(32, 32, 8, 2)),
        ({}, _queries_and_keys(32, 32, 8, 1)),
    ],
    "sm_90": [
        ({"dtype": "float32", "D": 64}, _queries_and_keys(32, 32, 8, 1)),
        ({"dtype": "float32"}, _queries_and_keys(16, 16, 8, 1)),
        ({"masked": 0, "grouped": 0, "D": 64}, _queries_and_keys(64, 128, 8, 2)),
        ({"masked": 0, "D": 64}, _queries_and_keys(64, 64, 8, 2)),
        ({"grouped": 0, "D": 64}, _queries_and_keys(64, 64, 8, 2)),
        ({"D": 64}, _queries_and_keys(32, 64, 8, 2)),
        ({"masked": 0, "grouped": 0, "D": 128}, _queries_and_keys(32, 128, 8, 2)),
        ({"masked": 0, "D": 128}, _queries_and_keys(16, 128, 8, 2)),
        ({"grouped": 0, "D": 128}, _queries_and_keys(32, 64, 8, 2)),
        ({"D": 128}, _queries_and_keys(32, 32, 8, 2)),
        ({}, _queries_and_keys(32, 32, 8, 1)),
    ],
}
TILES["attention_query"] = {
    "interpreter": [({}, {"BLOCK_Q": 32, "BLOCK_K": 16})],
    "sm_80": [
        ({"dtype": "float32", "D": 64}, _queries_and_keys(32, 32, 8, 1)),
        ({"dtype": "float32"}, _queries_and_keys(16, 16, 8, 1)),
        ({"masked": 0, "D": 64}, _queries_and_keys(128, 64, 8, 2)),
        ({"D": 64}, _queries_and_keys(128, 32, 8, 2)),
        ({"masked": 0, "D": 128}, _queries_and_keys(128, 32, 8, 2)),
        ({"D": 128}, _queries_and_keys(64, 64, 8, 2)),
        ({}, _queries_and_keys(64, 32, 8, 1)),
    ],
    "sm_90": [
        ({"dtype": "float32", "D": 64}, _queries_and_keys(32, 32, 8, 1)),
        ({"dtype": "float32"}, _queries_and_keys(16, 16, 8, 1)),
        ({"D": 64}, _queries_and_keys(128, 64, 8, 2)),
        ({"masked": 0, "D": 128}, _queries_and_keys(128, 64, 8, 2)),
        ({"D": 128}, _queries_and_keys(128, 32, 8, 2)),
        ({}, _queries_and_keys(32, 32, 4, 1)),
    ],
}
TILES["attention_delta"] = {
    "interpreter": [({}, {"BLOCK_Q": 16})],
    "sm_80": [({}, {"BLOCK_Q": 64, "num_warps": 4, "num_stages": 1})],
}
TILES["decoding_split"] = {
    "interpreter": [({}, {"KEYS": 32, "BLOCK_K": 16})],
    "sm_80": [({}, {"KEYS": 512, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3})],
}
TILES["decoding_combine"] = {
    "interpreter": [({}, {"BLOCK_S": 16})],
    "sm_80": [({}, {"BLOCK_S": 16, "num_warps": 4, "num_stages": 1})],
}

# Products. float16 stands for both 16-bit types. GROUP_M: how many rows of tiles are walked together. The second axis
# of the table is what costs registers: an epilogue that is more than a bias ("full"), and operands that cannot be
# loaded 16 bytes at a time ("elements": odd widths, odd addresses), where each number has an address of its own.
_FLOAT32: tuple[dict[str, int | str], dict[str, int]] = (
    {"dtype": "float32"},
    {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 8, "GROUP_M": 8, "num_warps": 4, "num_stages": 3},
)
_ELEMENTS: tuple[dict[str, int | str], dict[str, int]] = (
    {"access": "elements"},
    {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "GROUP_M": 8, "num_warps": 8, "num_stages": 3},
)
TILES["matmul"] = {
    "interpreter": [({}, {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 32, "GROUP_M": 2})],
    "sm_80": [
        _FLOAT32,
        _ELEMENTS,
        ({"M": 32}, {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 64, "GROUP_M": 8, "num_warps": 4, "num_stages": 4}),
        ({"N": 64}, {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": 32, "GROUP_M": 8, "num_warps": 4, "num_stages": 4}),
        ({}, {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 32, "GROUP_M": 8, "num_warps": 8, "num_stages": 4}),
    ],
    "sm_90": [
        _FLOAT32,
        _ELEMENTS,
        ({"M": 64}, {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 64, "GROUP_M": 8, "num_warps": 4, "num_stages": 4}),
        ({"N": 64}, {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": 64, "GROUP_M": 8, "num_warps": 4, "num_stages": 4}),
        (
            {"epilogue": "full"},
            {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "GROUP_M": 8, "num_warps": 8, "num_stages": 4},
        ),
        ({}, {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "GROUP_M": 8, "num_warps": 8, "num_stages": 3}),
    ],
}

# Sums over rows in two stages: a part has at least ROWS_PER_PART rows, and there are at most MAX_PARTS of them.
TILES["column_sum"] = {
    "interpreter": [({}, {"BLOCK_N": 2, "BLOCK_C": 16, "ROWS_PER_PART": 5, "MAX_PARTS": 3})],
    "sm_80": [
        (
            {},
            {"BLOCK_N": 64, "BLOCK_C": 32, "ROWS_PER_PART": 1024, "MAX_PARTS": 256, "num_warps": 4, "num_stages": 2},
        )
    ],
}
TILES["activation_backward"] = {
    "interpreter": [({}, {"BLOCK_N": 4, "BLOCK_C": 16, "ROWS_PER_PART": 6, "MAX_PARTS": 3})],
    "sm_80": [
        (
            {},
            {"BLOCK_N": 16, "BLOCK_C": 128, "ROWS_PER_PART": 64, "MAX_PARTS": 256, "num_warps": 4, "num_stages": 2},
        )
    ],
}

# Rows in registers: BLOCK_R of them to a program, padded to a power of two; 8 to 32 numbers to a thread.
_ROWS: Rows = [
    ({"width": 64}, {"BLOCK_R": 16, "num_warps": 4, "num_stages": 2}),
    ({"width": 256}, {"BLOCK_R": 4, "num_warps": 4, "num_stages": 2}),
    ({"width": 1024}, {"BLOCK_R": 1, "num_warps": 4, "num_stages": 2}),
    ({"width": 4096}, {"BLOCK_R": 1, "num_warps": 8, "num_stages": 2}),
    ({"width": 16384}, {"BLOCK_R": 1, "num_warps": 16, "num_stages": 2}),
]
_NORM_ROWS: Rows = [*_ROWS[:4], ({"width": 8192}, {"BLOCK_R": 1, "num_warps": 16, "num_stages": 2})]
TILES["layer_norm"] = TILES["rms_norm"] = {
    "interpreter": [({"width": 8192}, {"BLOCK_R": 4})],
    "sm_80": _NORM_ROWS,
}
TILES["layer_norm_backward"] = {
    "interpreter": [({"width": 8192}, {"BLOCK_R": 4, "ROWS_PER_PART": 6, "MAX_PARTS": 4})],
    "sm_80": [(condition, {**sizes, "ROWS_PER_PART": 16, "MAX_PARTS": 432}) for condition, sizes in _NORM_ROWS],
}
_SIXTEEN_TO_A_THREAD: Rows = [  # with 8 numbers to a thread the compiler spills two registers of this kernel
    ({"width": 512 * n}, {"BLOCK_R": 1, "ROWS_PER_PART": 16, "MAX_PARTS": 432, "num_warps": n, "num_stages": 2})
    for n in (1, 2, 4, 8, 16)
]
TILES["rms_norm_backward"] = {
    "interpreter": TILES["layer_norm_backward"]["interpreter"],
    "sm_80": [*TILES["layer_norm_backward"]["sm_80"][:2], *_SIXTEEN_TO_A_THREAD],
}
TILES["softmax"] = {  # a row with BLOCK_N is read block by block, one without lies in registers
    "interpreter": [({"n": 24}, {"BLOCK_R": 2}), ({}, {"BLOCK_R": 2, "BLOCK_N": 16})],
    "sm_80": [
        *(({"n": condition["width"]}, sizes) for condition, sizes in _ROWS),
        ({}, {"BLOCK_R": 1, "BLOCK_N": 4096, "num_warps": 8, "num_stages": 2}),
    ],
}
TILES["softmax_inner"] = {  # over another axis than the last: neighbours in memory are of different rows
    "interpreter": [({}, {"BLOCK_R": 4, "BLOCK_N": 4})],
    "sm_80": [({}, {"BLOCK_R": 64, "BLOCK_N": 16, "num_warps": 4, "num_stages": 2})],
}
TILES["rotary"] = {
    "interpreter": [({}, {"BLOCK_T": 4})],
    "sm_80": [
        ({"D": 64}, {"BLOCK_T": 32, "num_warps": 4, "num_stages": 2}),
        ({"D": 128}, {"BLOCK_T": 16, "num_warps": 4, "num_stages": 2}),
        ({}, {"BLOCK_T": 4, "num_warps": 4, "num_stages": 2}),
    ],
}
TILES["swiglu"] = {
    "interpreter": [({}, {"BLOCK_N": 2, "BLOCK_C": 16})],
    "sm_80": [({}, {"BLOCK_N": 4, "BLOCK_C": 256, "num_warps": 4, "num_stages": 2})],
}

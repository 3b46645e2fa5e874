"""Quantized blocks, as GGUF files hold them: 32 weights share one scale, and each is a small integer.

    Q8_0    x_i = d q_i             q_i from -128 to 127           34 bytes a block, 8.5 bits a weight
    Q4_0    x_i = d (q_i - 8)       q_i from 0 to 15               18 bytes, 4.5 bits
    Q4_1    x_i = d q_i + m         q_i from 0 to 15               20 bytes, 5 bits

d and m are float16. Of the 16 bytes that hold 4-bit numbers, byte j has q_j in its lower half and q_(j+16) in its upper
one. (Layout: https://github.com/ggml-org/llama.cpp, ggml-common.h.) What is not here: the other formats of GGUF, and
the way there (see minilm.compression for quantizing).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BLOCK = 32
_Q8_0 = np.dtype([("d", "<f2"), ("q", "i1", 32)])
_Q4_0 = np.dtype([("d", "<f2"), ("q", "u1", 16)])
_Q4_1 = np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)])


def _nibbles(q: np.ndarray) -> np.ndarray:
    """(N, 16) bytes -> (N, 32) numbers from 0 to 15: all lower halves of a block, then all upper ones."""
    return np.concatenate([q & 15, q >> 4], axis=1)


def _scale(block: np.ndarray, name: str) -> np.ndarray:
    return block[name].astype(np.float32)[:, None]  # (N, 1)


def q8_0(raw: np.ndarray) -> np.ndarray:
    """(bytes) -> (n) float32."""
    block = raw.view(_Q8_0)
    return (block["q"] * _scale(block, "d")).reshape(-1)


def q4_0(raw: np.ndarray) -> np.ndarray:
    """(bytes) -> (n) float32."""
    block = raw.view(_Q4_0)
    return ((_nibbles(block["q"]).astype(np.int8) - np.int8(8)) * _scale(block, "d")).reshape(-1)


def q4_1(raw: np.ndarray) -> np.ndarray:
    """(bytes) -> (n) float32."""
    block = raw.view(_Q4_1)
    values = _nibbles(block["q"]) * _scale(block, "d")
    values += _scale(block, "m")
    return values.reshape(-1)


def f32(raw: np.ndarray) -> np.ndarray:
    """(bytes) -> (n) float32."""
    return raw.view("<f4").astype(np.float32)


def f16(raw: np.ndarray) -> np.ndarray:
    """(bytes) -> (n) float32."""
    return raw.view("<f2").astype(np.float32)


# GGUF's number of a format: (its name, weights in a block, bytes of a block, how it becomes float32)
FORMATS: dict[int, tuple[str, int, int, Callable[[np.ndarray], np.ndarray]]] = {
    0: ("F32", 1, 4, f32),
    1: ("F16", 1, 2, f16),
    2: ("Q4_0", BLOCK, _Q4_0.itemsize, q4_0),
    3: ("Q4_1", BLOCK, _Q4_1.itemsize, q4_1),
    8: ("Q8_0", BLOCK, _Q8_0.itemsize, q8_0),
}

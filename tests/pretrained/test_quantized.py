"""Quantized blocks become the numbers that their definition says, one weight at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.pretrained.quantized import FORMATS

BY_NAME = {name: (block, size, convert) for name, block, size, convert in FORMATS.values()}


def scalar(name, block):
    """The 32 weights of one block of bytes, by the definition."""
    half = [np.frombuffer(block[i : i + 2], "<f2")[0].astype(np.float32) for i in (0, 2)]
    if name == "Q8_0":
        return [half[0] * np.float32(np.int8(np.uint8(byte))) for byte in block[2:]]
    packed = block[2:] if name == "Q4_0" else block[4:]
    numbers = [packed[i] & 15 if i < 16 else packed[i - 16] >> 4 for i in range(32)]
    if name == "Q4_0":
        return [half[0] * np.float32(q - 8) for q in numbers]
    return [half[0] * np.float32(q) + half[1] for q in numbers]


def blocks(name, count, seed):
    """Random bytes of `count` blocks; their scales are ordinary numbers."""
    size = BY_NAME[name][1]
    raw = np.random.default_rng(seed).integers(0, 256, (count, size), dtype=np.uint8)
    scales = np.random.default_rng(seed + 1).normal(0, 0.1, (count, 2)).astype("<f2")
    raw[:, :4 if name == "Q4_1" else 2] = scales.view(np.uint8).reshape(count, 4)[:, :4 if name == "Q4_1" else 2]
    return raw


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1"])
@given(count=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_every_weight_is_what_the_definition_says(name, count, seed):
    raw = blocks(name, count, seed)
    expected = [weight for block in raw for weight in scalar(name, block.tobytes())]
    found = BY_NAME[name][2](raw.reshape(-1))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "F16", "F32"])
def test_the_package_gguf_agrees(name, require_package):
    quants = require_package("gguf.quants")
    kind = require_package("gguf").GGMLQuantizationType[name]
    weights = np.random.default_rng(3).normal(0, 1, (4, 64)).astype(np.float32)
    raw = quants.quantize(weights, kind)
    found = BY_NAME[name][2](np.ascontiguousarray(raw).view(np.uint8).reshape(-1)).reshape(weights.shape)
    np.testing.assert_array_equal(found, quants.dequantize(raw, kind))
    tolerance = {"Q8_0": 0.02, "Q4_0": 0.3, "Q4_1": 0.2, "F16": 2e-3, "F32": 0.0}[name]
    np.testing.assert_allclose(found, weights, atol=tolerance)

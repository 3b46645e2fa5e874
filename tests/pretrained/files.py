"""Small files in the published formats, written by hand for the tests."""

import struct

import numpy as np

from tests.pretrained import tiny

TYPES = {bool: 7, int: 4, float: 6, str: 8}
FORMATS = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q8_0": (8, 32, 34)}


def gguf_string(text):
    """A length and the text."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_value(value):
    """A type and a value: bool, int, float, str, a list of str, or an array of float32 or int32."""
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(gguf_string, value))
    if isinstance(value, np.ndarray):
        return struct.pack("<IIQ", 9, {"f": 6, "i": 5}[value.dtype.kind], len(value)) + value.tobytes()
    layout = {bool: "<I?", int: "<II", float: "<If"}
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_string(value)
    return struct.pack(layout[type(value)], TYPES[type(value)], value)


def gguf(facts, tensors, version=3, alignment=32):
    """A GGUF file: {key: value}, {name: (format, shape, raw bytes)}."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(facts))
    out += b"".join(gguf_string(key) + gguf_value(value) for key, value in facts.items())
    numbers = b""
    for name, (kind, shape, raw) in tensors.items():
        axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        out += gguf_string(name) + axes + struct.pack("<IQ", FORMATS[kind][0], len(numbers))
        numbers += raw + b"\0" * (-len(raw) % alignment)
    return out + b"\0" * (-len(out) % alignment) + numbers


LLAMA_FACTS = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.context_length": 16,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 32,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.rope.freq_base": 10000.0,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 8,
}
VOCABULARY = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "a", "b", "ab"],
    "tokenizer.ggml.scores": np.array([0, 0, 0, -1, -2, -3], dtype="<f4"),
    "tokenizer.ggml.token_type": np.array([2, 3, 3, 1, 1, 1], dtype="<i4"),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.chat_template": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}",
}


def llama_shapes(vocab_size=6, C=32, hidden=32, kv=16, layers=1):
    """{GGUF name: shape} of a small Llama."""
    shapes = {"token_embd.weight": (vocab_size, C), "output_norm.weight": (C,)}
    for i in range(layers):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (C,),
            f"blk.{i}.attn_q.weight": (C, C),
            f"blk.{i}.attn_k.weight": (kv, C),
            f"blk.{i}.attn_v.weight": (kv, C),
            f"blk.{i}.attn_output.weight": (C, C),
            f"blk.{i}.ffn_norm.weight": (C,),
            f"blk.{i}.ffn_gate.weight": (hidden, C),
            f"blk.{i}.ffn_up.weight": (hidden, C),
            f"blk.{i}.ffn_down.weight": (C, hidden),
        }
    return shapes


def gguf_llama(kind="F32", facts=(), without=()):
    """The bytes of a small Llama; matrices are in the format `kind`, norms in F32."""
    tensors = {}
    for name, shape in llama_shapes().items():
        if kind == "F32" or len(shape) == 1:
            tensors[name] = ("F32", shape, tiny.formula(name, shape).tobytes())
        elif kind == "F16":
            tensors[name] = (kind, shape, tiny.formula(name, shape).astype("<f2").tobytes())
        else:
            _, block, size = FORMATS[kind]
            raw = np.random.default_rng(1).integers(0, 256, (shape[0] * shape[1] // block, size), dtype=np.uint8)
            raw[:, 0:2] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
            if kind == "Q4_1":
                raw[:, 2:4] = np.frombuffer(np.float16(-0.08).tobytes(), np.uint8)
            tensors[name] = (kind, shape, raw.tobytes())
    content = {**LLAMA_FACTS, **VOCABULARY, **dict(facts)}
    return gguf({key: value for key, value in content.items() if key not in without}, tensors)


def llama2c(version, tied=True, sizes=(8, 12, 2, 2, 1, 5, 4)):
    """The bytes of a small checkpoint of llama2.c, its numbers 0.01, 0.02, ... in the order of the file."""
    C, hidden, layers, heads, kv_heads, V, T = sizes
    D = C // heads
    kv = kv_heads * D
    count = V * C + C + layers * (2 * C + 2 * C * C + 2 * kv * C + 3 * C * hidden) + (0 if tied else V * C)
    if version == 0:
        count += T * D  # cos and sin
        header = struct.pack("<7i", C, hidden, layers, heads, kv_heads, V if tied else -V, T)
    else:
        header = (b"24ka" + struct.pack("<i7i?", 1, *sizes, tied)).ljust(256, b"\0")
    return header + (np.arange(1, count + 1, dtype="<f4") / 100).tobytes()


def safetensors(header, numbers=b""):
    """A safetensors file with this header (bytes)."""
    return len(header).to_bytes(8, "little") + header + numbers

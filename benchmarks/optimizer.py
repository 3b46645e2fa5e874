"""What does AdamW gain by taking all parameters as one row, block by block? One step, against the formula.

    make bench ONLY=optimizer

Contestants, for the parameters of two GPTs (0.8 M and 10.7 M numbers), float32: the formula one parameter after the
other, as one writes it down; the same in place; `minilm.optim.AdamW` with blocks of several lengths (its own is 65,536
numbers); and PyTorch's AdamW where it is installed (the bench extra), with as many threads as NumPy's BLAS. Beside
them, what clipping the gradients' norm adds.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from harness import compare, no_options
from minilm import Tensor
from minilm.optim import AdamW, clip_grad_norm_, flat

LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.95), 1e-8, 0.1
SIZES = {"0.8M": (4, 128, 65, 64), "10M": (6, 384, 65, 256)}
"""Of the GPTs: layers, channels, vocabulary, context."""

Step = Callable[[], list[Any]]
"""One step of the optimizer; returns the parameters."""


def shapes(layers: int, C: int, V: int, T: int) -> list[tuple[int, ...]]:
    """The parameters of a GPT."""
    block = [(C,), (C,), (3 * C, C), (3 * C,), (C, C), (C,), (C,), (C,), (4 * C, C), (4 * C,), (C, 4 * C), (C,)]
    return [(V, C), (T, C), *(layers * block), (C,), (C,)]


def formula(parameters: list[np.ndarray], gradients: list[np.ndarray], in_place: bool) -> Step:
    """Parameter by parameter; `in_place`: with fewer temporary arrays."""
    m, v = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    (b1, b2), t = BETAS, 0

    def step() -> list[Any]:
        nonlocal t
        t += 1
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            if in_place:
                m[i] *= b1
                m[i] += (1 - b1) * g
                v[i] *= b2
                v[i] += (1 - b2) * g * g
            else:
                m[i] = b1 * m[i] + (1 - b1) * g
                v[i] = b2 * v[i] + (1 - b2) * g * g
            if p.ndim > 1:
                p *= 1 - LR * DECAY
            p -= LR * (m[i] / (1 - b1**t)) / (np.sqrt(v[i] / (1 - b2**t)) + EPS)
        return parameters

    return step


def ours(parameters: list[np.ndarray], gradients: list[np.ndarray], block: int, clip: bool = False) -> Step:
    """minilm.optim.AdamW with blocks of that many numbers."""
    tensors = [Tensor(p, requires_grad=True) for p in parameters]
    for tensor, g in zip(tensors, gradients, strict=True):
        tensor.grad = Tensor(g)
    usual, flat.BLOCK = flat.BLOCK, block  # read when the row is laid out
    try:
        optimizer = AdamW(tensors, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    finally:
        flat.BLOCK = usual

    def step() -> list[Any]:
        if clip:
            clip_grad_norm_(tensors, 1e9)  # beyond the norm: the gradients stay as they are
        optimizer.step()
        return [tensor.numpy() for tensor in tensors]

    return step


def torch_step(parameters: list[np.ndarray], gradients: list[np.ndarray]) -> Step:
    """The same with PyTorch, decaying the same parameters."""
    import torch

    threads = os.environ.get("OPENBLAS_NUM_THREADS")
    torch.set_num_threads(int(threads) if threads else len(os.sched_getaffinity(0)))
    tensors = [torch.nn.Parameter(torch.from_numpy(p)) for p in parameters]
    for tensor, g in zip(tensors, gradients, strict=True):
        tensor.grad = torch.from_numpy(g)
    groups = [
        {"params": [t for t in tensors if t.ndim > 1], "weight_decay": DECAY},
        {"params": [t for t in tensors if t.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)

    def step() -> list[Any]:
        optimizer.step()
        return [tensor.detach().numpy() for tensor in tensors]

    return step


def contestants(size: str) -> dict[str, Step]:
    """Everyone, each with parameters of its own."""
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape, dtype="float32") for shape in shapes(*SIZES[size])]
    gradients = [rng.standard_normal(p.shape, dtype="float32") for p in start]

    def fresh() -> list[np.ndarray]:
        return [p.copy() for p in start]

    found = {
        "AdamW": ours(fresh(), gradients, flat.BLOCK),
        "AdamW and clipping": ours(fresh(), gradients, flat.BLOCK, clip=True),
        **{f"AdamW, blocks of {n}": ours(fresh(), gradients, n) for n in (1 << 14, 1 << 18)},
        "formula": formula(fresh(), gradients, in_place=False),
        "formula, in place": formula(fresh(), gradients, in_place=True),
    }
    if importlib.util.find_spec("torch") is not None:
        found["torch"] = torch_step(fresh(), gradients)
    return found


def check(size: str) -> None:
    """After three steps all have the same parameters."""
    first, *others = ([step() for _ in range(3)][-1] for step in contestants(size).values())
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def main() -> None:
    """Time the step of both models."""
    for size in SIZES:
        name = f"optimizer_{size.lower()}"
        compare(name, contestants(size), check=lambda size=size: check(size), repeats=20, warmup=3)  # type: ignore[misc]


if __name__ == "__main__":
    no_options(__doc__)
    main()

"""What `minilm bench` can time: for each subject its arguments, its sizes, and what it costs in flops and bytes.

A subject is an operation of minilm.functional (and one optimizer). Its contestants are the textbook body, the rungs of
minilm.kernels that are plain NumPy, and the kernel that the chosen backend has for it. All of them take the same
arguments and return (output, vjp), so a subject says only what differs: shapes and formulas.

The formulas are Python expressions in the sizes of a run and in s, the bytes of a number. They are printed as they
are evaluated. Flops are those that the operation needs (a kernel that computes something again does not get them
counted twice); bytes are what has to cross the memory bus at least: each input read once, each output written once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from minilm.backend import kernel_for, to_numpy
from minilm.cli.bench_contestants import (
    Arguments,
    Bind,
    adamw_blocked,
    adamw_kernel,
    adamw_textbook,
    of_operation,
    rounded,
)
from minilm.random import Generator
from minilm.tensor import OPERATIONS

Sizes = Mapping[str, int]

LOOPS_AT_MOST = 5e5
"""Flops of the largest case for the rung of loops, which takes about a quarter of a second for so many."""


@dataclass(frozen=True)
class Subject:
    """One operation to be timed.

    operation: its name in minilm.functional, where the textbook body is, and in the backend's table of kernels.
    varied: the size that `--lengths` gives.
    sizes, lengths: the other sizes, and the lengths that are run if none are given; by scale: "cpu", "gpu",
    "interpreter".
    checked: no size is larger than this when contestants are checked against float64.
    flops, bytes: formulas by direction.
    """

    name: str
    operation: str
    varied: str
    sizes: Mapping[str, Sizes]
    lengths: Mapping[str, tuple[int, ...]]
    checked: Sizes
    flops: Mapping[str, str]
    bytes: Mapping[str, str]
    draw: Callable[[Callable[..., Any], Sizes], Arguments]
    rungs: Mapping[str, str] = field(default_factory=dict)
    library: bool = False  # the textbook body is one call of the array module

    @property
    def directions(self) -> tuple[str, ...]:
        return tuple(self.flops)

    def cost(self, direction: str, sizes: Sizes, itemsize: int) -> tuple[float, float]:
        """(flops, bytes) that the operation needs at these sizes."""
        names = {**sizes, "s": itemsize}
        formulas = self.flops[direction], self.bytes[direction]
        flops, moved = (eval(formula, {"__builtins__": {}}, names) for formula in formulas)
        return float(flops), float(moved)

    def textbook(self) -> Bind:
        """The formula itself: the first contestant, and in float64 the oracle."""
        if self.operation == "adamw":
            return adamw_textbook
        return of_operation(self.operation, OPERATIONS[self.operation].body)

    def contestants(self, backend: str, module: str, sizes: Sizes) -> dict[str, Bind | None]:
        """Whoever can compute this under a backend whose arrays live in `module`; None: there is no such kernel."""
        found: dict[str, Bind | None] = {module if self.library else "textbook": self.textbook()}
        if self.operation == "adamw":
            found["blocked"] = adamw_blocked
        if backend == "numpy":
            for name, target in self.rungs.items():
                if name != "loops" or self.cost("forward", sizes, 4)[0] <= LOOPS_AT_MOST:
                    found[name] = of_operation(self.operation, loaded(target))
        if backend == "triton":
            kernel = kernel_for(self.operation)
            make = adamw_kernel if self.operation == "adamw" else of_operation
            found.pop("blocked", None)  # under this backend it is the kernel
            found["triton"] = None if kernel is None else make(self.operation, kernel)
        return found


def loaded(target: str) -> Callable[..., Any]:
    """The function that "module:function" names."""
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)


def draw(subject: Subject, sizes: Sizes, dtype: str) -> Arguments:
    """The arguments of a run, on the host, the same ones each time."""
    generator = Generator(0)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return rounded(to_numpy(generator.normal(shape, 0, scale, "float64")), dtype)

    return subject.draw(normal, sizes)


# ----- the subjects


def _attention(normal: Callable[..., Any], z: Sizes) -> Arguments:
    shape = z["B"], z["H"], z["T"], z["D"]
    return Arguments([normal(*shape) for _ in range(3)], {"is_causal": bool(z["causal"])}, [normal(*shape)])


def _matmul(normal: Callable[..., Any], z: Sizes) -> Arguments:
    return Arguments([normal(z["N"], z["N"]) for _ in range(2)], {}, [normal(z["N"], z["N"])])


def _rows(width: str, parameters: int = 0, inputs: int = 1) -> Callable[..., Arguments]:
    """Arguments (N, width), with parameters (width,) behind normalized_shape."""

    def arguments(normal: Callable[..., Any], z: Sizes) -> Arguments:
        N, n = z["N"], z[width]
        arrays: list[Any] = [normal(N, n) for _ in range(inputs)]
        options = {}
        if parameters:
            arrays += [(n,), *(normal(n) for _ in range(parameters))]
            options["eps"] = 1e-5
        return Arguments(arrays, options, [normal(N, n)])

    return arguments


def _rotary(normal: Callable[..., Any], z: Sizes) -> Arguments:
    shape = z["B"], z["H"], z["T"], z["D"]
    angle = np.arange(z["T"])[:, None] / 10000 ** (np.arange(z["D"] // 2) * 2 / z["D"])
    kind = normal(1).dtype
    cos, sin = (rounded(f(angle), "bfloat16" if kind == np.uint16 else kind.name) for f in (np.cos, np.sin))
    return Arguments([normal(*shape), cos, sin], {}, [normal(*shape)])


def _cross_entropy(normal: Callable[..., Any], z: Sizes) -> Arguments:
    logits = normal(z["N"], z["V"], scale=3.0)
    target = np.arange(z["N"], dtype=np.int64) * 7919 % z["V"]
    one = np.ones((), dtype="float32" if logits.dtype == np.uint16 else logits.dtype)  # the loss of bfloat16 is float32
    return Arguments([logits, target], {}, [one])


def _lstm(normal: Callable[..., Any], z: Sizes) -> Arguments:
    B, T, C, H = z["B"], z["T"], z["C"], z["H"]
    scale = 1 / math.sqrt(H)
    weights = [normal(4 * H, C, scale=scale), normal(4 * H, H, scale=scale)]
    biases = [normal(4 * H, scale=scale) for _ in range(2)]
    arrays = [normal(B, T, C), normal(B, H), normal(B, H), *weights, *biases]
    return Arguments(arrays, {}, [normal(B, T, H), normal(B, H), normal(B, H)])


def gpt_shapes(L: int, C: int) -> list[tuple[int, ...]]:
    """The parameters of the L blocks of a GPT of width C: 12 C² + 13 C numbers in each."""
    norms: list[tuple[int, ...]] = [(C,)] * 4
    return L * [(3 * C, C), (3 * C,), (C, C), (C,), (4 * C, C), (4 * C,), (C, 4 * C), (C,), *norms]


def _adamw(normal: Callable[..., Any], z: Sizes) -> Arguments:
    shapes = gpt_shapes(z["L"], z["C"])
    return Arguments([normal(*n) for n in shapes], {}, [normal(*n) for n in 2 * shapes])


def _scales(cpu: Sizes, gpu: Sizes, interpreter: Sizes) -> dict[str, Sizes]:
    return {"cpu": cpu, "gpu": gpu, "interpreter": interpreter}


def _lengths(cpu: Sequence[int], gpu: Sequence[int], interpreter: Sequence[int]) -> dict[str, tuple[int, ...]]:
    return {"cpu": tuple(cpu), "gpu": tuple(gpu), "interpreter": tuple(interpreter)}


_WIDTHS = _lengths((128, 256, 512, 1024, 2048), (512, 1024, 2048, 4096, 8192), (16, 48))
_ROWS = _scales({"N": 1024}, {"N": 16384}, {"N": 4})
_KERNELS = "minilm.kernels"

_ALL = (
    Subject(
        "attention",
        "scaled_dot_product_attention",
        "T",
        _scales(
            {"B": 1, "H": 4, "D": 64, "causal": 0},
            {"B": 4, "H": 16, "D": 64, "causal": 0},
            {"B": 1, "H": 2, "D": 16, "causal": 0},
        ),
        _lengths((128, 256, 512, 1024, 2048), (512, 1024, 2048, 4096, 8192, 16384), (32, 64)),
        {"B": 2, "H": 2, "T": 512},
        {
            "forward": "4 * B * H * T * T * D / (1 + causal)",
            "backward": "10 * B * H * T * T * D / (1 + causal)",
        },
        {
            "forward": "s * 4 * B * H * T * D + 4 * B * H * T",
            "backward": "s * 8 * B * H * T * D + 4 * B * H * T",
        },
        _attention,
        {
            "blocked": f"{_KERNELS}.attention.blocked:attention",
            "loops": f"{_KERNELS}.attention.loops:attention",
        },
    ),
    Subject(
        "matmul",
        "matmul",
        "N",
        _scales({}, {}, {}),
        _lengths((64, 128, 256, 512, 1024), (512, 1024, 2048, 4096, 8192), (32, 64)),
        {"N": 512},
        {"forward": "2 * N * N * N", "backward": "4 * N * N * N"},
        {"forward": "s * 3 * N * N", "backward": "s * 5 * N * N"},
        _matmul,
        {"blocked": f"{_KERNELS}.matmul.blocked:matmul", "loops": f"{_KERNELS}.matmul.loops:matmul"},
        library=True,
    ),
    Subject(
        "softmax",
        "softmax",
        "V",
        _ROWS,
        _lengths((128, 512, 2048, 8192), (256, 1024, 4096, 16384, 65536), (16, 48)),
        {"N": 64},
        {"forward": "5 * N * V", "backward": "4 * N * V"},
        {"forward": "s * 2 * N * V", "backward": "s * 3 * N * V"},
        _rows("V"),
    ),
    Subject(
        "layer_norm",
        "layer_norm",
        "C",
        _ROWS,
        _WIDTHS,
        {"N": 64},
        {"forward": "7 * N * C", "backward": "13 * N * C"},
        {"forward": "s * 2 * N * C", "backward": "s * 3 * N * C"},
        _rows("C", parameters=2),
    ),
    Subject(
        "rms_norm",
        "rms_norm",
        "C",
        _ROWS,
        _WIDTHS,
        {"N": 64},
        {"forward": "4 * N * C", "backward": "9 * N * C"},
        {"forward": "s * 2 * N * C", "backward": "s * 3 * N * C"},
        _rows("C", parameters=1),
    ),
    Subject(
        "rotary",
        "rotary_embedding",
        "T",
        _scales({"B": 1, "H": 8, "D": 64}, {"B": 8, "H": 16, "D": 128}, {"B": 1, "H": 2, "D": 16}),
        _lengths((128, 256, 512, 1024, 2048), (256, 512, 1024, 2048, 4096), (8, 24)),
        {"B": 2, "H": 2, "T": 512},
        {"forward": "3 * B * H * T * D", "backward": "3 * B * H * T * D"},
        {"forward": "s * (2 * B * H * T * D + T * D)", "backward": "s * (2 * B * H * T * D + T * D)"},
        _rotary,
    ),
    Subject(
        "swiglu",
        "swiglu",
        "C",
        _ROWS,
        _WIDTHS,
        {"N": 64},
        {"forward": "6 * N * C", "backward": "12 * N * C"},
        {"forward": "s * 3 * N * C", "backward": "s * 5 * N * C"},
        _rows("C", inputs=2),
    ),
    Subject(
        "cross_entropy",
        "cross_entropy",
        "V",
        _scales({"N": 256}, {"N": 8192}, {"N": 4}),
        _lengths((512, 2048, 8192, 50257), (8192, 32768, 50257, 128256), (40, 100)),
        {"N": 32},
        {"forward": "4 * N * V", "backward": "5 * N * V"},
        {"forward": "s * N * V", "backward": "s * 2 * N * V"},
        _cross_entropy,
        {"blocked": f"{_KERNELS}.cross_entropy.blocked:cross_entropy"},
    ),
    Subject(
        "lstm",
        "lstm",
        "T",
        _scales({"B": 12, "C": 128, "H": 256}, {"B": 256, "C": 512, "H": 512}, {"B": 2, "C": 8, "H": 16}),
        _lengths((16, 32, 64, 128), (16, 64, 256), (3, 5)),
        {"B": 3, "T": 16},
        {"forward": "8 * B * T * H * (C + H)", "backward": "16 * B * T * H * (C + H)"},
        {
            "forward": "s * (B * T * (C + H) + 4 * H * (C + H))",
            "backward": "s * (B * T * (2 * C + 2 * H) + 8 * H * (C + H))",
        },
        _lstm,
    ),
    Subject(
        "adamw",
        "adamw",
        "C",
        _scales({"L": 4}, {"L": 12}, {"L": 1}),
        _lengths((64, 128, 256, 384), (256, 512, 1024, 2048), (8, 16)),
        {"L": 1},
        {"step": "12 * L * (12 * C * C + 13 * C)"},
        {"step": "(3 * s + 16) * L * (12 * C * C + 13 * C)"},
        _adamw,
    ),
)

SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in _ALL}
"""What can be timed, by the name that the command takes."""

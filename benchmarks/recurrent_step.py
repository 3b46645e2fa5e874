"""What does one operation for the whole sequence gain? Forward and backward of LSTM, GRU and RNN, two layers.

    make bench ONLY=recurrent_step

Fused is the layer of `minilm.nn`; composed is the same layer from elementary Tensor operations, one step after the
other, as one would write it first. PyTorch's layer runs beside them where it is installed (the bench extra), with as
many threads as NumPy's BLAS. The sizes are the demo's: batch 12, 64 steps, 128 channels, 220 units, float32.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

import minilm.functional as F
from harness import compare, no_options
from minilm import Tensor, manual_seed, nn

B, T, C, H, LAYERS = 12, 64, 128, 220, 2


def rnn_step(x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Any:
    """The state after one more element."""
    return ((x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh).tanh(),)


def gru_step(x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Any:
    """The state after one more element."""
    x_r, x_z, x_n = (x @ weight_ih.T + bias_ih).split(3, axis=-1)
    h_r, h_z, h_n = (h @ weight_hh.T + bias_hh).split(3, axis=-1)
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    n = (x_n + r * h_n).tanh()
    return ((1 - z) * n + z * h,)


def lstm_step(x: Tensor, h: Tensor, c: Tensor, *parameters: Tensor) -> Any:
    """The state and the cell after one more element."""
    weight_ih, weight_hh, bias_ih, bias_hh = parameters
    i, f, g, o = (x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh).split(4, axis=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


STEPS: dict[str, tuple[Any, Callable[..., Any], int]] = {
    "LSTM": (nn.LSTM, lstm_step, 2),
    "GRU": (nn.GRU, gru_step, 1),
    "RNN": (nn.RNN, rnn_step, 1),
}


def composed(step: Callable[..., Any], states: int, layer: nn.Module, x: Tensor) -> Tensor:
    """The layer's output (B, T, H), one step after the other."""
    parameters = list(layer.parameters())
    for k in range(LAYERS):
        state = tuple(Tensor(np.zeros((B, H), dtype="float32")) for _ in range(states))
        outputs = []
        for t in range(T):
            state = step(x[:, t], *state, *parameters[4 * k : 4 * k + 4])
            outputs.append(state[0])
        x = F.stack(outputs, axis=1)
    return x


def contestants(name: str) -> tuple[dict[str, Callable[[], Any]], Callable[[], None]]:
    """The ways to compute the output and all gradients, and the check that they agree."""
    kind, step, states = STEPS[name]
    generator = manual_seed(0)
    layer = kind(C, H, num_layers=LAYERS)
    x = Tensor(generator.normal((B, T, C)), requires_grad=True)
    cotangent = generator.normal((B, T, H))

    def gradients(forward: Callable[[], Tensor]) -> list[np.ndarray]:
        leaves = [x, *layer.parameters()]
        for leaf in leaves:
            leaf.grad = None
        output = forward()
        output.backward(cotangent)
        return [output.numpy(), *(leaf.grad.numpy() for leaf in leaves if leaf.grad is not None)]

    ways: dict[str, Callable[[], Any]] = {
        f"{name}, fused": lambda: gradients(lambda: layer(x)[0]),
        f"{name}, composed": lambda: gradients(lambda: composed(step, states, layer, x)),
    }
    if importlib.util.find_spec("torch") is not None:
        ways[f"{name}, torch"] = torch_gradients(name, layer, x, cotangent)

    def check() -> None:
        first, *others = (way() for way in ways.values())
        for other in others:
            for a, b in zip(first, other, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(np.abs(b).max()))

    return ways, check


def torch_gradients(name: str, layer: nn.Module, x: Tensor, cotangent: Any) -> Callable[[], list[np.ndarray]]:
    """The same with PyTorch, from the same numbers."""
    import torch

    threads = os.environ.get("OPENBLAS_NUM_THREADS")
    torch.set_num_threads(int(threads) if threads else len(os.sched_getaffinity(0)))
    theirs = getattr(torch.nn, name)(C, H, LAYERS, batch_first=True)
    theirs.load_state_dict({key: torch.tensor(array) for key, array in layer.state_dict().items()})
    leaf = torch.tensor(x.numpy().copy(), requires_grad=True)
    g = torch.tensor(np.array(cotangent))

    def run() -> list[np.ndarray]:
        leaf.grad = None
        theirs.zero_grad()
        output = theirs(leaf)[0]
        output.backward(g)
        return [output.detach().numpy(), *(p.grad.numpy() for p in (leaf, *theirs.parameters()))]

    return run


def main() -> None:
    """Time the three layers."""
    for name in STEPS:
        ways, check = contestants(name)
        compare(f"recurrent_step_{name.lower()}", ways, check=check, repeats=15, warmup=2)


if __name__ == "__main__":
    no_options(__doc__)
    main()

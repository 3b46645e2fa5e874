"""RNN, LSTM and GRU as layers: several of them stacked, in one direction or both, with dropout in between.

A layer of a stack reads the outputs of the one below. With `bidirectional` each layer reads its input twice,
from the start and from the end, and puts out both states side by side: 2*H channels (Schuster and Paliwal
1997). Dropout acts on what goes up from layer to layer, not on what goes on from step to step (Zaremba et al.
2014), and not after the last.

Parameters have PyTorch's names, shapes and initialisation: weight_ih_l0 (G*H, C), weight_hh_l0 (G*H, H),
bias_ih_l0, bias_hh_l0 (G*H,), then ..._l0_reverse, ..._l1 and so on, with G = 1, 4, 3 gates; all
U(-1/sqrt(H), 1/sqrt(H)). States have the axes (num_layers * directions, B, H), in the same order; a state
that a call returns starts the next.

What this file does not do: sequences of different lengths in one batch, and PyTorch's time-major input.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minilm.functional as F
from minilm.backend import xp
from minilm.functional.gru import gru
from minilm.functional.lstm import lstm
from minilm.functional.rnn import rnn
from minilm.nn import initialization
from minilm.nn.module import Module, Parameter
from minilm.tensor import Tensor, no_grad

PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Recurrent(Module):
    """The stack. A subclass names its operation (one layer in one direction), the gates and the states."""

    operation: Any
    gates: int
    state_names: tuple[str, ...] = ("h0",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"the probability of dropping an element is from 0 to 1, got {dropout}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.dropout, self.bidirectional = bias, dropout, bidirectional
        self.options: dict[str, Any] = {}  # of the operation
        rows = self.gates * hidden_size
        for layer, suffix, _ in self._directions():
            channels = input_size if layer == 0 else hidden_size * (2 if bidirectional else 1)
            shapes = ((rows, channels), (rows, hidden_size), (rows,), (rows,))
            for name, shape in zip(PARAMETERS[: 4 if bias else 2], shapes, strict=False):
                setattr(self, f"{name}_{suffix}", initialization.uniform_fan_in(shape, hidden_size))

    def _directions(self) -> Iterator[tuple[int, str, bool]]:
        """(layer, suffix of its parameters' names, reverse?) in the order of the states' first axis."""
        for layer in range(self.num_layers):
            yield layer, f"l{layer}", False
            if self.bidirectional:
                yield layer, f"l{layer}_reverse", True

    def _parameters_of(self, suffix: str) -> tuple[Parameter | None, ...]:
        return tuple(self._parameters.get(f"{name}_{suffix}") for name in PARAMETERS)

    def _run(self, x: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """output (B, T, directions*H), and each final state (num_layers*directions, B, H)."""
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(
                f"{type(self).__name__} reads x (B, T, {self.input_size}), got {x.shape}: "
                f"a single sequence is x[None], and input_size must be the number of channels"
            )
        B, H = x.shape[0], self.hidden_size
        directions = 2 if self.bidirectional else 1
        expected = (self.num_layers * directions, B, H)
        for name, state in zip(self.state_names, states, strict=True):
            if state is not None and state.shape != expected:
                raise ValueError(f"{name} has the shape (num_layers*directions, B, H) = {expected}, got {state.shape}")
        zeros = xp(x.data).zeros((B, H), dtype=x.dtype)
        outputs: list[Tensor] = []
        finals: list[tuple[Tensor, ...]] = []
        for k, (layer, suffix, reverse) in enumerate(self._directions()):
            if layer > 0 and not reverse:
                x = F.dropout(x, self.dropout, self.training)
            start = tuple(zeros if state is None else state[k] for state in states)
            parameters = self._parameters_of(suffix)
            output, *final = self.operation(x, *start, *parameters, **self.options, reverse=reverse)
            outputs.append(output)
            finals.append(tuple(final))
            if len(outputs) == directions:
                x = F.concatenate(outputs, axis=-1) if self.bidirectional else output
                outputs = []
        return x, tuple(F.stack(state) for state in zip(*finals, strict=True))

    def describe(self) -> str:
        options = f", {self.num_layers} layers" if self.num_layers > 1 else ""
        options += ", bidirectional" if self.bidirectional else ""
        options += f", dropout {self.dropout}" if self.dropout else ""
        return f"{self.input_size} -> {self.hidden_size * (2 if self.bidirectional else 1)}{options}"


class RNN(_Recurrent):
    """Elman's recurrent layer (1990): h_t = phi(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh).

    Args:
        input_size, hidden_size: C and H.
        num_layers: height of the stack.
        bias: with bias_ih and bias_hh.
        dropout: probability of leaving out an element between two layers, in training.
        bidirectional: read from both ends.
        nonlinearity: phi, "tanh" or "relu".
    """

    operation = staticmethod(rnn)
    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        nonlinearity: str = "tanh",
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
        super().__init__(input_size, hidden_size, num_layers, bias, dropout, bidirectional)
        self.nonlinearity = nonlinearity
        self.options = {"nonlinearity": nonlinearity}

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, T, C) and h0, or None for zeros -> output (B, T, directions*H) and h_n.

        The states are (num_layers*directions, B, H).
        """
        output, (h_n,) = self._run(x, (h0,))
        return output, h_n


class GRU(_Recurrent):
    """Gated recurrent unit (Cho et al. 2014, in PyTorch's form; `minilm.functional.gru` has the equations).

    Args:
        input_size, hidden_size: C and H.
        num_layers: height of the stack.
        bias: with bias_ih and bias_hh.
        dropout: probability of leaving out an element between two layers, in training.
        bidirectional: read from both ends.
    """

    operation = staticmethod(gru)
    gates = 3

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, T, C) and h0, or None for zeros -> output (B, T, directions*H) and h_n.

        The states are (num_layers*directions, B, H).
        """
        output, (h_n,) = self._run(x, (h0,))
        return output, h_n


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; `minilm.functional.lstm` has the equations).

    Args:
        input_size, hidden_size: C and H. num_layers: height of the stack. bias: with bias_ih and bias_hh.
        dropout: probability of leaving out an element between two layers, in training. bidirectional: read
        from both ends. forget_bias: where the forget gate's bias starts, if not at random as in PyTorch. With
        1, cells remember from
            the first step of training on (Gers et al. 2000; Jozefowicz et al. 2015, section 2.2).
    """

    operation = staticmethod(lstm)
    gates = 4
    state_names = ("h0", "c0")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        forget_bias: float | None = None,
    ) -> None:
        if forget_bias is not None and not bias:
            raise ValueError(f"forget_bias={forget_bias} needs bias=True")
        super().__init__(input_size, hidden_size, num_layers, bias, dropout, bidirectional)
        if forget_bias is not None:
            forget = slice(hidden_size, 2 * hidden_size)  # of i, f, g, o
            with no_grad():
                for _, suffix, _ in self._directions():
                    _, _, bias_ih, bias_hh = self._parameters_of(suffix)
                    assert bias_ih is not None and bias_hh is not None
                    bias_ih[forget], bias_hh[forget] = forget_bias, 0  # their sum counts

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (B, T, C) and (h0, c0), or None for zeros -> output (B, T, directions*H) and (h_n, c_n).

        The states are (num_layers*directions, B, H).
        """
        output, (h_n, c_n) = self._run(x, state or (None, None))
        return output, (h_n, c_n)

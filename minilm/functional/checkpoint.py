"""Activation checkpointing (Chen et al. 2016): forget what was computed inside a block, compute it again in backward.

    y = f(x; θ),   dx = (∂f/∂x)ᵀ g,   dθ = (∂f/∂θ)ᵀ g

The memory of a block's inner activations is paid for with a second forward pass. As an operation: the forward runs
the function without recording; the vjp runs it again, recorded, on the same inputs, and walks that inner graph, which
is the product with both transposed Jacobians. Shapes are those of f. Random
operations see the generator in the same state both times, so the same elements are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minilm.backend import Array, xp
from minilm.random import Generator, current_generator, using_generator
from minilm.tensor import Tensor, backpropagate, differentiable, enable_grad, no_grad


@differentiable
def _checkpoint(
    *arrays: Array, function: Callable[..., Any], n_inputs: int, parameters: Callable[[], tuple[Tensor, ...]]
) -> Any:
    """y = f(x; θ), nothing kept but x;  (dx, dθ) by recording f again and walking back through it.

    `arrays` are the n_inputs inputs of f, then the parameters' arrays: named, so that gradients reach them.
    The parameters themselves come behind a function, since a Tensor among the arguments would arrive as its array.
    """
    seed_state = current_generator().state_dict()
    with no_grad():
        y = function(*(Tensor.wrap(a) for a in arrays[:n_inputs]))

    def vjp(g: Any, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        inputs = [Tensor.wrap(a) for a in arrays[:n_inputs]]
        for tensor, need in zip(inputs, needs, strict=False):
            tensor.requires_grad = need
        replay = Generator()
        replay.load_state_dict(seed_state)
        with enable_grad(), using_generator(replay):
            again = function(*inputs)
        outputs, cotangents = (again, g) if isinstance(again, tuple) else ((again,), (g,))
        reached = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
        leaves = backpropagate([o for o, _ in reached], [c for _, c in reached])
        found = {id(leaf): array for leaf, array in leaves}
        targets = (*inputs, *parameters())
        lost = [leaf for leaf, _ in leaves if all(leaf is not t for t in targets)]
        if lost:
            raise RuntimeError(
                f"checkpoint: the function uses a tensor of shape {lost[0].shape} that requires a gradient and would "
                f"get none: name it in parameters=, or pass what was computed from it as an input"
            )
        return tuple(
            found.get(id(t), xp(a).zeros_like(a)) if need else None
            for t, a, need in zip(targets, arrays, needs, strict=True)
        )

    return tuple(t.data for t in y) if isinstance(y, tuple) else y.data, vjp


def checkpoint(function: Callable[..., Any], *inputs: Tensor, parameters: Iterable[Tensor] = ()) -> Any:
    """function(*inputs), with everything inside computed again in the backward pass instead of being kept.

    Args:
        function: of Tensors, to a Tensor or a tuple of them; it must give the same result when it is called again.
        inputs: the Tensors it is called with.
        parameters: every other leaf that it uses and that needs a gradient: `module.parameters()` for a layer.

    Raises:
        ValueError: if one of the parameters was computed from others.
        RuntimeError: in backward, if the function uses a tensor whose gradient would be lost.
    """
    parameters = tuple({id(p): p for p in parameters}.values())  # each once, or its gradient would count twice
    for p in parameters:
        if not p.is_leaf:
            raise ValueError(f"checkpoint: a parameter {p.shape} was computed from others: pass it as an input")
    return _checkpoint(*inputs, *parameters, function=function, n_inputs=len(inputs), parameters=lambda: parameters)

"""The tape: nodes, and the loop that walks back through them.

Every recorded operation is a `Node` with a number, its place on the tape. Consumers have higher numbers than what they
consume, so taking nodes from a heap, highest number first, visits each node once and only when its gradient is
complete: no recursion, no marking, no sort of the whole graph.

Who owns a gradient array? A vjp may return g itself (addition does, twice), a view, or an array that it keeps;
so an array is added to in place only when the engine made it or can see that nobody else holds it, and what ends
up in `.grad` is never shared with anything.

Nodes point to what they were computed from, never the other way: there is no cycle, and a graph that nobody needs any
more is freed at once.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import weakref
from collections.abc import Iterable, Iterator, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from minilm.backend import Array, is_array, owner, xp
from minilm.tensor.tensor import Tensor, Version, from_host

if TYPE_CHECKING:
    from minilm.tensor.operation import Operation

_numbers = itertools.count()


class Node:
    """One recorded operation: where the cotangents of its inputs go, and the vjp that computes them."""

    __slots__ = (
        *("number", "operation", "edges", "vjp", "versions"),
        *("inputs", "outputs", "several", "retained", "__weakref__"),
    )

    def __init__(
        self,
        operation: Operation,
        edges: Sequence[tuple[Node | Tensor, int] | None],
        vjp: Any,
        versions: Sequence[tuple[Version, int]],
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Array],
        several: bool,
    ) -> None:
        self.number = next(_numbers)
        self.operation = operation
        self.edges = edges  # for each input: (the node that made it or the leaf itself, which output), or None
        self.vjp = vjp
        self.versions = versions  # of inputs and outputs, as they were when the vjp was made
        self.inputs = [None if t is None else (t.data.shape, t.data.dtype) for t in inputs]
        # of each output, to make zeros for one that got no cotangent
        self.outputs = [(y.shape, y.dtype, xp(y)) for y in outputs]
        self.several = several  # the output was a tuple, so the cotangent is one
        self.retained: dict[int, Any] | None = None

    def retain(self, tensor: Tensor) -> None:
        # weakly: a strong reference would be a cycle, node -> tensor -> node
        self.retained = {**(self.retained or {}), tensor._index: weakref.ref(tensor)}

    def free(self) -> None:
        self.vjp = None
        self.edges = ()
        self.versions = ()


def _held(vjp: Any) -> Iterator[Array]:
    """The arrays that a vjp keeps alive: what its closures and defaults, and the containers in them, hold."""
    stack, seen = [vjp], set()
    while stack:
        held = stack.pop()
        if id(held) in seen:
            continue
        seen.add(id(held))
        if isinstance(held, tuple | list):
            stack.extend(held)
        elif isinstance(held, dict):
            stack.extend(held.values())
        elif isinstance(held, functools.partial):
            stack.extend((held.func, *held.args, *held.keywords.values()))
        elif isinstance(held, FunctionType):
            stack.extend((held.__defaults__, held.__kwdefaults__))  # lambda g, y=y: ...
            for cell in held.__closure__ or ():
                try:
                    stack.append(cell.cell_contents)
                except ValueError:  # a variable that its function has not assigned
                    continue
        elif isinstance(held, Tensor):
            yield held.data
        elif is_array(held):
            yield held


def _check_versions(node: Node) -> None:
    """Raise if an array that the vjp holds was changed in place since the forward pass."""
    changed = [version for version, count in node.versions if version.count != count]
    if not changed:
        return
    held = {id(owner(array)): array for array in _held(node.vjp)}
    for version in changed:
        if version.owner_id in held:
            array = held[version.owner_id]
            raise RuntimeError(
                f"{node.operation.name}: an array of shape {array.shape} that its vjp needs was changed in place "
                f"between forward and backward; change a copy instead, or call backward() before the change"
            )


def wide_sum(x: Array, axis: Any, keepdims: bool = False) -> Array:
    """The sum of floats in their own dtype, added up in float32 where that is float16."""
    if x.dtype.char != "e":
        return x.sum(axis=axis, keepdims=keepdims, dtype=x.dtype)
    return x.sum(axis=axis, keepdims=keepdims, dtype="float32").astype(x.dtype)


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum `gradient` over the axes along which an input of `shape` was broadcast."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    ones = tuple(extra + i for i, n in enumerate(shape) if n == 1 and gradient.shape[extra + i] != 1)
    return wide_sum(gradient, (*range(extra), *ones), keepdims=True).reshape(shape)


def _vjps(node: Node, cotangents: Any) -> Iterable[Array | None]:
    """The gradients of all inputs of `node`, in order; None for those that nobody needs."""
    vjp, needs = node.vjp, tuple([edge is not None for edge in node.edges])
    if isinstance(vjp, tuple):
        if len(vjp) != len(needs):
            raise RuntimeError(f"{node.operation.name} returned {len(vjp)} vjps for {len(needs)} inputs")
        return (f(cotangents) if need and f is not None else None for f, need in zip(vjp, needs, strict=True))
    if len(needs) == 1 and not node.operation.variadic:
        return (vjp(cotangents),)
    return vjp(cotangents, needs)


def backpropagate(
    outputs: Sequence[Tensor], gradients: Sequence[Any], retain_graph: bool = False
) -> list[tuple[Tensor, Array]]:
    """The gradients of sum_k <gradients[k], outputs[k]> with respect to every leaf that requires one.

    Nothing is written to any `.grad`. Returns (tensor, array) pairs, first the leaves, then the tensors that asked
    with `retain_grad`; the arrays belong to the caller. A gradient of None stands for 1 (outputs of one element only).
    `Tensor.backward` says what is raised.
    """
    heap: list[tuple[int, Node]] = []
    pending: dict[Node, list[tuple[Array, bool] | None]] = {}  # node -> for each output: (sum so far, ours alone?)
    leaves: dict[int, tuple[Tensor, Array, bool]] = {}
    retained: list[tuple[Tensor, Array]] = []

    def send(target: Node | Tensor, index: int, gradient: Array, ours: bool) -> None:
        """Add `gradient` to what has arrived at an output of a node, or at a leaf."""
        if isinstance(target, Tensor):
            known = leaves.get(id(target))
            arrived = None if known is None else (known[1], known[2])
            leaves[id(target)] = (target, *_add(arrived, gradient, ours))
            return
        slots = pending.get(target)
        if slots is None:
            slots = pending[target] = [None] * len(target.outputs)
            heapq.heappush(heap, (-target.number, target))
        slots[index] = _add(slots[index], gradient, ours)

    for output, gradient in zip(outputs, gradients, strict=True):
        send(output._node or output, output._index, _cotangent(output, gradient), False)

    while heap:
        node = heapq.heappop(heap)[1]
        slots = pending.pop(node)
        if node.vjp is None:
            raise RuntimeError(
                f"the graph was freed by an earlier backward() (at {node.operation.name}): compute the loss again, "
                f"or keep the graph with backward(retain_graph=True)"
            )
        _check_versions(node)
        for index, reference in (node.retained or {}).items():
            tensor, slot = reference(), slots[index]
            if tensor is not None and slot is not None:
                retained.append((tensor, slot[0].copy()))
        arrived = tuple(
            slot[0] if slot is not None else home.zeros(shape, dtype=dtype)
            for slot, (shape, dtype, home) in zip(slots, node.outputs, strict=True)
        )
        results = list(_vjps(node, arrived if node.several else arrived[0]))
        shared: set[int] | None = None
        for i, (edge, gradient) in enumerate(zip(node.edges, results, strict=True)):
            if edge is None:
                continue
            if gradient is None:
                raise RuntimeError(f"{node.operation.name} has no derivative with respect to input {i}")
            shape, dtype = node.inputs[i]  # type: ignore[misc]
            if not is_array(gradient):
                gradient = node.outputs[0][2].asarray(gradient)  # NumPy's reductions return scalars
            ours = False
            if node.operation.broadcasts and gradient.shape != shape:
                gradient, ours = unbroadcast(gradient, shape), True
            if gradient.shape != shape or gradient.dtype != dtype:
                raise RuntimeError(
                    f"the vjp of {node.operation.name} returned {gradient.shape} {gradient.dtype} "
                    f"for input {i} of {shape} {dtype}"
                )
            if not ours and gradient.base is None:
                if shared is None:  # what somebody else holds, and the owners of the views among the results
                    views = (d for d in results if d is not None and is_array(d) and d.base is not None)
                    shared = {id(owner(array)) for array in (*arrived, *_held(node.vjp), *views)}
                # two inputs may also get the very same array
                ours = id(gradient) not in shared and sum(gradient is d for d in results) <= 1
            send(*edge, gradient, ours)
        if not retain_graph:
            node.free()

    return [*((leaf, array if ours else array.copy()) for leaf, array, ours in leaves.values()), *retained]


def _add(arrived: tuple[Array, bool] | None, gradient: Array, ours: bool) -> tuple[Array, bool]:
    """`arrived` + `gradient`, in place where one of the two is ours alone."""
    if arrived is None:
        return gradient, ours
    total, total_is_ours = arrived
    if total_is_ours:
        total += gradient
        return total, True
    if ours:
        gradient += total
        return gradient, True
    home = xp(total)
    return home.asarray(home.add(total, gradient)), True  # NumPy adds arrays of no axes to a scalar


def _cotangent(output: Tensor, gradient: Any) -> Array:
    if not output.requires_grad:
        raise RuntimeError(
            "backward() of a tensor that does not require a gradient: no input has requires_grad=True, "
            "or it was computed under no_grad() or detached"
        )
    home = xp(output.data)
    if gradient is None:
        if output.size != 1:
            raise ValueError(
                f"backward() of a tensor of shape {output.shape} needs a cotangent: reduce it to a scalar loss "
                f"(.sum(), .mean()), or pass gradient=<array of shape {output.shape}>"
            )
        return home.ones(output.shape, dtype=output.dtype)
    array = gradient.data if isinstance(gradient, Tensor) else from_host(gradient)
    xp(output.data, array)
    if array.shape != output.shape:
        raise ValueError(f"the cotangent has shape {array.shape}, but the tensor has shape {output.shape}")
    return array.astype(output.dtype, copy=False)

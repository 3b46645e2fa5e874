"""The tape: nodes, and the loop that walks back through them.

Every recorded operation is a `Node` with a number, its place on the tape. Consumers have higher numbers than what they
consume, so taking nodes from a heap, highest number first, visits each node once and only when its gradient is
complete: no recursion, no marking, no sort of the whole graph.

Who owns a gradient array? A vjp may return g itself (addition does, twice), a view, or an array that it keeps;
so an array is added to in place only when the engine made it or can see that nobody else holds it, and what ends
up in `.grad` is never shared with anything. Looking takes longer than a small operation, so the engine looks only
where something may be added: at leaves, and at what has several uses.

Nodes point to what they were computed from, never the other way: there is no cycle, and a graph that nobody needs any
more is freed at once.
"""

from __future__ import annotations

import functools
import heapq
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from minilm.backend import Array, is_array, owner, xp
from minilm.tensor.changes import changes, clock
from minilm.tensor.tensor import Tensor, from_host

if TYPE_CHECKING:
    from minilm.tensor.operation import Operation

Sum: TypeAlias = tuple[Array, bool] | None
"""What has arrived at one place: the sum so far, and whether the array is the engine's own; None: nothing yet."""


class Node:
    """One recorded operation: where the cotangents of its inputs go, and the vjp that computes them."""

    __slots__ = ("number", "operation", "edges", "vjp", "outputs", "several", "uses", "retained", "__weakref__")

    def __init__(
        self,
        operation: Operation,
        edges: Sequence[tuple[Node | Tensor, int] | None],
        vjp: Any,
        outputs: Sequence[Array],
        several: bool,
    ) -> None:
        self.number = next(clock)
        self.operation = operation
        self.edges = edges  # for each input: (the node that made it or the leaf itself, which output), or None
        self.vjp = vjp
        self.outputs = [(y.shape, y.dtype) for y in outputs]
        self.several = several  # the output was a tuple, so the cotangent is one
        self.uses = 0  # edges that lead here: where there is only one, nothing is ever added to what arrives
        self.retained: dict[int, Any] | None = None
        for edge in edges:
            if edge is not None and isinstance(edge[0], Node):
                edge[0].uses += 1

    def retain(self, tensor: Tensor) -> None:
        # weakly: a strong reference would be a cycle, node -> tensor -> node
        self.retained = {**(self.retained or {}), tensor._index: weakref.ref(tensor)}

    def free(self) -> None:
        self.vjp = None
        self.edges = ()


# ----- what a vjp holds


def _held(vjp: Any) -> list[Array]:
    """The arrays that a vjp keeps alive: in its closures and defaults, and in the containers and objects in them."""
    arrays: list[Array] = []
    stack, seen = [vjp], set()
    while stack:
        held = stack.pop()
        if isinstance(held, Tensor):
            arrays.append(held.data)
        elif is_array(held):
            arrays.append(held)
        elif id(held) not in seen:
            seen.add(id(held))
            stack.extend(_contents(held))
    return arrays


def _contents(held: Any) -> Iterable[Any]:
    """What is in a container or a function, or in the attributes of an object (but not in its slots)."""
    if isinstance(held, FunctionType):
        inside = [*(held.__defaults__ or ()), *(held.__kwdefaults__ or {}).values()]  # lambda g, y=y: ...
        for cell in held.__closure__ or ():
            try:
                inside.append(cell.cell_contents)
            except ValueError:  # a variable that its function has not assigned
                continue
        return inside
    if isinstance(held, (tuple, list)):
        return held
    if isinstance(held, dict):
        return held.values()
    if isinstance(held, MethodType):
        return (held.__self__, held.__func__)
    if isinstance(held, functools.partial):
        return (held.func, held.args, held.keywords)
    if isinstance(held, (type, ModuleType)):
        return ()
    return getattr(held, "__dict__", {}).values()


def _check_versions(node: Node) -> None:
    """Raise if an array that the vjp holds was changed in place since the forward pass."""
    for array in _held(node.vjp):
        if changes.of(array) > node.number:
            raise RuntimeError(
                f"{node.operation.name}: an array of shape {array.shape} that its vjp needs was changed in place "
                f"between forward and backward; change a copy instead, or call backward() before the change"
            )


def _shared(node: Node, cotangent: Any, results: Iterable[Any]) -> set[int]:
    """The ids of arrays that others hold as well: the results of a vjp that are among them are not the engine's own."""
    cotangents = cotangent if node.several else (cotangent,)
    shared = {id(owner(array)) for array in (*cotangents, *_held(node.vjp))}
    seen: set[int] = set()
    for result in results:
        if is_array(result):
            if result.base is not None or id(result) in seen:  # the owner of a view; what two inputs get
                shared.add(id(owner(result)))
            seen.add(id(result))
    return shared


# ----- sums


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


def _add(arrived: Sum, gradient: Array, ours: bool) -> tuple[Array, bool]:
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


# ----- the way back


def backpropagate(
    outputs: Sequence[Tensor], gradients: Sequence[Any], retain_graph: bool = False
) -> list[tuple[Tensor, Array]]:
    """The gradients of sum_k <gradients[k], outputs[k]> with respect to every leaf that requires one.

    Nothing is written to any `.grad`. Returns (tensor, array) pairs, first the leaves, then the tensors that asked
    with `retain_grad`; the arrays belong to the caller. A gradient of None stands for 1 (outputs of one element only).
    `Tensor.backward` says what is raised.
    """
    heap: list[tuple[int, Node]] = []
    pending: dict[Node | Tensor, list[Sum]] = {}  # what has arrived at each output of a node, and at a leaf
    retained: list[tuple[Tensor, Array]] = []

    def sums_at(target: Node | Tensor) -> list[Sum]:
        """What has arrived at a node or a leaf; the first to ask puts the node on the heap."""
        sums = pending.get(target)
        if sums is None:
            if isinstance(target, Node):
                heapq.heappush(heap, (-target.number, target))
            sums = pending[target] = [None] * len(target.outputs) if isinstance(target, Node) else [None]
        return sums

    for output, gradient in zip(outputs, gradients, strict=True):
        sums, index = sums_at(output._node or output), output._index
        sums[index] = _add(sums[index], _cotangent(output, gradient), False)

    while heap:
        node = heapq.heappop(heap)[1]
        sums = pending.pop(node)
        if node.vjp is None:
            raise RuntimeError(
                f"the graph was freed by an earlier backward() (at {node.operation.name}): compute the loss again, "
                f"or keep the graph with backward(retain_graph=True)"
            )
        if changes.last > node.number:
            _check_versions(node)
        if node.retained:
            retained += _copies(node.retained, sums)
        cotangent = _complete(sums, node)
        results = _vjps(node, cotangent)
        shared: set[int] | None = None
        for i, edge in enumerate(node.edges):
            if edge is None:
                continue
            target, index = edge
            gradient, ours = _fitted(results[i], node, i, cotangent)
            sums = sums_at(target)
            theirs = gradient is cotangent or gradient.base is not None  # handed on, or a view
            if not ours and not theirs and _ownership_matters(target, sums[index]):
                if shared is None:
                    shared = _shared(node, cotangent, results)
                ours = id(gradient) not in shared
            sums[index] = _add(sums[index], gradient, ours)
        if not retain_graph:
            node.free()
        del cotangent, results, gradient  # what is not pending goes before the next vjp runs

    # the nodes are gone, one by one: what is still there are the leaves, each with one sum
    leaves: Any = ((leaf, sums[0]) for leaf, sums in pending.items())
    return [*((leaf, array if ours else array.copy()) for leaf, (array, ours) in leaves), *retained]


def _cotangent(output: Tensor, gradient: Any) -> Array:
    """What the caller of backward gave for an output, or 1."""
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


def _complete(sums: Sequence[Sum], node: Node) -> Any:
    """What the vjp of a node gets: what has arrived at its output, or a tuple with zeros where nothing has."""
    if not node.several:
        return sums[0][0]  # type: ignore[index]
    home = xp(next(arrived[0] for arrived in sums if arrived is not None))
    return tuple(
        home.zeros(shape, dtype=dtype) if arrived is None else arrived[0]
        for arrived, (shape, dtype) in zip(sums, node.outputs, strict=True)
    )


def _vjps(node: Node, cotangent: Any) -> Sequence[Array | None]:
    """The gradients of all inputs of `node`, in order; None for those that nobody needs."""
    vjp, edges = node.vjp, node.edges
    if isinstance(vjp, tuple):  # where no gradient is needed, there is no function
        results = [None if f is None else f(cotangent) for f in vjp]
    elif len(edges) == 1 and not node.operation.variadic:
        results = [vjp(cotangent)]
    else:
        results = vjp(cotangent, tuple([edge is not None for edge in edges]))
    if len(results) != len(edges):
        raise RuntimeError(f"{node.operation.name} returned {len(results)} gradients for {len(edges)} inputs")
    return results


def _fitted(gradient: Any, node: Node, i: int, cotangent: Any) -> tuple[Array, bool]:
    """What the vjp returned for input i in the shape of the input, and whether the array was made here.

    Raises:
        RuntimeError: if it is missing, or is of another shape or dtype.
    """
    target, index = node.edges[i]  # type: ignore[misc]
    shape, dtype = target.outputs[index] if isinstance(target, Node) else (target.data.shape, target.data.dtype)
    ours = False
    if not is_array(gradient):
        if gradient is None:
            raise RuntimeError(f"{node.operation.name} has no derivative with respect to input {i}")
        home = xp(cotangent[0] if node.several else cotangent)
        gradient = home.asarray(gradient)  # NumPy's reductions return scalars
    if gradient.shape != shape and node.operation.broadcasts:
        gradient, ours = unbroadcast(gradient, shape), True
    if gradient.shape != shape or gradient.dtype != dtype:
        raise RuntimeError(
            f"the vjp of {node.operation.name} returned {gradient.shape} {gradient.dtype} "
            f"for input {i} of {shape} {dtype}"
        )
    return gradient, ours


def _ownership_matters(target: Node | Tensor, arrived: Sum) -> bool:
    """Does it make a difference whether the engine owns the array that comes next to `target`?

    Only where more may be added to it, or a leaf will keep it; not where the engine has an array to add to already.
    """
    if arrived is not None and arrived[1]:
        return False
    return isinstance(target, Tensor) or target.uses > 1


def _copies(tensors: Mapping[int, weakref.ref[Tensor]], sums: Sequence[Sum]) -> Iterator[tuple[Tensor, Array]]:
    """For those of a node's outputs that asked with `retain_grad` and are still there: a copy of what has arrived."""
    for index, reference in tensors.items():
        tensor, arrived = reference(), sums[index]
        if tensor is not None and arrived is not None:
            yield tensor, arrived[0].copy()

"""The contract of the engine, one test a line. test_planted_engine_bugs.py shows that each of them can fail."""

import contextlib
import copy
import gc
import threading
import weakref

import numpy as np
import pytest

import minilm.functional as functional
from minilm import Tensor, is_grad_enabled, no_grad
from minilm.backend import Array
from minilm.tensor import OPERATIONS, Operation, enable_grad
from minilm.testing import planted


def leaf(values, dtype="float64"):
    return Tensor(values, requires_grad=True, dtype=dtype)


@contextlib.contextmanager
def operation(body, broadcasts=False):
    """An operation made for one test, and forgotten after it."""
    made = Operation(body, broadcasts=broadcasts)
    try:
        yield made
    finally:
        del OPERATIONS[made.name]


@contextlib.contextmanager
def counted(name, i=0):
    """A list that grows by one for each computation of an operation's i-th gradient."""
    calls = []

    def count(compute, g):
        calls.append(1)
        return compute(g)

    with planted(name, count, i):
        yield calls


@contextlib.contextmanager
def without_the_collector():
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def nodes_of(*tensors):
    """All nodes behind some tensors."""
    found, stack = {}, [t._node for t in tensors if t._node is not None]
    while stack:
        node = stack.pop()
        if id(node) not in found:
            found[id(node)] = node
            stack.extend(edge[0] for edge in node.edges if edge is not None and not isinstance(edge[0], Tensor))
    return list(found.values())


# ----- backward is iterative, and visits each node once


def test_a_chain_of_10_000_operations_works():
    x = leaf([1.0, -2.0])
    y = x
    for _ in range(10_000):
        y = y + 1.0
    y.backward(np.array([3.0, 4.0]))
    assert x.grad.tolist() == [3.0, 4.0]
    del y


@pytest.mark.parametrize("after_backward", [False, True])
def test_a_chain_of_100_000_operations_is_freed(after_backward):
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = -y
    if after_backward:
        y.backward(retain_graph=True)
        assert x.grad.item() == 1.0
    node = weakref.ref(y._node)
    with without_the_collector():
        del y
        assert node() is None


def test_60_chained_residuals_take_linear_time():
    x = leaf([0.5, 0.25])
    y = x
    with counted("tanh") as calls:  # 2**60 paths lead back to x
        for _ in range(60):
            y = y + 0.1 * functional.tanh(y)
        y.sum().backward()
    assert len(calls) == 60


def test_a_node_waits_until_all_of_its_gradient_has_arrived():
    x = leaf(0.5)
    y = x * x
    far = y.exp().log().exp().log() * 3.0  # arrives after many steps
    near = y * 5.0  # arrives at once
    with counted("multiply") as calls:
        (near + far).backward()
    assert len(calls) == 0  # planted after the forward pass: nothing is recorded twice
    assert x.grad.item() == pytest.approx(8.0)


def test_each_vjp_is_called_once_for_a_node_with_many_consumers():
    x = leaf(0.5)
    with counted("exp") as calls:
        y = x.exp()
        consumers = [y * float(k) for k in range(1, 6)]
        deeper = [c.tanh() + y for c in consumers]
        total = consumers[0]
        for t in (*consumers[1:], *deeper):
            total = total + t
        total.backward()
    assert len(calls) == 1


def test_a_gradient_that_nobody_needs_is_not_computed():
    x, constant = leaf([1.0, 2.0]), Tensor(np.array([3.0, 4.0]))
    with counted("multiply", 0) as wanted, counted("multiply", 1) as unwanted:
        (x * constant).sum().backward()
    assert (len(wanted), len(unwanted)) == (1, 0)


def test_a_dead_branch_does_not_stop_the_flow():
    x = leaf([1.0, 2.0, 3.0])
    y = x * 2.0
    dead = y.exp().sum()  # computed, never used
    left, _unused, right = y.split(3)
    (left + right * 10.0).sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 20.0]
    assert dead.item() > 0


# ----- no gradient array is ever shared

SHARING = {
    "the sum of two": lambda x, y: x + y,
    "a tensor and itself": lambda x, y: x + x + y,
    "a difference": lambda x, y: x - y,
    "reshaped": lambda x, y: x.reshape(4) + y.reshape(4),
    "transposed": lambda x, y: x.T + y.T,
    "joined": lambda x, y: functional.concatenate([x, y]),
    "stacked": lambda x, y: functional.stack([x, y, x]),
    "parted and summed": lambda x, y: x.split(2)[0] + y,
    "a view of each": lambda x, y: x[0] + y[1],
    "expanded": lambda x, y: x.expand(3, 2, 2) + y.expand(3, 2, 2),
    "copied": lambda x, y: functional.clone(x) + y.squeeze(),
    "summed": lambda x, y: x.sum(axis=0) + y.mean(axis=1),
    "the leaf itself": lambda x, y: x,
}


@pytest.mark.parametrize("name", SHARING)
def test_no_gradient_array_is_shared_with_another_or_with_the_user(name):
    x, y = leaf([[1.0, 2.0], [3.0, 4.0]]), leaf([[5.0, 6.0], [7.0, 8.0]])
    z = SHARING[name](x, y)
    cotangent = np.arange(1.0, 1.0 + z.size).reshape(z.shape)
    z.backward(cotangent, retain_graph=True)
    grads = [t.grad.data for t in (x, y) if t.grad is not None]
    first = [g.copy() for g in grads]
    others = [cotangent, z.data, x.data, y.data]
    for i, grad in enumerate(grads):
        assert not any(np.shares_memory(grad, other) for other in (*others, *grads[i + 1 :]))
    for i, grad in enumerate(grads):  # what is done to one is not seen in another
        grad[...] = 100.0 + i
    assert cotangent.tolist() == np.arange(1.0, 1.0 + z.size).reshape(z.shape).tolist()
    x.grad = y.grad = None
    z.backward(cotangent)
    again = [t.grad.data for t in (x, y) if t.grad is not None]
    assert [g.tolist() for g in again] == [g.tolist() for g in first]


def test_the_cotangent_is_not_changed_by_what_is_added_to_it():
    x = leaf([1.0, 2.0])
    y = functional.clone(x)
    cotangent = np.array([1.0, 1.0])
    (y + y + y).backward(cotangent)
    assert cotangent.tolist() == [1.0, 1.0]
    assert x.grad.tolist() == [3.0, 3.0]


def two_sums(a: Array, b: Array):
    """y = a + b, with a joint vjp that gives both the same new array."""

    def vjp(g, needs):
        d = g * 1.0
        return d, d

    return a + b, vjp


def a_sum_with_the_transpose(a: Array, b: Array):
    """y = a + bᵀ, with a joint vjp that gives one of them a view of the other's gradient."""

    def vjp(g, needs):
        d = g * 1.0
        return d, d.T

    return a + b.T, vjp


def the_transpose_first(a: Array, b: Array):
    """y = aᵀ + b, the view first."""

    def vjp(g, needs):
        d = g * 1.0
        return d.T, d

    return a.T + b, vjp


def a_kept_gradient(a: Array, b: Array):
    """y = 2 a + 2 b, with a vjp that hands out an array that it keeps."""
    kept = np.full(a.shape, 2.0)
    return 2 * a + 2 * b, (lambda g, kept=kept: kept, lambda g: g * 2.0)


@pytest.mark.parametrize("a_first", [True, False], ids=["a first", "b first"])
@pytest.mark.parametrize("body", [two_sums, a_sum_with_the_transpose, the_transpose_first, a_kept_gradient])
def test_gradients_that_a_vjp_shares_are_kept_apart(body, a_first):
    x, y = leaf([[1.0, 2.0], [3.0, 4.0]]), leaf([[5.0, 6.0], [7.0, 8.0]])
    a, b = functional.clone(x), functional.clone(y)
    later = b * 100.0 + a * 10.0 if a_first else a * 10.0 + b * 100.0  # the last on the tape sends first
    with operation(body) as joint:
        z = joint(a, b)  # the last on the tape: its gradients arrive first
    # each also gets a gradient of its own, added to what z sent: in place, wherever that is allowed
    total = z + later
    for rounds in (1.0, 2.0):
        total.backward(np.ones((2, 2)), retain_graph=True)
        from_z = 2.0 if body is a_kept_gradient else 1.0
        assert x.grad.tolist() == np.full((2, 2), rounds * (from_z + 10.0)).tolist()
        assert y.grad.tolist() == np.full((2, 2), rounds * (from_z + 100.0)).tolist()
    assert not np.shares_memory(x.grad.data, y.grad.data)


def test_a_gradient_set_by_hand_is_copied():
    x = leaf([1.0, 2.0])
    mine = np.array([1.0, 1.0])
    x.grad = mine
    (x * 2.0).sum().backward()
    assert mine.tolist() == [1.0, 1.0] and x.grad.tolist() == [3.0, 3.0]


# ----- accumulation, and the life of a graph


def test_gradients_accumulate_over_rounds():
    x = leaf([1.0, 2.0])
    for rounds in range(1, 4):
        (x * x).sum().backward()
        assert x.grad.tolist() == [2.0 * rounds, 4.0 * rounds]
    x.grad = None
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_gradients_of_several_uses_add_up():
    x = leaf(3.0)
    (x * x + x * 2.0 + x).backward()
    assert x.grad.item() == 2 * 3.0 + 2.0 + 1.0


def test_a_second_backward_raises_and_names_the_way_out():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"freed.*backward\(retain_graph=True\)"):
        y.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_backward_through_a_part_that_is_freed_raises():
    x = leaf([1.0, 2.0])
    shared = x * x
    first, second = shared.sum(), shared.mean()
    first.backward()
    with pytest.raises(RuntimeError, match="freed.*at multiply"):
        second.backward()


def test_retain_graph_allows_another_backward():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]


def test_backward_frees_what_the_graph_held():
    x = leaf([1.0, 2.0])
    hidden = x.exp()
    held = weakref.ref(hidden.data)
    y = (hidden * hidden).sum()
    with without_the_collector():
        del hidden
        assert held() is not None  # the vjps need it
        y.backward()
        assert held() is None  # though y is still there


def test_the_graph_is_freed_without_the_garbage_collector():
    x, w = leaf([[1.0, 2.0]]), leaf([[3.0], [4.0]])
    with without_the_collector():
        hidden = functional.tanh(x @ w)
        hidden.retain_grad()
        y = functional.softmax(hidden + hidden).split(1)[0].sum()
        kept = [weakref.ref(o) for o in (y, hidden, hidden.data, *nodes_of(y))]
        assert len(kept) == 9
        del y, hidden
        assert [ref() for ref in kept if ref() is not None] == []


def test_an_error_in_backward_leaves_every_grad_as_it_was():
    def broken(x: Array):
        """y = x, with a vjp that fails."""

        def dx(g):
            raise FloatingPointError("a broken vjp")

        return x.copy(), dx

    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    x.grad = np.array([7.0, 7.0])
    with operation(broken) as op:
        hidden = op(x) * 2.0
    hidden.retain_grad()
    loss = (hidden + w).sum()  # w and hidden are reached before the vjp that fails
    with pytest.raises(FloatingPointError, match="a broken vjp"):
        loss.backward()
    assert x.grad.tolist() == [7.0, 7.0] and w.grad is None and hidden.grad is None


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda g: g[:1], r"the vjp of returns_wrong returned \(1,\) float64 for input 0 of \(2,\) float64"),
        (lambda g: g.astype("float32"), r"returned \(2,\) float32 for input 0 of \(2,\) float64"),
        (lambda g: None, "returns_wrong has no derivative with respect to input 0"),
    ],
)
def test_a_gradient_of_another_shape_or_dtype_is_refused(wrong, message):
    def returns_wrong(x: Array):
        """y = x."""
        return x.copy(), wrong

    x = leaf([1.0, 2.0])
    with operation(returns_wrong) as op, pytest.raises(RuntimeError, match=message):
        op(x).backward(np.ones(2))
    assert x.grad is None


# ----- what is summed


def test_repeated_indices_add():
    x = leaf([1.0, 2.0, 3.0])
    x[np.array([0, 0, 2, 0])].backward(np.array([1.0, 10.0, 100.0, 1000.0]))
    assert x.grad.tolist() == [1011.0, 0.0, 100.0]
    table = leaf(np.zeros((3, 2)))
    functional.embedding(np.array([[2, 2], [0, 2]]), table).backward(np.arange(8.0).reshape(2, 2, 2))
    assert table.grad.tolist() == [[4.0, 5.0], [0.0, 0.0], [0.0 + 2 + 6, 1.0 + 3 + 7]]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (2, 1), (1, 1), (2, 3), (1, 2, 3), (4, 1, 3)])
def test_broadcasting_is_undone_exactly(shape):
    a, b = leaf(np.zeros(shape)), leaf(np.zeros((4, 2, 3)))
    g = np.arange(24.0).reshape(4, 2, 3)  # small integers: sums are exact
    (a + b).backward(g)
    expected = np.zeros(shape)
    for index in np.ndindex(4, 2, 3):
        own = index[3 - len(shape) :]
        expected[tuple(i if n > 1 else 0 for i, n in zip(own, shape, strict=True))] += g[index]
    assert a.grad.shape == shape
    assert a.grad.tolist() == expected.tolist()
    assert b.grad.tolist() == g.tolist()


# ----- dtypes (tests/functional/test_every_operation.py asks the same of all operations)

SCALARS = [2, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(2), np.array(2.5), np.array(2), [2.0, 3.0]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum"])
def test_a_scalar_does_not_change_the_dtype(name, scalar, dtype):
    op = OPERATIONS[name]
    for fn in (lambda x: op(x, scalar), lambda x: op(scalar, x)):
        x = leaf([1.5, 3.0], dtype)
        y = fn(x)
        y.backward(np.ones(y.shape))
        assert (y.dtype, x.grad.dtype) == (np.dtype(dtype), np.dtype(dtype))


def test_a_tensor_without_axes_keeps_its_dtype():
    x = leaf(2.0, "float32")
    y = (x * 2.0 + np.float64(1.0)).exp().sum() / 3
    y.backward()
    assert (y.dtype, x.grad.dtype) == (np.float32, np.float32)


def test_integers_adapt_to_floats():
    x, n = leaf([1.0, 2.0], "float32"), Tensor(np.array([1, 2]))
    assert (x * n).dtype == np.float32
    assert (x @ n).dtype == np.float32


@pytest.mark.parametrize("other", [Tensor(np.ones((2, 2))), np.ones((2, 2))], ids=["a Tensor", "an array"])
@pytest.mark.parametrize("fn", [lambda a, b: a + b, lambda a, b: a @ b, lambda a, b: functional.linear(a, b)])
def test_two_float_dtypes_are_refused_with_the_fix(fn, other):
    with pytest.raises(TypeError, match=r"float32 and float64 do not mix.*\.astype\('float32'\)"):
        fn(leaf([[1.0, 2.0]], "float32"), other)


def test_a_tensor_of_python_numbers_is_float32():
    assert Tensor([1.0, 2.0]).dtype == np.float32
    assert Tensor(np.array([1.0])).dtype == np.float64


# ----- recording


def test_nothing_is_recorded_under_no_grad():
    x = leaf([1.0, 2.0])
    with no_grad():
        y = x * 2.0
        with enable_grad():
            z = x * 2.0
        assert not is_grad_enabled()
    assert is_grad_enabled()
    assert (y.requires_grad, y.is_leaf, z.requires_grad) == (False, True, True)
    with pytest.raises(RuntimeError, match=r"no_grad\(\)"):
        y.backward(np.ones(2))


def test_no_grad_decorates_and_ends_with_an_error():
    @no_grad()
    def fails(x):
        assert not is_grad_enabled()
        raise KeyError("left by an error")

    with pytest.raises(KeyError):
        fails(leaf(1.0))
    assert is_grad_enabled()


def test_no_grad_holds_for_its_own_thread_alone():
    entered, done = threading.Event(), threading.Event()
    seen = []

    def other():
        with no_grad():
            entered.set()
            done.wait(10)
            seen.append(is_grad_enabled())

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(10)
    assert is_grad_enabled() and (leaf(1.0) * 2.0).requires_grad
    done.set()
    thread.join(10)
    assert seen == [False]


def test_constants_are_not_recorded():
    assert (Tensor([1.0]) * Tensor([2.0])).is_leaf


# ----- changes in place


def changed_by_method(t):
    with no_grad():
        t.mul_(2.0)


def changed_through_detach(t):
    t.detach().add_(1.0)


def changed_through_a_view(t):
    with no_grad():
        t.reshape(-1)[0:1].fill_(9.0)


def changed_by_an_index(t):
    with no_grad():
        t[0] = 9.0


def changed_by_copy(t):
    with no_grad():
        t.copy_(np.zeros(t.shape))


CHANGES = [changed_by_method, changed_through_detach, changed_through_a_view, changed_by_an_index, changed_by_copy]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", [lambda x: x * x, lambda x: x.T @ x, lambda x: x.T * 2.0 * x, lambda x: x.log()])
def test_a_change_of_an_input_that_a_vjp_needs_is_detected(use, change):
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    y = use(x)
    change(x)
    with pytest.raises(RuntimeError, match="changed in place between forward and backward"):
        y.backward(np.ones((2, 2)))
    assert x.grad is None


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", [lambda x: x.exp(), lambda x: functional.softmax(x), lambda x: x.tanh()])
def test_a_change_of_an_output_that_a_vjp_needs_is_detected(use, change):
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    y = use(x)
    z = y + 1.0
    change(y)
    with pytest.raises(RuntimeError, match=r"^(exp|softmax|tanh): an array of shape \(2, 2\)"):
        z.backward(np.ones((2, 2)))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", [lambda x: x + 1.0, lambda x: -x, lambda x: x.sum(), lambda x: x.T, lambda x: x * 3.0])
def test_a_change_of_what_no_vjp_needs_is_not_reported(use, change):
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    y = use(x)
    change(x)
    y.backward(np.ones(y.shape))
    assert x.grad.shape == x.shape


def test_a_change_of_an_index_tensor_is_detected():
    x, index = leaf([1.0, 2.0, 3.0]), Tensor(np.array([0, 1]))
    y = x[index]
    index.fill_(2)
    with pytest.raises(RuntimeError, match="getitem.*changed in place"):
        y.backward(np.ones(2))


def test_a_change_before_the_forward_pass_is_no_matter():
    x = leaf([1.0, 2.0])
    changed_by_method(x)
    (x * x).sum().backward()
    assert x.grad.tolist() == [4.0, 8.0]


def test_a_change_that_would_not_be_recorded_is_refused():
    x = leaf([1.0, 2.0])
    for change in (lambda: x.add_(1.0), lambda: x.zero_(), lambda: x.copy_(0.0), lambda: x.__setitem__(0, 1.0)):
        with pytest.raises(RuntimeError, match=r"would not be recorded: do it under `with no_grad\(\):`"):
            change()
    assert x.tolist() == [1.0, 2.0]


def test_writing_to_data_by_hand_is_the_documented_hole():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    x.data[...] = 5.0
    y.backward()
    assert x.grad.tolist() == [10.0, 10.0]
    assert "by hand is the one change that the engine cannot see" in Tensor.__doc__


# ----- errors

A23, A45 = np.zeros((2, 3), "float32"), np.zeros((4, 5), "float32")


@pytest.mark.parametrize(
    "fn, error, name, fix",
    [
        (lambda a, b: a + b, ValueError, "add", "reshape, transpose or expand"),
        (lambda a, b: a @ b, ValueError, "matmul", "transpose one of them"),
        (lambda a, b: functional.linear(a, b), ValueError, "linear", "last axes must be equal"),
        (lambda a, b: functional.where(b > 0, a, 0.0), ValueError, "where", "reshape, transpose or expand"),
        (lambda a, b: functional.layer_norm(a, 5, b), ValueError, "layer_norm", "last axes of x"),
        (lambda a, b: functional.concatenate([a, b]), ValueError, "concatenate", "must match exactly"),
        (lambda a, b: functional.einsum("ij,jk->ik", a, b), ValueError, "einsum", ""),
    ],
)
def test_an_error_names_the_operation_the_shapes_and_the_fix(fn, error, name, fix):
    with pytest.raises(error) as caught:
        fn(leaf(A23, "float32"), leaf(A45, "float32"))
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "(2, 3)" in message and "(4, 5)" in message and fix in message


def test_a_backward_that_lacks_its_cotangent_says_how_to_get_a_scalar():
    with pytest.raises(ValueError, match=r"shape \(2,\) needs a cotangent: reduce it .*gradient=<array of shape"):
        (leaf([1.0, 2.0]) * 2.0).backward()
    with pytest.raises(ValueError, match=r"the cotangent has shape \(3,\), but the tensor has shape \(2,\)"):
        (leaf([1.0, 2.0]) * 2.0).backward(np.ones(3))


def test_a_gradient_of_integers_is_refused():
    with pytest.raises(TypeError, match="only floating-point tensors can require a gradient, not int64"):
        Tensor([1, 2], requires_grad=True)
    with pytest.raises(TypeError, match="numbers or booleans"):
        Tensor(["a"])


# ----- Tensor


def test_retain_grad_keeps_the_gradient_of_a_result():
    x = leaf(2.0)
    y = x * 3.0
    y.retain_grad()
    for rounds in (1.0, 2.0):
        (y * y).backward(retain_graph=True)
        assert y.grad.item() == 12.0 * rounds
        assert isinstance(y.grad.data, np.ndarray)
        assert x.grad.item() == 36.0 * rounds
    assert not np.shares_memory(y.grad.data, x.grad.data)
    with pytest.raises(RuntimeError, match="no gradient flows"):
        Tensor(1.0).retain_grad()


def test_retain_grad_of_one_of_several_outputs():
    x = leaf([1.0, 2.0])
    a, b = x.split(2)
    b.retain_grad()
    (a * 2.0 + b * 3.0).sum().backward()
    assert b.grad.tolist() == [3.0] and a.grad is None


def test_a_deep_copy_is_a_leaf_of_its_own():
    x = leaf([1.0, 2.0])
    x.grad = np.array([5.0, 5.0])
    y = copy.deepcopy(x)
    assert y.requires_grad and y.tolist() == [1.0, 2.0] and y.grad.tolist() == [5.0, 5.0]
    assert not np.shares_memory(x.data, y.data) and not np.shares_memory(x.grad.data, y.grad.data)
    with no_grad():
        y.fill_(0.0)
    assert x.tolist() == [1.0, 2.0]
    pair = copy.deepcopy([x, x])
    assert pair[0] is pair[1]
    with pytest.raises(RuntimeError, match=r"detach\(\)"):
        copy.deepcopy(x * 2.0)


def test_numpy_gives_a_view_that_cannot_be_written_to():
    x = leaf([1.0, 2.0])
    view = x.numpy()
    assert np.shares_memory(view, x.data)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 5.0
    assert x.data.flags.writeable
    assert np.asarray(x).tolist() == [1.0, 2.0]


def test_a_tensor_copies_what_it_is_made_of():
    array = np.array([1.0, 2.0])
    x = Tensor(array)
    array[0] = 9.0
    assert x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "fn, expected, grad",
    [
        (lambda a, x: a + x, [11.0, 22.0], [1.0, 1.0]),
        (lambda a, x: a - x, [9.0, 18.0], [-1.0, -1.0]),
        (lambda a, x: a * x, [10.0, 40.0], [10.0, 20.0]),
        (lambda a, x: a / x, [10.0, 10.0], [-10.0, -5.0]),
        (lambda a, x: a @ x, 50.0, [10.0, 20.0]),
        (lambda a, x: np.float64(3.0) * x, [3.0, 6.0], [3.0, 3.0]),
        (lambda a, x: 2 - x, [1.0, 0.0], [-1.0, -1.0]),
        (lambda a, x: 6 / x, [6.0, 3.0], [-6.0, -1.5]),
    ],
)
def test_a_numpy_array_on_the_left_of_an_operator_gives_a_tensor(fn, expected, grad):
    x = leaf([1.0, 2.0])
    y = fn(np.array([10.0, 20.0]), x)
    assert isinstance(y, Tensor) and y.tolist() == expected
    y.backward(np.ones(y.shape))
    assert x.grad.tolist() == grad


def test_operators_and_functions_agree():
    a, b = Tensor(np.array([1.0, 2.0])), Tensor(np.array([3.0, 2.0]))
    assert (a**b).tolist() == functional.power(a, b).tolist() == [1.0, 4.0]
    assert (2.0**b).tolist() == [8.0, 4.0]
    assert (-a).tolist() == [-1.0, -2.0] and abs(-a).tolist() == [1.0, 2.0]
    assert (a < b).tolist() == [True, False] and (a == b).tolist() == [False, True]
    assert (a >= b).tolist() == [False, True] and (1.0 < b).tolist() == [True, True]
    assert len({a, b, a}) == 2  # a Tensor is hashed by identity


def test_a_tensor_of_one_element_is_a_number():
    x = Tensor(np.array([2.5]))
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    for ask in (Tensor([1.0, 2.0]).item, lambda: bool(Tensor([1.0, 2.0])), lambda: len(Tensor(1.0))):
        with pytest.raises((ValueError, TypeError)):
            ask()


def test_the_representation_shows_the_origin():
    x = leaf([1.0, 2.0], "float32")
    assert repr(x) == "Tensor([1., 2.], shape=(2,), float32, requires_grad=True)"
    assert "made by multiply" in repr(x * 2.0)


def test_an_operation_may_return_one_array_here_and_several_there():
    """Each node remembers what its own call returned: activation checkpointing wraps functions of both kinds."""
    x = leaf([1.0, 2.0])
    one = functional.checkpoint(lambda x: x * 2.0, x)
    first, _second = functional.checkpoint(lambda x: (x * 3.0, x * 5.0), x)
    another = functional.checkpoint(lambda x: x * 7.0, x)
    (one + first + another).sum().backward()
    assert x.grad.tolist() == [12.0, 12.0]

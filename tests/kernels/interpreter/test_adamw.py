"""AdamW in one launch takes the steps of the NumPy rule, whatever the parameters are like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minilm
from minilm import Tensor, backend
from minilm.functional import multiply
from minilm.kernels.adamw import triton as kernel
from minilm.kernels.adamw.triton import adamw
from minilm.kernels.host import counting
from minilm.optim import SGD, Adam, AdamW
from minilm.random import Generator
from tests.kernels.guards import guarded


@pytest.fixture(autouse=True)
def launches(monkeypatch):
    """A backend of NumPy arrays whose one kernel is AdamW's, and the launches that it makes."""
    table = {"adamw": "minilm.kernels.adamw.triton:adamw"}
    monkeypatch.setitem(backend.BACKENDS, "probe", replace(backend.BACKENDS["numpy"], name="probe", kernels=table))
    monkeypatch.setattr(backend, "why_not", lambda name: None)
    made = []
    plain = kernel.launch
    monkeypatch.setattr(kernel, "launch", lambda *args, **meta: made.append(args[1]) or plain(*args, **meta))
    return made


def problem(shapes, dtypes, steps, seed=3):
    generator = Generator(seed)
    starts = [generator.normal(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    return starts, [[generator.normal(start.shape, dtype=start.dtype.name) for start in starts] for _ in range(steps)]


def train(name, make, starts, gradients, parameters=None):
    """The parameters after one step for each list of gradients (None: that one has none), and the optimizer."""
    if parameters is None:
        parameters = [Tensor(guarded(start), requires_grad=True) for start in starts]
    optimizer = make(parameters)
    with minilm.use_backend(name):
        go_on(optimizer, parameters, gradients)
    return [parameter.data for parameter in parameters], optimizer


def go_on(optimizer, parameters, gradients):
    for arrays in gradients:
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.grad = array
        optimizer.step()


def assert_same_step(ours, theirs, starts):
    """Equal up to the rounding of a few operations on numbers of the size of the parameter."""
    for one, other, start in zip(ours, theirs, starts, strict=True):
        assert one.dtype == other.dtype == start.dtype
        size = np.maximum(1, np.abs(np.asarray(start, "float64")))
        distance = np.abs(one.astype("float64") - other.astype("float64")) / size
        assert (distance <= 4 * float(np.finfo(start.dtype).eps)).all()


MAKERS = {
    "adam": lambda params: Adam(params, lr=0.1),
    "adamw": lambda params: AdamW(params, lr=0.1, weight_decay=0.1),
    "all decay": lambda params: AdamW(params, lr=0.1, weight_decay=0.5, eps=0.1, decay_filter=lambda name, p: True),
    "groups": lambda params: AdamW(
        [{"params": params[:1], "lr": 0.3, "betas": (0.5, 0.9)}, {"params": params[1:], "eps": 1e-3}][: len(params)],
        weight_decay=0.2,
    ),
}
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=8)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([(9, 15), (3,), (8, 8), (1,)], ["float32"] * 4, "adamw", [0])
@example([(9, 15), (3,), (8, 8), (1,)], ["float16", "float32", "float64", "float32"], "groups", [])
@given(
    shapes=st.lists(shapes, min_size=1, max_size=5),
    dtypes=st.lists(st.sampled_from(["float32", "float64", "float16"]), min_size=5, max_size=5),
    maker=st.sampled_from(sorted(MAKERS)),
    late=st.lists(st.integers(0, 4), max_size=2),
)
def test_equals_the_numpy_rule(shapes, dtypes, maker, late):
    """Some parameters get their first gradient late, so they are of another age."""
    starts, gradients = problem(shapes, dtypes[: len(shapes)], steps=3)
    gradients[0] = [None if slot in late else g for slot, g in enumerate(gradients[0])]
    ours, _ = train("probe", MAKERS[maker], starts, gradients)
    theirs, _ = train("numpy", MAKERS[maker], starts, gradients)
    assert_same_step(ours, theirs, starts)


def test_the_moments_are_those_of_the_numpy_rule():
    starts, gradients = problem([(9, 15), (3,)], ["float32"] * 2, steps=4)
    tensors = [train(name, MAKERS["adamw"], starts, gradients)[1].state_dict() for name in ("probe", "numpy")]
    assert tensors[0]["steps"] == tensors[1]["steps"]
    for name, array in tensors[1]["tensors"].items():
        np.testing.assert_allclose(tensors[0]["tensors"][name], array, rtol=1e-5, atol=1e-9)


def test_a_step_is_one_launch(launches):
    starts, gradients = problem([(9, 15), (3,), (65,), ()], ["float32"] * 4, steps=2)
    train("probe", MAKERS["groups"], starts, gradients)
    assert launches == [3 + 1 + 2 + 1] * 2  # blocks of 64
    launches.clear()
    train("numpy", MAKERS["groups"], starts, gradients)
    assert launches == []


def test_each_dtype_takes_a_launch(launches):
    starts, gradients = problem([(5,), (6,)], ["float32", "float16"], steps=1)
    train("probe", MAKERS["adam"], starts, gradients)
    assert len(launches) == 2


def test_no_gradient_no_launch_and_sgd_has_no_kernel(launches):
    starts, gradients = problem([(5,)], ["float32"], steps=1)
    train("probe", MAKERS["adam"], starts, [[None]])
    train("probe", lambda params: SGD(params, lr=0.1), starts, gradients)
    assert launches == []


def test_what_is_known_of_the_row_is_prepared_once(monkeypatch):
    calls = []
    monkeypatch.setattr(kernel, "adamw", lambda *args: calls.append(args) or adamw(*args))
    starts, gradients = problem([(9, 15), (3,)], ["float32"] * 2, steps=4)
    train("probe", MAKERS["adamw"], starts, gradients)
    assert len(calls) == 1


def test_gradients_and_parameters_may_move_between_steps():
    starts, gradients = problem([(4, 3), (5,)], ["float32"] * 2, steps=4)
    theirs, _ = train("numpy", MAKERS["adamw"], starts, gradients)
    parameters = [Tensor(start.copy(), requires_grad=True) for start in starts]
    optimizer = MAKERS["adamw"](parameters)
    held = []
    with minilm.use_backend("probe"):
        for arrays in gradients:
            go_on(optimizer, parameters, [arrays])
            held += [parameter.grad for parameter in parameters]  # their memory is not given out again
            for parameter in parameters:
                held.append(parameter.data)
                parameter.data = parameter.data.copy()
    assert_same_step([parameter.data for parameter in parameters], theirs, starts)


def test_the_memory_layout_does_not_matter():
    starts, gradients = problem([(9, 15)], ["float32"], steps=2)
    plain, _ = train("probe", MAKERS["adamw"], starts, gradients)
    for layout in (np.asfortranarray(starts[0]), np.repeat(starts[0], 2, axis=1)[:, ::2]):
        parameter = Tensor.wrap(layout)
        parameter.requires_grad = True
        train("probe", MAKERS["adamw"], starts, [[np.asfortranarray(g[0])] for g in gradients], [parameter])
        assert parameter.data is layout
        np.testing.assert_array_equal(layout, plain[0])


def test_a_gradient_in_another_order_is_read_in_the_order_of_its_parameter():
    """The backward of a transposed weight leaves such gradients."""
    generator = Generator(1)
    start, g = generator.normal((9, 15)), generator.normal((9, 15))
    results = []
    for gradient in (g, np.asfortranarray(g)):
        value, m, v = start.copy(), np.zeros(135, "float32"), np.zeros(135, "float32")
        adamw([0], [135], m, v)([value], [gradient], [(1, 0.1, (0.9, 0.99), 1e-8, 0.0)])
        results.append(value)
    np.testing.assert_array_equal(*results)


def test_the_switch_may_be_turned_between_steps():
    starts, gradients = problem([(9, 15), (3,)], ["float32"] * 2, steps=6)
    theirs, _ = train("numpy", MAKERS["adamw"], starts, gradients)
    parameters = [Tensor(start.copy(), requires_grad=True) for start in starts]
    optimizer = MAKERS["adamw"](parameters)
    for name, part in (("numpy", gradients[:2]), ("probe", gradients[2:4]), ("numpy", gradients[4:])):
        with minilm.use_backend(name):
            go_on(optimizer, parameters, part)
    assert_same_step([parameter.data for parameter in parameters], theirs, starts)


def test_a_resumed_run_takes_the_same_steps_bit_for_bit():
    starts, gradients = problem([(9, 15), (3,), ()], ["float32"] * 3, steps=6)
    without, _ = train("probe", MAKERS["groups"], starts, gradients)
    first, optimizer = train("probe", MAKERS["groups"], starts, gradients[:3])
    state = optimizer.state_dict()
    parameters = [Tensor(array.copy(), requires_grad=True) for array in first]
    resumed = MAKERS["groups"](parameters)
    resumed.load_state_dict(state)
    with minilm.use_backend("probe"):
        go_on(resumed, parameters, gradients[3:])
    for one, other in zip(parameters, without, strict=True):
        np.testing.assert_array_equal(one.data, other)


def test_float16_parameters_keep_their_state_in_float32():
    """Squares of gradients of 1e-4 are 0 in float16; Adam's first step has the length lr all the same."""
    start, gradient = np.ones((2, 3), "float16"), np.full((2, 3), 1e-4, "float16")
    (result,), optimizer = train("probe", lambda params: Adam(params, lr=0.01), [start], [[gradient]])
    np.testing.assert_array_equal(result, (start - np.float16(0.01)).astype("float16"))
    assert {array.dtype for array in optimizer.state_dict()["tensors"].values()} == {np.dtype("float32")}


def test_a_backward_through_a_graph_from_before_the_step_is_refused():
    x, weight, resting = (Tensor(np.ones(3), requires_grad=True) for _ in range(3))
    y, z = multiply(x, weight), multiply(x, resting)
    weight.grad = np.ones(3)
    with minilm.use_backend("probe"):
        AdamW([weight, resting]).step()
    assert (resting.data == 1).all()
    z.backward(np.ones(3))
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(np.ones(3))


def test_only_the_elements_of_each_parameter_are_touched_and_each_once():
    """Guard bands around every array; 16 bytes read and 12 written for each element, and the tables."""
    sizes, starts = [100, 3, 64], [0, 100, 103]
    generator = Generator(0)
    values, gradients = ([guarded(generator.normal((n,))) for n in sizes] for _ in range(2))
    m, v = guarded(np.zeros(167, "float32")), guarded(np.zeros(167, "float32"))
    update = adamw(starts, sizes, m, v)
    with counting() as counts:
        update(values, gradients, [(1, 0.1, (0.9, 0.99), 1e-8, 0.0)] * 3)
    tables = 3 * (8 + 8 + 8 + 8 + 7 * 4) + 4 * (4 + 8)  # a row for each slot, a row for each block
    assert counts.written == counts.stored == 12 * sum(sizes)
    assert counts.read == 16 * sum(sizes) + tables
    for start, n, g in zip(starts, sizes, gradients, strict=True):
        np.testing.assert_allclose(m[start : start + n], 0.1 * g, rtol=1e-6)
        np.testing.assert_allclose(v[start : start + n], 0.01 * g * g, rtol=1e-5)
    assert m.all()  # no gap between the slots


def test_a_parameter_without_a_gradient_is_not_even_read():
    value, m, v = guarded(np.full(100, np.nan, "float32")), guarded(np.zeros(100)), guarded(np.zeros(100))
    with counting() as counts:
        adamw([0], [100], m, v)([value], [None], [None])
    assert counts.stored == 0 and np.isnan(value).all() and not m.any()

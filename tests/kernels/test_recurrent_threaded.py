"""The threaded LSTM, GRU and RNN equal the textbook bodies, however the rows and the matrices are cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional  # noqa: F401 - registers the operations
from minilm.backend import kernel_for
from minilm.kernels import threads
from minilm.kernels.gru.threaded import gru
from minilm.kernels.lstm_cell.threaded import lstm
from minilm.kernels.rnn import sequence
from minilm.kernels.rnn.threaded import rnn
from minilm.tensor import OPERATIONS

KERNELS = {"lstm": (lstm, 4, 2), "gru": (gru, 3, 1), "rnn": (rnn, 1, 1)}  # function, gates, states
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
every_operation = pytest.mark.parametrize("name", KERNELS)


@pytest.fixture(autouse=True, params=[(1, 2), (2, 32), (3, 2)], ids="threads {0[0]}, rows {0[1]}".format)
def small_pieces(request, monkeypatch):
    """Even the smallest arrays are cut, over 1, 2 and 3 threads, and a thread may have several pieces."""
    monkeypatch.setattr(threads, "LEAST", 1)
    monkeypatch.setattr(sequence, "ROWS", request.param[1])
    before = threads.set_thread_count(request.param[0])
    yield
    threads.set_thread_count(before)


def numbers(*shape, seed=0, dtype="float64"):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def inputs_of(name, B, T, C, H, biases=(True, True), dtype="float64"):
    """x, the states, the weights and the biases, or None."""
    _, gates, states = KERNELS[name]
    shapes = [(B, T, C), *[(B, H)] * states, (gates * H, C), (gates * H, H)]
    arrays = [numbers(*shape, seed=k, dtype=dtype) for k, shape in enumerate(shapes)]
    arrays[-2] *= 1 / max(C, 1) ** 0.5
    arrays[-1] *= 1 / max(H, 1) ** 0.5
    return arrays + [numbers(gates * H, seed=7 + k, dtype=dtype) if b else None for k, b in enumerate(biases)]


def cotangents_of(outputs):
    return tuple(numbers(*y.shape, seed=20 + k, dtype=y.dtype) for k, y in enumerate(outputs))


def both(name, arrays, g=None, needs=None, **options):
    """((outputs, gradients) of the kernel, the same of the textbook body)."""
    results = []
    for function in (KERNELS[name][0], OPERATIONS[name].body):
        outputs, vjp = function(*arrays, **options)
        results.append((outputs, vjp(g or cotangents_of(outputs), needs or (True,) * len(arrays))))
    return results


def assert_equal(ours, textbook, dtype="float64"):
    for y, expected in zip((*ours[0], *ours[1]), (*textbook[0], *textbook[1]), strict=True):
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(y, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)
        assert y.dtype == dtype


sizes = st.tuples(st.integers(0, 9), st.integers(1, 7), st.integers(0, 20), st.integers(1, 70))


@every_operation
@given(
    sizes=sizes,
    biases=st.tuples(st.booleans(), st.booleans()),
    reverse=st.booleans(),
    nonlinearity=st.sampled_from(["tanh", "relu"]),
    dtype=st.sampled_from(sorted(TOLERANCE)),
)
def test_value_and_gradients_equal_the_textbook(name, sizes, biases, reverse, nonlinearity, dtype):
    options = {"nonlinearity": nonlinearity} if name == "rnn" else {}
    arrays = inputs_of(name, *sizes, biases, dtype)
    assert_equal(*both(name, arrays, reverse=reverse, **options), dtype)


@every_operation
@pytest.mark.parametrize("B, T, C, H", [(0, 2, 3, 4), (3, 5, 0, 4), (3, 5, 4, 0), (0, 1, 0, 0)])
def test_lengths_of_zero(name, B, T, C, H):
    assert_equal(*both(name, inputs_of(name, B, T, C, H)))


@every_operation
@pytest.mark.parametrize("most", [1, 4 * 33 * 16, 4 * 33 * 32, 10**6])
def test_no_width_of_the_panels_changes_the_numbers(monkeypatch, name, most):
    """At most 1 multiplication: no panels; then of 16, of 32 and of 64 columns, the last of them not full."""
    monkeypatch.setattr(sequence, "MOST", most)
    assert_equal(*both(name, inputs_of(name, 4, 6, 33, 33)))
    assert_equal(*both(name, inputs_of(name, 4, 6, 20, 90)))


def test_panels_hold_the_matrices_and_zeros(monkeypatch):
    monkeypatch.setattr(threads, "LEAST", 1 << 19)
    for N, w in ((64, 64), (100, 64), (90, 32), (33, 16), (256, 64), (10, 16)):
        for matrices in (numbers(2, 5, N), numbers(2, N, 5).swapaxes(1, 2)):
            panels, tasks = sequence.panels(matrices, T=4, rows=3)
            for task in tasks:
                task()
            assert panels.shape == (2, -(-N // w), 5, w)
            side_by_side = panels.swapaxes(1, 2).reshape(2, 5, -1)
            np.testing.assert_array_equal(side_by_side[:, :, :N], matrices)
            assert not side_by_side[:, :, N:].any()


def test_few_steps_and_single_rows_take_the_matrices_as_they_are():
    matrices = numbers(2, 5, 64)
    for T, rows in ((3, 8), (50, 1)):
        panels, tasks = sequence.panels(matrices, T, rows)
        assert np.shares_memory(panels, matrices) and tasks == []


@given(B=st.integers(0, 300), work=st.sampled_from([0, 1, 100]))
def test_every_row_is_in_one_piece_and_no_piece_is_too_long(B, work):
    cut = sequence.row_pieces(B, work)
    assert [row for at in cut for row in range(at.start, at.stop)] == list(range(B))
    assert all(0 < at.stop - at.start <= sequence.ROWS for at in cut)
    if B >= threads.thread_count() and work:
        assert len(cut) >= threads.thread_count()


def strided(array):
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan)
    wide[..., ::2] = array
    return wide[..., ::2]


@every_operation
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "layout",
    [np.asfortranarray, strided, lambda a: a[::-1, ..., ::-1], lambda a: a.swapaxes(0, 1).copy().swapaxes(0, 1)],
)
def test_any_layout_of_inputs_and_cotangents(name, reverse, layout):
    arrays = [layout(a) if a.ndim > 1 else a[::-1] for a in inputs_of(name, 5, 6, 7, 8)]
    outputs, _ = OPERATIONS[name].body(*arrays)
    g = tuple(layout(part) for part in cotangents_of(outputs))
    assert_equal(*both(name, arrays, g, reverse=reverse))


@every_operation
def test_cotangents_that_are_broadcast(name):
    """As those of y.sum(): one number for all, read only."""
    arrays = inputs_of(name, 5, 6, 7, 8)
    outputs, _ = OPERATIONS[name].body(*arrays)
    assert_equal(*both(name, arrays, tuple(np.broadcast_to(np.float64(0.5), y.shape) for y in outputs)))


@every_operation
def test_the_vjp_runs_twice_and_changes_neither_its_cotangents_nor_the_inputs(name):
    arrays = inputs_of(name, 5, 6, 7, 8)
    before = [a.copy() for a in arrays]
    outputs, vjp = KERNELS[name][0](*arrays)
    g = cotangents_of(outputs)
    first, second = vjp(g, (True,) * len(arrays)), vjp(g, (True,) * len(arrays))
    for a, b in zip(first, second, strict=True):
        assert (a == b).all() and not np.shares_memory(a, b)
    for a, b in zip((*arrays, *g), (*before, *cotangents_of(outputs)), strict=True):
        np.testing.assert_array_equal(a, b)


@every_operation
def test_gradients_and_final_states_have_memory_of_their_own(name):
    """Whoever owns a gradient may add to it in place, and a final state is the start of the next batch."""
    arrays = inputs_of(name, 5, 6, 7, 8)
    outputs, vjp = KERNELS[name][0](*arrays)
    g = cotangents_of(outputs)
    gradients = vjp(g, (True,) * len(arrays))
    for k, gradient in enumerate(gradients):
        assert not any(np.shares_memory(gradient, other) for other in (*gradients[:k], *arrays, *g))
    for state in outputs[1:]:
        state[...] = np.nan
    assert all((a == b).all() for a, b in zip(gradients, vjp(g, (True,) * len(arrays)), strict=True))


@every_operation
@given(data=st.data())
def test_only_what_is_needed_comes_out(name, data):
    arrays = inputs_of(name, 3, 5, 4, 6)
    needs = data.draw(st.tuples(*[st.booleans()] * len(arrays)))
    _, every = both(name, arrays)[1]
    _, some = both(name, arrays, needs=needs)[0]
    for gradient, expected, need in zip(some, every, needs, strict=True):
        assert (gradient is not None) == need
        if need:
            np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-12)


@every_operation
def test_the_same_threads_give_the_same_bits(name):
    arrays = inputs_of(name, 9, 8, 20, 40, dtype="float32")
    first, second = both(name, arrays)[0], both(name, arrays)[0]
    for a, b in zip((*first[0], *first[1]), (*second[0], *second[1]), strict=True):
        np.testing.assert_array_equal(a, b)


@every_operation
def test_saturated_gates_stay_finite(name):
    arrays = inputs_of(name, 4, 5, 6, 7, dtype="float32")
    arrays[0] *= 1e4
    ours, textbook = both(name, arrays)
    assert_equal(ours, textbook, "float32")
    assert all(np.isfinite(y).all() for y in ours[0])


@every_operation
def test_errors_are_those_of_the_textbook(name):
    _, gates, states = KERNELS[name]
    good = inputs_of(name, 3, 5, 4, 6)
    wrong = [(0, (3, 5)), (0, (3, 0, 4)), (0, (2, 5, 4)), (1, (3, 7)), (1 + states, (gates * 6, 5))]
    wrong += [(2 + states, (gates * 6 + 1, 6)), (2 + states, (gates * 6,)), (3 + states, (7,)), (4 + states, (1,))]
    for index, shape in wrong:
        arrays = [*good]
        arrays[index] = numbers(*shape)
        messages = []
        for function in (KERNELS[name][0], OPERATIONS[name].body):
            with pytest.raises(ValueError) as caught:
                function(*arrays)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_an_unknown_nonlinearity_is_refused():
    with pytest.raises(ValueError, match="nonlinearity is 'tanh' or 'relu', not 'gelu'"):
        rnn(*inputs_of("rnn", 3, 5, 4, 6), nonlinearity="gelu")


@every_operation
def test_the_library_uses_it(name):
    assert kernel_for(name, np.zeros(1, dtype="float32")) is KERNELS[name][0]
    assert kernel_for(name, np.zeros(1, dtype="float16")) is None

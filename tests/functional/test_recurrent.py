"""The recurrent operations against composed twins, NumPy loops and finite differences; states, memory, errors."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm.functional as F
from minilm import Tensor, no_grad
from minilm.functional.gru import gru
from minilm.functional.lstm import lstm
from minilm.functional.rnn import rnn, step_product
from minilm.testing import dual_test, gradcheck
from tests.functional import twins

OPERATIONS = {"rnn": (rnn, 1, 1), "gru": (gru, 3, 1), "lstm": (lstm, 4, 2)}  # operation, gates, states
every_operation = pytest.mark.parametrize("name", OPERATIONS)


# ----- the textbook, made of elementary Tensor operations


def parts(a, gates):
    """The gates' parts of the last axis, or of a vector."""
    return a.split(gates, axis=-1)


def rnn_twin(x, h, weight_ih, weight_hh, bias_ih, bias_hh, nonlinearity):
    z = x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh
    return (z.tanh() if nonlinearity == "tanh" else z.relu(),)


def gru_twin(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    x_r, x_z, x_n = parts(x @ weight_ih.T + bias_ih, 3)
    h_r, h_z, h_n = parts(h @ weight_hh.T + bias_hh, 3)
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    n = (x_n + r * h_n).tanh()
    return ((1 - z) * n + z * h,)


def lstm_twin(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    i, f, g, o = parts(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh, 4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


TWINS = {"rnn": rnn_twin, "gru": gru_twin, "lstm": lstm_twin}


def sequence(step, x, states, *parameters, reverse=False):
    """Any of the steps above over x (B, T, C): (output, the last states)."""
    outputs = {}
    for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        states = step(x[:, t], *states, *parameters)
        outputs[t] = states[0]
    return (F.stack([outputs[t] for t in sorted(outputs)], axis=1), *states)


def joined(outputs):
    """All outputs in one vector, so that one cotangent reaches all of them."""
    return F.concatenate([y.reshape(-1) for y in outputs])


def shapes_of(name, B=2, T=3, C=3, H=2):
    """The shapes of x, the states, the weights and the biases."""
    _, gates, states = OPERATIONS[name]
    return [(B, T, C), *[(B, H)] * states, (gates * H, C), (gates * H, H), (gates * H,), (gates * H,)]


def inputs_of(name, dtype="float64", seed=0, **sizes):
    """Leaves of these shapes."""
    shapes = shapes_of(name, **sizes)
    return [twins.Drawn(twins.normals(s, seed + k)).tensor(dtype) for k, s in enumerate(shapes)]


def gradients(outputs, inputs, seed=5):
    """The gradients of the inputs, for a random cotangent of all the outputs."""
    for x in inputs:
        x.grad = None
    y = joined(outputs)
    y.backward(twins.normals(y.shape, seed).astype(y.dtype))
    return [x.grad.numpy() for x in inputs]


@every_operation
@given(
    sizes=st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    with_biases=st.tuples(st.booleans(), st.booleans()),
    reverse=st.booleans(),
    nonlinearity=st.sampled_from(["tanh", "relu"]),
    data=st.data(),
)
def test_value_and_gradients_equal_the_composed_twin(name, sizes, with_biases, reverse, nonlinearity, data):
    operation, _, states = OPERATIONS[name]
    shapes = shapes_of(name, *sizes)
    bias_shape, present = shapes[-1], sum(with_biases)
    drawn = [data.draw(twins.drawn(s)) for s in shapes[:-2] + [bias_shape] * present]
    options = {"nonlinearity": nonlinearity} if name == "rnn" else {}

    def with_both(tensors, absent):
        biases = list(tensors[-present:]) if present else []
        weights = tensors[: len(tensors) - present]
        return (*weights, *(biases.pop(0) if there else absent for there in with_biases))

    def fused(*tensors):
        return joined(operation(*with_both(tensors, None), reverse=reverse, **options))

    def twin(*tensors):
        x, *rest = with_both(tensors, np.zeros(bias_shape))

        def step(*args):
            return TWINS[name](*args, **options)

        return joined(sequence(step, x, rest[:states], *rest[states:], reverse=reverse))

    twins.assert_equals_twin(fused, twin, *drawn, few=4096)


@every_operation
@pytest.mark.parametrize("reverse", [False, True])
def test_every_gradient_equals_the_finite_difference(name, reverse):
    inputs = inputs_of(name, T=4)

    def call(*tensors):
        return OPERATIONS[name][0](*tensors, reverse=reverse)

    assert gradcheck(call, inputs)
    assert dual_test(call, inputs)


# ----- PyTorch's published equations as loops over single numbers, in NumPy


def logistic(a):
    return 1 / (1 + np.exp(-a))


def by_hand(name, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """One sequence (T, C) from torch.nn.RNN's, GRU's and LSTM's documentation, unit by unit."""
    H = len(h)
    outputs = []

    def linear(weight, bias, vector, gate, unit):
        row = gate * H + unit
        return sum(weight[row, k] * vector[k] for k in range(len(vector))) + bias[row]

    for x_t in x:
        new_h, new_c = np.zeros(H), np.zeros(H)
        for u in range(H):
            gates = range(len(bias_ih) // H)
            wx = [linear(weight_ih, bias_ih, x_t, k, u) for k in gates]
            wh = [linear(weight_hh, bias_hh, h, k, u) for k in gates]
            if name == "rnn":
                new_h[u] = np.tanh(wx[0] + wh[0])
            elif name == "gru":
                r, z = logistic(wx[0] + wh[0]), logistic(wx[1] + wh[1])
                n = np.tanh(wx[2] + r * wh[2])
                new_h[u] = (1 - z) * n + z * h[u]
            else:
                i, f = logistic(wx[0] + wh[0]), logistic(wx[1] + wh[1])
                g, o = np.tanh(wx[2] + wh[2]), logistic(wx[3] + wh[3])
                new_c[u] = f * c[u] + i * g
                new_h[u] = o * np.tanh(new_c[u])
        h, c = new_h, new_c
        outputs.append(h)
    return np.array(outputs), h, c


@every_operation
def test_the_equations_are_pytorchs(name):
    inputs = inputs_of(name, B=3, T=5, C=4, H=3)
    outputs = OPERATIONS[name][0](*inputs)
    x, h0, *rest = (a.numpy() for a in inputs)
    c0 = rest.pop(0) if name == "lstm" else np.zeros_like(h0)
    for b in range(3):
        expected = by_hand(name, x[b], h0[b], c0[b], *rest)
        for computed, exact in zip(outputs, expected, strict=False):
            np.testing.assert_allclose(computed.numpy()[b], exact, rtol=1e-12, atol=1e-14)


def test_the_lstm_gates_stand_in_the_order_i_f_g_o():
    """Saturated gates and one unit: each of the four biases has its own visible effect."""

    def run(i, f, g, o):
        zeros = np.zeros((4, 1))
        bias = Tensor(np.array([i, f, g, o], dtype="float64"))
        _, h, c = lstm(Tensor(np.zeros((1, 1, 1))), np.zeros((1, 1)), np.full((1, 1), 0.5), zeros, zeros, bias)
        return h.item(), c.item()

    assert run(i=-99, f=99, g=99, o=-99) == pytest.approx((0, 0.5))  # keep, show nothing
    assert run(i=-99, f=99, g=99, o=99) == pytest.approx((np.tanh(0.5), 0.5))  # keep and show
    assert run(i=-99, f=-99, g=99, o=99) == pytest.approx((0, 0))  # forget
    assert run(i=99, f=-99, g=-99, o=99) == pytest.approx((np.tanh(-1), -1))  # write -1


def test_the_gru_update_gate_keeps_the_state_and_the_reset_gate_shuts_the_recurrent_candidate():
    def run(r, z):
        weight_ih, weight_hh = np.zeros((3, 1)), np.array([[0.0], [0.0], [2.0]])
        bias_hh = Tensor(np.array([r, z, 0.25], dtype="float64"))
        return gru(Tensor(np.zeros((1, 1, 1))), np.full((1, 1), 0.5), weight_ih, weight_hh, None, bias_hh)[1].item()

    assert run(r=99, z=99) == pytest.approx(0.5)
    assert run(r=99, z=-99) == pytest.approx(np.tanh(2 * 0.5 + 0.25))
    assert run(r=-99, z=-99) == pytest.approx(0)  # b_hn is shut off too: PyTorch's form


# ----- states and directions


@every_operation
@given(cut=st.integers(1, 4))
def test_the_state_carried_over_two_parts_equals_the_whole(name, cut):
    operation, _, states = OPERATIONS[name]
    inputs = inputs_of(name, T=5)
    x, start, parameters = inputs[0], inputs[1 : 1 + states], inputs[1 + states :]
    output, *last = operation(*inputs)
    whole = gradients((output, *last), inputs)
    first, *between = operation(x[:, :cut], *start, *parameters)
    second, *end = operation(x[:, cut:], *between, *parameters)
    parted = (F.concatenate([first, second], axis=1), *end)
    for a, b in zip((output, *last), parted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-13, atol=1e-15)
    for a, b in zip(whole, gradients(parted, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@every_operation
def test_reverse_is_the_same_on_the_sequence_turned_around(name):
    operation = OPERATIONS[name][0]
    x, *rest = inputs_of(name, T=4)
    output, *last = operation(x, *rest, reverse=True)
    turned, *turned_last = operation(x[:, ::-1], *rest)
    np.testing.assert_array_equal(output.numpy(), turned.numpy()[:, ::-1])
    for a, b in zip(last, turned_last, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(output.numpy()[:, 0], last[0].numpy())  # it has read the first element last


@every_operation
def test_the_sequences_of_a_batch_do_not_see_each_other(name):
    operation, _, states = OPERATIONS[name]
    inputs = [a.numpy() for a in inputs_of(name, B=3)]
    together = operation(*map(Tensor, inputs))[0].numpy()
    alone = [a[1:2] for a in inputs[: 1 + states]] + inputs[1 + states :]
    np.testing.assert_allclose(operation(*map(Tensor, alone))[0].numpy()[0], together[1], rtol=1e-13)


# ----- what is computed, kept and shared


@every_operation
@given(data=st.data())
def test_only_the_gradients_that_are_needed_are_computed(name, data):
    operation = OPERATIONS[name][0]
    arrays = [a.numpy() for a in inputs_of(name)]
    needs = tuple(data.draw(st.booleans()) for _ in arrays)
    outputs, vjp = operation.body(*arrays)
    cotangents = tuple(twins.normals(y.shape, k) for k, y in enumerate(outputs))
    everything, some = vjp(cotangents, (True,) * len(arrays)), vjp(cotangents, needs)
    for need, gradient, expected in zip(needs, some, everything, strict=True):
        assert (gradient is not None) == need
        if need:
            np.testing.assert_array_equal(gradient, expected)


@every_operation
def test_constants_get_no_gradient(name):
    inputs = inputs_of(name)
    parameters = inputs[-4:]
    constants = [a.numpy() for a in inputs[:-4]]
    joined(OPERATIONS[name][0](*constants, *parameters)).sum().backward()
    assert all(p.grad is not None for p in parameters)


@every_operation
def test_no_two_gradients_share_memory(name):
    inputs = inputs_of(name)
    outputs = OPERATIONS[name][0](*inputs)
    gradients(outputs, inputs)
    arrays = [x.grad.data for x in inputs] + [y.data for y in outputs] + [x.data for x in inputs]
    for i, a in enumerate(arrays):
        assert not any(np.shares_memory(a, b) for b in arrays[:i])


@every_operation
def test_parameters_used_by_two_sequences_get_the_sum(name):
    """The biases' gradients are equal in rnn and lstm; adding to one must not change the other."""
    operation, _, states = OPERATIONS[name]
    inputs = inputs_of(name)
    others = inputs_of(name, seed=50)
    own, parameters = inputs[: 1 + states], inputs[1 + states :]
    one = gradients(operation(*inputs), parameters)
    two = gradients(operation(*others[: 1 + states], *parameters), parameters, seed=6)
    for p in parameters:
        p.grad = None
    y, z = joined(operation(*inputs)), joined(operation(*others[: 1 + states], *parameters))
    cotangents = (twins.normals(y.shape, 5), twins.normals(z.shape, 6))
    ((y * cotangents[0]).sum() + (z * cotangents[1]).sum()).backward()
    assert own[0].grad is not None
    for p, a, b in zip(parameters, one, two, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), a + b, rtol=1e-12, atol=1e-13)


@every_operation
def test_the_vjp_leaves_the_cotangents_and_the_saved_arrays_as_they_are(name):
    arrays = [a.numpy() for a in inputs_of(name)]
    outputs, vjp = OPERATIONS[name][0].body(*arrays)
    cotangents = tuple(twins.normals(y.shape, k) for k, y in enumerate(outputs))
    before = [g.copy() for g in cotangents]
    first = vjp(cotangents, (True,) * len(arrays))
    for g, kept in zip(cotangents, before, strict=True):
        np.testing.assert_array_equal(g, kept)
    for a, b in zip(first, vjp(cotangents, (True,) * len(arrays)), strict=True):
        np.testing.assert_array_equal(a, b)


@every_operation
def test_a_change_in_place_of_what_the_vjp_needs_is_detected_and_a_final_state_is_free(name):
    inputs = inputs_of(name)
    output, *last = OPERATIONS[name][0](*inputs)
    with no_grad():
        last[0].fill_(0)
        last[-1].fill_(0)
    output.backward(np.ones(output.shape))  # the final states are copies
    output, *last = OPERATIONS[name][0](*inputs)
    with no_grad():
        output.fill_(0)
    with pytest.raises(RuntimeError, match=f"{name}.*changed in place"):
        last[0].backward(np.ones(last[0].shape))


@every_operation
def test_float32_stays(name):
    inputs = inputs_of(name, "float32")
    outputs = OPERATIONS[name][0](*inputs)
    assert {y.dtype.name for y in outputs} == {"float32"}
    assert {g.dtype.name for g in gradients(outputs, inputs)} == {"float32"}


@every_operation
def test_saturated_gates_overflow_nowhere(name):
    x, *rest = inputs_of(name, "float32")
    for size in (1e4, 1e30):
        for sign in (-1, 1):
            inputs = [Tensor(np.full(x.shape, sign * size, dtype="float32"), requires_grad=True), *rest]
            outputs = OPERATIONS[name][0](*inputs)  # warnings are errors in these tests
            assert all(np.isfinite(g).all() for g in gradients(outputs, inputs))


@every_operation
def test_without_recording_only_the_outputs_stay_in_memory(name):
    inputs = inputs_of(name, B=8, T=64, C=4, H=16)

    def memory_of(call):
        call()
        tracemalloc.start()
        kept = call()
        memory = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return memory, kept

    def inference():
        with no_grad():
            return OPERATIONS[name][0](*inputs)

    block = 8 * 64 * 16 * 8  # the bytes of one (B, T, H)
    assert memory_of(inference)[0] < 1.2 * block
    recorded, outputs = memory_of(lambda: OPERATIONS[name][0](*inputs))
    assert recorded > {"rnn": 1, "gru": 5, "lstm": 6}[name] * block


# ----- products in blocks


@pytest.mark.parametrize("B, H", [(24, 220), (32, 200), (25, 220), (3, 600), (48, 220), (4, 5)])
def test_a_product_in_blocks_of_rows_is_the_product(B, H):
    rows, weight = twins.normals((3, B, H), 1), twins.normals((3, H, H), 2)
    for operand, subscripts in ((rows, "gbh,ghk->gbk"), (rows[1], "bh,ghk->gbk")):
        expected = np.einsum(subscripts, operand, weight)
        np.testing.assert_allclose(step_product(operand, weight), expected, atol=1e-11)


# ----- errors


@every_operation
def test_a_sequence_without_steps_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name}: .*no time step: T must be at least 1"):
        OPERATIONS[name][0](*inputs_of(name, T=0))


@every_operation
def test_a_shape_that_does_not_fit_is_named_with_the_one_that_would(name):
    operation, gates, states = OPERATIONS[name]
    inputs = inputs_of(name, B=2, T=3, C=3, H=2)
    names = ["x", "h0", "c0"][: 1 + states] + ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    for position, wrong in enumerate(names):
        bad = list(inputs)
        bad[position] = Tensor(np.zeros((5, 7)))
        message = r"x has the axes \(B, T, C\), got the shape" if wrong == "x" else rf"{wrong} .*got"
        with pytest.raises(ValueError, match=message + r" \(5, 7\)"):
            operation(*bad)
    with pytest.raises(ValueError, match=rf"bias_hh must have the shape \({gates * 2},\)"):
        operation(*inputs[:-1], Tensor(np.zeros(3)))


@every_operation
def test_two_dtypes_are_refused(name):
    inputs = inputs_of(name)
    for position in range(1, len(inputs)):
        bad = list(inputs)
        bad[position] = bad[position].detach().astype("float32")
        with pytest.raises(TypeError, match="float32 and float64 do not mix"):
            OPERATIONS[name][0](*bad)
    with pytest.raises(TypeError, match="x must be floating, not int64"):
        OPERATIONS[name][0](*(Tensor(np.zeros(a.shape, dtype="int64")) for a in inputs))


def test_an_unknown_nonlinearity_is_refused():
    with pytest.raises(ValueError, match="nonlinearity is 'tanh' or 'relu', not 'gelu'"):
        rnn(*inputs_of("rnn"), nonlinearity="gelu")

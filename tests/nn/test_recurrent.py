"""RNN, LSTM and GRU as layers: the stack, both directions, dropout, states, parameters."""

import numpy as np
import pytest

import minilm.functional as F
from minilm import Generator, Tensor, no_grad
from minilm.functional.gru import gru
from minilm.functional.lstm import lstm
from minilm.functional.rnn import rnn
from minilm.nn.recurrent import GRU, LSTM, RNN
from minilm.random import using_generator
from minilm.testing import gradcheck

LAYERS = {"RNN": (RNN, rnn, 1, 1), "GRU": (GRU, gru, 3, 1), "LSTM": (LSTM, lstm, 4, 2)}
every_layer = pytest.mark.parametrize("name", LAYERS)
C, H = 4, 3


def made(name, *args, dtype="float64", seed=0, **options):
    """A layer with weights from a seed."""
    with using_generator(Generator(seed)):
        return LAYERS[name][0](*args, **options).astype(dtype)


def normal(*shape, seed=1, dtype="float64"):
    return Tensor(Generator(seed).normal(shape, dtype=dtype), requires_grad=True)


def states_of(name, *shape, seed=2):
    """What the layer takes as its initial state."""
    states = tuple(normal(*shape, seed=seed + k) for k in range(LAYERS[name][3]))
    return states if name == "LSTM" else states[0]


def flat(outputs):
    """(output, h) or (output, (h, c)) as a list."""
    output, state = outputs
    return [output, *state] if isinstance(state, tuple) else [output, state]


def parameters_of(layer, suffix):
    return [getattr(layer, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def assert_close(a, b, **tolerances):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), **(tolerances or {"rtol": 1e-12, "atol": 1e-14}))


# ----- parameters


@every_layer
def test_parameters_have_pytorchs_names_and_shapes(name):
    gates = LAYERS[name][2]
    layer = made(name, C, H, num_layers=2, bidirectional=True)
    found = {key: p.shape for key, p in layer.named_parameters()}
    expected = {}
    for suffix, channels in (("l0", C), ("l0_reverse", C), ("l1", 2 * H), ("l1_reverse", 2 * H)):
        expected[f"weight_ih_{suffix}"] = (gates * H, channels)
        expected[f"weight_hh_{suffix}"] = (gates * H, H)
        expected[f"bias_ih_{suffix}"] = expected[f"bias_hh_{suffix}"] = (gates * H,)
    assert found == expected
    assert list(found) == list(expected)  # the order of the optimizer's state


@every_layer
def test_without_bias_there_are_only_weights(name):
    layer = made(name, C, H, bias=False)
    assert [key for key, _ in layer.named_parameters()] == ["weight_ih_l0", "weight_hh_l0"]
    zeros = made(name, C, H)
    with no_grad():
        for parameter in parameters_of(zeros, "l0")[2:]:
            parameter.zero_()
        for key in ("weight_ih_l0", "weight_hh_l0"):
            getattr(zeros, key).copy_(getattr(layer, key))
    x = normal(2, 5, C)
    assert_close(flat(layer(x)), flat(zeros(x)))


@every_layer
def test_parameters_start_uniform_between_plus_and_minus_one_over_the_root_of_h(name):
    layer = made(name, 40, 100, num_layers=2, dtype="float32")
    for key, parameter in layer.named_parameters():
        assert parameter.dtype == np.float32
        values = parameter.numpy() * 10  # the root of H
        assert -1 <= values.min() < -0.9 and 0.9 < values.max() <= 1, key
        assert values.std() == pytest.approx(1 / np.sqrt(3), rel=0.15), key


@every_layer
def test_the_current_generator_decides_the_weights(name):
    one, same, other = (made(name, C, H, seed=seed).state_dict() for seed in (3, 3, 4))
    for key in one:
        np.testing.assert_array_equal(one[key], same[key])
        assert not np.array_equal(one[key], other[key])


def test_the_forget_bias_is_the_sum_of_both_biases_and_the_other_gates_stay_random():
    plain, layer = (made("LSTM", C, H, 2, bidirectional=True, forget_bias=b) for b in (None, 1.0))
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        sums = [sum(p.numpy() for p in parameters_of(of, suffix)[2:]) for of in (layer, plain)]
        np.testing.assert_array_equal(sums[0][H : 2 * H], 1)
        assert np.array_equal(sums[0] == sums[1], np.arange(4 * H) // H != 1)


# ----- the stack


@every_layer
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_the_stack_equals_one_operation_after_the_other(name, bidirectional, with_state):
    operation, states = LAYERS[name][1], LAYERS[name][3]
    directions = 2 if bidirectional else 1
    layer = made(name, C, H, num_layers=3, bidirectional=bidirectional)
    x = normal(2, 5, C)
    start = states_of(name, 3 * directions, 2, H) if with_state else None
    outputs = flat(layer(x, start))
    start = start if isinstance(start, tuple) else (start,)
    y, finals = x, []
    for k in range(3):
        both = []
        for d, suffix in enumerate([f"l{k}", f"l{k}_reverse"][:directions]):
            at = k * directions + d
            own = [s[at] for s in start] if with_state else [np.zeros((2, H))] * states
            output, *last = operation(y, *own, *parameters_of(layer, suffix), reverse=d == 1)
            both.append(output)
            finals.append(last)
        y = F.concatenate(both, axis=-1)
    assert_close(outputs, [y, *(F.stack(list(s)) for s in zip(*finals, strict=True))])
    assert outputs[0].shape == (2, 5, directions * H)
    assert all(s.shape == (3 * directions, 2, H) for s in outputs[1:])


@every_layer
def test_both_directions_are_two_runs_with_the_input_turned_around(name):
    layer = made(name, C, H, bidirectional=True)
    forward, backward = made(name, C, H), made(name, C, H)
    for one, suffix in ((forward, "l0"), (backward, "l0_reverse")):
        values = [p.numpy() for p in parameters_of(layer, suffix)]
        keys = [key for key, _ in one.named_parameters()]
        one.load_state_dict(dict(zip(keys, values, strict=True)))
    x = normal(2, 5, C)
    output, *last = flat(layer(x))
    there, *there_last = flat(forward(x))
    back, *back_last = flat(backward(x[:, ::-1]))
    np.testing.assert_allclose(output.numpy()[..., :H], there.numpy(), rtol=1e-13)
    np.testing.assert_allclose(output.numpy()[..., H:], back.numpy()[:, ::-1], rtol=1e-13)
    assert_close(last, [F.concatenate(pair) for pair in zip(there_last, back_last, strict=True)])


@every_layer
def test_the_state_carried_over_two_parts_equals_the_whole(name):
    layer = made(name, C, H, num_layers=2)
    x = normal(2, 7, C)
    output, *last = flat(layer(x))
    first, between = layer(x[:, :3])
    second, end = layer(x[:, 3:], between)
    assert_close([output, *last], [F.concatenate([first, second], axis=1), *flat((second, end))[1:]])


@every_layer
def test_one_step_at_a_time_equals_the_sequence(name):
    """What generation does."""
    layer = made(name, C, H, num_layers=2)
    x = normal(2, 6, C)
    steps, state = [], None
    with no_grad():
        for t in range(6):
            y, state = layer(x[:, t : t + 1], state)
            steps.append(y)
    assert_close([layer(x)[0]], [F.concatenate(steps, axis=1)])


@every_layer
def test_no_state_means_zeros(name):
    layer = made(name, C, H, num_layers=2)
    x = normal(2, 3, C)
    zeros = Tensor(np.zeros((2, 2, H)))
    assert_close(flat(layer(x)), flat(layer(x, (zeros, zeros) if name == "LSTM" else zeros)))


def test_relu_is_an_option_of_the_rnn():
    layer = made("RNN", C, H, nonlinearity="relu")
    x = normal(2, 3, C)
    expected = rnn(x, np.zeros((2, H)), *parameters_of(layer, "l0"), nonlinearity="relu")
    assert_close([layer(x)[0]], [expected[0]])
    assert (layer(x)[0].numpy() == 0).any()


# ----- dropout


@every_layer
def test_dropout_acts_between_the_layers_in_training_and_not_after_the_last(name):
    """With probability 1 the second layer reads zeros, in training; what it puts out is not dropped."""
    layer = made(name, C, H, num_layers=2, dropout=1.0)
    upper = made(name, H, H)
    keys = [key for key, _ in upper.named_parameters()]
    upper.load_state_dict({key: getattr(layer, key.replace("l0", "l1")).numpy() for key in keys})
    x = normal(2, 5, C)
    in_training = layer(x)[0]
    assert_close([in_training], [upper(Tensor(np.zeros((2, 5, H))))[0]])
    assert (in_training.numpy() != 0).all()
    layer.eval()
    plain = made(name, C, H, num_layers=2)
    assert_close(flat(layer(x)), flat(plain(x)))
    assert not np.allclose(layer(x)[0].numpy(), in_training.numpy())


@every_layer
def test_one_layer_alone_drops_nothing(name):
    x = normal(2, 5, C)
    assert_close(flat(made(name, C, H, dropout=0.9)(x)), flat(made(name, C, H)(x)))


@every_layer
def test_both_directions_read_the_same_dropped_input(name):
    layer = made(name, C, H, num_layers=2, bidirectional=True, dropout=0.5)
    operation, x = LAYERS[name][1], normal(2, 5, C)
    zeros = [np.zeros((2, H))] * LAYERS[name][3]

    def both(y, k):
        suffixes = (f"l{k}", f"l{k}_reverse")
        outputs = [operation(y, *zeros, *parameters_of(layer, s), reverse=s != f"l{k}")[0] for s in suffixes]
        return F.concatenate(outputs, axis=-1)

    with using_generator(Generator(9)):
        computed = layer(x)[0]
    assert_close([computed], [both(F.dropout(both(x, 0), 0.5, True, generator=Generator(9)), 1)])


def test_each_forward_draws_a_new_mask_from_the_current_generator():
    layer, x = made("LSTM", C, H, num_layers=2, dropout=0.5), normal(2, 5, C)

    def two():
        with using_generator(Generator(9)):
            return layer(x)[0].numpy(), layer(x)[0].numpy()

    (a, b), (c, d) = two(), two()
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(b, d)


# ----- gradients and dtypes


@every_layer
def test_every_gradient_of_a_stack_in_both_directions_equals_the_finite_difference(name):
    layer = made(name, 2, 2, num_layers=2, bidirectional=True, dropout=0.4)
    x, start = normal(2, 3, 2), states_of(name, 4, 2, 2)
    states = list(start) if isinstance(start, tuple) else [start]

    def call(*_):
        with using_generator(Generator(5)):
            return layer(x, start)

    assert gradcheck(call, [x, *states, *layer.parameters()])


@every_layer
def test_float32_in_gives_float32_out_and_float32_gradients(name):
    layer = made(name, C, H, num_layers=2, bidirectional=True, dropout=0.5, dtype="float32")
    x = normal(2, 5, C, dtype="float32")
    output, *last = flat(layer(x))
    output.sum().backward()
    arrays = [output, *last, x.grad, *(p.grad for p in layer.parameters())]
    assert {a.dtype.name for a in arrays} == {"float32"}


@every_layer
def test_an_empty_batch_gives_empty_outputs_and_zero_gradients(name):
    layer = made(name, C, H, num_layers=2, bidirectional=True)
    output, *last = flat(layer(Tensor(np.zeros((0, 5, C)))))
    assert output.shape == (0, 5, 2 * H) and all(s.shape == (4, 0, H) for s in last)
    output.sum().backward()
    assert all((p.grad.numpy() == 0).all() for p in layer.parameters())


# ----- errors and looks


@every_layer
def test_an_input_that_does_not_fit_is_refused(name):
    layer = made(name, C, H)
    for shape in ((2, C), (2, 5, C + 1)):
        with pytest.raises(ValueError, match=rf"{name} reads x \(B, T, 4\), got .*x\[None\]"):
            layer(Tensor(np.zeros(shape)))
    wrong = states_of(name, 2, 2, H)
    with pytest.raises(ValueError, match=r"h0 has the shape .*\(1, 2, 3\), got \(2, 2, 3\)"):
        layer(normal(2, 5, C), wrong)


def test_a_wrong_cell_state_is_named():
    with pytest.raises(ValueError, match=r"c0 has the shape .*\(1, 2, 3\), got \(1, 2, 5\)"):
        made("LSTM", C, H)(normal(2, 5, C), (normal(1, 2, H), normal(1, 2, 5)))


@every_layer
def test_settings_that_make_no_sense_are_refused(name):
    for options, message in (
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"hidden_size": 0}, "hidden_size must be at least 1"),
        ({"dropout": 1.5}, "probability .* got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            LAYERS[name][0](**{"input_size": C, "hidden_size": H, **options})
    with pytest.raises(ValueError, match="nonlinearity"):
        RNN(C, H, nonlinearity="gelu")
    with pytest.raises(ValueError, match="forget_bias"):
        LSTM(C, H, bias=False, forget_bias=1.0)


@every_layer
def test_the_repr_shows_sizes_and_settings(name):
    text = repr(made(name, C, H, num_layers=2, bidirectional=True, dropout=0.1))
    assert text.startswith(f"{name}(4 -> 6, 2 layers, bidirectional, dropout 0.1)")
    assert "weight_hh_l1_reverse" in text

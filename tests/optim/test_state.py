"""What an optimizer accepts, and that its state goes to disk and back without changing a bit."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from minilm.errors import CheckpointError, ConfigurationError, MinilmError
from minilm.functional.elementwise import multiply
from minilm.optim import SGD, Adam, AdamW
from minilm.random import Generator
from minilm.tensor import Tensor

MAKERS = {
    "sgd": lambda params: SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1),
    "plain sgd": lambda params: SGD(params, lr=0.1),
    "adam": lambda params: Adam(params, lr=0.1),
    "adamw": lambda params: AdamW(params, lr=0.1, weight_decay=0.1),
}
SHAPES = {"embedding": (30, 20), "bias": (7,), "weight": (100, 100), "gain": ()}


def make_parameters(dtype="float32"):
    generator = Generator(1)
    return [
        (name, Tensor(generator.normal(shape, dtype=dtype), requires_grad=True))
        for name, shape in SHAPES.items()
    ]


def take_steps(optimizer, named, first, last):
    for t in range(first, last):
        for k, (_, parameter) in enumerate(named):
            parameter.grad = Generator(100 * t + k).normal(parameter.shape, dtype=str(parameter.dtype))
        optimizer.scale_lr(1 / (t + 1))
        optimizer.step()


def through_files(state):
    """As a checkpoint stores it: the arrays as safetensors, the rest as JSON."""
    rest = {key: value for key, value in state.items() if key != "tensors"}
    return {"tensors": load(save(state["tensors"])), **json.loads(json.dumps(rest))}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("maker", MAKERS)
def test_a_resumed_run_takes_the_same_steps_bit_for_bit(maker, dtype):
    whole = make_parameters(dtype)
    take_steps(MAKERS[maker](whole), whole, 0, 6)

    first = make_parameters(dtype)
    optimizer = MAKERS[maker](first)
    take_steps(optimizer, first, 0, 3)
    stored = through_files(optimizer.state_dict())
    second = [(name, Tensor(parameter, requires_grad=True)) for name, parameter in first]
    resumed = MAKERS[maker](second)
    resumed.load_state_dict(stored)
    take_steps(resumed, second, 3, 6)

    for (_, a), (_, b) in zip(whole, second, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_the_state_fits_whatever_the_order_of_the_parameters():
    named = make_parameters()
    optimizer = AdamW(named)
    take_steps(optimizer, named, 0, 2)
    other = AdamW(make_parameters()[::-1])
    other.load_state_dict(optimizer.state_dict())
    for name, array in optimizer.state_dict()["tensors"].items():
        np.testing.assert_array_equal(other.state_dict()["tensors"][name], array)


def test_the_state_is_a_copy():
    named = make_parameters()
    optimizer = Adam(named)
    take_steps(optimizer, named, 0, 1)
    state = optimizer.state_dict()
    before = state["tensors"]["second_moment.bias"].copy()
    take_steps(optimizer, named, 1, 2)
    np.testing.assert_array_equal(state["tensors"]["second_moment.bias"], before)


def test_loading_restores_the_settings():
    parameter = Tensor(np.ones(3), requires_grad=True)
    state = AdamW([parameter], lr=0.5, betas=(0.1, 0.2), weight_decay=0.3).state_dict()
    optimizer = AdamW([parameter], lr=1.0)
    optimizer.load_state_dict(through_files(state))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (0.5, 0.5, 0.3)
    assert tuple(group["betas"]) == (0.1, 0.2)
    assert group["params"] == [parameter]


def broken(change):
    def make():
        state = AdamW(make_parameters()).state_dict()
        change(state)
        return state

    return make


MISFITS = {
    "another optimizer": (lambda: Adam(make_parameters()).state_dict(), "one of Adam, and this is AdamW"),
    "an entry is missing": (broken(lambda s: s.pop("steps")), "lacks steps"),
    "a parameter is missing": (broken(lambda s: s["steps"].pop("bias")), "lacks bias"),
    "an array is missing": (
        broken(lambda s: s["tensors"].pop("first_moment.bias")),
        "lacks first_moment.bias",
    ),
    "an array too many": (broken(lambda s: s["tensors"].update(extra=np.ones(1))), "has extra"),
    "another shape": (
        broken(lambda s: s["tensors"].update({"first_moment.bias": np.zeros(8, "float32")})),
        r"first_moment.bias is \(8,\) float32 in the state and \(7,\) float32 here",
    ),
    "another dtype": (
        broken(lambda s: s["tensors"].update({"first_moment.bias": np.zeros(7)})),
        r"float64 in the state",
    ),
    "more groups": (broken(lambda s: s["param_groups"].append({})), "2 parameter groups"),
    "a setting is missing": (broken(lambda s: s["param_groups"][0].pop("eps")), "lacks eps"),
    "other parameters in a group": (
        broken(lambda s: s["param_groups"][0]["params"].remove("bias")),
        "parameters of group 0",
    ),
    "a setting out of range": (
        broken(lambda s: s["param_groups"][0].update(lr=-1)),
        "lr must not be negative",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_state_that_does_not_fit_is_refused_and_nothing_changes(misfit):
    make, message = MISFITS[misfit]
    named = make_parameters()
    optimizer = AdamW(named)
    take_steps(optimizer, named, 0, 1)
    before = optimizer.state_dict()
    with pytest.raises(MinilmError, match=message):
        optimizer.load_state_dict(make())
    after = optimizer.state_dict()
    for name, array in before.pop("tensors").items():
        np.testing.assert_array_equal(after["tensors"][name], array)
    del after["tensors"]
    assert before == after


def test_a_misfit_is_an_error_of_the_checkpoint():
    with pytest.raises(CheckpointError):
        SGD(make_parameters(), lr=0.1).load_state_dict({})


# parameters


def parameter(shape=(2,)):
    return Tensor(np.ones(shape), requires_grad=True)


def test_a_tied_parameter_counts_once():
    tied = parameter()
    tied.grad = np.ones(2)
    optimizer = SGD([("wte", tied), ("head", tied)], lr=0.25)
    optimizer.step()
    np.testing.assert_array_equal(tied.data, [0.75, 0.75])
    assert optimizer.state_dict()["param_groups"][0]["params"] == ["wte"]


def test_unnamed_parameters_are_numbered_over_all_groups():
    groups = [{"params": [parameter(), parameter()]}, {"params": [parameter()], "lr": 1.0}]
    state = Adam(groups).state_dict()
    assert [group["params"] for group in state["param_groups"]] == [["0", "1"], ["2"]]


def test_a_generator_of_parameters_serves():
    assert len(SGD((p for p in [parameter(), parameter()]), lr=0.1).param_groups[0]["params"]) == 2


def test_parameters_that_cannot_be_optimised_are_refused():
    one, frozen = parameter(), Tensor(np.ones(2))
    for params, error, message in [
        ([], ValueError, "no parameters"),
        (iter(()), ValueError, "no parameters"),
        ([{"params": []}], ValueError, "no parameters"),
        ([("w", frozen)], ValueError, "'w' .* does not require a gradient"),
        ([multiply(one, 2.0)], ValueError, "only leaves"),
        ([{"params": [one]}, {"params": [one]}], ValueError, "belongs to one group"),
        ([("w", one), ("w", parameter())], ValueError, "named 'w'"),
        ([{"lr": 0.1}], ValueError, "needs the key 'params'"),
        (one, TypeError, "not Tensor"),
        ({"w": one}, TypeError, "not dict"),
        (3, TypeError, "not int"),
        ([np.ones(2)], TypeError, "not ndarray"),
    ]:
        with pytest.raises(error, match=message):
            SGD(params, lr=0.1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: SGD(p, lr=-0.1), "lr must not be negative: -0.1"),
        (lambda p: SGD(p, lr=float("nan")), "lr"),
        (lambda p: SGD(p, lr=0.1, momentum=1.0), "momentum"),
        (lambda p: SGD(p, lr=0.1, nesterov=True), "Nesterov"),
        (lambda p: SGD(p, lr=0.1, weight_decay=-1.0), "weight_decay"),
        (lambda p: Adam(p, betas=(0.9, 1.0)), "betas"),
        (lambda p: Adam(p, betas=(0.9,)), "betas"),
        (lambda p: Adam(p, eps=-1e-8), "eps"),
        (lambda p: AdamW(p, weight_decay=-0.1), "weight_decay"),
        (lambda p: AdamW([{"params": p, "lr": -1.0}]), "lr"),
        (lambda p: AdamW([{"params": p, "learning_rate": 1.0}]), "knows no setting learning_rate"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make([parameter()])


def test_momentum_that_comes_too_late_is_refused():
    one = parameter()
    optimizer = SGD([one], lr=0.1)
    optimizer.param_groups[0]["momentum"] = 0.9
    one.grad = np.ones(2)
    with pytest.raises(ConfigurationError, match="make a new SGD"):
        optimizer.step()

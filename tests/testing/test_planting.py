"""The checker is checked: a wrong vjp planted in any operation, for any of its inputs, must be rejected."""

import pytest

import minilm.functional as functional
from minilm.backend import kernel_for
from minilm.random import Generator
from minilm.tensor import OPERATIONS, Tensor
from minilm.testing import CORRUPTIONS, SAMPLES, GradientError, check_operations, gradcheck, planted


def drawn(sample):
    return sample.draw(Generator(0).spawn(f"{sample.operation}/{sample.name}"))


def differentiated_inputs(name):
    """The inputs of an operation whose gradient some sample computes: those that a corruption can reach."""

    def reached(i):
        for sample in SAMPLES[name]:
            with planted(name, "scaled", i) as computed:
                try:
                    gradcheck(sample.fn, drawn(sample))
                except GradientError:
                    return True
                if computed:
                    return True
        return False

    operation = OPERATIONS[name]
    count = 2 if operation.variadic else len(operation.array_names)
    return [i for i in range(count) if reached(i)]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_array_parameter_is_differentiated_by_some_sample(name):
    operation = OPERATIONS[name]
    count = 2 if operation.variadic else len(operation.array_names)
    assert differentiated_inputs(name) == list(range(count))


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_wrong_vjp_is_rejected(name, corruption):
    for i in differentiated_inputs(name):
        rejected = False
        for sample in SAMPLES[name]:
            with planted(name, corruption, i):
                try:
                    gradcheck(sample.fn, drawn(sample))
                except GradientError:
                    rejected = True
                    break
        assert rejected, f"the gradient of input {i} of {name} was {corruption}, and every sample passed"


@pytest.mark.parametrize("name", ["add", "softmax", "split", "lstm"])
def test_the_operation_is_right_again_after_the_block(name):
    body, kernel = OPERATIONS[name].body, kernel_for(name)
    with planted(name, "negated"):
        assert OPERATIONS[name].body is not body
        assert not check_operations([name])[0].ok
    assert OPERATIONS[name].body is body and kernel_for(name) is kernel
    assert check_operations([name])[0].ok


def test_the_operation_is_right_again_after_an_error_in_the_block():
    body = OPERATIONS["exp"].body
    with pytest.raises(RuntimeError, match="out of the block"), planted("exp", "zero"):
        raise RuntimeError("out of the block")
    assert OPERATIONS["exp"].body is body


def test_the_value_stays_right():
    x = Tensor([1.0, 2.0])
    expected = functional.exp(x).tolist()
    with planted("exp", "negated"):
        assert functional.exp(x).tolist() == expected


def test_a_backend_kernel_is_corrupted_too(monkeypatch):
    from minilm import backend

    monkeypatch.setitem(backend._kernels, "exp", OPERATIONS["exp"].body)
    with planted("exp", "scaled"):
        assert not check_operations(["exp"])[0].ok
    assert check_operations(["exp"])[0].ok


@pytest.mark.parametrize(
    "name, fn", [("softmax", functional.softmax), ("layer_norm", lambda x: functional.layer_norm(x, 3))]
)
def test_a_sum_would_have_let_a_wrong_gradient_pass(name, fn):
    """Why the cotangent is random: under sum() the gradients of these vanish, and zero is right."""
    x = Tensor([[0.3, -1.0, 2.0], [1.0, 0.2, -0.4]], requires_grad=True, dtype="float64")
    with planted(name, "zero"):
        assert gradcheck(lambda x: fn(x).sum(), [x])
        with pytest.raises(GradientError):
            gradcheck(fn, [x])


@pytest.mark.parametrize(
    "arguments, message",
    [(("sofmax", "zero"), "no operation is named 'sofmax'"), (("exp", "tripled"), "no corruption is named 'tripled'")],
)
def test_what_does_not_exist_cannot_be_planted(arguments, message):
    with pytest.raises(ValueError, match=message), planted(*arguments):
        pass

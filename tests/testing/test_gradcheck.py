"""gradcheck says yes to what is right, and no, where and why, to what is not."""

import numpy as np
import pytest

import minilm.functional as functional
from minilm import Tensor
from minilm.backend import Array
from minilm.random import Generator
from minilm.tensor import OPERATIONS, Operation
from minilm.testing import GradientError, Sample, check_operations, check_samples, dual_test, gradcheck
from minilm.testing.samples import LAYOUTS, leaf, with_layout

both = pytest.mark.parametrize("check", [gradcheck, dual_test])


def tensor(values, requires_grad=True):
    return Tensor(values, requires_grad=requires_grad, dtype="float64")


@pytest.fixture
def operation():
    """A function that makes an operation for one test."""
    made = []

    def make(body):
        made.append(Operation(body, broadcasts=False))
        return made[-1]

    yield make
    for op in made:
        del OPERATIONS[op.name]


@both
def test_a_right_gradient_passes(check):
    x, w = tensor([[0.5, -1.0], [2.0, 0.1]]), tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.2]])
    assert check(lambda x, w: functional.softmax(x @ w).log() + w.sum(), [x, w]) is True


@both
def test_several_outputs_in_nested_tuples_are_all_checked(check):
    x = tensor([1.0, 2.0])
    assert check(lambda x: (x * x, (x.exp(), x.sum())), [x])

    def wrong_in_the_last(x):
        return x * x, (x.exp(), Tensor.wrap((x * x).data))  # the last one is detached by mistake

    with pytest.raises(GradientError):
        check(wrong_in_the_last, [x])


@both
def test_one_tensor_may_be_passed_without_a_list(check):
    assert check(functional.tanh, tensor([0.1, 0.2]))


@both
def test_inputs_that_need_no_gradient_are_passed_on(check):
    x, constant = tensor([1.0, 2.0]), tensor([3.0, 4.0], requires_grad=False)
    assert check(lambda x, c, n, i: (x * c)[i] * n, [x, constant, 2.0, np.array([0, 0])])


@both
def test_the_same_tensor_twice_is_one_variable(check):
    x = tensor([1.0, 2.0])
    assert check(lambda a, b: a * b, [x, x])


@pytest.mark.parametrize("layout", LAYOUTS)
@both
def test_any_memory_layout_is_checked(check, layout):
    x = Tensor.wrap(with_layout(np.arange(6.0).reshape(2, 3) / 10, layout))
    x.requires_grad = True
    assert check(lambda x: x @ x.T, [x])


@both
def test_no_grad_is_written_and_the_inputs_are_put_back_bit_by_bit(check):
    x = tensor([0.1, 0.2, 1e8])
    before = x.data.copy()
    check(lambda x: x * 2.0, [x])
    assert x.grad is None and x.data.tobytes() == before.tobytes()
    with pytest.raises(ZeroDivisionError):
        calls = iter([0, 0, 0])
        check(lambda x: x * (1.0 if next(calls, None) is not None else 1 / 0), [x])
    assert x.data.tobytes() == before.tobytes()


def test_parameters_may_be_reached_by_another_way():
    w = tensor([1.0, 2.0])
    assert gradcheck(lambda *_: w * w, [w])


def test_an_empty_input_has_nothing_wrong():
    assert gradcheck(lambda x: x * 2.0, [tensor(np.zeros((0, 2)))])


def test_the_error_names_input_index_both_numbers_and_the_ratio(operation):
    def doubled(a: Array, b: Array):
        """y = a + b, where db is twice too large in one element."""

        def db(g):
            g = g.copy()
            g[1, 0] *= 2
            return g

        return a + b, (lambda g: g, db)

    op = operation(doubled)
    with pytest.raises(GradientError, match=r"input 1 at index \(1, 0\): backward gives") as caught:
        gradcheck(op, [tensor(np.zeros((2, 2))), tensor(np.zeros((2, 2)))])
    error = caught.value
    assert (error.input, error.index) == (1, (1, 0))
    assert error.ratio == pytest.approx(2.0, rel=1e-6)
    assert error.analytic == pytest.approx(2 * error.numeric, rel=1e-6)
    assert "ratio 2" in str(error) and f"{error.analytic:.6g}"[:6] in str(error)
    assert isinstance(error, AssertionError)
    with pytest.raises(GradientError, match="dual test.*gradcheck"):
        dual_test(op, [tensor(np.zeros((2, 2))), tensor(np.zeros((2, 2)))])


@both
def test_a_forgotten_path_is_found(check):
    with pytest.raises(GradientError):
        check(lambda x: x * x.detach(), [tensor([1.0, 2.0])])


@both
def test_float32_is_refused_with_the_fix(check):
    with pytest.raises(TypeError, match="input 0 is float32.*dtype='float64'"):
        check(functional.exp, [Tensor([1.0], requires_grad=True)])


@both
def test_nothing_to_check_is_an_error(check):
    with pytest.raises(ValueError, match="none of the inputs"):
        check(functional.exp, [tensor([1.0], requires_grad=False)])


@both
def test_a_result_is_no_input(check):
    with pytest.raises(ValueError, match="input 0 is the result of a recorded operation"):
        check(functional.exp, [tensor([1.0]) * 2.0])


@both
def test_a_function_that_is_not_deterministic_is_refused(check):
    generator = Generator(0)
    with pytest.raises(GradientError, match="not deterministic.*make the generator anew"):
        check(lambda x: functional.dropout(x, 0.5, True, generator=generator), [tensor(np.ones(20))])


@both
def test_a_function_that_changes_its_inputs_is_refused(check):
    def changes(x, c):
        c.add_(1.0)
        return x * 2.0

    with pytest.raises(GradientError, match="the function changed its input 1 in place"):
        check(changes, [tensor([1.0]), tensor([1.0], requires_grad=False)])


@both
def test_a_vjp_that_changes_an_input_is_refused(check, operation):
    def eats_its_input(x: Array):
        """y = 2 x."""

        def dx(g):
            x[...] = 0
            return 2 * g

        return 2 * x, dx

    with pytest.raises(GradientError, match="backward changed its input 0 in place"):
        check(operation(eats_its_input), [tensor([1.0, 2.0])])


@both
def test_a_vjp_that_changes_its_cotangent_is_refused(check, operation):
    def eats_its_cotangent(x: Array):
        """y = 2 x."""

        def dx(g):
            g *= 2
            return g.copy()

        return 2 * x, dx

    with pytest.raises(GradientError, match="changed the cotangent in place|gave another gradient"):
        check(operation(eats_its_cotangent), [tensor([1.0, 2.0])])


@both
def test_a_vjp_that_changes_what_it_holds_is_refused(check, operation):
    def eats_what_it_holds(x: Array):
        """y = e^x."""
        held = np.exp(x)

        def dx(g):
            nonlocal held
            held *= g
            return held.copy()

        return np.exp(x), dx

    with pytest.raises(GradientError, match="the second backward through the same graph"):
        check(operation(eats_what_it_holds), [tensor([1.0, 2.0])])


@both
def test_a_gradient_that_is_not_a_number_is_refused(check):
    with np.errstate(divide="ignore", invalid="ignore"):
        with pytest.raises(GradientError, match=r"input 0 at index \(1,\): backward gives inf"):
            check(functional.sqrt, [tensor([1.0, 0.0])])


@both
def test_an_output_that_is_not_finite_is_refused(check):
    with np.errstate(divide="ignore"):
        with pytest.raises(GradientError, match="output 0 holds NaN or infinity"):
            check(functional.log, [tensor([1.0, 0.0])])


@both
def test_a_change_of_dtype_is_refused(check):
    with pytest.raises(GradientError, match="output 0 is float32"):
        check(lambda x: x.astype("float32"), [tensor([1.0])])


@both
def test_what_is_no_tensor_is_refused(check):
    with pytest.raises(TypeError, match="must return Tensors, not float"):
        check(lambda x: 1.0, [tensor([1.0])])


@both
def test_the_step_is_measured_after_rounding(check):
    """Near 10^7 floats are 2e-9 apart: 1e-6 is rounded by up to a thousandth, and the difference quotient must know."""
    assert check(functional.clone, [tensor([1.1e7, -1.3e7])])


def test_check_samples_reports_a_failure_and_goes_on():
    samples = [
        Sample("right", "one", functional.exp, (leaf(2),)),
        Sample("wrong", "detached", lambda x: x * x.detach(), (leaf(2),)),
        Sample("wrong", "raises", lambda x: 1 / 0, (leaf(2),)),
        Sample("right", "two", functional.tanh, (leaf(2, 3, layout="F"),)),
    ]
    right, wrong = check_samples(samples)
    assert (right.operation, right.samples, right.ok, right.error) == ("right", 2, True, None)
    assert 0 <= right.worst < 1
    assert (wrong.samples, wrong.ok, wrong.worst) == (2, False, float("inf"))
    assert wrong.error.startswith("detached: GradientError: input 0 at index (0,)")


def test_an_operation_without_a_sample_is_not_ok(operation):
    def lonely(x: Array):
        """y = x."""
        return x.copy(), lambda g: g

    operation(lonely)
    (result,) = check_operations(["lonely"])
    assert not result.ok and "no sample: add one with minilm.testing.add_sample('lonely'" in result.error
    with pytest.raises(ValueError, match="no operation is named 'lonley'"):
        check_operations(["lonley"])

"""Each optimizer takes the step of its paper: compared in float64 with the formula, one number at a time."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minilm import optim
from minilm.functional.elementwise import multiply
from minilm.optim import SGD, Adam, AdamW, flat
from minilm.random import Generator
from minilm.tensor import Tensor


def sgd_by_hand(p, gradients, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """One number through torch.optim.SGD's documented algorithm."""
    b = 0.0
    for t, g in enumerate(gradients, start=1):
        g = g + weight_decay * p
        if momentum:
            b = momentum * b + g if t > 1 else g
            g = g + momentum * b if nesterov else b
        p = p - lr * g
    return p


def adamw_by_hand(p, gradients, lr, betas, eps, weight_decay=0.0):
    """One number through Kingma & Ba 2015, algorithm 1, and Loshchilov & Hutter 2019, algorithm 2."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        mhat = m / (1 - betas[0] ** t)
        vhat = v / (1 - betas[1] ** t)
        p = p - lr * (mhat / (math.sqrt(vhat) + eps) + weight_decay * p)
    return p


def elementwise(by_hand, start, gradients, **settings):
    """`by_hand` for each number of an array; gradients: (steps, *shape)."""
    result = np.empty_like(start)
    for index in np.ndindex(start.shape):
        result[index] = by_hand(start[index], [g[index] for g in gradients], **settings)
    return result


def train(make, starts, gradients):
    """The parameters after a step with each of gradients[parameter][step]."""
    parameters = [Tensor(start, requires_grad=True) for start in starts]
    optimizer = make(parameters)
    for arrays in zip(*gradients, strict=True):
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.grad = array
        optimizer.step()
    return [parameter.data for parameter in parameters]


def problem(shapes, steps=5, dtype="float64", seed=3):
    generator = Generator(seed)
    starts = [generator.normal(shape, dtype=dtype) for shape in shapes]
    return starts, [[generator.normal(shape, dtype=dtype) for _ in range(steps)] for shape in shapes]


SGD_SETTINGS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"weight_decay": 0.1},
    {"momentum": 0.8, "weight_decay": 0.1},
    {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
]


@pytest.mark.parametrize("settings", SGD_SETTINGS, ids=str)
def test_sgd_equals_its_formula(settings):
    starts, gradients = problem([(4, 3), (5,), ()])
    results = train(lambda params: SGD(params, lr=0.1, **settings), starts, gradients)
    for start, g, result in zip(starts, gradients, results, strict=True):
        expected = elementwise(sgd_by_hand, start, g, lr=0.1, **settings)
        np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.0), (0.5, 0.95)])
@pytest.mark.parametrize("eps", [1e-8, 0.1])  # with a large eps, a misplaced correction shows
def test_adam_equals_its_formula(betas, eps):
    starts, gradients = problem([(4, 3), (5,), ()], steps=7)
    results = train(lambda params: Adam(params, lr=0.01, betas=betas, eps=eps), starts, gradients)
    for start, g, result in zip(starts, gradients, results, strict=True):
        expected = elementwise(adamw_by_hand, start, g, lr=0.01, betas=betas, eps=eps)
        np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-14)


def test_adamw_equals_its_formula_and_decays_matrices_only():
    starts, gradients = problem([(4, 3), (5,), (2, 2, 2), ()], steps=6)
    numbers = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8}
    results = train(lambda params: AdamW(params, weight_decay=0.3, **numbers), starts, gradients)
    for start, g, result in zip(starts, gradients, results, strict=True):
        decay = 0.3 if start.ndim >= 2 else 0.0
        expected = elementwise(adamw_by_hand, start, g, weight_decay=decay, **numbers)
        np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-14)


def test_the_decay_filter_chooses_by_name_and_tensor():
    named = [(name, Tensor(np.ones((2, 2)), requires_grad=True)) for name in ("embedding", "weight")]
    optimizer = AdamW(named, lr=0.5, weight_decay=0.1, decay_filter=lambda name, p: name == "weight")
    for _, parameter in named:
        parameter.grad = np.zeros((2, 2))
    optimizer.step()
    assert (named[0][1].data == 1).all()
    np.testing.assert_allclose(named[1][1].data, 0.95, rtol=1e-15)


def test_the_first_step_of_adam_has_the_length_of_the_learning_rate():
    """m and v start at 0; without the corrections the first step would be lr * 0.1 / sqrt(0.001)."""
    (result,) = train(lambda params: Adam(params, lr=0.01), [np.zeros(3)], [[np.array([1e-3, -5.0, 2e4])]])
    np.testing.assert_allclose(result, [-0.01, 0.01, -0.01], rtol=1e-4)


def test_groups_have_their_own_settings():
    starts, gradients = problem([(3,), (3,)])
    results = train(
        lambda params: AdamW(
            [{"params": params[:1], "lr": 0.1, "betas": (0.5, 0.5)}, {"params": params[1:]}]
        ),
        starts,
        gradients,
    )
    settings = [{"lr": 0.1, "betas": (0.5, 0.5)}, {"lr": 1e-3, "betas": (0.9, 0.999)}]
    for start, g, result, numbers in zip(starts, gradients, results, settings, strict=True):
        np.testing.assert_allclose(
            result, elementwise(adamw_by_hand, start, g, eps=1e-8, **numbers), rtol=1e-13
        )


def test_a_learning_rate_written_between_steps_is_used():
    parameter = Tensor(np.zeros(2), requires_grad=True)
    optimizer = SGD([parameter], lr=1.0)
    for lr in (0.5, 0.25):
        optimizer.param_groups[0]["lr"] = lr
        parameter.grad = np.ones(2)
        optimizer.step()
    np.testing.assert_array_equal(parameter.data, [-0.75, -0.75])
    optimizer.scale_lr(0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)  # of the initial rate, not of the last


# one pass over all parameters

MAKERS = {
    "sgd": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda params: Adam(params, lr=0.1),
    "adamw": lambda params: AdamW(params, lr=0.1, weight_decay=0.1),
}
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)


@example(shapes=[(6, 5), (6, 5), (4,), (9, 9)], block=50, gather=60, maker="adamw", dtype="float32")
@given(
    shapes=st.lists(shapes, min_size=1, max_size=6),
    block=st.integers(1, 300),
    gather=st.integers(1, 60),
    maker=st.sampled_from(sorted(MAKERS)),
    dtype=st.sampled_from(["float64", "float32", "float16"]),
)
def test_the_blocks_do_not_show(shapes, block, gather, maker, dtype):
    """All parameters together, in blocks of any size, give the bits of each parameter alone in one."""
    starts, gradients = problem(shapes, steps=3, dtype=dtype)
    alone = [train(MAKERS[maker], [p], [g])[0] for p, g in zip(starts, gradients, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat, "BLOCK", block)
        patch.setattr(flat, "GATHER_BELOW", gather)
        together = train(MAKERS[maker], starts, gradients)
    for one, other in zip(alone, together, strict=True):
        assert one.dtype == other.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(one, other)


def test_parameters_larger_than_a_block_are_updated_to_the_last_element():
    starts, gradients = problem([(3, flat.BLOCK - 5), (7,), (flat.GATHER_BELOW,)], steps=2)
    numbers = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}
    results = train(lambda params: AdamW(params, weight_decay=0.1, **numbers), starts, gradients)
    for start, g, result in zip(starts, gradients, results, strict=True):
        decay = 0.1 if start.ndim == 2 else 0.0
        ends = (start.reshape(-1)[[0, -1]], [step.reshape(-1)[[0, -1]] for step in g])
        expected = elementwise(adamw_by_hand, *ends, weight_decay=decay, **numbers)
        np.testing.assert_allclose(result.reshape(-1)[[0, -1]], expected, rtol=1e-13)
        assert (result != start).all()


@pytest.mark.parametrize("maker", sorted(MAKERS))
@pytest.mark.parametrize("rows", [3, 200])  # gathered, and in a block of its own
def test_the_memory_layout_does_not_matter(maker, rows):
    (start,), (gradients,) = problem([(rows, 50)])
    (plain,) = train(MAKERS[maker], [start], [gradients])
    layouts = [np.asfortranarray(start), np.repeat(start, 2, axis=1)[:, ::2]]
    for layout in layouts:
        parameter = Tensor.wrap(layout)
        parameter.requires_grad = True
        optimizer = MAKERS[maker]([parameter])
        for g in gradients:
            parameter.grad = np.asfortranarray(g)
            optimizer.step()
        assert parameter.data is layout
        np.testing.assert_array_equal(layout, plain)


def test_float16_parameters_keep_their_state_in_float32():
    """Squares of gradients of 1e-4 are 0 in float16; Adam's first step has the length lr all the same."""
    start, gradient = np.ones((2, 3), "float16"), np.full((2, 3), 1e-4, "float16")
    parameter = Tensor(start, requires_grad=True)
    optimizer = Adam([parameter], lr=0.01)
    parameter.grad = gradient
    optimizer.step()
    np.testing.assert_array_equal(parameter.data, (start - np.float16(0.01)).astype("float16"))
    assert parameter.dtype == np.float16
    assert {array.dtype for array in optimizer.state_dict()["tensors"].values()} == {np.dtype("float32")}


# what a step leaves alone


def test_a_parameter_without_a_gradient_is_not_touched_and_does_not_age():
    starts, gradients = problem([(3,), (3,), (3,)], steps=4)
    parameters = [Tensor(start, requires_grad=True) for start in starts]
    optimizer = AdamW(parameters, lr=0.01, eps=0.1)
    for t in range(4):
        for i, parameter in enumerate(parameters):
            parameter.grad = None if (i == 1 and t < 2) or i == 2 else gradients[i][t]
        optimizer.step()
    numbers = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 0.1}
    for i, used in ((0, gradients[0]), (1, gradients[1][2:]), (2, [])):
        np.testing.assert_allclose(
            parameters[i].data, elementwise(adamw_by_hand, starts[i], used, **numbers), rtol=1e-13
        )
    assert optimizer.state_dict()["steps"] == {"0": 4, "1": 2, "2": 0}


@pytest.mark.parametrize("maker", sorted(MAKERS))
def test_arrays_are_written_in_place_and_gradients_only_read(maker):
    starts, _ = problem([(3, 4), (100, 100)])
    parameters = [Tensor(start, requires_grad=True) for start in starts]
    arrays = [parameter.data for parameter in parameters]
    for parameter in parameters:
        parameter.grad = np.ones(parameter.shape)
    MAKERS[maker](parameters).step()
    for parameter, array in zip(parameters, arrays, strict=True):
        assert parameter.data is array
        assert (parameter.grad.data == 1).all()


def test_a_backward_through_a_graph_from_before_the_step_is_refused():
    x, weight = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    y = multiply(x, weight)
    weight.grad = np.ones(3)
    SGD([weight], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(np.ones(3))


def test_a_step_marks_only_what_it_changed():
    moved, resting = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    optimizer = Adam([moved, resting])
    moved.grad = np.ones(3)
    squares = [multiply(p, p).sum() for p in (moved, resting)]
    optimizer.step()
    with pytest.raises(RuntimeError, match="changed in place"):
        squares[0].backward()
    squares[1].backward()
    assert resting.grad.tolist() == [2.0, 2.0, 2.0]


def test_zero_grad_forgets_or_zeroes():
    parameter = Tensor(np.ones(3), requires_grad=True)
    optimizer = SGD([parameter], lr=0.1)
    parameter.grad = np.ones(3)
    optimizer.zero_grad(set_to_none=False)
    assert (parameter.grad.data == 0).all()
    optimizer.zero_grad()
    assert parameter.grad is None


def test_two_optimizers_share_nothing():
    starts, gradients = problem([(3, 4)])
    (alone,) = train(MAKERS["adamw"], starts, gradients)
    parameters = [Tensor(starts[0], requires_grad=True) for _ in range(2)]
    optimizers = [MAKERS["adamw"]([parameter]) for parameter in parameters]
    for g in gradients[0]:
        for parameter, optimizer in zip(parameters, optimizers, strict=True):
            parameter.grad = g
            optimizer.step()
    for parameter in parameters:
        np.testing.assert_array_equal(parameter.data, alone)


def test_the_public_names_are_all_there():
    for name in optim.__all__:
        assert getattr(optim, name).__doc__

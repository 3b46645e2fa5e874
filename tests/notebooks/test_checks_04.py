"""The checkers of chapter 4: a right answer passes, and each usual mistake is named."""

import numpy as np
import pytest

from checks import NotYet
from checks.chapter_04 import check_central, check_dual, check_find, check_sneaky
from minilm.tensor import Tensor
from minilm.testing import GradientError, check_operations, gradcheck


def both_sides(f, vjp, x, v, u, h=1e-6):
    return (v * (f(x + h * u) - f(x - h * u)) / (2 * h)).sum(), (vjp(v) * u).sum()


def one_sided(f, vjp, x, v, u, h=1e-6):
    return (v * (f(x + h * u) - f(x)) / h).sum(), (vjp(v) * u).sum()


def find(suspects):
    return [result.operation for result in check_operations(suspects) if not result.ok]


def find_with_sum(suspects):
    """Looks at three of them only, and at their sums."""
    import minilm.functional as F

    calls = {"tanh": F.tanh, "softmax": F.softmax, "getitem": lambda x: x[np.array([0, 0])]}
    found = []
    for name in suspects:
        if name in calls:
            try:
                gradcheck(lambda x, name=name: calls[name](x).sum(), [Tensor(np.eye(3), requires_grad=True)])
            except GradientError:
                found.append(name)
    return found


RIGHT = [
    (check_central, lambda f, x, h: (f(x + h) - f(x - h)) / (2 * h)),
    (check_dual, both_sides),
    (check_dual, lambda *a: np.array(both_sides(*a))),
    (check_sneaky, lambda y, g: g - g.mean(-1, keepdims=True)),
    (check_sneaky, lambda y, g: 2 * y * (g - (g * y).sum(-1, keepdims=True))),
    (check_find, find),
]
WRONG = [
    (check_central, lambda f, x, h: ..., "fill it in"),
    (check_central, lambda f, x, h: (f(x + h) - f(x)) / h, "forward difference"),
    (check_central, lambda f, x, h: (f(x + h) - f(x - h)) / h, "Twice too large"),
    (check_central, lambda f, x, h: (f(x + h) - f(x - h)) / 2 * h, "Brackets"),
    (check_central, lambda f, x, h: (f(x - h) - f(x + h)) / (2 * h), "The sign"),
    (check_dual, lambda f, vjp, x, v, u: (both_sides(f, vjp, x, v, u)[0] * 2, (vjp(v) * u).sum()), "Divide by 2 h"),
    (check_dual, lambda f, vjp, x, v, u: (both_sides(f, vjp, x, v, u)[0],) * 2, "comes from vjp"),
    (check_dual, lambda f, vjp, x, v, u: (vjp(v) * u).sum(), "return two numbers"),
    (check_dual, lambda *a: both_sides(*a)[::-1], "exchanged"),
    (check_dual, one_sided, "forward difference"),
    (check_dual, lambda f, vjp, x, v, u, h=1e-6: both_sides(f, vjp, x, v, u), "The step h"),
    (check_dual, lambda f, vjp, x, v, u: (v * f(x), vjp(v) * u), "sum the products"),
    (check_sneaky, lambda y, g: y * (g - (g * y).sum(-1, keepdims=True)), "that is the right gradient"),
    (check_sneaky, lambda y, g: y * 0, "zero fools the check"),
    (check_sneaky, lambda y, g: g, "g all ones"),
    (check_find, lambda suspects: "tanh", "return a list of names"),
    (check_find, lambda suspects: check_operations(suspects), "result.operation"),
    (check_find, lambda suspects: [], "you found nothing"),
    (check_find, find_with_sum, "random cotangent"),
    (check_find, lambda suspects: suspects, "no bug is planted, and you accuse"),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_a_right_answer_passes(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize("check, answer, message", WRONG)
def test_a_mistake_is_named(check, answer, message):
    with pytest.raises(NotYet, match=message):
        check(answer)


def test_the_operations_are_right_again_after_a_wrong_answer():
    with pytest.raises(NotYet):
        check_find(lambda suspects: [])
    assert find(["tanh", "matmul", "softmax", "getitem"]) == []

"""Products have NumPy's values: matmul with broadcasting, linear, einsum in all its forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minilm.functional as functional
from minilm import Tensor
from minilm.testing import gradcheck
from tests.properties.strategies import arrays

moderate = settings(max_examples=50)
close = dict(rtol=1e-12, atol=1e-12, strict=True)


@moderate
@given(
    shapes=hnp.mutually_broadcastable_shapes(
        signature="(n?,k),(k,m?)->(n?,m?)", max_dims=2, min_side=0, max_side=3
    ),
    data=st.data(),
)
def test_matmul_gives_what_numpy_gives_with_the_right_gradient(shapes, data):
    a, b = (data.draw(arrays(shape, -2, 2)) for shape in shapes.input_shapes)
    leaves = [Tensor.wrap(a), Tensor.wrap(b)]
    for x in leaves:
        x.requires_grad = True
    np.testing.assert_allclose((leaves[0] @ leaves[1]).data, np.asarray(a @ b), **close)
    assert gradcheck(functional.matmul, leaves)


@moderate
@given(data=st.data(), bias=st.booleans())
def test_linear_is_a_product_with_the_transpose(data, bias):
    n_in, n_out = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 4))
    leading = data.draw(hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=3))
    x, w = data.draw(arrays((*leading, n_in))), data.draw(arrays((n_out, n_in)))
    b = data.draw(arrays((n_out,))) if bias else None
    y = functional.linear(Tensor.wrap(x), Tensor.wrap(w), None if b is None else Tensor.wrap(b))
    np.testing.assert_allclose(y.data, x @ w.T + (0 if b is None else b), **close)


@pytest.mark.parametrize(
    "subscripts, shapes",
    [
        ("ij,jk->ik", ((2, 3), (3, 4))),
        ("ij,jk", ((2, 3), (3, 4))),
        ("ba,ab", ((2, 3), (3, 2))),
        ("i,i->", ((3,), (3,))),
        ("i,j->ji", ((3,), (2,))),
        ("ii", ((3, 3),)),
        ("ii->i", ((3, 3),)),
        ("iij->ji", ((3, 3, 2),)),
        ("iii->i", ((2, 2, 2),)),
        ("ijk->", ((2, 3, 2),)),
        ("ijk->j", ((2, 3, 2),)),
        ("i...->...i", ((2, 3, 4),)),
        ("...ij,...jk->...ik", ((2, 1, 2, 3), (3, 3, 2))),
        ("...,...", ((2, 3), (3,))),
        ("b...h,h->b...", ((2, 3, 4), (4,))),
        ("ij,ij->ij", ((1, 3), (2, 1))),
        ("ij,jk,kl->il", ((2, 3), (3, 2), (2, 4))),
        ("a,b,c->cab", ((2,), (3,), (2,))),
        ("ij , jk -> ik", ((2, 0), (0, 3))),
        (",ij->ij", ((), (2, 2))),
        ("Ab,bA->A", ((2, 3), (3, 2))),
    ],
)
def test_einsum_gives_what_numpy_gives_with_the_right_gradient(subscripts, shapes):
    rng = np.random.default_rng(0)
    leaves = [Tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]
    y = functional.einsum(subscripts, *leaves)
    np.testing.assert_allclose(y.data, np.asarray(np.einsum(subscripts, *(x.data for x in leaves))), **close)
    assert gradcheck(lambda *xs: functional.einsum(subscripts, *xs), leaves)


@pytest.mark.parametrize(
    "subscripts, shapes, message",
    [
        ("ij,jk->ik", ((2, 3),), r"names 2 operands, but 1 are given"),
        ("ijk->i", ((2, 3),), r"'ijk' in 'ijk->i' names 3 axes of an operand of shape \(2, 3\)"),
        ("ij->k", ((2, 3),), r"^einsum: "),
        ("ij,jk->ik", ((2, 3), (4, 2)), r"\(2, 3\) float64, \(4, 2\) float64"),
    ],
)
def test_subscripts_that_do_not_fit_are_refused(subscripts, shapes, message):
    with pytest.raises(ValueError, match=message):
        functional.einsum(subscripts, *(Tensor(np.zeros(shape)) for shape in shapes))


def test_a_product_with_a_scalar_is_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"matmul: .*use \* for a scalar"):
        Tensor([1.0]) @ Tensor(2.0)


def test_a_bias_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"linear: bias \(2,\) does not fit weight \(4, 3\): it must be \(4,\)"):
        functional.linear(*(Tensor(np.zeros(shape)) for shape in ((1, 3), (4, 3), (2,))))

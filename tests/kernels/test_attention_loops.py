"""The lowest rung of the ladder equals the textbook formula, by itself and in the place of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilm
import minilm.functional as F
from minilm import Tensor, backend
from minilm.kernels.attention.loops import attention
from minilm.models import GPT, GPTConfig


@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([False, True, "upper_left", "lower_right"]),
    st.sampled_from([None, "bool", "additive"]),
    st.sampled_from([None, 0.3]),
    st.integers(0, 99),
)
def test_loops_equal_the_formula(Tq, Tk, D, is_causal, mask, scale, seed) -> None:
    rng = np.random.default_rng(seed)
    query, key, value = (rng.normal(size=(2, 3, T, d)) for T, d in ((Tq, D), (Tk, D), (Tk, D + 1)))
    masks = {None: None, "bool": rng.random((Tq, Tk)) < 0.6, "additive": rng.normal(size=(3, 1, Tk))}
    inputs = [Tensor(a, requires_grad=True) for a in (query, key, value)]
    attn_mask = None if mask is None else Tensor(masks[mask], requires_grad=mask == "additive")
    expected = F.scaled_dot_product_attention(*inputs, attn_mask, is_causal=is_causal, scale=scale)
    g = rng.normal(size=expected.shape)
    expected.backward(g)

    out, vjp = attention(query, key, value, masks[mask], is_causal=is_causal, scale=scale)
    np.testing.assert_allclose(out, expected.numpy(), atol=1e-12)
    *gradients, dmask = vjp(g, (True, True, True, mask == "additive"))
    for ours, tensor in zip(gradients, inputs, strict=True):
        np.testing.assert_allclose(ours, tensor.grad.numpy(), atol=1e-12)
    if mask == "additive":
        np.testing.assert_allclose(dmask, attn_mask.grad.numpy(), atol=1e-12)


def test_a_kernel_in_the_backends_table_takes_the_place_of_the_textbook_body(monkeypatch) -> None:
    minilm.manual_seed(0)
    model = GPT(GPTConfig(11, 6, n_layer=1, n_head=2, n_embd=8)).astype("float64")
    ids = np.arange(10).reshape(2, 5)
    batch = {"input_ids": ids, "labels": ids + 1}

    def gradients() -> dict[str, np.ndarray]:
        model.zero_grad()
        model.loss(batch).backward()
        return {name: p.grad.numpy().copy() for name, p in model.named_parameters()}

    textbook = gradients()
    calls = []
    table = {"scaled_dot_product_attention": "minilm.kernels.attention.loops:attention"}
    monkeypatch.setitem(backend.BACKENDS, "loops", replace(backend.BACKENDS["numpy"], name="loops", kernels=table))
    monkeypatch.setattr(backend, "why_not", lambda name: None)
    with minilm.use_backend("loops"):
        assert backend.kernel_for("scaled_dot_product_attention") is attention
        backend._kernels["scaled_dot_product_attention"] = lambda *a, **k: calls.append(1) or attention(*a, **k)
        by_loops = gradients()
    assert calls and minilm.backend.current_backend().name == "numpy"
    for name in textbook:
        np.testing.assert_allclose(by_loops[name], textbook[name], atol=1e-12)


def test_what_this_rung_lacks_is_said() -> None:
    x = np.ones((1, 2, 2))
    with pytest.raises(NotImplementedError, match="textbook formula in minilm.functional"):
        attention(x, x, x, dropout_p=0.1)

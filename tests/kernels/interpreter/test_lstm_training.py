"""A language model trains through the kernels: LSTM, cross-entropy and AdamW together, behind one switch."""

from __future__ import annotations

import numpy as np
import pytest

import minilm
from minilm.kernels.adamw import triton as adamw
from minilm.kernels.cross_entropy import triton as cross_entropy
from minilm.kernels.host import interpreting
from minilm.kernels.lstm_cell import triton as lstm_cell
from minilm.models import LSTMLM, LSTMConfig
from minilm.optim import AdamW

# On a GPU the model's arrays are CuPy's, and these tests are about NumPy's.
pytestmark = pytest.mark.skipif(not interpreting(), reason="made for Triton's interpreter")


def losses_and_parameters(backend, steps=3):
    minilm.manual_seed(0)
    model = LSTMLM(LSTMConfig(vocab_size=37, n_embd=10, n_hidden=19, n_layer=2, dropout=0.0))
    optimizer = AdamW(model.named_parameters(), lr=0.01, weight_decay=0.1)
    ids = np.random.default_rng(1).integers(0, 37, (2, 6))
    labels = ids[:, 1:].copy()
    labels[0, 3:] = -100
    losses = []
    with minilm.use_backend(backend):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model.loss({"input_ids": ids[:, :-1], "labels": labels})
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses, {name: p.numpy().copy() for name, p in model.named_parameters()}


def test_three_steps_on_the_kernels_are_three_steps_on_the_textbook(monkeypatch):
    launched = set()
    for module in (lstm_cell, cross_entropy, adamw):

        def noting(kernel, *args, plain=module.launch, **meta):
            launched.add(kernel.__name__)
            return plain(kernel, *args, **meta)

        monkeypatch.setattr(module, "launch", noting)
    losses, parameters = losses_and_parameters("triton")
    assert launched == {
        "lstm_cell_forward_kernel",
        "lstm_cell_backward_kernel",
        "cross_entropy_forward_kernel",
        "cross_entropy_backward_kernel",
        "adamw_kernel",
    }
    expected_losses, expected = losses_and_parameters("numpy")
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert losses[-1] < losses[0]
    # Adam divides by the size of the gradient: where that is rounding, so is the step. lr is 0.01, and most agree.
    for name, array in expected.items():
        assert np.median(np.abs(parameters[name] - array)) < 1e-6
        np.testing.assert_allclose(parameters[name], array, atol=2e-3)

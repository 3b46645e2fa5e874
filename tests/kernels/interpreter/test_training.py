"""The smallest models train through the Triton kernels, and the losses are those of the textbook formulas."""

import json
import subprocess
import sys

import numpy as np
import pytest

from minilm.kernels import host
from tests.kernels.training import gpt, lstm, train

GPT_KERNELS = {
    "attention": {
        "attention_forward_kernel",
        "attention_delta_kernel",
        "attention_key_value_kernel",
        "attention_query_kernel",
    },
    "products": {"matmul_kernel", "column_sum_kernel"},
    "norms": {"layer_norm_kernel", "layer_norm_backward_kernel"},
    "loss and step": {"cross_entropy_forward_kernel", "cross_entropy_backward_kernel", "adamw_kernel"},
}


@pytest.fixture
def launched(monkeypatch):
    names = set()
    run = host._run

    def noted(kernel, *rest):
        names.add(kernel.__name__)
        run(kernel, *rest)

    monkeypatch.setattr(host, "_run", noted)
    return names


@pytest.mark.parametrize("make", [gpt, lambda: gpt(dropout=0.2), lstm], ids=["gpt", "gpt-dropout", "lstm"])
def test_losses_and_parameters_are_those_of_the_textbook_formulas(make, launched):
    losses, parameters = train("numpy", make)
    assert not launched
    through_kernels, trained = train("triton", make)
    np.testing.assert_allclose(through_kernels, losses, rtol=1e-6)
    for name, expected in parameters.items():
        # Adam divides a gradient by its own size: that of a key's bias, 0 but for rounding, becomes a step too.
        np.testing.assert_allclose(trained[name], expected, atol=2e-5, err_msg=name)
    assert len(set(losses)) == len(losses)
    if make is lstm:
        assert {"lstm_cell_forward_kernel", "lstm_cell_backward_kernel", "adamw_kernel"} <= launched
    else:
        assert set().union(*GPT_KERNELS.values()) <= launched


def test_the_command_line_trains_through_the_kernels(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 12)
    losses = {}
    for backend in ("numpy", "triton"):
        run = tmp_path / backend
        command = [sys.executable, "-m", "minilm", "train", "gpt", "--backend", backend, "--data", text, "--out", run]
        sizes = "--preset tiny --n-layer 1 --n-head 1 --n-embd 8 --block-size 8 --batch-size 2 --steps 2 --no-plot"
        result = subprocess.run([*command, *sizes.split()], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses[backend] = [line[name] for line in lines for name in ("loss", "eval_loss") if name in line]
    assert losses["triton"]
    np.testing.assert_allclose(losses["triton"], losses["numpy"], rtol=1e-5)

"""use_backend switches, restores, and says why it cannot."""

import os
import subprocess
import sys

import numpy as np
import pytest

import minilm.functional as functional
from minilm import Tensor, backend, use_backend
from minilm.backend import BACKENDS, Backend, current_backend, why_not
from minilm.errors import BackendError, MinilmError
from minilm.tensor import OPERATIONS


@pytest.fixture
def without_cupy(monkeypatch):
    """A machine on which cupy is not installed, whatever this one has."""
    known = backend.importlib.util.find_spec
    monkeypatch.setattr(
        backend.importlib.util, "find_spec", lambda name, *rest: None if name == "cupy" else known(name, *rest)
    )


def test_numpy_is_the_default():
    assert current_backend().name == "numpy"
    assert isinstance(Tensor([1.0]).data, np.ndarray)


@pytest.mark.parametrize("name", ["cupy", "triton"])
def test_a_backend_that_cannot_work_says_what_to_install_and_changes_nothing(name, without_cupy):
    with pytest.raises(BackendError) as caught:
        use_backend(name)
    message = str(caught.value)
    assert isinstance(caught.value, MinilmError)
    assert f"{name!r} backend" in message and "'numpy'" in message
    assert "minilm[cupy]" in message or name == "triton"
    assert current_backend().name == "numpy"


def test_an_unknown_backend_lists_the_known_ones():
    with pytest.raises(BackendError, match="no backend 'torch': choose one of 'numpy', 'cupy', 'triton'"):
        use_backend("torch")
    assert why_not("numpy") is None


def test_the_backend_is_restored_after_the_block_and_after_an_error(monkeypatch):
    monkeypatch.setitem(BACKENDS, "other", Backend("other", "numpy"))
    known = backend.why_not
    monkeypatch.setattr(backend, "why_not", lambda name: None if name == "other" else known(name))
    with use_backend("other") as chosen:
        assert chosen.name == current_backend().name == "other"
    assert current_backend().name == "numpy"
    with pytest.raises(KeyError), use_backend("other"):
        raise KeyError
    assert current_backend().name == "numpy"
    use_backend("other")  # as a statement it stays
    assert current_backend().name == "other"
    use_backend("numpy")


@pytest.mark.parametrize("value, ok", [("numpy", True), ("", True), ("abacus", False)])
def test_the_environment_chooses_the_backend(value, ok):
    program = "import minilm; print(minilm.Tensor([1.0]).numpy()); print(minilm.backend.current_backend().name)"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "MINILM_BACKEND": value},
        capture_output=True,
        text=True,
    )
    if ok:
        assert result.stdout.split() == ["[1.]", "numpy"], result.stderr
    else:
        assert result.returncode != 0 and "there is no backend 'abacus'" in result.stderr


calls: list[str] = []


def counting_linear(x, weight, bias=None):
    """A kernel: the signature of `linear` on arrays, with a joint vjp of its own."""
    calls.append("forward")
    y = np.einsum("...i,oi->...o", x, weight) + (0 if bias is None else bias)

    def vjp(g, needs):
        calls.append("backward")
        return (
            np.einsum("...o,oi->...i", g, weight) if needs[0] else None,
            np.einsum("no,ni->oi", g, x) if needs[1] else None,
            g.reshape(-1, g.shape[-1]).sum(0) if needs[2] else None,
        )

    return y, vjp


def test_a_kernel_in_the_table_replaces_the_textbook_body_and_trains(monkeypatch):
    monkeypatch.setitem(BACKENDS, "kernels", Backend("kernels", "numpy", {"linear": f"{__name__}:counting_linear"}))
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())
    known = backend.why_not
    monkeypatch.setattr(backend, "why_not", lambda name: None if name == "kernels" else known(name))

    def train():
        rng = np.random.default_rng(0)
        x, target = Tensor(rng.normal(size=(8, 3))), Tensor(rng.normal(size=(8, 2)))
        w, b = (Tensor(np.full(s, 0.1), requires_grad=True) for s in ((2, 3), (2,)))
        losses = []
        for _ in range(20):
            loss = ((functional.linear(x, w, b) - target) ** 2).mean()
            w.grad = b.grad = None
            loss.backward()
            for p in (w, b):
                p.detach().add_(p.grad * -0.3)
            losses.append(loss.item())
        return losses

    textbook = train()
    assert calls == []
    with use_backend("kernels"):
        np.testing.assert_allclose(train(), textbook, rtol=1e-12)
    assert calls.count("forward") == calls.count("backward") == 20
    assert textbook[-1] < 0.8 * textbook[0]
    train()
    assert len(calls) == 40  # after the block the textbook body is back
    assert OPERATIONS["linear"].body is not counting_linear


def _this_module():
    """This file as a module, under whichever name pytest imported it."""
    import types

    module = types.ModuleType(__name__)
    module.counting_linear = counting_linear
    return module

"""Operations follow their arrays: all of them run on a device array module, forward and backward, as on NumPy."""

import numpy as np
import pytest

from minilm import Tensor, use_backend
from minilm.backend import asarray, register_home, to_numpy, xp
from minilm.random import Generator
from minilm.tensor import OPERATIONS, backpropagate
from minilm.testing import SAMPLES
from tests.backend.standin import DeviceArray, Mixed, install, standin


@pytest.fixture
def device(monkeypatch):
    install(monkeypatch)
    with use_backend("standin"):
        yield


def flat(output):
    return [output] if isinstance(output, Tensor) else [t for part in output for t in flat(part)]


def values_and_gradients(sample):
    """All outputs and all gradients of a sample, on the host, and the types of the arrays that they were in."""
    inputs = sample.draw(Generator(0).spawn(sample.name))
    outputs = flat(sample.fn(*inputs))
    generator = Generator(1)
    live = [(y, generator.normal(y.shape, dtype="float64")) for y in outputs if y.requires_grad]
    found = {id(leaf): g for leaf, g in backpropagate(*zip(*live, strict=True))}
    arrays = [*(y.data for y in outputs), *(found[id(x)] for x in inputs if id(x) in found)]
    return [to_numpy(a) for a in arrays], {type(a) for a in arrays}


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_on_device_arrays_equals_the_one_on_numpy(name, monkeypatch):
    expected = [values_and_gradients(sample)[0] for sample in SAMPLES[name]]
    install(monkeypatch)
    with use_backend("standin"):
        for sample, host in zip(SAMPLES[name], expected, strict=True):
            try:
                device, types = values_and_gradients(sample)
            except Exception as error:
                error.add_note(f"in the sample {sample.name!r} of {name}")
                raise
            assert types == {DeviceArray}
            for a, b in zip(device, host, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, strict=True)


def test_a_training_step_on_the_device(device):
    x, w = Tensor([[1.0, 2.0]]), Tensor([[0.5], [0.25]], requires_grad=True)
    for _ in range(2):
        ((x @ w) ** 2).sum().backward()
    assert isinstance(w.grad.data, DeviceArray) and w.grad.tolist() == [[4.0], [8.0]]
    w.grad.zero_()
    w.detach().add_(1.0)
    assert w.tolist() == [[1.5], [1.25]] and w.numpy().tolist() == [[1.5], [1.25]]
    assert "1.5" in repr(w) and w.astype("float64").sum().item() == 2.75


def test_changes_in_place_are_detected_through_views_on_the_device(device):
    x = Tensor([[1.0, 2.0]], requires_grad=True)
    y = (x * x).sum()
    x.detach().reshape(2).fill_(3.0)
    with pytest.raises(RuntimeError, match="multiply: an array .* changed in place"):
        y.backward()


def test_arrays_of_two_homes_are_refused_with_the_way_out(device):
    x = Tensor([1.0, 2.0])
    for other in (Tensor.wrap(np.ones(2, "float32")), np.ones(2, "float32")):
        with pytest.raises(TypeError, match=r"arrays of two homes .*numpy.*asarray\(array\).*to_numpy\(array\)"):
            x + other
    with pytest.raises(TypeError, match="arrays of two homes"):
        x.copy_(np.ones(2, "float32"))
    with pytest.raises(TypeError, match="arrays of two homes"):
        Tensor([1.0, 2.0], requires_grad=True).exp().backward(Tensor.wrap(np.ones(2, "float32")))


def test_what_comes_from_the_host_on_purpose_is_moved(device):
    """A new Tensor, a cotangent, a gradient: these are handed over, where operands are only used."""
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    (x * x).backward(np.array([1.0, 10.0]))
    assert isinstance(x.data, DeviceArray) and x.grad.tolist() == [2.0, 40.0]
    x.grad = np.array([5.0, 6.0])
    assert isinstance(x.grad.data, DeviceArray) and x.grad.tolist() == [5.0, 6.0]


def test_the_stand_in_is_strict(device):
    a = asarray([1.0, 2.0])
    b = np.ones(2)
    for mixed in (lambda: np.asarray(a), lambda: a + b, lambda: b + a, lambda: standin.exp(b)):
        with pytest.raises(TypeError):
            mixed()
    with pytest.raises(Mixed):
        a[np.array([0])]
    assert isinstance(a.sum(), DeviceArray) and a.sum().shape == ()
    with pytest.raises(AttributeError):
        standin.errstate  # noqa: B018
    assert not isinstance(a, np.ndarray)


def test_an_operation_that_reaches_for_numpy_is_caught(device):
    from minilm.functional.elementwise import exp

    body = OPERATIONS["exp"].body
    OPERATIONS["exp"].body = lambda x: (np.exp(x), lambda g: g)
    try:
        with pytest.raises(TypeError):
            exp(Tensor([1.0]))
    finally:
        OPERATIONS["exp"].body = body


def test_generators_give_the_same_numbers_on_the_device(device):
    drawn = Generator(3).normal((4,)), Generator(3).keep_mask((4,), 0.5)
    assert all(isinstance(a, DeviceArray) for a in drawn)
    with use_backend("numpy"):
        assert [a.tolist() for a in drawn] == [
            Generator(3).normal((4,)).tolist(),
            Generator(3).keep_mask((4,), 0.5).tolist(),
        ]


def test_xp_names_the_module_of_an_array(device):
    assert xp(np.ones(1)) is np and xp(asarray([1.0])) is standin
    with pytest.raises(TypeError, match="list is not an array that minilm knows"):
        xp([1.0])


def test_a_home_can_be_registered(monkeypatch):
    from minilm import backend

    class Elsewhere:
        pass

    monkeypatch.setattr(backend, "_homes", dict(backend._homes))
    assert not backend.is_array(Elsewhere())
    register_home(Elsewhere, np)
    assert xp(Elsewhere()) is np

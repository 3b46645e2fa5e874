"""Every layer and model computes on device arrays what it does on NumPy's: outputs, and the gradient of everything."""

import numpy as np
import pytest

from minilm import Tensor, use_backend
from minilm.backend import to_numpy
from minilm.cli.layers import layer_samples
from minilm.random import Generator
from minilm.tensor import backpropagate
from tests.backend.standin import DeviceArray, no_synchronization


def flat(output):
    return [output] if isinstance(output, Tensor) else [t for part in output for t in flat(part)]


def values_and_gradients(sample, transfers):
    """Outputs and gradients of a sample, on the host. What it computes may not wait for the device."""
    # ids and labels stay NumPy arrays, as a batch holds them: they are checked and moved by the operations
    ids = [i for i, x in enumerate(sample.inputs) if isinstance(x, np.ndarray)]
    inputs = sample.draw(Generator(0).spawn(sample.name))
    for i in ids:
        inputs[i] = sample.inputs[i]
    with no_synchronization() as traffic:
        outputs = flat(sample.fn(*inputs))
        generator = Generator(1)
        live = [(y, Tensor(generator.normal(y.shape, dtype="float64"))) for y in outputs if y.requires_grad]
        found = {id(leaf): g for leaf, g in backpropagate(*zip(*live, strict=True))}
    traffic.uploads -= len(live)  # the cotangents
    tables = sample.name == "ALiBi"  # made once for its lengths
    assert traffic.uploads <= len(ids) + tables, "something else than ids was uploaded"
    arrays = [*(y.data for y in outputs), *(found[id(x)] for x in inputs if id(x) in found)]
    transfers.extend(type(a) for a in arrays)
    return [to_numpy(a) for a in arrays]


NAMES = [f"{s.operation}: {s.name}" for s in layer_samples()]


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_a_layer_on_the_device_equals_the_one_on_numpy(number, standin_known):
    types: list[type] = []
    expected = values_and_gradients(layer_samples()[number], types)
    assert set(types) == {np.ndarray}
    with use_backend("standin"):
        types = []
        actual = values_and_gradients(layer_samples()[number], types)
    assert set(types) == {DeviceArray}
    assert len(actual) == len(expected) > 1
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12, strict=True)


def test_the_command_gradcheck_passes_on_the_device(device):
    """Finite differences of three layers, all on the device."""
    from minilm.testing import check_samples

    chosen = [s for s in layer_samples() if s.operation in ("LayerNorm", "LSTM", "GPT")]
    assert len(chosen) > 4
    assert all(result.ok for result in check_samples(chosen)), [r.error for r in check_samples(chosen)]

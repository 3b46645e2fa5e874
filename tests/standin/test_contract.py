"""The contract of the engine, tests/tensor/test_contract.py, kept by arrays of the device.

Its tests are collected here once more, with another `np` under their hands: what makes arrays makes them on the device.
Left out are those that are about NumPy itself, or whose parameters were arrays of NumPy before any backend was chosen.
"""

import numpy as np
import pytest

from tests.backend.standin import DeviceArray, standin
from tests.tensor import test_contract as contract


class NumPyOfTheDevice:
    """numpy, but arrays are made on the device."""

    ndarray = DeviceArray
    made_there = ("array", "ones", "zeros", "full", "arange")

    @staticmethod
    def shares_memory(a, b):
        return np.shares_memory(*(x._host if isinstance(x, DeviceArray) else x for x in (a, b)))

    def __getattr__(self, name):
        return getattr(standin if name in self.made_there else np, name)


ABOUT_NUMPY = {
    "test_numpy_gives_a_view_that_cannot_be_written_to": "on a device .numpy() is a copy",
    "test_two_float_dtypes_are_refused_with_the_fix": "its arrays are NumPy's",
    "test_a_numpy_array_on_the_left_of_an_operator_gives_a_tensor": "its arrays are converted to NumPy's",
    "test_no_grad_holds_for_its_own_thread_alone": "about threads",
    "test_a_chain_of_100_000_operations_is_freed": "about time and memory, and slow here",
}
TESTS = {name: value for name, value in vars(contract).items() if name.startswith("test_")}
assert set(TESTS) > set(ABOUT_NUMPY)
globals().update({name: test for name, test in TESTS.items() if name not in ABOUT_NUMPY})


@pytest.fixture(autouse=True)
def on_the_device(device, monkeypatch):
    monkeypatch.setattr(contract, "np", NumPyOfTheDevice())


def test_two_float_dtypes_are_refused_on_the_device():
    for wrong in (contract.Tensor([[1.0, 2.0]], dtype="float64"), standin.ones((2, 2))):
        with pytest.raises(TypeError, match=r"float32 and float64 do not mix"):
            contract.leaf([[1.0, 2.0]], "float32") + wrong


def test_a_device_array_on_the_left_of_an_operator_gives_a_tensor():
    x = contract.leaf([1.0, 2.0])
    y = standin.array([10.0, 20.0]) * x
    assert isinstance(y, contract.Tensor) and y.tolist() == [10.0, 40.0]


def test_these_tests_run_on_the_device():
    assert isinstance(contract.leaf([1.0]).data, DeviceArray) and isinstance(contract.np.ones(1), DeviceArray)
